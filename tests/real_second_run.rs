//! A run with nothing new, on every stack that there is: those of the example repository, those of the real world that
//! the policy is tested with, and those of this directory. It plans nothing, starts no program, and touches no container;
//! and neither does the run of an agent that was started again.
//!
//! What the images of these stacks really do is not of interest here, so that each but Traefik is a stand-in, made from what the stack
//! says about it: a program that stays up under any name, and is healthy whatever it is asked.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use support::run::Run as _;
use support::{Image, Lab, until};

/// Ends with success, unless it is what the container was started for: then it stays. With `init: true`, process 1 is
/// another one.
const STAND_IN: &str = "#!/bin/busybox sh
[ $$ = 1 ] || [ $PPID = 1 ] || exit 0
trap 'exit 0' TERM INT QUIT USR1 WINCH; while :; do /bin/busybox sleep 3600 & wait $!; done
";

/// Stacks of the real world that want more of a machine than a lab has.
const NOT_STARTED: [(&str, &str); 4] = [
    ("jellyfin", "a graphics card"),
    ("monitoring", "the root of the machine, its processes and its network"),
    ("wireguard", "modules of the kernel"),
    ("mailcow-part", "the network of the machine, and the iptables of its kernel"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Checks of health as quick as a test needs them.
fn quick(compose: &str) -> String {
    let line = |line: &str| match line.trim_start() {
        text if ["interval:", "start_period:", "start_interval:"].iter().any(|key| text.starts_with(key)) => {
            let (key, _) = line.split_once(':').expect("a key");
            format!("{key}: 1s\n")
        }
        _ => format!("{line}\n"),
    };
    compose.lines().map(line).collect()
}

/// The same for a model, which may want more than a lab has: limits that only the machine's root may raise, addresses
/// and ports of a host of their own, and images by their digest, which cannot be made here.
fn fitted(mut model: Json, ports: &mut u16) -> Json {
    model.as_object_mut().expect("a model").remove("name");
    for service in model["services"].as_object_mut().expect("services").values_mut() {
        let service = service.as_object_mut().expect("a service");
        service.remove("ulimits");
        if let Some(image) = service.get_mut("image") {
            *image = Json::from(image.as_str().expect("text").split("@sha256:").next());
        }
        if let Some(check) = service.get_mut("healthcheck").and_then(Json::as_object_mut) {
            check.retain(|key, _| matches!(key.as_str(), "test" | "disable"));
            check.insert("interval".into(), "1s".into());
        }
        for port in service.get_mut("ports").and_then(Json::as_array_mut).into_iter().flatten() {
            if port.get("host_ip").is_some() {
                port["host_ip"] = "127.0.0.1".into();
            }
            *ports += 1;
            port["published"] = ports.to_string().into();
        }
    }
    model
}

/// What plain Compose makes of a directory.
fn model(lab: &Lab, directory: &Path) -> Json {
    let ran = lab.engine.compose(directory, &["config", "--format", "json", "--no-path-resolution"]);
    serde_json::from_str(&ran.succeeds()).expect("Compose prints JSON")
}

/// Makes a stand-in for each image of these models.
fn stand_in(lab: &Lab, models: &[Json]) {
    let mut programs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for service in models.iter().flat_map(|model| model["services"].as_object().into_iter().flatten()) {
        let (_, service) = service;
        let words = programs.entry(service["image"].as_str().expect("an image").to_owned()).or_default();
        let entrypoint = service["entrypoint"].as_array().into_iter().flatten().next();
        let test = service["healthcheck"]["test"].as_array().into_iter().flatten();
        words.extend(entrypoint.into_iter().chain(test.skip(1).take(1)).filter_map(Json::as_str).map(str::to_owned));
    }
    for (image, words) in programs {
        let mut stand_in = Image::command(&[]).change("ENTRYPOINT [\"/stand-in\"]").program("/stand-in", STAND_IN);
        for word in words.iter().filter(|word| !word.contains(' ')) {
            let path = if word.starts_with('/') { word.clone() } else { format!("/bin/{word}") };
            stand_in = stand_in.program(&path, STAND_IN);
        }
        lab.engine.image(&image, &stand_in.program("/bin/sh", STAND_IN));
    }
}

/// The ids and last starts of all containers.
fn containers(lab: &Lab) -> BTreeMap<String, String> {
    let ids = lab.engine.docker(&["ps", "-aq", "--no-trunc"]).succeeds();
    let ids: Vec<&str> = ids.lines().collect();
    let format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.State.Status}}";
    let listed = lab.engine.docker(&[&["inspect", "--format", format], &ids[..]].concat()).succeeds();
    listed.lines().filter_map(|line| line.split_once(' ')).map(|(name, is)| (name.to_owned(), is.to_owned())).collect()
}

/// `moorline ...` in the engine's network, where Traefik's API is on loopback. The keeper needs no other.
fn inside(lab: &Lab, arguments: &[&str]) -> Command {
    let moorline = lab.host.command(arguments);
    let mut command = lab.engine.scratch().command("nsenter");
    command.arg(format!("--net=/run/netns/{}", lab.engine.netns));
    command.arg(moorline.get_program()).args(moorline.get_args());
    command
}

/// A second and a third run, and the first one of an agent that was started again.
#[track_caller]
fn nothing_happens(lab: &Lab) {
    let before = containers(lab);
    let plan = inside(lab, &["plan", "--exit-code"]).run();
    assert_eq!(plan.code, Some(0), "{plan}");
    let moorline = inside(lab, &["reconcile"]);
    let mut traced = lab.engine.scratch().command("strace");
    let log = lab.engine.scratch().join("strace.log");
    traced.args(["-f", "-e", "trace=execve", "-o"]).arg(&log).arg(moorline.get_program()).args(moorline.get_args());
    let said = traced.run().succeeds();
    assert!(said.contains("nothing to do"), "{said}");
    let log = fs::read_to_string(log).expect("strace wrote it");
    // The one that enters the network, and moorline.
    assert_eq!(log.matches("execve(").count(), 2, "{log}");
    assert_eq!(containers(lab), before);

    let last = || lab.host.status()["last_run"]["run"].clone();
    for _ in ["the service starts", "and is started again"] {
        let run = last();
        let mut agent = inside(lab, &["run"]).spawn().expect("moorline starts");
        until("the agent has run once", || (last() != run).then_some(()));
        lab.engine.scratch().command("busybox").args(["kill", "-TERM", &agent.id().to_string()]).run().succeeds();
        agent.wait().expect("our own child");
        let status = lab.host.status();
        assert_eq!(status["last_run"]["end"], "converged", "{status:#}");
    }
    assert_eq!(containers(lab), before);
    println!("{} containers, none touched", before.len());
}

#[test]
fn a_second_run_on_the_example_plans_nothing_and_touches_nothing() {
    let mut lab = Lab::new();
    lab.fleet.remove("stacks");
    let names = ["traefik", "nextcloud", "zitadel"];
    let mut models = Vec::new();
    for name in names {
        let place = lab.engine.scratch().directory(Path::new("example").join(name));
        let stack = root().join("repo-layout-example/stacks").join(name);
        let compose = quick(&fs::read_to_string(stack.join("compose.yaml")).expect("it is in the example"));
        fs::write(place.join("compose.yaml"), &compose).expect("the scratch is writable");
        fs::write(place.join(".env"), "DOMAIN=d\nACME_EMAIL=e\n").expect("the scratch is writable");
        lab.fleet.write(&format!("stacks/{name}/compose.yaml"), compose);
        for file in fs::read_dir(stack.join("dynamic")).into_iter().flatten().flatten() {
            let path = format!("stacks/{name}/dynamic/{}", file.file_name().display());
            lab.fleet.write(&path, fs::read(file.path()).expect("it is in the example"));
        }
        models.push(model(&lab, &place));
    }
    stand_in(&lab, &models);
    let example = |path: &str| fs::read_to_string(root().join("repo-layout-example").join(path)).expect("an example");
    lab.fleet.write("moorline.yaml", example("moorline.yaml"));
    lab.fleet.write("hosts/alpha/host.yaml", example("hosts/alpha/host.yaml").replace("KUMA_RECONCILE", "KUMA"));
    let monitor = lab.push.monitor("backups");
    lab.secrets(&format!(
        "  BACKUP_PASSWORD: g\n  BACKUP_SSH_KEY: h\n  KUMA_BACKUP: {monitor}\nnextcloud: {{ DB_PASSWORD: a, ADMIN_PASSWORD: b }}\n\
         zitadel: {{ MASTERKEY: c, DB_PASSWORD: d, DB_ADMIN_PASSWORD: e, ADMIN_PASSWORD: f }}\n"
    ));
    lab.engine.image("traefik:v3.7.15", &Image::traefik());
    lab.publish("the example");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    inside(&lab, &["reconcile"]).run().succeeds();
    nothing_happens(&lab);
}

#[test]
fn a_second_run_on_the_stacks_of_the_real_world_plans_nothing_and_touches_nothing() {
    let mut lab = Lab::new();
    let mut models = Vec::new();
    let mut names = Vec::new();
    let mut external = BTreeSet::new();
    let mut ports = 9000;
    for entry in fs::read_dir(root().join("tests/policy/accepted")).expect("it is there") {
        let path = entry.expect("it is there").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if NOT_STARTED.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let place = lab.engine.scratch().directory(Path::new("accepted").join(&name));
        fs::copy(&path, place.join("compose.yaml")).expect("the scratch is writable");
        fs::write(place.join("immich.env"), "TZ=Europe/Berlin\n").expect("the scratch is writable");
        fs::write(place.join(".env"), "ON=true\nTAIL=ADMIN\nDOT=.\n").expect("the scratch is writable");
        let fitted = fitted(model(&lab, &place), &mut ports);
        // JSON is YAML.
        lab.fleet.write(&format!("stacks/{name}/compose.yaml"), fitted.to_string());
        for (_, network) in fitted["networks"].as_object().into_iter().flatten() {
            if network["external"] == true {
                external.insert(network["name"].as_str().expect("a name").to_owned());
            }
        }
        models.push(fitted);
        lab.fleet.write(&format!("stacks/{name}/immich.env"), "TZ=Europe/Berlin\n");
        lab.fleet.write(&format!("stacks/{name}/.env"), "ON=true\nTAIL=ADMIN\nDOT=.\n");
        names.push(name);
    }
    for network in external {
        lab.engine.docker(&["network", "create", &network]).succeeds();
    }
    stand_in(&lab, &models);
    lab.host_yaml(&format!("[{}]", names.join(", ")));
    lab.secrets("");
    lab.fleet.remove("stacks/web");
    // The exceptions that they need, as the hint names them.
    let allowed = |said: &str| -> String {
        let mut text = String::from("version: 1\npolicy:\n  allow:\n");
        let lines = said.lines().skip_while(|line| !line.contains("allow:")).skip(1);
        let lines = lines.take_while(|line| line.starts_with("    "));
        lines.for_each(|line| text.push_str(&format!("{}\n", line.replace("\"...\"", "a test"))));
        text
    };
    lab.publish("refused");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let refused = lab.host.moorline(&["plan"]);
    lab.fleet.write("moorline.yaml", allowed(&refused.said()));
    println!("{}", lab.deploy("all of them"));
    nothing_happens(&lab);
}
