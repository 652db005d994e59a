//! What happens to a stack after a step of it failed: its last words are kept, the failure is remembered, and the last
//! good version is brought back from what is on this host, with no git server and no registry.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::plan::Circumstances;
use crate::decide::report::{Draft, step_fault};
use crate::decide::retry::{self, Kind};
use crate::decide::rollback::{self, LastGood as Good, Way};
use crate::decide::schedule::Share;
use crate::decide::start_first::Names;
use crate::decide::traefik::due::Due;
use crate::decide::{compose, redact};
use crate::model::backup::Before;
use crate::model::report::{Evidence, Rollback};
use crate::model::{Action, DesiredStack, Failure, Ledger, Left, Observed, Step};
use crate::runs::deploy::{elapsed_ms, note_outcome, take};
use crate::runs::good::{self, LastGood};
use crate::runs::handover;
use crate::runs::networks;
use crate::runs::prepare::Prepared;
use crate::runs::publish;
use crate::world::World;

/// How many lines of a failed container are kept.
const LINES: usize = 50;

/// Deals with the first failure of a stack. It never fails itself: what goes wrong here is a fault of the report.
pub async fn after_failure(
    world: &impl World,
    step: &Step,
    fault: &Fault,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) {
    let verdict_at = world.now();
    let failed = step_fault(step, fault);
    let Some(desired) = prepared.desired.stacks.iter().find(|stack| stack.name == step.stack) else {
        // `down` of a stack that is gone: the next run tries again.
        draft.faults.push(failed);
        return;
    };
    let kept = prepared.put_off.concerns(&step.stack);
    let worked = ledger.applied.get(&step.stack);
    let (good, lost) = match worked {
        None => (None, None),
        Some(applied) if applied.digest == desired.digest => (None, None),
        Some(_) => match good::last_good(world, ledger, &step.stack, &prepared.key) {
            Ok(good) => (good, None),
            Err(fault) => (None, Some(fault)),
        },
    };
    let last_good = match (&good, worked) {
        (Some(_), _) => Good::Other,
        (None, Some(applied)) if applied.digest == desired.digest => Good::Same,
        (None, _) => Good::None,
    };
    keep_evidence(world, step, desired, prepared, good.as_ref(), ledger, draft).await;

    let kind = match last_good {
        // What worked before and is only put right is no revision that fails.
        Good::Same => Kind::Transient,
        _ => retry::kind(&step.action, fault),
    };
    let way = rollback::way(&step.action, kind, desired, last_good);
    remember(world, desired, &failed, kind, way.left(), kept, ledger, draft);
    match (way, good) {
        (Way::Back, Some(good)) => {
            let before = rollback::before(ledger, desired).cloned();
            back(world, &failed, verdict_at, &good, before, prepared, ledger, draft).await;
        }
        (Way::Leave, _) => {
            let before = rollback::before(ledger, desired);
            let named = rollback::left_as_is(desired, known(last_good, lost.as_ref()), before, failed);
            let named = lost.iter().fold(named, |named, lost| named.because(format!("last good: {}", lost.sentence)));
            draft.faults.push(named);
        }
        _ => draft.faults.push(failed),
    }
    save(world, ledger, draft);
}

/// A last good version that cannot be read is another thing than none.
fn known(last_good: Good, lost: Option<&Fault>) -> Good {
    if lost.is_some() { Good::Other } else { last_good }
}

/// What the containers of the wave said last, before anything is done about them.
async fn keep_evidence(
    world: &impl World,
    step: &Step,
    desired: &DesiredStack,
    prepared: &Prepared,
    good: Option<&LastGood>,
    ledger: &Ledger,
    draft: &mut Draft,
) {
    let services = rollback::services_of(step, desired);
    if services.is_empty() {
        return;
    }
    // If the engine does not answer, there is nothing to keep.
    let said = world.last_words(&desired.name, &services, LINES).await.unwrap_or_default();
    let secrets: Vec<&str> =
        prepared.secrets.values().chain(good.iter().flat_map(|good| good.secrets.values())).collect();
    let uninvolved = handover::uninvolved(ledger, &desired.name);
    for words in said.into_iter().filter(|words| !uninvolved.contains(&words.container)) {
        draft.evidence.push(Evidence {
            stack: desired.name.clone(),
            service: words.service,
            container: words.container,
            image: words.image,
            state: words.state,
            exit_code: words.exit_code,
            log: redact::last_lines(words.text.expose(), LINES, &secrets),
        });
    }
}

/// Writes the failure down before anything else is done: it counts even if we are killed on the way back.
#[allow(clippy::too_many_arguments, reason = "what failed, how, and how it is left")]
fn remember(
    world: &impl World,
    desired: &DesiredStack,
    failed: &Fault,
    kind: Kind,
    left: Left,
    kept: bool,
    ledger: &mut Ledger,
    draft: &mut Draft,
) {
    let now = world.now();
    let stack = &desired.name;
    let because = std::iter::once(failed.sentence.clone()).chain(failed.because.iter().cloned()).collect();
    let share = Share::of(&world.settings().host, &format!("retry {stack}"));
    if kept {
        // A last good version that is kept and fails is not what was tried: its repair has a memory of its own.
        let begun = retry::begin(ledger.repairs.get(stack), &desired.digest, draft.revision.as_ref(), now);
        let failure = retry::failed(begun, Kind::Transient, because, left, now, share);
        ledger.repairs.insert(stack.clone(), failure);
        return save(world, ledger, draft);
    }
    let known = ledger.failures.get(stack).filter(|failure| failure.digest == desired.digest).cloned();
    let begun = match known {
        Some(begun) if draft.begun.contains(stack) => begun,
        // Pulls, snapshots and repairs count no attempt when they begin.
        known => retry::begin(known.as_ref(), &desired.digest, draft.revision.as_ref(), now),
    };
    let mut failure = retry::failed(begun, kind, because, left, now, share);
    if left == Left::AsIs && kind == Kind::Deterministic && ledger.applied.contains_key(stack) {
        // One way only: a second attempt would be on data that the first has changed.
        failure.next = None;
    }
    ledger.failures.insert(stack.clone(), failure);
    save(world, ledger, draft);
}

/// The way back. `before` is what there is of the data as it was.
#[allow(clippy::too_many_arguments, reason = "what failed, when, and what it goes back to")]
async fn back(
    world: &impl World,
    failed: &Fault,
    verdict_at: Timestamp,
    good: &LastGood,
    before: Option<Before>,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) {
    let stack = good.desired.name.clone();
    let (from, to) = (draft.revision.clone(), good.revision.clone());
    let undisturbed = handover::undisturbed(ledger, &stack);
    draft.rollbacks.push(Rollback {
        stack: stack.clone(),
        from,
        to: to.clone(),
        serving_after_ms: None,
        undisturbed: undisturbed.clone(),
    });
    match go_back(world, good, prepared, ledger, draft).await {
        Ok(()) => {
            let took = elapsed_ms(world, verdict_at);
            if let Some(rollback) = draft.rollbacks.last_mut() {
                rollback.serving_after_ms = Some(took);
            }
            set_left(ledger, &stack, Left::RolledBack);
            ledger.repairs.remove(&stack);
            let fault = rollback::rolled_back(&stack, &to, failed, &undisturbed, before.as_ref());
            let (run, named) = (draft.run.clone(), Box::new(fault.clone()));
            world.say(Event::StackRolledBack { run, stack, fault: named, elapsed_ms: took });
            draft.faults.push(fault);
        }
        // Asked to stop, or something is away: the next run goes on with the way back.
        Err(second) if second.code == Code::Stopped || retry_later(&second) => {
            let fault = rollback::rolled_back_later(&stack, &to, failed, &second);
            draft.faults.push(fault);
        }
        Err(second) => {
            set_left(ledger, &stack, Left::Stuck);
            if let Some(failure) = ledger.failures.get_mut(&stack) {
                failure.next = None;
            }
            let fault = rollback::failed(world.settings(), &stack, &to, failed, &second, before.as_ref());
            let (run, named) = (draft.run.clone(), Box::new(fault.clone()));
            world.say(Event::RollbackFailed { run, stack, fault: named });
            draft.faults.push(fault);
        }
    }
}

fn retry_later(fault: &Fault) -> bool {
    retry::kind(&Action::UpWhole, fault) != Kind::Deterministic
}

fn set_left(ledger: &mut Ledger, stack: &str, left: Left) {
    if let Some(failure) = ledger.failures.get_mut(stack) {
        *failure = Failure { left, ..failure.clone() };
    }
}

/// Plans the way back and carries it out; the first step that fails ends it.
async fn go_back(
    world: &impl World,
    good: &LastGood,
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let desired = &good.desired;
    let missing = world.missing_images(&compose::images(&desired.model)).await?;
    if let Some(image) = rollback::missing(desired, &missing).first() {
        return Err(Fault::new(Code::StepFailed, format!("its image {image} is no longer on this host")));
    }
    let attached = networks::of(world, std::slice::from_ref(desired), ledger).await?;
    if let Some(fault) = networks::refusal(world, desired, &attached, ledger, &prepared.put_off.alone) {
        return Err(fault);
    }
    let observed = world.observe().await?;
    let circumstances = Circumstances {
        applied: Some(&ledger.applied),
        attempted: Some(&ledger.attempted),
        begun: Some(&ledger.begun),
        seen: Some(&ledger.seen),
        missing_images: BTreeSet::new(),
        without_memory: world.without_memory(std::slice::from_ref(&desired.name)),
        edited: BTreeMap::new(),
        attached,
        left_alone: BTreeSet::new(),
        routes: routes(world, desired, prepared, ledger, &observed)?,
        plugin: prepared.plugin.version.clone(),
    };
    let of_stack = |step: &&Step| step.stack == desired.name;
    let touched = draft.plan.steps.iter().filter(of_stack).flat_map(|step| rollback::services_of(step, desired));
    let plan = rollback::plan(desired, &good.revision, &touched.collect(), &observed, &circumstances);
    for step in plan.steps {
        let began = world.now();
        let result = take(world, &step, Some(desired), prepared, ledger, draft).await;
        note_outcome(world, draft, &step, &result, began);
        if let Err(fault) = result {
            keep_evidence(world, &step, desired, prepared, Some(good), ledger, draft).await;
            return Err(fault);
        }
    }
    good::note(world, desired, good.revision.clone(), &prepared.plugin.version, ledger).await
}

/// What must be published on the way back: the stack as it was, all others as they were last applied.
fn routes(
    world: &impl World,
    good: &DesiredStack,
    prepared: &Prepared,
    ledger: &Ledger,
    observed: &Observed,
) -> Result<Due, Fault> {
    let led = Names::new(observed, &ledger.begun);
    let names = prepared.desired.stacks.iter().map(|stack| stack.name.as_str());
    let applied = |name| match ledger.applied.get(name) {
        _ if name == good.name => Some((name, good.digest.as_str(), &good.model)),
        applied => applied.map(|applied| (name, applied.digest.as_str(), &applied.model)),
    };
    publish::due(world, &prepared.inputs, names.filter_map(applied), ledger, &prepared.key, &led).map(|(due, _)| due)
}

/// What cannot be written down is said; the way back does not wait for the disk.
fn save(world: &impl World, ledger: &Ledger, draft: &mut Draft) {
    if let Err(fault) = world.persist(ledger)
        && !draft.faults.contains(&fault)
    {
        draft.faults.push(fault);
    }
}
