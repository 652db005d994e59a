//! `moorline plan`: what a run would do, and why; changes nothing.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Host, block_on, checkout, show};
use crate::decide::fault::Fault;
use crate::decide::report::Draft;
use crate::model::Revision;
use crate::runs::preview;
use crate::world::journal::{Audience, Journal};
use crate::world::nowhere;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Plan for this accepted revision instead of the one that the ring names
    #[arg(long, value_name = "REV", conflicts_with = "dir")]
    at: Option<Revision>,
    /// Plan a first run with this checkout on an empty host; needs no host, no key and no signature
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// With --dir: this host only
    #[arg(long, value_name = "HOST", requires = "dir")]
    host: Option<String>,
    /// Exit with 3 when there is something to do
    #[arg(long)]
    exit_code: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub fn plan(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let drafts = match &arguments.dir {
        Some(directory) => plan_directory(host, arguments, directory)?,
        None => {
            let world = host.world()?;
            vec![block_on(preview::plan_here(&*world, arguments.at.as_ref()))??]
        }
    };
    let changes = drafts.iter().any(|draft| !draft.plan.steps.is_empty());
    if arguments.json {
        let plans: Vec<_> = drafts.iter().map(as_json).collect();
        show::json(&json!({ "version": 1, "plans": plans }))?;
    } else {
        for draft in &drafts {
            show::text(&as_text(draft))?;
        }
    }
    Ok(if changes && arguments.exit_code { 3 } else { 0 })
}

fn plan_directory(host: &Host, arguments: &Arguments, directory: &std::path::Path) -> Result<Vec<Draft>, Fault> {
    let (tree, hosts) = checkout::read(directory, arguments.host.as_ref())?;
    let mut drafts = Vec::new();
    for name in hosts {
        let nowhere = nowhere::world(&name, Journal::open(host.verbose, Audience::Person))?;
        drafts.push(block_on(preview::plan_directory(&*nowhere, &tree))??);
    }
    Ok(drafts)
}

fn as_text(draft: &Draft) -> String {
    let at = match &draft.revision {
        Some(revision) => format!(" at {}", revision.short()),
        None => String::from(", from nothing"),
    };
    let ring = draft.ring.as_ref().map(|ring| format!(", ring {ring}")).unwrap_or_default();
    let mut text = format!("plan for {}{at}{ring}: {} steps\n{}", draft.host, draft.plan.steps.len(), draft.plan);
    for fault in &draft.put_off {
        text.push_str(&format!("note: {}\n", fault.sentence));
    }
    for note in &draft.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

fn as_json(draft: &Draft) -> serde_json::Value {
    json!({
        "host": draft.host, "ring": draft.ring, "tip": draft.tip, "revision": draft.revision,
        "waiting": draft.waiting,
        "steps": draft.plan.steps, "notes": draft.notes,
    })
}
