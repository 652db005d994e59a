//! Looks for secret values where none may be. Changes nothing, follows no link.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A secret found in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    pub path: PathBuf,
    pub needle: String,
    /// Of its first byte in the file.
    pub offset: u64,
}

/// Every file below the paths that contains a needle, once per needle.
///
/// Panics when something cannot be read: a search that skipped half the files must not read as a clean one.
#[track_caller]
pub fn search_for_canary<P: AsRef<Path>, N: AsRef<str>>(paths: &[P], needles: &[N]) -> Vec<Hit> {
    let needles: Vec<&str> = needles.iter().map(AsRef::as_ref).collect();
    assert!(needles.iter().all(|needle| !needle.is_empty()), "an empty needle is everywhere");
    let mut hits = Vec::new();
    for path in paths {
        assert!(
            path.as_ref().symlink_metadata().is_ok(),
            "{} does not exist: nothing was searched",
            path.as_ref().display()
        );
        search(path.as_ref(), &needles, &mut hits);
    }
    hits.sort();
    hits
}

#[track_caller]
fn search(path: &Path, needles: &[&str], hits: &mut Vec<Hit>) {
    let kind = match path.symlink_metadata() {
        Ok(found) => found.file_type(),
        // Engines remove files while we look.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    if kind.is_dir() {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            search(&entry.path(), needles, hits);
        }
    } else if kind.is_symlink() {
        let target = std::fs::read_link(path).unwrap_or_default();
        record(path, target.as_os_str().as_encoded_bytes(), 0, needles, hits);
    } else if kind.is_file() {
        match File::open(path) {
            Ok(file) => search_file(path, file, needles, hits),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
    // Names tell as much as content.
    if let Some(name) = path.file_name() {
        record(path, name.as_encoded_bytes(), 0, needles, hits);
    }
}

fn search_file(path: &Path, mut file: File, needles: &[&str], hits: &mut Vec<Hit>) {
    // A needle may lie across two reads.
    let overlap = needles.iter().map(|needle| needle.len()).max().unwrap_or(1) - 1;
    let mut window = Vec::new();
    let mut offset = 0;
    loop {
        let read = file.by_ref().take(1 << 20).read_to_end(&mut window);
        let read = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if read == 0 {
            return;
        }
        record(path, &window, offset, needles, hits);
        let done = window.len().saturating_sub(overlap);
        window.drain(..done);
        offset += done as u64;
    }
}

fn record(path: &Path, bytes: &[u8], offset: u64, needles: &[&str], hits: &mut Vec<Hit>) {
    for needle in needles {
        let known = hits.iter().any(|hit| hit.path == path && hit.needle == *needle);
        if known {
            continue;
        }
        if let Some(place) = find(bytes, needle.as_bytes()) {
            hits.push(Hit { path: path.to_owned(), needle: (*needle).to_owned(), offset: offset + place as u64 });
        }
    }
}

/// Looking for the first byte alone lets the compiler use wide instructions; data roots are hundreds of megabytes.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut from = 0;
    while let Some(step) = bytes[from..].iter().position(|byte| *byte == first) {
        let place = from + step;
        if bytes[place..].starts_with(needle) {
            return Some(place);
        }
        from = place + 1;
    }
    None
}
