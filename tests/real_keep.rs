//! What is kept, beside the real restic: the same snapshots for the same rules, on random sets of them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use moorline::decide::backup::keep::{Dated, Extent, Made, forgotten};
use moorline::model::backup::Keep;
use support::{Random, Run as _, tools};

/// How many snapshots, and in how many sets they are by tag. Each call of restic costs half a second for its password.
const SNAPSHOTS: u32 = 40;
const SETS: u32 = 5;

fn restic(directory: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = Command::new(tools::tool("restic"));
    command.args(["--no-cache", "--quiet", "--repo"]).arg(directory.join("repo")).args(arguments);
    // Days, and the hour that comes twice, are those of the host's clock.
    command.env("RESTIC_PASSWORD", "x").env("TZ", "Europe/Berlin").run().succeeds()
}

/// A moment in the last 500 days, often close to another one. None lies in the future: those restic lets count.
fn moment(random: &mut Random, before: Option<DateTime>) -> DateTime {
    let end = jiff::Zoned::now().datetime() - jiff::Span::new().days(1);
    let minutes = |count: u64| jiff::Span::new().minutes(i64::try_from(count).unwrap());
    match before {
        Some(before) if random.below(3) == 0 => before - minutes(random.below(90) as u64),
        _ => end - minutes(random.below(500 * 24 * 60) as u64),
    }
}

#[test]
fn restic_keeps_the_same_snapshots_by_the_same_rules() {
    let scratch = tempfile::tempdir().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    std::fs::write(scratch.path().join("file"), "x").unwrap();
    restic(scratch.path(), &["init"]);
    let mut last = None;
    for _ in 0..SNAPSHOTS {
        let time = moment(&mut random, last);
        last = Some(time);
        let sets: Vec<String> =
            (0..SETS).filter(|_| random.below(2) == 0).map(|set| format!("set{set}")).chain(["all".into()]).collect();
        let time = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let file = scratch.path().join("file");
        let arguments =
            ["backup", "--host", "alpha", "--tag", &sets.join(","), "--time", &time, file.to_str().unwrap()];
        restic(scratch.path(), &arguments);
    }
    let listed: serde_json::Value = serde_json::from_str(&restic(scratch.path(), &["snapshots", "--json"])).unwrap();
    let text = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap().to_owned();
    let mut compared = 0;
    for round in 0..3 * SETS {
        let set = format!("set{}", round % SETS);
        let of_set = listed
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["tags"].as_array().unwrap().contains(&serde_json::json!(set)));
        let snapshots: Vec<Dated> = of_set
            .map(|one| {
                let time = text(one, "time");
                let at: Timestamp = time.parse().unwrap();
                Dated {
                    id: text(one, "id"),
                    host: "alpha".into(),
                    label: "web".into(),
                    at,
                    local: time[..19].parse().unwrap(),
                    made: Made::Regularly,
                    extent: Extent::Whole,
                }
            })
            .collect();
        let mut some = |most: usize| if random.below(2) == 0 { 0 } else { u32::try_from(random.below(most)).unwrap() };
        let (last, hourly, daily, weekly, monthly, yearly) = (some(5), some(10), some(10), some(8), some(8), some(3));
        let within = some(100 * 24);
        let keep = Keep {
            // With no rule at all, restic refuses to do anything.
            last: last.max(u32::from(hourly + daily + weekly + monthly + yearly + within == 0)),
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within: (within > 0).then(|| Duration::from_hours(within.into())),
        };
        let mut arguments: Vec<String> =
            ["forget", "--dry-run", "--json", "--group-by", "host", "--tag", &set].map(str::to_owned).to_vec();
        for (name, count) in [
            ("last", keep.last),
            ("hourly", hourly),
            ("daily", daily),
            ("weekly", weekly),
            ("monthly", monthly),
            ("yearly", yearly),
        ] {
            if count > 0 {
                arguments.extend([format!("--keep-{name}"), count.to_string()]);
            }
        }
        if within > 0 {
            arguments.extend(["--keep-within".to_owned(), format!("{within}h")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let answer: serde_json::Value = serde_json::from_str(&restic(scratch.path(), &arguments)).unwrap();
        let removed =
            answer.as_array().unwrap().iter().flat_map(|group| group["remove"].as_array().into_iter().flatten());
        let removed: BTreeSet<String> = removed.map(|one| text(one, "id")).collect();
        let gone: BTreeSet<String> = forgotten(&snapshots, &keep, Timestamp::now()).into_keys().collect();
        assert_eq!(gone, removed, "{keep:?}");
        compared += removed.len();
    }
    assert!(compared > 20, "the rules were too kind to compare anything: {compared}");
}
