//! Repositories, clones and servers that were made to hurt, against the real git and the real program. Each test says
//! which line of the fault matrix it shows: T23, T25, T27 or T28.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::io::{BufWriter, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::hostile::{HostileServer, Packed, band, delta_bomb, delta_circle, pack, packet, plant};
use support::{Fleet, GitServer, Ran, Random, Run as _, Scratch, Signer, Signing};

/// A host that needs no engine: whatever is accepted ends with the missing plugin.
const ACCEPTED: &str = "plugin-missing";

/// More than any fetch or read may take.
const MEMORY_KB: u64 = 512 * 1024;

/// A host and its repository, with one revision that it accepted.
struct Host {
    scratch: Scratch,
    server: GitServer,
    fleet: Fleet,
    alice: Signer,
    accepted: String,
}

/// What a command did, and what it took.
struct Measured {
    ran: Ran,
    memory_kb: u64,
    cpu: f64,
    time: Duration,
}

impl Host {
    fn new() -> Self {
        let (scratch, server, alice) = (Scratch::new(), GitServer::http(None), Signer::new("alice"));
        let fleet = Fleet::new(&server.repository("fleet.git"));
        fleet.allow(&[&alice]);
        fleet.write("moorline.yaml", "version: 1\n");
        fleet.write("rings/canary.yaml", "follow: main\n");
        fleet.write("hosts/alpha/host.yaml", "ring: canary\nstacks: []\n");
        scratch.write("etc/allowed_signers", alice.allowed_line());
        let mut host = Self { scratch, server, fleet, alice, accepted: String::new() };
        host.follow(&host.server.url("fleet.git"));
        host.accepted = host.publish("first");
        host.fetches();
        assert_eq!(host.keeper(), ACCEPTED);
        assert_eq!(host.anchor(), host.accepted);
        host
    }

    /// Writes `agent.toml` with this remote.
    fn follow(&self, remote: &str) {
        let path = |path: &str| self.scratch.join(path).display().to_string();
        self.scratch.write(
            "etc/agent.toml",
            format!(
                "host = \"alpha\"\nremote = \"{remote}\"\n\n[engine]\nsocket = \"/nonexistent\"\ncompose = \"/nonexistent\"\n\n\
                 [paths]\netc = \"{}\"\nstate = \"{}\"\nrun = \"{}\"\n",
                path("etc"),
                path("state"),
                path("run")
            ),
        );
    }

    fn publish(&mut self, message: &str) -> String {
        let revision = self.fleet.commit(Signing::By(&self.alice), message);
        self.fleet.push();
        revision
    }

    /// A signed commit of any tree, pushed without a look at it.
    fn publish_tree(&self, tree: &str) -> String {
        let (key, email) = (self.alice.private_key().display().to_string(), self.alice.principal());
        let commit = [
            "-c",
            "gpg.format=ssh",
            "-c",
            &format!("user.signingkey={key}"),
            "-c",
            "user.name=alice",
            "-c",
            &format!("user.email={email}"),
            "commit-tree",
            "-S",
            "-p",
            &self.accepted,
            "-m",
            "hostile",
            tree,
        ];
        let revision = self.fleet.git(&commit).succeeds();
        self.serve(&revision);
        revision
    }

    /// Makes a revision of the checkout what the server serves.
    fn serve(&self, revision: &str) {
        self.fleet.git(&["push", "--quiet", "--force", "origin", &format!("{revision}:refs/heads/main")]).succeeds();
    }

    /// The tree of the accepted revision with more in its root.
    fn tree_with(&self, entries: &str) -> String {
        let root = self.fleet.git(&["ls-tree", &self.accepted]).succeeds();
        self.mktree(&format!("{root}\n{entries}\n"))
    }

    fn mktree(&self, entries: &str) -> String {
        let mut git = self.scratch.command("git");
        git.arg("-C").arg(self.fleet.path()).args(["mktree", "--missing"]).run_with(entries.as_bytes()).succeeds()
    }

    /// A tree object of exactly these bytes, whether it is one or not.
    fn raw_tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut bytes = vec![];
        for (mode, name, id) in entries {
            bytes.extend([mode.as_bytes(), b" ", name, b"\0", &hex::decode(id).expect("an id")].concat());
        }
        let mut git = self.scratch.command("git");
        git.arg("-C").arg(self.fleet.path());
        git.args(["hash-object", "-t", "tree", "-w", "--literally", "--stdin"]).run_with(&bytes).succeeds()
    }

    fn blob(&self, content: &[u8]) -> String {
        let mut git = self.scratch.command("git");
        git.arg("-C").arg(self.fleet.path()).args(["hash-object", "-w", "--stdin"]).run_with(content).succeeds()
    }

    fn repository(&self) -> PathBuf {
        self.scratch.join("state/courier/repo.git")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.scratch.command("busybox");
        command.args(["time", "-v", env!("CARGO_BIN_EXE_moorline")]);
        command.arg("--config").arg(self.scratch.join("etc/agent.toml")).args(arguments);
        command
    }

    fn measured(&self, arguments: &[&str]) -> Measured {
        let began = Instant::now();
        let ran = self.command(arguments).run();
        let time = began.elapsed();
        let value = |name: &str| {
            let line =
                ran.stderr.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}: {ran}"));
            line.rsplit(": ").next().expect("a value").trim().parse::<f64>().expect("a number")
        };
        // busybox takes the kernel's kilobytes for pages of four.
        let memory_kb = value("Maximum resident set size") as u64 / 4;
        let cpu = value("User time") + value("System time");
        let what = arguments.join(" ");
        eprintln!("`{what}`: {} MB resident at most, {cpu:.1} s of processor time, {time:.1?}", memory_kb / 1024);
        Measured { ran, memory_kb, cpu, time }
    }

    fn fetches(&self) -> Measured {
        let measured = self.measured(&["courier", "--once"]);
        assert!(measured.ran.is_success(), "{}", measured.ran);
        measured
    }

    /// What a fetch that must not work says.
    #[track_caller]
    fn fetch_is_refused(&self) -> (String, Measured) {
        let measured = self.measured(&["courier", "--once"]);
        assert!(!measured.ran.is_success(), "{}", measured.ran);
        assert!(measured.memory_kb < MEMORY_KB, "{} kB", measured.memory_kb);
        assert!(measured.cpu < 61.0, "{} s", measured.cpu);
        (code(&measured.ran), measured)
    }

    /// How a run of the keeper ends.
    fn keeper(&self) -> String {
        code(&self.measured(&["reconcile"]).ran)
    }

    fn anchor(&self) -> String {
        let mut status = Command::new(env!("CARGO_BIN_EXE_moorline"));
        status.arg("--config").arg(self.scratch.join("etc/agent.toml")).args(["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.run().stdout).expect("status prints JSON");
        status["anchor"]["revision"].as_str().expect("an anchor").to_owned()
    }

    fn packs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.repository().join("objects/pack")).expect("a directory").flatten();
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|ending| ending == "pack")).collect()
    }

    /// The remote is mended by people; nobody touches the host.
    fn recovers(&mut self) {
        self.follow(&self.server.url("fleet.git"));
        self.fleet.reset(&self.accepted.clone()).force_push();
        let mended = self.publish("mended");
        self.fetches();
        assert_eq!(self.keeper(), ACCEPTED);
        assert_eq!(self.anchor(), mended);
    }
}

fn code(ran: &Ran) -> String {
    let code = ran.stderr.split_once("error[").and_then(|(_, rest)| rest.split_once(']'));
    code.unwrap_or_else(|| panic!("no fault: {ran}")).0.to_owned()
}

/// A server with one branch, whose pack is these bytes.
fn sends(bytes: Vec<u8>) -> HostileServer {
    HostileServer::start(HostileServer::one_branch, move |stream| {
        for piece in bytes.chunks(60_000) {
            stream.write_all(&band(1, piece))?;
        }
        stream.write_all(b"0000")
    })
}

#[test]
fn t27_a_delta_bomb_is_a_fault_of_the_fetch_and_not_the_end_of_the_host() {
    let mut host = Host::new();
    let (bomb, _) = pack(&delta_bomb());
    assert!(bomb.len() < 16 * 1024);
    let server = sends(bomb);
    host.follow(&server.url());
    let before = host.packs();
    let (code, measured) = host.fetch_is_refused();
    assert_eq!(code, "resource-limit");
    assert!(measured.time < Duration::from_secs(20));
    // The revision stays, nothing of the pack does, and the keeper goes on with what it has.
    assert_eq!(host.packs(), before);
    assert_eq!(host.keeper(), ACCEPTED);
    assert_eq!(host.anchor(), host.accepted);
    host.recovers();
}

#[test]
fn t27_a_delta_bomb_in_the_clone_cannot_hurt_the_keeper_and_goes_with_the_clone() {
    for (name, objects, tip) in [("bomb", delta_bomb(), "40"), ("circle", delta_circle(), "10")] {
        let mut host = Host::new();
        plant(&host.repository(), &objects);
        fs::write(host.repository().join("refs/heads/main"), tip.repeat(20) + "\n").unwrap();
        let measured = host.measured(&["reconcile"]);
        assert!(["resource-limit", "repository-damaged"].contains(&&*code(&measured.ran)), "{name}: {}", measured.ran);
        assert!(measured.memory_kb < MEMORY_KB, "{name}: {} kB", measured.memory_kb);
        assert!(measured.cpu < 62.0, "{name}: {} s", measured.cpu);
        assert_eq!(host.anchor(), host.accepted);
        // The keeper has complained, so the next poll makes a new clone.
        host.fetches();
        assert_eq!(host.keeper(), ACCEPTED, "{name}");
        host.recovers();
    }
}

#[test]
fn t27_more_objects_than_a_fleet_has_are_thrown_away_again() {
    let mut host = Host::new();
    let mut stream = String::from("commit refs/heads/many\ncommitter x <x@x> 1 +0000\ndata 1\nx\n");
    for number in 0..200_500 {
        stream +=
            &format!("M 100644 inline d{}/{number}\ndata {}\n{number}\n", number / 1000, number.to_string().len());
    }
    let mut import = host.scratch.command("git");
    import.arg("-C").arg(host.fleet.path()).args(["fast-import", "--quiet"]).run_with(stream.as_bytes()).succeeds();
    host.serve("refs/heads/many");
    let before = host.packs();
    let (code, measured) = host.fetch_is_refused();
    assert_eq!(code, "resource-limit");
    assert!(measured.ran.stderr.contains("objects; at most 200000 are taken"), "{}", measured.ran);
    assert_eq!(host.packs(), before);
    assert_eq!(host.keeper(), ACCEPTED);
    assert_eq!(host.anchor(), host.accepted);
    host.recovers();
}

#[test]
fn t27_a_million_refs_cost_what_one_does() {
    let mut host = Host::new();
    let bare = host.server.path("fleet.git");
    // Never as a whole in our own memory, which would count as that of the programs we start.
    let mut refs = BufWriter::new(fs::File::create(bare.join("packed-refs")).unwrap());
    writeln!(refs, "# pack-refs with: peeled fully-peeled sorted ").unwrap();
    for number in 0..1_000_000 {
        writeln!(refs, "{} refs/heads/x{number:07}", host.accepted).unwrap();
    }
    refs.flush().unwrap();
    let second = host.publish("second");
    let measured = host.fetches();
    assert!(measured.memory_kb < MEMORY_KB && measured.time < Duration::from_secs(10));
    assert_eq!(host.keeper(), ACCEPTED);
    assert_eq!(host.anchor(), second);
    host.accepted.clone_from(&second);
    // A server that tells of all of them although it was asked for one.
    let all = move |stream: &mut TcpStream| {
        let mut stream = BufWriter::new(stream);
        for number in 0..1_000_000 {
            stream.write_all(&packet(format!("{second} refs/heads/x{number:07}\n")))?;
        }
        stream.write_all(&packet(format!("{second} refs/heads/main\n")))?;
        stream.write_all(b"0000")
    };
    let server = HostileServer::start(all, |_| Ok(()));
    eprintln!(
        "{}",
        fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM")).collect::<String>()
    );
    host.follow(&server.url());
    let measured = host.measured(&["courier", "--once"]);
    assert!(measured.memory_kb < MEMORY_KB && measured.time < Duration::from_secs(30), "{}", measured.ran);
    host.recovers();
}

#[test]
fn t27_a_large_blob_a_wide_directory_and_a_deep_one_are_refused_with_their_path() {
    let mut host = Host::new();
    // 300 MB of nothing in a pack of 300 KB.
    let big = host.scratch.write("big", "");
    fs::File::options().write(true).open(&big).unwrap().set_len(300 << 20).unwrap();
    let blob = host.fleet.git(&["hash-object", "-w", big.to_str().unwrap()]).succeeds();
    let large = host.tree_with(&format!("100644 blob {blob}\tlarge"));
    let small = host.blob(b"x");
    let mut wide = String::new();
    for number in 0..1_000_000 {
        wide += &format!("100644 blob {small}\t{number:07}\n");
    }
    let wide = host.mktree(&wide);
    let wide = host.tree_with(&format!("040000 tree {wide}\twide"));
    let mut deep = host.mktree(&format!("100644 blob {small}\tf"));
    for _ in 0..20 {
        deep = host.mktree(&format!("040000 tree {deep}\td"));
    }
    let deep = host.tree_with(&format!("040000 tree {deep}\tdeep"));
    for (tree, path, words) in [
        (large, "large", "has 314572800 bytes; at most 1048576 are allowed"),
        (wide, "wide", "bytes; at most 1048576 are allowed"),
        (deep, "deep/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d", "is more than 16 levels deep"),
    ] {
        host.publish_tree(&tree);
        let measured = host.fetches();
        assert!(measured.memory_kb < MEMORY_KB && measured.cpu < 60.0, "{path}");
        let measured = host.measured(&["plan"]);
        assert!(measured.ran.stderr.contains(&format!("`{path}` ")), "{}", measured.ran);
        assert!(measured.ran.stderr.contains(words), "{}", measured.ran);
        assert!(measured.memory_kb < 64 * 1024 && measured.cpu < 1.0, "{path}: {} kB", measured.memory_kb);
    }
    host.recovers();
}

#[test]
fn t27_ten_thousand_directories_in_one_another_never_arrive() {
    let mut host = Host::new();
    let path = "a/".repeat(10_000);
    let stream =
        format!("commit refs/heads/deep\ncommitter x <x@x> 1 +0000\ndata 1\nx\nM 100644 inline {path}f\ndata 1\nx\n");
    let mut import = host.scratch.command("git");
    import.arg("-C").arg(host.fleet.path()).args(["fast-import", "--quiet"]).run_with(stream.as_bytes()).succeeds();
    // Beside the server: git's own push refuses to go so deep as well.
    let objects = host.server.path("fleet.git").join("objects");
    let mut files = vec![];
    collect(&host.fleet.path().join(".git/objects"), &mut files);
    for file in files {
        let target = objects.join(file.strip_prefix(host.fleet.path().join(".git/objects")).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        // What is there already is the same.
        let _ = fs::copy(file, target);
    }
    let deep = host.fleet.revision("refs/heads/deep");
    fs::write(host.server.path("fleet.git").join("refs/heads/main"), format!("{deep}\n")).unwrap();
    let (code, _) = host.fetch_is_refused();
    assert_eq!(code, "fetch-refused");
    assert_eq!(host.keeper(), ACCEPTED);
    host.recovers();
}

#[test]
fn t28_modes_and_names_that_have_no_business_on_a_host_are_refused_with_their_path() {
    let mut host = Host::new();
    let (file, link) = (host.blob(b"x"), host.blob(b"/etc/passwd"));
    let root: Vec<(String, String, String)> = host
        .fleet
        .git(&["ls-tree", &host.accepted])
        .succeeds()
        .lines()
        .map(|line| {
            let (head, name) = line.split_once('\t').unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            (words[0].trim_start_matches('0').to_owned(), name.to_owned(), words[2].to_owned())
        })
        .collect();
    let empty = host.mktree("");
    type Entries<'a> = &'a [(&'a str, &'a [u8], &'a str)];
    let cases: [(&str, Entries<'_>, &str); 13] = [
        ("set-user-id", &[("104755", b"z", &file)], "`z` has mode 104755"),
        ("group-writable", &[("100664", b"z", &file)], "`z` has mode 100664"),
        ("link", &[("120000", b"z", &link)], "`z` is a symbolic link"),
        ("submodule", &[("160000", b"z", &host.accepted)], "`z` is a submodule"),
        ("line break", &[("100644", b"z\nz", &file)], "`z\\nz` has a name"),
        ("escape", &[("100644", b"z\x1b[2J", &file)], "`z\\u{1b}[2J` has a name"),
        ("parent", &[("40000", b"z..", &empty), ("40000", b"..", &empty)], "`..` has a name"),
        ("git's own", &[("40000", b".GIT", &empty)], "`.GIT` has a name"),
        ("twice", &[("100644", b"z", &file), ("100644", b"z", &file)], "`z` stands beside"),
        ("case", &[("100644", b"Z", &file), ("100644", b"z", &file)], "`z` stands beside"),
        (
            "composed",
            &[("100644", "z\u{e9}".as_bytes(), &file), ("100644", "ze\u{301}".as_bytes(), &file)],
            "has a name",
        ),
        ("not text", &[("100644", b"z\xff", &file)], "has a name"),
        ("an option", &[("100644", b"-rf", &file)], "`-rf` has a name"),
    ];
    for (name, entries, expected) in cases {
        let mut all: Vec<(&str, &[u8], &str)> =
            root.iter().map(|(mode, name, id)| (mode.as_str(), name.as_bytes(), id.as_str())).collect();
        all.extend(entries);
        all.sort_by_key(|(mode, name, _)| [*name, if *mode == "40000" { b"/" } else { b"" }].concat());
        let revision = host.publish_tree(&host.raw_tree(&all));
        let fetched = host.measured(&["courier", "--once"]);
        if fetched.ran.is_success() {
            let ran = host.measured(&["plan"]).ran;
            assert_eq!(code(&ran), "tree-refused", "{name}: {ran}");
            assert!(ran.stderr.contains(expected), "{name}: {ran}");
        } else {
            // git's own check at the door was quicker.
            assert_eq!(code(&fetched.ran), "fetch-refused", "{name}: {}", fetched.ran);
            // A courier that was taken over has no such door.
            let mut git = host.scratch.command("git");
            git.arg("--git-dir").arg(host.repository());
            git.args(["fetch", "--quiet", "--force"])
                .arg(host.server.path("fleet.git"))
                .arg(format!("{revision}:refs/heads/main"));
            git.run().succeeds();
            let ran = host.measured(&["plan"]).ran;
            assert_eq!(code(&ran), "tree-refused", "{name}: {ran}");
            assert!(ran.stderr.contains(expected), "{name}: {ran}");
        }
    }
    assert_eq!(host.anchor(), host.accepted);
    host.recovers();
}

#[test]
fn t25_whatever_rots_in_the_clone_is_whole_again_within_two_polls() {
    let mut host = Host::new();
    for number in 0..10 {
        host.fleet.write("notes", number.to_string());
        host.accepted = host.publish("more");
        host.fetches();
    }
    assert_eq!(host.keeper(), ACCEPTED);
    let mut random = Random(1);
    for round in 0..40 {
        let damage = damage(&host.repository(), &mut random, round);
        let kept = host.keeper();
        assert!(
            [ACCEPTED, "repository-damaged", "repository-missing", "resource-limit"].contains(&&*kept),
            "{damage}: {kept}"
        );
        assert_eq!(host.anchor(), host.accepted, "{damage}");
        // A poll may fail, the next one may not.
        let _ = host.measured(&["courier", "--once"]);
        host.fetches();
        let mut fsck = host.scratch.command("git");
        fsck.arg("--git-dir").arg(host.repository()).args(["fsck", "--full", "--no-dangling"]).run().succeeds();
        assert_eq!(host.keeper(), ACCEPTED, "{damage}");
        assert_eq!(host.anchor(), host.accepted, "{damage}");
    }
}

/// Damages one file of a repository, and says which and how.
fn damage(repository: &Path, random: &mut Random, round: u64) -> String {
    let mut files = vec![];
    collect(repository, &mut files);
    files.sort();
    let kinds: Vec<&PathBuf> = match round % 4 {
        0 => files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "pack")).collect(),
        1 => files.iter().filter(|path| path.extension().is_some_and(|ending| ending == "idx")).collect(),
        2 => files
            .iter()
            .filter(|path| path.ends_with("refs/heads/main") || path.ends_with("HEAD") || path.ends_with("config"))
            .collect(),
        _ => files.iter().collect(),
    };
    let path = kinds[random.below(kinds.len())].clone();
    let mut bytes = fs::read(&path).unwrap();
    // git writes them read-only, and we must not write into what a hard link might share.
    fs::remove_file(&path).unwrap();
    let how = match random.below(4) {
        0 => "removed",
        1 => {
            bytes.truncate(bytes.len() / 2);
            fs::write(&path, &bytes).unwrap();
            "cut off"
        }
        2 => {
            fs::write(&path, vec![0; bytes.len()]).unwrap();
            "full of zeros"
        }
        _ => {
            for _ in 0..=bytes.len() / 200 {
                let at = random.below(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            fs::write(&path, &bytes).unwrap();
            "with other bits"
        }
    };
    format!("round {round}: {} {how}", path.display())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => collect(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

#[test]
fn t25_what_a_hostile_courier_writes_beside_the_objects_means_nothing_to_the_keeper() {
    let mut host = Host::new();
    let first = host.accepted.clone();
    host.accepted = host.publish("second");
    host.fetches();
    let repository = host.repository();
    let witness = host.scratch.join("witness");
    let hook = format!("#!/bin/sh\ntouch {}\n", witness.display());
    for name in ["post-checkout", "reference-transaction", "post-index-change"] {
        fs::create_dir_all(repository.join("hooks")).unwrap();
        fs::write(repository.join("hooks").join(name), &hook).unwrap();
        fs::set_permissions(repository.join("hooks").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let touch = format!("touch {}", witness.display());
    let config = format!(
        "[core]\n\trepositoryformatversion = 99\n\tbare = false\n\tworktree = /\n\tfsmonitor = {touch}\n\tsshCommand = {touch}\n\
         [extensions]\n\tobjectFormat = sha256\n\trefStorage = reftable\n[include]\n\tpath = /etc/passwd\n"
    );
    fs::write(repository.join("config"), config).unwrap();
    fs::write(repository.join("HEAD"), "ref: refs/heads/../../../../etc/passwd\n").unwrap();
    // Instead of the second revision: the first one, which has no parent.
    fs::create_dir_all(repository.join("refs/replace")).unwrap();
    fs::write(repository.join("refs/replace").join(&host.accepted), format!("{first}\n")).unwrap();
    fs::create_dir_all(repository.join("info")).unwrap();
    fs::write(repository.join("info/grafts"), format!("{}\n", host.accepted)).unwrap();
    fs::write(repository.join("shallow"), format!("{}\n", host.accepted)).unwrap();
    fs::write(repository.join("commondir"), "/nonexistent\n").unwrap();
    assert_eq!(host.keeper(), ACCEPTED);
    assert_eq!(host.anchor(), host.accepted);
    assert!(!witness.exists());
    // Objects of another place are none of ours, even when they are the right ones.
    let elsewhere = host.scratch.join("elsewhere");
    fs::rename(repository.join("objects"), &elsewhere).unwrap();
    fs::create_dir_all(repository.join("objects/info")).unwrap();
    fs::write(repository.join("objects/info/alternates"), format!("{}\n", elsewhere.display())).unwrap();
    let ran = host.measured(&["plan"]).ran;
    assert_eq!(code(&ran), "repository-damaged", "{ran}");
    assert!(ran.stderr.contains("leads to another repository"), "{ran}");
    // And all of it goes with the clone.
    host.fetches();
    assert!(!repository.join("hooks").exists() && !repository.join("refs/replace").exists());
    assert!(!witness.exists());
    host.recovers();
}

#[test]
fn t23_servers_that_break_off_lie_or_do_not_end_are_reported_and_leave_nothing() {
    let mut host = Host::new();
    let (whole, _) = pack(&[Packed::Commit(b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nx\n".to_vec())]);
    let mut wrong_sum = whole.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let mut fewer = whole.clone();
    fewer[11] = 9;
    let mut longer = whole.clone();
    longer.extend(vec![0; 100_000]);
    let cut = whole[..whole.len() / 2].to_vec();
    let before = host.packs();
    let is_refused = |name: &str, server: HostileServer, codes: &[&str]| {
        host.follow(&server.url());
        let (code, measured) = host.fetch_is_refused();
        assert!(codes.contains(&&*code), "{name}: {}", measured.ran);
        assert!(measured.time < Duration::from_secs(40), "{name}: {:?}", measured.time);
        assert_eq!(host.keeper(), ACCEPTED, "{name}");
        assert_eq!(host.anchor(), host.accepted, "{name}");
        assert_eq!(host.packs(), before, "{name}");
    };
    let ends = ["fetch-failed", "fetch-refused"];
    is_refused("a wrong checksum", sends(wrong_sum), &ends);
    is_refused("fewer objects than announced", sends(fewer), &ends);
    is_refused("more bytes than announced", sends(longer), &ends);
    is_refused("half a pack", sends(cut.clone()), &ends);
    is_refused("objects that the branch does not lead to", sends(whole), &ends);
    let reset = HostileServer::start(HostileServer::one_branch, move |stream| {
        stream.write_all(&band(1, &cut))?;
        // Whoever closes with something unread sends a reset.
        rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
        Ok(())
    });
    is_refused("a reset in the middle", reset, &ends);
    let chatter = HostileServer::start(HostileServer::one_branch, |stream| {
        loop {
            stream.write_all(&band(2, &[b"are we there yet? ".repeat(3000), b"\n".to_vec()].concat()))?;
        }
    });
    is_refused("endless messages", chatter, &["resource-limit"]);
    let endless = HostileServer::start(HostileServer::one_branch, |stream| {
        // One blob of 4 GiB, as its header says, that does not compress.
        stream.write_all(&band(1, b"PACK\0\0\0\x02\0\0\0\x01\xb0\x80\x80\x80\x80\x01\x78\x01"))?;
        loop {
            stream.write_all(&band(1, &[&[0, 0xff, 0xef, 0, 0x10][..], &[7; 0xefff]].concat()))?;
        }
    });
    is_refused("endless data", endless, &["resource-limit"]);
    host.recovers();
}

#[test]
fn t23_a_server_that_sends_a_byte_a_second_is_left_after_a_minute() {
    let mut host = Host::new();
    let server = HostileServer::start(HostileServer::one_branch, |stream| {
        // The beginning of a long piece.
        stream.write_all(b"fff0\x01")?;
        loop {
            stream.write_all(b"P")?;
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    host.follow(&server.url());
    let (code, measured) = host.fetch_is_refused();
    assert_eq!(code, "fetch-failed");
    assert!(measured.time < Duration::from_secs(90) && measured.cpu < 2.0, "{:?}", measured.time);
    assert_eq!(host.keeper(), ACCEPTED);
    host.recovers();
}
