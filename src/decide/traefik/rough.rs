//! Reads a Compose file without Compose, as far as routes are concerned: for `check`, which runs where no plugin is.
//!
//! On a host, Compose resolves the model. What only Compose can follow makes the result incomplete, and then nothing
//! is called missing.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::interpolate;
use super::service::LabelLines;
use super::yaml::{self, Node, Value};
use crate::decide::digest::DigestKey;
use crate::decide::taint;
use crate::model::{Inputs, Model};

/// Keys that bring services or labels from elsewhere.
const FROM_ELSEWHERE: [&str; 2] = ["include", "extends"];

/// A model of what can be seen.
#[derive(Debug, Default)]
pub struct Rough {
    /// Services with labels, ports, networks, command, environment, volumes.
    pub model: Model,
    /// Whether everything could be seen.
    pub is_complete: bool,
}

/// The lines of labels in a stack's Compose file.
pub fn label_lines(inputs: &Inputs) -> LabelLines {
    let Some(root) = root(inputs) else { return LabelLines::new() };
    let mut lines = LabelLines::new();
    for (service, _, definition) in entries(&root, "services") {
        let Some(labels) = definition.get("labels") else { continue };
        for (key, line, _) in labels.entries() {
            lines.insert((service.clone(), key.clone()), *line);
        }
        for item in labels.items() {
            let key = item.text().unwrap_or_default().split('=').next().unwrap_or_default();
            lines.insert((service.clone(), key.to_owned()), item.line);
        }
    }
    lines
}

fn root(inputs: &Inputs) -> Option<Node> {
    yaml::parse(inputs.files.get("compose.yaml")?.text().ok()?).ok()
}

fn entries<'a>(node: &'a Node, key: &str) -> &'a [(String, usize, Node)] {
    node.get(key).map_or(&[], Node::entries)
}

/// Reads `compose.yaml` of a stack; a file that is not YAML is somebody else's mistake. `directory` is where relative
/// paths begin.
pub fn read(inputs: &Inputs, key: &DigestKey, directory: &str) -> Rough {
    let Some(root) = root(inputs) else { return Rough::default() };
    let mut environment = BTreeMap::new();
    if let Some(text) = inputs.files.get(".env").and_then(|file| file.text().ok()) {
        environment = interpolate::env_file(text);
    }
    environment.extend(taint::marked(inputs, key));
    let elsewhere = |node: &Node| FROM_ELSEWHERE.iter().any(|key| node.get(key).is_some());
    let services = entries(&root, "services");
    let is_complete = !elsewhere(&root) && !services.iter().any(|(_, _, service)| elsewhere(service));
    let object = |key: &str| match root.get(key).map(|node| json_of(node, &environment)) {
        Some(Json::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    let mut model = Model { networks: object("networks"), configs: object("configs"), ..Model::default() };
    for (name, network) in &mut model.networks {
        let is_external = network.get("external") == Some(&Json::Bool(true));
        let default = if is_external { name.clone() } else { format!("{}_{name}", inputs.stack) };
        if !network.is_object() {
            *network = json!({});
        }
        if network.get("name").is_none() {
            network["name"] = json!(default);
        }
    }
    for definition in model.configs.values_mut() {
        absolute(definition, "file", directory);
    }
    for (name, _, service) in services {
        let mut service = json_of(service, &environment);
        if service.is_object() {
            normalise(&mut service, directory);
            model.services.insert(name.clone(), service);
        }
    }
    Rough { model, is_complete }
}

fn json_of(node: &Node, environment: &BTreeMap<String, String>) -> Json {
    match &node.value {
        Value::Scalar(..) if node.is_null() => Json::Null,
        Value::Scalar(text, style) => {
            // A variable that is not set is named by the check of variables.
            let filled = interpolate::fill(text, environment).unwrap_or_else(|_| text.clone());
            match (style, filled.as_str()) {
                (yaml::Style::Plain, "true") => json!(true),
                (yaml::Style::Plain, "false") => json!(false),
                (yaml::Style::Plain, text) if text.parse::<u64>().is_ok() => json!(text.parse::<u64>().unwrap_or(0)),
                (_, text) => json!(text),
            }
        }
        Value::List(items) => items.iter().map(|item| json_of(item, environment)).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(name, _, below)| (name.clone(), json_of(below, environment))).collect())
        }
    }
}

/// The short forms as Compose writes them long.
fn normalise(service: &mut Json, directory: &str) {
    for key in ["labels", "environment"] {
        if let Some(Json::Array(items)) = service.get(key) {
            let pair = |item: &Json| {
                let (name, value) = item.as_str()?.split_once('=').or(Some((item.as_str()?, "")))?;
                Some((name.to_owned(), json!(value)))
            };
            service[key] = Json::Object(items.iter().filter_map(pair).collect());
        }
    }
    if let Some(Json::Array(names)) = service.get("networks") {
        let names = names.iter().filter_map(|name| Some((name.as_str()?.to_owned(), Json::Null)));
        service["networks"] = Json::Object(names.collect());
    }
    if let Some(Json::Array(ports)) = service.get("ports") {
        service["ports"] = ports.iter().filter_map(port).collect();
    }
    if let Some(Json::Array(volumes)) = service.get("volumes") {
        let mut volumes: Vec<Json> = volumes.iter().filter_map(volume).collect();
        volumes.iter_mut().for_each(|volume| absolute(volume, "source", directory));
        service["volumes"] = Json::Array(volumes);
    }
    if let Some(Json::Array(configs)) = service.get("configs") {
        let long = |config: &Json| match config {
            Json::String(name) => json!({ "source": name, "target": format!("/{name}") }),
            other => other.clone(),
        };
        service["configs"] = configs.iter().map(long).collect();
    }
}

/// `127.0.0.1:8080:80/tcp`.
fn port(port: &Json) -> Option<Json> {
    let text = match port {
        Json::Object(_) => return Some(port.clone()),
        Json::Number(number) => number.to_string(),
        other => other.as_str()?.to_owned(),
    };
    let text = text.split('/').next()?;
    let (before, target) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, published) = before.rsplit_once(':').unwrap_or(("", before));
    let target: u16 = target.split('-').next()?.parse().ok()?;
    let mut long = Map::new();
    long.insert("target".into(), json!(target));
    if !published.is_empty() {
        long.insert("published".into(), json!(published));
    }
    if !address.is_empty() {
        long.insert("host_ip".into(), json!(address.trim_matches(['[', ']'])));
    }
    Some(Json::Object(long))
}

/// `./dynamic:/etc/traefik/dynamic:ro`.
fn volume(volume: &Json) -> Option<Json> {
    let Json::String(text) = volume else { return Some(volume.clone()) };
    let mut parts = text.split(':');
    let (source, target) = (parts.next()?, parts.next()?);
    let kind = if source.starts_with(['.', '/', '~']) { "bind" } else { "volume" };
    Some(json!({ "type": kind, "source": source, "target": target }))
}

fn absolute(definition: &mut Json, key: &str, directory: &str) {
    if let Some(Json::String(path)) = definition.get_mut(key)
        && let Some(rest) = path.strip_prefix("./")
    {
        *path = format!("{directory}/{rest}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::File;

    fn inputs(text: &str) -> Inputs {
        let files = [("compose.yaml".to_owned(), File::plain(text))].into();
        let domain = crate::model::Value::Plain("example.org".into());
        Inputs {
            stack: "web".into(),
            files,
            environment: [("DOMAIN".to_owned(), domain)].into(),
            digest: String::new(),
        }
    }

    #[test]
    fn short_forms_become_those_of_the_model() {
        let text = "services:\n  a:\n    labels:\n      - traefik.http.routers.a.rule=Host(`${DOMAIN}`)\n    \
                    ports: ['127.0.0.1:8080:80/tcp', 443]\n    volumes: ['./x:/y:ro', data:/z]\n    networks: [edge]\n\
                    networks: {edge: {external: true}, other: }\n";
        let inputs = inputs(text);
        let rough = read(&inputs, &DigestKey::new(vec![0; 32]), "/s/web");
        assert!(rough.is_complete);
        let expected = json!({
            "labels": {"traefik.http.routers.a.rule": "Host(`example.org`)"},
            "ports": [{"target": 80, "published": "8080", "host_ip": "127.0.0.1"}, {"target": 443}],
            "volumes": [{"type": "bind", "source": "/s/web/x", "target": "/y"}, {"type": "volume", "source": "data", "target": "/z"}],
            "networks": {"edge": null},
        });
        assert_eq!(rough.model.services["a"], expected);
        assert_eq!(rough.model.networks["edge"]["name"], "edge");
        assert_eq!(rough.model.networks["other"]["name"], "web_other");
        let label = ("a".to_owned(), "traefik.http.routers.a.rule".to_owned());
        assert_eq!(label_lines(&inputs)[&label], 4);
    }

    #[test]
    fn what_comes_from_elsewhere_makes_it_incomplete() {
        let key = DigestKey::new(vec![0; 32]);
        assert!(!read(&inputs("include: [x.yaml]\n"), &key, "/s").is_complete);
        assert!(!read(&inputs("services: {a: {extends: {service: b}}}\n"), &key, "/s").is_complete);
    }
}
