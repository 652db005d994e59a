//! Makes containers stand for a backup and lets them go on, and keeps `standing.json`: what has to go on again, whatever
//! became of the process that made it stand.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{StartContainerOptions, StopContainerOptions};

use crate::decide::fault::{Code, Fault};
use crate::model::backup::{Quiesce, Standing, Stood};
use crate::world::docker::{Engine, away, is_not_found};
use crate::world::{Real, World, disk, reserve};

/// A stack with hundreds of containers is a few KiB.
const LARGEST: u64 = 1024 * 1024;
/// The engine answers only when the grace period is over.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// Containers that stand for a backup: a part of [`World`].
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Quiet {
    /// What a backup made to stand and nobody let go on yet.
    fn standing(&self) -> Result<Option<Standing>, Fault>;
    /// Writes down what is about to stand; on disk when this returns.
    fn note_standing(&self, standing: &Standing) -> Result<(), Fault>;
    /// Everything runs again.
    fn forget_standing(&self) -> Result<(), Fault>;
    /// Stops or pauses a container. One that is gone stands already.
    async fn make_stand(&self, container: &Stood, how: Quiesce) -> Result<(), Fault>;
    /// Starts or unpauses it. One that is gone needs nothing.
    async fn let_go_on(&self, container: &Stood, how: Quiesce) -> Result<(), Fault>;
}

impl Quiet for Real {
    fn standing(&self) -> Result<Option<Standing>, Fault> {
        let path = file(self);
        let damaged = |because: &dyn std::error::Error| {
            Fault::new(Code::LedgerDamaged, format!("{} cannot be read", path.display()))
                .caused_by(because)
                .at("which containers a backup has stopped is not known")
                .hint(format!("start what stands still (`docker ps --all`), then `rm {}`", path.display()))
        };
        match disk::read(&path, LARGEST) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| damaged(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(damaged(&error)),
        }
    }

    fn note_standing(&self, standing: &Standing) -> Result<(), Fault> {
        let path = file(self);
        let unwritable = |error: &io::Error| disk::unwritable(&path, error);
        let bytes = serde_json::to_vec(standing).map_err(|error| unwritable(&error.into()))?;
        reserve::spend(&self.settings().state, || disk::write(&path, &bytes, 0o600)).map_err(|error| unwritable(&error))
    }

    fn forget_standing(&self) -> Result<(), Fault> {
        let path = file(self);
        match std::fs::remove_file(&path).and_then(|()| disk::sync_directory(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk::unwritable(&path, &error)),
            _ => Ok(()),
        }
    }

    async fn make_stand(&self, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        self.engine().make_stand(container, how).await
    }

    async fn let_go_on(&self, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        self.engine().let_go_on(container, how).await
    }
}

fn file(world: &Real) -> PathBuf {
    world.settings().state.join("standing.json")
}

impl Engine {
    async fn make_stand(&self, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        let docker = self.docker()?.clone().with_timeout(LONGEST_GRACE);
        let done = match how {
            Quiesce::None => Ok(()),
            Quiesce::Pause => docker.pause_container(&container.id).await,
            Quiesce::Stop => docker.stop_container(&container.id, None::<StopContainerOptions>).await,
        };
        self.judge(done, container, how)
    }

    async fn let_go_on(&self, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        let docker = self.docker()?;
        let done = match how {
            Quiesce::None => Ok(()),
            Quiesce::Pause => docker.unpause_container(&container.id).await,
            Quiesce::Stop => docker.start_container(&container.id, None::<StartContainerOptions>).await,
        };
        self.judge(done, container, how)
    }

    fn judge(&self, done: Result<(), Error>, container: &Stood, how: Quiesce) -> Result<(), Fault> {
        let name = &container.name;
        match done {
            Ok(()) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            // It is paused already, or no more; or it ended meanwhile, by itself.
            Err(Error::DockerResponseServerError { status_code: 409, .. }) if how == Quiesce::Pause => Ok(()),
            // The engine said no, which another try does not change.
            Err(error @ Error::DockerResponseServerError { .. }) => {
                let sentence = format!("{name}, which stands while files are read, does not do as it is told");
                Err(Fault::new(Code::StepFailed, sentence).caused_by(&error))
            }
            Err(error) => Err(away(self.socket(), &error)),
        }
    }
}
