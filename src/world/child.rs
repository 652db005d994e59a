//! Starts other programs: arguments as a list, never a shell; own process group, no input, clean environment,
//! a time limit, bounded output.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::decide::retry::CUT;

/// How much of each output stream is kept. A model of 100 services is about 300 KiB.
const OUTPUT_LIMIT: usize = 8 * 1024 * 1024;

/// How long a child may take to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// The environment of every child, whatever ours is.
pub const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
];

/// A program to start, and its bounds.
#[derive(Debug, Clone)]
pub struct Child {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    limit: Duration,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, as text.
    pub stderr: String,
}

/// Why there is no exit code.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It took too long and was ended, with everything it started.
    #[error("{program} did not end within {seconds}s and was ended")]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        seconds: u64,
    },
    /// It wrote more than we are willing to keep.
    #[error("{program} wrote more than {OUTPUT_LIMIT} bytes and was ended")]
    TooLoud {
        /// The program.
        program: String,
    },
    /// Its output could not be read.
    #[error("the output of {program} cannot be read")]
    Output {
        /// The program.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl Child {
    /// A program with an empty environment but for `PATH`, `HOME` and the C locale.
    pub fn new(program: impl Into<OsString>, limit: Duration) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: ENVIRONMENT.map(|(name, value)| (name.into(), value.into())).into(),
            directory: None,
            limit,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.into()));
        self
    }

    /// Bounds it, and each process that it starts, by options of `prlimit`. They come before the program's own arguments,
    /// wherever those were added.
    #[must_use]
    pub fn within(mut self, bounds: &[&str]) -> Self {
        let program = std::mem::replace(&mut self.program, "prlimit".into());
        let bounds = bounds.iter().map(OsString::from).chain(["--".into(), program]);
        self.arguments.splice(0..0, bounds);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Runs it to its end.
    pub async fn run(self) -> Result<Ended, ChildError> {
        let name = self.program.to_string_lossy().into_owned();
        #[allow(clippy::disallowed_methods, reason = "the one place that starts a child")]
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn().map_err(|source| ChildError::Start { program: name.clone(), source })?;
        let group = Group::of(&child);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let finished = tokio::time::timeout(self.limit, async {
            let (stdout, stderr) = tokio::try_join!(read_bounded(stdout), read_bounded(stderr))?;
            Ok::<_, ReadError>((stdout, stderr, child.wait().await.map_err(ReadError::Io)?))
        })
        .await;
        match finished {
            Ok(Ok((stdout, stderr, status))) => {
                group.disarm();
                let stderr = String::from_utf8_lossy(&stderr).into_owned();
                Ok(Ended { code: status.code(), stdout, stderr })
            }
            Ok(Err(ReadError::TooLong)) => Err(ChildError::TooLoud { program: name }),
            Ok(Err(ReadError::Io(source))) => Err(ChildError::Output { program: name, source }),
            Err(_) => {
                group.signal(Signal::TERM);
                let _ = tokio::time::timeout(GRACE, child.wait()).await;
                Err(ChildError::TimedOut { program: name, seconds: self.limit.as_secs() })
            }
        }
    }
}

impl Ended {
    /// Whether it ended with exit code 0.
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The last lines of what it said, for the cause of a fault; and that a signal ended it, which it cannot say itself.
    pub fn last_words(&self, lines: usize) -> Vec<String> {
        let spoken: Vec<_> = self.stderr.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
        let last = spoken.iter().skip(spoken.len().saturating_sub(lines)).map(|line| (*line).to_owned());
        let killed = self.code.is_none().then(|| CUT.to_owned());
        last.chain(killed).collect()
    }
}

/// Ends the whole process group unless the child ended by itself: also when the run that started it is dropped.
#[derive(Debug)]
pub(super) struct Group(Option<Pid>);

impl Group {
    /// The group that a child leads.
    pub(super) fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    /// Sends a signal to all of it.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // The group may be gone already; then there is nothing to end.
            let _ = kill_process_group(group, signal);
        }
    }

    /// It has ended by itself.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Whether a process with this number lives. `/proc` is not asked: a unit with `ProtectProc=` sees only a part of it.
pub fn lives(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    process.is_some_and(|process| test_kill_process(process) != Err(rustix::io::Errno::SRCH))
}

enum ReadError {
    TooLong,
    Io(std::io::Error),
}

async fn read_bounded(stream: impl AsyncRead + Unpin) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let mut bounded = stream.take(OUTPUT_LIMIT as u64 + 1);
    bounded.read_to_end(&mut bytes).await.map_err(ReadError::Io)?;
    if bytes.len() > OUTPUT_LIMIT {
        return Err(ReadError::TooLong);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(program: &str) -> Child {
        Child::new(program, Duration::from_secs(20))
    }

    #[tokio::test]
    async fn output_and_exit_code_come_back_and_the_environment_is_clean() {
        let ended = child("env").env("ONLY", "this").run().await.unwrap();
        let text = String::from_utf8(ended.stdout).unwrap();
        assert!(text.contains("ONLY=this") && !text.contains("CARGO"), "{text}");
        assert_eq!(child("false").run().await.unwrap().code, Some(1));
        let killed = child("kill").args(["-KILL", "0"]).run().await.unwrap();
        assert_eq!(killed.last_words(1), [CUT]);
    }

    #[tokio::test]
    async fn a_child_that_takes_too_long_is_ended() {
        let error = Child::new("sleep", Duration::from_millis(50)).args(["60"]).run().await.unwrap_err();
        assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_never_stops_talking_is_ended() {
        let error = child("yes").run().await.unwrap_err();
        assert!(matches!(error, ChildError::TooLoud { .. }), "{error}");
    }

    #[test]
    fn a_process_lives_or_not() {
        assert!(lives(std::process::id()) && lives(1));
        assert!(!lives(u32::MAX) && !lives(0));
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error_that_names_it() {
        let error = child("no-such-program").run().await.unwrap_err();
        assert_eq!(error.to_string(), "no-such-program cannot be started");
    }
}
