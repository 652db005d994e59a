//! `moorline drill`: is the newest snapshot of each stack good for anything?

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::{Host, block_on_work, show};
use crate::decide::fault::Fault;
use crate::runs::backup::drill::{self, Drilled, When};

#[derive(Debug, Args)]
pub struct Arguments {
    /// This stack only
    stack: Option<String>,
    /// Only stacks whose drill is due by `backup.drill` of host.yaml
    #[arg(long)]
    if_due: bool,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
}

pub fn drill(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    world.set_up()?;
    let when = if arguments.if_due { When::IfDue } else { When::Now };
    let mut progress = Progress::new("restored");
    let mut hear = |stack: &str, at| progress.show(stack, at);
    let work = drill::drill(&*world, arguments.stack.as_deref(), when, &mut hear);
    let drilled = block_on_work(&world, work);
    progress.end();
    let drilled = drilled?;
    if arguments.json {
        let of = |drilled: &Drilled| json!({ "report": drilled.report, "proofs": drilled.lines });
        show::json(&json!({ "version": 1, "drills": drilled.iter().map(of).collect::<Vec<_>>() }))?;
    }
    for drilled in &drilled {
        if !arguments.json {
            show::text(&as_text(drilled))?;
        }
        if let Some(fault) = &drilled.fault {
            show::fault(fault);
        }
    }
    Ok(drilled.iter().find_map(|drilled| drilled.fault.as_ref()).map_or(0, |fault| fault.code.exit()))
}

fn as_text(drilled: &Drilled) -> String {
    let report = &drilled.report;
    let stack = report.stack.as_deref().unwrap_or_default();
    let mark = if drilled.fault.is_none() { "proven " } else { "FAILED " };
    let Some(snapshot) = &report.snapshot else {
        return format!("  {mark} {stack}: no snapshot in {}\n", report.repository);
    };
    let took = report.ended.duration_since(report.began).as_secs();
    let (id, files, bytes) = (show::short(snapshot), report.files, show::size(report.bytes));
    let mut text = format!(
        "  {mark} {stack}: snapshot {id} of {}, {files} files, {bytes}, restored and compared, {took} s\n",
        report.repository
    );
    for line in &drilled.lines {
        text.push_str(&format!("          {line}\n"));
    }
    text
}
