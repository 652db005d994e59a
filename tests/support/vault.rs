//! A place for backups, and the jobs that are started upon it as moorline starts them: the order on their input.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value as Json, json};

use super::{Scratch, SftpServer};

/// A backup repository that is not made yet, with data to save beside it. What jobs a test starts, it says itself.
pub struct Vault {
    pub scratch: Scratch,
    server: Option<SftpServer>,
    /// As an order names it.
    pub place: Json,
    /// Where the repository is on disk.
    pub repository: PathBuf,
}

impl Vault {
    /// In a directory.
    pub fn local() -> Self {
        let scratch = Scratch::new();
        let repository = scratch.join("vault");
        Self { server: None, place: json!({ "directory": repository }), scratch, repository }
    }

    /// On an SSH server of its own.
    pub fn sftp() -> Self {
        let (scratch, server) = (Scratch::new(), SftpServer::start());
        let pin = format!("[127.0.0.1]:{} {}\n", server.port(), server.host_key());
        let place = json!({ "sftp": {
            "user": server.user(), "host": "127.0.0.1", "port": server.port(), "path": "backups/alpha",
            "key": server.login_key(), "known_hosts": scratch.write("known_hosts", pin),
        }});
        let repository = server.home().join("backups/alpha");
        Self { scratch, server: Some(server), place, repository }
    }

    /// The SSH server.
    pub fn server(&self) -> &SftpServer {
        self.server.as_ref().expect("it is on a server")
    }

    /// What there is to save.
    pub fn data(&self) -> PathBuf {
        self.scratch.directory("data")
    }

    /// `moorline internals restic`, or what another program makes of it, with its order; what it says can be read.
    pub fn order(&self, mut job: Command, password: &str, task: &Json) -> Child {
        job.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = job.spawn().expect("it starts");
        let order = json!({ "place": self.place, "password": password, "task": task });
        let mut input = child.stdin.take().expect("stdin is piped");
        input.write_all(format!("{order}\n").as_bytes()).expect("it reads its order");
        child
    }
}
