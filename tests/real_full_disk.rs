//! A full or read-only disk and a full `/run`, on a real host: what serves goes on serving, status and push say what is
//! the matter, and it mends itself when there is room.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::lab::WEB;
use support::{Lab, Run as _, Status};

/// A small file system in the place of a directory. Dropping it takes it away.
struct Small(PathBuf);

impl Small {
    fn on(directory: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&directory).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs"], &directory);
        Self(directory)
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.0.join("filler")).unwrap();
        for size in [64 * 1024, 1024, 1] {
            while filler.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }

    fn is_writable(&self, writable: bool) {
        mount(&["-o", if writable { "remount,rw" } else { "remount,ro" }], &self.0);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("-l").arg(&self.0).run();
        assert!(ended.code.is_some(), "{ended}");
    }
}

#[track_caller]
fn mount(options: &[&str], directory: &Path) {
    Command::new("mount").args(options).arg(directory).run().succeeds();
}

/// What must hold while nothing can be written.
#[track_caller]
fn serves_and_says_so(lab: &Lab, message: &str) {
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[state-unwritable]"), "{ran}");
    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), message);
    let last = &lab.host.status()["last_run"];
    assert_eq!(last["fault"]["code"], "state-unwritable", "{last:#}");
    // A fetch may not find room either; the message is sent all the same.
    let courier = lab.host.moorline(&["courier", "--once"]);
    let beat = lab.push.beats("alpha").last().cloned().unwrap();
    assert!(beat.status == Status::Down && beat.msg.contains("state-unwritable"), "{}\n{courier}", beat.msg);
}

#[test]
fn a_full_or_read_only_disk_leaves_what_serves_alone_and_mends_itself() {
    let mut lab = Lab::new();
    let disk = Small::on(lab.host.state(), "24m");
    lab.deploy("first");
    let reserve = lab.host.state().join("reserve");
    assert!(reserve.exists());

    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("'${MESSAGE}'", "second"));
    lab.publish("second");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    fs::remove_file(&reserve).unwrap();
    disk.fill();
    serves_and_says_so(&lab, "hello");
    disk.free();
    lab.host.converges();
    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), "second");
    assert!(reserve.exists(), "there is a reserve again");

    // With a reserve, a full disk does not even keep a stopped service down.
    disk.fill();
    lab.engine.docker(&["rm", "-f", "web-db-1"]).succeeds();
    lab.host.moorline(&["reconcile"]).succeeds();
    assert_eq!(lab.engine.inspect("web-db-1")["State"]["Running"], true);
    assert_eq!(lab.host.status()["last_run"]["end"], "converged");
    disk.free();

    disk.is_writable(false);
    serves_and_says_so(&lab, "second");
    disk.is_writable(true);
    lab.host.converges();
}

#[test]
fn a_full_run_directory_leaves_what_serves_alone_and_mends_itself() {
    let mut lab = Lab::new();
    let settings = lab.host.etc().join("agent.toml");
    let text = fs::read_to_string(&settings).unwrap().replace("[paths]\n", "[paths]\nallow_tmpfs = true\n");
    fs::write(&settings, text).unwrap();
    let memory = Small::on(lab.host.run_directory(), "4m");
    lab.deploy("first");
    lab.secrets("web:\n  TOKEN: canary-token-2\n");
    lab.publish("rotated");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    memory.fill();
    serves_and_says_so(&lab, "hello");
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-1");
    memory.free();
    lab.host.converges();
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-2");
}
