//! Backups of a real host: a stack runs on a real engine, its snapshots lie on a real sshd and in a directory.
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

use serde_json::Value as Json;
use support::{Lab, Run as _, SftpServer, search_for_canary};
use tree::{assert_same, fill};

const PASSWORD: &str = "canary-backup-password-55d0";

const STACK: &str = "\
services:
  app:
    image: lab/db:1
    stop_grace_period: 1s
    volumes: [data:/data, ./files:/files:ro, /cache]
    secrets: [token]
volumes:
  data: {}
secrets:
  token: { environment: TOKEN }
";

#[test]
fn a_stack_is_saved_listed_and_restored_and_nothing_secret_is_left_anywhere() {
    let mut lab = Lab::new();
    let server = SftpServer::start();
    let key = fs::read_to_string(server.login_key()).unwrap();
    let second = lab.engine.scratch().join("second");
    let key_in_yaml = key.lines().map(|line| format!("    {line}\n")).collect::<String>();
    lab.secrets(&format!(
        "  BACKUP_PASSWORD: {PASSWORD}\n  BACKUP_SSH_KEY: |\n{key_in_yaml}app:\n  TOKEN: canary-token-2e\n"
    ));
    lab.fleet.write(
        "hosts/alpha/host.yaml",
        format!(
            "ring: canary\nstacks: [app]\nbackup:\n  at: \"03:00\"\n  repositories:\n    - {{ name: box, url: \"{}\", \
             host_key: \"{}\" }}\n    - {{ name: disk, url: \"{}\" }}\n",
            server.url("alpha"),
            server.host_key(),
            second.display(),
        ),
    );
    lab.fleet.write("stacks/app/compose.yaml", STACK);
    lab.fleet.write("stacks/app/files/page.html", "a page of the repository\n");
    lab.deploy("first");
    let data = lab.engine.data_root.join("volumes/app_data/_data");
    fill(&data);

    let refused = lab.host.moorline(&["backup"]);
    assert_eq!(refused.code, Some(10), "{refused}");
    assert!(refused.said().contains("error[backup-missing]") && refused.said().contains("--init"), "{refused}");
    let saved = lab.host.moorline(&["backup", "--init"]).succeeds();
    assert!(
        saved.contains("done    app: snapshot") && saved.contains(" in box") && saved.contains(" in disk"),
        "{saved}"
    );
    let again: Json = serde_json::from_str(&lab.host.moorline(&["backup", "app", "--json"]).succeeds()).unwrap();
    for report in again["reports"].as_array().unwrap() {
        assert_eq!((&report["end"], &report["bytes_added"]), (&"done".into(), &0.into()), "nothing changed: {report}");
    }

    let listed: Json = serde_json::from_str(&lab.host.moorline(&["snapshots", "--json"]).succeeds()).unwrap();
    let of_box = listed["repositories"][0]["snapshots"].as_array().unwrap();
    assert_eq!(of_box.len(), 2, "{listed}");
    assert_eq!(of_box[1]["label"], "app");
    assert_eq!(of_box[1]["paths"].to_string(), r#"["/directory/files","/fleet","/volumes/data"]"#);

    let to = lab.engine.scratch().join("back");
    let arguments = ["restore", "app", "latest", "--path", "/volumes/data", "--to", to.to_str().unwrap()];
    let mut printed = lab.host.moorline(&arguments).succeeds();
    assert!(printed.contains("restored to") && !printed.contains("LOST"), "{printed}");
    assert_same(&data, &to);
    let over = lab.host.moorline(&arguments);
    assert!(over.code == Some(2) && over.said().contains("error[restore-refused]"), "{over}");

    // Enough to build the stack again.
    let all = lab.engine.scratch().join("all");
    let id = of_box[0]["id"].as_str().unwrap();
    let whole = ["restore", "app", &id[..10], "--repository", "disk", "--to", all.to_str().unwrap()];
    assert_eq!(lab.host.moorline(&whole).code, Some(2), "it is a snapshot of the other repository");
    let whole = ["restore", "app", "latest", "--repository", "disk", "--to", all.to_str().unwrap()];
    lab.host.moorline(&whole).succeeds();
    let read = |path: &str| fs::read_to_string(all.join(path)).unwrap();
    assert_eq!(read("directory/files/page.html"), "a page of the repository\n");
    assert_eq!(read("fleet/stacks/app/compose.yaml"), STACK);
    assert_eq!(read("fleet/revision").trim(), lab.fleet.revision("HEAD"));
    assert!(read("fleet/hosts/alpha/secrets.sops.yaml").contains("ENC[AES256_GCM"));

    // Plain restic, as at night with no moorline.
    let mut restic = lab.engine.scratch().command("restic");
    restic.env("RESTIC_PASSWORD", PASSWORD).env("HOME", "/nonexistent").arg("--no-cache").arg("--repo");
    restic.arg(server.home().join("alpha")).args(["check", "--read-data"]).run().succeeds();

    server.change_host_key();
    let changed = lab.host.moorline(&["--verbose", "backup"]);
    assert_eq!(changed.code, Some(20), "{changed}");
    assert!(changed.said().contains("showed another host key than the pinned one"), "{changed}");
    assert!(changed.said().contains(" in disk"), "the other repository gets its snapshot: {changed}");
    printed += &changed.said();

    let line = key.lines().nth(2).unwrap();
    for canary in [PASSWORD, line, "canary-token-2e"] {
        assert!(!printed.contains(canary) && !saved.contains(canary), "{printed}");
    }
    let lasting = [lab.host.state(), server.home(), second, all, lab.host.etc()];
    let hits = search_for_canary(&lasting, &[PASSWORD, line, "canary-token-2e"]);
    assert!(hits.is_empty(), "{hits:#?}");
    let left = fs::read_dir(lab.host.run_directory().join("backup")).unwrap().count();
    assert_eq!(left, 0, "keys are removed at the end");
}
