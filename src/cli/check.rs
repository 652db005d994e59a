//! `moorline check`: is this checkout valid? For CI and pre-commit.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::show;
use crate::decide::check::{self, Findings};
use crate::decide::fault::Fault;
use crate::decide::fleet;
use crate::world::disk;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The root of the checkout
    #[arg(default_value = ".")]
    path: PathBuf,
    /// This host only
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The branch that hosts follow
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    branch: String,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub fn check(arguments: &Arguments) -> Result<u8, Fault> {
    let tree = disk::read_tree(&arguments.path)?;
    let findings = check::check(&tree, arguments.host.as_deref(), &arguments.branch);
    if arguments.json {
        show::json(&as_json(&findings))?;
        return Ok(u8::from(!findings.mistakes.is_empty()));
    }
    for note in &findings.notes {
        show::text(&format!("note: {note}\n"))?;
    }
    if findings.mistakes.is_empty() {
        let hosts = findings.hosts.join(", ");
        show::text(&format!("{} is valid for {hosts}\n", arguments.path.display()))?;
        return Ok(0);
    }
    let mut fault = fleet::spec_invalid(findings.mistakes, &arguments.path.display().to_string());
    fault.hint = None;
    Err(fault)
}

fn as_json(findings: &Findings) -> serde_json::Value {
    let mistakes: Vec<_> = findings
        .mistakes
        .iter()
        .map(|mistake| json!({ "path": mistake.path, "line": mistake.line, "text": mistake.text }))
        .collect();
    json!({
        "version": 1, "valid": mistakes.is_empty(), "hosts": findings.hosts, "mistakes": mistakes,
        "notes": findings.notes,
    })
}
