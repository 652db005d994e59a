//! `moorline courier`: fetches the repository and sends status messages.

use clap::Args;

use super::{Host, block_on};
use crate::decide::fault::Fault;
use crate::runs;
use crate::runs::succession::Way;
use crate::world::{World, release, systemd};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Fetch and send once, then exit
    #[arg(long)]
    once: bool,
}

pub fn courier(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.service()?;
    let lock = world.set_up_courier()?;
    let ended = block_on(async {
        tokio::select! {
            biased;
            Err(error) = world.stop().listen() => Err(error),
            ended = runs::courier::courier(&*world, arguments.once) => Ok(ended),
            () = systemd::beat() => Ok(Ok(Way::Stay)),
        }
    })?
    .map_err(|error| super::no_signals(&error))?;
    match ended? {
        Way::Stay => Ok(0),
        Way::Make => {
            drop(lock);
            Err(release::become_package(&world.settings().state))
        }
    }
}
