//! Decides which snapshots are kept, as restic's `forget` does: whoever changes to plain restic finds the same ones.
//!
//! Snapshots are judged by host and label and not by their paths: a stack that gains a volume would otherwise begin a new
//! group, and the old one would never be thinned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use crate::model::backup::Keep;

/// One snapshot, as far as its age counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// Its id.
    pub id: String,
    /// The host that made it.
    pub host: String,
    /// The stack.
    pub label: String,
    /// When it was made.
    pub at: Timestamp,
    /// The same on the clock of the host, as the snapshot has it: days end at its midnight.
    pub local: DateTime,
}

/// How one rule tells snapshots apart: those with the same mark compete, and the newest of them is kept.
type Mark = fn(&DateTime) -> (i64, i64);

/// The ids of the snapshots that no rule keeps. Rules that name nothing keep everything.
///
/// `within` counts back from the newest snapshot that is not in the future: a clock that ran ahead, or a thief who dates
/// a snapshot ahead, moves nothing out of it.
pub fn forgotten(snapshots: &[Dated], keep: &Keep, now: Timestamp) -> BTreeSet<String> {
    if *keep == Keep::default() {
        return BTreeSet::new();
    }
    let mut groups: BTreeMap<(&str, &str), Vec<&Dated>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry((&snapshot.host, &snapshot.label)).or_default().push(snapshot);
    }
    groups.into_values().flat_map(|group| of_group(group, keep, now)).collect()
}

fn of_group(mut group: Vec<&Dated>, keep: &Keep, now: Timestamp) -> Vec<String> {
    group.sort_by(|one, two| two.at.cmp(&one.at).then_with(|| one.id.cmp(&two.id)));
    let mut rules: [(u32, Mark, Option<(i64, i64)>); 5] = [
        (keep.hourly, |time| (day(time), time.hour().into()), None),
        (keep.daily, |time| (day(time), 0), None),
        (keep.weekly, week, None),
        (keep.monthly, |time| (time.year().into(), time.month().into()), None),
        (keep.yearly, |time| (time.year().into(), 0), None),
    ];
    let newest = group.iter().map(|snapshot| snapshot.at).find(|at| *at <= now).unwrap_or(Timestamp::MIN);
    let count = group.len();
    let mut forgotten = Vec::new();
    for (place, snapshot) in group.into_iter().enumerate() {
        let mut is_kept = place < usize::try_from(keep.last).unwrap_or(usize::MAX);
        is_kept |= keep.within.is_some_and(|within| {
            let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
            newest.duration_since(snapshot.at) < within
        });
        for (left, mark, last) in &mut rules {
            let mark = Some(mark(&snapshot.local));
            // The oldest is kept for as long as a rule is not used up: the history shall be as long as it can.
            if *left > 0 && (mark != *last || place + 1 == count) {
                *left -= 1;
                *last = mark;
                is_kept = true;
            }
        }
        if !is_kept {
            forgotten.push(snapshot.id.clone());
        }
    }
    forgotten
}

fn day(time: &DateTime) -> i64 {
    i64::from(time.year()) * 1000 + i64::from(time.day_of_year())
}

fn week(time: &DateTime) -> (i64, i64) {
    let week = time.date().iso_week_date();
    (week.year().into(), week.week().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn snapshot(label: &str, text: &str) -> Dated {
        let local: DateTime = text.parse().unwrap();
        let at = local.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
        Dated { id: format!("{label} {text}"), host: "alpha".into(), label: label.into(), at, local }
    }

    fn nights(label: &str, count: i64) -> Vec<Dated> {
        let first: DateTime = "2026-01-01T03:00:00".parse().unwrap();
        (0..count).map(|day| snapshot(label, &(first + jiff::Span::new().days(day)).to_string())).collect()
    }

    fn now() -> Timestamp {
        "2027-01-01T00:00:00Z".parse().unwrap()
    }

    fn kept(snapshots: &[Dated], keep: &Keep) -> usize {
        snapshots.len() - forgotten(snapshots, keep, now()).len()
    }

    #[test]
    fn a_year_of_nights_is_thinned_to_days_weeks_and_months() {
        let keep = Keep { daily: 7, weekly: 4, monthly: 6, ..Keep::default() };
        // Seven days, of which one ends a week and one a month, three more weeks and five more months.
        assert_eq!(kept(&nights("web", 201), &keep), 14);
        assert_eq!(kept(&nights("web", 3), &keep), 3);
        assert_eq!(kept(&[], &keep), 0);
    }

    #[test]
    fn the_newest_is_always_kept_and_nothing_is_forgotten_without_a_rule() {
        let snapshots = nights("web", 30);
        assert_eq!(kept(&snapshots, &Keep::default()), 30);
        let forgotten = forgotten(&snapshots, &Keep { last: 1, ..Keep::default() }, now());
        assert_eq!(forgotten.len(), 29);
        assert!(!forgotten.contains(&snapshots[29].id));
        assert_eq!(kept(&snapshots, &Keep { within: Some(Duration::from_hours(72)), ..Keep::default() }), 3);
    }

    #[test]
    fn a_snapshot_from_the_future_moves_no_other_one_out_of_its_time() {
        let mut snapshots = nights("web", 30);
        snapshots.push(snapshot("web", "2036-01-01T03:00:00"));
        assert_eq!(kept(&snapshots, &Keep { within: Some(Duration::from_hours(72)), ..Keep::default() }), 4);
    }

    #[test]
    fn each_stack_is_thinned_by_itself_and_the_order_does_not_matter() {
        let mut snapshots = [nights("web", 30), nights("db", 2)].concat();
        let keep = Keep { daily: 5, ..Keep::default() };
        let before = forgotten(&snapshots, &keep, now());
        assert_eq!(before.len(), 25);
        snapshots.reverse();
        assert_eq!(forgotten(&snapshots, &keep, now()), before);
    }
}
