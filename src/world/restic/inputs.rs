//! Lays out what a stack was made from as files, as they stand in the fleet repository, so that a snapshot is enough to
//! build the stack again. The SOPS file stays sealed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::decide::fault::Fault;
use crate::model::Good;
use crate::world::disk;

/// No file of a revision is larger.
const LARGEST: u64 = 1024 * 1024;

/// Writes the files that differ from what is there, removes those that are no longer there, and returns the directory.
/// What stays the same keeps its times, or every snapshot would differ.
pub fn lay_out(state: &Path, good: &Good) -> Result<PathBuf, Fault> {
    let directory = state.join("backup").join(&good.stack);
    let mut files: BTreeMap<PathBuf, (&[u8], u32)> = BTreeMap::new();
    for source in &good.spec.stacks {
        for (path, file) in &source.files {
            let mode = if file.executable { 0o755 } else { 0o644 };
            files.insert(Path::new("stacks").join(&source.name).join(path), (&file.bytes, mode));
        }
    }
    if let Some(sealed) = &good.spec.sealed {
        files.insert(PathBuf::from(&sealed.path), (&sealed.bytes, 0o644));
    }
    let revision = format!("{}\n", good.revision);
    files.insert("revision".into(), (revision.as_bytes(), 0o644));
    write(&directory, &files).map_err(|error| disk::unwritable(&directory, &error))?;
    Ok(directory)
}

fn write(directory: &Path, files: &BTreeMap<PathBuf, (&[u8], u32)>) -> io::Result<()> {
    for (path, (bytes, mode)) in files {
        let path = directory.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        if !disk::read(&path, LARGEST).is_ok_and(|there| there == *bytes) {
            disk::write(&path, bytes, *mode)?;
        }
    }
    remove_others(directory, Path::new(""), files)
}

fn remove_others(root: &Path, below: &Path, files: &BTreeMap<PathBuf, (&[u8], u32)>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            if !files.contains_key(&path) {
                fs::remove_file(entry.path())?;
            }
        } else if files.keys().any(|file| file.starts_with(&path)) {
            remove_others(root, &path, files)?;
        } else {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
