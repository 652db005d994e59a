//! What one run did: versioned, safe to publish.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::backup::Before;
use crate::model::observed::{Health, State};
use crate::model::ring::Waiting;
use crate::model::{Outcome, Plan, Revision, Warrant};

/// The version of the report's JSON form.
pub const VERSION: u32 = 1;

/// One run, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Sortable id of the run: its beginning in UTC and the process id.
    pub run: String,
    /// The host.
    pub host: String,
    /// The version of moorline.
    pub agent: String,
    /// What began it: `reconcile`, `tip`, `timer`, `signal`, `start`.
    pub occasion: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub end: RunEnd,
    /// One sentence that says it all.
    pub summary: String,
    /// The newest accepted revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<Revision>,
    /// Who signed the tip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// On whose word the tip was accepted, if that is not an ordinary signer's.
    #[serde(default, skip_serializing_if = "Warrant::is_signer")]
    pub trust: Warrant,
    /// The ring, and the revision it points at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// The revision that was to be applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// What this host waits for before it moves to the revision that its ring names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Which identity of this host opened which SOPS file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<Opened>,
    /// What was to be done.
    pub plan: Plan,
    /// What was done.
    pub outcomes: Vec<Outcome>,
    /// What containers that failed said last, before they were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// Stacks that went back to their last good version, or should have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<Rollback>,
    /// Snapshots that were made before a stack was touched, by stack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<String, Before>,
    /// What the engine said afterwards.
    pub services: Vec<ServiceStatus>,
    /// Facts a person should know that are not faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why the run stopped, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultRecord>,
}

/// A SOPS file that was opened, and by which identity: while a key is rotated, this tells when the old one can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Path in the repository.
    pub path: String,
    /// The recipient of the identity. It is public.
    pub recipient: String,
}

/// A container of a wave that failed, as it was before anything was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The stack.
    pub stack: String,
    /// The service.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// The image it was created from.
    pub image: String,
    /// What it did.
    pub state: State,
    /// The exit code of its last end, if it ever ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The last lines that it logged, with every secret of this host taken out.
    pub log: Vec<String>,
}

/// A way back, and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The stack.
    pub stack: String,
    /// The revision that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Revision>,
    /// The last good revision.
    pub to: Revision,
    /// From the verdict until the last good version was seen to serve, in milliseconds; absent when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving_after_ms: Option<u64>,
    /// Services whose old containers served all the time, since the new ones stood beside them (`start-first`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undisturbed: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// Everything is as desired.
    Converged,
    /// It was carried out in part: at least one step failed, or a service is not healthy.
    Degraded,
    /// A deploy failed, and the last good version serves.
    RolledBack,
    /// A fault stopped it.
    Faulted,
    /// It was asked to stop; the next run goes on from there.
    Stopped,
    /// The repository does not name this host's key yet: its secrets cannot be sealed for it.
    AwaitingEnrolment,
    /// A person holds this host.
    Held,
    /// The ring is halted.
    Halted,
}

/// One service as the engine showed it at the end of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The stack.
    pub stack: String,
    /// The service.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// The image it was created from.
    pub image: String,
    /// What the registry calls that image, if it came from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What it does.
    pub state: State,
    /// Its health check's verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// A fault as reports carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// The stable code.
    pub code: String,
    /// One sentence.
    pub sentence: String,
    /// Causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// Lines that stand as they are: places, or what was not done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Who moves next: `next-run` or `person`.
    pub mover: String,
}

impl fmt::Display for FaultRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.sentence)?;
        for cause in &self.because {
            write!(f, "\n  because: {cause}")?;
        }
        for place in &self.places {
            write!(f, "\n  {place}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
