//! Finds what is not as the last run left it: containers that a person, a crash or a killed Compose changed, and
//! files that somebody edited.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::decide::{compose, redact};
use crate::model::{Action, Applied, Cause, Container, DesiredStack, Model, Observed, State, Step};

/// A file in a stack's directory that is not as moorline wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Its path below the directory.
    pub path: String,
    /// Where it is.
    pub place: PathBuf,
    /// What it holds; nothing when it is gone.
    pub found: Option<Vec<u8>>,
}

impl Edited {
    /// Why the directory is written again.
    pub fn cause(&self) -> Cause {
        let found = if self.found.is_some() { "edited" } else { "gone" };
        Cause::FileEdited { path: self.path.clone(), found: found.into() }
    }
}

/// What is not as the last run left it, of one service.
///
/// `cut` are the containers that a restart of the host or of its engine stopped.
pub fn of_service(
    service: &str,
    model: &Model,
    containers: &[&Container],
    applied: &Applied,
    cut: &BTreeSet<String>,
) -> Vec<Cause> {
    let finished = |container: &Container| {
        let was_cut = cut.contains(&container.id) && !is_awaited(model.services.values(), service);
        has_finished(&model.services[service], container) && !was_cut
    };
    let before: Vec<&Container> = applied.snapshot.iter().filter(|container| container.service == service).collect();
    let mut causes = Vec::new();
    let mut found = |found: String| causes.push(Cause::Drifted { service: service.to_owned(), found });
    for was in &before {
        match containers.iter().find(|is| is.id == was.id) {
            None => found(format!("without {}", was.name)),
            // Running again is the engine's own doing, and whoever finishes has done what it was there for.
            Some(is) if is.state == State::Running || finished(is) => {
                if is.networks != was.networks && is.state == State::Running {
                    found("on other networks".into());
                }
            }
            Some(is) if is.state == State::Exited(0) && cut.contains(&is.id) => {
                found("stopped by a restart of the host or its engine".into());
            }
            Some(is) if is.state != was.state || stands_still(is.state) => found(is.state.to_string()),
            Some(_) => {}
        }
    }
    for is in containers.iter().filter(|is| !before.iter().any(|was| was.id == is.id)) {
        found(format!("with {}, which is not ours", is.name));
    }
    causes
}

/// Whether it is in a state that no gate lets pass and that lasts. Somebody may have stopped it between its gate and the
/// end of that run: that it was noted so does not make it right.
pub fn stands_still(state: State) -> bool {
    match state {
        State::Exited(code) => code != 0,
        State::Created | State::Paused | State::Gone => true,
        State::Running | State::Restarting => false,
    }
}

/// Services that have fewer containers than they should.
pub fn lost<'a>(stack: &'a DesiredStack, observed: &Observed) -> impl Iterator<Item = &'a String> {
    let found = |service: &str| observed.of(&stack.name).filter(|container| container.service == service).count();
    let is_lost = move |(service, definition): &(&String, &Json)| found(service) < compose::replicas(definition);
    stack.model.services.iter().filter(is_lost).map(|(service, _)| service)
}

/// Whether it ended as a one-shot does: with success, and with nobody who would start it again.
///
/// A service with no restart policy, no health check and no port looks the same when a person stops it. To run a
/// migration again would be worse than to leave that one stopped, as plain `docker compose` does (docs/facts.md, C1, C2).
/// When the host or its engine was restarted while it ran, the look before that tells the two apart (`decide/seen`).
pub(super) fn has_finished(definition: &Json, container: &Container) -> bool {
    let policy = definition.pointer("/deploy/restart_policy/condition").or_else(|| definition.get("restart"));
    let starts_again = policy.and_then(Json::as_str).is_some_and(|policy| !matches!(policy, "no" | "none"))
        // An empty policy of `deploy` means `any`.
        || definition.pointer("/deploy/restart_policy").is_some_and(|policy| policy.get("condition").is_none());
    let serves = ["healthcheck", "ports"].iter().any(|field| definition.get(field).is_some());
    container.state == State::Exited(0) && !starts_again && !serves
}

/// Whether one of these services waits for the end of another: then it is a one-shot, whatever else is known.
pub fn is_awaited<'a>(mut services: impl Iterator<Item = &'a Json>, service: &str) -> bool {
    let condition = |other: &Json| other.get("depends_on")?.get(service)?.get("condition")?.as_str().map(str::to_owned);
    services.any(|other| condition(other).as_deref() == Some("service_completed_successfully"))
}

/// What is put right with one question to the engine each, before Compose is asked: names and pauses. Compose would
/// keep a wrong name for good, and fails as a whole on a paused container (docs/facts.md, C3 and C11).
///
/// The second value is what will be observed then.
pub fn mend(stack: &DesiredStack, applied: Option<&Applied>, observed: &Observed) -> (Vec<Step>, Observed) {
    let mut steps = Vec::new();
    let mut after = Observed::default();
    let taken: BTreeSet<&str> = observed.containers.iter().map(|container| container.name.as_str()).collect();
    let mut paused = Vec::new();
    for container in &observed.containers {
        let mut container = container.clone();
        let is_ours = container.project == stack.name && stack.model.services.contains_key(&container.service);
        if is_ours && let Some((to, cause)) = other_name(&container, stack, applied) {
            let (id, from) = (container.id.clone(), container.name.clone());
            if !taken.contains(to.as_str()) {
                let action = Action::Rename { id, from, to: to.clone() };
                steps.push(Step { stack: stack.name.clone(), action, causes: vec![cause] });
                container.name = to;
            } else if container.state == State::Created {
                let action = Action::Discard { id, name: from };
                steps.push(Step { stack: stack.name.clone(), action, causes: vec![cause] });
                continue;
            } else if matches!(cause, Cause::HalfRenamed { .. }) && is_replaced(&container, &to, observed) {
                // An engine that was started again starts both, and Compose would keep either.
                let (services, containers) = (vec![container.service.clone()], BTreeMap::from([(id, from)]));
                let action = Action::Withdraw { services, containers };
                steps.push(Step { stack: stack.name.clone(), action, causes: vec![cause] });
                continue;
            }
        }
        if is_ours && container.state == State::Paused {
            paused.push(container.service.clone());
            container.state = State::Running;
        }
        after.containers.push(container);
    }
    if !paused.is_empty() {
        paused.dedup();
        let found = |service: &String| Cause::Drifted { service: service.clone(), found: "paused".into() };
        let causes = paused.iter().map(found).collect();
        steps.push(Step { stack: stack.name.clone(), action: Action::Unpause { services: paused }, causes });
    }
    (steps, after)
}

/// The name that a container should have, if it has another one.
fn other_name(container: &Container, stack: &DesiredStack, applied: Option<&Applied>) -> Option<(String, Cause)> {
    let service = &container.service;
    let before = applied.and_then(|applied| applied.snapshot.iter().find(|was| was.id == container.id));
    if let Some(to) = half_renamed(container, stack) {
        return Some((to.to_owned(), Cause::HalfRenamed { service: service.clone() }));
    }
    let was = before.filter(|was| was.name != container.name)?;
    let found = format!("renamed to {}", container.name);
    Some((was.name.clone(), Cause::Drifted { service: service.clone(), found }))
}

/// Whether the one that has this name is the one that the container was made to replace.
fn is_replaced(container: &Container, name: &str, observed: &Observed) -> bool {
    let of = |other: &Container| (&other.project, &other.service) == (&container.project, &container.service);
    observed.containers.iter().any(|other| other.name == name && of(other))
}

/// `<12 hex digits>_<name>`: what Compose calls a container until it has removed the one that it replaces.
fn half_renamed<'a>(container: &'a Container, stack: &DesiredStack) -> Option<&'a str> {
    let (prefix, rest) = container.name.split_once('_')?;
    let is_id = prefix.len() == 12 && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let named = stack.model.services[&container.service].get("container_name").and_then(Json::as_str);
    let is_name = match named {
        Some(named) => rest == named,
        None => rest.starts_with(&format!("{}-{}-", container.project, container.service)),
    };
    (is_id && is_name).then_some(rest)
}

/// The services that mount one of these files: a file that was put back is another file, which they see only after a
/// start (docs/facts.md, C5).
pub fn users(stack: &DesiredStack, edited: &[Edited]) -> BTreeSet<String> {
    let mounts = |service: &Json| {
        let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
        let sources: Vec<&Path> = volumes.filter_map(|volume| volume.get("source")?.as_str().map(Path::new)).collect();
        edited.iter().any(|edited| sources.iter().any(|source| edited.place.starts_with(source)))
    };
    let uses = stack.model.services.iter().filter(|(_, service)| mounts(service));
    uses.map(|(name, _)| name.clone()).collect()
}

/// Takes secrets out of what files hold, where they may hold some.
pub fn hide(edited: &mut [Edited], secrets: &[&str]) {
    for found in edited.iter_mut().filter_map(|edited| edited.found.as_mut()) {
        let lines = redact::last_lines(&String::from_utf8_lossy(found), usize::MAX, secrets);
        *found = lines.join("\n").into_bytes();
    }
}

/// What is kept of drift before it is undone, for a person who wants his change back.
pub fn record(steps: &[Step], edited: &[(String, Vec<Edited>)], held: &[String]) -> Option<String> {
    let is_drift = |cause: &&Cause| matches!(cause, Cause::Drifted { .. } | Cause::FileEdited { .. });
    let mut text = String::new();
    for step in steps {
        for cause in step.causes.iter().filter(is_drift) {
            text.push_str(&format!("{}: {cause}\n", step.stack));
        }
    }
    if text.is_empty() {
        return None;
    }
    for hold in held {
        text.push_str(&format!("after the hold {hold}\n"));
    }
    for (stack, files) in edited {
        for file in files {
            if let Some(found) = &file.found {
                text.push_str(&format!("\n--- {stack}/{}\n{}\n", file.path, String::from_utf8_lossy(found)));
            }
        }
    }
    Some(text)
}
