//! Decides whether there is room for a drill, and what a person is told of one that proved nothing.

use crate::decide::fault::{Code, Fault};
use crate::model::backup::Dump;

/// What must stay free on every disk that is written to.
pub const RESERVE: u64 = 512 * 1024 * 1024;
/// How much more a database takes than its dump: indexes, and a log of what is written.
const GROWTH: u64 = 3;

/// How much is to be written, and how much is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are restored into scratch space.
    pub files: u64,
    /// Bytes of dumps that are loaded into servers.
    pub dumps: u64,
    /// Free bytes where the scratch space is.
    pub scratch: u64,
    /// Free bytes where the engine keeps its volumes, if that is another disk.
    pub engine: Option<u64>,
}

/// Refuses what would leave too little free. `what` is going to be written.
pub fn admit(what: &str, room: Room) -> Result<(), Fault> {
    let loaded = room.dumps.saturating_mul(GROWTH);
    let needs = match room.engine {
        None => [("", room.files.saturating_add(loaded), room.scratch), ("", 0, u64::MAX)],
        Some(engine) => [("", room.files, room.scratch), (" for the engine's volumes", loaded, engine)],
    };
    let short = needs.into_iter().find(|(_, needed, free)| *needed > 0 && needed.saturating_add(RESERVE) > *free);
    let Some((place, needed, free)) = short else { return Ok(()) };
    let mebibytes = |bytes: u64| bytes.div_ceil(1024 * 1024);
    let (needed, free, reserve) = (mebibytes(needed), free >> 20, mebibytes(RESERVE));
    let dumps = match room.dumps {
        0 => String::new(),
        dumps => format!("; {} MiB of dumps count {GROWTH} times more when they are loaded", mebibytes(dumps)),
    };
    let sentence = format!("there is no room for {what}: it needs {needed} MiB, and {free} MiB are free{place}");
    Err(Fault::new(Code::SpaceShort, sentence)
        .because(format!("{reserve} MiB are to stay free{dumps}"))
        .at("nothing was written")
        .hint("make room, or restore on another host: docs/backups.md#drills"))
}

/// One line about a fault, as reports and monitors carry it.
pub fn problem(fault: &Fault) -> String {
    match fault.because.first().filter(|because| !because.is_empty()) {
        Some(because) => format!("{}: {because}", fault.sentence),
        None => fault.sentence.clone(),
    }
}

/// The fault of a drill that proved nothing, or not everything.
pub fn unproven(stack: &str, snapshot: Option<&str>, problems: &[Fault]) -> Fault {
    let what = match snapshot {
        Some(snapshot) => format!("snapshot {} of {stack} is not proven", snapshot.get(..8).unwrap_or(snapshot)),
        None => format!("no snapshot of {stack} is proven"),
    };
    let mut fault =
        Fault::new(Code::DrillFailed, what).at("what runs was not touched; the drill's own things are removed");
    fault.because = problems.iter().map(problem).collect();
    let hint = problems.iter().find_map(|problem| problem.hint.clone());
    let usual = match snapshot {
        Some(_) => {
            format!("`moorline restore {stack} SNAPSHOT --to DIR` for a look; then `moorline drill {stack}` again")
        }
        None => format!("`moorline backup {stack}`, then `moorline drill {stack}`"),
    };
    fault.hint(hint.unwrap_or(usual))
}

/// What is said of a dump that cannot be loaded by itself.
pub fn not_loaded(dump: &Dump) -> String {
    format!("dump {} was compared and not loaded: only a probe can say whether it is good", dump.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1024 * 1024;

    fn room(files: u64, dumps: u64, scratch: u64, engine: Option<u64>) -> Result<(), String> {
        let bytes = |mebibytes: u64| mebibytes * MEBIBYTE;
        let room =
            Room { files: bytes(files), dumps: bytes(dumps), scratch: bytes(scratch), engine: engine.map(bytes) };
        admit("a drill of shop", room).map_err(|fault| fault.sentence)
    }

    #[test]
    fn files_and_loaded_dumps_must_fit_and_leave_the_reserve() {
        assert_eq!(room(100, 0, 612, None), Ok(()));
        let why = room(100, 0, 611, None).unwrap_err();
        assert_eq!(why, "there is no room for a drill of shop: it needs 100 MiB, and 611 MiB are free");
        assert_eq!(room(100, 10, 642, None), Ok(()));
        assert!(room(100, 10, 641, None).is_err());
        assert_eq!(room(100, 10, 612, Some(542)), Ok(()));
        assert!(room(100, 10, 612, Some(541)).unwrap_err().ends_with("541 MiB are free for the engine's volumes"));
        assert_eq!(room(100, 0, 612, Some(0)), Ok(()), "nothing is written there");
    }

    #[test]
    fn a_drill_that_failed_says_what_is_not_proven_and_what_to_type() {
        let lost = Fault::new(Code::DrillFailed, "/volumes/data/x is lost").because("a pack is damaged");
        let fault = unproven("shop", Some("1980cc6b11"), &[lost]);
        assert_eq!(fault.sentence, "snapshot 1980cc6b of shop is not proven");
        assert_eq!(fault.because, ["/volumes/data/x is lost: a pack is damaged"]);
        assert!(fault.hint.unwrap().contains("`moorline drill shop`"));
        assert!(unproven("shop", None, &[]).hint.unwrap().contains("`moorline backup shop`"));
    }
}
