//! A whole host in a container: systemd as process 1, sshd, and an engine of its own inside.
//!
//! It boots in seconds, can lose its power and its network, and finds its disk again afterwards. What it has in common
//! with the machine is the kernel: `boot_id` and clock are the machine's.

use std::path::{Path, PathBuf};

use super::engine::Engine;
use super::image::Image;
use super::run::{Ran, Run as _};
use super::tools::{directory, tool};
use super::wait::until;

/// What systemd takes for an order to shut down.
const SHUT_DOWN: &str = "SIGRTMIN+3";

/// What root in the container gets not even here: clock, modules and ports are the machine's. By their number in the
/// kernel, since the engine refuses to withhold what the machine does not have.
const WITHHELD: [(u32, &str); 4] = [(16, "SYS_MODULE"), (17, "SYS_RAWIO"), (22, "SYS_BOOT"), (25, "SYS_TIME")];

/// Where the host finds its Compose plugin.
const PLUGIN: &str = "/usr/libexec/docker/cli-plugins/docker-compose";

/// Leaves the container's own image for the tree at `/host`. The machine's swap is not the host's to see, or to turn off.
const BOARD: &str = "for place in proc sys dev; do mount -o move /$place /host/$place; done && \
    head -n 1 /host/proc/swaps >/swaps && mount -o bind /swaps /host/proc/swaps && \
    cd /host && pivot_root . mnt && umount -l /mnt && exec /lab-init";

/// Where cloud-init looks for what a provider tells a new server.
const SEED: &str = "var/lib/cloud/seed/nocloud";

/// A host that was booted. Dropping it removes it, with its disk; when its test was killed, the next one does.
///
/// Its files are those of the Debian release that `scripts/install-tools` unpacked, with what the host changes laid
/// upon them. An image in the engine would have to be unpacked and removed again for every test.
#[derive(Debug)]
pub struct Vps<'engine> {
    engine: &'engine Engine,
    name: String,
    disk: Disk,
}

/// What outlives a power cut.
#[derive(Debug)]
struct Disk {
    /// All of it.
    whole: PathBuf,
    /// What the host changed of the release.
    changes: PathBuf,
    /// A file system of its own for the host's engine: layers cannot be laid upon layers.
    engine: PathBuf,
    /// The release with the changes upon it: the host's root.
    root: PathBuf,
}

impl<'engine> Vps<'engine> {
    /// Boots a new host with this Debian release, the Compose plugin and the `moorline` under test.
    #[track_caller]
    pub fn boot(engine: &'engine Engine, suite: &str, name: &str) -> Self {
        let disk = Disk::new(engine, suite, name);
        let plugin = tool("docker-compose").canonicalize().expect("it exists");
        let moorline = PathBuf::from(env!("CARGO_BIN_EXE_moorline"));
        let mounts = [(plugin, PLUGIN), (moorline, "/usr/bin/moorline")];
        let mounts = mounts.map(|(from, to)| format!("--volume={}:/host{to}:ro", from.display()));
        let vps = Self::start(engine, name, disk, &mounts);
        vps.wait_for_boot();
        vps
    }

    /// Makes an empty server with this Debian release, and boots it with this user-data. What `prepare` does to its disk is
    /// what a provider has done. Returns while cloud-init is at work.
    #[track_caller]
    pub fn create(
        engine: &'engine Engine,
        suite: &str,
        name: &str,
        user_data: &str,
        prepare: impl FnOnce(&Path),
    ) -> Self {
        let disk = Disk::new(engine, suite, name);
        let seed = disk.root.join(SEED);
        engine.scratch().write(seed.join("user-data"), user_data);
        engine.scratch().write(seed.join("meta-data"), format!("instance-id: {name}-1\n"));
        prepare(&disk.root);
        // A console, so that what is said there is kept.
        Self::start(engine, name, disk, &["--tty".to_owned()])
    }

    #[track_caller]
    fn start(engine: &'engine Engine, name: &str, disk: Disk, more: &[String]) -> Self {
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        engine.image("lab/vps:1", &Image::command(&["sh", "-ec", BOARD]).change(path));
        let mut run = engine.docker_command();
        run.args(["run", "--detach", "--name", name, "--hostname", name, "--stop-signal", SHUT_DOWN]);
        // How systemd learns that it is not alone on the machine.
        run.args(["--env", "container=docker", "--cgroupns=private", "--cap-add", "ALL"]);
        for capability in withheld() {
            run.args(["--cap-drop", capability]);
        }
        for confinement in ["seccomp=unconfined", "apparmor=unconfined"] {
            run.args(["--security-opt", confinement]);
        }
        for memory in ["run:exec", "run/lock", "tmp:exec"] {
            run.args(["--tmpfs", &format!("/host/{memory}")]);
        }
        for (from, to) in [(&disk.root, ""), (&disk.engine, "/var/lib/docker")] {
            run.args(["--volume", &format!("{}:/host{to}:rw", from.display())]);
        }
        run.args(more).arg("lab/vps:1").run().succeeds();
        Self { engine, name: name.to_owned(), disk }
    }

    /// Runs a program on the host, as root.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Ran {
        self.command(command).run()
    }

    #[track_caller]
    fn command(&self, command: &[&str]) -> std::process::Command {
        let mut exec = self.engine.docker_command();
        exec.args(["exec", "--interactive", &self.name]).args(command);
        exec
    }

    /// Writes a file on the host, with the directories above it.
    #[track_caller]
    pub fn write(&self, path: &str, mode: &str, content: impl AsRef<[u8]>) {
        let write = r#"mkdir -p "$(dirname "$1")" && umask 077 && cat >"$1" && chmod "$2" "$1""#;
        self.command(&["sh", "-c", write, "sh", path, mode]).run_with(content.as_ref()).succeeds();
    }

    /// Copies a file of the machine to the host.
    #[track_caller]
    pub fn copy(&self, from: &Path, to: &str, mode: &str) {
        self.write(to, mode, std::fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())));
    }

    /// Installs the units that we ship, with the courier's user and its deploy key, as the package and the first boot do.
    #[track_caller]
    pub fn install_units(&self) {
        for unit in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).expect("we ship units") {
            let unit = unit.expect("it is there").path();
            let name = unit.file_name().expect("it has one").to_string_lossy().into_owned();
            match name.strip_suffix(".sysusers") {
                Some(name) => self.copy(&unit, &format!("/usr/lib/sysusers.d/{name}.conf"), "0644"),
                None => self.copy(&unit, &format!("/etc/systemd/system/{name}"), "0644"),
            }
        }
        self.exec(&["systemd-sysusers"]).succeeds();
        self.exec(&["sh", "-c", "chown moorline-courier /etc/moorline/ssh/deploy*"]).succeeds();
        self.systemctl(&["daemon-reload"]);
    }

    /// Gives the host's engine images of the engine that it runs on.
    #[track_caller]
    pub fn load(&self, images: &[&str]) {
        let archive = self.engine.scratch().join(format!("{}.images.tar", self.name));
        self.engine.docker_command().arg("save").arg("--output").arg(&archive).args(images).run().succeeds();
        let content = std::fs::read(&archive).expect("just written");
        self.command(&["docker", "load", "--quiet"]).run_with(&content).succeeds();
        std::fs::remove_file(archive).expect("just read");
    }

    /// `docker ...` on the host.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> Ran {
        self.exec(&[&["docker"], arguments].concat())
    }

    /// `docker inspect` on the host, parsed.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> serde_json::Value {
        let text = self.docker(&["inspect", container]).succeeds();
        let mut found: Vec<serde_json::Value> = serde_json::from_str(&text).expect("docker prints JSON");
        found.remove(0)
    }

    #[track_caller]
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        self.exec(&[&["systemctl"], arguments].concat()).succeeds()
    }

    /// A property of a unit, as `systemctl show` prints it.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.systemctl(&["show", "--value", "--property", property, unit])
    }

    /// Whether the unit is active, which a oneshot that remains is too.
    #[track_caller]
    pub fn is_active(&self, unit: &str) -> bool {
        self.exec(&["systemctl", "--quiet", "is-active", unit]).is_success()
    }

    /// What a unit has said since it was last started.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> String {
        let invocation = format!("_SYSTEMD_INVOCATION_ID={}", self.property(unit, "InvocationID"));
        self.exec(&["journalctl", "--no-pager", "--output=cat", &invocation]).succeeds()
    }

    /// What failed since the last boot.
    #[track_caller]
    pub fn failed_units(&self) -> String {
        self.systemctl(&["list-units", "--failed", "--plain", "--no-legend"])
    }

    /// Ends every process at once, as a power cut does. What is in memory is gone.
    #[track_caller]
    pub fn cut_power(&self) {
        self.engine.docker(&["kill", &self.name]).succeeds();
    }

    /// Boots the host again, on the same disk.
    #[track_caller]
    pub fn power_on(&self) {
        self.engine.docker(&["start", &self.name]).succeeds();
        self.wait_for_boot();
    }

    /// Shuts down in order, and boots again.
    #[track_caller]
    pub fn reboot(&self) {
        // It may take the connection along before it answers.
        let _ = self.exec(&["systemctl", "reboot"]);
        until("the host is down", || (self.engine.inspect(&self.name)["State"]["Running"] == false).then_some(()));
        self.power_on();
    }

    /// Pulls the network cable. It stays out over a reboot.
    #[track_caller]
    pub fn unplug(&self) {
        self.engine.docker(&["network", "disconnect", "bridge", &self.name]).succeeds();
    }

    /// Puts the network cable back.
    #[track_caller]
    pub fn plug_in(&self) {
        self.engine.docker(&["network", "connect", "bridge", &self.name]).succeeds();
    }

    /// The host's root, to look at while the host is busy with something else.
    pub fn root(&self) -> &Path {
        &self.disk.root
    }

    /// Everything that was said on the host's console.
    #[track_caller]
    pub fn console(&self) -> String {
        self.engine.docker(&["logs", &self.name]).succeeds()
    }

    /// The host's address, as others see it.
    #[track_caller]
    pub fn address(&self) -> String {
        let networks = &self.engine.inspect(&self.name)["NetworkSettings"]["Networks"];
        networks["bridge"]["IPAddress"].as_str().expect("it is plugged in").to_owned()
    }

    /// What one types to be root on the host.
    pub fn way_in(&self) -> String {
        let (docker, host) = (tool("docker"), self.engine.host());
        format!("{} --host {host} exec --interactive --tty {} bash", docker.display(), self.name)
    }

    /// Everything that outlives a power cut: what was changed of the release, and what the host's engine keeps.
    pub fn disk(&self) -> [&Path; 2] {
        [&self.disk.changes, &self.disk.engine]
    }

    #[track_caller]
    fn wait_for_boot(&self) {
        until("the host has booted", || {
            // Until systemd listens, this cannot connect; then it says `starting`.
            let said = self.exec(&["systemctl", "is-system-running"]).stdout;
            matches!(said.trim(), "running" | "degraded").then_some(())
        });
    }
}

impl Drop for Vps<'_> {
    fn drop(&mut self) {
        let Self { engine, name, disk } = self;
        if std::thread::panicking() {
            let mut journal = engine.docker_command();
            journal.args(["exec", name, "journalctl", "--no-pager", "--output=short-monotonic", "--lines=60"]);
            journal.args(["--unit=*moorline*", "--unit=docker.service", "--unit=init.scope"]);
            if let Ok(journal) = journal.output() {
                eprintln!("--- the last lines of {name}\n{}", String::from_utf8_lossy(&journal.stdout));
            }
            if let Ok(log) = std::fs::read_to_string(disk.root.join("var/log/cloud-init-output.log")) {
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("--- cloud-init on {name}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
        engine.docker_command().args(["rm", "--force", "--volumes", name]).output().ok();
        engine.scratch().command("busybox").arg("umount").arg(&disk.root).output().ok();
        std::fs::remove_dir_all(&disk.whole).ok();
    }
}

impl Disk {
    #[track_caller]
    fn new(engine: &Engine, suite: &str, name: &str) -> Self {
        let release = directory().join("vps").join(suite);
        assert!(release.exists(), "{} is missing\nhint: run `make vps-image`", release.display());
        let part = |part: &str| engine.scratch().directory(Path::new("vps").join(name).join(part));
        let (whole, changes, root) = (part(""), part("changes"), part("root"));
        engine.scratch().write(changes.join("etc/hostname"), format!("{name}\n"));
        engine.scratch().write(changes.join("etc/hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"));
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            release.canonicalize().expect("it exists").display(),
            changes.display(),
            part("work").display()
        );
        let mut mount = engine.scratch().command("busybox");
        mount.args(["mount", "-t", "overlay", "-o", &layers, "overlay"]).arg(&root).run().succeeds();
        Self { whole, changes, engine: part("engine"), root }
    }
}

/// What there is of [`WITHHELD`] on this machine.
fn withheld() -> impl Iterator<Item = &'static str> {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("the kernel tells");
    let bounds = u64::from_str_radix(bounds.trim(), 16).expect("a mask in hexadecimal");
    WITHHELD.into_iter().filter(move |(number, _)| bounds >> number & 1 == 1).map(|(_, name)| name)
}
