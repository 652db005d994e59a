//! One promotion, and one comparison of revisions, in an operator's checkout or in CI.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::decide::diff::{self, HostDiff, Side};
use crate::decide::fault::{Code, Fault};
use crate::decide::fleet::{self, Mistake};
use crate::decide::promotion::{Candidate, Reason, edit, reasons};
use crate::model::page::Page;
use crate::model::ring::{Ring, RingPointer, Signing};
use crate::model::{Revision, Tree};
use crate::world::checkout::Checkout;
use crate::world::page;

/// A promotion that was looked at, and not written.
#[derive(Debug)]
pub struct Promotion {
    /// The ring as it stands at the tip.
    pub ring: Ring,
    /// What it shall name.
    pub revision: Revision,
    /// The revision that this goes on top of.
    pub tip: Revision,
    /// What changes on each host of the ring.
    pub diffs: Vec<HostDiff>,
    /// What speaks against it.
    pub reasons: Vec<Reason>,
    /// Whether the ring has named this revision before, so that it goes back.
    pub is_back: bool,
}

/// What a promotion is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The ring.
    pub ring: &'a str,
    /// The revision as typed; without it, what the ring before names, or the tip if that one follows the branch.
    pub revision: Option<&'a str>,
    /// What the promotion goes on top of.
    pub onto: &'a str,
    /// The branch that the hosts follow.
    pub branch: &'a str,
}

/// Looks at a promotion: what it changes, and whether it is proven.
pub async fn examine(checkout: &Checkout, wish: &Wish<'_>) -> Result<Promotion, Fault> {
    let tip = checkout.resolve(wish.onto)?;
    let tip_tree = checkout.tree(&tip)?;
    let invalid = |found: Vec<Mistake>| fleet::spec_invalid(found, tip.short());
    let ring = fleet::ring(&tip_tree, wish.ring, wish.branch).map_err(invalid)?;
    let RingPointer::Commit(current) = ring.pointer.clone() else {
        return Err(Fault::new(Code::UsageInvalid, format!("ring {} follows {}", ring.name, wish.branch))
            .because("its hosts run every commit of the branch, so there is nothing to promote")
            .hint("name a ring with `commit:`"));
    };
    let rules = fleet::promotion(&tip_tree).map_err(invalid)?;
    let before = rules.as_ref().map(|rules| rules.before(&ring.name));
    let revision = match (wish.revision, &before) {
        (Some(named), _) => checkout.resolve(named)?,
        (None, Some(Ok(Some(before)))) => match fleet::ring(&tip_tree, before, wish.branch).map_err(invalid)?.pointer {
            RingPointer::Commit(commit) => commit,
            RingPointer::Follow(_) => tip.clone(),
        },
        (None, _) => tip.clone(),
    };
    let path = checkout.path(&tip)?;
    if !path.contains(&revision) {
        return Err(Fault::new(
            Code::RevisionNotAccepted,
            format!("revision {} is not on this branch", revision.short()),
        )
        .because(format!("it is not on the first-parent path from {}, so no host would accept it", tip.short()))
        .at("nothing was written"));
    }
    if revision == current {
        // Else a promotion would prove itself, as something that the ring has named before.
        return Err(Fault::new(Code::UsageInvalid, format!("ring {} names {} already", ring.name, revision.short()))
            .because(format!("so it stands at {}", tip.short()))
            .hint("in a pull request, ask for what it goes on top of: `--onto origin/main`"));
    }
    let tree = checkout.tree(&revision)?;
    let current_tree = if checkout.has(&current) { Some(checkout.tree(&current)?) } else { None };
    let is_back = was_named(checkout, &path, &ring.name, &revision)?;
    let reasons = match (&rules, before) {
        // Production itself has proven it.
        _ if is_back => Vec::new(),
        (None, _) => vec![Reason::NoRules],
        (Some(_), Some(Err(reason))) => vec![reason],
        (Some(rules), before) => {
            let before = before.and_then(Result::ok).flatten();
            let pages = pages(&tip_tree, before, &rules.status).await;
            let others = others(checkout, &pages, &revision)?;
            let current = current_tree.as_ref();
            let tip = &tip_tree;
            let (ring, revision, tree, pages, others) = (&*ring.name, &revision, &tree, &pages, &others);
            reasons(&Candidate { ring, revision, tree, current, tip, rules, pages, others })
        }
    };
    let side = |revision, tree| Side { revision, tree };
    let diff = |host: &String| {
        diff::host(host, current_tree.as_ref().map(|tree| side(&current, tree)), Some(side(&revision, &tree)))
    };
    let diffs = fleet::hosts_of_ring(&tip_tree, &ring.name).iter().map(diff).collect();
    Ok(Promotion { ring, revision, tip, diffs, reasons, is_back })
}

/// Whether a ring named this revision before, newest commits first.
fn was_named(checkout: &Checkout, path: &[Revision], ring: &str, revision: &Revision) -> Result<bool, Fault> {
    let file = fleet::ring_path(ring);
    for commit in path {
        let text = checkout.file(commit, &file)?.and_then(|bytes| String::from_utf8(bytes).ok());
        if text.is_some_and(|text| edit::named(&text).as_ref() == Some(revision)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn pages(
    tip: &Tree,
    before: Option<&str>,
    status: &BTreeMap<String, String>,
) -> BTreeMap<String, Result<Page, String>> {
    let hosts = before.map(|before| fleet::hosts_of_ring(tip, before)).unwrap_or_default();
    let named = hosts.iter().filter_map(|host| Some((host.clone(), status.get(host)?)));
    let asked = named.map(|(host, url)| async move { (host, page::ask(url).await) });
    futures_util::future::join_all(asked).await.into_iter().collect()
}

/// The files of every revision that the hosts ran, as far as this repository has them.
fn others(
    checkout: &Checkout,
    pages: &BTreeMap<String, Result<Page, String>>,
    revision: &Revision,
) -> Result<BTreeMap<Revision, Tree>, Fault> {
    let named = pages.values().flatten().flat_map(|page| page.well.iter().map(|well| &well.revision));
    let named: BTreeSet<&Revision> = named.filter(|named| *named != revision && checkout.has(named)).collect();
    named.into_iter().map(|named| Ok((named.clone(), checkout.tree(named)?))).collect()
}

/// Writes a promotion: the ring file, its signature if it needs one, and a signed commit on a branch. Returns the branch.
pub async fn write(
    checkout: &Checkout,
    promotion: &Promotion,
    message: &str,
    key: Option<&Path>,
) -> Result<String, Fault> {
    let Promotion { ring, revision, tip, .. } = promotion;
    let path = fleet::ring_path(&ring.name);
    let unwritten = |why: String| {
        Fault::new(Code::PromotionRefused, format!("{path} cannot be changed")).because(why).at("nothing was written")
    };
    let bytes = checkout.file(tip, &path)?.ok_or_else(|| unwritten("it is not there".into()))?;
    let text = String::from_utf8(bytes).map_err(|error| unwritten(error.to_string()))?;
    let sequence = ring.sequence.map(|sequence| sequence.saturating_add(1));
    let text = edit::promoted(&text, revision, sequence).map_err(|why| unwritten(why.to_owned()))?;
    let mut files = vec![(path, text.into_bytes())];
    if ring.signing == Signing::Required {
        let signature = checkout.sign(&files[0].1, key).await?;
        files.push((fleet::ring_signature_path(&ring.name), signature));
    }
    let branch = format!("promote-{}-{}", ring.name, revision.short());
    checkout.commit(&branch, tip, &files, message, key).await?;
    Ok(branch)
}

/// What changes on each host between two revisions of the branch, or on one of them. A host of a ring that names a
/// commit changes only when that line does.
pub fn compare(
    checkout: &Checkout,
    (from, to): (&Revision, &Revision),
    branch: &str,
    only: Option<&str>,
) -> Result<Vec<HostDiff>, Fault> {
    let (before, after) = (checkout.tree(from)?, checkout.tree(to)?);
    let mut hosts: BTreeSet<String> = fleet::hosts(&before).into_iter().chain(fleet::hosts(&after)).collect();
    if let Some(only) = only {
        if !hosts.contains(only) {
            let sentence = format!("host {} is in neither revision", only.escape_debug());
            return Err(Fault::new(Code::UsageInvalid, sentence));
        }
        hosts.retain(|host| host == only);
    }
    let mut trees = BTreeMap::from([(from.clone(), before.clone()), (to.clone(), after.clone())]);
    let mut diffs = Vec::new();
    for host in &hosts {
        let mut notes = Vec::new();
        let mut runs = |at: &Revision, tree: &Tree| -> Result<Option<Revision>, Fault> {
            let named = match named_for(tree, at, host, branch) {
                Ok(named) => named,
                Err(mistake) => {
                    notes.push(format!("at {}: {mistake}", at.short()));
                    return Ok(None);
                }
            };
            match named {
                Some(named) if trees.contains_key(&named) => Ok(Some(named)),
                Some(named) if checkout.has(&named) => {
                    trees.insert(named.clone(), checkout.tree(&named)?);
                    Ok(Some(named))
                }
                Some(named) => {
                    notes.push(format!("at {}: its ring names {}, which is not here", at.short(), named.short()));
                    Ok(None)
                }
                None => Ok(None),
            }
        };
        let (old, new) = (runs(from, &before)?, runs(to, &after)?);
        let mut diff = diff::host(host, side_of(&trees, old.as_ref()), side_of(&trees, new.as_ref()));
        diff.notes.extend(notes);
        diffs.push(diff);
    }
    Ok(diffs)
}

fn side_of<'a>(trees: &'a BTreeMap<Revision, Tree>, runs: Option<&Revision>) -> Option<Side<'a>> {
    let (revision, tree) = trees.get_key_value(runs?)?;
    Some(Side { revision, tree })
}

/// The revision that a host runs when `at` is the tip; none if it is not there.
fn named_for(tree: &Tree, at: &Revision, host: &str, branch: &str) -> Result<Option<Revision>, String> {
    if !fleet::hosts(tree).iter().any(|other| other == host) {
        return Ok(None);
    }
    let first = |mistakes: Vec<Mistake>| mistakes.first().map(ToString::to_string).unwrap_or_default();
    let ring = fleet::ring_of(tree, host).and_then(|ring| fleet::ring(tree, &ring, branch)).map_err(first)?;
    Ok(Some(match ring.pointer {
        RingPointer::Follow(_) => at.clone(),
        RingPointer::Commit(commit) => commit,
    }))
}
