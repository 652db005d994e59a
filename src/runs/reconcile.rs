//! One reconcile: read what is signed, look at the engine, plan, act, look again, say so.
//!
//! It decides nothing itself; `decide` does. It touches nothing itself; the [`World`] does.

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report::{self, Draft};
use crate::decide::traefik::host::STACK as TRAEFIK;
use crate::decide::{drift, page, push, seen};
use crate::model::ledger::Settled;
use crate::model::{Ledger, Report, Verdict};
use crate::runs::accept::Trust;
use crate::runs::backup::{account, quiesce};
use crate::runs::prepare::{self, Prepared};
use crate::runs::{deploy, good, images, succession};
use crate::world::World;

/// Makes this host what its ring says, or says why not. However it ends, a report is written and announced.
pub async fn reconcile(world: &impl World, occasion: &str) -> Report {
    let mut draft = Draft::begin(&world.settings().host, occasion, world.now(), std::process::id());
    world.say(Event::RunBegan { run: draft.run.clone(), occasion: occasion.to_owned() });
    let is_on_trial = succession::is_on_trial(world);
    let result = match is_on_trial {
        true => succession::look_only(world, &mut draft).await,
        false => attempt(world, &mut draft).await,
    };
    if let Err(fault) = &result {
        look_again(world, &mut draft, fault).await;
    }
    draft.release = succession::concern(world).filter(|_| !is_on_trial);
    let report = report::judge(draft, result, world.now());
    if let Err(fault) = world.record(&report) {
        world.say(Event::ReportLost { run: report.run.clone(), fault: Box::new(fault) });
    }
    if !is_on_trial {
        publish(world, &report);
        announce(world, &report);
        account::announce(world, &report.run);
    }
    world.say(Event::RunEnded { report: Box::new(report.clone()) });
    report
}

/// Looks once more at what serves, since a run that ended early may never have looked or has changed it after. If the
/// spec was not read, the stacks are those that were applied here.
async fn look_again(world: &impl World, draft: &mut Draft, fault: &Fault) {
    if draft.stacks.is_empty() {
        draft.stacks = world.ledger().map(|ledger| ledger.applied.into_keys().collect()).unwrap_or_default();
    }
    if draft.stacks.is_empty() || fault.code == Code::EngineAway {
        return;
    }
    if let Ok(observed) = world.observe().await {
        draft.observed = observed;
    }
}

async fn attempt(world: &impl World, draft: &mut Draft) -> Result<(), Fault> {
    let amiss = world.mend_ledger()?;
    if !amiss.is_empty() {
        draft.remarks.push(format!("the ledger was mended from its good copy: {}", amiss.join("; ")));
        world.say(Event::LedgerMended { amiss });
    }
    if let Some(stack) = quiesce::undo(world).await? {
        draft.remarks.push(format!("the containers of {stack} that a backup left standing go on"));
    }
    let mut ledger = world.ledger()?;
    images::adopt(world, &mut ledger).await?;
    draft.digests = ledger.digests();
    if prepare::is_settled(world, &ledger, draft).await? {
        unless_held(world, draft)?;
        return images::sweep(world, &mut ledger, draft).await;
    }
    let prepared = prepare::prepare(world, &mut ledger, draft, Trust::Advance, None).await?;
    unless_held(world, draft)?;
    if !draft.plan.steps.is_empty() {
        let revision = draft.revision.clone();
        world.say(Event::PlanMade { run: draft.run.clone(), revision, steps: draft.plan.steps.len() });
    }
    if draft.plan.steps.is_empty() && draft.held.is_empty() {
        // A step that was in flight has come to its end: no step takes its intent away, and there it would say for ever
        // that a run was killed.
        world.intend_nothing()?;
    }
    save_drift(world, &prepared, &ledger, draft)?;
    deploy::carry_out(world, &prepared, &mut ledger, draft).await?;
    draft.observed = world.observe().await?;
    let converged = is_converged(draft);
    if converged {
        draft.faults.extend(lost(&prepared, draft));
        forget_secrets(world, &prepared, draft).await?;
        images::note_digests(world, &mut ledger).await?;
    }
    settle(world, &prepared, &mut ledger, draft, converged)?;
    draft.digests = ledger.digests();
    // What did not end well may have to be undone, and no image is missed then.
    match ledger.settled {
        Some(_) => images::sweep(world, &mut ledger, draft).await,
        None => Ok(()),
    }
}

/// Asks the ledger on disk, since a person may have set a hold while this run was looking.
fn unless_held(world: &impl World, draft: &mut Draft) -> Result<(), Fault> {
    let ledger = world.ledger()?;
    let now = world.now();
    // A stack that leaves the host is no longer declared, and yet it is held.
    let concerns =
        |stack: &String| draft.stacks.contains(stack) || draft.plan.steps.iter().any(|step| step.stack == *stack);
    let held = ledger.held_stacks(now).filter(|(stack, _)| concerns(stack));
    draft.held = held.map(|(stack, hold)| (stack.clone(), format!("{stack} is {hold}"))).collect();
    let Some(hold) = ledger.held(now) else { return Ok(()) };
    Err(Fault::new(Code::Held, hold.to_string()).at("nothing was changed").hint("`moorline release` ends the hold"))
}

/// Writes down what was found before it is undone: a person who forgot his hold wants his change back.
fn save_drift(world: &impl World, prepared: &Prepared, ledger: &Ledger, draft: &mut Draft) -> Result<(), Fault> {
    let undone = |stack: &String| !draft.held.contains_key(stack);
    let steps: Vec<_> = draft.plan.steps.iter().filter(|step| undone(&step.stack)).cloned().collect();
    let routes = (TRAEFIK.to_owned(), prepared.edited_routes.clone());
    let edited = prepared.edited.clone().into_iter().chain([routes]);
    let edited: Vec<_> = edited.filter(|(stack, _)| undone(stack)).collect();
    let now = world.now();
    let held = ledger.hold.iter().chain(ledger.stack_holds.values()).filter(|hold| hold.until <= now);
    let held: Vec<String> = held.map(ToString::to_string).collect();
    let Some(text) = drift::record(&steps, &edited, &held) else { return Ok(()) };
    let path = world.save_drift(&text)?;
    draft.remarks.push(format!("what was not as it was left is written down in {path}"));
    world.say(Event::DriftSaved { run: draft.run.clone(), path });
    Ok(())
}

fn is_converged(draft: &Draft) -> bool {
    draft.put_off.is_empty() && draft.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Done)
}

/// Older files of secrets stay for as long as a container uses them; until everything is as desired, all of them stay.
/// What is desired is then also the last good version of every stack, and the way back to it finds its files.
async fn forget_secrets(world: &impl World, prepared: &Prepared, draft: &Draft) -> Result<(), Fault> {
    let files = prepared.desired.stacks.iter().flat_map(|stack| &stack.secrets);
    let generations = world.forget_secrets(&files.map(|file| file.path.clone()).collect()).await?;
    if generations > 0 {
        world.say(Event::SecretsForgotten { run: draft.run.clone(), generations });
    }
    Ok(())
}

/// A last good version that is kept and asked for no step is as it should be, whatever its last repair said.
fn forget_mended(prepared: &Prepared, ledger: &mut Ledger, draft: &Draft) {
    let is_acted_on = |stack: &String| draft.plan.steps.iter().any(|step| step.stack == *stack);
    let is_waited_for = |stack: &String| prepared.put_off.alone.contains(stack);
    ledger.repairs.retain(|stack, _| is_acted_on(stack) || is_waited_for(stack));
}

/// If everything is as desired now, notes what that was based on, so that the next run needs only one look.
fn settle(
    world: &impl World,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &Draft,
    converged: bool,
) -> Result<(), Fault> {
    good::keep_all(world, prepared, ledger)?;
    let before = ledger.clone();
    ledger.seen = seen::look(&ledger.seen, &ledger.applied, &draft.observed);
    forget_mended(prepared, ledger, draft);
    if converged {
        // What works is nothing to remember as failed, also if it came back by itself.
        ledger.failures.clear();
        // What differs from the last look and asked for no step is the engine's own doing, such as a restart.
        for (stack, applied) in &mut ledger.applied {
            applied.snapshot = draft.observed.snapshot(stack);
        }
    }
    let settled = match (&draft.tip, &draft.revision) {
        (Some(tip), Some(revision)) if converged && !is_disturbed(draft) => Some(Settled {
            tip: tip.clone(),
            revision: revision.clone(),
            ring: draft.ring.clone().unwrap_or_default(),
            stacks: draft.stacks.clone(),
            notes: draft.notes.clone(),
            expect_change_within: draft.expect_change_within,
            opened: draft.opened.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            plugin: prepared.plugin.stamp.clone(),
        }),
        _ => None,
    };
    ledger.settled = settled;
    if *ledger == before {
        return Ok(());
    }
    world.persist(ledger)
}

/// What was removed after its gate: every step was done, and yet it does not serve.
fn lost(prepared: &Prepared, draft: &Draft) -> Option<Fault> {
    let of_stack =
        |stack| drift::lost(stack, &draft.observed).map(move |service| format!("{service} of {}", stack.name));
    let lost: Vec<String> = prepared.desired.stacks.iter().flat_map(of_stack).collect();
    let sentence = format!("{} has no container any more", lost.first()?);
    Some(Fault::new(Code::ServiceUnhealthy, sentence).because(lost.join(", ")).hint("moorline reconcile"))
}

/// Whether something was stopped or removed after its gate: then the next run must look at everything and put it back.
fn is_disturbed(draft: &Draft) -> bool {
    let is_ours = |project: &String| draft.stacks.contains(project);
    let mut ours = draft.observed.containers.iter().filter(|container| is_ours(&container.project));
    !draft.faults.is_empty() || ours.any(|container| drift::stands_still(container.state))
}

/// Writes what the status page shows. A page that cannot be written grows old, and whoever reads it sees that.
fn publish(world: &impl World, report: &Report) {
    let mut page = page::after_run(world.page(), report, world.settings().interval);
    page.backups = account::statuses(world);
    if let Err(fault) = world.publish(&page) {
        world.say(Event::ReportLost { run: report.run.clone(), fault: Box::new(fault) });
    }
}

/// Tells the monitor, if this host ever learned its push URL.
fn announce(world: &impl World, report: &Report) {
    let Some(url) = world.push_url("reconcile") else { return };
    let message = push::after_run(report, url);
    if let Err(fault) = world.post(&message) {
        world.say(Event::PushFailed { monitor: message.monitor, fault: Box::new(fault) });
    }
}
