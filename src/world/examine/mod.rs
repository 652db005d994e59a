//! What `moorline doctor` looks at besides what every run needs. Looks only.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::ListContainersOptionsBuilder;

use crate::decide::doctor::engine::EngineSettings;
use crate::decide::doctor::machine::{Room, Upgrades};
use crate::decide::doctor::units::Unit;
use crate::decide::fault::{Code, Fault};
use crate::decide::remote::Remote;
use crate::model::{Report, Secret};
use crate::world::child::Child;
use crate::world::docker::away;
use crate::world::fetch::Fetch;
use crate::world::lock::{self, Holder};
use crate::world::{Real, World, disk, kuma, last_report, ledger, memory};

mod machine;

/// For programs that only say something.
const QUESTION: Duration = Duration::from_secs(10);

/// What a host needs, each with what was found or how to mend it.
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Examine {
    /// Whether root looks.
    fn is_root(&self) -> bool;
    /// The version of git.
    async fn git_version(&self) -> Result<String, Fault>;
    /// The version of ssh.
    async fn ssh_version(&self) -> Result<String, Fault>;
    /// The version of the engine.
    async fn engine_version(&self) -> Result<String, Fault>;
    /// How the engine is set up.
    async fn engine_settings(&self) -> Result<EngineSettings, Fault>;
    /// The ports that containers publish.
    async fn published_ports(&self) -> Result<BTreeSet<u16>, Fault>;
    /// The ports that anybody listens on.
    fn listening_ports(&self) -> BTreeSet<u16>;
    /// Whether state can be written.
    fn state_is_writable(&self) -> Result<String, Fault>;
    /// How much room there is where state is kept.
    fn room_for_state(&self) -> Option<Room>;
    /// How much room there is in a directory of the engine.
    fn room_in(&self, directory: &str) -> Option<Room>;
    /// Whether secrets would stay in memory.
    fn memory_is_safe(&self) -> Result<String, Fault>;
    /// Swap areas on disks, in clear.
    fn swap_on_disk(&self) -> Vec<String>;
    /// Whether the clock is set by the network; none if nobody knows.
    async fn clock_is_set(&self) -> Option<bool>;
    /// The key for the git server; none where it needs none.
    fn deploy_key(&self) -> Result<Option<String>, Fault>;
    /// The pinned key of the git server; none where it is not asked over ssh.
    async fn pinned_key(&self) -> Result<Option<String>, Fault>;
    /// Whether the git server answers and knows the branch.
    async fn reachable(&self) -> Result<String, Fault>;
    /// The last report.
    fn last_report(&self) -> Result<Option<Report>, Fault>;
    /// Who keeps this host, and who is at work on it.
    fn at_work(&self) -> AtWork;
    /// Our units; none where systemd is not the init.
    async fn units(&self) -> Option<Vec<Unit>>;
    /// How many messages wait to be sent; none where there is no outbox yet.
    fn messages_waiting(&self) -> Result<Option<usize>, Fault>;
    /// Whether a server answers at a push URL, without telling it anything.
    async fn answers(&self, monitor: &str, url: &Secret<String>) -> Result<(), Fault>;
    /// What `tailscale status --json` says; none where it is not installed.
    async fn tailnet(&self) -> Option<Vec<u8>>;
    /// What is known of upgrades; none on a distribution without apt.
    async fn upgrades(&self) -> Option<Upgrades>;
}

/// Who is at work on this host.
#[derive(Debug, Default)]
pub struct AtWork {
    /// The keeper.
    pub keeper: Option<u32>,
    /// A service that runs a file which is not there any more.
    pub replaced: Option<u32>,
    /// A run or a backup, at this moment.
    pub working: Option<(u32, String)>,
}

impl Examine for Real {
    fn is_root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    async fn git_version(&self) -> Result<String, Fault> {
        program_version("git", "--version", "git").await
    }

    async fn ssh_version(&self) -> Result<String, Fault> {
        program_version("ssh", "-V", "openssh-client").await
    }

    async fn engine_version(&self) -> Result<String, Fault> {
        self.engine().version().await
    }

    async fn engine_settings(&self) -> Result<EngineSettings, Fault> {
        let engine = self.engine();
        let info = engine.docker()?.info().await.map_err(|error| away(engine.socket(), &error))?;
        let word = |value: Option<String>| value.unwrap_or_else(|| "?".into());
        Ok(EngineSettings {
            storage: word(info.driver),
            cgroups: (
                word(info.cgroup_version.map(|version| version.to_string())),
                word(info.cgroup_driver.map(|driver| driver.to_string())),
            ),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            root: word(info.docker_root_dir),
        })
    }

    async fn published_ports(&self) -> Result<BTreeSet<u16>, Fault> {
        let engine = self.engine();
        let options = ListContainersOptionsBuilder::new().build();
        let containers = engine.docker()?.list_containers(Some(options)).await;
        let containers = containers.map_err(|error| away(engine.socket(), &error))?;
        let ports = containers.into_iter().filter_map(|container| container.ports).flatten();
        Ok(ports.filter_map(|port| port.public_port).collect())
    }

    fn listening_ports(&self) -> BTreeSet<u16> {
        machine::listening_ports()
    }

    fn state_is_writable(&self) -> Result<String, Fault> {
        disk::space(&self.settings().state)
    }

    fn room_for_state(&self) -> Option<Room> {
        // Before the first start it is not there, and will be where its parent is.
        self.settings().state.ancestors().find_map(machine::room)
    }

    fn room_in(&self, directory: &str) -> Option<Room> {
        machine::room(Path::new(directory))
    }

    fn memory_is_safe(&self) -> Result<String, Fault> {
        let run = &self.settings().run;
        if disk::is_missing(run) {
            return Ok(format!("{} is mounted at the first start", run.display()));
        }
        memory::check(run, self.settings().memory)?;
        let mode = fs::metadata(run).map_or(0, |found| found.mode());
        if mode & 0o022 != 0 {
            return Err(Fault::new(Code::MemoryUnsafe, format!("anybody may write into {}", run.display()))
                .hint(format!("`chmod 0755 {}`", run.display())));
        }
        Ok(run.display().to_string())
    }

    fn swap_on_disk(&self) -> Vec<String> {
        machine::swap_on_disk()
    }

    async fn clock_is_set(&self) -> Option<bool> {
        machine::clock_is_set().await
    }

    fn deploy_key(&self) -> Result<Option<String>, Fault> {
        let Some(key) = &self.settings().deploy_key else { return Ok(None) };
        let path = key.display();
        let found = fs::metadata(key).map_err(|error| {
            let make = format!("`ssh-keygen -t ed25519 -N '' -f {path}`, then register {path}.pub, to read only");
            Fault::new(Code::FetchRefused, format!("{path} cannot be read")).caused_by(&error).hint(make)
        })?;
        match found.mode() & 0o7777 {
            mode if mode & 0o077 != 0 => {
                let sentence = format!("the mode of {path} is {mode:04o}, so others may read it, and ssh refuses it");
                Err(Fault::new(Code::FetchRefused, sentence).hint(format!("`chmod 0600 {path}`")))
            }
            mode => Ok(Some(format!("{path}, mode {mode:04o}"))),
        }
    }

    async fn pinned_key(&self) -> Result<Option<String>, Fault> {
        let Some(name) = Remote::parse(&self.settings().remote).ok().and_then(|remote| remote.pinned_name()) else {
            return Ok(None);
        };
        let list = &self.settings().known_hosts;
        let path = list.display();
        let scan = match name.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((host, port)) => format!("-p {port} {host}"),
            None => name.clone(),
        };
        let find = Child::new("ssh-keygen", QUESTION).args(["-F", &name, "-f"]).args([list]);
        match find.run().await {
            Ok(ended) if ended.succeeded() => Ok(Some(format!("a key of {name} is pinned"))),
            _ => Err(Fault::new(Code::FetchRefused, format!("{path} has no key of {name}")).hint(format!(
                "`ssh-keyscan {scan} >> {path}`, then compare with the fingerprint the server publishes"
            ))),
        }
    }

    async fn reachable(&self) -> Result<String, Fault> {
        Fetch::new(self.settings())?.ask().await
    }

    fn last_report(&self) -> Result<Option<Report>, Fault> {
        let settings = self.settings();
        let last = match ledger::runs(&settings.state)?.last() {
            Some(run) => Some(ledger::read_report(&settings.state, run)?),
            None => None,
        };
        Ok(last_report::newer(&settings.run, last))
    }

    fn at_work(&self) -> AtWork {
        let holder = |name: &str| lock::holder(&self.settings().run.join(name));
        let (keeper, courier) = (holder(lock::AGENT), holder(lock::COURIER));
        let is_replaced = |holder: &&Holder| {
            let file = fs::read_link(format!("/proc/{}/exe", holder.pid));
            file.is_ok_and(|file| file.to_string_lossy().ends_with(" (deleted)"))
        };
        let services = [&keeper, &courier].into_iter().flatten();
        AtWork {
            keeper: keeper.as_ref().map(|holder| holder.pid),
            replaced: services.filter(is_replaced).map(|holder| holder.pid).next(),
            working: holder(lock::KEEPER).or_else(|| holder(lock::BACKUP)).map(|holder| (holder.pid, holder.verb)),
        }
    }

    async fn units(&self) -> Option<Vec<Unit>> {
        machine::units().await
    }

    fn messages_waiting(&self) -> Result<Option<usize>, Fault> {
        match disk::is_missing(&self.settings().run.join("outbox")) {
            true => Ok(None),
            false => self.outbox().map(|waiting| Some(waiting.len())),
        }
    }

    async fn answers(&self, monitor: &str, url: &Secret<String>) -> Result<(), Fault> {
        kuma::answers(monitor, url).await
    }

    async fn tailnet(&self) -> Option<Vec<u8>> {
        let asked = Child::new("tailscale", QUESTION).args(["status", "--json"]).run().await;
        asked.ok().map(|ended| ended.stdout)
    }

    async fn upgrades(&self) -> Option<Upgrades> {
        machine::upgrades().await
    }
}

/// What a program says of its version; ssh says it on stderr.
async fn program_version(program: &str, argument: &str, package: &str) -> Result<String, Fault> {
    let missing =
        || Fault::new(Code::FetchFailed, format!("{program} cannot be used")).hint(format!("`apt install {package}`"));
    let child = Child::new(program, QUESTION).args([argument]);
    let ended = child.run().await.map_err(|error| missing().caused_by(&error))?;
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    said.lines().next().map(str::to_owned).ok_or_else(missing)
}
