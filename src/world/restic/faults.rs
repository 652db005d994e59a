//! Says what a job's trouble means to a person or to the next run.

use super::trouble::{Kind, Trouble};
use crate::decide::fault::{Code, Fault};
use crate::model::backup::{HostKey, Place, Repository};

/// The fault; `not_done` says what did not happen.
pub fn fault(repository: &Repository, trouble: Trouble, not_done: &str) -> Fault {
    let name = &repository.name;
    let sftp = match &repository.place {
        Place::Sftp(sftp) => Some(sftp),
        Place::Directory(_) | Place::Rest { .. } => None,
    };
    let server = sftp.map_or_else(|| "the storage".to_owned(), |sftp| sftp.host.clone());
    let words = trouble.words;
    let fault = |code, sentence: String| Fault::new(code, sentence).at(not_done);
    let caused = |code, sentence: String| fault(code, sentence).because(words.clone());
    match trouble.kind {
        Kind::Password => {
            fault(Code::BackupPassword, format!("the password opens no key of the backup repository `{name}`"))
                .hint(format!("compare `all.{}` in the SOPS file with what it was made with", repository.password))
        }
        Kind::Missing => fault(Code::BackupMissing, format!("there is no backup repository at {words}"))
            .hint("if there has never been one, `moorline backup --init` makes it; if there has, look why it is gone"),
        Kind::HostKeyChanged => {
            let pinned = match sftp.map(|sftp| &sftp.host_key) {
                Some(HostKey::StorageBox) => "the one of all Storage Boxes is pinned".to_owned(),
                Some(HostKey::Named(name)) => format!("`all.{name}` of the SOPS file is pinned"),
                Some(HostKey::Pinned(_)) | None => "another one is pinned in host.yaml".to_owned(),
            };
            caused(Code::BackupRefused, format!("{server} showed another host key than the pinned one"))
                .because(pinned)
                .hint("if the server's owner confirms the new key, pin that: `host_key` of the repository in host.yaml")
        }
        Kind::LoginRefused => {
            let key = sftp.map_or("", |sftp| sftp.key.as_str());
            caused(Code::BackupRefused, format!("{server} refused the key of the backup repository `{name}`"))
                .hint(format!("let the public half of `all.{key}` log in there: docs/restore.md"))
        }
        Kind::Away => caused(Code::BackupAway, format!("{server} could not be reached, or broke off")),
        Kind::Full => caused(Code::BackupFull, format!("the storage of the backup repository `{name}` is full"))
            .hint("make room there, or take a larger one; nothing is overwritten"),
        Kind::Denied => {
            caused(Code::BackupRefused, format!("the storage of the backup repository `{name}` denies access"))
                .hint("look at the owner and the permissions there")
        }
        Kind::Gone | Kind::Damaged => caused(Code::BackupDamaged, format!("the backup repository `{name}` is damaged"))
            .hint("`restic check` says what is wrong, `restic repair` mends what can be: docs/restore.md"),
        Kind::Source => caused(Code::BackupSource, "what is to be saved cannot be read".into())
            .hint("look whether the volume is there and mounted; an empty snapshot would pass for a good one"),
        Kind::Dump => fault(Code::BackupDump, words)
            .hint("the services of its dumps must run, and `x-moorline.backup.dumps` must say how they log in"),
        Kind::Target => caused(Code::RestoreRefused, "the place for the restore cannot be used".into())
            .hint("`--to DIR` names an empty directory, or one that is not there yet, with enough room"),
        Kind::Snapshot => fault(Code::RestoreRefused, words).hint("`moorline snapshots` lists them"),
        Kind::Internal => caused(Code::BackupFailed, "the job did not end well".into()),
    }
}
