//! Deploys that fail: the way back, what is remembered of them, and when they are tried again.

use crate::backups::with_backups;
use crate::fleet::{CANARIES, HOST, SECRETS, SHOP, WEB, fleet, secrets, settled};
use crate::sim::{Behaviour, Sim, Transcript};
use crate::world_after::{assert_same, left};
use moorline::decide::fault::Code;
use moorline::model::{Action, Left, Report, RunEnd, State, Verdict};

fn code(report: &Report) -> &str {
    report.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

/// How often the image was brought up.
fn applied(reports: &[Report]) -> usize {
    let is_up = |report: &&Report| {
        report.plan.steps.iter().any(|step| {
            matches!(&step.action, Action::Up { .. })
                && step.causes.iter().any(|cause| cause.to_string().contains("-> app:bad"))
        })
    };
    reports.iter().filter(is_up).count()
}

fn web(sim: &Sim) -> Vec<String> {
    let host = sim.host();
    let mut images: Vec<String> = host
        .engine
        .containers
        .iter()
        .filter(|container| container.project == "web")
        .map(|container| container.image.clone())
        .collect();
    images.sort();
    images
}

#[test]
fn what_fails_is_tried_twice_and_then_refused_until_it_changes_or_a_person_says_so() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "refused_after_two", "must try twice, go back twice, then keep what works");
    sim.edit(WEB, "app:1", "app:bad").commit();
    let mut reports = vec![transcript.note("`app` gets an image that is not healthy").run()];
    assert_eq!(reports[0].end, RunEnd::RolledBack);
    for _ in 0..3 {
        reports.push(transcript.run());
    }
    assert_eq!(
        reports.iter().map(code).collect::<Vec<_>>(),
        ["rolled-back", "rolled-back", "deploy-refused", "deploy-refused"]
    );
    assert_eq!(applied(&reports), 2);
    sim.host().engine.by_hand("web", "db", Some(State::Exited(137)));
    let report = transcript.note("somebody stops `db` of the version that works").run();
    assert_eq!((code(&report), report.outcomes.len()), ("deploy-refused", 2));
    sim.host().engine.offer("app:bad", Behaviour::Healthy);
    sim.retry();
    assert_eq!(code(&transcript.note("the database that app:bad needs is mended: `moorline retry web`").run()), "");
    transcript.run();
    transcript.compare();
}

#[test]
fn the_way_back_asks_neither_git_nor_the_registry_and_ends_where_it_began() {
    for change in ["an image", "everything"] {
        let sim = settled();
        let goal = left(&sim);
        sim.edit(WEB, "app:1", "app:bad");
        if change == "everything" {
            sim.write(SECRETS, secrets("another-db-password")).write("stacks/web/files/new", "x").edit(
                WEB,
                "services:\n",
                "services:\n  extra:\n    image: shop:2\n",
            );
        }
        sim.commit();
        for image in ["app:1", "db:1", "proxy:1"] {
            sim.host().engine.refuse(image);
        }
        let report = sim.run();
        assert_eq!(code(&report), "rolled-back", "{change}");
        let asked = sim.asked();
        let after = asked.iter().position(|asked| asked.contains("create web/app")).expect("it was tried");
        let forbidden =
            |asked: &&String| ["pull", "tip", "history", "objects", "model"].iter().any(|word| asked.starts_with(word));
        assert_eq!(asked[after..].iter().find(forbidden), None, "{change}");
        let rollback = &report.rollbacks[0];
        assert!(rollback.serving_after_ms.is_some_and(|ms| ms > 0 && ms < 60_000), "{rollback:?}");
        // Secrets of the version that failed stay in memory until a run ends with everything as desired.
        let is_of_failed = |line: &&str| line.starts_with("memory ") && line.ends_with(" another-db-password");
        let now: String =
            left(&sim).lines().filter(|line| !is_of_failed(line)).map(|line| format!("{line}\n")).collect();
        let before_anchor = |text: &str| text.split_once("settled").expect("always there").0.to_owned();
        assert_same(&before_anchor(&goal), &before_anchor(&now), change);
    }
}

#[test]
fn the_last_words_of_what_failed_are_in_the_report_without_any_secret() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:loop").commit();
    let report = sim.run();
    let evidence = &report.evidence[0];
    assert_eq!((evidence.service.as_str(), evidence.image.as_str(), evidence.exit_code), ("app", "app:loop", Some(1)));
    let log = evidence.log.join("\n");
    assert!(log.contains("API_TOKEN='(secret)'") && log.contains("DOMAIN='alpha.example.org'"), "{log}");
    for canary in CANARIES {
        assert!(!log.contains(canary), "{log}");
    }
}

#[test]
fn a_first_deploy_that_fails_has_nothing_to_go_back_to_and_is_left_for_a_look() {
    let sim = fleet();
    sim.edit(SHOP, "shop:1", "app:bad").commit();
    let reports: Vec<Report> = (0..4).map(|_| sim.run()).collect();
    let codes: Vec<&str> = reports.iter().map(code).collect();
    assert_eq!(codes, ["gate-failed", "gate-failed", "deploy-refused", "deploy-refused"]);
    assert!(reports[0].rollbacks.is_empty());
    let places = &reports[0].fault.as_ref().expect("failed").places;
    assert!(places.iter().any(|place| place.contains("nothing to go back to")), "{places:?}");
    assert!(sim.host().engine.containers.iter().any(|container| container.image == "app:bad"));
    assert_eq!(sim.remembered().failures["shop"].left, Left::AsIs);
    sim.edit(SHOP, "app:bad", "shop:1").commit();
    assert_eq!(code(&sim.run()), "");
    assert!(sim.remembered().failures.is_empty());
}

#[test]
fn a_way_back_that_fails_ends_all_work_on_the_stack_and_says_what_to_type() {
    let sim = settled();
    let mut transcript = Transcript::new(&sim, "rollback_failed", "must stop, keep everything, and name the command");
    // What worked does not work any more: another thing than the image broke it.
    sim.host().engine.offer("app:1", Behaviour::Unhealthy);
    sim.edit(WEB, "app:1", "app:bad").edit(SHOP, "shop:1", "shop:2").commit();
    let report = transcript.note("neither app:bad nor app:1 works").run();
    assert_eq!(code(&report), "rollback-failed");
    let hint = report.fault.as_ref().and_then(|fault| fault.hint.clone()).expect("a command");
    assert!(hint.contains("moorline hold") && hint.contains("/stacks/web; docker compose"), "{hint}");
    let containers = web(&sim);
    let again = transcript.run();
    assert_eq!((code(&again), again.outcomes.len()), ("deploy-refused", 0));
    assert_eq!(web(&sim), containers, "everything is kept");
    sim.host().engine.offer("app:1", Behaviour::Healthy);
    sim.edit(WEB, "app:bad", "app:2").commit();
    assert_eq!(code(&transcript.note("a commit that mends it").run()), "");
    transcript.compare();
}

#[test]
fn what_mends_itself_is_tried_again_after_30_seconds_and_longer_and_never_given_up() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").edit(SHOP, "shop:1", "shop:2").commit();
    sim.host().engine.refuse("app:2");
    assert_eq!(code(&sim.run_by_timer()), "step-failed");
    let failure = sim.remembered().failures["web"].clone();
    let wait = failure.next.expect("tried again").duration_since(failure.at).as_secs();
    assert!((24..=30).contains(&wait), "{wait}");
    let mut tries = 1;
    for _ in 0..200 {
        let report = sim.run_by_timer();
        tries += usize::from(code(&report) == "step-failed");
        assert!(["step-failed", "deploy-waiting"].contains(&code(&report)), "{}", code(&report));
    }
    assert!((8..=12).contains(&tries), "200 minutes, with waits up to an hour: {tries}");
    assert!(web(&sim).contains(&"app:1".to_owned()), "what works was not touched");
    let images: Vec<_> = sim.host().engine.containers.iter().map(|container| container.image.clone()).collect();
    assert!(images.contains(&"shop:2".to_owned()), "while `web` waits, `shop` goes on");
    sim.host().engine.offer("app:2", Behaviour::Healthy);
    assert_eq!(code(&sim.run()), "", "a person who types `reconcile` does not wait");
}

#[test]
fn what_a_registry_refuses_is_asked_for_twice_and_the_other_stacks_go_on() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").edit(SHOP, "shop:1", "shop:2").commit();
    sim.host().engine.refuse("app:2");
    sim.host().pull_fails_as = Code::ImageRefused;
    let pulls = |sim: &Sim| sim.asked().iter().filter(|asked| *asked == "pull app:2").count();
    let mut asked = 0;
    let codes: Vec<String> = (0..6)
        .map(|_| {
            let report = sim.run();
            asked += pulls(&sim);
            code(&report).to_owned()
        })
        .collect();
    assert_eq!(codes[0], "image-refused");
    assert_eq!((asked, codes.last().map(String::as_str)), (2, Some("deploy-refused")), "{codes:?}");
    assert_eq!(sim.remembered().failures["web"].left, Left::Untouched);
    assert!(sim.host().engine.containers.iter().any(|container| container.image == "shop:2"));
    sim.host().engine.offer("app:2", Behaviour::Healthy);
    sim.retry();
    assert_eq!(code(&sim.run()), "");
}

#[test]
fn a_kept_version_that_cannot_be_put_right_is_tried_less_and_less_often() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:bad").commit();
    (0..3).for_each(|_| _ = sim.run_by_timer());
    assert_eq!(code(&sim.run_by_timer()), "deploy-refused");
    // What is kept breaks too, again and again.
    sim.host().engine.break_down("web", "app", Behaviour::Unhealthy);
    let (mut repairs, mut waits) = (0, Vec::new());
    for _ in 0..60 {
        sim.host().engine.by_hand("web", "app", Some(State::Exited(137)));
        let report = sim.run_by_timer();
        assert_eq!(report.end, RunEnd::Degraded);
        if report.outcomes.is_empty() {
            assert!(report.summary.contains("was to be put right, which failed"), "{}", report.summary);
            assert!(report.fault.as_ref().is_some_and(|fault| fault.code == "deploy-refused"));
        } else {
            repairs += 1;
            let repair = sim.remembered().repairs["web"].clone();
            waits.push(repair.next.expect("for ever").duration_since(repair.at).as_secs());
        }
    }
    assert!(waits.is_sorted() && waits[0] <= 30 && waits.last() > Some(&1000), "{waits:?}");
    assert!((5..12).contains(&repairs), "{repairs} repairs in an hour");
    assert_eq!(sim.remembered().failures["web"].failed, 2, "what was tried is remembered beside it");
    // A person does not wait, and what works again is forgotten.
    sim.host().engine.break_down("web", "app", Behaviour::Healthy);
    assert!(!sim.run().outcomes.is_empty());
    assert!(sim.remembered().repairs.is_empty());
}

#[test]
fn an_engine_that_is_away_in_the_middle_is_no_verdict_on_the_stack() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.host().compose_says = Some("Cannot connect to the Docker daemon at unix:///run/docker.sock".into());
    let report = sim.run();
    assert_eq!(code(&report), "step-failed");
    assert!(report.rollbacks.is_empty());
    let failure = sim.remembered().failures["web"].clone();
    assert_eq!((failure.begun, failure.failed, failure.hindered), (0, 0, 1));
    sim.host().compose_says = None;
    assert_eq!(code(&sim.run()), "");
}

#[test]
fn what_compose_refuses_at_up_is_rolled_back_too() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.host().compose_says = Some("Bind for 0.0.0.0:80 failed: port is already allocated".into());
    let report = sim.run();
    // Compose says no to everything here, and the version that works needs nothing of it.
    assert_eq!(code(&report), "rolled-back", "{:?}", report.fault);
    assert_eq!(web(&sim), ["app:1", "db:1", "proxy:1"]);
}

#[test]
fn forward_only_keeps_the_new_version_and_asks_a_person() {
    let sim = with_backups();
    sim.edit(WEB, "services:", "x-moorline: { deploy: { rollback: forward-only, snapshot_before: true } }\nservices:")
        .commit();
    assert_eq!(code(&sim.run()), "", "a first deploy has no data to save");
    let mut transcript =
        Transcript::new(&sim, "one_way_deploy", "must not touch data without a snapshot, and never go back by itself");
    sim.edit(WEB, "db:1", "app:bad").commit();
    sim.host().vault.fails = vec![("main".into(), Code::BackupMissing)];
    let report = transcript.note("`db`, which has a volume, gets another image; no snapshot can be taken").run();
    assert_eq!(code(&report), "snapshot-missing");
    assert_eq!(web(&sim), ["app:1", "db:1", "proxy:1"], "no snapshot, no deploy");
    sim.host().vault.fails.clear();
    let report = transcript.note("the backup works; the new version does not").run();
    assert_eq!(code(&report), "gate-failed");
    let hint = report.fault.as_ref().and_then(|fault| fault.hint.clone()).expect("a command");
    assert!(hint.contains("moorline restore web 5a4b3c01 --in-place"), "{hint}");
    let again = transcript.run();
    assert_eq!((code(&again), again.outcomes.len()), ("deploy-refused", 0));
    assert_eq!(web(&sim), ["app:1", "app:bad", "proxy:1"]);
    transcript.compare();
}

#[test]
fn a_snapshot_is_wanted_only_before_a_container_with_data_is_replaced() {
    let sim = with_backups();
    sim.edit(WEB, "services:", "x-moorline: { deploy: { snapshot_before: true } }\nservices:").commit();
    sim.run();
    let wants = |sim: &Sim| sim.run().plan.steps.iter().any(|step| step.action == Action::Snapshot);
    sim.edit(WEB, "app:1", "app:2").commit();
    assert!(!wants(&sim), "`app` has no volume");
    sim.host().engine.by_hand("web", "db", Some(State::Exited(137)));
    assert!(!wants(&sim), "a stopped container is started, not replaced");
    sim.edit(WEB, "image: db:1", "image: db:1\n    command: [x]").commit();
    assert!(wants(&sim));
}

/// Kills a failing deploy after each of its effects, and the run after it too: it ends with what worked or with what
/// is desired, nobody has to move for that, and no version that fails is applied more than twice after a verdict.
#[test]
fn a_way_back_can_be_killed_anywhere() {
    let before = settled();
    let goal = left(&before);
    before.edit(WEB, "app:1", "app:bad").write("stacks/web/files/new", "x").commit();
    let uncut = before.fork();
    assert_eq!(code(&uncut.run()), "rolled-back");
    let serves = |sim: &Sim, how: &str| {
        let of = |text: &str| text.split_once("settled").expect("always there").0.to_owned();
        assert_same(&of(&goal), &of(&left(sim)), how);
    };
    let mut cuts = 0;
    for first in 0..uncut.effects() {
        let once = before.fork();
        assert!(once.cut_after(first).try_run().is_none());
        for second in (0..).step_by(5) {
            let sim = once.fork();
            let died = sim.cut_after(second).try_run().is_none();
            let how = format!("cut after {first}, then after {second}");
            // Until the verdict is final; then it must be what worked.
            let reports: Vec<Report> = (0..4).map(|_| sim.run()).collect();
            assert!(applied(&reports) <= 2, "{how}");
            assert_eq!(code(&reports[3]), "deploy-refused", "{how}");
            serves(&sim, &how);
            assert!(sim.host().journal.is_none(), "{how}");
            cuts += 1;
            if !died {
                break;
            }
        }
    }
    println!("{cuts} kills, each ended with what worked");
}

#[test]
fn a_step_that_a_kill_interrupted_is_named_by_the_next_run() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").commit();
    let uncut = sim.fork();
    uncut.run();
    let at = uncut.asked().iter().position(|asked| asked.starts_with("create web/app")).expect("it was done");
    let effects = uncut.asked()[..at].iter().filter(|asked| !is_question(asked)).count();
    assert!(sim.cut_after(effects).try_run().is_none());
    let report = sim.run();
    assert_eq!(code(&report), "");
    assert!(report.notes[0].ends_with("was killed in the middle of: up web app"), "{:?}", report.notes);
    assert!(!sim.run().notes.iter().any(|note| note.contains("killed")));
}

fn is_question(asked: &str) -> bool {
    let questions =
        ["ledger", "tip", "plugin", "memory", "edited", "observe", "history", "objects", "identities", "images"];
    // The ledger is also written; that is an effect, and stands as `ledger` too.
    asked != "ledger" && (questions.contains(&asked) || asked.starts_with("model of")) || asked == "plugin stamp"
}

#[test]
fn a_full_disk_in_the_middle_leaves_what_works_alone_and_is_forgotten_when_there_is_room() {
    let before = settled();
    before.edit(WEB, "app:1", "app:2").commit();
    let uncut = before.fork();
    uncut.run();
    let sim = before.fork();
    sim.host().disk_is_full = true;
    let report = sim.run();
    assert_eq!(code(&report), "state-unwritable");
    assert_eq!(web(&sim), ["app:1", "db:1", "proxy:1"]);
    assert_eq!(sim.host().outbox.last().expect("announced").status.word(), "down");
    sim.host().disk_is_full = false;
    assert_eq!(code(&sim.run()), "");
    assert_eq!(web(&sim), ["app:2", "db:1", "proxy:1"]);
}

#[test]
fn a_stack_that_leaves_the_host_takes_its_failures_along() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:bad").commit();
    sim.run();
    sim.edit(HOST, "[web, shop]", "[shop]").commit();
    assert_eq!(code(&sim.run()), "");
    assert!(sim.remembered().failures.is_empty() && !sim.host().good.contains_key("web"));
    let verdicts = sim.run().outcomes.iter().filter(|outcome| outcome.verdict != Verdict::Done).count();
    assert_eq!(verdicts, 0);
}
