//! A Docker Engine of its own for a test process, in its own network, with the Compose plugin beside it.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::image::Image;
use super::run::{Ran, Run as _};
use super::scratch::Scratch;
use super::tools::{directory, needs_root, tool};
use super::wait::until;

/// A running engine. Dropping it ends the daemon and every container, and removes its data.
///
/// It has a network namespace of its own, so that its bridges, addresses, published ports and firewall rules cannot
/// meet those of another engine; but it shares the mounts and processes of the machine, so that it sees secrets and
/// stacks exactly where the agent under test puts them.
#[derive(Debug)]
pub struct Engine {
    daemon: Mutex<Option<Child>>,
    /// A process of its own, as on a host: it keeps containers running while the daemon is away.
    containerd: Child,
    scratch: Scratch,
    /// The Engine API, as a path.
    pub socket: PathBuf,
    /// Where the engine keeps images, volumes and containers: what a search for secrets must read.
    pub data_root: PathBuf,
    /// The name of its network namespace.
    pub netns: String,
}

impl Engine {
    /// The engine itself, as its containers see it.
    pub const ADDRESS: &'static str = "10.201.0.1";

    #[track_caller]
    pub fn start() -> Self {
        needs_root("an engine of its own");
        let scratch = Scratch::new();
        let netns = scratch.name().to_owned();
        scratch.command("ip").args(["netns", "add", &netns]).run().succeeds();
        let containerd = start_containerd(&scratch);
        let engine = Self {
            daemon: Mutex::new(None),
            containerd,
            socket: scratch.join("docker.sock"),
            data_root: scratch.directory("docker"),
            netns,
            scratch,
        };
        engine.command("ip").args(["link", "set", "lo", "up"]).run().succeeds();
        engine.scratch.write("daemon.json", "{}\n");
        // The client looks for plugins here, and writes logins here: never into the person's own directory.
        std::os::unix::fs::symlink(
            directory().join("docker-config/cli-plugins").canonicalize().expect("made by install-tools"),
            engine.scratch.directory("client").join("cli-plugins"),
        )
        .expect("the scratch is new");
        engine.start_daemon();
        engine
    }

    /// One engine for all tests of this process that run at the same time. It ends with the last of them.
    ///
    /// Whoever shares it must use names of projects and images that no other test uses.
    #[track_caller]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let engine = Arc::new(Self::start());
            *shared = Arc::downgrade(&engine);
            engine
        })
    }

    /// Stops the daemon and starts one that remaps users (`userns-remap`): its root is user 231072 of the machine. It has
    /// images and containers of its own.
    ///
    /// It reads `/etc/subuid`, which is everyone's; so it gets mounts of its own, as they are now. A memory that is
    /// mounted later it cannot see.
    pub fn resume_remapped(&self) {
        self.stop();
        let ranges = self.scratch.write("subid", "daemon:231072:65536\n");
        // The engine's root must find the way to its data.
        std::fs::set_permissions(self.scratch.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
        let script = "mount -o bind \"$0\" /etc/subuid && mount -o bind \"$0\" /etc/subgid && exec \"$@\"";
        let mut daemon = self.command("busybox");
        daemon.args(["unshare", "-m", "sh", "-c", script]).arg(ranges).arg(tool("dockerd"));
        // And a containerd of its own, with the same mounts.
        daemon.arg("--userns-remap=daemon");
        self.start_daemon_by(daemon);
    }

    fn start_daemon(&self) {
        let mut daemon = self.command("dockerd");
        daemon.arg("--containerd").arg(containerd_socket(&self.scratch));
        self.start_daemon_by(daemon);
    }

    fn start_daemon_by(&self, mut daemon: Command) {
        // `nsenter`, not `ip netns exec`: that one mounts a /sys without control groups over the machine's.
        let log =
            std::fs::File::options().create(true).append(true).open(self.log_path()).expect("the scratch is writable");
        daemon
            .arg("--config-file")
            .arg(self.scratch.join("daemon.json"))
            .arg("--data-root")
            .arg(&self.data_root)
            .arg("--exec-root")
            .arg(self.scratch.join("exec"))
            .arg("--pidfile")
            .arg(self.scratch.join("docker.pid"))
            .arg("--host")
            .arg(self.host())
            .args(["--bip", "10.201.0.1/24", "--default-address-pool", "base=10.202.0.0/16,size=24"])
            // Ours to name and to remove, with and without systemd on the machine.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"])
            .arg(format!("/{}", self.scratch.name()))
            .env("DOCKER_TMPDIR", self.scratch.directory("tmp"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        *self.daemon() = Some(daemon.spawn().expect("nsenter starts"));
        until("the engine answers", || {
            let ended = self.daemon().as_mut().expect("just started").try_wait().expect("our own child");
            assert!(ended.is_none(), "the engine ended with {}:\n{}", ended.unwrap_or_default(), self.log());
            self.is_answering().then_some(())
        });
    }

    /// Stops the daemon as a shutdown of the machine would, containers included. Idempotent.
    pub fn stop(&self) {
        let Some(mut daemon) = self.daemon().take() else {
            return;
        };
        Command::new(tool("busybox")).args(["kill", "-TERM", &daemon.id().to_string()]).run().succeeds();
        daemon.wait().expect("our own child");
    }

    /// Ends the daemon without a word, as `kill -9` or a crash does. Containers go on running.
    pub fn kill(&self) {
        let Some(mut daemon) = self.daemon().take() else {
            return;
        };
        daemon.kill().ok();
        daemon.wait().expect("our own child");
        std::fs::remove_file(self.scratch.join("docker.pid")).ok();
    }

    /// Starts the daemon again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same data.
    pub fn resume(&self) {
        if self.daemon().is_none() {
            self.start_daemon();
        }
    }

    /// Freezes the daemon: it hears everything and says nothing. [`unpause`](Self::unpause) ends it.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn unpause(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.daemon().as_ref().expect("the daemon runs").id().to_string();
        Command::new(tool("busybox")).args(["kill", signal, &id]).run().succeeds();
    }

    /// Asks the engine itself, without a client.
    pub fn is_answering(&self) -> bool {
        self.get("/_ping", Duration::from_secs(2)).is_ok_and(|answer| answer.contains(" 200 "))
    }

    /// The JSON at a path of the Engine API; nothing if there is none.
    pub fn ask(&self, path: &str) -> Option<serde_json::Value> {
        let answer = self.get(path, Duration::from_secs(30)).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| serde_json::from_str(body).ok()).flatten()
    }

    fn get(&self, path: &str, patience: Duration) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The Compose plugin, as the agent calls it.
    pub fn plugin(&self) -> PathBuf {
        tool("docker-compose")
    }

    /// A private directory that lives as long as the engine.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Everything the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.join("dockerd.log")
    }

    /// A program of the lab inside the engine's network: there its published ports and its registries are on
    /// 127.0.0.1.
    #[track_caller]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.scratch.command("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.netns)).arg(tool(program));
        command
    }

    /// `docker ...`, pointed at this engine.
    #[track_caller]
    pub fn docker_command(&self) -> Command {
        let mut command = self.scratch.command("docker");
        command.arg("--config").arg(self.client_config()).env("DOCKER_HOST", self.host());
        command
    }

    /// The client's configuration directory: logins are written there.
    pub fn client_config(&self) -> PathBuf {
        self.scratch.join("client")
    }

    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> Ran {
        self.docker_command().args(arguments).run()
    }

    /// `docker compose ...` as a person types it in the directory of a stack.
    #[track_caller]
    pub fn compose(&self, stack: &Path, arguments: &[&str]) -> Ran {
        self.docker_command().arg("compose").args(arguments).current_dir(stack).run()
    }

    /// Makes an image and tags it with `name`; returns its id.
    #[track_caller]
    pub fn image(&self, name: &str, image: &Image) -> String {
        image.import(self, name)
    }

    /// `docker inspect`, parsed.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        let text = self.docker(&["inspect", name]).succeeds();
        let mut found: Vec<serde_json::Value> = serde_json::from_str(&text).expect("docker prints JSON");
        found.remove(0)
    }

    /// Takes the calling thread into the engine's network, for as long as it lives.
    #[track_caller]
    pub fn enter(netns: &str) {
        let namespace = std::fs::File::open(format!("/run/netns/{netns}")).expect("the engine is there");
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter it");
    }

    /// The body of `http://127.0.0.1:<port><path>` in the engine's network, if something answers there.
    pub fn http_get(&self, port: u16, path: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{port}{path}");
        // Not wget's own -T: it crashes in the static busybox of Debian 12.
        let mut wget = self.command("busybox");
        wget.args(["timeout", "5"]).arg(tool("busybox")).args(["wget", "-q", "-O", "-", &url]);
        let ran = wget.run();
        ran.is_success().then(|| ran.succeeds())
    }

    fn daemon(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(15).collect();
            eprintln!("--- the engine's last lines");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        // The scratch ends containers and daemon alike; only the waiting for our child is ours.
        if let Some(mut daemon) = self.daemon().take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
        self.containerd.kill().ok();
        self.containerd.wait().ok();
    }
}

fn containerd_socket(scratch: &Scratch) -> PathBuf {
    scratch.join("containerd.sock")
}

/// Started by us, because a daemon that starts its own one takes a second longer, and takes it along when it crashes.
#[track_caller]
fn start_containerd(scratch: &Scratch) -> Child {
    let socket = containerd_socket(scratch);
    let settings = format!(
        "version = 2\nroot = '{root}'\nstate = '{state}'\n\
         disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime']\n\
         [grpc]\naddress = '{socket}'\n",
        root = scratch.directory("containerd/root").display(),
        state = scratch.directory("containerd/state").display(),
        socket = socket.display(),
    );
    let settings = scratch.write("containerd/config.toml", settings);
    let log_path = scratch.join("containerd/log");
    let log = std::fs::File::create(&log_path).expect("the scratch is writable");
    let mut containerd = scratch
        .command("containerd")
        .arg("--config")
        .arg(settings)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("containerd starts");
    until("containerd listens", || {
        let ended = containerd.try_wait().expect("our own child");
        assert!(ended.is_none(), "containerd ended:\n{}", std::fs::read_to_string(&log_path).unwrap_or_default());
        UnixStream::connect(&socket).is_ok().then_some(())
    });
    containerd
}
