//! Where a backup repository lies: directories with files in them. It knows nothing of what the files mean.

use std::fmt::Debug;

use bytes::Bytes;

use super::trouble::Trouble;

pub mod local;
pub mod sftp;

/// Files that are being written, below the repository. restic does not look there.
pub const UNFINISHED: &str = "tmp";

/// No file of a repository is larger in memory: restic's packs are at most 128 MiB.
pub const LARGEST: u64 = 512 * 1024 * 1024;

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
