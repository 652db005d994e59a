//! What the last look at the engine showed, as far as a later look needs it to tell who ended by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The containers of applied stacks, by the engine's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The life of the engine in which the look was; empty when it was not known.
    pub life: String,
    /// Those that ran.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub running: BTreeSet<String>,
    /// Those that ran until a life of the engine ended, and have not run since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cut: BTreeSet<String>,
}

impl Seen {
    /// Whether there was no look yet.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
