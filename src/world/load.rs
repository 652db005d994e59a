//! Runs a command in a container and feeds it a file: the way of a dump back into a database. What it says is bounded,
//! and how it ended is asked of the engine.

use std::io::Read;
use std::time::Duration;

use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::decide::fault::{Code, Fault};
use crate::decide::redact;
use crate::world::docker::Engine;

/// How much is handed over at once.
const PIECE: usize = 64 * 1024;
/// How long a command may take neither input nor its end: it builds an index, or waits for a lock that nobody gives back.
const STALL: Duration = Duration::from_mins(60);
/// How much of what a command says is kept: the end of it.
const SAID: usize = 64 * 1024;
/// How many lines of it.
const LINES: usize = 1000;

/// A command in a container.
#[derive(Debug)]
pub struct Fed<'a> {
    /// The container's id.
    pub container: &'a str,
    /// The command.
    pub command: &'a [String],
    /// Variables of its environment: the engine shows arguments to whoever asks, but not these.
    pub variables: Vec<String>,
    /// What is taken out of what it says.
    pub secrets: &'a [&'a str],
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit status; none when the engine does not know it.
    pub status: Option<i64>,
    /// The last lines that it said, without secrets.
    pub said: Vec<String>,
}

/// Runs the command to its end. `look` is asked now and then; what it answers ends the command's input.
pub async fn feed(
    engine: &Engine,
    fed: Fed<'_>,
    input: &mut impl Read,
    look: &dyn Fn() -> Result<(), Fault>,
) -> Result<Ended, Fault> {
    let refused = |error: Error| Fault::new(Code::StepFailed, "the engine refused the command").caused_by(&error);
    let options = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(fed.command.to_vec()),
        env: Some(fed.variables),
        ..ExecConfig::default()
    };
    let exec = engine.docker()?.create_exec(fed.container, options).await.map_err(refused)?.id;
    let started = engine.docker()?.start_exec(&exec, None).await.map_err(refused)?;
    let StartExecResults::Attached { mut output, input: mut pipe } = started else {
        return Err(Fault::new(Code::StepFailed, "the engine did not attach to the command"));
    };
    let mut said = Vec::new();
    {
        let hear = async {
            while let Some(Ok(part)) = output.next().await {
                // What it prints besides is of no use here, but a program that complains there is heard, too.
                said.extend_from_slice(&part.into_bytes());
                let too_many = said.len().saturating_sub(SAID);
                said.drain(..too_many);
            }
        };
        tokio::pin!(hear);
        tokio::select! {
            biased;
            // It may well end before it has read everything.
            () = &mut hear => {}
            handed = hand_over(input, &mut pipe, look) => {
                handed?;
                tokio::time::timeout(STALL, &mut hear).await.map_err(|_| stalled())?;
            }
        }
    }
    let asked = engine.docker()?.inspect_exec(&exec).await;
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&said).into_owned());
    Ok(Ended {
        status: asked.ok().and_then(|exec| exec.exit_code),
        said: redact::last_lines(&text, LINES, fed.secrets),
    })
}

async fn hand_over(
    input: &mut impl Read,
    pipe: &mut (impl AsyncWrite + Unpin),
    look: &dyn Fn() -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut piece = vec![0; PIECE];
    let mut pieces = 0_u64;
    loop {
        let count = input
            .read(&mut piece)
            .map_err(|error| Fault::new(Code::StepFailed, "the dump cannot be read").caused_by(&error))?;
        // A command that has ended takes nothing any more; its end says why.
        let handed = match count {
            0 => tokio::time::timeout(STALL, pipe.shutdown()).await,
            count => tokio::time::timeout(STALL, pipe.write_all(&piece[..count])).await,
        };
        if handed.map_err(|_| stalled())?.is_err() || count == 0 {
            return Ok(());
        }
        pieces += 1;
        if pieces.is_multiple_of(64) {
            look()?;
        }
    }
}

fn stalled() -> Fault {
    Fault::new(Code::StepFailed, format!("the database has taken nothing for {} minutes", STALL.as_secs() / 60))
}
