//! Keeps `journal.json`: the step in flight. What it says is only where to look; the truth is what the engine shows.

use std::io;
use std::path::{Path, PathBuf};

use crate::decide::fault::Fault;
use crate::model::Intent;
use crate::world::{disk, reserve};

/// A step with all its causes is a few KiB.
const LARGEST: u64 = 1024 * 1024;

/// The step that was in flight when the process died.
///
/// A file that cannot be read counts as none: the next run looks at everything anyway, and a fault would keep it from
/// that.
pub fn read(state: &Path) -> Option<Intent> {
    serde_json::from_slice(&disk::read(&file(state), LARGEST).ok()?).ok()
}

/// Writes the step down; it is on disk when this returns.
pub fn write(state: &Path, intent: &Intent) -> Result<(), Fault> {
    let path = file(state);
    let unwritable = |error: &io::Error| disk::unwritable(&path, error);
    let bytes = serde_json::to_vec(intent).map_err(|error| unwritable(&error.into()))?;
    reserve::spend(state, || disk::write(&path, &bytes, 0o600)).map_err(|error| unwritable(&error))
}

/// The step has ended.
pub fn clear(state: &Path) -> Result<(), Fault> {
    let path = file(state);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk::unwritable(&path, &error)),
        _ => Ok(()),
    }
}

fn file(state: &Path) -> PathBuf {
    state.join("journal.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, Cause, Phase, Step};

    #[test]
    fn an_intent_is_there_until_the_step_has_ended_and_a_damaged_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), None);
        let step = Step { stack: "web".into(), action: Action::UpWhole, causes: vec![Cause::NewStack] };
        let since = jiff::Timestamp::UNIX_EPOCH;
        let intent = Intent { run: "r".into(), phase: Phase::Back, step, since };
        write(directory.path(), &intent).unwrap();
        assert_eq!(read(directory.path()), Some(intent));
        std::fs::write(file(directory.path()), b"{\"run\":").unwrap();
        assert_eq!(read(directory.path()), None);
        clear(directory.path()).unwrap();
        clear(directory.path()).unwrap();
        assert!(!file(directory.path()).exists());
    }
}
