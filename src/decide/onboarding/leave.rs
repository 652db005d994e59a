//! Takes a host out of the repository, once its last backup is confirmed.

use jiff::civil::Date;

use super::kept::Seen;
use super::rules::{self, Standing};
use super::{Decided, Directory, Edit, Item, refused, rules_text, unknown};
use crate::decide::fault::Fault;
use crate::decide::fleet;
use crate::model::tree::Tree;

/// What is known of the host's last backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinalBackup {
    /// Nothing yet.
    Unsaid,
    /// Snapshots hold everything.
    Kept {
        /// On whose word.
        word: Word,
        /// The last day on which somebody may ask for it.
        keep_until: Date,
    },
    /// There is nothing to keep.
    Nothing {
        /// Why, which a host that makes backups needs.
        reason: Option<String>,
    },
}

/// On whose word there is a last backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Its repository was opened, and it is there.
    Seen(Seen),
    /// A person's: nobody looked.
    Given {
        /// The first digits of the snapshot's id, or all of them.
        id: String,
        /// Why nobody could look.
        reason: String,
    },
}

impl FinalBackup {
    /// What is written into the commit.
    fn record(&self) -> Option<String> {
        match self {
            FinalBackup::Unsaid | FinalBackup::Nothing { reason: None } => None,
            FinalBackup::Nothing { reason: Some(reason) } => Some(format!("No backup is kept: {reason}")),
            FinalBackup::Kept { word: Word::Seen(seen), keep_until } => {
                let snapshots =
                    seen.snapshots.iter().map(|(stack, id)| format!("{stack} {}", id.get(..8).unwrap_or(id)));
                let snapshots = snapshots.collect::<Vec<_>>().join(", ");
                Some(format!("Final backup in {}: {snapshots}; kept until {keep_until}", seen.repository))
            }
            FinalBackup::Kept { word: Word::Given { id, reason }, keep_until } => {
                Some(format!("Final backup {id}, which nobody looked up: {reason}; kept until {keep_until}"))
            }
        }
    }
}

/// The fault of a last backup that was looked for in vain.
pub fn unconfirmed(host: &str, problems: Vec<String>) -> Fault {
    refused(format!("{} stays: its last backup is not there", host.escape_debug()), problems)
        .hint("on the host: `moorline backup`, then `moorline snapshots` for the id")
}

/// Removes the host, or says what must come before.
pub fn leave(tree: &Tree, host: &str, backup: &FinalBackup) -> Result<Decided, Fault> {
    let refuse = |problems| refused(format!("{} stays", host.escape_debug()), problems);
    let hosts = fleet::hosts(tree);
    let standing = rules::standing(tree, host, &hosts);
    // A call that was cut short may have left the rule alone.
    let missing = unknown(tree, host);
    if let Some(problem) = &missing
        && !matches!(standing, Ok(Standing::Own(..)))
    {
        return Err(refuse(vec![problem.clone()]));
    }
    if *backup == FinalBackup::Unsaid {
        return Err(refuse(before(host)).hint(format!(
            "moorline host remove {host} --final-backup SNAPSHOT --keep-until YYYY-MM-DD --age-key FILE   (or `--final-backup none`)"
        )));
    }
    let mut problems = Vec::new();
    let named = fleet::promotion(tree).ok().flatten().is_some_and(|rules| rules.status.contains_key(host));
    if named {
        let line = fleet::line_of(tree, "moorline.yaml", &format!("{host}:"));
        let line = line.map_or_else(String::new, |line| format!(":{line}"));
        problems.push(format!("moorline.yaml{line}: promotion.status names {host}; take the line out first"));
    }
    // A file with mistakes says nothing, and a host without one makes none.
    let saves = missing.is_none() && fleet::read(tree, host).map_or(true, |spec| spec.backups.is_some());
    if saves && *backup == (FinalBackup::Nothing { reason: None }) {
        problems.push(format!(
            "hosts/{host}/host.yaml says that it makes backups; `--reason TEXT` says why none is kept, and is written into the commit"
        ));
    }
    let mut edit = Edit::default();
    let mut rule = "; .sops.yaml has no rule for it alone";
    match (standing, rules_text(tree)) {
        (Ok(Standing::Own(index, _)), Ok(text)) => match rules::remove(text, index, host) {
            Ok(edited) => {
                rule = ", and its rule from .sops.yaml";
                edit.write.push((rules::PATH.into(), edited.into_bytes()));
            }
            Err(problem) => problems.push(problem),
        },
        (Ok(_), Ok(_)) => {}
        (Err(problem), _) | (_, Err(problem)) => problems.push(problem),
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    if missing.is_none() {
        edit.directory = Some(Directory::Goes { path: format!("hosts/{host}") });
    }
    let done = format!("hosts/{host}/ is removed from this checkout{rule}; nothing was committed");
    Ok(Decided { edit, done, left: after(host, backup) })
}

fn before(host: &str) -> Vec<String> {
    let lines = [
        "before its files go, on the host:".to_owned(),
        format!("  moorline hold --for 24h --reason \"{host} leaves\"       nothing changes under the backup"),
        "  stop what writes: `docker compose stop` in /var/lib/moorline/stacks/<stack>, except databases that are dumped".into(),
        "  moorline backup                                     the last one, of every stack".into(),
        "  moorline snapshots                                  its id".into(),
        "  moorline restore STACK SNAPSHOT --to /root/proof    and look at what came back".into(),
    ];
    lines.into()
}

fn after(host: &str, backup: &FinalBackup) -> Vec<Item> {
    let record = backup.record().map(|record| format!(" -m {}", quoted(&record))).unwrap_or_default();
    let mut items = vec![
        Item::new("commit and merge; nothing on the host is stopped by it")
            .command(format!("git add --all -- .sops.yaml hosts/{host} && git commit -m \"{host} leaves\"{record}")),
        Item::new("on the host: the agent, then the stacks; volumes stay")
            .command("systemctl disable --now moorline moorline-courier")
            .command("for stack in /var/lib/moorline/stacks/*; do (cd $stack && docker compose stop); done"),
        Item::new(format!("DNS: the records that point to {host}")),
        Item::new("Uptime Kuma: its push monitors, and those of its public names"),
        Item::new(format!("git server: {host}'s deploy key; tailnet: its machine; status page: who asked it")),
    ];
    items.push(match backup {
        FinalBackup::Kept { word, keep_until } => Item::new(format!(
            "backups: keep {}, its password and the sealed secrets in git until {keep_until}; \
             then delete the repository and the Storage Box sub-account",
            match word {
                Word::Seen(seen) => format!("the repository {}", seen.repository),
                Word::Given { id, .. } => format!("the repository with snapshot {id}"),
            }
        )),
        _ => Item::new("backups: none is kept; delete what there is, and the Storage Box sub-account"),
    });
    items.push(Item::new(
        "secrets that others know too (mail, registries, single sign-on): change them; old commits stay readable for the \
         host's key",
    ));
    items.push(Item::new("the server and its volumes, last"));
    items
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
