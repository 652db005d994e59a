//! `moorline reconcile`: one run now.

use clap::Args;

use super::{Host, block_on, show};
use crate::decide::fault::Fault;
use crate::decide::report;
use crate::model::Report;
use crate::runs;
use crate::world::World;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn reconcile(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    let _lock = world.lock_run("reconcile")?;
    let report = block_on(async {
        tokio::select! {
            biased;
            Err(error) = world.stop().listen() => Err(error),
            report = runs::reconcile::reconcile(&*world, "reconcile") => Ok(report),
        }
    })?
    .map_err(|error| super::no_signals(&error))?;
    print(&report, arguments.json)?;
    Ok(report::exit(&report))
}

/// Prints the report of a run that just ended; its fault on stderr.
pub fn print(report: &Report, json: bool) -> Result<(), Fault> {
    match json {
        true => show::json(report)?,
        false => show::text(&show::report(report))?,
    }
    if let Some(fault) = show::recorded_fault(report) {
        show::trouble(&fault);
    }
    Ok(())
}
