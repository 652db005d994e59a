//! Where a backup repository lies: directories with files in them. It knows nothing of what the files mean.

use std::fmt::Debug;

use std::sync::Arc;

use bytes::Bytes;

use self::local::Local;
use self::pace::Pace;
use self::rest::Rest;
use self::sftp::Sftp;
use super::order::{Order, Place};
use super::trouble::Trouble;

mod local;
mod pace;
mod rest;
mod sftp;
mod ssh;

/// Files that are being written, below the repository. restic does not look there.
pub const UNFINISHED: &str = "tmp";

/// No file of a repository is larger in memory: restic's packs are at most 128 MiB.
pub const LARGEST: u64 = 512 * 1024 * 1024;

/// How long it is waited before each new connection, in seconds. Together with the patience of a connection, a server may
/// be away for some three minutes.
const PAUSES: [u64; 5] = [1, 2, 5, 10, 20];

/// The store where an order says. Nothing is touched or connected yet.
pub fn open(order: &Order) -> Result<Box<dyn Store>, Trouble> {
    let pace = Arc::new(Pace::new(order.limits));
    Ok(match &order.place {
        Place::Directory(directory) => Box::new(Local::new(directory.clone(), pace)),
        Place::Sftp(login) => Box::new(Sftp::new(login.clone(), pace)),
        Place::Rest(url) => Box::new(Rest::over_http(url, order.login.as_deref(), pace)?),
        Place::RestOverSsh(login) => Box::new(Rest::over_ssh(login.clone(), pace)?),
    })
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u32,
}

/// A place for files. Paths are relative to it and made of plain names.
///
/// What cannot be listed or read is an error, never an empty answer: a repository that looks empty loses its packs to the
/// next `prune`.
pub trait Store: Send + Sync + Debug {
    /// How people call it.
    fn name(&self) -> String;
    /// The entries of these directories, each of which must be there.
    fn list(&self, directories: &[String]) -> Result<Vec<Entry>, Trouble>;
    /// All files below `data`, which has one more level of directories.
    fn packs(&self) -> Result<Vec<Entry>, Trouble> {
        let below = self.list(&["data".to_owned()])?.into_iter().filter(|entry| entry.is_directory);
        let below: Vec<String> = below.map(|entry| format!("data/{}", entry.name)).collect();
        self.list(&below)
    }
    /// The size of a file; none if nothing has this name.
    fn size(&self, path: &str) -> Result<Option<u64>, Trouble>;
    /// A file, or exactly the part of it.
    fn read(&self, path: &str, part: Option<Part>) -> Result<Bytes, Trouble>;
    /// Writes a file: whole under its name, or not at all.
    fn write(&self, path: &str, content: &[Bytes]) -> Result<(), Trouble>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<(), Trouble>;
    /// Makes directories that may be there already; the empty path is the place itself.
    fn make_directories(&self, paths: &[String]) -> Result<(), Trouble>;
    /// How many bytes are free, if that can be known.
    fn free(&self) -> Result<Option<u64>, Trouble>;
}
