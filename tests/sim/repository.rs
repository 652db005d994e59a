//! A fleet repository in memory: files in, signed commits and git objects out.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;

use git2::{ObjectType, Oid};
use moorline::decide::fault::{Code, Fault};
use moorline::decide::trust::{Commit, History, ObjectId, Objects, RawCommit, SignerFiles};
use moorline::model::Revision;

use super::chain::{self, Key, Signature};

/// Every object by its name in hexadecimal digits.
type Stored = BTreeMap<String, Rc<Vec<u8>>>;

/// The working tree, and every commit that was ever made.
#[derive(Clone, Default)]
pub struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    objects: Rc<Stored>,
    commits: Vec<Revision>,
}

/// Who signs a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The operator that every host knows.
    Operator,
    /// Somebody with a key that nobody allowed.
    Stranger,
    /// Nobody.
    Nobody,
    /// The operator, but the signature belongs to another commit.
    Stolen,
}

/// The line of `allowed_signers` that lets the operator sign.
pub fn allowed_signers() -> String {
    operator().line("operator@example.org")
}

/// A key takes longer to make than a signature.
fn operator() -> &'static Key {
    static OPERATOR: OnceLock<Key> = OnceLock::new();
    OPERATOR.get_or_init(|| Key::new(0))
}

fn stranger() -> &'static Key {
    static STRANGER: OnceLock<Key> = OnceLock::new();
    STRANGER.get_or_init(|| Key::new(9))
}

impl Repository {
    /// Writes a file of the working tree.
    pub fn write(&mut self, path: &str, content: impl AsRef<[u8]>) -> &mut Self {
        self.files.insert(path.to_owned(), content.as_ref().to_vec());
        self
    }

    /// Removes a file or a directory of the working tree.
    pub fn remove(&mut self, path: &str) -> &mut Self {
        let below = format!("{path}/");
        self.files.retain(|name, _| name != path && !name.starts_with(&below));
        self
    }

    /// The text of a file of the working tree.
    pub fn read(&self, path: &str) -> String {
        let bytes = self.files.get(path).unwrap_or_else(|| panic!("{path} is not in the working tree"));
        String::from_utf8(bytes.clone()).expect("text")
    }

    /// Every commit in the order in which they were made.
    pub fn commits(&self) -> &[Revision] {
        &self.commits
    }

    /// Commits the working tree on top of `parent`.
    pub fn commit(&mut self, parent: Option<&Revision>, signer: Signer) -> Revision {
        let number = self.commits.len();
        let files = self.files.clone();
        let tree = self.store_tree(&files.iter().map(|(path, bytes)| (path.as_str(), bytes)).collect());
        let signature = match signer {
            Signer::Operator => Signature::By(operator()),
            Signer::Stranger => Signature::By(stranger()),
            Signer::Nobody => Signature::Not,
            Signer::Stolen => Signature::Stolen(operator()),
        };
        let at = 1_767_225_600 + i64::try_from(number).expect("few commits") * 60;
        let parents: Vec<Revision> = parent.cloned().into_iter().collect();
        let bytes = chain::commit(&tree, &parents, at, &format!("commit {number}"), signature);
        let revision: Revision = self.store(ObjectType::Commit, bytes).parse().expect("git names are revisions");
        self.commits.push(revision.clone());
        revision
    }

    /// Takes an object away, as a damaged disk would.
    pub fn lose(&mut self, revision: &Revision) {
        Rc::make_mut(&mut self.objects).remove(revision.as_str());
    }

    fn store_tree(&mut self, files: &BTreeMap<&str, &Vec<u8>>) -> String {
        let mut entries: BTreeMap<String, (&str, String)> = BTreeMap::new();
        let mut directories: BTreeMap<&str, BTreeMap<&str, &Vec<u8>>> = BTreeMap::new();
        for (path, bytes) in files {
            match path.split_once('/') {
                Some((directory, rest)) => _ = directories.entry(directory).or_default().insert(rest, bytes),
                None => {
                    let name = self.store(ObjectType::Blob, (*bytes).clone());
                    entries.insert((*path).to_owned(), ("100644", name));
                }
            }
        }
        for (directory, files) in directories {
            // git sorts a directory as if its name ended in a slash.
            entries.insert(format!("{directory}/"), ("40000", self.store_tree(&files)));
        }
        let mut bytes = Vec::new();
        for (name, (mode, object)) in entries {
            bytes.extend_from_slice(format!("{mode} {}\0", name.trim_end_matches('/')).as_bytes());
            bytes.extend_from_slice(&hex::decode(object).expect("hexadecimal"));
        }
        self.store(ObjectType::Tree, bytes)
    }

    fn store(&mut self, kind: ObjectType, bytes: Vec<u8>) -> String {
        let name = Oid::hash_object(kind, &bytes).expect("libgit2 hashes anything").to_string();
        Rc::make_mut(&mut self.objects).insert(name.clone(), Rc::new(bytes));
        name
    }

    fn object(&self, name: &str) -> Result<&[u8], Fault> {
        read(&self.objects, name)
    }

    /// As `world::git` gives it.
    pub fn history(&self, tip: &Revision, until: Option<&Revision>) -> Result<History, Fault> {
        let mut commits = Vec::new();
        let mut signers = BTreeMap::new();
        let mut next = Some(tip.clone());
        while let Some(revision) = next {
            let bytes = self.object(revision.as_str())?.to_vec();
            let parsed = Commit::parse(&bytes).ok();
            if let Some(commit) = &parsed {
                signers.insert(revision.clone(), self.signers(&commit.tree)?.into());
            }
            let goes_on = until != Some(&revision);
            next = parsed.filter(|_| goes_on).and_then(|commit| commit.parents.first().cloned());
            commits.push(RawCommit { revision, bytes });
        }
        Ok(History { tip: tip.clone(), commits, signers })
    }

    fn signers(&self, root: &ObjectId) -> Result<SignerFiles, Fault> {
        let mut files = SignerFiles::default();
        let Some(directory) = self.entry(&root.to_string(), "signers")? else { return Ok(files) };
        for (name, object) in self.entries(&directory)? {
            let bytes = self.object(&object)?.to_vec();
            match name.as_str() {
                "allowed_signers" => files.allowed_signers = Some(bytes),
                name if name.ends_with(".asc") => _ = files.keys.insert(name.to_owned(), bytes),
                _ => {}
            }
        }
        Ok(files)
    }

    fn entry(&self, tree: &str, wanted: &str) -> Result<Option<String>, Fault> {
        Ok(self.entries(tree)?.remove(wanted))
    }

    fn entries(&self, tree: &str) -> Result<BTreeMap<String, String>, Fault> {
        let mut rest = self.object(tree)?;
        let mut entries = BTreeMap::new();
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let head = std::str::from_utf8(&rest[..end]).expect("names are text");
            let (object, others) = rest[end + 1..].split_at(20);
            if let Some((_, name)) = head.split_once(' ') {
                entries.insert(name.to_owned(), hex::encode(object));
            }
            rest = others;
        }
        Ok(entries)
    }

    /// The object database.
    pub fn objects(&self) -> Database {
        Database(self.objects.clone())
    }
}

/// The object database of a repository as it was when it was asked for.
pub struct Database(Rc<Stored>);

impl Objects for Database {
    type Error = Fault;

    fn size(&self, id: &ObjectId) -> Result<u64, Fault> {
        Ok(read(&self.0, &id.to_string())?.len() as u64)
    }

    fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, Fault> {
        Ok(read(&self.0, &id.to_string())?.to_vec())
    }

    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, Fault> {
        Ok(read(&self.0, &id.to_string())?.to_vec())
    }
}

fn read<'stored>(objects: &'stored Stored, name: &str) -> Result<&'stored [u8], Fault> {
    let missing = || {
        Fault::new(Code::RepositoryDamaged, format!("{name} cannot be read from the clone")).at("nothing was changed")
    };
    objects.get(name).map(|bytes| bytes.as_slice()).ok_or_else(missing)
}
