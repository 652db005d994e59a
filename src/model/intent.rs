//! The step in flight, written down before it is begun: what a run that comes after a kill must look at.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Step;

/// The contents of `journal.json`; the file is absent while nothing is in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The run.
    pub run: String,
    /// Whether the stack was on its way to what is desired, or back.
    pub phase: Phase,
    /// The step.
    pub step: Step,
    /// Since when.
    pub since: Timestamp,
}

/// Which way a stack goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// To what is desired.
    Forward,
    /// Back to the last good version.
    Back,
}
