//! The routes of a host as a person wants to see them: what leads where, through what, and from which line.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value as Json;

use super::definition::Definition;
use super::host::{STACK, Stack, Told, traefik_service};
use super::publish::{self, State};
use super::statics::{API_ENTRY_POINT, Static};

/// The state of a route when Traefik was not asked.
const UNKNOWN: &str = "unknown";

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// `http`, `tcp` or `udp`.
    pub protocol: String,
    /// The router's name.
    pub name: String,
    /// What it matches; nothing for udp.
    pub rule: Option<String>,
    /// Where it listens.
    pub entry_points: Vec<String>,
    /// Whether it ends TLS.
    pub tls: bool,
    /// Who gets its certificate.
    pub resolver: Option<String>,
    /// What a request passes, in this order; those of the entry point first.
    pub middlewares: Vec<String>,
    /// The service, and its servers where they are known.
    pub service: String,
    /// The addresses of its servers.
    pub targets: Vec<String>,
    /// `enabled`, `disabled`, `absent` or `unknown`: as Traefik sees it.
    pub state: &'static str,
    /// Why, unless it is enabled.
    pub because: Vec<String>,
    /// The stack that defines it.
    pub stack: String,
    /// The file in the repository.
    pub path: String,
    /// The line.
    pub line: Option<usize>,
}

/// What Traefik answered, or why it was not asked.
pub type Answer<'a> = Result<&'a Json, String>;

/// Every route, sorted by protocol and name.
pub fn routes(told: &Told, answer: &Answer<'_>) -> Vec<Route> {
    let routers = told.definitions.iter().filter(|definition| definition.section == "routers");
    let mut routes: Vec<Route> = routers.map(|router| route(router, told, answer)).collect();
    routes.sort_by(|one, two| (&one.protocol, &one.name).cmp(&(&two.protocol, &two.name)));
    routes
}

fn route(router: &Definition, told: &Told, answer: &Answer<'_>) -> Route {
    let text = |pointer: &str| router.value.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
    let none = Static::default();
    let statics = told.statics.as_ref().unwrap_or(&none);
    let mut entry_points = words(&router.value, "entryPoints");
    if entry_points.is_empty() {
        entry_points = statics.default_entry_points(router.protocol == "udp").into_iter().map(str::to_owned).collect();
    }
    let entered: Vec<_> = entry_points.iter().filter_map(|name| statics.entry_points.get(name)).collect();
    let is_http = router.protocol == "http";
    let inherited = || entered.iter().filter(|_| is_http).find_map(|entry_point| entry_point.resolver.clone());
    let resolver =
        text("/tls/certResolver").or_else(|| if router.value.get("tls").is_none() { inherited() } else { None });
    let mut middlewares: Vec<String> = Vec::new();
    for name in entered.iter().filter(|_| is_http).flat_map(|entry_point| &entry_point.middlewares) {
        if !middlewares.contains(name) {
            middlewares.push(name.clone());
        }
    }
    middlewares.extend(words(&router.value, "middlewares"));
    let service = text("/service").unwrap_or_default();
    let (state, because) = match answer {
        Err(why) => (UNKNOWN, vec![why.clone()]),
        Ok(rawdata) => match publish::state(rawdata, &router.protocol, &router.name) {
            State::Enabled => ("enabled", Vec::new()),
            State::Disabled(because) => ("disabled", because),
            State::Absent => ("absent", vec!["Traefik does not know it".to_owned()]),
        },
    };
    Route {
        protocol: router.protocol.clone(),
        name: router.name.clone(),
        rule: text("/rule"),
        tls: router.value.get("tls").is_some() || resolver.is_some(),
        entry_points,
        resolver,
        middlewares,
        targets: targets(&told.definitions, &router.protocol, &service, &mut BTreeSet::new()),
        service,
        state,
        because,
        stack: router.stack.clone(),
        path: router.path.clone(),
        line: router.line("rule").or_else(|| router.line("")),
    }
}

fn words(value: &Json, key: &str) -> Vec<String> {
    let words = value.get(key).and_then(Json::as_array).into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The servers of a service, through weighted and other services of services.
fn targets(definitions: &[Definition], protocol: &str, service: &str, seen: &mut BTreeSet<String>) -> Vec<String> {
    let name = service.strip_suffix("@file").unwrap_or(service);
    if !seen.insert(name.to_owned()) {
        return Vec::new();
    }
    let is_meant = |one: &&Definition| one.protocol == protocol && one.section == "services" && one.name == name;
    let Some(found) = definitions.iter().find(is_meant) else { return Vec::new() };
    let servers = found.value.pointer("/loadBalancer/servers").and_then(Json::as_array).into_iter().flatten();
    let own = servers.filter_map(|server| server.get("url").or(server.get("address"))?.as_str().map(str::to_owned));
    let mut all: Vec<String> = own.collect();
    let others = found.references();
    for (_, _, name) in others.iter().filter(|(_, refers, _)| *refers == super::schema::Refers::Service) {
        all.extend(targets(definitions, protocol, name, seen));
    }
    all
}

/// Where Traefik's API answers on this host, or why nobody can ask it: a port that is published on loopback.
pub fn api(stacks: &[Stack<'_>], told: &Told) -> Result<String, String> {
    let traefik = stacks.iter().find(|stack| stack.inputs.stack == STACK);
    let (Some(traefik), Some(statics)) = (traefik, &told.statics) else {
        return Err(format!("this host has no stack `{STACK}`"));
    };
    let entry_point = if statics.api_is_insecure {
        API_ENTRY_POINT.to_owned()
    } else {
        let serves = |one: &&Definition| {
            let is_router = one.protocol == "http" && one.section == "routers";
            is_router && one.value.get("service").and_then(Json::as_str) == Some("api@internal")
        };
        // One that asks for a host name or a password is for people.
        let is_open = |one: &&Definition| {
            let rule = one.value.get("rule").and_then(Json::as_str).unwrap_or_default();
            !rule.contains("Host")
        };
        let router = told.definitions.iter().filter(serves).find(is_open);
        let router = router.ok_or("no router without a host name leads to `api@internal`")?;
        words(&router.value, "entryPoints").into_iter().next().unwrap_or_default()
    };
    let port = statics.entry_points.get(&entry_point).and_then(|found| found.port);
    let port = port.ok_or_else(|| format!("the port of entry point `{entry_point}` is not known"))?;
    let service = traefik_service(traefik.model).and_then(|name| traefik.model.services.get(name));
    let service = service.ok_or("no service is Traefik")?;
    if service.get("network_mode").and_then(Json::as_str) == Some("host") {
        return Ok(format!("http://127.0.0.1:{port}"));
    }
    let published = service.get("ports").and_then(Json::as_array).into_iter().flatten().find_map(|one| {
        let is_meant = one.get("target")?.as_u64()? == u64::from(port);
        let address = one.get("host_ip").and_then(Json::as_str).unwrap_or("0.0.0.0");
        let loopback = ["127.0.0.1", "0.0.0.0"].contains(&address);
        let text = one.get("published")?;
        let published = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
        (is_meant && loopback).then_some(published)
    });
    let published =
        published.ok_or_else(|| format!("port {port} of entry point `{entry_point}` is not published on 127.0.0.1"))?;
    Ok(format!("http://127.0.0.1:{published}"))
}

/// The routes as text.
pub fn as_text(routes: &[Route]) -> String {
    let mut text = String::new();
    for route in routes {
        let protocol = if route.protocol == "http" { String::new() } else { format!("{} ", route.protocol) };
        let rule = route.rule.as_deref().unwrap_or("everything");
        text.push_str(&format!("{protocol}{}: {rule}\n", route.name));
        let certificate = match (&route.resolver, route.tls) {
            (Some(resolver), _) => format!(", certificate from {resolver}"),
            (None, true) => ", tls".to_owned(),
            (None, false) => String::new(),
        };
        text.push_str(&format!("  on {}{certificate}\n", route.entry_points.join(", ")));
        if !route.middlewares.is_empty() {
            text.push_str(&format!("  through {}\n", route.middlewares.join(", ")));
        }
        let targets = match route.targets.as_slice() {
            [] => route.service.clone(),
            targets => targets.join(", "),
        };
        text.push_str(&format!("  to {targets}\n"));
        // Why nothing is known is the same for all of them, and stands above.
        if route.state != UNKNOWN {
            let because =
                if route.because.is_empty() { String::new() } else { format!(": {}", route.because.join("; ")) };
            text.push_str(&format!("  {}{because}\n", route.state));
        }
        let line = route.line.map(|line| format!(":{line}")).unwrap_or_default();
        text.push_str(&format!("  from {}{line}\n", route.path));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::decide::digest::DigestKey;
    use crate::decide::traefik::host;
    use crate::model::{File, Inputs, Model};
    use serde_json::json;

    const DASHBOARD: &str =
        "http: {routers: {api: {rule: 'PathPrefix(`/api`)', service: api@internal, entryPoints: [ops]}}}";

    fn with<T>(service: Json, check: impl FnOnce(&[Stack<'_>], &Told) -> T) -> T {
        let files = [("dynamic/a.yaml".to_owned(), File::plain(DASHBOARD))].into();
        let inputs = Inputs { stack: "traefik".into(), files, environment: BTreeMap::new(), digest: String::new() };
        let model = Model { services: [("traefik".to_owned(), service)].into(), ..Model::default() };
        let stacks = [Stack { inputs: &inputs, model: &model, directory: "/s/traefik" }];
        let told = host::tell(&stacks, &DigestKey::new(vec![0; 32]), host::Sight::Whole, &|_, _| None);
        assert!(told.statics.is_some(), "{:?}", told.mistakes);
        check(&stacks, &told)
    }

    #[test]
    fn the_api_is_found_where_it_is_published_on_loopback() {
        let service = |port: Json| json!({"command": ["--entryPoints.ops.address=:8080"], "ports": [port]});
        let at = |port: Json| with(service(port), api);
        let loopback = json!({"target": 8080, "published": "9000", "host_ip": "127.0.0.1"});
        assert_eq!(at(loopback).as_deref(), Ok("http://127.0.0.1:9000"));
        let elsewhere = json!({"target": 8080, "published": "9000", "host_ip": "192.0.2.1"});
        assert!(at(elsewhere).unwrap_err().contains("not published on 127.0.0.1"));
        let other = json!({"target": 80, "published": "80"});
        assert!(at(other).unwrap_err().contains("port 8080 of entry point `ops`"));
        let insecure = json!({"command": ["--api.insecure", "--entryPoints.ops.address=:1"], "network_mode": "host"});
        let found = with(insecure, api);
        assert_eq!(found.as_deref(), Ok("http://127.0.0.1:8080"));
    }

    #[test]
    fn a_route_has_the_state_that_traefik_gives_it() {
        let service = json!({"command": ["--entryPoints.ops.address=:8080"]});
        with(service, |_, told| {
            let disabled = json!({"routers": {"api@file": {"status": "disabled", "error": ["no"]}}});
            let found = routes(told, &Ok(&disabled));
            assert_eq!((found[0].state, found[0].because.as_slice()), ("disabled", ["no".to_owned()].as_slice()));
            assert!(as_text(&found).contains("  disabled: no\n"));
            assert_eq!(routes(told, &Ok(&json!({})))[0].state, "absent");
            assert_eq!(routes(told, &Err("why".into()))[0].state, "unknown");
        });
    }
}
