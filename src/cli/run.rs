//! `moorline run`: the keeper.

use super::{Host, block_on};
use crate::decide::fault::Fault;
use crate::runs::agent::{agent, nights};
use crate::world::lock::{self, Lock};
use crate::world::{World, systemd};

pub fn run(host: &Host) -> Result<u8, Fault> {
    let world = host.service()?;
    world.set_up()?;
    let _lock = Lock::take(&world.settings().run.join(lock::AGENT), "run", world.now())?;
    block_on(async {
        tokio::select! {
            ((), ()) = async { tokio::join!(agent(&*world), nights(&*world, &host.config)) } => Ok(()),
            Err(error) = world.stop().listen() => Err(error),
            () = systemd::beat() => Ok(()),
        }
    })?
    .map_err(|error| super::no_signals(&error))?;
    systemd::stopping();
    Ok(0)
}
