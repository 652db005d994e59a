//! Every way in which a run stops: a stable code, one sentence, causes, a hint, and who moves next.
//!
//! The table [`Code::table`] is the source of `docs/faults.md`.

use std::fmt;

use crate::decide::trust::Refusal;
use crate::model::report::FaultRecord;

/// Who must move before it can work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mover {
    /// The next run may find it mended by itself (network, registry, engine).
    NextRun,
    /// A person must change something.
    Person,
}

impl fmt::Display for Mover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mover::NextRun => "next-run",
            Mover::Person => "person",
        })
    }
}

macro_rules! codes {
    ($($variant:ident, $name:literal, $mover:ident, $exit:literal, $meaning:literal;)*) => {
        /// The stable code of a fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The code's name, who moves next, the exit code, what it means.
            pub fn table(self) -> (&'static str, Mover, u8, &'static str) {
                match self {
                    $(Code::$variant => ($name, Mover::$mover, $exit, $meaning),)*
                }
            }
        }
    };
}

codes! {
    SettingsInvalid, "settings-invalid", Person, 2, "`agent.toml` is missing or has mistakes";
    UsageInvalid, "usage-invalid", Person, 2, "the command line asks for something that is not there";
    LockHeld, "lock-held", NextRun, 11, "another run holds the lock";
    LedgerDamaged, "ledger-damaged", Person, 1, "the ledger is there but cannot be believed";
    StateUnwritable, "state-unwritable", NextRun, 1, "state could not be written: disk full, read-only, or not permitted";
    FetchFailed, "fetch-failed", NextRun, 1, "the git server could not be asked";
    FetchRefused, "fetch-refused", Person, 1, "the git server refused the key or token, or showed another host key";
    ResourceLimit, "resource-limit", Person, 1, "a fetch, or reading what was fetched, needs more memory, time or space than it may have";
    RepositoryMissing, "repository-missing", NextRun, 1, "the courier has not fetched the repository yet";
    RepositoryDamaged, "repository-damaged", NextRun, 1, "an object of the clone is missing or damaged; the courier fetches a new one";
    CommitUnsigned, "commit-unsigned", Person, 13, "a commit has no signature";
    CommitMalformed, "commit-malformed", Person, 13, "a commit is not what git writes";
    SignerUnknown, "signer-unknown", Person, 13, "a commit is signed by a key that may not sign it";
    SignatureBad, "signature-bad", Person, 13, "a signature does not belong to its commit";
    SignatureUnsupported, "signature-unsupported", Person, 13, "a signature of a kind that is not verified here";
    SignerLimited, "signer-limited", Person, 13, "the key is listed, but an option beside it excludes this commit";
    SignersMissing, "signers-missing", Person, 13, "an accepted commit does not say who may sign the next one";
    AnchorUnknown, "anchor-unknown", Person, 13, "the first revision named in `agent.toml` is not in the history";
    HistoryIncomplete, "history-incomplete", NextRun, 13, "a part of the history is missing from the clone";
    SignersInvalid, "signers-invalid", Person, 13, "an allowed_signers file is missing or has mistakes";
    HistoryRewound, "history-rewound", Person, 13, "the tip does not descend from the anchor";
    RevisionNotAccepted, "revision-not-accepted", Person, 13, "a ring names a revision that is not in the accepted history";
    RingUnsigned, "ring-unsigned", Person, 13, "a ring file that must be signed has no signature that counts";
    RingReplayed, "ring-replayed", Person, 13, "a signed ring file is older than one that this host has accepted";
    RingEquivocal, "ring-equivocal", Person, 13, "two signed ring files carry the same sequence number";
    TreeRefused, "tree-refused", Person, 13, "a revision holds a file that is not allowed";
    SpecInvalid, "spec-invalid", Person, 1, "the repository has mistakes";
    AwaitingEnrolment, "awaiting-enrolment", Person, 12, "nothing was ever applied here, and the repository does not name this host's key yet";
    SecretsSealed, "secrets-sealed", Person, 12, "the SOPS file cannot be opened with this host's key";
    SecretsDamaged, "secrets-damaged", Person, 12, "the SOPS file was altered or is not what sops writes";
    KeyMissing, "key-missing", Person, 12, "the host's age key is missing or not safe to use";
    MemoryUnsafe, "memory-unsafe", Person, 1, "no memory-backed storage for secrets";
    EngineAway, "engine-away", NextRun, 1, "the Docker Engine does not answer";
    PluginMissing, "plugin-missing", Person, 1, "the Compose plugin is missing or too old";
    ComposeRefused, "compose-refused", Person, 1, "Compose does not accept a stack";
    PolicyRefused, "policy-refused", Person, 1, "a stack asks for something that the policy is against, and no exception allows it";
    StackRefused, "stack-refused", Person, 1, "a stack asks for something that is not allowed";
    ImageUnavailable, "image-unavailable", NextRun, 1, "a registry could not be asked, or asked for patience";
    ImageRefused, "image-refused", Person, 1, "a registry does not give an image, or gives something else";
    ImageDenied, "image-denied", Person, 1, "a registry wants a login for an image, or another one";
    ImageMoved, "image-moved", Person, 1, "a tag that may not move names another image than before";
    SpaceShort, "space-short", NextRun, 1, "an image would not leave enough space on the disk";
    StepFailed, "step-failed", NextRun, 1, "a step of the plan failed";
    GateFailed, "gate-failed", Person, 1, "a service did not become healthy in time";
    RolledBack, "rolled-back", Person, 1, "a deploy failed, and the last good version of the stack serves again";
    RollbackFailed, "rollback-failed", Person, 1, "neither the new nor the last good version of a stack works; nothing more is done to it";
    DeployRefused, "deploy-refused", Person, 1, "what is desired of a stack has failed before and is not tried again until it changes or `moorline retry`";
    DeployWaiting, "deploy-waiting", NextRun, 1, "what is desired of a stack has failed before and is tried again after a while";
    NetworkInUse, "network-in-use", Person, 1, "a network would have to be made anew while a container that is not moorline's uses it";
    SnapshotMissing, "snapshot-missing", Person, 1, "a stack wants a snapshot before its data is touched, and none could be made";
    BackupUnset, "backup-unset", Person, 1, "`host.yaml` names no backup repository that this version can reach";
    BackupMissing, "backup-missing", Person, 10, "there is no backup repository where `host.yaml` says";
    BackupPassword, "backup-password", Person, 12, "the password opens no key of the backup repository";
    BackupRefused, "backup-refused", Person, 20, "the storage showed another host key, or refused the key or the access";
    BackupAway, "backup-away", NextRun, 20, "the storage could not be reached, or broke off";
    BackupFull, "backup-full", Person, 21, "no room is left on the storage";
    BackupDamaged, "backup-damaged", Person, 22, "what the backup repository holds cannot be believed";
    BackupSource, "backup-source", Person, 1, "what is to be saved is not there or cannot be read; no snapshot was written";
    BackupDump, "backup-dump", NextRun, 1, "a dump of a database is not whole; no snapshot was written";
    BackupFailed, "backup-failed", NextRun, 1, "a backup or a restore ended early";
    BackupBudget, "backup-budget", NextRun, 24, "the night took longer than its time budget; what was not done waits for the next one";
    DrillFailed, "drill-failed", Person, 23, "a drill did not prove that a snapshot can be brought back";
    RestoreRefused, "restore-refused", Person, 2, "there is no such snapshot, or the place for it cannot be used";
    RestoreUnfinished, "restore-unfinished", Person, 1, "a restore in place was cut while data changed places; its stack is not touched before it is finished";
    ServiceUnhealthy, "service-unhealthy", NextRun, 1, "a service that was not touched is not healthy";
    DowngradeRefused, "downgrade-refused", Person, 1, "a stack that only goes forward was left at its newer image";
    PromotionRefused, "promotion-refused", Person, 1, "a promotion is not proven, or cannot be written";
    StatusUnserved, "status-unserved", NextRun, 1, "the status page cannot be served";
    RouteRefused, "route-refused", Person, 1, "Traefik does not serve a route as it is written; what it served before is put back";
    TraefikSilent, "traefik-silent", NextRun, 1, "Traefik's API does not answer";
    PushFailed, "push-failed", NextRun, 1, "a status message was not delivered";
    PushRefused, "push-refused", Person, 1, "what answers at the push URL is not Uptime Kuma, or the monitor is unknown or paused";
    ReleaseUnfetched, "release-unfetched", NextRun, 1, "the version of moorline that the repository names has not arrived, or something else has";
    ReleaseRefused, "release-refused", Person, 1, "a version of moorline did not pass its trial; the one before it goes on";
    ReleaseDamaged, "release-damaged", NextRun, 1, "the program of a version of moorline, or the record of it, is damaged; the package's runs";
    TrialFailed, "trial-failed", NextRun, 1, "a version of moorline on trial would change something; the one before it has a look";
    Stopped, "stopped", NextRun, 1, "moorline was asked to stop in the middle of a run";
    Held, "held", Person, 4, "a person holds this host";
    Halted, "halted", Person, 4, "the ring is halted";
}

impl Code {
    /// The name, as errors, JSON and logs show it.
    pub fn name(self) -> &'static str {
        self.table().0
    }

    /// The code with this name, as reports carry it.
    pub fn of_name(name: &str) -> Option<Self> {
        Code::ALL.iter().find(|code| code.name() == name).copied()
    }

    /// The code of a refusal: the two lists use the same names.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        Self::of_name(refusal.code()).unwrap_or(Code::CommitMalformed)
    }

    /// Who moves next.
    pub fn mover(self) -> Mover {
        self.table().1
    }

    /// The exit code (DESIGN section 11).
    pub fn exit(self) -> u8 {
        self.table().2
    }
}

/// Why something stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable code.
    pub code: Code,
    /// One sentence, lower case, without a period.
    pub sentence: String,
    /// Lines that stand below it as they are: places, or what was not done.
    pub places: Vec<String>,
    /// Causes, outermost first.
    pub because: Vec<String>,
    /// What to type next.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault with nothing but its sentence.
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into(), places: Vec::new(), because: Vec::new(), hint: None }
    }

    /// Adds the causes of an error, each once, outermost first.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        self.because.extend(chain(error));
        self
    }

    /// Adds one cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.because.push(cause.into());
        self
    }

    /// Adds a line below the sentence.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.places.push(place.into());
        self
    }

    /// Says what to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The fault as reports carry it.
    pub fn record(&self) -> FaultRecord {
        FaultRecord {
            code: self.code.name().to_owned(),
            sentence: self.sentence.clone(),
            because: self.because.clone(),
            places: self.places.clone(),
            hint: self.hint.clone(),
            mover: self.code.mover().to_string(),
        }
    }
}

/// The messages of an error and its sources, without repeating one that contains the next.
pub fn chain(error: &dyn std::error::Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        if causes.last().is_none_or(|last| !last.contains(&message)) {
            causes.push(message);
        }
        next = error.source();
    }
    causes
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record().fmt(f)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_prints_its_sentence_places_causes_and_hint() {
        let fault = Fault::new(Code::LockHeld, "another run holds the lock")
            .at("nothing was changed")
            .because("pid 12 runs `reconcile`")
            .hint("wait for it");
        assert_eq!(
            fault.to_string(),
            "error[lock-held]: another run holds the lock\n  because: pid 12 runs `reconcile`\n  nothing was changed\n\nhint: wait for it"
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
