//! What jobs did, and the account that is kept of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Time;
use serde::{Deserialize, Serialize};

use super::Every;

/// A kind of work on repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// A snapshot of each stack.
    Backup,
    /// Reading a share of the data.
    Check,
    /// `keep`, and removing what no snapshot needs any more.
    Prune,
    /// Restoring, to see that it works.
    Drill,
}

/// What one finished job did for one stack in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// What it was.
    pub job: Job,
    /// The repository's name.
    pub repository: String,
    /// The stack; none for work on the repository as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub end: JobEnd,
    /// What went wrong, the first cause first: a path or a dump, and why. Never a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The id of the snapshot that was made or proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// How many files were read; of a check, how many packs there are; of a prune, how many snapshots.
    #[serde(default)]
    pub files: u64,
    /// How many bytes were read; of a prune, how many were freed.
    #[serde(default)]
    pub bytes: u64,
    /// How many bytes the repository grew by.
    #[serde(default)]
    pub bytes_added: u64,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobEnd {
    /// All of it was done.
    Done,
    /// The snapshot is there, but something is missing in it: exit code 3.
    Partial,
    /// It was not done.
    Failed,
    /// It was not done before the time of the night was over.
    OutOfTime,
}

/// What is known of all jobs of a host: `backups.json`. Statuses and pushes are made from nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logbook {
    /// What this host must have, and what it has; sorted by what it is.
    #[serde(default)]
    pub entries: BTreeMap<String, Entry>,
    /// When something is due; none on a host that makes no backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// When something is due, as the revision says that this host accepted last. It is kept here so that a look at the clock
/// neither verifies a history nor opens a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// When a night begins, on the clock of `zone`.
    pub at: Time,
    /// An IANA name; the host's own zone when it is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How often the data of each repository is checked.
    pub check: Every,
    /// How often a restore is tried.
    pub drill: Every,
}

/// What is known of one job for one stack in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The job.
    pub job: Job,
    /// The repository's name.
    pub repository: String,
    /// The stack; none for work on the repository as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Since when it has been wanted: what never worked is counted from here.
    pub since: Timestamp,
    /// How old a good one may become before it is a problem, in seconds.
    pub fresh_s: u64,
    /// How often it failed in a row; when the last one is good, how often before it.
    #[serde(default)]
    pub failures: u32,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<JobReport>,
    /// The last one that was done in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<JobReport>,
}

/// One line of the status page about backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupStatus {
    /// The job.
    pub job: Job,
    /// The repository's name.
    pub repository: String,
    /// The stack; none for work on the repository as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// When the last good one began: it holds what was there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Timestamp>,
    /// What a person must look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Job {
    /// The word in commands, reports, and for the monitor.
    pub fn name(self) -> &'static str {
        match self {
            Job::Backup => "backup",
            Job::Check => "check",
            Job::Prune => "prune",
            Job::Drill => "drill",
        }
    }
}
