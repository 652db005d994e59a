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

use moorline::decide::digest::DigestKey;
use moorline::decide::traefik::schema::{Kind, Refers, Schema, Speaker};
use moorline::decide::traefik::translate::Translated;
use moorline::decide::traefik::{definition, publish, service, translate};
use moorline::decide::compose;
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
        Case { name, refused, model: compose::read_model(yaml.as_bytes(), "/nowhere", "/nowhere").unwrap() }
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
fn comparable(value: &Json, provider: &str, addresses: &BTreeMap<String, String>) -> Json {
    let renamed = |text: &str| {
        let mut text = text.replace("@docker", "@file").replace("@file", "");
        if let Some((before, rest)) = text.split_once("://").or_else(|| Some(("", text.as_str())))
            && let Some((address, port)) = rest.rsplit_once(':')
            && let Some(name) = addresses.get(address)
        {
            let scheme = if before.is_empty() { String::new() } else { format!("{before}://") };
            text = format!("{scheme}{name}:{port}");
        }
        text
    };
    match value {
        Json::String(text) => Json::String(renamed(text)),
        Json::Array(items) => {
            let mut items: Vec<Json> = items.iter().map(|item| comparable(item, provider, addresses)).collect();
            if items.iter().all(|item| item.get("url").or(item.get("address")).is_some()) {
                items.sort_by_key(ToString::to_string);
            }
            Json::Array(items)
        }
        Json::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !["serverStatus", "usedBy"].contains(&key.as_str()));
            // Sorted: neither provider promises an order.
            let kept: BTreeMap<String, Json> =
                kept.map(|(key, field)| (renamed(key), comparable(field, provider, addresses))).collect();
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
                found.insert(format!("{section} {name}"), comparable(entry, provider, addresses));
            }
        }
    }
    found
}

fn differences(docker: &BTreeMap<String, Json>, file: &BTreeMap<String, Json>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = docker.keys().chain(file.keys()).collect();
    let differing = names.into_iter().filter(|name| docker.get(*name) != file.get(*name));
    let shown = |value: Option<&Json>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    differing.map(|name| format!("{name}\n  docker: {}\n  ours:   {}", shown(docker.get(name)), shown(file.get(name)))).collect()
}

/// Starts both and compares what they know.
fn compare(engine: &Arc<Engine>, directory: &Path, marker: &str) -> Vec<String> {
    run_containers(engine, "zz-last", &last_model());
    let docker = Traefik::start(
        engine,
        "docker",
        8100,
        &[
            format!("--providers.docker.endpoint={}", engine.host()),
            "--providers.docker.exposedByDefault=false".to_owned(),
        ],
    );
    let file =
        Traefik::start(engine, "file", 8200, &[format!("--providers.file.directory={}", directory.display())]);
    let addresses = addresses(engine);
    let by_docker = of_provider(&docker.rawdata_with("zz-last@docker"), "docker", &addresses);
    let by_file = of_provider(&file.rawdata_with(&format!("{marker}@file")), "file", &addresses);
    assert!(!file.log().contains("Error occurred during watcher callback"), "{}", file.log());
    let ours = |(name, _): &(&String, &Json)| !name.contains("zz-last") && !name.contains("moorline-gen");
    let clean = |all: &BTreeMap<String, Json>| -> BTreeMap<String, Json> {
        all.iter().filter(ours).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    differences(&clean(&by_docker), &clean(&by_file))
}

/// Seen in Traefik's answer, it says that all containers were seen.
fn last_model() -> Model {
    let labels = json!({"traefik.enable": "true", "traefik.http.middlewares.zz-last.addprefix.prefix": "/"});
    let web = json!({"labels": labels, "expose": ["80"]});
    Model { services: [("web".to_owned(), web)].into(), ..Model::default() }
}

fn write(engine: &Engine, files: &publish::Publication) -> PathBuf {
    let directory = engine.scratch().directory("dynamic");
    for (name, content) in &files.files {
        fs::write(directory.join(name), &content.bytes).unwrap();
    }
    directory
}

#[test]
fn the_corpus_says_the_same_through_the_docker_provider_and_through_our_files() {
    let engine = Arc::new(Engine::start());
    engine.image("lab/idle:1", &Image::idle());
    let corpus = corpus(&engine);
    assert!(corpus.len() >= 60, "{}", corpus.len());
    let mut definitions = Vec::new();
    for case in &corpus {
        let found = translated(case);
        let said: Vec<String> = found.mistakes.iter().map(ToString::to_string).collect();
        match &case.refused {
            None => assert!(said.is_empty(), "{}: {said:?}", case.name),
            Some(words) => assert!(said.iter().any(|said| said.contains(words.as_str())), "{}: {said:?}", case.name),
        }
        if case.refused.is_none() {
            definitions.extend(found.definitions);
        }
        run_containers(&engine, &case.name, &case.model);
    }
    let publication = publish::publish(&definitions, &[], &DigestKey::new(vec![1; 32]));
    let directory = write(&engine, &publication);
    let differences = compare(&engine, &directory, &publication.marker);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
