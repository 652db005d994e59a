//! What a new host finds on the internet, under the names that it has there: package repositories over https, an image
//! registry, a push endpoint, and a provider's metadata address. All of it is on the machine that the host runs on.

mod debian;
mod docker;
mod tailscale;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub use debian::{Deb, Signatory};

use super::engine::Engine;
use super::registry::Registry;
use super::run::Run as _;
use super::scratch::Scratch;
use super::tools::{directory, tool};
use super::wait::until;

/// The engine itself, as its containers see it.
const ADDRESS: &str = "10.201.0.1";

/// Who is there.
const NAMES: &str =
    "deb.debian.org download.docker.com pkgs.tailscale.com dl.example.org kuma.example.org registry.example.org";

/// Where a provider tells who asks what it knows of a machine.
pub const METADATA: &str = "169.254.169.254";

const REGISTRY_PORT: u16 = 5000;

/// Everything, running. Dropping it ends it.
#[derive(Debug)]
pub struct Internet<'engine> {
    engine: &'engine Engine,
    suite: String,
    scratch: Scratch,
    servers: Vec<Child>,
    registry: Registry<'engine>,
    /// Signs Docker's repository.
    pub docker: Signatory,
    /// Signs Tailscale's.
    pub tailscale: Signatory,
    mirror: Signatory,
}

impl<'engine> Internet<'engine> {
    /// The internet of a host with this Debian release.
    #[track_caller]
    pub fn of(engine: &'engine Engine, suite: &str) -> Self {
        let signatory = Signatory::new;
        let mut internet = Self {
            engine,
            suite: suite.to_owned(),
            scratch: Scratch::new(),
            servers: Vec::new(),
            registry: Registry::start_on(engine, REGISTRY_PORT, false),
            docker: signatory(),
            tailscale: signatory(),
            mirror: signatory(),
        };
        internet.certify();
        internet.fill();
        internet.serve();
        internet
    }

    /// Makes an authority, and a certificate of it for all names.
    #[track_caller]
    fn certify(&self) {
        let openssl = |arguments: &str| {
            Command::new(tool("openssl")).args(arguments.split(' ')).current_dir(self.scratch.path()).run().succeeds();
        };
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!("{new} -x509 -days 2 -subj /CN=lab-authority -keyout authority.key -out authority.crt"));
        openssl(&format!("{new} -subj /CN=lab-server -keyout server.key -out server.csr"));
        let names: Vec<String> = NAMES.split(' ').map(|name| format!("DNS:{name}")).collect();
        self.scratch.write("names", format!("subjectAltName = {}\n", names.join(", ")));
        openssl(
            "x509 -req -days 2 -CA authority.crt -CAkey authority.key -CAcreateserial -extfile names -in server.csr -out \
             server.crt",
        );
    }

    /// Lays out what is served. The paths of the names do not meet, so one directory is all of them.
    #[track_caller]
    fn fill(&self) {
        let served = self.scratch.directory("served");
        let debs = directory().join("vps").join(format!("{}.debs", self.suite));
        let debs = std::fs::read_dir(&debs)
            .unwrap_or_else(|_| panic!("{} is missing\nhint: run `make vps-image`", debs.display()))
            .map(|entry| entry.expect("readable").path())
            .collect::<Vec<PathBuf>>();
        self.mirror.publish(&served.join("debian"), &self.suite, "main", &debs);
        let docker = served.join("linux/debian");
        self.docker.publish(&docker, &self.suite, "stable", &docker::packages(&self.scratch));
        self.docker.export(&docker.join("gpg"), true);
        let tailscale = served.join("stable/debian");
        self.tailscale.publish(&tailscale, &self.suite, "main", &[tailscale::package(&self.scratch)]);
        self.tailscale.export(&tailscale.join(format!("{}.noarmor.gpg", self.suite)), false);
    }

    #[track_caller]
    fn serve(&mut self) {
        let path = |name: &str| self.scratch.join(name).display().to_string();
        let mut https = self.engine.command("rclone");
        https.args(["serve", "http", "--config=", "--read-only", "--dir-cache-time=0", "--addr"]);
        https.arg(format!("{ADDRESS}:443")).args(["--cert", &path("server.crt"), "--key", &path("server.key")]);
        https.arg(path("served"));
        // Another door to the same images: engines want TLS where it is not their own loopback.
        let settings = format!(
            "version: 0.1\nlog: {{ level: warn }}\nstorage:\n  filesystem: {{ rootdirectory: '{}' }}\nhttp:\n  \
             addr: {ADDRESS}:{REGISTRY_PORT}\n  tls: {{ certificate: '{}', key: '{}' }}\n",
            self.registry.storage().display(),
            path("server.crt"),
            path("server.key"),
        );
        let mut registry = self.engine.command("docker-registry");
        registry.arg("serve").arg(self.scratch.write("registry.yml", settings));
        let mut metadata = self.engine.command("ip");
        metadata.args(["address", "add", &format!("{METADATA}/32"), "dev", "docker0"]).run().succeeds();
        self.scratch.write("plain/latest/user-data", "what only the host may know\n");
        // Answers as Uptime Kuma does, and writes down what it was told.
        let push = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$QUERY_STRING\" >>{}\nprintf 'Content-Type: application/json\\r\\n\\r\\n{{\"ok\":true}}'\n",
            path("pushes")
        );
        let push = self.scratch.write("plain/cgi-bin/push", push);
        std::fs::set_permissions(push, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let mut plain = self.engine.command("busybox");
        plain.args(["httpd", "-f", "-p", "80", "-h", &path("plain")]);
        for (name, mut server) in [("https", https), ("registry", registry), ("plain", plain)] {
            let log = std::fs::File::create(self.scratch.join(format!("{name}.log"))).expect("the scratch is writable");
            server.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
            self.servers.push(server.spawn().expect("nsenter starts"));
        }
        for port in [443, REGISTRY_PORT, 80] {
            until("the internet listens", || self.reaches(ADDRESS, port).then_some(()));
        }
    }

    /// Makes the disk of an empty server one that finds this internet, and trusts its authority.
    #[track_caller]
    pub fn connect(&self, root: &Path) {
        let append = |path: &str, text: &str| {
            let path = root.join(path);
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            std::fs::write(&path, before + text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        };
        append("etc/hosts", &format!("{ADDRESS} {NAMES}\n"));
        let authority = std::fs::read_to_string(self.scratch.join("authority.crt")).expect("made above");
        append("etc/ssl/certs/ca-certificates.crt", &authority);
        self.mirror.export(&root.join("etc/apt/keyrings/mirror.asc"), true);
        let mirror = "deb [signed-by=/etc/apt/keyrings/mirror.asc] https://deb.debian.org/debian";
        std::fs::write(root.join("etc/apt/sources.list"), format!("{mirror} {} main\n", self.suite)).expect("a tree");
    }

    /// Serves a file; returns its address and its SHA-256.
    #[track_caller]
    pub fn publish(&self, file: &Path) -> (String, String) {
        let content = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.file_name().expect("a file").to_string_lossy();
        let digest = debian::digest(&content);
        self.scratch.write(Path::new("served/moorline").join(&*name), content);
        (format!("https://dl.example.org/moorline/{name}"), digest)
    }

    /// Pushes an image of the engine; returns the name by which a host pulls it.
    #[track_caller]
    pub fn push(&self, local: &str, name: &str) -> String {
        self.registry.push(local, name);
        format!("registry.example.org:{REGISTRY_PORT}/{name}")
    }

    /// Where the host pushes its status to.
    pub fn push_url(&self) -> String {
        "http://kuma.example.org/cgi-bin/push".to_owned()
    }

    /// The pushes so far, as they came.
    pub fn pushes(&self) -> Vec<String> {
        let pushes = std::fs::read_to_string(self.scratch.join("pushes")).unwrap_or_default();
        pushes.lines().map(str::to_owned).collect()
    }

    /// Whether something listens there, as seen from outside of the host.
    #[track_caller]
    pub fn reaches(&self, address: &str, port: u16) -> bool {
        self.engine.command("busybox").args(["nc", "-w", "2", address, &port.to_string()]).run().is_success()
    }

    /// Whether the host answers a ping.
    #[track_caller]
    pub fn pings(&self, address: &str) -> bool {
        self.engine.command("busybox").args(["ping", "-c", "1", "-W", "2", address]).run().is_success()
    }

    /// What a server outside of the host gets from it over plain HTTP.
    #[track_caller]
    pub fn get(&self, url: &str) -> Option<String> {
        let mut wget = self.engine.command("busybox");
        wget.args(["timeout", "5"]).arg(tool("busybox")).args(["wget", "-q", "-O", "-", url]);
        let got = wget.run();
        got.is_success().then(|| got.succeeds())
    }
}

impl Drop for Internet<'_> {
    fn drop(&mut self) {
        for server in &mut self.servers {
            server.kill().ok();
            server.wait().ok();
        }
    }
}
