//! The push URLs of the monitors, in memory, for the runs that open no secrets.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::Secret;
use crate::world::disk;

/// It is one line.
const LARGEST: u64 = 16 * 1024;

/// The push URL of a monitor, if this host ever learned it.
pub fn read(run: &Path, monitor: &str) -> Option<Secret<String>> {
    let bytes = disk::read(&path(run, monitor), LARGEST).ok()?;
    Some(Secret::new(String::from_utf8(bytes).ok()?))
}

/// Keeps the push URL of a monitor, or forgets it. If it cannot be kept, the runs that open no secrets are not
/// announced, and Kuma says so by itself.
pub fn keep(run: &Path, monitor: &str, url: Option<&Secret<String>>) {
    let path = path(run, monitor);
    let _ = match url {
        Some(url) => path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| disk::write_shared(&path, url.expose().as_bytes())),
        None => fs::remove_file(&path),
    };
}

fn path(run: &Path, monitor: &str) -> PathBuf {
    run.join("push").join(monitor)
}
