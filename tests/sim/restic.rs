//! Backup repositories, as far as whole runs see them: snapshots with tags, and what befalls them.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use moorline::decide::fault::{Code, Fault};
use moorline::model::Good;
use moorline::model::backup::{InPlace, Repository};
use moorline::world::World as _;
use moorline::world::restic::order::{Backup, Line, Losses, Passes, Saved, Snapshot, Task, Turn};
use moorline::world::restic::upkeep::{Checked, Surveyed};
use moorline::world::restic::{Access, Logins, Restic};

use super::Sim;

/// What became of backups on a host.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    /// Snapshots: repository, stack, tags, id.
    pub snapshots: Vec<(String, String, Vec<String>, String)>,
    /// Repositories that fail, and how.
    pub fails: Vec<(String, Code)>,
    /// Repositories where files are missing in every snapshot.
    pub partial: Vec<String>,
    /// The stack and the repository for which nothing ever answers.
    pub hangs: Option<(String, String)>,
    /// Restores in place that were cut.
    pub unfinished: Vec<InPlace>,
    /// Until when somebody else makes a backup, in milliseconds since 1970.
    pub busy_until: i64,
}

impl Restic for Sim {
    async fn sweep_drills(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn lock_backup(&self) -> Result<impl Sized, Fault> {
        let now = self.now().as_millisecond();
        match now < self.host().vault.busy_until {
            true => Err(Fault::new(Code::LockHeld, "another run holds backup.lock").because("pid 12 runs `backup`")),
            false => Ok(()),
        }
    }

    async fn volume(&self, name: &str) -> Result<Option<PathBuf>, Fault> {
        Ok(Some(PathBuf::from("/var/lib/docker/volumes").join(name).join("_data")))
    }

    fn lay_out(&self, good: &Good) -> Result<PathBuf, Fault> {
        Ok(self.settings().state.join("backup").join(&good.stack))
    }

    fn unfinished_restores(&self) -> Result<Vec<InPlace>, Fault> {
        Ok(self.host().vault.unfinished.clone())
    }

    async fn work(
        &self,
        repository: &Repository,
        _access: &Access,
        task: Task,
        heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault> {
        match task {
            Task::Survey => {
                let host = self.settings().host.clone();
                let saved = self.host().vault.snapshots.clone();
                for (_, label, tags, id) in saved.into_iter().filter(|(name, ..)| *name == repository.name) {
                    let time = self.now();
                    let local = time.to_zoned(TimeZone::UTC).datetime();
                    let (host, paths, files, bytes) = (host.clone(), Vec::new(), None, None);
                    heard(Line::Snapshot(Snapshot { id, time, local, host, label, tags, paths, files, bytes }));
                }
                Ok(Line::Surveyed(Surveyed::default()))
            }
            Task::Check(_) => Ok(Line::Checked(Checked {
                packs: 1,
                bytes: 0,
                errors: 0,
                warnings: 0,
                concerned: Vec::new(),
                memory: 0,
            })),
            task => panic!("no run of the scenarios asks for {task:?}"),
        }
    }

    async fn save(
        &self,
        repository: &Repository,
        _access: &Access,
        (task, _): (Backup, &Logins),
        mut turn: impl AsyncFnMut(Turn) -> Result<(), Fault>,
        _heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault> {
        let name = repository.name.clone();
        if task.passes == Passes::LiveThenStill {
            turn(Turn::Stand).await?;
            if self.host().vault.hangs == Some((task.label.clone(), name.clone())) {
                std::future::pending::<()>().await;
            }
            turn(Turn::GoOn).await?;
        }
        if self.host().vault.hangs == Some((task.label.clone(), name.clone())) {
            std::future::pending::<()>().await;
        }
        self.effect(format!("snapshot {} in {name}", task.label));
        let mut host = self.host();
        if let Some((_, code)) = host.vault.fails.iter().find(|(fails, _)| *fails == name) {
            return Err(Fault::new(*code, format!("the backup repository `{name}` is not to be had")));
        }
        let mut unreadable = Losses::default();
        if host.vault.partial.contains(&name) {
            unreadable.add("/volumes/data/x", "permission denied");
        }
        let id = format!("5a4b3c{:02x}{}", host.vault.snapshots.len() + 1, "0".repeat(56));
        host.vault.snapshots.push((name, task.label, task.tags, id.clone()));
        Ok(Line::Saved(Saved { id, files: 3, changed: 1, bytes: 300, added: 100, vanished: 0, unreadable, memory: 0 }))
    }
}
