//! Decides whether a revision is proven enough to be promoted: by the hosts of the ring before, and by what they run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::decide::fleet;
use crate::decide::schedule::show_duration;
use crate::model::page::{self, Page};
use crate::model::report::RunEnd;
use crate::model::{Revision, Tree};

pub mod edit;

/// How many intervals old a status may be.
const POLLS: u64 = 2;
/// The longest interval that a status is believed to have.
const LONGEST_INTERVAL: u64 = 3600;

/// `promotion` in `moorline.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Rings, the first to get a change first.
    pub order: Vec<String>,
    /// How long a revision must have run well.
    pub soak: Duration,
    /// Where each host's status stands.
    pub status: BTreeMap<String, String>,
}

impl Rules {
    /// The ring that must have run a revision before this one may; none for the first.
    pub fn before(&self, ring: &str) -> Result<Option<&str>, Reason> {
        let place = self.order.iter().position(|other| other == ring);
        let place = place.ok_or_else(|| Reason::NotInOrder { ring: ring.to_owned() })?;
        Ok(place.checked_sub(1).and_then(|before| self.order.get(before)).map(String::as_str))
    }
}

/// What is to be promoted, and everything that is known of it.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The ring to promote to.
    pub ring: &'a str,
    /// The revision.
    pub revision: &'a Revision,
    /// Its files.
    pub tree: &'a Tree,
    /// The files of the revision that the ring runs now; none if nobody can tell.
    pub current: Option<&'a Tree>,
    /// The files at the tip, which say who is in which ring.
    pub tip: &'a Tree,
    /// The rules at the tip.
    pub rules: &'a Rules,
    /// What each host of the ring before says, or why it says nothing.
    pub pages: &'a BTreeMap<String, Result<Page, String>>,
    /// The files of the other revisions that those hosts name.
    pub others: &'a BTreeMap<Revision, Tree>,
}

/// Why a revision is not promoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There are no rules.
    NoRules,
    /// The ring is not among those that promotions go through.
    NotInOrder {
        /// The ring.
        ring: String,
    },
    /// Nobody is there to prove it.
    NobodyBefore {
        /// The ring before.
        ring: String,
    },
    /// A host of the ring before does not prove it.
    Host {
        /// The host.
        host: String,
        /// Why not.
        why: String,
    },
    /// A stack changed that runs on no host of the ring before.
    Uncovered {
        /// The stack.
        stack: String,
        /// The hosts that it would be new to.
        hosts: Vec<String>,
        /// The ring before.
        before: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoRules => f.write_str("moorline.yaml has no `promotion`, which says what proves a revision"),
            Reason::NotInOrder { ring } => write!(f, "ring {ring} is not in `promotion.order` of moorline.yaml"),
            Reason::NobodyBefore { ring } => write!(f, "ring {ring}, which comes before, has no host"),
            Reason::Host { host, why } => write!(f, "{host} {why}"),
            Reason::Uncovered { stack, hosts, before } => {
                write!(f, "stack {stack} changes on {}, and no host of ring {before} runs it", hosts.join(", "))
            }
        }
    }
}

/// Every reason against a promotion; none means that it is proven.
pub fn reasons(candidate: &Candidate<'_>) -> Vec<Reason> {
    let before = match candidate.rules.before(candidate.ring) {
        Ok(Some(before)) => before,
        Ok(None) => return Vec::new(),
        Err(reason) => return vec![reason],
    };
    let hosts = fleet::hosts_of_ring(candidate.tip, before);
    if hosts.is_empty() {
        return vec![Reason::NobodyBefore { ring: before.to_owned() }];
    }
    let proves = |host: &String| match host_proves(candidate, before, host) {
        Ok(()) => None,
        Err(why) => Some(Reason::Host { host: host.clone(), why }),
    };
    let mut reasons: Vec<Reason> = hosts.iter().filter_map(proves).collect();
    reasons.extend(uncovered(candidate, before, &hosts));
    reasons
}

fn host_proves(candidate: &Candidate<'_>, ring: &str, host: &str) -> Result<(), String> {
    let page = match candidate.pages.get(host) {
        None => return Err("has no URL in `promotion.status` of moorline.yaml".into()),
        Some(Err(why)) => return Err(format!("gives no status: {why}")),
        Some(Ok(page)) => page,
    };
    if page.version != page::VERSION {
        return Err(format!("gives a status of version {}, and only {} is known", page.version, page::VERSION));
    }
    if page.host != host {
        return Err(format!("gives the status of another host: {}", page.host));
    }
    if page.ring.as_deref() != Some(ring) {
        let named = page.ring.as_deref().unwrap_or("no ring");
        return Err(format!("says that it is in {named}, not in {ring}"));
    }
    let limit = page.interval_s.min(LONGEST_INTERVAL).saturating_mul(POLLS);
    match page.age_s.and_then(|age| u64::try_from(age).ok()) {
        Some(age) if age <= limit => {}
        Some(age) => {
            let age = show_duration(Duration::from_secs(age));
            return Err(format!("gives a status that is {age} old, more than {POLLS} of its intervals"));
        }
        None => return Err("gives a status without a sensible age".into()),
    }
    if page.end != RunEnd::Converged {
        return Err(format!("is not well now: {}", page.summary));
    }
    let same = |other: &Revision| {
        other == candidate.revision
            || candidate.others.get(other).is_some_and(|other| runs_the_same(host, candidate.tree, other))
    };
    let ran: Vec<u64> = page.well.iter().filter(|well| same(&well.revision)).map(|well| well.ms).collect();
    let ran_for = Duration::from_millis(ran.iter().fold(0, |sum: u64, ms| sum.saturating_add(*ms)));
    match ran.is_empty() {
        true => Err(format!("has not been seen to run {} well", candidate.revision.short())),
        false if ran_for < candidate.rules.soak => Err(format!(
            "ran {} well for {} of {}",
            candidate.revision.short(),
            show_duration(ran_for),
            show_duration(candidate.rules.soak)
        )),
        false => Ok(()),
    }
}

/// Whether two revisions are the same for a host. Most commits concern others: a promotion is itself a new revision
/// for every host that follows the branch, and must not begin their count anew.
pub fn runs_the_same(host: &str, one: &Tree, two: &Tree) -> bool {
    match (fleet::read(one, host), fleet::read(two, host)) {
        (Ok(one), Ok(two)) => one == two,
        _ => false,
    }
}

fn uncovered(candidate: &Candidate<'_>, before: &str, proving: &[String]) -> Vec<Reason> {
    let stacks = |tree: &Tree, host: &str| fleet::read(tree, host).map(|spec| spec.stacks).unwrap_or_default();
    let proven: BTreeSet<String> =
        proving.iter().flat_map(|host| stacks(candidate.tree, host)).map(|stack| stack.name).collect();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in fleet::hosts_of_ring(candidate.tip, candidate.ring) {
        let now = candidate.current.map(|tree| stacks(tree, &host)).unwrap_or_default();
        for stack in stacks(candidate.tree, &host) {
            if !now.contains(&stack) && !proven.contains(&stack.name) {
                found.entry(stack.name).or_default().push(host.clone());
            }
        }
    }
    let reason = |(stack, hosts)| Reason::Uncovered { stack, hosts, before: before.to_owned() };
    found.into_iter().map(reason).collect()
}

#[cfg(test)]
mod tests;
