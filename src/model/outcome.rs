//! How a step of a plan went.

use serde::{Deserialize, Serialize};

use crate::model::Step;

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Done, failed or skipped.
    pub verdict: Verdict,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Verdict {
    /// It was carried out.
    Done,
    /// It was tried, and failed.
    Failed {
        /// The stable code of the fault.
        fault: String,
        /// The causes, outermost first.
        because: Vec<String>,
    },
    /// It was not tried.
    Skipped {
        /// Why not.
        because: String,
    },
}
