//! The main job on real neighbours: a signed commit on a real git server becomes containers on a real engine.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeSet;

use support::lab::WEB;
use support::{Image, Lab, Run as _, Status};

#[test]
fn a_signed_commit_becomes_containers_and_kuma_knows() {
    let mut lab = Lab::new();
    let revision = lab.publish("first");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let plan = lab.host.moorline(&["plan", "--exit-code"]);
    assert_eq!(plan.code, Some(3), "{plan}");
    let report = lab.host.moorline(&["reconcile"]).succeeds();
    assert!(report.contains(&format!("converged at {}, 5 steps", &revision[..8])), "{report}");
    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), "hello");
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-1");

    lab.host.moorline(&["courier", "--once"]).succeeds();
    let beats = lab.push.beats("alpha");
    assert_eq!(beats.len(), 1);
    assert_eq!(beats[0].status, Status::Up);
    let status = lab.host.status();
    assert_eq!(status["anchor"]["revision"], revision);
    assert_eq!(status["last_run"]["end"], "converged");
    assert_eq!(lab.host.moorline(&["status", "--check"]).code, Some(0));
}

#[test]
fn what_runs_is_a_compose_project_that_a_person_can_operate() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let before = lab.containers("web");
    let directory = lab.host.stack("web");
    lab.engine.compose(&directory, &["up", "-d"]).succeeds();
    assert_eq!(lab.containers("web"), before, "`up -d` by hand must change nothing");
    assert!(lab.engine.compose(&directory, &["ps"]).succeeds().contains("web-db-1"));
    assert!(lab.engine.compose(&directory, &["logs", "web"]).succeeds().contains("serving"));
    assert!(lab.engine.compose(&directory, &["ls"]).succeeds().contains("web"));
    assert_eq!(lab.exec("web", "db", &["echo", "here"]), "here");
    // And from anywhere, without files, by its name.
    let elsewhere = lab.engine.scratch().directory("elsewhere");
    assert!(lab.engine.compose(&elsewhere, &["-p", "web", "ps"]).succeeds().contains("web-web-1"));
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn a_run_with_nothing_new_plans_nothing_and_starts_no_program() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let before = lab.containers("web");
    let plan = lab.host.moorline(&["plan", "--exit-code"]);
    assert_eq!(plan.code, Some(0), "{plan}");
    assert!(plan.stdout.contains("nothing to do"), "{plan}");

    let moorline = lab.host.command(&["reconcile"]);
    let mut traced = lab.engine.scratch().command("strace");
    let log = lab.engine.scratch().join("strace.log");
    traced.args(["-f", "-e", "trace=execve", "-o"]).arg(&log).arg(moorline.get_program()).args(moorline.get_args());
    assert!(traced.run().succeeds().contains("nothing to do"));
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("execve(").count(), 1, "{log}");
    assert_eq!(lab.containers("web"), before);
}

#[test]
fn only_the_service_that_changed_is_recreated() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let before = lab.containers("web");
    lab.engine.image("lab/web:2", &Image::web());
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", "lab/web:2"));
    lab.publish("web 2");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let plan = lab.host.moorline(&["plan"]).succeeds();
    assert!(plan.contains("because web image: lab/web:1 -> lab/web:2"), "{plan}");
    lab.host.moorline(&["reconcile"]).succeeds();
    let after = lab.containers("web");
    assert_eq!(after["db"], before["db"]);
    assert_ne!(after["web"], before["web"]);
}

#[test]
fn a_rotated_secret_recreates_exactly_its_users() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let before = lab.containers("web");
    lab.secrets("web:\n  TOKEN: canary-token-2\n");
    lab.publish("rotate");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let plan = lab.host.moorline(&["plan"]).succeeds();
    assert!(plan.contains("web mounts content that changed") && !plan.contains("canary-token"), "{plan}");
    lab.host.moorline(&["reconcile"]).succeeds();
    let after = lab.containers("web");
    assert_eq!(after["db"], before["db"]);
    assert_ne!(after["web"], before["web"]);
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-2");
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
}

#[test]
fn a_changed_file_that_a_service_mounts_recreates_it_and_a_watching_service_sees_it() {
    let mut lab = Lab::new();
    let stack = "\
services:
  reader: { image: lab/db:1, volumes: ['./files:/files:ro'], stop_grace_period: 1s }
  watcher: { image: lab/db:1, volumes: ['./files:/files:ro'], stop_grace_period: 1s, x-moorline: { reload: watch } }
  other: { image: lab/db:1, stop_grace_period: 1s }
";
    lab.host_yaml("[files]");
    lab.secrets("");
    lab.fleet.write("stacks/files/compose.yaml", stack).write("stacks/files/files/conf", "one");
    lab.deploy("first");
    let before = lab.containers("files");
    lab.fleet.write("stacks/files/files/conf", "two");
    lab.deploy("second");
    let after = lab.containers("files");
    assert_ne!(after["reader"], before["reader"]);
    assert_eq!((&after["watcher"], &after["other"]), (&before["watcher"], &before["other"]));
    for service in ["reader", "watcher"] {
        assert_eq!(lab.exec("files", service, &["cat", "/files/conf"]), "two");
    }
}

#[test]
fn a_dropped_service_and_a_dropped_stack_go_and_their_volumes_stay() {
    let mut lab = Lab::new();
    let with_volume = WEB.replace("  db:\n", "  db:\n    volumes: ['data:/data']\n") + "volumes: { data: {} }\n";
    lab.fleet.write("stacks/web/compose.yaml", &with_volume);
    lab.fleet.write("stacks/other/compose.yaml", "services:\n  a: { image: lab/db:1, stop_grace_period: 1s }\n");
    lab.host_yaml("[web, other]");
    lab.deploy("first");
    lab.exec("web", "db", &["touch", "/data/kept"]);
    // A person's own file in the stack's directory is not ours to remove.
    std::fs::write(lab.host.stack("other").join("notes.txt"), "mine").unwrap();

    let without_db =
        "services:\n  web:\n    image: lab/web:1\n    stop_grace_period: 1s\n    environment: { MESSAGE: x }\n";
    lab.fleet.write("stacks/web/compose.yaml", without_db);
    lab.host_yaml("[web]");
    lab.deploy("less");
    assert_eq!(lab.containers("web").into_keys().collect::<Vec<_>>(), ["web"]);
    assert!(lab.containers("other").is_empty());
    assert!(lab.engine.docker(&["volume", "ls", "-q"]).succeeds().contains("web_data"));
    assert!(!lab.host.stack("other").join("compose.yaml").exists());
    assert!(lab.host.stack("other").join("notes.txt").exists());

    lab.fleet.write("stacks/web/compose.yaml", &with_volume);
    lab.deploy("back");
    assert_eq!(lab.exec("web", "db", &["ls", "/data"]), "kept");
}

#[test]
fn one_image_that_cannot_be_had_leaves_everything_as_it_was() {
    let mut lab = Lab::new();
    lab.deploy("first");
    let before = lab.containers("web");
    let broken =
        WEB.replace("lab/web:1", "127.0.0.1:9/lab/web:9").replace("lab/db:1", "lab/db:1\n    labels: { a: b }");
    lab.fleet.write("stacks/web/compose.yaml", broken);
    lab.publish("missing");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[image-unavailable]: pull of web failed"), "{ran}");
    assert!(ran.stderr.contains("127.0.0.1:9/lab/web:9 cannot be pulled"), "{ran}");
    assert_eq!(lab.containers("web"), before);
    lab.host.moorline(&["courier", "--once"]).succeeds();
    assert_eq!(lab.push.beats("alpha").last().unwrap().status, Status::Down);
}

#[test]
fn a_broken_image_stops_at_the_gate_and_later_waves_are_not_touched_and_other_stacks_go_on() {
    let mut lab = Lab::new();
    lab.fleet.write("stacks/other/compose.yaml", "services:\n  a: { image: lab/db:1, stop_grace_period: 1s }\n");
    lab.host_yaml("[web, other]");
    lab.deploy("first");
    let before = lab.containers("web");
    lab.engine.image("lab/db:broken", &Image::exits(3));
    let broken = WEB.replace("lab/db:1", "lab/db:broken").replace("'${MESSAGE}'", "later");
    lab.fleet.write("stacks/web/compose.yaml", broken);
    lab.fleet.write(
        "stacks/other/compose.yaml",
        "services:\n  a: { image: lab/db:1, stop_grace_period: 1s, environment: { NEW: one } }\n",
    );
    let revision = lab.publish("broken");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("error[rolled-back]"), "{ran}");
    assert!(ran.stderr.contains("db of web did not become healthy"), "{ran}");
    assert!(ran.stderr.contains("web-db-1 exited with 3"), "{ran}");
    let after = lab.containers("web");
    assert_eq!(after["web"], before["web"], "the wave after the failed gate must not be touched");
    assert_eq!(lab.exec("other", "a", &["sh", "-c", "echo $NEW"]), "one");
    let status = lab.host.status();
    assert_eq!(status["anchor"]["revision"], revision, "it was signed, so it was accepted");
    assert_eq!(status["last_run"]["end"], "rolled-back");
    assert_eq!(lab.host.moorline(&["status", "--check"]).code, Some(1));
    lab.host.moorline(&["courier", "--once"]).succeeds();
    assert_eq!(lab.push.beats("alpha").last().unwrap().status, Status::Down);

    lab.fleet.write("stacks/web/compose.yaml", WEB);
    lab.deploy("mended");
    assert_eq!(lab.host.status()["last_run"]["end"], "converged");
}

#[test]
fn one_shots_run_once_and_a_run_with_nothing_new_does_not_run_them_again() {
    let mut lab = Lab::new();
    lab.engine.image("lab/init:1", &Image::exits(0));
    let stack = "\
services:
  init: { image: lab/init:1 }
  app: { image: lab/db:1, stop_grace_period: 1s, depends_on: { init: { condition: service_completed_successfully } } }
";
    lab.host_yaml("[job]");
    lab.secrets("");
    lab.fleet.write("stacks/job/compose.yaml", stack);
    lab.deploy("first");
    let started = || lab.engine.inspect("job-init-1")["State"]["StartedAt"].clone();
    let first = started();
    assert!(lab.host.moorline(&["reconcile"]).succeeds().contains("nothing to do"));
    assert_eq!(started(), first);
}

#[test]
fn foreign_containers_are_never_touched() {
    let mut lab = Lab::new();
    let elsewhere = lab.engine.scratch().directory("foreign");
    std::fs::write(elsewhere.join("compose.yaml"), "services:\n  x: { image: lab/db:1 }\n").unwrap();
    lab.engine.compose(&elsewhere, &["up", "-d"]).succeeds();
    lab.engine.docker(&["run", "-d", "--name", "lonely", "lab/db:1"]).succeeds();
    let foreign = || -> BTreeSet<String> {
        let listed = lab.engine.docker(&["ps", "-q", "--no-trunc"]).succeeds();
        listed.lines().map(str::to_owned).collect()
    };
    let before = foreign();
    lab.publish("first");
    lab.host.converges();
    assert!(before.is_subset(&{
        let listed = lab.engine.docker(&["ps", "-q", "--no-trunc"]).succeeds();
        listed.lines().map(str::to_owned).collect()
    }));
}
