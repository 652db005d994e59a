//! The main job in one place: a signed repository on a real git server, one host with a real engine, a push endpoint.

use std::sync::Arc;

use super::engine::Engine;
use super::fleet::{Fleet, Signer, Signing};
use super::git_server::GitServer;
use super::host::Host;
use super::image::Image;
use super::push_server::PushServer;

/// A Traefik that others reach through the network `edge`, and that watches what moorline publishes.
pub const TRAEFIK: &str = "\
services:
  traefik:
    image: traefik:v3.7.15
    command:
      - --entryPoints.web.address=:80
      - --entryPoints.traefik.address=:8080
      - --ping=true
      - --api.insecure=true
      - --providers.file.directory=/dynamic
      - --global.checkNewVersion=false
    ports: ['80:80', '127.0.0.1:8080:8080']
    volumes: ['./dynamic:/dynamic:ro']
    networks: [edge]
    stop_grace_period: 1s
    restart: unless-stopped
    healthcheck:
      test: [CMD, traefik, healthcheck, --ping=true, '--entryPoints.traefik.address=:8080']
      interval: 1s
      retries: 60
networks:
  edge: { name: edge }
x-moorline: { deploy: { health_timeout: 90s } }
";

/// One service with one volume.
pub const ONE_VOLUME: &str = "\
services:
  app:
    image: lab/db:1
    stop_grace_period: 1s
    volumes: [data:/data]
volumes:
  data: {}
";

/// Two services that depend on one another, and a secret as a file.
pub const WEB: &str = "\
services:
  web:
    image: lab/web:1
    environment: { MESSAGE: '${MESSAGE}' }
    secrets: [token]
    depends_on: { db: { condition: service_healthy } }
    stop_grace_period: 1s
  db:
    image: lab/db:1
    stop_grace_period: 1s
secrets:
  token: { environment: TOKEN }
x-moorline: { deploy: { health_timeout: 15s } }
";

/// A fleet repository with the host `alpha` and the stack `web`. Nothing is committed yet.
pub struct Lab {
    pub engine: Arc<Engine>,
    pub server: GitServer,
    pub push: PushServer,
    pub alice: Signer,
    pub fleet: Fleet,
    pub host: Host,
}

impl Lab {
    #[track_caller]
    pub fn new() -> Self {
        let engine = Arc::new(Engine::start());
        engine.image("lab/web:1", &Image::web());
        engine.image("lab/db:1", &Image::idle().healthy());
        let server = GitServer::ssh();
        let push = PushServer::start();
        let alice = Signer::new("alice");
        let bare = server.repository("fleet.git");
        let host = Host::new("alpha", &engine, &server, "fleet.git", &[&alice]);
        let fleet = Fleet::new(&bare);
        let lab = Self { engine, server, push, alice, fleet, host };
        lab.fleet.allow(&[&lab.alice]);
        lab.fleet.write("moorline.yaml", "version: 1\n");
        lab.fleet.write("rings/canary.yaml", "follow: main\n");
        lab.host_yaml("[web]");
        lab.fleet.write("hosts/alpha/recipient", &lab.host.recipient);
        lab.secrets("web:\n  TOKEN: canary-token-1\n");
        lab.fleet.write("stacks/web/compose.yaml", WEB);
        lab
    }

    /// Writes `host.yaml` with these stacks.
    pub fn host_yaml(&self, stacks: &str) {
        self.fleet.write(
            "hosts/alpha/host.yaml",
            format!("ring: canary\nvars: {{ MESSAGE: hello }}\nstacks: {stacks}\nmonitors: {{ reconcile: KUMA }}\n"),
        );
    }

    /// Writes the sealed file: the push URL, and these sections.
    pub fn secrets(&self, sections: &str) {
        let url = self.push.monitor("alpha");
        self.fleet.write("hosts/alpha/secrets.sops.yaml", self.host.seal(&format!("all:\n  KUMA: {url}\n{sections}")));
    }

    /// Commits what was written, signed, and pushes it.
    #[track_caller]
    pub fn publish(&mut self, message: &str) -> String {
        let revision = self.fleet.commit(Signing::By(&self.alice), message);
        self.fleet.push();
        revision
    }

    /// Commits, pushes, fetches and reconciles; everything must succeed. Returns what was printed.
    #[track_caller]
    pub fn deploy(&mut self, message: &str) -> String {
        self.publish(message);
        self.host.converges()
    }

    /// The ids of the containers of a stack, by service.
    #[track_caller]
    pub fn containers(&self, stack: &str) -> std::collections::BTreeMap<String, String> {
        let project = format!("label=com.docker.compose.project={stack}");
        let format = "{{.Label \"com.docker.compose.service\"}} {{.ID}}";
        let listed = self.engine.docker(&["ps", "-a", "--no-trunc", "--filter", &project, "--format", format]);
        let listed = listed.succeeds();
        let pair = |line: &str| line.split_once(' ').map(|(service, id)| (service.to_owned(), id.to_owned()));
        listed.lines().filter_map(pair).collect()
    }

    /// Runs a program in the container of a service.
    #[track_caller]
    pub fn exec(&self, stack: &str, service: &str, command: &[&str]) -> String {
        let directory = self.host.stack(stack);
        let arguments: Vec<&str> = ["exec", "-T", service].iter().chain(command).copied().collect();
        self.engine.compose(&directory, &arguments).succeeds()
    }
}
