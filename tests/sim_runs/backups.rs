//! What a host says of its backups when nobody makes them, when they fail, and when they work again.

use moorline::decide::backup::logbook::record;
use moorline::decide::fault::{Code, Fault};
use moorline::decide::page;
use moorline::decide::push::Message;
use moorline::model::State;
use moorline::model::backup::{Job, JobEnd, JobReport, Quiesce};
use moorline::runs::backup::quiesce::{Quiescence, RunLock, recover};
use moorline::runs::backup::sources::plan;
use moorline::world::World as _;
use moorline::world::logbook::Logs as _;
use moorline::world::restic::order::Turn;

use crate::fleet::{HOST, SECRETS, fleet, settled};
use crate::sim::{Sim, seal};
use crate::world_after::{assert_same, left};

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

/// The part of a backup of `web` in which its containers stand.
async fn reads(sim: &Sim, how: Quiesce) -> Result<(), Fault> {
    let applied = sim.remembered().applied["web"].clone();
    let mut plan = plan(sim, "web", &applied);
    plan.quiesce = how;
    let mut quiescence = Quiescence::new(sim, &plan, &applied.model, RunLock::Free);
    quiescence.turn(Turn::Stand).await?;
    quiescence.turn(Turn::GoOn).await
}

const WAYS: [Quiesce; 2] = [Quiesce::Stop, Quiesce::Pause];

#[test]
fn containers_stand_in_the_reverse_order_of_their_dependencies_and_what_they_do_is_on_disk_before() {
    let sim = settled();
    sim.try_work(reads(&sim, Quiesce::Stop)).unwrap().unwrap();
    let effects: Vec<String> =
        sim.asked().into_iter().filter(|asked| asked != "ledger" && asked != "observe").collect();
    let expected = [
        "standing",
        "Stop web-proxy-1",
        "Stop web-db-1",
        "standing",
        "no Stop web-db-1",
        "no Stop web-proxy-1",
        "no standing",
    ];
    assert_eq!(effects, expected, "app keeps nothing, so it goes on");
}

#[test]
fn a_backup_that_is_killed_while_containers_stand_is_undone_by_the_next_run_and_by_the_next_backup() {
    let before = settled();
    let goal = left(&before);
    for how in WAYS {
        let uncut = before.fork();
        uncut.try_work(reads(&uncut, how)).unwrap().unwrap();
        assert_same(&goal, &left(&uncut), "uncut");
        for effects in 0..uncut.effects() {
            let cut = before.fork();
            assert!(cut.cut_after(effects).try_work(reads(&cut, how)).is_none());
            let how = format!("{how:?}, cut after {effects}");
            let run = cut.fork();
            let report = run.run();
            assert_eq!((report.fault, report.plan.to_string()), (None, "nothing to do\n".into()), "{how}");
            assert_same(&goal, &left(&run), &how);
            assert!(run.host().standing.is_none() && run.host().drift.is_empty(), "{how}: nobody changed anything");

            let backup = cut.fork();
            backup.try_work(recover(&backup)).unwrap().unwrap();
            assert_same(&goal, &left(&backup), &how);

            // And the run that undoes it may be killed, too.
            let undone = cut.fork();
            undone.run();
            for again in 0..undone.effects() {
                let twice = cut.fork();
                assert!(twice.cut_after(again).try_run().is_none());
                twice.run();
                assert_same(&goal, &left(&twice), &format!("{how}, and the next after {again}"));
            }
        }
    }
}

#[test]
fn containers_that_a_backup_stopped_start_after_a_reboot_and_though_the_host_is_held() {
    let cut = settled();
    assert!(cut.cut_after(3).try_work(reads(&cut, Quiesce::Stop)).is_none());
    let rebooted = cut.fork();
    rebooted.reboot_in_order();
    assert_eq!(rebooted.run().fault, None);
    let still = |sim: &Sim| {
        let host = sim.host();
        let containers = host.engine.observe(host.time().as_second()).containers;
        containers.iter().any(|one| one.project == "web" && one.state != State::Running)
    };
    assert!(!still(&rebooted));

    let held = cut.fork();
    held.hold(240);
    assert_eq!(held.run().fault.map(|fault| fault.code), Some("held".into()));
    assert!(!still(&held));
}

#[test]
fn an_engine_that_is_away_keeps_what_stands_written_down() {
    let sim = settled();
    assert!(sim.cut_after(3).try_work(reads(&sim, Quiesce::Pause)).is_none());
    sim.host().engine_answers = false;
    assert_eq!(sim.run().fault.map(|fault| fault.code), Some(Code::EngineAway.name().into()));
    assert!(sim.host().standing.is_some());
    sim.host().engine_answers = true;
    assert_eq!(sim.run().fault, None);
    assert!(sim.host().standing.is_none());
}
