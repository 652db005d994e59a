//! Runs programs to their end and keeps everything they said.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// What a program did.
#[derive(Clone, Debug)]
#[must_use = "a program that failed unnoticed makes the next assertion misleading"]
pub struct Ran {
    pub what: String,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// The standard output, without the line end at its end; panics with everything said if the program failed.
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert!(self.is_success(), "{self}");
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Panics if the program did not fail; returns both streams, for assertions that do not care which one it chose.
    #[track_caller]
    pub fn fails(self) -> String {
        assert!(!self.is_success(), "should have failed: {self}");
        self.said()
    }

    /// Both streams.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, code, stdout, stderr } = self;
        let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "{what}: ended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// `run` on a [`Command`].
pub trait Run {
    /// Runs to the end with an empty standard input.
    fn run(&mut self) -> Ran;
    /// Runs to the end with `input` as standard input.
    fn run_with(&mut self, input: &[u8]) -> Ran;
}

impl Run for Command {
    #[track_caller]
    fn run(&mut self) -> Ran {
        let what = line(self);
        let output = self.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        ran(what, &output)
    }

    #[track_caller]
    fn run_with(&mut self, input: &[u8]) -> Ran {
        use std::io::Write as _;
        let what = line(self);
        let mut child = self
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        let output = std::thread::scope(|scope| {
            // A program that stops reading early has its reasons; its exit status tells them.
            scope.spawn(move || pipe.write_all(input).ok());
            child.wait_with_output()
        });
        ran(what.clone(), &output.unwrap_or_else(|error| panic!("cannot wait for {what}: {error}")))
    }
}

fn ran(what: String, output: &Output) -> Ran {
    Ran {
        what,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
