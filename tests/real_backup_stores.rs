//! Where backups lie: on a REST server, behind a key that may only add, far away, on lines that break and disks that are
//! full. What goes wrong is named, and nothing that lies there is harmed.
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
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use support::lab::ONE_VOLUME;
use support::{Lab, RestServer, Run as _, Scratch, SftpServer, Wire, search_for_canary};
use tree::{assert_same, fill};

const PASSWORD: &str = "canary-password-90b7";
const MEBIBYTE: usize = 1024 * 1024;

/// A backup repository somewhere.
struct Vault {
    scratch: Scratch,
    place: Json,
    login: Option<String>,
    limits: Json,
    /// Where it is on disk.
    repository: PathBuf,
}

impl Vault {
    fn at(place: Json, repository: PathBuf) -> Self {
        let limits = json!({ "upload": null, "download": null });
        Self { scratch: Scratch::new(), place, login: None, limits, repository }
    }

    fn directory(path: &Path) -> Self {
        Self::at(json!({ "directory": path }), path.to_owned())
    }

    fn ssh(kind: &str, server: &SftpServer, port: u16, path: &str, repository: PathBuf) -> Self {
        let mut vault = Self::at(Json::Null, repository);
        let pin = format!("[127.0.0.1]:{port} {}\n", server.host_key());
        let pin = vault.scratch.write("known_hosts", pin);
        vault.place = json!({ kind: {
            "user": server.user(), "host": "127.0.0.1", "port": port, "path": path,
            "key": server.login_key(), "known_hosts": pin,
        }});
        vault
    }

    fn sftp(server: &SftpServer, port: u16) -> Self {
        Self::ssh("sftp", server, port, "box/alpha", server.home().join("box/alpha"))
    }

    fn append_only(server: &SftpServer) -> Self {
        Self::ssh("rest-over-ssh", server, server.port(), "", server.home().join("restic"))
    }

    fn rest(server: &RestServer, port: u16) -> Self {
        let mut vault =
            Self::at(json!({ "rest": format!("http://127.0.0.1:{port}/alpha") }), server.served().join("alpha"));
        vault.login = Some(RestServer::login());
        vault
    }

    fn data(&self) -> PathBuf {
        self.scratch.directory("data")
    }

    fn order(&self, task: &Json) -> Json {
        json!({
            "place": self.place, "password": PASSWORD, "login": self.login, "limits": self.limits, "task": task,
        })
    }

    fn start(&self, mut job: Command, order: &Json) -> Child {
        job.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = job.spawn().expect("moorline starts");
        let mut input = child.stdin.take().expect("stdin is piped");
        input.write_all(format!("{order}\n").as_bytes()).expect("it reads its order");
        child
    }

    fn job(&self) -> Command {
        let mut job = self.scratch.command(env!("CARGO_BIN_EXE_moorline"));
        job.args(["internals", "restic"]);
        job
    }

    /// How a job ended.
    #[track_caller]
    fn ask(&self, task: &Json) -> Json {
        finish(self.start(self.job(), &self.order(task)))
    }

    fn backup_task(&self, first: &str) -> Json {
        json!({ "backup": {
            "host": "alpha", "label": "app", "tags": ["moorline"], "excludes": [], "first": first,
            "cache": self.scratch.join("cache"),
            "sources": [{ "to": "/volumes/data", "from": self.data(), "below": "" }],
        }})
    }

    /// Begins a backup, and does not wait.
    fn begin(&self) -> Child {
        self.start(self.job(), &self.order(&self.backup_task("make")))
    }

    /// Saves the data; there must be nothing to complain about.
    #[track_caller]
    fn save(&self) -> Json {
        is_saved(&self.ask(&self.backup_task("make")))
    }

    fn restore_task(&self, to: &Path) -> Json {
        json!({ "restore": {
            "host": "alpha", "label": "app", "snapshot": "latest", "path": "/volumes/data", "to": to,
        }})
    }

    /// Everything comes back as it was.
    #[track_caller]
    fn comes_back(&self) {
        let to = self.scratch.join("restored");
        let said = self.ask(&self.restore_task(&to));
        assert_eq!(said["restored"]["lost"], json!({ "count": 0, "first": [] }), "{said}");
        assert_same(&self.data(), &to);
        fs::remove_dir_all(to).unwrap();
    }

    /// Plain restic, on the repository's files.
    #[track_caller]
    fn is_sound(&self) {
        self.restic(&["check", "--read-data"]).arg("--repo").arg(&self.repository).run().succeeds();
    }

    fn restic(&self, arguments: &[&str]) -> Command {
        let mut restic = self.scratch.command("restic");
        restic.env("RESTIC_PASSWORD", PASSWORD).arg("--no-cache").args(arguments);
        restic
    }
}

#[track_caller]
fn finish(child: Child) -> Json {
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for canary in [PASSWORD, RestServer::PASSWORD] {
        assert!(!said.contains(canary) && !String::from_utf8_lossy(&output.stderr).contains(canary), "{said}");
    }
    serde_json::from_str(said.lines().last().expect("it says how it ended")).expect("each line is JSON")
}

#[track_caller]
fn is_saved(said: &Json) -> Json {
    assert_eq!(said["saved"]["unreadable"]["count"], 0, "{said}");
    said["saved"].clone()
}

#[track_caller]
fn is_trouble(said: &Json, kind: &str) -> String {
    assert_eq!(said["trouble"]["kind"], kind, "{said}");
    said["trouble"]["words"].as_str().expect("it has words").to_owned()
}

fn heavy(path: &Path, mebibytes: usize) {
    let mut file = fs::File::create(path).unwrap();
    for _ in 0..mebibytes {
        file.write_all(&tree::random(MEBIBYTE)).unwrap();
    }
}

#[track_caller]
fn until(what: &str, ask: impl FnMut() -> Option<()>) {
    support::wait::within(Duration::from_secs(240), what, ask);
}

/// A small disk.
fn tmpfs(scratch: &Scratch, at: &Path, size: &str) {
    fs::create_dir_all(at).unwrap();
    let mut mount = scratch.command("busybox");
    mount.args(["mount", "-t", "tmpfs", "-o", size, "tmpfs"]).arg(at).run().succeeds();
}

#[test]
fn what_is_saved_on_a_rest_server_comes_back_and_restic_agrees() {
    let server = RestServer::start();
    let mut vault = Vault::rest(&server, server.port());
    fill(&vault.data());
    is_trouble(&vault.ask(&vault.backup_task("refuse")), "missing");
    assert!(!vault.repository.exists(), "a repository is made only when a person says so");
    let first = vault.save();
    let second = vault.save();
    assert_eq!((&second["files"], &second["changed"], &second["added"]), (&first["files"], &json!(0), &json!(0)));
    vault.comes_back();
    vault.is_sound();
    let url = format!("rest:http://{}@127.0.0.1:{}/alpha", RestServer::login(), server.port());
    let listed = vault.restic(&["snapshots", "--json", "--no-lock", "--repo", &url]).run().succeeds();
    assert_eq!(serde_json::from_str::<Json>(&listed).unwrap().as_array().unwrap().len(), 2);

    for (login, words) in [(None, "401"), (Some("alpha:another"), "401")] {
        vault.login = login.map(str::to_owned);
        let said = is_trouble(&vault.ask(&vault.backup_task("make")), "login-refused");
        assert!(said.contains(words), "{said}");
    }
    let hits = search_for_canary(&[server.served(), vault.scratch.join("cache")], &[PASSWORD, RestServer::PASSWORD]);
    assert!(hits.is_empty(), "{hits:#?}");
}

#[test]
fn a_rest_server_is_believed_only_if_this_host_trusts_its_certificate() {
    let server = RestServer::secure();
    let mut vault = Vault::rest(&server, server.port());
    vault.place = json!({ "rest": format!("https://localhost:{}/alpha/", server.port()) });
    fs::write(vault.data().join("small"), "small").unwrap();
    let words = is_trouble(&vault.ask(&vault.backup_task("make")), "certificate");
    assert!(words.contains("certificate"), "{words}");
    // A host whose trust store has the authority.
    let roots = vault.scratch.directory("roots");
    fs::copy(server.authority(), roots.join("ca-certificates.crt")).unwrap();
    let trusting = || {
        let mut job = vault.scratch.command("unshare");
        job.args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc/ssl/certs && exec \"$2\" internals restic", "sh"]);
        job.arg(&roots).arg(env!("CARGO_BIN_EXE_moorline"));
        job
    };
    is_saved(&finish(vault.start(trusting(), &vault.order(&vault.backup_task("make")))));
    vault.is_sound();
}

#[test]
fn a_key_that_may_only_add_adds_and_nothing_that_it_holds_deletes() {
    let server = SftpServer::append_only();
    let vault = Vault::append_only(&server);
    fill(&vault.data());
    is_trouble(&vault.ask(&vault.backup_task("refuse")), "missing");
    vault.save();
    fs::write(vault.data().join("another"), "another").unwrap();
    assert_eq!(vault.save()["changed"], 1);
    vault.comes_back();
    vault.is_sound();

    // Who stole the key has ssh and restic, too. restic would ask for a quarter of an hour.
    let known_hosts = vault.scratch.join("known_hosts");
    let ssh = format!(
        "ssh -F /dev/null -p {} -l {} -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={} 127.0.0.1",
        server.port(),
        server.user(),
        server.login_key().display(),
        known_hosts.display(),
    );
    let stolen = format!("rclone.program={ssh}");
    let mut forget = vault.scratch.command("busybox");
    forget.env("RESTIC_PASSWORD", PASSWORD).args(["timeout", "5"]).arg(support::tools::tool("restic"));
    forget.args(["--no-cache", "forget", "--keep-last", "1", "--repo", "rclone:", "-o", &stolen]);
    let refused = forget.run();
    assert!(refused.said().contains("403"), "{refused}");
    let listed = vault.restic(&["snapshots", "--json", "--no-lock", "--repo"]).arg(&vault.repository).run().succeeds();
    assert_eq!(serde_json::from_str::<Json>(&listed).unwrap().as_array().unwrap().len(), 2, "nothing was forgotten");
}

#[test]
fn a_key_without_a_command_and_one_that_is_not_known_are_told_apart() {
    let server = SftpServer::with_command(|_| "eval $SSH_ORIGINAL_COMMAND".to_owned());
    let mut vault = Vault::append_only(&server);
    fs::write(vault.data().join("small"), "small").unwrap();
    let words = is_trouble(&vault.ask(&vault.backup_task("make")), "login-refused");
    assert!(words.contains("no command of its own"), "{words}");
    let other = vault.scratch.join("other_key");
    vault.scratch.command("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other).run().succeeds();
    vault.place["rest-over-ssh"]["key"] = json!(other);
    let words = is_trouble(&vault.ask(&vault.backup_task("make")), "login-refused");
    assert!(words.contains("ermission denied"), "{words}");
    server.change_host_key();
    is_trouble(&vault.ask(&vault.backup_task("make")), "host-key-changed");
}

/// Cuts the line in the middle of three packs of one backup, or of several that follow each other; how often it was cut.
fn cut_three_times(vault: &Vault, carried: impl Fn() -> u64, cut: impl Fn()) -> (Json, usize) {
    heavy(&vault.data().join("heavy"), 56);
    let mut cuts = 0;
    let mut last = Json::Null;
    for _ in 0..4 {
        let mut job = vault.begin();
        while cuts < 3 {
            let before = carried();
            let mut ended = false;
            until("bytes are on the line", || {
                ended = job.try_wait().unwrap().is_some();
                (ended || carried() > before + 6 * MEBIBYTE as u64).then_some(())
            });
            if ended {
                break;
            }
            cut();
            cuts += 1;
        }
        last = finish(job);
        // `Restic::work` does a job again that ended so.
        if last["trouble"]["kind"] != "torn" {
            break;
        }
        println!("{}: {}", vault.place, last["trouble"]["words"]);
    }
    (last, cuts)
}

#[test]
fn a_backup_survives_three_cuts_of_the_line_to_a_rest_server() {
    let server = RestServer::start();
    let wire = Wire::to(server.port(), Duration::ZERO);
    let vault = Vault::rest(&server, wire.port());
    let (last, cuts) = cut_three_times(&vault, || wire.carried(), || wire.cut());
    assert_eq!((is_saved(&last)["files"].as_u64(), cuts), (Some(1), 3));
    vault.is_sound();
    vault.comes_back();
}

#[test]
fn a_backup_survives_three_cuts_of_the_line_to_an_sftp_server() {
    let server = SftpServer::start();
    let wire = Wire::to(server.port(), Duration::ZERO);
    let vault = Vault::sftp(&server, wire.port());
    let (last, cuts) = cut_three_times(&vault, || wire.carried(), || wire.cut());
    assert_eq!((is_saved(&last)["files"].as_u64(), cuts), (Some(1), 3));
    vault.is_sound();
    vault.comes_back();
}

#[test]
fn a_backup_survives_three_cuts_also_where_nothing_can_be_replaced() {
    let server = SftpServer::append_only();
    let wire = Wire::to(server.port(), Duration::ZERO);
    let mut vault = Vault::append_only(&server);
    let pin = format!("[127.0.0.1]:{} {}\n", wire.port(), server.host_key());
    vault.place["rest-over-ssh"]["known_hosts"] = json!(vault.scratch.write("known_hosts", pin));
    vault.place["rest-over-ssh"]["port"] = json!(wire.port());
    let (last, cuts) = cut_three_times(&vault, || wire.carried(), || wire.cut());
    assert_eq!((is_saved(&last)["files"].as_u64(), cuts), (Some(1), 3));
    // What was torn belongs to nothing; restic names it and goes on.
    vault.is_sound();
    vault.comes_back();
}

#[test]
fn a_job_that_is_killed_while_it_sends_does_no_harm() {
    let (rest, ssh) = (RestServer::start(), SftpServer::append_only());
    let (to_rest, to_ssh) = (Wire::to(rest.port(), Duration::ZERO), Wire::to(ssh.port(), Duration::ZERO));
    let append_only = Vault::ssh("rest-over-ssh", &ssh, to_ssh.port(), "", ssh.home().join("restic"));
    for (vault, wire) in [(Vault::rest(&rest, to_rest.port()), to_rest), (append_only, to_ssh)] {
        fs::write(vault.data().join("small"), "small").unwrap();
        vault.save();
        heavy(&vault.data().join("heavy"), 40);
        let before = wire.carried();
        let mut job = vault.begin();
        until("a pack is on the line", || (wire.carried() > before + 6 * MEBIBYTE as u64).then_some(()));
        assert!(job.try_wait().unwrap().is_none(), "it is in the middle of its work");
        job.kill().unwrap();
        job.wait().unwrap();
        vault.is_sound();
        // The snapshot from before, then a new one.
        let to = vault.scratch.join("before");
        assert_eq!(vault.ask(&vault.restore_task(&to))["restored"]["lost"]["count"], 0);
        assert_eq!(fs::read_to_string(to.join("small")).unwrap(), "small");
        vault.save();
        vault.is_sound();
        vault.comes_back();
    }
}

#[test]
fn a_line_with_twelve_milliseconds_is_as_good() {
    let delay = Duration::from_millis(6);
    let (rest, sftp) = (RestServer::start(), SftpServer::start());
    let (to_rest, to_sftp) = (Wire::to(rest.port(), delay), Wire::to(sftp.port(), delay));
    for vault in [Vault::rest(&rest, to_rest.port()), Vault::sftp(&sftp, to_sftp.port())] {
        heavy(&vault.data().join("heavy"), 20);
        for number in 0..20 {
            fs::write(vault.data().join(format!("{number}")), tree::random(5000)).unwrap();
        }
        let began = Instant::now();
        vault.save();
        let first = began.elapsed();
        vault.save();
        vault.comes_back();
        println!("{}: first {first:?}, then again and a restore {:?}", vault.place, began.elapsed() - first);
        vault.is_sound();
    }
}

#[test]
fn a_job_goes_no_faster_than_its_limits() {
    let (rest, sftp, ssh) = (RestServer::start(), SftpServer::start(), SftpServer::append_only());
    let scratch = Scratch::new();
    let vaults = [
        Vault::directory(&scratch.join("vault")),
        Vault::sftp(&sftp, sftp.port()),
        Vault::rest(&rest, rest.port()),
        Vault::append_only(&ssh),
    ];
    let rate = 2 * MEBIBYTE;
    let pass = |mut vault: Vault| {
        heavy(&vault.data().join("heavy"), 8);
        vault.limits = json!({ "upload": rate, "download": null });
        let began = Instant::now();
        vault.save();
        let up = began.elapsed().as_secs_f64();
        vault.limits = json!({ "upload": null, "download": rate });
        let began = Instant::now();
        vault.comes_back();
        let down = began.elapsed().as_secs_f64();
        let shown = |seconds: f64| format!("{:.1} MiB/s", 8.0 / seconds);
        let kind = vault.place.as_object().unwrap().keys().next().unwrap();
        println!("{kind}: limit 2 MiB/s, up {}, down {}", shown(up), shown(down));
        // 4 s at the limit. How slow a busy machine is says nothing.
        assert!(up > 3.5 && down > 3.5, "{kind}: {up} s up, {down} s down");
    };
    std::thread::scope(|scope| vaults.map(|vault| scope.spawn(|| pass(vault))).map(|passed| passed.join().unwrap()));
}

#[test]
fn a_full_disk_ends_the_job_and_keeps_what_was_there() {
    let scratch = Scratch::new();
    let (rest, ssh) = (RestServer::start(), SftpServer::append_only());
    let vaults = [
        // With less than 64 MiB free, it would not even begin.
        (Vault::directory(&scratch.join("disk/vault")), "size=80m", "full"),
        // rclone says 500 and no more over HTTP; over ssh, its error output says why.
        (Vault::rest(&rest, rest.port()), "size=40m", "internal"),
        (Vault::append_only(&ssh), "size=40m", "full"),
    ];
    for (vault, size, kind) in vaults {
        tmpfs(&vault.scratch, vault.repository.parent().unwrap(), size);
        fs::write(vault.data().join("small"), "small").unwrap();
        vault.save();
        let more = vault.scratch.directory("more");
        heavy(&more.join("heavy"), 90);
        let mut task = vault.backup_task("refuse");
        task["backup"]["sources"][0]["from"] = json!(more);
        let words = is_trouble(&vault.ask(&task), kind);
        assert!(kind == "full" || words.contains("disk is full"), "{words}");
        println!("{}: {words}", vault.place);
        vault.is_sound();
        vault.comes_back();
        let mut unmount = vault.scratch.command("busybox");
        unmount.args(["umount", "-l"]).arg(vault.repository.parent().unwrap()).run().succeeds();
    }
}

#[test]
fn a_disk_that_cannot_be_written_is_named_and_can_still_be_read() {
    let scratch = Scratch::new();
    let (rest, sftp) = (RestServer::start(), SftpServer::start());
    let vaults = [
        (Vault::directory(&scratch.join("disk/vault")), "denied"),
        // "Failure" and 500 say nothing; the words behind it do, if there are any.
        (Vault::sftp(&sftp, sftp.port()), "internal"),
        (Vault::rest(&rest, rest.port()), "internal"),
    ];
    for (vault, kind) in vaults {
        let disk = vault.repository.parent().unwrap().to_owned();
        tmpfs(&vault.scratch, &disk, "size=200m");
        fs::write(vault.data().join("small"), "small").unwrap();
        vault.save();
        let mut remount = vault.scratch.command("busybox");
        remount.args(["mount", "-o", "remount,ro"]).arg(&disk).run().succeeds();
        let words = is_trouble(&vault.ask(&vault.backup_task("refuse")), kind);
        println!("{}: {words}", vault.place);
        vault.comes_back();
        vault.scratch.command("busybox").args(["umount", "-l"]).arg(&disk).run().succeeds();
    }
}

#[test]
fn what_a_rest_server_cannot_list_is_an_error_and_never_an_empty_repository() {
    let (rest, ssh) = (RestServer::start(), SftpServer::append_only());
    for vault in [Vault::rest(&rest, rest.port()), Vault::append_only(&ssh)] {
        fs::write(vault.data().join("small"), "small").unwrap();
        vault.save();
        for directory in ["snapshots", "keys", "index"] {
            let (there, away) = (vault.repository.join(directory), vault.repository.join("away"));
            fs::rename(&there, &away).unwrap();
            let said = vault.ask(&vault.restore_task(&vault.scratch.join("to")));
            assert!(said["trouble"]["kind"].is_string() || said["restored"]["lost"]["count"] != 0, "{said}");
            // Something is there, and it is no directory.
            fs::write(&there, "").unwrap();
            is_trouble(&vault.ask(&vault.restore_task(&vault.scratch.join("to2"))), "damaged");
            fs::remove_file(&there).unwrap();
            fs::rename(&away, &there).unwrap();
        }
        // Neither does the loss of `config` make it a place for a new one.
        let (there, away) = (vault.repository.join("config"), vault.repository.join("away"));
        fs::rename(&there, &away).unwrap();
        is_trouble(&vault.ask(&vault.backup_task("refuse")), "missing");
        let words = is_trouble(&vault.ask(&vault.backup_task("make")), "damaged");
        assert!(words.contains("no `config`"), "{words}");
        fs::rename(&away, &there).unwrap();
        vault.comes_back();
    }
}

#[test]
fn each_storage_in_a_bad_way_is_named_and_the_others_get_their_snapshots() {
    let mut lab = Lab::new();
    let (sftp, ssh, rest) = (SftpServer::start(), SftpServer::append_only(), RestServer::start());
    let scratch = Scratch::new();
    tmpfs(&scratch, &scratch.join("full"), "size=32m");
    let key = |server: &SftpServer| {
        let key = fs::read_to_string(server.login_key()).unwrap();
        key.lines().map(|line| format!("    {line}\n")).collect::<String>()
    };
    lab.secrets(&format!(
        "  BACKUP_PASSWORD: {PASSWORD}\n  OTHER_PASSWORD: other-71\n  REST_LOGIN: {}\n  OTHER_LOGIN: alpha:other-72\n  \
         BACKUP_SSH_KEY: |\n{}  SAFE_KEY: |\n{}app: {{}}\n",
        RestServer::login(),
        key(&sftp),
        key(&ssh),
    ));
    let safe = format!("rest+ssh://{}@127.0.0.1:{}/", ssh.user(), ssh.port());
    let url = format!("rest:http://127.0.0.1:{}", rest.port());
    let (good, full) = (scratch.join("good").display().to_string(), scratch.join("full/vault").display().to_string());
    let repositories = [
        format!("{{ name: full, url: {full} }}"),
        format!("{{ name: good, url: {good} }}"),
        format!("{{ name: password, url: {good}, password: OTHER_PASSWORD }}"),
        format!("{{ name: box, url: \"{}\", host_key: {} }}", sftp.url("box"), sftp.host_key()),
        format!("{{ name: login, url: \"{url}/other\", login: OTHER_LOGIN }}"),
        format!("{{ name: rest, url: \"{url}/alpha\", login: REST_LOGIN }}"),
        format!(
            "{{ name: host-key, url: \"{safe}\", key: SAFE_KEY, host_key: {}, append_only: true }}",
            sftp.host_key()
        ),
        format!("{{ name: safe, url: \"{safe}\", key: SAFE_KEY, host_key: {}, append_only: true }}", ssh.host_key()),
    ];
    let listed: String = repositories.iter().map(|one| format!("    - {one}\n")).collect();
    lab.fleet.write(
        "hosts/alpha/host.yaml",
        format!(
            "ring: canary\nstacks: [app]\nbackup:\n  at: \"03:00\"\n  limits: {{ upload: 50MiB, download: 50MiB }}\n  \
             repositories:\n{listed}"
        ),
    );
    lab.fleet.write("stacks/app/compose.yaml", ONE_VOLUME);
    lab.deploy("first");
    let data = lab.engine.data_root.join("volumes/app_data/_data");
    fill(&data);

    let saved = lab.host.moorline(&["backup", "--init"]);
    assert_eq!(saved.code, Some(21), "the first fault decides: {saved}");
    let mut printed = saved.said();
    for name in ["good", "box", "rest", "safe"] {
        assert!(printed.contains(&format!(" in {name}, ")), "{name} got its snapshot: {printed}");
    }
    let faults = [
        ("full", 21, "error[backup-full]: the storage of the backup repository `full` is full", "make room"),
        ("password", 12, "error[backup-password]: the password opens no key", "compare `all.OTHER_PASSWORD`"),
        ("login", 20, "refused the login of the backup repository `login`", "compare `all.OTHER_LOGIN`"),
        ("host-key", 20, "showed another host key than the pinned one", "pin that: `host_key`"),
    ];
    for (name, code, sentence, hint) in faults {
        assert!(printed.contains(&format!("no snapshot in {name}")), "{name}: {printed}");
        assert!(printed.contains(sentence) && printed.contains(hint), "{name}: {printed}");
        if name != "full" {
            let to = scratch.join("to").display().to_string();
            let refused = lab.host.moorline(&["restore", "app", "latest", "--repository", name, "--to", &to]);
            assert_eq!(refused.code, Some(code), "{name}: {refused}");
            printed += &refused.said();
        }
    }
    for name in ["good", "box", "rest", "safe"] {
        let to = scratch.join(name.to_owned() + "-back");
        let arguments = ["restore", "app", "latest", "--path", "/volumes/data", "--repository", name, "--to"];
        let arguments: Vec<&str> = arguments.into_iter().chain(to.to_str()).collect();
        printed += &lab.host.moorline(&arguments).succeeds();
        assert_same(&data, &to);
    }
    let canaries = [PASSWORD, RestServer::PASSWORD, "other-71", "other-72"];
    for canary in canaries {
        assert!(!printed.contains(canary), "{printed}");
    }
    let lasting = [lab.host.state(), lab.host.etc(), lab.host.run_directory().join("backup"), rest.served()];
    let hits = search_for_canary(&lasting, &canaries);
    assert!(hits.is_empty(), "{hits:#?}");
}
