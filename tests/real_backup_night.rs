//! Nights of a real host: what is due, who hears of it, what a budget, a lock, a signal and a kill leave behind, and a night
//! that the keeper begins.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use support::lab::ONE_VOLUME;
use support::{Beat, Lab, Ran, Run as _, Service, SftpServer, Status, until, wait};

const PASSWORD: &str = "canary-night-password-9c1b";

/// A host with one stack and its volume, and these lines of `backup`.
struct Nights {
    lab: Lab,
    server: SftpServer,
    disk: PathBuf,
    data: PathBuf,
}

impl Nights {
    #[track_caller]
    fn new(backup: impl FnOnce(&SftpServer, &Path) -> String) -> Self {
        let mut lab = Lab::new();
        let server = SftpServer::start();
        let disk = lab.engine.scratch().join("disk");
        let key = fs::read_to_string(server.login_key()).unwrap();
        let key = key.lines().map(|line| format!("    {line}\n")).collect::<String>();
        let url = lab.push.monitor("backups");
        lab.secrets(&format!("  KUMA_BACKUP: {url}\n  BACKUP_PASSWORD: {PASSWORD}\n  BACKUP_SSH_KEY: |\n{key}"));
        let lines = backup(&server, &disk);
        lab.fleet.write(
            "hosts/alpha/host.yaml",
            format!(
                "ring: canary\nstacks: [app]\nmonitors: {{ reconcile: KUMA, backup: KUMA_BACKUP }}\nbackup:\n  at: \
                 \"03:00\"\n  drill: never\n{lines}"
            ),
        );
        lab.fleet.write("stacks/app/compose.yaml", ONE_VOLUME);
        lab.deploy("first");
        let data = lab.engine.data_root.join("volumes/app_data/_data");
        fs::write(data.join("kept"), "kept").unwrap();
        Self { lab, server, disk, data }
    }

    fn moorline(&self, arguments: &[&str]) -> Ran {
        self.lab.host.moorline(arguments)
    }

    fn if_due(&self) -> Ran {
        self.moorline(&["backup", "--if-due"])
    }

    fn account(&self) -> Json {
        serde_json::from_slice(&fs::read(self.lab.host.state().join("backups.json")).unwrap()).unwrap()
    }

    /// How the last job for `app` in this repository ended; null if there was none.
    fn last(&self, repository: &str) -> Json {
        self.account()["entries"][format!("backup/{repository}/app")]["last"]["end"].clone()
    }

    /// Everything that was done was done so many hours earlier.
    fn hours_pass(&self, hours: i64) {
        fn shift(value: &mut Json, by: SignedDuration) {
            match value {
                Json::Object(fields) => fields.values_mut().for_each(|value| shift(value, by)),
                Json::String(text) => {
                    if let Ok(time) = text.parse::<Timestamp>() {
                        *text = (time - by).to_string();
                    }
                }
                _ => {}
            }
        }
        let mut account = self.account();
        shift(&mut account, SignedDuration::from_hours(hours));
        fs::write(self.lab.host.state().join("backups.json"), account.to_string()).unwrap();
    }

    /// The hole failed a moment after the disk was done, and so comes after it.
    fn hole_was_tried(&self) {
        let mut account = self.account();
        let mut tried = account["entries"]["backup/disk/app"]["last"].clone();
        tried["began"] = tried["ended"].clone();
        (tried["repository"], tried["end"]) = ("hole".into(), "failed".into());
        account["entries"]["backup/hole/app"]["last"] = tried;
        fs::write(self.lab.host.state().join("backups.json"), account.to_string()).unwrap();
    }

    /// What the monitor of backups was told last, after the courier has sent everything.
    #[track_caller]
    fn told(&self) -> Beat {
        self.moorline(&["courier", "--once"]).succeeds();
        self.lab.push.beats("backups").pop().expect("it was told something")
    }

    /// A night in the background.
    fn begin(&self) -> Child {
        let log = fs::File::create(self.lab.host.etc().join("night.log")).unwrap();
        let mut command = self.lab.host.command(&["--verbose", "backup", "--if-due"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn night_log(&self) -> String {
        fs::read_to_string(self.lab.host.etc().join("night.log")).unwrap()
    }

    fn restic(&self, arguments: &[&str]) -> String {
        let mut restic = self.lab.engine.scratch().command("restic");
        restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", "/nonexistent").arg("--no-cache").arg("--repo");
        restic.arg(&self.disk).args(arguments).run().succeeds()
    }
}

/// A server that takes connections and never says a word.
struct Hole(TcpListener);

impl Hole {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// A directory first, then the hole.
    fn lines(&self, server: &SftpServer, disk: &Path, budget: &str) -> String {
        let (port, disk, key) = (self.0.local_addr().unwrap().port(), disk.display(), server.host_key());
        format!(
            "  check: never\n  budget: {budget}\n  repositories:\n    - {{ name: disk, url: \"{disk}\" }}\n    - {{ name: hole, url: \
             \"sftp://x@127.0.0.1:{port}/alpha\", host_key: \"{key}\" }}\n"
        )
    }
}

/// Makes the repository in the directory: what a person does once. The hole would keep him waiting.
#[track_caller]
fn make_disk(nights: &Nights) {
    let mut made = nights.lab.host.command(&["--verbose", "backup", "--init"]);
    let log = fs::File::create(nights.lab.host.etc().join("init.log")).unwrap();
    let mut made = made.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    until("the directory has its snapshot", || (nights.last("disk") == "done").then_some(()));
    signal(made.id(), "TERM");
    assert_eq!(wait::within(Duration::from_secs(20), "it stops", || made.try_wait().unwrap()).code(), Some(1));
    assert_eq!(nights.last("hole"), Json::Null, "a job that was stopped has not failed");
    nights.hours_pass(30);
}

fn signal(pid: u32, name: &str) {
    Command::new("kill").args(["-s", name, &pid.to_string()]).run().succeeds();
}

#[test]
fn a_night_does_what_is_due_and_kuma_hears_how_it_went() {
    let nights = Nights::new(|server, disk| {
        let (url, key, disk) = (server.url("alpha"), server.host_key(), disk.display());
        format!(
            "  check: never\n  repositories:\n    - {{ name: box, url: \"{url}\", host_key: \"{key}\" }}\n    - {{ name: disk, url: \
             \"{disk}\" }}\n"
        )
    });
    // Nobody has made the repositories yet. It is said at once, and tried again after a wait.
    let refused = nights.if_due();
    assert!(refused.code == Some(10) && refused.stdout.is_empty(), "{refused}");
    assert_eq!(refused.stderr.matches("error: job failed: backup of app to ").count(), 2, "{refused}");
    let told = nights.told();
    assert!(told.status == Status::Down && told.msg.starts_with("backup of app to box failed: "), "{told:?}");
    let waits = nights.if_due().succeeds();
    assert!(waits.starts_with("nothing is due; the next night begins at "), "{waits}");

    // A person does it now, whatever is due, and that it works is news.
    let made = nights.moorline(&["backup", "--init"]).succeeds();
    assert_eq!(made.matches("done    app: snapshot").count(), 2, "{made}");
    let told = nights.told();
    assert!(told.status == Status::Up && told.msg.starts_with("ok again after 1 failed: 2 of 2"), "{told:?}");
    let before = nights.account();
    let idle = nights.if_due();
    assert!(idle.stderr.is_empty() && idle.clone().succeeds().starts_with("nothing is due"), "{idle}");
    assert_eq!(nights.account(), before);

    // The next night: one repository, since a person has done the other one meanwhile.
    nights.hours_pass(30);
    nights.server.change_host_key();
    assert_eq!(nights.moorline(&["backup"]).code, Some(20));
    let held = nights.if_due();
    assert!(held.succeeds().starts_with("nothing is due"), "the disk has its snapshot, the box has its wait");
    assert!(nights.told().msg.contains("backup of app to box"), "{:?}", nights.told());

    let status = nights.moorline(&["status", "--check"]);
    assert_eq!(status.code, Some(1), "{status}");
    for line in ["night     begins at ", "backup    app to disk, 0s ago", "backup    app to box, 1d6h ago"] {
        assert!(status.stdout.contains(&format!("\n{line}")), "{line}: {status}");
    }
    assert!(status.stdout.contains("\nbackups   backup of app to box: the last good one is 1d6h old: "), "{status}");

    // The keeper tells the monitor also when no night ever comes.
    nights.hours_pass(30);
    nights.moorline(&["reconcile"]).succeeds();
    let told = nights.told();
    let expected = "backup of app to box: the last good one is 2d12h old: ";
    assert!(told.status == Status::Down && told.msg.starts_with(expected), "{told:?}");
    assert!(told.msg.ends_with("; and 1 more of 2"), "{told:?}");
}

#[test]
fn a_partial_night_ends_with_3_and_the_path_reaches_kuma() {
    let nights = Nights::new(|_, disk| format!("  keep: {{ daily: 7 }}\n  repository: {}\n", disk.display()));
    // Without an account nothing is ever due. Whoever calls it by hand begins one.
    fs::remove_file(nights.lab.host.state().join("backups.json")).unwrap();
    assert_eq!(nights.if_due().succeeds(), "nothing is due");
    nights.moorline(&["backup", "--init"]).succeeds();
    assert_eq!(nights.last("main"), "done");
    nights.hours_pass(25);
    let unreadable = nights.data.join("unreadable");
    fs::write(&unreadable, "").unwrap();
    let mount = |arguments: &[&str]| Command::new(support::tools::tool("busybox")).args(arguments).run().succeeds();
    mount(&["mount", "--bind", "/sys/bus/cpu/uevent", unreadable.to_str().unwrap()]);
    let night = nights.if_due();
    assert_eq!(night.code, Some(3), "{night}");
    for job in ["check", "prune"] {
        assert!(night.stderr.contains(&format!("info: job done: {job} of main, ")), "{night}");
    }
    let told = nights.told();
    let expected = ("backup of app to main is partial: ", "_data/unreadable: Permission denied");
    assert!(told.status == Status::Down, "{told:?}");
    assert!(told.msg.starts_with(expected.0) && told.msg.contains(expected.1), "{told:?}");
    mount(&["umount", unreadable.to_str().unwrap()]);
    // Whoever has mended it makes one now, and that is announced.
    let mended = nights.moorline(&["--verbose", "backup", "app"]);
    assert!(mended.stderr.contains("job recovered: backup of app to main, ok again after 1 failed"), "{mended}");
    let told = nights.told();
    assert!(told.status == Status::Up && told.msg.starts_with("ok again after 1 failed: 1 of 1"), "{told:?}");
}

#[test]
fn a_night_ends_with_its_budget_holds_the_lock_and_is_due_again_after_a_kill() {
    let hole = Hole::new();
    let nights = Nights::new(|server, disk| hole.lines(server, disk, "10s"));
    make_disk(&nights);
    let log = || nights.night_log();
    // The hole was never tried, so it comes first, and takes all the time that there is.
    let mut night = nights.begin();
    let ended = wait::within(Duration::from_secs(30), "the budget ends it", || night.try_wait().unwrap());
    assert_eq!(ended.code(), Some(24), "{}", log());
    assert!(!log().contains("job began: backup of app to disk"), "{}", log());
    assert_eq!((nights.last("disk"), nights.last("hole")), ("out-of-time".into(), "out-of-time".into()));
    assert!(nights.if_due().succeeds().starts_with("nothing is due"), "a budget does not begin anew");

    // In the next night it comes last.
    nights.hours_pass(25);
    let mut night = nights.begin();
    until("the second job has begun", || log().contains("job began: backup of app to hole").then_some(()));
    assert_eq!(nights.last("disk"), "done", "what is done is entered at once");
    let second = nights.moorline(&["backup"]);
    assert!(
        second.code == Some(11) && second.said().contains(&format!("pid {} runs `backup`", night.id())),
        "{second}"
    );
    let tick = nights.if_due().succeeds();
    assert!(tick.starts_with("another backup is being made: pid "), "{tick}");
    let ended = wait::within(Duration::from_secs(30), "the budget ends it", || night.try_wait().unwrap());
    assert_eq!(ended.code(), Some(24), "{}", log());
    assert!(
        log().contains("warning: job failed: backup of app to hole: time budget: the 10s of this night"),
        "{}",
        log()
    );
    assert_eq!((nights.last("disk"), nights.last("hole")), ("done".into(), "out-of-time".into()));
    let told = nights.told();
    assert!(told.status == Status::Down && told.msg.contains("backup of app to hole"), "{told:?}");

    // A killed night is due again, and what it had done is done.
    nights.hours_pass(30);
    let mut night = nights.begin();
    until("the second job has begun", || log().contains("job began: backup of app to hole").then_some(()));
    night.kill().unwrap();
    night.wait().unwrap();
    let status = nights.lab.host.status();
    let next: Timestamp = status["night"]["next"].as_str().unwrap().parse().unwrap();
    assert!(next <= Timestamp::now() && status["night"]["running"].is_null(), "{}", status["night"]);
    let mut night = nights.begin();
    until("it goes on", || log().contains("job began: backup of app to hole").then_some(()));
    assert!(!log().contains("backup of app to disk"), "{}", log());
    signal(night.id(), "TERM");
    assert_eq!(wait::within(Duration::from_secs(20), "it stops", || night.try_wait().unwrap()).code(), Some(1));
    assert!(log().contains("info: job stopped: backup of app to hole"), "{}", log());

    assert!(nights.restic(&["check", "--read-data"]).contains("no errors were found"));
    assert_eq!(nights.restic(&["dump", "latest", "/volumes/data/kept"]), "kept");
    let left = fs::read_dir(nights.lab.host.run_directory().join("backup")).unwrap().count();
    assert!(left <= 1, "only the killed one could not take its key away");
}

#[test]
fn without_systemd_the_keeper_begins_a_night_and_goes_on_with_its_work() {
    let hole = Hole::new();
    let nights = Nights::new(|server, disk| hole.lines(server, disk, "1h"));
    make_disk(&nights);
    nights.hole_was_tried();
    let settings = nights.lab.host.etc().join("agent.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("backups = \"run\"\n{text}")).unwrap();
    let mut keeper = Service::start(&nights.lab.host, "run");
    let log = || Service::log(&nights.lab.host, "run");
    until("the keeper's night has done the first job", || {
        log().contains("info: job done: backup of app to disk").then_some(())
    });
    let running = until("the night goes on", || {
        let night = nights.lab.host.status()["night"].clone();
        night["running"]["pid"].as_u64()
    });
    assert_ne!(running, u64::from(keeper.pid()), "a process of its own");
    // Meanwhile the keeper does what it always does.
    keeper.signal("HUP");
    until("a run", || log().split("run began: signal").nth(1)?.contains("run ended: ").then_some(()));
    keeper.signal("TERM");
    assert_eq!(keeper.ends(), Some(0), "{}", log());
    assert!(!Path::new(&format!("/proc/{running}")).exists(), "it ends with the keeper");
    assert!(log().contains("job stopped: backup of app to hole"), "{}", log());
    assert!(log().contains("warning: night ended with exit code 1"), "{}", log());
    assert_eq!(nights.last("disk"), "done");
}
