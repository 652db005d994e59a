//! Judges where the host stands: its ledger, its last run, and what was begun and not ended.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Diagnosis, Trouble, broken, weak};
use crate::decide::schedule::show_duration;
use crate::model::backup::BackupStatus;
use crate::model::report::RunEnd;
use crate::model::{Ledger, Report};

/// How many intervals a keeper may be silent: one of its runs may be a long deploy.
const SILENT: u32 = 3;
/// However short the interval is.
const LEAST_SILENCE: SignedDuration = SignedDuration::from_mins(15);
/// So many messages wait when nobody sends them.
const PILE: usize = 5;

/// Whether the keeper looked lately, and how that ended.
pub fn last_run(last: Option<&Report>, interval: Duration, now: Timestamp) -> Diagnosis {
    let Some(last) = last else {
        return broken("there was none yet", "`systemctl enable --now moorline`, or `moorline reconcile`");
    };
    let silence = now.duration_since(last.ended);
    let ago = show_duration(Duration::from_secs(silence.as_secs().unsigned_abs()));
    let patience = SignedDuration::try_from(interval * SILENT).unwrap_or(SignedDuration::MAX).max(LEAST_SILENCE);
    if silence > patience {
        let what = format!("the last one ended {ago} ago, and one is due every {}", show_duration(interval));
        return broken(what, "`systemctl status moorline`, then `systemctl restart moorline`");
    }
    let fault = last.fault.as_ref();
    let hint = fault.and_then(|fault| fault.hint.clone()).unwrap_or_else(|| "`moorline runs show`".into());
    let trouble = Trouble {
        because: fault.map(|fault| fault.because.clone()).unwrap_or_default(),
        ..Trouble::new(format!("{ago} ago: {}", last.summary), hint)
    };
    match last.end {
        RunEnd::Converged => Diagnosis::Fine(format!("{ago} ago: {}", last.summary)),
        // Somebody's will; what is held is a check of its own.
        RunEnd::Held | RunEnd::Stopped => Diagnosis::Fine(format!("{ago} ago: {}", last.summary)),
        RunEnd::Halted => Diagnosis::Weak(Trouble {
            fix: "in a checkout: take the line `halt:` out of the ring's file, and merge that".into(),
            ..trouble
        }),
        RunEnd::Degraded | RunEnd::RolledBack | RunEnd::Faulted | RunEnd::AwaitingEnrolment => {
            Diagnosis::Broken(trouble)
        }
    }
}

/// Who holds the host or a stack.
pub fn hold(ledger: &Ledger, now: Timestamp) -> Vec<Diagnosis> {
    let host = ledger.held(now).map(|hold| weak(format!("this host is {hold}"), "`moorline release`"));
    let stacks = ledger.held_stacks(now);
    let stacks =
        stacks.map(|(stack, hold)| weak(format!("{stack} is {hold}"), format!("`moorline release --stack {stack}`")));
    let mut diagnoses: Vec<Diagnosis> = host.into_iter().chain(stacks).collect();
    if diagnoses.is_empty() {
        diagnoses.push(Diagnosis::Fine("none".into()));
    }
    diagnoses
}

/// Which deploys failed, and are given up or tried again.
pub fn deploys(ledger: &Ledger) -> Vec<Diagnosis> {
    let failed = |(stack, failure): (&String, &crate::model::Failure)| {
        let (sentence, fix) = match failure.next {
            Some(next) => (
                format!("{stack} failed, and is tried again at {next:.0}"),
                format!("`moorline retry {stack}` does it now"),
            ),
            None => (
                format!("{stack} failed, and is not tried again"),
                format!("merge what mends it, or `moorline retry {stack}`"),
            ),
        };
        Diagnosis::Broken(Trouble { because: failure.because.clone(), ..Trouble::new(sentence, fix) })
    };
    let all = ledger.failures.iter().chain(&ledger.repairs);
    let mut diagnoses: Vec<Diagnosis> = all.map(failed).collect();
    if diagnoses.is_empty() {
        diagnoses.push(Diagnosis::Fine(format!("{} stacks, none failed", ledger.applied.len())));
    }
    diagnoses
}

/// What was begun and not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// The process that is at work now, and its verb: then nothing is left over.
    pub at_work: Option<(u32, String)>,
    /// Whether a step of a run was in flight.
    pub step: bool,
    /// The stack whose containers stand for a backup.
    pub standing: Option<String>,
    /// Stacks with a restore in place that was cut.
    pub restores: Vec<String>,
}

/// Whether nothing is left that somebody began and did not end.
pub fn leftovers(found: &Leftovers) -> Vec<Diagnosis> {
    if let Some((pid, verb)) = &found.at_work {
        return vec![Diagnosis::Fine(format!("pid {pid} is at work: {verb}"))];
    }
    let mut diagnoses = Vec::new();
    if found.step {
        diagnoses.push(weak("a run was cut in the middle of a step", "`moorline reconcile` ends it or undoes it"));
    }
    if let Some(stack) = &found.standing {
        let what = format!("containers of {stack} stand for a backup that was cut");
        diagnoses.push(broken(what, "`moorline reconcile` lets them go on"));
    }
    for stack in &found.restores {
        let what = format!("a restore of {stack} was cut while data changed places, and the stack is not touched");
        diagnoses.push(broken(
            what,
            format!("`moorline restore {stack} SNAPSHOT --in-place` again, with the same snapshot"),
        ));
    }
    if diagnoses.is_empty() {
        diagnoses.push(Diagnosis::Fine("none".into()));
    }
    diagnoses
}

/// Whether the last nights made what they should. `next` is when the next one begins.
pub fn nights(statuses: &[BackupStatus], next: Option<Timestamp>) -> Diagnosis {
    let Some(next) = next else { return Diagnosis::Idle("this host makes no backups".into()) };
    let problems: Vec<String> = statuses.iter().filter_map(|status| status.problem.clone()).collect();
    if problems.is_empty() {
        return Diagnosis::Fine(format!("all well; the next one is due at {next:.0}"));
    }
    let fix = "`journalctl -u moorline-backup -n 100`, then `moorline backup`";
    Diagnosis::Broken(Trouble { because: problems, ..Trouble::new("not all was saved, checked or proven", fix) })
}

/// Whether messages are sent.
pub fn messages(waiting: usize) -> Diagnosis {
    match waiting {
        0 => Diagnosis::Fine("none waits".into()),
        few if few < PILE => Diagnosis::Fine(format!("{few} on their way")),
        many => broken(
            format!("{many} messages wait, and nobody sends them"),
            "`journalctl -u moorline-courier -n 50`, then `systemctl restart moorline-courier`",
        ),
    }
}

/// Whether the service runs what is installed. `replaced` is a process that runs a file which is not there any more.
pub fn agent(version: &str, running: Option<u32>, replaced: Option<u32>) -> Diagnosis {
    match (running, replaced) {
        (_, Some(pid)) => weak(
            format!("pid {pid} runs a file that was replaced since; this is {version}"),
            "`systemctl restart moorline-courier moorline`",
        ),
        (Some(pid), None) => Diagnosis::Fine(format!("{version}; the keeper runs as pid {pid}")),
        (None, None) => broken(
            format!("the keeper does not run; this is {version}"),
            "`systemctl enable --now moorline-courier moorline`",
        ),
    }
}

/// Whether the repository names this host's key. `named` stands in the repository, `own` are this host's.
pub fn enrolment(host: &str, named: Option<&str>, own: &[String]) -> Diagnosis {
    let fix = |recipient: &str| {
        format!(
            "in a checkout: `moorline host enroll {host} {recipient}`, then `sops updatekeys --yes hosts/{host}/secrets.sops.yaml`"
        )
    };
    match (named, own.first()) {
        (_, None) => Diagnosis::Unseen("this host has no key yet".into()),
        (Some(named), _) if own.iter().any(|own| own == named) => Diagnosis::Fine(named.to_owned()),
        (Some(named), Some(own)) => {
            broken(format!("hosts/{host}/recipient names {named}, and this host is {own}"), fix(own))
        }
        (None, Some(own)) => broken(format!("the repository does not name this host's key {own} yet"), fix(own)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Failure, Hold, Left};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[track_caller]
    fn trouble(diagnosis: &Diagnosis) -> (&str, &str) {
        let (Diagnosis::Broken(trouble) | Diagnosis::Weak(trouble)) = diagnosis else { panic!("{diagnosis:?}") };
        (&trouble.sentence, &trouble.fix)
    }

    #[test]
    fn a_hold_is_weak_and_names_its_release() {
        let now = at("2026-01-11T12:00:00Z");
        let hold_of = |until| Hold { owner: "alice".into(), reason: "fire".into(), since: now, until };
        let mut ledger = Ledger::default();
        assert_eq!(hold(&ledger, now), [Diagnosis::Fine("none".into())]);
        ledger.hold = Some(hold_of(at("2026-01-11T11:00:00Z")));
        assert_eq!(hold(&ledger, now), [Diagnosis::Fine("none".into())], "it has ended");
        ledger.hold = Some(hold_of(at("2026-01-11T13:00:00Z")));
        ledger.stack_holds.insert("web".into(), hold_of(at("2026-01-11T13:00:00Z")));
        let found = hold(&ledger, now);
        assert_eq!(trouble(&found[0]).1, "`moorline release`");
        assert_eq!(trouble(&found[1]).0, "web is held by alice until 2026-01-11T13:00:00Z: fire");
    }

    #[test]
    fn a_deploy_that_is_given_up_waits_for_a_person() {
        let failure = |next| Failure {
            digest: "d".into(),
            revision: None,
            begun: 2,
            failed: 2,
            hindered: 0,
            because: vec!["web did not become healthy".into()],
            at: at("2026-01-11T11:00:00Z"),
            next,
            left: Left::RolledBack,
        };
        let mut ledger = Ledger::default();
        assert_eq!(deploys(&ledger), [Diagnosis::Fine("0 stacks, none failed".into())]);
        ledger.failures.insert("web".into(), failure(None));
        assert_eq!(trouble(&deploys(&ledger)[0]).1, "merge what mends it, or `moorline retry web`");
        ledger.failures.insert("web".into(), failure(Some(at("2026-01-11T12:00:00Z"))));
        assert!(trouble(&deploys(&ledger)[0]).0.ends_with("is tried again at 2026-01-11T12:00:00Z"));
    }

    #[test]
    fn what_was_cut_is_named_and_what_is_at_work_is_not() {
        let cut = Leftovers { step: true, standing: Some("db".into()), restores: vec!["web".into()], at_work: None };
        let found = leftovers(&cut);
        assert!(matches!(found[0], Diagnosis::Weak(_)) && trouble(&found[0]).1.starts_with("`moorline reconcile`"));
        assert!(trouble(&found[1]).0.contains("containers of db") && trouble(&found[2]).1.contains("restore web"));
        let at_work = Leftovers { at_work: Some((12, "reconcile".into())), ..cut };
        assert_eq!(leftovers(&at_work), [Diagnosis::Fine("pid 12 is at work: reconcile".into())]);
        assert_eq!(leftovers(&Leftovers::default()), [Diagnosis::Fine("none".into())]);
    }

    #[test]
    fn nights_messages_and_the_agent() {
        let (now, next) = (at("2026-01-11T12:00:00Z"), Some(at("2026-01-12T03:00:00Z")));
        assert!(matches!(nights(&[], None), Diagnosis::Idle(_)));
        assert!(matches!(nights(&[], next), Diagnosis::Fine(_)));
        let job = crate::model::backup::Job::Backup;
        let late = BackupStatus {
            job,
            repository: "box".into(),
            stack: Some("web".into()),
            good: Some(now),
            problem: Some("backup of web to box is 3d old".into()),
        };
        let Diagnosis::Broken(found) = nights(&[late], next) else { panic!() };
        assert_eq!(found.because, ["backup of web to box is 3d old"]);
        assert!(matches!(messages(0), Diagnosis::Fine(_)) && matches!(messages(2), Diagnosis::Fine(_)));
        assert!(trouble(&messages(9)).1.starts_with("`journalctl -u moorline-courier"));
        assert!(matches!(agent("0.1.0", Some(7), None), Diagnosis::Fine(_)));
        assert!(trouble(&agent("0.1.0", Some(7), Some(7))).1.starts_with("`systemctl restart"));
        assert!(matches!(agent("0.1.0", None, None), Diagnosis::Broken(_)));
    }

    #[test]
    fn a_host_that_waits_to_be_let_in_says_what_to_type() {
        let own = ["age1own".to_owned()];
        assert_eq!(enrolment("gamma", Some("age1own"), &own), Diagnosis::Fine("age1own".into()));
        for named in [None, Some("age1old")] {
            let found = enrolment("gamma", named, &own);
            assert!(trouble(&found).1.contains("`moorline host enroll gamma age1own`"), "{found:?}");
        }
        assert!(matches!(enrolment("gamma", None, &[]), Diagnosis::Unseen(_)));
    }

    #[test]
    fn a_keeper_that_is_silent_is_broken() {
        let now = at("2026-01-11T12:00:00Z");
        let silent = last_run(None, Duration::from_mins(5), now);
        assert!(trouble(&silent).1.contains("systemctl enable --now moorline"));
    }
}
