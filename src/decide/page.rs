//! Decides what the status page says: how long which revision ran well, and the same as figures for Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::ring::went_by;
use crate::model::backup::BackupStatus;
use crate::model::observed::{Health, State};
use crate::model::page::{Page, VERSION, Well};
use crate::model::report::{Report, RunEnd, ServiceStatus};

/// How many revisions are remembered.
const MOST: usize = 50;

/// The page after a run. `before` is the page of the run before.
pub fn after_run(before: Option<Page>, report: &Report, interval: Duration) -> Page {
    Page {
        version: VERSION,
        host: report.host.clone(),
        agent: report.agent.clone(),
        generated: report.ended,
        age_s: None,
        interval_s: interval.as_secs(),
        ring: report.ring.clone(),
        tip: report.tip.clone(),
        revision: report.revision.clone(),
        end: report.end,
        summary: report.summary.clone(),
        well: well(before, report, interval),
        waiting: report.waiting.clone(),
        fault: report.fault.clone(),
        services: report.services.clone(),
        backups: Vec::new(),
    }
}

/// Only time between two runs that both found the same revision well counts, and of a long one no more than a clock
/// may be believed. A host that was unwell begins anew.
fn well(before: Option<Page>, report: &Report, interval: Duration) -> Vec<Well> {
    let Some(before) = before.filter(|before| before.host == report.host) else {
        return began(Vec::new(), report);
    };
    let mut well = before.well;
    match (report.end, well.last_mut()) {
        (RunEnd::Degraded | RunEnd::RolledBack, _) => Vec::new(),
        (RunEnd::Converged, Some(last)) if Some(&last.revision) == report.revision.as_ref() => {
            if before.end == RunEnd::Converged {
                let went_by = went_by(before.generated, report.ended, interval);
                last.ms = last.ms.saturating_add(u64::try_from(went_by.as_millis()).unwrap_or(0));
            }
            well
        }
        _ => began(well, report),
    }
}

fn began(mut well: Vec<Well>, report: &Report) -> Vec<Well> {
    if let (RunEnd::Converged, Some(revision)) = (report.end, &report.revision) {
        well.push(Well { revision: revision.clone(), since: report.ended, ms: 0 });
    }
    let too_many = well.len().saturating_sub(MOST);
    well.split_off(too_many)
}

/// The page as it is served at `now`.
pub fn served(mut page: Page, now: Timestamp) -> Page {
    page.age_s = Some(now.duration_since(page.generated).as_secs());
    page
}

/// The page for people.
pub fn text(page: &Page) -> String {
    let ring = page.ring.as_deref().unwrap_or("unknown");
    let mut text = format!("host      {}, ring {ring}\nlast run  {}", page.host, page.summary);
    let _ = writeln!(text, ", {} s ago", page.age_s.unwrap_or_default());
    for service in &page.services {
        let health = service.health.map(|health| format!(", {health}")).unwrap_or_default();
        let _ = writeln!(text, "  {}/{}  {}{health}  {}", service.stack, service.service, service.state, service.image);
    }
    for problem in page.backups.iter().filter_map(|backup| backup.problem.as_ref()) {
        let _ = writeln!(text, "backups   {problem}");
    }
    text.push_str("\n/status.json   /metrics\n");
    text
}

/// The page for Prometheus, in its text format.
pub fn metrics(page: &Page) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, meaning: &str, values: Vec<(String, i64)>| {
        let _ = writeln!(text, "# HELP moorline_{name} {meaning}\n# TYPE moorline_{name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "moorline_{name}{labels} {value}");
        }
    };
    let alone = |value: i64| vec![(String::new(), value)];
    let revision = page.revision.as_ref().map_or("", |revision| revision.as_str());
    let labels = [
        ("host", page.host.as_str()),
        ("ring", page.ring.as_deref().unwrap_or("")),
        ("revision", revision),
        ("agent", page.agent.as_str()),
    ];
    gauge("info", "What this host is and runs.", vec![(shown(&labels), 1)]);
    gauge("run_age_seconds", "How long ago the last run ended.", alone(page.age_s.unwrap_or(0)));
    gauge("converged", "Whether everything was as desired.", alone(i64::from(page.end == RunEnd::Converged)));
    gauge("held", "Whether a person holds this host.", alone(i64::from(page.end == RunEnd::Held)));
    gauge("halted", "Whether the ring is halted.", alone(i64::from(page.end == RunEnd::Halted)));
    gauge("waiting", "Whether a revision waits for a wave or a freeze.", alone(i64::from(page.waiting.is_some())));
    let well = page.well.last().map_or(0, |well| i64::try_from(well.ms / 1000).unwrap_or(i64::MAX));
    gauge("well_seconds", "How long the present revision ran well.", alone(well));
    let of_service = |service: &ServiceStatus| {
        let labels = [("stack", service.stack.as_str()), ("service", &service.service), ("name", &service.container)];
        (shown(&labels), i64::from(is_well(service)))
    };
    gauge("service_well", "Whether a container works.", page.services.iter().map(of_service).collect());
    let of_backup = |backup: &BackupStatus, value: i64| {
        let stack = backup.stack.as_deref().unwrap_or_default();
        (shown(&[("job", backup.job.name()), ("repository", &backup.repository), ("stack", stack)]), value)
    };
    let well = page.backups.iter().map(|backup| of_backup(backup, i64::from(backup.problem.is_none())));
    gauge("backup_well", "Whether a backup, check or drill is neither failed nor too old.", well.collect());
    let good = page.backups.iter().filter_map(|backup| Some(of_backup(backup, backup.good?.as_second())));
    gauge("backup_good_timestamp_seconds", "When the last good backup, check or drill began.", good.collect());
    text
}

/// Whether a container works, or has done its work.
pub fn is_well(service: &ServiceStatus) -> bool {
    matches!(service.state, State::Running | State::Exited(0)) && service.health != Some(Health::Unhealthy)
}

/// `{name="value"}`, escaped as the format says.
fn shown(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(minute: i64, end: RunEnd, revision: char) -> Report {
        let ended = Timestamp::from_second(1_767_225_600 + minute * 60).unwrap();
        let draft = crate::decide::report::Draft::begin("alpha", "timer", ended, 1);
        let mut report = crate::decide::report::judge(draft, Ok(()), ended);
        report.end = end;
        report.revision = Some(revision.to_string().repeat(40).parse().unwrap());
        report
    }

    fn seconds(runs: &[(i64, RunEnd, char)]) -> Vec<(char, u64)> {
        let interval = Duration::from_secs(300);
        let mut page = None;
        for (minute, end, revision) in runs {
            page = Some(after_run(page, &report(*minute, *end, *revision), interval));
        }
        let short = |well: &Well| (well.revision.as_str().chars().next().unwrap(), well.ms / 1000);
        page.unwrap().well.iter().map(short).collect()
    }

    #[test]
    fn only_time_between_two_good_runs_of_one_revision_counts() {
        use RunEnd::{Converged, Degraded, Faulted, Held};
        assert_eq!(seconds(&[(0, Converged, 'a'), (5, Converged, 'a'), (10, Converged, 'a')]), [('a', 600)]);
        assert_eq!(seconds(&[(0, Converged, 'a'), (5, Converged, 'b'), (9, Converged, 'b')]), [('a', 0), ('b', 240)]);
        assert_eq!(seconds(&[(0, Converged, 'a'), (5, Held, 'a'), (9, Converged, 'a')]), [('a', 0)]);
        assert_eq!(seconds(&[(0, Converged, 'a'), (5, Faulted, 'a'), (9, Converged, 'a')]), [('a', 0)]);
        assert_eq!(seconds(&[(0, Converged, 'a'), (5, Converged, 'a'), (9, Degraded, 'a')]), []);
    }

    #[test]
    fn a_clock_that_jumps_counts_two_intervals_at_most_and_nothing_backwards() {
        use RunEnd::Converged;
        assert_eq!(seconds(&[(0, Converged, 'a'), (100_000, Converged, 'a')]), [('a', 600)]);
        assert_eq!(seconds(&[(100_000, Converged, 'a'), (0, Converged, 'a'), (5, Converged, 'a')]), [('a', 300)]);
    }

    #[test]
    fn a_label_cannot_end_its_quotes() {
        assert_eq!(shown(&[("a", "x\"y\\z\n")]), "{a=\"x\\\"y\\\\z\\n\"}");
    }
}
