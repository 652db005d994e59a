//! The job that removes snapshots. It looks once more before it does: the newest of each stack stays, and can be read.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustic_core::repofile::SnapshotFile;

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::store::UNFINISHED;
use super::trouble::{Kind, Trouble};
use super::upkeep::{Forget, Forgotten, Surveyed};

/// What lies in the repository besides snapshots.
pub fn survey(backend: &Backend) -> Result<Surveyed, Trouble> {
    // A repository that nobody but restic wrote into has no place for unfinished files, and ours may have none for locks.
    let count = |directory: &str| match backend.store().list(&[directory.to_owned()]) {
        Ok(entries) => Ok(entries.len() as u64),
        Err(trouble) if trouble.kind == Kind::Gone => Ok(0),
        Err(trouble) => Err(trouble),
    };
    Ok(Surveyed { locks: count("locks")?, unfinished: count(UNFINISHED)? })
}

/// Removes the snapshots.
pub fn forget(backend: &Arc<Backend>, password: &str, task: &Forget, voice: &Arc<Voice>) -> Result<Forgotten, Trouble> {
    let repository = job::open(backend, password, None, voice, &Arc::default())?;
    let named: BTreeSet<&str> = task.snapshots.iter().map(String::as_str).collect();
    let is_named = |snapshot: &SnapshotFile| named.contains(snapshot.id.to_hex().as_str());
    // One that is not there any more was removed by a job that was killed afterwards.
    let (going, staying): (Vec<_>, Vec<_>) = job::snapshots(backend, &repository)?.into_iter().partition(is_named);
    if going.iter().any(|snapshot| snapshot.hostname != task.host) {
        return Err(Trouble::new(Kind::Internal, format!("not all of the snapshots are of {}", task.host)));
    }
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let repository = repository.to_indexed_ids().map_err(failed)?;
    for label in going.iter().map(|snapshot| snapshot.label.as_str()).collect::<BTreeSet<_>>() {
        let is_same = |snapshot: &&SnapshotFile| snapshot.hostname == task.host && snapshot.label == label;
        let Some(newest) = staying.iter().rfind(is_same) else {
            return Err(Trouble::new(Kind::Internal, format!("no snapshot of {label} would be left")));
        };
        repository.get_tree(&newest.tree).map_err(failed)?;
    }
    let ids: Vec<_> = going.iter().map(|snapshot| snapshot.id).collect();
    repository.delete_snapshots(&ids).map_err(failed)?;
    Ok(Forgotten { removed: ids.len() as u64, left: staying.len() as u64, memory: job::memory() })
}
