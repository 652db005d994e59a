//! Lets a host in: its recipient, and its place in `.sops.yaml`.

use super::rules::{self, Standing};
use super::{Decided, Edit, Item, recipient, refused, rules_text, unknown};
use crate::decide::fault::Fault;
use crate::decide::fleet;
use crate::decide::sops;
use crate::model::tree::Tree;

/// What an enrolment comes to.
#[derive(Debug)]
pub enum Enrolled {
    /// The files must change.
    Changes(Decided),
    /// They say all of it already.
    Already(Vec<Item>),
}

/// Names `new` as the key of `host`.
pub fn enroll(tree: &Tree, host: &str, new: &str) -> Result<Enrolled, Fault> {
    let refuse = |problems| refused(format!("{} cannot be enrolled", host.escape_debug()), problems);
    if let Some(problem) = unknown(tree, host) {
        return Err(refuse(vec![problem]).hint("moorline host new NAME --ring RING --domain DOMAIN --stacks STACK,..."));
    }
    if new.to_ascii_uppercase().starts_with("AGE-SECRET-KEY") {
        // It is not shown again: whoever reads this line could open the host's secrets.
        let problem = "this is a private key, and no longer a secret: make another on the host".to_owned();
        return Err(refuse(vec![problem]).hint("on the host: `moorline key generate`, then `moorline key show`"));
    }
    if !sops::is_readable(new) {
        let problem = format!("`{}` is no recipient for age", new.escape_debug());
        return Err(refuse(vec![problem]).hint("on the host: `moorline key show`"));
    }
    let hosts = fleet::hosts(tree);
    if let Some(other) = hosts.iter().find(|other| *other != host && recipient(tree, other) == Some(new)) {
        return Err(refuse(vec![format!("this is the key of host {other}; each host has its own")]));
    }
    let old = recipient(tree, host);
    let text = rules_text(tree).map_err(|problem| refuse(vec![problem]))?;
    let standing = rules::standing(tree, host, &hosts).map_err(|problem| refuse(vec![problem]))?;
    let (index, sealed_for) = match standing {
        Standing::Own(index, recipients) => (index, recipients),
        Standing::Shared(_) | Standing::None => {
            let problem = format!("no rule of .sops.yaml is for {host} alone: its key would open what others seal");
            let rule =
                format!("add one before those for others, with its operators: path_regex: {}", rules::pattern(host));
            return Err(refuse(vec![problem]).hint(rule));
        }
    };
    let is_admitted = sealed_for.iter().any(|known| known == new);
    let left = left(tree, host, old.filter(|old| *old != new));
    if old == Some(new) && is_admitted {
        return Ok(Enrolled::Already(left));
    }
    let mut edit = Edit::default();
    if !is_admitted {
        let edited = rules::admit(text, index, host, old, new).map_err(|problem| refuse(vec![problem]))?;
        edit.write.push((rules::PATH.into(), edited.into_bytes()));
    }
    edit.write.push((format!("hosts/{host}/recipient"), format!("{new}\n").into_bytes()));
    let done = format!("{new} is the key of {host}: hosts/{host}/recipient and .sops.yaml say so");
    Ok(Enrolled::Changes(Decided { edit, done, left }))
}

fn left(tree: &Tree, host: &str, old: Option<&str>) -> Vec<Item> {
    let paths = tree.files().filter(|(path, _)| path.starts_with(&format!("hosts/{host}/")));
    let files = paths.filter(|(path, _)| crate::decide::check_secrets::is_sops_path(path));
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    for (path, file) in files {
        let format = sops::Format::of_path(path);
        match format.and_then(|format| sops::metadata(&file.bytes, format)) {
            Ok(_) => sealed.push(path),
            Err(_) => plain.push(path),
        }
    }
    let mut items = Vec::new();
    if !plain.is_empty() {
        let item = Item::new("seal what stands in clear, then enter the values");
        items.push(
            plain
                .iter()
                .fold(item, |item, path| item.command(format!("sops -e -i {path}")).command(format!("sops {path}"))),
        );
    }
    if !sealed.is_empty() {
        let item = Item::new("seal its files for the host too");
        items.push(sealed.iter().fold(item, |item, path| item.command(format!("sops updatekeys --yes {path}"))));
    }
    if old.is_some() && !sealed.is_empty() {
        let item =
            Item::new("if the old key may be in other hands: a new data key, then change the secrets themselves");
        items.push(sealed.iter().fold(item, |item, path| item.command(format!("sops rotate -i {path}"))));
    }
    let commit = format!("git add .sops.yaml hosts/{host} && git commit -m \"enrol {host}\"");
    items.push(Item::new("check, commit, merge").command("moorline check").command(commit));
    items
}
