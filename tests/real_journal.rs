//! A real systemd journal: what is logged there, with which fields, and what never is.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::{Lab, Ran, Run as _, search_for_canary};

/// `moorline ...` as a unit of systemd would run it, and the entries that it left in the journal.
fn under_systemd(lab: &Lab, arguments: &[&str]) -> (Ran, Vec<Value>) {
    let entries = lab.engine.scratch().join("journal.json");
    let moorline = lab.host.command(arguments);
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/with-journald"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.arg(&entries).arg(moorline.get_program()).args(moorline.get_args());
    let ran = command.run();
    let text = std::fs::read_to_string(&entries).unwrap_or_else(|error| panic!("{error}: {ran}"));
    let parsed = text.lines().map(|line| serde_json::from_str(line).expect("journalctl prints JSON"));
    (ran, parsed.filter(|entry: &Value| entry["SYSLOG_IDENTIFIER"] == "moorline").collect())
}

#[test]
fn events_reach_the_journal_with_their_fields_and_without_secrets() {
    let mut lab = Lab::new();
    // The first run mounts the memory for secrets, which the private view of the journal's script would hide.
    lab.deploy("first");
    lab.secrets("web:\n  TOKEN: canary-token-2\n");
    let revision = lab.publish("rotate");
    lab.host.moorline(&["courier", "--once"]).succeeds();

    let (ran, entries) = under_systemd(&lab, &["--verbose", "reconcile"]);
    assert!(ran.is_success(), "{ran}");
    let named = |name: &str| {
        entries.iter().find(|entry| entry["EVENT"] == name).unwrap_or_else(|| panic!("no {name} in {entries:#?}"))
    };
    let verified = named("revision-verified");
    assert_eq!(verified["REVISION"], revision);
    assert!(verified["SIGNER"].as_str().unwrap().starts_with("alice@example.org SHA256:"));
    let ended = named("run-ended");
    assert_eq!(
        ended["MESSAGE"].as_str().unwrap().split(',').next(),
        Some(&*format!("run ended: converged at {}", &revision[..8]))
    );
    assert_eq!(ended["PRIORITY"], "5");
    assert_eq!(ended["STEPS"], "3");
    assert!(
        ended["MESSAGE_ID"].is_string() && ended["ELAPSED_MS"].is_string() && ended["RUN"].is_string(),
        "{ended:#}"
    );
    assert_eq!(named("step-done")["STACK"], "web");
    let hits = search_for_canary(&[lab.engine.scratch().join("journal.json")], &["canary-token"]);
    assert!(hits.is_empty(), "{hits:#?}");

    let (ran, entries) = under_systemd(&lab, &["reconcile"]);
    assert!(ran.is_success(), "{ran}");
    assert_eq!(entries.len(), 1, "a converged run logs one line: {entries:#?}");
}

#[test]
fn a_refusal_is_an_error_in_the_journal_with_its_code() {
    let mut lab = Lab::new();
    lab.deploy("first");
    lab.fleet.commit(support::Signing::Unsigned, "unsigned");
    lab.fleet.push();
    lab.host.moorline(&["courier", "--once"]).succeeds();
    let (ran, entries) = under_systemd(&lab, &["reconcile"]);
    assert_eq!(ran.code, Some(13), "{ran}");
    let refused = entries.iter().find(|entry| entry["EVENT"] == "revision-refused").expect("it is logged");
    assert_eq!(
        (&refused["PRIORITY"], &refused["FAULT"], &refused["MOVER"]),
        (&"3".into(), &"commit-unsigned".into(), &"person".into())
    );
}
