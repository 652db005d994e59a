//! Looks, before anything is touched, who is attached to the networks that Compose is about to make anew.

use std::collections::BTreeSet;

use crate::decide::attached;
use crate::decide::fault::Fault;
use crate::decide::report::Draft;
use crate::model::{Attached, Desired, DesiredStack, Ledger};
use crate::runs::put_off::PutOff;
use crate::world::World;

/// Who is attached to the networks of these stacks that change. Stacks whose networks cannot be made anew now are put off.
pub async fn look(
    world: &impl World,
    desired: &Desired,
    ledger: &Ledger,
    draft: &mut Draft,
    put_off: &mut PutOff,
) -> Result<Vec<Attached>, Fault> {
    let attached = of(world, &desired.stacks, ledger).await?;
    if !attached.is_empty() {
        for stack in &desired.stacks {
            if let Some(fault) = refusal(world, stack, &attached, ledger, &put_off.alone) {
                draft.put_off.push(fault);
                put_off.alone.insert(stack.name.clone());
            }
        }
    }
    Ok(attached)
}

/// Who is attached to the networks of these stacks that change.
pub async fn of(world: &impl World, stacks: &[DesiredStack], ledger: &Ledger) -> Result<Vec<Attached>, Fault> {
    let made_anew = |stack| {
        attached::made_anew(stack, ledger.applied.get(&stack.name), ledger.begun.get(&stack.name)).into_values()
    };
    let networks: BTreeSet<String> = stacks.iter().flat_map(made_anew).map(str::to_owned).collect();
    match networks.is_empty() {
        true => Ok(Vec::new()),
        false => world.attached(&networks).await,
    }
}

/// Why the networks of a stack cannot be made anew now. A container is moved only if the next run would put it back.
pub fn refusal(
    world: &impl World,
    stack: &DesiredStack,
    attached: &[Attached],
    ledger: &Ledger,
    alone: &BTreeSet<String>,
) -> Option<Fault> {
    let networks = attached::made_anew(stack, ledger.applied.get(&stack.name), ledger.begun.get(&stack.name));
    let held: BTreeSet<&String> = ledger.held_stacks(world.now()).map(|(stack, _)| stack).collect();
    let may_move = |name: &&String| !alone.contains(*name) && !held.contains(*name);
    let movable = ledger.applied.keys().filter(may_move).map(String::as_str).collect();
    attached::refusal(stack, &networks, attached, &movable)
}
