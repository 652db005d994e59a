//! Our translation of labels and the real Traefik's Docker provider say the same: the same labels on real containers,
//! and our files through its file provider, give the same `/api/rawdata`.
//!
//! `tests/traefik/corpus/*.yaml` are the label sets. One that begins with `# refused: ...` is refused by us with these
//! words, and Traefik does not route to it either. What differs is in docs/traefik.md, and in `known_differences`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;

use moorline::decide::compose;
use moorline::decide::digest::DigestKey;
use moorline::decide::traefik::Told;
use moorline::decide::traefik::publish::{self, Publication};
use moorline::decide::traefik::schema::{Kind, Leaf, Refers, Schema, Speaker};
use moorline::decide::traefik::service;
use moorline::decide::traefik::translate::{self, Translated};
use moorline::model::Model;
use serde_json::{Map, Value as Json, json};

mod support;
use support::run::Run as _;
use support::{Engine, Image, until};

/// One label set.
struct Case {
    name: String,
    refused: Option<String>,
    model: Model,
}

/// A Traefik in the network of the engine. Dropping it ends it.
struct Traefik {
    child: Child,
    engine: Arc<Engine>,
    port: u16,
    log: PathBuf,
}

impl Traefik {
    /// Everything but the provider is the same for both.
    fn start(engine: &Arc<Engine>, name: &str, port: u16, provider: &[String]) -> Self {
        let log = engine.scratch().join(format!("{name}.log"));
        let file = fs::File::create(&log).unwrap();
        let mut command = engine.command("traefik");
        for (index, entry) in ["web", "websecure", "ssh", "dns", "traefik"].into_iter().enumerate() {
            let protocol = if entry == "dns" { "/udp" } else { "" };
            let port = if entry == "traefik" { port } else { port + 1 + u16::try_from(index).unwrap() };
            command.arg(format!("--entryPoints.{entry}.address=127.0.0.1:{port}{protocol}"));
        }
        command
            .args(["--api.insecure=true", "--log.level=DEBUG", "--global.checkNewVersion=false"])
            .args(["--global.sendAnonymousUsage=false", "--providers.providersThrottleDuration=100ms"])
            .args(provider)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Self { child: command.spawn().unwrap(), engine: Arc::clone(engine), port, log }
    }

    fn rawdata(&self) -> Option<Json> {
        serde_json::from_str(&self.engine.http_get(self.port, "/api/rawdata")?).ok()
    }

    /// What it knows once it knows this middleware.
    fn rawdata_with(&self, middleware: &str) -> Json {
        until(&format!("Traefik knows {middleware}: see {}", self.log.display()), || {
            let data = self.rawdata()?;
            data["middlewares"].get(middleware).is_some().then_some(data)
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Traefik {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The corpus, resolved by the real Compose plugin.
fn corpus(engine: &Engine) -> Vec<Case> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root().join("tests/traefik/corpus")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let case = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let refused = text.lines().find_map(|line| line.strip_prefix("# refused: ")).map(str::to_owned);
        let mut config = engine.scratch().command("docker-compose");
        config.args(["--project-name", &name, "--file"]).arg(&path).arg("config");
        let yaml = config.run().succeeds();
        Case { name, refused, model: compose::read_model(yaml.as_bytes(), &[]).unwrap() }
    };
    paths.into_iter().map(case).collect()
}

fn translated(case: &Case) -> Translated {
    let services = service::services(&case.name, &case.model, &BTreeMap::new());
    translate::translate(&case.name, &services, &|name| services[name].containers.clone())
}

/// Runs the containers of a stack as Compose would, as far as Traefik can see them.
fn run_containers(engine: &Engine, stack: &str, model: &Model) {
    let services = service::services(stack, model, &BTreeMap::new());
    let mut names: Vec<&String> = services.keys().collect();
    // Whoever lives in the network of another service starts after it.
    names.sort_by_key(|name| services[*name].network_mode.is_some());
    for name in names {
        let service = &services[name];
        for container in &service.containers {
            let mut run = engine.docker_command();
            run.args(["run", "--detach", "--stop-signal", "KILL", "--name", container]);
            for port in &service.ports {
                run.arg(format!("--expose={port}"));
            }
            if let Some(leader) = service.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:")) {
                run.arg(format!("--network=container:{}", services[leader].containers[0]));
            }
            let labels = model.services[name].get("labels").and_then(Json::as_object).into_iter().flatten();
            for (key, value) in labels {
                run.arg(format!("--label={key}={}", value.as_str().unwrap()));
            }
            run.arg(format!("--label=com.docker.compose.project={stack}"));
            run.arg(format!("--label=com.docker.compose.service={name}"));
            run.arg("lab/idle:1").run().succeeds();
        }
    }
}

/// The names of containers by their addresses.
fn addresses(engine: &Engine) -> BTreeMap<String, String> {
    let ids = engine.docker(&["ps", "--quiet"]).succeeds();
    let mut inspect = engine.docker_command();
    inspect.args(["inspect", "--format", "{{.NetworkSettings.IPAddress}} {{.Name}}"]).args(ids.lines());
    let listed = inspect.run().succeeds();
    let pair = |line: &str| line.split_once(" /").map(|(address, name)| (address.to_owned(), name.to_owned()));
    listed.lines().filter_map(pair).filter(|(address, _)| !address.is_empty()).collect()
}

/// What both should say: without the provider's name, addresses as names, and nothing that changes with time.
fn comparable(value: &Json, addresses: &BTreeMap<String, String>) -> Json {
    let renamed = |text: &str| {
        let mut text = text.replace("@docker", "@file").replace("@file", "");
        for (address, name) in addresses {
            // Whole addresses: 10.0.0.2 is no part of 10.0.0.21.
            text = text.replace(&format!("//{address}:"), &format!("//{name}:"));
            if let Some(port) = text.strip_prefix(&format!("{address}:")) {
                text = format!("{name}:{port}");
            }
        }
        text
    };
    match value {
        Json::String(text) => Json::String(renamed(text)),
        Json::Array(items) => {
            let mut items: Vec<Json> = items.iter().map(|item| comparable(item, addresses)).collect();
            if items.iter().all(|item| item.get("url").or(item.get("address")).is_some()) {
                items.sort_by_key(ToString::to_string);
            }
            Json::Array(items)
        }
        Json::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !["serverStatus", "usedBy"].contains(&key.as_str()));
            // Sorted: neither provider promises an order.
            let kept: BTreeMap<String, Json> =
                kept.map(|(key, field)| (renamed(key), comparable(field, addresses))).collect();
            Json::Object(kept.into_iter().collect())
        }
        other => other.clone(),
    }
}

/// Routers, services and middlewares of one provider.
fn of_provider(rawdata: &Json, provider: &str, addresses: &BTreeMap<String, String>) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    for (section, entries) in rawdata.as_object().unwrap() {
        for (name, entry) in entries.as_object().unwrap() {
            if let Some(name) = name.strip_suffix(&format!("@{provider}")) {
                found.insert(format!("{section} {name}"), comparable(entry, addresses));
            }
        }
    }
    found
}

fn differences(docker: &BTreeMap<String, Json>, file: &BTreeMap<String, Json>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = docker.keys().chain(file.keys()).collect();
    let differing = names.into_iter().filter(|name| docker.get(*name) != file.get(*name));
    let shown = |value: Option<&Json>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    differing
        .map(|name| format!("{name}\n  docker: {}\n  ours:   {}", shown(docker.get(name)), shown(file.get(name))))
        .collect()
}

/// The differences that docs/traefik.md admits, taken out of one side. Each must be there, or the page is wrong.
fn known_differences(all: &mut BTreeMap<String, Json>) {
    // The name of a sticky cookie that nobody named is a digest of the service's name with the provider's.
    for service in ["stickyplain", "stickybare"] {
        let name = all
            .get_mut(&format!("services {service}"))
            .and_then(|entry| entry.pointer_mut("/loadBalancer/sticky/cookie/name"));
        if let Some(name) = name {
            assert_eq!(name.as_str().unwrap().len(), 6, "{name}");
            *name = json!("a digest");
        }
    }
}

/// Seen in Traefik's answer, it says that all containers were seen.
fn last_model() -> Model {
    let labels = json!({"traefik.enable": "true", "traefik.http.middlewares.zz-last.addprefix.prefix": "/"});
    let web = json!({"labels": labels, "expose": ["80"]});
    Model { services: [("web".to_owned(), web)].into(), ..Model::default() }
}

fn write(engine: &Engine, publication: &Publication) -> PathBuf {
    let directory = engine.scratch().directory("dynamic");
    for (name, content) in &publication.files {
        fs::write(directory.join(name), content.expose()).unwrap();
    }
    directory
}

/// A value that Traefik takes at this place.
fn sample(leaf: &Leaf, protocol: &str) -> String {
    let service = format!("table-{protocol}");
    match &leaf.kind {
        Kind::Bool | Kind::Group(_) => "true".into(),
        Kind::Int => "3".into(),
        Kind::Duration => "5s".into(),
        Kind::Name(Refers::Service) => service,
        Kind::Name(Refers::TlsOptions) => "default".into(),
        Kind::List(of) if **of == Kind::Name(Refers::EntryPoint) => "web".into(),
        Kind::List(_) => "a,b".into(),
        Kind::Text if leaf.label.ends_with(".port") => "3".into(),
        _ => "x".into(),
    }
}

/// A path of the table with the names filled in.
fn filled(path: &str, name: &str) -> String {
    let path = path.replacen("<name>", name, 1).replace("<name>", "418");
    path.replace("[n]", "[0]")
}

/// A label for every line of the table that labels can say, each on something of its own.
fn every_label() -> Case {
    let mut labels: BTreeMap<String, String> = [("traefik.enable".to_owned(), "true".to_owned())].into();
    for protocol in ["http", "tcp", "udp"] {
        labels.insert(format!("traefik.{protocol}.services.table-{protocol}.loadbalancer.server.port"), "80".into());
    }
    for (number, leaf) in Schema::known().leaves().iter().enumerate() {
        if leaf.speaker == Speaker::FileOnly {
            continue;
        }
        let protocol = leaf.label.split('.').next().unwrap();
        let name = if protocol == "tls" { "default".to_owned() } else { format!("table-{number}") };
        let mut set = |path: &str, value: &str| {
            labels.entry(format!("traefik.{path}")).or_insert_with(|| value.to_owned()).clone()
        };
        set(&filled(&leaf.label, &name), &sample(leaf, protocol));
        match leaf.label.split('.').nth(1) {
            Some("routers") => {
                set(&format!("{protocol}.routers.{name}.service"), &format!("table-{protocol}"));
                if protocol == "tcp" {
                    set(&format!("tcp.routers.{name}.rule"), "HostSNI(`*`)");
                }
            }
            Some("services") if !leaf.label.ends_with("server.url") => {
                _ = set(&format!("{protocol}.services.{name}.loadbalancer.server.port"), "80");
            }
            _ => {}
        }
    }
    assert!(labels.len() > 300, "{}", labels.len());
    let web = json!({"image": "lab/idle:1", "labels": labels});
    Case {
        name: "table".into(),
        refused: None,
        model: Model { services: [("all".to_owned(), web)].into(), ..Model::default() },
    }
}

/// A dynamic file with every line of the table that only files can say, and the keys that must be seen in Traefik.
fn every_file_only_key() -> (Json, Vec<(String, String)>) {
    let mut root = json!({});
    let mut expected = Vec::new();
    for (number, leaf) in
        Schema::known().leaves().iter().enumerate().filter(|(_, leaf)| leaf.speaker == Speaker::FileOnly)
    {
        let path = filled(&leaf.file, &format!("only-{number}")).replace("[0]", ".0");
        let protocol = path.split('.').next().unwrap().to_owned();
        let value = match &leaf.kind {
            Kind::Bool => json!(true),
            Kind::Int => json!(3),
            Kind::List(_) => json!(["a"]),
            Kind::Group(_) => json!({}),
            _ => json!(sample(leaf, &protocol)),
        };
        put(&mut root, &path.split('.').collect::<Vec<_>>(), value);
        let section = path.split('.').nth(1).unwrap();
        // Traefik's answer has neither TLS nor servers transports.
        if ["routers", "services", "middlewares"].contains(&section) {
            let mut name = section.to_owned();
            if protocol != "http" {
                name = format!("{protocol}{}{}", section[..1].to_uppercase(), &section[1..]);
            }
            expected.push((
                format!("{name} only-{number}"),
                path.rsplit('.').find(|key| key.parse::<u8>().is_err()).unwrap().to_owned(),
            ));
        }
    }
    (root, expected)
}

fn put(root: &mut Json, path: &[&str], value: Json) {
    match path {
        [] => *root = value,
        ["0", rest @ ..] => {
            if !root.is_array() {
                *root = json!([{}]);
            }
            put(&mut root[0], rest, value);
        }
        [key, rest @ ..] => {
            if !root.is_object() {
                *root = Json::Object(Map::new());
            }
            put(&mut root[*key], rest, value);
        }
    }
}

fn holds_key(value: &Json, key: &str) -> bool {
    match value {
        Json::Object(fields) => fields.contains_key(key) || fields.values().any(|field| holds_key(field, key)),
        Json::Array(items) => items.iter().any(|item| holds_key(item, key)),
        _ => false,
    }
}

#[test]
fn labels_say_the_same_through_the_docker_provider_and_through_our_files() {
    let engine = Arc::new(Engine::start());
    engine.image("lab/idle:1", &Image::idle());
    let mut cases = corpus(&engine);
    assert!(cases.len() >= 60, "{}", cases.len());
    cases.push(every_label());
    let mut definitions = Vec::new();
    for case in &cases {
        let found = translated(case);
        let said: Vec<String> = found.mistakes.iter().map(ToString::to_string).collect();
        match &case.refused {
            None => assert!(said.is_empty(), "{}: {said:?}", case.name),
            Some(words) => assert!(said.iter().any(|said| said.contains(words.as_str())), "{}: {said:?}", case.name),
        }
        if case.refused.is_none() {
            definitions.extend(found.definitions);
        }
    }
    // An engine waits more than it works when it starts a container.
    std::thread::scope(|scope| {
        for share in cases.chunks(cases.len() / 4 + 1) {
            let engine = &engine;
            scope.spawn(move || share.iter().for_each(|case| run_containers(engine, &case.name, &case.model)));
        }
    });
    run_containers(&engine, "zz-last", &last_model());
    let publication = publish::publish(&Told { definitions, ..Told::default() }, &DigestKey::new(vec![1; 32]), 0);
    let directory = write(&engine, &publication);
    let (only_in_files, expected) = every_file_only_key();
    fs::write(directory.join("only.yaml"), publish::text(&only_in_files)).unwrap();

    let by_docker = [
        format!("--providers.docker.endpoint={}", engine.host()),
        "--providers.docker.exposedByDefault=false".to_owned(),
    ];
    let docker = Traefik::start(&engine, "docker", 8100, &by_docker);
    let by_file = [format!("--providers.file.directory={}", directory.display())];
    let file = Traefik::start(&engine, "file", 8200, &by_file);
    let addresses = addresses(&engine);
    let mut by_docker = of_provider(&docker.rawdata_with("zz-last@docker"), "docker", &addresses);
    let marker = format!("{}@file", publication.marker);
    let mut by_file = of_provider(&file.rawdata_with(&marker), "file", &addresses);

    for (name, key) in expected {
        let entry = by_file.get(&name).unwrap_or_else(|| panic!("Traefik does not know {name}"));
        assert!(holds_key(entry, &key), "{name}: Traefik did not understand `{key}`: {entry}");
    }
    for (name, entry) in &by_docker {
        assert!(!name.contains("outers bad-"), "Traefik routes to what we refuse: {name}: {entry}");
    }
    let of_interest = |name: &String, _: &mut Json| {
        !["zz-last", "moorline-gen", " only-", "bad-"].iter().any(|part| name.contains(part))
    };
    for side in [&mut by_docker, &mut by_file] {
        side.retain(of_interest);
        known_differences(side);
    }
    assert!(by_docker.len() > 400, "{}", by_docker.len());
    let differences = differences(&by_docker, &by_file);
    assert!(
        differences.is_empty(),
        "{} differences:\n{}\n--- the docker provider's log\n{}",
        differences.len(),
        differences.join("\n"),
        docker.log().lines().filter(|line| line.contains("ERR")).collect::<Vec<_>>().join("\n")
    );
}
