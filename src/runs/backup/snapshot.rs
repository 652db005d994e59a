//! The snapshots of one stack: one in each backup repository.

use crate::decide::fault::Fault;
use crate::model::Applied;
use crate::model::backup::{Job, JobEnd, JobReport, Repository, StackBackup};
use crate::runs::backup::known::Known;
use crate::runs::backup::sources::{plan, sources};
use crate::world::World;
use crate::world::restic::order::{self, First, Line, Progress, Saved, Source, Task};
use crate::world::restic::{self, Restic};

/// What became of one stack in one repository.
#[derive(Debug)]
pub struct Outcome {
    /// As it is reported.
    pub report: JobReport,
    /// Why there is no snapshot.
    pub fault: Option<Fault>,
}

/// What a snapshot is made for.
#[derive(Debug, Clone)]
pub struct Occasion {
    /// The tags besides our own.
    pub tags: Vec<String>,
    /// Whether a backup repository is made where there is none.
    pub first: First,
}

/// Makes a snapshot of a stack in each backup repository. What is in the way of one keeps no other from its own.
pub async fn snapshot(
    world: &(impl World + Restic),
    known: &Known,
    (stack, applied): (&str, &Applied),
    occasion: &Occasion,
    hear: &mut dyn FnMut(&str, Progress),
) -> Vec<Outcome> {
    let plan = plan(world, stack, applied);
    let sources = sources(world, &plan, applied).await;
    let mut outcomes = Vec::new();
    for repository in &known.backups.repositories {
        let began = world.now();
        let saved = match &sources {
            Ok(sources) => save(world, known, repository, &plan, sources.clone(), occasion, hear).await,
            Err(fault) => Err(fault.clone()),
        };
        let mut report = JobReport {
            job: Job::Backup,
            repository: repository.name.clone(),
            stack: Some(stack.to_owned()),
            began,
            ended: world.now(),
            end: JobEnd::Failed,
            problems: Vec::new(),
            snapshot: None,
            files: 0,
            bytes: 0,
            bytes_added: 0,
        };
        match &saved {
            Ok(saved) => fill(&mut report, saved, &plan),
            Err(fault) => {
                report.problems = std::iter::once(&fault.sentence).chain(&fault.because).cloned().collect();
            }
        }
        outcomes.push(Outcome { report, fault: saved.err() });
    }
    outcomes
}

async fn save(
    world: &(impl World + Restic),
    known: &Known,
    repository: &Repository,
    plan: &StackBackup,
    sources: Vec<Source>,
    occasion: &Occasion,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Saved, Fault> {
    let settings = world.settings();
    let task = Task::Backup(order::Backup {
        host: settings.host.clone(),
        label: plan.stack.clone(),
        tags: std::iter::once("moorline".to_owned()).chain(occasion.tags.iter().cloned()).collect(),
        sources,
        excludes: plan.excludes.clone(),
        cache: settings.state.join("cache"),
        first: occasion.first,
    });
    let access = known.access(repository)?;
    let mut heard = |line: Line| {
        if let Line::Progress(progress) = line {
            hear(&plan.stack, progress);
        }
    };
    match world.work(repository, &access, task, &mut heard).await? {
        Line::Saved(saved) => Ok(saved),
        _ => Err(restic::nonsense()),
    }
}

/// What is missing in a snapshot makes it a partial one, however well the rest went.
fn fill(report: &mut JobReport, saved: &Saved, plan: &StackBackup) {
    report.problems = saved.unreadable.first.clone();
    let named = report.problems.len() as u64;
    if saved.unreadable.count > named {
        report.problems.push(format!("{} more files cannot be read", saved.unreadable.count - named));
    }
    let dumps = plan.dumps.iter().map(|dump| format!("{}: this version takes no dumps", dump.service));
    report.problems.extend(dumps);
    report.end = if report.problems.is_empty() { JobEnd::Done } else { JobEnd::Partial };
    report.snapshot = Some(saved.id.clone());
    (report.files, report.bytes, report.bytes_added) = (saved.files, saved.bytes, saved.added);
}
