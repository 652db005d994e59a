//! Judges what the services of a stack share: networks, volumes, secrets, configs, and what else stands at the top.

use serde_json::Value as Json;

use crate::decide::policy::keys::{self, Kind, is_on, pairs, text};
use crate::decide::policy::{Demand, Ground, path};
use crate::model::Model;
use crate::model::policy::Rule;

/// Options of a bridge that stay inside of it.
const NETWORK_OPTIONS: [&str; 3] = [
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.driver.mtu",
];

/// Adds what the shared definitions ask for beyond what every stack may have.
pub fn judge(model: &Model, ground: &Ground<'_>, found: &mut Vec<Demand>) {
    for key in model.other.keys().filter(|key| *key != "name" && !key.starts_with("x-")) {
        found.push(Demand { rule: Rule::UnknownKey, place: "the file".into(), value: key.clone() });
    }
    for (name, network) in &model.networks {
        judge_network(network, &format!("networks.{name}"), ground, found);
    }
    for (name, volume) in &model.volumes {
        judge_volume(volume, &format!("volumes.{name}"), ground, found);
    }
    for (kind, definitions) in [("secrets", &model.secrets), ("configs", &model.configs)] {
        for (name, definition) in definitions {
            let place = format!("{kind}.{name}");
            keys::judge(Kind::Content, definition, &place, found);
            // A file of the host in a container is a bind, whatever it is called.
            if let Some(file) = definition.get("file").map(text)
                && let Some((rule, value)) = path::against(&file, true, ground)
            {
                found.push(Demand { rule, place, value });
            }
        }
    }
}

fn judge_network(network: &Json, place: &str, ground: &Ground<'_>, found: &mut Vec<Demand>) {
    keys::judge(Kind::Network, network, place, found);
    let mut demand = |rule: Rule, value: String| found.push(Demand { rule, place: place.to_owned(), value });
    let name = network.get("name").map(text).unwrap_or_default();
    if name == "host" {
        demand(Rule::HostNamespace, "network_mode=host".into());
    } else if owner(&name, ground) == Owner::Another {
        demand(Rule::ForeignNetwork, name);
    }
    let driver = network.get("driver").map(text).unwrap_or_default();
    if !["", "bridge", "default"].contains(&driver.as_str()) {
        demand(Rule::NetworkDriver, driver);
    }
    for (option, _) in pairs(network.get("driver_opts")) {
        if !NETWORK_OPTIONS.contains(&option.as_str()) {
            demand(Rule::NetworkOption, option);
        }
    }
    if let Some(driver) = network.pointer("/ipam/driver").map(text)
        && !["", "default"].contains(&driver.as_str())
    {
        demand(Rule::NetworkDriver, driver);
    }
}

fn judge_volume(volume: &Json, place: &str, ground: &Ground<'_>, found: &mut Vec<Demand>) {
    keys::judge(Kind::Volume, volume, place, found);
    let mut demand = |rule: Rule, value: String| found.push(Demand { rule, place: place.to_owned(), value });
    let name = volume.get("name").map(text).unwrap_or_default();
    // Volumes hold data, so a name that nobody's is may be that of anything on the host.
    if owner(&name, ground) != Owner::This {
        demand(Rule::ForeignVolume, name);
    }
    let driver = volume.get("driver").map(text).unwrap_or_default();
    if !["", "local"].contains(&driver.as_str()) {
        return demand(Rule::VolumeDriver, driver);
    }
    if is_on(volume.get("driver_opts")) {
        for (rule, value) in local_options(volume, ground) {
            demand(rule, value);
        }
    }
}

/// What the options of a local volume really mount.
fn local_options(volume: &Json, ground: &Ground<'_>) -> Vec<(Rule, String)> {
    let options = pairs(volume.get("driver_opts"));
    let of = |name: &str| options.iter().find(|(option, _)| option == name).map_or("", |(_, value)| value.as_str());
    let (kind, device) = (of("type"), of("device"));
    let flags: Vec<&str> = of("o").split(',').map(str::trim).collect();
    let mut found: Vec<(Rule, String)> = options
        .iter()
        .filter(|(option, _)| !["type", "device", "o"].contains(&option.as_str()))
        .map(|(option, _)| (Rule::VolumeDriver, option.clone()))
        .collect();
    let is_bind = flags.iter().any(|flag| ["bind", "rbind"].contains(flag)) || ["none", "bind"].contains(&kind);
    if is_bind {
        found.extend(path::against(device, flags.contains(&"ro"), ground));
    } else if kind != "tmpfs" {
        found.push((Rule::VolumeDriver, if kind.is_empty() { device.to_owned() } else { kind.to_owned() }));
    }
    found
}

/// Whose a name is by its form: Compose puts the project's name in front.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    This,
    Another,
    Unknown,
}

fn owner(name: &str, ground: &Ground<'_>) -> Owner {
    let is_of = |stack: &str| name.strip_prefix(stack).is_some_and(|rest| rest.starts_with('_'));
    // `web_admin_data` is of the stack web_admin, if there is one, and not of web.
    let longest = ground.neighbours.iter().filter(|other| is_of(other)).map(|other| other.len()).max();
    match (is_of(ground.stack), longest) {
        (true, Some(longer)) if longer > ground.stack.len() => Owner::Another,
        (true, _) => Owner::This,
        (false, Some(_)) => Owner::Another,
        (false, None) => Owner::Unknown,
    }
}
