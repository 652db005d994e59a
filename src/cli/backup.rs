//! `moorline backup`: one snapshot of each stack, now, or what is due.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, stdout};

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, show};
use crate::decide::backup::logbook;
use crate::decide::fault::Fault;
use crate::model::backup::{Job, JobEnd, JobReport};
use crate::runs::backup::account;
use crate::runs::backup::night::{self, Night};
use crate::runs::backup::snapshot::Outcome;
use crate::world::World as _;
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
    /// Do what is due, and nothing else: for a timer. Checks, prunes and drills too
    #[arg(long, conflicts_with = "init")]
    if_due: bool,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
}

pub fn backup(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    // Nobody reads an answer then; each job is a line of the journal.
    let is_service = arguments.if_due && !stdout().is_terminal();
    let world = if is_service { host.service()? } else { host.world()? };
    world.set_up()?;
    let first = if arguments.init { First::Make } else { First::Refuse };
    let mut progress = Progress::new("read");
    let mut hear = |stack: &str, at| progress.show(stack, at);
    let only = arguments.stack.as_deref();
    let night = match arguments.if_due {
        true => block_on_work(&world, night::if_due(&*world, only, &mut hear)),
        false => block_on_work(&world, night::backup(&*world, only, first, &mut hear)).map(Night::Ended),
    };
    progress.end();
    let outcomes = match night? {
        Night::Ended(outcomes) => outcomes,
        Night::NotDue => {
            let next = account::next(&*world)?.filter(|next| *next > world.now());
            let next = next.map(|next| format!("; the next night begins at {next:.0}")).unwrap_or_default();
            return quiet(arguments, &format!("nothing is due{next}\n"));
        }
        Night::Runs(fault) => {
            return quiet(arguments, &format!("another backup is being made: {}\n", fault.because.join(": ")));
        }
    };
    if arguments.json {
        let reports: Vec<_> = outcomes.iter().map(|outcome| &outcome.report).collect();
        show::json(&json!({ "version": 1, "reports": reports, "notes": notes(&outcomes) }))?;
    }
    for outcome in outcomes.iter().filter(|_| !is_service) {
        if !arguments.json {
            show::text(&as_text(outcome))?;
        }
        if let Some(fault) = &outcome.fault {
            show::fault(fault);
        }
    }
    if !arguments.json && !is_service {
        notes(&outcomes).into_iter().try_for_each(|note| show::text(&format!("  note    {note}\n")))?;
    }
    Ok(exit(&outcomes))
}

/// What is in no snapshot, though nobody said so, each once.
fn notes(outcomes: &[Outcome]) -> BTreeSet<&String> {
    outcomes.iter().flat_map(|outcome| &outcome.notes).collect()
}

/// One line, since nothing was done.
fn quiet(arguments: &Arguments, line: &str) -> Result<u8, Fault> {
    match arguments.json {
        true => show::json(&json!({ "version": 1, "reports": [], "notes": [] }))?,
        false => show::text(line)?,
    }
    Ok(0)
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
    if report.job != Job::Backup {
        return of_upkeep(report);
    }
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

/// A check, prune or drill.
fn of_upkeep(report: &JobReport) -> String {
    let mark = match report.end {
        JobEnd::Done => "done   ",
        JobEnd::Partial => "PARTIAL",
        JobEnd::Failed | JobEnd::OutOfTime => "FAILED ",
    };
    let mut text = format!("  {mark} {}\n", logbook::subject(report.job, report.stack.as_deref(), &report.repository));
    for problem in &report.problems {
        text.push_str(&format!("          {problem}\n"));
    }
    text
}
