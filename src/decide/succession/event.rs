//! The lines that moorline logs of its own versions: a part of [`Event`](crate::decide::event::Event).

use crate::decide::event::{Level, fault_fields, one_line};
use crate::decide::fault::{Fault, Mover};
use crate::model::Release;

/// What happened.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "`ReleaseEvent::message` says what each field is")]
pub enum ReleaseEvent {
    /// The courier fetched the program of a version; nobody has verified it yet.
    Fetched { release: Release },
    /// The program of a version could not be fetched, or is not what the repository says.
    Unfetched { fault: Box<Fault> },
    /// A version goes on trial.
    TrialBegan { release: Release },
    /// It passed, and runs from now on.
    TrialPassed { release: Release },
    /// It found something to do; the version before it has a look.
    TrialDoubted { release: Release, because: String },
    /// A version did not do.
    Refused { fault: Box<Fault> },
    /// A version, or the record of it, is damaged.
    Damaged { fault: Box<Fault> },
}

impl ReleaseEvent {
    /// `<noun>-<past verb>`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fetched { .. } => "release-fetched",
            Self::Unfetched { .. } => "release-unfetched",
            Self::TrialBegan { .. } => "trial-began",
            Self::TrialPassed { .. } => "trial-passed",
            Self::TrialDoubted { .. } => "trial-doubted",
            Self::Refused { .. } => "release-refused",
            Self::Damaged { .. } => "release-damaged",
        }
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        match self {
            Self::Fetched { .. } | Self::TrialBegan { .. } | Self::TrialPassed { .. } => Level::Info,
            Self::TrialDoubted { .. } => Level::Warning,
            Self::Unfetched { fault } | Self::Refused { fault } | Self::Damaged { fault } => match fault.code.mover() {
                Mover::NextRun => Level::Warning,
                Mover::Person => Level::Error,
            },
        }
    }

    /// One sentence.
    pub fn message(&self) -> String {
        match self {
            Self::Fetched { release } => format!("release fetched: {release}, not verified yet"),
            Self::Unfetched { fault } => format!("release unfetched: {}", one_line(fault)),
            Self::TrialBegan { release } => format!("trial began: {release}"),
            Self::TrialPassed { release } => format!("trial passed: {release} runs from now on"),
            Self::TrialDoubted { release, because } => format!("trial doubted: {release}: {because}"),
            Self::Refused { fault } => format!("release refused: {}", one_line(fault)),
            Self::Damaged { fault } => format!("release damaged: {}", one_line(fault)),
        }
    }

    /// Adds the fields, in the spelling of JSON.
    pub fn add_fields(&self, fields: &mut Vec<(&'static str, String)>) {
        match self {
            Self::Fetched { release }
            | Self::TrialBegan { release }
            | Self::TrialPassed { release }
            | Self::TrialDoubted { release, .. } => {
                fields.push(("release", release.version.clone()));
                fields.push(("sha256", release.sha256.clone()));
            }
            Self::Unfetched { fault } | Self::Refused { fault } | Self::Damaged { fault } => {
                fault_fields(fields, fault);
            }
        }
    }
}
