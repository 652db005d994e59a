//! A restore over the data of a stack, as it is written down for as long as it is under way.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Hold;

/// A restore in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// The stack.
    pub stack: String,
    /// The repository's name.
    pub repository: String,
    /// What was typed: `latest`, or the beginning of an id.
    pub asked: String,
    /// The snapshot's id, in full.
    pub snapshot: String,
    /// The part of it that was asked for; all without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Since when.
    pub since: Timestamp,
    /// The hold that was set for it; none if a person held the stack already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// How far it is.
    pub phase: Stage,
    /// What is put in the place of what.
    pub moves: Vec<Move>,
    /// The containers that were stopped for it, in the order in which they are started: id and name.
    #[serde(default)]
    pub stopped: Vec<(String, String)>,
}

/// How far a restore in place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The snapshot is restored beside the data. The stack runs, and nothing of it is touched.
    Beside,
    /// Containers are stopped and directories are put in their places.
    Switching,
}

/// One directory that is replaced by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its path in the snapshot.
    pub of: PathBuf,
    /// Where the stack has it.
    pub live: PathBuf,
    /// Where it is restored to, on the same file system.
    pub beside: PathBuf,
    /// Where the old data is kept.
    pub aside: PathBuf,
}
