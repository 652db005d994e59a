//! Finds what a host needs that its SOPS file or `host.yaml` must give, with the same eyes as `check` finds it missing.

use std::collections::BTreeSet;

use super::stacks::{Kind, demands, read_stacks};
use super::{HostFile, Mistake, backup, read_vars};
use crate::decide::mistake::read_yaml;
use crate::decide::traefik::host::STACK as TRAEFIK;
use crate::decide::{dotenv, needs};
use crate::model::host::StackSource;
use crate::model::tree::Tree;

/// Names that a host needs, beside its `vars`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Stack and name: a variable or a secret, both would do.
    pub either: BTreeSet<(String, String)>,
    /// Stack and name: a secret.
    pub secret: BTreeSet<(String, String)>,
    /// For moorline itself: push URLs, and what backups need.
    pub own: BTreeSet<String>,
}

/// What the host of this tree needs, whatever its SOPS file already has.
pub fn wanted(tree: &Tree, host: &str) -> Result<Wanted, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let path = format!("hosts/{host}/host.yaml");
    let Some(file) = read_yaml::<HostFile>(tree, &path, &mut mistakes) else { return Err(mistakes) };
    let vars = read_vars(tree, &path, &file.vars, &mut mistakes);
    let stacks = read_stacks(tree, &path, &file.stacks, &mut mistakes);
    let stacks = needs::in_order(stacks, &file.needs, tree, &path, &mut mistakes);
    let backups = file.backup.and_then(|file| backup::read(tree, &path, file, &mut mistakes));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let monitors = [file.monitors.reconcile, file.monitors.backup, file.monitors.check, file.monitors.drill];
    let mut wanted = Wanted { own: monitors.into_iter().flatten().collect(), ..Wanted::default() };
    wanted.own.extend(backup::withheld(backups.as_ref()));
    for stack in &stacks {
        let asked = demands(stack).into_iter().map(|demand| (demand.name, !matches!(demand.kind, Kind::Use)));
        for (name, is_secret) in asked.chain(in_dynamic_files(stack).map(|name| (name, false))) {
            let entry = (stack.name.clone(), name);
            match is_secret {
                _ if vars.contains_key(&entry.1) => {}
                true => _ = wanted.secret.insert(entry),
                false => _ = wanted.either.insert(entry),
            }
        }
    }
    wanted.either.retain(|entry| !wanted.secret.contains(entry));
    Ok(wanted)
}

/// What Traefik's dynamic files are interpolated with.
fn in_dynamic_files(stack: &StackSource) -> impl Iterator<Item = String> {
    let given = stack.files.get(".env").and_then(|file| file.text().ok()).map(dotenv::names).unwrap_or_default();
    let files = stack.files.iter().filter(|(path, _)| stack.name == TRAEFIK && path.starts_with("dynamic/"));
    let uses = files.filter_map(|(_, file)| file.text().ok()).flat_map(dotenv::uses);
    uses.filter(move |used| !used.has_rule && !given.contains(&used.name)).map(|used| used.name)
}
