//! The two ends of a conversation with a job: a process of our own that is started for it, or one that systemd starts for
//! whoever has no network (`moorline-job.socket`).

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::OURSELVES;
use crate::world::child::{ENVIRONMENT, Group};

/// How the C library keeps the job's memory: two heaps, not one for each of its many threads, and what is given back is
/// kept for the next one. rustic asks for a compressor of some 100 KiB for each piece of data. `moorline-job@.service` says
/// the same.
const HEAP: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "4194304"), ("MALLOC_TRIM_THRESHOLD_", "33554432")];
/// How many threads a job has for what can be done at the same time.
const THREADS: &str = "4";

/// What is said to a job, what it says, and the job itself. Dropping them ends it.
pub struct Ends {
    pub input: Box<dyn AsyncWrite + Unpin>,
    pub output: Box<dyn AsyncRead + Unpin>,
    job: Job,
}

/// Whose process the job is.
enum Job {
    /// Ours. The group ends the ssh that it started, too, also when whoever waits for us stops waiting.
    Started(Box<Child>, Group),
    /// systemd's: it ends when nobody is connected to it.
    Called,
}

impl Ends {
    /// Starts a process of our own.
    pub fn start() -> io::Result<Self> {
        #[allow(clippy::disallowed_methods, reason = "our own program; `Child` has neither input nor lines")]
        let mut command = Command::new(OURSELVES);
        command
            .arg0("moorline")
            .args(["internals", "restic"])
            .env_clear()
            .envs(ENVIRONMENT)
            .envs(HEAP)
            // Each of rustic's threads may hold a pack, or two.
            .env("RAYON_NUM_THREADS", THREADS)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let group = Group::of(&child);
        let input = Box::new(child.stdin.take().expect("stdin is piped"));
        let output = Box::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { input, output, job: Job::Started(Box::new(child), group) })
    }

    /// Has systemd start one.
    pub async fn call(socket: &Path) -> io::Result<Self> {
        let (output, input) = UnixStream::connect(socket).await?.into_split();
        Ok(Self { input: Box::new(input), output: Box::new(output), job: Job::Called })
    }

    /// After its last word: how the process ended, if it is ours.
    pub async fn end(self) -> io::Result<Option<ExitStatus>> {
        match self.job {
            Job::Started(mut child, group) => {
                let status = child.wait().await?;
                group.disarm();
                Ok(Some(status))
            }
            Job::Called => Ok(None),
        }
    }
}
