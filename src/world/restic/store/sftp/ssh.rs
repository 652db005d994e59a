//! One `ssh -s sftp` child and its pipes: packets out, packets in, each with a bounded wait.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;

use super::super::super::order::Login;
use super::super::super::trouble::{Kind, Trouble};
use super::super::pace::Pace;
use super::super::ssh::{LONGEST_WORDS, arguments, trouble};
use super::packet::{LONGEST, Reply, nonsense};
use crate::world::child::ENVIRONMENT;

/// How long the server may keep silent while we wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection. Dropping it ends it.
#[derive(Debug)]
pub struct Ssh {
    child: Child,
    requests: Option<ChildStdin>,
    replies: ChildStdout,
    pace: Arc<Pace>,
}

impl Ssh {
    /// Starts ssh. It connects while we go on.
    pub fn start(login: &Login, pace: Arc<Pace>) -> Result<Self, Trouble> {
        let missing = |error: io::Error| Trouble::new(Kind::Internal, format!("ssh cannot be started: {error}"));
        #[allow(clippy::disallowed_methods, reason = "a conversation over two pipes, which `Child` does not have")]
        let mut command = std::process::Command::new("ssh");
        command
            .args(arguments(login))
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
        Ok(Self { child, requests, replies, pace })
    }

    /// Sends packets.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), Trouble> {
        self.pace.upload(bytes.len() as u64);
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
        self.pace.download(length as u64);
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
        trouble(&words, otherwise)
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

/// Waits until something can be done.
fn wait(descriptor: PollFd<'_>) -> Result<(), Trouble> {
    let limit = Timespec::try_from(PATIENCE).map_err(|_| nonsense())?;
    match poll(&mut [descriptor], Some(&limit)) {
        Ok(0) => Err(Trouble::new(Kind::Away, format!("the server did not answer within {} s", PATIENCE.as_secs()))),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Trouble::new(Kind::Internal, error.to_string())),
    }
}
