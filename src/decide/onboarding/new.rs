//! Makes the directory of a host, its rule in `.sops.yaml`, and a skeleton of its secrets.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{self, Standing};
use super::{Decided, Directory, Edit, Item, recipient, refused, rules_text};
use crate::decide::fault::Fault;
use crate::decide::fleet::{self, REGISTRIES_SECTION, SHARED_SECTION, Wanted};
use crate::decide::mistake::meant;
use crate::decide::sops::{self, CreationRules, SealFor};
use crate::decide::{check_clear, settings};
use crate::model::host::HostSpec;
use crate::model::ring::RingPointer;
use crate::model::tree::{File, Tree};

/// What an operator says of a host that is to come.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Its name.
    pub host: &'a str,
    /// Its ring.
    pub ring: &'a str,
    /// `DOMAIN` of its stacks.
    pub domain: &'a str,
    /// Its stacks, in their order.
    pub stacks: &'a [String],
    /// Who may edit its secrets; empty: whoever may edit those of all other hosts.
    pub operators: &'a [String],
    /// Other variables.
    pub vars: &'a BTreeMap<String, String>,
    /// Where its backups go, if that is known.
    pub backup: Option<&'a str>,
}

/// The files of the new host, or everything that is wrong with the wish.
pub fn new(tree: &Tree, wish: &Wish<'_>) -> Result<Decided, Fault> {
    let refuse = |problems| refused(format!("{} cannot be made", wish.host.escape_debug()), problems);
    let mut problems = wrong(tree, wish);
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let others: Vec<HostSpec> = fleet::hosts(tree).iter().filter_map(|host| fleet::read(tree, host).ok()).collect();
    let mut vars = wish.vars.clone();
    vars.insert("DOMAIN".into(), wish.domain.to_owned());
    let first = wanted(tree, wish, &vars, &others).map_err(refuse)?;
    let mut secrets = first.secret.clone();
    for (stack, name) in &first.either {
        match answer(stack, name, &others) {
            Answer::Secret => _ = secrets.insert((stack.clone(), name.clone())),
            Answer::Value(value) => _ = vars.insert(name.clone(), value),
            Answer::Unknown => problems.push(format!("stack {stack} needs `{name}`: `--var {name}=...`")),
        }
    }
    let (rules_edit, operators) = rule(tree, wish).unwrap_or_else(|problem| {
        problems.push(problem);
        (None, Vec::new())
    });
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let directory = format!("hosts/{}", wish.host);
    let skeleton = skeleton(&first.own, &secrets, &others);
    let files = vec![
        ("host.yaml".to_owned(), host_yaml(wish, &vars, &others).into_bytes()),
        ("secrets.sops.yaml".to_owned(), skeleton.into_bytes()),
    ];
    let write = rules_edit.into_iter().map(|text| (rules::PATH.to_owned(), text.into_bytes())).collect();
    let done = format!(
        "{directory}/ is made, and .sops.yaml has a rule for it, for {} until the host is enrolled",
        operators.join(" and ")
    );
    let edit = Edit { write, directory: Some(Directory::Comes { path: directory, files }) };
    Ok(Decided { edit, done, left: left(tree, wish, &others) })
}

/// What is wrong with the words themselves.
fn wrong(tree: &Tree, wish: &Wish<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    let host = wish.host;
    if !settings::is_host_name(host) {
        problems
            .push(format!("`{}` cannot be a host: letters, digits, `.`, `-`, `_`, at most 63", host.escape_debug()));
    } else if let Some(taken) = fleet::hosts(tree).iter().find(|known| known.eq_ignore_ascii_case(host)) {
        problems.push(format!(
            "hosts/{taken}/ is there already; `moorline host enroll {taken} RECIPIENT` lets a new key in"
        ));
    }
    if tree.get(&fleet::ring_path(wish.ring)).is_none() {
        let rings = tree.below("rings").filter_map(|(path, _)| path.strip_suffix(".yaml")).collect::<Vec<_>>();
        let ring = wish.ring.escape_debug();
        problems.push(format!(
            "--ring {ring}: there is no rings/{ring}.yaml{}; there are: {}",
            meant(wish.ring, &rings),
            rings.join(", ")
        ));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if wish.domain.len() > 253 || !wish.domain.contains('.') || !wish.domain.split('.').all(is_label) {
        problems.push(format!("--domain {}: write a name such as `gamma.example.org`", wish.domain.escape_debug()));
    }
    let known = tree.directories_in("stacks").into_iter().collect::<Vec<_>>();
    for stack in wish.stacks.iter().filter(|stack| !known.contains(&stack.as_str())) {
        let near = meant(stack, &known);
        problems.push(format!(
            "--stacks {}: there is no such stack{near}; there are: {}",
            stack.escape_debug(),
            known.join(", ")
        ));
    }
    for operator in wish.operators.iter().filter(|operator| !sops::is_readable(operator)) {
        let shown: String = operator.chars().take(12).flat_map(char::escape_debug).collect();
        problems.push(format!("--operator {shown}…: this is no recipient for age, such as `age-keygen -y` prints"));
    }
    if wish.vars.contains_key("DOMAIN") {
        problems.push("--var DOMAIN: `--domain` says it".into());
    }
    problems
}

/// What the host will need, read from a `host.yaml` that has these variables.
fn wanted(
    tree: &Tree,
    wish: &Wish<'_>,
    vars: &BTreeMap<String, String>,
    others: &[HostSpec],
) -> Result<Wanted, Vec<String>> {
    let mut tree = tree.clone();
    let text = host_yaml(wish, vars, others);
    tree.insert(format!("hosts/{}/host.yaml", wish.host), File::plain(text));
    fleet::wanted(&tree, wish.host).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

/// What the other hosts make of a name that may be a variable or a secret.
enum Answer {
    Secret,
    Value(String),
    Unknown,
}

fn answer(stack: &str, name: &str, others: &[HostSpec]) -> Answer {
    let is_sealed = |spec: &HostSpec| {
        let names = fleet::names_in(spec.sealed.as_ref()).unwrap_or_default();
        [SHARED_SECTION, stack].iter().any(|section| names.get(*section).is_some_and(|names| names.contains(name)))
    };
    let values: Vec<&String> = others.iter().filter_map(|spec| spec.vars.get(name)).collect();
    match values.as_slice() {
        // The value of a single host may well be its own.
        [first, _, ..] if values.iter().all(|value| value == first) => Answer::Value((*first).clone()),
        [_, ..] => Answer::Unknown,
        [] if others.iter().any(is_sealed) || check_clear::is_telling(name) => Answer::Secret,
        [] => Answer::Unknown,
    }
}

/// `.sops.yaml` with a rule for the host, unless it has one; and for whom it seals.
fn rule(tree: &Tree, wish: &Wish<'_>) -> Result<(Option<String>, Vec<String>), String> {
    let hosts = fleet::hosts(tree);
    let text = rules_text(tree)?;
    let before = match rules::standing(tree, wish.host, &hosts)? {
        // Somebody wrote it by hand, or a call before this one was cut short.
        Standing::Own(_, recipients) => return Ok((None, recipients)),
        Standing::Shared(index) => Some(index),
        Standing::None => None,
    };
    let operators = match wish.operators {
        [] => operators(tree, &hosts),
        named => named.to_vec(),
    };
    if operators.is_empty() {
        return Err(
            "nobody may edit the secrets of all other hosts: `--operator age1...`, once for each operator".into()
        );
    }
    let edited = rules::add(text, wish.host, &operators, before)?;
    Ok((Some(edited), operators))
}

/// Those for whom the files of every other host are sealed.
fn operators(tree: &Tree, hosts: &[String]) -> Vec<String> {
    let Some(rules) = tree.get(rules::PATH).and_then(|file| CreationRules::read(&file.bytes)) else {
        return Vec::new();
    };
    let of_hosts: BTreeSet<&str> = hosts.iter().filter_map(|host| recipient(tree, host)).collect();
    let lists = hosts.iter().filter_map(|host| match rules.of(&rules::secrets_path(host)) {
        SealFor::Recipients(recipients) => Some(recipients),
        SealFor::Nobody | SealFor::Unknown(_) => None,
    });
    let lists: Vec<&[String]> = lists.collect();
    let first = lists.first().copied().unwrap_or_default();
    let is_everywhere = |one: &&String| lists.iter().all(|list| list.contains(one));
    first.iter().filter(|one| !of_hosts.contains(one.as_str())).filter(is_everywhere).cloned().collect()
}

fn host_yaml(wish: &Wish<'_>, vars: &BTreeMap<String, String>, others: &[HostSpec]) -> String {
    let mut text = format!(
        "ring: {}\n\n# For ${{...}} in the Compose files of this host. Nothing secret stands here.\nvars:\n",
        wish.ring
    );
    text.push_str(&format!("  DOMAIN: {}\n", plain(wish.domain)));
    for (name, value) in vars.iter().filter(|(name, _)| *name != "DOMAIN") {
        text.push_str(&format!("  {name}: {}\n", plain(value)));
    }
    text.push_str(&format!(
        "\n# Carried out in this order, but each after those that it needs.\nstacks: [{}]\n",
        wish.stacks.join(", ")
    ));
    let needs = needs(wish.stacks, others);
    if !needs.is_empty() {
        let entries = needs.iter().map(|(stack, needed)| format!("{stack}: [{}]", needed.join(", ")));
        text.push_str(&format!("needs: {{ {} }}\n", entries.collect::<Vec<_>>().join(", ")));
    }
    if let Some(url) = wish.backup {
        text.push_str(&format!(
            "\n# Passwords and keys stand in section `all` of secrets.sops.yaml.\nbackup:\n  repository: {}\n  at: \"03:00\"\n  \
             keep: {{ daily: 7, weekly: 4, monthly: 6 }}\n  check: weekly\n  drill: monthly\n",
            serde_json::Value::from(url)
        ));
    }
    text.push_str(
        "\n# Names of push URLs in section `all` of secrets.sops.yaml.\nmonitors:\n  reconcile: KUMA_RECONCILE\n",
    );
    if wish.backup.is_some() {
        text.push_str("  backup: KUMA_BACKUP\n");
    }
    text
}

/// What the stacks need of each other on other hosts.
fn needs(stacks: &[String], others: &[HostSpec]) -> BTreeMap<String, Vec<String>> {
    let mut needs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (stack, needed) in others.iter().flat_map(|spec| &spec.needs).filter(|(stack, _)| stacks.contains(stack)) {
        for name in needed.iter().filter(|name| stacks.contains(name)) {
            let known = needs.entry(stack.clone()).or_default();
            if !known.contains(name) {
                known.push(name.clone());
            }
        }
    }
    needs
}

/// Every name with an empty value: `sops` leaves an empty value in clear, so `check` can tell that it was not entered.
fn skeleton(own: &BTreeSet<String>, secrets: &BTreeSet<(String, String)>, others: &[HostSpec]) -> String {
    let shared: BTreeSet<String> = others
        .iter()
        .filter_map(|spec| fleet::names_in(spec.sealed.as_ref()).ok()?.remove(SHARED_SECTION))
        .flatten()
        .collect();
    let mut sections: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for name in own {
        sections.entry(SHARED_SECTION).or_default().insert(name);
    }
    for (stack, name) in secrets {
        let section = if shared.contains(name) { SHARED_SECTION } else { stack.as_str() };
        sections.entry(section).or_default().insert(name);
    }
    let mut text = String::new();
    for (section, names) in sections {
        text.push_str(&format!("{section}:\n"));
        for name in names {
            text.push_str(&format!("    {name}: \"\"\n"));
        }
    }
    text
}

/// A value of YAML that is read back as this text.
fn plain(value: &str) -> String {
    let is_word = value.starts_with(|first: char| first.is_ascii_alphabetic())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@/".contains(&byte))
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
            .contains(&value.to_ascii_lowercase().as_str());
    if is_word { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

fn left(tree: &Tree, wish: &Wish<'_>, others: &[HostSpec]) -> Vec<Item> {
    let host = wish.host;
    let path = rules::secrets_path(host);
    let mut items = vec![Item::new(format!("read hosts/{host}/host.yaml"))];
    let more = rules_text(tree).map(rules::more_than_age).unwrap_or_default();
    if !more.is_empty() {
        let more = more.join("`, `");
        items.push(Item::new(format!(
            "rules of other hosts also say `{more}`; add it to that of {host} before you seal"
        )));
    }
    items.push(
        Item::new("seal the skeleton while it is empty, then enter the values")
            .command(format!("sops -e -i {path}"))
            .command(format!("sops {path}")),
    );
    let registries: BTreeSet<String> = others
        .iter()
        .filter_map(|spec| fleet::names_in(spec.sealed.as_ref()).ok()?.remove(REGISTRIES_SECTION))
        .flatten()
        .collect();
    if !registries.is_empty() {
        let named = registries.into_iter().collect::<Vec<_>>().join(", ");
        items.push(Item::new(format!(
            "other hosts have logins of registries ({named}): section `{REGISTRIES_SECTION}`"
        )));
    }
    if wish.backup.is_none() {
        items.push(Item::new("it makes no backups: docs/backups.md, or begin again with `--backup URL`"));
    }
    items.push(
        Item::new("check, commit, merge; until it is enrolled the host waits")
            .command("moorline check")
            .command(format!("git add .sops.yaml hosts/{host} && git commit -m \"{host} comes\"")),
    );
    items.push(Item::new(format!("DNS: {} and the names below it point to the host", wish.domain)));
    items.push(
        Item::new("its server: user-data for its first boot, cloud-init/README.md")
            .command(format!("moorline cloud-init {host} --help")),
    );
    items.push(
        Item::new("when the host has made its key, which its console and `moorline key show` print")
            .command(format!("moorline host enroll {host} RECIPIENT")),
    );
    if fleet::promotion(tree).ok().flatten().is_some() {
        items.push(Item::new(format!("moorline.yaml: promotion.status.{host}, once its status page is served")));
    }
    if let Ok(ring) = fleet::ring(tree, wish.ring, "main")
        && matches!(ring.pointer, RingPointer::Commit(_))
    {
        items.push(
            Item::new("its ring runs a commit: the host moves when one that has it is promoted")
                .command(format!("moorline promote {}", wish.ring)),
        );
    }
    items
}
