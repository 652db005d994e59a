//! `moorline retry`: forgets what failed, and tries it now.

use std::collections::BTreeSet;

use clap::Args;

use super::{Host, block_on};
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::report;
use crate::runs;
use crate::runs::succession;
use crate::world::{World, person};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The stack; when none is named, every stack that failed, and a version of moorline that was refused
    stack: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn retry(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    // The run that is going on keeps its own memory of failures: so it is not forgotten under its feet.
    let _lock = world.lock_run("retry")?;
    let mut ledger = world.ledger()?;
    let failed: BTreeSet<String> = ledger.failures.keys().chain(ledger.repairs.keys()).cloned().collect();
    let is_meant = |stack: &String| arguments.stack.as_ref().is_none_or(|named| named == stack);
    let stacks: Vec<String> = failed.into_iter().filter(is_meant).collect();
    let release = match &arguments.stack {
        None => succession::retry(&*world)?,
        Some(_) => None,
    };
    if stacks.is_empty() && release.is_none() {
        let what = arguments.stack.as_deref().unwrap_or("no stack");
        let sentence = format!("{what} has not failed, so there is nothing to try again");
        return Err(Fault::new(Code::UsageInvalid, sentence).at("nothing was changed").hint("moorline status"));
    }
    ledger.failures.retain(|stack, _| !stacks.contains(stack));
    ledger.repairs.retain(|stack, _| !stacks.contains(stack));
    world.persist(&ledger)?;
    let stacks = stacks.into_iter().chain(release.map(|release| format!("moorline {release}"))).collect();
    world.say(Event::RetryOrdered { owner: person::who_types(), stacks });
    let report = block_on(async {
        tokio::select! {
            biased;
            Err(error) = world.stop().listen() => Err(error),
            report = runs::reconcile::reconcile(&*world, "retry") => Ok(report),
        }
    })?
    .map_err(|error| super::no_signals(&error))?;
    super::reconcile::print(&report, arguments.json)?;
    Ok(report::exit(&report))
}
