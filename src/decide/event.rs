//! Every line that moorline logs, in one place: name, level, sentence, fields.
//!
//! Error: a person must move. Warning: the next run may mend it. Info: something changed or ended.
//! Debug: something was looked at. A field never holds content, a URL with a password or a push token.

use crate::decide::backup::event::BackupEvent;
use crate::decide::fault::{Fault, Mover};
use crate::decide::succession::event::ReleaseEvent;
use crate::model::report::RunEnd;
use crate::model::{Report, Revision, Step, Verdict};

/// What happened.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "`Event::message` says what each field is")]
pub enum Event {
    /// A service of ours is ready.
    ServiceStarted { verb: &'static str, host: String },
    /// A service of ours ends because it was asked to.
    ServiceStopped { verb: &'static str },
    /// The courier fetched a new tip.
    TipFetched { revision: Revision },
    /// The courier could not fetch.
    FetchFailed { fault: Box<Fault> },
    /// The courier reaches the git server again.
    FetchRecovered { failures: u32 },
    /// A run began; debug, since a converged run logs one line.
    RunBegan { run: String, occasion: String },
    /// New revisions were verified and the anchor moved.
    RevisionVerified { run: String, revision: Revision, signer: String, count: usize },
    /// A revision was refused.
    RevisionRefused { run: String, fault: Box<Fault> },
    /// A plan with at least one step was made.
    PlanMade { run: String, revision: Option<Revision>, steps: usize },
    /// A step ended.
    StepEnded { run: String, step: Step, verdict: Verdict, elapsed_ms: u64 },
    /// An image is being pulled, and it takes a while.
    PullProgressed { image: String, done: u64, total: u64 },
    /// A snapshot that must be there before a deploy is being made, and it takes a while.
    SnapshotProgressed { run: String, stack: String, done: u64 },
    /// It is not begun yet, since another backup is running.
    SnapshotWaited { run: String, stack: String, until: String, because: String },
    /// An image that nobody needs any more was removed.
    ImageRemoved { run: String, image: String },
    /// A run found that the one before it was killed in the middle of a step.
    RunResumed { run: String, step: Step },
    /// A stack is back at its last good version.
    StackRolledBack { run: String, stack: String, fault: Box<Fault>, elapsed_ms: u64 },
    /// A stack could not be brought back to its last good version.
    RollbackFailed { run: String, stack: String, fault: Box<Fault> },
    /// What is not as it was left was written down before it was undone.
    DriftSaved { run: String, path: String },
    /// Containers are stopped or paused while a backup reads their files.
    ContainersStood { stack: String, containers: usize },
    /// They go on.
    ContainersWentOn { stack: String },
    /// A backup waits for the end of a run before it makes containers stand.
    BackupWaits { stack: String, fault: Box<Fault> },
    /// A person wants what failed to be tried again.
    RetryOrdered { owner: String, stacks: Vec<String> },
    /// A run ended.
    RunEnded { report: Box<Report> },
    /// A report could not be written.
    ReportLost { run: String, fault: Box<Fault> },
    /// A person holds this host, or one of its stacks.
    HoldSet { owner: String, reason: String, until: String, stack: Option<String> },
    /// A person released this host.
    HoldReleased { owner: String, stack: Option<String> },
    /// A person moved the anchor.
    AnchorMoved { owner: String, reason: String, from: String, revision: Revision },
    /// A copy of the ledger was damaged, missing or behind, and was made from the other.
    LedgerMended { amiss: Vec<String> },
    /// After a reboot, files in memory were put back.
    SecretsRestored { stacks: Vec<String>, left: Vec<String> },
    /// Older files of secrets in memory were removed, since no container uses them any more.
    SecretsForgotten { run: String, generations: usize },
    /// Kuma has accepted a message.
    PushSent { monitor: String },
    /// Kuma has not accepted a message; it is kept.
    PushFailed { monitor: String, fault: Box<Fault> },
    /// The status page cannot be served.
    StatusUnserved { fault: Box<Fault> },
    /// Something about backups.
    Backup(BackupEvent),
    /// Something about versions of moorline.
    Release(ReleaseEvent),
}

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A person must move.
    Error,
    /// The next run may mend it.
    Warning,
    /// Something changed or ended.
    Info,
    /// Something was looked at.
    Debug,
}

impl Event {
    /// `<noun>-<past verb>`.
    pub fn name(&self) -> &'static str {
        match self {
            Event::ServiceStarted { .. } => "service-started",
            Event::ServiceStopped { .. } => "service-stopped",
            Event::TipFetched { .. } => "tip-fetched",
            Event::FetchFailed { .. } => "fetch-failed",
            Event::FetchRecovered { .. } => "fetch-recovered",
            Event::RunBegan { .. } => "run-began",
            Event::RevisionVerified { .. } => "revision-verified",
            Event::RevisionRefused { .. } => "revision-refused",
            Event::PlanMade { .. } => "plan-made",
            Event::StepEnded { verdict: Verdict::Done, .. } => "step-done",
            Event::StepEnded { verdict: Verdict::Failed { .. }, .. } => "step-failed",
            Event::StepEnded { verdict: Verdict::Skipped { .. }, .. } => "step-skipped",
            Event::PullProgressed { .. } => "pull-progressed",
            Event::SnapshotProgressed { .. } => "snapshot-progressed",
            Event::SnapshotWaited { .. } => "snapshot-waited",
            Event::ImageRemoved { .. } => "image-removed",
            Event::RunResumed { .. } => "run-resumed",
            Event::StackRolledBack { .. } => "stack-rolled-back",
            Event::RollbackFailed { .. } => "rollback-failed",
            Event::DriftSaved { .. } => "drift-saved",
            Event::ContainersStood { .. } => "containers-stood",
            Event::ContainersWentOn { .. } => "containers-went-on",
            Event::BackupWaits { .. } => "backup-waited",
            Event::RetryOrdered { .. } => "retry-ordered",
            Event::RunEnded { .. } => "run-ended",
            Event::ReportLost { .. } => "report-lost",
            Event::HoldSet { .. } => "hold-set",
            Event::HoldReleased { .. } => "hold-released",
            Event::AnchorMoved { .. } => "anchor-moved",
            Event::LedgerMended { .. } => "ledger-mended",
            Event::SecretsRestored { .. } => "secrets-restored",
            Event::SecretsForgotten { .. } => "secrets-forgotten",
            Event::PushSent { .. } => "push-sent",
            Event::PushFailed { .. } => "push-failed",
            Event::StatusUnserved { .. } => "status-unserved",
            Event::Backup(event) => event.name(),
            Event::Release(event) => event.name(),
        }
    }

    /// How loud it is.
    pub fn level(&self) -> Level {
        match self {
            Event::FetchFailed { fault } | Event::PushFailed { fault, .. } => match fault.code.mover() {
                Mover::NextRun => Level::Warning,
                Mover::Person => Level::Error,
            },
            Event::RevisionRefused { .. }
            | Event::ReportLost { .. }
            | Event::StackRolledBack { .. }
            | Event::RollbackFailed { .. } => Level::Error,
            Event::StepEnded { verdict, .. } => match verdict {
                Verdict::Done => Level::Info,
                Verdict::Failed { .. } | Verdict::Skipped { .. } => Level::Warning,
            },
            Event::RunEnded { report } => match report.end {
                // A host that waits to be let in is no emergency, and would be one at every interval.
                RunEnd::AwaitingEnrolment => Level::Info,
                RunEnd::Converged | RunEnd::Stopped | RunEnd::Held | RunEnd::Halted => Level::Info,
                RunEnd::Degraded | RunEnd::RolledBack => Level::Error,
                RunEnd::Faulted => match &report.fault {
                    Some(fault) if fault.mover == "next-run" => Level::Warning,
                    _ => Level::Error,
                },
            },
            Event::Backup(event) => event.level(),
            Event::Release(event) => event.level(),
            Event::LedgerMended { .. } => Level::Warning,
            Event::StatusUnserved { .. } => Level::Warning,
            Event::SecretsRestored { left, .. } if !left.is_empty() => Level::Warning,
            Event::RunBegan { .. } | Event::SecretsForgotten { .. } | Event::PushSent { .. } => Level::Debug,
            _ => Level::Info,
        }
    }

    /// One sentence.
    pub fn message(&self) -> String {
        match self {
            Event::ServiceStarted { verb, host } => format!("{verb} started for {host}"),
            Event::ServiceStopped { verb } => format!("{verb} stopped"),
            Event::TipFetched { revision } => format!("tip fetched: {}", revision.short()),
            Event::FetchFailed { fault } => format!("fetch failed: {}", one_line(fault)),
            Event::FetchRecovered { failures } => format!("fetch works again after {failures} failures"),
            Event::RunBegan { occasion, .. } => format!("run began: {occasion}"),
            Event::RevisionVerified { revision, signer, count, .. } => {
                format!("revision verified: {} by {signer}, {count} new", revision.short())
            }
            Event::RevisionRefused { fault, .. } => format!("revision refused: {}", one_line(fault)),
            Event::PlanMade { revision, steps, .. } => match revision {
                Some(revision) => format!("plan made: {steps} steps to {}", revision.short()),
                None => format!("plan made: {steps} steps"),
            },
            Event::StepEnded { step, verdict, elapsed_ms, .. } => match verdict {
                Verdict::Done => format!("step done: {step}, {elapsed_ms} ms"),
                Verdict::Failed { because, .. } => format!("step failed: {step}: {}", because.join(": ")),
                Verdict::Skipped { because } => format!("step skipped: {step}: {because}"),
            },
            Event::PullProgressed { image, done, total } => {
                format!("pull progressed: {image}, {} of {} MiB", done >> 20, total >> 20)
            }
            Event::SnapshotProgressed { stack, done, .. } => {
                format!("snapshot progressed: {stack}, {} MiB read", done >> 20)
            }
            Event::SnapshotWaited { stack, until, because, .. } => {
                format!("snapshot waited: the deploy of {stack} waits until {until} for another backup: {because}")
            }
            Event::ImageRemoved { image, .. } => format!("image removed: {image}, which nothing has needed for a week"),
            Event::RunResumed { step, .. } => format!("run resumed after a kill in the middle of: {step}"),
            Event::StackRolledBack { fault, elapsed_ms, .. } => {
                format!("stack rolled back: {}, {elapsed_ms} ms", one_line(fault))
            }
            Event::RollbackFailed { fault, .. } => format!("rollback failed: {}", one_line(fault)),
            Event::DriftSaved { path, .. } => format!("drift saved: {path}"),
            Event::ContainersStood { stack, containers } => {
                format!("containers stood: {containers} of {stack}, while a backup reads")
            }
            Event::ContainersWentOn { stack } => format!("containers went on: {stack}"),
            Event::BackupWaits { stack, fault } => format!("backup waited: {stack}: {}", one_line(fault)),
            Event::RetryOrdered { owner, stacks } => format!("retry ordered by {owner}: {}", stacks.join(", ")),
            Event::RunEnded { report } => format!("run ended: {}", report.summary),
            Event::ReportLost { fault, .. } => format!("report lost: {}", one_line(fault)),
            Event::HoldSet { owner, reason, until, stack } => {
                format!("hold set by {owner}{} until {until}: {reason}", on(stack))
            }
            Event::HoldReleased { owner, stack } => format!("hold released by {owner}{}", on(stack)),
            Event::AnchorMoved { owner, reason, from, revision } => {
                format!("anchor moved by {owner} from {from} to {revision}: {reason}")
            }
            Event::LedgerMended { amiss } => format!("ledger mended from its good copy: {}", amiss.join("; ")),
            Event::SecretsRestored { stacks, left } => {
                let left = if left.is_empty() { String::new() } else { format!("; left: {}", left.join(", ")) };
                let stacks = if stacks.is_empty() { "none".to_owned() } else { stacks.join(", ") };
                format!("secrets restored: {stacks}{left}")
            }
            Event::SecretsForgotten { generations, .. } => {
                format!("secrets forgotten: {generations} that no container uses")
            }
            Event::PushSent { monitor } => format!("push sent: {monitor}"),
            Event::PushFailed { monitor, fault } => format!("push failed: {monitor}: {}", one_line(fault)),
            Event::StatusUnserved { fault } => format!("status unserved: {}", one_line(fault)),
            Event::Backup(event) => event.message(),
            Event::Release(event) => event.message(),
        }
    }

    /// The fields, in the spelling of JSON; the journal writes them in upper case.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("event", self.name().to_owned())];
        match self {
            Event::ServiceStarted { host, .. } => fields.push(("host", host.clone())),
            Event::TipFetched { revision } => fields.push(("revision", revision.to_string())),
            Event::FetchFailed { fault } | Event::StatusUnserved { fault } => fault_fields(&mut fields, fault),
            Event::FetchRecovered { failures } => fields.push(("failures", failures.to_string())),
            Event::RunBegan { run, occasion } => {
                fields.push(("run", run.clone()));
                fields.push(("occasion", occasion.clone()));
            }
            Event::RevisionVerified { run, revision, signer, count } => {
                fields.push(("run", run.clone()));
                fields.push(("revision", revision.to_string()));
                fields.push(("signer", signer.clone()));
                fields.push(("count", count.to_string()));
            }
            Event::RevisionRefused { run, fault } | Event::ReportLost { run, fault } => {
                fields.push(("run", run.clone()));
                fault_fields(&mut fields, fault);
            }
            Event::PlanMade { run, revision, steps } => {
                fields.push(("run", run.clone()));
                if let Some(revision) = revision {
                    fields.push(("revision", revision.to_string()));
                }
                fields.push(("steps", steps.to_string()));
            }
            Event::StepEnded { run, step, elapsed_ms, .. } => {
                fields.push(("run", run.clone()));
                fields.push(("stack", step.stack.clone()));
                fields.push(("step", step.action.verb().to_owned()));
                fields.push(("elapsed_ms", elapsed_ms.to_string()));
            }
            Event::PullProgressed { image, done, total } => {
                fields.push(("image", image.clone()));
                fields.push(("bytes_done", done.to_string()));
                fields.push(("bytes_total", total.to_string()));
            }
            Event::SnapshotProgressed { run, stack, done } => {
                fields.push(("run", run.clone()));
                fields.push(("stack", stack.clone()));
                fields.push(("bytes_done", done.to_string()));
            }
            Event::SnapshotWaited { run, stack, until, .. } => {
                fields.push(("run", run.clone()));
                fields.push(("stack", stack.clone()));
                fields.push(("until", until.clone()));
            }
            Event::ImageRemoved { run, image } => {
                fields.push(("run", run.clone()));
                fields.push(("image", image.clone()));
            }
            Event::RunResumed { run, step } => {
                fields.push(("run", run.clone()));
                fields.push(("stack", step.stack.clone()));
                fields.push(("step", step.action.verb().to_owned()));
            }
            Event::StackRolledBack { run, stack, fault, elapsed_ms } => {
                fields.push(("run", run.clone()));
                fields.push(("stack", stack.clone()));
                fields.push(("elapsed_ms", elapsed_ms.to_string()));
                fault_fields(&mut fields, fault);
            }
            Event::RollbackFailed { run, stack, fault } => {
                fields.push(("run", run.clone()));
                fields.push(("stack", stack.clone()));
                fault_fields(&mut fields, fault);
            }
            Event::DriftSaved { run, path } => {
                fields.push(("run", run.clone()));
                fields.push(("path", path.clone()));
            }
            Event::ContainersStood { stack, .. } | Event::ContainersWentOn { stack } => {
                fields.push(("stack", stack.clone()));
            }
            Event::BackupWaits { stack, fault } => {
                fields.push(("stack", stack.clone()));
                fault_fields(&mut fields, fault);
            }
            Event::RetryOrdered { owner, stacks } => {
                fields.push(("owner", owner.clone()));
                fields.push(("stack", stacks.join(" ")));
            }
            Event::RunEnded { report } => {
                fields.push(("run", report.run.clone()));
                if let Some(revision) = &report.revision {
                    fields.push(("revision", revision.to_string()));
                }
                if let Some(fault) = &report.fault {
                    fields.push(("fault", fault.code.clone()));
                    fields.push(("mover", fault.mover.clone()));
                }
                fields.push(("steps", report.outcomes.len().to_string()));
                let elapsed = report.ended.duration_since(report.began).as_millis();
                fields.push(("elapsed_ms", elapsed.to_string()));
                fields.push(("message_id", "5d1c54e0f1b94c7b9a6a3f0e6d1d2b71".to_owned()));
            }
            Event::HoldSet { owner, reason, until, stack } => {
                stack.iter().for_each(|stack| fields.push(("stack", stack.clone())));
                fields.push(("owner", owner.clone()));
                fields.push(("hold", reason.clone()));
                fields.push(("until", until.clone()));
            }
            Event::HoldReleased { owner, stack } => {
                stack.iter().for_each(|stack| fields.push(("stack", stack.clone())));
                fields.push(("owner", owner.clone()));
            }
            Event::AnchorMoved { owner, reason, from, revision } => {
                fields.push(("owner", owner.clone()));
                fields.push(("reason", reason.clone()));
                fields.push(("from", from.clone()));
                fields.push(("revision", revision.to_string()));
            }
            Event::SecretsRestored { stacks, .. } => fields.push(("stack", stacks.join(" "))),
            Event::SecretsForgotten { run, generations } => {
                fields.push(("run", run.clone()));
                fields.push(("generations", generations.to_string()));
            }
            Event::PushSent { monitor } => fields.push(("monitor", monitor.clone())),
            Event::PushFailed { monitor, fault } => {
                fields.push(("monitor", monitor.clone()));
                fault_fields(&mut fields, fault);
            }
            Event::Backup(event) => event.add_fields(&mut fields),
            Event::Release(event) => event.add_fields(&mut fields),
            Event::ServiceStopped { .. } | Event::LedgerMended { .. } => {}
        }
        fields
    }
}

/// The code of a fault, and who moves next.
pub(super) fn fault_fields(fields: &mut Vec<(&'static str, String)>, fault: &Fault) {
    fields.push(("fault", fault.code.name().to_owned()));
    fields.push(("mover", fault.code.mover().to_string()));
}

/// ` on STACK`, when only one is meant.
fn on(stack: &Option<String>) -> String {
    stack.as_ref().map(|stack| format!(" on {stack}")).unwrap_or_default()
}

/// A fault on one line: the sentence and its first cause.
pub(super) fn one_line(fault: &Fault) -> String {
    match fault.because.first() {
        Some(cause) => format!("{}: {cause}", fault.sentence),
        None => fault.sentence.clone(),
    }
}
