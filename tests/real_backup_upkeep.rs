//! Upkeep of backup repositories, over a real sshd and in a directory, beside plain restic: what is forgotten and freed,
//! and when; that no kill and no damage costs a snapshot that is kept; and that damage is found.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;
#[allow(dead_code, reason = "each binary uses its own part")]
#[path = "backup/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value as Json, json};
use support::lab::ONE_VOLUME;
use support::{Lab, Run as _, Scratch, SftpServer, Vault, strace};
use tree::assert_same;

const PASSWORD: &str = "canary-password-93aa";
const HOUR: i64 = 3600;

impl Vault {
    /// A job, so many seconds away from now, as arguments of `before`.
    fn start(&self, before: &[&str], away: i64, task: &Json) -> Child {
        let moorline = env!("CARGO_BIN_EXE_moorline");
        let program = before.first().copied().unwrap_or(moorline);
        let mut job = self.scratch.command(program);
        if !before.is_empty() {
            job.args(&before[1..]).arg(moorline);
        }
        if away != 0 {
            job.env("LD_PRELOAD", clock(&self.scratch)).env("MOVED_CLOCK", away.to_string());
        }
        // One thread removes, so that the n-th removal is the n-th of the job.
        job.env("RAYON_NUM_THREADS", "1");
        job.args(["internals", "restic"]);
        self.order(job, PASSWORD, task)
    }

    #[track_caller]
    fn lines(&self, away: i64, task: &Json) -> Vec<Json> {
        let output = self.start(&[], away, task).wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains(PASSWORD), "{said}");
        said.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    #[track_caller]
    fn ask(&self, task: &Json) -> Json {
        self.lines(0, task).pop().expect("it says how it ended")
    }

    fn backup_task(&self) -> Json {
        json!({ "backup": {
            "host": "alpha", "label": "app", "tags": ["moorline"], "excludes": [], "first": "make",
            "cache": self.scratch.join("cache"),
            "sources": [{ "to": "/volumes/data", "from": self.data(), "below": "" }],
        }})
    }

    /// Saves the data, days ago; the id of the snapshot. What is younger than the prune is not marked by it.
    #[track_caller]
    fn save(&self) -> String {
        let said = self.lines(-100 * HOUR, &self.backup_task()).pop().expect("it says how it ended");
        said["saved"]["id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    #[track_caller]
    fn forget(&self, snapshots: &[&str]) -> Json {
        self.ask(&forget_task(snapshots))
    }

    #[track_caller]
    fn prune(&self, away: i64) -> Json {
        let said = self.lines(away, &prune_task(&[])).pop().expect("it says how it ended");
        assert!(said["pruned"].is_object(), "{said}");
        said["pruned"].clone()
    }

    /// What a check says at last, and what it found before: flaw and severity.
    #[track_caller]
    fn check(&self, data: &Json) -> (Json, Vec<(String, String)>) {
        let mut lines = self.lines(0, &json!({ "check": { "data": data, "cache": null } }));
        let last = lines.pop().expect("it says how it ended");
        let word = |line: &Json, key: &str| line["finding"][key].as_str().map(str::to_owned);
        let found = lines.iter().filter_map(|line| Some((word(line, "flaw")?, word(line, "severity")?))).collect();
        (last, found)
    }

    /// How many snapshots lie there.
    fn listed(&self) -> u64 {
        fs::read_dir(self.repository.join("snapshots")).unwrap().count() as u64
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

    /// What this snapshot has is what `expected` has.
    #[track_caller]
    fn comes_back(&self, snapshot: &str, expected: &Path) {
        let to = self.scratch.join("restored");
        let task = json!({ "restore": {
            "host": "alpha", "label": "app", "snapshot": snapshot, "path": "/volumes/data", "to": to,
        }});
        let said = self.ask(&task);
        assert_eq!(said["restored"]["lost"], json!({ "count": 0, "first": [] }), "{said}");
        assert_same(expected, &to);
        fs::remove_dir_all(to).unwrap();
    }

    fn packs(&self) -> Vec<PathBuf> {
        let list = |directory: PathBuf| fs::read_dir(directory).into_iter().flatten().flatten();
        list(self.repository.join("data")).flat_map(|entry| list(entry.path())).map(|entry| entry.path()).collect()
    }

    fn copy(&self, from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        Command::new("cp").arg("-a").arg(from).arg(to).run().succeeds();
    }
}

fn clock(scratch: &Scratch) -> PathBuf {
    let library = scratch.join("clock.so");
    if library.exists() {
        return library;
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backup/clock.c");
    Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").run().succeeds();
    library
}

fn forget_task(snapshots: &[&str]) -> Json {
    json!({ "forget": { "host": "alpha", "snapshots": snapshots } })
}

fn prune_task(known: &[&str]) -> Json {
    json!({ "prune": { "known": known, "at_least": 0, "keep_s": 72 * HOUR, "way": "act" } })
}

/// A file that no compression makes smaller.
fn heavy(path: &Path, kibibytes: usize) {
    fs::write(path, tree::random(kibibytes * 1024)).unwrap();
}

#[track_caller]
fn is_trouble(said: &Json, kind: &str) -> String {
    assert_eq!(said["trouble"]["kind"], kind, "{said}");
    said["trouble"]["words"].as_str().expect("it has words").to_owned()
}

/// Every file below a directory, with its content.
fn files(below: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut waiting) = (BTreeMap::new(), vec![below.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => waiting.push(entry.path()),
                false => _ = found.insert(entry.path(), fs::read(entry.path()).unwrap()),
            }
        }
    }
    found
}

#[test]
fn what_no_snapshot_needs_is_marked_first_and_freed_after_72_hours_and_not_before() {
    let vault = Vault::sftp();
    heavy(&vault.data().join("old"), 20 * 1024);
    let old = vault.save();
    fs::remove_file(vault.data().join("old")).unwrap();
    heavy(&vault.data().join("new"), 3 * 1024);
    let new = vault.save();
    let (all, before) = (vault.packs().len() as u64, files(&vault.repository));
    let look = json!({ "prune": { "known": [], "at_least": 2, "keep_s": 72 * HOUR, "way": { "look": [old] } } });
    let would = vault.ask(&look)["pruned"]["marked"]["packs"].as_u64().unwrap();
    assert_eq!(files(&vault.repository), before, "a look changes nothing");

    let forgotten = vault.forget(&[&old]);
    assert_eq!((&forgotten["forgotten"]["removed"], &forgotten["forgotten"]["left"]), (&json!(1), &json!(1)));
    let marked = vault.prune(-73 * HOUR);
    assert_eq!((marked["marked"]["packs"].as_u64(), &marked["freed"]["packs"]), (Some(would), &json!(0)), "{marked}");
    assert_eq!(marked["waiting"]["packs"], would, "{marked}");
    assert!(marked["marked"]["bytes"].as_u64() > Some(20 << 20), "{marked}");
    assert!(vault.packs().len() as u64 >= all, "nothing is gone yet");
    vault.is_sound();
    let due: jiff::Timestamp = marked["due"].as_str().unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now() - due).get_seconds().abs() < 2 * HOUR, "an hour ago: {due}");

    let early = vault.prune(-2 * HOUR);
    assert_eq!((&early["freed"]["packs"], &early["waiting"]["packs"]), (&json!(0), &json!(would)), "{early}");
    let there = vault.packs().len() as u64;
    let freed = vault.prune(0);
    assert_eq!((&freed["freed"]["packs"], &freed["waiting"]["packs"]), (&json!(would), &json!(0)), "{freed}");
    assert_eq!(vault.packs().len() as u64, there - would);
    assert_eq!(freed["due"], Json::Null);
    vault.is_sound();
    vault.comes_back(&new, &vault.data());
    let (checked, found) = vault.check(&json!("all"));
    assert!(found.is_empty() && checked["checked"]["errors"] == 0, "{checked} {found:?}");
    assert!(checked["checked"]["bytes"].as_u64() > Some(3 << 20), "{checked}");
    for (job, said) in [("prune", &freed), ("check of all data", &checked["checked"])] {
        let memory = said["memory"].as_u64().unwrap() >> 20;
        println!("{job}: {memory} MiB at most");
        assert!(memory <= 300);
    }
}

#[test]
fn what_a_killed_backup_left_is_freed_though_it_is_all_there_is_to_prune() {
    let vault = Vault::local();
    heavy(&vault.data().join("small"), 100);
    let first = vault.save();
    let before = vault.packs();
    let kept = vault.scratch.join("kept");
    vault.copy(&vault.data(), &kept);
    heavy(&vault.data().join("heavy"), 120 * 1024);
    let mut job = vault.start(&[], -100 * HOUR, &vault.backup_task());
    support::wait::within(std::time::Duration::from_secs(240), "packs arrive", || {
        (vault.packs().len() > before.len() + 1).then_some(())
    });
    job.kill().unwrap();
    job.wait().unwrap();
    let left = vault.packs().len() - before.len();
    let (checked, found) = vault.check(&json!("none"));
    assert_eq!(checked["checked"]["errors"], 0, "what is in no index is no error: {checked}");
    assert_eq!(found, vec![("unlisted".to_owned(), "warning".to_owned()); left]);
    assert_eq!(vault.prune(-73 * HOUR)["waiting"]["packs"], left);
    assert_eq!(vault.packs().len(), before.len() + left);
    assert_eq!(vault.prune(0)["freed"]["packs"], left);
    assert_eq!(vault.packs().len(), before.len());
    vault.is_sound();
    vault.comes_back(&first, &kept);
}

/// Just before and just after every file that a job gives its name or removes, it is killed. Then restic finds nothing
/// wrong, what is kept comes back, a backup may come in between, and the next job ends what this one began.
#[test]
fn forget_and_prune_that_are_killed_at_any_change_cost_no_snapshot_that_is_kept() {
    let vault = Vault::local();
    let mut snapshots = Vec::new();
    for round in 0..5 {
        heavy(&vault.data().join(format!("of-{round}")), 200);
        if round > 1 {
            fs::remove_file(vault.data().join(format!("of-{}", round - 2))).unwrap();
        }
        snapshots.push(vault.save());
        let kept = vault.scratch.join(format!("state-{round}"));
        vault.copy(&vault.data(), &kept);
    }
    let gone: Vec<&str> = [0, 1, 3].map(|round: usize| snapshots[round].as_str()).to_vec();
    let forget = forget_task(&gone);
    let state = |name: &str| vault.scratch.join(name);
    vault.copy(&vault.repository, &state("before-forget"));
    vault.ask(&forget);
    vault.copy(&vault.repository, &state("before-marking"));
    let marked = vault.prune(-73 * HOUR)["waiting"]["packs"].clone();
    vault.copy(&vault.repository, &state("before-freeing"));

    let mut kills = 0;
    let jobs = [("before-forget", &forget, 0), ("before-marking", &prune_task(&[]), -73 * HOUR)];
    for (from, task, away) in jobs.into_iter().chain([("before-freeing", &prune_task(&[]), 0)]) {
        vault.copy(&state(from), &vault.repository);
        let log = state("log");
        let log_name = log.to_str().unwrap();
        let trace = ["strace", "-f", "-qq", "-o", log_name];
        let seen = [&trace[..], &["-e", "trace=rename,unlink"]].concat();
        vault.start(&seen, away, task).wait_with_output().unwrap();
        let moments = strace::moments(&log, true, "");
        assert!(moments.len() >= 3, "{from}: {moments:?}");
        for (number, (moment, _)) in moments.iter().enumerate() {
            vault.copy(&state(from), &vault.repository);
            let kill = moment.kill();
            let killed = [&trace[..], &kill.each_ref().map(String::as_str)[..]].concat();
            vault.start(&killed, away, task).wait_with_output().unwrap();
            assert!(strace::was_killed(&log), "{from}: {moment}");
            kills += 1;
            vault.is_sound();
            if number % 3 == 1 {
                // A backup that comes in between.
                vault.save();
            }
            // The next one ends what this one began.
            let ended = vault.lines(away, task).pop().unwrap();
            match from {
                "before-forget" => assert_eq!(ended["forgotten"]["left"].as_u64(), Some(vault.listed()), "{moment}"),
                "before-marking" => assert_eq!(ended["pruned"]["waiting"]["packs"], marked, "{moment}: {ended}"),
                // What no index named any more was marked once more.
                _ => assert_eq!(vault.prune(73 * HOUR)["waiting"]["packs"], 0, "{moment}: {ended}"),
            }
            if number % 2 == 0 {
                vault.comes_back(&snapshots[2], &state("state-2"));
            }
        }
        vault.is_sound();
        vault.comes_back(&snapshots[4], &state("state-4"));
    }
    println!("{kills} kills");
    assert!(kills >= 8, "{kills}");
}

#[test]
fn damage_is_found_and_named_with_the_snapshots_that_need_it() {
    let vault = Vault::local();
    heavy(&vault.data().join("one"), 300);
    let first = vault.save();
    vault.copy(&vault.data(), &vault.scratch.join("one-alone"));
    let before = vault.packs();
    heavy(&vault.data().join("two"), 900);
    let second = vault.save();
    let pack = vault
        .packs()
        .into_iter()
        .filter(|pack| !before.contains(pack))
        .max_by_key(|pack| fs::metadata(pack).unwrap().len());
    let pack = pack.unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    let whole = vault.scratch.join("whole");
    vault.copy(&vault.repository, &whole);
    let open = || fs::OpenOptions::new().write(true).open(&pack).unwrap();
    let is_found = |data: &Json, flaw: &str| {
        let lines = vault.lines(0, &json!({ "check": { "data": data, "cache": null } }));
        let finding = lines.iter().find(|line| line["finding"]["flaw"] == flaw).unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!((&finding["finding"]["pack"], &finding["finding"]["severity"]), (&json!(name), &json!("error")));
        assert_eq!(lines.last().unwrap()["checked"]["concerned"], json!([second]), "{lines:?}");
    };

    // Each byte is in one share.
    let share = |number: u32| vault.check(&json!({ "share": { "number": number, "of": 3 } })).0["checked"].clone();
    let bytes: u64 = [0, 1, 2].iter().filter_map(|number| share(*number)["bytes"].as_u64()).sum();
    assert_eq!(vault.check(&json!("all")).0["checked"]["bytes"], bytes);
    assert!((1200 << 10..1300 << 10).contains(&bytes), "{bytes}");

    // A byte flips: only reading finds it, in the one share that has the pack.
    open().write_all_at(b"!", 5000).unwrap();
    assert_eq!(vault.check(&json!("none")).0["checked"]["errors"], 0);
    is_found(&json!("all"), "content");
    assert_eq!([0, 1, 2].iter().filter(|number| share(**number)["errors"] != 0).count(), 1);

    for (damage, flaw) in [("cut", "size"), ("gone", "missing")] {
        vault.copy(&whole, &vault.repository);
        match damage {
            "cut" => open().set_len(100_000).unwrap(),
            _ => fs::remove_file(&pack).unwrap(),
        }
        is_found(&json!("none"), flaw);
        let there = vault.packs().len();
        is_trouble(&vault.ask(&prune_task(&[])), "damaged");
        assert_eq!(vault.packs().len(), there, "{damage}: prune does nothing");
        assert_eq!(vault.forget(&[&first])["forgotten"]["left"], 1, "{damage}");
        let third = vault.save();
        assert_eq!(vault.listed(), 2, "{damage}: a backup still adds {third}");
    }

    // What cannot be read at all.
    let file =
        |directory: &str| fs::read_dir(vault.repository.join(directory)).unwrap().next().unwrap().unwrap().path();
    for damage in ["snapshots", "index"] {
        vault.copy(&whole, &vault.repository);
        match damage {
            "snapshots" => fs::write(vault.repository.join("snapshots").join("7".repeat(64)), "garbage").unwrap(),
            _ => fs::write(file(damage), "garbage").unwrap(),
        }
        let there = files(&vault.repository);
        is_trouble(&vault.check(&json!("none")).0, "damaged");
        is_trouble(&vault.forget(&[&first]), "damaged");
        is_trouble(&vault.ask(&prune_task(&[])), "damaged");
        assert_eq!(files(&vault.repository), there, "{damage}: nothing is removed");
        let said = vault.ask(&vault.backup_task());
        assert_eq!(said["saved"].is_object(), damage == "snapshots", "{said}");
    }
    vault.copy(&whole, &vault.repository);
    vault.comes_back(&first, &vault.scratch.join("one-alone"));
}

#[test]
fn a_repository_that_lists_nothing_or_less_than_it_should_loses_nothing() {
    for vault in [Vault::local(), Vault::sftp()] {
        heavy(&vault.data().join("one"), 100);
        let (first, second) = (vault.save(), vault.save());
        let refused = |task: &Json, words: &str| {
            let before = files(&vault.repository);
            let said = vault.ask(task);
            assert!(said["trouble"]["words"].as_str().unwrap_or_else(|| panic!("{said}")).contains(words), "{said}");
            assert_eq!(files(&vault.repository), before);
        };
        let unknown = "0".repeat(64);
        refused(&prune_task(&[&unknown]), "snapshot 00000000 is not listed any more; nothing was removed");
        let mut more = prune_task(&[&first]);
        more["prune"]["at_least"] = json!(3);
        refused(&more, "2 snapshots are listed, and there were 3; nothing was removed");
        refused(&forget_task(&[&first, &second]), "no snapshot of app would be left");
        let mut foreign = forget_task(&[&first]);
        foreign["forget"]["host"] = json!("beta");
        refused(&foreign, "not all of the snapshots are of beta");

        let (there, away) = (vault.repository.join("snapshots"), vault.scratch.join("away"));
        fs::rename(&there, &away).unwrap();
        // Neither what is not there nor what is no directory is an empty list.
        for task in [prune_task(&[]), forget_task(&[&first]), json!("survey")] {
            refused(&task, "snapshots");
        }
        fs::write(&there, "").unwrap();
        refused(&prune_task(&[]), "snapshots");
        fs::remove_file(&there).unwrap();
        fs::create_dir(&there).unwrap();
        refused(&prune_task(&[]), "there is data, and not one snapshot of it; nothing was removed");
        fs::remove_dir(&there).unwrap();
        fs::rename(&away, &there).unwrap();
        vault.comes_back(&second, &vault.data());
    }
}

#[test]
fn a_host_prunes_where_it_may_and_somebody_else_at_a_desk_where_it_may_not() {
    let mut lab = Lab::new();
    let server = SftpServer::start();
    let operator = server.second_key("operator");
    let disk = lab.engine.scratch().join("disk");
    let key = fs::read_to_string(server.login_key()).unwrap();
    let key_in_yaml = key.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let url = lab.push.monitor("checks");
    lab.secrets(&format!("  KUMA_CHECK: {url}\n  BACKUP_PASSWORD: {PASSWORD}\n  BACKUP_SSH_KEY: |\n{key_in_yaml}"));
    lab.fleet.write(
        "hosts/alpha/host.yaml",
        format!(
            "ring: canary\nstacks: [app]\nmonitors: {{ reconcile: KUMA, check: KUMA_CHECK }}\nbackup:\n  at: \"03:00\"\n  keep: {{ last: 1 }}\n  repositories:\n    \
             - {{ name: disk, url: \"{}\" }}\n    - {{ name: box, url: \"{}\", host_key: \"{}\", append_only: true }}\n",
            disk.display(),
            server.url("alpha"),
            server.host_key(),
        ),
    );
    lab.fleet.write("stacks/app/compose.yaml", ONE_VOLUME);
    lab.deploy("first");
    let data = lab.engine.data_root.join("volumes/app_data/_data");
    heavy(&data.join("one"), 200);
    lab.host.moorline(&["backup", "--init"]).succeeds();
    // From now on the host's key cannot delete, as on a box that is set up for it.
    server.deny_login_key("remove,rmdir");
    fs::remove_file(data.join("one")).unwrap();
    heavy(&data.join("two"), 200);
    lab.host.moorline(&["backup"]).succeeds();

    let on_box = || files(&server.home());
    let before = (files(&disk), on_box());
    let dry = lab.host.moorline(&["prune", "--dry-run"]).succeeds();
    assert!(dry.contains("disk: 2 snapshots, 1 of them would go") && dry.contains("of the same day is kept"), "{dry}");
    assert!(dry.contains("would be marked") && dry.contains("box: nothing is removed from here"), "{dry}");
    assert_eq!((files(&disk), on_box()), before);
    let done = lab.host.moorline(&["prune"]).succeeds();
    assert!(done.contains("disk: 2 snapshots, 1 of them go\n") && done.contains("marked packs wait"), "{done}");
    assert_eq!(fs::read_dir(disk.join("snapshots")).unwrap().count(), 1);
    assert_eq!(on_box(), before.1, "what only takes is left alone");
    let checked = lab.host.moorline(&["check-backups", "--all"]).succeeds();
    assert!(checked.contains("box: everything is there that the snapshots need"), "{checked}");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let told = lab.push.beats("checks").pop().expect("it was told something");
    assert_eq!(told.status, support::Status::Up, "{told:?}");
    let account: Json = serde_json::from_slice(&fs::read(lab.host.state().join("backups.json")).unwrap()).unwrap();
    for entry in ["prune/disk/", "check/disk/", "check/box/"] {
        assert_eq!(account["entries"][entry]["good"]["end"], "done", "{account}");
    }
    assert_eq!(account["entries"]["prune/box/"], Json::Null);

    // From a desk: no agent.toml, no engine, another key.
    let mine = lab.engine.scratch().join("age.key");
    fs::copy(lab.host.etc().join("age.key"), &mine).unwrap();
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o600)).unwrap();
    let checkout = lab.fleet.path();
    let at_desk = |more: &[&str]| {
        let mut command = lab.engine.scratch().command(env!("CARGO_BIN_EXE_moorline"));
        command.args(["--config", "/nonexistent", "prune", "--dir", checkout.to_str().unwrap(), "--host", "alpha"]);
        command.args(["--repository", "box", "--age-key", mine.to_str().unwrap()]).args(more).run()
    };
    let denied = at_desk(&[]);
    assert_eq!(denied.code, Some(20), "{denied}");
    assert_eq!(on_box(), before.1, "with the host's own key nothing can be removed");
    let done = at_desk(&["--ssh-key", operator.to_str().unwrap()]);
    let said = done.said();
    assert!(said.contains("warning: alpha wrote a snapshot at"), "{said}");
    assert!(said.contains("box: 2 snapshots, 1 of them go\n") && said.contains("marked packs wait"), "{said}");
    assert_eq!(
        (done.code, on_box().keys().filter(|path| path.to_str().unwrap().contains("/snapshots/")).count()),
        (Some(0), 1)
    );
    lab.host.moorline(&["check-backups", "--all", "--repository", "box"]).succeeds();

    // What the host knows is missing, and then: what a person says is gone on purpose.
    let (there, away) = (disk.join("snapshots"), lab.engine.scratch().join("away"));
    fs::rename(&there, &away).unwrap();
    fs::create_dir(&there).unwrap();
    let refused = lab.host.moorline(&["prune", "--repository", "disk"]);
    assert!(refused.code == Some(22) && refused.said().contains("nothing was removed"), "{refused}");
    assert!(refused.said().contains("--accept-missing"), "{refused}");
    fs::remove_dir(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    let large = files(&disk.join("data")).into_iter().filter(|(_, content)| content.len() > 100_000);
    large.for_each(|(pack, _)| fs::remove_file(pack).unwrap());
    let found = lab.host.moorline(&["check-backups", "--repository", "disk"]);
    assert!(found.code == Some(22) && found.said().contains("error[backup-damaged]: the check found"), "{found}");
    assert!(found.said().contains("snapshots that need it: ") && found.said().contains("docs/repair.md"), "{found}");
    let status = lab.host.moorline(&["status", "--check"]);
    assert!(status.code == Some(1) && status.said().contains("check of disk failed"), "{status}");
}
