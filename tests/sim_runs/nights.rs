//! Whole nights in memory: what is due, cut anywhere, with a storage that hangs and an account that tells.

use moorline::decide::event::Event;
use moorline::decide::fault::Code;
use moorline::model::State;
use moorline::model::backup::{Job, JobEnd};
use moorline::runs::backup::night::{self, Night};
use moorline::runs::backup::snapshot::Outcome;
use moorline::world::logbook::Logs as _;
use moorline::world::restic::order::First;

use crate::backups::with_backups;
use crate::fleet::{HOST, WEB};
use crate::sim::Sim;

/// The small fleet with two stacks, one of which stands while it is read, and two repositories. It was deployed.
pub fn deployed() -> Sim {
    let sim = with_backups();
    let two = "[{ name: box, url: /srv/box }, { name: disk, url: /srv/disk }]";
    let from = "backup: { repository: /srv/backup, at: \"03:00\" }";
    let to = format!("backup: {{ repositories: {two}, at: \"03:00\", check: never, drill: never }}");
    sim.edit(HOST, from, &to);
    sim.edit(WEB, "services:", "x-moorline: { backup: { quiesce: pause } }\nservices:");
    sim.commit();
    assert!(sim.run().fault.is_none());
    sim
}

/// One tick of the timer. None when the process died.
pub fn tick(sim: &Sim) -> Option<Night> {
    sim.try_work(night::if_due(sim, None, &mut |_, _| ())).map(|night| night.expect("a night says how it went"))
}

#[track_caller]
pub fn ended(night: Option<Night>) -> Vec<Outcome> {
    match night {
        Some(Night::Ended(outcomes)) => outcomes,
        other => panic!("no night was made: {other:?}"),
    }
}

fn ends(outcomes: &[Outcome]) -> Vec<(&str, &str, JobEnd)> {
    let reports = outcomes.iter().map(|outcome| &outcome.report);
    reports.map(|report| (report.stack.as_deref().unwrap(), report.repository.as_str(), report.end)).collect()
}

pub fn all_go_on(sim: &Sim) -> bool {
    let host = sim.host();
    let containers = host.engine.observe(host.time().as_second()).containers;
    host.standing.is_none() && containers.iter().all(|one| one.state != State::Paused)
}

/// How many entries of the account have a good snapshot.
fn good(sim: &Sim) -> usize {
    sim.logbook().unwrap().entries.values().filter(|entry| entry.good.is_some()).count()
}

#[test]
fn a_tick_makes_what_is_due_once_and_says_nothing_more() {
    let sim = deployed();
    let outcomes = ended(tick(&sim));
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.report.end == JobEnd::Done && outcome.report.job == Job::Backup));
    assert!(all_go_on(&sim));
    let told = sim.host().outbox.iter().rfind(|message| message.monitor == "backup").cloned().unwrap();
    assert!(told.text.starts_with("ok: 4 of 4"), "{}", told.text);

    assert!(matches!(tick(&sim), Some(Night::NotDue)));
    let asked = sim.asked();
    assert!(asked.is_empty(), "nothing is opened, verified or observed: {asked:?}");
    sim.host().clock += 24 * 3_600_000;
    assert_eq!(ended(tick(&sim)).len(), 4);
}

#[test]
fn a_night_that_is_killed_anywhere_keeps_what_it_entered_and_the_next_tick_does_the_rest() {
    let before = deployed();
    let uncut = before.fork();
    ended(tick(&uncut));
    assert!(uncut.effects() > 12, "{}", uncut.effects());
    for effects in 0..uncut.effects() {
        let cut = before.fork();
        assert!(tick(cut.cut_after(effects)).is_none());
        let (entered, made) = (good(&cut), cut.host().vault.snapshots.len());
        assert!(entered <= made && made <= entered + 1, "cut after {effects}: {entered} of {made}");
        match tick(&cut) {
            Some(Night::Ended(outcomes)) => assert_eq!(outcomes.len(), 4 - entered, "cut after {effects}"),
            other => assert!(matches!(other, Some(Night::NotDue)) && entered == 4, "cut after {effects}: {other:?}"),
        }
        assert_eq!(good(&cut), 4, "cut after {effects}");
        assert!(cut.run().fault.is_none() && all_go_on(&cut), "cut after {effects}");
    }
}

#[test]
fn a_storage_that_hangs_costs_one_night_and_no_container_stands_after_it() {
    let sim = deployed();
    // At noon: the next night does not begin while this one waits.
    sim.host().clock += 12 * 3_600_000;
    sim.host().vault.hangs = Some(("web".into(), "box".into()));
    let outcomes = ended(tick(&sim));
    let codes: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.fault.as_ref()).map(|fault| fault.code).collect();
    assert_eq!(codes, [Code::BackupBudget; 3], "{outcomes:?}");
    assert!(sim.asked().iter().any(|asked| asked == "Pause web-db-1"), "{:?}", sim.asked());
    assert!(all_go_on(&sim), "{:?}", sim.asked());
    assert!(matches!(tick(&sim), Some(Night::NotDue)), "a budget does not begin anew");

    // What the night did not come to is done before the storage hangs again.
    sim.host().clock += 24 * 3_600_000;
    let outcomes = ended(tick(&sim));
    let expected = [
        ("shop", "disk", JobEnd::Done),
        ("web", "disk", JobEnd::Done),
        ("shop", "box", JobEnd::Done),
        ("web", "box", JobEnd::OutOfTime),
    ];
    assert_eq!(ends(&outcomes), expected);
    assert!(all_go_on(&sim));
}

#[test]
fn what_failed_is_done_again_after_its_wait_and_what_did_not_fail_is_not() {
    let sim = deployed();
    sim.host().vault.fails = vec![("box".into(), Code::BackupAway)];
    let outcomes = ended(tick(&sim));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.report.end == JobEnd::Done).count(), 2);
    sim.host().vault.fails.clear();
    // The clock of these scenarios goes on by a minute with every tick.
    let again = ended(tick(&sim));
    assert_eq!(ends(&again), [("shop", "box", JobEnd::Done), ("web", "box", JobEnd::Done)]);
    let said: Vec<String> = sim.said().iter().map(Event::message).collect();
    let told = |line: &&String| line.starts_with("job recovered: ") && line.contains("ok again after 1 failed");
    assert_eq!(said.iter().filter(told).count(), 2, "{said:?}");
}

#[test]
fn a_night_that_cannot_begin_is_told_and_waits_and_another_one_is_left_alone() {
    let sim = deployed();
    let key = sim.host().age_key.take();
    let outcomes = ended(tick(&sim));
    assert!(outcomes.iter().all(|outcome| outcome.fault.as_ref().is_some_and(|fault| fault.code == Code::KeyMissing)));
    let told = sim.host().outbox.iter().rfind(|message| message.monitor == "backup").cloned().unwrap();
    assert_eq!(told.status.word(), "down");
    assert!(sim.host().vault.snapshots.is_empty());
    sim.host().age_key = key;
    sim.host().vault.busy_until = i64::MAX;
    assert!(matches!(tick(&sim), Some(Night::Runs(fault)) if fault.because == ["pid 12 runs `backup`"]));
    let now = sim.try_work(night::backup(&sim, None, First::Refuse, &mut |_, _| ())).unwrap();
    assert_eq!(now.unwrap_err().code, Code::LockHeld);
}
