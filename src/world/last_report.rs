//! Keeps the last report in memory when the disk does not take it, so that `status` can still say what is the matter.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::Report;
use crate::world::disk;

/// Reports of 50 stacks are below 1 MiB.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Keeps it. If this is not possible either, the journal has what the run said.
pub fn keep(run: &Path, report: &Report) {
    if let Ok(bytes) = serde_json::to_vec(report) {
        let _ = fs::create_dir_all(run);
        let _ = disk::write(&file(run), &bytes, 0o600);
    }
}

/// The kept report, if it is newer than the one on disk.
pub fn newer(run: &Path, on_disk: Option<Report>) -> Option<Report> {
    let kept = disk::read(&file(run), LARGEST).ok().and_then(|bytes| serde_json::from_slice::<Report>(&bytes).ok());
    match (kept, on_disk) {
        (Some(kept), Some(on_disk)) if kept.ended > on_disk.ended => Some(kept),
        (kept, None) => kept,
        (_, on_disk) => on_disk,
    }
}

fn file(run: &Path) -> PathBuf {
    run.join("last-report.json")
}
