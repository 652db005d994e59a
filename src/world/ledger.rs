//! Keeps the ledger and the reports. A ledger that is there but cannot be believed is a fault, never a fresh start.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decide::fault::{Code, Fault};
use crate::decide::report;
use crate::model::{Anchor, Hold, Ledger, Report};
use crate::world::disk;

/// The version of the ledger's form.
const VERSION: u32 = 1;
/// A ledger of 50 stacks is about 1 MiB.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How many reports are kept.
const REPORTS: usize = 200;

/// The file as it stands on disk: the version first, and a checksum over the rest.
#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    checksum: String,
    ledger: serde_json::Value,
}

/// Reads the ledger; an empty one when there is no file.
pub fn read(state: &Path) -> Result<Ledger, Fault> {
    let path = file(state);
    let bytes = match disk::read(&path, LARGEST) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
        Err(error) => return Err(damaged(&path).caused_by(&error)),
    };
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| damaged(&path).caused_by(&error))?;
    if envelope.version != VERSION {
        return Err(damaged(&path).because(format!("its version is {}, known is {VERSION}", envelope.version)));
    }
    if checksum(&envelope.ledger) != envelope.checksum {
        return Err(damaged(&path).because("its checksum does not fit its content"));
    }
    serde_json::from_value(envelope.ledger).map_err(|error| damaged(&path).caused_by(&error))
}

/// Writes what a run remembers, but leaves the hold as it stands on disk: a person may have set it meanwhile.
pub fn write_but_hold(state: &Path, ledger: &Ledger) -> Result<(), Fault> {
    let _guard = guard(state)?;
    let mut ledger = ledger.clone();
    ledger.hold = read(state)?.hold;
    write(state, &ledger)
}

/// Sets or ends the hold, and leaves everything else as it stands on disk.
pub fn set_hold(state: &Path, hold: Option<Hold>) -> Result<(), Fault> {
    let _guard = guard(state)?;
    let mut ledger = read(state)?;
    ledger.hold = hold;
    write(state, &ledger)
}

/// Moves the anchor by a person's order, and leaves everything else as it stands on disk. Only the next run, which
/// starts from it, may call anything settled again.
pub fn set_anchor(state: &Path, anchor: Anchor) -> Result<(), Fault> {
    let _guard = guard(state)?;
    let mut ledger = read(state)?;
    ledger.anchor = Some(anchor);
    ledger.settled = None;
    write(state, &ledger)
}

/// Between reading and writing nobody else may write. Held for milliseconds, so it is waited for.
fn guard(state: &Path) -> Result<File, Fault> {
    let path = state.join("ledger.lock");
    let lock = || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    lock().map_err(|error: io::Error| disk::unwritable(&path, &error))
}

/// Writes the ledger; it is on disk when this returns.
fn write(state: &Path, ledger: &Ledger) -> Result<(), Fault> {
    let path = file(state);
    let unwritable = |error: &io::Error| disk::unwritable(&path, error);
    let ledger = serde_json::to_value(ledger).map_err(|error| unwritable(&error.into()))?;
    let envelope = Envelope { version: VERSION, checksum: checksum(&ledger), ledger };
    let bytes = serde_json::to_vec(&envelope).map_err(|error| unwritable(&error.into()))?;
    disk::write(&path, &bytes, 0o600).map_err(|error| unwritable(&error))
}

fn file(state: &Path) -> PathBuf {
    state.join("ledger.json")
}

fn checksum(ledger: &serde_json::Value) -> String {
    hex::encode(Sha256::digest(ledger.to_string().as_bytes()))
}

fn damaged(path: &Path) -> Fault {
    Fault::new(Code::LedgerDamaged, format!("{} is damaged", path.display()))
        .at("nothing was changed; what runs goes on running")
        .hint(format!(
            "if no copy of it can be restored, move it away (`mv {0} {0}.damaged`): this host then starts anew and \
             accepts the whole signed history again",
            path.display()
        ))
}

/// Writes a report. A quiet run replaces the report of the quiet run before it, so that the last 200 reports are
/// those in which something happened.
pub fn record(state: &Path, report: &Report) -> Result<(), Fault> {
    let directory = state.join("runs");
    let path = directory.join(format!("{}.json", report.run));
    let unwritable = |error: &io::Error| disk::unwritable(&path, error);
    let bytes = serde_json::to_vec_pretty(report).map_err(|error| unwritable(&error.into()))?;
    disk::write(&path, &bytes, 0o600).map_err(|error| unwritable(&error))?;
    let mut runs = runs(state)?;
    runs.retain(|run| *run != report.run);
    let replaced = match runs.last() {
        Some(last) if report::is_quiet(report) => read_report(state, last).is_ok_and(|last| report::is_quiet(&last)),
        _ => false,
    };
    let too_many = runs.len().saturating_sub(REPORTS - 1);
    let last = replaced.then(|| runs.pop()).flatten();
    for run in runs.into_iter().take(too_many).chain(last) {
        let old = directory.join(format!("{run}.json"));
        std::fs::remove_file(&old).map_err(|error| disk::unwritable(&old, &error))?;
    }
    Ok(())
}

/// The ids of all reports, oldest first.
pub fn runs(state: &Path) -> Result<Vec<String>, Fault> {
    let directory = state.join("runs");
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk::unwritable(&directory, &error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut runs: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    runs.sort();
    Ok(runs)
}

/// Reads one report.
pub fn read_report(state: &Path, run: &str) -> Result<Report, Fault> {
    let path = state.join("runs").join(format!("{run}.json"));
    let unreadable = |error: &dyn std::error::Error| {
        Fault::new(Code::UsageInvalid, format!("there is no readable report of run {run}"))
            .caused_by(error)
            .hint("`moorline runs` lists them")
    };
    let bytes = disk::read(&path, LARGEST).map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_ledger_is_a_first_start_and_a_damaged_one_is_a_fault() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), Ledger::default());
        write(directory.path(), &Ledger::default()).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Ledger::default());
        let path = file(directory.path());
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            if let Ok(ledger) = read(directory.path()) {
                panic!("bit {at} flipped, and the ledger was believed: {ledger:?}");
            }
        }
        std::fs::write(&path, b"").unwrap();
        assert_eq!(read(directory.path()).unwrap_err().code, Code::LedgerDamaged);
    }

    #[test]
    fn a_run_does_not_undo_a_hold_that_was_set_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let before = read(directory.path()).unwrap();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let hold = Hold { owner: "ops".into(), reason: "look".into(), since: now, until: now };
        set_hold(directory.path(), Some(hold.clone())).unwrap();
        write_but_hold(directory.path(), &before).unwrap();
        assert_eq!(read(directory.path()).unwrap().hold, Some(hold));
    }

    #[test]
    fn fields_of_newer_versions_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        ledger.unknown.insert("future".into(), serde_json::json!({"a": 1}));
        write(directory.path(), &ledger).unwrap();
        assert_eq!(read(directory.path()).unwrap().unknown["future"], serde_json::json!({"a": 1}));
    }
}
