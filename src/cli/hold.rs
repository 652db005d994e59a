//! `moorline hold` and `moorline release`: look but do not touch, for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;

use super::{Host, block_on, show};
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::schedule;
use crate::model::{Hold, Ledger};
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
    /// Only this stack; the others go on
    #[arg(long, value_name = "STACK")]
    stack: Option<String>,
}

#[derive(Debug, Args)]
pub struct Release {
    /// The hold of this stack; without it, every hold
    #[arg(long, value_name = "STACK")]
    stack: Option<String>,
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
    let owner = block_on(person::who_came())?;
    let hold = Hold { owner, reason: arguments.reason.trim().to_owned(), since, until };
    let state = &world.settings().state;
    let what = match &arguments.stack {
        Some(stack) => {
            is_known(&ledger::read(state)?, stack)?;
            ledger::set_stack_hold(state, stack, Some(hold.clone()))?;
            format!("{stack} is {hold}")
        }
        None => {
            ledger::set_hold(state, Some(hold.clone()))?;
            hold.to_string()
        }
    };
    show::text(&format!("{what}\n"))?;
    let (owner, reason, stack) = (hold.owner, hold.reason, arguments.stack.clone());
    world.say(Event::HoldSet { owner, reason, until: hold.until.to_string(), stack });
    Ok(0)
}

/// A hold of a misspelt name would hold nothing.
fn is_known(ledger: &Ledger, stack: &str) -> Result<(), Fault> {
    let settled = ledger.settled.iter().flat_map(|settled| &settled.stacks);
    let mut known: BTreeSet<&String> = ledger.applied.keys().chain(ledger.begun.keys()).chain(settled).collect();
    known.extend(ledger.failures.keys());
    if known.iter().any(|name| *name == stack) {
        return Ok(());
    }
    let names = known.into_iter().cloned().collect::<Vec<_>>().join(", ");
    Err(Fault::new(Code::UsageInvalid, format!("this host has no stack `{stack}`"))
        .at("nothing was changed")
        .hint(format!("its stacks are: {names}")))
}

pub fn release(host: &Host, arguments: &Release) -> Result<u8, Fault> {
    let world = host.world()?;
    let state = &world.settings().state;
    let ledger = ledger::read(state)?;
    let mut released = Vec::new();
    if arguments.stack.is_none() {
        released.extend(ledger.hold.iter().map(|hold| format!("it was {hold}")));
        ledger::set_hold(state, None)?;
    }
    let named = |stack: &&String| arguments.stack.as_ref().is_none_or(|only| only == *stack);
    for stack in ledger.stack_holds.keys().filter(named) {
        released.push(format!("{stack} was {}", ledger.stack_holds[stack]));
        ledger::set_stack_hold(state, stack, None)?;
    }
    match released.as_slice() {
        [] => show::text("nothing was held\n")?,
        released => show::text(&format!("released; {}\n", released.join("; ")))?,
    }
    world.say(Event::HoldReleased { owner: block_on(person::who_came())?, stack: arguments.stack.clone() });
    Ok(0)
}
