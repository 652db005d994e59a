//! The job that makes a snapshot: dumps databases, reads everything, looks at what could not be read, and only then
//! writes the snapshot.

use std::io::{self, BufRead as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;
use rustic_core::repofile::{SnapshotFile, SnapshotSummary};
use rustic_core::{
    BackupOptions, ConfigOptions, Credentials, IndexedIdsStatus, KeyOptions, OpenStatus, ParentOptions, ReadSource,
    Repository, SnapshotGroupCriterion, SnapshotOptions, StringList,
};

use super::backend::Backend;
use super::dumps::{self, Dumps};
use super::job::{self, Voice, explain};
use super::order::{Backup, First, Line, Order, Passes, Saved, Turn};
use super::passes;
use super::source::{Counts, Ending, Reading};
use super::trees::Trees;
use super::trouble::{Kind, Trouble};

/// How large a pack is, always: rustic's grow with the repository, and a job's memory with them.
const PACK: u64 = 16 * 1024 * 1024;
/// With less room than this a backup is not begun: it would end in the middle of the first packs.
const NEEDED: u64 = 64 * 1024 * 1024;
/// The tag of a snapshot in which files are missing that are there.
const PARTIAL: &str = "partial";

type Indexed = Repository<IndexedIdsStatus>;

/// Makes a snapshot.
pub fn backup(backend: &Arc<Backend>, order: &Order, task: &Backup, voice: &Arc<Voice>) -> Result<Saved, Trouble> {
    let counts = Arc::new(Counts::default());
    // Before the repository is touched: it is the likeliest to be wrong.
    let reading = Reading::open(&task.sources, &task.excludes, &counts)?;
    let repository = open(backend, &order.password, task, voice, &counts)?;
    backend.sweep()?;
    if let Some(free) = backend.store().free()?.filter(|free| *free < NEEDED) {
        let words = format!("{}: {} MiB are free", backend.store().name(), free / (1024 * 1024));
        return Err(Trouble::new(Kind::Full, words));
    }
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let repository = repository.to_indexed_ids().map_err(failed)?;
    backend.hold_snapshots(true);
    let made = make(backend, order, task, repository, reading, (voice, &counts));
    backend.hold_snapshots(false);
    let (repository, mut snapshot) = made?;
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

/// Reads everything: the dumps, then the files, and the files once more if containers are to stand for that. None of
/// this can be seen in the repository before the snapshot is saved.
fn make(
    backend: &Arc<Backend>,
    order: &Order,
    task: &Backup,
    mut repository: Indexed,
    reading: Reading,
    (voice, counts): (&Arc<Voice>, &Arc<Counts>),
) -> Result<(Indexed, SnapshotFile), Trouble> {
    // By host and label: when a stack gains a volume, it is still the same stack.
    let group = SnapshotGroupCriterion::new().hostname(true).label(true);
    let parents = || ParentOptions::default().group_by(Some(group));
    let mut dumped = None;
    if !task.dumps.is_empty() {
        let dumps = Dumps::find(task, &order.logins, counts, voice)?;
        // Each is read, whatever is there already.
        let snapshot = archive(backend, &repository, task, &dumps, ParentOptions::default().force(true))?;
        dumped = Some((snapshot, dumps.sizes()?));
        repository = look_again(backend, repository)?;
    }
    let reading = Arc::new(reading);
    let (draft, options, paths) = draft(backend, task, parents())?;
    let live = passes::archive(repository, &options, &reading, &draft, &paths, || counts.begin_again());
    let (mut repository, mut snapshot) = live.map_err(|error| explain(backend, &error))?;
    if task.passes == Passes::LiveThenStill {
        repository = look_again(backend, repository)?;
        wait_until_they_stand(voice)?;
        counts.begin_again();
        reading.end_with(Ending::new(voice.clone()));
        let live = std::mem::take(&mut snapshot);
        let first = parents().parents(vec![live.id.to_hex().as_str().to_owned()]);
        snapshot = archive(backend, &repository, task, &*reading, first)?;
        // What the live pass left is no snapshot that anybody could look at.
        (snapshot.parent, snapshot.parents) = (live.parent, live.parents);
        let (sum, live) = (snapshot.summary.get_or_insert_default(), live.summary.unwrap_or_default());
        // A file that changed between the two is one.
        sum.files_changed = (sum.files_changed + live.files_changed).min(sum.total_files_processed);
        sum.files_new += live.files_new;
        sum.files_unmodified = sum.total_files_processed.saturating_sub(sum.files_new + sum.files_changed);
        add_bytes(sum, &live);
    }
    if let Some((dumps, sizes)) = dumped {
        repository = look_again(backend, repository)?;
        let written = Trees::new(backend, &repository).add_dumps(&mut snapshot, &dumps, &sizes)?;
        let (sum, dumps) = (snapshot.summary.get_or_insert_default(), dumps.summary.unwrap_or_default());
        sum.files_new += dumps.files_new;
        sum.total_files_processed += dumps.total_files_processed;
        sum.total_bytes_processed += dumps.total_bytes_processed;
        add_bytes(sum, &dumps);
        (sum.data_added, sum.data_added_packed) = (sum.data_added + written, sum.data_added_packed + written);
    }
    Ok((repository, snapshot))
}

fn add_bytes(sum: &mut SnapshotSummary, other: &SnapshotSummary) {
    sum.data_blobs += other.data_blobs;
    sum.tree_blobs += other.tree_blobs;
    sum.data_added += other.data_added;
    sum.data_added_packed += other.data_added_packed;
}

/// Reads a source into the repository, for a snapshot that is not written yet.
fn archive<S>(
    backend: &Backend,
    repository: &Indexed,
    task: &Backup,
    source: &S,
    parents: ParentOptions,
) -> Result<SnapshotFile, Trouble>
where
    S: ReadSource + 'static,
    S::Open: Send,
    S::Iter: Send,
{
    let (draft, options, paths) = draft(backend, task, parents)?;
    repository.archive(&options, source, draft, &paths).map_err(|error| explain(backend, &error))
}

/// What rustic is told of a snapshot before it reads anything.
fn draft(
    backend: &Backend,
    task: &Backup,
    parents: ParentOptions,
) -> Result<(SnapshotFile, BackupOptions, Vec<PathBuf>), Trouble> {
    let snapshot = SnapshotOptions::default().host(task.host.clone()).label(task.label.clone()).to_snapshot();
    let mut snapshot = snapshot.map_err(|error| explain(backend, &error))?;
    snapshot.tags.add_all(vec![tags(&task.tags)?]);
    let options = BackupOptions::default().no_scan(true).parent_opts(parents);
    let dumps = task.dumps.iter().map(|dump| dumps::directory(&task.label).join(&dump.to));
    let paths = task.sources.iter().map(|source| source.to.clone()).chain(dumps).collect();
    Ok((snapshot, options, paths))
}

/// What was just written is found in the index only if that is read again.
fn look_again(backend: &Backend, repository: Indexed) -> Result<Indexed, Trouble> {
    repository.drop_index().to_indexed_ids().map_err(|error| explain(backend, &error))
}

fn wait_until_they_stand(voice: &Voice) -> Result<(), Trouble> {
    let unheard = |error: io::Error| Trouble::io("the order", &error);
    voice.say(&Line::Turn(Turn::Stand)).map_err(unheard)?;
    match io::stdin().lock().read_line(&mut String::new()).map_err(unheard)? {
        0 => Err(Trouble::new(Kind::Internal, "nobody said that the containers stand")),
        _ => Ok(()),
    }
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
