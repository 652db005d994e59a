//! A ring: which revision its hosts run, who goes first, and when nobody moves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use serde::{Deserialize, Serialize};

use crate::model::Revision;

/// A ring file: which revision its hosts run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// The ring's name.
    pub name: String,
    /// Where the ring points.
    pub pointer: RingPointer,
    /// Why nothing may be deployed at present.
    pub halt: Option<String>,
    /// How a promotion spreads; empty means to all hosts at once.
    pub waves: Vec<Wave>,
    /// When nothing new is deployed.
    pub freezes: Vec<Freeze>,
    /// Whether the file needs a signature of its own.
    pub signing: Signing,
    /// Counts the signed versions of the file.
    pub sequence: Option<u64>,
    /// Stacks that say `forward-only` and may go back to an older image all the same.
    pub downgrade: BTreeSet<String>,
}

/// Where a ring points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingPointer {
    /// The newest accepted revision of the branch.
    Follow(String),
    /// One accepted revision, written by a promotion.
    Commit(Revision),
}

/// A share of a ring's hosts, and how long after a promotion they move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wave {
    /// How many hosts of a hundred have moved when the wave is through.
    pub percent: u8,
    /// How long after the host first saw the promotion.
    pub after: Duration,
}

/// A time of the week in which nothing new is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// When it begins.
    pub from: Moment,
    /// When it ends.
    pub until: Moment,
    /// The time zone by its IANA name.
    pub zone: String,
}

/// A moment of every week, on the clocks of a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The day.
    pub day: Weekday,
    /// The time of day.
    pub time: Time,
}

/// Whether a ring file needs a signature of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// Whoever may sign commits may change the ring.
    ByCommit,
    /// `signed: required`.
    Required,
}

/// A revision that the ring names and that this host does not run yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The revision.
    pub revision: Revision,
    /// How long this host has waited, in milliseconds that it saw go by.
    pub waited_ms: u64,
    /// When that was last counted.
    pub counted: Timestamp,
}

/// What this host remembers of a ring that must be signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Fingerprints of the keys that could sign when the last file was accepted.
    pub keys: BTreeSet<String>,
    /// The newest accepted file of each ring that this host has been in.
    pub rings: BTreeMap<String, SealedRing>,
}

/// The newest accepted version of a signed ring file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRing {
    /// Its `sequence`.
    pub sequence: u64,
    /// SHA-256 of its bytes.
    pub digest: String,
}

/// What a host waits for before it moves to another revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The revision that the ring names.
    pub revision: Revision,
    /// What for.
    #[serde(flatten)]
    pub what: WaitingFor,
    /// When the host moves, as far as it can tell.
    pub until: Timestamp,
}

/// What a host waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum WaitingFor {
    /// Its wave.
    Wave {
        /// Which one, from 1.
        number: usize,
        /// How many there are.
        of: usize,
    },
    /// The end of a freeze.
    Freeze,
}

impl Waiting {
    /// One sentence.
    pub fn sentence(&self, ring: &str) -> String {
        let (revision, until) = (self.revision.short(), self.until);
        match self.what {
            WaitingFor::Wave { number, of } => {
                format!("{revision} waits for wave {number} of {of} of ring {ring}, until {until:.0}")
            }
            WaitingFor::Freeze => format!("{revision} waits: ring {ring} is frozen until {until:.0}"),
        }
    }
}
