//! Containers that a backup made to stand, written down before they do: what has to go on again, whoever sees to it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Quiesce;

/// The contents of `standing.json`; the file is absent while everything runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The stack.
    pub stack: String,
    /// What is done to the containers.
    pub how: Quiesce,
    /// Whether they are about to stand, or to go on.
    pub going: Going,
    /// Since when.
    pub since: Timestamp,
    /// Those that ran, in the order in which they start again; the services of one wave do not depend on each other.
    pub waves: Vec<Vec<Stood>>,
}

/// Which way containers are going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Going {
    /// To a stand. The engine may still be at it when whoever asked is gone, and does not show that.
    Down,
    /// On again: each of them stood, or runs.
    Up,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// The engine's id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
}
