//! Decides which snapshots are kept, as restic's `forget` does: whoever changes to plain restic finds the same ones.
//!
//! Snapshots are judged by host and label and not by their paths: a stack that gains a volume would otherwise begin a new
//! group, and the old one would never be thinned. Where this differs from restic, it keeps more: a partial snapshot never
//! takes the place of a whole one, one from before a deploy never that of a night, and one from the future nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use crate::model::backup::Keep;

/// What is kept of the snapshots that were made before deploys, for each stack: the newest ones, and all of a week. A
/// deploy that turns out to be bad does so within days.
const BEFORE_DEPLOYS: Keep =
    Keep { last: 3, within: Some(Duration::from_hours(7 * 24)), hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

/// One snapshot, as far as it counts here.
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
    /// What it was made for.
    pub made: Made,
    /// Whether it has everything.
    pub extent: Extent,
}

/// What a snapshot was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    /// For a night, or because a person said so.
    Regularly,
    /// Before a deploy.
    BeforeDeploy,
}

/// Whether a snapshot has everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// It has.
    Whole,
    /// Something that was there could not be read.
    Partial,
}

/// Why a snapshot goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// This one of the same day is kept.
    SameDay(String),
    /// No day, week, month or year is left for it.
    Old,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::SameDay(id) => write!(f, "{} of the same day is kept", id.get(..8).unwrap_or(id)),
            Why::Old => f.write_str("older than what `keep` holds on to"),
        }
    }
}

/// How one rule tells snapshots apart: those with the same mark compete, and the newest of them is kept.
type Mark = fn(&DateTime) -> (i64, i64);

/// The snapshots that no rule keeps, by id, and why they go. Rules that name nothing keep everything.
///
/// What lies in the future is kept and counts for nothing: neither a clock that ran ahead nor a thief who dates a
/// snapshot ahead moves anything out of its place.
pub fn forgotten(snapshots: &[Dated], keep: &Keep, now: Timestamp) -> BTreeMap<String, Why> {
    if *keep == Keep::default() {
        return BTreeMap::new();
    }
    let mut groups: BTreeMap<(&str, &str, Made), Vec<&Dated>> = BTreeMap::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.at <= now) {
        groups.entry((&snapshot.host, &snapshot.label, snapshot.made)).or_default().push(snapshot);
    }
    let of_group = |((_, _, made), group): ((&str, &str, Made), Vec<&Dated>)| match made {
        Made::Regularly => of_group(group, keep, None),
        Made::BeforeDeploy => of_group(group, &BEFORE_DEPLOYS, Some(now)),
    };
    groups.into_iter().flat_map(of_group).collect()
}

/// `within` counts back from `until`, or else from the newest.
fn of_group(mut group: Vec<&Dated>, keep: &Keep, until: Option<Timestamp>) -> Vec<(String, Why)> {
    group.sort_by(|one, two| two.at.cmp(&one.at).then_with(|| one.id.cmp(&two.id)));
    let (whole, partial): (Vec<&Dated>, Vec<&Dated>) =
        group.iter().partition(|snapshot| snapshot.extent == Extent::Whole);
    let newest = |of: &[&Dated]| until.or_else(|| of.first().map(|snapshot| snapshot.at)).unwrap_or(Timestamp::MIN);
    let mut kept = by_rules(&whole, keep, newest(&whole), &[]);
    // Partial ones are judged among themselves, and only for the days, weeks, ... of which there is no whole one.
    kept.extend(by_rules(&partial, keep, newest(&group), &whole));
    let why = |gone: &Dated| {
        let same_day = |other: &&&Dated| kept.contains(other.id.as_str()) && other.local.date() == gone.local.date();
        group.iter().find(same_day).map_or(Why::Old, |other| Why::SameDay(other.id.clone()))
    };
    let gone = group.iter().filter(|snapshot| !kept.contains(snapshot.id.as_str()));
    gone.map(|snapshot| (snapshot.id.clone(), why(snapshot))).collect()
}

/// The ids that the rules keep of `group`, newest first, where `better` has the first claim.
fn by_rules<'a>(group: &[&'a Dated], keep: &Keep, newest: Timestamp, better: &[&Dated]) -> BTreeSet<&'a str> {
    let mut rules: [(u32, Mark, Option<(i64, i64)>); 5] = [
        (keep.hourly, |time| (day(time), time.hour().into()), None),
        (keep.daily, |time| (day(time), 0), None),
        (keep.weekly, week, None),
        (keep.monthly, |time| (time.year().into(), time.month().into()), None),
        (keep.yearly, |time| (time.year().into(), 0), None),
    ];
    let mut kept = BTreeSet::new();
    for (place, snapshot) in group.iter().enumerate() {
        let is_newest = better.first().is_none_or(|better| better.at < snapshot.at);
        let mut is_kept = is_newest && place < usize::try_from(keep.last).unwrap_or(usize::MAX);
        is_kept |= keep.within.is_some_and(|within| {
            let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
            newest.duration_since(snapshot.at) < within
        });
        for (left, mark_of, last) in &mut rules {
            let mark = mark_of(&snapshot.local);
            if better.iter().any(|better| mark_of(&better.local) == mark) {
                continue;
            }
            // The oldest is kept for as long as a rule is not used up: the history shall be as long as it can.
            if *left > 0 && (Some(mark) != *last || place + 1 == group.len()) {
                *left -= 1;
                *last = Some(mark);
                is_kept = true;
            }
        }
        if is_kept {
            kept.insert(snapshot.id.as_str());
        }
    }
    kept
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
        Dated {
            id: format!("{label} {text}"),
            host: "alpha".into(),
            label: label.into(),
            at,
            local,
            made: Made::Regularly,
            extent: Extent::Whole,
        }
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
        assert!(!forgotten.contains_key(&snapshots[29].id));
        assert_eq!(kept(&snapshots, &Keep { within: Some(Duration::from_hours(72)), ..Keep::default() }), 3);
    }

    #[test]
    fn what_lies_in_the_future_is_kept_and_moves_nothing_out_of_its_place() {
        let mut snapshots = nights("web", 30);
        let keep = Keep { last: 2, daily: 3, within: Some(Duration::from_hours(72)), ..Keep::default() };
        let before = forgotten(&snapshots, &keep, now());
        // As many as any rule counts, so that each would be used up.
        snapshots.extend((1..=9).map(|day| snapshot("web", &format!("2036-01-0{day}T03:00:00"))));
        assert_eq!(forgotten(&snapshots, &keep, now()), before);
    }

    #[test]
    fn a_partial_snapshot_never_takes_the_place_of_a_whole_one() {
        let partial = |text: &str| Dated { extent: Extent::Partial, ..snapshot("web", text) };
        let mut snapshots = nights("web", 10);
        let keep = Keep { last: 1, daily: 3, ..Keep::default() };
        let before = forgotten(&snapshots, &keep, now());
        // Later on a day that has a whole one, then twelve days with nothing else.
        snapshots.push(partial("2026-01-09T15:00:00"));
        snapshots.extend((11..=22).map(|day| partial(&format!("2026-01-{day}T03:00:00"))));
        let after = forgotten(&snapshots, &keep, now());
        assert!(before.keys().all(|id| after.contains_key(id)), "{after:?}");
        let whole = |id: &&String| snapshots.iter().any(|one| one.id == **id && one.extent == Extent::Whole);
        assert_eq!(after.keys().filter(whole).count(), before.len(), "no whole one more goes");
        assert_eq!(after["web 2026-01-09T15:00:00"], Why::SameDay("web 2026-01-09T03:00:00".into()));
        assert!(!after.contains_key("web 2026-01-22T03:00:00"), "the newest of all is kept");
        assert_eq!(snapshots.len() - after.len(), 3 + 3);
    }

    #[test]
    fn the_last_whole_one_survives_any_number_of_partial_nights_by_any_rule() {
        for keep in [
            Keep { last: 1, ..Keep::default() },
            Keep { daily: 2, ..Keep::default() },
            Keep { within: Some(Duration::from_hours(72)), ..Keep::default() },
        ] {
            let mut snapshots = nights("web", 40);
            snapshots[1..].iter_mut().for_each(|snapshot| snapshot.extent = Extent::Partial);
            assert!(!forgotten(&snapshots, &keep, now()).contains_key(&snapshots[0].id), "{keep:?}");
        }
    }

    #[test]
    fn snapshots_before_deploys_push_no_night_out_and_are_thinned_by_a_rule_of_their_own() {
        let mut snapshots = nights("web", 30);
        let keep = Keep { daily: 5, ..Keep::default() };
        let before = forgotten(&snapshots, &keep, now());
        let deploys = nights("web", 30).into_iter().map(|one| Dated {
            id: format!("deploy {}", one.id),
            at: one.at + SignedDuration::from_hours(9),
            made: Made::BeforeDeploy,
            ..one
        });
        snapshots.extend(deploys);
        let of_deploys = |gone: &BTreeMap<String, Why>| gone.keys().filter(|id| id.starts_with("deploy")).count();
        let later = forgotten(&snapshots, &keep, now());
        assert_eq!((later.len() - of_deploys(&later), of_deploys(&later)), (before.len(), 27), "the newest three");
        let soon = forgotten(&snapshots, &keep, snapshots[29].at + SignedDuration::from_hours(10));
        assert_eq!(of_deploys(&soon), 30 - 7, "all of a week");
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
