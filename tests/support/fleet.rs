//! A fleet repository as its operators work on it: files, signed commits, branches, pushes, and rewritten history.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::git_server::{git, make_key};
use super::run::{Ran, Run as _};
use super::scratch::Scratch;

/// A key that signs commits, made by `ssh-keygen`.
#[derive(Debug)]
pub struct Signer {
    name: String,
    scratch: Scratch,
}

impl Signer {
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new();
        make_key(&scratch, "key");
        Self { name: name.to_owned(), scratch }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The principal in `allowed_signers`.
    pub fn principal(&self) -> String {
        format!("{}@example.org", self.name)
    }

    pub fn private_key(&self) -> PathBuf {
        self.scratch.join("key")
    }

    /// Key type and key, without a comment.
    pub fn public_key(&self) -> String {
        let line = std::fs::read_to_string(self.scratch.join("key.pub")).expect("ssh-keygen wrote it");
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// `SHA256:...`
    #[track_caller]
    pub fn fingerprint(&self) -> String {
        let mut keygen = self.scratch.command("ssh-keygen");
        let line = keygen.arg("-lf").arg(self.scratch.join("key.pub")).run().succeeds();
        line.split(' ').nth(1).expect("ssh-keygen prints it second").to_owned()
    }

    /// The line that lets this key sign, with its line end.
    pub fn allowed_line(&self) -> String {
        format!("{} namespaces=\"git\" {}\n", self.principal(), self.public_key())
    }
}

/// Whose signature a commit gets.
#[derive(Clone, Copy, Debug)]
pub enum Signing<'signer> {
    Unsigned,
    By(&'signer Signer),
}

/// A working clone.
#[derive(Debug)]
pub struct Fleet {
    scratch: Scratch,
    remote: PathBuf,
    /// Each commit is a minute after the one before, so that history reads as it was made.
    minutes: u32,
}

impl Fleet {
    /// An empty clone that pushes into the bare repository `remote`. Pushing needs no server: what the servers serve
    /// is on the same disk.
    #[track_caller]
    pub fn new(remote: &Path) -> Self {
        let scratch = Scratch::new();
        let fleet = Self { remote: remote.to_owned(), scratch, minutes: 0 };
        git(&fleet.scratch).args(["init", "--quiet", "--initial-branch=main"]).arg(fleet.path()).run().succeeds();
        fleet.git(&["remote", "add", "origin", &fleet.remote.display().to_string()]).succeeds();
        fleet
    }

    /// The checkout.
    pub fn path(&self) -> PathBuf {
        self.scratch.join("checkout")
    }

    /// Writes a file of the checkout.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.scratch.write(Path::new("checkout").join(path), content);
        self
    }

    /// Lets exactly these sign the next commits.
    pub fn allow(&self, signers: &[&Signer]) -> &Self {
        self.write("signers/allowed_signers", signers.iter().map(|signer| signer.allowed_line()).collect::<String>())
    }

    /// Copies a directory of files, such as an example of the repository, into the checkout.
    #[track_caller]
    pub fn copy(&self, from: &Path) -> &Self {
        let mut cp = self.scratch.command("busybox");
        cp.arg("cp").arg("-R").arg(from.join(".")).arg(self.path()).run().succeeds();
        self
    }

    /// Removes a file or directory of the checkout.
    #[track_caller]
    pub fn remove(&self, path: &str) -> &Self {
        self.git(&["rm", "-r", "--quiet", "--force", "--ignore-unmatch", "--", path]).succeeds();
        self
    }

    /// Commits everything as it is, also when nothing changed; returns the revision.
    #[track_caller]
    pub fn commit(&mut self, signing: Signing<'_>, message: &str) -> String {
        self.git(&["add", "--all"]).succeeds();
        self.signed(signing, &["commit", "--quiet", "--allow-empty", "--message", message])
    }

    /// Merges a branch with a merge commit, as a forge does; returns its revision.
    #[track_caller]
    pub fn merge(&mut self, signing: Signing<'_>, branch: &str) -> String {
        self.signed(signing, &["merge", "--quiet", "--no-ff", "--message", &format!("Merge {branch}"), branch])
    }

    #[track_caller]
    fn signed(&mut self, signing: Signing<'_>, arguments: &[&str]) -> String {
        let mut command = self.command();
        self.minutes += 1;
        // 2026-01-01T00:00:00Z, and on.
        let date = format!("{} +0000", 1_767_225_600 + u64::from(self.minutes) * 60);
        command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        let (name, email) = match signing {
            Signing::Unsigned => ("Nobody".to_owned(), "nobody@example.org".to_owned()),
            Signing::By(signer) => (signer.name().to_owned(), signer.principal()),
        };
        command.args(["-c", &format!("user.name={name}"), "-c", &format!("user.email={email}")]);
        let flag = match signing {
            Signing::Unsigned => "--no-gpg-sign".to_owned(),
            Signing::By(signer) => {
                command.args(["-c", "gpg.format=ssh"]);
                format!("--gpg-sign={}", signer.private_key().display())
            }
        };
        let (verb, rest) = arguments.split_first().expect("a git command");
        command.arg(verb).arg(flag).args(rest).run().succeeds();
        self.revision("HEAD")
    }

    /// The full id of a commit.
    #[track_caller]
    pub fn revision(&self, name: &str) -> String {
        self.git(&["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")]).succeeds()
    }

    /// Makes a branch here and goes there.
    #[track_caller]
    pub fn branch(&self, name: &str) -> &Self {
        self.git(&["checkout", "--quiet", "-B", name]).succeeds();
        self
    }

    #[track_caller]
    pub fn checkout(&self, name: &str) -> &Self {
        self.git(&["checkout", "--quiet", name]).succeeds();
        self
    }

    /// Moves the branch to another commit: the first half of rewriting history.
    #[track_caller]
    pub fn reset(&self, revision: &str) -> &Self {
        self.git(&["reset", "--quiet", "--hard", revision]).succeeds();
        self
    }

    /// Pushes the current branch under its own name.
    #[track_caller]
    pub fn push(&self) -> &Self {
        self.git(&["push", "--quiet", "origin", "HEAD"]).succeeds();
        self
    }

    /// Pushes the current branch whatever the remote has: the second half of rewriting history.
    #[track_caller]
    pub fn force_push(&self) -> &Self {
        self.git(&["push", "--quiet", "--force", "origin", "HEAD"]).succeeds();
        self
    }

    /// `git verify-commit`, with a list of who may sign.
    #[track_caller]
    pub fn verify(&self, revision: &str, allowed: &[&Signer]) -> Ran {
        let lines = allowed.iter().map(|signer| signer.allowed_line()).collect::<String>();
        let list = self.scratch.write("verify_signers", lines);
        let mut command = self.command();
        command.args(["-c", "gpg.format=ssh", "-c", &format!("gpg.ssh.allowedSignersFile={}", list.display())]);
        command.args(["verify-commit", revision]).run()
    }

    /// Any other git command in the checkout.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> Ran {
        self.command().args(arguments).run()
    }

    #[track_caller]
    fn command(&self) -> Command {
        let mut command = git(&self.scratch);
        command.arg("-C").arg(self.path());
        command
    }
}
