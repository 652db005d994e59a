//! Proves that the commits offered are one first-parent path, and finds the anchor on it.
//!
//! It looks at no signature: what it calls unverified still is.

use std::collections::BTreeMap;

use super::commit::Commit;
use super::refusal::Refusal;
use super::tree::ObjectId;
use super::{Anchor, History, RawCommit};
use crate::model::Revision;

/// The first-parent path, proven to be one, and divided at the anchor.
pub(super) struct Path<'a> {
    /// The commit whose signers sign first; `None` if that is this host's own list.
    pub(super) anchor: Option<&'a Revision>,
    /// The date of that commit; the beginning of time without one.
    pub(super) anchored_at: i64,
    /// What needs a signature, newest first.
    pub(super) unverified: Vec<(&'a Revision, Commit)>,
    pub(super) first: &'a Revision,
    pub(super) accepted: BTreeMap<Revision, ObjectId>,
}

impl<'a> Path<'a> {
    pub(super) fn read(history: &'a History, anchor: Anchor<'a>) -> Result<Self, Refusal> {
        let incomplete = |what: String| Refusal::HistoryIncomplete { tip: history.tip.clone(), what };
        let commits = &history.commits;
        if commits.first().map(|commit| &commit.revision) != Some(&history.tip) {
            return Err(incomplete("it does not begin with its tip".to_owned()));
        }
        // A commit that cannot be read ends the path, so that nothing older is found on it.
        let lost = |otherwise: Refusal| match commits.last().map(|raw| (raw, Commit::parse(&raw.bytes))) {
            Some((raw, Err(flaw))) => Refusal::CommitMalformed { revision: raw.revision.clone(), flaw },
            _ => otherwise,
        };
        let place = |wanted: &Revision| commits.iter().position(|commit| commit.revision == *wanted);
        // `unverified` commits need a signature; the `kept` ones, from the tip on, may be deployed.
        let (unverified, kept, known, first) = match anchor {
            Anchor::Known { newest, first } => {
                let at = place(newest).ok_or_else(|| lost(rewound(history, newest)))?;
                // Below the anchor only what lies above the first accepted revision was ever verified here. If the
                // path offered does not reach that far, nothing below the anchor is taken for it.
                let end = place(first).filter(|end| *end >= at).unwrap_or(at);
                (at, end + 1, Some(newest), first)
            }
            Anchor::Named(named) => {
                let unknown = || lost(Refusal::AnchorUnknown { tip: history.tip.clone(), anchor: named.clone() });
                let at = place(named).ok_or_else(unknown)?;
                (at + 1, at + 1, None, named)
            }
            Anchor::Root => {
                let root = commits.last().map_or(&history.tip, |commit| &commit.revision);
                (commits.len(), commits.len(), None, root)
            }
        };

        let mut anchored_at = 0;
        let mut accepted = BTreeMap::new();
        let mut needing = Vec::with_capacity(unverified);
        let mut child: Option<(&Revision, Commit)> = None;
        for (index, raw) in commits.iter().take(kept).enumerate() {
            if let Some((name, child)) = &child
                && child.parents.first() != Some(&raw.revision)
            {
                return Err(incomplete(format!(
                    "commit {} is offered as the first parent of {}, and is not",
                    raw.revision.short(),
                    name.short()
                )));
            }
            let commit = Commit::parse(&raw.bytes)
                .map_err(|flaw| Refusal::CommitMalformed { revision: raw.revision.clone(), flaw })?;
            accepted.insert(raw.revision.clone(), commit.tree);
            if index < unverified {
                needing.push((&raw.revision, commit.clone()));
            } else if index == unverified {
                anchored_at = commit.committed_at;
            }
            child = Some((&raw.revision, commit));
        }
        if let (Anchor::Root, Some((name, last))) = (anchor, &child)
            && let Some(parent) = last.parents.first()
        {
            return Err(incomplete(format!(
                "it stops at {}, whose parent {} is not there",
                name.short(),
                parent.short()
            )));
        }
        Ok(Self { anchor: known, anchored_at, unverified: needing, first, accepted })
    }
}

/// Says how the anchor was lost, as far as the path shows it.
fn rewound(history: &History, anchor: &Revision) -> Refusal {
    let merges_it = |raw: &&RawCommit| {
        Commit::parse(&raw.bytes).is_ok_and(|commit| commit.parents.iter().skip(1).any(|parent| parent == anchor))
    };
    Refusal::HistoryRewound {
        tip: history.tip.clone(),
        anchor: anchor.clone(),
        merged_by: history.commits.iter().find(merges_it).map(|raw| raw.revision.clone()),
    }
}

#[cfg(test)]
mod tests;
