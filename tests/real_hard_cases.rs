//! The hard cases of Compose on a real engine, beside what plain `docker compose up -d` leaves of the same change.
//!
//! Each case is brought through the same change twice on one engine: as a stack, and as a project of its own by the plain
//! plugin. Then the engine is asked about both. Every difference is written down here; docs/deploys.md says why it is
//! there. In each line stands what moorline leaves on the left and what Compose leaves on the right.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use support::{Facts, Image, Lab, Plain, Ran, Run as _, until};

/// One side of a change: the files of the stack, and the secrets.
#[derive(Clone, Copy)]
struct Side {
    files: &'static [(&'static str, &'static str)],
    secrets: &'static [(&'static str, &'static str)],
}

const fn compose(text: &'static [(&'static str, &'static str)]) -> Side {
    Side { files: text, secrets: &[] }
}

struct Case {
    name: &'static str,
    before: Side,
    after: Side,
    differences: &'static [&'static str],
    /// Whether `docker compose up -d` says that it did what it was asked for.
    plain_succeeds: bool,
}

const CASES: &[Case] = &[
    // T1, T2.
    Case {
        name: "oneshot",
        before: compose(&[("compose.yaml", ONESHOT), (".env", "V=1\n")]),
        after: compose(&[("compose.yaml", ONESHOT), (".env", "V=2\n")]),
        differences: &["alone-1 became: kept | started again", "init-1 became: kept | started again"],
        plain_succeeds: true,
    },
    // T4.
    Case {
        name: "inline",
        before: compose(&[("compose.yaml", INLINE), (".env", "V=1\n")]),
        after: compose(&[("compose.yaml", INLINE), (".env", "V=2\n")]),
        differences: &[
            "app-1 became: new | kept",
            // A file in memory instead of a copy in the container.
            r#"app-1 mounts: {"bind at \"/app.conf\" ro"} | {}"#,
        ],
        plain_succeeds: true,
    },
    // T4, T7.
    Case {
        name: "secret",
        before: Side { files: &[("compose.yaml", SECRET)], secrets: &[("TOKEN", "one")] },
        after: Side { files: &[("compose.yaml", SECRET)], secrets: &[("TOKEN", "two")] },
        differences: &["app-1 became: new | kept", r#"app-1 mounts: {"bind at \"/run/secrets/token\" ro"} | {}"#],
        plain_succeeds: true,
    },
    // T5.
    Case {
        name: "file",
        before: compose(&[("compose.yaml", FILE), ("app.conf", "1\n")]),
        after: compose(&[("compose.yaml", FILE), ("app.conf", "2\n")]),
        differences: &["bound-1 became: new | kept", "config-1 became: new | kept"],
        plain_succeeds: true,
    },
    // T6: Compose says that all is well, and the file is not there.
    Case {
        name: "tmpfs",
        before: compose(&[("compose.yaml", TMPFS), (".env", "V=1\n")]),
        after: compose(&[("compose.yaml", TMPFS), (".env", "V=1\n")]),
        differences: &[r#"app-1 mounts: {"bind at \"/cfg/app.conf\" ro"} | {}"#],
        plain_succeeds: true,
    },
    // T6.
    Case {
        name: "readonly",
        before: compose(&[("compose.yaml", READ_ONLY)]),
        after: compose(&[("compose.yaml", READ_ONLY)]),
        differences: &["app-1: running | created", r#"app-1 mounts: {"bind at \"/app.conf\" ro"} | {}"#],
        plain_succeeds: false,
    },
    // T14.
    Case {
        name: "profile",
        before: compose(&[("compose.yaml", PROFILE), (".env", "COMPOSE_PROFILES=extra\n")]),
        after: compose(&[("compose.yaml", PROFILE), (".env", "\n")]),
        differences: &["extra-1: nothing | running"],
        plain_succeeds: true,
    },
    Case {
        name: "renamed",
        before: compose(&[("compose.yaml", RENAMED_BEFORE)]),
        after: compose(&[("compose.yaml", RENAMED_AFTER)]),
        // Compose leaves two programs on the same data.
        differences: &["postgres-1: nothing | running"],
        plain_succeeds: true,
    },
    // e09, e06.
    Case {
        name: "removed",
        before: compose(&[("compose.yaml", REMOVED_BEFORE)]),
        after: compose(&[("compose.yaml", REMOVED_AFTER)]),
        differences: &["cache-1: nothing | running"],
        plain_succeeds: true,
    },
    // e10.
    Case {
        name: "replicas",
        before: compose(&[("compose.yaml", REPLICAS), (".env", "UP=1\nDOWN=3\nGONE=1\n")]),
        after: compose(&[("compose.yaml", REPLICAS), (".env", "UP=3\nDOWN=1\nGONE=0\n")]),
        differences: &[],
        plain_succeeds: true,
    },
    // T16, e02.
    Case {
        name: "followers",
        before: compose(&[("compose.yaml", FOLLOWERS), (".env", "V=1\n")]),
        after: compose(&[("compose.yaml", FOLLOWERS), (".env", "V=2\n")]),
        differences: &[],
        plain_succeeds: true,
    },
];

const ONESHOT: &str = "\
services:
  init: { image: lab/init:1 }
  alone: { image: lab/init:1 }
  app:
    image: lab/idle:1
    stop_grace_period: 1s
    environment: { V: '${V}' }
    depends_on: { init: { condition: service_completed_successfully } }
";
const INLINE: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s, configs: [{ source: conf, target: /app.conf }] }
configs: { conf: { content: \"v = ${V}\\n\" } }
";
const SECRET: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s, secrets: [token] }
secrets: { token: { environment: TOKEN } }
";
const FILE: &str = "\
services:
  bound: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['./app.conf:/app.conf:ro'] }
  config: { image: lab/idle:1, stop_grace_period: 1s, configs: [{ source: conf, target: /app.conf }] }
  other: { image: lab/idle:1, stop_grace_period: 1s }
configs: { conf: { file: ./app.conf } }
";
const TMPFS: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s, tmpfs: [/cfg], configs: [{ source: conf, target: /cfg/app.conf }] }
configs: { conf: { content: \"v = ${V}\\n\" } }
";
const READ_ONLY: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s, read_only: true, configs: [{ source: conf, target: /app.conf }] }
configs: { conf: { content: some } }
";
const PROFILE: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s }
  extra: { image: lab/idle:1, stop_grace_period: 1s, profiles: [extra] }
";
const RENAMED_BEFORE: &str = "\
services:
  postgres: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['data:/data'] }
volumes: { data: {} }
";
const RENAMED_AFTER: &str = "\
services:
  db: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['data:/data'] }
volumes: { data: {} }
";
const REMOVED_BEFORE: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s }
  cache: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['cache:/data'], networks: [side] }
volumes: { cache: {} }
networks: { side: {} }
";
const REMOVED_AFTER: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s }
";
const REPLICAS: &str = "\
services:
  up: { image: lab/idle:1, stop_grace_period: 1s, deploy: { replicas: '${UP}' } }
  down: { image: lab/idle:1, stop_grace_period: 1s, scale: '${DOWN}' }
  gone: { image: lab/idle:1, stop_grace_period: 1s, deploy: { replicas: '${GONE}' } }
";
const FOLLOWERS: &str = "\
services:
  vpn: { image: lab/idle:1, stop_grace_period: 1s, environment: { V: '${V}' } }
  inside: { image: lab/idle:1, stop_grace_period: 1s, network_mode: 'service:vpn' }
  restarted:
    image: lab/idle:1
    stop_grace_period: 1s
    depends_on: { vpn: { condition: service_started, restart: true } }
  other: { image: lab/idle:1, stop_grace_period: 1s, depends_on: [vpn] }
";

/// Cases in which somebody does something in between, or Compose fails.
const MEDDLED: &[Case] = &[
    // T3.
    Case {
        name: "paused",
        before: compose(&[("compose.yaml", TWO), (".env", "V=1\n")]),
        after: compose(&[("compose.yaml", TWO), (".env", "V=2\n")]),
        differences: &["other-1 became: new | kept", "paused-1: running | paused"],
        plain_succeeds: false,
    },
    // T9.
    Case {
        name: "volume",
        before: compose(&[("compose.yaml", VOLUME), (".env", "P=PROJECT\nV=1\n")]),
        after: compose(&[("compose.yaml", VOLUME), (".env", "P=PROJECT\nV=2\n")]),
        differences: &[],
        plain_succeeds: true,
    },
    // T10.
    Case {
        name: "proxy",
        before: compose(&[("compose.yaml", PROXY), (".env", "EDGE=PROJECT\n")]),
        after: compose(&[("compose.yaml", PROXY), (".env", "EDGE=PROJECT\n")]),
        differences: &[],
        plain_succeeds: true,
    },
    Case {
        name: "edge",
        before: compose(&[("compose.yaml", EDGE), (".env", "P=PROJECT\nV=false\n")]),
        after: compose(&[("compose.yaml", EDGE), (".env", "P=PROJECT\nV=true\n")]),
        differences: &[
            "app-1: running | exited 0",
            "app-1 became: started again | kept",
            r#"app-1 networks: {"front"} | {}"#,
            r#"network front: "bridge" internal=true options={} labels=[] | "bridge" internal=false options={} labels=[]"#,
        ],
        plain_succeeds: false,
    },
    // T15.
    Case {
        name: "unhealthy",
        before: compose(&[("compose.yaml", UNHEALTHY), (".env", "V=1\n")]),
        after: compose(&[("compose.yaml", UNHEALTHY), (".env", "V=2\n")]),
        differences: &["app-1: running | created"],
        plain_succeeds: false,
    },
    // T16, with drift instead of a change.
    Case {
        name: "stopped",
        before: compose(&[("compose.yaml", NAMESPACE)]),
        after: compose(&[("compose.yaml", NAMESPACE)]),
        differences: &["inside-1 became: started again | kept"],
        plain_succeeds: true,
    },
    // e37.
    Case {
        name: "taken",
        before: compose(&[("compose.yaml", TAKEN_BEFORE), (".env", "P=PROJECT\nPORT=NUMBER\n")]),
        after: compose(&[("compose.yaml", TAKEN_AFTER), (".env", "P=PROJECT\nPORT=NUMBER\n")]),
        differences: &["it became: new | kept"],
        plain_succeeds: false,
    },
];

const TWO: &str = "\
services:
  paused: { image: lab/idle:1, stop_grace_period: 1s }
  other: { image: lab/idle:1, stop_grace_period: 1s, environment: { V: '${V}' } }
";
const VOLUME: &str = "\
services:
  same: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['same:/data'] }
  named: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['named:/data'] }
volumes: { same: { labels: { v: '${V}' } }, named: { name: '${P}_${V}' } }
";
const EDGE: &str = "\
services:
  app: { image: lab/idle:1, stop_grace_period: 1s, networks: [front] }
  other: { image: lab/idle:1, stop_grace_period: 1s }
networks: { front: { name: '${P}-front', internal: '${V}' } }
";
const PROXY: &str = "\
services:
  proxy: { image: lab/idle:1, stop_grace_period: 1s, networks: { front: { aliases: [door] }, default: } }
networks: { front: { name: '${EDGE}-front', external: true } }
";
const UNHEALTHY: &str = "\
services:
  db: { image: lab/well:1, stop_grace_period: 1s }
  app:
    image: lab/idle:1
    stop_grace_period: 1s
    environment: { V: '${V}' }
    depends_on: { db: { condition: service_healthy } }
";
const NAMESPACE: &str = "\
services:
  vpn: { image: lab/idle:1, stop_grace_period: 1s, restart: unless-stopped }
  inside: { image: lab/idle:1, stop_grace_period: 1s, network_mode: 'service:vpn' }
";
const TAKEN_BEFORE: &str = "\
services:
  old:
    image: lab/idle:1
    stop_grace_period: 1s
    container_name: ${P}-it
    ports: ['127.0.0.1:${PORT}:80']
";
const TAKEN_AFTER: &str = "\
services:
  new:
    image: lab/idle:1
    stop_grace_period: 1s
    container_name: ${P}-it
    ports: ['127.0.0.1:${PORT}:80']
";

/// Two projects for each case on one engine: the stack, and the one of plain Compose.
struct Both {
    lab: Lab,
    cases: &'static [Case],
}

impl Both {
    fn new(cases: &'static [Case]) -> Self {
        let lab = Lab::new();
        lab.engine.image("lab/idle:1", &Image::idle());
        lab.engine.image("lab/init:1", &Image::exits(0));
        lab.engine.image("lab/well:1", &Image::idle().file("/well", "").healthy_while("/well"));
        Self { lab, cases }
    }

    fn plain(&self, name: &str) -> Plain<'_> {
        Plain::new(&self.lab.engine, name)
    }

    /// Writes one side of every case into the repository and into the plain projects.
    fn write(&self, side: impl Fn(&Case) -> Side) {
        let names: Vec<&str> = self.cases.iter().map(|case| case.name).collect();
        self.lab.host_yaml(&format!("[{}]", names.join(", ")));
        let mut sections = String::new();
        for case in self.cases {
            let (plain, side) = (self.plain(case.name), side(case));
            plain.environment("");
            for (path, text) in side.files {
                let ours =
                    text.replace("EDGE=PROJECT", "EDGE=edge").replace("PROJECT", case.name).replace("NUMBER", "8301");
                let theirs = text.replace("EDGE=PROJECT", "EDGE=plain-edge");
                let theirs = theirs.replace("PROJECT", &plain.project).replace("NUMBER", "8302");
                self.lab.fleet.write(&format!("stacks/{}/{path}", case.name), ours);
                match *path {
                    ".env" => plain.environment(&theirs),
                    path => plain.write(path, &theirs),
                };
            }
            if !side.secrets.is_empty() {
                let lines = |between: &str, indent: &str| -> String {
                    let line = |(name, value): &(&str, &str)| format!("{indent}{name}{between}{value}\n");
                    side.secrets.iter().map(line).collect()
                };
                plain.environment(&lines("=", ""));
                sections.push_str(&format!("{}:\n{}", case.name, lines(": ", "  ")));
            }
        }
        self.lab.secrets(&sections);
    }

    /// `docker compose up -d` in every plain project; the network of `edge` is there before `proxy` wants it.
    fn up(&self) -> BTreeMap<&'static str, Ran> {
        let mut names: Vec<&str> = self.cases.iter().map(|case| case.name).collect();
        names.sort_by_key(|name| *name != "edge");
        names.into_iter().map(|name| (name, self.plain(name).up())).collect()
    }

    /// What the engine says about both when no one-shot runs any more.
    fn look(&self) -> BTreeMap<&'static str, (Facts, Facts)> {
        until("the one-shots have ended", || {
            let filters = ["--filter", "ancestor=lab/init:1", "--filter", "status=running"];
            let running = self.lab.engine.docker(&[&["ps", "-q"], &filters[..]].concat()).succeeds();
            running.is_empty().then_some(())
        });
        let facts = |case: &Case| {
            let of = |project: &str| Facts::of(&self.lab.engine, project);
            (case.name, (of(case.name), of(&self.plain(case.name).project)))
        };
        self.cases.iter().map(facts).collect()
    }

    /// Compares both with what is written down, case by case.
    #[track_caller]
    fn compare(&self, before: &BTreeMap<&str, (Facts, Facts)>, ran: &BTreeMap<&str, Ran>) {
        let mut wrong = String::new();
        let after = self.look();
        for case in self.cases {
            let differences = after[case.name].0.differences(&after[case.name].1, Some(&before[case.name]));
            if differences != case.differences || ran[case.name].is_success() != case.plain_succeeds {
                wrong.push_str(&format!("{}: {differences:#?}\n{}\n", case.name, ran[case.name]));
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }
}

#[test]
fn each_change_ends_as_with_plain_compose_but_for_what_is_meant() {
    let mut both = Both::new(CASES);
    both.write(|case| case.before);
    both.lab.deploy("before");
    let ran = both.up();
    for case in CASES.iter().filter(|case| case.plain_succeeds) {
        assert!(ran[case.name].is_success(), "{}", ran[case.name]);
    }
    both.plain("renamed").exec("postgres", &["touch", "/data/kept"]);
    both.lab.exec("renamed", "postgres", &["touch", "/data/kept"]);
    let before = both.look();
    both.write(|case| case.after);
    println!("{}", both.lab.deploy("after"));
    both.compare(&before, &both.up());
    // What the containers see of the new text.
    for (stack, service, path, ours, theirs) in [
        ("inline", "app", "/app.conf", "v = 2", "v = 1"),
        ("secret", "app", "/run/secrets/token", "two", "one"),
        ("file", "bound", "/app.conf", "2", "1"),
        ("file", "config", "/app.conf", "2", "1"),
    ] {
        assert_eq!(both.lab.exec(stack, service, &["cat", path]), ours, "{stack}");
        assert_eq!(both.plain(stack).exec(service, &["cat", path]), theirs, "{stack}");
    }
    assert_eq!(both.lab.exec("tmpfs", "app", &["cat", "/cfg/app.conf"]), "v = 1");
    assert_eq!(both.plain("tmpfs").exec("app", &["ls", "/cfg"]), "");
    assert_eq!(both.lab.exec("readonly", "app", &["cat", "/app.conf"]), "some");
    assert!(both.lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn what_makes_compose_fail_or_ask_is_planned_and_ends_well() {
    let mut both = Both::new(MEDDLED);
    both.write(|case| case.before);
    both.lab.fleet.write("hosts/alpha/host.yaml", HOST);
    both.lab.deploy("before");
    for (name, ran) in both.up() {
        assert!(ran.is_success(), "{name}: {ran}");
    }
    let engine = both.lab.engine.clone();
    let docker = |arguments: &[&str]| engine.docker(arguments).succeeds();
    let address = |container: &str| engine.inspect(container)["NetworkSettings"]["Networks"].to_string();
    for prefix in ["", "plain-"] {
        docker(&["pause", &format!("{prefix}paused-paused-1")]);
        docker(&["exec", &format!("{prefix}volume-same-1"), "touch", "/data/kept"]);
        docker(&["exec", &format!("{prefix}volume-named-1"), "touch", "/data/kept"]);
        docker(&["exec", &format!("{prefix}unhealthy-db-1"), "rm", "/well"]);
        docker(&["stop", &format!("{prefix}stopped-vpn-1")]);
        until("db is unhealthy", || {
            let health =
                both.lab.engine.inspect(&format!("{prefix}unhealthy-db-1"))["State"]["Health"]["Status"].clone();
            (health == "unhealthy").then_some(())
        });
    }
    let before = both.look();
    both.write(|case| case.after);
    both.lab.fleet.write("hosts/alpha/host.yaml", HOST);
    both.lab.publish("after");
    both.lab.host.moorline(&["courier", "--once"]).succeeds();
    let plan = both.lab.host.moorline(&["plan"]).succeeds();
    for line in [
        "because volumes.same changed; a volume that is there keeps its options and its data",
        "because named volumes.named.name: volume_1 -> volume_2",
        "detach   edge         proxy-proxy-1 from edge-front",
        "attach   edge         proxy-proxy-1 to edge-front",
        "because networks.front changed",
        "because inside lost the namespace of vpn",
        "because paused was found paused",
    ] {
        assert!(plan.contains(line), "{line} is not in {plan}");
    }
    assert!(place(&plan, "remove   taken") < place(&plan, "up       taken"), "{plan}");
    let ran = both.lab.host.moorline(&["reconcile"]);
    println!("{ran}");
    // A service that was not touched and is unhealthy is said, and hinders nobody.
    assert!(ran.stderr.contains("error[service-unhealthy]"), "{ran}");
    both.compare(&before, &both.up());

    assert_eq!(both.lab.exec("volume", "same", &["ls", "/data"]), "kept");
    assert_eq!(docker(&["run", "--rm", "-v", "volume_1:/data", "lab/idle:1", "ls", "/data"]), "kept");
    assert!(both.lab.exec("stopped", "inside", &["ls", "/sys/class/net"]).contains("eth0"));
    assert!(!both.plain("stopped").exec("inside", &["ls", "/sys/class/net"]).contains("eth0"));
    // Traefik's part: the same container, under the same names.
    assert!(address("proxy-proxy-1").contains("door"), "{}", address("proxy-proxy-1"));

    // Somebody whom moorline does not know is not moved, and nothing is begun.
    docker(&["run", "-d", "--name", "stranger", "--network", "edge-front", "lab/idle:1"]);
    both.lab.fleet.write("stacks/edge/.env", "P=edge\nV=false\n");
    both.lab.publish("stranger");
    both.lab.host.moorline(&["courier", "--once"]).succeeds();
    let ours = Facts::of(&both.lab.engine, "edge");
    let ran = both.lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[network-in-use]") && ran.stderr.contains("stranger is attached"), "{ran}");
    let after = Facts::of(&both.lab.engine, "edge");
    assert_eq!(after.differences(&ours, None), [""; 0]);
    docker(&["network", "disconnect", "edge-front", "stranger"]);
    let said = both.lab.host.moorline(&["reconcile"]).said();
    assert!(said.contains("up-whole edge") && !said.contains("network-in-use"), "{said}");
    assert_eq!(both.lab.engine.inspect("edge-front")["Internal"], false);
}

/// Debian's 2.26.1 makes containers with other hashes. moorline refuses it for its age, so here it says that it is younger.
const OLDER: &str = "#!/bin/sh
case \"$*\" in 'version --short') echo 2.39.0 ;; *) exec PLUGIN \"$@\" ;; esac
";

/// A service whose hash differs between the two (the older one counts profiles in), one whose hash does not, and a one-shot.
const UPGRADE: &str = "\
services:
  init: { image: lab/init:1, depends_on: [db] }
  app: { image: lab/idle:1, stop_grace_period: 1s, profiles: [on] }
  db: { image: lab/idle:1, stop_grace_period: 1s, volumes: ['data:/data'] }
volumes: { data: {} }
";

const UPGRADES: &[Case] = &[Case {
    name: "upgrade",
    before: compose(&[("compose.yaml", UPGRADE), (".env", "COMPOSE_PROFILES=on\n")]),
    after: compose(&[("compose.yaml", UPGRADE), (".env", "COMPOSE_PROFILES=on\n")]),
    // A one-shot is not run again because a plugin is another one.
    differences: &["init-1 became: kept | new"],
    plain_succeeds: true,
}];

#[test]
fn another_plugin_is_planned_by_its_name_and_recreates_what_it_would_with_plain_compose() {
    let mut both = Both::new(UPGRADES);
    let older = support::tools::tool("docker-compose-2.26.1");
    let script = OLDER.replace("PLUGIN", &older.display().to_string());
    let script = both.lab.engine.scratch().write("older/docker-compose", script);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let settings = both.lab.host.etc().join("agent.toml");
    let newer = std::fs::read_to_string(&settings).unwrap();
    let plugin = both.lab.engine.plugin().display().to_string();
    std::fs::write(&settings, newer.replace(&plugin, &script.display().to_string())).unwrap();

    both.write(|case| case.before);
    both.lab.deploy("before");
    let plain = both.plain("upgrade");
    let mut up = both.lab.engine.scratch().command("docker-compose-2.26.1");
    up.args(["up", "-d"]).current_dir(&plain.directory).env("DOCKER_HOST", both.lab.engine.host()).run().succeeds();
    both.lab.exec("upgrade", "db", &["touch", "/data/kept"]);
    plain.exec("db", &["touch", "/data/kept"]);
    let before = both.look();

    std::fs::write(&settings, &newer).unwrap();
    let plan = both.lab.host.moorline(&["plan"]).succeeds();
    assert!(plan.contains("because compose plugin 2.39.0 -> 2.40.3") && !plan.contains("init"), "{plan}");
    both.lab.host.moorline(&["reconcile"]).succeeds();
    both.compare(&before, &both.up());
    assert!(both.lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

const HOST: &str = "\
ring: canary
vars: { MESSAGE: hello }
stacks: [paused, volume, edge, proxy, unhealthy, stopped, taken]
monitors: { reconcile: KUMA }
";

#[track_caller]
fn place(plan: &str, line: &str) -> usize {
    plan.find(line).unwrap_or_else(|| panic!("`{line}` is not in {plan}"))
}
