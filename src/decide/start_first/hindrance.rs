//! Names what keeps two containers of a service from standing beside each other. Reads a Compose file as it was written
//! as well as the model that Compose makes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value as Json;

use crate::decide::compose::{self, Strategy};
use crate::decide::schedule;
use crate::decide::traefik::scalar;

/// The longest drain: the run waits for it, and so do the stacks after it.
const LONGEST_DRAIN: Duration = Duration::from_secs(600);

/// Something in a service that says `start-first` and cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// The field of the service, as a path.
    pub place: String,
    /// Why it cannot be.
    pub reason: String,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// Everything that keeps this service from what its `x-moorline` says about the order. Values behind a variable of a
/// file that Compose has not read are not judged.
pub fn hindrances(name: &str, services: &BTreeMap<String, Json>) -> Vec<Hindrance> {
    let Some(service) = services.get(name) else { return Vec::new() };
    // An extension that cannot be read is named elsewhere.
    let Ok(extension) = compose::service_extension(service) else { return Vec::new() };
    let mut found = Vec::new();
    let mut add = |place: &str, reason: &str| {
        found.push(Hindrance { place: place.to_owned(), reason: reason.to_owned() });
    };
    if let Some(drain) = &extension.drain {
        let place = "x-moorline.drain";
        match schedule::parse_duration(drain) {
            Err(error) => add(place, &error.to_string()),
            Ok(time) if time > LONGEST_DRAIN => add(place, "10m is the most: the run waits for it"),
            Ok(_) if extension.strategy == Strategy::StopFirst => {
                add(place, "goes with `strategy: start-first` only");
            }
            Ok(_) => {}
        }
    }
    if extension.strategy == Strategy::StopFirst {
        return found;
    }
    let cannot = |reason: &str| format!("`strategy: start-first` is not possible, since {reason}");
    for (field, reason) in [
        ("ports", "two containers cannot have one port of the host"),
        ("container_name", "two containers cannot have one name"),
        ("mac_address", "two containers cannot have one address"),
        ("network_mode", "a route leads to a container by its name in a network"),
        ("volumes_from", "two versions would share what they write"),
        ("pre_stop", "moorline stops the old container, and Compose alone runs its hooks"),
    ] {
        if service.get(field).is_some_and(is_said) {
            add(field, &cannot(reason));
        }
    }
    if service.get("volumes").and_then(Json::as_array).into_iter().flatten().any(may_be_written) {
        add("volumes", &cannot("two versions would write there at the same time; only binds with `ro` are read alone"));
    }
    for (network, settings) in service.get("networks").and_then(Json::as_object).into_iter().flatten() {
        for key in ["ipv4_address", "ipv6_address", "link_local_ips", "mac_address"] {
            if settings.get(key).is_some_and(is_said) {
                add(&format!("networks.{network}.{key}"), &cannot("two containers cannot have one address"));
            }
        }
    }
    let check = service.get("healthcheck");
    let is_off = check.and_then(|check| check.get("disable")) == Some(&Json::Bool(true));
    let test = check.and_then(|check| check.get("test"));
    let is_none = test.is_some_and(|test| test.get(0).unwrap_or(test) == "NONE");
    if is_off || is_none {
        add("healthcheck", &cannot("without a health check nobody knows when the new container serves"));
    }
    match route(service) {
        Route::Http => {}
        Route::None => {
            add("labels", &cannot("no `traefik.enable: \"true\"` leads requests to it, and nothing else can be moved"));
        }
        Route::Other => add("labels", &cannot("a connection of tcp or udp cannot be moved to another container")),
    }
    if let Some(leader) = compose::leaders(service).first() {
        let reason = format!("it is replaced or restarted together with `{leader}`");
        add("depends_on", &cannot(&reason));
    }
    for (other, definition) in services.iter().filter(|(other, _)| *other != name) {
        if compose::leaders(definition).contains(&name) {
            let reason = format!("`{other}` is replaced or restarted together with it");
            add("x-moorline.strategy", &cannot(&reason));
        }
    }
    found
}

/// Whether a field says anything.
fn is_said(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => false,
        Json::Array(items) => !items.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
        Json::String(text) => !text.is_empty(),
        _ => true,
    }
}

/// Whether two containers could write to what is mounted: everything but memory of their own, parts of images, and
/// directories of the host that are mounted read-only.
fn may_be_written(mount: &Json) -> bool {
    if let Some(text) = mount.as_str() {
        let mut parts = text.split(':');
        let is_bind = parts.next().is_some_and(|source| source.starts_with(['.', '/', '~', '$']));
        let is_read_only = parts.nth(1).is_some_and(|modes| modes.split(',').any(|mode| mode == "ro"));
        return !(text.contains('$') || is_bind && is_read_only);
    }
    let is_read_only = mount.get("read_only") == Some(&Json::Bool(true));
    match mount.get("type").and_then(Json::as_str) {
        Some("tmpfs" | "image") => false,
        Some("bind") => !is_read_only,
        _ => true,
    }
}

enum Route {
    Http,
    Other,
    None,
}

/// What leads to a service, by its labels.
fn route(service: &Json) -> Route {
    let labels: Vec<(String, String)> = match service.get("labels") {
        Some(Json::Object(labels)) => {
            let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            labels.iter().map(|(key, value)| (key.to_lowercase(), text(value))).collect()
        }
        Some(Json::Array(lines)) => {
            let pair = |line: &Json| {
                let (key, value) = line.as_str()?.split_once('=')?;
                Some((key.to_lowercase(), value.to_owned()))
            };
            lines.iter().filter_map(pair).collect()
        }
        _ => Vec::new(),
    };
    let is_on = |value: &str| value.contains('$') || scalar::boolean(value) == Some(true);
    // Compose looks there for more labels.
    let from_elsewhere = ["extends", "label_file"].iter().any(|field| service.get(field).is_some());
    if !from_elsewhere && !labels.iter().any(|(key, value)| key == "traefik.enable" && is_on(value)) {
        return Route::None;
    }
    let is_other = |key: &str| key.starts_with("traefik.tcp.") || key.starts_with("traefik.udp.");
    if labels.iter().any(|(key, _)| is_other(key)) { Route::Other } else { Route::Http }
}
