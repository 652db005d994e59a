//! `snapshots` and `restore`: what lies in the backup repositories, and a way back from it. Neither stops a container nor
//! touches what a stack has now.

use std::path::PathBuf;

use crate::decide::fault::Fault;
use crate::model::backup::Repository;
use crate::runs::backup::known::{Known, known};
use crate::world::World;
use crate::world::restic::order::{Line, Progress, Restore, Restored, Snapshot, Task};
use crate::world::restic::{self, Access};

/// The snapshots of one repository, oldest first.
#[derive(Debug, serde::Serialize)]
pub struct Listing {
    /// The repository's name.
    pub repository: String,
    /// Its snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// The snapshots of every repository of this host.
pub async fn snapshots(world: &impl World) -> Result<Vec<Listing>, Fault> {
    let known = known(world)?;
    let mut listings = Vec::new();
    for repository in &known.backups.repositories {
        let snapshots = list(world, repository, &known.access(repository)?).await?;
        listings.push(Listing { repository: repository.name.clone(), snapshots });
    }
    Ok(listings)
}

/// The snapshots of one repository, oldest first. Nothing is written there.
pub async fn list(world: &impl World, repository: &Repository, access: &Access) -> Result<Vec<Snapshot>, Fault> {
    let mut snapshots = Vec::new();
    let mut heard = |line: Line| {
        if let Line::Snapshot(snapshot) = line {
            snapshots.push(snapshot);
        }
    };
    match world.work(repository, access, Task::Snapshots, &mut heard).await? {
        Line::Listed => Ok(snapshots),
        _ => Err(restic::nonsense()),
    }
}

/// What a person wants back.
#[derive(Debug)]
pub struct Wanted {
    /// The stack.
    pub stack: String,
    /// `latest`, or the beginning of an id.
    pub snapshot: String,
    /// A path in it; all of it without one.
    pub path: Option<PathBuf>,
    /// A directory that is empty or not there, or where the same restore ended early; absolute.
    pub to: PathBuf,
    /// The host whose snapshot it is, if that is another one.
    pub from_host: Option<String>,
    /// The name of the repository; the first one without.
    pub repository: Option<String>,
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Far {
    /// Files and bytes that are there.
    pub progress: Progress,
    /// How many of the bytes an earlier attempt had left there.
    pub reused: u64,
}

/// Restores a snapshot into an empty directory, or goes on where the same restore ended early.
pub async fn restore(world: &impl World, wanted: Wanted, hear: &mut dyn FnMut(&str, Far)) -> Result<Restored, Fault> {
    let known = known(world)?;
    let repository = known.repository(wanted.repository.as_deref())?;
    let Wanted { stack, snapshot, path, to, from_host, .. } = wanted;
    let host = from_host.unwrap_or_else(|| world.settings().host.clone());
    fetch(world, &known, repository, Restore { host, label: stack, snapshot, path, to }, hear).await
}

/// Has one restore done.
pub async fn fetch(
    world: &impl World,
    known: &Known,
    repository: &Repository,
    task: Restore,
    hear: &mut dyn FnMut(&str, Far),
) -> Result<Restored, Fault> {
    let stack = task.label.clone();
    let mut far = Far::default();
    let mut heard = |line: Line| {
        match line {
            Line::Progress(progress) => far.progress = progress,
            Line::Reused(bytes) => far.reused = bytes,
            _ => return,
        }
        hear(&stack, far);
    };
    match world.work(repository, &known.access(repository)?, Task::Restore(task), &mut heard).await? {
        Line::Restored(restored) => Ok(restored),
        _ => Err(restic::nonsense()),
    }
}
