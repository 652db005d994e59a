//! Self-update with real programs: the `moorline` under test is the package's, and others are copies of it with a few bytes
//! more, which run just the same, or scripts that do not.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod states;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};
use support::git_server::Door;
use support::mooring::furnish;
use support::strace::{Moment, moments, was_killed};
use support::{Engine, Host, Lab, Run as _, Scratch, Service, Status, Vps, until};

/// How long a trial may take here, as a unit's `WatchdogSec` says it: in microseconds.
const WATCHDOG: &str = "15000000";

/// The program under test, and so many bytes that mean nothing to anybody.
fn another(marks: &str) -> Vec<u8> {
    let mut program = fs::read(env!("CARGO_BIN_EXE_moorline")).unwrap();
    program.extend_from_slice(marks.as_bytes());
    program
}

fn sha256(program: &[u8]) -> String {
    Sha256::digest(program).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `moorline.yaml` that names a version.
fn naming(version: &str, url: &str, program: &[u8]) -> String {
    format!(
        "version: 1\nagent:\n  canary:\n    version: {version}\n    url: {url}\n    sha256: \"{}\"\n",
        sha256(program)
    )
}

/// What `agent.json` holds.
fn record(host: &Host) -> Json {
    let text = fs::read_to_string(host.state().join("agent.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// The program that a process is.
fn program_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default()
}

/// Waits until this version was chosen.
#[track_caller]
fn chosen(host: &Host, version: &str) {
    until(&format!("{version} runs"), || (record(host)["chosen"]["version"] == version).then_some(()));
}

/// Waits until this version was refused; why.
#[track_caller]
fn refused(host: &Host, version: &str) -> String {
    until(&format!("{version} is refused"), || {
        let refused = &record(host)["refused"];
        (refused["release"]["version"] == version).then(|| refused["because"].as_str().unwrap_or_default().to_owned())
    })
}

/// Waits for a run that ended so.
#[track_caller]
fn last_run(host: &Host, what: &str, is_it: impl Fn(&Json) -> bool) -> Json {
    until(what, || {
        let status: Json = serde_json::from_str(&host.moorline(&["status", "--json"]).stdout).ok()?;
        is_it(&status["last_run"]).then(|| status["last_run"].clone())
    })
}

/// The host looks every second.
fn hurry(host: &Host) {
    let path = host.etc().join("agent.toml");
    let settings = fs::read_to_string(&path).unwrap();
    fs::write(path, settings.replace("poll = \"2s\"\n", "poll = \"1s\"\ninterval = \"1s\"\n")).unwrap();
}

/// `moorline run`, with a watchdog's time and nobody who listens for it.
fn keeper(host: &Host) -> Service {
    let mut command = host.command(&["run"]);
    command.env("WATCHDOG_USEC", WATCHDOG);
    let log = fs::OpenOptions::new().create(true).append(true).open(host.etc().join("run.log")).unwrap();
    command.stderr(log);
    Service::spawn(command)
}

/// Makes a certificate for this machine, and an authority that says that it is one.
#[track_caller]
fn certify(scratch: &Scratch) {
    let openssl = |arguments: &str| {
        scratch.command("openssl").args(arguments.split(' ')).current_dir(scratch.path()).run().succeeds();
    };
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("{new} -x509 -days 2 -subj /CN=lab-authority -keyout authority.key -out authority.crt"));
    openssl(&format!("{new} -subj /CN=lab-server -keyout server.key -out server.csr"));
    scratch.write("names", "subjectAltName = DNS:localhost, IP:127.0.0.1\n");
    openssl(
        "x509 -req -days 2 -CA authority.crt -CAkey authority.key -CAcreateserial -extfile names -in server.csr -out \
         server.crt",
    );
}

/// A server of files over HTTPS, with a certificate of an authority of its own.
struct Releases {
    scratch: Scratch,
    _process: Server,
    port: u16,
}

impl Releases {
    #[track_caller]
    fn start() -> Self {
        let scratch = Scratch::new();
        certify(&scratch);
        let (served, log) = (scratch.directory("served"), scratch.join("log"));
        let mut rclone = scratch.command("rclone");
        // It serves files like any other server, and says where it listens.
        rclone.args(["serve", "webdav", "--config=", "--addr=127.0.0.1:0", "--dir-cache-time=0"]);
        rclone.arg(format!("--cert={}", scratch.join("server.crt").display()));
        rclone.arg(format!("--key={}", scratch.join("server.key").display())).arg(served);
        rclone.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let mut releases = Self { _process: Server(rclone.spawn().expect("rclone starts")), scratch, port: 0 };
        releases.port = until("rclone listens", || {
            let log = fs::read_to_string(&log).ok()?;
            let (_, after) = log.split_once("://127.0.0.1:")?;
            after.split_once('/')?.0.parse().ok()
        });
        releases
    }

    /// Serves a program; its URL.
    fn serve(&self, name: &str, program: &[u8]) -> String {
        self.scratch.write(format!("served/{name}"), program);
        format!("https://localhost:{}/{name}", self.port)
    }
}

/// A process that is ended with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_named_version_is_fetched_tried_and_runs_and_one_that_does_not_do_is_refused() {
    let mut lab = Lab::new();
    hurry(&lab.host);
    lab.deploy("first");
    let before = lab.containers("web");
    let releases = Releases::start();
    let mut keeper = keeper(&lab.host);
    let mut courier = lab.host.command(&["courier"]);
    courier.env("SSL_CERT_FILE", releases.scratch.join("authority.crt"));
    let courier = Service::spawn(courier);

    // At first something else lies there.
    let next = another("next");
    let url = releases.serve("next", b"something else");
    lab.fleet.write("moorline.yaml", naming("0.2.0", &url, &next));
    lab.publish("a version");
    let told = last_run(&lab.host, "other content is told", |run| run["fault"]["code"] == "release-unfetched");
    assert!(told["fault"]["hint"].as_str().unwrap().contains("sha256sum"), "{told}");
    assert!(told["fault"]["because"].to_string().contains("its SHA-256 is "), "{told}");
    assert!(!lab.host.state().join("agents").join(format!("0.2.0-{}", &sha256(&next)[..16])).exists());
    lab.push.wait_for_beats("alpha", 1);
    until("Kuma hears of it", || lab.push.beats("alpha").iter().any(|beat| beat.status == Status::Down).then_some(()));

    // Another commit names another program: what was wrong is forgotten, and this one passes.
    let url = releases.serve("next-2", &next);
    lab.fleet.write("moorline.yaml", naming("0.2.0", &url, &next));
    lab.publish("where it lies");
    chosen(&lab.host, "0.2.0");
    let its_own = lab.host.state().join("agents").join(format!("0.2.0-{}", &sha256(&next)[..16])).join("moorline");
    for service in [&keeper, &courier] {
        until("the service became it", || (program_of(service.pid()) == its_own).then_some(()));
    }
    last_run(&lab.host, "all is well", |run| run["end"] == "converged");
    let status = lab.host.moorline(&["status"]).succeeds();
    assert!(status.contains("version   0.2.0 (") && !status.contains("update "), "{status}");
    let shown = lab.host.moorline(&["doctor"]).stdout;
    assert!(shown.contains("ok    version          0.2.0 ("), "{shown}");

    // One that ends at once, one that does not come to an end.
    for (version, script, why) in [
        ("0.3.0", "#!/bin/sh\nexit 1\n", "it ended by itself: exit status: 1"),
        ("0.3.1", "#!/bin/sh\n[ -z \"$NOTIFY_SOCKET$WATCHDOG_USEC\" ] && exec sleep 1000\n", "within 15 s"),
    ] {
        let url = releases.serve(version, script.as_bytes());
        lab.fleet.write("moorline.yaml", naming(version, &url, script.as_bytes()));
        lab.publish(version);
        let because = refused(&lab.host, version);
        assert!(because.contains(why), "{because}");
        until("the one before is back", || (program_of(keeper.pid()) == its_own).then_some(()));
        let told = last_run(&lab.host, "it is told", |run| run["fault"]["code"] == "release-refused");
        assert_eq!(told["end"], "degraded", "{told}");
        let status = lab.host.moorline(&["status"]).succeeds();
        assert!(status.contains("version   0.2.0 (") && status.contains(&format!("update    {version} (")), "{status}");
    }

    assert_eq!(lab.containers("web"), before, "no container was touched");
    keeper.signal("TERM");
    assert_eq!(keeper.ends(), Some(0));
}

#[test]
fn what_is_cut_too_large_or_sent_in_clear_is_not_kept_and_another_server_may_have_it() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let scratch = Scratch::new();
    certify(&scratch);
    // It sends files as they are, head and all.
    let mut server = scratch.command("openssl");
    server.args(["s_server", "-accept", "127.0.0.1:0", "-cert", "server.crt", "-key", "server.key", "-HTTP"]);
    let log = scratch.join("log");
    server.current_dir(scratch.path()).stdin(Stdio::null()).stdout(fs::File::create(&log).unwrap());
    let _server = Server(server.spawn().expect("openssl starts"));
    let port = until("openssl listens", || {
        let log = fs::read_to_string(&log).ok()?;
        Some(log.split_once("ACCEPT 127.0.0.1:")?.1.lines().next()?.trim().to_owned())
    });
    let program = another("next");
    let heads = [
        ("cut", "200 OK\r\nContent-Length: 1000000\r\n\r\nhalf of it", "error decoding response body"),
        ("huge", "200 OK\r\nContent-Length: 1000000000000\r\n\r\n", "it is larger than 512 MiB"),
        (
            "in-clear",
            "302 Found\r\nLocation: http://localhost:1/moorline\r\nContent-Length: 0\r\n\r\n",
            "error following redirect",
        ),
        ("missing", "404 Not Found\r\nContent-Length: 0\r\n\r\n", "the answer was 404"),
    ];
    for (name, answer, why) in heads {
        scratch.write(name, format!("HTTP/1.0 {answer}"));
        lab.fleet.write("moorline.yaml", naming("0.2.0", &format!("https://localhost:{port}/{name}"), &program));
        lab.publish(name);
        fetched(&lab.host);
        lab.host.moorline(&["reconcile"]).succeeds();
        let courier = |authority: &Path| lab.host.command(&["courier", "--once"]).env("SSL_CERT_FILE", authority).run();
        let said = courier(&scratch.join("authority.crt")).fails();
        assert!(said.contains("error[release-unfetched]") && said.contains(why), "{name}: {said}");
        assert_eq!(fs::read_dir(lab.host.state().join("downloads")).unwrap().count(), 0, "{name}");
        // Nor is a server believed that this host does not know.
        if name == "cut" {
            assert!(courier(&scratch.join("server.crt")).fails().contains("certificate"));
        }
    }

    // As forges do with their releases: what counts is what comes.
    let sent_on = format!("302 Found\r\nLocation: https://127.0.0.1:{port}/program\r\nContent-Length: 0\r\n\r\n");
    scratch.write("sent-on", format!("HTTP/1.0 {sent_on}"));
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", program.len());
    scratch.write("program", [head.as_bytes(), &program].concat());
    lab.fleet.write("moorline.yaml", naming("0.2.0", &format!("https://localhost:{port}/sent-on"), &program));
    lab.publish("sent on");
    fetched(&lab.host);
    lab.host.moorline(&["reconcile"]).succeeds();
    lab.host.command(&["courier", "--once"]).env("SSL_CERT_FILE", scratch.join("authority.crt")).run().succeeds();
    assert!(lab.host.state().join("downloads").join(sha256(&program)).exists());
}

/// Names a program, and lays it where the courier would.
#[track_caller]
fn offer(lab: &mut Lab, version: &str, program: &[u8]) {
    lab.fleet.write("moorline.yaml", naming(version, "https://localhost:1/moorline", program));
    lab.publish(version);
    fetched(&lab.host);
    let downloads = lab.host.state().join("downloads");
    fs::create_dir_all(&downloads).unwrap();
    fs::write(downloads.join(sha256(program)), program).unwrap();
}

/// The courier fetches the tip; what it makes of a version that nobody serves does not matter.
#[track_caller]
fn fetched(host: &Host) {
    let ran = host.moorline(&["courier", "--once"]);
    assert!(ran.stderr.contains("tip fetched"), "{ran}");
}

#[test]
fn what_a_trial_would_do_and_ends_soon_after_it_lead_back() {
    let mut lab = Lab::new();
    hurry(&lab.host);
    lab.deploy("first");
    let mut running = keeper(&lab.host);

    // It would carry out steps, says its report; a real one plans what nobody expects.
    let acts = "#!/bin/sh\nstate=$(dirname \"$0\")/../..\nrun=29990101T000000.000Z-$$\nlast=$(ls \"$state\"/runs/*.json | tail -n 1)\n\
                sed -e \"s/\\\"run\\\": \\\"[^\\\"]*\\\"/\\\"run\\\": \\\"$run\\\"/\" -e 's/\"end\": \"[a-z]*\"/\"end\": \"faulted\", \
                \"fault\": { \"code\": \"trial-failed\", \"sentence\": \"it would carry out 2 steps\", \"mover\": \"next-run\" }/' \
                \"$last\" >\"$state/$run\" && mv \"$state/$run\" \"$state/runs/$run.json\"\nexec sleep 1000\n";
    offer(&mut lab, "0.2.0", acts.as_bytes());
    assert_eq!(refused(&lab.host, "0.2.0"), "it would carry out 2 steps");
    fs::remove_file(newest_run(&lab.host)).unwrap();

    // A person may want it to be tried again; it is no other.
    until("it is to be tried again", || {
        let ran = lab.host.moorline(&["retry"]);
        (ran.code != Some(11)).then(|| ran.succeeds())
    });

    // It passes, and then ends each time.
    let soon = format!(
        "#!/bin/sh\nhere=$(dirname \"$0\")\n[ -e \"$here/once\" ] && exit 1\n: >\"$here/once\"\ncp {} \"$here/real\"\nexec \
         \"$here/real\" \"$@\"\n",
        env!("CARGO_BIN_EXE_moorline")
    );
    offer(&mut lab, "0.3.0", soon.as_bytes());
    assert_eq!(running.ends(), Some(1), "{}", Service::log(&lab.host, "run"));
    assert_eq!(record(&lab.host)["chosen"]["version"], "0.3.0");
    for _ in 0..3 {
        assert_eq!(keeper(&lab.host).ends(), Some(1));
    }
    let mut back = keeper(&lab.host);
    assert_eq!(refused(&lab.host, "0.3.0"), "it passed its trial, and ended 3 times soon after");
    until("the package's is back", || {
        (program_of(back.pid()) == Path::new(env!("CARGO_BIN_EXE_moorline"))).then_some(())
    });
    last_run(&lab.host, "it is told", |run| run["fault"]["code"] == "release-refused");
    back.signal("TERM");
    assert_eq!(back.ends(), Some(0));
}

fn newest_run(host: &Host) -> PathBuf {
    let mut runs: Vec<PathBuf> =
        fs::read_dir(host.state().join("runs")).unwrap().map(|run| run.unwrap().path()).collect();
    runs.sort();
    runs.pop().unwrap()
}

#[test]
fn a_self_update_that_is_killed_at_a_write_ends_on_one_of_the_two() {
    let mut lab = Lab::new();
    hurry(&lab.host);
    lab.deploy("first");
    let program = another("x");
    offer(&mut lab, "0.2.0", &program);
    let (state, log) = (lab.host.state(), lab.host.etc().join("strace.log"));
    let traced = |host: &Host, options: &[String]| {
        let alone = host.command(&["run"]);
        let mut command = Command::new(support::tools::tool("strace"));
        command.arg("-qq").args(options).arg("-o").arg(&log);
        command.env_clear().envs(alone.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("WATCHDOG_USEC", WATCHDOG).arg(alone.get_program()).args(alone.get_args());
        Service::spawn(command)
    };
    let begin_anew = |host: &Host| {
        fs::remove_dir_all(state.join("agents")).ok();
        fs::remove_file(state.join("agent.json")).ok();
        fs::write(state.join("downloads").join(sha256(&program)), &program).unwrap();
        // So that the next run reads what is named.
        host.moorline(&["reconcile"]).succeeds();
    };

    // One that nobody kills, to see its moments.
    let mut uncut = traced(&lab.host, &["-e".into(), "trace=rename".into()]);
    chosen(&lab.host, "0.2.0");
    let its_own = state.join("agents").join(format!("0.2.0-{}", &sha256(&program)[..16])).join("moorline");
    let holder = || {
        let lock: Json = serde_json::from_slice(&fs::read(lab.host.run_directory().join("agent.lock")).ok()?).ok()?;
        u32::try_from(lock["pid"].as_u64()?).ok().filter(|pid| program_of(*pid) == its_own)
    };
    let pid = until("the keeper became it", || holder().filter(|_| !record(&lab.host)["trial"].is_object()));
    Command::new("kill").args(["-s", "TERM", &pid.to_string()]).run().succeeds();
    assert_eq!(uncut.ends(), Some(0));
    let all = moments(&log, false, "agent");
    let ours: Vec<Moment> = all.iter().filter(|(_, is_ours)| *is_ours).map(|(moment, _)| moment.clone()).collect();
    assert!(ours.len() >= 4, "{ours:?}");

    for moment in ours {
        lab.publish(&moment.to_string());
        fetched(&lab.host);
        begin_anew(&lab.host);
        let mut cut = traced(&lab.host, &moment.kill());
        assert_eq!(cut.ends(), None, "{moment}");
        assert!(was_killed(&log), "{moment}");
        let again = keeper(&lab.host);
        until("one of the two runs, and says so", || {
            let state = record(&lab.host);
            (state["chosen"].is_object() || state["refused"].is_object()).then_some(())
        });
        let is_well = |run: &Json| {
            let code = &run["fault"]["code"];
            run["outcomes"].as_array().is_some_and(Vec::is_empty) && (code.is_null() || code == "release-refused")
        };
        last_run(&lab.host, &format!("{moment}: the host is as it should be"), is_well);
        drop(again);
    }
}

#[test]
fn a_power_cut_in_a_trial_leaves_a_host_that_runs_one_of_the_two() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    lab.fleet.write("hosts/alpha/host.yaml", "ring: canary\nstacks: [web]\nvars: { MESSAGE: hello }\n");
    let (vps, _door) = moor(&mut lab, &engine);

    // A version that hangs the first time.
    let slow = "#!/bin/sh\nhere=$(dirname \"$0\")\n[ -e \"$here/real\" ] || { cp /usr/bin/moorline \"$here/new\"; mv \"$here/new\" \"$here/real\"; sleep 1000; }\nexec \
                \"$here/real\" \"$@\"\n";
    hand_over(&mut lab, &vps, "0.2.0", slow.as_bytes());
    let real = format!("/var/lib/moorline/agents/0.2.0-{}/real", &sha256(slow.as_bytes())[..16]);
    until("it is on trial", || vps.exec(&["test", "-s", &real]).is_success().then_some(()));
    assert!(vps.journal("moorline.service").contains("trial began"));
    vps.cut_power();
    vps.power_on();
    ended_well(&vps);
    let chosen = || vps.exec(&["cat", "/var/lib/moorline/agent.json"]).stdout.contains("\"probation\"");
    until("it was tried again, and passed", || chosen().then_some(()));

    // Another one passes, and systemd sees one service all the time.
    let next = another("next");
    let (pid, starts) = (vps.property("moorline.service", "MainPID"), vps.property("moorline.service", "NRestarts"));
    hand_over(&mut lab, &vps, "0.3.0", &next);
    let its_own = format!("/var/lib/moorline/agents/0.3.0-{}/moorline", &sha256(&next)[..16]);
    let program = |pid: &str| vps.exec(&["readlink", &format!("/proc/{pid}/exe")]).stdout.trim().to_owned();
    until("it runs", || (program(&pid) == its_own).then_some(()));
    assert_eq!(vps.property("moorline.service", "MainPID"), pid);
    assert_eq!(vps.property("moorline.service", "NRestarts"), starts);
    assert_eq!(vps.property("moorline.service", "ActiveState"), "active");
    vps.cut_power();
    vps.power_on();
    ended_well(&vps);
    assert_eq!(program(&vps.property("moorline.service", "MainPID")), its_own);
    assert_eq!(program(&vps.property("moorline-courier.service", "MainPID")), its_own);
}

/// Publishes, boots the host `alpha` with the units that we ship, and waits until it is as its ring says.
#[track_caller]
fn moor<'engine>(lab: &mut Lab, engine: &'engine Engine) -> (Vps<'engine>, Door) {
    lab.publish("first");
    let vps = Vps::boot(engine, "trixie", "alpha");
    vps.load(&["lab/db:1", "lab/web:1"]);
    let door = lab.server.door(engine);
    furnish(&vps, &lab.host, (&lab.server, &door), "poll = \"1s\"\ninterval = \"1s\"\n", "");
    vps.systemctl(&["enable", "--now", "moorline-secrets.service", "moorline-courier.service", "moorline.service"]);
    ended_well(&vps);
    (vps, door)
}

/// Lays a program where the courier would, and names it.
#[track_caller]
fn hand_over(lab: &mut Lab, vps: &Vps<'_>, version: &str, program: &[u8]) {
    let digest = sha256(program);
    vps.write(&format!("/var/lib/moorline/downloads/{digest}"), "0644", program);
    lab.fleet.write("moorline.yaml", naming(version, "https://localhost:1/moorline", program));
    lab.publish(version);
}

/// Waits for a run whose containers are as they should be.
#[track_caller]
fn ended_well(vps: &Vps<'_>) {
    until("the host is as its ring says", || {
        let status = vps.exec(&["moorline", "status", "--json"]).stdout;
        let status: Json = serde_json::from_str(&status).ok()?;
        let code = &status["last_run"]["fault"]["code"];
        let is_well = status["last_run"]["end"] == "converged" || code == "release-refused";
        let running = vps.journal("moorline.service");
        (is_well && running.contains("run ended")).then_some(())
    });
}
