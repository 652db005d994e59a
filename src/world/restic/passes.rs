//! Archives in as many passes as it takes to be quick: rustic prepares its cutting of large files anew for every file,
//! which costs more than a small file itself. So many small files get a pass in which nothing is cut by content.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytesize::ByteSize;
use rustic_core::repofile::{Chunker, ConfigFile, Metadata, SnapshotFile, SnapshotSummary};
use rustic_core::{
    BackupOptions, ConfigOptions, ErrorKind, IndexedIdsStatus, ReadSource, ReadSourceEntry, ReadSourceOpen, Repository,
    RusticError, RusticResult,
};

/// So many small files are read before it is worth a pass of their own: half a second.
const FEW: usize = 1000;

/// Archives a source. `begin` is called before each pass: what was counted before it does not count.
///
/// The backend must hold back what rustic writes about snapshots and the configuration: each pass has the snapshot of the
/// one before as a parent, so a file that was not touched is not read twice, and the chunker is changed in memory only.
/// A file that is smaller than the smallest chunk is one chunk in every pass.
pub fn archive<R>(
    mut repository: Repository<IndexedIdsStatus>,
    options: &BackupOptions,
    source: &Arc<R>,
    snapshot: &SnapshotFile,
    paths: &[PathBuf],
    begin: impl Fn(),
) -> RusticResult<(Repository<IndexedIdsStatus>, SnapshotFile)>
where
    R: ReadSource + 'static,
    R::Open: Send,
    R::Iter: Send,
{
    let config = repository.config().clone();
    let mut options = options.clone();
    let mut before: Option<SnapshotFile> = None;
    for takes in passes(&config) {
        begin();
        cut(&mut repository, &config, *takes)?;
        let pass = Pass { source: source.clone(), turn: Arc::new(Turn::new(*takes, config.chunk_min_size())) };
        let made = repository.archive(&options, &pass, snapshot.clone(), paths)?;
        let id = made.id;
        let made = match before {
            Some(before) => together(before, made),
            None => made,
        };
        if !pass.turn.is_unfinished() {
            cut(&mut repository, &config, Takes::All)?;
            return Ok((repository, made));
        }
        // A pass that ended early knows little of what was there before.
        let known = [id].into_iter().chain(made.parents.clone());
        options.parent_opts.parents = known.map(|id| id.to_hex().as_str().to_owned()).collect();
        before = Some(made);
        // It does not know by itself what was just written.
        repository = repository.drop_index().to_indexed_ids()?;
    }
    Err(RusticError::new(ErrorKind::Internal, "the last pass takes everything"))
}

/// What a pass reads. The rest is left to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Everything, but no more than a few small files: then it ends.
    FewSmall,
    /// Files that are not cut.
    Small,
    /// Everything.
    All,
}

/// The passes; those after one that read everything are not made. Whoever made a repository with another chunker, or
/// forbade changes of its configuration, gets the plain way.
fn passes(config: &ConfigFile) -> &'static [Takes] {
    match config.chunker() {
        Chunker::Rabin if config.append_only != Some(true) => &[Takes::FewSmall, Takes::Small, Takes::All],
        Chunker::Rabin | Chunker::FixedSize => &[Takes::All],
    }
}

/// Lets rustic cut as a pass needs it.
fn cut(repository: &mut Repository<IndexedIdsStatus>, config: &ConfigFile, takes: Takes) -> RusticResult<()> {
    if passes(config).len() == 1 {
        return Ok(());
    }
    let (chunker, size) = match takes {
        Takes::FewSmall | Takes::All => (config.chunker(), config.chunk_size()),
        // Small files do not reach it.
        Takes::Small => (Chunker::FixedSize, config.chunk_min_size()),
    };
    let options = ConfigOptions::default().set_chunker(chunker).set_chunk_size(ByteSize::b(size as u64));
    repository.apply_config(&options).map(drop)
}

/// The later snapshot with the parents of the earlier one, and with what both did.
fn together(before: SnapshotFile, mut after: SnapshotFile) -> SnapshotFile {
    after.parent = before.parent;
    after.parents = before.parents;
    after.summary = match (before.summary, after.summary) {
        (Some(before), Some(after)) => Some(sum(&before, after)),
        (_, after) => after,
    };
    after
}

fn sum(before: &SnapshotSummary, mut after: SnapshotSummary) -> SnapshotSummary {
    // What the first one found new is unmodified to the second one.
    after.files_new += before.files_new;
    after.files_changed += before.files_changed;
    after.files_unmodified = after.total_files_processed.saturating_sub(after.files_new + after.files_changed);
    after.data_blobs += before.data_blobs;
    after.tree_blobs += before.tree_blobs;
    after.data_added += before.data_added;
    after.data_added_packed += before.data_added_packed;
    after.data_added_files += before.data_added_files;
    after.data_added_files_packed += before.data_added_files_packed;
    after.data_added_trees += before.data_added_trees;
    after.data_added_trees_packed += before.data_added_trees_packed;
    after.backup_duration += before.backup_duration;
    after.backup_start = before.backup_start.clone();
    after
}

/// What one pass takes, and whether it left something.
#[derive(Debug)]
struct Turn {
    takes: Takes,
    /// Files below this size, in bytes, are small.
    smallest: u64,
    small: AtomicUsize,
    left: AtomicBool,
}

impl Turn {
    fn new(takes: Takes, smallest: usize) -> Self {
        Self { takes, smallest: smallest as u64, small: AtomicUsize::new(0), left: AtomicBool::new(false) }
    }

    /// What is made only while it is read has no number on any disk, and may become large.
    fn is_small(&self, file: &Metadata) -> bool {
        file.size < self.smallest && file.inode != 0
    }

    /// Whether a file that is new or has changed is read in this pass.
    fn takes(&self, is_small: bool) -> bool {
        let takes = match self.takes {
            Takes::FewSmall => !is_small || self.small.fetch_add(1, Ordering::Relaxed) < FEW,
            Takes::Small => is_small,
            Takes::All => true,
        };
        if !takes {
            self.left.store(true, Ordering::Relaxed);
        }
        takes
    }

    fn is_unfinished(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether nothing that follows is of interest: the next pass begins anew.
    fn is_over(&self) -> bool {
        self.takes == Takes::FewSmall && self.is_unfinished()
    }
}

/// The source as one pass sees it.
struct Pass<R> {
    source: Arc<R>,
    turn: Arc<Turn>,
}

impl<R: ReadSource> ReadSource for Pass<R>
where
    R::Open: Send,
{
    type Open = Opening<R::Open>;
    type Iter = Entries<R::Iter>;

    fn size(&self) -> RusticResult<Option<u64>> {
        self.source.size()
    }

    fn entries(&self) -> Self::Iter {
        Entries { entries: self.source.entries(), turn: self.turn.clone() }
    }
}

struct Entries<I> {
    entries: I,
    turn: Arc<Turn>,
}

impl<I, O> Iterator for Entries<I>
where
    I: Iterator<Item = RusticResult<ReadSourceEntry<O>>>,
{
    type Item = RusticResult<ReadSourceEntry<Opening<O>>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.turn.is_over() {
            return None;
        }
        let entry = self.entries.next()?;
        Some(entry.map(|ReadSourceEntry { path, node, open }| {
            let turn = self.turn.clone();
            let open = open.map(|open| Opening { open, is_small: turn.is_small(&node.meta), turn });
            ReadSourceEntry { path, node, open }
        }))
    }
}

/// A file that rustic opens only if it is new or has changed.
struct Opening<O> {
    open: O,
    is_small: bool,
    turn: Arc<Turn>,
}

impl<O: ReadSourceOpen> ReadSourceOpen for Opening<O> {
    type Reader = O::Reader;

    fn open(self) -> RusticResult<O::Reader> {
        if self.turn.takes(self.is_small) {
            self.open.open()
        } else {
            // rustic leaves it out of this pass's snapshot, which nobody sees.
            Err(RusticError::new(ErrorKind::InputOutput, "left to the next pass"))
        }
    }
}
