//! Carries out a plan, step by step. The first failure of a stack ends that stack and sends it where
//! [`rollback`](crate::runs::rollback) says; the other stacks go on.

use std::collections::BTreeMap;

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report::Draft;
use crate::decide::traefik::host::STACK as TRAEFIK;
use crate::decide::{needs, retry};
use crate::model::host::Logins;
use crate::model::{Action, DesiredStack, Intent, Ledger, Outcome, Phase, Step, Verdict};
use crate::runs::backup::before_deploy::before_deploy;
use crate::runs::gate::gate;
use crate::runs::prepare::Prepared;
use crate::runs::{good, handover, images, publish, ring, rollback};
use crate::world::World;

/// Why steps are skipped after the order to stop.
pub const STOPPED: &str = "moorline was asked to stop";

/// What will not be done any more in this run, and why.
#[derive(Debug, Default)]
struct Ended {
    stacks: BTreeMap<String, String>,
    everything: Option<String>,
}

impl Ended {
    fn why(&self, stack: &str) -> Option<&String> {
        self.everything.as_ref().or_else(|| self.stacks.get(stack))
    }
}

/// Carries out the steps of the plan in order: first all pulls, and if one fails, nothing that runs is touched. A halt
/// that arrives meanwhile ends the run before the next stack.
pub async fn carry_out(
    world: &impl World,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let whole = draft.plan.steps.clone();
    let pulls = whole.iter().take_while(|step| matches!(step.action, Action::Pull { .. })).count();
    let (pulls, steps) = whole.split_at(pulls);
    let missed = images::pull_all(world, pulls, prepared, ledger, draft, STOPPED).await?;
    for (step, fault) in &missed.failed {
        rollback::after_failure(world, step, fault, prepared, ledger, draft).await;
    }
    let mut ended = Ended { stacks: draft.held.clone(), everything: missed.because };
    for (number, step) in steps.iter().enumerate() {
        let began = world.now();
        if world.stopping() && ended.everything.is_none() {
            ended.everything = Some(STOPPED.into());
        }
        if let Some(why) = needs::hindrance(&step.stack, &prepared.spec.needs, &ended.stacks) {
            ended.stacks.entry(step.stack.clone()).or_insert(why);
        }
        let is_first = !steps[..number].iter().any(|earlier| earlier.stack == step.stack);
        if is_first && ended.why(&step.stack).is_none() {
            ring::unless_halted(world, ledger, draft)?;
        }
        let desired = prepared.desired.stacks.iter().find(|stack| stack.name == step.stack);
        let result = match ended.why(&step.stack) {
            Some(because) => Err(skipped(because)),
            None => take(world, step, desired, prepared, ledger, draft).await,
        };
        note_outcome(world, draft, step, &result, began);
        match &result {
            Ok(()) => {}
            Err(fault) if fault.code == Code::Stopped => {
                if ended.why(&step.stack).is_none() {
                    ended.everything = Some(STOPPED.into());
                    forget_attempt(ledger, draft, &step.stack);
                }
            }
            Err(fault) => {
                let because = format!("{} of {} failed", step.action.verb(), step.stack);
                ended.stacks.insert(step.stack.clone(), because);
                rollback::after_failure(world, step, fault, prepared, ledger, draft).await;
            }
        }
        let is_last = !steps[number + 1..].iter().any(|later| later.stack == step.stack);
        if is_last && ended.why(&step.stack).is_none() {
            good::note_applied(world, &step.stack, prepared, ledger).await?;
        }
    }
    Ok(())
}

/// One step, with its intent on disk for as long as it lasts: whoever comes after a kill knows where to look.
pub async fn take(
    world: &impl World,
    step: &Step,
    desired: Option<&DesiredStack>,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let logins = prepared.secrets.logins();
    let back = draft.rollbacks.iter().any(|rollback| rollback.stack == step.stack);
    let phase = if back { Phase::Back } else { Phase::Forward };
    world.intend(&Intent { run: draft.run.clone(), phase, step: step.clone(), since: world.now() })?;
    let result = match (&step.action, desired) {
        (Action::Write { .. }, Some(desired)) => write(world, step, desired, logins, ledger, draft, phase).await,
        (Action::Gate { services, timeout }, Some(desired)) => {
            gate(world, desired, services, *timeout, handover::of(ledger, &step.stack)).await
        }
        (Action::StartFirst { services }, Some(desired)) => {
            handover::start(world, step, services, desired, logins, ledger, draft).await
        }
        (Action::Route { services, to }, Some(desired)) => {
            handover::route(world, prepared, services, *to, desired, ledger, draft).await
        }
        (Action::Drain { wait, .. }, _) => handover::drain(world, step, *wait, logins).await,
        (Action::Withdraw { services, .. }, _) => handover::withdraw(world, step, services, logins, ledger).await,
        (Action::Publish { .. }, now) => {
            let names = handover::names(world, ledger).await?;
            publish::publish(world, prepared, &step.stack, now, ledger, draft, &names).await.map(drop)
        }
        (Action::Down, None) => match world.act(step, None, logins).await {
            Ok(()) if step.stack == TRAEFIK => publish::forget(world, ledger),
            ended => ended,
        },
        (Action::Snapshot, Some(desired)) => before_deploy(world, desired, prepared, ledger, draft).await,
        _ => world.act(step, desired, logins).await,
    };
    // One that stays says that a step may have been in flight which was not: the next run looks, and finds it ended.
    let _ = world.intend_nothing();
    result
}

/// What the directory holds is noted, and an attempt is counted before it is begun: whoever is killed in the middle
/// must not find a note that says otherwise.
async fn write(
    world: &impl World,
    step: &Step,
    desired: &DesiredStack,
    logins: &Logins,
    ledger: &mut Ledger,
    draft: &mut Draft,
    phase: Phase,
) -> Result<(), Fault> {
    let is_new = ledger.applied.get(&step.stack).is_none_or(|applied| applied.digest != desired.digest);
    if phase == Phase::Forward && is_new {
        let before = ledger.failures.get(&step.stack);
        let begun = retry::begin(before, &desired.digest, draft.revision.as_ref(), world.now());
        ledger.failures.insert(step.stack.clone(), begun);
        draft.begun.insert(step.stack.clone());
    }
    ledger.attempted.remove(&step.stack);
    ledger.begun.entry(step.stack.clone()).or_default().add(&desired.model);
    world.persist(ledger)?;
    world.act(step, Some(desired), logins).await?;
    ledger.attempted.insert(step.stack.clone(), desired.digest.clone());
    world.persist(ledger)
}

/// The order to stop is no verdict. If this cannot be written down now, the attempt counts as one that was cut.
fn forget_attempt(ledger: &mut Ledger, draft: &Draft, stack: &str) {
    if draft.begun.contains(stack)
        && let Some(begun) = ledger.failures.remove(stack)
        && let Some(known) = retry::not_counted(begun)
    {
        ledger.failures.insert(stack.to_owned(), known);
    }
}

fn skipped(because: &str) -> Fault {
    Fault::new(Code::Stopped, because)
}

/// Tells the journal and the report how a step went.
pub fn note_outcome(
    world: &impl World,
    draft: &mut Draft,
    step: &Step,
    result: &Result<(), Fault>,
    began: jiff::Timestamp,
) {
    let outcome = outcome(world, draft, step, result, began);
    draft.outcomes.push(outcome);
}

/// How a step went, as the report has it; the journal is told.
pub fn outcome<T>(
    world: &impl World,
    draft: &Draft,
    step: &Step,
    result: &Result<T, Fault>,
    began: jiff::Timestamp,
) -> Outcome {
    let verdict = match result {
        Ok(_) => Verdict::Done,
        Err(fault) if fault.code == Code::Stopped => Verdict::Skipped { because: fault.sentence.clone() },
        Err(fault) => Verdict::Failed { fault: fault.code.name().to_owned(), because: causes(fault) },
    };
    let elapsed_ms = elapsed_ms(world, began);
    let run = draft.run.clone();
    world.say(Event::StepEnded { run, step: step.clone(), verdict: verdict.clone(), elapsed_ms });
    Outcome { step: step.clone(), verdict, elapsed_ms }
}

/// The milliseconds since then.
pub fn elapsed_ms(world: &impl World, began: jiff::Timestamp) -> u64 {
    u64::try_from(world.now().duration_since(began).as_millis()).unwrap_or(0)
}

fn causes(fault: &Fault) -> Vec<String> {
    std::iter::once(&fault.sentence).chain(&fault.places).chain(&fault.because).cloned().collect()
}
