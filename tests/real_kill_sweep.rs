//! kill -9 at any instant of a real deploy on a real engine: the agent at every step and at system calls, the Compose
//! plugin while it works. The next runs end with what is desired or with what worked, and nobody has to move.
//!
//! `MOORLINE_KILLS=200` is the full sweep; without it, a few kills are spread over the whole deploy.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::Value as Json;
use support::{Image, Lab, Run as _, search_for_canary};

const STACK: &str = "\
services:
  web:
    image: lab/web:IMAGE
    environment: { MESSAGE: 'IMAGE' }
    secrets: [token]
    volumes: ['data:/data', './conf:/conf:ro']
    depends_on: { db: { condition: service_healthy } }
    stop_grace_period: 1s
  db: { image: 'lab/db:1', environment: { A: 'IMAGE' }, stop_grace_period: 1s }
volumes: { data: {} }
secrets:
  token: { environment: TOKEN }
x-moorline: { deploy: { health_timeout: 20s } }
";

const CANARY: &str = "canary-sweep-4f1b";

/// How many kills the sweep makes in all.
fn kills() -> usize {
    std::env::var("MOORLINE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

struct Sweep {
    lab: Lab,
    /// The revision that the host's stack runs by turns, so that each kill has a deploy to interrupt.
    turn: u32,
    foreign: String,
    violations: Vec<String>,
    kills: usize,
}

impl Sweep {
    fn new() -> Self {
        let mut lab = Lab::new();
        lab.engine.image("lab/web:2", &Image::web());
        lab.engine.image("lab/web:broken", &Image::exits(3));
        lab.host_yaml("[web]");
        lab.secrets(&format!("web:\n  TOKEN: {CANARY}\n"));
        lab.fleet.write("stacks/web/compose.yaml", STACK.replace("IMAGE", "1")).write("stacks/web/conf", "1\n");
        lab.deploy("first");
        lab.exec("web", "web", &["touch", "/data/kept"]);
        let foreign =
            lab.engine.docker(&["run", "-d", "--restart", "always", "--name", "foreign", "lab/db:1"]).succeeds();
        Self { lab, turn: 1, foreign: foreign.trim().to_owned(), violations: Vec::new(), kills: 0 }
    }

    /// Commits the other of two versions, or a broken one, and fetches it.
    fn next(&mut self, broken: bool) {
        self.turn = 3 - self.turn;
        let image = if broken { "broken".to_owned() } else { self.turn.to_string() };
        let stack =
            STACK.replace("lab/web:IMAGE", &format!("lab/web:{image}")).replace("IMAGE", &self.turn.to_string());
        self.lab.fleet.write("stacks/web/compose.yaml", stack).write("stacks/web/conf", format!("{}\n", self.turn));
        self.lab.publish("turn");
        self.lab.host.moorline(&["courier", "--once"]).succeeds();
    }

    /// Up to four runs, until one has nothing left to do; then everything must be as it was or as it should be.
    fn recovers(&mut self, how: &str) {
        self.kills += 1;
        let mut broken = Vec::new();
        let anchor = self.lab.host.status()["anchor"]["revision"].clone();
        let mut last = Json::Null;
        let mut quiet = false;
        for _ in 0..4 {
            let ran = self.lab.host.moorline(&["retry"]);
            let ran = if ran.code == Some(2) { self.lab.host.moorline(&["reconcile"]) } else { ran };
            last = self.lab.host.status()["last_run"].clone();
            if ran.code == Some(0) && last["outcomes"].as_array().is_some_and(Vec::is_empty) {
                quiet = true;
                break;
            }
        }
        if !quiet {
            broken.push(format!("I4: not converged: {}", last["summary"]));
        }
        self.inspect(&anchor, &mut broken);
        self.violations.extend(broken.into_iter().map(|what| format!("{how}: {what}")));
    }

    /// What must hold after every kill (TRUST.md, 3.2).
    fn inspect(&self, anchor: &Json, broken: &mut Vec<String>) {
        let lab = &self.lab;
        let mut must = |holds: bool, what: &str| {
            if !holds {
                broken.push(what.to_owned());
            }
        };
        let status = lab.host.status();
        // The anchor after the runs is the tip, which the anchor before led to.
        must(
            status["anchor"]["revision"] == status["last_run"]["tip"] || &status["anchor"]["revision"] == anchor,
            "I1: the anchor",
        );
        let names = lab.engine.docker(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).succeeds();
        let named: BTreeMap<&str, &str> = names.lines().filter_map(|line| line.split_once(' ')).collect();
        let expected = BTreeMap::from([("foreign", "running"), ("web-db-1", "running"), ("web-web-1", "running")]);
        must(named == expected, &format!("I4: containers: {names}"));
        let directory = lab.host.stack("web");
        let compose = fs::read_to_string(directory.join("compose.yaml")).unwrap_or_default();
        let conf = fs::read_to_string(directory.join("conf")).unwrap_or_default();
        must(compose.contains(&format!("MESSAGE: '{}'", conf.trim())), "I5: files of two revisions");
        let unfinished = fs::read_dir(&directory).into_iter().flatten().flatten();
        let left: Vec<_> =
            unfinished.filter(|entry| entry.file_name().to_string_lossy().contains("moorline-new")).collect();
        must(left.is_empty(), &format!("I5: left over: {left:?}"));
        must(lab.exec("web", "web", &["ls", "/data"]) == "kept", "I6: the volume");
        must(lab.exec("web", "web", &["cat", "/www/message"]) == conf.trim(), "I2: what runs is not what was written");
        must(lab.exec("web", "web", &["cat", "/run/secrets/token"]) == CANARY, "I4: the secret");
        let hits = search_for_canary(&[lab.host.state()], &[CANARY]);
        must(hits.is_empty(), &format!("I7: {hits:?}"));
        must(!lab.host.state().join("journal.json").exists(), "the journal is not empty");
        must(lab.engine.inspect("foreign")["Id"] == self.foreign.as_str(), "a foreign container");
        let id = |service: &str| lab.containers("web").get(service).cloned();
        let before = (id("web"), id("db"));
        let again = lab.host.moorline(&["reconcile"]);
        must(again.stdout.contains("nothing to do") && (id("web"), id("db")) == before, "a second run does something");
    }

    /// Every system call of these that a whole deploy makes: its name, and the how-manieth of its name it is. strace
    /// counts each name by itself.
    fn calls(&mut self, calls: &str) -> Vec<(String, usize)> {
        self.next(false);
        let log = self.lab.engine.scratch().join("sweep.log");
        self.traced(&["-c", "-e", &format!("trace={calls}")], &log).run().succeeds();
        let counted = fs::read_to_string(&log).unwrap();
        // `% time  seconds  usecs/call  calls  errors  syscall`
        let mut all = Vec::new();
        for line in counted.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (Some(name), Some(Ok(count))) = (words.last(), words.get(3).map(|count| count.parse::<usize>())) else {
                continue;
            };
            if *name != "total" {
                all.extend((1..=count).map(|number| ((*name).to_owned(), number)));
            }
        }
        all
    }

    fn traced(&self, options: &[&str], log: &std::path::Path) -> Command {
        let moorline = self.lab.host.command(&["reconcile"]);
        let mut strace = self.lab.engine.scratch().command("strace");
        strace.args(options).arg("-o").arg(log).arg(moorline.get_program()).args(moorline.get_args());
        strace
    }

    #[track_caller]
    fn is_clean(&self) {
        println!("{} kills, {} violations of I1-I9", self.kills, self.violations.len());
        assert!(self.violations.is_empty(), "{:#?}", self.violations);
    }
}

/// What the agent does that others can see: files, names, children, sockets.
const CALLS: &str =
    "openat,write,rename,renameat,renameat2,fsync,unlink,unlinkat,sendto,writev,connect,clone3,vfork,symlinkat";

#[test]
fn the_agent_can_be_killed_at_system_calls_of_a_deploy() {
    let mut sweep = Sweep::new();
    let calls = sweep.calls(CALLS);
    let kills = kills().min(calls.len());
    println!("a deploy makes {} system calls of these kinds", calls.len());
    for number in 0..kills {
        let (name, at) = &calls[(calls.len() * (2 * number + 1)) / (2 * kills)];
        sweep.next(false);
        let log = sweep.lab.engine.scratch().join("sweep.log");
        let inject = format!("inject={name}:signal=KILL:when={at}");
        let ran = sweep.traced(&["-e", &format!("trace={name}"), "-e", &inject], &log).run();
        println!("agent killed at {name} {at}: {:?}", ran.code);
        sweep.recovers(&format!("agent killed at {name} {at}"));
    }
    sweep.is_clean();
}

#[test]
fn the_agent_can_be_killed_at_every_step_also_on_the_way_back() {
    let mut sweep = Sweep::new();
    // The journal is renamed into its place before every step: each of these is a step's beginning.
    let steps = if kills() < 200 { vec![2, 5, 8] } else { (1..=12).collect() };
    for broken in [false, true] {
        for step in &steps {
            sweep.next(broken);
            let mut killed = sweep.lab.host.command(&["reconcile"]);
            let mut child = killed.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let journal = sweep.lab.host.state().join("journal.json");
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < *step && child.try_wait().unwrap().is_none() {
                seen.extend(fs::read(&journal).ok().filter(|text| !text.is_empty()));
            }
            child.kill().ok();
            child.wait().unwrap();
            if broken {
                // The way back must come to its end by itself; then the commit is mended.
                for _ in 0..3 {
                    let ran = sweep.lab.host.moorline(&["reconcile"]);
                    println!("after step {step}: {:?}", ran.stderr.lines().next());
                }
                sweep.turn = 3 - sweep.turn;
                sweep.next(false);
            }
            sweep.recovers(&format!("agent killed at step {step}, broken: {broken}"));
        }
    }
    sweep.is_clean();
}

#[test]
fn the_plugin_can_be_killed_while_it_replaces_containers() {
    let mut sweep = Sweep::new();
    // In its place stands one that is killed at its n-th word to the engine, once.
    let real = sweep.lab.engine.plugin();
    let marker = sweep.lab.engine.scratch().join("kill-at");
    let wrapper = sweep.lab.engine.scratch().write(
        "compose-wrapper",
        format!(
            "#!/bin/sh\nif [ -e {marker} ] && [ \"$5\" = up ]; then at=$(cat {marker}); rm -f {marker}; exec {strace} -f -qq -o \
             /dev/null -e trace=write -e inject=write:signal=KILL:when=$at {real} \"$@\"; fi\nexec {real} \"$@\"\n",
            marker = marker.display(),
            strace = "/usr/bin/strace",
            real = real.display(),
        ),
    );
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = sweep.lab.host.etc().join("agent.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace(&real.display().to_string(), &wrapper.display().to_string())).unwrap();
    // Another file of the plugin is another plugin; that is settled first.
    sweep.lab.host.moorline(&["reconcile"]).succeeds();
    let kills = kills();
    for number in 0..kills {
        sweep.next(false);
        // strace counts for each thread; past the end of a call nothing is killed, and that is seen.
        let at = 1 + 12 * number / kills;
        fs::write(&marker, at.to_string()).unwrap();
        let ran = sweep.lab.host.moorline(&["reconcile"]);
        println!("plugin killed at write {at}: run ended with {:?}", ran.code);
        sweep.recovers(&format!("plugin killed at write {at}"));
    }
    sweep.is_clean();
}

#[test]
fn the_engine_can_be_killed_in_the_middle_of_a_deploy() {
    let mut sweep = Sweep::new();
    for verb in ["up", "gate"] {
        sweep.next(false);
        let mut reconcile = sweep.lab.host.command(&["reconcile"]);
        let mut child = reconcile.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let journal = sweep.lab.host.state().join("journal.json");
        let step = format!("\"action\":\"{verb}\"");
        while child.try_wait().unwrap().is_none() && !fs::read_to_string(&journal).unwrap_or_default().contains(&step) {
        }
        sweep.lab.engine.kill();
        let ended = child.wait().unwrap();
        assert_ne!(ended.code(), Some(0), "the engine was away during {verb}");
        let report = sweep.lab.host.status()["last_run"].clone();
        assert!(report["rollbacks"].is_null(), "an engine that is away says nothing about the stack: {report:#}");
        sweep.lab.engine.resume();
        support::until("the foreign container is back", || {
            (sweep.lab.engine.inspect("foreign")["State"]["Running"] == true).then_some(())
        });
        sweep.recovers(&format!("engine killed during {verb}"));
    }
    sweep.is_clean();
}
