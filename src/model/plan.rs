//! What will be done, why, and how it went: values that print themselves, without secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::ledger::Lead;
use crate::model::{Cause, Endpoint};

/// Steps in the order in which they are carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One action on one stack, with at least one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The stack it belongs to.
    pub stack: String,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// Why.
    pub causes: Vec<Cause>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Fetch an image; nothing running is touched.
    Pull {
        /// The image reference.
        image: String,
    },
    /// Take a snapshot of the stack's data; without one, nothing of the stack is touched.
    Snapshot,
    /// Give a container its name back.
    Rename {
        /// The engine's id.
        id: String,
        /// Its name now.
        from: String,
        /// The name it should have.
        to: String,
    },
    /// Remove a container that Compose made and never started, because it was killed in the middle.
    Discard {
        /// The engine's id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Let paused containers go on.
    Unpause {
        /// The services.
        services: Vec<String>,
    },
    /// Take a container off a network that Compose is about to make anew: it could not otherwise.
    Detach {
        /// The engine's id of the container.
        id: String,
        /// Its name.
        name: String,
        /// The name of the network.
        network: String,
    },
    /// Put a container of another stack back on a network that was made anew.
    Attach {
        /// The engine's id of the container.
        id: String,
        /// Its name.
        name: String,
        /// The name of the network.
        network: String,
        /// How it was attached.
        endpoint: Endpoint,
    },
    /// Write the stack's inputs into its directory and its secrets into memory.
    Write {
        /// How many files the directory will hold.
        files: usize,
    },
    /// `up -d` these services and nothing else.
    Up {
        /// One wave: the services, with those that must be in the same call.
        services: Vec<String>,
    },
    /// Make new containers of these services beside the old ones, which go on serving.
    StartFirst {
        /// The services.
        services: Vec<String>,
    },
    /// Lead requests to other containers of these services.
    Route {
        /// The services.
        services: Vec<String>,
        /// To which containers.
        to: Lead,
    },
    /// Let the old containers finish what they have begun, then stop and remove them.
    Drain {
        /// The services.
        services: Vec<String>,
        /// The containers: id and name.
        containers: BTreeMap<String, String>,
        /// How long no new requests have come to them before they are stopped, in seconds.
        #[serde(rename = "wait_s", with = "seconds")]
        wait: Duration,
    },
    /// Stop and remove new containers that did not take over; the old ones serve.
    Withdraw {
        /// The services.
        services: Vec<String>,
        /// The containers: id and name.
        containers: BTreeMap<String, String>,
    },
    /// `up -d` the whole project, because a network definition changed.
    UpWhole,
    /// Wait until these services are healthy.
    Gate {
        /// The services of the wave before.
        services: Vec<String>,
        /// How long, in seconds.
        #[serde(rename = "timeout_s", with = "seconds")]
        timeout: Duration,
    },
    /// Send a signal instead of a new container, since only mounted content changed.
    Signal {
        /// The services.
        services: Vec<String>,
        /// The signal, as the stack names it.
        signal: String,
    },
    /// Start containers again, because a file that they mount was put back.
    Restart {
        /// The services.
        services: Vec<String>,
    },
    /// Tell Traefik the routes of the stack, and see that it serves them.
    Publish {
        /// How many they are.
        routes: usize,
    },
    /// Remove containers of services that the stack no longer has.
    Remove {
        /// The services.
        services: Vec<String>,
    },
    /// Remove the containers and networks of a stack that the host no longer has. Volumes stay.
    Down,
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

impl Action {
    /// The verb, as plans and logs show it.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Pull { .. } => "pull",
            Action::Snapshot => "snapshot",
            Action::Rename { .. } => "rename",
            Action::Discard { .. } => "discard",
            Action::Unpause { .. } => "unpause",
            Action::Detach { .. } => "detach",
            Action::Attach { .. } => "attach",
            Action::Restart { .. } => "restart",
            Action::Write { .. } => "write",
            Action::Up { .. } => "up",
            Action::UpWhole => "up-whole",
            Action::StartFirst { .. } => "start-first",
            Action::Route { .. } => "route",
            Action::Drain { .. } => "drain",
            Action::Withdraw { .. } => "withdraw",
            Action::Gate { .. } => "gate",
            Action::Signal { .. } => "signal",
            Action::Publish { .. } => "publish",
            Action::Remove { .. } => "remove",
            Action::Down => "down",
        }
    }

    /// What it acts on, as plans show it.
    pub fn object(&self) -> String {
        match self {
            Action::Pull { image } => image.clone(),
            Action::Write { files } => format!("{files} files"),
            Action::Up { services }
            | Action::Remove { services }
            | Action::Unpause { services }
            | Action::Restart { services } => services.join(" "),
            Action::Snapshot => String::from("its data"),
            Action::Rename { from, to, .. } => format!("{from} to {to}"),
            Action::Detach { name, network, .. } => format!("{name} from {network}"),
            Action::Attach { name, network, .. } => format!("{name} to {network}"),
            Action::Discard { name, .. } => format!("{name}, which was never started"),
            Action::Gate { services, timeout } => {
                format!("{} healthy within {}s", services.join(" "), timeout.as_secs())
            }
            Action::Signal { services, signal } => format!("{signal} to {}", services.join(" ")),
            Action::Publish { routes: 1 } => String::from("1 route"),
            Action::Publish { routes } => format!("{routes} routes"),
            Action::UpWhole => String::from("all services"),
            Action::StartFirst { services } => format!("{} beside what serves", services.join(" ")),
            Action::Route { services, to } => format!("{} to the {to} containers", services.join(" ")),
            Action::Drain { containers, wait, .. } => {
                format!("{} for {}s, then remove", names(containers), wait.as_secs())
            }
            Action::Withdraw { containers, .. } => format!("{}, what served goes on", names(containers)),
            Action::Down => String::from("all services, volumes stay"),
        }
    }
}

fn names(containers: &BTreeMap<String, String>) -> String {
    let mut names: Vec<&str> = containers.values().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return writeln!(f, "nothing to do");
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {step}", number + 1)?;
            for cause in &step.causes {
                writeln!(f, "       because {cause}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:<12} {}", self.action.verb(), self.stack, self.action.object())
    }
}
