//! Why a stack has to be written and a service brought up: everything that is not as it should be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::decide::plan::Circumstances;
use crate::decide::{compose, difference, drift};
use crate::model::{Applied, Cause, Container, DesiredStack, Observed};

pub(super) fn write_causes(
    stack: &DesiredStack,
    applied: Option<&Applied>,
    circumstances: &Circumstances<'_>,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    let written = circumstances.attempted.and_then(|attempted| attempted.get(&stack.name));
    match applied {
        None => causes.push(Cause::NewStack),
        Some(applied) if applied.digest != stack.digest => causes.push(Cause::InputsChanged),
        Some(_) if written != Some(&stack.digest) => causes.push(Cause::OtherInputsWritten),
        Some(_) => {}
    }
    if circumstances.without_memory.contains(&stack.name) && applied.is_some() {
        causes.push(Cause::MemoryEmpty);
    }
    causes
}

/// Why each service must be brought up; services that are as they should be are absent.
pub(super) fn service_causes(
    stack: &DesiredStack,
    applied: Option<&Applied>,
    observed: &Observed,
    circumstances: &Circumstances<'_>,
) -> BTreeMap<String, Vec<Cause>> {
    let mut all = BTreeMap::new();
    let none = BTreeSet::new();
    let cut = circumstances.seen.map_or(&none, |seen| &seen.cut);
    let begun = circumstances.begun.and_then(|begun| begun.get(&stack.name));
    for (service, definition) in &stack.model.services {
        let mut causes = Vec::new();
        let containers: Vec<&Container> =
            observed.of(&stack.name).filter(|container| &container.service == service).collect();
        if containers.len() < compose::replicas(definition) {
            causes.push(Cause::NoContainer { service: service.clone() });
        }
        if let Some(applied) = applied {
            let changed = changes(service, definition, stack, applied);
            if changed.is_empty() {
                let drifted = drift::of_service(service, &stack.model, &containers, applied, cut);
                let is_handover = begun.is_some_and(|begun| begun.handovers.contains_key(service));
                match is_handover && !drifted.is_empty() {
                    true => causes.push(Cause::HandoverCut { service: service.clone() }),
                    false => causes.extend(drifted),
                }
            }
            causes.extend(changed);
            let has_finished = |container: &&Container| drift::has_finished(definition, container);
            let is_done = !containers.is_empty() && containers.iter().all(has_finished);
            // Compose would run a one-shot again, whether its hash is another one or not (docs/facts.md, C1).
            if applied.plugin != circumstances.plugin && !is_done {
                causes.push(plugin_changed(applied, circumstances));
            }
        } else if causes.is_empty() {
            // Containers of this project exist, but not by our hand: Compose decides whether they fit.
            causes.push(Cause::NewStack);
        }
        causes.dedup();
        if !causes.is_empty() {
            all.insert(service.clone(), causes);
        }
    }
    all
}

fn changes(service: &str, definition: &Json, stack: &DesiredStack, applied: &Applied) -> Vec<Cause> {
    let mut causes = Vec::new();
    match applied.model.services.get(service) {
        None => causes.push(Cause::NoContainer { service: service.to_owned() }),
        Some(before) => {
            for (field, from, to) in difference::differences(before, definition) {
                causes.push(Cause::FieldChanged { service: service.to_owned(), field, from, to });
            }
        }
    }
    causes.extend(other_volumes(service, definition, stack, applied));
    if applied.content.get(service) != stack.content.get(service) {
        causes.push(Cause::ContentChanged { service: service.to_owned() });
    }
    causes.dedup();
    causes
}

/// Volumes whose definition changed under the same name. Compose compares them at every `up`, asks whether it may delete the
/// data, gets no answer and keeps the volume (docs/facts.md, C9).
pub(super) fn diverged_volumes(stack: &DesiredStack, applied: Option<&Applied>) -> Vec<Cause> {
    let before = applied.into_iter().flat_map(|applied| &applied.model.volumes);
    let is_diverged = |(key, was): &(&String, &Json)| {
        stack.model.volumes.get(*key).is_some_and(|now| now != *was && now.get("name") == was.get("name"))
    };
    before.filter(is_diverged).map(|(key, _)| Cause::VolumeDiverged { what: format!("volumes.{key}") }).collect()
}

/// The volumes of a service that are others now, by their name: it gets a container that mounts those.
fn other_volumes(service: &str, definition: &Json, stack: &DesiredStack, applied: &Applied) -> Vec<Cause> {
    let mounts = definition.get("volumes").and_then(Json::as_array).into_iter().flatten();
    let keys: BTreeSet<&str> = mounts.filter_map(|mount| mount.get("source")?.as_str()).collect();
    let name = |definition: &Json| definition.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
    let other = |key: &str| {
        let (from, to) = (name(applied.model.volumes.get(key)?), name(stack.model.volumes.get(key)?));
        let field = format!("volumes.{key}.name");
        (from != to).then(|| Cause::FieldChanged { service: service.to_owned(), field, from, to })
    };
    keys.into_iter().filter_map(other).collect()
}

pub(super) fn plugin_changed(applied: &Applied, circumstances: &Circumstances<'_>) -> Cause {
    Cause::PluginChanged { from: applied.plugin.clone(), to: circumstances.plugin.clone() }
}
