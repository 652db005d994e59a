//! One reconcile: read what is signed, look at the engine, plan, act, look again, say so.
//!
//! It decides nothing itself; `decide` does. It touches nothing itself; the [`World`] does.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::health::{self, Judgement};
use crate::decide::report::{self, Draft};
use crate::decide::{compose, needs, page, push};
use crate::model::ledger::Settled;
use crate::model::{Action, Applied, DesiredStack, Ledger, Outcome, Report, Step, Verdict};
use crate::runs::prepare::{self, Prepared};
use crate::runs::{images, ring};
use crate::world::World;

/// Why steps are skipped after the order to stop.
const STOPPED: &str = "moorline was asked to stop";
/// How often the gate looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes this host what its ring says, or says why not. However it ends, a report is written and announced.
pub async fn reconcile(world: &impl World, occasion: &str) -> Report {
    let mut draft = Draft::begin(&world.settings().host, occasion, world.now(), std::process::id());
    world.say(Event::RunBegan { run: draft.run.clone(), occasion: occasion.to_owned() });
    let result = attempt(world, &mut draft).await;
    let report = report::judge(draft, result, world.now());
    if let Err(fault) = world.record(&report) {
        world.say(Event::ReportLost { run: report.run.clone(), fault: Box::new(fault) });
    }
    publish(world, &report);
    announce(world, &report);
    world.say(Event::RunEnded { report: Box::new(report.clone()) });
    report
}

async fn attempt(world: &impl World, draft: &mut Draft) -> Result<(), Fault> {
    let amiss = world.mend_ledger()?;
    if !amiss.is_empty() {
        draft.remarks.push(format!("the ledger was mended from its good copy: {}", amiss.join("; ")));
        world.say(Event::LedgerMended { amiss });
    }
    let mut ledger = world.ledger()?;
    if prepare::is_settled(world, &ledger, draft).await? {
        unless_held(world)?;
        return images::sweep(world, &mut ledger, draft).await;
    }
    let prepared = prepare::prepare(world, &mut ledger, draft, prepare::Trust::Advance, None).await?;
    unless_held(world)?;
    if !draft.plan.steps.is_empty() {
        let revision = draft.revision.clone();
        world.say(Event::PlanMade { run: draft.run.clone(), revision, steps: draft.plan.steps.len() });
    }
    carry_out(world, &prepared, &mut ledger, draft).await?;
    draft.observed = world.observe().await?;
    if is_converged(&prepared, draft) {
        forget_secrets(world, &prepared, draft).await?;
    }
    settle(world, &prepared, &mut ledger, draft)?;
    // What did not end well may have to be undone, and no image is missed then.
    if ledger.settled.is_some() {
        images::sweep(world, &mut ledger, draft).await?;
    }
    prepared.left.map_or(Ok(()), Err)
}

/// Asks the ledger on disk, since a person may have set a hold while this run was looking.
fn unless_held(world: &impl World) -> Result<(), Fault> {
    let ledger = world.ledger()?;
    let Some(hold) = ledger.held(world.now()) else {
        return Ok(());
    };
    let sentence = format!("held by {} until {}: {}", hold.owner, hold.until, hold.reason);
    Err(Fault::new(Code::Held, sentence).at("nothing was changed").hint("`moorline release` ends the hold"))
}

/// Carries out the steps in order. A failed step ends its stack for this run; a failed pull ends the run, before
/// anything that runs was touched. A halt that arrives meanwhile ends the run before the next stack.
async fn carry_out(
    world: &impl World,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let mut ended: BTreeMap<String, String> = BTreeMap::new();
    let whole = draft.plan.steps.clone();
    let pulls = whole.iter().take_while(|step| matches!(step.action, Action::Pull { .. })).count();
    let (pulls, steps) = whole.split_at(pulls);
    let mut all_ended = images::pull_all(world, pulls, prepared, ledger, draft, STOPPED).await?;
    for (number, step) in steps.iter().enumerate() {
        let began = world.now();
        if world.stopping() && all_ended.is_none() {
            all_ended = Some(STOPPED.into());
        }
        let is_first = !steps[..number].iter().any(|earlier| earlier.stack == step.stack);
        if is_first && all_ended.is_none() {
            ring::unless_halted(world, ledger, draft)?;
        }
        if let Some(why) = needs::hindrance(&step.stack, &prepared.needs, &ended) {
            ended.entry(step.stack.clone()).or_insert(why);
        }
        let verdict = match all_ended.as_ref().or_else(|| ended.get(&step.stack)) {
            Some(because) => Verdict::Skipped { because: because.clone() },
            None => match carry_out_step(world, step, prepared, ledger).await {
                Ok(()) => Verdict::Done,
                Err(fault) if fault.code == Code::Stopped => {
                    all_ended = Some(fault.sentence.clone());
                    Verdict::Skipped { because: fault.sentence }
                }
                Err(fault) => Verdict::Failed { fault: fault.code.name().to_owned(), because: causes(fault) },
            },
        };
        if let Verdict::Failed { .. } = verdict {
            let because = format!("{} of {} failed", step.action.verb(), step.stack);
            ended.insert(step.stack.clone(), because);
        }
        let elapsed_ms = u64::try_from(world.now().duration_since(began).as_millis()).unwrap_or(0);
        world.say(Event::StepEnded {
            run: draft.run.clone(),
            step: step.clone(),
            verdict: verdict.clone(),
            elapsed_ms,
        });
        draft.outcomes.push(Outcome { step: step.clone(), verdict, elapsed_ms });
        let is_last = !steps[number + 1..].iter().any(|later| later.stack == step.stack);
        if is_last && all_ended.is_none() && !ended.contains_key(&step.stack) {
            note_applied(world, &step.stack, prepared, ledger).await?;
        }
    }
    Ok(())
}

async fn carry_out_step(
    world: &impl World,
    step: &Step,
    prepared: &Prepared,
    ledger: &mut Ledger,
) -> Result<(), Fault> {
    let desired = prepared.desired.stacks.iter().find(|stack| stack.name == step.stack);
    match (&step.action, desired) {
        (Action::Write { .. }, Some(desired)) => {
            // Whoever is killed in the middle must not find a note that says what the directory holds.
            ledger.attempted.remove(&step.stack);
            ledger.begun.entry(step.stack.clone()).or_default().add(&desired.model);
            world.persist(ledger)?;
            world.act(step, Some(desired), prepared.secrets.logins()).await?;
            ledger.attempted.insert(step.stack.clone(), desired.digest.clone());
            world.persist(ledger)
        }
        (Action::Gate { services, timeout }, Some(desired)) => gate(world, desired, services, *timeout).await,
        _ => world.act(step, desired, prepared.secrets.logins()).await,
    }
}

/// Looks until every service of the wave works, one of them cannot, or the time is up.
async fn gate(world: &impl World, desired: &DesiredStack, services: &[String], timeout: Duration) -> Result<(), Fault> {
    let count = |service: &String| {
        let definition = desired.model.services.get(service);
        (service.clone(), definition.map_or(1, compose::replicas))
    };
    let expected = services.iter().map(count).collect();
    let began = world.now();
    let mut looks = Vec::new();
    loop {
        looks.push(world.look(&desired.name, services).await?);
        let elapsed = world.now().duration_since(began).unsigned_abs();
        match health::judge(&looks, &expected, elapsed, timeout) {
            Judgement::Healthy => return Ok(()),
            Judgement::Failed(why) => return Err(Fault::new(Code::GateFailed, why)),
            Judgement::Waiting(_) if world.stopping() => {
                return Err(Fault::new(Code::Stopped, STOPPED));
            }
            Judgement::Waiting(_) => world.wait(LOOK_EVERY).await,
        }
    }
}

/// Remembers what was applied, with what the engine shows right after.
async fn note_applied(world: &impl World, stack: &str, prepared: &Prepared, ledger: &mut Ledger) -> Result<(), Fault> {
    match prepared.desired.stacks.iter().find(|desired| desired.name == stack) {
        None => {
            ledger.applied.remove(stack);
            ledger.attempted.remove(stack);
            ledger.begun.remove(stack);
        }
        Some(desired) => {
            let Some(revision) = prepared.desired.revision.clone() else {
                return Ok(());
            };
            let applied = Applied {
                revision,
                digest: desired.digest.clone(),
                model: desired.model.clone(),
                content: desired.content.clone(),
                reloads: desired.reloads.clone(),
                snapshot: world.observe().await?.snapshot(stack),
                plugin: prepared.plugin.version.clone(),
                at: world.now(),
            };
            ledger.applied.insert(stack.to_owned(), applied);
            ledger.begun.remove(stack);
        }
    }
    world.persist(ledger)
}

fn is_converged(prepared: &Prepared, draft: &Draft) -> bool {
    prepared.left.is_none() && draft.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Done)
}

/// Older files of secrets stay for as long as a container uses them; until everything is as desired, all of them stay.
async fn forget_secrets(world: &impl World, prepared: &Prepared, draft: &Draft) -> Result<(), Fault> {
    let files = prepared.desired.stacks.iter().flat_map(|stack| &stack.secrets);
    let generations = world.forget_secrets(&files.map(|file| file.path.clone()).collect()).await?;
    if generations > 0 {
        world.say(Event::SecretsForgotten { run: draft.run.clone(), generations });
    }
    Ok(())
}

/// If everything is as desired now, notes what that was based on, so that the next run needs only one look.
fn settle(world: &impl World, prepared: &Prepared, ledger: &mut Ledger, draft: &Draft) -> Result<(), Fault> {
    let converged = is_converged(prepared, draft);
    let before = ledger.clone();
    if converged {
        // What differs from the last look and asked for no step is the engine's own doing, such as a restart.
        for (stack, applied) in &mut ledger.applied {
            applied.snapshot = draft.observed.snapshot(stack);
        }
    }
    let settled = match (&draft.tip, &draft.revision) {
        (Some(tip), Some(revision)) if converged => Some(Settled {
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

/// Writes what the status page shows. A page that cannot be written grows old, and whoever reads it sees that.
fn publish(world: &impl World, report: &Report) {
    let page = page::after_run(world.page(), report, world.settings().interval);
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

/// A fault as the outcome of a step carries it.
pub(super) fn causes(fault: Fault) -> Vec<String> {
    std::iter::once(fault.sentence).chain(fault.places).chain(fault.because).collect()
}
