//! kill -9 at any instant: the next run finishes the work, and the host ends as if nothing had happened.

use crate::fleet::{HOST, SECRETS, SHOP, WEB, fleet, secrets, settled};
use crate::sim::{Signer, Sim};
use crate::world_after::{assert_same, left};
use moorline::model::State;

/// Kills the run after each of its effects; then one run more must end as an uncut run does, and leave nothing to do.
#[track_caller]
pub fn every_cut_converges(before: &Sim) {
    let uncut = before.fork();
    let report = uncut.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    let goal = left(&uncut);
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        assert!(sim.cut_after(effects).try_run().is_none(), "the run has more effects than {effects}");
        finish(&sim, &goal, &format!("cut after {effects}"));
    }
}

/// The same, and the run that recovers is killed after each of its effects too.
#[track_caller]
pub fn every_two_cuts_converge(before: &Sim) {
    let uncut = before.fork();
    uncut.run();
    let goal = left(&uncut);
    for first in 0..uncut.effects() {
        let once = before.fork();
        assert!(once.cut_after(first).try_run().is_none());
        // Every place for the second kill comes up beside a third of the places for the first.
        for second in (first % 3..).step_by(3) {
            let twice = once.fork();
            if twice.cut_after(second).try_run().is_some() {
                break;
            }
            finish(&twice, &goal, &format!("cut after {first}, then after {second}"));
        }
    }
}

#[track_caller]
fn finish(sim: &Sim, goal: &str, how: &str) {
    let report = sim.run();
    assert!(report.fault.is_none(), "{how}: {:?}", report.fault);
    assert_same(goal, &left(sim), how);
    let again = sim.run();
    assert_eq!(again.plan.to_string(), "nothing to do\n", "{how}");
    assert_same(goal, &left(sim), how);
}

/// A host that has run the first commit, and the change that it is about to deploy.
fn changed(change: impl Fn(&Sim)) -> Sim {
    let sim = settled();
    change(&sim);
    sim.commit();
    sim
}

#[test]
fn a_first_run_can_be_killed_anywhere() {
    let sim = fleet();
    sim.commit();
    every_cut_converges(&sim);
}

#[test]
fn a_first_run_and_the_run_that_recovers_can_be_killed_anywhere() {
    let sim = fleet();
    sim.commit();
    every_two_cuts_converge(&sim);
}

#[test]
fn the_deploy_of_a_new_image_can_be_killed_anywhere() {
    every_two_cuts_converge(&changed(|sim| _ = sim.edit(WEB, "app:1", "app:2")));
}

#[test]
fn a_rotation_of_a_secret_can_be_killed_anywhere() {
    every_two_cuts_converge(&changed(|sim| _ = sim.write(SECRETS, secrets("another-db-password"))));
}

#[test]
fn the_removal_of_a_service_can_be_killed_anywhere() {
    every_two_cuts_converge(&changed(|sim| {
        sim.edit(
            WEB,
            "  proxy:\n    image: proxy:1\n    volumes: [./files/proxy.conf:/etc/proxy.conf]\n    depends_on: [app]\n",
            "",
        );
        sim.remove("stacks/web/files");
    }));
}

#[test]
fn the_removal_of_a_stack_can_be_killed_anywhere() {
    every_two_cuts_converge(&changed(|sim| _ = sim.edit(HOST, "[web, shop]", "[web]")));
}

#[test]
fn a_changed_network_can_be_killed_anywhere() {
    every_two_cuts_converge(&changed(|sim| {
        _ = sim.edit(
            SHOP,
            "configs:\n  settings:",
            "networks:\n  default: { driver_opts: { com.docker.network.driver.mtu: '1400' } }\nconfigs:\n  settings:",
        );
    }));
}

#[test]
fn the_repair_after_a_reboot_can_be_killed_anywhere() {
    let sim = settled();
    sim.reboot();
    every_two_cuts_converge(&sim);
}

#[test]
fn a_first_run_that_was_killed_before_an_orderly_shutdown_is_finished_after_it() {
    let before = fleet();
    before.commit();
    let uncut = before.fork();
    uncut.run();
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        sim.cut_after(effects).try_run();
        sim.reboot_in_order();
        let report = sim.run();
        assert!(report.fault.is_none(), "cut after {effects}: {:?}", report.fault);
        let stopped: Vec<_> = report.services.iter().filter(|one| one.state != State::Running).collect();
        assert!(stopped.iter().all(|one| one.service == "init"), "cut after {effects}: {stopped:?}");
    }
}

#[test]
fn a_killed_deploy_that_is_taken_back_ends_where_it_began() {
    let before = settled();
    let goal = left(&before);
    before
        .edit(WEB, "app:1", "app:2")
        .write(SECRETS, secrets("another-db-password"))
        .write("stacks/web/files/new", "x")
        .commit();
    let uncut = before.fork();
    uncut.run();
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        sim.cut_after(effects).try_run();
        sim.edit(WEB, "app:2", "app:1")
            .write(SECRETS, secrets("canary-db-password"))
            .remove("stacks/web/files/new")
            .commit();
        let report = sim.run();
        assert!(report.fault.is_none(), "cut after {effects}: {:?}", report.fault);
        // The anchor moved on, and that is right.
        assert_same(without_anchor(&goal), without_anchor(&left(&sim)), &format!("cut after {effects}"));
    }
}

#[test]
fn a_failed_deploy_that_is_taken_back_ends_where_it_began_wherever_it_or_its_way_back_was_killed() {
    let before = settled();
    let goal = left(&before);
    before.edit(WEB, "app:1", "app:bad").commit();
    let uncut = before.fork();
    assert_eq!(uncut.run().fault.expect("unhealthy").code, "rolled-back");
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        assert!(sim.cut_after(effects).try_run().is_none());
        sim.edit(WEB, "app:bad", "app:1").commit();
        let report = sim.run();
        assert!(report.fault.is_none(), "cut after {effects}: {:?}", report.fault);
        assert_same(without_settled(&goal), without_settled(&left(&sim)), &format!("cut after {effects}"));
    }
}

#[test]
fn a_failed_deploy_that_is_taken_back_ends_where_it_began() {
    let sim = settled();
    let goal = left(&sim);
    sim.edit(WEB, "app:1", "app:bad").commit();
    assert_eq!(sim.run().fault.expect("unhealthy").code, "rolled-back");
    assert_same(without_settled(&goal), without_settled(&left(&sim)), "rolled back");
    sim.edit(WEB, "app:bad", "app:1").commit();
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert_same(without_anchor(&goal), without_anchor(&left(&sim)), "taken back");
}

#[test]
fn a_cut_before_the_anchor_was_written_lets_a_rewound_history_in_only_as_far_as_it_was_accepted() {
    let sim = settled();
    let first = sim.host().tip.clone();
    let newest = sim.edit(WEB, "app:1", "app:2").commit();
    assert!(sim.cut_after(1).try_run().is_none());
    assert_eq!(sim.remembered().anchor.map(|anchor| anchor.revision), Some(newest));
    sim.commit_on(first.as_ref(), Signer::Operator);
    assert_eq!(sim.run().fault.expect("rewound").code, "history-rewound");
}

fn without_settled(left: &str) -> &str {
    left.split_once("settled").map_or(left, |(before, _)| before)
}

fn without_anchor(left: &str) -> &str {
    left.split_once("anchor").map_or(left, |(before, _)| before)
}

#[test]
fn a_reload_that_is_taken_back_after_a_kill_is_sent_again() {
    let before = fleet();
    before.edit(WEB, "    image: proxy:1\n", "    image: proxy:1\n    x-moorline: { reload: SIGHUP }\n").commit();
    before.run();
    before.write("stacks/web/files/proxy.conf", "listen 8080\n").commit();
    let uncut = before.fork();
    uncut.run();
    for effects in 0..uncut.effects() {
        let sim = before.fork();
        sim.cut_after(effects).try_run();
        let finished = !sim.remembered().begun.contains_key("web");
        let signals = sim.host().engine.signals.len();
        sim.write("stacks/web/files/proxy.conf", "listen 80\n").commit();
        assert!(sim.run().fault.is_none());
        let sent = sim.host().engine.signals.len() - signals;
        assert!(signals == 0 || sent == 1, "cut after {effects}: the old file is not read, finished: {finished}");
    }
}
