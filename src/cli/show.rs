//! Prints for people: faults, JSON, and times as distances.

use std::io::Write;

use jiff::Timestamp;
use serde::Serialize;

use crate::decide::fault::{Code, Fault};
use crate::decide::schedule;
use crate::model::Report;

/// Prints a fault on stderr.
pub fn fault(fault: &Fault) {
    trouble(&format!("{fault}\n"));
}

/// Prints text on stderr. If nobody listens there, the exit code still tells.
pub fn trouble(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints text on stdout.
pub fn text(text: &str) -> Result<(), Fault> {
    bytes(text.as_bytes())
}

/// Prints bytes on stdout. Whoever closes the pipe early (`| head`) has seen enough.
pub fn bytes(bytes: &[u8]) -> Result<(), Fault> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Fault::new(Code::StateUnwritable, "the output cannot be written").caused_by(&error))
        }
        _ => Ok(()),
    }
}

/// Prints a value as JSON on stdout.
pub fn json(value: &impl Serialize) -> Result<(), Fault> {
    let printed = serde_json::to_string_pretty(value)
        .map_err(|error| Fault::new(Code::StateUnwritable, "the output cannot be written").caused_by(&error))?;
    text(&format!("{printed}\n"))
}

/// `3m ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let distance = now.duration_since(then);
    if distance.as_secs() < 1 {
        return "just now".into();
    }
    format!("{} ago", schedule::show_duration(std::time::Duration::from_secs(distance.as_secs().unsigned_abs())))
}

/// `3.1 GiB`.
pub fn size(bytes: u64) -> String {
    let (mut whole, mut tenths, mut unit) = (bytes, 0, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, tenths, unit) = (whole / 1024, whole % 1024 * 10 / 1024, larger);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

/// As much of a snapshot's id as people type.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// A report as people read it after a run.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    for outcome in &report.outcomes {
        let mark = match &outcome.verdict {
            crate::model::Verdict::Done => "done   ",
            crate::model::Verdict::Failed { .. } => "FAILED ",
            crate::model::Verdict::Skipped { .. } => "skipped",
        };
        text.push_str(&format!("  {mark} {}  {} ms\n", outcome.step, outcome.elapsed_ms));
        match &outcome.verdict {
            crate::model::Verdict::Failed { because, .. } => {
                for cause in because {
                    text.push_str(&format!("            because: {cause}\n"));
                }
            }
            crate::model::Verdict::Skipped { because } => text.push_str(&format!("            because: {because}\n")),
            crate::model::Verdict::Done => {}
        }
    }
    for evidence in &report.evidence {
        let code = evidence.exit_code.map(|code| format!(", last exit code {code}")).unwrap_or_default();
        text.push_str(&format!("  last words of {} ({}{code})\n", evidence.container, evidence.state));
        evidence.log.iter().for_each(|line| text.push_str(&format!("    | {line}\n")));
    }
    for rollback in &report.rollbacks {
        let to = rollback.to.short();
        text.push_str(&match rollback.serving_after_ms {
            Some(ms) => format!("  {} serves {to} again, {ms} ms after the verdict\n", rollback.stack),
            None => format!("  {} does not serve {to} yet\n", rollback.stack),
        });
    }
    for note in &report.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    // A fault is printed by itself, in full.
    if report.fault.is_none() {
        text.push_str(&format!("{}\n", report.summary));
    }
    text
}

/// The fault of a report, as it was printed when it happened.
pub fn recorded_fault(report: &Report) -> Option<String> {
    report.fault.as_ref().map(|fault| format!("{fault}\n"))
}
