//! Reads objects from the courier's bare repository. Neither its configuration nor its refs are interpreted by
//! libgit2, and there is never a checkout: only the object database is opened.
//!
//! libgit2 hashes every object it reads, with collision detection, so bytes belong to their name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use git2::{ObjectType, Odb, Oid};

use crate::decide::fault::{Code, Fault};
use crate::decide::trust::{Commit, History, ObjectId, Objects, RawCommit, SignerFiles};
use crate::model::Revision;

/// The longest path that is read; more is an attack, or a repository that needs `anchor` in `agent.toml`.
const LONGEST: usize = 100_000;
/// A commit object is about 1 KiB; one with a long message a few.
const LARGEST_COMMIT: usize = 256 * 1024;
/// A tree object with 10,000 entries is about 400 KiB.
const LARGEST_TREE: usize = 4 * 1024 * 1024;

/// The object database of a bare repository.
pub struct Database {
    odb: Odb<'static>,
}

/// One entry of a tree.
struct Entry {
    name: Vec<u8>,
    id: ObjectId,
    is_directory: bool,
}

impl Database {
    /// Opens the object database below `repository`.
    pub fn open(repository: &Path) -> Result<Self, Fault> {
        let objects = repository.join("objects");
        if !objects.is_dir() {
            return Err(Fault::new(Code::RepositoryMissing, format!("{} is not there", objects.display()))
                .at("nothing was changed")
                .hint("`moorline courier --once` fetches it"));
        }
        let open = || {
            let odb = Odb::new()?;
            odb.add_disk_alternate(&objects.to_string_lossy())?;
            Ok(odb)
        };
        open().map(|odb| Self { odb }).map_err(|error: git2::Error| damaged(&objects.display().to_string(), &error))
    }

    /// The first-parent path from `tip` down to and including `until`, or to the root, with the signers of each
    /// commit on it.
    pub fn history(&self, tip: &Revision, until: Option<&Revision>) -> Result<History, Fault> {
        let mut commits = Vec::new();
        let mut signers = BTreeMap::new();
        let mut read: BTreeMap<Option<ObjectId>, Arc<SignerFiles>> = BTreeMap::new();
        let mut next = Some(tip.clone());
        while let Some(revision) = next {
            if commits.len() == LONGEST {
                return Err(Fault::new(Code::HistoryIncomplete, format!("the path from {} is too long", tip.short()))
                    .because(format!("it has more than {LONGEST} commits"))
                    .hint("name a later first revision as `anchor` in agent.toml"));
            }
            let bytes = self.read(oid(&revision)?, ObjectType::Commit, LARGEST_COMMIT)?;
            let parsed = Commit::parse(&bytes).ok();
            if let Some(commit) = &parsed {
                // Most commits leave the directory as it was.
                let directory = self.signers(&commit.tree)?;
                let files = match read.get(&directory) {
                    Some(files) => Arc::clone(files),
                    None => Arc::new(self.signer_files(directory.as_ref())?),
                };
                read.insert(directory, Arc::clone(&files));
                signers.insert(revision.clone(), files);
            }
            next = match (&parsed, until) {
                (_, Some(until)) if *until == revision => None,
                (Some(commit), _) => commit.parents.first().cloned(),
                // What cannot be parsed ends the path; `trust::verify` says why it is refused.
                (None, _) => None,
            };
            commits.push(RawCommit { revision, bytes });
        }
        Ok(History { tip: tip.clone(), commits, signers })
    }

    /// The directory `signers/` in a tree.
    fn signers(&self, tree: &ObjectId) -> Result<Option<ObjectId>, Fault> {
        let found = self.entries(tree)?.into_iter().find(|entry| entry.name == b"signers");
        Ok(found.filter(|entry| entry.is_directory).map(|entry| entry.id))
    }

    /// What that directory says about who may sign: its plain files of a sensible size.
    fn signer_files(&self, directory: Option<&ObjectId>) -> Result<SignerFiles, Fault> {
        let mut files = SignerFiles::default();
        let Some(directory) = directory else { return Ok(files) };
        for entry in self.entries(directory)?.into_iter().filter(|entry| !entry.is_directory) {
            let read = || self.read(id(&entry.id), ObjectType::Blob, SignerFiles::LARGEST);
            if entry.name == b"allowed_signers" {
                files.allowed_signers = Some(read()?);
            } else if entry.name.ends_with(b".asc") {
                if files.keys.len() == SignerFiles::MOST_KEYS {
                    let sentence = format!("signers/ has more than {} files of keys", SignerFiles::MOST_KEYS);
                    return Err(Fault::new(Code::TreeRefused, sentence).at("nothing was changed"));
                }
                files.keys.insert(String::from_utf8_lossy(&entry.name).into_owned(), read()?);
            }
        }
        Ok(files)
    }

    /// The directories and plain files of a tree.
    fn entries(&self, tree: &ObjectId) -> Result<Vec<Entry>, Fault> {
        let bytes = self.read(id(tree), ObjectType::Tree, LARGEST_TREE)?;
        let mut rest = &bytes[..];
        let mut entries = Vec::new();
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let (head, after) = (&rest[..end], &rest[end + 1..]);
            let Some((object, others)) = after.split_first_chunk::<20>() else { break };
            if let Some(space) = head.iter().position(|byte| *byte == b' ') {
                let is_directory = &head[..space] == b"40000";
                if is_directory || matches!(&head[..space], b"100644" | b"100755") {
                    let (name, id) = (head[space + 1..].to_vec(), ObjectId::from(*object));
                    entries.push(Entry { name, id, is_directory });
                }
            }
            rest = others;
        }
        Ok(entries)
    }

    fn read(&self, oid: Oid, kind: ObjectType, limit: usize) -> Result<Vec<u8>, Fault> {
        let unreadable = |error: git2::Error| damaged(&oid.to_string(), &error);
        let (size, found) = self.odb.read_header(oid).map_err(unreadable)?;
        if found != kind {
            let sentence = format!("object {oid} is a {}, not a {}", found.str(), kind.str());
            return Err(Fault::new(Code::RepositoryDamaged, sentence).at("nothing was changed"));
        }
        if size > limit {
            let sentence = format!("object {oid} has {size} bytes, more than the {limit} that are read");
            return Err(Fault::new(Code::TreeRefused, sentence).at("nothing was changed"));
        }
        Ok(self.odb.read(oid).map_err(unreadable)?.data().to_vec())
    }
}

impl Objects for Database {
    type Error = Fault;

    fn size(&self, id: &ObjectId) -> Result<u64, Fault> {
        let oid = self::id(id);
        let (size, _) = self.odb.read_header(oid).map_err(|error| damaged(&oid.to_string(), &error))?;
        Ok(size as u64)
    }

    fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, Fault> {
        self.read(self::id(id), ObjectType::Tree, LARGEST_TREE)
    }

    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, Fault> {
        // The pure part has asked for the size before and applied its own limit, which is smaller.
        self.read(self::id(id), ObjectType::Blob, LARGEST_TREE)
    }
}

fn id(id: &ObjectId) -> Oid {
    Oid::from_bytes(id.as_bytes()).unwrap_or(Oid::ZERO_SHA1)
}

fn oid(revision: &Revision) -> Result<Oid, Fault> {
    Oid::from_str(revision.as_str()).map_err(|error| damaged(revision.as_str(), &error))
}

fn damaged(what: &str, error: &git2::Error) -> Fault {
    Fault::new(Code::RepositoryDamaged, format!("{what} cannot be read from the clone"))
        .because(error.message().to_owned())
        .at("nothing was changed")
        .hint("`moorline courier --once` fetches what is missing")
}
