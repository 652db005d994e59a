//! A drill: the newest snapshot of a stack is restored into scratch space and compared, its dumps are loaded into
//! throw-away databases, a probe looks at it, and everything is removed again. What runs is not touched.

use std::path::Path;
use std::time::Duration;

use crate::decide::backup::drill as verdict;
use crate::decide::backup::load::{self, Roles, Way};
use crate::decide::compose::Extension;
use crate::decide::fault::{Code, Fault};
use crate::decide::report;
use crate::model::Applied;
use crate::model::backup::{Dump, Job, JobEnd, JobReport, Repository};
use crate::runs::backup::account;
use crate::runs::backup::known::{Known, known};
use crate::runs::backup::scratch::{self, Taken};
use crate::runs::backup::snapshot::Outcome;
use crate::runs::backup::sources::plan;
use crate::world::World;
use crate::world::drill::{Of, Once};
use crate::world::restic::Logins;
use crate::world::restic::order::Progress;

/// How long a dump that is a file may be looked at.
const READING: Duration = Duration::from_mins(60);
/// How long a probe may take.
const PROBING: Duration = Duration::from_mins(15);
/// Where a probe finds what was restored.
const RESTORED: &str = "/restored";

/// What became of one stack.
#[derive(Debug)]
pub struct Drilled {
    /// As it is reported.
    pub report: JobReport,
    /// What was proven besides the files, and what could not be: a line each.
    pub lines: Vec<String>,
    /// Why it is not proven.
    pub fault: Option<Fault>,
}

/// Which stacks are drilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Those that a person wants.
    Now,
    /// Those of them whose time has come.
    IfDue,
}

/// Drills the stacks, one after the other. What is in the way of one does not keep the others from theirs.
pub async fn drill(
    world: &impl World,
    only: Option<&str>,
    when: When,
    hear: &mut dyn FnMut(&str, Progress),
) -> Result<Vec<Drilled>, Fault> {
    let known = known(world)?;
    let _lock = world.lock_backup()?;
    world.sweep_drills().await?;
    let mut stacks = known.stacks(only)?;
    if when == When::IfDue {
        let due = account::due(world, only)?;
        let is_due = |stack: &str| due.iter().any(|due| due.job == Job::Drill && due.stack.as_deref() == Some(stack));
        stacks.retain(|stack, _| is_due(stack));
    }
    account::begin(world, &known)?;
    let run = report::name(world.now(), std::process::id());
    let mut all = Vec::new();
    for (stack, applied) in stacks {
        let drilled = one(world, &known, (stack, applied), hear).await;
        account::enter(world, &run, &drilled.outcome());
        all.push(drilled);
        if world.stopping() {
            break;
        }
    }
    if !all.is_empty() {
        account::announce(world, &run);
    }
    Ok(all)
}

/// Drills one stack, for who holds the lock of backups. From the first of the repositories that are known: a drill proves one
/// way back, and this is the one that a restore takes.
pub async fn one(
    world: &impl World,
    known: &Known,
    (stack, applied): (&str, &Applied),
    hear: &mut dyn FnMut(&str, Progress),
) -> Drilled {
    let began = world.now();
    let mut found = Found::default();
    let repository = known.backups.repositories.first();
    let proven = match known.repository(None) {
        Ok(repository) => Drill { world, known, repository, stack, applied }.prove(&mut found, hear).await,
        Err(fault) => Err(fault),
    };
    let cleared = world.sweep_drills().await;
    let stopped = proven.as_ref().err().filter(|fault| fault.code == Code::Stopped).cloned();
    found.problems.extend(proven.err());
    found.problems.extend(cleared.err());
    let Found { snapshot, files, bytes, lines, problems } = found;
    let unproven = || verdict::unproven(stack, snapshot.as_deref(), &problems);
    let fault = stopped.or_else(|| (!problems.is_empty()).then(unproven));
    let report = JobReport {
        job: Job::Drill,
        repository: repository.map(|repository| repository.name.clone()).unwrap_or_default(),
        stack: Some(stack.to_owned()),
        began,
        ended: world.now(),
        end: if problems.is_empty() { JobEnd::Done } else { JobEnd::Failed },
        problems: problems.iter().map(verdict::problem).collect(),
        snapshot,
        files,
        bytes,
        bytes_added: 0,
    };
    Drilled { report, lines, fault }
}

impl Drilled {
    /// As it is entered into the account.
    pub fn outcome(&self) -> Outcome {
        Outcome { report: self.report.clone(), fault: self.fault.clone(), notes: self.lines.clone() }
    }
}

/// The drill of one stack.
struct Drill<'a, W> {
    world: &'a W,
    known: &'a Known,
    repository: &'a Repository,
    stack: &'a str,
    applied: &'a Applied,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    snapshot: Option<String>,
    files: u64,
    bytes: u64,
    lines: Vec<String>,
    problems: Vec<Fault>,
}

impl<W: World> Drill<'_, W> {
    /// From the listing to the probe; what is found on the way is kept also if it breaks off.
    async fn prove(&self, found: &mut Found, hear: &mut dyn FnMut(&str, Progress)) -> Result<(), Fault> {
        let Self { world, known, repository, stack, .. } = *self;
        let snapshots = scratch::list(world, known, repository).await?;
        let newest = scratch::newest(&snapshots, &world.settings().host, stack).ok_or_else(|| {
            let what = format!("{} has no snapshot of {stack} in which nothing is missing", repository.name);
            Fault::new(Code::DrillFailed, what)
        })?;
        found.snapshot = Some(newest.id.clone());
        let plan = plan(world, stack, self.applied);
        let is_loaded = |dump: &Dump| matches!(load::way(dump), Way::Server(_));
        let part = |path| Taken { repository, stack, snapshot: &newest.id, path };
        let dumps = match plan.dumps.iter().any(is_loaded) {
            true => scratch::measure(world, known, &part(Some(scratch::dumps_of(stack)))).await?.bytes,
            false => 0,
        };
        scratch::admit(world, &format!("a drill of {stack}"), newest.bytes.unwrap_or(0), dumps).await?;

        let restored = world.open_scratch(stack)?.join("restored");
        let filled = scratch::fill(world, known, &part(None), &restored, hear).await?;
        (found.files, found.bytes) = (filled.files, filled.bytes);
        found.problems.extend(scratch::losses(&filled));
        self.dumps((&plan.dumps, &known.logins(&plan)?), &restored, found).await?;
        self.probe(&restored, found).await
    }

    /// Loads each dump; what is wrong with one does not keep the others from being tried.
    async fn dumps(
        &self,
        (dumps, logins): (&[Dump], &Logins),
        restored: &Path,
        found: &mut Found,
    ) -> Result<(), Fault> {
        let base = restored.join("dumps").join(self.stack);
        let files = self.world.files(&base)?;
        for dump in dumps {
            if self.world.stopping() {
                return Err(Fault::new(Code::Stopped, "moorline was asked to stop"));
            }
            match self.dump((dump, logins), &base, &scratch::of_dump(dump, &files)).await {
                Ok(line) => found.lines.push(line),
                Err(fault) if fault.code == Code::Stopped => return Err(fault),
                Err(fault) => found.problems.push(fault),
            }
        }
        Ok(())
    }

    async fn dump(&self, (dump, logins): (&Dump, &Logins), base: &Path, files: &[String]) -> Result<String, Fault> {
        let Self { world, stack, .. } = *self;
        load::is_whole(dump, files).map_err(|why| Fault::new(Code::DrillFailed, why))?;
        let secrets: Vec<&str> = self.known.secrets.values().collect();
        match load::way(dump) {
            Way::Unknown => return Ok(verdict::not_loaded(dump)),
            Way::File(command) => {
                let once = Once {
                    what: format!("reading dump {}", dump.to),
                    image: Of::Service(dump.service.clone()),
                    command,
                    reads: (base.join(&dump.to), load::FILE),
                    limit: READING,
                };
                world.run_once(stack, &once, &secrets).await?;
            }
            Way::Server(server) => {
                let container = world.start_like(stack, &dump.service, &server, &secrets).await?;
                let password = dump.password.as_ref().and_then(|name| logins.get(name));
                for load in load::loads(dump, files) {
                    let from = base.join(&load.from);
                    world.load(&container, &load, (&from, Roles::AsDumped), password, &secrets).await?;
                }
                world.end_container(stack, &container).await?;
            }
        }
        Ok(format!("dump {} was loaded", dump.to))
    }

    async fn probe(&self, restored: &Path, found: &mut Found) -> Result<(), Fault> {
        let extension = Extension::read(&self.applied.model.extension).unwrap_or_default();
        let Some(probe) = extension.drill.probe else { return Ok(()) };
        let secrets: Vec<&str> = self.known.secrets.values().collect();
        self.world.fetch_image(self.stack, &probe.image, self.known.secrets.logins()).await?;
        let once = Once {
            what: "the probe".to_owned(),
            image: Of::Image(probe.image),
            command: probe.command,
            reads: (restored.to_owned(), RESTORED),
            limit: PROBING,
        };
        self.world.run_once(self.stack, &once, &secrets).await?;
        found.lines.push("the probe ended with 0".to_owned());
        Ok(())
    }
}
