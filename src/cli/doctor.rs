//! `moorline doctor`: can this host do its job? Looks at everything, changes nothing.

use clap::Args;
use serde_json::json;

use super::{Host, block_on, show};
use crate::decide::fault::Fault;
use crate::runs::doctor::{self, Finding};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn doctor(host: &Host, arguments: &Arguments) -> Result<u8, Fault> {
    let world = host.world()?;
    let findings = block_on(doctor::examine(&*world))?;
    if arguments.json {
        let all: Vec<_> = findings.iter().map(as_json).collect();
        show::json(&json!({ "version": 1, "findings": all }))?;
    } else {
        for finding in &findings {
            show::text(&as_text(finding))?;
        }
    }
    Ok(u8::from(findings.iter().any(|finding| finding.result.is_err())))
}

fn as_text(finding: &Finding) -> String {
    match &finding.result {
        Ok(found) => format!("ok    {:<16} {found}\n", finding.what),
        Err(fault) => {
            let mut text = format!("FAIL  {:<16} {}\n", finding.what, fault.sentence);
            for cause in &fault.because {
                text.push_str(&format!("      because: {cause}\n"));
            }
            // `nothing was changed` goes without saying here.
            if let Some(hint) = &fault.hint {
                text.push_str(&format!("      hint: {hint}\n"));
            }
            text
        }
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    match &finding.result {
        Ok(found) => json!({ "what": finding.what, "ok": true, "found": found }),
        Err(fault) => json!({ "what": finding.what, "ok": false, "fault": fault.record() }),
    }
}
