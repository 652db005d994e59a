//! What a job is told on its standard input, and what it says on its standard output: one JSON value on each line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::trouble::Trouble;
use super::upkeep::{Check, Checked, Finding, Forget, Forgotten, Prune, Pruned, Surveyed};
use crate::model::backup::Dump;
use crate::model::backup::Limits;

/// The longest line in either direction.
pub const LONGEST_LINE: u64 = 1024 * 1024;

/// One job. It holds passwords, so it is wiped, and never written anywhere but into the job's input.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Where the backup repository lies.
    pub place: Place,
    /// Its password.
    pub password: String,
    /// What dumps of databases log in with, by the name in the SOPS file.
    #[serde(default)]
    pub logins: BTreeMap<String, String>,
    /// `USER:PASSWORD` of the server it lies on.
    #[serde(default)]
    pub login: Option<String>,
    /// How fast the job may go.
    #[serde(default)]
    pub limits: Limits,
    /// What is to be done.
    pub task: Task,
}

impl Drop for Order {
    fn drop(&mut self) {
        self.password.zeroize();
        self.logins.values_mut().for_each(Zeroize::zeroize);
        self.login.zeroize();
    }
}

/// Where a backup repository lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A directory of this host.
    Directory(PathBuf),
    /// A directory of an SSH server.
    Sftp(Login),
    /// A REST server, by its URL.
    Rest(String),
    /// What an SSH server runs for our key.
    RestOverSsh(Login),
}

/// How an SSH server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The directory, relative to where the login lands unless it begins with a slash; over REST, below what is served.
    pub path: String,
    /// The file with our private key, in memory.
    pub key: PathBuf,
    /// The file with the server's key, in memory.
    pub known_hosts: PathBuf,
}

/// What a job can be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Make a snapshot of one stack.
    Backup(Backup),
    /// Say which snapshots there are.
    Snapshots,
    /// Restore one of them, or a part of it.
    Restore(Restore),
    /// Say which snapshots there are, and whether anybody seems to write.
    Survey,
    /// Remove snapshots.
    Forget(Forget),
    /// Remove what no snapshot needs.
    Prune(Prune),
    /// Look whether everything is there that the snapshots need.
    Check(Check),
    /// Say how much restoring it would write.
    Measure(Restore),
}

/// What goes into a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The host's name.
    pub host: String,
    /// The stack's name.
    pub label: String,
    /// The tags.
    pub tags: Vec<String>,
    /// What is read.
    pub sources: Vec<Source>,
    /// Patterns of what is not, below each source, as in `.gitignore`.
    pub excludes: Vec<String>,
    /// Where copies of small files of the repository are kept, so that the next job does not fetch them.
    pub cache: PathBuf,
    /// Whether a backup repository is made when there is none.
    pub first: First,
    /// The databases that are dumped, before any file is read.
    #[serde(default)]
    pub dumps: Vec<Dump>,
    /// The engine in whose containers they are dumped.
    #[serde(default)]
    pub socket: PathBuf,
    /// How often the files are read.
    #[serde(default)]
    pub passes: Passes,
}

/// How often files are read for one snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passes {
    /// Once, while everything runs.
    #[default]
    Live,
    /// Once while everything runs, and then, while containers stand, what changed since.
    LiveThenStill,
}

/// What a backup does when there is no backup repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum First {
    /// Make it: a person says that there was none.
    Make,
    /// Refuse: it may be that a disk is not mounted.
    Refuse,
}

/// A file or directory that goes into a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its path in the snapshot.
    pub to: PathBuf,
    /// A directory that only this host's owner can replace.
    pub from: PathBuf,
    /// What is read, below that; all of it if empty. No link is followed on the way.
    pub below: PathBuf,
}

/// What is restored, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The host whose snapshot it is.
    pub host: String,
    /// The stack whose snapshot it is.
    pub label: String,
    /// `latest`, or the beginning of an id.
    pub snapshot: String,
    /// A path in the snapshot; all of it without one.
    pub path: Option<PathBuf>,
    /// A directory that is empty or not there.
    pub to: PathBuf,
}

/// One line that a job says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// How far it is.
    Progress(Progress),
    /// One of the snapshots that were asked for.
    Snapshot(Snapshot),
    /// It made a snapshot.
    Saved(Saved),
    /// It restored what could be restored.
    Restored(Restored),
    /// All snapshots have been said.
    Listed,
    /// It did not do what it was told.
    Trouble(Trouble),
    /// Somebody has to do something to the containers.
    Turn(Turn),
    /// All snapshots have been said, and this besides.
    Surveyed(Surveyed),
    /// It removed snapshots.
    Forgotten(Forgotten),
    /// It removed what no snapshot needed, or looked what that would be.
    Pruned(Pruned),
    /// It found something while it checked.
    Finding(Finding),
    /// It has checked what it was told to.
    Checked(Checked),
    /// It knows how much that is.
    Measured(Measured),
    /// So many of the bytes of the progress before were there already.
    Reused(u64),
}

impl Line {
    /// Whether the job has nothing more to say after it.
    pub fn is_last(&self) -> bool {
        use Line::{Finding, Progress, Reused, Snapshot, Turn};
        !matches!(self, Progress(_) | Snapshot(_) | Turn(_) | Finding(_) | Reused(_))
    }
}

/// What happens to the containers of a stack between two passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// They are to stand. The job waits for an empty line.
    Stand,
    /// All has been read: they may go on. The job waits for nothing.
    GoOn,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files that are done.
    pub files: u64,
    /// Bytes that are done.
    pub bytes: u64,
    /// How many bytes it will be; zero while that is not known.
    pub total: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id, in full.
    pub id: String,
    /// When it was made.
    pub time: Timestamp,
    /// The same on the clock of its host.
    pub local: DateTime,
    /// The host.
    pub host: String,
    /// The stack.
    pub label: String,
    /// The tags.
    pub tags: Vec<String>,
    /// The paths in it.
    pub paths: Vec<String>,
    /// How many files it has, if its maker wrote that down.
    pub files: Option<u64>,
    /// How many bytes they are.
    pub bytes: Option<u64>,
}

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its id, in full.
    pub id: String,
    /// How many files are in it.
    pub files: u64,
    /// How many of them are new or differ from the snapshot before.
    pub changed: u64,
    /// How many bytes they are.
    pub bytes: u64,
    /// How many bytes the repository grew by.
    pub added: u64,
    /// Files that went away while they were read; that is how live data is.
    pub vanished: u64,
    /// Files that are there and could not be read. They are not in the snapshot, which is tagged `partial`.
    pub unreadable: Losses,
    /// The most memory that the job held, in bytes.
    pub memory: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The snapshot's id, in full.
    pub id: String,
    /// Files that were written and read back.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be restored.
    pub lost: Losses,
    /// The most memory that the job held, in bytes.
    pub memory: u64,
    /// Files that an earlier attempt had left, and that are the same.
    #[serde(default)]
    pub reused_files: u64,
    /// Their bytes.
    #[serde(default)]
    pub reused_bytes: u64,
}

/// How much a restore would write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The snapshot's id, in full.
    pub id: String,
    /// How many files.
    pub files: u64,
    /// How many bytes they are.
    pub bytes: u64,
}

/// Paths with reasons. The first ones by name, all by number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// How many there are.
    pub count: u64,
    /// The first of them: path and reason.
    pub first: Vec<String>,
}

impl Losses {
    /// How many are named: enough to see what they have in common.
    const NAMED: usize = 100;

    /// Counts one more.
    pub fn add(&mut self, path: impl std::fmt::Display, reason: impl std::fmt::Display) {
        self.count += 1;
        if self.first.len() < Self::NAMED {
            // A path may hold anything, and a person reads it on a terminal.
            self.first.push(format!("{path}: {reason}").chars().flat_map(visible).take(1000).collect());
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

fn visible(character: char) -> impl Iterator<Item = char> {
    let (plain, escaped) = match character.is_control() {
        true => (None, Some(character.escape_default())),
        false => (Some(character), None),
    };
    plain.into_iter().chain(escaped.into_iter().flatten())
}
