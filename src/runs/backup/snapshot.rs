//! The snapshots of one stack: one in each backup repository.

use crate::decide::fault::{Code, Fault};
use crate::decide::{backup, redact};
use crate::model::Applied;
use crate::model::backup::{Job, JobEnd, JobReport, Quiesce, Repository, StackBackup};
use crate::runs::backup::known::Known;
use crate::runs::backup::quiesce::{Quiescence, RunLock};
use crate::runs::backup::sources::{plan, sources};
use crate::world::World;
use crate::world::restic::order::{self, First, Line, Passes, Progress, Saved, Source};
use crate::world::restic::{self, Logins};

/// What became of one stack in one repository.
#[derive(Debug)]
pub struct Outcome {
    /// As it is reported.
    pub report: JobReport,
    /// Why there is no snapshot.
    pub fault: Option<Fault>,
    /// What nobody asked for and nobody would miss before it is too late, such as a volume without a name.
    pub notes: Vec<String>,
}

/// What a snapshot is made for.
#[derive(Debug, Clone)]
pub struct Occasion {
    /// The tags besides our own.
    pub tags: Vec<String>,
    /// Whether a backup repository is made where there is none.
    pub first: First,
    /// Whether whoever asks holds the run lock.
    pub run_lock: RunLock,
}

/// Makes a snapshot of a stack in each backup repository. What is in the way of one keeps no other from its own.
pub async fn snapshot<W: World>(
    world: &W,
    known: &Known,
    (stack, applied): (&str, &Applied),
    occasion: &Occasion,
    hear: &mut dyn FnMut(&str, Progress),
) -> Vec<Outcome> {
    let plan = plan(world, stack, applied);
    let wanted = match sources(world, &plan, applied).await {
        Ok(sources) => known.logins(&plan).map(|logins| (sources, logins)),
        Err(fault) => Err(fault),
    };
    let mut outcomes = Vec::new();
    for repository in &known.backups.repositories {
        let began = world.now();
        let mut quiescence = Quiescence::new(world, &plan, &applied.model, occasion.run_lock);
        let saved = match &wanted {
            Ok((sources, logins)) => {
                let task = task(world, &plan, sources.clone(), occasion);
                save(world, known, repository, (task, logins), &mut quiescence, hear).await
            }
            Err(fault) => Err(fault.clone()),
        };
        // However it ended.
        let gone_on = quiescence.go_on().await;
        let saved = saved.map_err(|fault| hide(fault, known));
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
            Ok(saved) => fill(&mut report, saved),
            Err(fault) => {
                report.problems = std::iter::once(&fault.sentence).chain(&fault.because).cloned().collect();
            }
        }
        if let Err(fault) = gone_on {
            report.problems.push(words(&fault));
            report.end = if saved.is_ok() { JobEnd::Partial } else { JobEnd::Failed };
        }
        outcomes.push(Outcome { report, fault: saved.err(), notes: backup::notes(&plan) });
    }
    outcomes
}

fn task(world: &impl World, plan: &StackBackup, sources: Vec<Source>, occasion: &Occasion) -> order::Backup {
    let settings = world.settings();
    let stands = plan.quiesce != Quiesce::None && !plan.writers.is_empty();
    order::Backup {
        host: settings.host.clone(),
        label: plan.stack.clone(),
        tags: std::iter::once("moorline".to_owned()).chain(occasion.tags.iter().cloned()).collect(),
        sources,
        excludes: plan.excludes.clone(),
        cache: settings.state.join("cache"),
        first: occasion.first,
        dumps: plan.dumps.clone(),
        socket: settings.socket.clone(),
        passes: if stands { Passes::LiveThenStill } else { Passes::Live },
    }
}

async fn save<W: World>(
    world: &W,
    known: &Known,
    repository: &Repository,
    task: (order::Backup, &Logins),
    quiescence: &mut Quiescence<'_, W>,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Saved, Fault> {
    let access = known.access(repository)?;
    let stack = task.0.label.clone();
    let mut heard = |line: Line| {
        if let Line::Progress(progress) = line {
            hear(&stack, progress);
        }
    };
    let turn = async |turn| quiescence.turn(turn).await;
    match world.save(repository, &access, task, turn, &mut heard).await? {
        Line::Saved(saved) => Ok(saved),
        _ => Err(restic::nonsense()),
    }
}

/// What a command in a container said may hold whatever that container knows.
fn hide(mut fault: Fault, known: &Known) -> Fault {
    if fault.code != Code::BackupDump {
        return fault;
    }
    let secrets: Vec<&str> = known.secrets.values().collect();
    for text in std::iter::once(&mut fault.sentence).chain(&mut fault.because) {
        *text = redact::last_lines(text, usize::MAX, &secrets).join(" ");
    }
    fault
}

fn words(fault: &Fault) -> String {
    std::iter::once(&fault.sentence).chain(&fault.because).cloned().collect::<Vec<_>>().join(": ")
}

/// What is missing in a snapshot makes it a partial one, however well the rest went.
fn fill(report: &mut JobReport, saved: &Saved) {
    report.problems = saved.unreadable.first.clone();
    let named = report.problems.len() as u64;
    if saved.unreadable.count > named {
        report.problems.push(format!("{} more files cannot be read", saved.unreadable.count - named));
    }
    report.end = if report.problems.is_empty() { JobEnd::Done } else { JobEnd::Partial };
    report.snapshot = Some(saved.id.clone());
    (report.files, report.bytes, report.bytes_added) = (saved.files, saved.bytes, saved.added);
}
