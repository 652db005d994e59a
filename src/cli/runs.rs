//! `moorline runs`: what happened.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Host, show};
use crate::decide::fault::{Code, Fault};
use crate::model::Report;
use crate::world::{agent_toml, ledger};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<RunsVerb>,
    /// How many of the newest to list
    #[arg(long, short = 'n', default_value_t = 20)]
    number: usize,
    /// Print as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RunsVerb {
    /// One run, step by step; the newest when none is named
    Show {
        /// The id of the run
        run: Option<String>,
    },
}

pub fn runs(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let state = agent_toml::read(&host.config)?.state;
    let ids = ledger::runs(&state)?;
    match &arguments.verb {
        None => {
            let newest = ids.iter().rev().take(arguments.number);
            // One unreadable report must not hide the others.
            let reports: Vec<Report> = newest.filter_map(|id| ledger::read_report(&state, id).ok()).collect();
            list(&reports, arguments.json)?;
        }
        Some(RunsVerb::Show { run }) => {
            let Some(run) = run.as_ref().or(ids.last()) else {
                return Err(Fault::new(Code::UsageInvalid, "there was no run yet").hint("moorline reconcile"));
            };
            // Ids are file names of ours; anything else is not an id.
            if !ids.contains(run) {
                return Err(Fault::new(Code::UsageInvalid, format!("there is no run {run}")).hint("moorline runs"));
            }
            show_one(&ledger::read_report(&state, run)?, arguments.json)?;
        }
    }
    Ok(0)
}

fn list(reports: &[Report], as_json: bool) -> Result<(), Fault> {
    if as_json {
        return show::json(&json!({ "version": 1, "runs": reports }));
    }
    for report in reports {
        show::text(&format!("{}  {:<9}  {}\n", report.run, report.occasion, report.summary))?;
    }
    Ok(())
}

fn show_one(report: &Report, as_json: bool) -> Result<(), Fault> {
    if as_json {
        return show::json(report);
    }
    show::text(&format!("run {} on {}, began {:.0} by {}\n", report.run, report.host, report.began, report.occasion))?;
    if let (Some(tip), Some(signer)) = (&report.tip, &report.signer) {
        show::text(&format!("tip {} signed by {signer}\n", tip.short()))?;
    }
    show::text(&format!("{}", report.plan))?;
    show::text(&show::report(report))?;
    show::text(&show::recorded_fault(report).unwrap_or_default())
}
