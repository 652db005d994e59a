//! What routing needs to know of a Compose service, read from the model that Compose resolved.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::label::{self, Label, Labels};
use crate::decide::compose;
use crate::model::Model;

/// One service, as far as routes are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its `traefik.*` labels.
    pub labels: Labels,
    /// The ports inside of the container that the Compose file names, lowest first.
    pub ports: BTreeSet<u16>,
    /// The networks it is in, by their names in the engine.
    pub networks: BTreeSet<String>,
    /// `host`, `service:vpn`, `none`, ...
    pub network_mode: Option<String>,
    /// The names of its containers.
    pub containers: Vec<String>,
}

/// The lines of labels in a Compose file, by service and label.
pub type LabelLines = BTreeMap<(String, String), usize>;

/// The services of a stack.
pub fn services(stack: &str, model: &Model, lines: &LabelLines) -> BTreeMap<String, Service> {
    let read = |(name, service): (&String, &Json)| (name.clone(), read(stack, name, service, model, lines));
    model.services.iter().map(read).collect()
}

fn read(stack: &str, name: &str, service: &Json, model: &Model, lines: &LabelLines) -> Service {
    let labels = service.get("labels").and_then(Json::as_object).into_iter().flatten();
    let labels = labels.filter(|(key, _)| label::is_ours(key)).map(|(key, value)| {
        let line = lines.get(&(name.to_owned(), key.clone())).copied();
        (key.clone(), Label { text: text(value), line })
    });
    Service {
        labels: labels.collect(),
        ports: ports(service),
        networks: networks(stack, service, model),
        network_mode: service.get("network_mode").and_then(Json::as_str).map(str::to_owned),
        containers: containers(stack, name, service),
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

/// What Compose calls the containers (checked with 2.40): the engine's DNS answers to these names on every network of
/// the container.
fn containers(stack: &str, name: &str, service: &Json) -> Vec<String> {
    if let Some(own) = service.get("container_name").and_then(Json::as_str) {
        return vec![own.to_owned()];
    }
    (1..=compose::replicas(service)).map(|number| format!("{stack}-{name}-{number}")).collect()
}

/// `ports` and `expose`. What the image exposes besides is not in the model.
fn ports(service: &Json) -> BTreeSet<u16> {
    let list = |key: &str| service.get(key).and_then(Json::as_array).into_iter().flatten();
    let published =
        list("ports").filter_map(|port| port.get("target")?.as_u64()).filter_map(|port| port.try_into().ok());
    let exposed = list("expose").filter_map(|port| {
        let port = text(port);
        port.split(['/', '-']).next()?.parse().ok()
    });
    published.chain(exposed).collect()
}

fn networks(stack: &str, service: &Json, model: &Model) -> BTreeSet<String> {
    let engine_name = |key: &str| {
        let stated = model.networks.get(key).and_then(|network| network.get("name")?.as_str());
        stated.map_or_else(|| format!("{stack}_{key}"), str::to_owned)
    };
    match service.get("networks") {
        Some(Json::Object(joined)) => joined.keys().map(|key| engine_name(key)).collect(),
        _ if service.get("network_mode").is_some() => BTreeSet::new(),
        _ => [engine_name("default")].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_networks_and_containers_are_those_of_the_model() {
        let service = json!({
            "ports": [{"target": 8080, "published": "80"}], "expose": ["9000-9002", "3000/tcp"], "scale": 2,
            "networks": {"edge": null, "inside": null}, "labels": {"traefik.enable": "true", "other": "x"},
        });
        let model = Model {
            services: [("web".to_owned(), service)].into(),
            networks: [("edge".to_owned(), json!({"name": "edge", "external": true}))].into(),
            ..Model::default()
        };
        let lines = [(("web".to_owned(), "traefik.enable".to_owned()), 7)].into();
        let web = &services("shop", &model, &lines)["web"];
        assert_eq!(web.ports, [3000, 8080, 9000].into());
        assert_eq!(web.networks, ["edge".to_owned(), "shop_inside".to_owned()].into());
        assert_eq!(web.containers, ["shop-web-1", "shop-web-2"]);
        assert_eq!(web.labels.len(), 1);
        assert_eq!(web.labels["traefik.enable"].line, Some(7));
    }
}
