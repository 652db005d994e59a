//! Decides when a night begins, and what is due in it. The timer only ticks; what the signed configuration says counts.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use crate::decide::ring::freeze;
use crate::decide::schedule::{self, Share};
use crate::model::backup::{Entry, Every, Job, JobEnd, Logbook, Schedule};

/// The hosts begin within this time after `at`, each at a moment of its own: a Storage Box takes ten connections.
const SPREAD: Duration = Duration::from_hours(1);
/// How early a check or drill may be: the night that is nearest to its day, also when that one began a little sooner.
const EARLY: SignedDuration = SignedDuration::from_hours(12);

/// Whose nights these are, and what time it is there.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The host's name.
    pub host: String,
    /// The zone of the host's own clock.
    pub zone: TimeZone,
    /// The time.
    pub now: Timestamp,
}

/// Whether it is an entry's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    /// It failed, and is tried again then.
    Again(Timestamp),
    /// At the earliest in the next night.
    Later,
}

/// When the latest night began that is not in the future.
pub fn night(schedule: &Schedule, clock: &Clock) -> Timestamp {
    // The share may reach over midnight.
    let begun = (0..3).filter_map(|days| begins(schedule, clock, -days)).find(|begins| *begins <= clock.now);
    begun.unwrap_or(clock.now)
}

/// When the next night begins.
pub fn next_night(schedule: &Schedule, clock: &Clock) -> Timestamp {
    let coming = (-1..3).filter_map(|days| begins(schedule, clock, days)).find(|begins| *begins > clock.now);
    coming.unwrap_or(Timestamp::MAX)
}

/// When the night begins whose `at` is so many days from today.
fn begins(schedule: &Schedule, clock: &Clock, days: i64) -> Option<Timestamp> {
    let zone = schedule.zone.as_deref().and_then(freeze::zone).unwrap_or_else(|| clock.zone.clone());
    let offset = SignedDuration::try_from(Share::of(&clock.host, "backup").of_span(SPREAD)).unwrap_or_default();
    let date = clock.now.to_zoned(zone.clone()).date().checked_add(Span::new().days(days)).ok()?;
    // A time that the clocks leave out counts as the same distance after the gap; one that comes twice, once.
    let begins = date.to_datetime(schedule.at).to_zoned(zone).ok()?.timestamp();
    begins.checked_add(offset).ok()
}

/// What is to be done now, snapshots first, and among them those that were begun longest ago: a storage that hangs until the
/// time of the night is over does so at the expense of the same stack only once.
pub fn due<'a>(logbook: &'a Logbook, clock: &Clock) -> Vec<&'a Entry> {
    let mut due: Vec<&Entry> =
        turns(logbook, clock).into_iter().filter(|(_, turn)| *turn == Turn::Now).map(|(entry, _)| entry).collect();
    due.sort_by_key(|entry| (entry.job, entry.last.as_ref().map(|last| last.began)));
    due
}

/// When something is due, at the earliest: not in the future if it is now. None on a host that makes no backups.
pub fn next(logbook: &Logbook, clock: &Clock) -> Option<Timestamp> {
    let next_night = next_night(logbook.schedule.as_ref()?, clock);
    let moment = |(_, turn)| match turn {
        Turn::Now => clock.now,
        Turn::Again(moment) => next_night.min(moment),
        Turn::Later => next_night,
    };
    turns(logbook, clock).into_iter().map(moment).min()
}

fn turns<'a>(logbook: &'a Logbook, clock: &Clock) -> Vec<(&'a Entry, Turn)> {
    let Some(schedule) = &logbook.schedule else { return Vec::new() };
    let night = night(schedule, clock);
    let days = |job| match job {
        Job::Backup => Some(1),
        Job::Check => schedule.check.days(),
        Job::Drill => schedule.drill.days(),
        Job::Prune => Every::Weekly.days(),
    };
    let turn = |entry: &'a Entry| Some((entry, turn(entry, days(entry.job)?, night, clock)));
    logbook.entries.values().filter_map(turn).collect()
}

fn turn(entry: &Entry, days: u32, night: Timestamp, clock: &Clock) -> Turn {
    // What lies in the future was written before a clock was set back, and says nothing.
    let last = entry.last.as_ref().filter(|last| last.began <= clock.now);
    let good = entry.good.as_ref().filter(|good| good.began <= clock.now);
    let period = SignedDuration::from_hours(24 * i64::from(days - 1));
    let slack = if days > 1 { EARLY } else { SignedDuration::ZERO };
    let is_wanted = good.is_none_or(|good| good.began < night && good.began + period - slack <= night);
    if !is_wanted {
        return Turn::Later;
    }
    match last.filter(|last| last.began >= night) {
        // A network comes back. The wait grows to an hour.
        Some(last) if last.end == JobEnd::Failed => {
            let wait = schedule::backoff(entry.failures, Share::of(&clock.host, "backup"));
            let wait = SignedDuration::try_from(wait).unwrap_or_default();
            let again = last.ended.checked_add(wait).unwrap_or(clock.now);
            if again > clock.now { Turn::Again(again) } else { Turn::Now }
        }
        // What cannot be read waits for a person and not for another hour, and a budget would be none if the next tick
        // of the timer gave another one.
        Some(last) if matches!(last.end, JobEnd::Partial | JobEnd::OutOfTime) => Turn::Later,
        Some(_) | None => Turn::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::backup::logbook::{expect, record};
    use crate::model::backup::{Backups, Deletes, JobReport, Keep, Limits, Place, Repository};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn clock(now: &str) -> Clock {
        Clock { host: "alpha".into(), zone: TimeZone::UTC, now: time(now) }
    }

    fn backups(zone: Option<&str>) -> Backups {
        let place = Place::Directory("/srv/backup".into());
        Backups {
            repositories: vec![Repository { name: "box".into(), place, password: "P".into(), deletes: Deletes::Here }],
            at: jiff::civil::time(3, 0, 0, 0),
            zone: zone.map(str::to_owned),
            keep: Keep::default(),
            check: Every::Weekly,
            drill: Every::Never,
            budget: Duration::from_hours(6),
            limits: Limits::default(),
        }
    }

    fn share() -> SignedDuration {
        SignedDuration::try_from(Share::of("alpha", "backup").of_span(SPREAD)).unwrap()
    }

    #[test]
    fn a_night_begins_on_the_clock_of_its_zone_through_both_changes_of_the_clocks() {
        let schedule = backups(Some("Europe/Berlin")).schedule();
        for (now, begun, next) in [
            ("2026-01-10T12:00:00Z", "2026-01-10T02:00:00Z", "2026-01-11T02:00:00Z"),
            ("2026-01-10T01:59:00Z", "2026-01-09T02:00:00Z", "2026-01-10T02:00:00Z"),
            ("2026-07-10T12:00:00Z", "2026-07-10T01:00:00Z", "2026-07-11T01:00:00Z"),
            ("2026-03-28T12:00:00Z", "2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"),
            ("2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"),
        ] {
            assert_eq!(night(&schedule, &clock(now)), time(begun) + share(), "{now}");
            assert_eq!(next_night(&schedule, &clock(now)), time(next) + share(), "{now}");
        }
    }

    #[test]
    fn without_a_zone_the_clock_of_the_host_counts_and_its_share_may_reach_over_midnight() {
        let mut schedule = backups(None).schedule();
        schedule.at = jiff::civil::time(23, 59, 0, 0);
        let here = |now: &str| Clock { zone: TimeZone::get("America/New_York").unwrap(), ..clock(now) };
        let begins = night(&schedule, &here("2026-01-10T04:59:30Z"));
        assert_eq!(begins, time("2026-01-09T04:59:00Z") + share());
        assert_eq!(next_night(&schedule, &here("2026-01-10T04:59:30Z")), time("2026-01-10T04:59:00Z") + share());
        let begins = night(&schedule, &here("2026-01-10T06:30:00Z"));
        assert_eq!(begins, time("2026-01-10T04:59:00Z") + share());
        assert_eq!(next_night(&schedule, &here("2026-01-10T06:30:00Z")), time("2026-01-11T04:59:00Z") + share());
    }

    fn report(job: Job, stack: Option<&str>, began: &str, end: JobEnd) -> JobReport {
        JobReport {
            job,
            repository: "box".into(),
            stack: stack.map(str::to_owned),
            began: time(began),
            ended: time(began),
            end,
            problems: Vec::new(),
            snapshot: None,
            files: 0,
            bytes: 0,
            bytes_added: 0,
        }
    }

    /// One stack and one repository; each tuple is when a job began, and how it ended.
    fn logbook(reports: &[(Job, &str, JobEnd)]) -> Logbook {
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups(None), &["web".into()], time("2026-01-01T00:00:00Z"));
        for (job, began, end) in reports {
            let stack = (*job == Job::Backup).then_some("web");
            record(&mut logbook, &report(*job, stack, began, *end));
        }
        logbook
    }

    fn jobs(reports: &[(Job, &str, JobEnd)], now: &str) -> Vec<Job> {
        due(&logbook(reports), &clock(now)).iter().map(|entry| entry.job).collect()
    }

    #[test]
    fn each_night_once_and_a_missed_night_as_soon_as_the_host_is_back() {
        use Job::{Backup, Check};
        use JobEnd::Done;
        let first = [(Backup, "2026-01-10T04:00:00Z", Done), (Check, "2026-01-10T04:10:00Z", Done)];
        assert_eq!(jobs(&[], "2026-01-01T12:00:00Z"), [Backup, Check], "a new host does not wait for its night");
        assert_eq!(jobs(&first, "2026-01-10T05:00:00Z"), []);
        assert_eq!(jobs(&first, "2026-01-11T02:59:00Z"), []);
        assert_eq!(jobs(&first, "2026-01-11T04:00:00Z"), [Backup]);
        assert_eq!(jobs(&first, "2026-01-14T22:00:00Z"), [Backup]);
        assert_eq!(jobs(&first, "2026-01-16T04:00:00Z"), [Backup, Check]);
        let next = next(&logbook(&first), &clock("2026-01-10T05:00:00Z")).unwrap();
        assert_eq!(next, time("2026-01-11T03:00:00Z") + share());
    }

    #[test]
    fn what_failed_is_tried_again_after_a_wait_and_at_once_in_the_next_night() {
        use Job::{Backup, Check};
        use JobEnd::{Done, Failed};
        let failed = [(Check, "2026-01-10T04:00:00Z", Done), (Backup, "2026-01-10T04:00:00Z", Failed)];
        assert_eq!(jobs(&failed, "2026-01-10T04:00:10Z"), []);
        let again = next(&logbook(&failed), &clock("2026-01-10T04:00:10Z")).unwrap();
        assert!(time("2026-01-10T04:00:20Z") < again && again <= time("2026-01-10T04:00:30Z"), "{again}");
        assert_eq!(jobs(&failed, "2026-01-10T04:00:30Z"), [Backup]);
        let failed: Vec<_> = failed[..1].iter().copied().chain([failed[1]; 9]).collect();
        assert_eq!(jobs(&failed, "2026-01-10T04:40:00Z"), []);
        assert_eq!(jobs(&failed, "2026-01-10T05:00:00Z"), [Backup]);
    }

    #[test]
    fn what_waits_for_a_person_or_ran_out_of_time_waits_for_the_next_night() {
        use Job::{Backup, Check};
        use JobEnd::{Done, OutOfTime, Partial};
        for end in [Partial, OutOfTime] {
            let reports = [(Check, "2026-01-10T04:00:00Z", Done), (Backup, "2026-01-10T04:00:00Z", end)];
            assert_eq!(jobs(&reports, "2026-01-10T23:00:00Z"), [], "{end:?}");
            assert_eq!(jobs(&reports, "2026-01-11T04:00:00Z"), [Backup], "{end:?}");
        }
    }

    #[test]
    fn what_a_night_did_not_come_to_is_first_in_the_next_one() {
        let mut logbook = Logbook::default();
        let stacks = ["a", "b", "c"].map(str::to_owned);
        expect(&mut logbook, &backups(None), &stacks, time("2026-01-01T00:00:00Z"));
        record(&mut logbook, &report(Job::Backup, Some("a"), "2026-01-10T04:00:00Z", JobEnd::Done));
        record(&mut logbook, &report(Job::Backup, Some("b"), "2026-01-10T03:59:00Z", JobEnd::OutOfTime));
        let due = due(&logbook, &clock("2026-01-11T04:00:00Z"));
        let stacks: Vec<_> = due.iter().filter_map(|entry| entry.stack.as_deref()).collect();
        assert_eq!(stacks, ["c", "b", "a"]);
    }

    #[test]
    fn a_host_without_backups_has_no_nights() {
        assert_eq!(due(&Logbook::default(), &clock("2026-01-11T04:00:00Z")), Vec::<&Entry>::new());
        assert_eq!(next(&Logbook::default(), &clock("2026-01-11T04:00:00Z")), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_backups() {
        let done =
            [(Job::Backup, "2027-01-10T04:00:00Z", JobEnd::Done), (Job::Check, "2026-01-10T04:00:00Z", JobEnd::Done)];
        assert_eq!(jobs(&done, "2026-01-11T04:00:00Z"), [Job::Backup]);
    }
}
