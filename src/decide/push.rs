//! What Uptime Kuma is told. A push URL is a secret: whoever knows it can say that all is well.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decide::fault::Fault;
use crate::decide::page;
use crate::model::backup::Job;
use crate::model::report::RunEnd;
use crate::model::{Report, Secret};

/// Kuma's server reads at most 16 KiB of request line (TESTBED section 3); people read less.
const LONGEST: usize = 500;

/// One message for one monitor. It is stored in memory only, since it carries the push URL.
#[derive(Debug, Clone)]
pub struct Message {
    /// Sortable and unique: time and monitor.
    pub id: String,
    /// The monitor's name in `host.yaml`: `reconcile`, `backup`, `drill`.
    pub monitor: String,
    /// The push URL, with its token.
    pub url: Secret<String>,
    /// Up or down.
    pub status: Status,
    /// What people read.
    pub text: String,
    /// The duration in milliseconds, shown as `ping`.
    pub ping_ms: Option<u64>,
}

/// The two words that Kuma knows; any other would be DOWN as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Up,
    /// A person should look.
    Down,
}

impl Status {
    /// Kuma's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Up => "up",
            Status::Down => "down",
        }
    }
}

/// What to tell the `reconcile` monitor after a run.
pub fn after_run(report: &Report, url: Secret<String>) -> Message {
    // A hold, a halt or a stop is somebody's will, and a fault that mends itself is not worth a night call at once: but both
    // stand in the text. A run that could not be carried out at all is down.
    // Whoever halts a ring does not mean that a service may lie there; nobody puts it right meanwhile.
    let is_down = report.end == RunEnd::Halted && !report.services.iter().all(page::is_well);
    let status = match report.end {
        _ if is_down => Status::Down,
        RunEnd::Converged | RunEnd::Stopped | RunEnd::Held | RunEnd::Halted => Status::Up,
        RunEnd::Degraded | RunEnd::RolledBack | RunEnd::Faulted | RunEnd::AwaitingEnrolment => Status::Down,
    };
    Message {
        id: format!("{}-reconcile", report.run),
        monitor: "reconcile".into(),
        url,
        status,
        text: shorten(&report.summary),
        ping_ms: u64::try_from(report.ended.duration_since(report.began).as_millis()).ok(),
    }
}

/// What to tell the monitor of a job about all that it should have done.
pub fn of_job(run: &str, job: Job, (status, text): (Status, &str), took: Option<u64>, url: Secret<String>) -> Message {
    let monitor = job.name().to_owned();
    Message { id: format!("{run}-{monitor}"), monitor, url, status, text: shorten(text), ping_ms: took }
}

/// What to tell the `reconcile` monitor when a fetch failed and only a person can end that.
pub fn after_fetch(fault: &Fault, now: Timestamp, url: Secret<String>) -> Message {
    Message {
        id: format!("{}-courier", now.strftime("%Y%m%dT%H%M%S%.3fZ")),
        monitor: "reconcile".into(),
        url,
        status: Status::Down,
        text: fetching_waits(fault),
        ping_ms: None,
    }
}

/// The message as it is sent while fetching may wait for a person: a run that went well is no news then, and Kuma would
/// call the monitor up.
pub fn unless_fetching_waits(message: &Message, fault: Option<&Fault>) -> Message {
    match fault {
        Some(fault) if message.monitor == "reconcile" && message.status == Status::Up => {
            Message { status: Status::Down, text: fetching_waits(fault), ..message.clone() }
        }
        _ => message.clone(),
    }
}

fn fetching_waits(fault: &Fault) -> String {
    shorten(&format!("fetch: {}: {}", fault.code.name(), fault.sentence))
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}
