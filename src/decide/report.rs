//! Judges a run by what the engine said afterwards, and puts it into one sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::fault::{Code, Fault, Mover};
use crate::decide::standstill;
use crate::model::backup::Before;
use crate::model::report::{self, Report, RunEnd, ServiceStatus};
use crate::model::ring::Waiting;
use crate::model::{Action, Container, Health, Observed, Outcome, Plan, Revision, State, Step, Verdict, Warrant};

/// What a run has gathered so far. It becomes a [`Report`] however the run ends.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Sortable id of the run.
    pub run: String,
    /// The host.
    pub host: String,
    /// What began it.
    pub occasion: String,
    /// When it began.
    pub began: Timestamp,
    /// The newest accepted revision, once known.
    pub tip: Option<Revision>,
    /// Who signed it, once known.
    pub signer: Option<String>,
    /// On whose word that is.
    pub trust: Warrant,
    /// The ring, once known.
    pub ring: Option<String>,
    /// The revision to apply, once known.
    pub revision: Option<Revision>,
    /// What this host waits for before it moves to the revision that its ring names.
    pub waiting: Option<Waiting>,
    /// Which identity opened which SOPS file.
    pub opened: Vec<report::Opened>,
    /// The plan, once made.
    pub plan: Plan,
    /// What was done.
    pub outcomes: Vec<Outcome>,
    /// The stacks of this host.
    pub stacks: Vec<String>,
    /// What the engine said last.
    pub observed: Observed,
    /// What registries call the images of the stacks, by the engine's id of the image.
    pub digests: BTreeMap<String, String>,
    /// Facts that are not faults.
    pub notes: Vec<String>,
    /// Facts of this run alone: the next one finds them again, or not.
    pub remarks: Vec<String>,
    /// When the tip was accepted, once known.
    pub accepted: Option<Timestamp>,
    /// How often the operators expect the tip to move, if they said so.
    pub expect_change_within: Option<Duration>,
    /// What containers that failed said last.
    pub evidence: Vec<report::Evidence>,
    /// Ways back, and how they went.
    pub rollbacks: Vec<report::Rollback>,
    /// What failed and how its stack was left, in the order in which it happened.
    pub faults: Vec<Fault>,
    /// Stacks of which this run began an attempt that counts.
    pub begun: BTreeSet<String>,
    /// Snapshots that were taken before a stack was touched, by stack.
    pub snapshots: BTreeMap<String, Before>,
    /// Stacks that are not brought to what is desired in this run, since it failed before.
    pub put_off: Vec<Fault>,
    /// Stacks that a person holds, and the words for it.
    pub held: BTreeMap<String, String>,
    /// What is the matter with the version of moorline that this host should run.
    pub release: Option<Fault>,
}

/// The name of a run: it sorts by time, and no other process has it.
pub fn name(began: Timestamp, process: u32) -> String {
    format!("{}-{process}", began.strftime("%Y%m%dT%H%M%S%.3fZ"))
}

impl Draft {
    /// A run that has only just begun.
    pub fn begin(host: &str, occasion: &str, now: Timestamp, process: u32) -> Self {
        Self {
            run: name(now, process),
            host: host.to_owned(),
            occasion: occasion.to_owned(),
            began: now,
            tip: None,
            signer: None,
            trust: Warrant::default(),
            ring: None,
            revision: None,
            waiting: None,
            opened: Vec::new(),
            plan: Plan::default(),
            outcomes: Vec::new(),
            stacks: Vec::new(),
            observed: Observed::default(),
            digests: BTreeMap::new(),
            notes: Vec::new(),
            remarks: Vec::new(),
            accepted: None,
            expect_change_within: None,
            evidence: Vec::new(),
            rollbacks: Vec::new(),
            faults: Vec::new(),
            begun: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            put_off: Vec::new(),
            held: BTreeMap::new(),
            release: None,
        }
    }
}

/// The report of a run that ended with `result`.
pub fn judge(draft: Draft, result: Result<(), Fault>, now: Timestamp) -> Report {
    let services = statuses(&draft.observed, &draft.digests, |stack| draft.stacks.iter().any(|ours| ours == stack));
    let troubled = troubles(&draft);
    let fault = match result {
        // What ended the run does not hide what had happened before.
        Err(fault) => worst(&[draft.faults.as_slice(), &[fault]].concat()),
        Ok(()) => worst(&draft.faults)
            .map(|fault| draft.held.values().fold(fault, |fault, words| fault.at(format!("{ALSO}{words}"))))
            .or_else(|| unfinished(&draft))
            .or_else(|| worst(&draft.put_off))
            .or_else(|| {
                let sentence = format!("{} is not well", troubled.first()?);
                Some(Fault::new(Code::ServiceUnhealthy, sentence).because(troubled.join(", ")).hint("moorline status"))
            })
            .or_else(|| draft.release.clone())
            .or_else(|| held(&draft)),
    };
    let end = match &fault {
        None => RunEnd::Converged,
        Some(fault) => match fault.code {
            Code::Held => RunEnd::Held,
            Code::Halted => RunEnd::Halted,
            Code::Stopped => RunEnd::Stopped,
            Code::AwaitingEnrolment => RunEnd::AwaitingEnrolment,
            Code::RolledBack => RunEnd::RolledBack,
            Code::DeployRefused | Code::DeployWaiting | Code::LockHeld => RunEnd::Degraded,
            Code::RollbackFailed | Code::SnapshotMissing | Code::RestoreUnfinished => RunEnd::Degraded,
            Code::StepFailed
            | Code::GateFailed
            | Code::ServiceUnhealthy
            | Code::RouteRefused
            | Code::TraefikSilent
            | Code::DowngradeRefused
            | Code::ImageUnavailable
            | Code::ImageRefused
            | Code::ImageDenied
            | Code::ImageMoved
            | Code::SpaceShort
            | Code::ReleaseUnfetched
            | Code::ReleaseRefused
            | Code::ReleaseDamaged => RunEnd::Degraded,
            _ => RunEnd::Faulted,
        },
    };
    let mut summary = summary(&draft, end, fault.as_ref(), now);
    if matches!(end, RunEnd::Held | RunEnd::Halted | RunEnd::Faulted) && !troubled.is_empty() {
        summary = format!("{summary}; not well: {}", troubled.join(", "));
    }
    let mut notes = [draft.notes, draft.remarks].concat();
    if let Some(frozen) = standstill::remark(draft.accepted, draft.expect_change_within, now) {
        summary = format!("{summary}; {frozen}");
        notes.push(format!("{frozen}: either nobody committed, or this host is kept from seeing it"));
    }
    Report {
        version: report::VERSION,
        run: draft.run,
        host: draft.host,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        occasion: draft.occasion,
        began: draft.began,
        ended: now,
        end,
        summary,
        tip: draft.tip,
        signer: draft.signer,
        trust: draft.trust,
        ring: draft.ring,
        revision: draft.revision,
        waiting: draft.waiting,
        opened: draft.opened,
        plan: draft.plan,
        outcomes: draft.outcomes,
        evidence: draft.evidence,
        rollbacks: draft.rollbacks,
        snapshots: draft.snapshots,
        services,
        notes,
        fault: fault.as_ref().map(Fault::record),
    }
}

/// The exit code of a run that ended so (DESIGN section 11).
pub fn exit(report: &Report) -> u8 {
    match &report.fault {
        None => 0,
        Some(fault) => Code::of_name(&fault.code).map_or(1, Code::exit),
    }
}

/// Whether a run found everything as it should be and did nothing.
pub fn is_quiet(report: &Report) -> bool {
    report.end == RunEnd::Converged && report.outcomes.is_empty()
}

fn summary(draft: &Draft, end: RunEnd, fault: Option<&Fault>, now: Timestamp) -> String {
    let place = match &draft.revision {
        Some(revision) => format!(" at {}", revision.short()),
        None => String::new(),
    };
    let done = draft.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Done).count();
    let seconds = now.duration_since(draft.began).as_secs();
    let also = fault.iter().flat_map(|fault| &fault.places).filter_map(|place| place.strip_prefix(ALSO));
    let what: Vec<&str> = fault.iter().map(|fault| fault.sentence.as_str()).chain(also).collect();
    let what = what.join("; ");
    let place = match (&draft.waiting, &draft.ring) {
        (Some(waiting), Some(ring)) => format!("{place} while {}", waiting.sentence(ring)),
        _ => place,
    };
    match end {
        RunEnd::Converged if draft.outcomes.is_empty() => format!("converged{place}, nothing to do"),
        RunEnd::Converged => format!("converged{place}, {done} steps, {seconds} s"),
        RunEnd::Degraded => format!("degraded{place}: {what}"),
        RunEnd::Faulted => match fault {
            Some(fault) => format!("{}: {what}", fault.code.name()),
            None => what,
        },
        RunEnd::RolledBack | RunEnd::Stopped | RunEnd::Held | RunEnd::Halted | RunEnd::AwaitingEnrolment => what,
    }
}

/// What stands before another fault that a report names besides its own.
const ALSO: &str = "also: ";

/// The fault that a person should read first: one that asks for a person; the others stand below it. That somebody
/// wanted the run to end is told last.
fn worst(faults: &[Fault]) -> Option<Fault> {
    let rank = |fault: &Fault| match (fault.code, fault.code.mover()) {
        (Code::Held | Code::Halted | Code::Stopped, _) => 2,
        (_, Mover::NextRun) => 1,
        (_, Mover::Person) => 0,
    };
    let first = (0..faults.len()).min_by_key(|number| rank(&faults[*number]))?;
    let mut fault = faults.get(first)?.clone();
    // A disk that is full may have been in the way more than once.
    let others = faults.iter().filter(|other| other.sentence != faults[first].sentence);
    fault.places.extend(others.map(|other| format!("{ALSO}{}", other.sentence)));
    Some(fault)
}

/// The fault of a failed step.
pub fn step_fault(step: &Step, fault: &Fault) -> Fault {
    // An engine that went away in the middle says nothing about the services.
    let code = fault.code;
    let sentence = match (&step.action, code) {
        (Action::Gate { services, .. }, Code::GateFailed) => {
            format!("{} of {} did not become healthy", services.join(" "), step.stack)
        }
        (Action::Snapshot, _) => fault.sentence.clone(),
        (action, _) => format!("{} of {} failed", action.verb(), step.stack),
    };
    let mut named = Fault::new(code, sentence);
    if named.sentence != fault.sentence {
        named.because.push(fault.sentence.clone());
    }
    named.because.extend(fault.places.iter().chain(&fault.because).cloned());
    named.hint = Some(match (code, &fault.hint) {
        (Code::GateFailed, _) => format!("docker compose -p {} logs", step.stack),
        (Code::SnapshotMissing | Code::SpaceShort | Code::RouteRefused, Some(hint)) => hint.clone(),
        (Code::ImageRefused | Code::ImageDenied | Code::ImageMoved | Code::ImageUnavailable, Some(hint)) => {
            hint.clone()
        }
        _ => "moorline runs show".into(),
    });
    named
}

/// If nothing else is the matter, a person who holds a stack is.
fn held(draft: &Draft) -> Option<Fault> {
    let words: Vec<&str> = draft.held.values().map(String::as_str).collect();
    let fault = Fault::new(Code::Held, words.first().copied()?.to_owned());
    let fault = words.iter().skip(1).fold(fault, |fault, words| fault.at(format!("{ALSO}{words}")));
    Some(fault.at("the other stacks are as they should be").hint("`moorline release` ends the hold"))
}

/// Without a failure, only the order to stop skips steps, and a hold.
fn unfinished(draft: &Draft) -> Option<Fault> {
    let is_skipped = |outcome: &&Outcome| {
        matches!(outcome.verdict, Verdict::Skipped { .. }) && !draft.held.contains_key(&outcome.step.stack)
    };
    let skipped = draft.outcomes.iter().filter(is_skipped).count();
    let sentence = format!("moorline was asked to stop before {skipped} of {} steps", draft.outcomes.len());
    (skipped > 0).then(|| Fault::new(Code::Stopped, sentence).hint("the next run goes on: `moorline reconcile`"))
}

/// The services of the stacks that `is_ours` names, as the engine shows them.
/// `digests` is what registries call images, by the engine's id.
pub fn statuses(
    observed: &Observed,
    digests: &BTreeMap<String, String>,
    is_ours: impl Fn(&str) -> bool,
) -> Vec<ServiceStatus> {
    let of_ours = |container: &&Container| is_ours(&container.project);
    let status = |container: &Container| ServiceStatus {
        stack: container.project.clone(),
        service: container.service.clone(),
        container: container.name.clone(),
        image: container.image.clone(),
        digest: digests.get(&container.image_id).cloned(),
        state: container.state,
        health: container.health,
    };
    observed.containers.iter().filter(of_ours).map(status).collect()
}

/// Containers of ours that do not work although nothing about them was to be changed.
fn troubles(draft: &Draft) -> Vec<String> {
    let trouble = |container: &&Container| {
        draft.stacks.contains(&container.project)
            && !draft.held.contains_key(&container.project)
            && (container.health == Some(Health::Unhealthy)
                || matches!(container.state, State::Restarting | State::Paused | State::Gone)
                || matches!(container.state, State::Exited(code) if code != 0))
    };
    let name = |container: &Container| match container.health {
        Some(Health::Unhealthy) => format!("{} (unhealthy)", container.name),
        _ => format!("{} ({})", container.name, container.state),
    };
    draft.observed.containers.iter().filter(trouble).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(faults: &[(Code, &str)], ended: Option<(Code, &str)>) -> Report {
        let now = Timestamp::UNIX_EPOCH;
        let fault = |(code, sentence): &(Code, &str)| Fault::new(*code, *sentence);
        let mut draft = Draft::begin("alpha", "timer", now, 1);
        draft.faults = faults.iter().map(fault).collect();
        draft.held = BTreeMap::from([("db".to_owned(), "db is held by alice".to_owned())]);
        judge(draft, ended.iter().map(fault).next().map_or(Ok(()), Err), now)
    }

    #[test]
    fn what_happened_comes_before_what_somebody_wanted_and_everything_is_named_once() {
        let rolled_back = (Code::RolledBack, "web rolled back");
        for will in [Code::Held, Code::Halted, Code::Stopped] {
            let report = judged(&[(Code::StepFailed, "up of shop failed"), rolled_back], Some((will, "enough")));
            assert_eq!((report.end, exit(&report)), (RunEnd::RolledBack, 1));
            assert_eq!(report.summary, "web rolled back; up of shop failed; enough");
        }
        let report = judged(&[rolled_back], None);
        assert_eq!(report.summary, "web rolled back; db is held by alice");
        let full = (Code::StateUnwritable, "no space");
        assert_eq!(judged(&[full, full], Some(full)).summary, "state-unwritable: no space");
        assert_eq!(judged(&[], Some((Code::Halted, "ring canary is halted"))).end, RunEnd::Halted);
    }
}
