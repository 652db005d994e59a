//! Says how the backups of a host are, for people: when the next night begins, and how old each good one is.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::logbook::{age, rough};
use crate::model::backup::{BackupStatus, Job};

/// A line for the next night, and one for each thing that this host must have; nothing on a host that makes no backups.
/// `at_work` is the process that holds the lock of backups, and since when.
pub fn text(
    statuses: &[BackupStatus],
    next: Option<Timestamp>,
    at_work: Option<(u32, Timestamp)>,
    now: Timestamp,
) -> String {
    let Some(next) = next else { return String::new() };
    let mut text = match at_work {
        Some((pid, since)) => format!("night     pid {pid} is at work since {since:.0}\n"),
        None if next > now => format!("night     begins at {next:.0}\n"),
        None => "night     is due\n".to_owned(),
    };
    for status in statuses {
        let BackupStatus { job, repository, stack, good, .. } = status;
        let what = match (job, stack) {
            (Job::Backup, Some(stack)) => format!("{stack} to {repository}"),
            (_, Some(stack)) => format!("{stack} from {repository}"),
            (_, None) => repository.clone(),
        };
        let proven = if *job == Job::Drill { "proven " } else { "" };
        let when = good.map_or_else(|| "never".to_owned(), |good| format!("{proven}{} ago", rough(age(good, now))));
        let _ = writeln!(text, "{:<9} {what}, {when}", job.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_when_its_next_night_begins_and_how_old_each_good_one_is() {
        let now: Timestamp = "2026-01-11T12:00:00Z".parse().unwrap();
        let status = |job, repository: &str, stack: Option<&str>, good: Option<&str>| BackupStatus {
            job,
            repository: repository.into(),
            stack: stack.map(str::to_owned),
            good: good.map(|good| good.parse().unwrap()),
            problem: None,
        };
        let statuses = [
            status(Job::Backup, "box", Some("web"), Some("2026-01-11T03:12:40Z")),
            status(Job::Backup, "disk", Some("web"), None),
            status(Job::Check, "box", None, Some("2026-01-08T03:40:00Z")),
            status(Job::Prune, "box", None, Some("2026-01-08T03:30:00Z")),
            status(Job::Drill, "box", Some("web"), Some("2025-12-30T03:40:00Z")),
        ];
        let next = "2026-01-12T03:12:09.512Z".parse().unwrap();
        let expected = "\
night     begins at 2026-01-12T03:12:09Z
backup    web to box, 8h ago
backup    web to disk, never
check     box, 3d8h ago
prune     box, 3d8h ago
drill     web from box, proven 12d8h ago
";
        assert_eq!(text(&statuses, Some(next), None, now), expected);
        assert_eq!(text(&[], Some(now), None, now), "night     is due\n");
        assert_eq!(
            text(&[], Some(now), Some((12, now)), now),
            "night     pid 12 is at work since 2026-01-11T12:00:00Z\n"
        );
        assert_eq!(text(&[], None, None, now), "");
    }
}
