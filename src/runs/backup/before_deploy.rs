//! The snapshot that a stack wants before its data is touched: no snapshot, no deploy.

use std::time::Duration;

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report::Draft;
use crate::model::backup::{Before, JobEnd, Taken};
use crate::model::{Applied, DesiredStack, Ledger};
use crate::runs::backup::known::Known;
use crate::runs::backup::quiesce::RunLock;
use crate::runs::backup::snapshot::{Occasion, Outcome, snapshot};
use crate::runs::prepare::Prepared;
use crate::world::World;
use crate::world::restic::order::{First, Progress};

/// The tag by which people find these snapshots.
const TAG: &str = "pre-deploy";
/// As much of a digest as tells one state of a stack from another.
const SHORT: usize = 16;
/// How often it is asked whether the other backup has ended.
const AGAIN: Duration = Duration::from_secs(5);
/// How often the journal hears how far it is.
const PACE: Duration = Duration::from_secs(15);

/// Makes snapshots of what runs, in each backup repository. One that holds everything is enough to go on; what went
/// wrong with the others is a remark of the report. Nothing of the stack is touched by this.
pub async fn before_deploy(
    world: &impl World,
    desired: &DesiredStack,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let stack = &desired.name;
    let Some(applied) = ledger.applied.get(stack).cloned() else {
        return Err(refused(stack)
            .because("moorline has not deployed what runs there")
            .hint(format!("make a backup of your own, and take `snapshot_before` out of stacks/{stack} until then")));
    };
    let Some(backups) = prepared.spec.backups.clone() else {
        return Err(refused(stack).because("host.yaml has no `backup:`").hint("docs/backups.md"));
    };
    let withheld = prepared.spec.withheld.clone();
    let known = Known { backups, secrets: prepared.secrets.clone(), withheld, ledger: ledger.clone() };
    let run = draft.run.clone();
    let _lock = lock(world, desired, &run).await?;
    let short = |digest: &str| digest.get(..SHORT).unwrap_or(digest).to_owned();
    let tags = vec![TAG.to_owned(), format!("state-{}", short(&applied.digest))];
    let mut told = world.now();
    let mut hear = |stack: &str, at: Progress| {
        if world.now().duration_since(told).unsigned_abs() >= PACE {
            told = world.now();
            world.say(Event::SnapshotProgressed { run: run.clone(), stack: stack.to_owned(), done: at.bytes });
        }
    };
    let occasion = Occasion { tags, first: First::Refuse, run_lock: RunLock::Ours };
    let outcomes = snapshot(world, &known, (stack, &applied), &occasion, &mut hear).await;
    let taken: Vec<Taken> = outcomes.iter().filter_map(whole).collect();
    if taken.is_empty() {
        return Err(none(stack, &outcomes));
    }
    draft
        .remarks
        .extend(outcomes.iter().filter(|outcome| whole(outcome).is_none()).map(|outcome| lacking(stack, outcome)));
    let at = world.now();
    let before = Before { state: applied.digest.clone(), deploy: desired.digest.clone(), at, snapshots: taken };
    draft.snapshots.insert(stack.clone(), before.clone());
    note(ledger, stack, &applied, before);
    world.persist(ledger)
}

/// Waits for another backup, but no longer than the stack may take to get healthy: a night may take hours, and the other
/// stacks of this run wait, too.
async fn lock(world: &impl World, desired: &DesiredStack, run: &str) -> Result<impl Sized, Fault> {
    let until = world.now() + desired.health_timeout;
    let mut is_told = false;
    loop {
        match world.lock_backup() {
            Err(fault) if fault.code == Code::LockHeld => {
                let stack = desired.name.clone();
                if world.stopping() {
                    return Err(Fault::new(Code::Stopped, "moorline was asked to stop"));
                }
                if world.now() >= until {
                    let waited = format!("the deploy of {stack} waited for another backup, which goes on");
                    let waited = fault.because.into_iter().fold(Fault::new(Code::LockHeld, waited), Fault::because);
                    return Err(waited.at("no snapshot, no deploy: nothing of the stack was touched"));
                }
                if !is_told {
                    let because = fault.because.join("; ");
                    let (run, until) = (run.to_owned(), format!("{until:.0}"));
                    world.say(Event::SnapshotWaited { run, stack, until, because });
                    is_told = true;
                }
                world.wait(AGAIN).await;
            }
            taken => return taken,
        }
    }
}

/// The snapshot, if it holds everything that it should.
fn whole(outcome: &Outcome) -> Option<Taken> {
    let snapshot = outcome.report.snapshot.clone().filter(|_| outcome.report.end == JobEnd::Done)?;
    Some(Taken { repository: outcome.report.repository.clone(), snapshot })
}

fn lacking(stack: &str, outcome: &Outcome) -> String {
    let (repository, problems) = (&outcome.report.repository, outcome.report.problems.join("; "));
    match &outcome.report.snapshot {
        Some(_) => format!("the snapshot of {stack} in {repository} before its deploy is partial: {problems}"),
        None => format!("there is no snapshot of {stack} in {repository} before its deploy: {problems}"),
    }
}

fn none(stack: &str, outcomes: &[Outcome]) -> Fault {
    let faults = || outcomes.iter().filter_map(|outcome| outcome.fault.as_ref());
    // Somebody's will is no trouble with a repository.
    if let Some(stopped) = faults().find(|fault| fault.code == Code::Stopped) {
        return stopped.clone();
    }
    let refused = outcomes.iter().fold(refused(stack), |refused, outcome| refused.because(lacking(stack, outcome)));
    let hint = faults().find_map(|fault| fault.hint.clone());
    refused.hint(hint.unwrap_or_else(|| format!("`moorline backup {stack}` tries the same")))
}

fn refused(stack: &str) -> Fault {
    Fault::new(Code::SnapshotMissing, format!("no snapshot of {stack} could be made before its deploy"))
        .at("no snapshot, no deploy: nothing of the stack was touched")
}

/// What the data was before the deploy is what it was before the first attempt that may have touched it: a run that
/// comes after a kill makes a snapshot of its own, and that one may hold half of a migration.
fn note(ledger: &mut Ledger, stack: &str, applied: &Applied, before: Before) {
    let is_same = |first: &&Before| first.state == applied.digest && first.deploy == before.deploy;
    let is_begun = ledger.begun.contains_key(stack);
    if ledger.before.get(stack).filter(is_same).is_none() || !is_begun {
        ledger.before.insert(stack.to_owned(), before);
    }
}
