//! The job that restores a snapshot: one file after the other, each read back and compared with the repository's digests.
//! What cannot be restored is named, and the rest goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustic_core::repofile::{Node, NodeType, SnapshotFile};
use rustic_core::{IndexedFull, Repository};

use super::backend::Backend;
use super::job::{self, Voice, explain};
use super::order::{Progress, Restore, Restored};
use super::place::{Place, Unrestored};
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
    let repository = job::open(backend, password, None, voice, &Arc::default())?;
    let snapshot = choose(job::snapshots(backend, &repository)?, task)?;
    let failed = |error: Box<rustic_core::RusticError>| explain(backend, &error);
    let repository = repository.to_indexed().map_err(failed)?;
    let top = match &task.path {
        None => Node { node_type: NodeType::Dir, subtree: Some(snapshot.tree), ..Node::default() },
        Some(path) => repository.node_from_path(snapshot.tree, path).map_err(|_| {
            let unknown = || Trouble::new(Kind::Snapshot, format!("it has no {}", path.display()));
            backend.trouble().unwrap_or_else(unknown)
        })?,
    };
    let total = match &task.path {
        None => snapshot.summary.as_ref().map_or(0, |summary| summary.total_bytes_processed),
        Some(_) => 0,
    };
    let place = Place::open(&task.to, total)?;
    let id = snapshot.id.to_hex().as_str().to_owned();
    let restored = Restored { id, files: 0, bytes: 0, lost: super::order::Losses::default(), memory: 0 };
    let mut walk = Walk { repository: &repository, backend, place, voice, total, restored };
    if top.is_dir() {
        walk.tree(top, task.path.is_some())?;
    } else {
        walk.file(&top, Path::new("/"))?;
    }
    walk.place.flush()?;
    Ok(Restored { memory: job::memory(), ..walk.restored })
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
        let nodes = self.nodes(&top, Path::new("/"));
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
                levels.push(Level { nodes: self.nodes(&node, &path), path, node: Some(node) });
            }
        }
        Ok(())
    }

    /// What is in a directory; nothing, and a loss, if the list is damaged.
    fn nodes(&mut self, node: &Node, path: &Path) -> std::vec::IntoIter<Node> {
        let tree = node.subtree.as_ref().map(|tree| self.repository.get_tree(tree));
        match tree {
            Some(Ok(tree)) => tree.nodes.into_iter(),
            Some(Err(error)) => {
                let why = explain(self.backend, &error);
                self.restored.lost.add(format_args!("{}/", path.display()), format_args!("everything in it: {why}"));
                Vec::new().into_iter()
            }
            None => Vec::new().into_iter(),
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
            let Restored { files, bytes, .. } = self.restored;
            self.voice.progress(Progress { files, bytes, total: self.total });
        }
        Ok(())
    }

    fn content(&self, node: &Node) -> Result<(), Unrestored> {
        if self.place.link(node)? {
            return Ok(());
        }
        let mut file = self.place.create(node)?;
        if let Err(error) = self.repository.dump(node, &mut file) {
            let why = explain(self.backend, &error);
            return Err(file.abandon().unwrap_or_else(|| Unrestored::Lost(why.to_string())));
        }
        let mut written = file.finish(node)?;
        // Each piece of content is named by its digest.
        for id in node.content.iter().flatten() {
            let entry = self.repository.get_index_entry(id);
            let is_same = entry.is_ok_and(|entry| id.blob_matches_reader(entry.data_length().into(), &mut written));
            if !is_same {
                return Err(Unrestored::Lost("what was read back is not what was written".to_owned()));
            }
        }
        self.place.remember(node)
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

/// The name as a person may see it; only [`Place`] decides whether it is used.
fn shown(node: &Node) -> String {
    node.name.replace('/', "\\x2f")
}
