//! Repositories made by real `git` and `ssh-keygen`, that nobody's configuration reaches.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use moorline::decide::trust::{Commit, History, ObjectId, RawCommit, SignerFiles};
use moorline::model::Revision;

pub const LIST: &str = "signers/allowed_signers";

/// A repository that nobody's git configuration reaches, with keys beside it.
pub struct Repository {
    pub root: tempfile::TempDir,
    /// Seconds since 1970 for the next commit: time passes, but only here.
    pub now: u64,
}

impl Repository {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let repository = Self { root, now: 1_760_000_000 };
        repository.git(&["init", "-q", "-b", "main", "."]);
        repository
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.root.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("PATH"))
            .env("HOME", self.root.path())
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.org")
            .env("GIT_COMMITTER_NAME", "C")
            .env("GIT_COMMITTER_EMAIL", "c@example.org")
            .env("GIT_AUTHOR_DATE", format!("{} +0000", self.now))
            .env("GIT_COMMITTER_DATE", format!("{} +0000", self.now))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, command: &mut Command, input: Option<&[u8]>) -> Output {
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`{program}` is needed (packages git, openssh-client): {error}"));
        if let Some(input) = input {
            use std::io::Write as _;
            child.stdin.take().unwrap().write_all(input).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    pub fn git_with(&self, arguments: &[&str], input: Option<&[u8]>) -> Vec<u8> {
        let output = self.run(self.command("git").args(arguments), input);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        String::from_utf8(self.git_with(arguments, None)).unwrap().trim().to_owned()
    }

    pub fn revision(&self, name: &str) -> Revision {
        self.git(&["rev-parse", name]).parse().unwrap()
    }

    /// The public key of a person, made when first asked for.
    pub fn key(&self, person: &str) -> String {
        self.key_of_kind(person, "ed25519")
    }

    pub fn key_of_kind(&self, person: &str, kind: &str) -> String {
        std::fs::create_dir_all(self.path("keys")).unwrap();
        let file = self.path("keys").join(person);
        if !file.exists() {
            let mut command = self.command("ssh-keygen");
            let output = self.run(command.args(["-q", "-t", kind, "-N", "", "-C", person, "-f"]).arg(&file), None);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        std::fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
    }

    pub fn line(&self, person: &str) -> String {
        format!("{person}@example.org {}\n", self.key(person))
    }

    pub fn write(&self, path: &str, content: &str) {
        let file = self.path(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        self.git(&["add", path]);
    }

    pub fn list(&self, people: &[&str]) {
        self.write(LIST, &people.iter().map(|person| self.line(person)).collect::<String>());
    }

    pub fn signing(&self, person: &str) -> [String; 4] {
        self.key(person);
        let key = self.path("keys").join(person);
        ["-c".to_owned(), "gpg.format=ssh".to_owned(), "-c".to_owned(), format!("user.signingKey={}", key.display())]
    }

    /// A commit of what was written, signed by one person.
    pub fn signed(&mut self, person: &str) -> Revision {
        self.now += 60;
        let signing = self.signing(person);
        let mut arguments: Vec<&str> = signing.iter().map(String::as_str).collect();
        arguments.extend(["commit", "-q", "-S", "--allow-empty", "-m", "change"]);
        self.git(&arguments);
        self.revision("HEAD")
    }

    pub fn unsigned(&mut self) -> Revision {
        self.now += 60;
        self.git(&["commit", "-q", "--no-gpg-sign", "--allow-empty", "-m", "change"]);
        self.revision("HEAD")
    }

    pub fn merge(&mut self, person: &str, branch: &str) -> Revision {
        self.now += 60;
        let signing = self.signing(person);
        let mut arguments: Vec<&str> = signing.iter().map(String::as_str).collect();
        arguments.extend(["merge", "-q", "-S", "--no-ff", "-m", "merge", branch]);
        self.git(&arguments);
        self.revision("HEAD")
    }

    pub fn raw(&self, revision: &Revision) -> String {
        String::from_utf8(self.git_with(&["cat-file", "commit", revision.as_str()], None)).unwrap()
    }

    /// Puts a commit object in by its bytes, on the branch.
    pub fn put(&self, bytes: &str) -> Revision {
        let written =
            self.git_with(&["hash-object", "-t", "commit", "-w", "--stdin", "--literally"], Some(bytes.as_bytes()));
        let revision = String::from_utf8(written).unwrap();
        self.git(&["reset", "-q", "--soft", revision.trim()]);
        self.revision("HEAD")
    }

    /// A commit signed by hand, in any namespace.
    pub fn signed_in(&mut self, person: &str, namespace: &str) -> Revision {
        let unsigned = self.unsigned();
        let payload = self.raw(&unsigned);
        self.key(person);
        let mut command = self.command("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(self.path("keys").join(person));
        let output = self.run(&mut command, Some(payload.as_bytes()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let signature = String::from_utf8(output.stdout).unwrap();
        self.put(&with_header(&payload, &header("gpgsig", &signature)))
    }

    pub fn history(&self, tip: &Revision) -> History {
        let repository = git2::Repository::open(self.root.path()).unwrap();
        let odb = repository.odb().unwrap();
        let (mut commits, mut signers) = (Vec::new(), BTreeMap::new());
        let mut next = Some(git2::Oid::from_str(tip.as_str()).unwrap());
        while let Some(id) = next {
            let revision: Revision = id.to_string().parse().unwrap();
            let bytes = odb.read(id).unwrap().data().to_vec();
            // A commit that nobody can read has no files and ends the path, as in `world::git`.
            let commit = Commit::parse(&bytes).ok();
            commits.push(RawCommit { revision: revision.clone(), bytes });
            let files = commit.as_ref().map(|commit| signer_files(&repository, &commit.tree)).unwrap_or_default();
            signers.insert(revision, files.into());
            next = commit.and_then(|commit| commit.parents.first().map(|parent| parent.as_str().parse().unwrap()));
        }
        History { tip: tip.clone(), commits, signers }
    }

    /// What `git verify-commit` says, with the list of the commit's first parent.
    pub fn git_accepts(&self, revision: &Revision) -> bool {
        let list = self.run(self.command("git").args(["show", &format!("{revision}^1:{LIST}")]), None).stdout;
        std::fs::write(self.path("keys").join("list"), list).unwrap();
        let option = format!("gpg.ssh.allowedSignersFile={}", self.path("keys").join("list").display());
        let mut command = self.command("git");
        self.run(command.args(["-c", &option, "verify-commit", revision.as_str()]), None).status.success()
    }
}

fn signer_files(repository: &git2::Repository, tree: &ObjectId) -> SignerFiles {
    let mut files = SignerFiles::default();
    let tree = repository.find_tree(git2::Oid::from_bytes(tree.as_bytes()).unwrap());
    let directory = tree.ok().and_then(|tree| tree.get_path("signers".as_ref()).ok());
    let directory = directory.map(|entry| repository.find_tree(entry.id()).unwrap());
    for entry in directory.iter().flat_map(git2::Tree::iter) {
        let bytes = repository.find_blob(entry.id()).unwrap().content().to_vec();
        match entry.name().unwrap() {
            "allowed_signers" => files.allowed_signers = Some(bytes),
            name if name.ends_with(".asc") => _ = files.keys.insert(name.to_owned(), bytes),
            _ => {}
        }
    }
    files
}

pub fn header(name: &str, value: &str) -> String {
    format!("{name} {}\n", value.trim_end().replace('\n', "\n "))
}

/// The commit with one more header, after its others.
pub fn with_header(commit: &str, header: &str) -> String {
    let (head, message) = commit.split_once("\n\n").unwrap();
    format!("{head}\n{header}\n{message}")
}

/// The `gpgsig` header of a commit.
pub fn signature_header(commit: &str) -> String {
    let from = commit.find("gpgsig ").unwrap();
    let end = "-----END SSH SIGNATURE-----\n";
    let length = commit[from..].find(end).unwrap() + end.len();
    commit[from..from + length].to_owned()
}
