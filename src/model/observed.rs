//! What the engine says is there: one lossless snapshot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Every container on this host that carries a Compose project label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Another word after each start of the host or of its engine; empty when that is not known.
    pub life: String,
    /// Sorted by project, service, number.
    pub containers: Vec<Container>,
}

impl Observed {
    /// The containers of one stack.
    pub fn of<'a>(&'a self, stack: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |container| container.project == stack)
    }

    /// What a stack looked like, in the form that the ledger remembers.
    pub fn snapshot(&self, stack: &str) -> Vec<Container> {
        self.of(stack).cloned().map(Container::without_health).collect()
    }
}

/// One container of a Compose project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// The name, without the leading slash.
    pub name: String,
    /// `com.docker.compose.project`.
    pub project: String,
    /// `com.docker.compose.service`.
    pub service: String,
    /// `com.docker.compose.config-hash`.
    pub config_hash: String,
    /// The image reference it was created from.
    pub image: String,
    /// The id of that image.
    pub image_id: String,
    /// What it is doing.
    pub state: State,
    /// The verdict of its health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The networks it is attached to.
    pub networks: BTreeSet<String>,
    /// Labels that moorline set.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Container {
    /// The same container without its health, which changes by itself and is not part of its identity.
    #[must_use]
    pub fn without_health(mut self) -> Self {
        self.health = None;
        self
    }
}

/// An image on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The engine's id of it: the digest of its configuration, which names every layer.
    pub id: String,
    /// What registries call it: `<repository>@sha256:...`. None if it came from no registry.
    pub digests: Vec<String>,
}

/// A running container that is attached to a network, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The network's name.
    pub network: String,
    /// The engine's id of the container.
    pub id: String,
    /// The container's name, without the leading slash.
    pub name: String,
    /// Its Compose project and service; none when `up` did not make it.
    pub made_for: Option<(String, String)>,
    /// How it is attached.
    pub endpoint: Endpoint,
}

/// What a container asked for when it joined a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The names that it is called by there.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its fixed address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// Its fixed address of version 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// Its options for the driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_options: BTreeMap<String, String>,
    /// How much it wants its default gateway there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_priority: Option<i64>,
}

/// The engine's word for what a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Created, never started.
    Created,
    /// Running.
    Running,
    /// Stopped by `docker pause`.
    Paused,
    /// Waiting for its next start.
    Restarting,
    /// Ended with this code.
    Exited(i64),
    /// Being removed, dead, or a word that this version does not know.
    Gone,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Created => f.write_str("created"),
            State::Running => f.write_str("running"),
            State::Paused => f.write_str("paused"),
            State::Restarting => f.write_str("restarting"),
            State::Exited(code) => write!(f, "exited ({code})"),
            State::Gone => f.write_str("gone"),
        }
    }
}

/// The verdict of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Still inside the start period.
    Starting,
    /// The last check passed.
    Healthy,
    /// As many checks in a row failed as the image or stack allows.
    Unhealthy,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        })
    }
}
