//! A real sshd that lets one key do nothing but SFTP, or nothing but run `rclone serve restic`, as a Storage Box does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::git_server::{SshListener, make_key};
use super::scratch::Scratch;
use super::tools::tool;

/// The server. Dropping it ends it and removes what it stores.
#[derive(Debug)]
pub struct SftpServer {
    // Before the scratch: the listener must not start anything in a directory that is being cleared.
    listener: SshListener,
    scratch: Scratch,
    is_away: Arc<AtomicBool>,
}

impl SftpServer {
    #[track_caller]
    pub fn start() -> Self {
        Self::with_command(|home| format!("internal-sftp -d {}", home.display()))
    }

    /// One that serves the directory `restic` by restic's REST protocol, and lets nothing be deleted or replaced there.
    #[track_caller]
    pub fn append_only() -> Self {
        let rclone = tool("rclone");
        Self::with_command(|home| {
            let served = home.join("restic");
            format!("{} serve restic --stdio --append-only {}", rclone.display(), served.display())
        })
    }

    /// One that lets the key run a command, which is told where the login lands.
    #[track_caller]
    pub fn with_command(command: impl Fn(&Path) -> String) -> Self {
        let scratch = Scratch::new();
        let home = scratch.directory("home");
        make_key(&scratch, "host_key");
        make_key(&scratch, "login_key");
        let public = std::fs::read_to_string(scratch.join("login_key.pub")).expect("ssh-keygen wrote it");
        scratch.write("authorized_keys", format!("command=\"{}\",restrict {public}", command(&home)));
        let locked = std::fs::read_to_string("/etc/shadow")
            .is_ok_and(|shadow| shadow.lines().any(|line| line.starts_with("root:!")));
        scratch.write(
            "sshd_config",
            format!(
                "HostKey {}\nAuthorizedKeysFile {}\nUsePAM {}\nStrictModes no\nPidFile none\nUseDNS no\n\
                 PermitRootLogin forced-commands-only\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PrintMotd no\nSubsystem sftp internal-sftp\nLogLevel VERBOSE\n",
                scratch.join("host_key").display(),
                scratch.join("authorized_keys").display(),
                if locked { "yes" } else { "no" },
            ),
        );
        std::fs::create_dir_all("/run/sshd").ok();
        let is_away = Arc::new(AtomicBool::new(false));
        let listener = SshListener::start(&scratch, is_away.clone());
        Self { listener, scratch, is_away }
    }

    /// Where the login lands.
    pub fn home(&self) -> PathBuf {
        self.scratch.join("home")
    }

    pub fn port(&self) -> u16 {
        self.listener.port
    }

    pub fn user(&self) -> &str {
        &self.listener.user
    }

    /// A second private key that may log in, and may do everything.
    pub fn second_key(&self, name: &str) -> PathBuf {
        make_key(&self.scratch, name);
        let keys = std::fs::read_to_string(self.scratch.join("authorized_keys")).expect("it is there");
        let public = std::fs::read_to_string(self.scratch.join(format!("{name}.pub"))).expect("ssh-keygen wrote it");
        let line = format!("command=\"internal-sftp -d {}\",restrict {public}", self.home().display());
        self.scratch.write("authorized_keys", format!("{keys}{line}"));
        self.scratch.join(name)
    }

    /// From now on the first key may not do this: names of SFTP's requests.
    pub fn deny_login_key(&self, requests: &str) {
        let keys = std::fs::read_to_string(self.scratch.join("authorized_keys")).expect("it is there");
        self.scratch
            .write("authorized_keys", keys.replacen("internal-sftp", &format!("internal-sftp -P {requests}"), 1));
    }

    /// What an operator writes as the repository.
    pub fn url(&self, path: &str) -> String {
        format!("sftp://{}@127.0.0.1:{}/{path}", self.user(), self.port())
    }

    /// The private key that may log in.
    pub fn login_key(&self) -> PathBuf {
        self.scratch.join("login_key")
    }

    /// The server's key, as an operator pins it.
    pub fn host_key(&self) -> String {
        let line = std::fs::read_to_string(self.scratch.join("host_key.pub")).expect("ssh-keygen wrote it");
        line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim_end().to_owned()
    }

    /// Gives the server another host key, as a server in the middle would have.
    pub fn change_host_key(&self) {
        for name in ["host_key", "host_key.pub"] {
            std::fs::remove_file(self.scratch.join(name)).expect("the server has a host key");
        }
        make_key(&self.scratch, "host_key");
    }

    /// Ends every connection that is open now. New ones are taken.
    pub fn cut(&self) {
        self.listener.cut();
    }

    /// Takes connections and drops them at once, until the end.
    pub fn go_away(&self) {
        self.is_away.store(true, Ordering::SeqCst);
        self.cut();
    }
}
