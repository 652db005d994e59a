//! What of this host is backed up: the stacks as they should be, each with what goes into its snapshots; and whether it
//! was, for whoever asks.

use jiff::Timestamp;

use crate::decide::backup::due::{self, Clock};
use crate::decide::backup::event::BackupEvent;
use crate::decide::backup::logbook;
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::push::{self, Status};
use crate::decide::{backup, compose};
use crate::model::backup::{BackupStatus, Entry, Job, Logbook, StackBackup};
use crate::model::{Desired, DesiredStack, HostSpec, Settings};
use crate::runs::backup::known::Known;
use crate::runs::backup::snapshot::Outcome;
use crate::world::World;

/// What goes into the snapshots of each stack, in the order of `host.yaml`.
pub fn plans(desired: &Desired, settings: &Settings) -> Vec<StackBackup> {
    let of_stack = |stack: &DesiredStack| {
        // A stack with mistakes there is refused before it comes to this.
        let extension = compose::Extension::read(&stack.model.extension).unwrap_or_default();
        backup::choose(&stack.name, &stack.model, &extension.backup, &settings.stack_directory(&stack.name))
    };
    desired.stacks.iter().map(of_stack).collect()
}

/// What a person should know who believes that all of this host is backed up; nothing when it makes no backups.
pub fn notes(desired: &Desired, spec: &HostSpec, settings: &Settings) -> Vec<String> {
    match spec.backups {
        None => Vec::new(),
        Some(_) => plans(desired, settings).iter().flat_map(backup::notes).collect(),
    }
}

/// Notes what this host must have from now on: what never comes is noticed, too.
pub fn expect(world: &impl World, spec: &HostSpec) -> Result<(), Fault> {
    let Some(backups) = &spec.backups else {
        return world.change_logbook(&mut |logbook| *logbook = Logbook::default());
    };
    let stacks: Vec<String> = spec.stacks.iter().map(|stack| stack.name.clone()).collect();
    let now = world.now();
    world.change_logbook(&mut |logbook| logbook::expect(logbook, backups, &stacks, now))
}

/// Begins an account where there is none: somebody removed one that was damaged, and no run has a reason to look at the
/// schedule again.
pub fn begin(world: &impl World, known: &Known) -> Result<(), Fault> {
    let stacks: Vec<String> = known.ledger.applied.keys().cloned().collect();
    let now = world.now();
    world.change_logbook(&mut |logbook| {
        if logbook.schedule.is_none() {
            logbook::expect(logbook, &known.backups, &stacks, now);
        }
    })
}

/// What is due now of what can be done: a stack that was never deployed here has nothing to save. `only` is a stack.
pub fn due(world: &impl World, only: Option<&str>) -> Result<Vec<Entry>, Fault> {
    let logbook = world.logbook()?;
    let due = due::due(&logbook, &clock(world));
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let ledger = world.ledger()?;
    let is_meant = |entry: &&Entry| match &entry.stack {
        Some(stack) => ledger.applied.contains_key(stack) && only.is_none_or(|only| only == stack),
        None => only.is_none(),
    };
    Ok(due.into_iter().filter(is_meant).cloned().collect())
}

/// When something is due, at the earliest; none on a host that makes no backups.
pub fn next(world: &impl World) -> Result<Option<Timestamp>, Fault> {
    Ok(due::next(&world.logbook()?, &clock(world)))
}

fn clock(world: &impl World) -> Clock {
    Clock { host: world.settings().host.clone(), zone: world.zone(), now: world.now() }
}

/// Enters what a job did, and tells the journal. A job that was ended because moorline stops is not entered: it is due
/// again at once, and nothing is wrong.
pub fn enter(world: &impl World, run: &str, outcome: &Outcome) {
    let Outcome { report, fault, .. } = outcome;
    let is_stopped = fault.as_ref().is_some_and(|fault| fault.code == Code::Stopped);
    let mut recovered = None;
    if !is_stopped {
        let entered = world.change_logbook(&mut |logbook| {
            recovered = logbook::recovered(logbook, report);
            logbook::record(logbook, report);
        });
        if let Err(fault) = entered {
            world.say(Event::ReportLost { run: run.to_owned(), fault: Box::new(fault) });
        }
    }
    tell(world, run, outcome, recovered);
}

/// Tells the journal how a job ended; `recovered` is how often it had failed before, if it works again.
pub fn tell(world: &impl World, run: &str, outcome: &Outcome, recovered: Option<u32>) {
    let (run, fault) = (run.to_owned(), outcome.fault.clone().map(Box::new));
    let report = Box::new(outcome.report.clone());
    world.say(Event::Backup(BackupEvent::JobEnded { run, report, fault, recovered }));
}

/// How the backups of this host are. An account that cannot be read is in the journal and at the monitor.
pub fn statuses(world: &impl World) -> Vec<BackupStatus> {
    match world.logbook() {
        Ok(logbook) if !logbook.entries.is_empty() => logbook::statuses(&logbook, world.now()),
        _ => Vec::new(),
    }
}

/// Tells the monitors of backups, checks and drills, as often as that of runs: one that hears nothing goes down.
pub fn announce(world: &impl World, run: &str) {
    let logbook = world.logbook();
    for job in [Job::Backup, Job::Check, Job::Drill] {
        let Some(url) = world.push_url(job.name()) else { continue };
        let told = match &logbook {
            Ok(logbook) => logbook::told(logbook, job, world.now()),
            Err(fault) => Some((Status::Down, fault.sentence.clone())),
        };
        let Some((status, text)) = told else { continue };
        let took = logbook.as_ref().ok().and_then(|logbook: &Logbook| logbook::took_ms(logbook, job));
        let message = push::of_job(run, job, (status, &text), took, url);
        if let Err(fault) = world.post(&message) {
            world.say(Event::PushFailed { monitor: message.monitor, fault: Box::new(fault) });
        }
    }
}
