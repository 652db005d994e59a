//! The files of the courier's repository, as far as the courier handles them itself: whole clones, packs, leftovers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::world::clock;

/// Puts `fresh` in the place of `repository`, and what was there in the place of `fresh`.
pub fn exchange(fresh: &Path, repository: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, fresh, CWD, repository, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::NOENT) => {}
        // Not every file system can exchange; then there is an instant without a repository, which readers survive.
        Err(_) => fs::remove_dir_all(repository)?,
    }
    fs::rename(fresh, repository)
}

/// The packs and their sizes.
pub fn packs(repository: &Path) -> BTreeMap<PathBuf, u64> {
    let Ok(entries) = fs::read_dir(repository.join("objects/pack")) else { return BTreeMap::new() };
    let packs = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack"));
    packs.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect()
}

/// How many objects a pack has. Its header says so, and git has held it to that.
pub fn objects(pack: &Path) -> std::io::Result<u32> {
    let mut header = [0; 12];
    File::open(pack)?.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

/// Removes a pack with everything that git wrote beside it.
pub fn remove_pack(pack: &Path) -> std::io::Result<()> {
    // The index goes first: a pack without one is not read.
    for extension in ["idx", "rev", "keep", "pack"] {
        match fs::remove_file(pack.with_extension(extension)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what a killed git leaves behind: locks, that would stop every later one, and halves of packs, that would
/// fill the disk.
///
/// We hold the courier's lock, so only a git of ours can have made them. With `began`, what was touched since then is
/// left alone: at the start of a courier a git of the one before may still be ending. A time in the future is none.
pub fn sweep(repository: &Path, began: Option<SystemTime>) {
    let now = SystemTime::from(clock::now());
    let is_young = |path: &Path| {
        let touched = fs::symlink_metadata(path).and_then(|found| found.modified());
        began.is_some_and(|began| touched.is_ok_and(|touched| touched >= began && touched <= now))
    };
    for path in leftovers(repository, 4) {
        if !is_young(&path) {
            // What cannot be removed will make git fail, with a message that names it.
            let _ = fs::remove_file(path);
        }
    }
}

fn leftovers(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ending = |ending| name.ends_with(ending);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => found.extend(leftovers(&entry.path(), depth - 1)),
            Ok(kind)
                if kind.is_file()
                    && (ending(".lock") || ending(".keep") || ending(".new") || name.starts_with("tmp_")) =>
            {
                found.push(entry.path());
            }
            _ => {}
        }
    }
    found
}
