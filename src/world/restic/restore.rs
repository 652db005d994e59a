//! The job that restores a snapshot: one file after the other, each read back and compared with the repository's digests.
//! What cannot be restored is named, and the rest goes on. What an earlier attempt left is compared in the same way, and
//! not fetched again.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustic_core::repofile::{Node, NodeType, SnapshotFile};
use rustic_core::{IndexedFull, Repository};

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::order::{Line, Progress, Restore, Restored};
use super::place::{Begun, Place, Start, Unrestored};
use super::trouble::{Kind, Trouble};

/// How deep a directory may lie: each level on the way is open.
const DEEPEST: usize = 900;
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
    let repository = repository.to_indexed().map_err(failed)?;
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
    let mut walk = Walk { repository: &repository, backend, place, voice, total, restored };
    let stands_for = (task.path.is_some() && top.is_dir()).then(|| top.clone());
    if top.is_dir() {
        walk.tree(top, task.path.is_some())?;
    } else {
        walk.file(&top, Path::new("/"))?;
    }
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
}

/// A directory that is being filled.
struct Level {
    nodes: std::vec::IntoIter<Node>,
    path: PathBuf,
    /// Whose metadata it gets when it is full; none for the place itself, unless it stands for a directory.
    node: Option<Node>,
}

impl<S: IndexedFull> Walk<'_, S> {
    /// Restores a directory into the place.
    fn tree(&mut self, top: Node, is_part: bool) -> Result<(), Trouble> {
        let nodes = self.nodes(&top, Path::new("/"))?;
        let mut levels = vec![Level { nodes, path: PathBuf::from("/"), node: is_part.then_some(top) }];
        while let Some(level) = levels.last_mut() {
            let Some(node) = level.nodes.next() else {
                let Some(level) = levels.pop() else { break };
                let finished = level.node.as_ref().map_or(Ok(()), |node| self.place.dress_directory(node));
                self.note(&level.path, finished)?;
                self.place.leave();
                continue;
            };
            let above = level.path.clone();
            if !node.is_dir() {
                self.file(&node, &above)?;
                continue;
            }
            let path = above.join(shown(&node));
            let entered = match levels.len() < DEEPEST {
                true => self.place.enter(&node.name()),
                false => Err(Unrestored::Lost("it lies too deep".to_owned())),
            };
            if self.note(&path, entered)? {
                let nodes = self.nodes(&node, &path)?;
                levels.push(Level { nodes, path, node: Some(node) });
            }
        }
        Ok(())
    }

    /// What is in a directory; nothing, and a loss, if the list is damaged.
    fn nodes(&mut self, node: &Node, path: &Path) -> Result<std::vec::IntoIter<Node>, Trouble> {
        let tree = node.subtree.as_ref().map(|tree| self.repository.get_tree(tree));
        match tree {
            Some(Ok(tree)) => Ok(tree.nodes.into_iter()),
            Some(Err(error)) => {
                let why = unless_away(explain(self.backend, &error))?;
                self.restored.lost.add(format_args!("{}/", path.display()), format_args!("everything in it: {why}"));
                Ok(Vec::new().into_iter())
            }
            None => Ok(Vec::new().into_iter()),
        }
    }

    /// Restores anything but a directory.
    fn file(&mut self, node: &Node, above: &Path) -> Result<(), Trouble> {
        let path = above.join(shown(node));
        let done = match &node.node_type {
            NodeType::File => self.content(node),
            // Its maker makes a new one.
            NodeType::Socket => Ok(()),
            _ => self.place.special(node),
        };
        if self.note(&path, done)? && node.is_file() {
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

    fn content(&mut self, node: &Node) -> Result<(), Unrestored> {
        if self.place.link(node)? {
            return Ok(());
        }
        if let Some(mut found) = self.place.found(node)? {
            if self.is_whole(node, found.metadata()?.len(), &mut found) {
                self.place.dress(&found, node)?;
                self.restored.reused_files += 1;
                self.restored.reused_bytes += node.meta.size;
                return self.place.remember(node);
            }
            self.place.clear(node)?;
        }
        let mut file = self.place.create()?;
        if let Err(error) = self.repository.dump(node, &mut file) {
            let why = explain(self.backend, &error);
            return Err(file.abandon().unwrap_or_else(|| match unless_away(why) {
                Ok(why) => Unrestored::Lost(why.to_string()),
                Err(away) => Unrestored::End(away),
            }));
        }
        let length = file.length();
        let mut written = file.finish(node)?;
        if !self.is_whole(node, length, &mut written) {
            return Err(Unrestored::Lost("what was read back is not what was written".to_owned()));
        }
        self.place.settle(node)?;
        self.place.remember(node)
    }

    /// Whether what is read has this content, and nothing else: each piece of content is named by its digest.
    fn is_whole(&self, node: &Node, length: u64, reader: &mut impl Read) -> bool {
        let mut left = length;
        let same = node.content.iter().flatten().all(|id| {
            let Ok(entry) = self.repository.get_index_entry(id) else { return false };
            let size: u64 = entry.data_length().into();
            let fits = left.checked_sub(size).map(|rest| left = rest).is_some();
            fits && id.blob_matches_reader(entry.data_length().into(), reader)
        });
        same && left == 0
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

/// What makes one file a loss; an error, if it would make every other one a loss, too.
fn unless_away(trouble: Trouble) -> Result<Trouble, Trouble> {
    match trouble.kind {
        Kind::Away | Kind::HostKeyChanged | Kind::LoginRefused => Err(trouble),
        _ => Ok(trouble),
    }
}

/// The name as a person may see it; only [`Place`] decides whether it is used.
fn shown(node: &Node) -> String {
    node.name.replace('/', "\\x2f")
}
