//! What a host says of its backups when nobody makes them, when they fail, and when they work again.

use moorline::decide::backup::logbook::record;
use moorline::decide::page;
use moorline::decide::push::Message;
use moorline::model::backup::{Job, JobEnd, JobReport};
use moorline::world::World as _;
use moorline::world::logbook::Logs as _;

use crate::fleet::{HOST, SECRETS, fleet};
use crate::sim::{Sim, seal};

const PASSWORD: &str = "canary-backup-password";

/// The small fleet, with backups of two stacks in one repository and a monitor for them.
pub fn with_backups() -> Sim {
    let sim = fleet();
    let url = |name: &str| format!("https://kuma.example.org/api/push/{name}");
    let (runs, backups) = (url("runs"), url("backups"));
    let shared = [("SHARED", "x"), ("KUMA", &*runs), ("KUMA_BACKUP", &*backups), ("BACKUP_PASSWORD", PASSWORD)];
    sim.write(SECRETS, seal(&[("all", &shared), ("web", &[("DB_PASSWORD", "y"), ("API_TOKEN", "z")])]));
    sim.edit(
        HOST,
        "reconcile: KUMA }\n",
        "reconcile: KUMA, backup: KUMA_BACKUP }\nbackup: { repository: /srv/backup, at: \"03:00\" }\n",
    );
    sim.commit();
    sim
}

fn hours(sim: &Sim, hours: i64) {
    sim.host().clock += hours * 3_600_000;
}

/// What the monitor of backups was told last.
fn told(sim: &Sim) -> Option<(&'static str, String)> {
    let host = sim.host();
    let message: Option<&Message> = host.outbox.iter().rfind(|message| message.monitor == "backup");
    message.map(|message| (message.status.word(), message.text.clone()))
}

fn ended(sim: &Sim, stack: &str, end: JobEnd, problems: &[&str]) {
    let now = sim.now();
    let report = JobReport {
        job: Job::Backup,
        repository: "main".into(),
        stack: Some(stack.into()),
        began: now,
        ended: now,
        end,
        problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
        snapshot: Some("1980cc6b".into()),
        files: 1,
        bytes: 1,
        bytes_added: 0,
    };
    sim.change_logbook(&mut |logbook| record(logbook, &report)).unwrap();
}

#[test]
fn a_backup_that_nobody_ever_made_is_down_after_26_hours_though_every_run_is_well() {
    let sim = with_backups();
    assert!(sim.run().fault.is_none());
    hours(&sim, 25);
    sim.run();
    assert_eq!(told(&sim), None, "nothing is late yet");
    hours(&sim, 2);
    sim.run();
    let (status, text) = told(&sim).unwrap();
    assert_eq!(status, "down");
    assert!(text.starts_with("backup of shop to main: wanted for 1d3h, and never good"), "{text}");
    assert_eq!(sim.host().outbox.iter().rfind(|message| message.monitor == "reconcile").unwrap().status.word(), "up");
    let page = sim.page().unwrap();
    assert!(page::text(&page).contains("backups   backup of shop to main"), "{}", page::text(&page));
    let metrics = page::metrics(&page);
    assert!(metrics.contains("moorline_backup_well{job=\"backup\",repository=\"main\",stack=\"shop\"} 0"), "{metrics}");
}

#[test]
fn a_partial_backup_is_down_with_its_path_and_a_good_one_is_announced() {
    let sim = with_backups();
    sim.run();
    ended(&sim, "shop", JobEnd::Done, &[]);
    ended(&sim, "web", JobEnd::Partial, &["/volumes/data/x: permission denied"]);
    sim.run();
    let expected = "backup of web to main is partial: /volumes/data/x: permission denied";
    assert_eq!(told(&sim), Some(("down", expected.to_owned())));
    ended(&sim, "web", JobEnd::Done, &[]);
    sim.run();
    let (status, text) = told(&sim).unwrap();
    assert_eq!((status, text.starts_with("ok again after 1 failed: 2 of 2")), ("up", true), "{text}");
}

#[test]
fn a_stack_or_a_host_that_is_no_longer_backed_up_is_no_longer_asked_for() {
    let sim = with_backups();
    sim.run();
    let count = || sim.logbook().unwrap().entries.len();
    assert_eq!(count(), 5, "a backup and a drill of each stack, and a check");
    sim.edit(HOST, "stacks: [web, shop]", "stacks: [web]").commit();
    sim.run();
    assert_eq!(count(), 3);
    sim.edit(HOST, "backup: { repository: /srv/backup, at: \"03:00\" }\n", "").commit();
    sim.run();
    assert_eq!(count(), 0);
}

#[test]
fn no_stack_gets_the_password_of_its_backups_and_a_new_one_replaces_no_container() {
    let sim = with_backups();
    sim.run();
    let host = sim.host();
    assert!(!host.environments.is_empty());
    assert!(host.environments.values().all(|text| !text.contains("BACKUP_PASSWORD") && !text.contains(PASSWORD)));
}
