//! Puts back what a reboot took: the files in memory of what was last applied, before the engine starts containers.
//!
//! It asks neither network nor engine, and believes nothing new: only revisions that this host has accepted are read,
//! and neither the anchor nor anything else that lasts is changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::digest::DigestKey;
use crate::decide::event::Event;
use crate::decide::fault::Fault;
use crate::decide::trust::Verified;
use crate::decide::{delivery, fleet, render};
use crate::model::{Applied, Inputs, Ledger, Remap, Revision};
use crate::runs::{accept, prepare, publish};
use crate::world::World;

/// What came back and what did not.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Stacks whose files are in memory again.
    pub stacks: BTreeSet<String>,
    /// Stacks that were left as they are, and why.
    pub left: BTreeMap<String, String>,
}

/// Restores what can be. What is in the way of one stack, such as a revision that cannot be opened, is a fault only if
/// that stack was left without its files, and only after all others got theirs.
pub fn restore(world: &impl World) -> Result<Restored, Fault> {
    let ledger = world.ledger()?;
    let (Some(anchor), Some(key)) = (&ledger.anchor, world.digest_key()?) else {
        let lacking = "the anchor or the key for digests is missing";
        let left = ledger.applied.into_keys().map(|stack| (stack, lacking.to_owned())).collect();
        return Ok(Restored { left, ..Restored::default() });
    };
    let (mut wanted, mut restored) = choose(&ledger);
    let mut hindrance = None;
    if !wanted.is_empty() {
        // From the anchor and not from the tip: what was fetched since may be refused, and that is no reason to keep
        // accepted secrets away.
        let verified = accept::verify(world, &ledger, &anchor.revision, Some(&anchor.first))?;
        for revision in revisions(&ledger) {
            if wanted.is_empty() {
                break;
            }
            let done = inputs(world, &ledger, &verified, &revision, &key)
                .and_then(|inputs| restore_from(world, &inputs, &key, ledger.remap, &mut wanted, &mut restored));
            hindrance = hindrance.or(done.err());
        }
    }
    let changed = "what it was made from is not what was last applied";
    restored.left.extend(wanted.keys().map(|stack| ((*stack).to_owned(), changed.to_owned())));
    world.say(Event::SecretsRestored {
        stacks: restored.stacks.iter().cloned().collect(),
        left: restored.left.keys().cloned().collect(),
    });
    let routes = publish::restore(world, &ledger, &key);
    match hindrance {
        Some(fault) if !wanted.is_empty() => Err(left_behind(fault, &wanted)),
        _ => routes.map(|()| restored).map_err(|fault| fault.at("the routes of Traefik were not put back")),
    }
}

/// The stacks whose directory holds what was last applied. After a deploy that did not end well it holds something
/// else, and the `.env` of one beside the files of the other would be neither.
fn choose(ledger: &Ledger) -> (BTreeMap<&str, &Applied>, Restored) {
    let (mut wanted, mut restored) = (BTreeMap::new(), Restored::default());
    for (stack, applied) in &ledger.applied {
        if ledger.attempted.get(stack) == Some(&applied.digest) {
            wanted.insert(stack.as_str(), applied);
        } else {
            restored.left.insert(stack.clone(), "its last deploy did not end well".to_owned());
        }
    }
    (wanted, restored)
}

/// Where the inputs of what was applied may be found, the likeliest first: a stack that a newer revision left
/// unchanged is the same in both, and only the newer one is sealed for a key that was rotated.
fn revisions(ledger: &Ledger) -> Vec<Revision> {
    let settled = ledger.settled.iter().map(|settled| &settled.revision);
    let mut applied: Vec<&Applied> = ledger.applied.values().collect();
    applied.sort_by_key(|applied| std::cmp::Reverse(applied.at));
    let mut revisions = Vec::new();
    for revision in settled.chain(applied.into_iter().map(|applied| &applied.revision)) {
        if !revisions.contains(revision) {
            revisions.push(revision.clone());
        }
    }
    revisions
}

fn inputs(
    world: &impl World,
    ledger: &Ledger,
    verified: &Verified,
    revision: &Revision,
    key: &DigestKey,
) -> Result<Vec<Inputs>, Fault> {
    let tree = accept::admit(world, verified, revision, ledger)?;
    let spec = fleet::read(&tree, &world.settings().host)
        .map_err(|found| fleet::spec_invalid(found, tree.revision().short()))?;
    let (secrets, _) = prepare::open(world, &spec)?;
    Ok(render::inputs(&spec, &secrets, key))
}

/// Compose need not be asked: the ledger has what it made of the same inputs.
fn restore_from(
    world: &impl World,
    inputs: &[Inputs],
    key: &DigestKey,
    remap: Remap,
    wanted: &mut BTreeMap<&str, &Applied>,
    restored: &mut Restored,
) -> Result<(), Fault> {
    let mut first = Ok(());
    for inputs in inputs {
        let Some(applied) = wanted.get(inputs.stack.as_str()).filter(|applied| applied.digest == inputs.digest) else {
            continue;
        };
        match render::stack(inputs, &applied.model, world.settings(), key) {
            Ok(mut desired) => {
                delivery::shift(&mut desired, remap);
                if let Err(fault) = world.restore_memory(&desired) {
                    first = first.and(Err(fault));
                    continue;
                }
                restored.stacks.insert(inputs.stack.clone());
            }
            Err(reasons) => _ = restored.left.insert(inputs.stack.clone(), reasons.join("; ")),
        }
        wanted.remove(inputs.stack.as_str());
    }
    first
}

fn left_behind(fault: Fault, wanted: &BTreeMap<&str, &Applied>) -> Fault {
    let stacks: Vec<&str> = wanted.keys().copied().collect();
    fault.at(format!("the files in memory of {} were not put back", stacks.join(", ")))
}
