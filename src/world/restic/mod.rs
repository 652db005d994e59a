//! Backup repositories in restic's format. Every job runs in a process of its own, which this starts, tells what to do,
//! listens to and ends; rustic is used in that process only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::decide::fault::{Code, Fault};
use crate::model::backup::{InPlace, Limits, Repository};
use crate::model::{Good, Secret};
use crate::world::in_place;
use crate::world::lock::{self, Lock};
use crate::world::{Real, World};

pub mod order;
pub mod trouble;
pub mod upkeep;

mod ahead;
mod backend;
mod backup;
mod check;
mod dumps;
mod ends;
mod faults;
mod forget;
mod inputs;
mod job;
mod login;
mod measure;
mod needs;
mod nodes;
mod passes;
mod place;
mod prune;
mod restore;
mod source;
mod steps;
mod store;
mod trees;

use ends::Ends;
pub use job::serve;
use order::{Backup, LONGEST_LINE, Line, Order, Task, Turn};
pub use place::restores_into;
use trouble::{Kind, Trouble};

/// This program, also when the file it was started from was replaced meanwhile.
pub(super) const OURSELVES: &str = "/proc/self/exe";
/// The socket of `moorline-job.socket`, in memory.
const JOBS: &str = "jobs";
/// How long a job may be silent: one connection that hangs is given up after a minute, and tried six times.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long containers may stand for a backup, from the last that stopped to the end of reading.
const LONGEST_STAND: Duration = Duration::from_mins(15);
/// How long it may take until they stand, or run again: a run may have to end first, and some stop slowly.
const LONGEST_TURN: Duration = Duration::from_mins(30);

/// What dumps of databases log in with, by the name in the SOPS file.
pub type Logins = BTreeMap<String, Secret<String>>;
/// How often a job is done again that left half of a file where nothing can be replaced.
const AGAIN: usize = 3;

/// What opens a repository: from the SOPS file, and nowhere but in memory.
#[derive(Debug, Clone)]
pub struct Access {
    /// The repository's password.
    pub password: Secret<String>,
    /// The private key of an SSH login.
    pub key: Option<Secret<String>>,
    /// The key that the SSH server must show; empty for the one of all Storage Boxes.
    pub host_key: Option<String>,
    /// `USER:PASSWORD` of a REST server.
    pub login: Option<Secret<String>>,
    /// How fast a job may go.
    pub limits: Limits,
}

/// What a host does with backup repositories.
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Restic {
    /// Keeps every other backup off this host for as long as the returned value lives.
    fn lock_backup(&self) -> Result<impl Sized, Fault>;
    /// Where the engine keeps a volume; none if it has no such volume.
    async fn volume(&self, name: &str) -> Result<Option<PathBuf>, Fault>;
    /// Lays out what a stack was made from, sealed as it is, and returns where.
    fn lay_out(&self, good: &Good) -> Result<PathBuf, Fault>;
    /// Restores in place that were begun and not ended.
    fn unfinished_restores(&self) -> Result<Vec<InPlace>, Fault>;
    /// Has a job done. Its lines are handed on as they come, but for the last, which is returned.
    async fn work(
        &self,
        repository: &Repository,
        access: &Access,
        task: Task,
        heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault>;
    /// Has a snapshot made. `turn` sees to the containers when the job asks for it; when they stand for too long, or
    /// cannot be made to stand, there is no snapshot. Whatever comes back, `turn` may have been asked to make them stand
    /// and not to let them go on.
    async fn save(
        &self,
        repository: &Repository,
        access: &Access,
        order: (Backup, &Logins),
        turn: impl AsyncFnMut(Turn) -> Result<(), Fault>,
        heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault>;
    /// Removes what drills made that have ended, however they ended. To be called by who holds the lock of backups.
    async fn sweep_drills(&self) -> Result<(), Fault>;
}

impl Restic for Real {
    fn lock_backup(&self) -> Result<impl Sized, Fault> {
        Lock::take(&self.settings().run.join(lock::BACKUP), "backup", self.now())
    }

    async fn volume(&self, name: &str) -> Result<Option<PathBuf>, Fault> {
        self.engine().volume(name).await
    }

    fn lay_out(&self, good: &Good) -> Result<PathBuf, Fault> {
        inputs::lay_out(&self.settings().state, good)
    }

    fn unfinished_restores(&self) -> Result<Vec<InPlace>, Fault> {
        in_place::unfinished(&self.settings().state)
    }

    async fn work(
        &self,
        repository: &Repository,
        access: &Access,
        task: Task,
        heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault> {
        let not_done = match &task {
            Task::Backup(task) => format!("no snapshot of {} was written", task.label),
            Task::Snapshots | Task::Measure(_) => "nothing was written".to_owned(),
            Task::Restore(task) => format!("nothing more was written to {}", task.to.display()),
            Task::Survey => "nothing was removed".to_owned(),
            Task::Forget(_) => "no more snapshots were removed".to_owned(),
            Task::Prune(_) => "nothing more was removed".to_owned(),
            Task::Check(_) => "nothing more was checked".to_owned(),
        };
        let (order, _login) = self.order(repository, access, (task, &Logins::new()))?;
        let nobody_stands = async |_| Err(nonsense());
        self.job(repository, &order, &not_done, nobody_stands, heard).await
    }

    async fn save(
        &self,
        repository: &Repository,
        access: &Access,
        (task, logins): (Backup, &Logins),
        turn: impl AsyncFnMut(Turn) -> Result<(), Fault>,
        heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault> {
        let not_done = format!("no snapshot of {} was written", task.label);
        let (order, _login) = self.order(repository, access, (Task::Backup(task), logins))?;
        self.job(repository, &order, &not_done, turn, heard).await
    }

    async fn sweep_drills(&self) -> Result<(), Fault> {
        self.sweep().await
    }
}

impl Real {
    /// Where systemd has jobs done for the keeper, which has no network of its own; none where there are no such units.
    fn job_socket(&self) -> Option<PathBuf> {
        let socket = self.settings().run.join(JOBS);
        (self.has_no_network.get() && socket.exists()).then_some(socket)
    }

    /// The order, and what must live for as long as the job does.
    fn order(
        &self,
        repository: &Repository,
        access: &Access,
        (task, logins): (Task, &Logins),
    ) -> Result<(Order, impl Sized + use<>), Fault> {
        let open = login::open(&self.settings().run, repository, access)?;
        let logins = logins.iter().map(|(name, login)| (name.clone(), login.expose().clone())).collect();
        let (place, password) = (open.place.clone(), access.password.expose().clone());
        let login = access.login.as_ref().map(|login| login.expose().trim_end().to_owned());
        Ok((Order { place, password, login, limits: access.limits, logins, task }, open))
    }

    async fn job(
        &self,
        repository: &Repository,
        order: &Order,
        not_done: &str,
        mut turn: impl AsyncFnMut(Turn) -> Result<(), Fault>,
        heard: &mut dyn FnMut(Line),
    ) -> Result<Line, Fault> {
        let socket = self.job_socket();
        let mut refused = None;
        let asked = async |wanted| {
            turn(wanted).await.map_err(|fault| {
                refused = Some(fault);
                Trouble::new(Kind::Internal, "the containers could not be made to stand")
            })
        };
        let said = tokio::select! {
            said = carry_out(order, socket.as_deref(), asked, heard) => said,
            // Dropping the conversation ends the job. It does no harm, and the next one goes on where it can.
            () = self.stop().ordered() => {
                return Err(Fault::new(Code::Stopped, "moorline was asked to stop").at(not_done));
            }
        };
        match said {
            Ok(Line::Trouble(trouble)) | Err(trouble) => {
                let fault = refused.unwrap_or_else(|| faults::fault(repository, trouble, not_done));
                Err(match &order.task {
                    Task::Restore(task) if place::is_begun(&task.to) => {
                        fault.at("the same command goes on where this one ended")
                    }
                    _ => fault,
                })
            }
            Ok(line) => Ok(line),
        }
    }
}

/// Has the job done; once more, a few times, if half of a file stands where the whole one should and cannot be replaced.
/// What is packed anew is encrypted anew, so it goes by another name.
async fn carry_out(
    order: &Order,
    socket: Option<&Path>,
    mut turn: impl AsyncFnMut(Turn) -> Result<(), Trouble>,
    heard: &mut dyn FnMut(Line),
) -> Result<Line, Trouble> {
    let mut said = converse(order, socket, &mut turn, heard).await?;
    for _ in 0..AGAIN {
        match &said {
            Line::Trouble(trouble) if trouble.kind == Kind::Torn => {
                // It may have ended while they stood.
                turn(Turn::GoOn).await?;
                said = converse(order, socket, &mut turn, heard).await?;
            }
            _ => break,
        }
    }
    Ok(said)
}

/// Has the job begun, and listens until it has said its last word.
async fn converse(
    order: &Order,
    socket: Option<&Path>,
    mut turn: impl AsyncFnMut(Turn) -> Result<(), Trouble>,
    heard: &mut dyn FnMut(Line),
) -> Result<Line, Trouble> {
    let broken = |error: std::io::Error| Trouble::new(Kind::Internal, format!("the job cannot be heard: {error}"));
    let ends = match socket {
        Some(socket) => Ends::call(socket).await,
        None => Ends::start(),
    };
    let mut ends = ends.map_err(broken)?;
    let mut line = zeroize::Zeroizing::new(serde_json::to_vec(order).map_err(|error| broken(error.into()))?);
    line.push(b'\n');
    // A job that ends early has said why.
    let _ = ends.input.write_all(&line).await;
    let mut output = BufReader::new(&mut ends.output);
    let mut last = None;
    let mut until = None;
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut output).take(LONGEST_LINE);
        let patience = until.map_or(PATIENCE, |until: Instant| until.saturating_duration_since(Instant::now()));
        let read = tokio::time::timeout(patience, bounded.read_until(b'\n', &mut line)).await;
        let read = read.map_err(|_| match until {
            None => Trouble::new(Kind::Away, "the job said nothing for a quarter of an hour"),
            Some(_) => too_long(),
        })?;
        if read.map_err(broken)? == 0 {
            break;
        }
        let line = serde_json::from_slice(&line).map_err(|error| broken(error.into()))?;
        if let Line::Turn(wanted) = line {
            tokio::time::timeout(LONGEST_TURN, turn(wanted)).await.map_err(|_| too_long())??;
            until = (wanted == Turn::Stand).then(|| Instant::now() + LONGEST_STAND);
            if wanted == Turn::Stand {
                // A job that ended says so itself.
                let _ = ends.input.write_all(b"\n").await;
            }
            continue;
        }
        if let Some(before) = last.replace(line) {
            heard(before);
        }
    }
    let status = ends.end().await.map_err(broken)?;
    let failed = status.filter(|status| !status.success()).map(|status| format!(": {status}"));
    match last {
        Some(line) if failed.is_none() && line.is_last() => Ok(line),
        _ => Err(Trouble::new(Kind::Internal, format!("the job ended early{}", failed.unwrap_or_default()))),
    }
}

fn too_long() -> Trouble {
    let minutes = LONGEST_STAND.as_secs() / 60;
    Trouble::new(Kind::Internal, format!("the containers would have stood for more than {minutes} minutes"))
}

/// The fault of a job that says something else than it was asked.
pub fn nonsense() -> Fault {
    Fault::new(Code::BackupFailed, "the job did not say what it was asked")
}
