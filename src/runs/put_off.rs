//! What failed before and is not to be tried now: its stack is kept at its last good version instead, or left alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::backup;
use crate::decide::digest::DigestKey;
use crate::decide::event::Event;
use crate::decide::fault::Fault;
use crate::decide::report::Draft;
use crate::decide::retry::{self, Course, Patience};
use crate::model::backup::{InPlace, Stage};
use crate::model::{Desired, Intent, Ledger, Left, Phase, Revision, Step};
use crate::runs::good;
use crate::world::World;

/// The stacks that are not brought to what is desired in this run.
#[derive(Debug, Default)]
pub struct PutOff {
    /// Kept at this revision: what is desired was replaced by it.
    pub kept: BTreeMap<String, Revision>,
    /// Not touched at all.
    pub alone: BTreeSet<String>,
}

impl PutOff {
    /// Whether the stack is not brought to what is desired.
    pub fn concerns(&self, stack: &str) -> bool {
        self.kept.contains_key(stack) || self.alone.contains(stack)
    }
}

/// Replaces in `desired` what is not to be tried now by what worked last. `left` are the stacks that stay as they are
/// whatever failed before.
pub fn put_off(
    world: &impl World,
    desired: &mut Desired,
    ledger: &Ledger,
    draft: &mut Draft,
    key: &DigestKey,
    left: BTreeSet<String>,
) -> Result<PutOff, Fault> {
    let interrupted = interrupted(world, draft)?;
    let patience = match draft.occasion.as_str() {
        "reconcile" => Patience::TriesNow,
        _ => Patience::Waits,
    };
    let mut put_off = PutOff { alone: left, ..PutOff::default() };
    let unfinished = world.unfinished_restores()?;
    for stack in &mut desired.stacks {
        let switching = |restore: &&InPlace| restore.stack == stack.name && restore.phase == Stage::Switching;
        if let Some(restore) = unfinished.iter().find(switching) {
            draft.put_off.push(backup::unfinished(restore));
            put_off.alone.insert(stack.name.clone());
            continue;
        }
        if put_off.alone.contains(&stack.name) {
            continue;
        }
        let failure = ledger.failures.get(&stack.name);
        let is_same = ledger.applied.get(&stack.name).is_some_and(|applied| applied.digest == stack.digest);
        let course = match retry::course(failure, &stack.digest, world.now(), patience) {
            // A way back that was cut is gone to its end first; if that is what is desired now, by the way forward.
            Course::Try if went_back(interrupted.as_ref(), &stack.name) && !is_same => Course::Wait,
            course => course,
        };
        let Some(failure) = failure.filter(|_| course != Course::Try) else { continue };
        let good = match is_same || matches!(failure.left, Left::Stuck | Left::AsIs) {
            true => None,
            // One stack whose last good version cannot be read must not keep the others from running.
            false => good::last_good(world, ledger, &stack.name, key).unwrap_or_else(|fault| {
                draft.faults.push(fault);
                None
            }),
        };
        let fault = retry::fault(&stack.name, failure, course, good.as_ref().map(|good| &good.revision));
        let repair = ledger.repairs.get(&stack.name);
        match good {
            Some(good) if retry::course(repair, &good.desired.digest, world.now(), patience) != Course::Try => {
                let waits =
                    repair.iter().fold(fault, |fault, repair| retry::with_repair(fault, &good.revision, repair));
                draft.put_off.push(waits);
                put_off.alone.insert(stack.name.clone());
            }
            Some(good) => {
                draft.put_off.push(fault);
                *stack = good.desired;
                put_off.kept.insert(stack.name.clone(), good.revision);
            }
            None => {
                draft.put_off.push(fault);
                put_off.alone.insert(stack.name.clone());
            }
        }
    }
    Ok(put_off)
}

/// The step in which a run before this one was killed.
fn interrupted(world: &impl World, draft: &mut Draft) -> Result<Option<Intent>, Fault> {
    let intent = world.intent()?;
    if let Some(intent) = &intent {
        world.say(Event::RunResumed { run: draft.run.clone(), step: intent.step.clone() });
        draft.remarks.push(format!("run {} was killed in the middle of: {}", intent.run, one_line(&intent.step)));
    }
    Ok(intent)
}

fn one_line(step: &Step) -> String {
    format!("{} {} {}", step.action.verb(), step.stack, step.action.object())
}

fn went_back(intent: Option<&Intent>, stack: &str) -> bool {
    intent.is_some_and(|intent| intent.phase == Phase::Back && intent.step.stack == stack)
}
