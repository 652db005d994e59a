//! Asks the Docker Engine. What it says is put into our own words here and judged elsewhere.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, HealthStatusEnum,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::ListContainersOptionsBuilder;

use crate::decide::compose::CONTENT_LABEL;
use crate::decide::delivery;
use crate::decide::fault::{Code, Fault};
use crate::decide::health::Sample;
use crate::model::{Container, Health, Observed, Remap, State};
use crate::world::life;

/// How long one question may take; stopping a container may take as long as its grace period besides.
const TIMEOUT_SECONDS: u64 = 120;
pub(super) const PROJECT: &str = "com.docker.compose.project";
pub(super) const SERVICE: &str = "com.docker.compose.service";
const CONFIG_HASH: &str = "com.docker.compose.config-hash";
pub(super) const ONE_OFF: &str = "com.docker.compose.oneoff";

/// The engine behind a socket.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: OnceCell<Docker>,
    socket: String,
}

impl Engine {
    /// The engine at this socket. It is looked for when it is first asked something: much can be done without it.
    pub fn at(socket: &Path) -> Self {
        Self { docker: OnceCell::new(), socket: socket.to_string_lossy().into_owned() }
    }

    pub(super) fn docker(&self) -> Result<&Docker, Fault> {
        if let Some(docker) = self.docker.get() {
            return Ok(docker);
        }
        let docker = Docker::connect_with_unix(&self.socket, TIMEOUT_SECONDS, bollard::API_DEFAULT_VERSION)
            .map_err(|error| away(&self.socket, &error))?;
        Ok(self.docker.get_or_init(|| docker))
    }

    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// The version of the engine.
    pub async fn version(&self) -> Result<String, Fault> {
        let version = self.docker()?.version().await.map_err(|error| away(&self.socket, &error))?;
        Ok(version.version.unwrap_or_default())
    }

    /// How far it shifts the users of containers.
    pub async fn remap(&self) -> Result<Remap, Fault> {
        let info = self.docker()?.info().await.map_err(|error| away(&self.socket, &error))?;
        let (options, root) = (info.security_options.unwrap_or_default(), info.docker_root_dir.unwrap_or_default());
        delivery::remap(&options, &root).ok_or_else(|| {
            let what = "the Docker Engine remaps users (`userns-remap`), and does not say to which";
            Fault::new(Code::EngineAway, what)
                .because(format!("its directory {root} is not named after the first user and group"))
                .at("nothing was changed: files of secrets would belong to the wrong user")
                .hint("`docker info` shows both; take `userns-remap` out of /etc/docker/daemon.json")
        })
    }

    /// Every container of a Compose project, with one question.
    pub async fn observe(&self) -> Result<Observed, Fault> {
        let summaries = self.list(&[PROJECT.to_owned()]).await?;
        let mut containers: Vec<Container> = summaries.iter().filter_map(container).collect();
        containers.sort_by(|one, two| {
            (&one.project, &one.service, &one.name, &one.id).cmp(&(&two.project, &two.service, &two.name, &two.id))
        });
        Ok(Observed { life: life::of(Path::new(&self.socket)), containers })
    }

    /// Every path of the host that is mounted into a container, running or not, whoever made it.
    pub async fn mounted(&self) -> Result<BTreeSet<PathBuf>, Fault> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let containers =
            self.docker()?.list_containers(Some(options)).await.map_err(|error| away(&self.socket, &error))?;
        let mounts = containers.into_iter().filter_map(|container| container.mounts).flatten();
        Ok(mounts.filter_map(|mount| mount.source).map(PathBuf::from).collect())
    }

    /// Where a volume lies on this host; none if there is no such volume, or if it is not mounted now.
    pub async fn volume(&self, name: &str) -> Result<Option<PathBuf>, Fault> {
        match self.docker()?.inspect_volume(name).await {
            Ok(volume) => Ok(Some(PathBuf::from(volume.mountpoint))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(away(&self.socket, &error)),
        }
    }

    /// One look at the containers of these services, for the gate.
    pub async fn look(&self, project: &str, services: &[String]) -> Result<Vec<Sample>, Fault> {
        let mut samples = Vec::new();
        for summary in self.list(&[format!("{PROJECT}={project}")]).await? {
            let Some(container) = container(&summary) else { continue };
            if !services.contains(&container.service) {
                continue;
            }
            match self.docker()?.inspect_container(&container.id, None).await {
                Ok(inspected) => samples.push(sample(container, &inspected)),
                // Replaced between the two questions; the next look sees the new one.
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(away(&self.socket, &error)),
            }
        }
        Ok(samples)
    }

    /// Which of these images are not here.
    pub async fn missing_images(&self, images: &BTreeSet<String>) -> Result<BTreeSet<String>, Fault> {
        let mut missing = BTreeSet::new();
        for image in images {
            match self.docker()?.inspect_image(image).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => _ = missing.insert(image.clone()),
                Err(error) => return Err(away(&self.socket, &error)),
            }
        }
        Ok(missing)
    }

    /// Stops and removes the containers of services that a project no longer has. Their volumes stay.
    pub async fn remove(&self, project: &str, services: &[String]) -> Result<(), Fault> {
        let there = self.list(&[format!("{PROJECT}={project}")]).await?;
        let there = there.iter().filter_map(container).filter(|container| services.contains(&container.service));
        self.end(&there.map(|container| (container.id, container.name)).collect()).await
    }

    async fn list(&self, labels: &[String]) -> Result<Vec<ContainerSummary>, Fault> {
        #[allow(clippy::disallowed_types, reason = "bollard takes no other; one entry has no order")]
        let filters = std::collections::HashMap::from([("label".to_owned(), labels.to_vec())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        self.docker()?.list_containers(Some(options)).await.map_err(|error| away(&self.socket, &error))
    }
}

pub(super) fn away(socket: &str, error: &Error) -> Fault {
    Fault::new(Code::EngineAway, format!("the Docker Engine at {socket} does not answer"))
        .caused_by(error)
        .at("nothing was changed")
        .hint("systemctl status docker")
}

pub(super) fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// A container in our words; nothing for those that `docker compose run` left behind.
fn container(summary: &ContainerSummary) -> Option<Container> {
    let labels = summary.labels.as_ref()?;
    let label = |name: &str| labels.get(name).cloned();
    if label(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let status = summary.status.as_deref().unwrap_or_default();
    let networks = summary.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let ours = labels.iter().filter(|(name, _)| *name == CONTENT_LABEL);
    Some(Container {
        id: summary.id.clone()?,
        name: summary.names.as_ref()?.first()?.trim_start_matches('/').to_owned(),
        project: label(PROJECT)?,
        service: label(SERVICE)?,
        config_hash: label(CONFIG_HASH).unwrap_or_default(),
        image: summary.image.clone().unwrap_or_default(),
        image_id: summary.image_id.clone().unwrap_or_default(),
        state: state(summary.state.as_ref(), status),
        health: health_in(status),
        networks: networks.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        labels: ours.map(|(name, value)| (name.clone(), value.clone())).collect(),
    })
}

fn state(state: Option<&ContainerSummaryStateEnum>, status: &str) -> State {
    match state {
        Some(ContainerSummaryStateEnum::CREATED) => State::Created,
        Some(ContainerSummaryStateEnum::RUNNING) => State::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => State::Paused,
        Some(ContainerSummaryStateEnum::RESTARTING) => State::Restarting,
        Some(ContainerSummaryStateEnum::EXITED) => State::Exited(exit_code_in(status)),
        _ => State::Gone,
    }
}

/// The list has the exit code only in words: `Exited (137) 3 seconds ago`.
fn exit_code_in(status: &str) -> i64 {
    let code = status.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(code, _)| code);
    code.and_then(|code| code.parse().ok()).unwrap_or(-1)
}

/// The list has the health only in words: `Up 2 minutes (healthy)`.
fn health_in(status: &str) -> Option<Health> {
    match status.rsplit_once('(')?.1.trim_end_matches(')') {
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        "health: starting" => Some(Health::Starting),
        _ => None,
    }
}

fn sample(container: Container, inspected: &ContainerInspectResponse) -> Sample {
    let now = inspected.state.as_ref();
    let exit_code = now.and_then(|state| state.exit_code).unwrap_or(-1);
    let state = match now.and_then(|state| state.status.as_ref()) {
        Some(ContainerStateStatusEnum::CREATED) => State::Created,
        Some(ContainerStateStatusEnum::RUNNING) => State::Running,
        Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => State::Restarting,
        Some(ContainerStateStatusEnum::EXITED) => State::Exited(exit_code),
        _ => State::Gone,
    };
    let health = now.and_then(|state| state.health.as_ref()?.status.as_ref()).and_then(|status| match status {
        HealthStatusEnum::STARTING => Some(Health::Starting),
        HealthStatusEnum::HEALTHY => Some(Health::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(Health::Unhealthy),
        _ => None,
    });
    let policy = inspected.host_config.as_ref().and_then(|config| config.restart_policy.as_ref()?.name.as_ref());
    let restarts_after_success =
        matches!(policy, Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED));
    Sample {
        id: container.id,
        name: container.name,
        service: container.service,
        state,
        health,
        restarts: inspected.restart_count.unwrap_or(0),
        restarts_after_success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_list_are_read() {
        assert_eq!(exit_code_in("Exited (137) 3 seconds ago"), 137);
        assert_eq!(health_in("Up 2 minutes (healthy)"), Some(Health::Healthy));
        assert_eq!(health_in("Up 2 seconds (health: starting)"), Some(Health::Starting));
        assert_eq!(health_in("Up 2 minutes"), None);
        assert_eq!(health_in("Up 2 minutes (Paused)"), None);
    }
}
