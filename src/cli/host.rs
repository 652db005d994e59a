//! `moorline host`: lets a host come into an operator's checkout, be enrolled, or leave. Needs no Docker and no host, and a key
//! only to look whether the last backup of one that leaves is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::civil::Date;

use super::{block_on_work, show};
use crate::decide::fault::{Code, Fault};
use crate::decide::onboarding::{self, Decided, Enrolled, FinalBackup, Item, Last, Seen, Wish, Word};
use crate::model::Tree;
use crate::runs::backup::laptop::{self, Login};
use crate::world::desk::{self, Desk};
use crate::world::journal::{Audience, Journal};
use crate::world::working_tree::{Staging, WorkingTree};
use crate::world::{Real, World as _, disk};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a host's directory, its rule in `.sops.yaml` and a skeleton of its secrets
    New(New),
    /// Name the key of a host, so that its files can be sealed for it
    Enroll(Enroll),
    /// Remove a host's files, once its last backup is confirmed
    Remove(Remove),
}

#[derive(Debug, Args)]
struct New {
    /// The host's name: letters, digits, `.`, `-`, `_`
    name: String,
    /// The ring that it belongs to
    #[arg(long)]
    ring: String,
    /// What `${DOMAIN}` is in its stacks
    #[arg(long)]
    domain: String,
    /// Its stacks, in their order
    #[arg(long, value_delimiter = ',', required = true, value_name = "STACK,...")]
    stacks: Vec<String>,
    /// Who may edit its secrets, an age recipient; without it, those who may edit the secrets of all other hosts
    #[arg(long = "operator", value_name = "RECIPIENT")]
    operators: Vec<String>,
    /// Another variable of its stacks
    #[arg(long = "var", value_name = "NAME=VALUE")]
    vars: Vec<String>,
    /// Where its backups go
    #[arg(long, value_name = "URL")]
    backup: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Enroll {
    /// The host
    name: String,
    /// What `moorline key show` prints on the host
    recipient: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Remove {
    /// The host
    name: String,
    /// A snapshot of the last backup, which was restored and looked at; or `none`
    #[arg(long, value_name = "SNAPSHOT")]
    final_backup: Option<String>,
    /// How long it is kept, as `2027-12-31`
    #[arg(long, value_name = "DATE")]
    keep_until: Option<Date>,
    /// How old it may be, in hours
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    within: u32,
    /// A file with an age identity of yours: it opens the host's SOPS file, and so its backup repositories, where the
    /// backup is looked up
    #[arg(long, value_name = "FILE", conflicts_with = "unseen")]
    age_key: Option<PathBuf>,
    /// A private key without a passphrase for their storage; the host's own when not given
    #[arg(long, value_name = "FILE", requires = "age_key")]
    ssh_key: Option<PathBuf>,
    /// The user there; the host's own when not given
    #[arg(long, value_name = "USER", requires = "age_key")]
    user: Option<String>,
    /// Take your word for it: the repositories cannot be reached from here
    #[arg(long, requires_all = ["reason", "final_backup"])]
    unseen: bool,
    /// Why nobody looked it up, or why none is kept; it is written into the commit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The checkout
    #[arg(long, value_name = "CHECKOUT", default_value = ".")]
    dir: PathBuf,
    /// Stage what was written, as `git add` does
    #[arg(long)]
    stage: bool,
}

pub fn host(arguments: &Arguments) -> Result<u8, Fault> {
    match &arguments.verb {
        Verb::New(new) => {
            let checkout = WorkingTree::open(&new.place.dir)?;
            let wish = Wish {
                host: &new.name,
                ring: &new.ring,
                domain: &new.domain,
                stacks: &new.stacks,
                operators: &new.operators,
                vars: &variables(&new.vars)?,
                backup: new.backup.as_deref(),
            };
            let decided = onboarding::new(&disk::read_tree(checkout.root())?, &wish)?;
            carry_out(&checkout, &decided, &new.place)
        }
        Verb::Enroll(enroll) => {
            let checkout = WorkingTree::open(&enroll.place.dir)?;
            let tree = disk::read_tree(checkout.root())?;
            match onboarding::enroll(&tree, &enroll.name, enroll.recipient.trim())? {
                Enrolled::Changes(decided) => carry_out(&checkout, &decided, &enroll.place),
                Enrolled::Already(left) => {
                    show::text(&format!(
                        "{} is the key of {} already\n{}",
                        enroll.recipient,
                        enroll.name,
                        list(&left)
                    ))?;
                    Ok(0)
                }
            }
        }
        Verb::Remove(remove) => {
            let checkout = WorkingTree::open(&remove.place.dir)?;
            let tree = disk::read_tree(checkout.root())?;
            let backup = final_backup(remove, &tree)?;
            let decided = onboarding::leave(&tree, &remove.name, &backup)?;
            carry_out(&checkout, &decided, &remove.place)
        }
    }
}

fn carry_out(checkout: &WorkingTree, decided: &Decided, place: &Place) -> Result<u8, Fault> {
    let staging = if place.stage { Staging::Stage } else { Staging::Leave };
    checkout.carry_out(&decided.edit, staging)?;
    show::text(&format!("{}\n{}", decided.done, list(&decided.left)))?;
    Ok(0)
}

fn list(items: &[Item]) -> String {
    let mut text = "\nwhat is left:\n".to_owned();
    for item in items {
        text.push_str(&format!("* {}\n", item.what));
        for command in &item.commands {
            text.push_str(&format!("      {command}\n"));
        }
    }
    text
}

fn variables(given: &[String]) -> Result<BTreeMap<String, String>, Fault> {
    let read = |text: &String| {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Fault::new(Code::UsageInvalid, format!("`--var {}` is not NAME=VALUE", text.escape_debug()))
        })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(read).collect()
}

/// `none`, or a snapshot and how long it is kept; it is looked up, or a person says why not.
fn final_backup(remove: &Remove, tree: &Tree) -> Result<FinalBackup, Fault> {
    let usage =
        |sentence: &str, hint: &str| Err(Fault::new(Code::UsageInvalid, sentence).at("nothing was written").hint(hint));
    let is_id = |id: &str| (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let reason = remove.reason.as_deref().map(str::trim);
    if reason.is_some_and(|reason| reason.is_empty() || reason.chars().any(char::is_control)) {
        return usage("`--reason` is one line of text", "--reason \"the storage is gone, see ticket 4711\"");
    }
    let reason = reason.map(str::to_owned);
    let (id, keep_until) = match (remove.final_backup.as_deref(), remove.keep_until) {
        (None, _) => return Ok(FinalBackup::Unsaid),
        (Some("none"), None) => return Ok(FinalBackup::Nothing { reason }),
        (Some("none"), Some(_)) => return usage("there is nothing to keep", "leave `--keep-until` out"),
        (Some(id), _) if !is_id(id) => {
            return usage("this is no snapshot", "`moorline snapshots` on the host lists them");
        }
        (Some(_), None) => {
            let hint = "--keep-until YYYY-MM-DD, the retention that you owe your client";
            return usage("how long is it kept?", hint);
        }
        (Some(id), Some(keep_until)) => (id, keep_until),
    };
    let word = match (&remove.age_key, remove.unseen, reason) {
        (Some(age_key), ..) => Word::Seen(look_up(remove, id, age_key, tree)?),
        (None, true, Some(reason)) => Word::Given { id: id.to_owned(), reason },
        _ => {
            return usage(
                &format!("nobody has seen snapshot {id}"),
                "`--age-key FILE` looks it up with your age identity; where that cannot be, `--unseen --reason TEXT`",
            );
        }
    };
    Ok(FinalBackup::Kept { word, keep_until })
}

/// Opens the host's repositories as the checkout names them, and looks whether its last backup is there.
fn look_up(remove: &Remove, id: &str, age_key: &Path, tree: &Tree) -> Result<Seen, Fault> {
    let desk = Desk::open()?;
    let world = Real::new(desk.settings(&remove.name, age_key), Journal::open(false, Audience::Person))?;
    let key = remove.ssh_key.as_deref().map(desk::private_key).transpose()?;
    let login = Login { url: None, user: remove.user.clone(), key };
    let known = laptop::known(&*world, tree)?;
    let stacks = laptop::stacks(tree, &remove.name)?;
    let found = block_on_work(&world, async { Ok(laptop::kept(&*world, &known, &login).await) })?;
    let within = Duration::from_secs(u64::from(remove.within) * 3600);
    let last = Last { host: &remove.name, stacks: &stacks, id, now: world.now(), within };
    onboarding::confirm(&last, &found).map_err(|problems| onboarding::unconfirmed(&remove.name, problems))
}
