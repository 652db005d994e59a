//! What a host says of itself to whoever may ask: versioned, without secrets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Revision;
use crate::model::backup::BackupStatus;
use crate::model::report::{FaultRecord, RunEnd, ServiceStatus};
use crate::model::ring::Waiting;

/// The version of the page's JSON form.
pub const VERSION: u32 = 1;

/// `/status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// [`VERSION`].
    pub version: u32,
    /// The host.
    pub host: String,
    /// The version of moorline.
    pub agent: String,
    /// When the run ended that this tells of, by the host's own clock.
    pub generated: Timestamp,
    /// How long ago that was, in seconds, by the same clock; set by whoever serves the page, so that the clocks of host
    /// and reader need not agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_s: Option<i64>,
    /// How often the keeper runs when nothing wakes it, in seconds.
    pub interval_s: u64,
    /// The ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// The newest accepted revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<Revision>,
    /// The revision that the host runs, or is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// How the run ended.
    pub end: RunEnd,
    /// One sentence that says it all.
    pub summary: String,
    /// Which revisions ran well here, oldest first, since the host was last unwell.
    #[serde(default)]
    pub well: Vec<Well>,
    /// What the host waits for before it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Why the run stopped, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultRecord>,
    /// What the engine said.
    pub services: Vec<ServiceStatus>,
    /// What is backed up, checked and proven, and what is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupStatus>,
}

/// How long one revision was seen to run well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Well {
    /// The revision.
    pub revision: Revision,
    /// When it was first seen so, by the host's own clock.
    pub since: Timestamp,
    /// How much time went by since then between runs that found it so, in milliseconds.
    pub ms: u64,
}
