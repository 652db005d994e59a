//! Goes through the directories of a snapshot, ahead of the restore that carries out each step, and announces what content
//! the files will need.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustic_core::repofile::Node;
use rustic_core::{Id, IndexedFull, Repository};

use super::backend::Backend;
use super::job::explain;
use super::place::{Sight, identity};
use super::store::Part;
use super::trouble::Trouble;

/// How deep a directory may lie: each level on the way is open.
const DEEPEST: usize = 900;
/// How many steps it may be ahead.
const AHEAD: usize = 4096;

/// One step of a restore. Paths are as a person may see them; only the place decides what a name can be.
#[derive(Debug)]
pub enum Step {
    /// Into a directory, which is to be made.
    Enter(Node, PathBuf),
    /// Out of a directory that is full. It is this one, or the place itself, that stands for none.
    Leave(Option<Node>, PathBuf),
    /// Anything but a directory, and its number.
    File(Node, PathBuf, u64),
    /// What is lost, and why.
    Lost(String, String),
    /// It cannot go on.
    Broken(Trouble),
    /// That was all.
    Done,
}

/// The steps that restore this node; `sight` is where an earlier attempt may have left files. What they need is fetched
/// ahead, until there is nothing more to need.
pub fn take<S: IndexedFull + Send + Sync + 'static>(
    backend: &Arc<Backend>,
    repository: &Arc<Repository<S>>,
    top: Node,
    stands_for: Option<Node>,
    sight: Option<Sight>,
) -> Receiver<Step> {
    let (steps, taken) = sync_channel(AHEAD);
    let (backend, repository) = (backend.clone(), repository.clone());
    backend.fetch_ahead();
    std::thread::spawn(move || {
        let mut scout = Scout { backend, repository, sight, steps, files: 0, seen: BTreeSet::new() };
        // Otherwise nobody listens any more.
        if scout.tree(top, stands_for).is_some() {
            let _ = scout.steps.send(Step::Done);
        }
    });
    taken
}

/// The pieces of packs that a file is made of. What no index knows is found to be lost when it is read.
pub fn pieces<'file, S: IndexedFull>(
    repository: &'file Repository<S>,
    node: &'file Node,
) -> impl Iterator<Item = (Id, Part)> + use<'file, S> {
    node.content
        .iter()
        .flatten()
        .filter_map(|id| repository.get_index_entry(id).ok())
        .map(|entry| (*entry.pack, Part { offset: entry.location.offset.into(), length: entry.location.length }))
}

struct Scout<S> {
    backend: Arc<Backend>,
    repository: Arc<Repository<S>>,
    sight: Option<Sight>,
    steps: SyncSender<Step>,
    files: u64,
    /// Files with several names: all but the first are links.
    seen: BTreeSet<(u64, u64)>,
}

/// A directory that is gone through.
struct Level {
    nodes: std::vec::IntoIter<Node>,
    shown: PathBuf,
    path: PathBuf,
    node: Option<Node>,
}

impl<S: IndexedFull> Scout<S> {
    /// None if nobody listens.
    fn tree(&mut self, top: Node, stands_for: Option<Node>) -> Option<()> {
        let root = PathBuf::from("/");
        if !top.is_dir() {
            let (shown, path) = (root.join(name(&top)), PathBuf::from(&*top.name()));
            return self.file(top, shown, path);
        }
        let nodes = self.nodes(&top, &root)?;
        let mut levels = vec![Level { nodes, shown: root, path: PathBuf::new(), node: stands_for }];
        while let Some(level) = levels.last_mut() {
            let Some(node) = level.nodes.next() else {
                let Some(level) = levels.pop() else { break };
                self.say(Step::Leave(level.node, level.shown))?;
                continue;
            };
            let (shown, path) = (level.shown.join(name(&node)), level.path.join(node.name()));
            if !node.is_dir() {
                self.file(node, shown, path)?;
            } else if levels.len() >= DEEPEST {
                self.say(Step::Lost(shown.display().to_string(), "it lies too deep".to_owned()))?;
            } else {
                self.say(Step::Enter(node.clone(), shown.clone()))?;
                let nodes = self.nodes(&node, &shown)?;
                levels.push(Level { nodes, shown, path, node: Some(node) });
            }
        }
        Some(())
    }

    /// What is in a directory; nothing, and a loss, if the list is damaged.
    fn nodes(&self, node: &Node, shown: &std::path::Path) -> Option<std::vec::IntoIter<Node>> {
        let tree = node.subtree.as_ref().map(|tree| self.repository.get_tree(tree));
        match tree {
            Some(Ok(tree)) => return Some(tree.nodes.into_iter()),
            None => {}
            Some(Err(error)) => match explain(&self.backend, &error) {
                trouble if trouble.is_of_all() => {
                    self.say(Step::Broken(trouble))?;
                    return None;
                }
                trouble => {
                    let (path, why) = (format!("{}/", shown.display()), format!("everything in it: {trouble}"));
                    self.say(Step::Lost(path, why))?;
                }
            },
        }
        Some(Vec::new().into_iter())
    }

    fn file(&mut self, node: Node, shown: PathBuf, path: PathBuf) -> Option<()> {
        self.files += 1;
        let is_link = identity(&node).is_some_and(|identity| !self.seen.insert(identity));
        // What is there is compared, and most likely not needed.
        let is_there = || self.sight.as_ref().is_some_and(|sight| sight.shows(&path, node.meta.size));
        if node.is_file() && !is_link && !is_there() {
            self.backend.needs().announce(self.files, pieces(&self.repository, &node));
        }
        self.say(Step::File(node, shown, self.files))
    }

    fn say(&self, step: Step) -> Option<()> {
        self.steps.send(step).ok()
    }
}

/// The name as a person may see it.
fn name(node: &Node) -> String {
    node.name.replace('/', "\\x2f")
}
