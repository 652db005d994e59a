//! Reads what the repository says about one host, and collects every mistake with its place.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use self::secrets::{check_monitors, check_sections, read_sealed, secret_names};
use self::stacks::{check_variables, read_stacks};
pub use crate::decide::mistake::{Mistake, line_of, spec_invalid, yaml_mistake};
use crate::decide::mistake::{meant, read_yaml};
use crate::decide::promotion::Rules;
use crate::decide::{dotenv, needs, policy, standstill};
use crate::model::host::{HostSpec, Monitors};
use crate::model::policy::Allowances;
use crate::model::tree::Tree;

mod agent;
mod backup;
mod elsewhere;
mod place;
mod promotion;
mod ring;
mod secrets;
mod stacks;
mod wanted;

pub use elsewhere::elsewhere;
pub use ring::{ring, ring_path, ring_signature_path};
pub use secrets::{names_in, or_awaits, sealed_fault, sealed_mistake};
pub use wanted::{Wanted, wanted};

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
    trust: standstill::TrustSection,
    #[serde(default)]
    promotion: Option<promotion::PromotionFile>,
    #[serde(default)]
    policy: policy::settings::PolicyFile,
    #[serde(default)]
    agent: agent::AgentFile,
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
    needs: needs::Needs,
    #[serde(default)]
    backup: Option<backup::BackupFile>,
    #[serde(default)]
    monitors: Monitors,
}

/// The names of all hosts.
pub fn hosts(tree: &Tree) -> Vec<String> {
    tree.directories_in("hosts").into_iter().map(str::to_owned).collect()
}

/// What `moorline.yaml` says of every host: the exceptions to the policy, and the versions of moorline.
#[derive(Debug, Default)]
pub struct Common {
    /// The exceptions.
    pub allowances: Allowances,
    /// What each ring is to run.
    offers: agent::Offers,
}

/// Reads what is said of every host.
pub fn read_repository(tree: &Tree, mistakes: &mut Vec<Mistake>) -> Common {
    let Some(file) = read_yaml::<RepositoryFile>(tree, "moorline.yaml", mistakes) else { return Common::default() };
    if file.version != 1 {
        let text = format!("version {} is not known to this version of moorline, which knows 1", file.version);
        mistakes.push(Mistake::at("moorline.yaml", line_of(tree, "moorline.yaml", "version"), text));
    }
    mistakes.extend(standstill::mistake(tree, &file.trust));
    let offers = agent::offers(&file.agent, tree, mistakes);
    Common { allowances: policy::settings::read(&file.policy, tree, mistakes), offers }
}

/// The rules of promotions in `moorline.yaml`; none when it has none.
pub fn promotion(tree: &Tree) -> Result<Option<Rules>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let file = read_yaml::<RepositoryFile>(tree, "moorline.yaml", &mut mistakes);
    match file.and_then(|file| file.promotion) {
        Some(file) => promotion::rules(tree, file).map(Some),
        None if mistakes.is_empty() => Ok(None),
        None => Err(mistakes),
    }
}

/// What the repository says about `host`.
pub fn read(tree: &Tree, host: &str) -> Result<HostSpec, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let Common { allowances, offers } = read_repository(tree, &mut mistakes);
    let path = format!("hosts/{host}/host.yaml");
    if tree.get(&path).is_none() {
        mistakes.push(unknown_host(tree, host, path));
        return Err(mistakes);
    }
    let Some(file) = read_yaml::<HostFile>(tree, &path, &mut mistakes) else {
        return Err(mistakes);
    };
    let vars = read_vars(tree, &path, &file.vars, &mut mistakes);
    let sealed = read_sealed(tree, host, &mut mistakes);
    let secrets = secret_names(sealed.as_ref(), &mut mistakes);
    let stacks = read_stacks(tree, &path, &file.stacks, &mut mistakes);
    let stacks = needs::in_order(stacks, &file.needs, tree, &path, &mut mistakes);
    if file.backup.is_none() {
        stacks.iter().for_each(|stack| stacks::check_snapshot_before(stack, &path, &mut mistakes));
    }
    let backups = file.backup.and_then(|file| backup::read(tree, &path, file, &mut mistakes));
    // When nothing is known of the secrets, every use of one would look like a mistake.
    if names_in(sealed.as_ref()).is_ok() {
        for stack in &stacks {
            check_variables(stack, &path, &vars, sealed.as_ref(), &secrets, &mut mistakes);
        }
        check_monitors(tree, &path, &file.monitors, sealed.as_ref(), &secrets, &mut mistakes);
        if let Some(backups) = &backups {
            backup::check_secrets(tree, &path, backups, sealed.as_ref(), &secrets, &mut mistakes);
        }
    }
    let mut notes = check_sections(&stacks, sealed.as_ref(), &secrets, &mut mistakes);
    if !mistakes.is_empty() {
        mistakes.sort();
        mistakes.dedup();
        return Err(mistakes);
    }
    notes.extend(backups.iter().flat_map(|backups| backup::notes(&path, backups)));
    let withheld = backup::withheld(backups.as_ref());
    let HostFile { ring, monitors, needs, .. } = file;
    let name = host.to_owned();
    let agent = agent::offer_of(&offers, &ring).cloned();
    Ok(HostSpec { name, ring, vars, stacks, monitors, backups, withheld, sealed, allowances, needs, agent, notes })
}

/// The ring of a host. It is read from the tip even when the host runs an older revision.
pub fn ring_of(tree: &Tree, host: &str) -> Result<String, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let path = format!("hosts/{host}/host.yaml");
    if tree.get(&path).is_none() {
        return Err(vec![unknown_host(tree, host, path)]);
    }
    read_yaml::<HostFile>(tree, &path, &mut mistakes).map(|file| file.ring).ok_or(mistakes)
}

/// The hosts of a ring. A host whose file cannot be read is in none.
pub fn hosts_of_ring(tree: &Tree, ring: &str) -> Vec<String> {
    hosts(tree).into_iter().filter(|host| ring_of(tree, host).is_ok_and(|named| named == ring)).collect()
}

fn unknown_host(tree: &Tree, host: &str, path: String) -> Mistake {
    let known = hosts(tree);
    if known.iter().any(|name| name == host) {
        return Mistake::new(path, "this file is missing");
    }
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    Mistake::new(path, format!("this host is not in the repository{}", meant(host, &names)))
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
        if dotenv::is_reserved(name) {
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
