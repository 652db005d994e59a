//! A real container registry on the loopback of an engine, with or without a login.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::engine::Engine;
use super::run::{Ran, Run as _};
use super::tools::tool;
use super::wait::until;

/// A running registry. It listens where the engine sees it as 127.0.0.1, which engines trust without TLS.
#[derive(Debug)]
pub struct Registry<'engine> {
    engine: &'engine Engine,
    server: Option<Child>,
    port: u16,
    with_login: bool,
}

impl<'engine> Registry<'engine> {
    pub const USER: &'static str = "fleet";
    pub const PASSWORD: &'static str = "correct-horse";
    /// bcrypt of [`PASSWORD`](Self::PASSWORD), made once: the registry accepts nothing weaker.
    const HASH: &'static str = "$2y$05$moorlinelabmoorlinelaOU0S.n87nUXf0laf3qRCEHPV0J3Gi.XG";

    /// Starts a registry on port 5000 of the engine's network.
    #[track_caller]
    pub fn start(engine: &'engine Engine, with_login: bool) -> Self {
        Self::start_on(engine, 5000, with_login)
    }

    /// For tests with more than one registry.
    #[track_caller]
    pub fn start_on(engine: &'engine Engine, port: u16, with_login: bool) -> Self {
        let mut registry = Self { engine, server: None, port, with_login };
        registry.resume();
        registry
    }

    /// What image names begin with: `127.0.0.1:5000`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps images.
    pub fn storage(&self) -> PathBuf {
        self.engine.scratch().directory(format!("registry-{}/storage", self.port))
    }

    /// Pushes a local image as `<address>/<name>`; returns the reference by digest.
    #[track_caller]
    pub fn push(&self, local: &str, name: &str) -> String {
        let remote = format!("{}/{name}", self.address());
        self.engine.docker(&["tag", local, &remote]).succeeds();
        self.engine.docker(&["push", "--quiet", &remote]).succeeds();
        let inspected = self.engine.inspect(&remote);
        let repository =
            remote.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(remote.as_str(), |(left, _)| left);
        inspected["RepoDigests"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|digest| digest.as_str())
            .find(|digest| digest.starts_with(&format!("{repository}@")))
            .expect("a pushed image has a digest")
            .to_owned()
    }

    /// `docker login` into the engine's own client configuration.
    #[track_caller]
    pub fn login(&self, password: &str) -> Ran {
        let mut login = self.engine.docker_command();
        login.args(["login", "--username", Self::USER, "--password-stdin", &self.address()]);
        login.run_with(password.as_bytes())
    }

    #[track_caller]
    pub fn logout(&self) {
        self.engine.docker(&["logout", &self.address()]).succeeds();
    }

    /// Makes the registry unreachable until [`resume`](Self::resume).
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().ok();
            server.wait().ok();
        }
    }

    #[track_caller]
    pub fn resume(&mut self) {
        if self.server.is_some() {
            return;
        }
        let scratch = self.engine.scratch();
        let place = format!("registry-{}", self.port);
        let storage = self.storage();
        let mut settings = format!(
            "version: 0.1\nlog: {{ level: warn }}\nstorage:\n  filesystem: {{ rootdirectory: '{}' }}\n  delete: {{ enabled: true }}\nhttp:\n  addr: {}\n",
            storage.display(),
            self.address()
        );
        if self.with_login {
            let users = scratch.write(format!("{place}/users"), format!("{}:{}\n", Self::USER, Self::HASH));
            settings += &format!("auth:\n  htpasswd: {{ realm: lab, path: '{}' }}\n", users.display());
        }
        let settings = scratch.write(format!("{place}/config.yml"), settings);
        let log_path = scratch.join(format!("{place}/log"));
        let log = std::fs::File::options().create(true).append(true).open(&log_path).expect("the scratch is writable");
        let mut server = self
            .engine
            .command("docker-registry")
            .arg("serve")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        // Read from the process's own table: connecting would have to be done inside its network.
        let table = format!("/proc/{}/net/tcp", server.id());
        let listening = format!("0100007F:{:04X} 00000000:0000 0A", self.port);
        until("the registry listens", || {
            let ended = server.try_wait().expect("our own child");
            let log = || std::fs::read_to_string(&log_path).unwrap_or_default();
            assert!(ended.is_none(), "the registry ended:\n{}", log());
            // Before that, it is still nsenter, in the machine's own network.
            let entered = std::fs::read_link(format!("/proc/{}/exe", server.id())).ok()
                == tool("docker-registry").canonicalize().ok();
            std::fs::read_to_string(&table)
                .ok()
                .filter(|_| entered)
                .filter(|table| table.contains(&listening))
                .map(drop)
        });
        self.server = Some(server);
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
