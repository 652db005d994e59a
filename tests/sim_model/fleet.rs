//! What operators may want of the host: a few small choices, from which the files of a commit are made.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::sim::{Behaviour, Sim, allowed_signers, seal};

/// The stacks, in the order in which the reference counts them.
pub const STACKS: [&str; 2] = ["web", "shop"];

/// Services of the stacks that a person may lay hands on.
pub const SERVICES: [(usize, &str); 4] = [(0, "app"), (0, "db"), (1, "init"), (1, "shop")];

/// What begins every value that may stand nowhere but in memory.
pub const CANARY: &str = "canary-";

/// The image that only commits name which must never be believed.
pub const EVIL: &str = "evil:1";

/// What a tag of `app` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum App {
    One,
    Two,
    /// Never healthy.
    Bad,
    /// Ends again and again.
    Loops,
    /// Believed by nobody.
    Evil,
}

impl App {
    fn image(self) -> &'static str {
        match self {
            App::One => "app:1",
            App::Two => "app:2",
            App::Bad => "app:bad",
            App::Loops => "app:loop",
            App::Evil => EVIL,
        }
    }
}

/// The stack `web`: a service with a secret and a file, a database with a volume, and sometimes one more service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Web {
    pub app: App,
    pub token: u8,
    pub file: u8,
    pub extra: Option<&'static str>,
}

/// The stack `shop`: a one-shot, and a service that waits for it and mounts a secret in a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shop {
    pub shop: u8,
    pub init_works: bool,
    pub network: bool,
    pub shared: u8,
}

/// One stack as a commit wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Web(Web),
    Shop(Shop),
}

/// What the ring says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    Follows,
    /// The commit with this number.
    Pinned(usize),
    Halted,
}

/// The whole repository at one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    pub web: Option<Web>,
    pub shop: Option<Shop>,
    pub ring: Ring,
    /// Whether an image has no tag.
    pub mistaken: bool,
}

impl Fleet {
    pub fn first() -> Self {
        Self {
            web: Some(Web { app: App::One, token: 0, file: 0, extra: None }),
            shop: Some(Shop { shop: 1, init_works: true, network: false, shared: 0 }),
            ring: Ring::Follows,
            mistaken: false,
        }
    }

    /// What is wanted of the stack with this number.
    pub fn stack(&self, stack: usize) -> Option<Version> {
        match stack {
            0 => self.web.map(Version::Web),
            _ => self.shop.map(Version::Shop),
        }
    }

    /// Writes the files into the working tree; `pinned` is the revision that the ring names.
    pub fn write(&self, sim: &Sim, pinned: &str) {
        let ring = match self.ring {
            Ring::Follows => "follow: main\n".to_owned(),
            Ring::Pinned(_) => format!("commit: {pinned}\n"),
            Ring::Halted => "follow: main\nhalt: the database is being moved\n".to_owned(),
        };
        let mut names = Vec::new();
        sim.remove("stacks");
        if let Some(web) = &self.web {
            names.push("web");
            sim.write("stacks/web/compose.yaml", web.compose(self.mistaken));
            sim.write("stacks/web/files/app.conf", format!("file {}\n", web.file));
        }
        if let Some(shop) = &self.shop {
            names.push("shop");
            sim.write("stacks/shop/compose.yaml", shop.compose(self.mistaken));
        }
        let host = format!("ring: canary\nstacks: [{}]\nmonitors: {{ reconcile: KUMA }}\n", names.join(", "));
        sim.write("moorline.yaml", "version: 1\n")
            .write("signers/allowed_signers", allowed_signers())
            .write("rings/canary.yaml", ring)
            .write("hosts/alpha/host.yaml", host)
            .write("hosts/alpha/secrets.sops.json", self.sealed());
    }

    /// The SOPS file. Sealing takes longer than a whole run, and there are few of them.
    fn sealed(&self) -> String {
        thread_local!(static SEALED: RefCell<BTreeMap<(Option<u8>, u8), String>> = RefCell::default());
        let key = (self.web.map(|web| web.token), self.shop.map_or(0, |shop| shop.shared));
        let make = || {
            let shared = secret("shared", key.1);
            let all: &[(&str, &str)] =
                &[("SHARED", &shared), ("KUMA", "https://kuma.example.org/api/push/canary-push")];
            let yaml = match key.0 {
                Some(token) => seal(&[("all", all), ("web", &[("TOKEN", &secret("token", token))])]),
                None => seal(&[("all", all)]),
            };
            // Every run reads it several times, and JSON is read much faster.
            let value: serde_json::Value = serde_yaml::from_str(&yaml).expect("sops writes YAML");
            value.to_string()
        };
        SEALED.with_borrow_mut(|sealed| sealed.entry(key).or_insert_with(make).clone())
    }
}

fn secret(name: &str, number: u8) -> String {
    format!("{CANARY}{name}-{number}")
}

impl Web {
    fn compose(&self, mistaken: bool) -> String {
        let image = if mistaken { "app" } else { self.app.image() };
        let extra = self.extra.map(|name| format!("  {name}:\n    image: extra:1\n")).unwrap_or_default();
        format!(
            "services:\n  app:\n    image: {image}\n    secrets: [token]\n    volumes: [./files/app.conf:/etc/app.conf]\n    \
             depends_on:\n      db: {{ condition: service_healthy }}\n  db:\n    image: db:1\n    volumes: \
             [\"data:/var/lib/db\"]\n{extra}volumes:\n  data:\nsecrets:\n  token:\n    environment: TOKEN\n"
        )
    }
}

impl Shop {
    fn compose(&self, mistaken: bool) -> String {
        let image = if mistaken { "shop".to_owned() } else { format!("shop:{}", self.shop) };
        let init = if self.init_works { "init:1" } else { "init:bad" };
        let network = match self.network {
            true => "networks:\n  default: { driver_opts: { com.docker.network.driver.mtu: '1400' } }\n",
            false => "",
        };
        format!(
            "services:\n  init:\n    image: {init}\n  shop:\n    image: {image}\n    configs: [settings]\n    \
             depends_on:\n      init: {{ condition: service_completed_successfully }}\n{network}configs:\n  settings:\n    \
             content: \"shared=${{SHARED}}\"\n"
        )
    }
}

/// A service as it must be found: its name, its image, and what its secret file holds.
pub type Shape = (&'static str, String, Option<String>);

impl Version {
    /// Whether its programs do what they are there for.
    pub fn works(self) -> bool {
        match self {
            Version::Web(web) => matches!(web.app, App::One | App::Two),
            Version::Shop(shop) => shop.init_works,
        }
    }

    /// What must run when it is deployed.
    pub fn shape(self) -> Vec<Shape> {
        match self {
            Version::Web(web) => {
                let app = ("app", web.app.image().to_owned(), Some(secret("token", web.token)));
                let extra = web.extra.map(|name| (name, "extra:1".to_owned(), None));
                [app, ("db", "db:1".to_owned(), None)].into_iter().chain(extra).collect()
            }
            Version::Shop(shop) => {
                let init = if shop.init_works { "init:1" } else { "init:bad" };
                let settings = format!("shared={}", secret("shared", shop.shared));
                vec![("init", init.to_owned(), None), ("shop", format!("shop:{}", shop.shop), Some(settings))]
            }
        }
    }

    /// The file beside its Compose file.
    pub fn file(self) -> Option<String> {
        match self {
            Version::Web(web) => Some(format!("file {}\n", web.file)),
            Version::Shop(_) => None,
        }
    }

    /// Whether a change from `before` may run the one-shot again.
    pub fn runs_init_anew(self, before: Self) -> bool {
        match (self, before) {
            (Version::Shop(now), Version::Shop(before)) => {
                (now.init_works, now.network) != (before.init_works, before.network)
            }
            _ => true,
        }
    }
}

/// A host that has seen nothing yet, beside a registry with every image and a project of somebody else.
pub fn host() -> Sim {
    let sim = Sim::new();
    let mut host = sim.host();
    for (image, behaviour) in [
        ("app:1", Behaviour::Healthy),
        ("app:2", Behaviour::Healthy),
        ("app:bad", Behaviour::Unhealthy),
        ("app:loop", Behaviour::CrashLoop),
        (EVIL, Behaviour::Healthy),
        ("db:1", Behaviour::Healthy),
        ("extra:1", Behaviour::Runs),
        ("init:1", Behaviour::Exits(0)),
        ("init:bad", Behaviour::Exits(3)),
        ("shop:1", Behaviour::Runs),
        ("shop:2", Behaviour::Runs),
    ] {
        host.engine.offer(image, behaviour);
    }
    host.engine.by_others("wiki", "app");
    host.engine.volumes.insert("wiki_data".to_owned());
    host.engine.networks.insert("wiki_default".to_owned());
    drop(host);
    sim
}

/// The images that a registry may refuse.
pub const IMAGES: [&str; 5] = ["app:1", "app:2", "extra:1", "shop:1", "shop:2"];
