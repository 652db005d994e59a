//! One `ssh -s sftp` child and its pipes: packets out, packets in, each with a bounded wait.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;

use super::super::super::order::Login;
use super::super::super::trouble::{Kind, Trouble};
use super::packet::{LONGEST, Reply, nonsense};
use crate::decide::last_words::{Meaning, meaning};
use crate::world::child::ENVIRONMENT;

/// How long the server may keep silent while we wait for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of ssh's own words is kept.
const LONGEST_WORDS: u64 = 16 * 1024;

/// A connection. Dropping it ends it.
#[derive(Debug)]
pub struct Ssh {
    child: Child,
    requests: Option<ChildStdin>,
    replies: ChildStdout,
}

impl Ssh {
    /// Starts ssh. It connects while we go on.
    pub fn start(login: &Login) -> Result<Self, Trouble> {
        let missing = |error: io::Error| Trouble::new(Kind::Internal, format!("ssh cannot be started: {error}"));
        #[allow(clippy::disallowed_methods, reason = "a conversation over two pipes, which `Child` does not have")]
        let mut command = std::process::Command::new("ssh");
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        command
            .args(["-F", "/dev/null", "-p", &login.port.to_string(), "-l", &login.user])
            .args(["-o", &option("IdentityFile", &login.key), "-o", &option("UserKnownHostsFile", &login.known_hosts)])
            .args(FIXED.iter().flat_map(|option| ["-o", option]))
            .args(["-s", "--", &login.host, "sftp"])
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(missing)?;
        let requests = child.stdin.take();
        let replies = child.stdout.take().expect("stdout is piped");
        if let Some(requests) = &requests {
            ioctl_fionbio(requests, true).map_err(|error| missing(error.into()))?;
        }
        ioctl_fionbio(&replies, true).map_err(|error| missing(error.into()))?;
        Ok(Self { child, requests, replies })
    }

    /// Sends packets.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        while !bytes.is_empty() {
            let Some(requests) = &mut self.requests else { return Err(nonsense()) };
            match requests.write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(PollFd::new(requests, PollFlags::OUT))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
        Ok(())
    }

    /// The next packet.
    pub fn receive(&mut self) -> Result<Reply, Trouble> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > LONGEST + 1024 {
            return Err(nonsense());
        }
        let mut packet = vec![0; length];
        self.fill(&mut packet)?;
        Reply::new(packet)
    }

    fn fill(&mut self, mut space: &mut [u8]) -> Result<(), Trouble> {
        while !space.is_empty() {
            match self.replies.read(space) {
                Ok(0) => return Err(self.broken("the connection was closed")),
                Ok(count) => {
                    space = &mut space[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(PollFd::new(&self.replies, PollFlags::IN))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
        Ok(())
    }

    /// What it means that ssh ended, by its own words.
    fn broken(&mut self, otherwise: &str) -> Trouble {
        self.end();
        let mut words = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            // It has ended, so this comes to an end too.
            let _ = stderr.take(LONGEST_WORDS).read_to_string(&mut words);
        }
        let last = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(otherwise);
        match meaning(&words) {
            Meaning::HostKeyChanged | Meaning::HostKeyUnknown => {
                let shown = words.split_whitespace().find(|word| word.starts_with("SHA256:"));
                let shown = shown.map(|key| format!("it showed {}", key.trim_end_matches('.')));
                Trouble::new(Kind::HostKeyChanged, shown.as_deref().unwrap_or(last))
            }
            Meaning::KeyRefused => Trouble::new(Kind::LoginRefused, last),
            _ => Trouble::new(Kind::Away, last),
        }
    }

    fn end(&mut self) {
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.end();
    }
}

/// Nothing is asked, nothing is remembered, nothing is shared, and only the pinned key will do.
const FIXED: [&str; 13] = [
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "ServerAliveInterval=20",
    "ServerAliveCountMax=3",
    "ConnectTimeout=20",
    "ControlMaster=no",
    "ControlPath=none",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "LogLevel=ERROR",
];

/// Waits until something can be done.
fn wait(descriptor: PollFd<'_>) -> Result<(), Trouble> {
    let limit = Timespec::try_from(PATIENCE).map_err(|_| nonsense())?;
    match poll(&mut [descriptor], Some(&limit)) {
        Ok(0) => Err(Trouble::new(Kind::Away, format!("the server did not answer within {} s", PATIENCE.as_secs()))),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Trouble::new(Kind::Internal, error.to_string())),
    }
}
