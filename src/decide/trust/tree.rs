//! Reads the files of a revision from raw git objects, and refuses everything that has no business on a host.
//!
//! It never writes and never follows anything: a symbolic link or a submodule is refused, not resolved. Sizes are
//! asked before content, and every directory is read before the first file, so that a hostile tree costs little.

use std::collections::BTreeSet;
use std::fmt;

use super::wire::shown;
use crate::model::{File, Tree};

/// The name of a tree or blob in the object database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Reads 40 lower-case hexadecimal digits, the only form git writes.
    pub(super) fn from_hex(text: &[u8]) -> Option<Self> {
        let mut id = [0; 20];
        if text.len() != 40 || text.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }
}

impl From<[u8; 20]> for ObjectId {
    fn from(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Where trees and blobs come from. Whoever implements it promises that bytes belong to the name they are given for.
pub trait Objects {
    /// Why an object cannot be read.
    type Error;

    /// The size of an object, from its header: the content is not to be loaded for it.
    fn size(&self, id: &ObjectId) -> Result<u64, Self::Error>;

    /// The bytes of a tree object; something else by that name is an error.
    fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, Self::Error>;

    /// The bytes of a blob; something else by that name is an error.
    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, Self::Error>;
}

/// How much a tree may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files altogether.
    pub files: usize,
    /// Directories altogether: empty ones nested in one another would otherwise be a bomb of no files at all.
    pub directories: usize,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of a name.
    pub name: usize,
    /// Bytes of a path, so that it still fits below a directory of the host.
    pub path: usize,
    /// Bytes of a file.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Bytes of one directory's tree object.
    pub directory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 5_000,
            directories: 5_000,
            depth: 16,
            name: 255,
            path: 1_024,
            file_bytes: 1024 * 1024,
            total_bytes: 32 * 1024 * 1024,
            directory_bytes: 1024 * 1024,
        }
    }
}

/// Where in a tree something is wrong, and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {fault}")]
pub struct TreeFlaw {
    /// The path, made safe to print.
    pub path: String,
    /// What is wrong there.
    pub fault: TreeFault,
}

/// What is wrong with an entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// The bytes are not a tree.
    #[error("is not a well-formed tree object")]
    Malformed,
    /// Mode 120000.
    #[error("is a symbolic link (mode 120000)")]
    SymbolicLink,
    /// Mode 160000.
    #[error("is a submodule (mode 160000)")]
    Submodule,
    /// Set-user-id bits, group-writable files of old gits, padded numbers.
    #[error("has mode {0}; only 100644, 100755 and 040000 are allowed")]
    Mode(String),
    /// A name that another program could understand as something else.
    #[error("has a name that is not allowed: {0}")]
    Name(&'static str),
    /// Two names that are one, here or on another file system.
    #[error("stands beside another entry with the same name, or one that differs only in case")]
    Duplicate,
    /// Not sorted as git sorts: programs that search would see other files than programs that list.
    #[error("is not in git's order")]
    Order,
    /// Too deep.
    #[error("is more than {0} levels deep")]
    Depth(usize),
    /// Too long.
    #[error("has a path longer than {0} bytes")]
    LongPath(usize),
    /// Too large.
    #[error("has {found} bytes; at most {limit} are allowed")]
    Size {
        /// What it has.
        found: u64,
        /// What it may have.
        limit: u64,
    },
    /// The whole is too large.
    #[error("brings the tree above {0} bytes altogether")]
    TotalSize(u64),
    /// Too many.
    #[error("brings the tree above {0} files")]
    Files(usize),
    /// Too many.
    #[error("brings the tree above {0} directories")]
    Directories(usize),
    /// Header and content disagree.
    #[error("has another size than its header says")]
    OtherSize,
}

/// What a host would refuse of files that are not committed yet: by the same rules, as far as they can be seen there.
pub fn flaws(tree: &Tree, limits: &Limits) -> Vec<TreeFlaw> {
    let mut spellings = BTreeSet::new();
    let mut flaws = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, file) in tree.files() {
        // Of two spellings of one name, be it a file's or a directory's, the second one is named once.
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let part = &path[..end];
            if seen.insert(part) && !spellings.insert(part.to_ascii_lowercase()) {
                flaws.push(TreeFlaw { path: shown_path(part), fault: TreeFault::Duplicate });
            }
        }
        let mut refuse = |fault| flaws.push(TreeFlaw { path: shown_path(path), fault });
        let wrong_name = path.split('/').find_map(|part| name(part.as_bytes(), limits).err());
        wrong_name.into_iter().for_each(&mut refuse);
        if path.split('/').count() > limits.depth {
            refuse(TreeFault::Depth(limits.depth));
        }
        if path.len() > limits.path {
            refuse(TreeFault::LongPath(limits.path));
        }
        let found = file.bytes.len() as u64;
        if found > limits.file_bytes {
            refuse(TreeFault::Size { found, limit: limits.file_bytes });
        }
    }
    flaws
}

/// Why a tree could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread<E> {
    /// It is refused.
    Flaw(TreeFlaw),
    /// An object could not be had.
    Objects(E),
}

/// Reads all files below a root.
pub fn read<O: Objects>(objects: &O, root: &ObjectId, limits: &Limits) -> Result<Tree, Unread<O::Error>> {
    let mut walk = Walk { objects, limits, found: Vec::new(), directories: 0, total: 0 };
    walk.directory("", root, 1)?;
    let mut tree = Tree::default();
    for found in walk.found {
        let bytes = objects.blob(&found.id).map_err(Unread::Objects)?;
        if u64::try_from(bytes.len()) != Ok(found.size) {
            return Err(flaw(&found.path, TreeFault::OtherSize));
        }
        tree.insert(found.path, File { executable: found.executable, bytes });
    }
    Ok(tree)
}

/// A file whose content was not read yet.
struct Found {
    path: String,
    id: ObjectId,
    executable: bool,
    size: u64,
}

/// What was seen so far.
struct Walk<'a, O> {
    objects: &'a O,
    limits: &'a Limits,
    found: Vec<Found>,
    directories: usize,
    total: u64,
}

impl<O: Objects> Walk<'_, O> {
    /// The depth is that of the directory's entries, and bounds the recursion.
    fn directory(&mut self, path: &str, id: &ObjectId, depth: usize) -> Result<(), Unread<O::Error>> {
        self.directories += 1;
        if self.directories > self.limits.directories {
            return Err(flaw(path, TreeFault::Directories(self.limits.directories)));
        }
        self.sized(path, id, self.limits.directory_bytes)?;
        let bytes = self.objects.tree(id).map_err(Unread::Objects)?;
        let mut names = BTreeSet::new();
        let mut previous = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (entry, after) = entry(rest).ok_or_else(|| flaw(path, TreeFault::Malformed))?;
            rest = after;
            let here = join(path, entry.name);
            let refuse = |fault| flaw(&here, fault);
            let name = name(entry.name, self.limits).map_err(refuse)?;
            let kind = kind(entry.mode).map_err(refuse)?;
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(refuse(TreeFault::Duplicate));
            }
            let key = order(name, &kind);
            if previous >= key {
                return Err(refuse(TreeFault::Order));
            }
            previous = key;
            if depth > self.limits.depth {
                return Err(refuse(TreeFault::Depth(self.limits.depth)));
            }
            if here.len() > self.limits.path {
                return Err(refuse(TreeFault::LongPath(self.limits.path)));
            }
            match kind {
                Kind::Directory => self.directory(&here, &entry.id, depth + 1)?,
                Kind::File { executable } => self.file(here, entry.id, executable)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, id: ObjectId, executable: bool) -> Result<(), Unread<O::Error>> {
        if self.found.len() >= self.limits.files {
            return Err(flaw(&path, TreeFault::Files(self.limits.files)));
        }
        let size = self.sized(&path, &id, self.limits.file_bytes)?;
        self.total = self.total.saturating_add(size);
        if self.total > self.limits.total_bytes {
            return Err(flaw(&path, TreeFault::TotalSize(self.limits.total_bytes)));
        }
        self.found.push(Found { path, id, executable, size });
        Ok(())
    }

    fn sized(&self, path: &str, id: &ObjectId, limit: u64) -> Result<u64, Unread<O::Error>> {
        let found = self.objects.size(id).map_err(Unread::Objects)?;
        if found > limit {
            return Err(flaw(path, TreeFault::Size { found, limit }));
        }
        Ok(found)
    }
}

/// One entry of a tree object, as it stands there.
struct RawEntry<'a> {
    mode: &'a [u8],
    name: &'a [u8],
    id: ObjectId,
}

/// `mode SP name NUL id`.
fn entry(bytes: &[u8]) -> Option<(RawEntry<'_>, &[u8])> {
    let nul = bytes.iter().position(|byte| *byte == 0)?;
    let (head, rest) = (bytes.get(..nul)?, bytes.get(nul + 1..)?);
    let space = head.iter().position(|byte| *byte == b' ')?;
    let (id, rest) = rest.split_first_chunk::<20>()?;
    Some((RawEntry { mode: head.get(..space)?, name: head.get(space + 1..)?, id: ObjectId(*id) }, rest))
}

enum Kind {
    Directory,
    File { executable: bool },
}

fn kind(mode: &[u8]) -> Result<Kind, TreeFault> {
    match mode {
        b"40000" => Ok(Kind::Directory),
        b"100644" => Ok(Kind::File { executable: false }),
        b"100755" => Ok(Kind::File { executable: true }),
        b"120000" => Err(TreeFault::SymbolicLink),
        b"160000" => Err(TreeFault::Submodule),
        other => Err(TreeFault::Mode(shown(other))),
    }
}

/// Names end up as names of files on a host, in Compose files and on command lines. ASCII only, because two texts
/// that look the same need not be the same outside of it.
fn name<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, TreeFault> {
    let refused = |why| Err(TreeFault::Name(why));
    let Ok(name) = std::str::from_utf8(bytes) else {
        return refused("it is not ASCII");
    };
    match name {
        "" => return refused("it is empty"),
        "." | ".." => return refused("it means another directory"),
        _ if name.len() > limits.name => return refused("it is too long"),
        _ if name.eq_ignore_ascii_case(".git") || name.eq_ignore_ascii_case("git~1") => {
            return refused("it is git's own");
        }
        _ if name.starts_with(['-', '~', ' ']) || name.ends_with(' ') => {
            return refused("it begins with `-`, `~` or a blank, or ends with one");
        }
        _ => {}
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@=,~%#()[] ".contains(&byte);
    match name.bytes().find(|byte| !allowed(*byte)) {
        None => Ok(name),
        Some(byte) if byte.is_ascii_control() => refused("it has a control character"),
        Some(byte) if !byte.is_ascii() => refused("it is not ASCII"),
        Some(_) => refused("only letters, digits, blanks and `._-+@=,~%#()[]` may be in it"),
    }
}

/// git sorts directories as if their names ended in a slash.
fn order(name: &str, kind: &Kind) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    if let Kind::Directory = kind {
        key.push(b'/');
    }
    key
}

/// The name may be anything here: a flaw has to be able to show it.
fn join(path: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") }
}

fn flaw<E>(path: &str, fault: TreeFault) -> Unread<E> {
    let path = if path.is_empty() { "/".to_owned() } else { shown_path(path) };
    Unread::Flaw(TreeFlaw { path, fault })
}

/// The end of a long path says more than its beginning.
fn shown_path(path: &str) -> String {
    const SHOWN: usize = 200;
    let skip = path.chars().count().saturating_sub(SHOWN);
    let tail: String = path.chars().skip(skip).flat_map(char::escape_debug).collect();
    if skip == 0 { tail } else { format!("...{tail}") }
}

#[cfg(test)]
mod tests;
