//! The gate: what proves a revision, and everything that does not.

use jiff::Timestamp;

use super::*;
use crate::model::File;
use crate::model::page::Well;

const COMPOSE: &str = "services: { app: { image: 'app:1' } }\n";

fn revision(digit: char) -> Revision {
    digit.to_string().repeat(40).parse().unwrap()
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let mut tree: Tree = [
        ("moorline.yaml", "version: 1\n"),
        ("hosts/alpha/host.yaml", "ring: canary\nstacks: [web]\n"),
        ("hosts/bravo/host.yaml", "ring: production\nstacks: [web]\n"),
        ("stacks/web/compose.yaml", COMPOSE),
    ]
    .map(|(path, text)| (path.to_owned(), File::plain(text)))
    .into_iter()
    .collect();
    for (path, text) in files {
        tree.insert(*path, File::plain(*text));
    }
    tree
}

fn page() -> Page {
    let generated = Timestamp::UNIX_EPOCH;
    Page {
        version: 1,
        host: "alpha".into(),
        agent: "0.1.0".into(),
        generated,
        age_s: Some(60),
        interval_s: 300,
        ring: Some("canary".into()),
        tip: Some(revision('b')),
        revision: Some(revision('b')),
        end: RunEnd::Converged,
        summary: "converged at bbbbbbbb, nothing to do".into(),
        well: vec![Well { revision: revision('b'), since: generated, ms: 24 * 3_600_000 }],
        waiting: None,
        fault: None,
        services: Vec::new(),
        backups: Vec::new(),
    }
}

struct Case {
    current: Tree,
    tree: Tree,
    rules: Rules,
    pages: BTreeMap<String, Result<Page, String>>,
    others: BTreeMap<Revision, Tree>,
}

impl Case {
    /// A promotion that is proven.
    fn new() -> Self {
        Self {
            current: tree(&[("stacks/web/compose.yaml", "services: { app: { image: 'app:0' } }\n")]),
            tree: tree(&[]),
            rules: Rules {
                order: vec!["canary".into(), "production".into()],
                soak: Duration::from_secs(24 * 3600),
                status: BTreeMap::new(),
            },
            pages: BTreeMap::from([("alpha".into(), Ok(page()))]),
            others: BTreeMap::new(),
        }
    }

    fn with(change: impl FnOnce(&mut Page)) -> Self {
        let mut case = Self::new();
        let mut page = page();
        change(&mut page);
        case.pages.insert("alpha".into(), Ok(page));
        case
    }

    fn reasons(&self, ring: &str) -> Vec<String> {
        let candidate = Candidate {
            ring,
            revision: &revision('b'),
            tree: &self.tree,
            current: Some(&self.current),
            tip: &self.tree,
            rules: &self.rules,
            pages: &self.pages,
            others: &self.others,
        };
        reasons(&candidate).iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn refused(&self, expected: &str) {
        assert_eq!(self.reasons("production"), [expected]);
    }
}

#[test]
fn what_canary_ran_well_for_long_enough_is_proven() {
    assert_eq!(Case::new().reasons("production"), [""; 0]);
    // Nothing comes before the first ring.
    assert_eq!(Case::with(|page| page.end = RunEnd::Degraded).reasons("canary"), [""; 0]);
    assert_eq!(Case::new().reasons("staging"), ["ring staging is not in `promotion.order` of moorline.yaml"]);
}

#[test]
fn t38_an_uncovered_stack_is_named() {
    let mut case = Case::new();
    case.tree = tree(&[
        ("hosts/bravo/host.yaml", "ring: production\nstacks: [web, shop]\n"),
        ("stacks/shop/compose.yaml", COMPOSE),
    ]);
    case.refused("stack shop changes on bravo, and no host of ring canary runs it");
    // As long as it does not change, nobody needs to prove it.
    case.current = tree(&[
        ("hosts/bravo/host.yaml", "ring: production\nstacks: [web, shop]\n"),
        ("stacks/shop/compose.yaml", COMPOSE),
    ]);
    assert_eq!(case.reasons("production"), [""; 0]);
}

#[test]
fn t38_twenty_three_hours_of_twenty_four_are_not_enough() {
    let case = Case::with(|page| page.well[0].ms = 24 * 3_600_000 - 1);
    case.refused("alpha ran bbbbbbbb well for 23h59m59s of 1d");
    Case::with(|page| page.well[0].revision = revision('c')).refused("alpha has not been seen to run bbbbbbbb well");
}

#[test]
fn t38_a_held_or_degraded_canary_proves_nothing() {
    for (end, summary) in
        [(RunEnd::Held, "held by alice"), (RunEnd::Degraded, "degraded"), (RunEnd::Halted, "ring canary is halted")]
    {
        let case = Case::with(|page| {
            page.end = end;
            page.summary = summary.into();
        });
        case.refused(&format!("alpha is not well now: {summary}"));
    }
}

#[test]
fn t38_a_status_of_another_host_or_ring_or_of_no_host_proves_nothing() {
    Case::with(|page| page.host = "bravo".into()).refused("alpha gives the status of another host: bravo");
    Case::with(|page| page.ring = Some("production".into()))
        .refused("alpha says that it is in production, not in canary");
    Case::with(|page| page.version = 2).refused("alpha gives a status of version 2, and only 1 is known");
    let mut case = Case::new();
    case.pages.clear();
    case.refused("alpha has no URL in `promotion.status` of moorline.yaml");
    case.pages.insert("alpha".into(), Err("connection refused".into()));
    case.refused("alpha gives no status: connection refused");
    case.tree = tree(&[("hosts/alpha/host.yaml", "ring: production\nstacks: [web]\n")]);
    assert_eq!(case.reasons("production"), ["ring canary, which comes before, has no host"]);
}

#[test]
fn t38_a_stale_status_proves_nothing_and_cannot_say_that_it_is_fresh() {
    Case::with(|page| page.age_s = Some(601))
        .refused("alpha gives a status that is 10m1s old, more than 2 of its intervals");
    Case::with(|page| page.age_s = None).refused("alpha gives a status without a sensible age");
    Case::with(|page| page.age_s = Some(-1)).refused("alpha gives a status without a sensible age");
    let case = Case::with(|page| {
        page.interval_s = u64::MAX;
        page.age_s = Some(7201);
    });
    case.refused("alpha gives a status that is 2h1s old, more than 2 of its intervals");
}

#[test]
fn revisions_that_are_the_same_for_a_host_count_together() {
    let mut case = Case::with(|page| {
        page.well[0].ms /= 2;
        let mut later = page.well[0].clone();
        later.revision = revision('c');
        page.well.push(later);
    });
    // What the promotion of another ring changes is nothing to alpha.
    case.others.insert(revision('c'), tree(&[("rings/production.yaml", "follow: main\n")]));
    assert_eq!(case.reasons("production"), [""; 0]);
    case.others.insert(revision('c'), tree(&[("stacks/web/x", "another file")]));
    case.refused("alpha ran bbbbbbbb well for 12h of 1d");
}
