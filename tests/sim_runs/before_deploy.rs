//! Snapshots before a deploy: no snapshot, no deploy; and what is said of them when the deploy fails.

use moorline::decide::event::Event;
use moorline::decide::fault::Code;
use moorline::model::backup::{InPlace, Stage};
use moorline::model::{Report, RunEnd, State};

use crate::backups::with_backups;
use crate::fleet::{HOST, SHOP, WEB};
use crate::sim::Sim;

const WANTED: &str = "x-moorline: { deploy: { snapshot_before: true } }\nservices:";
const TWO: &str = "{ repositories: [{ name: box, url: /srv/box }, { name: disk, url: /srv/disk }], at: \"03:00\" }";

/// A host that runs, with a change of the database on its way; `db:2` works and `app:bad` does not.
fn about_to_deploy(image: &str) -> Sim {
    let sim = with_backups();
    sim.host().engine.offer("db:2", crate::sim::Behaviour::Healthy);
    sim.edit(WEB, "services:", WANTED).commit();
    assert!(sim.run().fault.is_none());
    sim.edit(WEB, "db:1", image).commit();
    sim
}

fn code(report: &Report) -> &str {
    report.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

fn database(sim: &Sim) -> String {
    let host = sim.host();
    let mut ours = host.engine.containers.iter().filter(|one| one.project == "web" && one.service == "db");
    ours.next().map(|container| container.image.clone()).unwrap_or_default()
}

fn taken(sim: &Sim) -> usize {
    sim.host().vault.snapshots.len()
}

#[test]
fn a_snapshot_is_made_before_anything_is_replaced_and_stands_in_report_and_ledger() {
    let sim = about_to_deploy("db:2");
    let running = sim.remembered().applied["web"].digest.clone();
    let report = sim.run();
    assert_eq!((code(&report), database(&sim).as_str()), ("", "db:2"));
    let asked = sim.asked();
    let place = |what: &str| asked.iter().position(|asked| asked.starts_with(what)).expect(what);
    assert!(
        place("snapshot web in main") < place("directory of web") && place("directory of web") < place("create web/db"),
        "{asked:#?}"
    );
    let (repository, stack, tags, id) = sim.host().vault.snapshots[0].clone();
    assert_eq!((repository.as_str(), stack.as_str()), ("main", "web"));
    let state = format!("state-{}", running.get(..16).unwrap_or(&running));
    assert_eq!(tags, ["moorline", "pre-deploy", &state]);
    let before = report.snapshots["web"].clone();
    assert_eq!((before.state, before.snapshots[0].snapshot.clone()), (running, id));
    let ledger = sim.remembered();
    assert_eq!(ledger.before["web"].snapshots, before.snapshots);
    assert_eq!(ledger.before["web"].deploy, ledger.applied["web"].digest);
    assert!(sim.run().snapshots.is_empty(), "a run that deploys nothing makes none");
    sim.edit(HOST, "stacks: [web, shop]", "stacks: [shop]").commit();
    sim.run();
    assert!(sim.remembered().before.is_empty(), "a stack that is gone");
}

#[test]
fn a_way_back_names_the_snapshot_and_the_data_is_left_alone() {
    let sim = about_to_deploy("app:bad");
    let report = sim.run();
    assert_eq!((code(&report), database(&sim).as_str()), ("rolled-back", "db:1"));
    let fault = report.fault.expect("a fault");
    let places = fault.places.join("\n");
    assert!(places.contains("data as it was before: `moorline restore web 5a4b3c01 "), "{places}");
    assert!(places.contains("nothing of the data was changed back"), "{places}");
}

#[test]
fn no_snapshot_keeps_its_own_stack_from_the_deploy_and_no_other() {
    let sim = about_to_deploy("db:2");
    sim.edit(SHOP, "shop:1", "shop:2").commit();
    sim.host().vault.fails = vec![("main".into(), Code::BackupAway)];
    let report = sim.run();
    assert_eq!((code(&report), report.end), ("snapshot-missing", RunEnd::Degraded));
    assert_eq!(database(&sim), "db:1");
    assert!(sim.host().engine.containers.iter().any(|container| container.image == "shop:2"), "others go on");
    let failure = sim.remembered().failures["web"].clone();
    assert!(failure.next.is_some() && failure.failed == 0, "it is tried again, for as long as it takes: {failure:?}");
    sim.host().vault.fails.clear();
    assert_eq!((code(&sim.run()), database(&sim).as_str()), ("", "db:2"));
}

#[test]
fn one_whole_snapshot_is_enough_and_what_the_other_lacks_is_said() {
    let sim = about_to_deploy("app:bad");
    sim.edit(HOST, "{ repository: /srv/backup, at: \"03:00\" }", TWO).commit();
    sim.host().vault.fails = vec![("box".into(), Code::BackupAway)];
    let report = sim.run();
    assert_eq!(code(&report), "rolled-back");
    let notes = report.notes.join("\n");
    assert!(notes.contains("there is no snapshot of web in box before its deploy"), "{notes}");
    let places = report.fault.expect("a fault").places.join("\n");
    assert!(places.contains("moorline restore web 5a4b3c01 --repository disk "), "{places}");

    let sim = about_to_deploy("db:2");
    sim.edit(HOST, "{ repository: /srv/backup, at: \"03:00\" }", TWO).commit();
    sim.host().vault.fails = vec![("box".into(), Code::BackupAway)];
    sim.host().vault.partial = vec!["disk".into()];
    let report = sim.run();
    assert_eq!((code(&report), database(&sim).as_str()), ("snapshot-missing", "db:1"));
    let because = report.fault.expect("a fault").because.join("\n");
    assert!(because.contains("in disk before its deploy is partial: /volumes/data/x"), "{because}");
}

#[test]
fn another_backup_is_waited_for_but_not_for_ever() {
    let sim = about_to_deploy("db:2");
    let now = sim.host().clock;
    sim.host().vault.busy_until = now + 180_000;
    let report = sim.run();
    assert_eq!((code(&report), database(&sim).as_str()), ("", "db:2"), "{:?}", report.fault);
    assert_eq!(sim.said().iter().filter(|event| matches!(event, Event::SnapshotWaited { .. })).count(), 1);

    let sim = about_to_deploy("db:2");
    sim.host().vault.busy_until = i64::MAX;
    let report = sim.run();
    assert_eq!((code(&report), database(&sim).as_str(), report.end), ("lock-held", "db:1", RunEnd::Degraded));
    sim.host().vault.busy_until = 0;
    assert_eq!((code(&sim.run()), database(&sim).as_str()), ("", "db:2"));
}

/// Killed after any effect: the next run makes a snapshot of its own if the data may have moved on since, and the one
/// that a person is told of is the last before anything was brought up.
#[test]
fn a_run_that_was_killed_never_leads_to_a_deploy_without_a_snapshot() {
    let before = about_to_deploy("app:bad");
    let uncut = before.fork();
    assert_eq!(code(&uncut.run()), "rolled-back");
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        assert!(sim.cut_after(effects).try_run().is_none());
        let (was, touched) = (taken(&sim), database(&sim) != "db:1");
        assert!(!touched || was > 0, "cut after {effects}: replaced without a snapshot");
        let report = sim.run();
        assert_eq!(database(&sim), "db:1", "cut after {effects}: {:?}", report.fault);
        assert!(taken(&sim) > 0);
        let Some(before) = sim.remembered().before.get("web").cloned() else { continue };
        let first = &sim.host().vault.snapshots[0].3;
        if touched {
            assert_eq!(&before.snapshots[0].snapshot, first, "cut after {effects}: half of a migration");
        }
    }
}

#[test]
fn a_host_without_backups_cannot_have_a_stack_that_wants_one() {
    let sim = crate::fleet::fleet();
    sim.edit(WEB, "services:", WANTED).commit();
    let report = sim.run();
    assert_eq!(code(&report), "spec-invalid");
    let places = report.fault.expect("a fault").places.join("\n");
    assert_eq!(
        places,
        "stacks/web/compose.yaml:1: x-moorline.deploy.snapshot_before needs `backup:` in hosts/alpha/host.yaml"
    );
}

#[test]
fn a_stack_in_the_middle_of_a_restore_is_not_touched_and_the_others_are() {
    let sim = with_backups();
    sim.run();
    let since = sim.host().time();
    let restore = InPlace {
        stack: "web".into(),
        repository: "main".into(),
        asked: "latest".into(),
        snapshot: "1980cc6b".into(),
        path: None,
        since,
        hold: None,
        phase: Stage::Switching,
        moves: Vec::new(),
        stopped: Vec::new(),
    };
    sim.host().vault.unfinished = vec![restore.clone()];
    sim.host().engine.by_hand("web", "db", Some(State::Exited(137)));
    sim.host().engine.by_hand("shop", "shop", Some(State::Exited(137)));
    let report = sim.run();
    assert_eq!((code(&report), report.end), ("restore-unfinished", RunEnd::Degraded));
    assert!(report.outcomes.iter().all(|outcome| outcome.step.stack == "shop") && !report.outcomes.is_empty());
    let hint = report.fault.expect("a fault").hint.unwrap_or_default();
    assert_eq!(hint, "`moorline restore web 1980cc6b --in-place` finishes it");
    // One that has not come so far has touched nothing.
    sim.host().vault.unfinished = vec![InPlace { phase: Stage::Beside, ..restore }];
    assert_eq!(code(&sim.run()), "");
}
