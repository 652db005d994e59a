//! The lines that moorline logs of backups: a part of [`Event`](crate::decide::event::Event).

use crate::decide::backup::logbook;
use crate::decide::event::{Level, fault_fields, one_line};
use crate::decide::fault::{Code, Fault, Mover};
use crate::model::backup::{Job, JobEnd, JobReport};

/// What happened.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "`BackupEvent::message` says what each field is")]
pub enum BackupEvent {
    /// A job on a backup repository began.
    JobBegan { run: String, job: Job, repository: String, stack: Option<String> },
    /// A job on a backup repository ended; with the number of failures before, if it works again.
    JobEnded { run: String, report: Box<JobReport>, fault: Option<Box<Fault>>, recovered: Option<u32> },
    /// A night that the keeper began, for want of a timer, has ended.
    NightEnded { exit: Option<i32> },
    /// The keeper could not begin a night.
    NightFailed { fault: Box<Fault> },
}

impl BackupEvent {
    /// `<noun>-<past verb>`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::JobBegan { .. } => "job-began",
            Self::JobEnded { report, fault, recovered, .. } => match report.end {
                JobEnd::Done if recovered.is_some() => "job-recovered",
                JobEnd::Done => "job-done",
                JobEnd::Partial => "job-partial",
                JobEnd::Failed | JobEnd::OutOfTime if is_stopped(fault.as_deref()) => "job-stopped",
                JobEnd::Failed | JobEnd::OutOfTime => "job-failed",
            },
            Self::NightEnded { .. } => "night-ended",
            Self::NightFailed { .. } => "night-failed",
        }
    }

    /// How loud it is. A file that cannot be read waits for a person.
    pub fn level(&self) -> Level {
        match self {
            Self::JobBegan { .. } => Level::Debug,
            Self::JobEnded { report, fault, .. } => match (report.end, fault) {
                (JobEnd::Done, _) => Level::Info,
                (_, Some(fault)) if fault.code == Code::Stopped => Level::Info,
                (_, Some(fault)) if fault.code.mover() == Mover::NextRun => Level::Warning,
                _ => Level::Error,
            },
            Self::NightEnded { exit: Some(0) } => Level::Info,
            Self::NightEnded { .. } | Self::NightFailed { .. } => Level::Warning,
        }
    }

    /// One sentence.
    pub fn message(&self) -> String {
        match self {
            Self::JobBegan { job, repository, stack, .. } => {
                format!("job began: {}", logbook::subject(*job, stack.as_deref(), repository))
            }
            Self::JobEnded { report, recovered, .. } => {
                let what = logbook::subject(report.job, report.stack.as_deref(), &report.repository);
                let again = recovered.map(|failures| format!(", ok again after {failures} failed")).unwrap_or_default();
                format!("{}: {what}{again}{}", self.name().replace('-', " "), became(report))
            }
            Self::NightEnded { exit: Some(0) } => "night ended".to_owned(),
            Self::NightEnded { exit: Some(exit) } => format!("night ended with exit code {exit}"),
            Self::NightEnded { exit: None } => "night ended by a signal".to_owned(),
            Self::NightFailed { fault } => format!("night failed: {}", one_line(fault)),
        }
    }

    /// Adds the fields, in the spelling of JSON.
    pub fn add_fields(&self, fields: &mut Vec<(&'static str, String)>) {
        match self {
            Self::JobBegan { run, job, repository, stack } => {
                job_fields(fields, run, *job, repository, stack.as_ref());
            }
            Self::JobEnded { run, report, fault, recovered } => {
                job_fields(fields, run, report.job, &report.repository, report.stack.as_ref());
                let elapsed = report.ended.duration_since(report.began).as_millis();
                fields.push(("elapsed_ms", elapsed.to_string()));
                report.snapshot.iter().for_each(|snapshot| fields.push(("snapshot", snapshot.clone())));
                fields.push(("bytes_added", report.bytes_added.to_string()));
                recovered.iter().for_each(|failures| fields.push(("failures", failures.to_string())));
                fault.iter().for_each(|fault| fault_fields(fields, fault));
            }
            Self::NightEnded { exit } => exit.iter().for_each(|exit| fields.push(("exit", exit.to_string()))),
            Self::NightFailed { fault } => fault_fields(fields, fault),
        }
    }
}

fn job_fields(fields: &mut Vec<(&'static str, String)>, run: &str, job: Job, repository: &str, stack: Option<&String>) {
    fields.push(("run", run.to_owned()));
    fields.push(("job", job.name().to_owned()));
    fields.push(("repository", repository.to_owned()));
    stack.into_iter().for_each(|stack| fields.push(("stack", stack.clone())));
}

/// Whether a job ended because moorline was asked to stop: nothing is wrong then.
fn is_stopped(fault: Option<&Fault>) -> bool {
    fault.is_some_and(|fault| fault.code == Code::Stopped)
}

/// What became of a job: what it did, or the first causes.
fn became(report: &JobReport) -> String {
    let seconds = report.ended.duration_since(report.began).as_secs().max(0);
    match (report.end, report.job) {
        (JobEnd::Done, Job::Backup) => {
            let (files, read, added) = (report.files, report.bytes >> 20, report.bytes_added >> 20);
            format!(", {seconds} s: {files} files, {read} MiB, {added} MiB added")
        }
        (JobEnd::Done, _) => format!(", {seconds} s"),
        (JobEnd::Partial | JobEnd::Failed | JobEnd::OutOfTime, _) => {
            let causes: String = report.problems.iter().take(2).map(|cause| format!(": {cause}")).collect();
            match report.problems.len().saturating_sub(2) {
                0 => causes,
                more => format!("{causes} (and {more} more)"),
            }
        }
    }
}
