//! Attacks on the history, and clocks that are wrong, against a whole host: named by their numbers in the fault matrix.

use crate::fleet::{HOST, RING, WEB, settled};
use crate::sim::{Signer, Sim};
use moorline::model::Report;
use moorline::model::report::RunEnd;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn code(report: &Report) -> &str {
    report.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

/// The anchor, what runs, and what was said to be applied.
fn state(sim: &Sim) -> String {
    let ledger = sim.remembered();
    let containers: Vec<String> =
        sim.run().services.iter().map(|service| format!("{} {}", service.container, service.image)).collect();
    format!("{:?} {:?} {containers:?}", ledger.anchor.map(|anchor| anchor.revision), ledger.applied.keys())
}

/// Offers a commit that must be refused, and looks whether anything came of it.
fn refuses(sim: &Sim, expected: &str) {
    let before = sim.fork();
    let tip = before.remembered().anchor.expect("an anchor").revision;
    before.host().tip = Some(tip);
    let before = state(&before);
    let report = sim.run();
    assert_eq!((code(&report), report.outcomes.len()), (expected, 0));
    let accepted = sim.remembered().anchor.expect("an anchor").revision;
    sim.host().tip = Some(accepted);
    assert_eq!(state(sim), before);
}

#[test]
fn t2_an_older_tip_is_refused_however_often_it_comes_back() {
    let sim = settled();
    let old = sim.host().tip.clone();
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.run();
    for _ in 0..3 {
        sim.host().tip.clone_from(&old);
        refuses(&sim, "history-rewound");
    }
}

#[test]
fn t3_of_two_signed_commits_on_one_parent_only_the_first_that_came_is_accepted() {
    let sim = settled();
    let parent = sim.host().tip.clone();
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.run();
    sim.edit(WEB, "app:2", "app:1").commit_on(parent.as_ref(), Signer::Operator);
    refuses(&sim, "history-rewound");
}

#[test]
fn t8_a_tip_that_stands_still_is_said_and_blocks_nothing() {
    let sim = settled();
    sim.write("moorline.yaml", "version: 1\ntrust: { expect_change_within: 30d }\n").commit();
    assert_eq!(sim.run().notes, Vec::<String>::new());
    sim.host().clock += 29 * DAY;
    assert_eq!(sim.run().notes, Vec::<String>::new());
    sim.host().clock += 2 * DAY;
    let report = sim.run();
    assert_eq!(report.end, RunEnd::Converged);
    let said = "the tip has not moved for 31 days";
    assert_eq!(report.notes, [format!("{said}: either nobody committed, or this host is kept from seeing it")]);
    assert!(report.summary.ends_with(said), "{}", report.summary);
    let message = sim.host().outbox.last().expect("a message").clone();
    assert_eq!(message.status, moorline::decide::push::Status::Up);
    assert!(message.text.ends_with(said), "{}", message.text);
    // Work goes on, and the next commit ends it.
    sim.edit(WEB, "app:1", "app:2").commit();
    let report = sim.run();
    assert_eq!((report.end, report.notes), (RunEnd::Converged, vec![]));
}

#[test]
fn t11_a_ring_or_a_host_file_moved_by_an_untrusted_tip_is_not_read() {
    for (path, content) in [
        (RING, "follow: main\nhalt: by a stranger\n"),
        (RING, "commit: 9f2c1e07aa00bb11cc22dd33ee44ff5566778899\n"),
        (HOST, "ring: production\nstacks: []\n"),
        ("moorline.yaml", "version: 7\n"),
    ] {
        for signer in [Signer::Nobody, Signer::Stranger, Signer::Stolen] {
            let sim = settled();
            sim.write(path, content).commit_as(signer);
            let expected = match signer {
                Signer::Nobody => "commit-unsigned",
                Signer::Stolen => "signature-bad",
                _ => "signer-unknown",
            };
            refuses(&sim, expected);
            // And a signed commit on top does not launder it.
            let bad = sim.repository().commits().last().cloned();
            sim.commit_on(bad.as_ref(), Signer::Operator);
            refuses(&sim, expected);
        }
    }
}

#[test]
fn t22_a_clock_that_jumps_ten_years_changes_no_decision_about_trust() {
    for years in [-10, 10] {
        let offers: [(fn(&Sim), &str); 5] = [
            (|sim| _ = sim.edit(WEB, "app:1", "app:2").commit(), ""),
            (|sim| _ = sim.commit_as(Signer::Nobody), "commit-unsigned"),
            (|sim| _ = sim.commit_as(Signer::Stranger), "signer-unknown"),
            (|sim| _ = sim.commit_on(None, Signer::Operator), "history-rewound"),
            (|_| {}, ""),
        ];
        for (offer, expected) in offers {
            let (right, wrong) = (settled(), settled());
            wrong.host().clock += years * 365 * DAY;
            offer(&right);
            offer(&wrong);
            let (right_report, wrong_report) = (right.run(), wrong.run());
            assert_eq!((code(&right_report), code(&wrong_report)), (expected, expected), "{years} years");
            let anchor = |sim: &Sim| sim.remembered().anchor.map(|anchor| (anchor.revision, anchor.first));
            assert_eq!(anchor(&right), anchor(&wrong));
        }
    }
}

#[test]
fn t24_a_rewritten_history_is_refused_though_every_commit_in_it_is_signed() {
    let sim = settled();
    sim.edit(WEB, "app:1", "app:2").commit();
    sim.run();
    let first = sim.commit_on(None, Signer::Operator);
    sim.commit_on(Some(&first), Signer::Operator);
    refuses(&sim, "history-rewound");
}
