//! The keys of a resolved model that were judged; every other one is refused by its name.

use serde_json::Value as Json;

use crate::decide::policy::Demand;
use crate::model::policy::Rule;

/// Keys of a service that do nothing beyond the container's own walls, and keys that other modules judge.
const SERVICE: [&str; 86] = [
    "annotations",
    "attach",
    "blkio_config",
    // Inert: nothing is ever built here, and a service needs an image besides.
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "command",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "depends_on",
    "deploy",
    // Inert: only `compose watch` reads it.
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "environment",
    "expose",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "post_start",
    "pre_stop",
    "privileged",
    "profiles",
    "provider",
    "pull_policy",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
    // The service's own name, which some versions print.
    "name",
];
const DEPLOY: [&str; 9] = [
    "endpoint_mode",
    "labels",
    "mode",
    "placement",
    "replicas",
    "resources",
    "restart_policy",
    "rollback_config",
    "update_config",
];
const HOOK: [&str; 5] = ["command", "environment", "privileged", "user", "working_dir"];
const MOUNT: [&str; 8] = ["bind", "consistency", "read_only", "source", "target", "tmpfs", "type", "volume"];
const BIND: [&str; 4] = ["create_host_path", "propagation", "recursive", "selinux"];
const VOLUME_MOUNT: [&str; 3] = ["labels", "nocopy", "subpath"];
const PORT: [&str; 7] = ["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"];
const ATTACHMENT: [&str; 10] = [
    "aliases",
    "driver_opts",
    "gw_priority",
    "interface_name",
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
    "priority",
    "name",
];
const NETWORK: [&str; 10] = [
    "attachable",
    "driver",
    "driver_opts",
    "enable_ipv4",
    "enable_ipv6",
    "external",
    "internal",
    "ipam",
    "labels",
    "name",
];
const VOLUME: [&str; 5] = ["driver", "driver_opts", "external", "labels", "name"];
const CONTENT: [&str; 5] = ["content", "environment", "file", "labels", "name"];

/// What kind of mapping the keys stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A service.
    Service,
    /// `deploy` of a service.
    Deploy,
    /// `post_start`, `pre_stop`.
    Hook,
    /// One of `volumes` of a service.
    Mount,
    /// `bind` of a mount.
    Bind,
    /// `volume` of a mount.
    VolumeMount,
    /// One of `ports`.
    Port,
    /// One of `networks` of a service.
    Attachment,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A secret or a config.
    Content,
}

impl Kind {
    fn known(self) -> &'static [&'static str] {
        match self {
            Kind::Service => &SERVICE,
            Kind::Deploy => &DEPLOY,
            Kind::Hook => &HOOK,
            Kind::Mount => &MOUNT,
            Kind::Bind => &BIND,
            Kind::VolumeMount => &VOLUME_MOUNT,
            Kind::Port => &PORT,
            Kind::Attachment => &ATTACHMENT,
            Kind::Network => &NETWORK,
            Kind::Volume => &VOLUME,
            Kind::Content => &CONTENT,
        }
    }
}

/// Refuses every key of a mapping that was not judged. `null` is nothing; any other form than a mapping is unknown.
pub fn judge(kind: Kind, value: &Json, place: &str, found: &mut Vec<Demand>) {
    let mut demand = |value: String| {
        found.push(Demand { rule: Rule::UnknownKey, place: place.to_owned(), value });
    };
    match value {
        Json::Null => {}
        Json::Object(fields) => {
            let unknown = fields.keys().filter(|key| !key.starts_with("x-") && !kind.known().contains(&key.as_str()));
            unknown.for_each(|key| demand(key.clone()));
        }
        other => demand(other.to_string()),
    }
}

/// The items of a list as text. What is no list is one item, so that nothing passes for being of another form.
pub fn items(value: Option<&Json>) -> Vec<String> {
    match value {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(items)) => items.iter().map(text).collect(),
        Some(other) => vec![text(other)],
    }
}

/// The entries of a mapping as text; `name=value` of a list too.
pub fn pairs(value: Option<&Json>) -> Vec<(String, String)> {
    match value {
        Some(Json::Object(fields)) => fields.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        other => {
            let split = |item: String| match item.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (item, String::new()),
            };
            items(other).into_iter().map(split).collect()
        }
    }
}

/// A value as text: a string without its quotes.
pub fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a switch is on. Anything but a clear "no" counts.
pub fn is_on(value: Option<&Json>) -> bool {
    !matches!(value, None | Some(Json::Null | Json::Bool(false)))
}
