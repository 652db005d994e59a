//! Plans how new containers of a service take over from old ones that go on serving until then. Asks nothing, changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::compose::{self, Strategy};
use crate::decide::health::Sample;
use crate::decide::schedule;
use crate::model::ledger::{Handover, Lead};
use crate::model::{Action, Applied, Cause, Container, DesiredStack, Observed, State, Step};

mod hindrance;
mod names;

pub use hindrance::{Hindrance, hindrances};
pub use names::Names;

/// How long the old container gets when the service does not say.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// Fields of a service that Compose changes, or leaves alone, without a new container.
const NO_NEW_CONTAINER: [&str; 6] = ["depends_on", "deploy.replicas", "profiles", "pull_policy", "scale", "x-moorline"];

/// The handovers of a stack that did not come to their end, by service.
pub type Handovers = BTreeMap<String, Handover>;

/// How a service of a wave is brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// As Compose does it: what is there is replaced.
    Plain,
    /// New containers beside the old ones.
    Beside,
    /// New containers stand there and may serve already: only the rest is to be done.
    Finish,
}

/// What is wanted, what is there and what is known of it, of one stack.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What should be.
    pub stack: &'a DesiredStack,
    /// What worked last.
    pub applied: Option<&'a Applied>,
    /// What is there.
    pub observed: &'a Observed,
    /// The handovers that did not come to their end.
    pub handovers: Option<&'a Handovers>,
}

impl<'a> Scene<'a> {
    fn containers(&self, service: &'a str) -> impl Iterator<Item = &'a Container> + use<'a> {
        self.observed.of(&self.stack.name).filter(move |container| container.service == service)
    }

    fn handover(&self, service: &str) -> Option<&'a Handover> {
        self.handovers?.get(service)
    }

    /// How this service is brought up, given why it must be.
    pub fn course(&self, service: &'a str, causes: &[Cause]) -> Course {
        let strategy = self.stack.model.services.get(service).map(compose::service_extension);
        let starts_first = strategy.is_some_and(|read| read.is_ok_and(|read| read.strategy == Strategy::StartFirst));
        let serves = self.containers(service).any(|container| container.state == State::Running);
        let taken_over = self.handover(service).filter(|handover| handover.lead == Lead::New);
        match taken_over {
            _ if !starts_first || !serves => Course::Plain,
            Some(handover) if handover.digest == self.stack.digest => {
                let old = self.containers(service).filter(|container| handover.has(&container.id)).count();
                let new = self.containers(service).count() - old;
                match new < compose::replicas(&self.stack.model.services[service]) {
                    _ if old == 0 => Course::Plain,
                    // Somebody removed them meanwhile: whoever is left serves until there are others.
                    true => Course::Beside,
                    false => Course::Finish,
                }
            }
            Some(_) => Course::Beside,
            None if causes.iter().any(needs_new_container) => Course::Beside,
            None => Course::Plain,
        }
    }

    /// The steps of one wave for the services that start first. `fresh` are those whose new containers are to be made.
    pub fn steps(&self, services: &[String], fresh: Vec<String>, causes: Vec<Cause>) -> Vec<Step> {
        let step = |action, causes| Step { stack: self.stack.name.clone(), action, causes };
        let takes_over = |service: &String| Cause::TakesOver { service: service.clone() };
        let takes_over: Vec<Cause> = services.iter().map(takes_over).collect();
        let mut steps = Vec::new();
        if !fresh.is_empty() {
            steps.push(step(Action::StartFirst { services: fresh.clone() }, causes));
        }
        let gate = Action::Gate { services: services.to_vec(), timeout: self.stack.health_timeout };
        steps.push(step(gate, vec![Cause::AfterUp]));
        steps.push(step(Action::Route { services: services.to_vec(), to: Lead::New }, takes_over.clone()));
        let is_old = |service: &String, container: &&Container| match self.handover(service) {
            Some(handover) if !fresh.contains(service) => handover.has(&container.id),
            _ => true,
        };
        let containers = services
            .iter()
            .flat_map(|service| {
                let there = self.observed.of(&self.stack.name).filter(|container| container.service == *service);
                there.filter(|container| is_old(service, container)).map(named).collect::<Vec<_>>()
            })
            .collect();
        let wait = services.iter().map(|service| drain(self.stack, service)).max().unwrap_or(DRAIN);
        steps.push(step(Action::Drain { services: services.to_vec(), containers, wait }, takes_over));
        steps
    }

    /// What a handover that was cut or failed left, and that does not come to its end: the new containers go, and what
    /// served goes on. The second value is what will be observed then.
    pub fn undo(&self) -> (Vec<Step>, Observed) {
        let (mut back, mut services, mut gone) = (Vec::new(), Vec::new(), BTreeMap::new());
        for service in self.stack.model.services.keys() {
            let Some(handover) = self.handover(service) else { continue };
            if handover.lead == Lead::New && !self.goes_back(service, handover) {
                continue;
            }
            let new = self.containers(service).filter(|container| !handover.has(&container.id));
            let new: Vec<_> = new.map(named).collect();
            if new.is_empty() {
                continue;
            }
            if handover.lead == Lead::New {
                back.push(service.clone());
            }
            services.push(service.clone());
            gone.extend(new);
        }
        let mut after = self.observed.clone();
        after.containers.retain(|container| !gone.contains_key(&container.id));
        if services.is_empty() {
            return (Vec::new(), after);
        }
        let step = |services: &[String], action| {
            let causes = services.iter().map(|service| Cause::HandoverCut { service: service.clone() }).collect();
            Step { stack: self.stack.name.clone(), action, causes }
        };
        let mut steps = Vec::new();
        if !back.is_empty() {
            steps.push(step(&back, Action::Route { services: back.clone(), to: Lead::Old }));
        }
        steps.push(step(&services, Action::Withdraw { services: services.clone(), containers: gone }));
        (steps, after)
    }

    /// Whether what is wanted is what the old containers are, and all of them still run: then they are kept.
    fn goes_back(&self, service: &str, handover: &Handover) -> bool {
        let Some(applied) = self.applied.filter(|_| handover.digest != self.stack.digest) else { return false };
        let is_same = applied.model.services.get(service) == self.stack.model.services.get(service)
            && applied.content.get(service) == self.stack.content.get(service);
        let runs = |was: &Container| {
            let mut there = self.observed.containers.iter();
            handover.has(&was.id) && there.any(|is| is.id == was.id && is.state == State::Running)
        };
        is_same && applied.snapshot.iter().filter(|was| was.service == *service).all(runs)
    }
}

fn named(container: &Container) -> (String, String) {
    (container.id.clone(), container.name.clone())
}

/// Whether it takes another container to get rid of this cause. What drifted is put right by Compose in place.
fn needs_new_container(cause: &Cause) -> bool {
    let in_place =
        |field: &str| NO_NEW_CONTAINER.iter().any(|name| field == *name || field.starts_with(&format!("{name}.")));
    match cause {
        Cause::FieldChanged { field, .. } => !in_place(field),
        Cause::ContentChanged { .. } => true,
        _ => false,
    }
}

/// How long an old container gets to finish what it has begun, once no new request comes to it.
fn drain(stack: &DesiredStack, service: &str) -> std::time::Duration {
    let extension = stack.model.services.get(service).and_then(|service| compose::service_extension(service).ok());
    let stated = extension.and_then(|extension| schedule::parse_duration(&extension.drain?).ok());
    stated.unwrap_or(DRAIN)
}

/// What a gate looks at: where a new container stands beside old ones, the new one is judged.
pub fn judged(samples: Vec<Sample>, handovers: Option<&Handovers>) -> Vec<Sample> {
    let is_new = |sample: &Sample| {
        let handover = handovers.and_then(|handovers| handovers.get(&sample.service));
        handover.is_some_and(|handover| !handover.has(&sample.id))
    };
    let renewed: BTreeSet<String> =
        samples.iter().filter(|sample| is_new(sample)).map(|sample| sample.service.clone()).collect();
    samples.into_iter().filter(|sample| is_new(sample) || !renewed.contains(&sample.service)).collect()
}

#[cfg(test)]
mod tests;
