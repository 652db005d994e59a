//! Rings as hosts see them: waves, freezes, signed ring files, halts, and stacks that only go forward.

use std::collections::BTreeMap;

use moorline::decide::report::exit;
use moorline::decide::ring::seal::{self, NAMESPACE, Offered, SealFlaw};
use moorline::decide::trust::DetachedFlaw;
use moorline::model::ring::{Seal, SealedRing, WaitingFor};
use moorline::model::{Report, Revision, RunEnd, State, Tree};

use crate::fleet::{HOST, RING, SHOP, WEB, fleet};
use crate::sim::{Key, Signer, Sim, Transcript};

const OTHER: &str = "hosts/beta/host.yaml";
const SIGNERS: &str = "signers/allowed_signers";
const SIGNATURE: &str = "rings/canary.yaml.sig";

/// The key that may sign rings and no commit.
fn ring_key() -> Key {
    Key::new(20)
}

fn ring_line(key: &Key) -> String {
    key.line("ring:canary namespaces=\"moorline-ring@v1\"")
}

/// A host whose ring names its first commit, which runs.
fn pinned() -> (Sim, Revision) {
    let sim = fleet();
    let first = sim.commit();
    assert_eq!(sim.run().end, RunEnd::Converged);
    sim.write(RING, format!("commit: {first}\n")).commit();
    assert_eq!(sim.run().revision, Some(first.clone()));
    (sim, first)
}

/// A commit that changes what the host runs, and another one that promotes it.
fn promote(sim: &Sim, ring: &str) -> Revision {
    sim.edit(WEB, "app:1", "app:2");
    let second = sim.commit();
    sim.write(RING, format!("commit: {second}\n{ring}")).commit();
    second
}

fn code(report: &Report) -> &str {
    report.fault.as_ref().map_or("", |fault| fault.code.as_str())
}

#[test]
fn a_host_waits_for_its_wave_and_what_runs_is_looked_after_meanwhile() {
    let (sim, first) = pinned();
    let mut transcript = Transcript::new(&sim, "wave", "must stay at the revision before until its wave comes");
    let second = promote(&sim, "waves: [{ percent: 100, after: 10m }]\n");
    transcript.note("app:2 is promoted, for all hosts after ten minutes").run();
    assert_eq!(sim.remembered().released, Some(first.clone()));
    sim.host().engine.by_hand("web", "proxy", Some(State::Exited(137)));
    transcript.note("somebody stops `proxy` while the host waits");
    let report = transcript.run();
    assert_eq!((report.end, report.revision), (RunEnd::Converged, Some(first)));
    assert!(matches!(report.waiting.unwrap().what, WaitingFor::Wave { number: 1, of: 1 }));
    for _ in 0..7 {
        sim.run();
    }
    sim.host().outbox.clear();
    transcript.note("nine minutes have gone by").run();
    transcript.note("and ten");
    assert_eq!(transcript.run().revision, Some(second));
    transcript.run();
    assert!(sim.asked().iter().all(|asked| asked != "objects"), "it is settled");
    transcript.compare();
}

#[test]
fn t22_a_clock_that_jumps_does_not_bring_a_wave_forward() {
    let (sim, first) = pinned();
    promote(&sim, "waves: [{ percent: 100, after: 2h }]\n");
    sim.run();
    for years in [10_i64, -20, 10] {
        sim.host().clock += years * 366 * 24 * 3_600_000;
        assert_eq!(sim.run().revision, Some(first.clone()));
    }
    assert!(sim.remembered().pending.is_some_and(|pending| pending.waited_ms < 30 * 60_000));
}

#[test]
fn a_freeze_stops_what_is_new_and_neither_repair_nor_the_way_back() {
    let (sim, first) = pinned();
    // 2026-01-01 is a Thursday.
    let freeze = "freeze: [{ from: 'Wed 00:00', until: 'Fri 00:00', zone: Europe/Berlin }]\n";
    let mut transcript = Transcript::new(&sim, "freeze", "must deploy nothing new while frozen, and go back at once");
    let second = promote(&sim, freeze);
    transcript.note("app:2 is promoted in a freeze").run();
    assert_eq!(sim.remembered().released, Some(first.clone()));
    sim.host().clock += 23 * 3_600_000;
    transcript.note("the freeze is over");
    assert_eq!(transcript.run().revision, Some(second.clone()));
    sim.host().clock += 6 * 24 * 3_600_000;
    sim.write(RING, format!("commit: {first}\n{freeze}")).commit();
    transcript.note("it is frozen again, a week later, and revision-1 is promoted");
    assert_eq!(transcript.run().revision, Some(first));
    transcript.compare();
}

#[test]
fn a_host_that_runs_nothing_yet_waits_for_nothing() {
    let sim = fleet();
    let first = sim.commit();
    let ring = "waves: [{ percent: 100, after: 2h }]\nfreeze: [{ from: 'Wed 00:00', until: 'Fri 00:00', zone: UTC }]\n";
    sim.write(RING, format!("commit: {first}\n{ring}")).commit();
    let report = sim.run();
    assert_eq!((report.end, report.revision), (RunEnd::Converged, Some(first)));
}

#[test]
fn t11_a_ring_that_was_moved_at_an_untrusted_tip_is_ignored() {
    let (sim, first) = pinned();
    let before = sim.remembered();
    sim.edit(WEB, "app:1", "app:2");
    let second = sim.commit();
    sim.run();
    let trusted = sim.remembered();
    for signer in [Signer::Nobody, Signer::Stranger, Signer::Stolen] {
        sim.write(RING, format!("commit: {second}\n"));
        sim.commit_on(Some(&second), signer);
        let report = sim.run();
        assert_eq!(report.end, RunEnd::Faulted, "{signer:?}");
        assert_eq!(sim.remembered().anchor, trusted.anchor);
        assert_eq!(sim.remembered().released, Some(first.clone()));
        assert_eq!(sim.remembered().applied["web"].revision, before.applied["web"].revision);
    }
}

#[test]
fn t39_a_halt_that_arrives_between_pulling_and_applying_is_obeyed() {
    let sim = fleet();
    sim.commit();
    sim.run();
    sim.edit(WEB, "app:1", "app:2");
    let second = sim.commit();
    sim.edit(RING, "follow: main", "follow: main\nhalt: the database is being moved");
    let halted = sim.commit();
    sim.host().tip = Some(second.clone());
    // Effects of this run: the anchor, what the ring lets it run, what is to be pulled, the image. Then the halt is fetched.
    let mut transcript = Transcript::new(&sim, "halt_meanwhile", "must pull the image and then touch nothing");
    sim.arrives_after(4, &halted);
    transcript.note("revision-2 brings app:2, and while it is pulled, revision-3 halts the ring");
    let report = transcript.run();
    assert_eq!((report.end, code(&report)), (RunEnd::Halted, "halted"));
    assert!(sim.host().engine.images.contains("app:2"), "it was pulled");
    assert_eq!(sim.remembered().attempted, sim.remembered().applied.iter().map(digest).collect());
    transcript.compare();
    // A halt that nobody signed stops nobody.
    sim.host().tip = Some(second.clone());
    let forged = sim.commit_on(Some(&second), Signer::Nobody);
    sim.host().tip = Some(second);
    sim.arrives_after(1, &forged);
    assert_ne!(sim.run().end, RunEnd::Halted);
}

#[test]
fn a_halt_in_the_middle_of_a_run_does_not_hide_what_was_rolled_back_before() {
    let sim = fleet();
    sim.commit();
    sim.run();
    sim.edit(WEB, "app:1", "app:bad").edit(SHOP, "shop:1", "shop:2");
    let second = sim.commit();
    sim.edit(RING, "follow: main", "follow: main\nhalt: the database is being moved");
    let halted = sim.commit();
    sim.host().tip = Some(second);
    let mut both = 0;
    for effects in 20..60 {
        let sim = sim.fork();
        sim.arrives_after(effects, &halted);
        let report = sim.run();
        let named = serde_json::to_string(&report.fault).unwrap();
        if report.rollbacks.is_empty() || !named.contains("is halted") {
            continue;
        }
        both += 1;
        assert_eq!((report.end, code(&report), exit(&report)), (RunEnd::RolledBack, "rolled-back", 1));
        assert!(named.contains("also: ring canary is halted: the database is being moved"), "{named}");
        assert!(report.summary.contains("web rolled back to"), "{}", report.summary);
        assert!(report.summary.contains("ring canary is halted"), "{}", report.summary);
        assert!(sim.host().engine.containers.iter().all(|container| container.image != "shop:2"));
    }
    assert!(both > 0, "no halt came between the two stacks");
}

#[test]
fn a_run_that_was_halted_held_or_refused_still_shows_what_serves() {
    let shown = |report: &Report| report.services.iter().map(|service| service.container.clone()).collect::<Vec<_>>();
    let sim = fleet();
    sim.commit();
    let all = shown(&sim.run());
    assert_eq!(all.len(), 5);
    sim.edit(RING, "follow: main", "follow: main\nhalt: the database is being moved");
    sim.commit();
    let report = sim.run();
    assert_eq!((code(&report), shown(&report)), ("halted", all.clone()));
    assert_eq!(sim.host().outbox.last().unwrap().status.word(), "up");
    // A service that lies there meanwhile is nobody's will.
    sim.host().engine.by_hand("web", "db", Some(State::Exited(137)));
    let report = sim.run();
    assert!(report.summary.ends_with("; not well: web-db-1 (exited (137))"), "{}", report.summary);
    assert_eq!(sim.host().outbox.last().unwrap().status.word(), "down");
    sim.host().engine.by_hand("web", "db", None);
    sim.edit(RING, "\nhalt: the database is being moved", "");
    sim.commit();
    sim.hold(5);
    let report = sim.run();
    assert_eq!((code(&report), shown(&report)), ("held", all.clone()));
    sim.commit_as(Signer::Nobody);
    let report = sim.run();
    assert_eq!((code(&report), shown(&report)), ("commit-unsigned", all));
    sim.host().engine_answers = false;
    assert!(shown(&sim.run()).is_empty());
}

fn digest((stack, applied): (&String, &moorline::model::Applied)) -> (String, String) {
    (stack.clone(), applied.digest.clone())
}

#[test]
fn a_stack_that_only_goes_forward_is_left_when_the_ring_goes_back() {
    let sim = fleet();
    sim.edit(WEB, "services:\n", "x-moorline: { deploy: { rollback: forward-only } }\nservices:\n");
    let first = sim.commit();
    sim.edit(WEB, "app:1", "app:2").edit(SHOP, "shop:1", "shop:2");
    let second = sim.commit();
    sim.run();
    assert_eq!(sim.run().revision, Some(second));
    let mut transcript = Transcript::new(&sim, "forward_only", "must leave `web` at app:2 and take `shop` back");
    sim.write(RING, format!("commit: {first}\n")).commit();
    transcript.note("the ring goes back to revision-1, and `web` says forward-only");
    let report = transcript.run();
    assert_eq!((report.end, code(&report)), (RunEnd::Degraded, "downgrade-refused"));
    transcript.note("the next run says the same");
    assert_eq!(code(&transcript.run()), "downgrade-refused");
    sim.write(RING, format!("commit: {first}\ndowngrade: [web]\n")).commit();
    transcript.note("the ring names `web` under downgrade");
    assert_eq!(transcript.run().end, RunEnd::Converged);
    transcript.compare();
}

/// A signed ring file that names `commit`, in the working tree.
fn sign(sim: &Sim, key: &Key, sequence: u64, more: &str) {
    let text = format!("ring: canary\nfollow: main\nsequence: {sequence}\n{more}");
    sim.write(SIGNATURE, key.armoured(NAMESPACE, text.as_bytes())).write(RING, text);
}

/// A host that has accepted a signed ring file with sequence 5.
fn sealed() -> Sim {
    let sim = fleet();
    let signers = sim.repository().read(SIGNERS);
    sim.write(SIGNERS, signers + &ring_line(&ring_key()));
    sign(&sim, &ring_key(), 5, "signed: required\n");
    sim.commit();
    assert_eq!(sim.run().end, RunEnd::Converged);
    sim
}

#[test]
fn a_ring_that_must_be_signed_moves_only_by_its_own_key() {
    let sim = sealed();
    let stays = sim.remembered();
    let refused = |what: &str, expected: &str| {
        sim.commit();
        let report = sim.run();
        assert_eq!((code(&report), report.end), (expected, RunEnd::Faulted), "{what}");
        let now = sim.remembered();
        assert_eq!((&now.seal, &now.released, &now.applied), (&stays.seal, &stays.released, &stays.applied), "{what}");
    };
    // Whoever merges may change the file, and nobody deploys because of it.
    sim.write(RING, "ring: canary\nfollow: main\nsequence: 6\nsigned: required\n# by the forge\n");
    refused("a file that the signature does not cover", "ring-unsigned");
    sim.remove(SIGNATURE);
    refused("no signature", "ring-unsigned");
    sim.write(RING, "follow: main\n");
    refused("`signed: required` is dropped", "ring-unsigned");
    sign(&sim, &Key::new(21), 6, "signed: required\n");
    refused("a stranger's key", "ring-unsigned");
    let signers = sim.repository().read(SIGNERS);
    sim.write(SIGNERS, signers.clone() + &ring_line(&Key::new(21)));
    refused("a key that was listed by the same hand", "ring-unsigned");
    sim.write(SIGNERS, signers);
    sim.write("rings/other.yaml", "follow: main\n").edit(HOST, "ring: canary", "ring: other");
    refused("the host is moved to a ring that nobody signs", "ring-unsigned");
    sim.edit(HOST, "ring: other", "ring: canary");
    sign(&sim, &ring_key(), 6, "signed: required\n");
    sim.edit(WEB, "app:1", "app:2").commit();
    assert_eq!(sim.run().end, RunEnd::Converged);
    sign(&sim, &ring_key(), 7, "");
    sim.commit();
    assert_eq!(sim.run().end, RunEnd::Converged);
    assert_eq!(sim.remembered().seal, None, "a signed file may say that signatures are not needed any more");
}

#[test]
fn t2_an_older_signed_ring_file_cannot_return() {
    let sim = sealed();
    let old = sim.repository().read(RING);
    let old_signature = sim.repository().read(SIGNATURE);
    sign(&sim, &ring_key(), 6, "signed: required\nhalt: audit\n");
    sim.commit();
    assert_eq!(sim.run().end, RunEnd::Halted);
    sim.write(RING, old).write(SIGNATURE, old_signature).commit();
    assert_eq!(code(&sim.run()), "ring-replayed");
    // A new clone knows no more; the ledger does.
    assert_eq!(code(&sim.run()), "ring-replayed");
    assert_eq!(sim.remembered().seal.unwrap().rings["canary"].sequence, 6);
}

#[test]
fn t3_two_signed_files_with_one_number_are_named_as_such() {
    let sim = sealed();
    sign(&sim, &ring_key(), 5, "signed: required\n# another one\n");
    sim.commit();
    assert_eq!(code(&sim.run()), "ring-equivocal");
}

#[test]
fn keys_of_a_ring_rotate_with_a_file_that_an_old_key_signs() {
    let sim = sealed();
    let new = Key::new(22);
    let signers = sim.repository().read(SIGNERS);
    sim.write(SIGNERS, signers.clone() + &ring_line(&new));
    sign(&sim, &ring_key(), 6, "signed: required\n");
    sim.commit();
    assert_eq!(sim.run().end, RunEnd::Converged);
    sim.write(SIGNERS, signers.replace(&ring_line(&ring_key()), &ring_line(&new)));
    sign(&sim, &new, 7, "signed: required\n");
    sim.commit();
    assert_eq!(sim.run().end, RunEnd::Converged);
    sign(&sim, &ring_key(), 8, "signed: required\n");
    sim.commit();
    assert_eq!(code(&sim.run()), "ring-unsigned", "the old key is gone");
}

/// One offer to a host, and its answer.
fn offered(
    text: &str,
    signature: Option<&str>,
    signers: &str,
    memory: Option<&Seal>,
) -> Result<Option<Seal>, SealFlaw> {
    let file = |text: &str| moorline::model::File::plain(text);
    let tree: Tree = [("rings/canary.yaml".to_owned(), file(text))].into_iter().collect();
    let ring = moorline::decide::fleet::ring(&tree, "canary", "main").expect("a ring");
    let at = 1_767_225_600;
    let (file, signature, signers) = (text.as_bytes(), signature.map(str::as_bytes), signers.as_bytes());
    seal::check(&Offered { ring: &ring, file, signature, signers, at }, memory)
}

#[test]
fn t1_the_wrong_key_namespace_ring_or_number_is_refused() {
    let key = ring_key();
    let text = "ring: canary\nfollow: main\nsequence: 5\nsigned: required\n";
    let good = key.armoured(NAMESPACE, text.as_bytes());
    let list = ring_line(&key);
    assert!(offered(text, Some(&good), &list, None).unwrap().is_some());
    let refused = |signature: Option<&str>, signers: &str| offered(text, signature, signers, None).unwrap_err();
    assert_eq!(refused(None, &list), SealFlaw::Missing);
    let for_git = key.armoured("git", text.as_bytes());
    assert!(
        matches!(refused(Some(&for_git), &list), SealFlaw::Signature(DetachedFlaw::Signature(_))),
        "wrong namespace"
    );
    let over_other = key.armoured(NAMESPACE, b"ring: canary\n");
    assert!(
        matches!(refused(Some(&over_other), &list), SealFlaw::Signature(DetachedFlaw::Signature(_))),
        "other bytes"
    );
    let crlf = text.replace('\n', "\r\n");
    assert!(offered(&crlf, Some(&good), &list, None).is_err(), "the bytes of the blob count");
    let strange = Key::new(21).armoured(NAMESPACE, text.as_bytes());
    assert!(matches!(refused(Some(&strange), &list), SealFlaw::Signature(DetachedFlaw::Unknown(_))));
    let for_commits = key.line("operator@example.org");
    assert!(
        matches!(refused(Some(&good), &for_commits), SealFlaw::Signature(DetachedFlaw::Limited { .. })),
        "may sign commits, and no ring"
    );
    let other_ring = key.line("ring:production");
    assert!(matches!(refused(Some(&good), &other_ring), SealFlaw::Signature(DetachedFlaw::Limited { .. })));
    let for_git_only = key.line("ring:canary namespaces=\"git\"");
    assert!(matches!(refused(Some(&good), &for_git_only), SealFlaw::Signature(DetachedFlaw::Limited { .. })));
    let expired = key.line("ring:canary valid-before=\"20250101\"");
    assert!(matches!(refused(Some(&good), &expired), SealFlaw::Signature(DetachedFlaw::Limited { .. })));
}

#[test]
fn t4_one_file_of_a_stolen_key_cannot_use_up_all_numbers() {
    let key = ring_key();
    let memory = |sequence| Seal {
        keys: [key.fingerprint()].into(),
        rings: BTreeMap::from([("canary".to_owned(), SealedRing { sequence, digest: "x".into() })]),
    };
    let offer = |sequence: u64, memory: Option<&Seal>| {
        let text = format!("ring: canary\nfollow: main\nsequence: {sequence}\nsigned: required\n");
        offered(&text, Some(&key.armoured(NAMESPACE, text.as_bytes())), &ring_line(&key), memory)
    };
    let at_five = memory(5);
    assert!(offer(1005, Some(&at_five)).is_ok());
    for leap in [1006, u64::MAX] {
        assert!(matches!(offer(leap, Some(&at_five)), Err(SealFlaw::Leap { .. })), "{leap}");
    }
    assert!(matches!(offer(u64::MAX, None), Err(SealFlaw::Leap { .. })));
    assert!(matches!(offer(4, Some(&at_five)), Err(SealFlaw::Replayed { .. })));
}

#[test]
fn t2_no_older_file_is_accepted_in_a_thousand_random_orders() {
    let key = ring_key();
    let texts: Vec<String> = (1..=12)
        .map(|sequence| format!("ring: canary\nfollow: main\nsequence: {sequence}\nsigned: required\n"))
        .collect();
    let signatures: Vec<String> = texts.iter().map(|text| key.armoured(NAMESPACE, text.as_bytes())).collect();
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).expect("small")
    };
    for _ in 0..1000 {
        let (mut memory, mut highest) = (None, 0);
        for _ in 0..12 {
            let number = random(texts.len());
            match offered(&texts[number], Some(&signatures[number]), &ring_line(&key), memory.as_ref()) {
                Ok(seal) => {
                    assert!(number + 1 >= highest, "went back from {highest} to {}", number + 1);
                    (memory, highest) = (seal, number + 1);
                }
                Err(flaw) => assert!(matches!(flaw, SealFlaw::Replayed { .. }) && number + 1 < highest, "{flaw}"),
            }
        }
    }
}

#[test]
fn the_status_page_counts_how_long_a_revision_runs_well() {
    let sim = fleet();
    sim.commit();
    let page = || -> moorline::model::Page {
        serde_json::from_slice(sim.host().page.as_ref().expect("a page")).expect("readable")
    };
    sim.run();
    assert_eq!(page().well.len(), 1);
    let before = page().well[0].ms;
    sim.run();
    assert!(page().well[0].ms >= before + 60_000);
    sim.write(OTHER, "ring: canary\nstacks: []\n").commit();
    sim.run();
    assert_eq!(page().well.len(), 2, "another revision");
    sim.edit(WEB, "app:1", "app:bad").commit();
    sim.run();
    assert_eq!((page().end, page().well.len()), (RunEnd::RolledBack, 0), "unwell");
    let text = serde_json::to_string(&page()).unwrap();
    assert!(crate::fleet::CANARIES.iter().all(|canary| !text.contains(canary)));
}
