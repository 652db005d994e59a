//! Backup jobs of very many files: what they cost in memory, and that a snapshot made in several passes is what plain
//! restic would have made, in whatever moment a pass is broken off.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;
#[allow(dead_code, reason = "others fill it with more")]
#[path = "backup/tree.rs"]
mod tree;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value as Json, json};
use support::{Run as _, Vault};
use tree::{assert_same, random};

const PASSWORD: &str = "of the test";
const MEBIBYTE: u64 = 1024 * 1024;

impl Vault {
    /// Starts a job as moorline does, in a control group of this name.
    fn start(&self, task: &Json) -> Child {
        let group = limited(self.scratch.name());
        let mut job = self.scratch.command("busybox");
        job.args(["sh", "-c", "echo $$ >\"$1/cgroup.procs\" && exec \"$2\" internals restic", "sh"]);
        job.arg(group).arg(env!("CARGO_BIN_EXE_moorline"));
        for (name, value) in
            [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "4194304"), ("MALLOC_TRIM_THRESHOLD_", "33554432")]
        {
            job.env(name, value);
        }
        self.order(job, PASSWORD, task)
    }

    #[track_caller]
    fn ask(&self, task: &Json) -> Json {
        let output = self.start(task).wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {said}", output.status);
        serde_json::from_str(said.lines().last().expect("it says how it ended")).expect("each line is JSON")
    }

    fn backup_task(&self) -> Json {
        json!({ "backup": {
            "host": "alpha", "label": "app", "tags": [], "excludes": [], "first": "make",
            "cache": self.scratch.join("cache"),
            "sources": [{ "to": "/data", "from": self.data(), "below": "" }],
        }})
    }

    #[track_caller]
    fn save(&self) -> Json {
        let said = self.ask(&self.backup_task());
        assert_eq!(said["saved"]["unreadable"]["count"], 0, "{said}");
        said["saved"].clone()
    }

    #[track_caller]
    fn restore(&self) -> (PathBuf, Json) {
        let to = self.scratch.join("restored");
        let task = json!({ "host": "alpha", "label": "app", "snapshot": "latest", "path": "/data", "to": to });
        let said = self.ask(&json!({ "restore": task }));
        assert_eq!(said["restored"]["lost"]["count"], 0, "{said}");
        (to, said["restored"].clone())
    }

    #[track_caller]
    fn comes_back(&self) {
        let (to, _) = self.restore();
        assert_same(&self.data(), &to);
        fs::remove_dir_all(to).unwrap();
    }

    fn restic(&self, arguments: &[&str]) -> Command {
        let mut restic = self.scratch.command("restic");
        restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", self.scratch.path());
        restic.arg("--no-cache").arg("--repo").arg(&self.repository).args(arguments);
        restic
    }

    #[track_caller]
    fn is_sound(&self) {
        self.restic(&["check", "--read-data"]).run().succeeds();
    }

    /// Snapshots as plain restic sees them.
    #[track_caller]
    fn snapshots(&self) -> Vec<Json> {
        let shown = self.restic(&["snapshots", "--json"]).run().succeeds();
        serde_json::from_str(&shown).expect("it is a list")
    }

    /// What plain restic adds when it saves the same data: blobs of content, and of directories.
    #[track_caller]
    fn restic_saves(&self) -> u64 {
        let said = self.restic(&["backup", "--json", "--host", "other", "."]).current_dir(self.data()).run().succeeds();
        let last: Json = serde_json::from_str(said.lines().last().expect("it sums up")).expect("it is JSON");
        last["data_blobs"].as_u64().expect("it counts")
    }
}

/// A control group with 512 MiB: of version 2 if that is mounted, else one of the memory controller of version 1. The
/// scratch of this name removes it.
#[track_caller]
fn limited(name: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let (group, limit) = match root.join("cgroup.controllers").exists() {
        true => {
            // It is there already wherever systemd is.
            fs::write(root.join("cgroup.subtree_control"), "+memory").ok();
            (root.join(name), "memory.max")
        }
        false => (root.join("memory").join(name), "memory.limit_in_bytes"),
    };
    fs::create_dir_all(&group).expect("tests run as root");
    let bytes = (512 * MEBIBYTE).to_string();
    fs::write(group.join(limit), &bytes).expect("the kernel counts memory by group");
    assert_eq!(fs::read_to_string(group.join(limit)).unwrap().trim(), bytes, "the limit holds");
    group
}

/// Many files of 30 bytes, no two alike.
fn tiny(root: &Path, count: usize) {
    for number in 0..count {
        let directory = root.join(format!("{:04}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::write(directory.join(number.to_string()), format!("{number:029}\n")).unwrap();
    }
}

/// More small files than one pass takes, and files around the size at which rustic begins to cut.
fn every_size(root: &Path) {
    tiny(&root.join("tiny"), 3000);
    for size in [0, 1, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 3 * 1024 * 1024, 9_000_000] {
        fs::write(root.join(format!("of {size}")), random(size)).unwrap();
    }
}

#[track_caller]
fn holds_at_most(mebibytes: u64, what: &str, said: &Json) {
    let held = said["memory"].as_u64().expect("it says so") / MEBIBYTE;
    eprintln!("{what}: {held} MiB");
    assert!((1..=mebibytes).contains(&held), "{what}: {held} MiB");
}

#[test]
fn every_job_of_many_files_and_much_data_fits_into_512_mebibytes() {
    let vault = Vault::sftp();
    tiny(&vault.data().join("tiny"), 60_000);
    for number in 0..1000 {
        fs::write(vault.data().join(format!("small-{number}")), random(40_000)).unwrap();
    }
    for number in 0..4 {
        let mut file = fs::File::create(vault.data().join(format!("large-{number}"))).unwrap();
        (0..65).for_each(|_| file.write_all(&random(1024 * 1024)).unwrap());
    }
    let first = vault.save();
    assert_eq!((&first["files"], &first["changed"]), (&json!(61_004), &json!(61_004)));
    holds_at_most(300, "the first run", &first);
    let second = vault.save();
    assert_eq!((&second["changed"], &second["added"]), (&json!(0), &json!(0)));
    holds_at_most(300, "a run with nothing new", &second);
    // It reads every file back.
    let (_, restored) = vault.restore();
    assert_eq!(restored["files"], 61_004);
    holds_at_most(200, "the restore", &restored);
}

#[test]
fn what_is_saved_in_several_passes_is_what_restic_would_have_saved() {
    let vault = Vault::local();
    every_size(&vault.data());
    let first = vault.save();
    assert_eq!((&first["files"], &first["changed"]), (&json!(3007), &json!(3007)));
    assert_eq!(vault.restic_saves(), 0, "every file is cut where restic cuts it");
    // The other way round, with more files than fit into one pass, and some that are known.
    for number in 0..2000 {
        fs::write(vault.data().join(format!("later-{number}")), format!("later {number}")).unwrap();
    }
    fs::write(vault.data().join("of 3145728"), random(4_000_000)).unwrap();
    assert!(vault.restic_saves() >= 2001);
    let second = vault.save();
    assert_eq!((&second["files"], &second["changed"]), (&json!(5007), &json!(2001)));
    let listed = vault.snapshots();
    let ours: Vec<&Json> = listed.iter().filter(|snapshot| snapshot["hostname"] == "alpha").collect();
    assert_eq!(ours.len(), 2, "what the passes had between them is nobody's snapshot: {listed:?}");
    assert_eq!(ours[1]["parent"], ours[0]["id"]);
    let third = vault.save();
    assert_eq!((&third["changed"], &third["added"]), (&json!(0), &json!(0)));
    vault.is_sound();
    vault.comes_back();
    let unchanged = fs::read(vault.repository.join("config")).unwrap();
    vault.save();
    assert_eq!(fs::read(vault.repository.join("config")).unwrap(), unchanged, "the chunker is changed in memory only");
    vault.restic(&["cat", "config"]).run().succeeds();
}

#[test]
fn a_file_that_changes_all_the_time_is_saved_as_it_was_at_some_moment() {
    let vault = Vault::local();
    every_size(&vault.data());
    let busy = vault.data().join("busy");
    let contents = [b'a', b'b'].map(|byte| vec![byte; 2_000_000]);
    fs::write(&busy, &contents[0]).unwrap();
    let is_done = AtomicBool::new(false);
    let saved = std::thread::scope(|scope| {
        scope.spawn(|| {
            for content in contents.iter().cycle().take_while(|_| !is_done.load(Ordering::Relaxed)) {
                // In one step, as a careful program does.
                fs::write(vault.scratch.join("busy"), content).unwrap();
                fs::rename(vault.scratch.join("busy"), &busy).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let saved = vault.save();
        is_done.store(true, Ordering::Relaxed);
        saved
    });
    assert_eq!(saved["files"], 3008);
    vault.is_sound();
    let (to, _) = vault.restore();
    assert!(contents.contains(&fs::read(to.join("busy")).unwrap()));
    for path in [&busy, &to.join("busy")] {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(to).unwrap();
}

#[test]
fn a_job_that_is_killed_in_any_pass_does_no_harm() {
    let vault = Vault::local();
    every_size(&vault.data());
    tiny(&vault.data().join("more"), 8_000);
    let list = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
    let packs = || list(vault.repository.join("data")).flat_map(|entry| list(entry.path())).count();
    // Packs of content, then those of its first directories; an index ends each pass.
    let indexes = || list(vault.repository.join("index")).count();
    let mut killed = Vec::new();
    for wanted in [(1, 0), (0, 1), (0, 2)] {
        let before = (packs(), indexes());
        let mut job = vault.start(&vault.backup_task());
        support::wait::within(std::time::Duration::from_secs(120), "the job gets there", || {
            (packs() >= before.0 + wanted.0 && indexes() >= before.1 + wanted.1).then_some(())
        });
        let was_running = job.try_wait().unwrap().is_none();
        job.kill().unwrap();
        job.wait().unwrap();
        killed.push(was_running);
        vault.is_sound();
        assert!(vault.snapshots().is_empty());
        if wanted.1 > 0 {
            // What is saved already would make the next one too quick to hit.
            fs::remove_dir_all(&vault.repository).unwrap();
        }
    }
    assert_eq!(killed, [true, true, true], "each one was hit on its way");
    vault.save();
    assert_eq!(vault.restic_saves(), 0);
    vault.is_sound();
    vault.comes_back();
}
