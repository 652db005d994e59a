//! The example's stack `traefik` on a real engine with the real Traefik: what it serves, to whom, and what it refuses.
//!
//! The authority for certificates cannot be reached from here, so https is served with Traefik's own certificate.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use moorline::decide::digest::DigestKey;
use moorline::decide::fleet;
use moorline::decide::render::{self, Secrets};
use moorline::decide::traefik::publish::{self, Judgement, Publication};
use moorline::decide::traefik::{Told, tell_roughly};
use moorline::world::{disk, traefik};
use serde_json::Value as Json;

mod support;
use support::run::Run as _;
use support::{Engine, Image, Scratch, until};

const KEY: [u8; 32] = [7; 32];

fn example() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("repo-layout-example")
}

/// What the example tells the Traefik of the host alpha.
fn told() -> (Told, Publication) {
    let tree = disk::read_tree(&example()).unwrap();
    let spec = fleet::read(&tree, "alpha").unwrap();
    let key = DigestKey::new(KEY.to_vec());
    let inputs = render::inputs(&spec, &Secrets::sealed(&spec).unwrap(), &key);
    let told = tell_roughly(&inputs, &key);
    assert_eq!(told.mistakes, []);
    let publication = publish::publish(&told, &key, 0);
    (told, publication)
}

fn write(directory: &Path, publication: &Publication) {
    fs::create_dir_all(directory).unwrap();
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, content) in &publication.files {
        fs::write(directory.join(name), content.expose()).unwrap();
    }
}

/// A request from the engine's network, with the whole answer.
fn request(engine: &Engine, port: u16, host: &str, path: &str) -> Option<String> {
    let text = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let mut client = engine.command("busybox");
    client.args(["nc", "-w", "5", "127.0.0.1", &port.to_string()]);
    let ran = client.run_with(text.as_bytes());
    (!ran.stdout.is_empty()).then_some(ran.stdout)
}

fn rawdata(engine: &Engine) -> Option<Json> {
    serde_json::from_str(&engine.http_get(8080, "/api/rawdata")?).ok()
}

#[test]
fn the_stack_of_the_example_serves_its_routes_and_shows_its_dashboard_on_loopback_only() {
    let engine = Engine::start();
    engine.image("traefik:v3.7.15", &Image::traefik());
    let stack = engine.scratch().directory("traefik");
    fs::copy(example().join("stacks/traefik/compose.yaml"), stack.join("compose.yaml")).unwrap();
    fs::write(stack.join(".env"), "DOMAIN=alpha.example.org\nACME_EMAIL=hostmaster@example.org\n").unwrap();
    let (told, publication) = told();
    write(&stack.join("dynamic"), &publication);
    engine.compose(&stack, &["up", "--detach", "--wait"]).succeeds();

    // Its own health check said that it is healthy; it knows this generation, and every router serves.
    let judged: Judgement = until("Traefik has read the generation", || {
        let judged = publish::judge(&rawdata(&engine)?, &told.definitions, &publication.marker);
        judged.loaded.then_some(judged)
    });
    assert!(judged.is_good(), "{judged:?}");
    assert_eq!(judged.routers.len(), 3);

    let redirected = request(&engine, 80, "cloud.alpha.example.org", "/x").unwrap();
    assert!(redirected.contains("Location: https://cloud.alpha.example.org/x"), "{redirected}");
    // The dashboard is where the operators are, and nowhere else.
    assert!(engine.http_get(8080, "/dashboard/").unwrap().contains("<title>Traefik"));
    let outside = request(&engine, 80, "alpha.example.org", "/dashboard/").unwrap();
    assert!(outside.contains("Location: https://alpha.example.org/dashboard/"), "{outside}");
    let container = engine.docker(&["ps", "--quiet"]).succeeds();
    let inspected = engine.inspect(&container);
    let ports = &inspected["NetworkSettings"]["Ports"];
    assert_eq!(ports["8080/tcp"][0]["HostIp"], "127.0.0.1", "{ports}");
    let mounts: Vec<&str> =
        inspected["Mounts"].as_array().unwrap().iter().filter_map(|mount| mount["Source"].as_str()).collect();
    assert!(mounts.iter().all(|source| !source.contains("docker.sock")), "{mounts:?}");
    assert!(inspected["Mounts"].to_string().contains("traefik_acme"), "{mounts:?}");
    // What is called as Compose calls Nextcloud's container is reached, through the headers of every answer.
    engine.image("lab/web:1", &Image::web());
    engine.docker(&["run", "--detach", "--network=edge", "--name=nextcloud-nextcloud-1", "lab/web:1"]).succeeds();
    let url = "https://127.0.0.1/message";
    let host = "Host: cloud.alpha.example.org";
    let mut wget = engine.command("busybox");
    wget.args(["wget", "-S", "-O", "-", "--no-check-certificate", "--header", host, url]);
    let answer = until("the route leads to the container", || {
        let ran = wget.run();
        ran.is_success().then(|| ran.said())
    });
    for header in ["Strict-Transport-Security: max-age=15552000", "X-Content-Type-Options: nosniff"] {
        assert!(answer.to_lowercase().contains(&header.to_lowercase()), "{answer}");
    }
    // One line per request, as JSON. Traefik does not count its own redirect.
    let log = until("the request is in the access log", || {
        let log = engine.docker(&["logs", &container]).said();
        log.contains("\"RequestPath\":\"/message\"").then_some(log)
    });
    assert!(!log.contains("Error occurred during watcher callback"), "{log}");

    // A router that names what is not there is seen, and so is a generation that Traefik cannot read.
    let bad = "http: {routers: {bad: {rule: 'Host(`bad`)', service: nobody}}}\n";
    fs::write(stack.join("dynamic/bad.yaml"), bad).unwrap();
    let state = until("Traefik knows the bad router", || {
        let found = publish::state(&rawdata(&engine)?, "http", "bad");
        (found != publish::State::Absent).then_some(found)
    });
    let publish::State::Disabled(because) = state else { panic!("{state:?}") };
    assert!(because[0].contains("nobody"), "{because:?}");
    fs::write(stack.join("dynamic/bad.yaml"), "http: {routers: [\n").unwrap();
    let next = publish::publish(&told, &DigestKey::new(vec![8; 32]), 0);
    assert_ne!(next.marker, publication.marker);
    let marker = &next.files[publish::FILE].expose();
    fs::write(stack.join("dynamic/.new"), marker).unwrap();
    fs::rename(stack.join("dynamic/.new"), stack.join("dynamic").join(publish::FILE)).unwrap();
    until("Traefik says that it cannot read a file", || {
        engine.docker(&["logs", &container]).said().contains("bad.yaml").then_some(())
    });
    let judged = publish::judge(&rawdata(&engine).unwrap(), &told.definitions, &next.marker);
    assert!(!judged.loaded, "a generation counts as read although one file could not be");
}

#[test]
fn the_agent_asks_traefik_itself_and_says_so_when_nobody_answers() {
    let scratch = Scratch::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("http://127.0.0.1:{port}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = || runtime.block_on(traefik::rawdata(&address));
    assert_eq!(ask().unwrap_err().code.name(), "traefik-silent");

    let (told, publication) = told();
    let mut only_api: BTreeMap<_, _> = publication.files.clone();
    only_api.retain(|name, _| name != "middlewares.yaml");
    let directory = scratch.directory("dynamic");
    write(&directory, &Publication { files: only_api, marker: publication.marker.clone() });
    let mut command = scratch.command("traefik");
    command
        .arg(format!("--entryPoints.traefik.address=127.0.0.1:{port}"))
        .args(["--entryPoints.websecure.address=127.0.0.1:0", "--api.insecure=true", "--global.checkNewVersion=false"])
        .arg(format!("--providers.file.directory={}", directory.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let judged = until("Traefik answers", || {
        let judged = publish::judge(&ask().ok()?, &told.definitions, &publication.marker);
        judged.loaded.then_some(judged)
    });
    child.kill().ok();
    child.wait().ok();
    assert!(judged.is_good(), "{judged:?}");
}
