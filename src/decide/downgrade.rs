//! Decides which stacks stay as they are when a ring goes back: those that say that they only go forward.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::decide::compose::{Extension, Rollback};
use crate::decide::fault::{Code, Fault};
use crate::model::ring::Ring;
use crate::model::{Applied, Desired, DesiredStack, Model, Revision};

/// Whether it matters here which of two revisions is the older one.
pub fn might_matter(applied: &BTreeMap<String, Applied>, target: &Revision) -> bool {
    applied.values().any(|applied| applied.revision != *target && only_forward(&applied.model))
}

/// The stacks that would get another image from an older revision, although they only go forward and the ring does not
/// name them under `downgrade`. `path` is the accepted history, newest first; none when nothing moves.
pub fn left(
    desired: &Desired,
    applied: &BTreeMap<String, Applied>,
    ring: &Ring,
    path: Option<&[Revision]>,
) -> BTreeSet<String> {
    let (Some(path), Some(target)) = (path, &desired.revision) else { return BTreeSet::new() };
    let place = |wanted: &Revision| path.iter().position(|revision| revision == wanted);
    let is_left = |stack: &&DesiredStack| {
        applied.get(&stack.name).is_some_and(|applied| {
            let is_older = place(&applied.revision).zip(place(target)).is_some_and(|(from, to)| to > from);
            is_older
                && !ring.downgrade.contains(&stack.name)
                && only_forward(&applied.model)
                && images(&applied.model) != images(&stack.model)
        })
    };
    desired.stacks.iter().filter(is_left).map(|stack| stack.name.clone()).collect()
}

fn only_forward(model: &Model) -> bool {
    Extension::read(&model.extension).is_ok_and(|extension| extension.deploy.rollback == Some(Rollback::ForwardOnly))
}

fn images(model: &Model) -> BTreeMap<&str, Option<&Json>> {
    model.services.iter().map(|(name, service)| (name.as_str(), service.get("image"))).collect()
}

/// The fault of a run that left stacks as they are.
pub fn fault(left: &BTreeSet<String>, ring: &str) -> Option<Fault> {
    let names: Vec<&str> = left.iter().map(String::as_str).collect();
    let first = names.first()?;
    let sentence = format!("{} was left as it is: it says `rollback: forward-only`", names.join(", "));
    Some(
        Fault::new(Code::DowngradeRefused, sentence)
            .because("the ring goes back to a revision with another image, and its data may have moved on")
            .at("the other stacks were brought to that revision")
            .hint(format!("`downgrade: [{first}]` in rings/{ring}.yaml lets it go back; look at its data first")),
    )
}
