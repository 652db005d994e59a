//! What is done to containers without Compose: names, pauses, logs, and containers that were never started.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::EventMessageTypeEnum;
use bollard::query_parameters::{
    EventsOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    StopContainerOptions,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::decide::compose;
use crate::decide::fault::{Code, Fault};
use crate::model::{Container, DesiredStack, Secret, State};
use crate::world::LastWords;
use crate::world::docker::{Engine, PROJECT, away, is_not_found};

/// How much of a container's log is read, at most.
const LONGEST_LOG: usize = 64 * 1024;
/// How long reading one may take: some log drivers never answer.
const LOG_TIME: Duration = Duration::from_secs(5);
/// How long changes of containers are gathered before they wake anybody.
const QUIET: Duration = Duration::from_secs(2);

/// How long a container may take to stop: the engine answers when it has.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// What happens to a container that a run should look at.
const EVENTS: [&str; 7] = ["die", "stop", "pause", "unpause", "rename", "destroy", "disconnect"];

impl Engine {
    /// Gives a container another name.
    pub async fn rename(&self, id: &str, to: &str) -> Result<(), Fault> {
        let options = RenameContainerOptionsBuilder::new().name(to).build();
        let renamed = self.docker()?.rename_container(id, options).await;
        renamed
            .map_err(|error| Fault::new(Code::StepFailed, format!("{to} does not get its name back")).caused_by(&error))
    }

    /// Removes a container that was never started. Its volumes stay.
    pub async fn discard(&self, id: &str, name: &str) -> Result<(), Fault> {
        // Not by force: should it run now, it is not what was seen.
        let options = RemoveContainerOptionsBuilder::new().v(false).force(false).build();
        let removed = self.docker()?.remove_container(id, Some(options)).await;
        removed.map_err(|error| Fault::new(Code::StepFailed, format!("{name} cannot be removed")).caused_by(&error))
    }

    /// How many containers these services have.
    pub async fn count(&self, project: &str, services: &[String]) -> Result<BTreeMap<String, usize>, Fault> {
        let there = self.of(project, services).await?;
        let number = |service: &String| there.iter().filter(|container| container.service == *service).count();
        Ok(services.iter().map(|service| (service.clone(), number(service))).collect())
    }

    /// Refuses services whose image has a volume of its own: Compose would give the new container an empty one, and what
    /// the old one kept there would be lost to it.
    pub async fn hold_no_data(&self, stack: &DesiredStack, services: &[String]) -> Result<(), Fault> {
        for service in services {
            let Some(definition) = stack.model.services.get(service) else { continue };
            let Some(image) = definition.get("image").and_then(Json::as_str) else { continue };
            let found = self.docker()?.inspect_image(image).await.map_err(|error| away(self.socket(), &error))?;
            let volumes = found.config.and_then(|config| config.volumes).unwrap_or_default();
            if let Some(place) = volumes.into_iter().find(|place| !compose::mounts_at(definition, place)) {
                return Err(Fault::new(Code::StepFailed, format!("{service} cannot be started beside itself"))
                    .because(format!("its image {image} keeps data in a volume at {place}"))
                    .hint(format!("`tmpfs: [{place}]` if it need not stay, or `strategy: stop-first`")));
            }
        }
        Ok(())
    }

    /// Stops these containers with their own signals and grace periods, then removes them. Those that are gone are done.
    /// Volumes stay.
    pub async fn end(&self, containers: &BTreeMap<String, String>) -> Result<(), Fault> {
        // The engine answers only when the grace period is over.
        let docker = self.docker()?.clone().with_timeout(LONGEST_GRACE);
        let ended = containers.iter().map(|(id, name)| end(&docker, id, name));
        futures_util::future::try_join_all(ended).await.map(drop)
    }

    /// Lets the paused containers of these services go on.
    pub async fn unpause(&self, project: &str, services: &[String]) -> Result<(), Fault> {
        for container in self.of(project, services).await? {
            if container.state == State::Paused {
                self.docker()?.unpause_container(&container.id).await.map_err(|error| {
                    Fault::new(Code::StepFailed, format!("{} cannot be unpaused", container.name)).caused_by(&error)
                })?;
            }
        }
        Ok(())
    }

    /// What the containers of these services logged last.
    pub async fn last_words(&self, project: &str, services: &[String], lines: usize) -> Result<Vec<LastWords>, Fault> {
        let mut all = Vec::new();
        for container in self.of(project, services).await? {
            let inspected = self.docker()?.inspect_container(&container.id, None).await.ok();
            let state = inspected.and_then(|inspected| inspected.state);
            // An exit code of 0 is also that of one which never ended.
            let ended =
                state.as_ref().and_then(|state| state.finished_at.as_deref()).is_some_and(|at| !at.starts_with("0001"));
            all.push(LastWords {
                exit_code: state.and_then(|state| state.exit_code).filter(|_| ended),
                text: self.log(&container.id, lines).await?,
                service: container.service,
                container: container.name,
                image: container.image,
                state: container.state,
            });
        }
        Ok(all)
    }

    pub(super) async fn log(&self, id: &str, lines: usize) -> Result<Secret<String>, Fault> {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&lines.to_string()).build();
        let mut stream = self.docker()?.logs(id, Some(options));
        let mut bytes = Vec::new();
        let read = async {
            // A driver that cannot be read is no reason to know nothing else of the container.
            while let Some(Ok(part)) = stream.next().await {
                bytes.extend_from_slice(&part.into_bytes());
                if bytes.len() > LONGEST_LOG {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LOG_TIME, read).await;
        Ok(Secret::new(String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn of(&self, project: &str, services: &[String]) -> Result<Vec<Container>, Fault> {
        let observed = self.observe().await?;
        Ok(observed.of(project).filter(|container| services.contains(&container.service)).cloned().collect())
    }

    /// Returns when a container of a Compose project was stopped, removed, renamed, paused or taken off a network after
    /// `since`. While the engine is away it waits; whoever waits besides wakes by the clock.
    pub async fn changed(&self, since: Timestamp) {
        loop {
            if self.next_change(since).await.is_some() {
                tokio::time::sleep(QUIET).await;
                return;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    async fn next_change(&self, since: Timestamp) -> Option<()> {
        let seconds = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
        // Asked for by name: every health check makes three others.
        let wanted = EVENTS.map(str::to_owned).to_vec();
        #[allow(clippy::disallowed_types, reason = "bollard takes no other; one entry has no order")]
        let filters = std::collections::HashMap::from([("event".to_owned(), wanted)]);
        let options = EventsOptionsBuilder::new().since(&seconds).filters(&filters).build();
        let mut events = self.docker().ok()?.events(Some(options));
        while let Some(event) = events.next().await {
            let event = event.ok()?;
            let labels = event.actor.and_then(|actor| actor.attributes).unwrap_or_default();
            // What a network says of a container carries no labels of it.
            // The network that is none is what containers of a drill have.
            let of_network = event.typ == Some(EventMessageTypeEnum::NETWORK)
                && labels.get("type").is_none_or(|driver| driver != "null");
            if of_network || labels.contains_key(PROJECT) {
                return Some(());
            }
        }
        None
    }
}

async fn end(docker: &Docker, id: &str, name: &str) -> Result<(), Fault> {
    let unless_gone = |result: Result<(), Error>| match result {
        Err(error) if !is_not_found(&error) => {
            Err(Fault::new(Code::StepFailed, format!("{name} cannot be removed")).caused_by(&error))
        }
        _ => Ok(()),
    };
    unless_gone(docker.stop_container(id, None::<StopContainerOptions>).await)?;
    let options = RemoveContainerOptionsBuilder::new().v(false).force(false).build();
    unless_gone(docker.remove_container(id, Some(options)).await)
}
