//! Says what a service does without and will be missed one day. Advice, not a mistake: a host accepts it.

use serde_json::Value as Json;

use crate::decide::drift::is_awaited;

/// Advice about the services of a Compose file as it is written: the service, and what it lacks. One-shots need none of
/// it, and of a service that takes its definition from elsewhere nothing is known here.
pub fn of_file(file: &Json) -> Vec<(String, String)> {
    let services = file.get("services").and_then(Json::as_object);
    let lacks = |(name, service): (&String, &Json)| {
        let is_one_shot = is_awaited(services?.values(), name) || is_never_restarted(service);
        let lacks = if is_one_shot || service.get("extends").is_some() { Vec::new() } else { lacks(service) };
        (!lacks.is_empty()).then(|| (name.clone(), lacks.join("; ")))
    };
    services.into_iter().flatten().filter_map(lacks).collect()
}

fn is_never_restarted(service: &Json) -> bool {
    service.get("restart").and_then(Json::as_str) == Some("no")
}

fn lacks(service: &Json) -> Vec<&'static str> {
    let mut lacks = Vec::new();
    if service.get("restart").is_none() && service.pointer("/deploy/restart_policy").is_none() {
        lacks.push("no `restart:`, so nobody starts it again when it ends");
    }
    if service.get("healthcheck").is_none() {
        lacks.push("no `healthcheck:`, unless its image has one");
    }
    let driver = service.pointer("/logging/driver").and_then(Json::as_str).unwrap_or("json-file");
    if driver == "json-file" && service.pointer("/logging/options/max-size").is_none() {
        lacks.push("no `max-size` for its log, unless the engine's own settings have one");
    }
    lacks
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lacking(file: &Json) -> Vec<(String, usize)> {
        of_file(file).into_iter().map(|(service, lacks)| (service, lacks.split("; ").count())).collect()
    }

    #[test]
    fn only_what_serves_and_lacks_something_is_named() {
        let bounded = json!({ "options": { "max-size": "10m" } });
        let file = json!({ "services": {
            "app": { "depends_on": { "migrate": { "condition": "service_completed_successfully" } } },
            "migrate": {},
            "job": { "restart": "no" },
            "other": { "extends": { "file": "x", "service": "y" } },
            "swarm": { "deploy": { "restart_policy": {} }, "healthcheck": { "disable": true }, "logging": bounded },
            "quiet": { "restart": "always", "healthcheck": {}, "logging": { "driver": "local" } },
            "loud": { "restart": "always", "healthcheck": {}, "logging": { "driver": "json-file", "options": {} } },
        }});
        assert_eq!(lacking(&file), [("app".to_owned(), 3), ("loud".to_owned(), 1)]);
        assert_eq!(lacking(&json!({ "services": null })), []);
    }
}
