//! Keeps the ledger, in two copies, and the reports. A ledger that is there but cannot be believed is a fault, never a fresh start.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decide::copies::{self, Belief, Found, NAMES, Stamp};
use crate::decide::fault::{Code, Fault};
use crate::decide::report;
use crate::model::{Anchor, Hold, Ledger, Report};
use crate::world::{disk, reserve};

/// The version of the ledger's form.
const VERSION: u32 = 2;
/// A ledger of 50 stacks is about 1 MiB.
const LARGEST: u64 = 64 * 1024 * 1024;
/// How many reports are kept.
const REPORTS: usize = 200;

/// A copy as it stands on disk: the version first, and a checksum over the rest.
#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    /// How often it was written.
    #[serde(default)]
    generation: u64,
    checksum: String,
    ledger: serde_json::Value,
}

/// The witness: which generation was written last.
#[derive(Serialize, Deserialize)]
struct Witness {
    version: u32,
    generation: u64,
    checksum: String,
}

/// What stands on disk, and what of it is believed.
struct Standing {
    ledger: Ledger,
    generation: u64,
    amiss: Vec<String>,
    /// Whether all three files are as the last write left them.
    whole: bool,
}

/// Reads the ledger; an empty one when there never was one. Changes nothing.
pub fn read(state: &Path) -> Result<Ledger, Fault> {
    standing(state).map(|standing| standing.ledger)
}

/// Makes both copies and the witness agree again, before anything rests on what one of them says. Says what was amiss.
pub fn mend(state: &Path) -> Result<Vec<String>, Fault> {
    let _guard = guard(state)?;
    let standing = standing(state)?;
    if !standing.whole {
        write(state, &standing.ledger, standing.generation)?;
    }
    Ok(standing.amiss)
}

/// Writes what a run remembers, but leaves the hold as it stands on disk: a person may have set it meanwhile.
pub fn write_but_hold(state: &Path, ledger: &Ledger) -> Result<(), Fault> {
    change(state, |standing| {
        let (hold, stack_holds) = (standing.hold.take(), std::mem::take(&mut standing.stack_holds));
        standing.clone_from(ledger);
        (standing.hold, standing.stack_holds) = (hold, stack_holds);
    })
}

/// Sets or ends the hold, and leaves everything else as it stands on disk.
pub fn set_hold(state: &Path, hold: Option<Hold>) -> Result<(), Fault> {
    change(state, |standing| standing.hold = hold)
}

/// Sets or ends the hold of one stack.
pub fn set_stack_hold(state: &Path, stack: &str, hold: Option<Hold>) -> Result<(), Fault> {
    change(state, |standing| match hold {
        Some(hold) => _ = standing.stack_holds.insert(stack.to_owned(), hold),
        None => _ = standing.stack_holds.remove(stack),
    })
}

/// Moves the anchor by a person's order, and leaves everything else as it stands on disk. Only the next run, which
/// starts from it, may call anything settled again. It is also the way back from a ledger that cannot be believed:
/// what can be read of it is kept, and the files are kept beside it.
pub fn set_anchor(state: &Path, anchor: Anchor) -> Result<(), Fault> {
    let guard = guard(state)?;
    if standing(state).is_err() {
        begin_anew(state)?;
    }
    drop(guard);
    change(state, |standing| {
        standing.anchor = Some(anchor);
        standing.settled = None;
        // Who may sign rings is believed anew as well: the way back when every key of a ring is lost.
        standing.seal = None;
    })
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

fn change(state: &Path, change: impl FnOnce(&mut Ledger)) -> Result<(), Fault> {
    let _guard = guard(state)?;
    let mut standing = standing(state)?;
    if !standing.whole {
        // A write that is cut leaves one copy behind; the others must be good when it begins.
        write(state, &standing.ledger, standing.generation)?;
    }
    change(&mut standing.ledger);
    write(state, &standing.ledger, standing.generation + 1)
}

/// Puts what cannot be believed aside, and writes what can be read of it as a generation that is newer than all.
fn begin_anew(state: &Path) -> Result<(), Fault> {
    let (copies, witness) = found(state);
    let readable = copies.iter().filter_map(|found| match found {
        Found::Good(copy) => Some(copy),
        _ => None,
    });
    let newest =
        readable.max_by_key(|copy| copy.stamp.generation).map(|copy| (copy.ledger.clone(), copy.stamp.generation));
    let (ledger, generation) = newest.unwrap_or_default();
    let witnessed = if let Found::Good(witness) = witness { witness } else { 0 };
    for name in NAMES {
        let (from, to) = (state.join(name), state.join(format!("{name}.damaged")));
        if from.exists() {
            std::fs::copy(&from, &to).map_err(|error| disk::unwritable(&to, &error))?;
        }
    }
    write(state, &ledger, generation.max(witnessed) + 1)
}

/// Writes the ledger; it is on disk, in both copies, when this returns.
fn write(state: &Path, ledger: &Ledger, generation: u64) -> Result<(), Fault> {
    let [first, second, witness] = NAMES.map(|name| state.join(name));
    let unwritable = |error: &io::Error| disk::unwritable(&first, error);
    let ledger = serde_json::to_value(ledger).map_err(|error| unwritable(&error.into()))?;
    let envelope = Envelope { version: VERSION, generation, checksum: checksum(generation, &ledger), ledger };
    let bytes = serde_json::to_vec(&envelope).map_err(|error| unwritable(&error.into()))?;
    for copy in [&first, &second] {
        reserve::spend(state, || disk::write(copy, &bytes, 0o600)).map_err(|error| disk::unwritable(copy, &error))?;
    }
    // Last: from now on, no older copy is believed.
    let bytes = Witness { version: VERSION, generation, checksum: checksum(generation, &serde_json::Value::Null) };
    let bytes = serde_json::to_vec(&bytes).map_err(|error| unwritable(&error.into()))?;
    reserve::spend(state, || disk::write(&witness, &bytes, 0o600)).map_err(|error| disk::unwritable(&witness, &error))
}

fn standing(state: &Path) -> Result<Standing, Fault> {
    let (copies, witness) = found(state);
    let stamps = [&copies[0], &copies[1]].map(|found| match found {
        Found::Missing => Found::Missing,
        Found::Damaged(why) => Found::Damaged(why.clone()),
        Found::Good(copy) => Found::Good(copy.stamp.clone()),
    });
    let (which, generation, amiss) = match copies::believe(&stamps, &witness) {
        Ok(Belief::FirstStart) => {
            return Ok(Standing { ledger: Ledger::default(), generation: 0, amiss: Vec::new(), whole: true });
        }
        Ok(Belief::Copy { which, generation, amiss }) => (which, generation, amiss),
        Err(why) => return Err(damaged(state, why)),
    };
    let Found::Good(copy) = &copies[which] else { return Err(damaged(state, amiss)) };
    let (ledger, whole) = (copy.ledger.clone(), amiss.is_empty());
    // A ledger of a version that kept one copy lacks the others, and nothing is amiss.
    let amiss = if copy.version == VERSION { amiss } else { Vec::new() };
    Ok(Standing { ledger, generation, amiss, whole })
}

/// One copy as it was read.
struct Copy {
    version: u32,
    stamp: Stamp,
    ledger: Ledger,
}

fn found(state: &Path) -> ([Found<Copy>; 2], Found<u64>) {
    let [first, second, witness] = NAMES.map(|name| state.join(name));
    ([read_file(&first, read_copy), read_file(&second, read_copy)], read_file(&witness, read_witness))
}

fn read_file<T>(path: &Path, parse: fn(&[u8]) -> Result<T, String>) -> Found<T> {
    match disk::read(path, LARGEST) {
        Ok(bytes) => parse(&bytes).map_or_else(Found::Damaged, Found::Good),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Missing,
        Err(error) => Found::Damaged(error.to_string()),
    }
}

fn read_copy(bytes: &[u8]) -> Result<Copy, String> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Envelope { version, generation, checksum: written, ledger } = envelope;
    let expected = match version {
        // One copy, and so no generation.
        1 if generation == 0 => hex::encode(Sha256::digest(ledger.to_string().as_bytes())),
        VERSION => checksum(generation, &ledger),
        _ => return Err(format!("its version is {version}, known is {VERSION}")),
    };
    if expected != written {
        return Err("its checksum does not fit its content".to_owned());
    }
    let ledger = serde_json::from_value(ledger).map_err(|error| error.to_string())?;
    Ok(Copy { version, stamp: Stamp { generation, checksum: written }, ledger })
}

fn read_witness(bytes: &[u8]) -> Result<u64, String> {
    let witness: Witness = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if witness.version != VERSION || checksum(witness.generation, &serde_json::Value::Null) != witness.checksum {
        return Err("its checksum does not fit its content".to_owned());
    }
    Ok(witness.generation)
}

fn checksum(generation: u64, content: &serde_json::Value) -> String {
    hex::encode(Sha256::digest(format!("{VERSION} {generation} {content}").as_bytes()))
}

fn damaged(state: &Path, why: Vec<String>) -> Fault {
    let sentence = format!("the ledger in {} cannot be believed", state.display());
    let mut fault = Fault::new(Code::LedgerDamaged, sentence)
        .at("nothing was changed; what runs goes on running, and no revision is accepted")
        .hint(
            "look at the last revision you know to be good, and `moorline trust --anchor REVISION --reason \"the \
             ledger was damaged\"`",
        );
    fault.because = why;
    fault
}

/// Writes a report. A quiet run replaces the report of the quiet run before it, so that the last 200 reports are
/// those in which something happened.
pub fn record(state: &Path, report: &Report) -> Result<(), Fault> {
    let directory = state.join("runs");
    let path = directory.join(format!("{}.json", report.run));
    let unwritable = |error: &io::Error| disk::unwritable(&path, error);
    let bytes = serde_json::to_vec_pretty(report).map_err(|error| unwritable(&error.into()))?;
    reserve::spend(state, || disk::write(&path, &bytes, 0o600)).map_err(|error| unwritable(&error))?;
    disk::forget_unfinished(&directory).map_err(|error| disk::unwritable(&directory, &error))?;
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
mod tests;
