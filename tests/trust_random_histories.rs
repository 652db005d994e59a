//! Offers thousands of random histories to one host after another, and checks every answer against a slow and simple
//! rule: no revision is accepted whose chain from the anchor is not fully signed, and the anchor never goes back.
//!
//! Everything lies in memory; each failure prints the seed that repeats it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moorline::decide::trust::{Anchor, History, RawCommit, Refusal, SignerFiles, verify};
use moorline::model::Revision;
use sha2::{Digest as _, Sha256};

#[path = "sim/chain.rs"]
mod chain;

use chain::{Key, Signature};

/// xorshift: the same histories in every run.
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// How a commit of the model is signed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Signed {
    By(usize),
    Not,
    /// A genuine signature, over other bytes.
    Stolen(usize),
}

/// A commit as the model knows it.
#[derive(Debug, Clone)]
struct Node {
    revision: Revision,
    bytes: Vec<u8>,
    parents: Vec<usize>,
    signed: Signed,
    /// Which keys may sign after it; `None` if its tree has no list.
    allowed: Option<BTreeSet<usize>>,
}

struct Fleet {
    keys: Vec<Key>,
    nodes: Vec<Node>,
}

impl Fleet {
    fn new() -> Self {
        Self { keys: (0..5).map(Key::new).collect(), nodes: Vec::new() }
    }

    fn list(&self, allowed: &BTreeSet<usize>) -> Vec<u8> {
        allowed.iter().map(|key| self.keys[*key].line(&format!("signer{key}"))).collect::<String>().into_bytes()
    }

    fn add(&mut self, parents: Vec<usize>, signed: Signed, allowed: Option<BTreeSet<usize>>) -> usize {
        let number = self.nodes.len();
        let above: Vec<Revision> = parents.iter().map(|parent| self.nodes[*parent].revision.clone()).collect();
        let signature = match signed {
            Signed::By(key) => Signature::By(&self.keys[key]),
            Signed::Stolen(key) => Signature::Stolen(&self.keys[key]),
            Signed::Not => Signature::Not,
        };
        let empty = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let bytes = chain::commit(empty, &above, 1_760_000_000, &format!("commit {number}"), signature);
        let digest: String = Sha256::digest(&bytes).iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        self.nodes.push(Node { revision: digest.parse().unwrap(), bytes, parents, signed, allowed });
        number
    }

    fn first_parents(&self, tip: usize) -> Vec<usize> {
        let mut path = vec![tip];
        while let Some(parent) = self.nodes[path[path.len() - 1]].parents.first() {
            path.push(*parent);
        }
        path
    }

    fn history(&self, tip: usize) -> History {
        let path = self.first_parents(tip);
        let list = |node: &Node| SignerFiles::of_list(node.allowed.as_ref().map(|allowed| self.list(allowed)));
        let signers = |node: &Node| (node.revision.clone(), Arc::new(list(node)));
        History {
            tip: self.nodes[tip].revision.clone(),
            commits: path
                .iter()
                .map(|node| &self.nodes[*node])
                .map(|node| RawCommit { revision: node.revision.clone(), bytes: node.bytes.clone() })
                .collect(),
            signers: path.iter().map(|node| signers(&self.nodes[*node])).collect::<BTreeMap<_, _>>(),
        }
    }

    /// The slow and simple rule.
    fn may_follow(&self, node: usize, allowed: &BTreeSet<usize>) -> bool {
        let node = &self.nodes[node];
        let signed = matches!(node.signed, Signed::By(key) if allowed.contains(&key));
        signed && node.allowed.as_ref().is_some_and(|allowed| !allowed.is_empty())
    }

    fn may_move(&self, anchor: usize, tip: usize) -> bool {
        let path = self.first_parents(tip);
        let Some(at) = path.iter().position(|node| *node == anchor) else {
            return false;
        };
        let signed = |pair: &[usize]| {
            self.nodes[pair[1]].allowed.as_ref().is_some_and(|allowed| self.may_follow(pair[0], allowed))
        };
        path[..=at].windows(2).all(signed)
    }

    /// Commits on top of each other, forks, merges both ways round, keys that come and go, and mistakes.
    fn random(chance: &mut Chance) -> Self {
        let mut fleet = Self::new();
        fleet.add(vec![], Signed::By(0), Some(BTreeSet::from([0, 1])));
        for _ in 0..4 + chance.below(20) {
            let recent = fleet.nodes.len().min(3);
            let parent = match chance.one_in(4) {
                true => chance.below(fleet.nodes.len()),
                false => fleet.nodes.len() - 1 - chance.below(recent),
            };
            let mut parents = vec![parent];
            if chance.one_in(5) {
                parents.push(chance.below(fleet.nodes.len()));
            }
            let mut allowed = fleet.nodes[parent].allowed.clone().unwrap_or_default();
            if chance.one_in(4) {
                allowed.insert(chance.below(5));
            }
            if chance.one_in(6) {
                allowed.remove(&chance.below(5));
            }
            let insiders: Vec<usize> = fleet.nodes[parent].allowed.iter().flatten().copied().collect();
            let signed = match chance.below(12) {
                0 => Signed::Not,
                1 => Signed::Stolen(chance.below(5)),
                2 => Signed::By(chance.below(5)),
                _ if insiders.is_empty() => Signed::Not,
                _ => Signed::By(insiders[chance.below(insiders.len())]),
            };
            let gone = chance.one_in(25);
            fleet.add(parents, signed, (!gone).then_some(allowed));
        }
        fleet
    }
}

#[test]
fn t2_t24_no_host_accepts_a_chain_that_is_not_fully_signed_and_no_anchor_goes_back() {
    let (mut moved, mut refused, mut codes) = (0, 0, BTreeSet::new());
    for seed in 0..1_500 {
        let mut chance = Chance::new(seed);
        let fleet = Fleet::random(&mut chance);
        let mut anchor = 0;
        for _ in 0..25 {
            let tip = chance.below(fleet.nodes.len());
            let newest = fleet.nodes[anchor].revision.clone();
            let known = Anchor::Known { newest: &newest, first: &fleet.nodes[0].revision };
            let answer = verify(&fleet.history(tip), known, b"");
            let expected = fleet.may_move(anchor, tip);
            assert_eq!(answer.is_ok(), expected, "seed {seed}: {anchor} -> {tip}: {:?}", answer.err());
            match answer {
                Ok(verified) => {
                    assert!(fleet.first_parents(tip).contains(&anchor), "seed {seed}: {anchor} went back to {tip}");
                    assert_eq!(*verified.tip(), fleet.nodes[tip].revision, "seed {seed}");
                    // Exactly the path from the tip to the first revision may be deployed.
                    let path = fleet.first_parents(tip);
                    for (number, node) in fleet.nodes.iter().enumerate() {
                        assert_eq!(verified.accepts(&node.revision), path.contains(&number), "seed {seed}: {number}");
                    }
                    moved += usize::from(anchor != tip);
                    anchor = tip;
                }
                Err(refusal) => {
                    refused += 1;
                    codes.insert(refusal.code());
                }
            }
        }
    }
    println!("1,500 histories: the anchor moved {moved} times, {refused} offers were refused: {codes:?}");
    assert!(moved > 1_000 && refused > 1_000, "the histories are too tame: {moved} moves, {refused} refusals");
    let reached = ["commit-unsigned", "history-rewound", "signature-bad", "signer-unknown", "signers-missing"];
    assert!(reached.iter().all(|code| codes.contains(code)), "{codes:?}");
}

#[test]
fn a_first_start_accepts_exactly_the_histories_that_are_signed_from_their_beginning() {
    let mut accepted = 0;
    for seed in 0..500 {
        let mut chance = Chance::new(seed + 100_000);
        let fleet = Fleet::random(&mut chance);
        let local: BTreeSet<usize> = (0..5).filter(|_| chance.one_in(2)).collect();
        for tip in 0..fleet.nodes.len() {
            let history = fleet.history(tip);
            let from_root = verify(&history, Anchor::Root, &fleet.list(&local));
            assert_eq!(from_root.is_ok(), fleet.may_follow(0, &local) && fleet.may_move(0, tip), "seed {seed}: {tip}");
            let named = chance.below(fleet.nodes.len());
            let from_named = verify(&history, Anchor::Named(&fleet.nodes[named].revision), &fleet.list(&local));
            let expected = fleet.may_follow(named, &local) && fleet.may_move(named, tip);
            assert_eq!(from_named.is_ok(), expected, "seed {seed}: {named} -> {tip}");
            if let Ok(verified) = from_named {
                accepted += 1;
                assert_eq!(*verified.first(), fleet.nodes[named].revision);
                let older = fleet.first_parents(named);
                assert!(older.iter().skip(1).all(|node| !verified.accepts(&fleet.nodes[*node].revision)));
            }
        }
    }
    assert!(accepted > 100, "the histories are too tame: {accepted}");
}

#[test]
fn commits_that_are_offered_as_a_path_and_are_none_are_refused() {
    let mut fleet = Fleet::new();
    let everybody = || Some(BTreeSet::from([0]));
    let mut tip = fleet.add(vec![], Signed::By(0), everybody());
    for _ in 0..5 {
        tip = fleet.add(vec![tip], Signed::By(0), everybody());
    }
    let first = fleet.nodes[0].revision.clone();
    let known = Anchor::Known { newest: &first, first: &first };
    let good = fleet.history(tip);
    assert!(verify(&good, known, b"").is_ok());

    type Change = fn(&mut History);
    let changes: [(&str, Change); 7] = [
        ("a commit left out", |history| drop(history.commits.remove(2))),
        ("two commits exchanged", |history| history.commits.swap(2, 3)),
        ("a commit twice", |history| {
            let again = history.commits[2].clone();
            history.commits.insert(2, again);
        }),
        ("the tip left out", |history| drop(history.commits.remove(0))),
        ("nothing at all", |history| history.commits.clear()),
        ("the content of another commit", |history| {
            history.commits[2].bytes = history.commits[3].bytes.clone();
        }),
        ("a list not read", |history| {
            let revision = history.commits[2].revision.clone();
            history.signers.remove(&revision);
        }),
    ];
    for (what, change) in changes {
        let mut history = good.clone();
        change(&mut history);
        let refusal = verify(&history, known, b"").expect_err(what);
        assert!(matches!(refusal, Refusal::HistoryIncomplete { .. }), "{what}: {refusal}");
    }
}

#[test]
fn a_way_to_the_anchor_by_a_second_parent_is_no_path() {
    let mut fleet = Fleet::new();
    let everybody = || Some(BTreeSet::from([0]));
    let root = fleet.add(vec![], Signed::By(0), everybody());
    let anchor = fleet.add(vec![root], Signed::By(0), everybody());
    let aside = fleet.add(vec![root], Signed::By(0), everybody());
    let tip = fleet.add(vec![aside, anchor], Signed::By(0), everybody());
    let name = &fleet.nodes[anchor].revision;
    let mut history = fleet.history(tip);
    history.commits.truncate(1);
    history.commits.extend(fleet.history(anchor).commits);
    history.signers.extend(fleet.history(anchor).signers);
    let refusal = verify(&history, Anchor::Known { newest: name, first: name }, b"").unwrap_err();
    assert_eq!(refusal.code(), "history-incomplete");
}

#[test]
fn a_ring_may_name_what_was_accepted_before_and_nothing_older() {
    let mut fleet = Fleet::new();
    let everybody = || Some(BTreeSet::from([0]));
    // Before moorline came, nobody signed.
    let mut tip = fleet.add(vec![], Signed::Not, None);
    for _ in 0..6 {
        tip = fleet.add(vec![tip], Signed::By(0), everybody());
    }
    let name = |node: usize| &fleet.nodes[node].revision;
    let mut history = fleet.history(tip);
    let known = Anchor::Known { newest: name(4), first: name(2) };
    let verified = verify(&history, known, b"").unwrap();
    let accepted: Vec<usize> = (0..7).filter(|node| verified.accepts(name(*node))).collect();
    assert_eq!(accepted, [2, 3, 4, 5, 6]);
    assert_eq!(verified.range().len(), 2);
    assert_eq!(verified.signer().unwrap().principal, "signer0");
    assert_eq!(verified.first(), name(2));

    // Without proof of how far the path reaches, nothing below the anchor counts; the first revision stays what it was.
    history.commits.truncate(4);
    let verified = verify(&history, known, b"").unwrap();
    assert!(verified.accepts(name(4)) && !verified.accepts(name(3)));
    assert_eq!(verified.first(), name(2));

    // Nothing new: nothing to verify, and nobody to name.
    let verified = verify(&fleet.history(4), known, b"").unwrap();
    assert!(verified.range().is_empty() && verified.signer().is_none() && verified.accepts(name(2)));
}

#[test]
fn a_first_revision_that_is_not_below_the_anchor_weakens_nothing() {
    let mut fleet = Fleet::new();
    let everybody = || Some(BTreeSet::from([0]));
    let mut tip = fleet.add(vec![], Signed::By(0), everybody());
    for number in 1..6 {
        let signed = if number == 3 { Signed::Not } else { Signed::By(0) };
        tip = fleet.add(vec![tip], signed, everybody());
    }
    let name = |node: usize| &fleet.nodes[node].revision;
    // Ledgers that no run writes, but that a person with an editor can.
    for first in [name(4), name(5)] {
        let known = Anchor::Known { newest: name(2), first };
        assert_eq!(verify(&fleet.history(tip), known, b"").unwrap_err().code(), "commit-unsigned");
        let verified = verify(&fleet.history(2), known, b"").unwrap();
        assert!(verified.accepts(name(2)) && !verified.accepts(name(1)));
    }
}

#[test]
fn five_thousand_commits_are_verified_in_a_few_seconds() {
    let mut fleet = Fleet::new();
    let mut tip = fleet.add(vec![], Signed::By(0), Some(BTreeSet::from([0, 1])));
    for number in 0..5_000 {
        // The list changes now and then, as it does in life.
        let extra = if number % 100 < 50 { 2 } else { 3 };
        tip = fleet.add(vec![tip], Signed::By(number % 2), Some(BTreeSet::from([0, 1, extra])));
    }
    let history = fleet.history(tip);
    let first = &fleet.nodes[0].revision;
    let before = Instant::now();
    let verified = verify(&history, Anchor::Known { newest: first, first }, b"").unwrap();
    let took = before.elapsed();
    assert_eq!(verified.range().len(), 5_000);
    println!("5,000 commits verified in {} ms", took.as_millis());
    // Not a measurement: only a guard against something quadratic.
    assert!(took < Duration::from_secs(60), "{took:?}");
}
