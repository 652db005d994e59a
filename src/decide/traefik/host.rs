//! Puts everything together that a host's Traefik is told: dynamic files, the labels of all stacks, and the static
//! configuration they must agree with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::definition::Definition;
use super::file::{self, Rendered};
use super::inspect;
use super::rough;
use super::routes;
use super::service::{self, Service};
use super::statics::{self, Static};
use super::translate::{self, Targets};
use super::watched;
use crate::decide::digest::DigestKey;
use crate::decide::mistake::Mistake;
use crate::model::{Inputs, Model};

/// The stack that is Traefik.
pub const STACK: &str = "traefik";

/// One stack of a host.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// What it is made from.
    pub inputs: &'a Inputs,
    /// What Compose makes of it.
    pub model: &'a Model,
    /// The stack's directory as paths of the model have it.
    pub directory: &'a str,
}

/// What Traefik is told.
#[derive(Debug, Default)]
pub struct Told {
    /// Everything that is defined, in the order of stacks; files come first.
    pub definitions: Vec<Definition>,
    /// The repository's dynamic files as Traefik reads them.
    pub rendered: Vec<Rendered>,
    /// What stands beside them, by path below `dynamic/`.
    pub copied: BTreeMap<String, Vec<u8>>,
    /// The static configuration; absent when the host has no Traefik.
    pub statics: Option<Static>,
    /// Everything that is wrong.
    pub mistakes: Vec<Mistake>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Whether all names that could be meant are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Compose resolved the models, or nothing in them comes from elsewhere.
    Whole,
    /// Something may be defined where it cannot be seen: nothing is called missing.
    Partial,
}

/// The Compose service of a stack that is Traefik: the one with its name or its image.
pub fn traefik_service(model: &Model) -> Option<&str> {
    let image_of = |service: &Json| {
        let image = service.get("image").and_then(Json::as_str).unwrap_or_default().to_owned();
        let name = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned();
        name.split(':').next().unwrap_or_default().to_owned()
    };
    let named = model.services.get_key_value(STACK).map(|(name, _)| name.as_str());
    named.or_else(|| {
        model.services.iter().find(|(_, service)| image_of(service) == STACK).map(|(name, _)| name.as_str())
    })
}

/// Everything that a host's Traefik is told. `targets` gives the names of the containers of a service of a stack; by
/// default those that Compose makes.
pub fn tell(
    stacks: &[Stack<'_>],
    key: &DigestKey,
    sight: Sight,
    targets: &dyn Fn(&str, &str) -> Option<Vec<String>>,
) -> Told {
    let mut told = Told::default();
    let all: BTreeMap<&str, BTreeMap<String, Service>> = stacks
        .iter()
        .map(|stack| {
            let name = stack.inputs.stack.as_str();
            (name, service::services(name, stack.model, &rough::label_lines(stack.inputs)))
        })
        .collect();
    let Some(traefik) = stacks.iter().find(|stack| stack.inputs.stack == STACK) else {
        for (name, services) in &all {
            if services.values().any(|service| translate::is_enabled(&service.labels) == Some(Ok(true))) {
                let text = format!(
                    "stacks/{name}/compose.yaml: nobody reads traefik.* labels, since this host has no stack `{STACK}`"
                );
                told.notes.push(text);
            }
        }
        return told;
    };
    let dynamic = file::read(traefik.inputs, key);
    told.definitions = dynamic.definitions;
    told.rendered = dynamic.rendered;
    told.copied = dynamic.copied;
    told.mistakes = dynamic.mistakes;
    let proxy = traefik_service(traefik.model);
    let mut cut_off = Vec::new();
    for stack in stacks {
        let name = stack.inputs.stack.as_str();
        let Some(services) = all.get(name) else { continue };
        let of_service = |service: &str| {
            let default = || services.get(service).map(|service| service.containers.clone()).unwrap_or_default();
            targets(name, service).unwrap_or_else(default)
        };
        let of_service: Targets<'_> = &of_service;
        let translated = translate::translate(name, services, of_service);
        if let Some(proxy) = proxy.and_then(|proxy| all.get(STACK)?.get(proxy)) {
            cut_off.extend(unreachable(name, services, &translated.definitions, proxy));
        }
        told.definitions.extend(translated.definitions);
        told.mistakes.extend(translated.mistakes);
        told.notes.extend(translated.notes);
    }
    let Some(proxy) = proxy else {
        let text = "no service has the name or the image `traefik`, so nobody knows the entry points";
        told.mistakes.push(Mistake::new(format!("stacks/{STACK}/compose.yaml"), text));
        return told;
    };
    match statics::read(proxy, traefik.inputs, traefik.model, traefik.directory) {
        Ok(statics) => {
            // With a broken file, everything that it defines would be missing, too.
            if told.mistakes.is_empty() && sight == Sight::Whole {
                told.mistakes.extend(inspect::inspect(&told.definitions, &statics));
            }
            told.mistakes.append(&mut cut_off);
            let is_told = !told.definitions.is_empty();
            let definition = traefik.model.services.get(proxy).filter(|_| is_told && sight == Sight::Whole);
            let unwatched = definition.map(|proxy| watched::mistakes(proxy, &statics, traefik.directory));
            told.mistakes.extend(unwatched.into_iter().flatten());
            told.statics = Some(statics);
            if is_told
                && sight == Sight::Whole
                && told.mistakes.is_empty()
                && let Err(why) = routes::api(stacks, &told)
            {
                let text = format!("moorline could not see whether Traefik serves its routes: {why}");
                told.mistakes.push(Mistake::new(format!("stacks/{STACK}/compose.yaml"), text));
            }
        }
        Err(text) => {
            let (path, text) = text.split_once(": ").unwrap_or((STACK, text.as_str()));
            told.mistakes.push(Mistake::new(path, text));
        }
    }
    told
}

/// Services with a route that Traefik cannot reach: containers know one another's names on a shared network only.
fn unreachable(
    stack: &str,
    services: &BTreeMap<String, Service>,
    definitions: &[Definition],
    proxy: &Service,
) -> Vec<Mistake> {
    let path = format!("stacks/{stack}/compose.yaml");
    let mut mistakes = Vec::new();
    for (name, service) in services {
        let is_ours = |one: &&Definition| one.source == super::definition::Source::Labels { service: name.clone() };
        let mut routed = definitions.iter().filter(is_ours).filter(|one| one.section == "services").peekable();
        let Some(first) = routed.peek() else { continue };
        let line = first.line("").or_else(|| service.labels.values().filter_map(|label| label.line).min());
        // With a url of its own, it may be anywhere.
        let has_url = service.labels.keys().any(|label| label.to_lowercase().ends_with(".server.url"));
        let leader = service.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:"));
        let reached = leader.and_then(|leader| services.get(leader)).unwrap_or(service);
        let shared: BTreeSet<&String> = reached.networks.intersection(&proxy.networks).collect();
        if has_url || routed.all(|one| one.value.get("loadBalancer").is_none()) {
            continue;
        }
        let chosen = super::label::aside(&service.labels, "traefik.docker.network").map(|(_, label)| &label.text);
        match chosen {
            Some(chosen) if !shared.contains(chosen) => {
                let text = format!("service `{name}`: Traefik and this service are not both in the network `{chosen}`");
                mistakes.push(Mistake::at(&path, line, text));
            }
            None if shared.is_empty() => {
                let text = format!("service `{name}`: Traefik is in none of its networks, so it cannot be reached");
                mistakes.push(Mistake::at(&path, line, text));
            }
            _ => {}
        }
    }
    mistakes
}

/// [`tell`] for a checkout, where nobody can ask Compose.
pub fn tell_roughly(inputs: &[Inputs], key: &DigestKey) -> Told {
    let directories: Vec<String> = inputs.iter().map(|inputs| format!("/stacks/{}", inputs.stack)).collect();
    let read = |(inputs, directory): (&Inputs, &String)| rough::read(inputs, key, directory);
    let roughs: Vec<rough::Rough> = inputs.iter().zip(&directories).map(read).collect();
    let is_whole = roughs.iter().all(|rough| rough.is_complete);
    let stacks: Vec<Stack<'_>> = inputs
        .iter()
        .zip(&roughs)
        .zip(&directories)
        .map(|((inputs, rough), directory)| Stack { inputs, model: &rough.model, directory })
        .collect();
    tell(&stacks, key, if is_whole { Sight::Whole } else { Sight::Partial }, &|_, _| None)
}
