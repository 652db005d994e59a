//! The files that ssh needs to log in, in memory only: our private key, and the one key that the server may show.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Access;
use super::order::{Login, Place};
use crate::decide::fault::{Code, Fault};
use crate::model::backup;
use crate::world::{child, disk};

/// Below `run`: one directory for each process that has a job.
const DIRECTORY: &str = "backup";

/// What all Storage Boxes of Hetzner show on port 23; its fingerprint is
/// `SHA256:XqONwb1S0zuj5A1CDxpOSuD2hnAArV1A3wKY7Z3sdgM`.
const STORAGE_BOX: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIICf9svRenC/PLKIL9nk6K/pxQgoiFC41wTNvoIncOxs";

/// A place to which a job can go. Dropping it removes its files.
#[derive(Debug)]
pub struct Open {
    /// As the job is told.
    pub place: Place,
    directory: Option<PathBuf>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // It is memory, and the next job clears what is left.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Writes what is needed to get to a repository.
pub fn open(run: &Path, repository: &backup::Repository, access: &Access) -> Result<Open, Fault> {
    let (ssh, place): (_, fn(Login) -> Place) = match &repository.place {
        backup::Place::Directory(directory) => {
            return Ok(Open { place: Place::Directory(directory.clone()), directory: None });
        }
        backup::Place::Rest { url, login } => {
            check_login(repository, login.as_deref(), access)?;
            return Ok(Open { place: Place::Rest(url.clone()), directory: None });
        }
        backup::Place::Sftp(ssh) => (ssh, Place::Sftp),
        backup::Place::RestOverSsh(ssh) => (ssh, Place::RestOverSsh),
    };
    let (Some(key), Some(host_key)) = (&access.key, &access.host_key) else {
        return Err(Fault::new(Code::BackupUnset, format!("no key for the backup repository `{}`", repository.name)));
    };
    let all = run.join(DIRECTORY);
    let directory = all.join(std::process::id().to_string());
    let login = Login {
        user: ssh.user.clone(),
        host: ssh.host.clone(),
        port: ssh.port,
        path: ssh.path.clone(),
        key: directory.join("key"),
        known_hosts: directory.join("known_hosts"),
    };
    let open = Open { place: place(login.clone()), directory: Some(directory.clone()) };
    let host_key = if host_key.is_empty() { STORAGE_BOX } else { host_key };
    // ssh wants the line end, and an editor of secrets may have taken it away.
    let key = zeroize::Zeroizing::new(format!("{}\n", key.expose().trim_end()));
    let write = || {
        sweep(&all)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        disk::write(&login.key, key.as_bytes(), 0o600)?;
        disk::write(&login.known_hosts, pin(&login, host_key).as_bytes(), 0o600)
    };
    write().map_err(|error| disk::unwritable(&directory, &error))?;
    Ok(open)
}

/// Whether the secret is a login: the server would say only that it is none of its own.
fn check_login(repository: &backup::Repository, name: Option<&str>, access: &Access) -> Result<(), Fault> {
    match (name, &access.login) {
        (Some(name), Some(login)) if !login.expose().contains(':') => {
            let what = format!("the login of the backup repository `{}` has no colon", repository.name);
            Err(Fault::new(Code::BackupUnset, what).hint(format!("`all.{name}` in the SOPS file is `USER:PASSWORD`")))
        }
        _ => Ok(()),
    }
}

/// Removes what processes left that were killed.
fn sweep(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)?.flatten() {
        let process = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if !process.is_some_and(child::lives) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The line of `known_hosts`; ssh writes a port other than its own beside the name.
fn pin(login: &Login, host_key: &str) -> String {
    let host_key = host_key.lines().next().unwrap_or_default().trim();
    match login.port {
        22 => format!("{} {host_key}\n", login.host),
        port => format!("[{}]:{port} {host_key}\n", login.host),
    }
}
