//! The job that looks whether everything is there which the snapshots need, and reads a share of it. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use rustic_core::repofile::{PackId, SnapshotFile};
use rustic_core::{CheckOptions, IndexedFullStatus, OpenStatus, PackedId, ReadSubsetOption, Repository, TreeId};

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::order::Line;
use super::source::Counts;
use super::trouble::{Kind, Trouble};
use super::upkeep::{Check, Checked, Data, Finding, Flaw, Severity};

/// Checks the repository. Each finding is said by itself, before the last word.
pub fn check(backend: &Arc<Backend>, password: &str, task: &Check, voice: &Arc<Voice>) -> Result<Checked, Trouble> {
    let counts: Arc<Counts> = Arc::default();
    // What is read for its own sake is read where it lies.
    let cache = task.cache.as_deref().filter(|_| task.data == Data::None);
    let repository = job::open(backend, password, cache, voice, &counts)?;
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let snapshots = job::snapshots(backend, &repository)?;
    let packs = repository.list::<PackId>().map_err(failed)?.count() as u64;
    let subset = match task.data {
        Data::None | Data::All => ReadSubsetOption::All,
        Data::Share { number, of } => ReadSubsetOption::IdSubSet((number, of.max(1))),
    };
    let options = CheckOptions::default().trust_cache(true).read_data(task.data != Data::None).read_data_subset(subset);
    let trees = snapshots.iter().map(|snapshot| snapshot.tree).collect();
    let results = repository.check_with_trees(options, trees).map_err(failed)?;
    // A server that went away is no damage.
    if let Some(trouble) = backend.trouble().filter(|trouble| !matches!(trouble.kind, Kind::Gone | Kind::Damaged)) {
        return Err(trouble);
    }
    let findings: Vec<Finding> = results.0.iter().map(|(level, error)| finding(level, error)).collect();
    let mut checked = Checked { packs, bytes: counts.seen().progress.bytes, ..Checked::default() };
    for finding in &findings {
        match finding.severity {
            Severity::Warning => checked.warnings += 1,
            Severity::Error => checked.errors += 1,
        }
        voice.say(&Line::Finding(finding.clone())).map_err(|error| Trouble::io("the output", &error))?;
    }
    if checked.errors > 0 {
        checked.concerned = concerned(repository, &findings, &snapshots);
    }
    checked.memory = job::memory();
    Ok(checked)
}

/// rustic gives its findings no name that can be used from here, so what it calls them is read: the name of the kind, and
/// the first digest in it. What follows may be paths of files, and goes nowhere.
fn finding(level: &impl Debug, error: &impl Debug) -> Finding {
    let said = format!("{error:?}");
    let kind = said.split([' ', '{', '(']).next().unwrap_or_default();
    let flaw = match kind {
        "PackNotReferenced" => Flaw::Unlisted,
        "NoPack" => Flaw::Missing,
        "PackSizeMismatchIndex" | "PackSizeMismatch" => Flaw::Size,
        "PackTimeNotSet" | "PackBlobTypesMismatch" | "PackBlobOffsetMismatch" => Flaw::Index,
        "ErrorCheckingTrees"
        | "FileHasNoContent"
        | "FileBlobHasNullId"
        | "FileBlobNotInIndex"
        | "NoSubTree"
        | "NullSubTree"
        | "SubTreeMissingInIndex" => Flaw::Tree,
        _ => Flaw::Content,
    };
    let pack = said.split(|character: char| !character.is_ascii_hexdigit()).find(|word| word.len() == 64);
    let pack = pack.filter(|_| flaw != Flaw::Tree).map(str::to_owned);
    // What is marked is needed by nothing: whether it is there or not.
    let is_marked = said.contains("to_delete: true");
    let severity = match format!("{level:?}").as_str() {
        "Warn" => Severity::Warning,
        _ if is_marked => Severity::Warning,
        _ => Severity::Error,
    };
    Finding { severity, flaw, pack }
}

/// The snapshots that need a damaged pack, or something that cannot be found. If not even the index can be read, none
/// is named.
fn concerned(repository: Repository<OpenStatus>, findings: &[Finding], snapshots: &[SnapshotFile]) -> Vec<String> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let bad: BTreeSet<PackId> = errors.filter_map(|finding| finding.pack.as_ref()?.parse().ok()).collect();
    let Ok(repository) = repository.to_indexed() else { return Vec::new() };
    let mut walk = Walk { repository: &repository, bad: &bad, known: BTreeMap::new() };
    let concerned = snapshots.iter().filter(|snapshot| walk.is_concerned(snapshot.tree));
    concerned.map(|snapshot| snapshot.id.to_hex().as_str().to_owned()).collect()
}

/// Through the directories of snapshots, each of which is looked at once.
struct Walk<'a> {
    repository: &'a Repository<IndexedFullStatus>,
    bad: &'a BTreeSet<PackId>,
    known: BTreeMap<TreeId, bool>,
}

impl Walk<'_> {
    fn is_concerned(&mut self, tree: TreeId) -> bool {
        if let Some(known) = self.known.get(&tree) {
            return *known;
        }
        let is_concerned = self.is_bad(&tree) || self.is_content_concerned(tree);
        self.known.insert(tree, is_concerned);
        is_concerned
    }

    fn is_content_concerned(&mut self, tree: TreeId) -> bool {
        let Ok(directory) = self.repository.get_tree(&tree) else { return true };
        directory.nodes.iter().any(|node| {
            node.content.iter().flatten().any(|blob| self.is_bad(blob))
                || node.subtree.is_some_and(|tree| self.is_concerned(tree))
        })
    }

    fn is_bad(&self, blob: &impl PackedId) -> bool {
        self.repository.get_index_entry(blob).map_or(true, |entry| self.bad.contains(&entry.pack))
    }
}
