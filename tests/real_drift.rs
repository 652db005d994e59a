//! What people do to containers and files of a real host behind moorline's back: it is put back, and kept for them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::process::{Child, Stdio};
use std::time::Duration;

use support::{Image, Lab, until, wait};

const STACK: &str = "\
services:
  web:
    image: lab/web:1
    environment: { MESSAGE: hello }
    restart: unless-stopped
    stop_grace_period: 1s
    volumes: ['./conf:/conf:ro']
  db: { image: lab/db:1, stop_grace_period: 1s }
  init: { image: lab/init:1 }
x-moorline: { deploy: { health_timeout: 15s } }
";

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.engine.image("lab/init:1", &Image::exits(0));
    lab.host_yaml("[web]");
    lab.secrets("");
    lab.fleet.write("stacks/web/compose.yaml", STACK).write("stacks/web/conf", "one\n");
    lab.deploy("first");
    lab
}

/// One run; it must plan something because of this, and leave nothing to do.
#[track_caller]
fn put_back(lab: &Lab, because: &str) {
    // The engine's list shows what `docker kill` did a moment after it returned.
    until(because, || lab.host.moorline(&["plan"]).succeeds().contains(because).then_some(()));
    let report = lab.host.moorline(&["reconcile"]).succeeds();
    assert!(report.contains("what was not as it was left is written down in"), "{report}");
    let again = lab.host.moorline(&["reconcile"]).succeeds();
    assert!(again.contains("nothing to do"), "{because}: {again}");
}

#[test]
fn what_was_stopped_killed_removed_renamed_paused_or_disconnected_is_put_back() {
    let lab = lab();
    let docker = |arguments: &[&str]| lab.engine.docker(arguments).succeeds();
    let started = |name: &str| lab.engine.inspect(name)["State"]["StartedAt"].clone();
    let (before, init) = (lab.containers("web"), started("web-init-1"));
    docker(&["stop", "web-web-1"]);
    put_back(&lab, "web was found exited (0)");
    docker(&["kill", "web-db-1"]);
    put_back(&lab, "db was found exited (137)");
    docker(&["rename", "web-db-1", "precious"]);
    put_back(&lab, "db was found renamed to precious");
    docker(&["pause", "web-db-1"]);
    put_back(&lab, "db was found paused");
    assert_eq!(lab.containers("web"), before, "none of these needs another container");
    docker(&["network", "disconnect", "web_default", "web-web-1"]);
    put_back(&lab, "web was found on other networks");
    docker(&["rm", "-f", "web-db-1"]);
    put_back(&lab, "db has no container");
    let after = lab.containers("web");
    assert!(after["db"] != before["db"] && after["init"] == before["init"]);
    assert_eq!(started("web-init-1"), init, "a one-shot that finished is no drift and is not run again");
    // Labels and the environment of a container cannot be changed from inside or outside while it lives.
}

/// Both end with 0 when they are asked to, and nothing in the stack says what they are for.
const BARE: &str = "\
services:
  worker: { image: lab/db:1, stop_grace_period: 1s }
  migrate: { image: lab/init:1 }
x-moorline: { deploy: { health_timeout: 15s } }
";

#[test]
fn after_a_restart_of_the_engine_a_service_without_policy_comes_back_and_a_one_shot_does_not() {
    let mut lab = lab();
    lab.fleet.write("stacks/web/compose.yaml", BARE);
    lab.deploy("bare");
    let started = |name: &str| lab.engine.inspect(name)["State"]["StartedAt"].clone();
    let migrated = started("web-migrate-1");
    lab.engine.stop();
    lab.engine.resume();
    let found = lab.engine.inspect("web-worker-1")["State"].clone();
    assert!(found["Running"] == false && found["ExitCode"] == 0, "{found}");
    put_back(&lab, "worker was found stopped by a restart of the host or its engine");
    assert_eq!(lab.engine.inspect("web-worker-1")["State"]["Running"], true);
    assert_eq!(started("web-migrate-1"), migrated);

    // Whoever ends while the engine lives has ended.
    lab.engine.docker(&["stop", "web-worker-1"]).succeeds();
    until("its end is seen", || {
        let report = lab.host.moorline(&["reconcile"]).succeeds();
        (lab.host.status()["services"].to_string().contains("exited")).then_some(report)
    });
    lab.engine.stop();
    lab.engine.resume();
    let report = lab.host.moorline(&["reconcile"]).succeeds();
    assert!(report.contains("nothing to do"), "{report}");
}

#[test]
fn edited_files_are_put_back_seen_by_their_users_and_kept_for_whoever_edited_them() {
    let lab = lab();
    let file = lab.host.stack("web").join("conf");
    let db = lab.engine.inspect("web-db-1")["State"]["StartedAt"].clone();
    // In place, so that the container sees it at once.
    std::fs::write(&file, "by hand\n").unwrap();
    assert_eq!(lab.exec("web", "web", &["cat", "/conf"]), "by hand");
    put_back(&lab, "conf was found edited");
    assert_eq!(lab.exec("web", "web", &["cat", "/conf"]), "one");
    assert_eq!(lab.engine.inspect("web-db-1")["State"]["StartedAt"], db, "who does not mount it is not touched");
    let kept: Vec<_> = std::fs::read_dir(lab.host.state().join("drift")).unwrap().collect();
    let kept = std::fs::read_to_string(kept.into_iter().next().unwrap().unwrap().path()).unwrap();
    assert!(kept.contains("--- web/conf\nby hand\n"), "{kept}");
    std::fs::remove_file(lab.host.stack("web").join(".env")).unwrap();
    put_back(&lab, ".env was found gone");
    // What is not ours stays.
    std::fs::write(lab.host.stack("web").join("notes.txt"), "mine").unwrap();
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn a_held_stack_is_left_as_a_person_made_it_until_the_hold_ends() {
    let lab = lab();
    for wrong in [&["hold", "--for", "4h"][..], &["hold", "--reason", "x"], &["hold", "--for", "25h", "--reason", "x"]]
    {
        assert_eq!(lab.host.moorline(wrong).code, Some(2), "{wrong:?}");
    }
    assert_eq!(lab.host.moorline(&["hold", "--for", "1h", "--reason", "x", "--stack", "wbe"]).code, Some(2));
    lab.host.moorline(&["hold", "--for", "1h", "--reason", "moving the data", "--stack", "web"]).succeeds();
    lab.engine.docker(&["kill", "web-db-1"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(4), "{ran}");
    assert!(lab.host.moorline(&["status"]).succeeds().contains("moving the data"));
    assert_eq!(lab.engine.inspect("web-db-1")["State"]["Running"], false);
    lab.host.moorline(&["courier", "--once"]).succeeds();
    assert!(lab.push.beats("alpha").last().unwrap().msg.contains("web is held by"));
    // Its end, without waiting for it.
    lab.host.moorline(&["hold", "--for", "1s", "--reason", "moving the data", "--stack", "web"]).succeeds();
    wait::within(Duration::from_secs(20), "the hold ends", || {
        let ran = lab.host.moorline(&["reconcile"]);
        (ran.code == Some(0)).then_some(())
    });
    assert_eq!(lab.engine.inspect("web-db-1")["State"]["Running"], true);
    let kept = std::fs::read_dir(lab.host.state().join("drift")).unwrap().next().unwrap().unwrap().path();
    let kept = std::fs::read_to_string(kept).unwrap();
    assert!(kept.contains("db was found exited (137)") && kept.contains("moving the data"), "{kept}");
}

#[test]
fn what_a_compose_that_was_killed_left_is_put_right() {
    let lab = lab();
    for old_is_there in [true, false] {
        let id = lab.containers("web")["db"].clone();
        let temporary = format!("{}_web-db-1", &id[..12]);
        if old_is_there {
            // As Compose does it: the new one is made beside the old one.
            let mut made = vec!["create".to_owned(), "--name".into(), temporary.clone()];
            let labels = lab.engine.inspect("web-db-1")["Config"]["Labels"].clone();
            for (name, value) in labels.as_object().unwrap() {
                made.extend(["--label".to_owned(), format!("{name}={}", value.as_str().unwrap())]);
            }
            made.push("lab/db:1".into());
            lab.engine.docker(&made.iter().map(String::as_str).collect::<Vec<_>>()).succeeds();
        } else {
            lab.engine.docker(&["rename", "web-db-1", &temporary]).succeeds();
        }
        let plan = lab.host.moorline(&["plan"]).succeeds();
        assert!(plan.contains("compose was killed while it replaced db"), "{plan}");
        lab.host.moorline(&["reconcile"]).succeeds();
        assert_eq!(lab.containers("web")["db"], id);
        assert_eq!(lab.engine.inspect("web-db-1")["State"]["Running"], true);
        assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
    }
}

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_agent_hears_of_drift_from_the_engine_and_not_only_from_the_clock() {
    let lab = lab();
    let mut command = lab.host.command(&["run"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _agent = Agent(command.spawn().expect("moorline starts"));
    until("the agent's first run", || (lab.host.status()["last_run"]["occasion"] == "start").then_some(()));
    // The first event may come before the agent listens; then it hears of the next one.
    wait::within(Duration::from_secs(60), "the agent wakes", || {
        // It may be stopped already.
        let _ = lab.engine.docker(&["kill", "web-db-1"]);
        std::thread::sleep(Duration::from_secs(3));
        (lab.host.status()["last_run"]["occasion"] == "drift").then_some(())
    });
    until("it is put back", || (lab.engine.inspect("web-db-1")["State"]["Running"] == true).then_some(()));
}
