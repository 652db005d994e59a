//! Secrets stand nowhere on what the host calls a disk, wherever a run is killed; and those of yesterday leave memory.

use crate::fleet::{CANARIES, SECRETS, WEB, fleet, secrets, settled};
use crate::sim::Sim;

/// Everything that outlives the power of a host, and everything that was said or reported.
fn lasting(sim: &Sim) -> String {
    let host = sim.host();
    let mut text = String::from_utf8_lossy(host.ledger.as_deref().unwrap_or_default()).into_owned();
    host.reports.values().for_each(|report| text += &String::from_utf8_lossy(report));
    for files in host.directories.values() {
        files.values().for_each(|file| text += &String::from_utf8_lossy(&file.bytes));
    }
    for container in &host.engine.containers {
        text += &format!("{} {:?} {:?}", container.definition, container.labels, container.networks);
    }
    for event in sim.said().iter() {
        text += &format!("{} {:?}", event.message(), event.fields());
    }
    text
}

#[track_caller]
fn every_cut_keeps_secrets_off_the_disk(before: &Sim) {
    let uncut = before.fork();
    uncut.run();
    for effects in 0..=uncut.effects() {
        let sim = before.fork();
        sim.cut_after(effects).try_run();
        for when in ["after the kill", "after the next run"] {
            let lasting = lasting(&sim);
            for canary in CANARIES.iter().chain(&["rotated-db-password"]) {
                assert!(!lasting.contains(canary), "{canary}, {when}, cut after {effects}");
            }
            sim.run();
        }
    }
    assert!(uncut.host().secrets.values().any(|secret| secret.ends_with(b"db-password")), "it is in memory");
}

#[test]
fn a_first_run_that_is_killed_anywhere_leaves_no_secret_on_disk() {
    let sim = fleet();
    sim.commit();
    every_cut_keeps_secrets_off_the_disk(&sim);
}

#[test]
fn a_rotation_that_is_killed_anywhere_leaves_no_secret_on_disk() {
    let sim = settled();
    sim.write(SECRETS, secrets("rotated-db-password")).commit();
    every_cut_keeps_secrets_off_the_disk(&sim);
}

#[test]
fn a_run_that_fails_leaves_no_secret_on_disk() {
    let sim = settled();
    sim.write(SECRETS, secrets("rotated-db-password")).edit(WEB, "app:1", "app:bad").commit();
    every_cut_keeps_secrets_off_the_disk(&sim);
}

#[test]
fn an_older_secret_leaves_memory_after_the_run_that_converged_and_not_before() {
    let passwords = |sim: &Sim| {
        let host = sim.host();
        let found = host.secrets.iter().filter(|(path, _)| path.ends_with("/db_password"));
        found.map(|(_, content)| String::from_utf8_lossy(content).into_owned()).collect::<Vec<_>>()
    };
    let sim = settled();
    sim.write(SECRETS, secrets("rotated-db-password")).edit(WEB, "app:1", "app:bad").commit();
    sim.run();
    assert_eq!(passwords(&sim).len(), 2, "what failed may have to be taken back");
    sim.edit(WEB, "app:bad", "app:1").commit();
    let report = sim.run();
    assert!(report.fault.is_none());
    assert_eq!(passwords(&sim), ["rotated-db-password"]);
}
