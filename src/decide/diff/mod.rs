//! Names what a host would run differently at another revision, without Docker, without a key, and without values.
//!
//! It compares Compose files field by field, after filling in variables as far as they are known; it does not follow
//! `extends` and `include`. What it cannot see in a field it still names as a changed file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value as Json;

use crate::decide::fleet::{self, SHARED_SECTION};
use crate::decide::{difference, dotenv, yaml};
use crate::model::host::{HostSpec, Sealed, StackSource};
use crate::model::{Revision, Tree};

mod interpolate;
pub mod show;

/// What changes on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostDiff {
    /// The host.
    pub host: String,
    /// What it runs before; none if it is new, or if nobody can tell.
    pub from: Option<Revision>,
    /// What it runs after; none if it is gone, or if nobody can tell.
    pub to: Option<Revision>,
    /// The changes, in the order of the host's stacks.
    pub changes: Vec<Change>,
    /// What could not be compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The stack, or the stack and the service; `host` for what belongs to neither.
    pub place: String,
    /// What it is about: `image`, `environment MODE`, `secret DB_PASSWORD`.
    pub what: String,
    /// How it changes.
    #[serde(flatten)]
    pub how: How,
}

/// How something changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum How {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It is another one, and is not shown.
    Changed,
    /// It is another one.
    Replaced {
        /// Before.
        from: String,
        /// After.
        to: String,
    },
}

/// A revision and its files.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The revision.
    pub revision: &'a Revision,
    /// Its files.
    pub tree: &'a Tree,
}

/// What changes on `host` from one revision to another. A side is absent when the host is not there, or runs nothing.
pub fn host(host: &str, before: Option<Side<'_>>, after: Option<Side<'_>>) -> HostDiff {
    let mut diff = HostDiff {
        host: host.to_owned(),
        from: before.map(|side| side.revision.clone()),
        to: after.map(|side| side.revision.clone()),
        changes: Vec::new(),
        notes: Vec::new(),
    };
    let mut read = |side: Option<Side<'_>>| match side.map(|side| (side, fleet::read(side.tree, host))) {
        Some((_, Ok(spec))) => Some(spec),
        Some((side, Err(mistakes))) => {
            let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
            diff.notes.push(format!("cannot be read at {}: {first}", side.revision.short()));
            None
        }
        None => None,
    };
    let (before, after) = (read(before), read(after));
    if diff.notes.is_empty() {
        diff.changes = specs(before.as_ref(), after.as_ref());
    }
    diff
}

fn specs(before: Option<&HostSpec>, after: Option<&HostSpec>) -> Vec<Change> {
    let mut changes = Vec::new();
    let ring = |spec: Option<&HostSpec>| spec.map(|spec| spec.ring.clone());
    let mut replaced = |what: &str, from: Option<String>, to: Option<String>| {
        if from != to {
            changes.push(change("host", what, how(from, to)));
        }
    };
    replaced("ring", ring(before), ring(after));
    let empty = BTreeMap::new();
    let vars = |spec: Option<&HostSpec>| spec.map_or_else(|| empty.clone(), |spec| spec.vars.clone());
    changes.extend(named("host", "variable", &vars(before), &vars(after)));
    let sealed = |spec: Option<&HostSpec>| sealed_values(spec.and_then(|spec| spec.sealed.as_ref()));
    let (old, new) = (sealed(before), sealed(after));
    for section in keys(&old, &new) {
        let nothing = BTreeMap::new();
        let values = |side: &BTreeMap<String, BTreeMap<String, Json>>| side.get(&section).unwrap_or(&nothing).clone();
        let place = if section == SHARED_SECTION { "host" } else { &section };
        changes.extend(named(place, "secret", &values(&old), &values(&new)));
    }
    let stacks = |spec: Option<&HostSpec>| -> BTreeMap<String, StackSource> {
        spec.iter().flat_map(|spec| &spec.stacks).map(|stack| (stack.name.clone(), stack.clone())).collect()
    };
    let (old, new) = (stacks(before), stacks(after));
    for name in keys(&old, &new) {
        match (old.get(&name).zip(before), new.get(&name).zip(after)) {
            (Some((one, old_spec)), Some((two, new_spec))) => {
                changes.extend(stack(&Project::read(one, old_spec), &Project::read(two, new_spec), one, two));
            }
            (None, Some((stack, spec))) => {
                changes.push(change(&name, "stack", How::Added));
                changes.extend(Project::read(stack, spec).images(&name, How::Added));
            }
            (Some((stack, spec)), None) => {
                changes.push(change(&name, "stack", How::Removed));
                changes.extend(Project::read(stack, spec).images(&name, How::Removed));
            }
            (None, None) => {}
        }
    }
    changes
}

/// A Compose file with its variables filled in.
struct Project(Json);

impl Project {
    /// What Compose would make of it, as far as it can be told without Compose.
    fn read(stack: &StackSource, spec: &HostSpec) -> Self {
        let text = |path: &str| stack.files.get(path).and_then(|file| file.text().ok()).unwrap_or_default();
        let mut environment = interpolate::assignments(text(".env"));
        environment.extend(spec.vars.clone());
        let secrets = fleet::names_in(spec.sealed.as_ref()).unwrap_or_default();
        for section in [SHARED_SECTION, &stack.name] {
            let names = secrets.get(section).into_iter().flatten();
            environment.extend(names.map(|name| (name.clone(), format!("(secret {name})"))));
        }
        let mut value: Json = yaml::read(text("compose.yaml")).unwrap_or_default();
        interpolate::fill(&mut value, &environment);
        Self(value)
    }

    fn definitions(&self, kind: &str) -> BTreeMap<String, Json> {
        let definitions = self.0.get(kind).and_then(Json::as_object).into_iter().flatten();
        definitions.map(|(name, definition)| (name.clone(), definition.clone())).collect()
    }

    fn images(&self, stack: &str, how: How) -> Vec<Change> {
        let image = |(name, service): (String, Json)| {
            let image = service.get("image").and_then(Json::as_str).unwrap_or("(none)");
            change(&format!("{stack}/{name}"), &format!("image {image}"), how.clone())
        };
        self.definitions("services").into_iter().map(image).collect()
    }
}

fn stack(before: &Project, after: &Project, one: &StackSource, two: &StackSource) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (before.definitions("services"), after.definitions("services"));
    for name in keys(&old, &new) {
        let place = format!("{}/{name}", one.name);
        match (old.get(&name), new.get(&name)) {
            (Some(old), Some(new)) => changes.extend(service(&place, old, new)),
            (None, Some(_)) => changes.push(change(&place, "service", How::Added)),
            _ => changes.push(change(&place, "service", How::Removed)),
        }
    }
    for kind in ["networks", "volumes", "secrets", "configs", "x-moorline"] {
        let of = |project: &Project| project.0.get(kind).cloned().unwrap_or(Json::Null);
        changes.extend(fields(&one.name, kind, &of(before), &of(after)));
    }
    for path in keys(&one.files, &two.files).into_iter().filter(|path| path != "compose.yaml") {
        let how = match (one.files.get(&path), two.files.get(&path)) {
            (Some(old), Some(new)) if old == new => continue,
            (None, _) => How::Added,
            (_, None) => How::Removed,
            _ => How::Changed,
        };
        changes.push(change(&one.name, &format!("file {path}"), how));
    }
    if changes.is_empty() && one.files.get("compose.yaml") != two.files.get("compose.yaml") {
        changes.push(change(&one.name, "file compose.yaml", How::Changed));
    }
    changes
}

fn service(place: &str, before: &Json, after: &Json) -> Vec<Change> {
    let fields_of = |service: &Json| -> BTreeMap<String, Json> {
        service.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let (old, new) = (fields_of(before), fields_of(after));
    let mut changes = Vec::new();
    for field in keys(&old, &new) {
        let value = |side: &BTreeMap<String, Json>| side.get(&field).cloned().unwrap_or(Json::Null);
        let (from, to) = (value(&old), value(&new));
        match field.as_str() {
            "environment" => changes.extend(named(place, "environment", &pairs(&from), &pairs(&to))),
            "labels" => {
                let (from, to) = (Json::Object(pairs(&from).into_iter().collect()), pairs(&to));
                changes.extend(fields(place, "labels", &from, &Json::Object(to.into_iter().collect())));
            }
            _ if from.is_array() || to.is_array() => {
                let (from, to) = (items(&from), items(&to));
                let entry = |text: &String, how| change(place, &format!("{field} {text}"), how);
                changes.extend(from.difference(&to).map(|text| entry(text, How::Removed)));
                changes.extend(to.difference(&from).map(|text| entry(text, How::Added)));
            }
            _ => changes.extend(fields(place, &field, &from, &to)),
        }
    }
    changes
}

/// The differences between two values of a field, down to the last mapping.
fn fields(place: &str, field: &str, before: &Json, after: &Json) -> Vec<Change> {
    let below = |value: &Json| match value {
        Json::Null => Json::Object(serde_json::Map::new()),
        other => other.clone(),
    };
    let found = match before.is_object() || after.is_object() {
        true => difference::differences(&below(before), &below(after)),
        false => difference::differences(before, after),
    };
    let as_change = |(path, from, to): (String, String, String)| {
        let what = if path.is_empty() { field.to_owned() } else { format!("{field}.{path}") };
        let how = match (from.as_str(), to.as_str()) {
            ("(none)", _) => How::Added,
            (_, "(none)") => How::Removed,
            _ => How::Replaced { from, to },
        };
        change(place, &what, how)
    };
    found.into_iter().map(as_change).collect()
}

/// Names that come, go, or have another value, which is not shown.
fn named<V: PartialEq>(
    place: &str,
    what: &str,
    before: &BTreeMap<String, V>,
    after: &BTreeMap<String, V>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in keys(before, after) {
        let how = match (before.get(&name), after.get(&name)) {
            (Some(old), Some(new)) if old == new => continue,
            (None, _) => How::Added,
            (_, None) => How::Removed,
            _ => How::Changed,
        };
        changes.push(change(place, &format!("{what} {name}"), how));
    }
    changes
}

/// `[A=b]` and `{A: b}` are the same.
fn pairs(value: &Json) -> BTreeMap<String, Json> {
    let split = |text: &str| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Json::String(value.to_owned())),
        None => (text.to_owned(), Json::Null),
    };
    match value {
        Json::Array(items) => items.iter().filter_map(Json::as_str).map(split).collect(),
        Json::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        _ => BTreeMap::new(),
    }
}

fn items(value: &Json) -> BTreeSet<String> {
    let text = |item: &Json| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    value.as_array().into_iter().flatten().map(text).collect()
}

/// The sealed values by section and name. Equal ones are equal; different ones need not be.
fn sealed_values(sealed: Option<&Sealed>) -> BTreeMap<String, BTreeMap<String, Json>> {
    let file =
        sealed.and_then(|sealed| yaml::read::<Json>(str::from_utf8(&sealed.bytes).ok()?).ok()).unwrap_or_default();
    let section = |(name, values): (&String, &Json)| {
        let values = values.as_object().into_iter().flatten().filter(|(name, _)| dotenv::is_name(name));
        (name.clone(), values.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    file.as_object().into_iter().flatten().filter(|(name, _)| *name != "sops").map(section).collect()
}

fn keys<A, B>(one: &BTreeMap<String, A>, two: &BTreeMap<String, B>) -> BTreeSet<String> {
    one.keys().chain(two.keys()).cloned().collect()
}

fn how(from: Option<String>, to: Option<String>) -> How {
    match (from, to) {
        (Some(from), Some(to)) => How::Replaced { from, to },
        (None, _) => How::Added,
        (_, None) => How::Removed,
    }
}

fn change(place: &str, what: &str, how: How) -> Change {
    Change { place: place.to_owned(), what: what.to_owned(), how }
}

#[cfg(test)]
mod tests;
