//! Talks with a second process of our own program: a question, an answer, a bounded wait.
//!
//! The other side sets its own limits before it touches anything (see [`bound`]), and ends with its input.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, setrlimit};

/// This program, also when the file it was started from was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// The longest line of an answer.
const LONGEST_LINE: usize = 4096;

/// A process that answers.
#[derive(Debug)]
pub struct Dialogue {
    child: Child,
    questions: Option<ChildStdin>,
    answers: ChildStdout,
    heard: Vec<u8>,
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Silence {
    /// It could not be started, or the pipe does not work.
    System(io::Error),
    /// It ended.
    Ended(ExitStatus),
    /// It took too long.
    TimedOut(Duration),
    /// It said something that is no answer.
    Nonsense,
}

impl Silence {
    /// Whether it is likelier that a file changed under its hands than that it hit a limit.
    pub fn is_damage(&self) -> bool {
        match self {
            Silence::Ended(status) => status.signal() == Some(Signal::BUS.as_raw()),
            Silence::System(_) | Silence::Nonsense => true,
            Silence::TimedOut(_) => false,
        }
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::System(error) => write!(f, "the reading process does not work: {error}"),
            Silence::Ended(status) => match status.signal().and_then(Signal::from_named_raw) {
                Some(Signal::XCPU | Signal::KILL) => f.write_str("the reading process used up its processor time"),
                Some(Signal::ABORT | Signal::SEGV) => f.write_str("the reading process used up its memory"),
                Some(Signal::BUS) => f.write_str("a file of the clone was cut off while it was read"),
                _ => write!(f, "the reading process ended early: {status}"),
            },
            Silence::TimedOut(patience) => {
                write!(f, "the reading process did not answer within {} s", patience.as_secs())
            }
            Silence::Nonsense => f.write_str("the reading process gave no answer that makes sense"),
        }
    }
}

impl Dialogue {
    /// Starts this program once more with these arguments. Each answer may take as long as `patience`.
    pub fn start(arguments: &[&std::ffi::OsStr], patience: Duration) -> Result<Self, Silence> {
        #[allow(clippy::disallowed_methods, reason = "our own program, which bounds itself before it does anything")]
        let mut command = std::process::Command::new(OURSELVES);
        command
            .arg0("moorline")
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = command.spawn().map_err(Silence::System)?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().expect("stdout is piped");
        Ok(Self { child, questions, answers, heard: Vec::new(), patience })
    }

    /// Asks; the first line of the answer.
    pub fn ask(&mut self, question: &str) -> Result<String, Silence> {
        let asked = self.questions.as_mut().map_or(Ok(()), |pipe| pipe.write_all(format!("{question}\n").as_bytes()));
        if asked.is_err() {
            return Err(self.ended());
        }
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).take(end).collect();
                return String::from_utf8(line).map_err(|_| Silence::Nonsense);
            }
            if self.heard.len() > LONGEST_LINE {
                return Err(Silence::Nonsense);
            }
            self.listen()?;
        }
    }

    /// So many bytes that follow the line.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Silence> {
        while self.heard.len() < count {
            self.listen()?;
        }
        let rest = self.heard.split_off(count);
        Ok(std::mem::replace(&mut self.heard, rest))
    }

    fn listen(&mut self) -> Result<(), Silence> {
        let limit = Timespec::try_from(self.patience).map_err(|_| Silence::Nonsense)?;
        let mut ready = [PollFd::new(&self.answers, PollFlags::IN)];
        match poll(&mut ready, Some(&limit)) {
            Ok(0) => return Err(Silence::TimedOut(self.patience)),
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(Silence::System(error.into())),
            Ok(_) => {}
        }
        let mut piece = [0; 64 * 1024];
        match self.answers.read(&mut piece) {
            Ok(0) => Err(self.ended()),
            Ok(count) => {
                self.heard.extend_from_slice(&piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Silence::System(error)),
        }
    }

    /// How it ended, once it has closed its side.
    fn ended(&mut self) -> Silence {
        self.end();
        self.child.wait().map_or_else(Silence::System, Silence::Ended)
    }

    /// Nothing else can be meant by the id: the child is waited for only after this.
    fn end(&mut self) {
        drop(self.questions.take());
        if let Ok(None) = self.child.try_wait()
            && let Some(group) = Pid::from_raw(self.child.id().cast_signed())
        {
            // It is ending already, or it is to.
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Ok(None) = self.child.try_wait() {
            if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// Sets the limits of this process, for good: bytes of memory, seconds of processor time, no files, no core.
pub fn bound(memory: u64, seconds: u64) -> io::Result<()> {
    let limits = [(Resource::As, memory), (Resource::Cpu, seconds), (Resource::Fsize, 0), (Resource::Core, 0)];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}
