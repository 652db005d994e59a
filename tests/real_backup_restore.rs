//! The way back: a restore that was cut goes on when the same command is typed again, whatever cut it, and nothing that
//! has a name is ever half of a file.
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
use support::strace::{Moment, moments, spread, was_killed};
use support::{Lab, Run as _, Vault};
use tree::{assert_same, describe, fill};

const PASSWORD: &str = "canary-password-71c2";
/// What a job may hold of the memory, in bytes.
const MEMORY: u64 = 200 * 1024 * 1024;
/// What a restore does that others can see.
const SEEN: &str =
    "trace=rename,renameat2,mkdirat,linkat,symlinkat,mknodat,pwrite64,fchown,utimensat,unlinkat,fsync,syncfs";

impl Vault {
    fn start_as(&self, mut job: Command, task: &Json) -> Child {
        job.args(["internals", "restic"]);
        self.order(job, PASSWORD, task)
    }

    fn start(&self, task: &Json) -> Child {
        self.start_as(self.scratch.command(env!("CARGO_BIN_EXE_moorline")), task)
    }

    /// The same under strace.
    #[track_caller]
    fn traced(&self, options: &[String], log: &Path, task: &Json) {
        let mut strace = self.scratch.command("strace");
        strace.args(["-f", "-qq", "-o"]).arg(log).args(options).arg(env!("CARGO_BIN_EXE_moorline"));
        self.start_as(strace, task).wait_with_output().expect("it ends");
    }

    #[track_caller]
    fn ask(&self, task: &Json) -> Json {
        last(self.start(task))
    }

    #[track_caller]
    fn save(&self) -> Json {
        let said = self.ask(&json!({ "backup": {
            "host": "alpha", "label": "app", "tags": ["moorline"], "excludes": [], "first": "make",
            "cache": self.scratch.join("cache"),
            "sources": [{ "to": "/volumes/data", "from": self.data(), "below": "" }],
        }}));
        assert_eq!(said["saved"]["unreadable"]["count"], 0, "{said}");
        said["saved"].clone()
    }

    fn task(&self, to: &Path) -> Json {
        json!({ "restore": {
            "host": "alpha", "label": "app", "snapshot": "latest", "path": "/volumes/data", "to": to
        }})
    }

    /// The same command again: it goes on, and everything is as it was.
    #[track_caller]
    fn goes_on(&self, to: &Path) -> Json {
        let said = self.ask(&self.task(to));
        assert_eq!(said["restored"]["lost"]["count"], 0, "{said}");
        assert_same(&self.data(), to);
        let memory = said["restored"]["memory"].as_u64().unwrap();
        assert!(memory > 0 && memory <= MEMORY, "{} MiB", memory >> 20);
        said["restored"].clone()
    }
}

#[track_caller]
fn last(child: Child) -> Json {
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains(PASSWORD) && !String::from_utf8_lossy(&output.stderr).contains(PASSWORD), "{said}");
    serde_json::from_str(said.lines().last().unwrap_or_default())
        .unwrap_or_else(|_| panic!("it says how it ended: {said}"))
}

fn heavy(path: &Path, mebibytes: usize) {
    let mut file = fs::File::create(path).unwrap();
    for _ in 0..mebibytes {
        file.write_all(&tree::random(1024 * 1024)).unwrap();
    }
}

/// Whatever has a name of its own has its whole content. Returns how many bytes that are.
#[track_caller]
fn nothing_is_half(data: &Path, to: &Path) -> u64 {
    if !to.exists() {
        return 0;
    }
    let content =
        |text: &str| text.split_once(" size ").map(|(_, rest)| rest.split(" holes").next().unwrap().to_owned());
    let expected = describe(data);
    let mut whole = 0;
    for (path, text) in describe(to) {
        let name = path.to_string_lossy().into_owned();
        if name.starts_with(".moorline-restore.") || name.starts_with("names of file") {
            continue;
        }
        if let Some(found) = content(&text) {
            assert_eq!(content(&expected[&path]).as_ref(), Some(&found), "{path:?} is half");
            whole += found.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    whole
}

#[test]
fn a_restore_that_is_killed_goes_on_and_fetches_nothing_twice() {
    let vault = Vault::local();
    fill(&vault.data());
    heavy(&vault.data().join("heavy"), 8);
    vault.save();
    let log = vault.scratch.join("undisturbed");
    vault.traced(&["-e".to_owned(), SEEN.to_owned()], &log, &vault.task(&vault.scratch.join("undisturbed-to")));
    let all = moments(&log, true, ".moorline-restore.json");
    assert!(all.len() > 300, "{}", all.len());
    let kills: Vec<Moment> = spread(&all, 7);
    let mut named: Vec<String> = Vec::new();
    let (mut hit, mut reused) = (0, 0);
    for (number, moment) in kills.iter().enumerate() {
        let to = vault.scratch.join(format!("to-{number}"));
        let log = vault.scratch.join(format!("log-{number}"));
        vault.traced(&moment.kill(), &log, &vault.task(&to));
        assert!(was_killed(&log), "{moment}");
        hit += 1;
        let whole = nothing_is_half(&vault.data(), &to);
        if to.exists() && !to.join(".moorline-restore.json").exists() && whole > 0 {
            // It had said that it is done; the time of the directory itself may be all that is missing.
            let (mut expected, mut found) = (describe(&vault.data()), describe(&to));
            assert_eq!((expected.remove(Path::new("")).is_some(), found.remove(Path::new("")).is_some()), (true, true));
            assert_eq!(expected, found, "{moment}");
            continue;
        }
        let restored = vault.goes_on(&to);
        let again = restored["reused_bytes"].as_u64().unwrap();
        // A hard link is no content of its own.
        assert!(again + 100 >= whole, "{moment}: {whole} bytes were there and {again} were not fetched again");
        reused += again;
        named.push(moment.to_string());
        fs::remove_dir_all(&to).unwrap();
    }
    println!("killed at {hit} moments ({}); {} MiB were not fetched again", named.join(", "), reused >> 20);
    assert!(hit >= 6 && reused > 0);
    vault
        .scratch
        .command("restic")
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("HOME", "/nonexistent")
        .arg("--no-cache")
        .arg("--repo")
        .arg(&vault.repository)
        .args(["check", "--read-data"])
        .run()
        .succeeds();

    // Twice in the same place, each time a little further.
    let to = vault.scratch.join("again");
    for moment in kills.iter().skip(1).step_by(2).take(2) {
        vault.traced(&moment.kill(), &vault.scratch.join("log"), &vault.task(&to));
        nothing_is_half(&vault.data(), &to);
        assert!(to.join(".moorline-restore.json").exists(), "{moment}");
    }
    vault.goes_on(&to);
    assert!(!to.join(".moorline-restore.json").exists());
    // It has ended: what is there now belongs to whoever asked for it.
    let said = vault.ask(&vault.task(&to));
    assert!(said["trouble"]["words"].as_str().unwrap().contains("is not empty"), "{said}");
}

#[test]
fn a_disk_that_is_full_gets_more_room_and_the_restore_goes_on() {
    let vault = Vault::local();
    for number in 0..2500 {
        fs::write(vault.data().join(format!("{number}")), format!("{number} of many")).unwrap();
    }
    vault.save();
    // Small files need more room than they have bytes, so this looks like enough.
    let disk = vault.scratch.directory("disk");
    let mount = |options: &str| {
        let mut mount = vault.scratch.command("busybox");
        mount.args(["mount", "-t", "tmpfs", "-o", options, "tmpfs"]).arg(&disk).run().succeeds();
    };
    mount("size=4m");
    let to = disk.join("to");
    let said = vault.ask(&vault.task(&to));
    assert_eq!(said["trouble"]["kind"], "target", "{said}");
    assert!(said["trouble"]["words"].as_str().unwrap().contains("No space left"), "{said}");
    let whole = nothing_is_half(&vault.data(), &to);
    assert!(whole > 1000, "{whole}");
    mount("remount,size=64m");
    let restored = vault.goes_on(&to);
    assert!(restored["reused_bytes"].as_u64() >= Some(whole), "{restored}");
    assert_eq!(restored["files"], 2500);
}

#[test]
fn a_connection_that_is_cut_in_a_restore_is_taken_up_again() {
    let vault = Vault::sftp();
    heavy(&vault.data().join("heavy"), 96);
    fs::write(vault.data().join("small"), "small").unwrap();
    vault.save();
    let to = vault.scratch.join("to");
    let job = vault.start(&vault.task(&to));
    let written = || fs::metadata(to.join(".moorline-restore.new")).map_or(0, |found| found.len());
    for mebibytes in [1, 24] {
        let patience = std::time::Duration::from_secs(120);
        support::wait::within(patience, "content arrives", || (written() >= mebibytes << 20).then_some(()));
        assert!(!to.join("heavy").exists(), "it is cut in the middle");
        vault.server().cut();
    }
    let said = last(job);
    assert_eq!(said["restored"]["files"], 2, "{said}");
    assert_same(&vault.data(), &to);
    println!("restore over sftp: {} MiB of memory", said["restored"]["memory"].as_u64().unwrap() >> 20);
    assert!(said["restored"]["memory"].as_u64().unwrap() <= MEMORY);
}

#[test]
fn only_the_same_restore_goes_on_and_what_was_lost_is_tried_again() {
    let vault = Vault::local();
    heavy(&vault.data().join("one"), 20);
    heavy(&vault.data().join("two"), 20);
    let first = vault.save();
    let list = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
    let packs = list(vault.repository.join("data")).flat_map(|entry| list(entry.path()));
    let pack = packs.map(|entry| entry.path()).max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let sound = fs::read(&pack).unwrap();
    fs::OpenOptions::new().write(true).open(&pack).unwrap().write_all_at(b"rotten", 1000).unwrap();
    let to = vault.scratch.join("to");
    let said = vault.ask(&vault.task(&to));
    assert_eq!(said["restored"]["lost"]["count"], 1, "{said}");
    assert!(to.join(".moorline-restore.json").exists());

    let mut other = vault.task(&to);
    other["restore"]["path"] = json!(null);
    let said = vault.ask(&other);
    assert!(said["trouble"]["words"].as_str().unwrap().contains("a part of another restore"), "{said}");
    // A night passes, and `latest` is another one.
    fs::write(&pack, &sound).unwrap();
    let before = describe(&vault.data());
    fs::write(vault.data().join("new"), "new").unwrap();
    vault.save();
    let said = vault.ask(&vault.task(&to));
    assert_eq!((&said["restored"]["id"], &said["restored"]["lost"]["count"]), (&first["id"], &json!(0)), "{said}");
    assert_eq!(said["restored"]["reused_files"], 1, "only what was lost is fetched");
    let content = |text: &String| text.split_once(" size ").map(|(_, rest)| rest.to_owned());
    for (path, text) in &before {
        assert_eq!(describe(&to).get(path).map(content), Some(content(text)), "{path:?}");
    }
    assert!(!to.join("new").exists());
}

const STACK: &str = "\
services:
  app:
    image: lab/db:1
    stop_grace_period: 1s
    restart: unless-stopped
    volumes: [data:/data, ./files:/files:ro]
    secrets: [token]
  cache:
    image: lab/db:1
    stop_grace_period: 1s
volumes:
  data: {}
secrets:
  token: { environment: TOKEN }
";

/// A host with one stack that has data and a snapshot of it.
fn saved() -> (Lab, PathBuf) {
    let mut lab = Lab::new();
    let vault = lab.engine.scratch().join("vault");
    lab.secrets(&format!("  BACKUP_PASSWORD: {PASSWORD}\napp:\n  TOKEN: canary-token-2e\n"));
    let backup = format!("backup: {{ repository: {}, at: \"03:00\" }}", vault.display());
    lab.fleet.write("hosts/alpha/host.yaml", format!("ring: canary\nstacks: [app]\n{backup}\n"));
    lab.fleet.write("stacks/app/compose.yaml", STACK).write("stacks/app/files/page.html", "a page\n");
    lab.deploy("first");
    let data = lab.engine.data_root.join("volumes/app_data/_data");
    fill(&data);
    lab.host.moorline(&["backup", "--init"]).succeeds();
    (lab, data)
}

/// The directories beside the data in which older data is kept.
fn kept(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = entries.filter(|path| path.to_string_lossy().contains("_data.before-")).collect();
    kept.sort();
    kept
}

fn is_running(lab: &Lab) -> bool {
    lab.engine.inspect("app-app-1")["State"]["Running"] == true
}

#[test]
fn a_snapshot_comes_back_in_place_and_the_old_data_stays_beside() {
    let (lab, data) = saved();
    let before = describe(&data);
    let containers = lab.containers("app");
    fs::write(data.join("small"), "written since\n").unwrap();
    fs::remove_file(data.join("big")).unwrap();
    let changed = describe(&data);
    let refused = lab.host.moorline(&["restore", "app", "latest", "--in-place"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("nobody agreed"), "{refused}");
    let refused = lab.host.moorline(&["restore", "app", "latest", "--in-place", "--yes", "--path", "/fleet"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("no place for /fleet"), "{refused}");
    assert_eq!(describe(&data), changed);

    let printed = lab.host.moorline(&["restore", "app", "latest", "--in-place", "--yes"]).succeeds();
    assert_eq!(describe(&data), before, "owner, mode and times of the volume itself, too");
    assert_eq!(kept(&data).len(), 1);
    assert_eq!(describe(&kept(&data)[0]), changed);
    assert!(
        printed.contains(&kept(&data)[0].display().to_string()) && printed.contains("/directory/files"),
        "{printed}"
    );
    assert_eq!(lab.containers("app"), containers, "the same containers");
    assert!(is_running(&lab));
    assert_eq!(lab.exec("app", "app", &["cat", "/data/linked"]), "one file, three names");
    let status = lab.host.moorline(&["status"]).succeeds();
    assert!(!status.contains("held"), "{status}");
    assert!(lab.host.converges().contains("nothing to do"), "the keeper finds nothing amiss");

    // A hold of a person stays, and one volume can be meant.
    lab.host.moorline(&["hold", "--for", "1h", "--reason", "looking", "--stack", "app"]).succeeds();
    let one = ["restore", "app", "latest", "--in-place", "--yes", "--path", "/volumes/data"];
    lab.host.moorline(&one).succeeds();
    assert!(lab.host.moorline(&["status"]).succeeds().contains("looking"));
    assert_eq!((describe(&data), kept(&data).len()), (before, 2));
}

#[test]
fn a_restore_in_place_that_is_killed_is_finished_and_its_stack_is_not_started_before() {
    let (lab, data) = saved();
    let before = describe(&data);
    let arguments = ["restore", "app", "latest", "--in-place", "--yes"];
    let traced = |options: &[String], log: &Path| {
        let moorline = lab.host.command(&arguments);
        let mut strace = lab.engine.scratch().command("strace");
        strace.env_clear().envs(moorline.get_envs().filter_map(|(name, value)| Some((name, value?))));
        strace.args(options).arg("-o").arg(log).arg(moorline.get_program()).args(moorline.get_args()).run()
    };
    let log = lab.engine.scratch().join("undisturbed");
    let seen = "trace=rename,fsync,connect,sendto,writev,unlink,clone3,vfork".to_owned();
    traced(&["-s".into(), "200".into(), "-e".into(), seen], &log).succeeds();
    let all = moments(&log, false, "app_data/_data");
    let kills = spread(&all, 7);
    let (mut hit, mut unfinished, mut named) = (0, 0, Vec::new());
    for (number, moment) in kills.iter().enumerate() {
        let was = kept(&data).len();
        fs::write(data.join("since"), format!("written since {number}")).unwrap();
        let log = lab.engine.scratch().join("log");
        let _ = traced(&moment.kill(), &log);
        if !was_killed(&log) {
            continue;
        }
        hit += 1;
        let journal = fs::read_to_string(lab.host.state().join("restores/app.json")).unwrap_or_default();
        named.push(format!("{moment}{}", if journal.contains("switching") { " (switching)" } else { "" }));
        if journal.contains("switching") {
            unfinished += 1;
            // Somebody releases the hold; the keeper still does nothing.
            lab.host.moorline(&["release"]).succeeds();
            let running = is_running(&lab);
            let ran = lab.host.moorline(&["reconcile"]);
            assert!(ran.stderr.contains("error[restore-unfinished]"), "{moment}: {ran}");
            assert!(ran.stderr.contains("moorline restore app") && ran.stderr.contains("--in-place"), "{ran}");
            assert_eq!(is_running(&lab), running, "{moment}");
        }
        lab.host.moorline(&arguments).succeeds();
        assert_eq!(describe(&data), before, "{moment}");
        assert!(is_running(&lab), "{moment}");
        assert!(!lab.host.state().join("restores/app.json").exists());
        assert!(!data.with_file_name("_data.moorline-restore").exists());
        let kept = kept(&data);
        assert!(kept.len() > was, "{moment}");
        let of_this = kept.iter().any(|old| {
            fs::read_to_string(old.join("since")).is_ok_and(|text| text == format!("written since {number}"))
        });
        assert!(of_this, "{moment}: what was written since is beside");
        kept.iter().for_each(|old| fs::remove_dir_all(old).unwrap());
        assert!(lab.host.converges().contains("converged"));
    }
    println!("killed in place at {hit} moments: {}", named.join(", "));
    assert!(hit >= 6 && unfinished >= 2, "{hit} {unfinished}: {named:?}");
}

/// Runs every `moorline` line of the page, in its order, on a host that has nothing but what the page says.
#[test]
fn the_page_for_a_lost_host_brings_its_data_back() {
    let (lab, data) = saved();
    let before = describe(&data);
    lab.engine.stop();
    let engine = support::Engine::start();
    engine.image("lab/db:1", &support::Image::idle().healthy());
    let host = support::Host::new("alpha", &engine, &lab.server, "fleet.git", &[&lab.alice]);
    fs::copy(lab.host.etc().join("age.key"), host.etc().join("age.key")).unwrap();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/disaster-recovery.md")).unwrap();
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    moorline ")).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    for command in &commands {
        let command = command.split(" # ").next().unwrap().trim().replace("STACK", "app");
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let ran = host.moorline(&arguments);
        assert!(ran.is_success(), "{command}: {ran}");
    }
    let data = engine.data_root.join("volumes/app_data/_data");
    assert_eq!(describe(&data), before);
    let listed: Json = serde_json::from_str(&host.moorline(&["snapshots", "--json"]).succeeds()).unwrap();
    assert!(listed["repositories"][0]["snapshots"].as_array().unwrap().len() >= 2, "the first backup of the new host");
}
