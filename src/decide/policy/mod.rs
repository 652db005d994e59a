//! Decides whether a stack may have what it asks for. Judges what Compose resolved; only what must be known before
//! Compose is started is looked up in the files ([`source`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::decide::fault::{Code, Fault};
use crate::decide::mistake::Mistake;
use crate::decide::taint;
use crate::model::host::HostSpec;
use crate::model::policy::{Allowance, Exception, Rule};
use crate::model::{Desired, DesiredStack, Model, Settings};

mod keys;
mod mounts;
mod path;
mod place;
mod service;
pub mod settings;
mod shared;
pub mod sketch;
pub mod source;

pub use path::is_harmless_to_read;
pub use place::line_with;

/// What a stack asks for beyond what every stack may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// The rule that is against it.
    pub rule: Rule,
    /// The path in the model: `services.web.cap_add`.
    pub place: String,
    /// What it asks for, in the form of an exception's `value`.
    pub value: String,
}

/// Where a stack stands: what is its own, and what is somebody else's.
#[derive(Debug, Clone)]
pub struct Ground<'a> {
    /// The stack.
    pub stack: &'a str,
    /// The other stacks of the host.
    pub neighbours: Vec<&'a str>,
    /// The stack's own directory.
    pub directory: PathBuf,
    /// The directories of moorline itself.
    pub moorline: Vec<PathBuf>,
    /// The sockets with which one is root.
    pub sockets: Vec<PathBuf>,
}

impl<'a> Ground<'a> {
    /// The ground of one stack of a host.
    pub fn new(stack: &'a str, stacks: &'a [String], settings: &Settings) -> Self {
        let above = |file: &Path| file.parent().map(Path::to_owned);
        let usual = ["/etc/moorline", "/var/lib/moorline", "/run/moorline"].map(PathBuf::from);
        let mut moorline: Vec<PathBuf> =
            usual.into_iter().chain([settings.state.clone(), settings.run.clone()]).collect();
        moorline.extend([above(&settings.age_key), above(&settings.allowed_signers)].into_iter().flatten());
        let known = ["/run/docker.sock", "/run/containerd/containerd.sock"].map(PathBuf::from);
        Self {
            stack,
            neighbours: stacks.iter().map(String::as_str).filter(|other| *other != stack).collect(),
            directory: settings.stack_directory(stack),
            moorline: moorline.iter().map(|path| path::normal(path)).collect(),
            sockets: known.into_iter().chain([path::normal(&settings.socket)]).collect(),
        }
    }
}

/// Everything that a stack asks for beyond what every stack may have.
pub fn demands(model: &Model, ground: &Ground<'_>) -> Vec<Demand> {
    let mut found = Vec::new();
    for (name, service) in &model.services {
        service::judge(name, service, ground, &mut found);
    }
    shared::judge(model, ground, &mut found);
    for demand in &mut found {
        demand.value = taint::readable(&demand.value);
    }
    found.sort();
    found.dedup();
    found
}

/// What can be said of a Compose file before Compose has read it: a mistake for each plain demand without exception.
pub fn sketched(stack: &str, file: &Json, text: &str, allowances: &[Allowance]) -> Vec<Mistake> {
    let settings = crate::decide::settings::of_nowhere(stack, None);
    let demands = demands(&sketch::draw(file), &Ground::new(stack, &[], &settings));
    let path = format!("stacks/{stack}/compose.yaml");
    let denied = demands.iter().filter(|demand| !is_allowed(demand, allowances));
    let mistake = |demand: &Demand| {
        let line = place::line(text, demand);
        match exceptions(&[(stack, demand)]).get(1) {
            None => Mistake::at(&path, line, sentence(demand)),
            Some(exception) => {
                let exception = exception.trim_start_matches([' ', '-']);
                let text =
                    format!("{}; to allow it: policy.allow.{stack} in moorline.yaml, {exception}", sentence(demand));
                Mistake::at(&path, line, text)
            }
        }
    };
    denied.map(mistake).collect()
}

/// Lets a host's stacks pass, or refuses all of them with every reason. Returns what a person should know: exceptions
/// that nothing needs.
pub fn admit(desired: &Desired, spec: &HostSpec, settings: &Settings) -> Result<Vec<String>, Fault> {
    let stacks: Vec<String> = desired.stacks.iter().map(|stack| stack.name.clone()).collect();
    let mut refused = Vec::new();
    let mut notes = Vec::new();
    for stack in &desired.stacks {
        let none = Vec::new();
        let allowances = spec.allowances.get(&stack.name).unwrap_or(&none);
        let demands = demands(&stack.model, &Ground::new(&stack.name, &stacks, settings));
        let (_, denied): (Vec<_>, Vec<_>) = demands.iter().partition(|demand| is_allowed(demand, allowances));
        refused.extend(denied.into_iter().map(|demand| (stack, demand.clone())));
        notes.extend(unused(&demands, allowances).map(|allowance| {
            format!("{}: stack {} has no use for `{}`", allowance.place, stack.name, in_words(allowance))
        }));
    }
    if refused.is_empty() {
        return Ok(notes);
    }
    let what = desired.revision.as_ref().map_or("this directory", |revision| revision.short());
    Err(refusal(&refused, what))
}

fn unused<'a>(demands: &[Demand], allowances: &'a [Allowance]) -> impl Iterator<Item = &'a Allowance> {
    allowances.iter().filter(|allowance| !demands.iter().any(|demand| covers(allowance, demand)))
}

fn in_words(allowance: &Allowance) -> String {
    format!("{}: {}", allowance.rule.name(), allowance.value)
}

/// Whether an exception covers what is asked for.
pub fn is_allowed(demand: &Demand, allowances: &[Allowance]) -> bool {
    demand.rule.exception() == Exception::ByName && allowances.iter().any(|allowance| covers(allowance, demand))
}

fn covers(allowance: &Allowance, demand: &Demand) -> bool {
    allowance.rule == demand.rule
        && match demand.rule {
            Rule::Bind => path::allows(&allowance.value, &demand.value, path::Reach::Below),
            Rule::EngineSocket | Rule::SystemPath => {
                path::allows(&allowance.value, &demand.value, path::Reach::Exactly)
            }
            Rule::CapAdd => service::capability(&allowance.value) == demand.value,
            Rule::PublishedPort => service::ports_within(&demand.value, &allowance.value),
            _ => allowance.value == demand.value,
        }
}

fn refusal(refused: &[(&DesiredStack, Demand)], what: &str) -> Fault {
    let things = match refused.len() {
        1 => "1 thing".to_owned(),
        more => format!("{more} things"),
    };
    let mut fault = Fault::new(Code::PolicyRefused, format!("{things} in {what} may not be had without an exception"));
    for (stack, demand) in refused {
        let text = stack.files.get("compose.yaml").and_then(|file| file.text().ok()).unwrap_or_default();
        let path = format!("stacks/{}/compose.yaml", stack.name);
        fault = fault.at(Mistake::at(path, place::line(text, demand), sentence(demand)).to_string());
    }
    fault = fault.at("nothing was changed");
    let asked: Vec<(&str, &Demand)> = refused.iter().map(|(stack, demand)| (stack.name.as_str(), demand)).collect();
    let exceptions: Vec<String> = exceptions(&asked);
    match exceptions.is_empty() {
        true => fault.hint("there are no exceptions to these rules, see docs/policy.md"),
        false => fault.hint(format!(
            "take it out, or, if it must be, add to moorline.yaml:\npolicy:\n  allow:\n{}",
            exceptions.join("\n")
        )),
    }
}

/// What is asked for, and what is against it.
pub fn sentence(demand: &Demand) -> String {
    let (name, _, _, meaning) = demand.rule.table();
    format!("{}: `{}` is refused by rule {name} ({meaning})", demand.place, demand.value)
}

/// The lines of `policy.allow` that would allow all of it, the stacks between them.
fn exceptions(refused: &[(&str, &Demand)]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    let mut last = "";
    for (stack, demand) in refused.iter().filter(|(_, demand)| demand.rule.exception() == Exception::ByName) {
        if !seen.insert((stack, demand.rule, &demand.value)) {
            continue;
        }
        if *stack != last {
            lines.push(format!("    {stack}:"));
            last = stack;
        }
        let value = Json::String(demand.value.clone());
        lines.push(format!("      - {{ rule: {}, value: {value}, reason: \"...\" }}", demand.rule.name()));
    }
    lines
}

#[cfg(test)]
mod tests;
