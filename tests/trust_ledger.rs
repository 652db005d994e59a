//! Kills a real process at every system call by which it writes the ledger, and looks what the next one believes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests start neighbours")]

use std::path::Path;
use std::process::{Command, Stdio};

use moorline::model::{Anchor, Hold, Ledger, Revision, Warrant};
use moorline::world::ledger;

fn anchor(digit: char) -> Anchor {
    let revision: Revision = String::from(digit).repeat(40).parse().unwrap();
    let at = jiff::Timestamp::UNIX_EPOCH;
    Anchor { revision: revision.clone(), first: revision, signer: "alice".into(), trust: Warrant::Signer, at }
}

/// Sets a hold in a process that is killed at the `number`th call of that name, and says whether it was.
fn killed_at(config: &Path, call: &str, number: usize) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={number}");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=all", "-e", &inject]);
    command.arg(env!("CARGO_BIN_EXE_moorline")).args(["hold", "--for", "1h", "--reason", "the sweep", "--config"]);
    let ended = command.arg(config).stdin(Stdio::null()).output().expect("`strace` is needed");
    !ended.status.success()
}

#[test]
fn t10_a_kill_at_any_system_call_of_a_write_leaves_the_old_ledger_or_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let config = path("agent.toml");
    let text = format!(
        "host = \"alpha\"\nremote = \"https://git.example.org/fleet.git\"\n[paths]\nstate = {:?}\nrun = {:?}\netc = {:?}\n",
        path("state"),
        path("run"),
        path("etc")
    );
    std::fs::write(&config, text).unwrap();
    for name in ["state", "run", "etc"] {
        std::fs::create_dir(path(name)).unwrap();
    }
    let state = path("state");
    ledger::set_anchor(&state, anchor('1')).unwrap();
    ledger::set_anchor(&state, anchor('2')).unwrap();
    let (mut kills, mut held) = (0, 0);
    for call in ["openat", "write", "fsync", "rename", "unlink", "flock", "fchmod", "close", "mkdir", "statx"] {
        for number in 1.. {
            ledger::set_hold(&state, None).unwrap();
            if !killed_at(&config, call, number) {
                break;
            }
            kills += 1;
            let read: Ledger = ledger::read(&state).unwrap_or_else(|fault| panic!("{call} {number}: {fault:?}"));
            assert_eq!(read.anchor, Some(anchor('2')), "{call} {number}");
            held += usize::from(matches!(&read.hold, Some(Hold { reason, .. }) if reason == "the sweep"));
            ledger::mend(&state).unwrap();
            assert_eq!(ledger::read(&state).unwrap(), read, "{call} {number}");
            assert_eq!(ledger::mend(&state).unwrap(), Vec::<String>::new(), "{call} {number}");
        }
    }
    // Both sides of the first rename were met.
    assert!(kills > 30 && (1..kills).contains(&held), "{kills} kills, {held} of them after the write");
}
