//! Decides whether what lies in a host's backup repositories is its last backup, with every stack in it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::schedule::show_duration;

/// One snapshot, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its id, in full.
    pub id: String,
    /// The host.
    pub host: String,
    /// The stack.
    pub stack: String,
    /// When it was made.
    pub time: Timestamp,
    /// Whether nothing is missing in it.
    pub is_whole: bool,
}

/// A last backup that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The repository's name.
    pub repository: String,
    /// The newest whole snapshot of each stack.
    pub snapshots: BTreeMap<String, String>,
}

/// What is wanted of a last backup.
#[derive(Debug, Clone, Copy)]
pub struct Last<'a> {
    /// The host.
    pub host: &'a str,
    /// Its stacks: each has a snapshot.
    pub stacks: &'a [String],
    /// The beginning of the id that a person named.
    pub id: &'a str,
    /// The time.
    pub now: Timestamp,
    /// How old it may be.
    pub within: Duration,
}

/// The first repository that has it all; or what each of them lacks.
pub fn confirm(last: &Last<'_>, repositories: &[(String, Result<Vec<Kept>, String>)]) -> Result<Seen, Vec<String>> {
    let mut problems = Vec::new();
    for (name, found) in repositories {
        let lacks = match found {
            Ok(found) => match lacks(last, found) {
                Ok(snapshots) => return Ok(Seen { repository: name.clone(), snapshots }),
                Err(lacks) => lacks,
            },
            Err(why) => vec![why.clone()],
        };
        problems.extend(lacks.into_iter().map(|what| format!("{name}: {what}")));
    }
    Err(problems)
}

fn lacks(last: &Last<'_>, found: &[Kept]) -> Result<BTreeMap<String, String>, Vec<String>> {
    let age = |kept: &Kept| {
        Duration::from_secs(u64::try_from(last.now.duration_since(kept.time).as_secs()).unwrap_or_default())
    };
    let own: Vec<&Kept> = found.iter().filter(|kept| kept.host == last.host).collect();
    let mut lacks = Vec::new();
    match own.iter().find(|kept| kept.id.starts_with(last.id)) {
        None => lacks.push(format!("there is no snapshot {} of {}", last.id, last.host)),
        Some(named) if !named.is_whole => lacks.push(format!("something is missing in snapshot {}", last.id)),
        Some(_) => {}
    }
    let mut snapshots = BTreeMap::new();
    for stack in last.stacks {
        let whole = own.iter().filter(|kept| kept.stack == *stack && kept.is_whole);
        match whole.max_by_key(|kept| kept.time) {
            None => lacks.push(format!("there is no whole snapshot of {stack}")),
            Some(newest) if age(newest) >= last.within => {
                let (age, within) = (show_duration(age(newest)), show_duration(last.within));
                lacks.push(format!("the newest whole snapshot of {stack} is {age} old, and may be less than {within}"));
            }
            Some(newest) => _ = snapshots.insert(stack.clone(), newest.id.clone()),
        }
    }
    if lacks.is_empty() { Ok(snapshots) } else { Err(lacks) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(id: &str, host: &str, stack: &str, time: &str) -> Kept {
        Kept { id: id.into(), host: host.into(), stack: stack.into(), time: time.parse().unwrap(), is_whole: true }
    }

    #[test]
    fn every_stack_needs_a_fresh_whole_snapshot_in_one_place() {
        let stacks = ["db".to_owned(), "web".to_owned()];
        let now = "2026-01-11T12:00:00Z".parse().unwrap();
        let last = Last { host: "gamma", stacks: &stacks, id: "aaaa", now, within: Duration::from_secs(24 * 3600) };
        let at = |names: &[(&str, Result<Vec<Kept>, String>)]| -> Vec<_> {
            names.iter().map(|(name, found)| ((*name).to_owned(), found.clone())).collect()
        };
        let (web, db) = (
            kept("aaaa1", "gamma", "web", "2026-01-11T11:00:00Z"),
            kept("bbbb1", "gamma", "db", "2026-01-11T11:01:00Z"),
        );
        let whole = vec![web.clone(), db.clone()];
        let seen = confirm(&last, &at(&[("disk", Err("it is away".into())), ("box", Ok(whole))])).unwrap();
        assert_eq!((seen.repository.as_str(), seen.snapshots["web"].as_str()), ("box", "aaaa1"));

        let partial = Kept { is_whole: false, ..web.clone() };
        let old = Kept { time: "2026-01-08T11:00:00Z".parse().unwrap(), ..db.clone() };
        let others = vec![kept("aaaa1", "alpha", "web", "2026-01-11T11:00:00Z"), db.clone()];
        let refused = confirm(
            &last,
            &at(&[
                ("partial", Ok(vec![partial, db])),
                ("old", Ok(vec![web, old])),
                ("others", Ok(others)),
                ("away", Err("it is away".into())),
            ]),
        );
        let expected = [
            "partial: something is missing in snapshot aaaa",
            "partial: there is no whole snapshot of web",
            "old: the newest whole snapshot of db is 3d1h old, and may be less than 1d",
            "others: there is no snapshot aaaa of gamma",
            "others: there is no whole snapshot of web",
            "away: it is away",
        ];
        assert_eq!(refused.unwrap_err(), expected);
    }
}
