//! `snapshots` and `restore`: what lies in the backup repositories, and a way back from it. Neither stops a container nor
//! touches what a stack has now.

use std::path::PathBuf;

use crate::decide::fault::Fault;
use crate::runs::backup::known::known;
use crate::world::World;
use crate::world::restic::order::{Line, Progress, Restore, Restored, Snapshot, Task};
use crate::world::restic::{self, Restic};

/// The snapshots of one repository, oldest first.
#[derive(Debug, serde::Serialize)]
pub struct Listing {
    /// The repository's name.
    pub repository: String,
    /// Its snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// The snapshots of every repository of this host.
pub async fn snapshots(world: &(impl World + Restic)) -> Result<Vec<Listing>, Fault> {
    let known = known(world)?;
    let mut listings = Vec::new();
    for repository in &known.backups.repositories {
        let mut snapshots = Vec::new();
        let mut heard = |line: Line| {
            if let Line::Snapshot(snapshot) = line {
                snapshots.push(snapshot);
            }
        };
        match world.work(repository, &known.access(repository)?, Task::Snapshots, &mut heard).await? {
            Line::Listed => listings.push(Listing { repository: repository.name.clone(), snapshots }),
            _ => return Err(restic::nonsense()),
        }
    }
    Ok(listings)
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
    /// A directory that is empty or not there, absolute.
    pub to: PathBuf,
    /// The name of the repository; the first one without.
    pub repository: Option<String>,
}

/// Restores a snapshot into an empty directory.
pub async fn restore(
    world: &(impl World + Restic),
    wanted: Wanted,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Restored, Fault> {
    let known = known(world)?;
    let repository = known.repository(wanted.repository.as_deref())?;
    let Wanted { stack, snapshot, path, to, .. } = wanted;
    let host = world.settings().host.clone();
    let task = Task::Restore(Restore { host, label: stack.clone(), snapshot, path, to });
    let mut heard = |line: Line| {
        if let Line::Progress(progress) = line {
            hear(&stack, progress);
        }
    };
    match world.work(repository, &known.access(repository)?, task, &mut heard).await? {
        Line::Restored(restored) => Ok(restored),
        _ => Err(restic::nonsense()),
    }
}
