//! What of this host is backed up: the stacks as they should be, each with what goes into its snapshots; and whether it
//! was, for whoever asks.

use crate::decide::backup::logbook;
use crate::decide::event::Event;
use crate::decide::fault::Fault;
use crate::decide::push::{self, Status};
use crate::decide::{backup, compose};
use crate::model::backup::{BackupStatus, Job, Logbook, StackBackup};
use crate::model::{Desired, DesiredStack, HostSpec, Settings};
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
        return world.change_logbook(&mut |logbook| logbook.entries.clear());
    };
    let stacks: Vec<String> = spec.stacks.iter().map(|stack| stack.name.clone()).collect();
    let now = world.now();
    world.change_logbook(&mut |logbook| logbook::expect(logbook, backups, &stacks, now))
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
