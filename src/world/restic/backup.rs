//! The job that makes a snapshot: reads everything, looks at what could not be read, and only then writes the snapshot.

use std::sync::Arc;

use bytesize::ByteSize;
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, KeyOptions, OpenStatus, ParentOptions, Repository,
    SnapshotGroupCriterion, SnapshotOptions, StringList,
};

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::order::{Backup, First, Saved};
use super::source::{Counts, Reading};
use super::trouble::{Kind, Trouble};

/// How large a pack is, always: rustic's grow with the repository, and a job's memory with them.
const PACK: u64 = 16 * 1024 * 1024;
/// With less room than this a backup is not begun: it would end in the middle of the first packs.
const NEEDED: u64 = 64 * 1024 * 1024;
/// The tag of a snapshot in which files are missing that are there.
const PARTIAL: &str = "partial";

/// Makes a snapshot.
pub fn backup(backend: &Arc<Backend>, password: &str, task: &Backup, voice: &Arc<Voice>) -> Result<Saved, Trouble> {
    let counts = Arc::new(Counts::default());
    // Before the repository is touched: it is the likeliest to be wrong.
    let reading = Reading::open(&task.sources, &task.excludes, &counts)?;
    let repository = open(backend, password, task, voice, &counts)?;
    backend.sweep()?;
    if let Some(free) = backend.store().free()?.filter(|free| *free < NEEDED) {
        let words = format!("{}: {} MiB are free", backend.store().name(), free / (1024 * 1024));
        return Err(Trouble::new(Kind::Full, words));
    }
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let snapshot =
        SnapshotOptions::default().host(task.host.clone()).label(task.label.clone()).to_snapshot().map_err(failed)?;
    let mut snapshot = snapshot;
    snapshot.tags.add_all(vec![tags(&task.tags)?]);
    // By host and label: when a stack gains a volume, it is still the same stack.
    let group = SnapshotGroupCriterion::new().hostname(true).label(true);
    let options = BackupOptions::default().no_scan(true).parent_opts(ParentOptions::default().group_by(Some(group)));
    let paths: Vec<_> = task.sources.iter().map(|source| source.to.clone()).collect();

    let repository = repository.to_indexed_ids().map_err(failed)?;
    backend.hold_snapshots(true);
    let archived = repository.archive(&options, &reading, snapshot, &paths);
    backend.hold_snapshots(false);
    let mut snapshot = archived.map_err(failed)?;
    let seen = counts.seen();
    if !seen.unreadable.is_empty() {
        snapshot.tags.add_all(vec![tags(&[PARTIAL.to_owned()])?]);
    }
    let summary = snapshot.summary.clone().unwrap_or_default();
    repository.save_snapshots(vec![snapshot]).map_err(failed)?;
    let id = backend.saved().ok_or_else(|| Trouble::new(Kind::Internal, "no snapshot was written"))?;
    Ok(Saved {
        id: id.to_hex().as_str().to_owned(),
        files: summary.total_files_processed,
        changed: summary.files_new + summary.files_changed,
        bytes: summary.total_bytes_processed,
        added: summary.data_added_packed,
        vanished: seen.vanished,
        unreadable: seen.unreadable,
        memory: job::memory(),
    })
}

fn tags(tags: &[String]) -> Result<StringList, Trouble> {
    let joined = tags.join(",");
    joined.parse().map_err(|_| Trouble::new(Kind::Internal, format!("`{joined}` cannot be tags")))
}

/// Opens the backup repository; makes it first if it is not there and a person said so.
fn open(
    backend: &Arc<Backend>,
    password: &str,
    task: &Backup,
    voice: &Arc<Voice>,
    counts: &Arc<Counts>,
) -> Result<Repository<OpenStatus>, Trouble> {
    if task.first == First::Make && backend.store().size("config")?.is_none() {
        let options = ConfigOptions::default()
            .set_datapack_size(ByteSize::b(PACK))
            .set_datapack_growfactor(0_u32)
            .set_treepack_growfactor(0_u32);
        let repository = job::unopened(backend, None, voice, counts)?;
        let made = repository.init(&Credentials::password(password), &KeyOptions::default(), &options);
        made.map_err(|error| explain(backend, &error))?;
    }
    job::open(backend, password, Some(&task.cache), voice, counts)
}
