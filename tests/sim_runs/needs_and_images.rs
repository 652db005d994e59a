//! Stacks that need one another, and images that nobody needs any more.

use std::collections::BTreeSet;

use crate::fleet::{HOST, SHOP, WEB, fleet, settled};
use moorline::model::{Report, Verdict};

const WIKI: &str = "stacks/wiki/compose.yaml";
const DAY: i64 = 24 * 3600 * 1000;

/// The stacks of which at least one step ended so.
fn stacks(report: &Report, wanted: fn(&Verdict) -> bool) -> BTreeSet<&str> {
    let of = report.outcomes.iter().filter(|outcome| wanted(&outcome.verdict));
    of.map(|outcome| outcome.step.stack.as_str()).collect()
}

#[test]
fn a_stack_whose_need_failed_is_skipped_with_the_cause_and_independent_ones_go_on() {
    let sim = fleet();
    sim.write(WIKI, "services: { wiki: { image: \"shop:2\" } }\n")
        .edit(HOST, "stacks: [web, shop]", "stacks: [web, wiki, shop]\nneeds: { web: [shop] }")
        .edit(SHOP, "image: init:1", "image: init:bad")
        .commit();
    let report = sim.run();
    let order: Vec<&str> = report.plan.steps.iter().map(|step| step.stack.as_str()).collect();
    let last_shop = order.iter().rposition(|stack| *stack == "shop").unwrap();
    let first_act = report.plan.steps.iter().position(|step| step.stack == "web" && step.action.verb() == "write");
    assert!(first_act.unwrap() > last_shop, "web comes after what it needs: {order:?}");
    assert_eq!(stacks(&report, |verdict| matches!(verdict, Verdict::Failed { .. })), ["shop"].into());
    let because = Verdict::Skipped { because: "it needs shop: gate of shop failed".into() };
    let skipped: BTreeSet<_> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.verdict == because)
        .map(|outcome| outcome.step.stack.as_str())
        .collect();
    assert_eq!(skipped, ["web"].into());
    let projects: BTreeSet<String> =
        sim.host().engine.observe(0).containers.into_iter().map(|container| container.project).collect();
    assert_eq!(projects, ["shop".to_owned(), "wiki".to_owned()].into());

    sim.edit(SHOP, "image: init:bad", "image: init:1").commit();
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert!(stacks(&report, |verdict| *verdict == Verdict::Done).contains("web"));
}

#[test]
fn an_image_whose_pull_was_killed_is_ours_too_and_digests_are_in_ledger_and_report() {
    let before = settled();
    before.edit(WEB, "app:1", "app:2").commit();
    let killed = (0..).find_map(|effects| {
        let sim = before.fork();
        sim.cut_after(effects);
        assert!(sim.try_run().is_none(), "it is killed after the pull at the latest");
        let is_there = sim.host().engine.images.contains("app:2");
        (is_there && !sim.remembered().images.contains_key("app:2")).then_some(sim)
    });
    let sim = killed.unwrap();
    assert_eq!(sim.remembered().pulling, ["app:2".to_owned()].into());
    // Nobody wants it any more when the next run comes: still, it is known, and goes after a week.
    sim.edit(WEB, "app:2", "app:1").commit();
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    let ledger = sim.remembered();
    assert!(ledger.pulling.is_empty() && ledger.images["app:2"].unused_since.is_some(), "{:?}", ledger.images);
    sim.host().clock += 8 * DAY;
    sim.run();
    assert!(!sim.host().engine.images.contains("app:2"));

    let app = report.services.iter().find(|service| service.service == "app").unwrap();
    let digest = app.digest.clone().expect("it came from a registry");
    assert!(digest.starts_with("app@sha256:"), "{digest}");
    assert!(ledger.applied["web"].digests.values().any(|known| *known == digest));
    assert_eq!(ledger.images["app:1"].digest, Some(digest));
}

#[test]
fn an_image_goes_a_week_after_its_last_use_and_one_that_is_needed_again_stays() {
    let sim = settled();
    sim.host().engine.images.insert("theirs:1".into());
    let has = |image: &str| sim.host().engine.images.contains(image);
    sim.edit(WEB, "app:1", "app:2").edit(SHOP, "shop:1", "shop:2").commit();
    sim.run();
    sim.host().clock += 6 * DAY;
    sim.run();
    assert!(has("app:1") && has("shop:1"), "not before a week is over");
    // One of the two is taken back.
    sim.edit(SHOP, "shop:2", "shop:1").commit();
    sim.run();
    assert!(!sim.asked().iter().any(|asked| asked.starts_with("pull")), "going back needs no registry");
    sim.host().clock += 2 * DAY;
    let report = sim.run();
    assert!(report.fault.is_none(), "{:?}", report.fault);
    assert!(!has("app:1"), "nothing has needed it for eight days");
    assert!(has("shop:1") && has("shop:2") && has("theirs:1"));
    assert!(sim.said().iter().any(|event| event.name() == "image-removed"));
    sim.run();
    assert!(!sim.said().iter().any(|event| event.name() == "image-removed"), "once");
}

#[test]
fn a_host_that_is_held_or_did_not_converge_keeps_every_image() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.run();
    sim.host().clock += 9 * DAY;
    sim.hold(60);
    sim.run();
    assert!(sim.host().engine.images.contains("app:1"), "held");
    sim.host().clock += DAY;
    sim.edit(WEB, "app:2", "app:bad").commit();
    assert!(sim.run().fault.is_some());
    assert!(sim.host().engine.images.contains("app:1"), "did not converge");
}
