//! A night, or what a person asks for at noon: jobs on the backup repositories, one after the other. Each is entered in the
//! account as soon as it has ended, so that whatever ends this process later, what was done counts and the rest is due.

use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;

use crate::decide::backup::event::BackupEvent;
use crate::decide::backup::logbook;
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report;
use crate::decide::schedule::show_duration;
use crate::model::backup::{Entry, Job, JobEnd, JobReport, Repository};
use crate::runs::backup::known::{Known, known};
use crate::runs::backup::quiesce::{self, RunLock};
use crate::runs::backup::snapshot::{Occasion, Outcome, snapshot};
use crate::runs::backup::upkeep::{self, Missing, Reads};
use crate::runs::backup::{account, drill};
use crate::world::World;
use crate::world::restic::order::{First, Progress};

/// One job that is to be done.
#[derive(Debug, Clone)]
struct Due {
    job: Job,
    repository: String,
    stack: Option<String>,
}

/// How a look at the clock ended.
#[derive(Debug)]
pub enum Night {
    /// Nothing is due. Nothing was opened.
    NotDue,
    /// Something is due, and another process holds the lock of backups.
    Runs(Fault),
    /// What was due was done, or it is said why not.
    Ended(Vec<Outcome>),
}

/// Makes snapshots now, whatever is due, and takes the time that it takes. What is in the way of one stack or repository
/// does not keep the others from theirs.
pub async fn backup(
    world: &impl World,
    only: Option<&str>,
    first: First,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Vec<Outcome>, Fault> {
    let known = known(world)?;
    let _lock = world.lock_backup()?;
    quiesce::recover(world).await?;
    let mut jobs = Vec::new();
    for stack in known.stacks(only)?.into_keys() {
        let of_repository = |repository: &Repository| Due {
            job: Job::Backup,
            repository: repository.name.clone(),
            stack: Some(stack.clone()),
        };
        jobs.extend(known.backups.repositories.iter().map(of_repository));
    }
    account::begin(world, &known)?;
    let run = report::name(world.now(), std::process::id());
    Ok(carry_out(world, known, &jobs, &run, first, None, hear).await)
}

/// Does what is due, within the time of a night. Decided is from what the accepted revision says and from the account.
pub async fn if_due(
    world: &impl World,
    only: Option<&str>,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Night, Fault> {
    if account::due(world, only)?.is_empty() {
        return Ok(Night::NotDue);
    }
    let _lock = match world.lock_backup() {
        // The timer ticks while a long night goes on.
        Err(fault) if fault.code == Code::LockHeld => return Ok(Night::Runs(fault)),
        lock => lock?,
    };
    // Another night may have ended between the look and the lock.
    let entries = account::due(world, only)?;
    let due = |entry: Entry| Due { job: entry.job, repository: entry.repository, stack: entry.stack };
    let jobs: Vec<Due> = entries.into_iter().map(due).collect();
    let run = report::name(world.now(), std::process::id());
    let ready = async {
        quiesce::recover(world).await?;
        known(world)
    };
    match ready.await {
        Ok(known) => {
            let budget = known.backups.budget;
            Ok(Night::Ended(carry_out(world, known, &jobs, &run, First::Refuse, Some(budget), hear).await))
        }
        // A night that cannot begin is told like one that failed, and tried again after the same wait.
        Err(fault) => {
            let now = world.now();
            let outcomes: Vec<Outcome> = jobs.iter().map(|due| failed(due, (now, now), fault.clone())).collect();
            outcomes.iter().for_each(|outcome| account::enter(world, &run, outcome));
            account::announce(world, &run);
            Ok(Night::Ended(outcomes))
        }
    }
}

/// Does the jobs, enters each, and tells the monitors. A budget counts on a clock that nobody can set.
async fn carry_out(
    world: &impl World,
    mut known: Known,
    jobs: &[Due],
    run: &str,
    first: First,
    budget: Option<Duration>,
    hear: &mut dyn FnMut(&str, Progress),
) -> Vec<Outcome> {
    // What a drill left that was killed. If it cannot be removed now, the next one tries; no backup waits for it.
    let _ = world.sweep_drills().await;
    let repositories = std::mem::take(&mut known.backups.repositories);
    let mut end = std::pin::pin!(end_of_night(world, budget).fuse());
    let night = world.now();
    let mut is_over = false;
    let mut outcomes = Vec::new();
    for due in jobs {
        // What was not begun is due again.
        if world.stopping() {
            break;
        }
        let Some(repository) = repositories.iter().find(|repository| repository.name == due.repository) else {
            continue;
        };
        known.backups.repositories = vec![repository.clone()];
        // What the night does not come to counts as begun before the rest: in the next one it comes first.
        let began = if is_over { night } else { world.now() };
        let ended = match is_over {
            true => None,
            false => {
                let Due { job, repository, stack } = due.clone();
                world.say(Event::Backup(BackupEvent::JobBegan { run: run.to_owned(), job, repository, stack }));
                // Dropping a job ends its process.
                tokio::select! {
                    biased;
                    ended = carry_out_one(world, &known, due, first, hear) => Some(ended),
                    () = &mut end => None,
                }
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                let mut outcome = out_of_time(due, (began, world.now()), budget.unwrap_or_default());
                if !std::mem::replace(&mut is_over, true) {
                    // What was made to stand for the job in flight goes on.
                    let gone_on = quiesce::recover(world).await;
                    outcome.report.problems.extend(gone_on.err().map(|fault| fault.sentence));
                }
                vec![outcome]
            }
        };
        ended.iter().for_each(|outcome| account::enter(world, run, outcome));
        outcomes.extend(ended);
    }
    // A person who wants a snapshot wants that, and no more.
    for repository in repositories.into_iter().filter(|_| budget.is_some()) {
        let is_saved = |one: &Outcome| one.report.snapshot.is_some() && one.report.repository == repository.name;
        if is_over || world.stopping() || !outcomes.iter().any(is_saved) {
            continue;
        }
        known.backups.repositories = vec![repository];
        tokio::select! {
            biased;
            failed = follow_up(world, &known, jobs, run) => outcomes.extend(failed),
            () = &mut end => is_over = true,
        }
    }
    account::announce(world, run);
    outcomes
}

/// What follows on the snapshots of a night: `keep`, and a look whether everything is there, unless the prune or the check of
/// this night has done more. What failed; the rest is not worth a line each night.
async fn follow_up(world: &impl World, known: &Known, jobs: &[Due], run: &str) -> Vec<Outcome> {
    let Some(repository) = known.backups.repositories.first() else { return Vec::new() };
    let is_due = |job| jobs.iter().any(|due| due.job == job && due.repository == repository.name);
    let mut outcomes = Vec::new();
    if !is_due(Job::Prune) {
        outcomes.extend(upkeep::forget(world, known, repository, &mut |_| ()).await);
    }
    if !is_due(Job::Check) {
        outcomes.push(upkeep::look_through(world, known, repository, &mut |_| ()).await);
    }
    outcomes.retain(|outcome| outcome.fault.is_some());
    outcomes.iter().for_each(|outcome| account::tell(world, run, outcome, None));
    outcomes
}

/// The run of each job; `known` has the one repository that it is about.
async fn carry_out_one(
    world: &impl World,
    known: &Known,
    due: &Due,
    first: First,
    hear: &mut dyn FnMut(&str, Progress),
) -> Vec<Outcome> {
    let Some(repository) = known.backups.repositories.first() else { return Vec::new() };
    let stack = due.stack.as_ref().and_then(|stack| known.ledger.applied.get_key_value(stack));
    match due.job {
        Job::Backup => {
            let occasion = Occasion { tags: Vec::new(), first, run_lock: RunLock::Free };
            match stack {
                Some((stack, applied)) => snapshot(world, known, (stack, applied), &occasion, hear).await,
                None => Vec::new(),
            }
        }
        Job::Check => vec![upkeep::check(world, known, repository, Reads::Share, &mut |_| ()).await],
        Job::Prune => upkeep::tidy(world, known, repository, Missing::Refuse, &mut |_| ()).await.into_iter().collect(),
        Job::Drill => match stack {
            Some((stack, applied)) => vec![drill::one(world, known, (stack, applied), hear).await.outcome()],
            None => Vec::new(),
        },
    }
}

/// Waits until the time of the night is over; for ever without one. The order to stop does not end a night in this way:
/// the job in flight hears of it, and ends in order.
async fn end_of_night(world: &impl World, budget: Option<Duration>) {
    if let Some(budget) = budget {
        world.wait(budget).await;
    }
    if budget.is_none() || world.stopping() {
        std::future::pending::<()>().await;
    }
}

fn out_of_time(due: &Due, times: (Timestamp, Timestamp), budget: Duration) -> Outcome {
    let what = logbook::subject(due.job, due.stack.as_deref(), &due.repository);
    let fault =
        Fault::new(Code::BackupBudget, format!("time budget: the {} of this night were over", show_duration(budget)))
            .at(format!("not done: {what}; what was done before counts"))
            .hint("raise `backup.budget` in host.yaml, or `moorline backup` by hand, which has no budget");
    let mut outcome = failed(due, times, fault);
    outcome.report.end = JobEnd::OutOfTime;
    outcome
}

fn failed(due: &Due, (began, ended): (Timestamp, Timestamp), fault: Fault) -> Outcome {
    let report = JobReport {
        job: due.job,
        repository: due.repository.clone(),
        stack: due.stack.clone(),
        began,
        ended,
        end: JobEnd::Failed,
        problems: std::iter::once(&fault.sentence).chain(&fault.because).cloned().collect(),
        snapshot: None,
        files: 0,
        bytes: 0,
        bytes_added: 0,
    };
    Outcome { report, fault: Some(fault), notes: Vec::new() }
}
