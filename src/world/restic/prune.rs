//! The job that removes what no snapshot needs, in two phases: packs are marked first, and those that have been marked for
//! long enough are removed. It never removes at once, for a backup elsewhere may be about to need what it would remove.

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, Timestamp};
use rustic_core::repofile::{IndexFile, PackId, SnapshotId};
use rustic_core::{LimitOption, OpenStatus, PruneOptions, PruneStats, RepairIndexOptions, Repository};

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::trouble::{Kind, Trouble};
use super::upkeep::{Amount, Prune, Pruned, Way};

/// How much is written anew in one prune, at most: packs that are needed in part, and small ones. The rest waits.
const REWRITTEN: u64 = 1024 * 1024 * 1024;

/// Removes, marks, or looks what would be.
pub fn prune(backend: &Arc<Backend>, password: &str, task: &Prune, voice: &Arc<Voice>) -> Result<Pruned, Trouble> {
    let repository = job::open(backend, password, None, voice, &Arc::default())?;
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let snapshots = count(backend, &repository, task)?;
    if snapshots == 0 {
        return Ok(Pruned { memory: job::memory(), ..Pruned::default() });
    }
    let keep = SignedDuration::try_from(Duration::from_secs(task.keep_s)).unwrap_or(SignedDuration::MAX);
    let seconds = Span::new().try_seconds(keep.as_secs()).map_err(|_| Trouble::new(Kind::Internal, "no such time"))?;
    let mut options =
        PruneOptions::default().keep_delete(seconds).max_repack(LimitOption::Size(ByteSize::b(REWRITTEN)));
    if let Way::Look(without) = &task.way {
        options = options.ignore_snaps(without.iter().filter_map(|id| id.parse().ok()).collect::<Vec<SnapshotId>>());
    }
    let mut plan = repository.prune_plan(&options).map_err(failed)?;
    // rustic marks packs that are in no index in an index that it writes anyway, and else forgets them again. So they get
    // into one first.
    if task.way == Way::Act && plan.stats.packs_unref > 0 && plan.stats.index_files_rebuild == 0 {
        repository.repair_index(&RepairIndexOptions::default(), false).map_err(failed)?;
        plan = repository.prune_plan(&options).map_err(failed)?;
    }
    let mut pruned = describe(&plan.stats);
    if task.way == Way::Act {
        repository.prune(&options, plan).map_err(failed)?;
    }
    let (waiting, first) = marked(&repository).map_err(failed)?;
    pruned.snapshots = snapshots;
    pruned.waiting = waiting;
    pruned.due = first.and_then(|first| first.checked_add(keep).ok());
    pruned.memory = job::memory();
    Ok(pruned)
}

/// How many snapshots there are; an error if some are not there that should be, for what they need would be removed.
fn count(backend: &Backend, repository: &Repository<OpenStatus>, task: &Prune) -> Result<u64, Trouble> {
    let listed = job::snapshots(backend, repository)?;
    let lost = |words: String| Trouble::new(Kind::Damaged, format!("{words}; nothing was removed"));
    let is_listed = |id: &&String| listed.iter().any(|snapshot| snapshot.id.to_hex().as_str() == *id);
    if let Some(id) = task.known.iter().find(|id| !is_listed(id)) {
        return Err(lost(format!("snapshot {} is not listed any more", id.get(..8).unwrap_or(id))));
    }
    let count = listed.len() as u64;
    if count < task.at_least {
        return Err(lost(format!("{count} snapshots are listed, and there were {}", task.at_least)));
    }
    let holds_packs = || repository.list::<PackId>().map(|mut packs| packs.next().is_some());
    if count == 0 && holds_packs().map_err(|error| explain(backend, &error))? {
        return Err(lost("there is data, and not one snapshot of it".to_owned()));
    }
    Ok(count)
}

fn describe(stats: &PruneStats) -> Pruned {
    let mut marked = Amount { packs: stats.packs_unref, bytes: stats.size_unref };
    // rustic's own sums count packs too that it keeps because they are young.
    for (what, packs) in &stats.debug.0 {
        if ["MarkDelete", "Repack"].contains(&format!("{:?}", what.todo).as_str()) {
            marked.packs += packs.packs;
            marked.bytes += packs.used_size + packs.unused_size;
        }
    }
    let size = stats.size_sum();
    Pruned {
        freed: Amount { packs: stats.packs_to_delete.remove, bytes: stats.size_to_delete.remove },
        marked,
        rewritten: size.repack - size.repackrm,
        ..Pruned::default()
    }
}

/// What is marked and still there, and since when the first of it.
fn marked(repository: &Repository<OpenStatus>) -> rustic_core::RusticResult<(Amount, Option<Timestamp>)> {
    let (mut amount, mut first) = (Amount::default(), None);
    for index in repository.stream_files::<IndexFile>()? {
        for pack in index?.1.packs_to_delete {
            amount.packs += 1;
            amount.bytes += u64::from(pack.pack_size());
            first = [first, pack.time].into_iter().flatten().min();
        }
    }
    Ok((amount, first))
}
