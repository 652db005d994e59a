//! `moorline hold` and `moorline release`: look but do not touch, for a while.

use std::time::Duration;

use clap::Args;

use super::{Host, show};
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::schedule;
use crate::model::Hold;
use crate::world::{World, ledger, person};

/// The longest hold. A longer one is a halt, and that is written in the repository where everyone sees it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub struct Arguments {
    /// How long, at most 24h: `30m`, `4h`
    #[arg(long = "for", value_name = "TIME")]
    time: String,
    /// Why; whoever looks at the status reads it
    #[arg(long)]
    reason: String,
}

pub fn hold(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let usage = |sentence: String| Fault::new(Code::UsageInvalid, sentence).at("nothing was changed");
    let time = schedule::parse_duration(&arguments.time)
        .map_err(|error| usage(format!("`--for {}`: {error}", arguments.time)).hint("for example `--for 4h`"))?;
    if time > LONGEST || time.is_zero() {
        return Err(usage(format!("`--for {}` is not between a second and 24h", arguments.time))
            .hint("to stop for longer, write `halt: \"reason\"` into the ring's file"));
    }
    if arguments.reason.trim().is_empty() {
        return Err(usage("a hold needs a reason".into()).hint("--reason \"what you are doing\""));
    }
    let world = host.world()?;
    // Nobody counts the nanoseconds of a hold.
    let since = world.now().round(jiff::Unit::Second).unwrap_or_else(|_| world.now());
    let until = since + time;
    let hold = Hold { owner: person::who_types(), reason: arguments.reason.trim().to_owned(), since, until };
    ledger::set_hold(&world.settings().state, Some(hold.clone()))?;
    show::text(&format!("held by {} until {}: {}\n", hold.owner, hold.until, hold.reason))?;
    let (owner, reason) = (hold.owner, hold.reason);
    world.say(Event::HoldSet { owner, reason, until: hold.until.to_string() });
    Ok(0)
}

pub fn release(host: &Host) -> Result<u8, Fault> {
    let world = host.world()?;
    let held = ledger::read(&world.settings().state)?.hold;
    ledger::set_hold(&world.settings().state, None)?;
    match held {
        Some(hold) => show::text(&format!("released; it was held by {}: {}\n", hold.owner, hold.reason))?,
        None => show::text("this host was not held\n")?,
    }
    world.say(Event::HoldReleased { owner: person::who_types() });
    Ok(0)
}
