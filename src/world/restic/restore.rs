//! The job that restores a snapshot: one file after the other, each read back and compared with the repository's digests.
//! What they need is fetched ahead. What cannot be restored is named, and the rest goes on. What an earlier attempt left is
//! compared in the same way, and not fetched again.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use rustic_core::repofile::{Node, NodeType, SnapshotFile};
use rustic_core::{DataId, IndexedFull, Repository};

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::needs::Over;
use super::order::{Line, Progress, Restore, Restored};
use super::place::{Begun, Name, Place, Start, Unrestored};
use super::steps::{self, Step};
use super::trouble::{Kind, Trouble};

/// How much is written before it is brought to the disk, beside what is written next: it is waited for at the end, and all
/// of it would be much.
const FLUSHED: u64 = 64 * 1024 * 1024;
/// What a person types for the newest one.
const LATEST: &str = "latest";

/// Restores a snapshot, or a part of it.
pub fn restore(
    backend: &Arc<Backend>,
    password: &str,
    task: &Restore,
    voice: &Arc<Voice>,
) -> Result<Restored, Trouble> {
    let begun = Begun::of(task)?;
    let repository = job::open(backend, password, None, voice, &Arc::default())?;
    let snapshot = match &begun {
        Some(begun) => {
            let same = Restore { snapshot: begun.snapshot.clone(), ..task.clone() };
            choose(job::snapshots(backend, &repository)?, &same)?
        }
        None => choose(job::snapshots(backend, &repository)?, task)?,
    };
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let repository = Arc::new(repository.to_indexed().map_err(failed)?);
    let top = top(&repository, backend, &snapshot, task)?;
    let total = match (&task.path, &snapshot.summary) {
        (None, Some(summary)) => summary.total_bytes_processed,
        _ => size(&repository, &top),
    };
    let id = snapshot.id.to_hex().as_str().to_owned();
    let (start, record) = match begun {
        Some(begun) => (Start::Again, begun),
        None => (Start::Fresh, Begun::new(task, &id)),
    };
    let place = Place::open(&task.to, total, start, &record)?;
    let lost = super::order::Losses::default();
    let restored = Restored { id, files: 0, bytes: 0, lost, memory: 0, reused_files: 0, reused_bytes: 0 };
    let stands_for = (task.path.is_some() && top.is_dir()).then(|| top.clone());
    let sight = place.sight()?;
    let mut walk = Walk {
        repository: &repository,
        backend,
        place,
        voice,
        total,
        restored,
        skipped: 0,
        behind: None,
        unflushed: 0,
        flushing: None,
    };
    let over = Over(backend.needs());
    walk.go(steps::take(backend, &repository, top, stands_for.clone(), sight))?;
    drop(over);
    walk.flushed()?;
    walk.place.flush()?;
    // What is lost may be found again, when the repository was mended: then the same command fetches only that.
    if walk.restored.lost.is_empty() {
        walk.place.end(stands_for.as_ref())?;
    }
    Ok(Restored { memory: job::memory(), ..walk.restored })
}

/// What of a snapshot is meant: all of it, or what has this path.
pub(super) fn top<S: IndexedFull>(
    repository: &Repository<S>,
    backend: &Backend,
    snapshot: &SnapshotFile,
    task: &Restore,
) -> Result<Node, Trouble> {
    match &task.path {
        None => Ok(Node { node_type: NodeType::Dir, subtree: Some(snapshot.tree), ..Node::default() }),
        Some(path) => repository.node_from_path(snapshot.tree, path).map_err(|_| {
            let unknown = || Trouble::new(Kind::Snapshot, format!("it has no {}", path.display()));
            backend.trouble().unwrap_or_else(unknown)
        }),
    }
}

/// How many bytes the files of a tree have. What cannot be read of it is found to be lost later.
fn size<S: IndexedFull>(repository: &Repository<S>, top: &Node) -> u64 {
    let mut trees: Vec<_> = top.subtree.into_iter().collect();
    let mut size = if top.is_dir() { 0 } else { top.meta.size };
    while let Some(tree) = trees.pop() {
        for node in repository.get_tree(&tree).map(|tree| tree.nodes).unwrap_or_default() {
            match node.subtree.filter(|_| node.is_dir()) {
                Some(subtree) => trees.push(subtree),
                None => size += node.meta.size,
            }
        }
    }
    size
}

/// The snapshot that a person means.
pub(super) fn choose(snapshots: Vec<SnapshotFile>, task: &Restore) -> Result<SnapshotFile, Trouble> {
    let unknown = |words: String| Trouble::new(Kind::Snapshot, words);
    let is_ours = |snapshot: &SnapshotFile| snapshot.label == task.label && snapshot.hostname == task.host;
    if task.snapshot == LATEST {
        let newest = snapshots.into_iter().rfind(is_ours);
        return newest.ok_or_else(|| unknown(format!("there is no snapshot of {} of {}", task.label, task.host)));
    }
    let mut named = snapshots.into_iter().filter(|snapshot| snapshot.id.to_hex().as_str().starts_with(&task.snapshot));
    let (found, another) = (named.next(), named.next());
    match (found, another) {
        (None, _) => Err(unknown(format!("there is no snapshot {}", task.snapshot))),
        (Some(_), Some(_)) => Err(unknown(format!("several snapshots begin with {}", task.snapshot))),
        // What plain restic wrote has no label.
        (Some(snapshot), None) if snapshot.label.is_empty() || snapshot.label == task.label => Ok(snapshot),
        (Some(snapshot), None) => Err(unknown(format!("snapshot {} is one of {}", task.snapshot, snapshot.label))),
    }
}

/// A restore on its way.
struct Walk<'job, S> {
    repository: &'job Repository<S>,
    backend: &'job Backend,
    place: Place,
    voice: &'job Voice,
    total: u64,
    restored: Restored,
    /// How many directories we are in that could not be made.
    skipped: usize,
    behind: Option<Behind>,
    /// How many bytes were written since the last flush began.
    unflushed: u64,
    flushing: Option<JoinHandle<Result<(), Trouble>>>,
}

/// A large file that is read back while the next ones are written.
struct Behind {
    node: Node,
    path: PathBuf,
    reading: JoinHandle<Result<(), Unrestored>>,
}

/// How far a file came.
enum Written {
    /// It is whole and has its name.
    Settled,
    /// This finds out whether it is whole.
    Behind(JoinHandle<Result<(), Unrestored>>),
}

impl<S: IndexedFull> Walk<'_, S> {
    /// Carries the steps out.
    fn go(&mut self, steps: Receiver<Step>) -> Result<(), Trouble> {
        for step in steps {
            match step {
                Step::Enter(..) if self.skipped > 0 => self.skipped += 1,
                Step::Leave(..) if self.skipped > 0 => self.skipped -= 1,
                Step::File(node, _, number) if self.skipped > 0 => self.need_no_more(&node, number),
                Step::Lost(..) if self.skipped > 0 => {}
                Step::Enter(node, path) => {
                    self.catch_up()?;
                    let entered = self.place.enter(&node.name());
                    if !self.note(&path, entered)? {
                        self.skipped = 1;
                    }
                }
                Step::Leave(node, path) => {
                    self.catch_up()?;
                    let dressed = node.as_ref().map_or(Ok(()), |node| self.place.dress_directory(node));
                    self.note(&path, dressed)?;
                    self.place.leave();
                }
                Step::File(node, path, number) => self.file(node, path, number)?,
                Step::Lost(path, why) => self.restored.lost.add(path, why),
                Step::Broken(trouble) => return Err(trouble),
                Step::Done => return self.catch_up(),
            }
        }
        Err(Trouble::new(Kind::Internal, "the list of files broke off"))
    }

    /// Restores anything but a directory.
    fn file(&mut self, node: Node, path: PathBuf, number: u64) -> Result<(), Trouble> {
        if !node.is_file() {
            let done = match node.node_type {
                // Its maker makes a new one.
                NodeType::Socket => Ok(()),
                _ => self.place.special(&node),
            };
            return self.note(&path, done).map(drop);
        }
        if node.meta.links > 1 {
            // It may be another name of that one.
            self.catch_up()?;
        }
        let written = self.content(&node);
        self.need_no_more(&node, number);
        match written {
            Ok(Written::Settled) => {
                self.flush_behind(node.meta.size)?;
                self.count(&node, &path, Ok(()))
            }
            Err(error) => self.count(&node, &path, Err(error)),
            Ok(Written::Behind(reading)) => {
                self.behind = Some(Behind { node, path, reading });
                Ok(())
            }
        }
    }

    fn need_no_more(&self, node: &Node, number: u64) {
        self.backend.needs().done(number, steps::pieces(self.repository, node));
    }

    /// Gives the file that was read back meanwhile its name.
    fn catch_up(&mut self) -> Result<(), Trouble> {
        let Some(Behind { node, path, reading }) = self.behind.take() else { return Ok(()) };
        let read = reading.join().unwrap_or_else(|_| Err(Unrestored::Lost("it was not read back".to_owned())));
        let settled = read.and_then(|()| self.place.settle(&node, Name::Unproven));
        let done = settled.and_then(|()| self.place.remember(&node));
        self.count(&node, &path, done)
    }

    /// Brings to the disk what has gathered, and does not wait for it.
    fn flush_behind(&mut self, written: u64) -> Result<(), Trouble> {
        self.unflushed += written;
        let is_flushing = self.flushing.as_ref().is_some_and(|flushing| !flushing.is_finished());
        if self.unflushed < FLUSHED || is_flushing {
            return Ok(());
        }
        self.flushed()?;
        self.unflushed = 0;
        self.flushing = Some(self.place.flush_behind()?);
        Ok(())
    }

    /// Hears what the disk said.
    fn flushed(&mut self) -> Result<(), Trouble> {
        let broken = |_| Err(Trouble::new(Kind::Target, "what was written was not brought to the disk"));
        self.flushing.take().map_or(Ok(()), |flushing| flushing.join().unwrap_or_else(broken))
    }

    /// Counts a file, or a loss.
    fn count(&mut self, node: &Node, path: &Path, done: Result<(), Unrestored>) -> Result<(), Trouble> {
        if self.note(path, done)? {
            self.restored.files += 1;
            self.restored.bytes += node.meta.size;
            let Restored { files, bytes, reused_bytes, .. } = self.restored;
            let is_told = self.voice.tell(Progress { files, bytes, total: self.total });
            if is_told && reused_bytes > 0 {
                // As with progress: whoever does not listen may still wait for the end.
                let _ = self.voice.say(&Line::Reused(reused_bytes));
            }
        }
        Ok(())
    }

    fn content(&mut self, node: &Node) -> Result<Written, Unrestored> {
        if self.place.link(node)? {
            return Ok(Written::Settled);
        }
        let digests = self.digests(node);
        if let Some(mut found) = self.place.found(node)? {
            if is_whole(digests.as_deref(), found.metadata()?.len(), &mut found) {
                self.place.dress(&found, node)?;
                self.restored.reused_files += 1;
                self.restored.reused_bytes += node.meta.size;
                return self.place.remember(node).map(|()| Written::Settled);
            }
            self.place.clear(node)?;
        }
        let mut file = self.place.create()?;
        if let Err(error) = self.repository.dump(node, &mut file) {
            let why = explain(self.backend, &error);
            return Err(file.abandon().unwrap_or_else(|| match why.is_of_all() {
                false => Unrestored::Lost(why.to_string()),
                true => Unrestored::End(why),
            }));
        }
        let written = file.finish(node)?;
        let is_large = written.is_large();
        let prove = move || {
            let length = written.length();
            match is_whole(digests.as_deref(), length, &mut written.read_back()?) {
                true => Ok(()),
                false => Err(Unrestored::Lost("what was read back is not what was written".to_owned())),
            }
        };
        if is_large {
            self.catch_up().map_err(Unrestored::End)?;
            self.place.set_aside()?;
            return Ok(Written::Behind(std::thread::spawn(prove)));
        }
        prove()?;
        self.place.settle(node, Name::Unfinished)?;
        self.place.remember(node).map(|()| Written::Settled)
    }

    /// What a file consists of: each piece is named by its digest. None if no index knows one of them.
    fn digests(&self, node: &Node) -> Option<Vec<(DataId, u64)>> {
        let length = |id: &DataId| self.repository.get_index_entry(id).ok().map(|entry| entry.data_length().into());
        node.content.iter().flatten().map(|id| Some((*id, length(id)?))).collect()
    }

    /// Counts a loss. True if there was none; an error if nothing more can be restored.
    fn note(&mut self, path: &Path, done: Result<(), Unrestored>) -> Result<bool, Trouble> {
        match done {
            Ok(()) => Ok(true),
            Err(Unrestored::Lost(why)) => {
                self.restored.lost.add(path.display(), why);
                Ok(false)
            }
            Err(Unrestored::End(trouble)) => Err(trouble),
        }
    }
}

/// Whether what is read has this content, and nothing else.
fn is_whole(digests: Option<&[(DataId, u64)]>, length: u64, reader: &mut impl Read) -> bool {
    let mut left = length;
    let mut is_next = |(id, size): &(DataId, u64)| {
        let fits = left.checked_sub(*size).map(|rest| left = rest).is_some();
        fits && id.blob_matches_reader(*size, reader)
    };
    digests.is_some_and(|digests| digests.iter().all(&mut is_next)) && left == 0
}
