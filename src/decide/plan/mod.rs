//! Decides what to do, and says why. Asks nothing, changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::compose::Extension;
use crate::decide::drift::{self, Edited};
use crate::decide::gone::{self, Gone};
use crate::decide::start_first::{Course, Scene};
use crate::decide::traefik::due::Due;
use crate::decide::traefik::host::STACK as TRAEFIK;
use crate::decide::{attached, compose};
use crate::model::ledger::Begun;
use crate::model::{Action, Applied, Attached, Cause, Desired, DesiredStack, Observed, Plan, Seen, State, Step};

mod causes;

use causes::{diverged_volumes, plugin_changed, service_causes, write_causes};

/// Everything that a plan is made from, besides what should be and what is.
#[derive(Debug, Clone, Default)]
pub struct Circumstances<'a> {
    /// What was last applied, by stack.
    pub applied: Option<&'a BTreeMap<String, Applied>>,
    /// The inputs that stand in each stack's directory.
    pub attempted: Option<&'a BTreeMap<String, String>>,
    /// What unfinished deploys may have left behind, by stack.
    pub begun: Option<&'a BTreeMap<String, Begun>>,
    /// Who ran at the last look, and who was cut since.
    pub seen: Option<&'a Seen>,
    /// The images that are not on this host.
    pub missing_images: BTreeSet<String>,
    /// The stacks whose files in memory are gone.
    pub without_memory: BTreeSet<String>,
    /// Files of stacks that are not as they were written.
    pub edited: BTreeMap<String, Vec<Edited>>,
    /// What of the routes must be published.
    pub routes: Due,
    /// Who is attached to networks that change.
    pub attached: Vec<Attached>,
    /// Stacks that are declared and are not to be touched in this run.
    pub left_alone: BTreeSet<String>,
    /// The version of the Compose plugin.
    pub plugin: String,
}

/// The plan that takes a host from what is to what should be. Empty when they agree.
pub fn plan(desired: &Desired, observed: &Observed, circumstances: &Circumstances<'_>) -> Plan {
    let none = BTreeMap::new();
    let applied = circumstances.applied.unwrap_or(&none);
    let mut steps = Vec::new();
    let mut acts = Vec::new();
    for stack in desired.stacks.iter().filter(|stack| !circumstances.left_alone.contains(&stack.name)) {
        let stack_steps = plan_stack(stack, applied.get(&stack.name), observed, circumstances);
        if !stack_steps.is_empty() {
            // All images first: nothing that runs is touched when one of them cannot be had.
            for pull in pulls(stack, &circumstances.missing_images) {
                // Two stacks may use one image.
                if !steps.iter().any(|step: &Step| step.action == pull.action) {
                    steps.push(pull);
                }
            }
        }
        acts.extend(stack_steps);
    }
    let declared: BTreeSet<&str> = desired.stacks.iter().map(|stack| stack.name.as_str()).collect();
    let begun = circumstances.begun.into_iter().flat_map(BTreeMap::keys);
    let ours: BTreeSet<&String> = applied.keys().chain(begun).collect();
    for name in ours.into_iter().filter(|name| !declared.contains(name.as_str())) {
        // A request that is let in must find somebody.
        if circumstances.routes.causes.contains_key(name) && name != TRAEFIK {
            acts.push(step(name, Action::Publish { routes: 0 }, vec![Cause::StackNotDeclared]));
        }
        acts.push(step(name, Action::Down, vec![Cause::StackNotDeclared]));
    }
    steps.extend(acts);
    Plan { steps }
}

/// Whether a stack is as the last run left it, as far as its inputs and its containers tell. Then nothing about it
/// needs to be rendered, resolved or compared.
pub fn is_settled(digest: &str, applied: Option<&Applied>, observed: &Observed, stack: &str, plugin: &str) -> bool {
    applied.is_some_and(|applied| {
        applied.digest == digest && applied.plugin == plugin && applied.snapshot == observed.snapshot(stack)
    })
}

fn pulls(stack: &DesiredStack, missing: &BTreeSet<String>) -> Vec<Step> {
    let images = compose::images(&stack.model);
    let pull = |image: &String| step(&stack.name, Action::Pull { image: image.clone() }, vec![Cause::ImageMissing]);
    images.intersection(missing).map(pull).collect()
}

fn plan_stack(
    stack: &DesiredStack,
    applied: Option<&Applied>,
    observed: &Observed,
    circumstances: &Circumstances<'_>,
) -> Vec<Step> {
    let begun = circumstances.begun.and_then(|begun| begun.get(&stack.name));
    let handovers = begun.map(|begun| &begun.handovers);
    let (mut steps, observed) = drift::mend(stack, applied, observed);
    let (undone, observed) = Scene { stack, applied, observed: &observed, handovers }.undo();
    steps.extend(undone);
    let observed = &observed;
    let mut write_causes = write_causes(stack, applied, circumstances);
    let edited = circumstances.edited.get(&stack.name).map(Vec::as_slice).unwrap_or_default();
    // A directory that is written anyway says nothing about who changed it.
    let restarted = if write_causes.is_empty() { drift::users(stack, edited) } else { BTreeSet::new() };
    if write_causes.is_empty() {
        write_causes.extend(edited.iter().map(Edited::cause));
    }
    if !write_causes.is_empty() {
        write_causes.extend(diverged_volumes(stack, applied));
        steps.push(step(&stack.name, Action::Write { files: stack.files.len() }, write_causes));
    }
    let mut causes = service_causes(stack, applied, observed, circumstances);
    let signals = signals(stack, applied, &causes, begun.is_some());
    let restarted: Vec<String> = restarted.into_iter().filter(|service| needs_start(stack, service, &causes)).collect();
    let networks = attached::made_anew(stack, applied, begun);
    let mut gone = gone::services(stack, applied, begun, observed);
    if !networks.is_empty() {
        // Compose could not remove a network that they still use.
        gone.first.append(&mut gone.last);
    }
    // What never worked has no data to save. What is here and was never ours has.
    let is_first = applied.is_none() && begun.is_some();
    if !is_first && wants_snapshot(stack, applied, &causes, &gone, observed) {
        steps.insert(0, step(&stack.name, Action::Snapshot, vec![Cause::SnapshotWanted]));
    }
    let mended: BTreeSet<String> = steps.iter().flat_map(mended_services).collect();
    let chosen: BTreeSet<String> = causes.keys().cloned().collect();
    let mut ungated: BTreeSet<String> = mended.difference(&chosen).cloned().collect();
    let (all, reasons) = compose::with_followers(&stack.model, chosen);
    for (service, on) in reasons {
        causes.entry(service.clone()).or_default().push(Cause::DependsOn { service, on });
    }
    steps.extend(remove(stack, gone.first));
    if networks.is_empty() {
        let scene = Scene { stack, applied, observed, handovers };
        for wave in compose::waves(&stack.model, &all) {
            let course = |service: &String| scene.course(service, &causes[service]);
            let why = |services: &[String]| services.iter().flat_map(|service| causes[service].clone()).collect();
            let (plain, first): (Vec<String>, Vec<String>) =
                wave.into_iter().partition(|service| course(service) == Course::Plain);
            if !plain.is_empty() {
                let up = step(&stack.name, Action::Up { services: plain.clone() }, why(&plain));
                let lost = without_namespace(stack, &up, observed);
                steps.push(up);
                steps.extend(lost);
                steps.push(gate(stack, plain));
            }
            if !first.is_empty() {
                let fresh: Vec<String> =
                    first.iter().filter(|service| course(service) == Course::Beside).cloned().collect();
                let why = why(&fresh);
                steps.extend(scene.steps(&first, fresh, why));
            }
        }
    } else {
        let changed = |key: &&str| Cause::SharedDefinitionChanged { what: format!("networks.{key}") };
        let causes = networks.keys().map(changed).chain(causes.into_values().flatten()).collect();
        let (before, after) = attached::steps(stack, &networks, &circumstances.attached);
        steps.extend(before);
        steps.push(step(&stack.name, Action::UpWhole, causes));
        steps.extend(after);
        steps.push(gate(stack, stack.model.services.keys().cloned().collect()));
    }
    if !restarted.is_empty() {
        ungated.extend(restarted.iter().cloned());
        let causes = edited.iter().map(Edited::cause).collect();
        steps.push(step(&stack.name, Action::Restart { services: restarted }, causes));
    }
    if !ungated.is_empty() {
        steps.push(gate(stack, ungated.into_iter().collect()));
    }
    for (service, signal) in signals {
        let causes = vec![Cause::ContentChanged { service: service.clone() }];
        steps.push(step(&stack.name, Action::Signal { services: vec![service], signal }, causes));
    }
    steps.extend(publish(stack, &steps, circumstances));
    steps.extend(remove(stack, gone.last));
    if let Some(applied) = applied.filter(|applied| steps.is_empty() && applied.plugin != circumstances.plugin) {
        // Nothing to do but to note it.
        let files = stack.files.len();
        steps.push(step(&stack.name, Action::Write { files }, vec![plugin_changed(applied, circumstances)]));
    }
    steps
}

fn remove(stack: &DesiredStack, services: Vec<String>) -> Option<Step> {
    let causes = services.iter().map(|service| Cause::ServiceNotDeclared { service: service.clone() }).collect();
    (!services.is_empty()).then(|| step(&stack.name, Action::Remove { services }, causes))
}

/// Services that live in the namespace of one that `up` starts and does not replace. Compose leaves them as they are, in a
/// namespace that nothing reaches any more.
fn without_namespace(stack: &DesiredStack, up: &Step, observed: &Observed) -> Option<Step> {
    let stopped = |service: &&String| {
        let mut containers = observed.of(&stack.name).filter(|container| container.service == **service).peekable();
        containers.peek().is_some() && containers.all(|container| !matches!(container.state, State::Running))
    };
    let Action::Up { services } = &up.action else { return None };
    let lost = |of: &String| {
        let is_in = |service: &&String| compose::namespaces(&stack.model.services[*service]).any(|leader| leader == of);
        let lost = |service: &String| Cause::NamespaceLost { service: service.clone(), of: of.clone() };
        services.iter().filter(is_in).map(lost).collect::<Vec<_>>()
    };
    let causes: Vec<Cause> = services.iter().filter(stopped).flat_map(lost).collect();
    let lost = causes.iter().filter_map(|cause| match cause {
        Cause::NamespaceLost { service, .. } => Some(service.clone()),
        _ => None,
    });
    let services: BTreeSet<String> = lost.collect();
    let services: Vec<String> = services.into_iter().collect();
    (!services.is_empty()).then(|| step(&stack.name, Action::Restart { services }, causes))
}

fn step(stack: &str, action: Action, causes: Vec<Cause>) -> Step {
    Step { stack: stack.to_owned(), action, causes }
}

fn gate(stack: &DesiredStack, services: Vec<String>) -> Step {
    let action = Action::Gate { services, timeout: stack.health_timeout };
    step(&stack.name, action, vec![Cause::AfterUp])
}

/// Routes come after the gate of what they lead to, and go before it is removed.
fn publish(stack: &DesiredStack, before: &[Step], circumstances: &Circumstances<'_>) -> Option<Step> {
    let due = &circumstances.routes;
    let mut causes = due.causes.get(&stack.name).cloned().unwrap_or_default();
    let is_up = |step: &Step| matches!(step.action, Action::Up { .. } | Action::UpWhole | Action::Restart { .. });
    // Another Traefik, or one with other settings, may not serve what the one before did.
    if stack.name == TRAEFIK && !due.routes.is_empty() && before.iter().any(is_up) {
        causes.push(Cause::AfterUp);
    }
    let routes = due.routes.get(&stack.name).copied().unwrap_or_default();
    (!causes.is_empty()).then(|| step(&stack.name, Action::Publish { routes }, causes))
}

/// The services whose containers get on without Compose: those that were paused, or that go on serving.
fn mended_services(step: &Step) -> Vec<String> {
    match &step.action {
        Action::Unpause { services } | Action::Withdraw { services, .. } => services.clone(),
        _ => Vec::new(),
    }
}

/// Whether a service must be started again to see a file that was put back. One that is brought up anyway does, one
/// that watches its files sees it.
fn needs_start(stack: &DesiredStack, service: &str, causes: &BTreeMap<String, Vec<Cause>>) -> bool {
    let extension = compose::service_extension(&stack.model.services[service]).unwrap_or_default();
    !causes.contains_key(service) && extension.reload.as_deref() != Some(compose::WATCH)
}

/// Whether a snapshot must come first: a container that holds data is about to be replaced by another one.
fn wants_snapshot(
    stack: &DesiredStack,
    applied: Option<&Applied>,
    causes: &BTreeMap<String, Vec<Cause>>,
    gone: &Gone,
    observed: &Observed,
) -> bool {
    let wanted = Extension::read(&stack.model.extension).is_ok_and(|extension| extension.deploy.snapshot_before);
    let replaces = |cause: &Cause| !matches!(cause, Cause::Drifted { .. } | Cause::NoContainer { .. });
    let holds_data = |service: &str| {
        let volumes = stack.model.services.get(service).and_then(|service| service.get("volumes")?.as_array());
        volumes.is_some_and(|volumes| !volumes.is_empty())
    };
    let exists = |service: &str| observed.of(&stack.name).any(|container| container.service == service);
    let replaced = |(service, causes): (&String, &Vec<Cause>)| {
        causes.iter().any(replaces) && holds_data(service) && exists(service)
    };
    // Its data goes on under another name.
    let before = |service: &String| applied.and_then(|applied| applied.model.services.get(service));
    let renamed = |service: &String| before(service).is_some_and(|before| !gone::holds_data(before).is_empty());
    wanted && (causes.iter().any(replaced) || gone.first.iter().any(renamed))
}

/// Signals for services whose mounted files changed and that get no new container anyway.
fn signals(
    stack: &DesiredStack,
    applied: Option<&Applied>,
    recreated: &BTreeMap<String, Vec<Cause>>,
    unfinished: bool,
) -> Vec<(String, String)> {
    let Some(applied) = applied else {
        return Vec::new();
    };
    let signal = |(service, digest): (&String, &String)| {
        // Its container is the old one, but an unfinished deploy may have made it read other files.
        let changed = unfinished || applied.reloads.get(service) != Some(digest);
        let changed = changed && !recreated.contains_key(service);
        let rule = compose::service_extension(stack.model.services.get(service)?).ok()?.reload?;
        // A service that watches its files needs to be told nothing.
        (changed && rule != compose::WATCH).then(|| (service.clone(), rule))
    };
    stack.reloads.iter().filter_map(signal).collect()
}
