//! Reads objects from the courier's bare repository: from its object database only, by a bounded process of their own
//! ([`serve`]), with every size asked before the content. There is never a checkout, and nothing else of that
//! repository is interpreted: no configuration, no refs, no replacements, no grafts, and no objects of other places.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::decide::fault::{Code, Fault};
use crate::decide::trust::{Commit, History, ObjectId, Objects, RawCommit, SignerFiles};
use crate::model::Revision;
use crate::world::dialogue::{Dialogue, Silence};
use crate::world::fetch;

mod serve;

pub use serve::serve;

/// The longest path that is read; more is an attack, or a repository that needs `anchor` in `agent.toml`.
const LONGEST: usize = 100_000;
/// The bytes of the commits and lists of signers of a path: what the keeper holds in memory before it verified them.
/// 100,000 signed commits have about 100 MB.
const LARGEST_HISTORY: usize = 256 * 1024 * 1024;
/// A commit object is about 1 KiB; one with a long message a few.
const LARGEST_COMMIT: usize = 256 * 1024;
/// A tree object with 10,000 entries is about 400 KiB.
const LARGEST_TREE: usize = 4 * 1024 * 1024;
/// How long one object may take. Its processor time is bounded too; this ends a wait for something that never comes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Files by which objects of other places would count as objects of this one.
const ELSEWHERE: [&str; 2] = ["info/alternates", "info/http-alternates"];

/// The object database of a bare repository.
#[derive(Debug)]
pub struct Database {
    repository: PathBuf,
    reader: RefCell<Dialogue>,
}

/// One entry of a tree.
struct Entry {
    name: Vec<u8>,
    id: ObjectId,
    is_directory: bool,
}

/// What the reading process is asked.
#[derive(Debug, PartialEq, Eq)]
enum Question {
    /// The size of an object.
    Size(ObjectId),
    /// The content of an object of this kind, unless it is larger than the limit.
    Read { id: ObjectId, kind: Kind, limit: usize },
}

/// The kinds of objects that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Commit,
    Tree,
    Blob,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Commit, Kind::Tree, Kind::Blob];

    fn name(self) -> &'static str {
        match self {
            Kind::Commit => "commit",
            Kind::Tree => "tree",
            Kind::Blob => "blob",
        }
    }
}

impl Question {
    fn print(&self) -> String {
        match self {
            Question::Size(id) => format!("size 0 {id}"),
            Question::Read { id, kind, limit } => format!("{} {limit} {id}", kind.name()),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (word, limit, id) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let mut bytes = [0; 20];
        hex::decode_to_slice(id, &mut bytes).ok()?;
        let id = ObjectId::from(bytes);
        if word == "size" {
            return Some(Question::Size(id));
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == word)?;
        Some(Question::Read { id, kind, limit })
    }
}

impl Database {
    /// Starts the process that reads the objects below `repository`.
    pub fn open(repository: &Path) -> Result<Self, Fault> {
        let objects = repository.join("objects");
        // Whoever took the courier over could lead us anywhere.
        for directory in [repository, &objects] {
            if directory.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
                return Err(damaged("the clone", format!("{} is a link", directory.display())));
            }
        }
        if !objects.is_dir() {
            return Err(Fault::new(Code::RepositoryMissing, format!("{} is not there", objects.display()))
                .at("nothing was changed")
                .hint("`moorline courier --once` fetches it"));
        }
        // The courier never makes one, and libgit2 would follow it wherever it leads.
        for name in ELSEWHERE {
            if objects.join(name).symlink_metadata().is_ok() {
                let fault =
                    damaged("the clone", format!("{} leads to another repository", objects.join(name).display()));
                return Err(reported(repository, fault));
            }
        }
        let arguments = [OsStr::new("internals"), OsStr::new("objects"), repository.as_os_str()];
        let reader = Dialogue::start(&arguments, PATIENCE).map_err(|silence| {
            Fault::new(Code::ResourceLimit, "objects cannot be read").because(silence.to_string())
        })?;
        Ok(Self { repository: repository.to_owned(), reader: RefCell::new(reader) })
    }

    /// The first-parent path from `tip` down to and including `until`, or to the root, with the signers of each
    /// commit on it.
    pub fn history(&self, tip: &Revision, until: Option<&Revision>) -> Result<History, Fault> {
        let mut commits = Vec::new();
        let mut signers = BTreeMap::new();
        let mut read: BTreeMap<Option<ObjectId>, Arc<SignerFiles>> = BTreeMap::new();
        let mut bytes_left = LARGEST_HISTORY;
        let mut next = Some(tip.clone());
        while let Some(revision) = next {
            let bytes = self.read(&id(&revision)?, Kind::Commit, LARGEST_COMMIT, revision.short())?;
            let parsed = Commit::parse(&bytes).ok();
            let mut size = bytes.len();
            if let Some(commit) = &parsed {
                // Most commits leave the directory as it was.
                let directory = self.signers(&commit.tree)?;
                let files = match read.get(&directory) {
                    Some(files) => Arc::clone(files),
                    None => {
                        let files = self.signer_files(directory.as_ref())?;
                        size += files.size();
                        Arc::new(files)
                    }
                };
                read.insert(directory, Arc::clone(&files));
                signers.insert(revision.clone(), files);
            }
            bytes_left = bytes_left.checked_sub(size).ok_or_else(|| too_long(tip, "more than 256 MiB of commits"))?;
            next = match (&parsed, until) {
                (_, Some(until)) if *until == revision => None,
                (Some(commit), _) => commit.parents.first().cloned(),
                // What cannot be parsed ends the path; `trust::verify` says why it is refused.
                (None, _) => None,
            };
            commits.push(RawCommit { revision, bytes });
            if commits.len() == LONGEST && next.is_some() {
                return Err(too_long(tip, &format!("more than {LONGEST} commits")));
            }
        }
        Ok(History { tip: tip.clone(), commits, signers })
    }

    /// The directory `signers/` in a tree.
    fn signers(&self, tree: &ObjectId) -> Result<Option<ObjectId>, Fault> {
        let found = self.entries(tree, "/")?.into_iter().find(|entry| entry.name == b"signers");
        Ok(found.filter(|entry| entry.is_directory).map(|entry| entry.id))
    }

    /// What that directory says about who may sign: its plain files of a sensible size.
    fn signer_files(&self, directory: Option<&ObjectId>) -> Result<SignerFiles, Fault> {
        let mut files = SignerFiles::default();
        let Some(directory) = directory else { return Ok(files) };
        for entry in self.entries(directory, "signers")?.into_iter().filter(|entry| !entry.is_directory) {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let read = || self.read(&entry.id, Kind::Blob, SignerFiles::LARGEST, &format!("signers/{name}"));
            if name == "allowed_signers" {
                files.allowed_signers = Some(read()?);
            } else if name.ends_with(".asc") {
                if files.keys.len() == SignerFiles::MOST_KEYS {
                    let sentence = format!("signers/ has more than {} files of keys", SignerFiles::MOST_KEYS);
                    return Err(Fault::new(Code::TreeRefused, sentence).at("nothing was changed"));
                }
                let key = read()?;
                files.keys.insert(name, key);
            }
        }
        Ok(files)
    }

    /// The directories and plain files of a tree; `path` says in a refusal where it stands.
    fn entries(&self, tree: &ObjectId, path: &str) -> Result<Vec<Entry>, Fault> {
        let bytes = self.read(tree, Kind::Tree, LARGEST_TREE, path)?;
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

    /// The bytes of an object; `what` says in a refusal what it is to a person.
    fn read(&self, id: &ObjectId, kind: Kind, limit: usize, what: &str) -> Result<Vec<u8>, Fault> {
        let (word, rest) = self.ask(&Question::Read { id: *id, kind, limit })?;
        match word.as_str() {
            "bytes" => {
                let size = rest.parse().ok().filter(|size| *size <= limit).ok_or(Silence::Nonsense);
                let bytes = size.and_then(|size| self.reader.borrow_mut().bytes(size));
                bytes.map_err(|silence| self.silent(id, &silence))
            }
            "other" => {
                let sentence = format!("object {id} is a {rest}, not a {}", kind.name());
                let fault = Fault::new(Code::RepositoryDamaged, sentence).at("nothing was changed");
                Err(reported(&self.repository, fault))
            }
            "large" => {
                let sentence = format!("`{what}` has {rest} bytes, more than the {limit} that are read");
                Err(Fault::new(Code::TreeRefused, sentence).at("nothing was changed"))
            }
            _ => Err(self.silent(id, &Silence::Nonsense)),
        }
    }

    /// The first word of the answer, and the rest of its line.
    fn ask(&self, question: &Question) -> Result<(String, String), Fault> {
        let (Question::Size(id) | Question::Read { id, .. }) = question;
        let answer = self.reader.borrow_mut().ask(&question.print()).map_err(|silence| self.silent(id, &silence))?;
        let (word, rest) = answer.split_once(' ').unwrap_or((&answer, ""));
        match word {
            "memory" => Err(reported(&self.repository, limited(id, rest))),
            "damaged" => Err(reported(&self.repository, damaged(&id.to_string(), rest.to_owned()))),
            _ => Ok((word.to_owned(), rest.to_owned())),
        }
    }

    fn silent(&self, id: &ObjectId, silence: &Silence) -> Fault {
        let fault = match silence.is_damage() {
            true => damaged(&id.to_string(), silence.to_string()),
            false => limited(id, &silence.to_string()),
        };
        reported(&self.repository, fault)
    }
}

impl Objects for Database {
    type Error = Fault;

    fn size(&self, id: &ObjectId) -> Result<u64, Fault> {
        let (_, size) = self.ask(&Question::Size(*id))?;
        size.parse().map_err(|_| self.silent(id, &Silence::Nonsense))
    }

    fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, Fault> {
        self.read(id, Kind::Tree, LARGEST_TREE, &id.to_string())
    }

    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, Fault> {
        // The pure part has asked for the size before and applied its own limit, which is smaller.
        self.read(id, Kind::Blob, LARGEST_TREE, &id.to_string())
    }
}

fn id(revision: &Revision) -> Result<ObjectId, Fault> {
    let mut bytes = [0; 20];
    hex::decode_to_slice(revision.as_str(), &mut bytes)
        .map_err(|error| damaged(revision.as_str(), error.to_string()))?;
    Ok(ObjectId::from(bytes))
}

fn too_long(tip: &Revision, why: &str) -> Fault {
    Fault::new(Code::HistoryIncomplete, format!("the path from {} is too long", tip.short()))
        .because(format!("it has {why}"))
        .hint("name a later first revision as `anchor` in agent.toml")
}

fn damaged(what: &str, cause: String) -> Fault {
    Fault::new(Code::RepositoryDamaged, format!("{what} cannot be read from the clone"))
        .because(cause)
        .at("nothing was changed")
        .hint("`moorline courier --once` fetches what is missing")
}

fn limited(id: &ObjectId, cause: &str) -> Fault {
    Fault::new(Code::ResourceLimit, format!("object {id} needs more memory or time than reading it may take"))
        .because(cause.to_owned())
        .at("nothing was changed")
        .hint("`moorline courier --once` fetches a new clone; if it comes back, the repository holds something made to hurt")
}

/// Asks the courier for a new clone: whatever cannot be read in this one cannot be mended in it.
fn reported(repository: &Path, fault: Fault) -> Fault {
    // If it cannot be said, the courier finds out when it starts the next time.
    let _ = fetch::report_damage(repository);
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_they_are_written() {
        let id = ObjectId::from([0xab; 20]);
        let questions = [
            Question::Size(id),
            Question::Read { id, kind: Kind::Commit, limit: 1 },
            Question::Read { id, kind: Kind::Blob, limit: usize::MAX },
        ];
        for question in questions {
            assert_eq!(Question::parse(&question.print()), Some(question));
        }
        for line in ["", "size", "size 0 ab", "link 0 abababababababababababababababababababab", "blob -1 x"] {
            assert_eq!(Question::parse(line), None, "{line:?}");
        }
    }
}
