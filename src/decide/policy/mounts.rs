//! Judges what a service mounts.

use serde_json::Value as Json;

use crate::decide::policy::keys::{self, Kind, text};
use crate::decide::policy::{Demand, Ground, path};
use crate::model::policy::Rule;

/// Adds what the mounts of a service ask for beyond what every service may have.
pub fn judge(name: &str, service: &Json, ground: &Ground<'_>, found: &mut Vec<Demand>) {
    let place = format!("services.{name}.volumes");
    for mount in service.get("volumes").and_then(Json::as_array).into_iter().flatten() {
        keys::judge(Kind::Mount, mount, &place, found);
        let source = mount.get("source").map(text).unwrap_or_default();
        let read_only = mount.get("read_only") == Some(&Json::Bool(true));
        match mount.get("type").map(text).unwrap_or_default().as_str() {
            "bind" => judge_bind(mount, &source, read_only, &place, ground, found),
            "volume" => {
                if let Some(options) = mount.get("volume") {
                    keys::judge(Kind::VolumeMount, options, &place, found);
                }
            }
            "tmpfs" => {}
            other => found.push(Demand { rule: Rule::MountType, place: place.clone(), value: other.to_owned() }),
        }
    }
}

fn judge_bind(mount: &Json, source: &str, read_only: bool, place: &str, ground: &Ground<'_>, found: &mut Vec<Demand>) {
    if let Some((rule, value)) = path::against(source, read_only, ground) {
        found.push(Demand { rule, place: place.to_owned(), value });
    }
    let Some(options) = mount.get("bind") else { return };
    keys::judge(Kind::Bind, options, place, found);
    let propagation = options.get("propagation").map(text).unwrap_or_default();
    if !["", "private", "rprivate", "slave", "rslave"].contains(&propagation.as_str()) {
        found.push(Demand { rule: Rule::Propagation, place: place.to_owned(), value: source.to_owned() });
    }
}
