//! Reads what the repository says about one host, and collects every mistake with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::decide::fault::{Code, Fault};
pub use crate::decide::mistake::{Mistake, line_of, spec_invalid, yaml_mistake};
use crate::decide::mistake::{line_in, meant, text_of, yaml};
use crate::decide::sops::{Outline, SopsError};
use crate::decide::{dotenv, schedule, sops};
use crate::model::Revision;
use crate::model::host::{HostSpec, Monitors, Ring, RingPointer, Sealed, StackSource};
use crate::model::tree::{File, Tree};

/// Sections of the SOPS file that are not stacks.
pub const SHARED_SECTION: &str = "all";
/// The section of the SOPS file with logins of registries.
pub const REGISTRIES_SECTION: &str = "registries";

/// `moorline.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryFile {
    version: u32,
    #[serde(default)]
    trust: TrustSection,
}

/// `trust` in `moorline.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustSection {
    #[serde(default)]
    expect_change_within: Option<String>,
}

/// `hosts/<host>/host.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    ring: String,
    #[serde(default)]
    vars: BTreeMap<String, Json>,
    stacks: Vec<String>,
    #[serde(default)]
    backup: Option<BackupFile>,
    #[serde(default)]
    monitors: Monitors,
}

/// `backup` in `host.yaml`: read and checked, carried out by a later version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "the shape is checked now, so that a file written today stays valid")]
struct BackupFile {
    repository: String,
    at: String,
    #[serde(default)]
    keep: BTreeMap<String, u32>,
    #[serde(default)]
    check: Option<String>,
    #[serde(default)]
    drill: Option<String>,
}

/// `rings/<ring>.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RingFile {
    #[serde(default)]
    follow: Option<String>,
    #[serde(default)]
    commit: Option<Revision>,
    #[serde(default)]
    halt: Option<String>,
}

/// The names of all hosts.
pub fn hosts(tree: &Tree) -> Vec<String> {
    tree.directories_in("hosts").into_iter().map(str::to_owned).collect()
}

/// The mistakes that are not about one host: the schema version, and the signers.
pub fn repository_mistakes(tree: &Tree) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let Some(file) = yaml::<RepositoryFile>(tree, "moorline.yaml", &mut mistakes) else { return mistakes };
    if file.version != 1 {
        let text = format!("version {} is not known to this version of moorline, which knows 1", file.version);
        mistakes.push(Mistake::at("moorline.yaml", line_of(tree, "moorline.yaml", "version"), text));
    }
    if let Some(Err(error)) = file.trust.expect_change_within.as_deref().map(schedule::parse_duration) {
        let line = line_of(tree, "moorline.yaml", "expect_change_within");
        mistakes.push(Mistake::at("moorline.yaml", line, format!("trust.expect_change_within: {error}")));
    }
    mistakes
}

/// How often the operators expect the tip to move, if they said so in a way that can be read.
pub fn expected_change(tree: &Tree) -> Option<Duration> {
    let file = yaml::<RepositoryFile>(tree, "moorline.yaml", &mut Vec::new())?;
    schedule::parse_duration(&file.trust.expect_change_within?).ok()
}

/// What the repository says about `host`.
pub fn read(tree: &Tree, host: &str) -> Result<HostSpec, Vec<Mistake>> {
    let mut mistakes = repository_mistakes(tree);
    let path = format!("hosts/{host}/host.yaml");
    if tree.get(&path).is_none() {
        mistakes.push(unknown_host(tree, host, path));
        return Err(mistakes);
    }
    let Some(file) = yaml::<HostFile>(tree, &path, &mut mistakes) else {
        return Err(mistakes);
    };
    let vars = read_vars(tree, &path, &file.vars, &mut mistakes);
    let sealed = read_sealed(tree, host);
    let secrets = secret_names(sealed.as_ref(), &mut mistakes);
    let stacks = read_stacks(tree, &path, &file.stacks, &mut mistakes);
    // When nothing is known of the secrets, every use of one would look like a mistake.
    if names_in(sealed.as_ref()).is_ok() {
        for stack in &stacks {
            check_variables(stack, &path, &vars, sealed.as_ref(), &secrets, &mut mistakes);
        }
        check_monitors(tree, &path, &file.monitors, sealed.as_ref(), &secrets, &mut mistakes);
    }
    let mut notes = check_sections(&stacks, sealed.as_ref(), &secrets, &mut mistakes);
    if !mistakes.is_empty() {
        mistakes.sort();
        mistakes.dedup();
        return Err(mistakes);
    }
    if file.backup.is_some() {
        notes.push(format!("{path}: backup is configured, but this version makes no backups"));
    }
    Ok(HostSpec { name: host.to_owned(), ring: file.ring, vars, stacks, monitors: file.monitors, sealed, notes })
}

/// The ring of a host. It is read from the tip even when the host runs an older revision.
pub fn ring_of(tree: &Tree, host: &str) -> Result<String, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let path = format!("hosts/{host}/host.yaml");
    if tree.get(&path).is_none() {
        return Err(vec![unknown_host(tree, host, path)]);
    }
    yaml::<HostFile>(tree, &path, &mut mistakes).map(|file| file.ring).ok_or(mistakes)
}

fn unknown_host(tree: &Tree, host: &str, path: String) -> Mistake {
    let known = hosts(tree);
    if known.iter().any(|name| name == host) {
        return Mistake::new(path, "this file is missing");
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    Mistake::new(path, format!("this host is not in the repository{}", meant(host, &names)))
}

/// The ring file of `ring`. `branch` is the one that this host follows.
pub fn ring(tree: &Tree, ring: &str, branch: &str) -> Result<Ring, Vec<Mistake>> {
    let path = format!("rings/{ring}.yaml");
    let mut mistakes = Vec::new();
    if tree.get(&path).is_none() {
        let names: Vec<&str> = tree.below("rings").filter_map(|(name, _)| name.strip_suffix(".yaml")).collect();
        return Err(vec![Mistake::new(path, format!("there is no such ring{}", meant(ring, &names)))]);
    }
    let Some(file) = yaml::<RingFile>(tree, &path, &mut mistakes) else {
        return Err(mistakes);
    };
    let pointer = match (file.follow, file.commit) {
        (Some(follow), None) if follow == branch => RingPointer::Follow(follow),
        (Some(follow), None) => {
            let text = format!("follows `{follow}`, but the branch that is accepted here is `{branch}`");
            return Err(vec![Mistake::at(&path, line_of(tree, &path, "follow"), text)]);
        }
        (None, Some(commit)) => RingPointer::Commit(commit),
        _ => return Err(vec![Mistake::new(path, "needs either `follow: BRANCH` or `commit: REVISION`")]),
    };
    Ok(Ring { name: ring.to_owned(), pointer, halt: file.halt })
}

fn read_vars(
    tree: &Tree,
    path: &str,
    vars: &BTreeMap<String, Json>,
    mistakes: &mut Vec<Mistake>,
) -> BTreeMap<String, String> {
    let mut read = BTreeMap::new();
    for (name, value) in vars {
        let line = line_of(tree, path, name);
        if !dotenv::is_name(name) {
            mistakes.push(Mistake::at(path, line, format!("`{name}` cannot be the name of a variable")));
        }
        if is_reserved(name) {
            mistakes.push(Mistake::at(path, line, format!("`{name}` is set by moorline")));
        }
        match value {
            Json::String(text) => _ = read.insert(name.clone(), text.clone()),
            Json::Bool(_) => _ = read.insert(name.clone(), value.to_string()),
            Json::Number(number) if !number.is_f64() => _ = read.insert(name.clone(), value.to_string()),
            // 1.10 would become 1.1, and nobody would see it.
            _ => mistakes.push(Mistake::at(path, line, format!("quote the value of `{name}`: only text is exact"))),
        }
    }
    read
}

/// Variables that steer Compose itself. Profiles may be chosen per host; nothing else may be redirected.
fn is_reserved(name: &str) -> bool {
    (name.starts_with("COMPOSE_") && name != "COMPOSE_PROFILES") || name.starts_with("DOCKER_")
}

fn read_sealed(tree: &Tree, host: &str) -> Option<Sealed> {
    let path = format!("hosts/{host}/secrets.sops.yaml");
    tree.get(&path).map(|file| Sealed { bytes: file.bytes.clone(), path })
}

fn secret_names(sealed: Option<&Sealed>, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, BTreeSet<String>> {
    names_in(sealed).unwrap_or_else(|error| {
        mistakes.push(sealed_mistake(sealed.map_or("", |sealed| &sealed.path), &error));
        BTreeMap::new()
    })
}

/// A SOPS file that cannot be read at all.
pub fn sealed_mistake(path: &str, error: &SopsError) -> Mistake {
    match error {
        SopsError::NotSealed => Mistake::new(path, format!("{error}; `sops -e -i {path}` seals it")),
        _ => Mistake::new(path, error.to_string()),
    }
}

/// The names in a SOPS file, by section. They stand there in clear, so this needs no key.
pub fn names_in(sealed: Option<&Sealed>) -> Result<BTreeMap<String, BTreeSet<String>>, SopsError> {
    let Some(sealed) = sealed else { return Ok(BTreeMap::new()) };
    let outlines = sops::keys_in_clear(&sealed.bytes, sops::Format::Yaml)?;
    let entries = |outline: &Outline| match outline {
        Outline::Map(entries) => entries.clone(),
        _ => Vec::new(),
    };
    let sections = outlines.first().map(entries).unwrap_or_default();
    let names_in = |(section, outline): (String, Outline)| {
        (section, entries(&outline).into_iter().map(|(name, _)| name).collect())
    };
    Ok(sections.into_iter().map(names_in).collect())
}

fn read_stacks(tree: &Tree, path: &str, names: &[String], mistakes: &mut Vec<Mistake>) -> Vec<StackSource> {
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
    let path = format!("stacks/{name}/compose.yaml");
    if let Some(taken) = files.keys().find(|file| *file == super::compose::OVERRIDE) {
        mistakes.push(Mistake::new(format!("stacks/{name}/{taken}"), "this name is taken by moorline"));
    }
    if let Some(text) = text_of(&files["compose.yaml"], &path, mistakes)
        && let Err(error) = serde_yaml::from_str::<serde_yaml::Value>(text)
    {
        mistakes.push(yaml_mistake(&path, &error));
    }
}

fn check_variables(
    stack: &StackSource,
    host_path: &str,
    vars: &BTreeMap<String, String>,
    sealed: Option<&Sealed>,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    mistakes: &mut Vec<Mistake>,
) {
    let Ok(text) = stack.files["compose.yaml"].text() else {
        return;
    };
    let from_env_file = stack.files.get(".env").and_then(|file| file.text().ok()).map(dotenv::names);
    let from_env_file = from_env_file.unwrap_or_default();
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
    for used in dotenv::uses(text) {
        let known = used.has_rule
            || vars.contains_key(&used.name)
            || from_env_file.contains(&used.name)
            || is_secret(&used.name);
        if !known {
            let text = format!("`${{{}}}` is not in {places}", used.name);
            mistakes.push(Mistake::at(&path, Some(used.line), text));
        }
    }
    for (place, name) in environment_sources(text) {
        if !vars.contains_key(&name) && !is_secret(&name) {
            let line = line_in(text, &format!("environment: {name}"));
            mistakes.push(Mistake::at(&path, line, format!("{place}.environment: `{name}` is not in {places}")));
        }
    }
}

/// Secrets and configs whose content is a variable: the place, and the variable.
fn environment_sources(text: &str) -> Vec<(String, String)> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_default();
    let mut found = Vec::new();
    for kind in ["secrets", "configs"] {
        let definitions = value.get(kind).and_then(serde_yaml::Value::as_mapping).into_iter().flatten();
        for (name, definition) in definitions {
            let variable = definition.get("environment").and_then(serde_yaml::Value::as_str);
            if let (Some(name), Some(variable)) = (name.as_str(), variable.filter(|variable| dotenv::is_name(variable)))
            {
                found.push((format!("{kind}.{name}"), variable.to_owned()));
            }
        }
    }
    found
}

fn check_monitors(
    tree: &Tree,
    path: &str,
    monitors: &Monitors,
    sealed: Option<&Sealed>,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    mistakes: &mut Vec<Mistake>,
) {
    let named = [&monitors.reconcile, &monitors.backup, &monitors.check, &monitors.drill];
    for name in named.into_iter().flatten() {
        if !secrets.get(SHARED_SECTION).is_some_and(|names| names.contains(name)) {
            let place = sealed.map_or("a SOPS file", |sealed| sealed.path.as_str());
            let text = format!("push URL `{name}` is not in section `{SHARED_SECTION}` of {place}");
            mistakes.push(Mistake::at(path, line_of(tree, path, name), text));
        }
    }
}

/// Returns a note for each section that no stack of this host uses: it stays when a stack is dropped, since only a key
/// could take it out.
fn check_sections(
    stacks: &[StackSource],
    sealed: Option<&Sealed>,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    mistakes: &mut Vec<Mistake>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(sealed) = sealed else { return notes };
    for (section, names) in secrets {
        let known = [SHARED_SECTION, REGISTRIES_SECTION].contains(&section.as_str())
            || stacks.iter().any(|stack| stack.name == *section);
        if !known {
            notes.push(format!("{}: section `{section}` is for no stack of this host", sealed.path));
        }
        if section == REGISTRIES_SECTION {
            continue;
        }
        for name in names.iter().filter(|name| !dotenv::is_name(name) || is_reserved(name)) {
            mistakes.push(Mistake::new(&sealed.path, format!("`{section}.{name}` cannot be the name of a variable")));
        }
    }
    notes
}

fn is_project_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let reserved = [SHARED_SECTION, REGISTRIES_SECTION].contains(&name);
    !reserved
        && name.len() <= 63
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

/// The fault of a SOPS file that this host cannot open.
pub fn sealed_fault(error: &SopsError, path: &str, recipients: &[String]) -> Fault {
    let code = match !error.recipients().is_empty() {
        true => Code::SecretsSealed,
        false => Code::SecretsDamaged,
    };
    let fault = Fault::new(code, format!("{path}: {error}")).at("nothing was changed");
    match (code, recipients.first()) {
        (Code::SecretsSealed, Some(own)) => {
            fault.hint(format!("add {own} to .sops.yaml, then `sops updatekeys {path}`"))
        }
        _ => fault.hint(format!("`sops -d {path}` shows what is wrong; restore the file from an earlier commit")),
    }
}
