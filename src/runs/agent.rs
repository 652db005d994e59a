//! `moorline run`: reconciles whenever there is a reason to, until it is asked to stop; and begins nights where nobody else
//! does.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::backup::event::BackupEvent;
use crate::decide::event::Event;
use crate::decide::retry;
use crate::decide::schedule::{self, Share};
use crate::decide::succession::event::ReleaseEvent;
use crate::model::{Release, Report};
use crate::runs::backup::account;
use crate::runs::reconcile::reconcile;
use crate::runs::succession::{self, Way};
use crate::world::night::Nights;
use crate::world::{Occasion, World};

/// How soon it is tried again when another run is in the way.
const AGAIN: Duration = Duration::from_secs(5);

/// How soon a host looks again that waits for its wave.
const SOONEST: Duration = Duration::from_secs(1);

/// How often the clock is looked at for backups, where no timer does it.
const TICK: Duration = Duration::from_mins(1);

/// How soon a version on trial looks again when something was in its way.
const ON_TRIAL: Duration = Duration::from_secs(2);

/// Runs until the order to stop, or until another version is to follow. The step in flight is finished, and its run is
/// reported, before this returns.
pub async fn agent(world: &impl World) -> Way {
    let settings = world.settings();
    let (began, began_as, is_on_trial) = (world.now(), succession::who_runs(world), succession::is_on_trial(world));
    let share = Share::of(&settings.host, "reconcile");
    world.say(Event::ServiceStarted { verb: "run", host: settings.host.clone() });
    world.service_ready();
    let mut occasion = Occasion::Start;
    while occasion != Occasion::Stop {
        // Hosts of a fleet look at different moments of the interval, each always at its own.
        let next = match world.lock_run("run") {
            Ok(_lock) => {
                let report = reconcile(world, occasion.name()).await;
                world.service_status(&report.summary);
                if !is_on_trial && makes_way(world, &report, began_as.as_ref(), began) {
                    return Way::Make;
                }
                let next = next(world, schedule::next_on_grid(world.now(), settings.interval, share));
                match &report.waiting {
                    _ if is_on_trial => world.now() + ON_TRIAL,
                    // Whoever waits for a wave moves when it comes, not at the next look after it.
                    Some(waiting) => waiting.until.max(world.now() + SOONEST).min(next),
                    None => next,
                }
            }
            // A person runs it by hand at this moment.
            Err(_) => world.now() + AGAIN,
        };
        occasion = world.occasion(next).await;
    }
    world.say(Event::ServiceStopped { verb: "run" });
    Way::Stay
}

/// Whether another version is to follow now. What is in the way of that is told, and keeps nobody from running.
fn makes_way(world: &impl World, report: &Report, began_as: Option<&Release>, began: Timestamp) -> bool {
    match succession::go_on(world, report, began_as, world.now().duration_since(began)) {
        Ok(way) => way == Way::Make,
        Err(fault) => {
            world.say(Event::Release(ReleaseEvent::Damaged { fault: Box::new(fault) }));
            false
        }
    }
}

/// The next run: on the grid, or sooner, when something that failed may be tried again or a hold ends.
fn next(world: &impl World, on_grid: Timestamp) -> Timestamp {
    let moment = world.ledger().ok().and_then(|ledger| retry::next_moment(&ledger, world.now()));
    moment.map_or(on_grid, |moment| moment.min(on_grid))
}

/// Begins a night whenever something is due, until the order to stop, where no timer does. A night is a process of its own,
/// so that it keeps no run waiting; there is one at a time, and it ends with the keeper. `config` is the path of `agent.toml`.
pub async fn nights(world: &(impl World + Nights), config: &Path) {
    if !world.keeps_nights() || succession::is_on_trial(world) {
        return;
    }
    while !world.stopping() {
        // An account that cannot be read is told to the monitors after every run.
        if account::due(world, None).is_ok_and(|due| !due.is_empty()) {
            world.say(Event::Backup(match world.night(config).await {
                Ok(exit) => BackupEvent::NightEnded { exit },
                Err(fault) => BackupEvent::NightFailed { fault: Box::new(fault) },
            }));
        }
        world.wait(TICK).await;
    }
}
