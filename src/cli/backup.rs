//! `moorline backup`: one snapshot of each stack, now.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, show};
use crate::decide::fault::Fault;
use crate::model::backup::JobEnd;
use crate::runs::backup::night;
use crate::runs::backup::snapshot::Outcome;
use crate::world::restic::order::First;

/// The exit code when a snapshot was made and something is missing in it.
const PARTIAL: u8 = 3;

#[derive(Debug, Args)]
pub struct Arguments {
    /// This stack only
    stack: Option<String>,
    /// Make the backup repository if there is none: there has never been one
    #[arg(long)]
    init: bool,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
}

pub fn backup(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    let first = if arguments.init { First::Make } else { First::Refuse };
    let mut progress = Progress::new("read");
    let mut hear = |stack: &str, at| progress.show(stack, at);
    let work = night::backup(&*world, arguments.stack.as_deref(), first, &mut hear);
    let outcomes = block_on_work(&world, work);
    progress.end();
    let outcomes = outcomes?;
    if arguments.json {
        let reports: Vec<_> = outcomes.iter().map(|outcome| &outcome.report).collect();
        show::json(&json!({ "version": 1, "reports": reports, "notes": notes(&outcomes) }))?;
    }
    for outcome in &outcomes {
        if !arguments.json {
            show::text(&as_text(outcome))?;
        }
        if let Some(fault) = &outcome.fault {
            show::fault(fault);
        }
    }
    if !arguments.json {
        notes(&outcomes).into_iter().try_for_each(|note| show::text(&format!("  note    {note}\n")))?;
    }
    Ok(exit(&outcomes))
}

/// What is in no snapshot, though nobody said so, each once.
fn notes(outcomes: &[Outcome]) -> BTreeSet<&String> {
    outcomes.iter().flat_map(|outcome| &outcome.notes).collect()
}

/// The first fault decides; without one, whether a snapshot is partial.
fn exit(outcomes: &[Outcome]) -> u8 {
    let fault = outcomes.iter().find_map(|outcome| outcome.fault.as_ref());
    let is_partial = outcomes.iter().any(|outcome| outcome.report.end == JobEnd::Partial);
    fault.map_or(if is_partial { PARTIAL } else { 0 }, |fault| fault.code.exit())
}

fn as_text(outcome: &Outcome) -> String {
    let report = &outcome.report;
    let stack = report.stack.as_deref().unwrap_or_default();
    let Some(snapshot) = &report.snapshot else {
        return format!("  FAILED  {stack}: no snapshot in {}\n", report.repository);
    };
    let mark = if report.end == JobEnd::Partial { "PARTIAL" } else { "done   " };
    let (bytes, added) = (show::size(report.bytes), show::size(report.bytes_added));
    let mut text = format!(
        "  {mark} {stack}: snapshot {} in {}, {} files, {bytes}, {added} added\n",
        show::short(snapshot),
        report.repository,
        report.files,
    );
    for problem in &report.problems {
        text.push_str(&format!("          not in it: {problem}\n"));
    }
    text
}
