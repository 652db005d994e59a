//! `backup`: one snapshot of each stack in each backup repository. What this host accepted says where they are and what
//! goes in; nothing is fetched, deployed or stopped for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::decide::fault::{Code, Fault};
use crate::decide::render::Secrets;
use crate::decide::{backup, compose, fleet};
use crate::model::backup::{Backups, HostKey, Job, JobEnd, JobReport, Origin, Place, Repository, StackBackup};
use crate::model::{Applied, HostSpec, Ledger, Secret};
use crate::runs::{accept, prepare};
use crate::world::World;
use crate::world::restic::order::{self, First, Line, Progress, Saved, Source, Task};
use crate::world::restic::{self, Access, Restic};

/// What this host knows of its backups.
#[derive(Debug)]
pub struct Known {
    /// What the repository says of it.
    pub backups: Backups,
    secrets: Secrets,
    ledger: Ledger,
}

/// What became of one stack in one repository.
#[derive(Debug)]
pub struct Outcome {
    /// As it is reported.
    pub report: JobReport,
    /// Why there is no snapshot.
    pub fault: Option<Fault>,
}

/// Reads what the revision that this host runs says of backups, and opens its secrets.
pub fn known(world: &impl World) -> Result<Known, Fault> {
    let ledger = world.ledger()?;
    let Some(anchor) = &ledger.anchor else {
        return Err(unset("this host has not accepted any revision yet").hint("`moorline reconcile`"));
    };
    let revision = ledger.released().unwrap_or(&anchor.revision).clone();
    let verified = accept::verify(world, &ledger, &anchor.revision, Some(&anchor.first))?;
    let tree = accept::admit(world, &verified, &revision, &ledger)?;
    let spec: HostSpec = fleet::read(&tree, &world.settings().host)
        .map_err(|found| fleet::spec_invalid(found, tree.revision().short()))?;
    let (secrets, _) = prepare::open(world, &spec)?;
    let Some(backups) = spec.backups else {
        let host = &spec.name;
        return Err(unset(&format!("hosts/{host}/host.yaml says nothing of backups at {}", revision.short()))
            .hint("add `backup:` there: docs/repository.md"));
    };
    Ok(Known { backups, secrets, ledger })
}

fn unset(sentence: &str) -> Fault {
    Fault::new(Code::BackupUnset, sentence).at("no snapshot was written or read")
}

impl Known {
    /// What opens a repository.
    pub fn access(&self, repository: &Repository) -> Result<Access, Fault> {
        let secret = |name: &str| -> Result<Secret<String>, Fault> {
            let found = self.secrets.shared(name).cloned();
            found.ok_or_else(|| unset(&format!("`all.{name}` is not in the SOPS file")))
        };
        let password = secret(&repository.password)?;
        let Place::Sftp(sftp) = &repository.place else { return Ok(Access { password, key: None, host_key: None }) };
        let host_key = match &sftp.host_key {
            HostKey::StorageBox => String::new(),
            HostKey::Pinned(key) => key.clone(),
            HostKey::Named(name) => secret(name)?.expose().clone(),
        };
        Ok(Access { password, key: Some(secret(&sftp.key)?), host_key: Some(host_key) })
    }

    /// The repository of this name, or the first one.
    pub fn repository(&self, name: Option<&str>) -> Result<&Repository, Fault> {
        let all = &self.backups.repositories;
        let found = match name {
            Some(name) => all.iter().find(|repository| repository.name == name),
            None => all.first(),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|repository| repository.name.as_str()).collect();
            let name = name.unwrap_or_default();
            Fault::new(Code::UsageInvalid, format!("`{name}` is none of the backup repositories: {}", names.join(", ")))
        })
    }

    /// The stacks that were deployed here, or the one that a person named.
    fn stacks(&self, only: Option<&str>) -> Result<BTreeMap<&String, &Applied>, Fault> {
        let stacks = self.ledger.applied.iter().filter(|(stack, _)| only.is_none_or(|only| only == *stack));
        let stacks: BTreeMap<_, _> = stacks.collect();
        match only.filter(|_| stacks.is_empty()) {
            Some(only) => Err(Fault::new(Code::UsageInvalid, format!("stack `{only}` was not deployed on this host"))),
            None => Ok(stacks),
        }
    }
}

/// Makes the snapshots. What is in the way of one stack or repository does not keep the others from theirs.
pub async fn backup(
    world: &(impl World + Restic),
    only: Option<&str>,
    first: First,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Vec<Outcome>, Fault> {
    let known = known(world)?;
    let _lock = world.lock_backup()?;
    let mut outcomes = Vec::new();
    for (stack, applied) in known.stacks(only)? {
        let plan = plan(world, stack, applied);
        let sources = sources(world, &plan, applied).await;
        for repository in &known.backups.repositories {
            let began = world.now();
            let saved = match &sources {
                Ok(sources) => save(world, &known, repository, &plan, sources.clone(), first, hear).await,
                Err(fault) => Err(fault.clone()),
            };
            let mut report = JobReport {
                job: Job::Backup,
                repository: repository.name.clone(),
                stack: Some(stack.clone()),
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
    }
    Ok(outcomes)
}

fn plan(world: &impl World, stack: &str, applied: &Applied) -> StackBackup {
    let extension = compose::Extension::read(&applied.model.extension).unwrap_or_default();
    backup::choose(stack, &applied.model, &extension.backup, &world.settings().stack_directory(stack))
}

/// Where everything lies that goes into a snapshot of this stack, and where it goes.
async fn sources(world: &(impl World + Restic), plan: &StackBackup, applied: &Applied) -> Result<Vec<Source>, Fault> {
    let missing = |what: String| {
        Fault::new(Code::BackupSource, what)
            .at(format!("no snapshot of {} was written", plan.stack))
            .hint(format!("`moorline reconcile` brings {} up as it should be", plan.stack))
    };
    let good = world.good(&plan.stack, &applied.digest)?;
    let good = good.ok_or_else(|| missing(format!("what {} was made from is not kept on this host", plan.stack)))?;
    let mut sources = vec![Source { to: "/fleet".into(), from: world.lay_out(&good)?, below: PathBuf::new() }];
    let directory = world.settings().stack_directory(&plan.stack);
    for source in &plan.sources {
        sources.push(match &source.origin {
            Origin::Volume { key, name } => {
                let place = world.volume(name).await?;
                let from = place.ok_or_else(|| missing(format!("volume `{name}` of {} is not there", plan.stack)))?;
                Source { to: Path::new("/volumes").join(key), from, below: PathBuf::new() }
            }
            Origin::Path(path) => match path.strip_prefix(&directory) {
                // Containers may own parts of it, so nothing on the way below it is believed to be what it was.
                Ok(below) => {
                    Source { to: Path::new("/directory").join(below), from: directory.clone(), below: below.to_owned() }
                }
                Err(_) => Source {
                    to: Path::new("/paths").join(path.strip_prefix("/").unwrap_or(path)),
                    from: path.clone(),
                    below: PathBuf::new(),
                },
            },
        });
    }
    Ok(sources)
}

async fn save(
    world: &(impl World + Restic),
    known: &Known,
    repository: &Repository,
    plan: &StackBackup,
    sources: Vec<Source>,
    first: First,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Saved, Fault> {
    let settings = world.settings();
    let task = Task::Backup(order::Backup {
        host: settings.host.clone(),
        label: plan.stack.clone(),
        tags: vec!["moorline".to_owned()],
        sources,
        excludes: plan.excludes.clone(),
        cache: settings.state.join("cache"),
        first,
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
