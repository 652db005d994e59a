//! Decides which services have left a stack, and which of them must go before the others are brought up.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::model::ledger::Begun;
use crate::model::{Applied, DesiredStack, Observed};

/// Services that we brought up and that the stack no longer has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// These hold something that another service needs, as after a renaming: they go first.
    pub first: Vec<String>,
    /// These go when all others work, which may still use them until then.
    pub last: Vec<String>,
}

/// The services that left, of those that have containers.
pub fn services(stack: &DesiredStack, applied: Option<&Applied>, begun: Option<&Begun>, observed: &Observed) -> Gone {
    let worked = applied.map(|applied| &applied.model.services);
    let ours: BTreeSet<&String> = worked
        .into_iter()
        .flat_map(|services| services.keys())
        .chain(begun.into_iter().flat_map(|begun| &begun.services))
        .collect();
    let present: BTreeSet<&str> = observed.of(&stack.name).map(|container| container.service.as_str()).collect();
    let mut gone = Gone::default();
    let needed: BTreeSet<String> = stack.model.services.values().flat_map(claims).collect();
    for service in ours.into_iter().filter(|service| !stack.model.services.contains_key(*service)) {
        if !present.contains(service.as_str()) {
            continue;
        }
        let before = worked.and_then(|services| services.get(service));
        // What a deploy left that did not succeed never served anybody.
        let first = before.is_none_or(|before| !claims(before).is_disjoint(&needed));
        let place = if first { &mut gone.first } else { &mut gone.last };
        place.push(service.clone());
    }
    gone
}

/// What only one container can have, or what two programs must not write to at once: a name, a port of the host, a fixed
/// address, data.
fn claims(service: &Json) -> BTreeSet<String> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let list = |field: &str| service.get(field).and_then(Json::as_array).into_iter().flatten();
    let name = service.get("container_name").map(|name| format!("name {}", text(name)));
    let port = |port: &Json| {
        let protocol = port.get("protocol").map_or_else(|| "tcp".to_owned(), text);
        Some(format!("port {} {protocol}", text(port.get("published")?)))
    };
    let networks = service.get("networks").and_then(Json::as_object).into_iter().flatten();
    let address = |(network, endpoint): (&String, &Json)| {
        let fixed = ["ipv4_address", "ipv6_address"].iter().filter_map(|field| endpoint.get(field));
        fixed.map(|address| format!("address {network} {}", text(address))).collect::<Vec<_>>()
    };
    let data = holds_data(service).into_iter().map(|source| format!("data {source}"));
    name.into_iter().chain(list("ports").filter_map(port)).chain(networks.flat_map(address)).chain(data).collect()
}

/// The volumes and directories that a service may write to.
pub fn holds_data(service: &Json) -> BTreeSet<String> {
    let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
    let writes = |volume: &&Json| volume.get("read_only") != Some(&Json::Bool(true));
    volumes.filter(writes).filter_map(|volume| Some(volume.get("source")?.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_holds_its_name_its_ports_its_addresses_and_its_data() {
        let service = json!({
            "container_name": "db", "ports": [{"target": 80, "published": "8080"}, {"target": 81}],
            "networks": {"a": null, "b": {"ipv4_address": "10.0.0.5"}},
            "volumes": [{"source": "data"}, {"source": "/etc/x", "read_only": true}, {"type": "tmpfs"}],
        });
        let expected = ["address b 10.0.0.5", "data data", "name db", "port 8080 tcp"];
        assert_eq!(claims(&service).into_iter().collect::<Vec<_>>(), expected);
        assert!(claims(&json!({"image": "a:1"})).is_empty());
    }
}
