use std::path::PathBuf;

use super::*;

fn ledger(note: &str) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.unknown.insert("note".into(), note.into());
    ledger
}

fn note(state: &Path) -> Result<String, Code> {
    read(state).map(|ledger| ledger.unknown["note"].as_str().unwrap().to_owned()).map_err(|fault| fault.code)
}

/// A state directory with two generations written: `old`, then `new`; and the files of the old one.
fn written_twice() -> (tempfile::TempDir, [PathBuf; 3], [Vec<u8>; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let files = NAMES.map(|name| directory.path().join(name));
    write_but_hold(directory.path(), &ledger("old")).unwrap();
    let old = [0, 1, 2].map(|file| std::fs::read(&files[file]).unwrap());
    write_but_hold(directory.path(), &ledger("new")).unwrap();
    (directory, files, old)
}

/// Every damage that is done to one file: removed, emptied, zeroed, cut, and each byte changed.
fn damages(good: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut damages = vec![None, Some(vec![]), Some(vec![0; good.len()])];
    damages.extend((1..good.len()).step_by(7).map(|end| Some(good[..end].to_vec())));
    for at in 0..good.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bad = good.to_vec();
            bad[at] ^= bit;
            damages.push(Some(bad));
        }
    }
    damages
}

fn put(file: &Path, content: Option<&Vec<u8>>) {
    match content {
        Some(content) => std::fs::write(file, content).unwrap(),
        None => std::fs::remove_file(file).unwrap(),
    }
}

#[test]
fn t10_whatever_happens_to_one_file_the_newest_ledger_is_read_and_mended() {
    let (directory, files, old) = written_twice();
    for (file, old) in files.iter().zip(&old) {
        let good = std::fs::read(file).unwrap();
        for damage in damages(&good).into_iter().chain([Some(old.clone())]) {
            put(file, damage.as_ref());
            assert_eq!(note(directory.path()), Ok("new".into()), "{}: {damage:?}", file.display());
        }
        put(file, Some(old));
        assert_eq!(mend(directory.path()).unwrap().len(), 1, "{}", file.display());
        assert_eq!(std::fs::read(file).unwrap(), good);
        assert_eq!(mend(directory.path()).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn t10_whatever_happens_to_two_files_nothing_older_is_ever_read() {
    let (directory, files, old) = written_twice();
    let good = [0, 1, 2].map(|file| std::fs::read(&files[file]).unwrap());
    for (one, two) in [(0, 1), (0, 2), (1, 2)] {
        let few = |file: usize| {
            let all = damages(&good[file]);
            let some: Vec<_> = all.into_iter().step_by(37).chain([None, Some(old[file].clone())]).collect();
            some
        };
        for first in few(one) {
            for second in few(two) {
                put(&files[one], first.as_ref());
                put(&files[two], second.as_ref());
                match note(directory.path()) {
                    Ok(note) => assert_eq!(note, "new", "{one} {first:?}, {two} {second:?}"),
                    Err(code) => assert_eq!(code, Code::LedgerDamaged),
                }
                for (file, good) in files.iter().zip(&good) {
                    std::fs::write(file, good).unwrap();
                }
            }
        }
    }
}

#[test]
fn t10_a_write_cut_after_any_file_is_the_old_ledger_or_the_new_one_and_goes_on() {
    let (directory, files, old) = written_twice();
    let new = [0, 1, 2].map(|file| std::fs::read(&files[file]).unwrap());
    for cut in 0..=3 {
        for (number, file) in files.iter().enumerate() {
            std::fs::write(file, if number < cut { &new[number] } else { &old[number] }).unwrap();
            // What a kill in the middle of one file leaves behind.
            std::fs::write(file.with_extension("json.moorline-new"), b"half").unwrap();
        }
        let expected = if cut == 0 { "old" } else { "new" };
        assert_eq!(note(directory.path()), Ok(expected.into()), "cut after {cut} files");
        mend(directory.path()).unwrap();
        // Once it was used, no single loss takes it back.
        for file in &files {
            let good = std::fs::read(file).unwrap();
            std::fs::remove_file(file).unwrap();
            assert_eq!(note(directory.path()), Ok(expected.into()), "cut after {cut} files");
            std::fs::write(file, good).unwrap();
        }
    }
}

#[test]
fn a_first_write_cut_after_any_file_is_no_fault() {
    for cut in 0..=3 {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &ledger("first"), 1).unwrap();
        for name in &NAMES[cut..] {
            std::fs::remove_file(directory.path().join(name)).unwrap();
        }
        assert_eq!(read(directory.path()).unwrap() == Ledger::default(), cut == 0, "cut after {cut} files");
        set_hold(directory.path(), None).unwrap();
        assert_eq!(mend(directory.path()).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn without_both_copies_only_a_person_goes_on_and_what_was_there_is_kept() {
    let (directory, files, _) = written_twice();
    for file in &files[..2] {
        std::fs::write(file, b"{").unwrap();
    }
    assert_eq!(note(directory.path()), Err(Code::LedgerDamaged));
    assert_eq!(set_hold(directory.path(), None).unwrap_err().code, Code::LedgerDamaged);
    assert_eq!(mend(directory.path()).unwrap_err().code, Code::LedgerDamaged);
    let revision: crate::model::Revision = "9f2c1e07aa00bb11cc22dd33ee44ff5566778899".parse().unwrap();
    let anchor = Anchor {
        revision: revision.clone(),
        first: revision.clone(),
        signer: "ops on this host: damaged".into(),
        trust: crate::model::Warrant::Person,
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    set_anchor(directory.path(), anchor.clone()).unwrap();
    assert_eq!(read(directory.path()).unwrap().anchor, Some(anchor));
    assert_eq!(std::fs::read(directory.path().join("ledger.json.damaged")).unwrap(), b"{");
    // The old copies cannot come back.
    assert_eq!(mend(directory.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_ledger_of_a_version_with_one_copy_opens_and_gets_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let content = serde_json::json!({"attempted": {}, "applied": {}, "note": "old"});
    let checksum = hex::encode(Sha256::digest(content.to_string().as_bytes()));
    let file = serde_json::json!({"version": 1, "checksum": checksum, "ledger": content});
    std::fs::write(directory.path().join(NAMES[0]), file.to_string()).unwrap();
    assert_eq!(note(directory.path()), Ok("old".into()));
    assert_eq!(mend(directory.path()).unwrap(), Vec::<String>::new());
    for name in NAMES {
        assert!(directory.path().join(name).exists(), "{name}");
    }
    std::fs::remove_file(directory.path().join(NAMES[0])).unwrap();
    assert_eq!(note(directory.path()), Ok("old".into()));
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
    write(directory.path(), &ledger, 1).unwrap();
    assert_eq!(read(directory.path()).unwrap().unknown["future"], serde_json::json!({"a": 1}));
}
