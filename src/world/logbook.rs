//! Keeps what is known of backups: `backups.json`. A file that is there but cannot be read is a fault, never a fresh start.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::decide::fault::{Code, Fault};
use crate::model::backup::Logbook;
use crate::world::{Real, World, disk};

/// The version of the form.
const VERSION: u32 = 1;
/// 50 stacks in five repositories are about 1 MiB.
const LARGEST: u64 = 16 * 1024 * 1024;

/// The file as it stands on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    #[serde(flatten)]
    logbook: Logbook,
}

/// The account of backups: a part of [`World`].
pub trait Logs {
    /// What is known of backups; empty when nothing ever was.
    fn logbook(&self) -> Result<Logbook, Fault>;
    /// Changes the account while nobody else does, on disk when this returns. What stays as it was is not written.
    fn change_logbook(&self, change: &mut dyn FnMut(&mut Logbook)) -> Result<(), Fault>;
}

impl Logs for Real {
    fn logbook(&self) -> Result<Logbook, Fault> {
        read(&self.settings().state)
    }

    fn change_logbook(&self, change: &mut dyn FnMut(&mut Logbook)) -> Result<(), Fault> {
        alter(&self.settings().state, change)
    }
}

fn read(state: &Path) -> Result<Logbook, Fault> {
    let path = state.join("backups.json");
    let damaged = |because: &dyn std::error::Error| {
        Fault::new(Code::LedgerDamaged, format!("{} cannot be read", path.display()))
            .caused_by(because)
            .at("how old the backups of this host are is not known")
            .hint(format!(
                "`rm {}`, then `moorline backup`: it begins a new account, and counts from then",
                path.display()
            ))
    };
    let bytes = match disk::read(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Logbook::default()),
        Err(error) => return Err(damaged(&error)),
    };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
    match kept.version {
        VERSION => Ok(kept.logbook),
        other => Err(damaged(&io::Error::other(format!("its version is {other}, and this moorline knows {VERSION}")))),
    }
}

fn alter(state: &Path, change: &mut dyn FnMut(&mut Logbook)) -> Result<(), Fault> {
    let (path, lock) = (state.join("backups.json"), state.join("backups.lock"));
    // Between reading and writing nobody else may write. Held for milliseconds, so it is waited for.
    let guard = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock).and_then(|file| {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(file)
    });
    let _guard = guard.map_err(|error| disk::unwritable(&lock, &error))?;
    let before = read(state)?;
    let mut logbook = before.clone();
    change(&mut logbook);
    if logbook == before {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&Kept { version: VERSION, logbook });
    let bytes = bytes.map_err(|error| disk::unwritable(&path, &error.into()))?;
    disk::write(&path, &bytes, 0o600).map_err(|error| disk::unwritable(&path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backup::{Entry, Job};

    fn entry(repository: &str) -> Entry {
        Entry {
            job: Job::Check,
            repository: repository.into(),
            stack: None,
            since: jiff::Timestamp::UNIX_EPOCH,
            fresh_s: 1,
            failures: 0,
            last: None,
            good: None,
        }
    }

    #[test]
    fn what_is_entered_is_there_and_what_is_damaged_is_no_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        assert_eq!(read(state).unwrap(), Logbook::default());
        alter(state, &mut |_| ()).unwrap();
        assert!(!state.join("backups.json").exists(), "nothing to write");
        alter(state, &mut |logbook| _ = logbook.entries.insert("x".into(), entry("box"))).unwrap();
        assert_eq!(read(state).unwrap().entries["x"], entry("box"));
        for damage in ["{", r#"{"version":9,"entries":{}}"#] {
            std::fs::write(state.join("backups.json"), damage).unwrap();
            assert_eq!(read(state).unwrap_err().code, Code::LedgerDamaged);
            assert_eq!(alter(state, &mut |_| ()).unwrap_err().code, Code::LedgerDamaged);
        }
    }
}
