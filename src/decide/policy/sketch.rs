//! Draws as much of a model as can be told from a Compose file without Compose, so that `check` finds the plainest
//! demands before a merge. What is judged on a host is the model that Compose itself resolves.

use serde_json::{Value as Json, json};

use crate::model::Model;

/// Keys whose value in the file is what Compose makes of it.
const SAME: [&str; 19] = [
    "annotations",
    "cap_add",
    "cgroup",
    "cgroup_parent",
    "device_cgroup_rules",
    "external_links",
    "ipc",
    "network_mode",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "post_start",
    "privileged",
    "provider",
    "security_opt",
    "sysctls",
    "use_api_socket",
    "userns_mode",
    "uts",
];

/// The plain part of a model. What stands behind a variable or in another file is left out.
pub fn draw(file: &Json) -> Model {
    let mut model = Model::default();
    for (name, service) in file.get("services").and_then(Json::as_object).into_iter().flatten() {
        let mut fields = serde_json::Map::new();
        for key in SAME {
            if let Some(value) = service.get(key).and_then(plain) {
                fields.insert(key.into(), value);
            }
        }
        let each = |key: &str| service.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
        fields.insert("volumes".into(), each("volumes").iter().filter_map(bind).collect());
        fields.insert("devices".into(), each("devices").iter().filter_map(device).collect());
        fields.insert("ports".into(), each("ports").iter().filter_map(port).collect());
        model.services.insert(name.clone(), Json::Object(fields));
    }
    model
}

/// A value without variables, as it stands.
fn plain(value: &Json) -> Option<Json> {
    (!value.to_string().contains('$')).then(|| value.clone())
}

/// A mount with an absolute source, short or long.
fn bind(mount: &Json) -> Option<Json> {
    let mount = plain(mount)?;
    let Some(text) = mount.as_str() else {
        return (mount.get("type")? == "bind" && mount.get("source")?.as_str()?.starts_with('/')).then_some(mount);
    };
    let mut parts = text.split(':');
    let source = parts.next().filter(|source| source.starts_with('/'))?;
    parts.next()?;
    let read_only = parts.next().is_some_and(|modes| modes.split(',').any(|mode| mode == "ro"));
    Some(json!({ "type": "bind", "source": source, "read_only": read_only }))
}

fn device(device: &Json) -> Option<Json> {
    let device = plain(device)?;
    match device.as_str() {
        Some(text) => Some(json!({ "source": text.split(':').next()? })),
        None => Some(device),
    }
}

/// `80:80`, `443:443/udp`, `127.0.0.1:8080:8080`; nothing for what is harder to read.
fn port(port: &Json) -> Option<Json> {
    let port = plain(port)?;
    let Some(text) = port.as_str() else { return port.is_object().then_some(port) };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (address, published) = match ports.split(':').collect::<Vec<_>>()[..] {
        [published, _] => ("", published),
        [address, published, _] => (address, published),
        _ => return None,
    };
    let is_number = published.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_number.then(|| json!({ "host_ip": address, "published": published, "protocol": protocol }))
}
