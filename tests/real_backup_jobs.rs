//! Jobs in backup repositories: what is saved comes back, over a real sshd and in a directory, plain restic agrees, and
//! what goes wrong is named and does no harm.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;
#[path = "backup/tree.rs"]
mod tree;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value as Json, json};
use support::{Run as _, Vault};
use tree::{assert_same, fill};

/// Plain restic: the oldest that people have, and a newer one.
const BOTH: [&str; 2] = ["restic", "restic-newer"];

const PASSWORD: &str = "canary-password-71c2";

impl Vault {
    fn start(&self, password: &str, task: &Json) -> Child {
        let mut job = self.scratch.command(env!("CARGO_BIN_EXE_moorline"));
        job.args(["internals", "restic"]);
        self.order(job, password, task)
    }

    /// Every line that the job says; the last one is how it ended.
    #[track_caller]
    fn lines(&self, password: &str, task: &Json) -> Vec<Json> {
        finish(self.start(password, task))
    }

    #[track_caller]
    fn ask(&self, task: &Json) -> Json {
        self.lines(PASSWORD, task).pop().expect("it says how it ended")
    }

    fn backup_task(&self, from: &Path, first: &str) -> Json {
        json!({ "backup": {
            "host": "alpha", "label": "app", "tags": ["moorline"], "excludes": [], "first": first,
            "cache": self.scratch.join("cache"),
            "sources": [{ "to": "/volumes/data", "from": from, "below": "" }],
        }})
    }

    /// Saves the data; there must be nothing to complain about.
    #[track_caller]
    fn save(&self) -> Json {
        let said = self.ask(&self.backup_task(&self.data(), "make"));
        assert_eq!(said["saved"]["unreadable"]["count"], 0, "{said}");
        said["saved"].clone()
    }

    fn restore_task(&self, snapshot: &str, path: Option<&str>, to: &Path) -> Json {
        json!({ "restore": { "host": "alpha", "label": "app", "snapshot": snapshot, "path": path, "to": to } })
    }

    #[track_caller]
    fn snapshots(&self) -> Vec<Json> {
        let mut lines = self.lines(PASSWORD, &json!("snapshots"));
        assert_eq!(lines.pop(), Some(json!("listed")));
        lines.into_iter().map(|line| line["snapshot"].clone()).collect()
    }

    /// Plain restic, the oldest that people have, on the repository's files.
    fn restic(&self, arguments: &[&str]) -> Command {
        self.restic_of("restic", arguments)
    }

    fn restic_of(&self, program: &str, arguments: &[&str]) -> Command {
        let mut restic = self.scratch.command(program);
        restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", self.scratch.path());
        restic.arg("--no-cache").arg("--repo").arg(&self.repository).args(arguments);
        restic
    }

    /// restic finds nothing wrong in any byte.
    #[track_caller]
    fn is_sound(&self) {
        self.restic(&["check", "--read-data"]).run().succeeds();
    }

    /// Everything comes back as it was.
    #[track_caller]
    fn comes_back(&self, snapshot: &str) {
        let to = self.scratch.join(format!("restored-{snapshot}"));
        let said = self.ask(&self.restore_task(snapshot, Some("/volumes/data"), &to));
        assert_eq!(said["restored"]["lost"], json!({ "count": 0, "first": [] }), "{said}");
        assert_same(&self.data(), &to);
        fs::remove_dir_all(to).unwrap();
    }

    fn packs(&self) -> Vec<PathBuf> {
        let list = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        list(self.repository.join("data")).flat_map(|entry| list(entry.path())).map(|entry| entry.path()).collect()
    }
}

/// A file of random bytes, written so that a slow test can watch it travel.
fn heavy(path: &Path, mebibytes: usize) {
    let mut file = fs::File::create(path).unwrap();
    for _ in 0..mebibytes {
        file.write_all(&tree::random(1024 * 1024)).unwrap();
    }
}

/// A job is the least important program of the machine, so on a busy one it takes its time.
#[track_caller]
fn until(what: &str, ask: impl FnMut() -> Option<()>) {
    support::wait::within(std::time::Duration::from_secs(240), what, ask);
}

#[track_caller]
fn finish(child: Child) -> Vec<Json> {
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains(PASSWORD) && !String::from_utf8_lossy(&output.stderr).contains(PASSWORD), "{said}");
    said.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[track_caller]
fn is_trouble(said: &Json, kind: &str) -> String {
    assert_eq!(said["trouble"]["kind"], kind, "{said}");
    said["trouble"]["words"].as_str().expect("it has words").to_owned()
}

fn what_is_saved_comes_back(vault: &Vault) {
    fill(&vault.data());
    let first = vault.save();
    assert!(first["changed"].as_u64() > Some(300), "{first}");
    let second = vault.save();
    assert_eq!((&second["changed"], &second["files"], &second["added"]), (&json!(0), &first["files"], &json!(0)));

    let listed = vault.snapshots();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["id"], second["id"]);
    assert_eq!((&listed[0]["label"], &listed[0]["host"]), (&json!("app"), &json!("alpha")));
    vault.comes_back("latest");
    vault.comes_back(&first["id"].as_str().unwrap()[..8]);

    for program in BOTH {
        vault.restic_of(program, &["check", "--read-data"]).run().succeeds();
        let shown = vault.restic_of(program, &["snapshots", "--json"]).run().succeeds();
        assert_eq!(serde_json::from_str::<Json>(&shown).unwrap().as_array().unwrap().len(), 2);
        let to = vault.scratch.join(format!("by-{program}"));
        vault.restic_of(program, &["restore", "latest", "--target"]).arg(&to).run().succeeds();
        let (expected, found) = (tree::describe(&vault.data()), tree::describe(&to.join("volumes/data")));
        for (path, text) in expected.iter().filter(|(path, _)| !path.starts_with("names of file 0")) {
            // Without `--sparse`, restic makes no holes.
            let alike = |text: &str| text.replace("holes true", "holes false");
            assert_eq!(Some(alike(text)), found.get(path).map(|text| alike(text)), "{program}: {path:?}");
        }
    }
    // Saved, restored, and never seen: neither beside the packs nor in what the jobs left.
    let hits = support::search_for_canary(&[vault.repository.clone(), vault.scratch.join("cache")], &[PASSWORD]);
    assert!(hits.is_empty(), "{hits:#?}");
}

#[test]
fn what_is_saved_on_a_server_comes_back_and_restic_reads_it() {
    let vault = Vault::sftp();
    what_is_saved_comes_back(&vault);
}

#[test]
fn what_is_saved_in_a_directory_comes_back_and_restic_reads_it() {
    what_is_saved_comes_back(&Vault::local());
}

#[test]
fn what_restic_saved_is_restored() {
    for program in BOTH {
        let vault = Vault::local();
        fill(&vault.data());
        vault.restic_of(program, &["init"]).run().succeeds();
        vault.restic_of(program, &["backup", "--host", "alpha"]).arg(vault.data()).run().succeeds();
        let id = vault.snapshots()[0]["id"].as_str().unwrap().to_owned();
        let to = vault.scratch.join("restored");
        let path = vault.data();
        let said = vault.ask(&vault.restore_task(&id, path.to_str(), &to));
        assert_eq!(said["restored"]["lost"]["count"], 0, "{program}: {said}");
        assert_same(&vault.data(), &to);
        // And both write into one repository.
        vault.save();
        vault.restic_of(program, &["check", "--read-data"]).run().succeeds();
    }
}

#[test]
fn a_job_that_is_killed_does_no_harm() {
    let vault = Vault::sftp();
    heavy(&vault.data().join("heavy"), 160);
    fs::write(vault.data().join("small"), "small").unwrap();
    for packs in [1, 3] {
        let mut job = vault.start(PASSWORD, &vault.backup_task(&vault.data(), "make"));
        until("packs arrive", || (vault.packs().len() >= packs).then_some(()));
        job.kill().unwrap();
        job.wait().unwrap();
        vault.is_sound();
        assert!(vault.snapshots().is_empty());
    }
    vault.save();
    assert!(fs::read_dir(vault.repository.join("tmp")).unwrap().next().is_none(), "what was left is cleared");
    vault.is_sound();

    let to = vault.scratch.join("killed");
    let mut job = vault.start(PASSWORD, &vault.restore_task("latest", None, &to));
    until("the restore has begun", || to.join(".moorline-restore.new").exists().then_some(()));
    job.kill().unwrap();
    job.wait().unwrap();
    vault.is_sound();
    vault.comes_back("latest");
}

#[test]
fn a_connection_that_is_cut_is_taken_up_again() {
    let vault = Vault::sftp();
    heavy(&vault.data().join("heavy"), 120);
    let job = vault.start(PASSWORD, &vault.backup_task(&vault.data(), "make"));
    for packs in [1, 3] {
        until("packs arrive", || (vault.packs().len() >= packs).then_some(()));
        vault.server().cut();
    }
    let last = finish(job).pop().unwrap();
    assert_eq!(last["saved"]["files"], 1, "{last}");
    vault.is_sound();
    vault.comes_back("latest");
}

#[test]
fn whoever_may_not_in_is_told_why() {
    let mut vault = Vault::sftp();
    fs::write(vault.data().join("small"), "small").unwrap();
    let refuse = vault.backup_task(&vault.data(), "refuse");
    is_trouble(&vault.ask(&refuse), "missing");
    assert!(!vault.repository.exists(), "a repository is made only when a person says so");
    vault.save();
    assert_eq!(vault.ask(&refuse)["saved"]["files"], 1);
    let lines = vault.lines("another", &refuse);
    is_trouble(lines.last().unwrap(), "password");

    let other = vault.scratch.join("other_key");
    vault.scratch.command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other).run().succeeds();
    let right = vault.place.clone();
    vault.place["sftp"]["key"] = json!(other);
    is_trouble(&vault.ask(&refuse), "login-refused");
    vault.place = right;
    vault.server().change_host_key();
    let words = is_trouble(&vault.ask(&refuse), "host-key-changed");
    assert!(words.contains("SHA256:") || words.contains("ost key"), "{words}");
}

#[test]
fn a_full_server_ends_the_job_and_keeps_what_was_there() {
    let vault = Vault::sftp();
    let root = vault.server().home().join("backups");
    fs::create_dir(&root).unwrap();
    let mut mount = vault.scratch.command("busybox");
    mount.args(["mount", "-t", "tmpfs", "-o", "size=150m", "tmpfs"]).arg(&root).run().succeeds();
    fs::write(vault.data().join("small"), "small").unwrap();
    let first = vault.save();
    let more = vault.scratch.directory("more");
    heavy(&more.join("heavy"), 200);
    let words = is_trouble(&vault.ask(&vault.backup_task(&more, "refuse")), "full");
    assert!(words.contains("MiB are free"), "{words}");
    assert_eq!(vault.snapshots().len(), 1);
    vault.is_sound();
    vault.comes_back(first["id"].as_str().unwrap());
    let words = is_trouble(&vault.ask(&vault.backup_task(&vault.data(), "refuse")), "full");
    assert!(words.contains("MiB are free"), "the next one does not even begin: {words}");
}

#[test]
fn what_cannot_be_listed_is_an_error_and_never_an_empty_repository() {
    for vault in [Vault::local(), Vault::sftp()] {
        fs::write(vault.data().join("small"), "small").unwrap();
        vault.save();
        for directory in ["snapshots", "keys", "index"] {
            let (there, away) = (vault.repository.join(directory), vault.repository.join("away"));
            fs::rename(&there, &away).unwrap();
            let said = vault.ask(&vault.restore_task("latest", None, &vault.scratch.join("to")));
            assert!(said["trouble"]["kind"].is_string(), "{directory}: {said}");
            // Something is there, and it is no directory.
            fs::write(&there, "").unwrap();
            let said = vault.ask(&vault.restore_task("latest", None, &vault.scratch.join("to")));
            assert!(said["trouble"]["kind"].is_string(), "{directory}: {said}");
            fs::remove_file(&there).unwrap();
            fs::rename(&away, &there).unwrap();
        }
        vault.comes_back("latest");
    }
}

#[test]
fn a_damaged_pack_is_named_and_everything_else_comes_back() {
    let vault = Vault::sftp();
    heavy(&vault.data().join("one"), 20);
    heavy(&vault.data().join("two"), 20);
    fs::create_dir(vault.data().join("more")).unwrap();
    for number in 0..50 {
        fs::write(vault.data().join(format!("more/{number}")), tree::random(5000)).unwrap();
    }
    vault.save();
    let mut packs = vault.packs();
    packs.sort_by_key(|pack| std::cmp::Reverse(fs::metadata(pack).unwrap().len()));
    // In the middle of content: the system reads it without a word.
    let pack = fs::OpenOptions::new().write(true).open(&packs[0]).unwrap();
    pack.write_all_at(b"rotten", 1000).unwrap();
    let to = vault.scratch.join("restored");
    let said = vault.ask(&vault.restore_task("latest", Some("/volumes/data"), &to));
    let lost = said["restored"]["lost"]["first"].as_array().expect("something is lost").clone();
    assert_eq!(lost.len(), 1, "{said}");
    assert_eq!(said["restored"]["files"], 51, "{said}");
    let path = lost[0].as_str().unwrap().split(':').next().unwrap().trim_start_matches('/').to_owned();
    assert!(vault.data().join(&path).exists() && !to.join(&path).exists(), "{path}");
    for name in ["one", "two", "more/7"].iter().filter(|name| **name != path) {
        assert_eq!(fs::read(vault.data().join(name)).unwrap(), fs::read(to.join(name)).unwrap(), "{name}");
    }
    // A pack that is gone altogether.
    fs::remove_file(&packs[0]).unwrap();
    let said = vault.ask(&vault.restore_task("latest", None, &vault.scratch.join("again")));
    let pack = packs[0].file_name().unwrap().to_str().unwrap();
    assert!(said["restored"]["lost"]["first"][0].as_str().unwrap().contains(pack), "{said}");
}

#[test]
fn what_cannot_be_read_makes_a_partial_snapshot_and_what_is_not_there_makes_none() {
    let vault = Vault::local();
    let missing = vault.ask(&vault.backup_task(&vault.scratch.join("not mounted"), "make"));
    is_trouble(&missing, "source");
    assert!(!vault.repository.exists());
    // Files that exist and that nobody can read, not even root.
    let said = vault.ask(&vault.backup_task(Path::new("/sys/bus/cpu"), "make"));
    let unreadable = said["saved"]["unreadable"]["first"].to_string();
    assert!(unreadable.contains("/sys/bus/cpu/uevent") && unreadable.contains("drivers_probe"), "{said}");
    let tags = vault.snapshots()[0]["tags"].to_string();
    assert!(tags.contains("partial") && tags.contains("moorline"), "{tags}");
    vault.is_sound();
}

#[test]
fn excludes_stay_out_and_links_are_not_followed() {
    let vault = Vault::local();
    let data = vault.data();
    fs::create_dir_all(data.join("cache/deep")).unwrap();
    fs::write(data.join("cache/deep/x"), "x").unwrap();
    fs::write(data.join("kept"), "x").unwrap();
    let mut task = vault.backup_task(&data, "make");
    task["backup"]["excludes"] = json!(["/cache"]);
    assert_eq!(vault.ask(&task)["saved"]["files"], 1);
    // On the way to a source below, a container may have put a link.
    std::os::unix::fs::symlink("/etc", data.join("etc")).unwrap();
    task["backup"]["sources"] = json!([{ "to": "/directory/etc", "from": data, "below": "etc/ssh" }]);
    is_trouble(&vault.ask(&task), "source");
}

#[test]
fn nothing_that_is_there_is_ever_restored_over() {
    let vault = Vault::local();
    fs::write(vault.data().join("small"), "small").unwrap();
    vault.save();
    let to = vault.scratch.directory("full");
    fs::write(to.join("theirs"), "theirs").unwrap();
    let words = is_trouble(&vault.ask(&vault.restore_task("latest", None, &to)), "target");
    assert!(words.contains("is not empty"), "{words}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    let to = vault.scratch.join("to");
    is_trouble(&vault.ask(&vault.restore_task("00000000", None, &to)), "snapshot");
    is_trouble(&vault.ask(&vault.restore_task("latest", Some("/volumes/none"), &to)), "snapshot");
    assert!(!to.exists());
}
