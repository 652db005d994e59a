//! Watches a version on trial. Nothing depends on what the version itself says of how it goes, but for the report of its
//! run: it is a child, its time is measured here, and it dies with whoever watches.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::hand_over;
use crate::decide::succession::{Verdict, Word, word};
use crate::world::{Real, World, ledger, systemd};

/// This program, whatever its name is by now.
const OURSELVES: &str = "/proc/self/exe";
/// How long a trial may take where systemd does not watch.
const LIMIT: Duration = Duration::from_mins(5);
/// How often it is looked for a report.
const LOOK: Duration = Duration::from_millis(100);
/// How long a version may take to end when it is told to.
const GRACE: Duration = Duration::from_secs(30);

/// Lets a program be the keeper until it has finished a run or its time is over.
pub(super) async fn try_release(world: &Real, program: &Path) -> Verdict {
    let limit = systemd::watchdog_limit().unwrap_or(LIMIT);
    let before: BTreeSet<String> = ledger::runs(&world.settings().state).unwrap_or_default().into_iter().collect();
    let mut child = match begin(&world.settings().state, program) {
        Ok(child) => child,
        Err(error) => return Verdict::Refused(format!("it cannot be started: {error}")),
    };
    // For systemd we are the service for as long as this takes.
    systemd::ready();
    systemd::status("a version of moorline is on trial");
    let mut last = None;
    let verdict = tokio::select! {
        verdict = watch(world, &mut child, &before, &mut last) => verdict,
        () = world.stop().ordered() => Verdict::Interrupted,
        () = tokio::time::sleep(limit) => match last {
            Some(trouble) => Verdict::Doubtful(trouble),
            None => Verdict::Refused(format!("it did not finish a run within {} s", limit.as_secs())),
        },
    };
    end(&mut child).await;
    verdict
}

/// As this process was started, but without a word to systemd, which would take it for ours.
fn begin(state: &Path, program: &Path) -> std::io::Result<Child> {
    let watcher = std::process::id();
    #[allow(clippy::disallowed_methods, reason = "our own program, with the environment of a service")]
    let mut command = Command::new(OURSELVES);
    command
        .arg0("moorline")
        .args(["internals", "trial", "--watcher", &watcher.to_string(), "--"])
        .arg(program)
        .arg(hand_over::package(state))
        .args(std::env::args_os().skip(1))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Returns when it has said enough, or has ended. `last` is what the last run was in trouble with.
async fn watch(world: &Real, child: &mut Child, before: &BTreeSet<String>, last: &mut Option<String>) -> Verdict {
    let state = &world.settings().state;
    let ending = format!("-{}", child.id().unwrap_or_default());
    let mut seen = before.clone();
    loop {
        let ended = tokio::time::timeout(LOOK, child.wait()).await;
        let runs = ledger::runs(state).unwrap_or_default();
        let news: Vec<String> = runs.into_iter().filter(|run| run.ends_with(&ending) && !seen.contains(run)).collect();
        for run in news {
            let Ok(report) = ledger::read_report(state, &run) else { continue };
            match word(&report) {
                Word::Quiet => return Verdict::Passed,
                Word::Acts(what) => return Verdict::Doubtful(what),
                Word::Trouble(what) => *last = Some(what),
            }
            seen.insert(run);
        }
        match ended {
            Ok(Ok(status)) => return Verdict::Refused(format!("it ended by itself: {}", words(status))),
            Ok(Err(error)) => return Verdict::Refused(format!("its end could not be seen: {error}")),
            Err(_) => {}
        }
    }
}

fn words(status: ExitStatus) -> String {
    status.to_string()
}

/// Tells it to end, and sees to it.
async fn end(child: &mut Child) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    // None has ended already.
    if let Some(pid) = pid {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
