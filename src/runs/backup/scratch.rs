//! The first half of a drill, and of loading a dump: a snapshot, or a part of it, in scratch space, when there is room.

use std::path::{Path, PathBuf};

use crate::decide::backup::drill::{self, Room};
use crate::decide::fault::{Code, Fault};
use crate::model::backup::{Dump, Repository};
use crate::runs::backup::known::Known;
use crate::world::World;
use crate::world::drill::Throwaway;
use crate::world::restic;
use crate::world::restic::order::{Line, Measured, Progress, Restore, Restored, Snapshot, Task};

/// The tag of a snapshot in which something is missing.
const PARTIAL: &str = "partial";

/// The snapshots of a repository, oldest first.
pub async fn list(world: &impl World, known: &Known, repository: &Repository) -> Result<Vec<Snapshot>, Fault> {
    let mut found = Vec::new();
    let mut heard = |line: Line| {
        if let Line::Snapshot(snapshot) = line {
            found.push(snapshot);
        }
    };
    match world.work(repository, &known.access(repository)?, Task::Snapshots, &mut heard).await? {
        Line::Listed => Ok(found),
        _ => Err(restic::nonsense()),
    }
}

/// The newest snapshot of a stack of this host in which nothing is missing.
pub fn newest<'a>(snapshots: &'a [Snapshot], host: &str, stack: &str) -> Option<&'a Snapshot> {
    let is_whole = |snapshot: &&Snapshot| {
        snapshot.host == host && snapshot.label == stack && !snapshot.tags.iter().any(|tag| tag == PARTIAL)
    };
    snapshots.iter().rfind(is_whole)
}

/// What is taken from a repository.
#[derive(Debug)]
pub struct Taken<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The stack.
    pub stack: &'a str,
    /// The snapshot.
    pub snapshot: &'a str,
    /// A path in it; all of it without one.
    pub path: Option<PathBuf>,
}

impl Taken<'_> {
    fn restore(&self, host: &str, to: &Path) -> Restore {
        Restore {
            host: host.to_owned(),
            label: self.stack.to_owned(),
            snapshot: self.snapshot.to_owned(),
            path: self.path.clone(),
            to: to.to_owned(),
        }
    }
}

/// How much restoring this would write.
pub async fn measure(world: &impl World, known: &Known, taken: &Taken<'_>) -> Result<Measured, Fault> {
    let task = Task::Measure(taken.restore(&world.settings().host, Path::new("")));
    match world.work(taken.repository, &known.access(taken.repository)?, task, &mut |_| {}).await? {
        Line::Measured(measured) => Ok(measured),
        _ => Err(restic::nonsense()),
    }
}

/// Refuses what does not fit.
pub async fn admit(world: &impl Throwaway, what: &str, files: u64, dumps: u64) -> Result<(), Fault> {
    let space = world.space().await?;
    drill::admit(what, Room { files, dumps, scratch: space.scratch, engine: space.engine })
}

/// Restores into a directory that is not there yet.
pub async fn fill(
    world: &impl World,
    known: &Known,
    taken: &Taken<'_>,
    to: &Path,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Restored, Fault> {
    let mut heard = |line: Line| {
        if let Line::Progress(progress) = line {
            hear(taken.stack, progress);
        }
    };
    let task = Task::Restore(taken.restore(&world.settings().host, to));
    match world.work(taken.repository, &known.access(taken.repository)?, task, &mut heard).await? {
        Line::Restored(restored) => Ok(restored),
        _ => Err(restic::nonsense()),
    }
}

/// What was lost on the way, one fault for each file that is named.
pub fn losses(restored: &Restored) -> Vec<Fault> {
    let lost = |what: &String| Fault::new(Code::DrillFailed, format!("{what} (not restored)"));
    let mut faults: Vec<Fault> = restored.lost.first.iter().map(lost).collect();
    let named = faults.len() as u64;
    if restored.lost.count > named {
        faults.push(Fault::new(Code::DrillFailed, format!("{} more are lost", restored.lost.count - named)));
    }
    faults
}

/// The files of a dump among those of a stack.
pub fn of_dump(dump: &Dump, files: &[String]) -> Vec<String> {
    let is_of =
        |file: &&String| file.strip_prefix(&*dump.to).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    files.iter().filter(is_of).cloned().collect()
}

/// Where the dumps of a stack are in its snapshots.
pub fn dumps_of(stack: &str) -> PathBuf {
    Path::new("/dumps").join(stack)
}
