//! `moorline run`: the keeper.

use super::{Host, block_on};
use crate::decide::fault::Fault;
use crate::runs::agent::{agent, nights};
use crate::runs::succession::Way;
use crate::world::lock::{self, Lock};
use crate::world::{World, release, systemd};

pub fn run(host: &Host) -> Result<u8, Fault> {
    let world = host.service()?;
    world.set_up()?;
    world.do_without_network();
    let lock = Lock::take(&world.settings().run.join(lock::AGENT), "run", world.now())?;
    let keep = async {
        let way = agent(&*world).await;
        // Also the nights end when another version is to follow.
        world.stop().order();
        way
    };
    let way = block_on(async {
        tokio::select! {
            biased;
            Err(error) = world.stop().listen() => Err(error),
            (way, ()) = async { tokio::join!(keep, nights(&*world, &host.config)) } => Ok(way),
            () = systemd::beat() => Ok(Way::Stay),
        }
    })?
    .map_err(|error| super::no_signals(&error))?;
    if way == Way::Make {
        drop(lock);
        return Err(release::become_package(&world.settings().state));
    }
    systemd::stopping();
    Ok(0)
}
