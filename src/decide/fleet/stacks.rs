//! Reads the stacks of one host, and finds the variables that nothing sets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{REGISTRIES_SECTION, SHARED_SECTION};
use crate::decide::mistake::{Mistake, line_in, line_of, meant};
use crate::decide::{closure, compose, dotenv, policy, yaml};
use crate::model::host::{Sealed, StackSource};
use crate::model::tree::{File, Tree};

pub(super) fn read_stacks(tree: &Tree, path: &str, names: &[String], mistakes: &mut Vec<Mistake>) -> Vec<StackSource> {
    let known: Vec<&str> = tree.directories_in("stacks").into_iter().collect();
    let mut seen = BTreeSet::new();
    let mut stacks = Vec::new();
    for name in names {
        let line = line_of(tree, path, name);
        if !is_project_name(name) {
            let text = format!("`{name}` cannot be a Compose project: lower-case letters, digits, `-` and `_` only");
            mistakes.push(Mistake::at(path, line, text));
            continue;
        }
        if !seen.insert(name) {
            mistakes.push(Mistake::at(path, line, format!("stack `{name}` is listed twice")));
            continue;
        }
        let files: BTreeMap<String, File> =
            tree.below(&format!("stacks/{name}")).map(|(path, file)| (path.to_owned(), file.clone())).collect();
        if !files.contains_key("compose.yaml") {
            let text = format!("stack `{name}` has no stacks/{name}/compose.yaml{}", meant(name, &known));
            mistakes.push(Mistake::at(path, line, text));
            continue;
        }
        check_stack(name, &files, mistakes);
        stacks.push(StackSource { name: name.clone(), files });
    }
    stacks
}

fn check_stack(name: &str, files: &BTreeMap<String, File>, mistakes: &mut Vec<Mistake>) {
    if let Some(taken) = files.keys().find(|file| *file == compose::OVERRIDE) {
        mistakes.push(Mistake::new(format!("stacks/{name}/{taken}"), "this name is taken by moorline"));
    }
    closure::check(name, files, mistakes);
    policy::source::check(name, files, mistakes);
}

pub(super) fn check_variables(
    stack: &StackSource,
    host_path: &str,
    vars: &BTreeMap<String, String>,
    sealed: Option<&Sealed>,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    mistakes: &mut Vec<Mistake>,
) {
    let is_secret = |name: &String| {
        [SHARED_SECTION, stack.name.as_str()]
            .iter()
            .any(|section| secrets.get(*section).is_some_and(|names| names.contains(name)))
    };
    let places = match sealed {
        Some(sealed) => format!("{host_path} or {}", sealed.path),
        None => host_path.to_owned(),
    };
    let path = format!("stacks/{}/compose.yaml", stack.name);
    for demand in demands(stack) {
        let is_known = match demand.kind {
            Kind::Use | Kind::Content(_) => vars.contains_key(&demand.name) || is_secret(&demand.name),
            Kind::Password => is_secret(&demand.name),
        };
        if is_known {
            continue;
        }
        let name = &demand.name;
        let text = match &demand.kind {
            Kind::Use => format!("`${{{name}}}` is not in {places}"),
            Kind::Password => {
                let place = sealed.map_or("a SOPS file", |sealed| sealed.path.as_str());
                format!("x-moorline.backup.dumps: `{name}` is not in {place}")
            }
            Kind::Content(place) => format!("{place}.environment: `{name}` is not in {places}"),
        };
        mistakes.push(Mistake::at(&path, demand.line, text));
    }
}

/// A name that a Compose file wants from its host.
pub(super) struct Demand {
    pub(super) name: String,
    pub(super) kind: Kind,
    line: Option<usize>,
}

/// What the name is for.
pub(super) enum Kind {
    /// `${NAME}` without a rule: a variable or a secret.
    Use,
    /// The password of a dump: a secret.
    Password,
    /// The content of the secret or config at this place.
    Content(String),
}

/// Every name that `compose.yaml` wants, in the order in which `check` names what is missing.
pub(super) fn demands(stack: &StackSource) -> Vec<Demand> {
    let Ok(text) = stack.files["compose.yaml"].text() else { return Vec::new() };
    let from_env_file = stack.files.get(".env").and_then(|file| file.text().ok()).map(dotenv::names);
    let from_env_file = from_env_file.unwrap_or_default();
    let uses = dotenv::uses(text).into_iter().filter(|used| !used.has_rule && !from_env_file.contains(&used.name));
    let mut demands: Vec<Demand> =
        uses.map(|used| Demand { name: used.name, kind: Kind::Use, line: Some(used.line) }).collect();
    for name in dump_passwords(text) {
        let line = policy::line_with(text, "x-moorline.backup.dumps", &name);
        demands.push(Demand { name, kind: Kind::Password, line });
    }
    for (place, name) in environment_sources(text) {
        let line = line_in(text, &format!("environment: {name}"));
        demands.push(Demand { name, kind: Kind::Content(place), line });
    }
    demands
}

/// On a host that makes no backups, what wants a snapshot first could never be deployed again.
pub(super) fn check_snapshot_before(stack: &StackSource, host_path: &str, mistakes: &mut Vec<Mistake>) {
    let Ok(text) = stack.files["compose.yaml"].text() else { return };
    let value: Json = yaml::read(text).unwrap_or_default();
    if value.pointer("/x-moorline/deploy/snapshot_before") == Some(&Json::Bool(true)) {
        let path = format!("stacks/{}/compose.yaml", stack.name);
        let line = line_in(text, "snapshot_before");
        let said = format!("x-moorline.deploy.snapshot_before needs `backup:` in {host_path}");
        mistakes.push(Mistake::at(path, line, said));
    }
}

/// The names of passwords that dumps need.
fn dump_passwords(text: &str) -> Vec<String> {
    let value: Json = yaml::read(text).unwrap_or_default();
    let dumps = value.pointer("/x-moorline/backup/dumps").and_then(Json::as_array).into_iter().flatten();
    dumps.filter_map(|dump| Some(dump.get("password")?.as_str()?.to_owned())).collect()
}

/// Secrets and configs whose content is a variable: the place, and the variable.
fn environment_sources(text: &str) -> Vec<(String, String)> {
    let value: Json = yaml::read(text).unwrap_or_default();
    let mut found = Vec::new();
    for kind in ["secrets", "configs"] {
        let definitions = value.get(kind).and_then(Json::as_object).into_iter().flatten();
        for (name, definition) in definitions {
            let variable = definition.get("environment").and_then(Json::as_str);
            if let Some(variable) = variable.filter(|variable| dotenv::is_name(variable)) {
                found.push((format!("{kind}.{name}"), variable.to_owned()));
            }
        }
    }
    found
}

fn is_project_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let reserved = [SHARED_SECTION, REGISTRIES_SECTION].contains(&name);
    !reserved
        && name.len() <= 63
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}
