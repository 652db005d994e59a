//! Keeps account of jobs: what a host must have, what it has, what is too old, and what the monitors are told.
//!
//! It looks at the age of the last good one and not at runs: a schedule that never fires fails nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::decide::push::Status;
use crate::decide::schedule::show_duration;
use crate::model::backup::{BackupStatus, Backups, Deletes, Entry, Every, Job, JobEnd, JobReport, Keep, Logbook};

/// How old the last good snapshot of a stack may be: a night, and two hours for a night that takes longer.
pub const FRESH: Duration = Duration::from_hours(26);
/// How long a restore stays a proof.
pub const PROVEN: Duration = Duration::from_hours(45 * 24);
/// How much later than planned work on a repository may be done.
const GRACE: Duration = Duration::from_hours(48);

/// Makes the account of what this host must have agree with what the repository says now.
pub fn expect(logbook: &mut Logbook, backups: &Backups, stacks: &[String], now: Timestamp) {
    logbook.schedule = Some(backups.schedule());
    let mut before = std::mem::take(&mut logbook.entries);
    let mut want = |job: Job, repository: &str, stack: Option<&String>, fresh: Duration| {
        let key = key(job, repository, stack.map(String::as_str));
        let known = before.remove(&key).map(|entry| Entry { fresh_s: fresh.as_secs(), ..entry });
        let entry = known.unwrap_or_else(|| Entry {
            job,
            repository: repository.to_owned(),
            stack: stack.cloned(),
            since: now,
            fresh_s: fresh.as_secs(),
            failures: 0,
            last: None,
            good: None,
        });
        logbook.entries.insert(key, entry);
    };
    for repository in &backups.repositories {
        stacks.iter().for_each(|stack| want(Job::Backup, &repository.name, Some(stack), FRESH));
        let late = |days: u32| Duration::from_hours(24 * u64::from(days)) + GRACE;
        if let Some(days) = backups.check.days() {
            want(Job::Check, &repository.name, None, late(days));
        }
        if repository.deletes == Deletes::Here && backups.keep != Keep::default() {
            want(Job::Prune, &repository.name, None, late(7));
        }
    }
    // A drill proves the way back, and one way back is enough.
    if let (true, Some(repository)) = (backups.drill != Every::Never, backups.repositories.first()) {
        stacks.iter().for_each(|stack| want(Job::Drill, &repository.name, Some(stack), PROVEN));
    }
}

/// Enters what a job did. What nobody expects, such as a stack that has left meanwhile, is not entered.
pub fn record(logbook: &mut Logbook, report: &JobReport) {
    let key = key(report.job, &report.repository, report.stack.as_deref());
    let Some(entry) = logbook.entries.get_mut(&key) else { return };
    let failed_before = entry.last.as_ref().is_some_and(|last| last.end != JobEnd::Done);
    if report.end == JobEnd::Done {
        entry.failures = if failed_before { entry.failures } else { 0 };
        entry.good = Some(report.clone());
    } else {
        entry.failures = if failed_before { entry.failures.saturating_add(1) } else { 1 };
    }
    entry.last = Some(report.clone());
}

/// After how many failures this report says that it works again; none if it does not, or nothing had failed.
pub fn recovered(logbook: &Logbook, report: &JobReport) -> Option<u32> {
    let entry = logbook.entries.get(&key(report.job, &report.repository, report.stack.as_deref()))?;
    let failed_before = entry.last.as_ref().is_some_and(|last| last.end != JobEnd::Done);
    (failed_before && report.end == JobEnd::Done).then_some(entry.failures)
}

fn key(job: Job, repository: &str, stack: Option<&str>) -> String {
    format!("{}/{repository}/{}", job.name(), stack.unwrap_or_default())
}

/// What a person must look at; none if all is well, or nothing is late yet.
pub fn problem(entry: &Entry, now: Timestamp) -> Option<String> {
    let what = subject(entry.job, entry.stack.as_deref(), &entry.repository);
    let last = entry.last.as_ref();
    let cause = last.filter(|last| last.end != JobEnd::Done).map(|last| {
        let first = last.problems.first().map_or("no cause was recorded", String::as_str);
        let more = last.problems.len().saturating_sub(1);
        if more == 0 { first.to_owned() } else { format!("{first} (and {more} more)") }
    });
    let old = age(entry.good.as_ref().map_or(entry.since, |good| good.began), now);
    let is_old = old > Duration::from_secs(entry.fresh_s);
    let tail = cause.map(|cause| format!(": {cause}"));
    let tail_or = |otherwise: &str| tail.clone().unwrap_or_else(|| otherwise.to_owned());
    match (last.map(|last| last.end), is_old, &entry.good) {
        (_, true, Some(_)) => Some(format!("{what}: the last good one is {} old{}", rough(old), tail_or(""))),
        (_, true, None) => {
            let tail = tail_or(": it was never tried");
            Some(format!("{what}: wanted for {}, and never good{tail}", rough(old)))
        }
        (Some(JobEnd::Partial), ..) => Some(format!("{what} is partial{}", tail_or(""))),
        (Some(JobEnd::Failed | JobEnd::OutOfTime), ..) => Some(format!("{what} failed{}", tail_or(""))),
        (Some(JobEnd::Done) | None, ..) => None,
    }
}

/// `backup of nextcloud to box`.
pub fn subject(job: Job, stack: Option<&str>, repository: &str) -> String {
    match (job, stack) {
        (Job::Backup, Some(stack)) => format!("backup of {stack} to {repository}"),
        (_, Some(stack)) => format!("{} of {stack} from {repository}", job.name()),
        (_, None) => format!("{} of {repository}", job.name()),
    }
}

/// The lines of the status page.
pub fn statuses(logbook: &Logbook, now: Timestamp) -> Vec<BackupStatus> {
    let status = |entry: &Entry| BackupStatus {
        job: entry.job,
        repository: entry.repository.clone(),
        stack: entry.stack.clone(),
        good: entry.good.as_ref().map(|good| good.began),
        problem: problem(entry, now),
    };
    logbook.entries.values().map(status).collect()
}

/// What the monitor of a job is told, each time that anything is told at all: a host that is dead says nothing, and is
/// down for that. Nothing while all there is to say is that nothing is late yet.
pub fn told(logbook: &Logbook, job: Job, now: Timestamp) -> Option<(Status, String)> {
    let entries: Vec<&Entry> = logbook.entries.values().filter(|entry| monitor(entry.job) == job).collect();
    let problems: Vec<String> = entries.iter().filter_map(|entry| problem(entry, now)).collect();
    if let Some(first) = problems.first() {
        let more = problems.len() - 1;
        let text = if more == 0 { first.clone() } else { format!("{first}; and {more} more of {}", entries.len()) };
        return Some((Status::Down, text));
    }
    let good: Vec<&JobReport> = entries.iter().filter_map(|entry| entry.good.as_ref()).collect();
    let oldest = good.iter().map(|good| good.began).min()?;
    let added: u64 = good.iter().map(|good| good.bytes_added).sum();
    let recovered = entries.iter().map(|entry| entry.failures).max().filter(|failures| *failures > 0);
    let again = recovered.map(|failures| format!(" again after {failures} failed")).unwrap_or_default();
    let mut text =
        format!("ok{again}: {} of {}, the oldest {} ago", good.len(), entries.len(), rough(age(oldest, now)));
    if job == Job::Backup {
        text.push_str(&format!(", {} MiB added", added >> 20));
    }
    Some((Status::Up, text))
}

/// The job whose monitor is told of this one. A repository that is not pruned grows until it is full; there is no monitor
/// of its own for that.
fn monitor(job: Job) -> Job {
    match job {
        Job::Check | Job::Prune => Job::Check,
        Job::Backup | Job::Drill => job,
    }
}

/// How long the last jobs of this kind took together, in milliseconds.
pub fn took_ms(logbook: &Logbook, job: Job) -> Option<u64> {
    let last = logbook.entries.values().filter(|entry| entry.job == job).filter_map(|entry| entry.last.as_ref());
    let took = last.map(|last| last.ended.duration_since(last.began)).reduce(|sum, next| sum + next)?;
    u64::try_from(took.as_millis()).ok()
}

pub(super) fn age(then: Timestamp, now: Timestamp) -> Duration {
    // From the future after a clock was set back: as old as can be told, which is not at all.
    Duration::try_from(now.duration_since(then).max(SignedDuration::ZERO)).unwrap_or_default()
}

/// In whole hours, or minutes: seconds would be noise.
pub(super) fn rough(duration: Duration) -> String {
    let unit = if duration >= Duration::from_hours(1) { 3600 } else { 60 };
    show_duration(Duration::from_secs(duration.as_secs() / unit * unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backup::{Limits, Place, Repository};

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + hour * 3600).unwrap()
    }

    fn backups() -> Backups {
        let repository = |name: &str| Repository {
            name: name.into(),
            place: Place::Directory(format!("/srv/{name}").into()),
            password: "P".into(),
            deletes: Deletes::Here,
        };
        Backups {
            repositories: vec![repository("box"), repository("disk")],
            at: jiff::civil::time(3, 0, 0, 0),
            zone: None,
            keep: Keep::default(),
            check: Every::Weekly,
            drill: Every::Monthly,
            budget: Duration::from_hours(6),
            limits: Limits::default(),
        }
    }

    fn report(job: Job, stack: Option<&str>, hour: i64, end: JobEnd, problems: &[&str]) -> JobReport {
        JobReport {
            job,
            repository: "box".into(),
            stack: stack.map(str::to_owned),
            began: at(hour),
            ended: at(hour),
            end,
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
            snapshot: None,
            files: 1,
            bytes: 1,
            bytes_added: 3 << 20,
        }
    }

    /// One repository, one stack, no checks and drills.
    fn small() -> Logbook {
        let mut backups = backups();
        backups.repositories.truncate(1);
        (backups.check, backups.drill) = (Every::Never, Every::Never);
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups, &["web".into()], at(0));
        logbook
    }

    #[test]
    fn every_stack_is_expected_in_every_repository_and_leaves_with_its_stack() {
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups(), &["db".into(), "web".into()], at(0));
        let keys: Vec<&String> = logbook.entries.keys().collect();
        assert_eq!(
            keys,
            [
                "backup/box/db",
                "backup/box/web",
                "backup/disk/db",
                "backup/disk/web",
                "check/box/",
                "check/disk/",
                "drill/box/db",
                "drill/box/web"
            ]
        );
        record(&mut logbook, &report(Job::Backup, Some("web"), 1, JobEnd::Done, &[]));
        let before = logbook.clone();
        expect(&mut logbook, &backups(), &["db".into(), "web".into()], at(9));
        assert_eq!(logbook, before, "nothing is forgotten, and no clock begins anew");
        expect(&mut logbook, &backups(), &["db".into()], at(9));
        assert_eq!(logbook.entries.len(), 5);
    }

    #[test]
    fn the_age_of_the_last_good_one_counts_and_not_the_runs() {
        let mut logbook = small();
        assert_eq!(told(&logbook, Job::Backup, at(20)), None, "nothing to say at the start");
        let (status, text) = told(&logbook, Job::Backup, at(27)).unwrap();
        assert_eq!(
            (status, text.as_str()),
            (Status::Down, "backup of web to box: wanted for 1d3h, and never good: it was never tried")
        );
        record(&mut logbook, &report(Job::Backup, Some("web"), 27, JobEnd::Done, &[]));
        let (status, text) = told(&logbook, Job::Backup, at(32)).unwrap();
        assert_eq!((status, text.as_str()), (Status::Up, "ok: 1 of 1, the oldest 5h ago, 3 MiB added"));
        assert_eq!(told(&logbook, Job::Backup, at(53)).unwrap().0, Status::Up);
        let (status, text) = told(&logbook, Job::Backup, at(54)).unwrap();
        assert_eq!((status, text.as_str()), (Status::Down, "backup of web to box: the last good one is 1d3h old"));
        assert_eq!(told(&logbook, Job::Check, at(54)), None);
    }

    #[test]
    fn a_failure_is_down_at_once_with_its_first_cause_and_the_way_up_is_announced() {
        let mut logbook = small();
        let done = |hour| report(Job::Backup, Some("web"), hour, JobEnd::Done, &[]);
        record(&mut logbook, &done(1));
        let partial = report(Job::Backup, Some("web"), 2, JobEnd::Partial, &["/data/x: permission denied", "/data/y"]);
        record(&mut logbook, &partial);
        let (status, text) = told(&logbook, Job::Backup, at(3)).unwrap();
        assert_eq!(status, Status::Down);
        assert_eq!(text, "backup of web to box is partial: /data/x: permission denied (and 1 more)");
        record(&mut logbook, &report(Job::Backup, Some("web"), 3, JobEnd::Failed, &["storage is full"]));
        let (_, text) = told(&logbook, Job::Backup, at(40)).unwrap();
        assert_eq!(text, "backup of web to box: the last good one is 1d15h old: storage is full");
        record(&mut logbook, &done(41));
        let (status, text) = told(&logbook, Job::Backup, at(41)).unwrap();
        assert_eq!(
            (status, text.as_str()),
            (Status::Up, "ok again after 2 failed: 1 of 1, the oldest 0s ago, 3 MiB added")
        );
        record(&mut logbook, &done(42));
        assert_eq!(told(&logbook, Job::Backup, at(42)).unwrap().1, "ok: 1 of 1, the oldest 0s ago, 3 MiB added");
    }

    #[test]
    fn one_late_stack_among_good_ones_is_named_and_a_clock_set_back_makes_nothing_late() {
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups(), &["db".into(), "web".into()], at(0));
        record(&mut logbook, &report(Job::Backup, Some("web"), 26, JobEnd::Done, &[]));
        let (_, text) = told(&logbook, Job::Backup, at(27)).unwrap();
        assert_eq!(text, "backup of db to box: wanted for 1d3h, and never good: it was never tried; and 2 more of 4");
        assert!(logbook.entries.values().all(|entry| problem(entry, at(-500)).is_none()));
    }

    #[test]
    fn a_drill_counts_for_45_days_and_a_stranger_is_not_entered() {
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups(), &["web".into()], at(0));
        record(&mut logbook, &report(Job::Drill, Some("web"), 0, JobEnd::Done, &[]));
        assert_eq!(told(&logbook, Job::Drill, at(45 * 24)).unwrap().0, Status::Up);
        let (status, text) = told(&logbook, Job::Drill, at(45 * 24 + 1)).unwrap();
        assert_eq!((status, text.as_str()), (Status::Down, "drill of web from box: the last good one is 45d1h old"));
        record(&mut logbook, &report(Job::Drill, Some("gone"), 0, JobEnd::Done, &[]));
        assert!(!logbook.entries.contains_key("drill/box/gone"));
    }

    #[test]
    fn what_thins_its_repositories_must_prune_them_and_the_monitor_of_checks_hears_of_it() {
        let mut backups = backups();
        backups.repositories[1].deletes = Deletes::Elsewhere;
        backups.keep.daily = 7;
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups, &[], at(0));
        assert!(logbook.entries.contains_key("prune/box/") && !logbook.entries.contains_key("prune/disk/"));
        record(&mut logbook, &report(Job::Prune, None, 1, JobEnd::Failed, &["storage is full"]));
        let (status, text) = told(&logbook, Job::Check, at(2)).unwrap();
        assert_eq!((status, text.as_str()), (Status::Down, "prune of box failed: storage is full"));
    }

    #[test]
    fn the_first_one_that_works_again_says_after_how_many_failures() {
        let mut logbook = small();
        let report = |end| report(Job::Backup, Some("web"), 1, end, &[]);
        assert_eq!(recovered(&logbook, &report(JobEnd::Done)), None, "nothing had failed");
        record(&mut logbook, &report(JobEnd::Failed));
        record(&mut logbook, &report(JobEnd::OutOfTime));
        assert_eq!(recovered(&logbook, &report(JobEnd::Partial)), None);
        assert_eq!(recovered(&logbook, &report(JobEnd::Done)), Some(2));
        record(&mut logbook, &report(JobEnd::Done));
        assert_eq!(recovered(&logbook, &report(JobEnd::Done)), None);
    }
}
