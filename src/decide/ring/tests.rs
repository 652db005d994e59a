//! What a ring file lets a host do, as questions and answers.

use jiff::civil::{Weekday, time};

use super::*;
use crate::model::ring::{Freeze, Moment, RingPointer, Signing, Wave};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

fn revision(digit: char) -> Revision {
    digit.to_string().repeat(40).parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn ring(waves: &[(u8, u64)], freezes: Vec<Freeze>) -> Ring {
    let wave = |(percent, seconds): &(u8, u64)| Wave { percent: *percent, after: Duration::from_secs(*seconds) };
    Ring {
        name: "production".into(),
        pointer: RingPointer::Commit(revision('b')),
        halt: None,
        waves: waves.iter().map(wave).collect(),
        freezes,
        signing: Signing::ByCommit,
        sequence: None,
        downgrade: std::collections::BTreeSet::new(),
    }
}

fn weekend(zone: &str) -> Freeze {
    let moment = |day, hour| Moment { day, time: time(hour, 0, 0, 0) };
    Freeze { from: moment(Weekday::Friday, 16), until: moment(Weekday::Monday, 7), zone: zone.into() }
}

fn hosts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("host-{number}")).collect()
}

/// The host of a ring of two that goes last.
fn last(ring: &Ring, hosts: &[String]) -> String {
    let place = |host: &&String| wave::of(ring, host, hosts, &revision('b')).unwrap().number;
    hosts.iter().max_by_key(place).unwrap().clone()
}

/// Asks at these times, one after the other, as runs do.
fn ask(ring: &Ring, host: &str, hosts: &[String], times: &[Timestamp]) -> Answer {
    let (old, new) = (revision('a'), revision('b'));
    let mut pending: Option<Pending> = None;
    let mut said = Answer::Go;
    for now in times {
        said = answer(&Question {
            ring,
            host,
            hosts,
            target: &new,
            released: Some(&old),
            heading: Heading::Forward,
            pending: pending.as_ref(),
            now: *now,
            interval: Duration::from_secs(300),
        });
        match &said {
            Answer::Wait(counted, _) => pending = Some(counted.clone()),
            Answer::Go => return said,
        }
    }
    said
}

/// A run every five minutes, for so many seconds.
fn runs(from: Timestamp, seconds: u64) -> Vec<Timestamp> {
    (0..=seconds / 300).map(|number| from + Duration::from_secs(number * 300)).collect()
}

#[test]
fn a_first_wave_is_never_empty_and_a_wave_never_takes_more_than_its_share() {
    for count in 1..60 {
        let ring = ring(&[(10, 0), (50, 60), (100, 120)], Vec::new());
        let hosts = hosts(count);
        let mut sizes = [0; 3];
        for host in &hosts {
            sizes[wave::of(&ring, host, &hosts, &revision('b')).unwrap().number - 1] += 1;
        }
        assert_eq!(sizes[0], count.div_ceil(10), "{count} hosts");
        assert_eq!(sizes[0] + sizes[1], count.div_ceil(2), "{count} hosts");
        assert_eq!(sizes.iter().sum::<usize>(), count);
    }
}

#[test]
fn every_host_is_the_first_one_now_and_then() {
    let ring = ring(&[(10, 0), (100, 60)], Vec::new());
    let hosts = hosts(5);
    let mut first = std::collections::BTreeSet::new();
    for digit in "0123456789abcdef".chars() {
        for other in "0123456789abcdef".chars() {
            let target: Revision = format!("{digit}{other}").repeat(20).parse().unwrap();
            let goes = hosts.iter().find(|host| wave::of(&ring, host, &hosts, &target).unwrap().number == 1);
            first.insert(goes.unwrap().clone());
        }
    }
    assert_eq!(first.len(), 5);
}

#[test]
fn a_host_waits_for_its_wave_and_then_goes() {
    let ring = ring(&[(10, 0), (100, 2 * HOUR)], Vec::new());
    let hosts = hosts(2);
    let begin = at("2026-01-06T00:00:00Z");
    let late = last(&ring, &hosts);
    let early = hosts.iter().find(|host| **host != late).unwrap();
    assert_eq!(ask(&ring, early, &hosts, &[begin]), Answer::Go);
    let Answer::Wait(_, waiting) = ask(&ring, &late, &hosts, &runs(begin, HOUR)) else { panic!("it waits") };
    assert_eq!(waiting.what, WaitingFor::Wave { number: 2, of: 2 });
    assert_eq!(waiting.until, begin + Duration::from_secs(2 * HOUR));
    assert_eq!(ask(&ring, &late, &hosts, &runs(begin, 2 * HOUR)), Answer::Go);
}

#[test]
fn t22_a_clock_that_steps_brings_no_wave_forward_and_holds_none_back_for_ever() {
    let ring = ring(&[(10, 0), (100, 2 * HOUR)], Vec::new());
    let hosts = hosts(2);
    let late = last(&ring, &hosts);
    let begin = at("2026-01-06T00:00:00Z");
    // Ten years forward in the middle: nobody goes because of it.
    let mut times = runs(begin, HOUR);
    times.extend(runs(at("2036-01-06T00:00:00Z"), 30 * MINUTE));
    assert!(matches!(ask(&ring, &late, &hosts, &times), Answer::Wait(..)));
    // Ten years back: what was counted stays counted, and two hours of runs are enough.
    let mut times = runs(begin, HOUR);
    times.extend(runs(at("2016-01-06T00:00:00Z"), HOUR));
    assert_eq!(ask(&ring, &late, &hosts, &times), Answer::Go);
    // Through the end of 32-bit seconds.
    assert_eq!(ask(&ring, &late, &hosts, &runs(at("2038-01-19T02:14:00Z"), 2 * HOUR)), Answer::Go);
    // A clock that stands still counts nothing, and does not go.
    assert!(matches!(ask(&ring, &late, &hosts, &[begin; 100]), Answer::Wait(..)));
}

#[test]
fn another_promotion_begins_the_count_anew_and_the_way_back_does_not_wait() {
    let ring = ring(&[(100, HOUR)], vec![weekend("UTC")]);
    let hosts = hosts(1);
    let (old, new, now) = (revision('a'), revision('b'), at("2026-01-10T12:00:00Z"));
    let counted = Pending { revision: revision('c'), waited_ms: 3_600_000, counted: now };
    let mut question = Question {
        ring: &ring,
        host: &hosts[0],
        hosts: &hosts,
        target: &new,
        released: Some(&old),
        heading: Heading::Forward,
        pending: Some(&counted),
        now,
        interval: Duration::from_secs(300),
    };
    let Answer::Wait(pending, _) = answer(&question) else { panic!("it waits") };
    assert_eq!(pending.waited_ms, 0);
    question.heading = Heading::Back;
    assert_eq!(answer(&question), Answer::Go);
    // Neither does a host that runs nothing yet.
    question.heading = Heading::Forward;
    question.released = None;
    assert_eq!(answer(&question), Answer::Go);
}

#[test]
fn a_freeze_ends_when_its_zone_says_so_through_both_changes_of_the_clocks() {
    let berlin = [weekend("Europe/Berlin")];
    for (now, thaw) in [
        // Winter: one hour ahead of UTC.
        ("2026-01-09T14:59:59Z", None),
        ("2026-01-09T15:00:00Z", Some("2026-01-12T06:00:00Z")),
        ("2026-01-12T05:59:59Z", Some("2026-01-12T06:00:00Z")),
        ("2026-01-12T06:00:00Z", None),
        // The clocks go forward on 2026-03-29: the freeze begins in winter and ends in summer.
        ("2026-03-27T15:00:00Z", Some("2026-03-30T05:00:00Z")),
        ("2026-03-30T05:00:00Z", None),
        // They go back on 2026-10-25.
        ("2026-10-23T13:59:59Z", None),
        ("2026-10-23T14:00:00Z", Some("2026-10-26T06:00:00Z")),
        ("2026-10-26T05:59:59Z", Some("2026-10-26T06:00:00Z")),
    ] {
        assert_eq!(freeze::thaw(&berlin, at(now)), thaw.map(at), "{now}");
    }
    // The same moment is Friday in Auckland and not yet in Honolulu.
    assert!(freeze::thaw(&[weekend("Pacific/Auckland")], at("2026-01-09T04:00:00Z")).is_some());
    assert!(freeze::thaw(&[weekend("Pacific/Honolulu")], at("2026-01-09T04:00:00Z")).is_none());
}

#[test]
fn a_moment_that_the_clocks_leave_out_or_repeat_still_ends_a_freeze() {
    let night = |hour| Moment { day: Weekday::Sunday, time: time(hour, 30, 0, 0) };
    let freeze = [Freeze { from: night(0), until: night(2), zone: "Europe/Berlin".into() }];
    // 02:30 does not exist on 2026-03-29, and comes twice on 2026-10-25.
    assert_eq!(freeze::thaw(&freeze, at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
    assert_eq!(freeze::thaw(&freeze, at("2026-10-25T00:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
}

#[test]
fn freezes_that_follow_each_other_are_one_and_a_whole_week_is_refused() {
    let moment = |day| Moment { day, time: time(0, 0, 0, 0) };
    let from = |from, until| Freeze { from: moment(from), until: moment(until), zone: "UTC".into() };
    let two = [from(Weekday::Monday, Weekday::Wednesday), from(Weekday::Wednesday, Weekday::Friday)];
    assert_eq!(freeze::thaw(&two, at("2026-01-05T12:00:00Z")), Some(at("2026-01-09T00:00:00Z")));
    assert!(!freeze::is_endless(&two));
    assert!(freeze::is_endless(&[two[0].clone(), two[1].clone(), from(Weekday::Friday, Weekday::Monday)]));
}

#[test]
fn a_freeze_outlives_a_wave_that_is_through_and_the_other_way_round() {
    let hosts = hosts(1);
    let waits = |ring: &Ring, now| match ask(ring, &hosts[0], &hosts, &[at(now)]) {
        Answer::Wait(_, waiting) => Some((waiting.what, waiting.until)),
        Answer::Go => None,
    };
    let both = ring(&[(100, HOUR)], vec![weekend("UTC")]);
    let saturday = waits(&both, "2026-01-10T00:00:00Z").unwrap();
    assert_eq!(saturday, (WaitingFor::Freeze, at("2026-01-12T07:00:00Z")));
    let monday = waits(&both, "2026-01-12T06:30:00Z").unwrap();
    assert_eq!(monday, (WaitingFor::Wave { number: 1, of: 1 }, at("2026-01-12T07:30:00Z")));
}
