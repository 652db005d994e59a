//! What the jobs that keep a backup repository in order are told, and what they say.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What else lies in a repository than snapshots, seen by a job that writes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// Locks of plain restic: it writes, or was killed while it did.
    pub locks: u64,
    /// Files that are being written, or were when a job was killed.
    pub unfinished: u64,
}

/// Which snapshots are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The host whose snapshots they are.
    pub host: String,
    /// Their ids, in full.
    pub snapshots: Vec<String>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// How many snapshots.
    pub removed: u64,
    /// How many are left, of all hosts.
    pub left: u64,
    /// The most memory that the job held, in bytes.
    pub memory: u64,
}

/// What must be true before anything is removed, and what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Ids of snapshots that must be listed.
    pub known: Vec<String>,
    /// At least so many must be listed.
    pub at_least: u64,
    /// How long a pack stays after it was marked, in seconds.
    pub keep_s: u64,
    /// Whether it is done.
    pub way: Way,
}

/// Whether something is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It is only said what would be done if these snapshots were gone.
    Look(Vec<String>),
    /// It is done.
    Act,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// How many snapshots there are, of all hosts.
    pub snapshots: u64,
    /// Packs that are gone: no snapshot needed them, and they had been marked for long enough.
    pub freed: Amount,
    /// Packs that were marked now: no snapshot needs them, or what is needed of them was written anew.
    pub marked: Amount,
    /// All packs that are marked and still there.
    pub waiting: Amount,
    /// When the first of them may go.
    pub due: Option<Timestamp>,
    /// Bytes that were written anew, out of packs that are needed in part.
    pub rewritten: u64,
    /// The most memory that the job held, in bytes.
    pub memory: u64,
}

/// So many packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is looked at. That everything is there which a snapshot needs is always looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is read besides.
    pub data: Data,
    /// Where directories of snapshots may be read from instead of the repository.
    pub cache: Option<PathBuf>,
}

/// How much of the data is read and compared with its digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Nothing.
    None,
    /// One of so many shares, which together are everything. Which pack is in which never changes.
    Share {
        /// Which one, from 0.
        number: u32,
        /// Of how many.
        of: u32,
    },
    /// Everything.
    All,
}

/// Something that a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub flaw: Flaw,
    /// The pack that it is about, in full.
    pub pack: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing that a snapshot needs is concerned.
    Warning,
    /// Something cannot be restored, or cannot be found.
    Error,
}

/// What can be wrong. None of it names a file of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// A pack is in no index: a job that was killed left it.
    Unlisted,
    /// A pack is not there.
    Missing,
    /// A pack has another size than the index says.
    Size,
    /// A pack holds something else than what was written.
    Content,
    /// The index contradicts itself.
    Index,
    /// A directory or a file of a snapshot cannot be found.
    Tree,
}

/// What a check came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// How many packs there are.
    pub packs: u64,
    /// How many bytes of data were read.
    pub bytes: u64,
    /// How many errors were found.
    pub errors: u64,
    /// How many warnings.
    pub warnings: u64,
    /// The snapshots that need something which is damaged or missing: ids, in full.
    pub concerned: Vec<String>,
    /// The most memory that the job held, in bytes.
    pub memory: u64,
}

impl Finding {
    /// It in a few words, for people.
    pub fn words(&self) -> String {
        let pack =
            self.pack.as_deref().map_or_else(String::new, |pack| format!("pack {}: ", pack.get(..8).unwrap_or(pack)));
        let flaw = match self.flaw {
            Flaw::Unlisted => "in no index; a job that was killed left it, and `prune` takes it away",
            Flaw::Missing => "not there",
            Flaw::Size => "another size than the index says",
            Flaw::Content => "its content is not what was written",
            Flaw::Index => "the index contradicts itself",
            Flaw::Tree => "a directory or a file of a snapshot cannot be found",
        };
        format!("{pack}{flaw}")
    }
}
