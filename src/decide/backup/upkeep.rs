//! Decides about upkeep: which share of the data is read, what must be there before anything is removed, and what of it
//! goes into the account.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::decide::backup::logbook;
use crate::model::backup::{Every, Job, JobEnd, JobReport, Logbook};

/// Within so many days everything in a repository is read once.
const ROUND: i64 = 91;
const DAY: i64 = 24 * 60 * 60;

/// Which share of the data is read at `now`, from 0, and of how many: the next one each time that a check is due.
pub fn share(every: Every, now: Timestamp) -> (u32, u32) {
    let days = i64::from(every.days().unwrap_or(7));
    let of = (ROUND / days).max(1);
    let number = now.as_second().div_euclid(days * DAY).rem_euclid(of);
    (u32::try_from(number).unwrap_or_default(), u32::try_from(of).unwrap_or(1))
}

/// What a host knows of the snapshots in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The last good one of each stack, by id.
    pub known: BTreeSet<String>,
    /// How many there were after the last forget.
    pub at_least: u64,
}

/// What the account says that a repository must hold: it is the one witness that does not lie in the repository.
pub fn expected(logbook: &Logbook, repository: &str) -> Expected {
    let entries = || logbook.entries.values().filter(|entry| entry.repository == repository);
    let backups = entries().filter(|entry| entry.job == Job::Backup);
    let known = backups.filter_map(|entry| entry.good.as_ref()?.snapshot.clone()).collect();
    let last = entries().filter(|entry| entry.job == Job::Prune).find_map(|entry| entry.last.as_ref());
    let at_least = last.filter(|last| last.end == JobEnd::Done).map_or(0, |last| last.files);
    Expected { known, at_least }
}

/// What is not listed though it should be, in words.
pub fn lost(expected: &Expected, listed: &BTreeSet<&str>) -> Option<String> {
    if let Some(id) = expected.known.iter().find(|id| !listed.contains(id.as_str())) {
        let short = id.get(..8).unwrap_or(id);
        return Some(format!("snapshot {short}, the last good one of a stack, is not listed any more"));
    }
    let count = listed.len() as u64;
    let at_least = expected.at_least;
    (count < at_least).then(|| format!("{count} snapshots are listed, and there were {at_least}"))
}

/// Enters what a night did besides what was due. Where it went well, it does not count as the prune or the check that is due
/// once a week; it only takes a failure back in which nothing had been read or removed, such as that of a server that was away.
pub fn enter(logbook: &mut Logbook, report: &JobReport) {
    if report.end != JobEnd::Done {
        return logbook::record(logbook, report);
    }
    let is_same = |entry: &&mut crate::model::backup::Entry| {
        (entry.job, &entry.repository, &entry.stack) == (report.job, &report.repository, &report.stack)
    };
    if let Some(entry) = logbook.entries.values_mut().find(is_same) {
        let stays = entry.last.as_ref().is_some_and(|last| last.end != JobEnd::Done && last.bytes > 0);
        if !stays {
            entry.last = Some(report.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backup::Entry;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + day * DAY).unwrap()
    }

    fn report(job: Job, end: JobEnd, bytes: u64) -> JobReport {
        JobReport {
            job,
            repository: "main".into(),
            stack: (job == Job::Backup).then(|| "web".into()),
            began: at(0),
            ended: at(0),
            end,
            problems: Vec::new(),
            snapshot: Some("1980cc6b00".into()),
            files: 5,
            bytes,
            bytes_added: 0,
        }
    }

    fn logbook() -> Logbook {
        let mut logbook = Logbook::default();
        for job in [Job::Backup, Job::Check, Job::Prune] {
            let stack = report(job, JobEnd::Done, 0).stack;
            let repository = "main".to_owned();
            let entry = Entry { job, repository, stack, since: at(0), fresh_s: 1, failures: 0, last: None, good: None };
            let key = format!("{}/main/{}", job.name(), entry.stack.clone().unwrap_or_default());
            logbook.entries.insert(key, entry);
        }
        logbook
    }

    #[test]
    fn each_due_check_reads_the_next_share_and_a_quarter_of_a_year_reads_all() {
        for (every, step, expected) in [(Every::Daily, 1, 91), (Every::Weekly, 7, 13), (Every::Monthly, 30, 3)] {
            let of = share(every, at(0)).1;
            assert_eq!(of, expected);
            let read: BTreeSet<u32> = (0..i64::from(of)).map(|time| share(every, at(time * step)).0).collect();
            assert_eq!(read.len(), of as usize, "{every:?}");
        }
        assert_eq!(share(Every::Never, at(0)), share(Every::Weekly, at(0)));
    }

    #[test]
    fn what_the_account_knows_must_be_listed_before_anything_is_removed() {
        let mut logbook = logbook();
        assert_eq!(expected(&logbook, "main"), Expected::default());
        logbook::record(&mut logbook, &report(Job::Backup, JobEnd::Done, 0));
        enter(&mut logbook, &report(Job::Prune, JobEnd::Done, 0));
        let expected = expected(&logbook, "main");
        assert_eq!(expected.at_least, 5);
        let listed = |ids: &[&'static str]| ids.iter().copied().collect::<BTreeSet<_>>();
        let words = lost(&expected, &listed(&[])).unwrap();
        assert!(words.starts_with("snapshot 1980cc6b, the last good one"), "{words}");
        let words = lost(&expected, &listed(&["1980cc6b00", "2"])).unwrap();
        assert_eq!(words, "2 snapshots are listed, and there were 5");
        assert_eq!(lost(&expected, &listed(&["1980cc6b00", "2", "3", "4", "5"])), None);
    }

    #[test]
    fn a_good_night_is_no_good_prune_and_takes_no_found_damage_back() {
        let mut logbook = logbook();
        let last = |logbook: &Logbook| {
            let entry = &logbook.entries["check/main/"];
            (entry.last.as_ref().map(|last| last.end), entry.good.is_some())
        };
        let fine = report(Job::Check, JobEnd::Done, 0);
        enter(&mut logbook, &fine);
        assert_eq!(last(&logbook), (Some(JobEnd::Done), false));
        enter(&mut logbook, &report(Job::Check, JobEnd::Failed, 0));
        assert_eq!(last(&logbook), (Some(JobEnd::Failed), false));
        enter(&mut logbook, &fine);
        assert_eq!(last(&logbook), (Some(JobEnd::Done), false), "the server is back");
        logbook::record(&mut logbook, &report(Job::Check, JobEnd::Failed, 9));
        enter(&mut logbook, &fine);
        assert_eq!(last(&logbook), (Some(JobEnd::Failed), false), "what was read was damaged");
        logbook::record(&mut logbook, &report(Job::Check, JobEnd::Done, 9));
        assert_eq!(last(&logbook), (Some(JobEnd::Done), true));
    }
}
