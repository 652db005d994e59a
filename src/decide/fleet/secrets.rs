//! Reads what a host's SOPS file says in clear: its sections and names.

use std::collections::{BTreeMap, BTreeSet};

use super::{REGISTRIES_SECTION, SHARED_SECTION};
use crate::decide::fault::{Code, Fault};
use crate::decide::mistake::{Mistake, line_of};
use crate::decide::sops::{Format, Outline, SopsError};
use crate::decide::{dotenv, sops};
use crate::model::host::{Monitors, Sealed, StackSource};
use crate::model::tree::Tree;

/// The host's file of secrets, in one of three formats. Two files would be two truths.
pub(super) fn read_sealed(tree: &Tree, host: &str, mistakes: &mut Vec<Mistake>) -> Option<Sealed> {
    let paths = ["yaml", "json", "env"].map(|ending| format!("hosts/{host}/secrets.sops.{ending}"));
    let mut found = paths.into_iter().filter(|path| tree.get(path).is_some());
    let path = found.next()?;
    for other in found {
        mistakes.push(Mistake::new(other, format!("{path} is there too; a host has one file of secrets")));
    }
    tree.get(&path).map(|file| Sealed { bytes: file.bytes.clone(), path })
}

pub(super) fn secret_names(sealed: Option<&Sealed>, mistakes: &mut Vec<Mistake>) -> BTreeMap<String, BTreeSet<String>> {
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

/// The names in a SOPS file, by section. They stand there in clear, so this needs no key. dotenv has no sections: what
/// stands there is for every stack.
pub fn names_in(sealed: Option<&Sealed>) -> Result<BTreeMap<String, BTreeSet<String>>, SopsError> {
    let Some(sealed) = sealed else { return Ok(BTreeMap::new()) };
    let format = Format::of_path(&sealed.path)?;
    let outlines = sops::keys_in_clear(&sealed.bytes, format)?;
    let entries = |outline: &Outline| match outline {
        Outline::Map(entries) => entries.clone(),
        _ => Vec::new(),
    };
    let sections = outlines.first().map(entries).unwrap_or_default();
    if format == Format::Dotenv {
        let names = sections.iter().map(|(name, _)| dotenv::without_export(name).trim().to_owned()).collect();
        return Ok([(SHARED_SECTION.to_owned(), names)].into());
    }
    let names_in = |(section, outline): (String, Outline)| {
        (section, entries(&outline).into_iter().map(|(name, _)| name).collect())
    };
    Ok(sections.into_iter().map(names_in).collect())
}

pub(super) fn check_monitors(
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
pub(super) fn check_sections(
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
        for name in names.iter().filter(|name| !dotenv::is_name(name) || dotenv::is_reserved(name)) {
            mistakes.push(Mistake::new(&sealed.path, format!("`{section}.{name}` cannot be the name of a variable")));
        }
    }
    notes
}

/// A new host cannot open its file until somebody lets its key in: that is waiting, not a fault of the file. A host that
/// the repository names, or that ran before, has no such excuse.
pub fn or_awaits(fault: Fault, named: Option<&str>, own: &[String], host: &str) -> Fault {
    let Some(first) = own.first() else { return fault };
    // Behind an ssh recipient a comment may stand.
    let is_own =
        |named: &str| own.iter().any(|own| named.split_whitespace().take(2).eq(own.split_whitespace().take(2)));
    if fault.code != Code::SecretsSealed || named.is_some_and(is_own) {
        return fault;
    }
    let sentence = format!("awaiting enrolment: the key of this host is {first}");
    let cause = match named {
        Some(named) => format!("hosts/{host}/recipient names another key, {named}"),
        None => format!("there is no hosts/{host}/recipient yet"),
    };
    Fault::new(Code::AwaitingEnrolment, sentence)
        .because(cause)
        .at("nothing was changed; the next run looks again")
        .hint(format!("in a checkout: `moorline host enroll {host} {first}`, and merge what it says"))
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
