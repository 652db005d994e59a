//! What a restore in place does to a host: its journal, the hold, containers by their ids, and directories that change
//! places. Each of it can be done twice.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bollard::query_parameters::{StartContainerOptions, StopContainerOptions};
use serde::{Deserialize, Serialize};

use crate::decide::fault::{Code, Fault};
use crate::model::Hold;
use crate::model::backup::{InPlace, Move};
use crate::world::docker::is_not_found;
use crate::world::restic::restores_into;
use crate::world::{Real, World, disk, ledger};

const VERSION: u32 = 1;
const LARGEST: u64 = 1024 * 1024;
/// How long a container may take to stop.
const GRACE: std::time::Duration = std::time::Duration::from_secs(3600);

/// The file as it stands on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    #[serde(flatten)]
    restore: InPlace,
}

/// What a restore in place needs besides the world.
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Hands {
    /// Writes down how far it is; on disk when this returns.
    fn note_restore(&self, restore: &InPlace) -> Result<(), Fault>;
    /// It has ended.
    fn forget_restore(&self, stack: &str) -> Result<(), Fault>;
    /// Sets or ends the hold of a stack.
    fn hold_stack(&self, stack: &str, hold: Option<&Hold>) -> Result<(), Fault>;
    /// Whether this is a directory that can change places with one beside it.
    fn can_move(&self, live: &Path) -> Result<bool, Fault>;
    /// Removes what a restore that was given up left beside the data; a part of this very one stays.
    fn clear_beside(&self, beside: &Path, snapshot: &str) -> Result<(), Fault>;
    /// Whether a restore to there has ended, with everything in it.
    fn is_beside(&self, beside: &Path) -> bool;
    /// Puts the old data aside and the new in its place.
    fn switch(&self, one: &Move) -> Result<(), Fault>;
    /// The reverse.
    fn switch_back(&self, one: &Move) -> Result<(), Fault>;
    /// Stops these containers; those that are gone or stopped are done.
    async fn stop_containers(&self, containers: &[(String, String)]) -> Result<(), Fault>;
    /// Starts these containers; those that are gone are left to the next run.
    async fn start_containers(&self, containers: &[(String, String)]) -> Result<(), Fault>;
}

/// Restores in place that were begun and not ended.
pub fn unfinished(state: &Path) -> Result<Vec<InPlace>, Fault> {
    let directory = state.join("restores");
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| unreadable(&directory, &error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&directory, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let bytes = disk::read(&path, LARGEST).map_err(|error| unreadable(&path, &error))?;
            let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| unreadable(&path, &error))?;
            if kept.version != VERSION {
                return Err(unreadable(&path, &io::Error::other(format!("version {}", kept.version))));
            }
            found.push(kept.restore);
        }
    }
    Ok(found)
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::new(Code::RestoreUnfinished, format!("{} cannot be read", path.display()))
        .caused_by(error)
        .at("nothing was changed: a stack may be in the middle of a restore")
        .hint(format!("look which data is where, start the stack yourself, then `rm {}`", path.display()))
}

fn journal(state: &Path, stack: &str) -> PathBuf {
    state.join("restores").join(format!("{stack}.json"))
}

impl Hands for Real {
    fn note_restore(&self, restore: &InPlace) -> Result<(), Fault> {
        let path = journal(&self.settings().state, &restore.stack);
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let kept = Kept { version: VERSION, restore: restore.clone() };
            disk::write(&path, &serde_json::to_vec_pretty(&kept)?, 0o600)
        };
        write().map_err(|error| disk::unwritable(&path, &error))
    }

    fn forget_restore(&self, stack: &str) -> Result<(), Fault> {
        let path = journal(&self.settings().state, stack);
        match fs::remove_file(&path).and_then(|()| sync_above(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk::unwritable(&path, &error)),
            _ => Ok(()),
        }
    }

    fn hold_stack(&self, stack: &str, hold: Option<&Hold>) -> Result<(), Fault> {
        ledger::set_stack_hold(&self.settings().state, stack, hold.cloned())
    }

    fn can_move(&self, live: &Path) -> Result<bool, Fault> {
        let unusable = |error: &io::Error| moved(live, error);
        let found = match fs::symlink_metadata(live) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            found => found.map_err(|error| unusable(&error))?,
        };
        if !found.is_dir() {
            return Ok(false);
        }
        use std::os::unix::fs::MetadataExt as _;
        let above = live.parent().unwrap_or(live);
        let above = fs::symlink_metadata(above).map_err(|error| unusable(&error))?;
        match above.dev() == found.dev() {
            true => Ok(true),
            false => Err(moved(live, &io::Error::other("it is a mount of its own"))),
        }
    }

    fn clear_beside(&self, beside: &Path, snapshot: &str) -> Result<(), Fault> {
        if fs::symlink_metadata(beside).is_err() || restores_into(beside).is_some_and(|of| of == snapshot) {
            return Ok(());
        }
        fs::remove_dir_all(beside).map_err(|error| disk::unwritable(beside, &error))
    }

    fn is_beside(&self, beside: &Path) -> bool {
        // The record is there from before the first file until after the last.
        let has_something = fs::read_dir(beside).is_ok_and(|mut entries| entries.next().is_some());
        has_something && restores_into(beside).is_none()
    }

    fn switch(&self, one: &Move) -> Result<(), Fault> {
        if one.beside.symlink_metadata().is_ok() {
            if one.aside.symlink_metadata().is_err() && one.live.symlink_metadata().is_ok() {
                rename(&one.live, &one.aside)?;
            }
            rename(&one.beside, &one.live)?;
        }
        Ok(())
    }

    fn switch_back(&self, one: &Move) -> Result<(), Fault> {
        if one.aside.symlink_metadata().is_ok() {
            if one.beside.symlink_metadata().is_err() && one.live.symlink_metadata().is_ok() {
                rename(&one.live, &one.beside)?;
            }
            rename(&one.aside, &one.live)?;
        }
        Ok(())
    }

    async fn stop_containers(&self, containers: &[(String, String)]) -> Result<(), Fault> {
        let docker = self.engine().docker()?.clone().with_timeout(GRACE);
        for (id, name) in containers.iter().rev() {
            match docker.stop_container(id, None::<StopContainerOptions>).await {
                Err(error) if !is_not_found(&error) => {
                    return Err(Fault::new(Code::StepFailed, format!("{name} cannot be stopped")).caused_by(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn start_containers(&self, containers: &[(String, String)]) -> Result<(), Fault> {
        let mut failed = None;
        for (id, name) in containers {
            match self.engine().docker()?.start_container(id, None::<StartContainerOptions>).await {
                Err(error) if !is_not_found(&error) => {
                    failed = Some(Fault::new(Code::StepFailed, format!("{name} cannot be started")).caused_by(&error));
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn moved(path: &Path, error: &io::Error) -> Fault {
    Fault::new(Code::RestoreRefused, format!("{} cannot be put aside", path.display()))
        .caused_by(error)
        .hint("restore it with `--to DIR`, and put it in place yourself")
}

fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    // Onto an empty directory it would work, and what the engine has made there meanwhile is nobody's data.
    fs::rename(from, to).and_then(|()| sync_above(to)).map_err(|error| moved(from, &error))
}

fn sync_above(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
}
