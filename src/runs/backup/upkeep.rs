//! Upkeep of a backup repository: forget what `keep` does not keep, prune what no snapshot needs, check what is there.
//! Whoever calls this holds the lock of backups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::backup::keep::{self, Dated, Made, Why, forgotten};
use crate::decide::backup::upkeep::{self, Expected};
use crate::decide::fault::{Code, Fault};
use crate::model::backup::{Deletes, Every, Job, JobEnd, JobReport, Keep, Repository};
use crate::runs::backup::known::Known;
use crate::runs::backup::snapshot::Outcome;
use crate::world::World;
use crate::world::restic::order::{Line, Progress, Snapshot, Task};
use crate::world::restic::upkeep::{Check, Checked, Data, Finding, Forget, Prune, Pruned, Severity, Surveyed, Way};
use crate::world::restic::{self, Access};

/// How long a pack stays after it was marked. No backup takes that long, so what one is about to need is still there.
pub const KEEP_MARKED: Duration = Duration::from_hours(72);
/// The tags of our own.
const OURS: &str = "moorline";
const BEFORE_DEPLOY: &str = "pre-deploy";
pub(super) const PARTIAL: &str = "partial";
/// How many findings are named in a fault.
const NAMED: usize = 20;

/// One backup repository, and by which rules it is kept.
#[derive(Debug)]
pub struct Site {
    /// The repository.
    pub repository: Repository,
    /// What opens it.
    pub access: Access,
    /// What is kept.
    pub keep: Keep,
    /// How often a share of its data is read.
    pub check: Every,
}

impl Site {
    /// As this host knows it.
    pub fn of(known: &Known, repository: &Repository) -> Result<Self, Fault> {
        let access = known.access(repository)?;
        let (keep, check) = (known.backups.keep, known.backups.check);
        Ok(Self { repository: repository.clone(), access, keep, check })
    }
}

/// What is done when snapshots are missing that this host knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is removed: it may be that the storage lost them, or shows another directory.
    Refuse,
    /// A person says that somebody removed them on purpose.
    Accept,
}

/// What goes.
#[derive(Debug)]
pub struct Plan {
    /// All snapshots in the repository, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// The ids of those that go, and why.
    pub gone: BTreeMap<String, Why>,
    /// What else lies there.
    pub surveyed: Surveyed,
}

/// What a person hears meanwhile.
#[derive(Debug)]
pub enum News<'a> {
    /// Which snapshots go, before they do.
    Plan(&'a Plan),
    /// What was pruned, or would be.
    Pruned(&'a Pruned),
    /// What a check found.
    Finding(&'a Finding),
    /// What a check came to.
    Checked(&'a Checked),
    /// How far it is.
    Progress(Progress),
}

/// How much of the data a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// None.
    Nothing,
    /// The share whose turn it is.
    Share,
    /// All of it.
    All,
}

/// Whoever listens.
pub type Hear<'a> = dyn FnMut(News<'_>) + 'a;

/// Forgets what `keep` does not keep, then marks what no snapshot needs, and removes what has been marked for 72 hours.
/// None where this host does not delete. Whoever calls this enters it.
pub async fn tidy(
    world: &impl World,
    known: &Known,
    repository: &Repository,
    missing: Missing,
    hear: &mut Hear<'_>,
) -> Option<Outcome> {
    if repository.deletes == Deletes::Elsewhere {
        return None;
    }
    let began = world.now();
    let work = async {
        let site = Site::of(known, repository)?;
        forget_at(world, &site, missing, hear).await?;
        let pruned = prune_at(world, &site, missing, Way::Act, hear).await?;
        Ok(Done { files: pruned.snapshots, bytes: pruned.freed.bytes })
    };
    let done = work.await;
    Some(finish(world, Job::Prune, repository, began, done))
}

/// Looks whether everything is there that the snapshots need, and reads as much of it as is asked for. Whoever calls this
/// enters it.
pub async fn check(
    world: &impl World,
    known: &Known,
    repository: &Repository,
    reads: Reads,
    hear: &mut Hear<'_>,
) -> Outcome {
    let began = world.now();
    let work = async { check_at(world, &Site::of(known, repository)?, reads, hear).await };
    let (done, damage) = match work.await {
        Ok((checked, findings)) => {
            let problems = problems(&checked, &findings);
            let fault = damage(repository, &checked, &problems).map(|fault| (fault, problems));
            (Ok(Done { files: checked.packs, bytes: checked.bytes }), fault)
        }
        Err(fault) => (Err(fault), None),
    };
    let mut outcome = finish(world, Job::Check, repository, began, done);
    if let Some((fault, problems)) = damage {
        (outcome.report.end, outcome.report.problems, outcome.fault) = (JobEnd::Failed, problems, Some(fault));
    }
    outcome
}

/// What follows on the snapshots of a night in which no prune is due: `keep`, where this host deletes. It is entered here, for
/// it is not the prune that is due once a week: what goes well proves less.
pub async fn forget(
    world: &impl World,
    known: &Known,
    repository: &Repository,
    hear: &mut Hear<'_>,
) -> Option<Outcome> {
    if repository.deletes == Deletes::Elsewhere || known.backups.keep == Keep::default() {
        return None;
    }
    let began = world.now();
    let work = async { forget_at(world, &Site::of(known, repository)?, Missing::Refuse, hear).await };
    let done = work.await.map(|left| Done { files: left, bytes: 0 });
    let outcome = finish(world, Job::Prune, repository, began, done);
    Some(enter(world, outcome))
}

/// What follows on the snapshots of a night in which no check is due: a look whether everything is there. It is entered here,
/// as `forget` is.
pub async fn look_through(world: &impl World, known: &Known, repository: &Repository, hear: &mut Hear<'_>) -> Outcome {
    enter(world, check(world, known, repository, Reads::Nothing, hear).await)
}

/// What would go, and what would be freed, if it were done now.
pub async fn look(world: &impl World, site: &Site, missing: Missing, hear: &mut Hear<'_>) -> Result<(), Fault> {
    let plan = plan(world, site, missing).await?;
    hear(News::Plan(&plan));
    let without = plan.gone.into_keys().collect();
    prune_at(world, site, missing, Way::Look(without), hear).await.map(|_| ())
}

/// Forgets; how many snapshots are left.
pub async fn forget_at(world: &impl World, site: &Site, missing: Missing, hear: &mut Hear<'_>) -> Result<u64, Fault> {
    let plan = plan(world, site, missing).await?;
    hear(News::Plan(&plan));
    if plan.gone.is_empty() {
        return Ok(plan.snapshots.len() as u64);
    }
    // Written down before: a job that is killed in the middle must not look tomorrow as if the storage had lost them.
    let left = (plan.snapshots.len() - plan.gone.len()) as u64;
    let promised = finish(world, Job::Prune, &site.repository, world.now(), Ok(Done { files: left, bytes: 0 }));
    if let Some(fault) = enter(world, promised).fault {
        return Err(fault.at("nothing was removed"));
    }
    let task = Forget { host: world.settings().host.clone(), snapshots: plan.gone.into_keys().collect() };
    match world.work(&site.repository, &site.access, Task::Forget(task), &mut |_| ()).await? {
        Line::Forgotten(forgotten) => Ok(forgotten.left),
        _ => Err(restic::nonsense()),
    }
}

/// Prunes, or looks what that would do.
pub async fn prune_at(
    world: &impl World,
    site: &Site,
    missing: Missing,
    way: Way,
    hear: &mut Hear<'_>,
) -> Result<Pruned, Fault> {
    let Expected { known, at_least } = expected(world, &site.repository, missing)?;
    let task = Prune { known: known.into_iter().collect(), at_least, keep_s: KEEP_MARKED.as_secs(), way };
    let mut heard = |line: Line| {
        if let Line::Progress(progress) = line {
            hear(News::Progress(progress));
        }
    };
    match world.work(&site.repository, &site.access, Task::Prune(task), &mut heard).await? {
        Line::Pruned(pruned) => {
            hear(News::Pruned(&pruned));
            Ok(pruned)
        }
        _ => Err(restic::nonsense()),
    }
}

async fn check_at(
    world: &impl World,
    site: &Site,
    reads: Reads,
    hear: &mut Hear<'_>,
) -> Result<(Checked, Vec<Finding>), Fault> {
    let data = match reads {
        Reads::Nothing => Data::None,
        Reads::All => Data::All,
        Reads::Share => {
            let (number, of) = upkeep::share(site.check, world.now());
            Data::Share { number, of }
        }
    };
    let task = Task::Check(Check { data, cache: Some(world.settings().state.join("cache")) });
    let mut findings = Vec::new();
    let mut heard = |line: Line| match line {
        Line::Finding(finding) => {
            hear(News::Finding(&finding));
            if finding.severity == Severity::Error && findings.len() < NAMED {
                findings.push(finding);
            }
        }
        Line::Progress(progress) => hear(News::Progress(progress)),
        _ => {}
    };
    match world.work(&site.repository, &site.access, task, &mut heard).await? {
        Line::Checked(checked) => {
            hear(News::Checked(&checked));
            Ok((checked, findings))
        }
        _ => Err(restic::nonsense()),
    }
}

/// Lists the snapshots, and judges those that this program made for this host.
async fn plan(world: &impl World, site: &Site, missing: Missing) -> Result<Plan, Fault> {
    let mut snapshots = Vec::new();
    let mut heard = |line: Line| {
        if let Line::Snapshot(snapshot) = line {
            snapshots.push(snapshot);
        }
    };
    let said = world.work(&site.repository, &site.access, Task::Survey, &mut heard).await?;
    let Line::Surveyed(surveyed) = said else { return Err(restic::nonsense()) };
    let expected = expected(world, &site.repository, missing)?;
    let listed: BTreeSet<&str> = snapshots.iter().map(|snapshot| snapshot.id.as_str()).collect();
    if let Some(words) = upkeep::lost(&expected, &listed) {
        let name = &site.repository.name;
        return Err(Fault::new(
            Code::BackupDamaged,
            format!("snapshots are missing in the backup repository `{name}`"),
        )
        .because(words)
        .at("nothing was removed")
        .hint(
            "look on the storage where they are; if somebody removed them on purpose, \
                 `moorline prune --accept-missing`",
        ));
    }
    let host = &world.settings().host;
    let ours: Vec<Dated> = snapshots.iter().filter_map(|snapshot| dated(snapshot, host)).collect();
    let mut gone = forgotten(&ours, &site.keep, world.now());
    // What the account names as the last good one must be there tomorrow, too.
    gone.retain(|id, _| !expected.known.contains(id));
    Ok(Plan { snapshots, gone, surveyed })
}

/// A snapshot as `keep` judges it; none if this program did not make it, or not for this host.
fn dated(snapshot: &Snapshot, host: &str) -> Option<Dated> {
    let is_tagged = |tag: &str| snapshot.tags.iter().any(|own| own == tag);
    (snapshot.host == host && is_tagged(OURS)).then(|| Dated {
        id: snapshot.id.clone(),
        host: snapshot.host.clone(),
        label: snapshot.label.clone(),
        at: snapshot.time,
        local: snapshot.local,
        made: if is_tagged(BEFORE_DEPLOY) { Made::BeforeDeploy } else { Made::Regularly },
        extent: if is_tagged(PARTIAL) { keep::Extent::Partial } else { keep::Extent::Whole },
    })
}

fn expected(world: &impl World, repository: &Repository, missing: Missing) -> Result<Expected, Fault> {
    match missing {
        Missing::Refuse => Ok(upkeep::expected(&world.logbook()?, &repository.name)),
        Missing::Accept => Ok(Expected::default()),
    }
}

/// What stands in the report of a check.
fn problems(checked: &Checked, findings: &[Finding]) -> Vec<String> {
    let mut problems: Vec<String> = findings.iter().map(Finding::words).collect();
    let more = checked.errors - (findings.len() as u64).min(checked.errors);
    problems.extend((more > 0).then(|| format!("and {more} more")));
    if !checked.concerned.is_empty() {
        let ids: Vec<&str> = checked.concerned.iter().take(NAMED).filter_map(|id| id.get(..8)).collect();
        let rest = checked.concerned.len() - ids.len();
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        problems.push(format!("snapshots that need it: {}{rest}", ids.join(", ")));
    }
    problems
}

fn damage(repository: &Repository, checked: &Checked, problems: &[String]) -> Option<Fault> {
    let name = &repository.name;
    (checked.errors > 0).then(|| {
        let what = if checked.errors == 1 { "an error".to_owned() } else { format!("{} errors", checked.errors) };
        let fault =
            Fault::new(Code::BackupDamaged, format!("the check found {what} in the backup repository `{name}`"));
        let fault = problems.iter().fold(fault, Fault::at);
        fault.hint(
            "docs/repair.md says what is lost and what to type; until then `moorline backup` still adds snapshots",
        )
    })
}

/// What a job did, as it is reported.
struct Done {
    files: u64,
    bytes: u64,
}

fn finish(
    world: &impl World,
    job: Job,
    repository: &Repository,
    began: Timestamp,
    done: Result<Done, Fault>,
) -> Outcome {
    let (end, counts, fault) = match done {
        Ok(done) => (JobEnd::Done, done, None),
        Err(fault) => (JobEnd::Failed, Done { files: 0, bytes: 0 }, Some(fault)),
    };
    let problems = fault.iter().flat_map(|fault| std::iter::once(&fault.sentence).chain(&fault.because));
    let report = JobReport {
        job,
        repository: repository.name.clone(),
        stack: None,
        began,
        ended: world.now(),
        end,
        problems: problems.cloned().collect(),
        snapshot: None,
        files: counts.files,
        bytes: counts.bytes,
        bytes_added: 0,
    };
    Outcome { report, fault, notes: Vec::new() }
}

/// Enters what a night did besides what was due. An account that cannot be written is a fault of its own, unless there is one
/// already.
fn enter(world: &impl World, mut outcome: Outcome) -> Outcome {
    let entered = world.change_logbook(&mut |logbook| upkeep::enter(logbook, &outcome.report));
    if let Err(fault) = entered {
        outcome.fault.get_or_insert(fault);
    }
    outcome
}
