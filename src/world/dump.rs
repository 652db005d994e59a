//! Runs a command in a container and hands its output on while it comes: the dumps of databases.
//!
//! Whoever reads gets the end of the output only if the command worked and the output is whole; otherwise an error
//! stands there, so that no reader can take half a dump for one.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::runtime::Runtime;

use crate::decide::backup::dump::{self, Seen, Stream, TAIL};
use crate::decide::fault::{Code, Fault};
use crate::decide::redact;
use crate::model::backup::Dump;
use crate::model::{Secret, State};
use crate::world::docker::Engine;

/// How long a command may print nothing: it waits for a lock that nobody gives back.
const SILENCE: Duration = Duration::from_mins(30);
/// How often whoever waits is told that it still runs.
const BEAT: Duration = Duration::from_secs(60);
/// How long the engine may take for an answer of its own.
const ANSWER: Duration = Duration::from_secs(60);
/// How much of what a command says besides is kept: the end of it.
const SAID: usize = 8 * 1024;
/// How many lines of it are shown.
const LINES: usize = 4;
/// How much a list of databases may have.
const LONGEST_LIST: u64 = 1024 * 1024;

type Output = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, Error>> + Send>>;

/// The output of a command in a container.
///
/// It has an event loop of its own, so it must be read outside of any other.
pub struct Dumping {
    runtime: Runtime,
    engine: Engine,
    exec: String,
    output: Output,
    stream: Stream,
    password: Option<Secret<String>>,
    waiting: Vec<u8>,
    read: usize,
    length: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    said: Vec<u8>,
    end: Option<Result<(), String>>,
    beat: Box<dyn FnMut() + Send>,
}

impl std::fmt::Debug for Dumping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dumping({:?}, {} bytes)", self.stream.to, self.length)
    }
}

/// The commands of a dump. Asks the database which databases it has, if the dump names none.
pub fn streams(
    engine: &Engine,
    stack: &str,
    dump: &Dump,
    password: Option<&Secret<String>>,
) -> Result<Vec<Stream>, Fault> {
    let Some(listing) = dump::listing(dump) else { return Ok(dump::streams(dump, &[])) };
    let to = listing.to.clone();
    let failed = |why: &dyn std::error::Error| {
        Fault::new(Code::StepFailed, format!("the databases of dump {to} cannot be listed")).caused_by(why)
    };
    let mut output = Vec::new();
    let mut listing = io::Read::take(begin(engine, stack, listing, password)?, LONGEST_LIST);
    io::Read::read_to_end(&mut listing, &mut output).map_err(|error| failed(&error))?;
    Ok(dump::streams(dump, &dump::listed(&output)))
}

/// Begins a command of a dump in the running container of its service.
pub fn begin(
    engine: &Engine,
    stack: &str,
    stream: Stream,
    password: Option<&Secret<String>>,
) -> Result<Dumping, Fault> {
    let failed = |because: &str| {
        Fault::new(Code::StepFailed, format!("dump {} cannot begin", stream.to)).because(because.to_owned())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("the system gives no event queue").caused_by(&error))?;
    let password = stream.password.as_ref().and(password).cloned();
    let (exec, output) = runtime.block_on(async {
        let observed = engine.observe().await?;
        let container = observed
            .of(stack)
            .find(|container| container.service == stream.service && container.state == State::Running)
            .ok_or_else(|| failed(&format!("no container of `{}` runs", stream.service)))?;
        let variable = stream.password.as_ref().zip(password.as_ref());
        let options = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(stream.command.clone()),
            // The engine shows the arguments of a command to whoever asks, but not its environment.
            env: variable.map(|((name, _), password)| vec![format!("{name}={}", password.expose())]),
            ..ExecConfig::default()
        };
        let refused =
            |error: Error| failed(&format!("the engine refused the command in `{}`", stream.service)).caused_by(&error);
        let exec = engine.docker()?.create_exec(&container.id, options).await.map_err(refused)?.id;
        match engine.docker()?.start_exec(&exec, None).await.map_err(refused)? {
            StartExecResults::Attached { output, .. } => Ok((exec, output)),
            StartExecResults::Detached => Err(failed("the engine did not attach to the command")),
        }
    })?;
    Ok(Dumping {
        runtime,
        engine: engine.clone(),
        exec,
        output,
        stream,
        password,
        waiting: Vec::new(),
        read: 0,
        length: 0,
        head: Vec::new(),
        tail: Vec::new(),
        said: Vec::new(),
        end: None,
        beat: Box::new(|| ()),
    })
}

impl Dumping {
    /// Calls this again and again while nothing is printed: some commands print nothing before they have all of it.
    #[must_use]
    pub fn beating(mut self, beat: impl FnMut() + Send + 'static) -> Self {
        self.beat = Box::new(beat);
        self
    }

    /// Waits for more output; false at its end.
    fn more(&mut self) -> Result<bool, String> {
        let Self { runtime, output, stream, beat, .. } = self;
        let printed = async {
            loop {
                match tokio::time::timeout(BEAT, output.next()).await {
                    Ok(next) => return next,
                    Err(_) => beat(),
                }
            }
        };
        let next = runtime.block_on(async { tokio::time::timeout(SILENCE, printed).await });
        let what = || format!("dump {}", stream.to);
        match next {
            Err(_) => Err(format!("{}: `{}` has printed nothing for half an hour", what(), stream.service)),
            Ok(Some(Err(error))) => Err(format!("{}: the engine's connection ended: {error}", what())),
            Ok(None) => Ok(false),
            Ok(Some(Ok(LogOutput::StdErr { message }))) => {
                keep_end(&mut self.said, &message, SAID);
                Ok(true)
            }
            Ok(Some(Ok(output))) => {
                self.waiting = output.into_bytes().to_vec();
                self.read = 0;
                self.length += self.waiting.len() as u64;
                let wanted = self.stream.begins.len().saturating_sub(self.head.len()).min(self.waiting.len());
                self.head.extend_from_slice(&self.waiting[..wanted]);
                keep_end(&mut self.tail, &self.waiting, TAIL);
                Ok(true)
            }
        }
    }

    /// How the command ended, and whether what it printed is whole.
    fn judge(&self) -> Result<(), String> {
        let status = self.runtime.block_on(async {
            let asked = tokio::time::timeout(ANSWER, self.engine.docker().ok()?.inspect_exec(&self.exec)).await;
            asked.ok()?.ok()?.exit_code
        });
        let secrets: Vec<&str> = self.password.iter().map(|password| password.expose().as_str()).collect();
        let said = redact::last_lines(&String::from_utf8_lossy(&self.said), LINES, &secrets).join(" ");
        let seen = Seen { status, length: self.length, head: &self.head, tail: &self.tail, said: &said };
        dump::judge(&self.stream, &seen)
    }
}

impl io::Read for Dumping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.read < self.waiting.len() && !buffer.is_empty() {
                let count = buffer.len().min(self.waiting.len() - self.read);
                buffer[..count].copy_from_slice(&self.waiting[self.read..self.read + count]);
                self.read += count;
                return Ok(count);
            }
            // Whoever reads on after the end gets the same answer again.
            let end = match &self.end {
                Some(end) => end.clone(),
                None => match self.more() {
                    Ok(true) => continue,
                    Ok(false) => self.judge(),
                    Err(why) => Err(why),
                },
            };
            self.end = Some(end.clone());
            return end.map(|()| 0).map_err(io::Error::other);
        }
    }
}

fn keep_end(kept: &mut Vec<u8>, new: &[u8], most: usize) {
    kept.extend_from_slice(&new[new.len().saturating_sub(most)..]);
    let too_many = kept.len().saturating_sub(most);
    kept.drain(..too_many);
}
