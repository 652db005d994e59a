//! Decides who must leave a network before Compose can make it anew, and who comes back afterwards.
//!
//! Compose stops the project's own containers, removes the network and makes it again. With one endpoint left it fails in
//! the middle, and so does every later try (docs/facts.md, C10). So whoever is in the way is moved first, or nothing is begun.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::decide::fault::{Code, Fault};
use crate::model::ledger::Begun;
use crate::model::{Action, Applied, Attached, Cause, DesiredStack, Step};

/// The networks that Compose will remove and make again: their name, by their name in the stack.
pub fn made_anew<'a>(
    stack: &'a DesiredStack,
    applied: Option<&Applied>,
    begun: Option<&Begun>,
) -> BTreeMap<&'a str, &'a str> {
    let applied = applied.map(|applied| &applied.model.networks);
    let before: Vec<_> = applied.into_iter().chain(begun.map(|begun| &begun.networks)).collect();
    let name = |definition: &'a Json| definition.get("name").and_then(Json::as_str);
    let is_changed = |key: &String, now: &Json| {
        let before = before.iter().filter_map(|networks| networks.get(key));
        before.into_iter().any(|was| was != now && was.get("name") == now.get("name"))
    };
    let is_external = |now: &Json| now.get("external").is_some_and(|external| external != &Json::Bool(false));
    let changed = stack.model.networks.iter().filter(|(key, now)| is_changed(key, now) && !is_external(now));
    changed.filter_map(|(key, now)| Some((key.as_str(), name(now)?))).collect()
}

/// Who is in the way of this stack.
struct InTheWay<'a> {
    key: &'a str,
    attached: &'a Attached,
    /// Whether it is a container of this stack, which gets a new one anyway.
    own: bool,
}

fn in_the_way<'a>(
    stack: &'a DesiredStack,
    networks: &BTreeMap<&'a str, &'a str>,
    attached: &'a [Attached],
) -> Vec<InTheWay<'a>> {
    let mut found = Vec::new();
    for (key, name) in networks {
        for attached in attached.iter().filter(|attached| attached.network == *name) {
            let service = match &attached.made_for {
                Some((project, service)) if *project == stack.name => Some(service),
                _ => None,
            };
            let own = match service.map(|service| stack.model.services.get(service)) {
                // Compose stops it itself.
                Some(Some(definition)) if uses(definition, key) => continue,
                // It was removed before.
                Some(None) => continue,
                Some(Some(_)) => true,
                None => false,
            };
            found.push(InTheWay { key, attached, own });
        }
    }
    found
}

fn uses(service: &Json, network: &str) -> bool {
    service.get("networks").is_some_and(|networks| networks.get(network).is_some())
}

/// The steps before and after Compose makes the networks of a stack anew.
pub fn steps(stack: &DesiredStack, networks: &BTreeMap<&str, &str>, attached: &[Attached]) -> (Vec<Step>, Vec<Step>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for InTheWay { key, attached, own } in in_the_way(stack, networks, attached) {
        let step = |action| {
            let causes = vec![Cause::SharedDefinitionChanged { what: format!("networks.{key}") }];
            Step { stack: stack.name.clone(), action, causes }
        };
        let (id, name, network) = (attached.id.clone(), attached.name.clone(), attached.network.clone());
        before.push(step(Action::Detach { id: id.clone(), name: name.clone(), network: network.clone() }));
        if !own {
            after.push(step(Action::Attach { id, name, network, endpoint: attached.endpoint.clone() }));
        }
    }
    (before, after)
}

/// Why the networks of a stack cannot be made anew now. `movable` are the stacks whose containers may be moved: if that is
/// cut in the middle, the next run finds them off their network and puts them back. Nobody would do so for others.
pub fn refusal(
    stack: &DesiredStack,
    networks: &BTreeMap<&str, &str>,
    attached: &[Attached],
    movable: &BTreeSet<&str>,
) -> Option<Fault> {
    let all = in_the_way(stack, networks, attached);
    let may_move =
        |attached: &Attached| attached.made_for.as_ref().is_some_and(|(project, _)| movable.contains(project.as_str()));
    let foreign: Vec<&Attached> =
        all.iter().filter(|found| !found.own && !may_move(found.attached)).map(|found| found.attached).collect();
    let first = foreign.first()?;
    let lines = foreign.iter().map(|attached| format!("{} is attached to {}", attached.name, attached.network));
    let sentence = format!("{} is left as it is: its network {} changed and is in use", stack.name, first.network);
    let mut fault = Fault::new(Code::NetworkInUse, sentence);
    fault.because.extend(lines);
    Some(fault.at("nothing was changed: Compose would stop the stack and fail, as long as these are attached").hint(
        format!(
            "docker network disconnect {network} {name}; moorline reconcile; docker network connect {network} {name}",
            network = first.network,
            name = first.name
        ),
    ))
}
