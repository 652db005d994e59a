//! Judges one service of a resolved model: what it may do beyond the walls of its container.

use core::net::IpAddr;

use serde_json::Value as Json;

use crate::decide::policy::keys::{self, Kind, is_on, items, pairs, text};
use crate::decide::policy::{Demand, Ground, mounts};
use crate::model::policy::Rule;

/// What Docker gives a container anyway: asked for after `cap_drop: [ALL]`, it is less than the default.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The safe ones of Kubernetes' Pod Security Standards (baseline), and the length of the queue of a listener.
const SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "network_mode", "pid", "userns_mode", "uts"];
/// Namespaces of one's own.
const OWN_NAMESPACE: [&str; 5] = ["", "bridge", "none", "private", "shareable"];
const RESERVED_LABELS: [&str; 2] = ["com.docker.compose.", "moorline."];

/// Adds what a service asks for beyond what every service may have.
pub fn judge(name: &str, service: &Json, ground: &Ground<'_>, found: &mut Vec<Demand>) {
    let place = format!("services.{name}");
    keys::judge(Kind::Service, service, &place, found);
    let mut demand = |rule: Rule, key: &str, value: String| {
        found.push(Demand { rule, place: format!("{place}.{key}"), value });
    };
    let of = |key: &str| service.get(key);
    if is_on(of("privileged")) {
        demand(Rule::Privileged, "privileged", name.to_owned());
    }
    for added in items(of("cap_add")).iter().map(|added| capability(added)) {
        if !CAPABILITIES.contains(&added.as_str()) {
            demand(Rule::CapAdd, "cap_add", added);
        }
    }
    for key in NAMESPACES {
        if let Some(rule) = items(of(key)).first().and_then(|mode| against_namespace(key, mode)) {
            let mode = items(of(key)).concat();
            let value = if rule == Rule::ForeignNetwork { mode } else { format!("{key}={mode}") };
            demand(rule, key, value);
        }
    }
    for option in items(of("security_opt")).into_iter().filter(|option| !is_harmless_option(option)) {
        demand(Rule::SecurityOpt, "security_opt", option);
    }
    for device in of("devices").into_iter().flat_map(|devices| devices.as_array().cloned().unwrap_or_default()) {
        let source = device.get("source").map_or_else(|| text(&device), text);
        demand(Rule::Device, "devices", source);
    }
    for rule in items(of("device_cgroup_rules")) {
        demand(Rule::DeviceRule, "device_cgroup_rules", rule);
    }
    for (key, value) in [("gpus", of("gpus")), ("deploy", service.pointer("/deploy/resources/reservations/devices"))] {
        for gpu in value.into_iter().flat_map(|value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]))
        {
            let driver = gpu.get("driver").map(text).filter(|driver| !driver.is_empty());
            demand(Rule::Gpu, key, driver.unwrap_or_else(|| "all".into()));
        }
    }
    for (key, rule) in [("cgroup_parent", Rule::CgroupParent), ("runtime", Rule::Runtime)] {
        let stated = items(of(key)).into_iter().filter(|stated| !["", "runc", "runsc"].contains(&stated.as_str()));
        stated.for_each(|stated| demand(rule, key, stated));
    }
    for (setting, _) in pairs(of("sysctls")) {
        if !SYSCTLS.contains(&setting.as_str()) {
            demand(Rule::Sysctl, "sysctls", setting);
        }
    }
    for key in ["volumes_from", "external_links"] {
        let foreign = |from: &String| key == "external_links" || from.starts_with("container:");
        for from in items(of(key)).into_iter().filter(foreign) {
            let container = from.strip_prefix("container:").unwrap_or(&from);
            let container = container.split(':').next().unwrap_or_default();
            demand(Rule::ForeignContainer, key, format!("{key}=container:{container}"));
        }
    }
    if is_on(of("use_api_socket")) {
        demand(Rule::EngineSocket, "use_api_socket", "use_api_socket".into());
    }
    if is_on(of("provider")) {
        demand(Rule::Provider, "provider", service.pointer("/provider/type").map(text).unwrap_or_default());
    }
    for label in pairs(of("labels")).into_iter().map(|(label, _)| label) {
        if RESERVED_LABELS.iter().any(|reserved| label.starts_with(reserved)) {
            demand(Rule::ReservedLabel, "labels", label);
        }
    }
    for (annotation, _) in pairs(of("annotations")) {
        demand(Rule::Annotation, "annotations", annotation);
    }
    let score = of("oom_score_adj").and_then(Json::as_i64).unwrap_or(0);
    if score < 0 {
        demand(Rule::OomScore, "oom_score_adj", format!("oom_score_adj={score}"));
    }
    if is_on(of("oom_kill_disable")) {
        demand(Rule::OomScore, "oom_kill_disable", "oom_kill_disable=true".into());
    }
    let core = service.pointer("/ulimits/core");
    let core = [core, core.and_then(|core| core.get("soft")), core.and_then(|core| core.get("hard"))];
    if core.into_iter().flatten().any(|limit| limit.as_i64().is_some_and(|limit| limit != 0)) {
        demand(Rule::CoreDump, "ulimits", name.to_owned());
    }
    for container in items(of("container_name")) {
        if ground.neighbours.iter().any(|other| is_name_of(other, &container)) {
            demand(Rule::ForeignName, "container_name", container);
        }
    }
    for port in of("ports").and_then(Json::as_array).into_iter().flatten().filter(|port| is_open(port)) {
        demand(Rule::PublishedPort, "ports", published(port));
    }
    judge_nested(name, service, found);
    mounts::judge(name, service, ground, found);
}

/// Keys below the service, and what hides there.
fn judge_nested(name: &str, service: &Json, found: &mut Vec<Demand>) {
    let place = format!("services.{name}");
    if let Some(deploy) = service.get("deploy") {
        keys::judge(Kind::Deploy, deploy, &format!("{place}.deploy"), found);
    }
    for hook in ["post_start", "pre_stop"] {
        for command in service.get(hook).and_then(Json::as_array).into_iter().flatten() {
            keys::judge(Kind::Hook, command, &format!("{place}.{hook}"), found);
            if is_on(command.get("privileged")) {
                found.push(Demand { rule: Rule::Privileged, place: format!("{place}.{hook}"), value: name.to_owned() });
            }
        }
    }
    for port in service.get("ports").and_then(Json::as_array).into_iter().flatten() {
        keys::judge(Kind::Port, port, &format!("{place}.ports"), found);
    }
    for (network, attachment) in service.get("networks").and_then(Json::as_object).into_iter().flatten() {
        let place = format!("{place}.networks.{network}");
        keys::judge(Kind::Attachment, attachment, &place, found);
        for (option, _) in pairs(attachment.get("driver_opts")) {
            found.push(Demand { rule: Rule::NetworkOption, place: place.clone(), value: option });
        }
    }
}

/// A capability as Docker knows it.
pub fn capability(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

fn against_namespace(key: &str, mode: &str) -> Option<Rule> {
    match mode {
        "host" => Some(Rule::HostNamespace),
        _ if mode.starts_with("container:") => Some(Rule::ForeignContainer),
        _ if mode.starts_with("service:") || OWN_NAMESPACE.contains(&mode) => None,
        // Any other word is the name of a network.
        _ if key == "network_mode" => Some(Rule::ForeignNetwork),
        _ => Some(Rule::HostNamespace),
    }
}

fn is_harmless_option(option: &str) -> bool {
    ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"].contains(&option)
}

/// Whether a name has the form of the containers that Compose makes for another stack.
fn is_name_of(stack: &str, container: &str) -> bool {
    let rest = container.trim_start_matches('/').strip_prefix(stack);
    rest.is_some_and(|rest| rest.starts_with(['-', '_']))
}

/// Whether a port can be reached from beyond the host and its tailnet.
fn is_open(port: &Json) -> bool {
    match port.get("host_ip").map(text).unwrap_or_default().parse() {
        Ok(IpAddr::V4(address)) => {
            let [first, second, ..] = address.octets();
            !(address.is_loopback() || (first == 100 && second & 0b1100_0000 == 64))
        }
        Ok(IpAddr::V6(address)) => !(address.is_loopback() || address.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0]),
        Err(_) => true,
    }
}

fn published(port: &Json) -> String {
    let number = port.get("published").map(text).filter(|published| !published.is_empty());
    let protocol = port.get("protocol").map_or_else(|| "tcp".into(), text);
    format!("{}/{protocol}", number.unwrap_or_else(|| "random".into()))
}

/// Whether ports are within a range: `8000/tcp` is within `8000-8010/tcp`.
pub fn ports_within(asked: &str, allowed: &str) -> bool {
    let range = |text: &str| {
        let (ports, protocol) = text.split_once('/')?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?, protocol.to_owned()))
    };
    match (range(asked), range(allowed)) {
        (Some((first, last, asked)), Some((from, to, allowed))) => asked == allowed && from <= first && last <= to,
        _ => asked == allowed,
    }
}
