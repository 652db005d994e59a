//! moorline, a real engine and the real Traefik: routes come and go with their services, mistakes are caught before or
//! undone after, and no request is lost meanwhile.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value as Json;

mod support;
use support::lab::TRAEFIK;
use support::run::Run as _;
use support::{Image, Lab, Load, Ran, Tally, until};

const FILE: &str = "moorline.routes.yaml";

const POLICY: &str = "\
version: 1
policy:
  allow:
    traefik:
      - { rule: published-port, value: 80/tcp, reason: the way in }
      - { rule: published-port, value: 443/tcp, reason: the other way in }
";

const COMMON: &str = "http:\n  middlewares:\n    marked: { headers: { customResponseHeaders: { X-Mark: 'MARK' } } }\n";

fn app(name: &str) -> String {
    format!(
        "services:\n  app:\n    image: lab/web:1\n    networks: [edge]\n    stop_grace_period: 1s\n    labels:\n      \
         traefik.enable: \"true\"\n      traefik.http.routers.{name}.rule: Host(`{name}.lab`)\n      \
         traefik.http.routers.{name}.entrypoints: web\n      traefik.http.routers.{name}.middlewares: marked@file\n      \
         traefik.http.services.{name}.loadbalancer.server.port: \"80\"\nnetworks:\n  edge: {{ external: true }}\n\
         x-moorline: {{ deploy: {{ health_timeout: 30s }} }}\n"
    )
}

struct Edge {
    lab: Lab,
}

impl Edge {
    /// A host with Traefik and the stack `web` behind it.
    #[track_caller]
    fn new() -> Self {
        let lab = Lab::new();
        lab.engine.image("traefik:v3.7.15", &Image::traefik());
        lab.host_yaml("[traefik, web]");
        lab.secrets("traefik:\n  MARK: canary-mark-1\n");
        lab.fleet.write("moorline.yaml", POLICY).write("stacks/traefik/compose.yaml", TRAEFIK);
        lab.fleet.write("stacks/web/compose.yaml", app("web"));
        let mut edge = Self { lab };
        edge.dynamic("one");
        edge.deploy("first").succeeds();
        edge
    }

    fn dynamic(&self, mark: &str) {
        self.lab.fleet.write("stacks/traefik/dynamic/common.yaml", COMMON.replace("MARK", mark));
    }

    fn fetch(&mut self, message: &str) {
        self.lab.publish(message);
        self.lab.host.moorline(&["courier", "--once"]).succeeds();
    }

    fn reconcile(&self) -> Ran {
        self.moorline(&["reconcile"])
    }

    fn moorline(&self, arguments: &[&str]) -> Ran {
        self.lab.host.command_beside(&self.lab.engine, arguments).run()
    }

    #[track_caller]
    fn deploy(&mut self, message: &str) -> Ran {
        self.fetch(message);
        self.reconcile()
    }

    /// A request through Traefik: the whole answer.
    fn request(&self, host: &str) -> String {
        support::load::request(&self.lab.engine, 80, &format!("{host}.lab"))
    }

    fn serves(&self, host: &str) -> bool {
        self.request(host).contains(" 200 OK")
    }

    fn published(&self) -> PathBuf {
        self.lab.host.run_directory().join("routes/dynamic")
    }

    fn routes(&self) -> Json {
        serde_json::from_str(&self.moorline(&["routes", "--json"]).succeeds()).unwrap()
    }

    fn report(&self) -> String {
        self.moorline(&["runs", "show", "--json"]).stdout
    }
}

#[test]
fn the_example_is_reached_through_traefik_also_after_a_restart_and_with_other_settings() {
    let lab = Lab::new();
    lab.engine.image("traefik:v3.7.15", &Image::traefik());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("repo-layout-example/stacks/traefik");
    for path in ["compose.yaml", "dynamic/middlewares.yaml", "dynamic/dashboard.yaml"] {
        lab.fleet.write(&format!("stacks/traefik/{path}"), fs::read(example.join(path)).unwrap());
    }
    lab.fleet.write("moorline.yaml", POLICY).write(
        "hosts/alpha/host.yaml",
        "ring: canary\nvars: { DOMAIN: lab, ACME_EMAIL: a@example.org }\nstacks: [traefik, web]\n\
         monitors: { reconcile: KUMA }\n",
    );
    let web = app("web")
        .replace("entrypoints: web", "entrypoints: websecure")
        .replace("marked@file", "security-headers@file");
    lab.fleet.write("stacks/web/compose.yaml", web);
    lab.secrets("");
    let mut edge = Edge { lab };
    let said = edge.deploy("first").succeeds();
    assert!(said.contains("publish"), "{said}");
    let ask = |edge: &Edge| {
        let mut wget = edge.lab.engine.command("busybox");
        let header = ["--header", "Host: web.lab", "https://127.0.0.1/"];
        wget.args(["wget", "-S", "-O", "-", "--no-check-certificate"]).args(header);
        wget.run().said()
    };
    let said = ask(&edge);
    assert!(said.contains("lab/web:1") && said.contains("Strict-Transport-Security"), "{said}");
    let routes = edge.routes();
    let all = routes["hosts"][0]["routes"].as_array().unwrap();
    assert!(all.len() == 2 && all.iter().all(|route| route["state"] == "enabled"), "{routes}");
    // What `docker compose` sees in the stack's directory is what moorline brought up.
    let directory = edge.lab.host.stack("traefik");
    assert!(fs::read_to_string(directory.join("dynamic").join(FILE)).unwrap().contains("Host(`web.lab`)"));
    let id = edge.lab.containers("traefik")["traefik"].clone();
    edge.lab.engine.compose(&directory, &["up", "--detach"]).succeeds();
    assert_eq!(edge.lab.containers("traefik")["traefik"], id);

    // Restarted by a person.
    edge.lab.engine.compose(&directory, &["restart"]).succeeds();
    until("the route is back after a restart", || ask(&edge).contains("lab/web:1").then_some(()));
    // With other settings: another container, which is seen to serve what the one before did.
    let compose = fs::read_to_string(example.join("compose.yaml")).unwrap();
    edge.lab.fleet.write("stacks/traefik/compose.yaml", compose.replace("--log.level=INFO", "--log.level=WARN"));
    let said = edge.deploy("settings").succeeds();
    assert!(said.contains("publish"), "{said}");
    assert_ne!(edge.lab.containers("traefik")["traefik"], id);
    assert!(ask(&edge).contains("lab/web:1"));
    // Upgraded.
    edge.lab.engine.image("traefik:v3.7.16", &Image::traefik());
    edge.lab.fleet.write("stacks/traefik/compose.yaml", compose.replace("v3.7.15", "v3.7.16"));
    edge.deploy("upgrade").succeeds();
    assert!(ask(&edge).contains("lab/web:1"));
    // The host was switched off and on: memory is empty, and the unit that fills it runs before the engine.
    edge.lab.engine.stop();
    fs::remove_file(edge.published().join(FILE)).unwrap();
    edge.lab.host.moorline(&["secrets"]).succeeds();
    edge.lab.engine.resume();
    edge.lab.engine.docker(&["start", "traefik-traefik-1", "web-app-1"]).succeeds();
    until("the route is back after a reboot", || ask(&edge).contains("lab/web:1").then_some(()));
}

#[test]
fn every_mistake_that_traefik_hides_is_refused_before_or_undone_after_and_named() {
    let mut edge = Edge::new();
    let good = fs::read_to_string(edge.published().join(FILE)).unwrap();
    assert!(good.contains("\"X-Mark\": \"one\""), "{good}");
    let dynamic = "stacks/traefik/dynamic/bad.yaml";
    // (what TESTBED section 2 has Traefik do with, the file, what is said)
    let before = [
        ("syntax", "http:\n  routers: [\n", "bad.yaml:"),
        ("an unknown nested key", "http:\n  routers:\n    a: { rul: x }\n", "bad.yaml:3: Traefik does not know `rul`"),
        (
            "a value that cannot be read",
            "http: { services: { a: { loadBalancer: { passHostHeader: maybe } } } }\n",
            "`maybe`",
        ),
        ("a template", "http: { routers: { a: { rule: '{{ nope }}', service: x } } }\n", "Go template"),
        ("an unknown key at the top", "htpt: {}\n", "bad.yaml:1: Traefik does not know `htpt`"),
        ("a wrong type", "http: { services: { a: { loadBalancer: { servers: x } } } }\n", "`servers` must be a list"),
        ("a bad rule", "http: { routers: { a: { rule: 'Host(', service: noop@internal } } }\n", "cannot read its rule"),
        ("a missing service", "http: { routers: { a: { rule: 'Host(`a`)', service: nobody } } }\n", "`nobody`"),
        (
            "a missing middleware",
            "http: { routers: { a: { rule: 'Host(`a`)', service: noop@internal, middlewares: [nobody] } } }\n",
            "`nobody`",
        ),
        (
            "a missing entry point",
            "http: { routers: { a: { rule: 'Host(`a`)', service: noop@internal, entryPoints: [nowhere] } } }\n",
            "`nowhere`",
        ),
        (
            "a missing resolver",
            "http: { routers: { a: { rule: 'Host(`a`)', service: noop@internal, tls: { certResolver: nobody } } } }\n",
            "`nobody`",
        ),
        (
            "the same name twice",
            "http: { middlewares: { marked: { addPrefix: { prefix: /x } } } }\n",
            "also defined in",
        ),
    ];
    for (what, text, said) in before {
        edge.lab.fleet.write(dynamic, text);
        let failed = edge.deploy(what).fails();
        assert!(failed.contains("spec-invalid") && failed.contains(said), "{what}: {failed}");
        let checked = edge.lab.host.command(&["check"]).arg(edge.lab.fleet.path()).run().fails();
        assert!(checked.contains(said), "{what}: {checked}");
        assert_eq!(fs::read_to_string(edge.published().join(FILE)).unwrap(), good, "{what}");
    }
    edge.lab.fleet.remove(dynamic);

    // What only Traefik finds: an expression that does not parse.
    let label = "traefik.http.routers.web.entrypoints";
    let broken = app("web").replace("Host(`web.lab`)", "HostRegexp(`[`)").replace("MESSAGE", "x");
    assert!(broken.contains(label));
    edge.lab.fleet.write("stacks/web/compose.yaml", broken);
    let failed = edge.deploy("a bad expression").fails();
    let report = edge.report();
    for part in ["rolled-back", "stacks/web/compose.yaml:8: router `web`: ", "the routes before are back"] {
        assert!(
            report.contains(part) && (part == "rolled-back" || failed.contains(part)),
            "{part}: {failed}\n{report}"
        );
    }
    assert_eq!(fs::read_to_string(edge.published().join(FILE)).unwrap(), good);
    until("the container that came back listens", || edge.serves("web").then_some(()));
    edge.lab.fleet.write("stacks/web/compose.yaml", app("web"));
    edge.deploy("mended").succeeds();

    // A secret may stand in a dynamic file: it reaches Traefik, and neither the disk nor a report.
    edge.dynamic("${MARK}");
    edge.deploy("secret").succeeds();
    assert!(edge.request("web").contains("X-Mark: canary-mark-1"), "{}", edge.request("web"));
    assert!(!edge.report().contains("canary-mark-1"));
    let hits = support::search_for_canary(&[edge.lab.host.state()], &["canary-mark-1"]);
    assert!(hits.is_empty(), "{hits:?}");
}

#[test]
fn what_people_do_to_the_files_is_drift_and_a_cold_start_with_a_bad_one_repairs_itself() {
    let edge = Edge::new();
    let path = edge.published().join(FILE);
    let good = fs::read_to_string(&path).unwrap();
    let settled = || {
        let said = edge.reconcile().succeeds();
        assert!(said.contains("nothing to do"), "{said}");
    };
    settled();
    let drift = || {
        let files = fs::read_dir(edge.lab.host.state().join("drift")).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect::<String>()
    };
    // In place: Traefik reads it at once.
    fs::remove_file(&path).unwrap();
    fs::write(&path, good.replace("Host(`web.lab`)", "Host(`mine.lab`)")).unwrap();
    until("Traefik has the edited route", || edge.serves("mine").then_some(()));
    edge.reconcile().succeeds();
    assert!(drift().contains("dynamic/moorline.routes.yaml was found edited"), "{}", drift());
    assert!(edge.serves("web") && !edge.serves("mine"));
    assert!(drift().contains("Host(`mine.lab`)"));
    settled();
    // A file that freezes all others, and leaves nothing after a restart.
    fs::write(edge.published().join("mine.yaml"), "http: [\n").unwrap();
    fs::write(edge.published().join("half.yaml.moorline-new"), "http: [\n").unwrap();
    edge.lab.engine.docker(&["restart", "traefik-traefik-1"]).succeeds();
    until("Traefik answers", || edge.lab.engine.http_get(8080, "/api/overview"));
    assert!(!edge.serves("web"));
    edge.reconcile().succeeds();
    assert!(drift().contains("dynamic/mine.yaml was found beside what moorline wrote"), "{}", drift());
    assert!(edge.serves("web") && drift().contains("http: ["));
    assert!(!edge.published().join("mine.yaml").exists());
    settled();
    // Its directory is gone from under it: it cannot see what is written, and the fault says what to type.
    let gone = edge.published().with_file_name("gone");
    fs::rename(edge.published(), &gone).unwrap();
    let failed = edge.reconcile().fails();
    assert!(failed.contains("docker compose -p traefik restart"), "{failed}");
    edge.lab.engine.docker(&["restart", "traefik-traefik-1"]).succeeds();
    until("the routes are back", || edge.serves("web").then_some(()));
}

#[test]
fn a_route_comes_after_the_gate_and_goes_before_the_container() {
    let mut edge = Edge::new();
    edge.lab.engine.image("lab/slow:1", &Image::web().healthy_while("/ready"));
    edge.lab.fleet.write("stacks/new/compose.yaml", app("new").replace("lab/web:1", "lab/slow:1"));
    edge.lab.host_yaml("[traefik, web, new]");
    edge.fetch("new");
    let before = Load::start(&edge.lab.engine, 80, "web.lab", 2);
    let load = Load::start(&edge.lab.engine, 80, "new.lab", 2);
    let mut command = edge.lab.host.command_beside(&edge.lab.engine, &["reconcile"]);
    let run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the new service answers, though not through Traefik", || {
        edge.lab
            .engine
            .docker(&["exec", "new-app-1", "wget", "-q", "-O", "-", "http://127.0.0.1/"])
            .is_success()
            .then_some(())
    });
    assert!(edge.request("new").contains(" 404 "), "its gate has not passed");
    edge.lab.engine.docker(&["exec", "new-app-1", "touch", "/ready"]).succeeds();
    let mut run = run;
    assert!(run.wait().unwrap().success());
    let answer = edge.request("new");
    assert!(answer.contains(" 200 OK"), "{answer}");
    let tally = load.end();
    assert!(tally.lost.is_empty(), "{tally:?}");
    assert!(tally.orders.iter().all(|order| *order == [404, 200]), "{tally:?}");

    let load = Load::start(&edge.lab.engine, 80, "new.lab", 2);
    edge.lab.host_yaml("[traefik, web]");
    edge.deploy("without").succeeds();
    assert!(edge.request("new").contains(" 404 "));
    let tally = load.end();
    assert!(tally.lost.is_empty(), "{tally:?}");
    assert!(tally.orders.iter().all(|order| *order == [200, 404]), "{tally:?}");
    // The neighbour noticed nothing of all that.
    all_served(&before.end(), 1);
}

#[test]
fn no_request_is_lost_while_twenty_generations_are_published() {
    let mut edge = Edge::new();
    let load = Load::start(&edge.lab.engine, 80, "web.lab", 4);
    let began = std::time::Instant::now();
    for generation in 0..20 {
        edge.dynamic(&format!("generation {generation}"));
        // Files come and go, too.
        let extra = format!(
            "http: {{ routers: {{ extra: {{ rule: 'Host(`extra{generation}.lab`)', service: noop@internal }} }} }}\n"
        );
        match generation % 2 {
            0 => _ = edge.lab.fleet.write("stacks/traefik/dynamic/extra.yaml", extra),
            _ => _ = edge.lab.fleet.remove("stacks/traefik/dynamic/extra.yaml"),
        }
        edge.deploy("generation").succeeds();
        assert!(edge.request("web").contains(&format!("X-Mark: generation {generation}")), "{}", edge.request("web"));
    }
    let tally = load.end();
    all_served(&tally, 2000);
    println!("20 generations in {:?}: {} requests, {} lost", began.elapsed(), tally.requests(), tally.lost.len());
    let said = edge.reconcile().succeeds();
    assert!(said.contains("nothing to do"), "{said}");
}

#[track_caller]
fn all_served(tally: &Tally, at_least: usize) {
    assert!(tally.lost.is_empty(), "{tally:?}");
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
    assert!(tally.requests() >= at_least, "{tally:?}");
}
