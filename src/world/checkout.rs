//! An operator's own checkout of the fleet repository: its revisions are read, and a promotion is committed on a branch.
//! Nothing is ever checked out, staged or pushed, so whatever is being worked on there stays as it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

use crate::decide::fault::{Code, Fault};
use crate::decide::ring::seal::NAMESPACE;
use crate::model::Revision;
use crate::model::tree::{File, Tree};
use crate::world::child::{Child, Ended};
use crate::world::{disk, person};

/// The largest file of a fleet repository, as on every host.
const LARGEST: usize = 1024 * 1024;
/// The largest tree.
const MOST_FILES: usize = 5000;
/// How long a child may take: a key may have to be touched, or a passphrase typed into an agent's window.
const LIMIT: Duration = Duration::from_secs(120);

/// A checkout, or a bare repository.
pub struct Checkout {
    repository: Repository,
}

impl Checkout {
    /// The repository around `path`.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let repository = Repository::discover(path).map_err(|error| {
            Fault::new(Code::UsageInvalid, format!("{} is not in a git repository", path.display()))
                .because(error.message().to_owned())
                .hint("run it in a checkout of the fleet repository")
        })?;
        Ok(Self { repository })
    }

    /// The commit that a name stands for: `HEAD`, a branch, a tag, or the first digits of a commit.
    pub fn resolve(&self, name: &str) -> Result<Revision, Fault> {
        let unknown = |error: git2::Error| {
            Fault::new(Code::UsageInvalid, format!("`{}` is no commit of this repository", name.escape_debug()))
                .because(error.message().to_owned())
                .hint("`git fetch` gets what is missing; in CI, fetch the whole history")
        };
        let object = self.repository.revparse_single(name).map_err(unknown)?;
        let commit = object.peel_to_commit().map_err(unknown)?;
        revision(commit.id())
    }

    /// Whether a commit is there.
    pub fn has(&self, revision: &Revision) -> bool {
        self.commit_at(revision).is_ok()
    }

    /// The first line of a commit's message.
    pub fn subject(&self, revision: &Revision) -> Result<String, Fault> {
        let commit = self.commit_at(revision)?;
        Ok(commit.summary().ok().flatten().unwrap_or_default().to_owned())
    }

    /// The first-parent path from a commit to the root, newest first.
    pub fn path(&self, tip: &Revision) -> Result<Vec<Revision>, Fault> {
        let mut path = vec![tip.clone()];
        let mut commit = self.commit_at(tip)?;
        while let Ok(parent) = commit.parent(0) {
            path.push(revision(parent.id())?);
            commit = parent;
        }
        Ok(path)
    }

    /// The content of one file at a commit, if it is there.
    pub fn file(&self, at: &Revision, path: &str) -> Result<Option<Vec<u8>>, Fault> {
        let tree = self.commit_at(at)?.tree().map_err(|error| unreadable(&error))?;
        let Ok(entry) = tree.get_path(Path::new(path)) else { return Ok(None) };
        let blob = self.repository.find_blob(entry.id()).map_err(|error| unreadable(&error))?;
        Ok((blob.size() <= LARGEST).then(|| blob.content().to_vec()))
    }

    /// The files of a commit, by the rules of the hosts.
    pub fn tree(&self, at: &Revision) -> Result<Tree, Fault> {
        let root = self.commit_at(at)?.tree().map_err(|error| unreadable(&error))?;
        let mut found: Vec<(String, Oid, i32)> = Vec::new();
        let mut odd: Option<String> = None;
        let walked = root.walk(TreeWalkMode::PreOrder, |directory, entry| {
            let name = std::str::from_utf8(entry.name_bytes()).ok();
            let path = format!("{directory}{}", name.unwrap_or("(not text)"));
            match entry.kind() {
                Some(ObjectType::Tree) => {}
                Some(ObjectType::Blob) if entry.filemode() != i32::from(FileMode::Link) && name.is_some() => {
                    found.push((path, entry.id(), entry.filemode()));
                }
                _ => odd = Some(path),
            }
            let goes_on = odd.is_none() && found.len() <= MOST_FILES;
            if goes_on { TreeWalkResult::Ok } else { TreeWalkResult::Abort }
        });
        let refused = |why: String| Fault::new(Code::TreeRefused, format!("{}: {why}", at.short()));
        if let Some(path) = odd {
            return Err(refused(format!("{path} is neither a plain file nor a directory")));
        }
        if found.len() > MOST_FILES {
            return Err(refused(format!("there are more than {MOST_FILES} files")));
        }
        walked.map_err(|error| unreadable(&error))?;
        let mut tree = Tree::default();
        for (path, id, mode) in found {
            let blob = self.repository.find_blob(id).map_err(|error| unreadable(&error))?;
            if blob.size() > LARGEST {
                return Err(refused(format!("{path} is larger than 1 MiB")));
            }
            let executable = mode == i32::from(FileMode::BlobExecutable);
            tree.insert(path, File { executable, bytes: blob.content().to_vec() });
        }
        Ok(tree)
    }

    /// Commits these files on top of `parent`, signed, on a branch that must not be there yet.
    pub async fn commit(
        &self,
        branch: &str,
        parent: &Revision,
        files: &[(String, Vec<u8>)],
        message: &str,
        key: Option<&Path>,
    ) -> Result<Revision, Fault> {
        let reference = format!("refs/heads/{branch}");
        if self.repository.find_reference(&reference).is_ok() {
            return Err(
                unwritten(format!("there is a branch {branch} already")).hint(format!("git branch -D {branch}"))
            );
        }
        let failed = |error: git2::Error| unwritten("the commit cannot be written").because(error.message().to_owned());
        let base = self.commit_at(parent)?.tree().map_err(failed)?;
        let mut update = TreeUpdateBuilder::new();
        for (path, bytes) in files {
            update.upsert(path.as_str(), self.repository.blob(bytes).map_err(failed)?, FileMode::Blob);
        }
        let tree = update.create_updated(&self.repository, &base).map_err(failed)?;
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(key) = key {
            let mut setting = OsString::from("user.signingKey=");
            setting.push(key);
            arguments.extend(["-c".into(), "gpg.format=ssh".into(), "-c".into(), setting]);
        }
        let tree = tree.to_string();
        arguments.extend(["commit-tree", &tree, "-p", parent.as_str(), "-S", "-m", message].map(OsString::from));
        let ended = self.git(arguments).await?;
        let printed = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        let commit: Revision = match (ended.succeeded(), printed.parse()) {
            (true, Ok(commit)) => commit,
            _ => {
                let mut fault = unwritten("git did not make a signed commit");
                fault.because = ended.last_words(3);
                return Err(fault.hint("`git commit -S` must work here: docs/trust.md, or `--key FILE`"));
            }
        };
        let id = Oid::from_str(commit.as_str()).map_err(failed)?;
        self.repository.reference(&reference, id, false, "moorline promote").map_err(failed)?;
        Ok(commit)
    }

    /// The signature of a ring file, by `key` or by the key that signs commits here.
    pub async fn sign(&self, file: &[u8], key: Option<&Path>) -> Result<Vec<u8>, Fault> {
        let scratch = Scratch::new(self.repository.path())?;
        let key = match key {
            Some(key) => key.to_owned(),
            None => self.own_key(&scratch).await?,
        };
        let path = scratch.write("ring.yaml", file)?;
        let mut child = Child::new("ssh-keygen", LIMIT).args(["-Y", "sign", "-n", NAMESPACE, "-f"]);
        child = child.args([key.as_os_str(), path.as_os_str()]);
        let ended = run(child).await?;
        let signature = disk::read(&path.with_extension("yaml.sig"), LARGEST as u64);
        match (ended.succeeded(), signature) {
            (true, Ok(signature)) => Ok(signature),
            _ => {
                let mut fault = unwritten(format!("ssh-keygen did not sign with {}", key.display()));
                fault.because = ended.last_words(3);
                Err(fault.hint("`--key FILE` names another key; a key with a passphrase must be in the agent"))
            }
        }
    }

    async fn own_key(&self, scratch: &Scratch) -> Result<PathBuf, Fault> {
        let ended =
            self.git(["config", "--get", "--type=path", "user.signingKey"].map(OsString::from).to_vec()).await?;
        let key = String::from_utf8_lossy(&ended.stdout).trim_end().to_owned();
        match key.strip_prefix("key::") {
            // git also takes the public key itself; ssh-keygen wants a file, and finds the other half in the agent.
            Some(public) => scratch.write("key.pub", public.as_bytes()),
            None if key.is_empty() => Err(unwritten("git has no `user.signingKey`").hint("name a key: `--key FILE`")),
            None => Ok(key.into()),
        }
    }

    async fn git(&self, arguments: Vec<OsString>) -> Result<Ended, Fault> {
        let child = Child::new("git", LIMIT).args([OsString::from("--git-dir"), self.repository.path().into()]);
        run(child.args(arguments)).await
    }

    fn commit_at(&self, at: &Revision) -> Result<git2::Commit<'_>, Fault> {
        let id = Oid::from_str(at.as_str()).map_err(|error| unreadable(&error))?;
        self.repository.find_commit(id).map_err(|error| {
            Fault::new(Code::UsageInvalid, format!("commit {} is not in this repository", at.short()))
                .because(error.message().to_owned())
                .hint("`git fetch` gets what is missing; in CI, fetch the whole history")
        })
    }
}

/// A directory inside of `.git` for files that only children need.
struct Scratch(PathBuf);

impl Scratch {
    fn new(repository: &Path) -> Result<Self, Fault> {
        let path = repository.join(format!("moorline-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| disk::unwritable(&path, &error))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Fault> {
        let path = self.0.join(name);
        disk::write(&path, bytes, 0o600).map_err(|error| disk::unwritable(&path, &error))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is ours, small, and no secret.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A child that works for a person: with their home, their agent and their configuration of git.
async fn run(child: Child) -> Result<Ended, Fault> {
    let child = person::environment().into_iter().fold(child, |child, (name, value)| child.env(name, value));
    child.run().await.map_err(|error| unwritten("a program that is needed cannot be run").caused_by(&error))
}

fn unwritten(sentence: impl Into<String>) -> Fault {
    Fault::new(Code::PromotionRefused, sentence).at("nothing was written")
}

fn unreadable(error: &git2::Error) -> Fault {
    Fault::new(Code::UsageInvalid, "the repository cannot be read").because(error.message().to_owned())
}

fn revision(id: Oid) -> Result<Revision, Fault> {
    let name = id.to_string();
    name.parse().map_err(|error| Fault::new(Code::UsageInvalid, "a commit has an odd name").caused_by(&error))
}
