//! The services as they run on a host: courier and keeper side by side, signals, locks, rings.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use support::lab::WEB;
use support::{Engine, Fleet, GitServer, Host, Image, Lab, Service, Signer, Signing, Status, until, wait};

#[test]
fn a_merge_reaches_the_host_and_kuma_within_one_poll() {
    let mut lab = Lab::new();
    let mut courier = Service::start(&lab.host, "courier");
    let mut keeper = Service::start(&lab.host, "run");
    let first = lab.publish("first");
    until("the first revision runs", || {
        let status = lab.host.status();
        (status["last_run"]["revision"] == *first && status["last_run"]["end"] == "converged").then_some(())
    });
    lab.push.wait_for_beats("alpha", 1);

    lab.engine.image("lab/web:2", &Image::web());
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", "lab/web:2"));
    let second = lab.publish("second");
    until("the second revision runs", || {
        let status = lab.host.status();
        (status["last_run"]["revision"] == *second && status["last_run"]["end"] == "converged").then_some(())
    });
    // The log, since the last run may be another one by now: the engine tells of containers too.
    assert!(Service::log(&lab.host, "run").contains("run began: tip"), "{}", Service::log(&lab.host, "run"));
    wait::within(Duration::from_secs(20), "kuma hears of it", || {
        let beats = lab.push.beats("alpha");
        beats.iter().any(|beat| beat.status == Status::Up && beat.msg.contains(&second[..8])).then_some(())
    });

    // A second agent and a second courier name the first.
    for (verb, pid) in [("run", keeper.pid()), ("courier", courier.pid())] {
        let ran = lab.host.moorline(&[verb]);
        assert_eq!(ran.code, Some(11), "{ran}");
        assert!(ran.stderr.contains("error[lock-held]") && ran.stderr.contains(&pid.to_string()), "{ran}");
    }
    // Between two runs of the agent a person may run one too.
    let by_hand = until("no run of the agent is on", || {
        let ran = lab.host.moorline(&["reconcile"]);
        (ran.code != Some(11)).then_some(ran)
    });
    assert!(by_hand.succeeds().contains("nothing to do"));

    keeper.signal("HUP");
    until("the signal begins a run", || Service::log(&lab.host, "run").contains("run began: signal").then_some(()));
    keeper.signal("TERM");
    assert_eq!(keeper.ends(), Some(0), "{}", Service::log(&lab.host, "run"));
    courier.signal("TERM");
    assert_eq!(courier.ends(), Some(0), "{}", Service::log(&lab.host, "courier"));
}

#[test]
fn services_that_begin_at_the_same_moment_find_one_memory() {
    let lab = Lab::new();
    let host = Host::new("twin", &lab.engine, &lab.server, "fleet.git", &[&lab.alice]);
    // The first one has looked what is there, and is slow to act upon it.
    let log = host.etc().join("strace.log");
    let mut slow = Command::new(support::tools::tool("strace"));
    slow.args(["-qq", "-e", "trace=openat,statfs", "-e", "inject=statfs:delay_exit=2000000:when=2", "-o"]).arg(&log);
    let alone = host.command(&["snapshots"]);
    slow.env_clear().envs(alone.get_envs().filter_map(|(name, value)| Some((name, value?))));
    slow.arg(alone.get_program()).args(alone.get_args());
    let slow = slow.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it is about to look", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("statfs(")).then_some(())
    });
    let quick = host.moorline(&["snapshots"]);
    let slow = String::from_utf8_lossy(&slow.wait_with_output().unwrap().stderr).into_owned();
    // Both get as far as a host can that has never run.
    assert!(quick.stderr.contains("error[backup-unset]"), "{quick}");
    assert!(slow.contains("error[backup-unset]"), "{slow}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = format!(" {} ", host.run_directory().display());
    assert_eq!(mounts.lines().filter(|line| line.contains(&place)).count(), 1, "{mounts}");
}

#[test]
fn the_order_to_stop_finishes_the_step_and_writes_the_report() {
    let mut lab = Lab::new();
    // Never healthy: the gate would wait for a minute.
    lab.engine
        .image("lab/db:1", &Image::idle().change("HEALTHCHECK --interval=30s --start-period=60s CMD [\"false\"]"));
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("15s", "60s"));
    lab.publish("slow");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let mut keeper = Service::start(&lab.host, "run");
    until("the gate waits", || Service::log(&lab.host, "run").contains("step done: up").then_some(()));
    let second = lab.host.moorline(&["reconcile"]);
    assert_eq!(second.code, Some(11), "one run at a time: {second}");
    assert!(second.stderr.contains(&keeper.pid().to_string()), "{second}");
    keeper.signal("TERM");
    assert_eq!(keeper.ends(), Some(0), "{}", Service::log(&lab.host, "run"));
    let report = &lab.host.status()["last_run"];
    let outcomes = report["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.last().unwrap()["verdict"]["outcome"], "skipped", "{report:#}");
    assert_eq!(report["end"], "stopped");
}

#[test]
fn systemd_is_told_that_the_service_is_ready_and_alive() {
    let mut lab = Lab::new();
    lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let path = lab.engine.scratch().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = lab.host.command(&["run"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "500000").stderr(Stdio::null());
    let mut keeper = Service::spawn(command);
    let mut told = String::new();
    let mut buffer = [0; 4096];
    while !(told.contains("READY=1") && told.contains("WATCHDOG=1") && told.contains("STATUS=converged at ")) {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}, told so far: {told}"));
        told.push_str(&String::from_utf8_lossy(&buffer[..length]));
        told.push('\n');
    }
    keeper.signal("TERM");
    assert_eq!(keeper.ends(), Some(0));
    let length = std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()))
        .find(|message| message.starts_with(b"STOPPING=1"));
    assert!(length.is_some());
}

#[test]
fn a_hold_looks_and_does_not_touch() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let before = lab.containers("web");
    assert_eq!(lab.host.moorline(&["hold", "--for", "25h", "--reason", "x"]).code, Some(2));
    assert_eq!(lab.host.moorline(&["hold", "--for", "1h"]).code, Some(2));
    lab.host.moorline(&["hold", "--for", "1h", "--reason", "looking at a slow query"]).succeeds();
    lab.secrets("web:\n  TOKEN: other\n");
    lab.publish("while held");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(4), "{ran}");
    assert!(ran.stderr.contains("looking at a slow query"), "{ran}");
    assert_eq!(lab.containers("web"), before);
    let report = &lab.host.status()["last_run"];
    assert_eq!(report["end"], "held");
    assert!(!report["plan"]["steps"].as_array().unwrap().is_empty(), "the plan is shown all the same: {report:#}");
    lab.host.moorline(&["release"]).succeeds();
    lab.host.moorline(&["reconcile"]).succeeds();
    assert_ne!(lab.containers("web"), before);
}

#[test]
fn production_runs_what_its_ring_names_and_moves_by_a_commit() {
    let (canary, production) = (Engine::start(), Engine::start());
    for engine in [&canary, &production] {
        engine.image("lab/app:1", &Image::idle());
        engine.image("lab/app:2", &Image::idle());
    }
    let server = GitServer::http(Some("s3cret-token"));
    let alice = Signer::new("alice");
    let bare = server.repository("fleet.git");
    let hosts = [
        Host::new("alpha", &canary, &server, "fleet.git", &[&alice]),
        Host::new("bravo", &production, &server, "fleet.git", &[&alice]),
    ];
    for host in &hosts {
        host.use_token("s3cret-token");
    }
    let mut fleet = Fleet::new(&bare);
    let publish = |fleet: &mut Fleet, message: &str| {
        let revision = fleet.commit(Signing::By(&alice), message);
        fleet.push();
        revision
    };
    let stack = |tag: &str| format!("services:\n  app: {{ image: 'lab/app:{tag}', stop_grace_period: 1s }}\n");
    fleet.allow(&[&alice]).write("moorline.yaml", "version: 1\n");
    fleet.write("rings/canary.yaml", "follow: main\n").write("rings/production.yaml", "follow: main\n");
    fleet.write("hosts/alpha/host.yaml", "ring: canary\nstacks: [app]\n");
    fleet.write("hosts/bravo/host.yaml", "ring: production\nstacks: [app]\n");
    fleet.write("stacks/app/compose.yaml", stack("1"));
    let first = publish(&mut fleet, "first");
    fleet.write("rings/production.yaml", format!("commit: {first}\n"));
    publish(&mut fleet, "production names its revision");
    hosts.iter().for_each(|host| drop(host.converges()));

    fleet.write("stacks/app/compose.yaml", stack("2"));
    let second = publish(&mut fleet, "app 2");
    hosts.iter().for_each(|host| drop(host.converges()));
    let image = |engine: &Engine| engine.inspect("app-app-1")["Config"]["Image"].clone();
    assert_eq!((image(&canary), image(&production)), ("lab/app:2".into(), "lab/app:1".into()));

    fleet.write("rings/production.yaml", format!("commit: {second}\n"));
    publish(&mut fleet, "promote");
    hosts.iter().for_each(|host| drop(host.converges()));
    assert_eq!(image(&production), "lab/app:2");

    // Back is a promotion of an older revision.
    fleet.write("rings/production.yaml", format!("commit: {first}\n"));
    publish(&mut fleet, "back");
    hosts[1].converges();
    assert_eq!(image(&production), "lab/app:1");

    fleet.write("rings/production.yaml", format!("commit: {second}\nhalt: audit\n"));
    publish(&mut fleet, "halt");
    hosts[1].moorline(&["courier", "--once"]).succeeds();
    let ran = hosts[1].moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(4), "{ran}");
    assert!(ran.stderr.contains("error[halted]: ring production is halted: audit"), "{ran}");
    assert_eq!(image(&production), "lab/app:1");

    fleet.write("rings/production.yaml", "commit: 00000000000000000000000000000000000000aa\n");
    publish(&mut fleet, "a revision that nobody has seen");
    hosts[1].moorline(&["courier", "--once"]).succeeds();
    let ran = hosts[1].moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(13), "{ran}");
    assert!(ran.stderr.contains("error[revision-not-accepted]"), "{ran}");
    assert_eq!(image(&production), "lab/app:1");
}
