//! The data of a stack as it was before a deploy.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The snapshots that were made of a stack before a deploy of it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The digest of the inputs that ran.
    pub state: String,
    /// The digest of the inputs that were to be brought up.
    pub deploy: String,
    /// When they were made.
    pub at: Timestamp,
    /// One in each backup repository where that worked, in the order of `host.yaml`; never empty.
    pub snapshots: Vec<Taken>,
}

/// A snapshot in a backup repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The repository's name.
    pub repository: String,
    /// The snapshot's id, in full.
    pub snapshot: String,
}
