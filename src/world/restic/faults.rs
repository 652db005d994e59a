//! Says what a job's trouble means to a person or to the next run, in the words of the place where it happened.

use super::trouble::{Kind, Trouble};
use crate::decide::fault::{Code, Fault};
use crate::model::backup::{HostKey, Place, Repository, Ssh};

/// The fault; `not_done` says what did not happen.
pub fn fault(repository: &Repository, trouble: Trouble, not_done: &str) -> Fault {
    let name = &repository.name;
    let server = server(&repository.place);
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
            caused(Code::BackupRefused, format!("{server} showed another host key than the pinned one"))
                .because(pinned(&repository.place))
                .hint("if the server's owner confirms the new key, pin that: `host_key` of the repository in host.yaml")
        }
        Kind::Certificate => caused(Code::BackupRefused, format!("{server} showed a certificate that this host does not trust"))
            .hint("look at its names and its end; a CA of your own belongs into the host's trust store: `update-ca-certificates`"),
        Kind::LoginRefused => login_refused(repository, &server).at(not_done).because(words),
        Kind::Away => caused(Code::BackupAway, format!("{server} could not be reached, or broke off")),
        Kind::Torn => caused(Code::BackupAway, format!("half of a file stands on {server}, which lets nobody replace it"))
            .hint("nothing is lost: the next run writes it under another name. If it comes back, look at the line"),
        Kind::Full => caused(Code::BackupFull, format!("the storage of the backup repository `{name}` is full"))
            .hint("make room there, or take a larger one; nothing is overwritten"),
        Kind::Denied => {
            caused(Code::BackupRefused, format!("the storage of the backup repository `{name}` denies access"))
                .hint(denied(&repository.place))
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

/// How people call what stands at the other end.
fn server(place: &Place) -> String {
    match place {
        Place::Directory(_) => "the storage".to_owned(),
        Place::Sftp(ssh) | Place::RestOverSsh(ssh) => ssh.host.clone(),
        Place::Rest { url, .. } => {
            let after = url.split_once("://").map_or(url.as_str(), |(_, after)| after);
            after.split('/').next().unwrap_or_default().to_owned()
        }
    }
}

/// Where the pin comes from that does not fit.
fn pinned(place: &Place) -> String {
    match place {
        Place::Sftp(Ssh { host_key, .. }) | Place::RestOverSsh(Ssh { host_key, .. }) => match host_key {
            HostKey::StorageBox => "the one of all Storage Boxes is pinned".to_owned(),
            HostKey::Named(name) => format!("`all.{name}` of the SOPS file is pinned"),
            HostKey::Pinned(_) => "another one is pinned in host.yaml".to_owned(),
        },
        Place::Directory(_) | Place::Rest { .. } => "another one is pinned".to_owned(),
    }
}

fn login_refused(repository: &Repository, server: &str) -> Fault {
    let name = &repository.name;
    let key_refused = |key: &str, how: &str| {
        Fault::new(Code::BackupRefused, format!("{server} refused the key of the backup repository `{name}`"))
            .hint(format!("let the public half of `all.{key}` log in there{how}: docs/storage-box.md"))
    };
    let login_refused =
        || Fault::new(Code::BackupRefused, format!("{server} refused the login of the backup repository `{name}`"));
    match &repository.place {
        Place::Sftp(ssh) => key_refused(&ssh.key, ""),
        Place::RestOverSsh(ssh) => key_refused(&ssh.key, " with `command=\"rclone serve restic --stdio ...\"`"),
        Place::Rest { login: Some(login), .. } => {
            login_refused().hint(format!("compare `all.{login}` in the SOPS file with what the server has"))
        }
        Place::Rest { login: None, .. } => login_refused()
            .hint("put `USER:PASSWORD` into section `all` of the SOPS file, and its name at `login` of the repository"),
        Place::Directory(_) => login_refused(),
    }
}

fn denied(place: &Place) -> &'static str {
    match place {
        Place::Directory(_) => "look at the owner and the permissions there, and whether it is mounted read-only",
        Place::Sftp(_) => "look at the owner and the permissions there",
        Place::Rest { .. } | Place::RestOverSsh(_) => {
            "a server that lets nothing be deleted needs `append_only: true` in host.yaml; otherwise look at the user's \
             permissions there"
        }
    }
}
