//! What is backed up, where to, when, what is kept, and what became of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Time;
use serde::{Deserialize, Serialize};

mod before;
mod in_place;
mod job;
mod standing;

pub use before::{Before, Taken};
pub use in_place::{InPlace, Move, Stage};
pub use job::{BackupStatus, Entry, Job, JobEnd, JobReport, Logbook, Schedule};
pub use standing::{Going, Standing, Stood};

/// `backup` of `host.yaml`, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// The repositories, in the order of the file; each gets a snapshot of its own. Never empty.
    pub repositories: Vec<Repository>,
    /// When a night begins, on the clock of `zone`. The host's own share of an hour is added.
    pub at: Time,
    /// An IANA name; the host's own zone when it is not set.
    pub zone: Option<String>,
    /// What is kept.
    pub keep: Keep,
    /// How often a share of the data of each repository is read and checked.
    pub check: Every,
    /// How often a restore is tried.
    pub drill: Every,
    /// How long a night may take.
    pub budget: Duration,
    /// How fast it may go.
    pub limits: Limits,
}

/// One repository in restic's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// The name that commands and reports use.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The password's name in section `all` of the SOPS file.
    pub password: String,
    /// Whether this host may delete in it.
    pub deletes: Deletes,
}

/// Whether a host forgets and prunes in a repository itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// It does, by `keep`.
    Here,
    /// It cannot: its key only adds, and an operator does it from elsewhere.
    Elsewhere,
}

/// Where a repository stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory of this host, on another disk let us hope.
    Directory(PathBuf),
    /// A directory of an SSH server.
    Sftp(Ssh),
    /// A REST server, such as restic's own.
    Rest {
        /// `http://` or `https://`, never with a user or a password in it.
        url: String,
        /// The name of `USER:PASSWORD` in section `all` of the SOPS file, if the server wants one.
        login: Option<String>,
    },
    /// What an SSH server runs for our key: a program that speaks as a REST server does, over its input and output. It
    /// can be one that lets nothing be deleted.
    RestOverSsh(Ssh),
}

/// How an SSH server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// The user.
    pub user: String,
    /// The server's name or address.
    pub host: String,
    /// The port; 22 when the URL has none.
    pub port: u16,
    /// The directory, without the slash that separates it from the host: relative to where the login lands. It begins
    /// with a slash of its own if the URL has two. Over REST it is below what the server serves, and may be empty.
    pub path: String,
    /// The private key's name in section `all` of the SOPS file.
    pub key: String,
    /// The server's key.
    pub host_key: HostKey,
}

/// Which key an SSH server must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKey {
    /// The one that all Storage Boxes of Hetzner show.
    StorageBox,
    /// This one, as `ssh-keyscan` prints it behind the name: `ssh-ed25519 AAAA...`. It is no secret.
    Pinned(String),
    /// The one under this name in section `all` of the SOPS file.
    Named(String),
}

/// How many snapshots are kept, as restic's `forget` counts them. Nothing at all keeps everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: u32,
    /// The newest of each of so many hours that have one.
    pub hourly: u32,
    /// Of so many days.
    pub daily: u32,
    /// Of so many ISO weeks.
    pub weekly: u32,
    /// Of so many months.
    pub monthly: u32,
    /// Of so many years.
    pub yearly: u32,
    /// All that are not older than this, counted back from the newest.
    pub within: Option<Duration>,
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// Each night.
    Daily,
    /// Each seventh night.
    Weekly,
    /// Each thirtieth night.
    Monthly,
    /// Only when a person says so.
    Never,
}

/// How fast a job may go; nothing set is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes per second to a repository.
    pub upload: Option<u64>,
    /// Bytes per second from a repository.
    pub download: Option<u64>,
}

/// What of one stack goes into a snapshot, what does not, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackBackup {
    /// The stack's name; also the label of its snapshots.
    pub stack: String,
    /// Directories and volumes, sorted.
    pub sources: Vec<Source>,
    /// What stays out, sorted.
    pub left_out: Vec<LeftOut>,
    /// Dumps, in the order of the file.
    pub dumps: Vec<Dump>,
    /// Patterns of paths that stay out, as `.gitignore` has them.
    pub excludes: Vec<String>,
    /// What happens to the containers while files are read.
    pub quiesce: Quiesce,
    /// The services that use a source: those that `quiesce` is about, sorted.
    pub writers: Vec<String>,
}

/// Something that goes into a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Source {
    /// What it is.
    pub origin: Origin,
    /// Why it goes in.
    pub reason: Reason,
}

/// Where data of a stack lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A volume; the engine knows where it lies.
    Volume {
        /// Its name in the Compose file; the path in a snapshot is made from it.
        key: String,
        /// Its name in the engine.
        name: String,
    },
    /// A file or directory of the host.
    Path(PathBuf),
}

/// Why something goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A named volume of the stack: all go in when nothing is listed.
    NamedVolume,
    /// A mount from below the stack's own directory: all go in.
    OwnDirectory,
    /// `x-moorline.backup.volumes` lists it.
    Listed,
}

/// Something that does not go in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// A volume's name in the Compose file, a path of the host, or `SERVICE:/path` of a volume without a name.
    pub what: String,
    /// Why.
    pub reason: OutReason,
}

/// Why something does not go in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutReason {
    /// A volume without a name: nobody could say later what it was.
    Anonymous,
    /// A path outside of the stack's directory.
    Outside,
    /// A volume that another stack or a person made.
    External,
    /// A volume that is not a directory of this host.
    Driver(String),
    /// `x-moorline.backup.volumes` lists others.
    NotListed,
    /// The files of a database that is dumped: read while it runs, they would be torn.
    Dumped {
        /// The service whose dump goes in instead.
        service: String,
    },
}

/// One dump: what a database says of itself, taken by a command inside of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The service in whose container the command runs.
    pub service: String,
    /// What it is a dump of.
    pub kind: DumpKind,
    /// The name below `/dumps/<stack>/` in the snapshot: a file, or a directory if there are several.
    pub to: String,
    /// The name of the password in the SOPS file, if the container does not know it itself.
    pub password: Option<String>,
    /// The user of the database, if it is not the one of the container's own environment.
    pub user: Option<String>,
}

/// What is dumped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpKind {
    /// What this command writes to its output.
    Command(Vec<String>),
    /// These databases of PostgreSQL, all if none is named, and its roles.
    Postgres(Vec<String>),
    /// These databases of MariaDB, all if none is named.
    Mariadb(Vec<String>),
    /// These databases of MySQL, all if none is named.
    Mysql(Vec<String>),
    /// All of MongoDB.
    Mongodb,
    /// The SQLite database in this file of the container.
    Sqlite(String),
    /// All of Redis or Valkey.
    Redis,
}

/// What happens to the containers of a stack while its files are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quiesce {
    /// Nothing.
    #[default]
    None,
    /// They are frozen: as after a power cut, but at one moment.
    Pause,
    /// They are stopped in order and started again.
    Stop,
}

impl Repository {
    /// The name of the only one, if `host.yaml` gives it none.
    pub const ONLY: &str = "main";
}

impl Backups {
    /// When something is due.
    pub fn schedule(&self) -> Schedule {
        Schedule { at: self.at, zone: self.zone.clone(), check: self.check, drill: self.drill }
    }
}

impl Every {
    /// After how long it is due again; never, if nothing comes of itself.
    pub fn days(self) -> Option<u32> {
        match self {
            Every::Daily => Some(1),
            Every::Weekly => Some(7),
            Every::Monthly => Some(30),
            Every::Never => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Volume { key, .. } => write!(f, "volume {key}"),
            Origin::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NamedVolume => "a named volume of the stack",
            Reason::OwnDirectory => "mounted from the stack's own directory",
            Reason::Listed => "listed in x-moorline.backup.volumes",
        })
    }
}

impl fmt::Display for OutReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutReason::Anonymous => f.write_str("a volume without a name"),
            OutReason::Outside => f.write_str("outside of the stack's directory"),
            OutReason::External => f.write_str("an external volume: it belongs to somebody else"),
            OutReason::Driver(driver) => write!(f, "a volume of driver `{driver}`"),
            OutReason::NotListed => f.write_str("not listed in x-moorline.backup.volumes"),
            OutReason::Dumped { service } => write!(f, "files of a database: the dump of `{service}` goes in instead"),
        }
    }
}
