//! Makes of a stack's labels what Traefik's Docker provider would make of its containers.
//!
//! The rules are those of `pkg/provider/docker` of Traefik 3.7; tests/real_traefik_labels.rs compares with it.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::definition::{self, Definition, Source};
use super::label::{self, Labels, Said};
use super::scalar;
use super::service::Service;
use crate::decide::mistake::Mistake;

/// The protocols that have servers.
const PROTOCOLS: [&str; 3] = ["http", "tcp", "udp"];

/// The names under which Traefik reaches the containers of a service. A start-first deploy names the new ones.
pub type Targets<'a> = &'a dyn Fn(&str) -> Vec<String>;

/// What a stack's labels say, or every reason why not.
#[derive(Debug, Default)]
pub struct Translated {
    /// What goes into the stack's file.
    pub definitions: Vec<Definition>,
    /// What is refused.
    pub mistakes: Vec<Mistake>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Whether a service asks for routes. There is no `exposedByDefault`: with it every database would get a route.
pub fn is_enabled(labels: &Labels) -> Option<Result<bool, String>> {
    label::aside(labels, "traefik.enable").map(|(_, label)| {
        scalar::boolean(&label.text).ok_or_else(|| format!("`{}` is not `true` or `false`", label.text))
    })
}

/// Translates the labels of one stack.
pub fn translate(stack: &str, services: &BTreeMap<String, Service>, targets: Targets<'_>) -> Translated {
    let path = format!("stacks/{stack}/compose.yaml");
    let mut translated = Translated::default();
    for (name, service) in services {
        let refuse = |label: &str, text: &str| {
            let line = service.labels.get(label).and_then(|label| label.line);
            Mistake::at(&path, line, format!("service `{name}`, label `{label}`: {text}"))
        };
        match is_enabled(&service.labels) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => continue,
            Some(Err(text)) => {
                translated.mistakes.push(refuse("traefik.enable", &text));
                continue;
            }
            None if service.labels.is_empty() => continue,
            None => {
                let text = "has traefik.* labels but not `traefik.enable: \"true\"`, so it gets no route";
                translated.notes.push(format!("{path}: service `{name}` {text}"));
                continue;
            }
        }
        let mut said = label::read(&service.labels);
        if !said.wrong.is_empty() {
            // What would follow from half of the labels is of no use to anybody.
            translated.mistakes.extend(said.wrong.iter().map(|wrong| refuse(&wrong.label, &wrong.text)));
            continue;
        }
        let mut building = Building { stack, name, service, services, targets, refused: Vec::new() };
        building.build(&mut said);
        for (label, text) in building.refused {
            match label {
                Some(label) => translated.mistakes.push(refuse(&label, &text)),
                None => translated.mistakes.push(Mistake::at(
                    &path,
                    service.labels.values().filter_map(|label| label.line).min(),
                    format!("service `{name}`: {text}"),
                )),
            }
        }
        let source = Source::Labels { service: name.clone() };
        for definition in definition::definitions(&said.root, &said.lines, stack, &path, &source) {
            add(&mut translated, definition);
        }
    }
    translated
}

/// The same name twice: services that differ in their servers only become one, what is equal stays once, and anything
/// else is refused. Traefik would drop all of them.
fn add(translated: &mut Translated, new: Definition) {
    let same =
        |old: &&mut Definition| old.protocol == new.protocol && old.section == new.section && old.name == new.name;
    let Some(old) = translated.definitions.iter_mut().find(same) else {
        translated.definitions.push(new);
        return;
    };
    if old.value == new.value {
        return;
    }
    let without_servers = |value: &Json| {
        let mut value = value.clone();
        value.get_mut("loadBalancer").and_then(Json::as_object_mut).map(|balancer| balancer.remove("servers"));
        value
    };
    if new.section == "services" && without_servers(&old.value) == without_servers(&new.value) {
        let more = new.value.pointer("/loadBalancer/servers").and_then(Json::as_array).cloned().unwrap_or_default();
        if let Some(Json::Array(servers)) = old.value.pointer_mut("/loadBalancer/servers") {
            let is_new = |server: &Json| !servers.contains(server);
            let more: Vec<Json> = more.into_iter().filter(is_new).collect();
            servers.extend(more);
        }
        return;
    }
    let of = |source: &Source| match source {
        Source::Labels { service } => format!("service `{service}`"),
        Source::File => "a file".to_owned(),
    };
    let text = format!("{}: {} is defined by {} in another way", of(&new.source), new.title(), of(&old.source));
    translated.mistakes.push(Mistake::at(&new.path, new.line(""), text));
}

struct Building<'a> {
    stack: &'a str,
    name: &'a str,
    service: &'a Service,
    services: &'a BTreeMap<String, Service>,
    targets: Targets<'a>,
    /// The label, where one is to blame.
    refused: Vec<(Option<String>, String)>,
}

impl Building<'_> {
    fn build(&mut self, said: &mut Said) {
        if let Some((label, _)) = label::aside(&self.service.labels, "traefik.docker.allownonrunning") {
            let text = "a route appears when its service passed its gate, and not before";
            self.refused.push((Some(label.to_owned()), text.to_owned()));
        }
        let has = |said: &Said, protocol: &str, section: &str| {
            let found = said.root.get(protocol).and_then(|sections| sections.get(section)?.as_object());
            found.is_some_and(|entries| !entries.is_empty())
        };
        let asks = |said: &Said, protocol: &str| has(said, protocol, "routers") || has(said, protocol, "services");
        let other = asks(said, "tcp") || asks(said, "udp");
        let http = asks(said, "http") || has(said, "http", "middlewares");
        for protocol in PROTOCOLS {
            // A container without a word about tcp and udp is a web server.
            let wanted = if protocol == "http" { http || !other } else { asks(said, protocol) };
            if wanted {
                self.add_servers(said, protocol);
                self.wire_routers(said, protocol);
            }
        }
    }

    /// `web` of the stack `my_shop` is `web-my-shop`: what the Docker provider makes of Compose's names.
    fn default_name(&self) -> String {
        let name = format!("{}_{}", self.name, self.stack);
        let words = name.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    }

    fn add_servers(&mut self, said: &mut Said, protocol: &str) {
        let default = self.default_name();
        let services = entries(said, protocol, "services");
        if services.is_empty() {
            services.insert(default, json!({ "loadBalancer": {} }));
        }
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            let services = entries(said, protocol, "services");
            let Some(balancer) = services[&name].get("loadBalancer").cloned() else {
                self.refused.push((None, format!("service `{name}` of Traefik has no `loadbalancer`")));
                continue;
            };
            match self.servers(&name, protocol, &balancer) {
                Ok(servers) => {
                    services[&name]["loadBalancer"]["servers"] = Json::Array(servers);
                }
                Err(text) => self.refused.push((None, text)),
            }
        }
    }

    fn servers(&self, name: &str, protocol: &str, balancer: &Json) -> Result<Vec<Json>, String> {
        let template = balancer.pointer("/servers/0").and_then(Json::as_object).cloned().unwrap_or_default();
        let taken = |key: &str| template.get(key).and_then(Json::as_str).map(str::to_owned);
        let (port, scheme) = (taken("port"), taken("scheme"));
        if template.contains_key("url") {
            return match (port, scheme) {
                (None, None) => Ok(vec![Json::Object(template)]),
                _ => Err(format!("service `{name}` of Traefik has a url, so it can have neither port nor scheme")),
            };
        }
        let (targets, ports) = self.reachable()?;
        let Some(port) = port.or_else(|| ports.first().map(u16::to_string)) else {
            let label = format!("traefik.{protocol}.services.{name}.loadbalancer.server.port");
            return Err(format!("no port is known: set `{label}`, since what the image exposes is not looked at"));
        };
        if port.parse::<u16>().map_or(true, |number| number == 0) {
            return Err(format!("service `{name}` of Traefik: `{port}` is not a port"));
        }
        let server = |target: String| {
            let mut server: Map<String, Json> = template.clone();
            server.remove("port");
            server.remove("scheme");
            let address = format!("{target}:{port}");
            match protocol {
                "http" => {
                    let scheme = scheme.as_deref().unwrap_or("http");
                    server.insert("url".into(), json!(format!("{scheme}://{address}")));
                }
                _ => _ = server.insert("address".into(), json!(address)),
            }
            Json::Object(server)
        };
        Ok(targets.into_iter().map(server).collect())
    }

    /// The names of the containers, and their ports. Whoever lives in the network of another service is reached there.
    fn reachable(&self) -> Result<(Vec<String>, Vec<u16>), String> {
        let mode = self.service.network_mode.as_deref().unwrap_or_default();
        let ports = |service: &Service| service.ports.iter().copied().collect();
        match mode.strip_prefix("service:") {
            Some(leader) => match self.services.get(leader) {
                // The container's own ports come first, as with the Docker provider; it usually has none.
                Some(found) if self.service.ports.is_empty() => Ok(((self.targets)(leader), ports(found))),
                Some(_) => Ok(((self.targets)(leader), ports(self.service))),
                None => Err(format!("lives in the network of `{leader}`, which is not in this stack")),
            },
            None if mode == "host" || mode == "none" || mode.starts_with("container:") => {
                Err(format!("`network_mode: {mode}` has no name on a network: write a dynamic file with a url"))
            }
            None => Ok(((self.targets)(self.name), ports(self.service))),
        }
    }

    fn wire_routers(&mut self, said: &mut Said, protocol: &str) {
        let default = self.default_name();
        let services: Vec<String> = entries(said, protocol, "services").keys().cloned().collect();
        if protocol == "http" && entries(said, protocol, "routers").is_empty() && services.len() == 1 {
            entries(said, protocol, "routers").insert(default.clone(), json!({}));
        }
        for (name, router) in entries(said, protocol, "routers").iter_mut() {
            if router.get("rule").and_then(Json::as_str).unwrap_or_default().is_empty() {
                match protocol {
                    "http" => router["rule"] = json!(format!("Host(`{default}`)")),
                    "tcp" => self.refused.push((None, format!("tcp router `{name}` has no rule"))),
                    _ => {}
                }
            }
            if router.get("service").and_then(Json::as_str).unwrap_or_default().is_empty() {
                match services.as_slice() {
                    [only] => router["service"] = json!(only),
                    _ => {
                        let text = format!("router `{name}` must name one of the services {}", services.join(", "));
                        self.refused.push((None, text));
                    }
                }
            }
        }
    }
}

fn entries<'a>(said: &'a mut Said, protocol: &str, section: &str) -> &'a mut Map<String, Json> {
    let empty = || Json::Object(Map::new());
    let protocol = said.root.entry(protocol).or_insert_with(empty);
    if !protocol[section].is_object() {
        protocol[section] = empty();
    }
    match &mut protocol[section] {
        Json::Object(entries) => entries,
        _ => unreachable!("it was made an object above"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::file_of;
    use super::*;

    fn service(labels: &[(&str, &str)]) -> Service {
        let label = |text: &str| label::Label { text: text.to_owned(), line: None };
        Service {
            labels: labels.iter().map(|(key, text)| ((*key).to_owned(), label(text))).collect(),
            ..Service::default()
        }
    }

    fn translated(services: &[(&str, Service)]) -> Translated {
        let services = services.iter().map(|(name, service)| ((*name).to_owned(), service.clone())).collect();
        translate("my_shop", &services, &|service| vec![format!("my_shop-{service}-1")])
    }

    fn file(services: &[(&str, Service)]) -> Json {
        let translated = translated(services);
        assert_eq!(translated.mistakes, []);
        file_of(&translated.definitions)
    }

    #[test]
    fn one_label_is_enough_when_the_port_is_known() {
        let mut web = service(&[("traefik.enable", "true")]);
        web.ports = [8080, 80].into();
        let expected = json!({"http": {
            "services": {"web-my-shop": {"loadBalancer": {"servers": [{"url": "http://my_shop-web-1:80"}]}}},
            "routers": {"web-my-shop": {"rule": "Host(`web-my-shop`)", "service": "web-my-shop"}},
        }});
        assert_eq!(file(&[("web", web)]), expected);
    }

    #[test]
    fn a_service_that_does_not_ask_gets_no_route_and_a_person_is_told() {
        let found = translated(&[("db", service(&[])), ("web", service(&[("traefik.http.routers.a.rule", "x")]))]);
        assert_eq!(found.definitions, []);
        assert_eq!(found.notes.len(), 1);
    }

    #[test]
    fn an_unknown_port_is_refused_with_the_label_to_set() {
        let found = translated(&[("web", service(&[("traefik.enable", "true")]))]);
        let text = &found.mistakes[0].text;
        assert!(text.contains("traefik.http.services.web-my-shop.loadbalancer.server.port"), "{text}");
    }

    #[test]
    fn two_services_behind_one_name_share_its_requests() {
        let labels = [("traefik.enable", "true"), ("traefik.http.services.w.loadbalancer.server.port", "80")];
        let rule = ("traefik.http.routers.w.rule", "Host(`a`)");
        let both = [labels[0], labels[1], rule];
        let found = file(&[("a", service(&both)), ("b", service(&both))]);
        assert_eq!(found["http"]["services"]["w"]["loadBalancer"]["servers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_is_defined_twice_in_two_ways_is_refused() {
        let port = ("traefik.http.services.w.loadbalancer.server.port", "80");
        let with = |rule| service(&[("traefik.enable", "true"), port, ("traefik.http.routers.w.rule", rule)]);
        let found = translated(&[("a", with("Host(`a`)")), ("b", with("Host(`b`)"))]);
        assert_eq!(found.mistakes.len(), 1);
        assert!(found.mistakes[0].text.contains("router `w`"), "{}", found.mistakes[0]);
    }
}
