//! The record of a restore that has begun. It lies in the directory that is filled, from before the first file until after
//! the last: with it, the same command goes on; without it, what is there belongs to somebody else.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Timestamps, fsync, futimens, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::super::order::Restore;
use super::super::trouble::{Kind, Trouble};
use crate::world::disk;

/// What the names of our own files in such a directory begin with.
pub const OURS: &str = ".moorline-restore.";
const RECORD: &str = ".moorline-restore.json";
/// What a write of the record leaves that was cut.
const HALF_RECORD: &str = ".moorline-restore.json.moorline-new";
/// The file that is being written. It gets its own name when it is whole.
pub const UNFINISHED: &str = ".moorline-restore.new";
/// The one that is whole, and read back while the next one is written.
pub const UNPROVEN: &str = ".moorline-restore.whole";

const VERSION: u32 = 1;
const LARGEST: u64 = 64 * 1024;

/// What is being restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    version: u32,
    /// The stack.
    label: String,
    /// What was typed.
    asked: String,
    /// The snapshot's id, in full: `latest` may be another one by now.
    pub snapshot: String,
    path: Option<PathBuf>,
}

impl Begun {
    /// The record of this task, of which the snapshot has been chosen.
    pub fn new(task: &Restore, snapshot: &str) -> Self {
        Self {
            version: VERSION,
            label: task.label.clone(),
            asked: task.snapshot.clone(),
            snapshot: snapshot.to_owned(),
            path: task.path.clone(),
        }
    }

    /// The record in a directory that this very task has begun to fill; none if no restore has.
    pub fn of(task: &Restore) -> Result<Option<Self>, Trouble> {
        let target = |words: String| Trouble::new(Kind::Target, words);
        let record = task.to.join(RECORD);
        let bytes = match disk::read(&record, LARGEST) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            read => read.map_err(|error| target(format!("{}: {error}", record.display())))?,
        };
        let begun: Self =
            serde_json::from_slice(&bytes).map_err(|error| target(format!("{}: {error}", record.display())))?;
        let is_same = begun.asked == task.snapshot || begun.snapshot.starts_with(&task.snapshot);
        if begun.version == VERSION && is_same && begun.label == task.label && begun.path == task.path {
            return Ok(Some(begun));
        }
        let path = begun.path.map(|path| format!(" --path {}", path.display())).unwrap_or_default();
        Err(target(format!(
            "{} has a part of another restore: `{} {}{path}`",
            task.to.display(),
            begun.label,
            begun.asked
        )))
    }

    /// Writes it; on disk when this returns.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        disk::write(&directory.join(RECORD), &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

/// Whether a restore into this directory has begun and not ended.
pub fn is_begun(directory: &Path) -> bool {
    directory.join(RECORD).symlink_metadata().is_ok()
}

/// The id of the snapshot that is being restored into this directory.
pub fn restores_into(directory: &Path) -> Option<String> {
    let bytes = disk::read(&directory.join(RECORD), LARGEST).ok()?;
    serde_json::from_slice(&bytes).ok().map(|begun: Begun| begun.snapshot)
}

/// Whether nothing is there but what a restore leaves that was cut before it began.
pub fn is_empty(directory: &Path) -> io::Result<bool> {
    let mut entries = std::fs::read_dir(directory)?;
    entries.try_fold(true, |is_empty, entry| Ok(is_empty && entry?.file_name() == HALF_RECORD))
}

/// Takes the record away, and whatever else is ours. The directory gets these times then; it is on disk when this returns.
pub fn end(directory: impl AsFd, times: Option<Timestamps>) -> io::Result<()> {
    for name in [UNFINISHED, UNPROVEN, HALF_RECORD, RECORD] {
        match unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // That changed its time. Whoever kills us right here has everything back but this one.
    if let Some(times) = times {
        futimens(&directory, &times)?;
    }
    Ok(fsync(directory)?)
}
