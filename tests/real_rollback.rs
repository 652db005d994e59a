//! Deploys that fail on a real engine: the last good version comes back with no git server and no registry.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use serde_json::Value as Json;
use support::lab::WEB;
use support::{Image, Lab, Run as _, Status};

const PASSWORD: &str = "canary-backup-password-9d";

/// A program that shows its secret and then gives up.
fn talks_and_dies() -> Image {
    Image::command(&[
        "sh",
        "-c",
        "echo one; echo token is $(cat /run/secrets/token); cat /run/secrets/token | od -An -tx1 | tr -d ' \\n'; \
         for i in $(seq 60); do echo line $i; done; echo $(cat /run/secrets/token) again; exit 7",
    ])
}

fn last_run(lab: &Lab) -> Json {
    lab.host.status()["last_run"].clone()
}

#[test]
fn a_failed_deploy_goes_back_to_what_worked_with_git_and_registry_gone() {
    let mut lab = Lab::new();
    lab.fleet.write("stacks/other/compose.yaml", "services:\n  a: { image: lab/db:1, stop_grace_period: 1s }\n");
    lab.host_yaml("[web, other]");
    let first = lab.deploy("first");
    assert!(first.contains("converged"), "{first}");
    let good = lab.host.status()["stacks"]["web"]["revision"].as_str().unwrap().to_owned();
    let before = lab.containers("web");
    let directory = std::fs::read_to_string(lab.host.stack("web").join("compose.yaml")).unwrap();

    lab.engine.image("lab/web:broken", &talks_and_dies());
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", "lab/web:broken")).write("stacks/web/new", "x");
    lab.fleet.write(
        "stacks/other/compose.yaml",
        "services:\n  a: { image: lab/db:1, stop_grace_period: 1s, environment: { NEW: one } }\n",
    );
    // The secret changes too: the way back needs the old one, from the file that was sealed then.
    lab.secrets("web:\n  TOKEN: canary-token-2\n");
    lab.publish("broken");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    // No git server; and no registry ever had these images.
    lab.server.go_away();
    let ran = lab.host.moorline(&["reconcile"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let expected = format!("error[rolled-back]: web rolled back to {}: web of web did not become healthy", &good[..8]);
    assert!(ran.stderr.contains(&expected), "{ran}");

    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), "hello");
    assert_eq!(lab.exec("web", "web", &["cat", "/run/secrets/token"]), "canary-token-1");
    assert_eq!(lab.exec("other", "a", &["sh", "-c", "echo $NEW"]), "one", "other stacks go on");
    assert_eq!(lab.containers("web")["db"], before["db"], "what was not touched is not touched by the way back");
    assert_eq!(std::fs::read_to_string(lab.host.stack("web").join("compose.yaml")).unwrap(), directory);
    assert!(!lab.host.stack("web").join("new").exists());

    let report = last_run(&lab);
    let evidence = &report["evidence"][0];
    let log = evidence["log"].as_array().unwrap();
    assert_eq!((&evidence["service"], &evidence["exit_code"]), (&Json::from("web"), &Json::from(7)), "{report:#}");
    assert_eq!(log.len(), 50, "{log:?}");
    assert_eq!(log.last().unwrap(), "(secret) again");
    assert!(!report.to_string().contains("canary-token"), "{report:#}");
    let serving = report["rollbacks"][0]["serving_after_ms"].as_u64().unwrap();
    println!("from the verdict to the old version serving: {serving} ms");
    assert!(serving < 30_000);

    lab.server.come_back();
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let beat = lab.push.beats("alpha").last().unwrap().clone();
    assert_eq!(beat.status, Status::Down);
    assert!(beat.msg.starts_with(&format!("web rolled back to {}", &good[..8])), "{}", beat.msg);
    let status = lab.host.moorline(&["status"]).succeeds();
    assert!(status.contains(&format!("rolled back to {}; tried again at", &good[..8])), "{status}");

    // The wait of half a minute is the agent's; `retry` begins at once, and counts anew.
    let ran = lab.host.moorline(&["retry", "web"]);
    assert!(ran.stderr.contains("error[rolled-back]"), "{ran}");
    lab.fleet.write("stacks/web/compose.yaml", WEB);
    lab.deploy("mended");
    assert_eq!(last_run(&lab)["end"], "converged");
    assert_eq!(lab.host.moorline(&["retry"]).code, Some(2), "nothing is left to try again");
}

#[test]
fn what_a_deploy_left_half_done_before_it_failed_is_undone_too() {
    let mut lab = Lab::new();
    lab.deploy("first");
    // A port that is taken: Compose has removed the old container when it learns of it (docs/facts.md, C12).
    lab.engine.docker(&["run", "-d", "--name", "thief", "-p", "127.0.0.1:8099:80", "lab/web:1"]).succeeds();
    let with_port = WEB.replace("    secrets: [token]\n", "    secrets: [token]\n    ports: ['127.0.0.1:8099:80']\n");
    lab.fleet.write("stacks/web/compose.yaml", with_port);
    lab.publish("port");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[rolled-back]") && ran.stderr.contains("already allocated"), "{ran}");
    assert_eq!(lab.exec("web", "web", &["cat", "/www/message"]), "hello");
    // Twice, then no more.
    assert_eq!(lab.host.moorline(&["retry"]).code, Some(1));
    let state = std::fs::read_to_string(lab.host.state().join("ledger.json")).unwrap();
    assert!(state.contains("\"failures\""), "{state}");
    lab.engine.docker(&["rm", "-f", "thief"]).succeeds();
    assert!(lab.host.moorline(&["retry", "web"]).succeeds().contains("converged"));
}

#[test]
fn a_version_whose_image_is_gone_cannot_come_back_and_the_command_is_named() {
    let mut lab = Lab::new();
    lab.deploy("first");
    lab.engine.image("lab/web:broken", &Image::exits(3));
    lab.fleet.write("stacks/web/compose.yaml", WEB.replace("lab/web:1", "lab/web:broken"));
    lab.publish("broken");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    // Only the name: the running container keeps the content, and then it is replaced.
    lab.engine.docker(&["rmi", "-f", "lab/web:1"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[rollback-failed]"), "{ran}");
    assert!(ran.stderr.contains("lab/web:1 is no longer on this host"), "{ran}");
    let directory = lab.host.stack("web").display().to_string();
    assert!(
        ran.stderr.contains("moorline hold") && ran.stderr.contains(&format!("cd {directory}; docker compose")),
        "{ran}"
    );
    let after = lab.containers("web");
    let again = lab.host.moorline(&["reconcile"]);
    assert!(again.stderr.contains("error[deploy-refused]"), "{again}");
    assert_eq!(lab.containers("web"), after, "everything is kept");
}

/// A stack with data that wants a snapshot first, on a host with a backup repository at this place.
fn wants_snapshots(lab: &mut Lab, repository: &std::path::Path) -> String {
    let stack = WEB
        .replace("deploy: {", "deploy: { snapshot_before: true,")
        .replace("  db:\n", "  db:\n    volumes: ['data:/data']\n")
        + "volumes: { data: {} }\n";
    lab.secrets(&format!("  BACKUP_PASSWORD: {PASSWORD}\nweb:\n  TOKEN: canary-token-1\n"));
    let host = std::fs::read_to_string(lab.fleet.path().join("hosts/alpha/host.yaml")).unwrap();
    let backup = format!("backup: {{ repository: {}, at: \"03:00\" }}\n", repository.display());
    lab.fleet.write("hosts/alpha/host.yaml", host + &backup);
    lab.fleet.write("stacks/web/compose.yaml", &stack);
    stack
}

#[test]
fn no_snapshot_no_deploy_and_the_way_back_names_the_snapshot() {
    let mut lab = Lab::new();
    let vault = lab.engine.scratch().join("vault");
    let stack = wants_snapshots(&mut lab, &vault);
    lab.deploy("first");
    let data = lab.engine.data_root.join("volumes/web_data/_data");
    std::fs::write(data.join("precious"), "as it was").unwrap();
    let before = lab.containers("web");
    // A version that changes the data and gives up.
    lab.engine.image("lab/db:migrates", &Image::command(&["sh", "-c", "echo migrated > /data/precious; exit 3"]));
    lab.fleet.write("stacks/web/compose.yaml", stack.replace("lab/db:1", "lab/db:migrates"));
    lab.publish("second");
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[snapshot-missing]"), "{ran}");
    assert!(ran.stderr.contains("there is no backup repository") && ran.stderr.contains("backup --init"), "{ran}");
    assert_eq!(lab.containers("web"), before, "no snapshot, no deploy");
    assert_eq!(std::fs::read_to_string(data.join("precious")).unwrap(), "as it was");

    lab.host.moorline(&["backup", "--init"]).succeeds();
    let ran = lab.host.moorline(&["reconcile"]);
    assert!(ran.stderr.contains("error[rolled-back]"), "{ran}");
    let report = last_run(&lab);
    let taken = &report["snapshots"]["web"]["snapshots"][0];
    let id = taken["snapshot"].as_str().unwrap();
    assert!(ran.stderr.contains(&format!("data as it was before: `moorline restore web {} ", &id[..8])), "{ran}");
    let ledger = std::fs::read_to_string(lab.host.state().join("ledger.json")).unwrap();
    let ledger = serde_json::from_str::<Json>(&ledger).unwrap()["ledger"].take();
    assert_eq!(ledger["before"]["web"], report["snapshots"]["web"]);
    let running = ledger["applied"]["web"]["digest"].as_str().unwrap();

    let mut restic = lab.engine.scratch().command("restic");
    restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", "/nonexistent").arg("--no-cache").arg("--repo").arg(&vault);
    let listed: Json = serde_json::from_str(&restic.args(["snapshots", "--json"]).run().succeeds()).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "one by hand, one before the deploy: {listed:?}");
    let tags = listed[1]["tags"].to_string();
    assert!(tags.contains("pre-deploy") && tags.contains(&format!("state-{}", &running[..16])), "{tags}");
    assert_eq!(listed[1]["id"], id);

    assert_eq!(std::fs::read_to_string(data.join("precious")).unwrap(), "migrated\n", "data is never rolled back");
    let to = lab.engine.scratch().join("back");
    lab.host.moorline(&["restore", "web", &id[..8], "--to", to.to_str().unwrap()]).succeeds();
    assert_eq!(std::fs::read_to_string(to.join("volumes/data/precious")).unwrap(), "as it was");
}
