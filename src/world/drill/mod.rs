//! What a drill makes and removes again: a directory, containers and volumes, each with the drill's label and a name that
//! was written down before it was made. Nothing else is ever removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};
use serde::{Deserialize, Serialize};

use crate::decide::backup::drill::RESERVE;
use crate::decide::backup::load::{self, Load, Roles, Server, Tolerates};
use crate::decide::fault::{Code, Fault};
use crate::model::host::Logins;
use crate::model::{Secret, State};
use crate::world::docker::{away, is_not_found};
use crate::world::load::{Fed, feed};
use crate::world::{Real, World, disk};

mod container;

pub use container::{Of, Once};

/// Below `state`.
const DIRECTORY: &str = "drill";
/// The label of everything that a drill makes; its value is the stack.
pub const LABEL: &str = "moorline.drill";
/// The version of the record's form.
const VERSION: u32 = 1;
/// A record is a few hundred bytes.
const LARGEST_RECORD: u64 = 64 * 1024;
/// A list of roles is a few kilobytes.
const LARGEST_ROLES: u64 = 64 * 1024 * 1024;
/// How long a database may take until it accepts connections.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often it is looked how a container is.
const PACE: Duration = Duration::from_millis(250);

/// What was written down before anything was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    version: u32,
    /// How the name of each container and volume begins.
    names: String,
    /// An image that was not here before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free bytes where files are restored to.
    pub scratch: u64,
    /// Free bytes where the engine keeps what is in containers, if that is another disk.
    pub engine: Option<u64>,
}

/// What a host does for drills.
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Throwaway {
    /// Makes the scratch directory of a stack, with a record of it before. Returns where it is.
    fn open_scratch(&self, stack: &str) -> Result<PathBuf, Fault>;
    /// How much room there is.
    async fn space(&self) -> Result<Space, Fault>;
    /// The files below a directory, as paths below it, sorted.
    fn files(&self, directory: &Path) -> Result<Vec<String>, Fault>;
    /// The running container of a service.
    async fn running(&self, stack: &str, service: &str) -> Result<String, Fault>;
    /// Starts a server like that of a service, with no data, no network and no ports, and waits until it can be loaded
    /// into. Returns its id.
    async fn start_like(&self, stack: &str, service: &str, server: &Server, secrets: &[&str]) -> Result<String, Fault>;
    /// Loads a file into a server.
    async fn load(
        &self,
        container: &str,
        load: &Load,
        from: (&Path, Roles),
        password: Option<&Secret<String>>,
        secrets: &[&str],
    ) -> Result<(), Fault>;
    /// Runs a container to its end, which must be 0.
    async fn run_once(&self, stack: &str, once: &Once, secrets: &[&str]) -> Result<(), Fault>;
    /// Removes a container of a drill, with its volumes.
    async fn end_container(&self, stack: &str, container: &str) -> Result<(), Fault>;
    /// Fetches an image if it is not here.
    async fn fetch_image(&self, stack: &str, image: &str, logins: &Logins) -> Result<(), Fault>;
}

fn failed(sentence: impl Into<String>) -> Fault {
    Fault::new(Code::DrillFailed, sentence)
}

impl Throwaway for Real {
    fn open_scratch(&self, stack: &str) -> Result<PathBuf, Fault> {
        let all = self.settings().state.join(DIRECTORY);
        let directory = all.join(stack);
        let made = Made { version: VERSION, names: self.names(), image: None };
        let make = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
            write(&all, stack, &made)?;
            DirBuilder::new().mode(0o700).create(&directory)
        };
        make().map_err(|error| disk::unwritable(&directory, &error))?;
        Ok(directory)
    }

    async fn space(&self) -> Result<Space, Fault> {
        use std::os::unix::fs::MetadataExt;
        let state = &self.scratch_space();
        let place = self.engine.image_directory().await?;
        let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
        let other = place.as_deref().filter(|place| device(place) != device(state));
        Ok(Space { scratch: disk::free_bytes(state).unwrap_or(u64::MAX), engine: other.and_then(disk::free_bytes) })
    }

    fn files(&self, directory: &Path) -> Result<Vec<String>, Fault> {
        let mut found = Vec::new();
        let mut waiting = vec![PathBuf::new()];
        let mut read = || -> io::Result<()> {
            while let Some(below) = waiting.pop() {
                for entry in fs::read_dir(directory.join(&below))? {
                    let entry = entry?;
                    let path = below.join(entry.file_name());
                    match entry.file_type()? {
                        kind if kind.is_dir() => waiting.push(path),
                        kind if kind.is_file() => found.extend(path.to_str().map(str::to_owned)),
                        _ => {}
                    }
                }
            }
            Ok(())
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => {
                read.map_err(|error| failed(format!("{} cannot be read", directory.display())).caused_by(&error))?;
            }
        }
        found.sort();
        Ok(found)
    }

    async fn running(&self, stack: &str, service: &str) -> Result<String, Fault> {
        let observed = self.engine.observe().await?;
        let found = observed.of(stack).find(|found| found.service == service && found.state == State::Running);
        let missing = || Fault::new(Code::StepFailed, format!("no container of `{service}` of {stack} runs"));
        found
            .map(|found| found.id.clone())
            .ok_or_else(|| missing().hint(format!("`moorline reconcile` brings {stack} up")))
    }

    async fn start_like(&self, stack: &str, service: &str, server: &Server, secrets: &[&str]) -> Result<String, Fault> {
        let name = self.name_of_next(stack)?;
        let body = container::like(&self.engine, self.settings(), stack, service, &name).await?;
        let id = container::start(&self.engine, &name, body).await?;
        let began = self.now();
        loop {
            container::still_runs(&self.engine, &id, service, secrets).await?;
            let asked = Fed { container: &id, command: &server.ready, variables: Vec::new(), secrets };
            let ended = feed(&self.engine, asked, &mut io::empty(), &|| Ok(())).await;
            if ended.as_ref().is_ok_and(|ended| ended.status == Some(0)) {
                return Ok(id);
            }
            self.may_go_on(began, PATIENCE, || {
                let said = ended.as_ref().map(|ended| ended.said.join(" ")).unwrap_or_default();
                failed(format!("a fresh `{service}` accepts no connections after {} s", PATIENCE.as_secs()))
                    .because(said)
            })?;
            self.wait(PACE).await;
        }
    }

    async fn load(
        &self,
        container: &str,
        load: &Load,
        (file, roles): (&Path, Roles),
        password: Option<&Secret<String>>,
        secrets: &[&str],
    ) -> Result<(), Fault> {
        let unreadable = |error: io::Error| failed(format!("dump {} cannot be read", load.from)).caused_by(&error);
        let password = password.map(|password| format!("{}={}", load.password, password.expose()));
        let variables = load.variables.iter().cloned().chain(password).collect();
        let fed = Fed { container, command: &load.command, variables, secrets };
        let room = || self.has_room();
        let feeding = async {
            if (load.tolerates, roles) == (Tolerates::Roles, Roles::AsTheyAre) {
                let globals = disk::read(file, LARGEST_ROLES).map_err(unreadable)?;
                let kept = zeroize::Zeroizing::new(load::keep_roles(&String::from_utf8_lossy(&globals)));
                return feed(&self.engine, fed, &mut kept.as_bytes(), &room).await;
            }
            feed(&self.engine, fed, &mut File::open(file).map_err(unreadable)?, &room).await
        };
        let ended = tokio::select! {
            ended = feeding => ended?,
            () = self.stop.ordered() => return Err(stopped()),
        };
        load::judge(load, ended.status, &ended.said).map_err(failed)
    }

    async fn run_once(&self, stack: &str, once: &Once, secrets: &[&str]) -> Result<(), Fault> {
        let name = self.name_of_next(stack)?;
        let body = container::once(&self.engine, self.settings(), stack, once, &name).await?;
        let id = container::start(&self.engine, &name, body).await?;
        let began = self.now();
        while !container::has_ended(&self.engine, &id, &once.what, secrets).await? {
            self.has_room()?;
            let late = || failed(format!("{} did not end within {} s", once.what, once.limit.as_secs()));
            self.may_go_on(began, once.limit, late)?;
            self.wait(PACE).await;
        }
        Ok(())
    }

    async fn end_container(&self, stack: &str, container: &str) -> Result<(), Fault> {
        let made = read(&self.settings().state.join(DIRECTORY), stack)?;
        let inspected = self.engine.docker()?.inspect_container(container, None).await;
        let inspected = inspected.map_err(|error| away(self.engine.socket(), &error))?;
        let name = inspected.name.unwrap_or_default();
        let name = name.trim_start_matches('/');
        match name.starts_with(&made.names) {
            true => self.remove_containers(stack, name).await,
            false => Ok(()),
        }
    }

    async fn fetch_image(&self, stack: &str, image: &str, logins: &Logins) -> Result<(), Fault> {
        if self.engine.image(image).await?.is_some() {
            return Ok(());
        }
        let all = self.settings().state.join(DIRECTORY);
        let made = Made { image: Some(image.to_owned()), ..read(&all, stack)? };
        write(&all, stack, &made).map_err(|error| disk::unwritable(&record_of(&all, stack), &error))?;
        tokio::select! {
            pulled = self.engine.pull(image, logins, self.settings().pull_timeout, |_, _| {}) => pulled,
            () = self.stop.ordered() => Err(stopped()),
        }
    }
}

impl Real {
    /// Removes what drills made that have ended, however they ended.
    pub(super) async fn sweep(&self) -> Result<(), Fault> {
        let all = self.settings().state.join(DIRECTORY);
        for (stack, made) in records(&all)? {
            self.remove_containers(&stack, &made.names).await?;
            if let Some(image) = &made.image {
                // One that is in use by now stays.
                self.engine.remove_image(image).await?;
            }
            let directory = all.join(&stack);
            let remove = || {
                unless_gone(fs::remove_dir_all(&directory))?;
                unless_gone(fs::remove_file(record_of(&all, &stack)))
            };
            remove().map_err(|error| disk::unwritable(&directory, &error))?;
        }
        Ok(())
    }

    /// Where scratch directories are, or will be.
    fn scratch_space(&self) -> PathBuf {
        let all = self.settings().state.join(DIRECTORY);
        if all.exists() { all } else { self.settings().state.clone() }
    }

    /// A beginning of names that nobody has used.
    fn names(&self) -> String {
        format!("moorline-drill-{}-{}", std::process::id(), self.now().as_millisecond())
    }

    fn name_of_next(&self, stack: &str) -> Result<String, Fault> {
        let made = read(&self.settings().state.join(DIRECTORY), stack)?;
        Ok(format!("{}-{}", made.names, self.now().as_microsecond()))
    }

    /// Whether the disk for scratch space is about to be full; the engine's is asked before.
    fn has_room(&self) -> Result<(), Fault> {
        let free = disk::free_bytes(&self.scratch_space()).unwrap_or(u64::MAX);
        match free < RESERVE / 2 {
            true => Err(failed(format!("the drill fills the disk: {} MiB are free", free >> 20))),
            false => Ok(()),
        }
    }

    fn may_go_on(&self, began: jiff::Timestamp, limit: Duration, late: impl FnOnce() -> Fault) -> Result<(), Fault> {
        if self.stopping() {
            return Err(stopped());
        }
        match self.now().duration_since(began).unsigned_abs() > limit {
            true => Err(late()),
            false => Ok(()),
        }
    }

    /// Removes the containers and volumes of a stack's drill whose names begin like this.
    async fn remove_containers(&self, stack: &str, names: &str) -> Result<(), Fault> {
        #[allow(clippy::disallowed_types, reason = "bollard takes no other; one entry has no order")]
        let filters = std::collections::HashMap::from([("label".to_owned(), vec![format!("{LABEL}={stack}")])]);
        let docker = self.engine.docker()?;
        let gone = |error: &bollard::errors::Error| away(self.engine.socket(), error);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        for found in docker.list_containers(Some(options)).await.map_err(|error| gone(&error))? {
            let (Some(id), Some(all)) = (found.id, found.names) else { continue };
            if all.iter().any(|name| is_named(name.trim_start_matches('/'), names)) {
                let options = RemoveContainerOptionsBuilder::new().v(true).force(true).build();
                match docker.remove_container(&id, Some(options)).await {
                    Err(error) if !is_not_found(&error) => return Err(gone(&error)),
                    _ => {}
                }
            }
        }
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let volumes = docker.list_volumes(Some(options)).await.map_err(|error| gone(&error))?.volumes;
        for volume in volumes.into_iter().flatten().filter(|volume| is_named(&volume.name, names)) {
            match docker.remove_volume(&volume.name, None::<bollard::query_parameters::RemoveVolumeOptions>).await {
                Err(error) if !is_not_found(&error) => return Err(gone(&error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_named(name: &str, names: &str) -> bool {
    name.strip_prefix(names).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn stopped() -> Fault {
    Fault::new(Code::Stopped, "moorline was asked to stop")
}

fn record_of(all: &Path, stack: &str) -> PathBuf {
    all.join(format!("{stack}.json"))
}

fn write(all: &Path, stack: &str, made: &Made) -> io::Result<()> {
    disk::write(&record_of(all, stack), &serde_json::to_vec(made)?, 0o600)
}

fn read(all: &Path, stack: &str) -> Result<Made, Fault> {
    let path = record_of(all, stack);
    let unreadable = |error: &dyn std::error::Error| {
        Fault::new(Code::LedgerDamaged, format!("{} cannot be read", path.display()))
            .caused_by(error)
            .at("what a drill made is not removed")
            .hint(format!(
                "`docker ps --all --filter label={LABEL}` and `docker volume ls --filter label={LABEL}` show it; then remove {}",
                path.display()
            ))
    };
    let bytes = disk::read(&path, LARGEST_RECORD).map_err(|error| unreadable(&error))?;
    let made: Made = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    match made.names.starts_with("moorline-drill-") {
        true => Ok(made),
        false => Err(unreadable(&io::Error::other("it names nothing of a drill"))),
    }
}

/// Every record, by stack.
fn records(all: &Path) -> Result<Vec<(String, Made)>, Fault> {
    let entries = match fs::read_dir(all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| disk::unwritable(all, &error))?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let stacks: Vec<String> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    stacks.into_iter().map(|stack| read(all, &stack).map(|made| (stack, made))).collect()
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
