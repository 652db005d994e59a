//! A Docker Engine in memory, and what `docker compose up` does to it, as docs/facts.md has it.

use std::collections::{BTreeMap, BTreeSet};

use moorline::decide::compose::CONTENT_LABEL;
use moorline::decide::health::Sample;
use moorline::model::{Container, Health, Observed, State};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::compose::Project;

/// What the program in an image does once it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs, and has no health check.
    Runs,
    /// Its health check passes after two seconds.
    Healthy,
    /// Its health check gives up after two seconds.
    Unhealthy,
    /// Its health check never comes to a verdict.
    NeverReady,
    /// Ends with an error each second, and is started again.
    CrashLoop,
    /// Ends after a second with this code.
    Exits(i64),
}

/// An image that a registry offers.
#[derive(Debug, Clone)]
pub struct Image {
    /// What its program does.
    pub behaviour: Behaviour,
    /// Whether the registry gives it out.
    pub pullable: bool,
}

/// One container, with everything that the engine writes to its disk about it.
#[derive(Debug, Clone)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub project: String,
    pub service: String,
    pub config_hash: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub networks: BTreeSet<String>,
    /// The definition it was created from, in clear.
    pub definition: Json,
    /// The files of the host that are mounted as secrets and configs.
    pub files: BTreeSet<String>,
    behaviour: Behaviour,
    /// Seconds of the clock at its last start; none when it was created and not started.
    started: Option<i64>,
    /// Set while a person has stopped or paused it.
    by_hand: Option<State>,
}

/// The engine.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    pub containers: Vec<Instance>,
    pub images: BTreeSet<String>,
    pub networks: BTreeSet<String>,
    pub volumes: BTreeSet<String>,
    /// Signals that containers got: container and signal.
    pub signals: Vec<(String, String)>,
    /// Every container that Compose ever made: `stack/service` and image.
    pub created: Vec<(String, String)>,
    /// How often Compose started a container again that had finished with success.
    pub reruns: usize,
    registry: BTreeMap<String, Image>,
    made: usize,
    /// How often it was started again.
    lives: usize,
}

impl Engine {
    /// Lets the registry offer an image.
    pub fn offer(&mut self, image: &str, behaviour: Behaviour) {
        self.registry.insert(image.to_owned(), Image { behaviour, pullable: true });
    }

    /// Lets the registry refuse an image.
    pub fn refuse(&mut self, image: &str) {
        self.registry.get_mut(image).expect("an image of the registry").pullable = false;
    }

    pub fn pull(&mut self, image: &str) -> Result<(), String> {
        match self.registry.get(image) {
            Some(Image { pullable: true, .. }) => {
                self.images.insert(image.to_owned());
                Ok(())
            }
            _ => Err(format!("manifest for {image} not found: manifest unknown")),
        }
    }

    /// What `up` has to do for one service, in steps that a kill can come between.
    pub fn begin(&mut self, project: &str, name: &str, whole: &Project) -> Result<(), String> {
        let service = &whole.services()[name];
        self.has_image(service)?;
        let hash = config_hash(service, whole);
        let is_as_wanted = |container: &&Instance| container.is_of(project, name) && container.config_hash == hash;
        // Of several, Compose keeps those that are as they should be (seen with 2.40).
        if let Some(id) = self.containers.iter().rfind(is_as_wanted).map(|kept| kept.id.clone()) {
            self.containers.retain(|container| !container.is_of(project, name) || container.id == id);
            return Ok(());
        }
        let number = self.numbers(project, name).into_iter().max().unwrap_or(1);
        self.containers.retain(|container| !container.is_of(project, name));
        self.create(project, name, number, whole);
        Ok(())
    }

    /// What `up --no-recreate --scale` does for one service: one container more, with the next number.
    pub fn add(&mut self, project: &str, name: &str, whole: &Project) -> Result<(), String> {
        self.has_image(&whole.services()[name])?;
        let number = self.numbers(project, name).into_iter().max().unwrap_or(0) + 1;
        self.create(project, name, number, whole);
        Ok(())
    }

    fn has_image(&self, service: &Json) -> Result<(), String> {
        let image = text(&service["image"]);
        if self.images.contains(&image) { Ok(()) } else { Err(format!("No such image: {image}")) }
    }

    fn numbers(&self, project: &str, name: &str) -> Vec<usize> {
        let ours = self.containers.iter().filter(|container| container.is_of(project, name));
        ours.filter_map(|container| container.name.rsplit('-').next()?.parse().ok()).collect()
    }

    fn create(&mut self, project: &str, name: &str, number: usize, whole: &Project) {
        let service = &whole.services()[name];
        let image = text(&service["image"]);
        let behaviour = self.registry[&image].behaviour;
        for (network, _) in service["networks"].as_object().into_iter().flatten() {
            self.networks.insert(text(&whole.model["networks"][network]["name"]));
        }
        for volume in service["volumes"].as_array().into_iter().flatten().filter(|volume| volume["type"] == "volume") {
            self.volumes.insert(text(&whole.model["volumes"][text(&volume["source"])]["name"]));
        }
        self.made += 1;
        let labels = service["labels"].as_object().into_iter().flatten();
        let networks = service["networks"].as_object().into_iter().flatten();
        let container = Instance {
            id: format!("{:012x}", self.made),
            name: format!("{project}-{name}-{number}"),
            project: project.to_owned(),
            service: name.to_owned(),
            config_hash: config_hash(service, whole),
            image,
            labels: labels
                .filter(|(label, _)| *label == CONTENT_LABEL)
                .map(|(label, value)| (label.clone(), text(value)))
                .collect(),
            networks: networks.map(|(network, _)| text(&whole.model["networks"][network]["name"])).collect(),
            definition: service.clone(),
            files: ["secrets", "configs"]
                .iter()
                .flat_map(|kind| whole.mounted(service, kind))
                .filter_map(|definition| definition["file"].as_str().map(str::to_owned))
                .collect(),
            behaviour,
            started: None,
            by_hand: None,
        };
        self.created.push((format!("{project}/{name}"), container.image.clone()));
        self.containers.push(container);
    }

    /// A container of a project that is none of moorline's business.
    pub fn by_others(&mut self, project: &str, name: &str) {
        self.made += 1;
        self.containers.push(Instance {
            id: format!("{:012x}", self.made),
            name: format!("{project}-{name}-1"),
            project: project.to_owned(),
            service: name.to_owned(),
            config_hash: "of others".to_owned(),
            image: "of-others:1".to_owned(),
            labels: BTreeMap::new(),
            networks: BTreeSet::from([format!("{project}_default")]),
            definition: serde_json::json!({ "restart": "always" }),
            files: BTreeSet::new(),
            behaviour: Behaviour::Runs,
            started: Some(0),
            by_hand: None,
        });
    }

    /// The files of the host that some container mounts.
    pub fn mounted(&self) -> BTreeSet<String> {
        self.containers.iter().flat_map(|container| container.files.clone()).collect()
    }

    /// Starts what is not running. A one-shot that ended is started again, as by every `up`.
    pub fn start(&mut self, project: &str, name: &str, now: i64) -> Result<(), String> {
        for container in self.containers.iter_mut().filter(|container| container.is_of(project, name)) {
            match container.state(now) {
                State::Paused => return Err("cannot start a paused container, try unpause instead".into()),
                State::Running | State::Restarting => {}
                state => {
                    self.reruns += usize::from(state == State::Exited(0));
                    (container.started, container.by_hand) = (Some(now), None);
                }
            }
        }
        Ok(())
    }

    /// The image with this name or id; what its registry calls it is made from both.
    pub fn image(&self, image: &str) -> Option<moorline::model::Image> {
        let name = self.images.iter().find(|name| *name == image || image_id(name) == image)?;
        let id = image_id(name);
        let repository = name.split(':').next().unwrap_or_default();
        let digest = format!("{repository}@{}", id.replace("sha256:", "sha256:d"));
        Some(moorline::model::Image { id, digests: vec![digest] })
    }

    pub fn remove(&mut self, project: &str, name: &str) {
        self.containers.retain(|container| !container.is_of(project, name));
    }

    pub fn rename(&mut self, id: &str, to: &str) {
        let of = |container: &&mut Instance| container.id == id;
        self.containers.iter_mut().filter(of).for_each(|container| container.name = to.to_owned());
    }

    pub fn stop(&mut self, id: &str) {
        let of = |container: &&mut Instance| container.id == id;
        self.containers.iter_mut().filter(of).for_each(|container| container.by_hand = Some(State::Exited(0)));
    }

    /// Stops or pauses a container, or lets a paused one go on.
    pub fn set_by_hand(&mut self, id: &str, state: Option<State>) {
        let of = |container: &&mut Instance| container.id == id;
        self.containers.iter_mut().filter(of).for_each(|container| container.by_hand = state);
    }

    /// Starts a container, unless it runs.
    pub fn start_again(&mut self, id: &str, now: i64) {
        for container in self.containers.iter_mut().filter(|container| container.id == id) {
            if container.state(now) != State::Running {
                (container.started, container.by_hand) = (Some(now), None);
            }
        }
    }

    pub fn discard(&mut self, id: &str) {
        self.containers.retain(|container| container.id != id);
    }

    pub fn restart(&mut self, project: &str, name: &str, now: i64) {
        for container in self.containers.iter_mut().filter(|container| container.is_of(project, name)) {
            (container.started, container.by_hand) = (Some(now), None);
        }
    }

    /// The container of this service that runs, with the second of its start and the words of its command.
    pub fn runs(&self, project: &str, name: &str, now: i64) -> Option<(String, i64, Vec<String>)> {
        let of = |container: &&Instance| container.is_of(project, name) && container.state(now) == State::Running;
        let container = self.containers.iter().find(of)?;
        let words = container.definition["command"].as_array().into_iter().flatten().map(text).collect();
        Some((container.id.clone(), container.started?, words))
    }

    /// The image that a container was created from.
    pub fn image_of(&self, id: &str) -> String {
        self.containers.iter().find(|container| container.id == id).map(|found| found.image.clone()).unwrap_or_default()
    }

    /// Compose was killed while it replaced a container: the new one has its temporary name. `old` says whether the old
    /// one is still there.
    pub fn half_rename(&mut self, project: &str, name: &str, old: bool) {
        let at = self.containers.iter().position(|container| container.is_of(project, name)).expect("a container");
        self.made += 1;
        let mut new = self.containers[at].clone();
        new.id = format!("{:012x}", self.made);
        new.name = format!("{}_{}", &self.containers[at].id[..12], self.containers[at].name);
        (new.started, new.by_hand) = (None, None);
        if !old {
            self.containers.remove(at);
        }
        self.containers.push(new);
    }

    pub fn remove_networks(&mut self, project: &str) {
        let prefix = format!("{project}_");
        self.networks.retain(|network| !network.starts_with(&prefix));
    }

    pub fn signal(&mut self, project: &str, name: &str, signal: &str) {
        self.signals.push((format!("{project}/{name}"), signal.to_owned()));
    }

    /// A person stops, pauses or starts a container.
    pub fn by_hand(&mut self, project: &str, name: &str, state: Option<State>) {
        let of = |container: &&mut Instance| container.is_of(project, name);
        self.containers.iter_mut().filter(of).for_each(|container| container.by_hand = state);
    }

    /// The host was switched off and on: containers that need files in memory do not come back by themselves.
    pub fn reboot(&mut self, now: i64) {
        self.lives += 1;
        for container in self.containers.iter_mut().filter(|container| container.started.is_some()) {
            let needs_memory =
                container.definition.get("secrets").is_some() || container.definition.get("configs").is_some();
            match needs_memory {
                true => container.by_hand = Some(State::Exited(127)),
                false => container.started = Some(now),
            }
        }
    }

    /// The program of a container does something else from now on.
    pub fn break_down(&mut self, project: &str, name: &str, behaviour: Behaviour) {
        let of = |container: &&mut Instance| container.is_of(project, name);
        self.containers.iter_mut().filter(of).for_each(|container| container.behaviour = behaviour);
    }

    /// The host was shut down in order and switched on: every program was asked to end, and did with 0. The engine
    /// starts those that have a restart policy.
    pub fn reboot_in_order(&mut self, now: i64) {
        self.lives += 1;
        for container in &mut self.containers {
            match (container.state(now), container.definition.get("restart")) {
                (State::Exited(code), _) => container.by_hand = Some(State::Exited(code)),
                (_, None) => container.by_hand = Some(State::Exited(0)),
                (_, Some(_)) => container.started = Some(now),
            }
        }
    }

    /// The clock was set by so many seconds; what runs is as old as before.
    pub fn clock_was_set(&mut self, seconds: i64) {
        self.containers.iter_mut().filter_map(|container| container.started.as_mut()).for_each(|at| *at += seconds);
    }

    pub fn observe(&self, now: i64) -> Observed {
        let mut containers: Vec<Container> = self.containers.iter().map(|container| container.seen(now)).collect();
        containers
            .sort_by(|one, two| (&one.project, &one.service, &one.name).cmp(&(&two.project, &two.service, &two.name)));
        Observed { life: format!("life {}", self.lives), containers }
    }

    pub fn look(&self, project: &str, services: &[String], now: i64) -> Vec<Sample> {
        let chosen = self
            .containers
            .iter()
            .filter(|container| container.project == project && services.contains(&container.service));
        let sample = |container: &Instance| Sample {
            id: container.id.clone(),
            name: container.name.clone(),
            service: container.service.clone(),
            state: container.state(now),
            health: container.health(now),
            restarts: container.restarts(now),
            restarts_after_success: !matches!(container.behaviour, Behaviour::Exits(_)),
        };
        chosen.map(sample).collect()
    }
}

impl Instance {
    fn is_of(&self, project: &str, service: &str) -> bool {
        self.project == project && self.service == service
    }

    fn seconds(&self, now: i64) -> i64 {
        self.started.map_or(0, |started| now - started)
    }

    pub fn state(&self, now: i64) -> State {
        match (self.by_hand, self.started, self.behaviour) {
            (Some(state), ..) => state,
            (None, None, _) => State::Created,
            (None, Some(_), Behaviour::CrashLoop) => State::Restarting,
            (None, Some(_), Behaviour::Exits(code)) if self.seconds(now) >= 1 => State::Exited(code),
            _ => State::Running,
        }
    }

    pub fn health(&self, now: i64) -> Option<Health> {
        let verdict = match self.behaviour {
            Behaviour::Healthy => Health::Healthy,
            Behaviour::Unhealthy => Health::Unhealthy,
            Behaviour::NeverReady => Health::Starting,
            _ => return None,
        };
        let running = self.state(now) == State::Running;
        running.then(|| if self.seconds(now) < 2 { Health::Starting } else { verdict })
    }

    fn restarts(&self, now: i64) -> i64 {
        if self.behaviour == Behaviour::CrashLoop { self.seconds(now) } else { 0 }
    }

    fn seen(&self, now: i64) -> Container {
        Container {
            id: self.id.clone(),
            name: self.name.clone(),
            project: self.project.clone(),
            service: self.service.clone(),
            config_hash: self.config_hash.clone(),
            image: self.image.clone(),
            image_id: image_id(&self.image),
            state: self.state(now),
            health: self.health(now),
            networks: self.networks.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// Compose hashes the definition of a service, and recreates it when a network or volume that it uses is another one.
/// The content of files is in no hash, and neither are `depends_on` and its own extensions.
fn config_hash(service: &Json, whole: &Project) -> String {
    let mut definition = service.clone();
    let fields = definition.as_object_mut().expect("a service");
    fields.retain(|name, _| name != "depends_on" && name != "x-moorline");
    let networks =
        service["networks"].as_object().into_iter().flatten().map(|(name, _)| &whole.model["networks"][name]);
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let volumes = volumes.filter_map(|volume| whole.model["volumes"].get(volume["source"].as_str()?));
    let shared: Vec<&Json> = networks.chain(volumes).collect();
    hex::encode(&Sha256::digest(serde_json::json!([definition, shared]).to_string())[..16])
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The id of the image with this name.
pub fn image_id(image: &str) -> String {
    format!("sha256:{}", &hex::encode(Sha256::digest(image))[..12])
}
