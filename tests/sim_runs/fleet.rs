//! The small fleet of the scenarios: one host, two stacks, secrets of every kind.

use crate::sim::{Behaviour, Sim, seal};

/// Values that may stand nowhere but in memory-backed storage.
pub const CANARIES: &[&str] = &["canary-db-password", "canary-api-token", "canary-shared", "canary-push-token"];

pub const HOST: &str = "hosts/alpha/host.yaml";
pub const RING: &str = "rings/canary.yaml";
pub const SECRETS: &str = "hosts/alpha/secrets.sops.yaml";
pub const WEB: &str = "stacks/web/compose.yaml";
pub const SHOP: &str = "stacks/shop/compose.yaml";

const WEB_COMPOSE: &str = r#"services:
  proxy:
    image: proxy:1
    volumes: [./files/proxy.conf:/etc/proxy.conf]
    depends_on: [app]
  app:
    image: app:1
    environment:
      DOMAIN: ${DOMAIN}
    secrets: [api_token]
    depends_on:
      db: { condition: service_healthy }
  db:
    image: db:1
    secrets: [db_password]
    volumes: ["data:/var/lib/db"]
volumes:
  data:
secrets:
  api_token:
    environment: API_TOKEN
  db_password:
    environment: DB_PASSWORD
"#;

const SHOP_COMPOSE: &str = r#"services:
  init:
    image: init:1
  shop:
    image: shop:1
    configs: [settings]
    depends_on:
      init: { condition: service_completed_successfully }
configs:
  settings:
    content: "token=${SHARED}"
"#;

/// The secrets of the host; the first argument is the password of the database.
pub fn secrets(db_password: &str) -> String {
    seal(&[
        ("all", &[("SHARED", "canary-shared"), ("KUMA", "https://kuma.example.org/api/push/canary-push-token")]),
        ("web", &[("DB_PASSWORD", db_password), ("API_TOKEN", "canary-api-token")]),
    ])
}

/// The repository before its first commit, and a registry with every image.
pub fn fleet() -> Sim {
    let sim = Sim::new();
    sim.write("moorline.yaml", "version: 1\n")
        .write("signers/allowed_signers", crate::sim::allowed_signers())
        .write(RING, "follow: main\n")
        .write(
            HOST,
            "ring: canary\nvars: { DOMAIN: alpha.example.org }\nstacks: [web, shop]\nmonitors: { reconcile: KUMA }\n",
        )
        .write(SECRETS, secrets("canary-db-password"))
        .write(WEB, WEB_COMPOSE)
        .write("stacks/web/files/proxy.conf", "listen 80\n")
        .write(SHOP, SHOP_COMPOSE);
    let mut host = sim.host();
    for (image, behaviour) in [
        ("proxy:1", Behaviour::Runs),
        ("app:1", Behaviour::Healthy),
        ("app:2", Behaviour::Healthy),
        ("app:bad", Behaviour::Unhealthy),
        ("app:loop", Behaviour::CrashLoop),
        ("app:slow", Behaviour::NeverReady),
        ("db:1", Behaviour::Healthy),
        ("init:1", Behaviour::Exits(0)),
        ("init:bad", Behaviour::Exits(3)),
        ("shop:1", Behaviour::Runs),
        ("shop:2", Behaviour::Runs),
    ] {
        host.engine.offer(image, behaviour);
    }
    drop(host);
    sim
}

/// The fleet after its first commit and first run.
#[track_caller]
pub fn settled() -> Sim {
    let sim = fleet();
    sim.commit();
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    sim
}
