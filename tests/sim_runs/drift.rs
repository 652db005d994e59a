//! What people and crashes do to a host behind moorline's back, and holds that let them.

use crate::fleet::{HOST, SECRETS, WEB, fleet, secrets, settled};
use crate::sim::{Sim, Transcript};
use moorline::model::tree::File;
use moorline::model::{Report, State};

fn code(report: &Report) -> &str {
    report.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

fn names(sim: &Sim) -> Vec<String> {
    let mut names: Vec<String> = sim.host().engine.containers.iter().map(|container| container.name.clone()).collect();
    names.sort();
    names
}

fn edit(sim: &Sim, path: &str, text: &str) {
    sim.host().directories.get_mut("web").expect("written").insert(path.to_owned(), File::plain(text));
}

#[test]
fn a_paused_a_renamed_and_an_edited_thing_are_put_back_and_what_was_found_is_kept() {
    let sim = settled();
    let before = names(&sim);
    let mut transcript =
        Transcript::new(&sim, "put_back", "must unpause, rename, write and start again, and keep what was found");
    sim.host().engine.by_hand("web", "db", Some(State::Paused));
    assert_eq!(code(&transcript.note("somebody pauses `db`").run()), "");
    let id = sim.host().engine.containers.iter().find(|one| one.service == "app").expect("there").id.clone();
    sim.host().engine.rename(&id, "precious");
    assert_eq!(code(&transcript.note("somebody renames the container of `app`").run()), "");
    assert_eq!(names(&sim), before);
    edit(&sim, "files/proxy.conf", "listen 9999\n");
    assert_eq!(code(&transcript.note("somebody edits the file that `proxy` mounts").run()), "");
    sim.host().directories.get_mut("web").expect("written").remove("files/proxy.conf");
    assert_eq!(code(&transcript.note("somebody removes it").run()), "");
    assert_eq!(sim.host().directories["web"]["files/proxy.conf"].bytes, b"listen 80\n");
    assert!(sim.host().drift[2].contains("--- web/files/proxy.conf\nlisten 9999"), "{:?}", sim.host().drift);
    transcript.run();
    transcript.compare();
}

#[test]
fn a_compose_that_was_killed_while_it_replaced_a_container_is_cleaned_up_after() {
    for old_is_there in [true, false] {
        let sim = settled();
        let before = names(&sim);
        sim.host().engine.half_rename("web", "app", old_is_there);
        assert!(names(&sim).iter().any(|name| name.ends_with("_web-app-1")));
        let report = sim.run();
        assert_eq!(code(&report), "", "{:?}", report.fault);
        assert_eq!(names(&sim), before, "the old one was there: {old_is_there}");
        assert_eq!(sim.run().plan.to_string(), "nothing to do\n");
    }
}

#[test]
fn of_two_that_an_engine_started_again_the_one_that_has_the_name_stays() {
    let sim = settled();
    let before = names(&sim);
    sim.host().engine.half_rename("web", "app", true);
    sim.reboot_in_order();
    let report = sim.run();
    assert!(report.plan.to_string().contains("withdraw"), "{}", report.plan);
    assert_eq!((code(&report), names(&sim)), ("", before), "{:?}", report.fault);
    assert_eq!(sim.run().plan.to_string(), "nothing to do\n");
}

#[test]
fn a_one_shot_that_finishes_after_its_gate_is_no_drift_and_one_that_failed_is() {
    let sim = settled();
    // `proxy` has no restart policy, health check or port: to end with 0 is to have finished.
    sim.host().engine.by_hand("web", "proxy", Some(State::Exited(0)));
    assert_eq!(sim.run().plan.to_string(), "nothing to do\n");
    sim.host().engine.by_hand("web", "proxy", Some(State::Exited(1)));
    assert!(sim.run().plan.to_string().contains("proxy was found exited (1)"));
    sim.edit(WEB, "image: proxy:1", "image: proxy:1\n    restart: unless-stopped").commit();
    sim.run();
    sim.host().engine.by_hand("web", "proxy", Some(State::Exited(0)));
    assert!(sim.run().plan.to_string().contains("proxy was found exited (0)"));
}

#[test]
fn an_orderly_reboot_ends_with_0_what_has_to_come_back_and_runs_no_one_shot_again() {
    let running = |sim: &Sim, service: &str| {
        let seen = sim.host().engine.observe(i64::MAX);
        seen.containers.iter().any(|one| one.service == service && one.state == State::Running)
    };
    let sim = settled();
    sim.run_by_timer();
    sim.reboot_in_order();
    let report = sim.run_by_timer();
    let plan = report.plan.to_string();
    assert!(plan.contains("because proxy was found stopped by a restart of the host or its engine"), "{plan}");
    assert!(report.fault.is_none() && running(&sim, "proxy"), "{report:?}");
    assert!(!plan.contains("init"), "`init` had ended: {plan}");
    assert_eq!(sim.run().plan.to_string(), "nothing to do\n");

    // What ended by itself while the host was up stays ended, whether a run saw that at once or a hold kept it from acting.
    sim.hold(5);
    sim.run_by_timer();
    sim.host().engine.by_hand("web", "proxy", Some(State::Exited(0)));
    sim.run_by_timer();
    sim.reboot_in_order();
    assert_eq!(code(&sim.run_by_timer()), "held");
    sim.host().clock += 5 * 60_000;
    let plan = sim.run_by_timer().plan.to_string();
    assert!(plan.contains("app was found") && !plan.contains("proxy was found"), "{plan}");

    // And what a reboot stopped during a hold comes back when the hold ends.
    sim.host().engine.by_hand("web", "proxy", None);
    sim.run_by_timer();
    sim.hold(5);
    sim.reboot_in_order();
    assert_eq!(code(&sim.run_by_timer()), "held");
    assert_eq!(code(&sim.run_by_timer()), "held");
    sim.host().clock += 5 * 60_000;
    let plan = sim.run_by_timer().plan.to_string();
    assert!(plan.contains("proxy was found stopped by a restart"), "{plan}");
}

#[test]
fn a_held_stack_is_left_alone_while_the_others_go_on_and_what_was_done_meanwhile_is_kept() {
    let sim = settled();
    let mut transcript =
        Transcript::new(&sim, "hold_stack", "must touch nothing of `web` and go on with `shop`, with exit code 4");
    sim.hold_stack("web", 5);
    sim.host().engine.by_hand("web", "app", Some(State::Exited(137)));
    sim.host().engine.remove("shop", "shop");
    edit(&sim, "files/proxy.conf", "listen 9999\n");
    let report = transcript.note("alice holds `web` and works on it; somebody removes `shop`").run();
    assert_eq!(code(&report), "held");
    assert!(names(&sim).contains(&"shop-shop-1".to_owned()));
    sim.reboot();
    assert_eq!(code(&transcript.note("the host is switched off and on: the hold is still there").run()), "held");
    assert_eq!(sim.host().directories["web"]["files/proxy.conf"].bytes, b"listen 9999\n");
    sim.host().clock += 5 * 60_000;
    assert_eq!(code(&transcript.note("the hold has ended").run()), "");
    let kept = sim.host().drift.last().cloned().expect("kept");
    assert!(kept.contains("listen 9999") && kept.contains("after the hold held by alice"), "{kept}");
    assert_eq!(sim.host().directories["web"]["files/proxy.conf"].bytes, b"listen 80\n");
    transcript.run();
    transcript.compare();
}

#[test]
fn what_is_stopped_or_removed_at_any_moment_of_a_run_runs_again_a_few_runs_later() {
    let before = fleet();
    before.commit();
    let uncut = before.fork();
    uncut.run();
    let running = |sim: &Sim| {
        let host = sim.host();
        let seen = host.engine.look("web", &["db".to_owned()], host.time().as_second());
        seen.first().is_some_and(|sample| sample.state == State::Running)
    };
    for removed in [false, true] {
        for effects in 0..=uncut.effects() {
            let how = format!("after {effects} effects, removed: {removed}");
            let sim = before.fork();
            sim.befalls_after(effects, move |host| match removed {
                true => host.engine.remove("web", "db"),
                false => host.engine.by_hand("web", "db", Some(State::Exited(137))),
            });
            let report = sim.run();
            let seen = report.services.iter().any(|one| one.service == "db" && one.state == State::Running);
            assert!(report.fault.is_some() || seen, "{how}: it is not said: {}", report.summary);
            let reports: Vec<Report> = (0..3).map(|_| sim.run()).collect();
            assert!(running(&sim), "{how}");
            assert_eq!((code(&reports[2]), reports[2].plan.to_string().as_str()), ("", "nothing to do\n"), "{how}");
        }
    }
}

#[test]
fn a_held_stack_that_leaves_the_host_stays_until_the_hold_ends() {
    let sim = settled();
    let before = names(&sim);
    sim.hold_stack("shop", 30);
    sim.edit(HOST, "[web, shop]", "[web]").write(SECRETS, secrets("another-db-password")).commit();
    assert_eq!(code(&sim.run()), "held");
    assert_eq!(names(&sim), before);
    sim.host().clock += 30 * 60_000;
    assert_eq!(code(&sim.run()), "");
    assert!(!names(&sim).iter().any(|name| name.starts_with("shop")));
}
