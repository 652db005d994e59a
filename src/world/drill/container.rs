//! The containers of a drill: what they get of the stack that they stand for, and how they ended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountPoint, MountType, MountVolumeOptions, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::{LABEL, failed};
use crate::decide::fault::Fault;
use crate::decide::{policy, redact};
use crate::model::Settings;
use crate::world::docker::{Engine, away, is_not_found};

/// How much memory a container gets whose service has no limit.
const MEMORY: i64 = 1024 * 1024 * 1024;
/// How many processes.
const PIDS: i64 = 1024;
/// A share of the processor: an eighth of what each other container has.
const CPU_SHARES: i64 = 128;
/// How much of a log is shown.
const LINES: usize = 6;

/// A container that runs to its end.
#[derive(Debug)]
pub struct Once {
    /// What it is, for a sentence.
    pub what: String,
    /// Its image, by name; or that of the container of this service.
    pub image: Of,
    /// The command.
    pub command: Vec<String>,
    /// What it gets to read, and where it finds that.
    pub reads: (PathBuf, &'static str),
    /// How long it may take.
    pub limit: Duration,
}

/// Where an image is taken from.
#[derive(Debug)]
pub enum Of {
    /// This one, with whatever it does before it starts a program.
    Image(String),
    /// That of the container of a service, whatever it is called by now. What it does to set a server up is left out.
    Service(String),
}

/// A server like that of a service.
pub(super) async fn like(
    engine: &Engine,
    settings: &Settings,
    stack: &str,
    service: &str,
    name: &str,
) -> Result<ContainerCreateBody, Fault> {
    let found = of_service(engine, stack, service).await?;
    let volumes = volumes(engine, &found.image.clone().unwrap_or_default(), service).await?;
    let own = [settings.stack_directory(stack), settings.run.join("secrets")];
    Ok(server(found, &volumes, &own, stack, name))
}

/// Where an image keeps data: each place needs a volume that we know, or the engine makes one that nobody knows.
async fn volumes(engine: &Engine, image: &str, service: &str) -> Result<Vec<String>, Fault> {
    match engine.docker()?.inspect_image(image).await {
        Err(error) if is_not_found(&error) => Err(no_image(service)),
        inspected => {
            let inspected = inspected.map_err(|error| away(engine.socket(), &error))?;
            Ok(inspected.config.and_then(|config| config.volumes).unwrap_or_default())
        }
    }
}

async fn of_service(engine: &Engine, stack: &str, service: &str) -> Result<ContainerInspectResponse, Fault> {
    let observed = engine.observe().await?;
    let found = observed.of(stack).find(|found| found.service == service);
    let missing = || {
        failed(format!("there is no container of `{service}`: nothing says which image it has, and which settings"))
            .hint(format!("`moorline reconcile` brings {stack} up"))
    };
    let id = found.map(|found| found.id.clone()).ok_or_else(missing)?;
    engine.docker()?.inspect_container(&id, None).await.map_err(|error| away(engine.socket(), &error))
}

fn no_image(service: &str) -> Fault {
    failed(format!("the image of `{service}` is not on this host any more"))
        .hint("`moorline reconcile` pulls what is missing; a drill pulls no image of a stack")
}

/// The same program with the same settings, and nothing of its data, its networks, its ports and its rights.
fn server(
    found: ContainerInspectResponse,
    image_volumes: &[String],
    own: &[PathBuf],
    stack: &str,
    name: &str,
) -> ContainerCreateBody {
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let mut mounts: Vec<Mount> = Vec::new();
    let mut targets = BTreeSet::new();
    for point in found.mounts.unwrap_or_default() {
        let Some(target) = point.destination.clone() else { continue };
        mounts.extend(instead(&point, own, stack, &format!("{name}-{}", mounts.len())));
        targets.insert(target);
    }
    for target in image_volumes.iter().filter(|target| !targets.contains(*target)) {
        mounts.push(fresh(target, stack, &format!("{name}-{}", mounts.len())));
    }
    ContainerCreateBody {
        image: found.image,
        env: config.env,
        cmd: config.cmd,
        entrypoint: config.entrypoint,
        user: config.user,
        working_dir: config.working_dir,
        stop_signal: config.stop_signal,
        host_config: Some(HostConfig {
            mounts: Some(mounts),
            memory: host.memory.filter(|memory| *memory > 0).or(Some(MEMORY)),
            memory_swap: host.memory.filter(|memory| *memory > 0).or(Some(MEMORY)),
            readonly_rootfs: host.readonly_rootfs,
            tmpfs: host.tmpfs,
            shm_size: host.shm_size,
            ulimits: host.ulimits,
            cap_drop: host.cap_drop,
            ..modest()
        }),
        ..body(stack)
    }
}

/// What a container of a drill gets in the place of a mount; nothing, if it can do without.
fn instead(point: &MountPoint, own: &[PathBuf], stack: &str, name: &str) -> Option<Mount> {
    let (source, target) = (Path::new(point.source.as_deref()?), point.destination.as_deref()?);
    let is_read = point.rw == Some(false);
    let is_own = own.iter().any(|own| source.starts_with(own)) || policy::is_harmless_to_read(source);
    match point.typ.as_deref() {
        // Settings and secrets.
        Some("bind") if is_read && is_own => Some(Mount {
            typ: Some(MountType::BIND),
            source: point.source.clone(),
            target: Some(target.to_owned()),
            read_only: Some(true),
            ..Mount::default()
        }),
        // A file, a socket or a device of the host: none of it is data of a database.
        Some("bind") if is_read || !source.is_dir() => None,
        Some("tmpfs") => {
            Some(Mount { typ: Some(MountType::TMPFS), target: Some(target.to_owned()), ..Mount::default() })
        }
        _ => Some(fresh(target, stack, name)),
    }
}

/// A volume of the drill's own.
fn fresh(target: &str, stack: &str, name: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions {
            labels: Some([(LABEL.to_owned(), stack.to_owned())].into()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

/// A container that runs to its end.
pub(super) async fn once(
    engine: &Engine,
    settings: &Settings,
    stack: &str,
    once: &Once,
    name: &str,
) -> Result<ContainerCreateBody, Fault> {
    let made = match &once.image {
        Of::Service(service) => {
            let made = like(engine, settings, stack, service, name).await?;
            // An entry point of one empty word is none.
            ContainerCreateBody { entrypoint: Some(vec![String::new()]), ..made }
        }
        Of::Image(image) => {
            let volumes = volumes(engine, image, &once.what).await?;
            let fresh = |(number, target): (usize, &String)| fresh(target, stack, &format!("{name}-{number}"));
            let mounts = volumes.iter().enumerate().map(fresh).collect();
            let (memory, memory_swap) = (Some(MEMORY), Some(MEMORY));
            let host = HostConfig { mounts: Some(mounts), memory, memory_swap, ..modest() };
            ContainerCreateBody { image: Some(image.clone()), host_config: Some(host), ..body(stack) }
        }
    };
    let (source, target) = &once.reads;
    let read = Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some((*target).to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    let mut host = made.host_config.unwrap_or_default();
    host.mounts.get_or_insert_default().push(read);
    Ok(ContainerCreateBody {
        cmd: Some(once.command.clone()),
        // What was restored belongs to whoever it belonged to.
        user: Some("0:0".to_owned()),
        host_config: Some(host),
        ..made
    })
}

fn body(stack: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        labels: Some([(LABEL.to_owned(), stack.to_owned())].into()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        ..ContainerCreateBody::default()
    }
}

/// No network, no restart, few rights, and less of everything than what the host serves.
fn modest() -> HostConfig {
    HostConfig {
        network_mode: Some("none".to_owned()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..RestartPolicy::default() }),
        pids_limit: Some(PIDS),
        cpu_shares: Some(CPU_SHARES),
        // The first one that goes when the host has no memory left.
        oom_score_adj: Some(1000),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // Not where the host's logs go, and no more than can be shown.
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some([("max-size", "1m"), ("max-file", "1")].map(|(key, value)| (key.into(), value.into())).into()),
        }),
        ..HostConfig::default()
    }
}

/// Makes and starts a container; returns its id.
pub(super) async fn start(engine: &Engine, name: &str, body: ContainerCreateBody) -> Result<String, Fault> {
    let refused = |error| failed("the engine starts no container for the drill").caused_by(&error);
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let id = engine.docker()?.create_container(Some(options), body).await.map_err(refused)?.id;
    engine.docker()?.start_container(&id, None).await.map_err(refused)?;
    Ok(id)
}

/// Whether a container has ended, and well; one that ended otherwise is a fault with its last words.
pub(super) async fn has_ended(engine: &Engine, id: &str, what: &str, secrets: &[&str]) -> Result<bool, Fault> {
    match exit(engine, id).await? {
        None => Ok(false),
        Some((0, _)) => Ok(true),
        Some((code, how)) => Err(ended(engine, id, &format!("{what} ended with {code}{how}"), secrets).await),
    }
}

/// Refuses a server that has ended, with its last words.
pub(super) async fn still_runs(engine: &Engine, id: &str, service: &str, secrets: &[&str]) -> Result<(), Fault> {
    match exit(engine, id).await? {
        None => Ok(()),
        Some((code, how)) => {
            Err(ended(engine, id, &format!("a fresh `{service}` does not stay up: it ended with {code}{how}"), secrets)
                .await)
        }
    }
}

/// The exit code, and what made it end, once it has.
async fn exit(engine: &Engine, id: &str) -> Result<Option<(i64, &'static str)>, Fault> {
    let inspected = engine.docker()?.inspect_container(id, None).await;
    let state = inspected.map_err(|error| away(engine.socket(), &error))?.state.unwrap_or_default();
    let is_over = matches!(state.status, Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD));
    let how = if state.oom_killed == Some(true) { ", out of memory" } else { "" };
    Ok(is_over.then_some((state.exit_code.unwrap_or(-1), how)))
}

async fn ended(engine: &Engine, id: &str, sentence: &str, secrets: &[&str]) -> Fault {
    let log = engine.log(id, LINES * 4).await;
    let lines = log.map(|log| redact::last_lines(log.expose(), LINES, secrets)).unwrap_or_default();
    match lines.is_empty() {
        true => failed(sentence),
        false => failed(format!("{sentence}: {}", lines.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerConfig, PortBinding};

    fn mount(typ: &str, source: &str, target: &str, rw: bool) -> MountPoint {
        MountPoint {
            typ: Some(typ.to_owned()),
            source: Some(source.to_owned()),
            destination: Some(target.to_owned()),
            rw: Some(rw),
            name: Some("shop_data".to_owned()),
            ..MountPoint::default()
        }
    }

    #[test]
    fn a_server_of_a_drill_gets_settings_and_secrets_and_nothing_that_production_has() {
        let found = ContainerInspectResponse {
            image: Some("sha256:1".to_owned()),
            config: Some(ContainerConfig {
                env: Some(vec!["POSTGRES_PASSWORD_FILE=/run/secrets/word".to_owned()]),
                labels: Some([("com.docker.compose.project".to_owned(), "shop".to_owned())].into()),
                hostname: Some("db".to_owned()),
                ..ContainerConfig::default()
            }),
            host_config: Some(HostConfig {
                network_mode: Some("shop_default".to_owned()),
                privileged: Some(true),
                cap_add: Some(vec!["SYS_ADMIN".to_owned()]),
                binds: Some(vec!["shop_data:/var/lib/postgresql/data".to_owned()]),
                port_bindings: Some([("5432/tcp".to_owned(), Some(vec![PortBinding::default()]))].into()),
                ..HostConfig::default()
            }),
            mounts: Some(vec![
                mount("volume", "/docker/volumes/shop_data/_data", "/var/lib/postgresql/data", true),
                mount("bind", "/run/moorline/secrets/shop/1/word", "/run/secrets/word", false),
                mount("bind", "/state/stacks/shop/my.conf", "/etc/my.conf", false),
                mount("bind", "/var/run/docker.sock", "/var/run/docker.sock", false),
                mount("bind", "/", "/host", true),
            ]),
            ..ContainerInspectResponse::default()
        };
        let own = ["/state/stacks/shop".into(), "/run/moorline/secrets".into()];
        let body =
            server(found, &["/var/lib/postgresql/data".into(), "/extra".into()], &own, "shop", "moorline-drill-1");
        let host = body.host_config.unwrap();
        let mounts: Vec<(String, String)> =
            host.mounts.unwrap().into_iter().map(|mount| (mount.source.unwrap(), mount.target.unwrap())).collect();
        let expected = [
            ("moorline-drill-1-0", "/var/lib/postgresql/data"),
            ("/run/moorline/secrets/shop/1/word", "/run/secrets/word"),
            ("/state/stacks/shop/my.conf", "/etc/my.conf"),
            ("moorline-drill-1-3", "/host"),
            ("moorline-drill-1-4", "/extra"),
        ];
        assert_eq!(mounts, expected.map(|(source, target)| (source.to_owned(), target.to_owned())));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!((host.binds, host.port_bindings, host.privileged, host.cap_add), (None, None, None, None));
        assert_eq!(host.memory, Some(MEMORY));
        assert_eq!(body.labels.unwrap().into_iter().collect::<Vec<_>>(), [(LABEL.to_owned(), "shop".to_owned())]);
        assert_eq!((body.hostname, body.image.as_deref()), (None, Some("sha256:1")));
    }
}
