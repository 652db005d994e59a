//! The way of a change through three hosts: canary takes a merge, production moves by a promotion, wave by wave.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Engine, Fleet, GitServer, Host, Image, Ran, Run as _, Service, Signer, Signing, wait};

/// Three hosts on one engine, each with a stack of its own name: alpha is canary, bravo and charlie are production.
struct Lab {
    engine: Engine,
    hosts: Vec<Host>,
    fleet: Fleet,
    alice: Signer,
    status: u16,
    _server: GitServer,
}

const NAMES: [&str; 3] = ["alpha", "bravo", "charlie"];

impl Lab {
    fn new() -> Self {
        let engine = Engine::start();
        engine.image("lab/app:1", &Image::idle());
        engine.image("lab/app:2", &Image::idle());
        let server = GitServer::http(Some("s3cret-token"));
        let alice = Signer::new("alice");
        let bare = server.repository("fleet.git");
        let host = |name: &&str| {
            let host = Host::new(name, &engine, &server, "fleet.git", &[&alice]);
            host.use_token("s3cret-token");
            host
        };
        let hosts: Vec<Host> = NAMES.iter().map(host).collect();
        let status = free_port();
        let settings = hosts[0].etc().join("agent.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(settings, format!("{text}\n[status]\nlisten = \"127.0.0.1:{status}\"\n")).unwrap();
        let fleet = Fleet::new(&bare);
        fleet.write("signers/allowed_signers", alice.allowed_line() + &ring_line(&alice));
        fleet.write("rings/canary.yaml", "follow: main\n");
        fleet.write(
            "moorline.yaml",
            format!(
                "version: 1\npromotion:\n  order: [canary, production]\n  soak: 1s\n  \
                 status: {{ alpha: 'http://127.0.0.1:{status}/status.json' }}\n"
            ),
        );
        for name in NAMES {
            let ring = if name == "alpha" { "canary" } else { "production" };
            // One engine, so each host has a service of its own name; what it runs comes from the shared file.
            fleet.write(
                &format!("hosts/{name}/host.yaml"),
                format!("ring: {ring}\nvars: {{ HOST: {name}, COMPOSE_PROFILES: {name} }}\nstacks: [app-{name}]\n"),
            );
            fleet.write(&format!("stacks/app-{name}/compose.yaml"), stack("1"));
        }
        Self { engine, hosts, fleet, alice, status, _server: server }
    }

    fn publish(&mut self, message: &str) -> String {
        let revision = self.fleet.commit(Signing::By(&self.alice), message);
        self.fleet.push();
        revision
    }

    /// What each host runs.
    fn images(&self) -> [String; 3] {
        NAMES.map(|name| {
            let container = self.engine.inspect(&format!("app-{name}-app-1"));
            container["Config"]["Image"].as_str().unwrap_or_default().trim_start_matches("lab/").to_owned()
        })
    }

    fn converge(&self) {
        self.hosts.iter().for_each(|host| drop(host.converges()));
    }

    /// `moorline ...` in the operator's checkout, with the operator's key.
    fn operator(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
        command.args(arguments).current_dir(self.fleet.path());
        command.env_clear().env("PATH", support::tools::search_path()).env("HOME", self.fleet.path());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", self.config());
        command.run()
    }

    fn config(&self) -> std::path::PathBuf {
        let path = self.hosts[0].etc().join("operator.gitconfig");
        let key = self.alice.private_key();
        let text = format!(
            "[user]\nname = alice\nemail = alice@example.org\nsigningKey = {}\n[gpg]\nformat = ssh\n",
            key.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn ring_line(signer: &Signer) -> String {
    format!("ring:production namespaces=\"moorline-ring@v1\" {}\n", signer.public_key())
}

fn stack(tag: &str) -> String {
    format!("services:\n  app: {{ image: 'lab/app:{tag}', stop_grace_period: 1s }}\n")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn images(found: [&str; 3]) -> [String; 3] {
    found.map(str::to_owned)
}

/// Signs a ring file as an operator does by hand.
fn sign(fleet: &Fleet, signer: &Signer, path: &str) {
    let file = fleet.path().join(path);
    std::fs::remove_file(file.with_extension("yaml.sig")).ok();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", "moorline-ring@v1", "-f"]).arg(signer.private_key()).arg(&file);
    keygen.run().succeeds();
    assert!(Path::new(&file.with_extension("yaml.sig")).exists());
}

#[test]
fn a_change_goes_from_canary_through_two_waves_of_production_and_a_halt_stops_the_second() {
    let mut lab = Lab::new();
    lab.fleet.write("rings/production.yaml", "follow: main\n");
    let first = lab.publish("first");
    let ring = |commit: &str, more: &str| {
        format!(
            "# Who runs what.\nring: production\ncommit: {commit}   # by promotion\nsequence: 1\nsigned: required\n\
             waves: [{{ percent: 50, after: 0s }}, {{ percent: 100, after: 3s }}]\n{more}"
        )
    };
    lab.fleet.write("rings/production.yaml", ring(&first, ""));
    sign(&lab.fleet, &lab.alice, "rings/production.yaml");
    lab.publish("production names its revision");
    lab.converge();
    assert_eq!(lab.images(), images(["app:1", "app:1", "app:1"]));

    // A merge: canary takes it, production does not.
    for name in NAMES {
        lab.fleet.write(&format!("stacks/app-{name}/compose.yaml"), stack("2"));
    }
    let second = lab.publish("app 2");
    lab.converge();
    assert_eq!(lab.images(), images(["app:2", "app:1", "app:1"]));

    // Nobody serves the status of canary yet, and the stacks of production run on no canary.
    let ran = lab.operator(&["promote", "production", "--check"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("alpha gives no status"), "{ran}");
    assert!(ran.stderr.contains("stack app-bravo changes on bravo, and no host of ring canary runs it"), "{ran}");
    let courier = Service::start(&lab.hosts[0], "courier");
    let status = format!("http://127.0.0.1:{}", lab.status);
    let served = wait::within(Duration::from_secs(20), "the status is served", || {
        let mut curl = Command::new("curl");
        let ran = curl.args(["-sf", &format!("{status}/status.json")]).run();
        (ran.code == Some(0)).then_some(ran.stdout)
    });
    let page: serde_json::Value = serde_json::from_str(&served).unwrap();
    assert_eq!((&page["host"], &page["ring"]), (&"alpha".into(), &"canary".into()), "{page:#}");
    assert_eq!(page["revision"], *second);
    let metrics = Command::new("curl").args(["-sf", &format!("{status}/metrics")]).run().succeeds();
    assert!(metrics.contains("moorline_converged 1"), "{metrics}");

    // Every look of canary that finds all well adds to its good time.
    let proven = wait::within(Duration::from_secs(30), "alpha ran it well for a second", || {
        lab.hosts[0].moorline(&["reconcile"]).succeeds();
        let ran = lab.operator(&["promote", "production", "--check"]);
        (!ran.stderr.contains("alpha ran")).then_some(ran)
    });
    // What is left is the stacks that no canary runs. Somebody knows better, and says why.
    assert_eq!(proven.code, Some(1), "{proven}");
    let forced = ["promote", "production", "--force", "--reason", "the stacks are the same file"];
    let printed = lab.operator(&forced).succeeds();
    drop(courier);
    let branch = format!("promote-production-{}", &second[..8]);
    assert!(printed.contains(&format!("git push origin {branch}")), "{printed}");
    assert!(printed.contains("image: lab/app:1 -> lab/app:2"), "{printed}");
    let log = lab.fleet.git(&["log", "-1", "--format=%B", &branch]).succeeds();
    assert!(log.contains("the stacks are the same file") && log.contains("stack app-bravo changes"), "{log}");
    lab.fleet.git(&["merge", "--quiet", "--ff-only", &branch]).succeeds();
    let text = std::fs::read_to_string(lab.fleet.path().join("rings/production.yaml")).unwrap();
    assert!(text.contains("# Who runs what.") && text.contains("sequence: 2\n") && text.contains("# by promotion"));
    lab.fleet.push();

    // The first wave moves at once, the second three seconds later.
    lab.converge();
    let moved = lab.images();
    assert_eq!(moved.iter().filter(|image| *image == "app:2").count(), 2, "{moved:?}");
    let late = usize::from(moved[1] == "app:2") + 1;
    let waiting = lab.hosts[late].status()["last_run"]["waiting"].clone();
    assert_eq!((&waiting["for"], &waiting["number"]), (&"wave".into(), &2.into()), "{waiting}");
    wait::within(Duration::from_secs(30), "the second wave", || {
        lab.hosts[late].converges();
        (lab.images()[late] == "app:2").then_some(())
    });

    // Back is a promotion of what production ran before: nobody needs to prove it, and nobody waits.
    lab.operator(&["promote", "production", &first[..12]]).succeeds();
    lab.fleet.git(&["merge", "--quiet", "--ff-only", &format!("promote-production-{}", &first[..8])]).succeeds();
    lab.fleet.push();
    lab.converge();
    assert_eq!(lab.images(), images(["app:2", "app:1", "app:1"]));

    // Once more, with a longer second wave; and a halt before it comes.
    let text = std::fs::read_to_string(lab.fleet.path().join("rings/production.yaml")).unwrap();
    let longer = text.replace("after: 3s", "after: 1h").replace(&first, &second).replace("sequence: 3", "sequence: 4");
    lab.fleet.write("rings/production.yaml", &longer);
    sign(&lab.fleet, &lab.alice, "rings/production.yaml");
    lab.publish("promote again");
    lab.converge();
    let moved = lab.images();
    let late = usize::from(moved[1] == "app:2") + 1;
    lab.fleet.write(
        "rings/production.yaml",
        longer.replace("sequence: 4", "sequence: 5\nhalt: errors in the first wave").replace("1h", "3s"),
    );
    sign(&lab.fleet, &lab.alice, "rings/production.yaml");
    lab.publish("halt");
    for _ in 0..3 {
        lab.hosts[late].moorline(&["courier", "--once"]).succeeds();
        let ran = lab.hosts[late].moorline(&["reconcile"]);
        assert_eq!(ran.code, Some(4), "{ran}");
    }
    assert_eq!(lab.images(), moved, "the second wave did not move");

    // What the forge writes without the ring's key moves nobody.
    lab.fleet.write("rings/production.yaml", longer.replace("sequence: 4", "sequence: 6"));
    lab.publish("the halt is taken out by somebody who may only merge");
    lab.hosts[late].moorline(&["courier", "--once"]).succeeds();
    let ran = lab.hosts[late].moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(13), "{ran}");
    assert!(ran.stderr.contains("error[ring-unsigned]"), "{ran}");
    assert_eq!(lab.images(), moved);
}
