//! Before a verb on a host: another version of moorline may have to do it.
//!
//! The package's program is started first, always. It decides who is to run, and becomes that program.

use super::{Host, Verb, block_on, no_signals};
use crate::decide::event::Event;
use crate::decide::fault::Fault;
use crate::decide::succession::event::ReleaseEvent;
use crate::runs::succession::{self, Follower, Part};
use crate::world::lock::{self, Lock};
use crate::world::release::{self, Releases as _};
use crate::world::{World as _, systemd};

/// What a verb is to the host; nothing if it is not about one.
fn part(verb: &Verb) -> Option<Part> {
    match verb {
        Verb::Run => Some(Part::Keeper),
        Verb::Check(_)
        | Verb::Diff(_)
        | Verb::Promote(_)
        | Verb::Host(_)
        | Verb::CloudInit(_)
        | Verb::Completions { .. }
        | Verb::Man(_)
        | Verb::Internals(_) => None,
        _ => Some(Part::Other),
    }
}

/// Goes on as whoever is to run on this host. Returns if that is this program, or with an exit code if there is nothing
/// left to do.
pub fn enter(host: &Host, verb: &Verb) -> Result<Option<u8>, Fault> {
    let Some(mut part) = part(verb) else { return Ok(None) };
    // Whoever cannot be told anything about this host finds out by itself.
    let Ok(world) = host.service() else { return Ok(None) };
    if world.own_release().is_some() {
        return Ok(None);
    }
    let _lock = match part {
        Part::Keeper => {
            world.set_up()?;
            let run = &world.settings().run;
            // While there is a keeper already, this one tries nothing; it will find out, and say so.
            part = match Lock::take(&run.join(lock::AGENT), "run", world.now()) {
                Ok(_) => Part::Keeper,
                Err(_) => Part::Other,
            };
            Some(Lock::take(&run.join(lock::TRIAL), "run", world.now())?)
        }
        Part::Other => None,
    };
    let follower = block_on(async {
        tokio::select! {
            biased;
            Err(error) = world.stop().listen(), if part == Part::Keeper => Err(error),
            follower = succession::begin(&*world, part) => Ok(follower),
            () = systemd::beat(), if part == Part::Keeper => Ok(Follower::Itself),
        }
    })?
    .map_err(|error| no_signals(&error))?;
    match follower {
        Follower::Itself => Ok(None),
        Follower::Nobody => Ok(Some(0)),
        Follower::Release(next) => {
            let fault = release::become_release(&world.settings().state, &next);
            if let (Part::Keeper, Ok(state)) = (part, world.succession()) {
                succession::give_up(&*world, &state, &fault);
            }
            world.say(Event::Release(ReleaseEvent::Damaged { fault: Box::new(fault) }));
            Ok(None)
        }
    }
}
