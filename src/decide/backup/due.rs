//! Decides when a night begins, and what is due in it. The timer only ticks; what the signed configuration says counts.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use crate::decide::ring::freeze;
use crate::decide::schedule::{self, Share};
use crate::model::backup::{Backups, Entry, Every, Job, JobEnd, Logbook};

/// The hosts begin within this time after `at`, each at a moment of its own: a Storage Box takes ten connections.
const SPREAD: Duration = Duration::from_hours(1);
/// How early a check or drill may be: the night that is nearest to its day, also when that one began a little sooner.
const EARLY: SignedDuration = SignedDuration::from_hours(12);

/// When the latest night began that is not in the future. `here` is the zone of the host's own clock.
pub fn night(backups: &Backups, host: &str, here: &TimeZone, now: Timestamp) -> Timestamp {
    let zone = backups.zone.as_deref().and_then(freeze::zone).unwrap_or_else(|| here.clone());
    let offset = SignedDuration::try_from(Share::of(host, "backup").of_span(SPREAD)).unwrap_or_default();
    let today = now.to_zoned(zone.clone()).date();
    let begins = |days: i64| -> Option<Timestamp> {
        let date = today.checked_sub(Span::new().days(days)).ok()?;
        // A time that the clocks leave out counts as the same distance after the gap; one that comes twice, once.
        let begins = date.to_datetime(backups.at).to_zoned(zone.clone()).ok()?.timestamp();
        begins.checked_add(offset).ok().filter(|begins| *begins <= now)
    };
    // The share may reach over midnight.
    (0..3).find_map(begins).unwrap_or(now)
}

/// What is to be done at `now`, snapshots first. What failed is tried again after a wait that grows to an hour.
pub fn due<'a>(logbook: &'a Logbook, backups: &Backups, host: &str, here: &TimeZone, now: Timestamp) -> Vec<&'a Entry> {
    let night = night(backups, host, here, now);
    let share = Share::of(host, "backup");
    let days = |job| match job {
        Job::Backup => Some(1),
        Job::Check => backups.check.days(),
        Job::Drill => backups.drill.days(),
        Job::Prune => Every::Weekly.days(),
    };
    let mut due: Vec<&Entry> = logbook
        .entries
        .values()
        .filter(|entry| days(entry.job).is_some_and(|days| is_due(entry, days, night, share, now)))
        .collect();
    due.sort_by_key(|entry| entry.job);
    due
}

fn is_due(entry: &Entry, days: u32, night: Timestamp, share: Share, now: Timestamp) -> bool {
    // What lies in the future was written before a clock was set back, and says nothing.
    let last = entry.last.as_ref().filter(|last| last.began <= now);
    let good = entry.good.as_ref().filter(|good| good.began <= now);
    let period = SignedDuration::from_hours(24 * i64::from(days - 1));
    let slack = if days > 1 { EARLY } else { SignedDuration::ZERO };
    let is_wanted = good.is_none_or(|good| good.began < night && good.began + period - slack <= night);
    let waits = last.is_some_and(|last| {
        let wait = SignedDuration::try_from(schedule::backoff(entry.failures, share)).unwrap_or_default();
        last.end != JobEnd::Done && last.began >= night && last.ended + wait > now
    });
    is_wanted && !waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::backup::logbook::{expect, record};
    use crate::model::backup::{Deletes, JobReport, Keep, Limits, Place, Repository};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
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
        let backups = backups(Some("Europe/Berlin"));
        for (now, expected) in [
            ("2026-01-10T12:00:00Z", "2026-01-10T02:00:00Z"),
            ("2026-01-10T01:59:00Z", "2026-01-09T02:00:00Z"),
            ("2026-07-10T12:00:00Z", "2026-07-10T01:00:00Z"),
            ("2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(night(&backups, "alpha", &TimeZone::UTC, time(now)), time(expected) + share(), "{now}");
        }
    }

    #[test]
    fn without_a_zone_the_clock_of_the_host_counts_and_its_share_may_reach_over_midnight() {
        let mut backups = backups(None);
        backups.at = jiff::civil::time(23, 59, 0, 0);
        let here = TimeZone::get("America/New_York").unwrap();
        let begins = night(&backups, "alpha", &here, time("2026-01-10T04:59:30Z"));
        assert_eq!(begins, time("2026-01-09T04:59:00Z") + share());
        let begins = night(&backups, "alpha", &here, time("2026-01-10T06:30:00Z"));
        assert_eq!(begins, time("2026-01-10T04:59:00Z") + share());
    }

    /// One stack and one repository; each tuple is when a job began, and how it ended.
    fn jobs(reports: &[(Job, &str, JobEnd)], now: &str) -> Vec<Job> {
        let backups = backups(None);
        let mut logbook = Logbook::default();
        expect(&mut logbook, &backups, &["web".into()], time("2026-01-01T00:00:00Z"));
        for (job, began, end) in reports {
            let stack = (*job == Job::Backup).then(|| "web".to_owned());
            let (repository, began) = ("box".to_owned(), time(began));
            let report = JobReport {
                job: *job,
                repository,
                stack,
                began,
                ended: began,
                end: *end,
                problems: Vec::new(),
                snapshot: None,
                files: 0,
                bytes: 0,
                bytes_added: 0,
            };
            record(&mut logbook, &report);
        }
        due(&logbook, &backups, "alpha", &TimeZone::UTC, time(now)).iter().map(|entry| entry.job).collect()
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
    }

    #[test]
    fn what_failed_is_tried_again_after_a_wait_and_at_once_in_the_next_night() {
        use Job::{Backup, Check};
        use JobEnd::{Done, Failed, Partial};
        for end in [Failed, Partial] {
            let failed = [(Check, "2026-01-10T04:00:00Z", Done), (Backup, "2026-01-10T04:00:00Z", end)];
            assert_eq!(jobs(&failed, "2026-01-10T04:00:10Z"), []);
            assert_eq!(jobs(&failed, "2026-01-10T04:00:30Z"), [Backup]);
            let failed: Vec<_> = failed[..1].iter().copied().chain([failed[1]; 9]).collect();
            assert_eq!(jobs(&failed, "2026-01-10T04:40:00Z"), []);
            assert_eq!(jobs(&failed, "2026-01-10T05:00:00Z"), [Backup]);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_backups() {
        let done =
            [(Job::Backup, "2027-01-10T04:00:00Z", JobEnd::Done), (Job::Check, "2026-01-10T04:00:00Z", JobEnd::Done)];
        assert_eq!(jobs(&done, "2026-01-11T04:00:00Z"), [Job::Backup]);
    }
}
