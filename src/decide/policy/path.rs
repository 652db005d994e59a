//! Reads paths of the host as the kernel would, as far as that can be known without looking at it.

use std::path::{Component, Path, PathBuf};

use crate::decide::policy::Ground;
use crate::model::policy::Rule;

/// How far an exception for a path reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To that path.
    Exactly,
    /// To everything below it too.
    Below,
}

/// What belongs to the operating system, or gives a hold on it.
const SYSTEM: [&str; 18] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/systemd",
    "/var/spool/cron",
];
/// What images without a time zone ask for, and what harms nobody to read.
const HARMLESS_TO_READ: [&str; 2] = ["/etc/localtime", "/etc/timezone"];
/// Names of sockets with which one is root, wherever they stand.
const SOCKETS: [&str; 5] = ["docker.sock", "containerd.sock", "podman.sock", "crio.sock", "dockershim.sock"];
/// What moorline and Compose read in a stack's directory.
const READ_BY_COMPOSE: [&str; 3] = ["compose.yaml", crate::decide::compose::OVERRIDE, ".env"];

/// The path without `.` and `..`, and with the links that every host has.
pub fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => _ = whole.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
        if whole == Path::new("/var/run") {
            whole = PathBuf::from("/run");
        }
    }
    whole
}

/// The rule against mounting a path of the host, and the value of an exception; none if every stack may.
pub fn against(source: &str, read_only: bool, ground: &Ground<'_>) -> Option<(Rule, String)> {
    let path = normal(Path::new(source));
    let rule = rule_against(&path, read_only, ground).or((!source.starts_with('/')).then_some(Rule::Bind))?;
    let mode = if read_only { ":ro" } else { "" };
    Some((rule, format!("{}{mode}", path.display())))
}

/// Whether this is one of the files that images without a time zone ask for.
pub fn is_harmless_to_read(path: &Path) -> bool {
    HARMLESS_TO_READ.iter().any(|harmless| path == Path::new(harmless))
}

fn rule_against(path: &Path, read_only: bool, ground: &Ground<'_>) -> Option<Rule> {
    let own = normal(&ground.directory);
    if path.starts_with(&own) {
        let of_compose = path == own || READ_BY_COMPOSE.iter().any(|name| path == own.join(name));
        return (of_compose && !read_only).then_some(Rule::OwnDirectory);
    }
    if ground.moorline.iter().any(|own| path.starts_with(own)) {
        return Some(Rule::MoorlinePath);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_above = |other: &Path| other.starts_with(path);
    if SOCKETS.contains(&name) || ground.sockets.iter().any(|socket| is_above(socket)) {
        return Some(Rule::EngineSocket);
    }
    if read_only && is_harmless_to_read(path) {
        return None;
    }
    let of_system = SYSTEM.iter().any(|system| path.starts_with(system) || is_above(Path::new(system)));
    if of_system || ground.moorline.iter().any(|own| is_above(own)) {
        return Some(Rule::SystemPath);
    }
    Some(Rule::Bind)
}

/// Whether an exception for a path covers the path that is asked for. One without `:ro` covers reading too.
pub fn allows(allowed: &str, asked: &str, reach: Reach) -> bool {
    let split = |text: &str| {
        let path = text.strip_suffix(":ro");
        (normal(Path::new(path.unwrap_or(text))), path.is_some())
    };
    let ((allowed, only_reading), (asked, reading)) = (split(allowed), split(asked));
    let in_reach = match reach {
        Reach::Exactly => asked == allowed,
        // Nobody means everything who allows a path by name.
        Reach::Below => asked.starts_with(&allowed) && allowed.components().count() > 1,
    };
    in_reach && (reading || !only_reading)
}
