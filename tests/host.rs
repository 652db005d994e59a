//! `moorline host` in an operator's checkout of the example, with the real `sops`: a host comes, is enrolled, and leaves;
//! what cannot be done is refused with everything that is wrong, in `tests/cli/host/*.txt`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

#[path = "sim/golden.rs"]
mod golden;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};
use support::{Run as _, Scratch};

/// A checkout of the example, committed, and an operator who may edit its secrets.
struct Operator {
    scratch: Scratch,
}

const NEW: [&str; 9] =
    ["host", "new", "gamma", "--ring", "canary", "--domain", "gamma.example.org", "--stacks", "traefik,nextcloud"];

impl Operator {
    fn new() -> Self {
        let operator = Self { scratch: Scratch::new() };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("repo-layout-example");
        let root = operator.scratch.directory("checkout");
        operator.scratch.command("busybox").args(["cp", "-R"]).arg(example.join(".")).arg(&root).run().succeeds();
        operator.git(&["init", "--quiet"]);
        operator.commit();
        operator
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("checkout")
    }

    fn git(&self, arguments: &[&str]) -> String {
        self.scratch.command("git").arg("-C").arg(self.root()).args(arguments).run().succeeds()
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgSign=false"];
        self.git(&[&who[..], &["commit", "--quiet", "--message", "as it stands"]].concat());
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path}: {from:?} is not there");
        fs::write(self.root().join(path), text.replacen(from, to, 1)).unwrap();
    }

    fn moorline(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
        command.args(arguments).current_dir(self.root()).output().unwrap()
    }

    /// The real one, with the example's operator's key.
    fn sops(&self, arguments: &[&str], key: &Path) -> String {
        let mut sops = self.scratch.command("sops");
        sops.args(arguments).current_dir(self.root()).env("SOPS_AGE_KEY_FILE", key).run().succeeds()
    }

    fn own_key(&self) -> PathBuf {
        self.root().join("demo-keys/operator.age")
    }

    /// A fresh key of a host, and its recipient.
    fn host_key(&self, name: &str) -> (PathBuf, String) {
        let path = self.scratch.join(name);
        self.scratch.command("age-keygen").arg("-o").arg(&path).run().succeeds();
        let recipient = self.scratch.command("age-keygen").arg("-y").arg(&path).run().succeeds();
        (path, recipient.trim().to_owned())
    }
}

fn transcript(arguments: &[&str], output: &Output) -> String {
    let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("utf-8");
    let code = output.status.code().expect("an exit code");
    format!("$ moorline {}\n{}{}exit {code}\n", arguments.join(" "), said(&output.stdout), said(&output.stderr))
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_host_comes_is_sealed_by_the_real_sops_is_enrolled_and_leaves_without_a_trace() {
    let operator = Operator::new();
    let rules = operator.read(".sops.yaml");
    let said = operator.moorline(&NEW);
    golden::same_as_golden("tests/cli/host/new.txt", &transcript(&NEW, &said));
    golden::same_as_golden("tests/cli/host/new-host.yaml", &operator.read("hosts/gamma/host.yaml"));
    golden::same_as_golden("tests/cli/host/new-secrets.yaml", &operator.read("hosts/gamma/secrets.sops.yaml"));
    assert!(operator.read(".sops.yaml").starts_with(&rules), "other rules and comments stay");
    assert_eq!(operator.git(&["diff", "--cached", "--name-only"]), "", "nothing is staged");

    // Before it is sealed it cannot be merged; then it can, and what is not entered is seen without a key.
    let unsealed = operator.moorline(&["check"]);
    assert!(String::from_utf8_lossy(&unsealed.stderr).contains("`sops -e -i hosts/gamma/secrets.sops.yaml` seals it"));
    operator.sops(&["-e", "-i", "hosts/gamma/secrets.sops.yaml"], &operator.own_key());
    let empty = succeeds(&operator.moorline(&["check"]));
    assert!(
        empty.contains("hosts/gamma/secrets.sops.yaml: has no value for all.KUMA_RECONCILE, nextcloud."),
        "{empty}"
    );
    assert!(empty.contains("so the host awaits enrolment: `moorline host enroll gamma RECIPIENT`"), "{empty}");
    operator.sops(
        &["set", "hosts/gamma/secrets.sops.yaml", "[\"nextcloud\"][\"DB_PASSWORD\"]", "\"x\""],
        &operator.own_key(),
    );

    let (key, recipient) = operator.host_key("gamma.age");
    let enrolled = succeeds(&operator.moorline(&["host", "enroll", "gamma", &recipient]));
    assert!(enrolled.contains("      sops updatekeys --yes hosts/gamma/secrets.sops.yaml\n"), "{enrolled}");
    let forgotten = operator.moorline(&["check"]);
    assert!(String::from_utf8_lossy(&forgotten.stderr).contains("is not sealed for this host"), "before updatekeys");
    operator.sops(&["updatekeys", "--yes", "hosts/gamma/secrets.sops.yaml"], &operator.own_key());
    let whole = succeeds(&operator.moorline(&["check"]));
    assert!(!whole.contains("awaits enrolment") && !whole.contains("DB_PASSWORD"), "{whole}");
    let opened = operator.sops(&["-d", "hosts/gamma/secrets.sops.yaml"], &key);
    assert!(opened.contains("DB_PASSWORD: x"), "{opened}");
    assert!(succeeds(&operator.moorline(&["host", "enroll", "gamma", &recipient])).contains("already"));

    // The host is built anew.
    let (_, newer) = operator.host_key("newer.age");
    assert!(succeeds(&operator.moorline(&["host", "enroll", "gamma", &newer])).contains("sops rotate -i"));
    assert!(operator.read(".sops.yaml").contains(&newer) && !operator.read(".sops.yaml").contains(&recipient));

    let bare = ["host", "remove", "gamma"];
    golden::same_as_golden("tests/cli/host/remove-unsaid.txt", &transcript(&bare, &operator.moorline(&bare)));
    assert!(operator.root().join("hosts/gamma/host.yaml").exists());
    let named = ["host", "remove", "gamma", "--final-backup", "4b7a90d2", "--keep-until", "2027-12-31"];
    golden::same_as_golden("tests/cli/host/remove-unlooked.txt", &transcript(&named, &operator.moorline(&named)));
    assert!(operator.root().join("hosts/gamma/host.yaml").exists());
    let removed = [&named[..], &["--unseen", "--reason", "it's on a tape, ticket 4711"]].concat();
    golden::same_as_golden("tests/cli/host/remove.txt", &transcript(&removed, &operator.moorline(&removed)));
    assert_eq!(operator.git(&["status", "--porcelain"]), "", "everything is as before the host came");
    succeeds(&operator.moorline(&["check"]));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_and_nothing_is_written() {
    let operator = Operator::new();
    let refused = |golden: &str, arguments: &[&str]| {
        let said = operator.moorline(arguments);
        golden::same_as_golden(&format!("tests/cli/host/{golden}.txt"), &transcript(arguments, &said));
        assert_eq!(operator.git(&["status", "--porcelain"]), "");
    };
    let wrong = ["host", "new", "Alpha", "--ring", "canari", "--domain", "Gamma", "--stacks", "traefic,nextcloud"];
    refused("new-wrong", &[&wrong[..], &["--operator", "alice"]].concat());
    refused(
        "new-again",
        &["host", "new", "alpha", "--ring", "canary", "--domain", "a.example.org", "--stacks", "traefik"],
    );
    refused("enroll-unknown", &["host", "enroll", "alfa", "age1x"]);
    refused("enroll-private", &["host", "enroll", "alpha", "AGE-SECRET-KEY-1QQQQ"]);
    refused("enroll-another", &["host", "enroll", "alpha", operator.read("hosts/bravo/recipient").trim()]);
    refused("remove-named", &["host", "remove", "alpha", "--final-backup", "none"]);
    refused("remove-word", &["host", "remove", "alpha", "--final-backup", "yes"]);
}

#[test]
fn a_variable_that_nobody_can_guess_is_asked_for_and_backups_bring_their_secrets() {
    let operator = Operator::new();
    operator.edit("hosts/bravo/host.yaml", "hostmaster@example.org", "bravo@example.org");
    operator.commit();
    let asked = operator.moorline(&NEW);
    let text = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(text.contains("stack traefik needs `ACME_EMAIL`: `--var ACME_EMAIL=...`"), "{text}");
    let url = "sftp://u1-sub2@u1-sub2.your-storagebox.de:23/gamma";
    let more = ["--var", "ACME_EMAIL=yes@example.org", "--backup", url, "--stage"];
    succeeds(&operator.moorline(&[&NEW[..], &more].concat()));
    let staged = operator.git(&["diff", "--cached", "--name-only"]);
    assert_eq!(staged, ".sops.yaml\nhosts/gamma/host.yaml\nhosts/gamma/secrets.sops.yaml");
    let skeleton = operator.read("hosts/gamma/secrets.sops.yaml");
    for name in ["BACKUP_PASSWORD", "BACKUP_SSH_KEY", "KUMA_BACKUP", "KUMA_RECONCILE"] {
        assert!(skeleton.contains(&format!("    {name}: \"\"\n")), "{skeleton}");
    }
    operator.sops(&["-e", "-i", "hosts/gamma/secrets.sops.yaml"], &operator.own_key());
    succeeds(&operator.moorline(&["check"]));
}

/// Makes a snapshot of a stack of gamma, as the host does; its id.
fn saves(operator: &Operator, password: &str, stack: &str, tags: &[&str]) -> String {
    let data = operator.scratch.directory("data");
    operator.scratch.write("data/file", stack);
    let task = json!({ "backup": {
        "host": "gamma", "label": stack, "tags": tags, "excludes": [], "first": "make",
        "cache": operator.scratch.join("cache"), "sources": [{ "to": "/volumes/data", "from": data, "below": "" }],
    }});
    let order = json!({ "place": { "directory": operator.scratch.join("vault") }, "password": password, "task": task });
    let mut job = operator.scratch.command(env!("CARGO_BIN_EXE_moorline"));
    let said = job.args(["internals", "restic"]).run_with(format!("{order}\n").as_bytes()).succeeds();
    let last: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    last["saved"]["id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_host_that_makes_backups_leaves_when_its_last_one_was_seen_with_every_stack() {
    let operator = Operator::new();
    let vault = operator.scratch.join("vault");
    succeeds(&operator.moorline(&[&NEW[..], &["--backup", vault.to_str().unwrap()]].concat()));
    operator.sops(&["-e", "-i", "hosts/gamma/secrets.sops.yaml"], &operator.own_key());
    let enter = |password: &str| {
        let value = format!("\"{password}\"");
        let set = ["set", "hosts/gamma/secrets.sops.yaml", "[\"all\"][\"BACKUP_PASSWORD\"]", &value];
        operator.sops(&set, &operator.own_key());
        operator.commit();
    };
    enter("canary-password-4c11");
    let mine = operator.scratch.join("operator.age");
    fs::copy(operator.own_key(), &mine).unwrap();
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o600)).unwrap();
    let remove = |id: &str, more: &[&str]| {
        let named = ["host", "remove", "gamma", "--final-backup", id, "--keep-until", "2027-12-31"];
        operator.moorline(&[&named[..], &["--age-key", mine.to_str().unwrap()], more].concat())
    };
    let refused = |output: &Output, expected: &[&str]| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for line in expected {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.contains("hint: on the host: `moorline backup`") && !text.contains("canary"), "{text}");
        assert_eq!(operator.git(&["status", "--porcelain"]), "", "nothing was written");
    };

    refused(&remove("4b7a90d2", &[]), &["main: ", "its last backup is not there"]);
    let traefik = saves(&operator, "canary-password-4c11", "traefik", &["moorline"]);
    refused(&remove(&traefik[..8], &[]), &["main: there is no whole snapshot of nextcloud\n"]);
    saves(&operator, "canary-password-4c11", "nextcloud", &["moorline", "partial"]);
    refused(&remove(&traefik[..8], &[]), &["main: there is no whole snapshot of nextcloud\n"]);
    let nextcloud = saves(&operator, "canary-password-4c11", "nextcloud", &["moorline"]);
    refused(&remove("4b7a90d2", &[]), &["main: there is no snapshot 4b7a90d2 of gamma\n"]);
    refused(&remove(&nextcloud[..8], &["--within", "0"]), &["main: the newest whole snapshot of nextcloud is "]);
    enter("canary-another-3a");
    refused(&remove(&nextcloud[..8], &[]), &["main: the password opens no key"]);
    enter("canary-password-4c11");

    // There is nothing to keep, says somebody, and has to say why.
    let none = ["host", "remove", "gamma", "--final-backup", "none"];
    let text = String::from_utf8_lossy(&operator.moorline(&none).stderr).into_owned();
    assert!(text.contains("hosts/gamma/host.yaml says that it makes backups; `--reason TEXT`"), "{text}");

    let left = succeeds(&remove(&nextcloud[..8], &["--stage"]));
    let record = format!(
        "-m 'Final backup in main: nextcloud {}, traefik {}; kept until 2027-12-31'",
        &nextcloud[..8],
        &traefik[..8]
    );
    assert!(left.contains(&record), "{left}");
    assert!(left.contains("backups: keep the repository main, its password"), "{left}");
    assert!(!operator.root().join("hosts/gamma").exists());
    assert!(operator.git(&["diff", "--cached", "--name-only"]).contains("hosts/gamma/secrets.sops.yaml"));
}

#[test]
fn a_host_that_cannot_be_put_in_place_leaves_everything_as_it_was() {
    let operator = Operator::new();
    // git and the check do not see an empty directory; a rename does.
    fs::create_dir(operator.root().join("hosts/gamma")).unwrap();
    let failed = operator.moorline(&NEW);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && text.contains("nothing was changed"), "{text}");
    assert_eq!(operator.git(&["status", "--porcelain"]), "");
    assert!(
        fs::read_dir(operator.root().join(".git"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with("moorline-") })
    );
    let outside = Command::new(env!("CARGO_BIN_EXE_moorline")).args(NEW).current_dir("/").output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stderr).contains("is not in a checkout"));
}
