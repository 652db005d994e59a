//! `moorline host`: lets a host come into an operator's checkout, be enrolled, or leave. Needs no key, no Docker, no host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::civil::Date;

use super::show;
use crate::decide::fault::{Code, Fault};
use crate::decide::onboarding::{self, Decided, Enrolled, FinalBackup, Item, Wish};
use crate::world::disk;
use crate::world::working_tree::{Staging, WorkingTree};

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
    /// The last snapshot, which was restored and looked at; or `none`
    #[arg(long, value_name = "SNAPSHOT")]
    final_backup: Option<String>,
    /// How long it is kept, as `2027-12-31`
    #[arg(long, value_name = "DATE")]
    keep_until: Option<Date>,
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
            let backup = final_backup(remove)?;
            let decided = onboarding::leave(&disk::read_tree(checkout.root())?, &remove.name, &backup)?;
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

/// `none`, or a snapshot and how long it is kept.
fn final_backup(remove: &Remove) -> Result<FinalBackup, Fault> {
    let usage =
        |sentence: &str, hint: &str| Err(Fault::new(Code::UsageInvalid, sentence).at("nothing was written").hint(hint));
    let is_id = |id: &str| (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (remove.final_backup.as_deref(), remove.keep_until) {
        (None, _) => Ok(FinalBackup::Unsaid),
        (Some("none"), None) => Ok(FinalBackup::Nothing),
        (Some("none"), Some(_)) => usage("there is nothing to keep", "leave `--keep-until` out"),
        (Some(id), _) if !is_id(id) => usage("this is no snapshot", "`moorline snapshots` on the host lists them"),
        (Some(_), None) => {
            usage("how long is it kept?", "--keep-until YYYY-MM-DD, the retention that you owe your client")
        }
        (Some(id), Some(keep_until)) => Ok(FinalBackup::Snapshot { id: id.to_owned(), keep_until }),
    }
}
