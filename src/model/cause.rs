//! Why a step is in a plan: what was found to differ, said without secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Revision;

/// Why a step is in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// The image is not on this host.
    ImageMissing,
    /// The stack was never applied here.
    NewStack,
    /// The stack is no longer in `host.yaml`.
    StackNotDeclared,
    /// Its files, variables or secrets are not those of the last run.
    InputsChanged,
    /// Its directory holds the inputs of a deploy that did not succeed.
    OtherInputsWritten,
    /// Its files in memory are gone, as after a reboot.
    MemoryEmpty,
    /// The service has fewer containers than it should.
    NoContainer {
        /// The service.
        service: String,
    },
    /// The service is no longer in the stack.
    ServiceNotDeclared {
        /// The service.
        service: String,
    },
    /// A field of the service's definition changed.
    FieldChanged {
        /// The service.
        service: String,
        /// The field, as a path.
        field: String,
        /// What it was; marks instead of secrets.
        from: String,
        /// What it is to be; marks instead of secrets.
        to: String,
    },
    /// The content of a file, config or secret that the service mounts changed.
    ContentChanged {
        /// The service.
        service: String,
    },
    /// A network definition changed.
    SharedDefinitionChanged {
        /// `networks.<name>`.
        what: String,
    },
    /// A volume definition changed. Compose would have to delete the volume to follow, so nobody does.
    VolumeDiverged {
        /// `volumes.<name>`.
        what: String,
    },
    /// It lives in the namespace of this service, which was not running.
    NamespaceLost {
        /// The service.
        service: String,
        /// Whose namespace it uses.
        of: String,
    },
    /// A container is not as the last run left it.
    Drifted {
        /// The service.
        service: String,
        /// What was found.
        found: String,
    },
    /// A file in the stack's directory is not as it was written.
    FileEdited {
        /// Its path below the directory.
        path: String,
        /// What was found.
        found: String,
    },
    /// Its data must be saved before a container that uses it is replaced.
    SnapshotWanted,
    /// Compose was killed in the middle of a recreate.
    HalfRenamed {
        /// The service.
        service: String,
    },
    /// The deploy failed.
    DeployFailed {
        /// The revision that the stack goes back to.
        to: Revision,
    },
    /// The Compose plugin changed, so its config hashes may have changed; Compose decides.
    PluginChanged {
        /// The version of the last run.
        from: String,
        /// The version now.
        to: String,
    },
    /// What it says of its routes is not what Traefik was told.
    RoutesChanged,
    /// Nobody has seen yet that Traefik serves what it was told.
    RoutesUnseen,
    /// Compose must handle it in the same call as this service (`restart: true`, `network_mode: service:`).
    DependsOn {
        /// The dependant.
        service: String,
        /// What it depends on.
        on: String,
    },
    /// The step before must be seen to work.
    AfterUp,
    /// The service says `strategy: start-first`, and its new containers work.
    TakesOver {
        /// The service.
        service: String,
    },
    /// New containers of the service were made beside the old ones, by a deploy that did not come to its end.
    HandoverCut {
        /// The service.
        service: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::ImageMissing => f.write_str("not on this host"),
            Cause::NewStack => f.write_str("never applied here"),
            Cause::StackNotDeclared => f.write_str("no longer in host.yaml"),
            Cause::InputsChanged => f.write_str("its files, variables or secrets changed"),
            Cause::OtherInputsWritten => f.write_str("its directory holds the inputs of a failed deploy"),
            Cause::MemoryEmpty => f.write_str("its files in memory are gone"),
            Cause::NoContainer { service } => write!(f, "{service} has no container"),
            Cause::ServiceNotDeclared { service } => write!(f, "{service} is no longer in the stack"),
            Cause::FieldChanged { service, field, from, to } => {
                write!(f, "{service} {field}: {from} -> {to}")
            }
            Cause::ContentChanged { service } => write!(f, "{service} mounts content that changed"),
            Cause::SharedDefinitionChanged { what } => write!(f, "{what} changed"),
            Cause::VolumeDiverged { what } => {
                write!(f, "{what} changed; a volume that is there keeps its options and its data")
            }
            Cause::NamespaceLost { service, of } => write!(f, "{service} lost the namespace of {of}"),
            Cause::Drifted { service, found } => write!(f, "{service} was found {found}"),
            Cause::FileEdited { path, found } => write!(f, "{path} was found {found}"),
            Cause::SnapshotWanted => f.write_str("x-moorline.deploy.snapshot_before"),
            Cause::HalfRenamed { service } => write!(f, "compose was killed while it replaced {service}"),
            Cause::DeployFailed { to } => write!(f, "the deploy failed: back to {}", to.short()),
            Cause::PluginChanged { from, to } => write!(f, "compose plugin {from} -> {to}, compose decides"),
            Cause::RoutesChanged => f.write_str("its routes changed"),
            Cause::RoutesUnseen => f.write_str("nobody has seen yet that Traefik serves them"),
            Cause::DependsOn { service, on } => write!(f, "{service} must follow {on}"),
            Cause::AfterUp => f.write_str("success is what the engine says"),
            Cause::TakesOver { service } => write!(f, "the new containers of {service} take over"),
            Cause::HandoverCut { service } => write!(f, "the handover of {service} did not come to its end"),
        }
    }
}
