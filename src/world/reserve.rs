//! Keeps a little room on the disk for the moment when there is none: so that a run can still write down what it did.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::world::disk;

/// Enough for a ledger, a journal and a report of a host with 50 stacks.
const SIZE: usize = 4 * 1024 * 1024;
/// No more than this part of the file system: a small one must not be filled by its own reserve.
const PART: u64 = 32;

/// Writes, and once more after giving the reserve away if there was no room.
pub fn spend<T>(directory: &Path, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match write() {
        Err(error) if is_full(&error) && give_away(directory) => write(),
        result => result,
    }
}

/// Gives the reserve away. False when there was none.
pub fn give_away(directory: &Path) -> bool {
    fs::remove_file(file(directory)).is_ok()
}

/// Puts the reserve back when there is room again. If there is none, the next run tries.
pub fn refill(directory: &Path) {
    let Ok(system) = rustix::fs::statvfs(directory) else { return };
    let size = SIZE.min(usize::try_from(system.f_blocks * system.f_frsize / PART).unwrap_or(SIZE));
    let path = file(directory);
    let is_whole = fs::metadata(&path).is_ok_and(|found| found.len() == size as u64);
    // Twice the size, so that making it leaves as much again.
    if size == 0 || is_whole || system.f_bavail * system.f_frsize < 2 * size as u64 {
        return;
    }
    // Numbers, not zeros: a file system that compresses would keep no room for zeros.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    let bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(size).collect();
    let _ = disk::write(&path, &bytes, 0o600);
}

/// Whether there was no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn file(directory: &Path) -> PathBuf {
    directory.join("reserve")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_reserve_is_given_away_once_and_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        refill(directory.path());
        assert!(file(directory.path()).exists());
        let tries = Cell::new(0);
        let full_once = || {
            tries.set(tries.get() + 1);
            if tries.get() == 1 { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        };
        spend(directory.path(), full_once).unwrap();
        assert!(!file(directory.path()).exists());
        let full = || Err::<(), _>(io::Error::from(ErrorKind::StorageFull));
        assert!(spend(directory.path(), full).is_err(), "there is nothing left to give away");
        refill(directory.path());
        assert!(file(directory.path()).exists());
    }
}
