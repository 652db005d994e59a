//! Keeps what was found on this host before it was undone: `drift/<time>.txt`, the newest ones.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::decide::fault::Fault;
use crate::world::{disk, reserve};

/// How many are kept.
const KEPT: usize = 50;

/// Writes what was found, readable for root only: a person may have typed a secret into a file. Returns the path.
pub fn save(state: &Path, text: &str, now: Timestamp) -> Result<String, Fault> {
    let directory = state.join("drift");
    let path = directory.join(format!("{}.txt", now.strftime("%Y%m%dT%H%M%S%.3fZ")));
    let write = || {
        fs::create_dir_all(&directory)?;
        disk::forget_unfinished(&directory)?;
        disk::write(&path, text.as_bytes(), 0o600)?;
        thin_out(&directory)
    };
    reserve::spend(state, write).map_err(|error| disk::unwritable(&path, &error))?;
    Ok(path.display().to_string())
}

/// Names sort by time.
fn thin_out(directory: &Path) -> io::Result<()> {
    let mut paths: Vec<_> = fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for old in paths.iter().take(paths.len().saturating_sub(KEPT)) {
        fs::remove_file(old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        for second in 0..60 {
            save(directory.path(), &second.to_string(), Timestamp::from_second(second).unwrap()).unwrap();
        }
        let drift = directory.path().join("drift");
        assert_eq!(fs::read_dir(&drift).unwrap().count(), KEPT);
        fs::write(drift.join("20260101T000000.000Z.txt.moorline-new"), "half").unwrap();
        save(directory.path(), "59", Timestamp::from_second(59).unwrap()).unwrap();
        assert_eq!(fs::read_dir(&drift).unwrap().count(), KEPT, "what a kill left goes");
        assert_eq!(fs::read_to_string(drift.join("19700101T000059.000Z.txt")).unwrap(), "59");
    }
}
