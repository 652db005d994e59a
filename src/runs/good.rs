//! The last good version of each stack: noted when a stack passed its last gate, and found again when a later one fails.

use crate::decide::digest::DigestKey;
use crate::decide::fault::{Code, Fault};
use crate::decide::render::{self, Secrets};
use crate::decide::{delivery, seen};
use crate::model::{Applied, DesiredStack, Good, HostSpec, Inputs, Ledger, Left, Revision};
use crate::runs::images;
use crate::runs::prepare::{self, Prepared};
use crate::world::World;

/// A version that worked, ready to be brought up.
#[derive(Debug)]
pub struct LastGood {
    /// The stack as it was.
    pub desired: DesiredStack,
    /// The revision it came from.
    pub revision: Revision,
    /// The secrets that it was made with.
    pub secrets: Secrets,
    /// What it was made from.
    pub inputs: Inputs,
}

/// Remembers what was applied, with what the engine shows right after, and keeps what it was made from.
pub async fn note_applied(
    world: &impl World,
    stack: &str,
    prepared: &Prepared,
    ledger: &mut Ledger,
) -> Result<(), Fault> {
    match prepared.desired.stacks.iter().find(|desired| desired.name == stack) {
        None => {
            ledger.applied.remove(stack);
            ledger.attempted.remove(stack);
            ledger.begun.remove(stack);
            ledger.failures.remove(stack);
            ledger.repairs.remove(stack);
            ledger.before.remove(stack);
        }
        Some(desired) => {
            let Some(revision) = prepared.revision_of(stack) else { return Ok(()) };
            match prepared.put_off.kept.contains_key(stack) {
                true => {
                    // A way back that was cut has come to its end.
                    let failure = ledger.failures.get_mut(stack).filter(|failure| failure.left == Left::Begun);
                    failure.into_iter().for_each(|failure| failure.left = Left::RolledBack);
                }
                false => {
                    // First: a version that is noted as applied must be there to go back to.
                    keep(world, prepared, desired, &revision, ledger)?;
                    ledger.failures.remove(stack);
                }
            }
            ledger.repairs.remove(stack);
            note(world, desired, revision, &prepared.plugin.version, ledger).await?;
        }
    }
    world.persist(ledger)
}

/// Notes a version as the one that works.
pub async fn note(
    world: &impl World,
    desired: &DesiredStack,
    revision: Revision,
    plugin: &str,
    ledger: &mut Ledger,
) -> Result<(), Fault> {
    let observed = world.observe().await?;
    let snapshot = observed.snapshot(&desired.name);
    let digests = images::digests(world, &snapshot).await?;
    let applied = Applied {
        revision,
        digest: desired.digest.clone(),
        model: desired.model.clone(),
        content: desired.content.clone(),
        reloads: desired.reloads.clone(),
        snapshot,
        digests,
        plugin: plugin.to_owned(),
        at: world.now(),
    };
    ledger.applied.insert(desired.name.clone(), applied);
    ledger.begun.remove(&desired.name);
    // Not only at the end of the run: it may be killed before, and the host be shut down after that.
    ledger.seen = seen::look(&ledger.seen, &ledger.applied, &observed);
    Ok(())
}

/// Keeps what every stack that works was made from, as the repository has it now: a key that was rotated since opens
/// only the newer file.
pub fn keep_all(world: &impl World, prepared: &Prepared, ledger: &Ledger) -> Result<(), Fault> {
    for desired in prepared.desired.stacks.iter().filter(|stack| !prepared.put_off.concerns(&stack.name)) {
        if let Some(applied) = ledger.applied.get(&desired.name).filter(|applied| applied.digest == desired.digest) {
            keep(world, prepared, desired, &applied.revision, ledger)?;
        }
    }
    Ok(())
}

fn keep(
    world: &impl World,
    prepared: &Prepared,
    desired: &DesiredStack,
    revision: &Revision,
    ledger: &Ledger,
) -> Result<(), Fault> {
    let stack = &desired.name;
    let source = prepared.spec.stacks.iter().filter(|source| source.name == *stack).cloned().collect();
    let spec = HostSpec { stacks: source, notes: Vec::new(), ..prepared.spec.clone() };
    let (digest, revision) = (desired.digest.clone(), revision.clone());
    let named = ledger.applied.get(stack).map(|applied| applied.digest.as_str());
    world.keep_good(&Good { stack: stack.clone(), digest, revision, spec }, named)
}

/// The last good version of a stack; none when it never worked here. Asks neither git nor the registry.
pub fn last_good(world: &impl World, ledger: &Ledger, stack: &str, key: &DigestKey) -> Result<Option<LastGood>, Fault> {
    let Some(applied) = ledger.applied.get(stack) else { return Ok(None) };
    let Some(good) = world.good(stack, &applied.digest)? else { return Ok(None) };
    let (secrets, _opened) = prepare::open(world, &good.spec)?;
    let unusable = || Fault::new(Code::StackRefused, format!("the last good inputs of {stack} cannot be used"));
    let inputs = render::inputs(&good.spec, &secrets, key).pop().ok_or_else(unusable)?;
    let mut desired = render::stack(&inputs, &applied.model, world.settings(), key)
        .map_err(|reasons| reasons.into_iter().fold(unusable(), Fault::because))?;
    // An upgrade of moorline may count the same inputs in another way.
    desired.digest.clone_from(&applied.digest);
    delivery::shift(&mut desired, ledger.remap);
    let inputs = Inputs { digest: applied.digest.clone(), ..inputs };
    Ok(Some(LastGood { desired, revision: good.revision, secrets, inputs }))
}
