//! Judges a run by what the engine said afterwards, and puts it into one sentence.

use std::time::Duration;

use jiff::Timestamp;

use crate::decide::fault::{Code, Fault};
use crate::decide::standstill;
use crate::model::report::{self, Report, RunEnd, ServiceStatus};
use crate::model::ring::Waiting;
use crate::model::{Container, Health, Observed, Outcome, Plan, Revision, State, Verdict, Warrant};

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
    /// Facts that are not faults.
    pub notes: Vec<String>,
    /// Facts of this run alone: the next one finds them again, or not.
    pub remarks: Vec<String>,
    /// When the tip was accepted, once known.
    pub accepted: Option<Timestamp>,
    /// How often the operators expect the tip to move, if they said so.
    pub expect_change_within: Option<Duration>,
}

impl Draft {
    /// A run that has only just begun.
    pub fn begin(host: &str, occasion: &str, now: Timestamp, process: u32) -> Self {
        Self {
            run: format!("{}-{process}", now.strftime("%Y%m%dT%H%M%S%.3fZ")),
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
            notes: Vec::new(),
            remarks: Vec::new(),
            accepted: None,
            expect_change_within: None,
        }
    }
}

/// The report of a run that ended with `result`.
pub fn judge(draft: Draft, result: Result<(), Fault>, now: Timestamp) -> Report {
    let services = statuses(&draft.observed, |stack| draft.stacks.iter().any(|ours| ours == stack));
    let troubled = troubles(&draft);
    let failed = first_failure(&draft.outcomes);
    let fault = match result {
        Err(fault) => Some(fault),
        Ok(()) => failed.or_else(|| unfinished(&draft.outcomes)).or_else(|| {
            let sentence = format!("{} is not well", troubled.first()?);
            Some(Fault::new(Code::ServiceUnhealthy, sentence).because(troubled.join(", ")).hint("moorline status"))
        }),
    };
    let end = match &fault {
        None => RunEnd::Converged,
        Some(fault) => match fault.code {
            Code::Held => RunEnd::Held,
            Code::Halted => RunEnd::Halted,
            Code::Stopped => RunEnd::Stopped,
            Code::StepFailed
            | Code::GateFailed
            | Code::ServiceUnhealthy
            | Code::DowngradeRefused
            | Code::ImageUnavailable
            | Code::ImageRefused
            | Code::ImageMoved
            | Code::SpaceShort => RunEnd::Degraded,
            _ => RunEnd::Faulted,
        },
    };
    let mut summary = summary(&draft, end, fault.as_ref(), now);
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
    let what = fault.map(|fault| fault.sentence.clone()).unwrap_or_default();
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
        RunEnd::Stopped | RunEnd::Held | RunEnd::Halted => what,
    }
}

fn first_failure(outcomes: &[Outcome]) -> Option<Fault> {
    outcomes.iter().find_map(|outcome| {
        let Verdict::Failed { fault, because } = &outcome.verdict else { return None };
        let step = &outcome.step;
        // An engine that went away in the middle says nothing about the services.
        let code = Code::of_name(fault).unwrap_or(Code::StepFailed);
        let sentence = match (&step.action, code) {
            (crate::model::Action::Gate { services, .. }, Code::GateFailed) => {
                format!("{} of {} did not become healthy", services.join(" "), step.stack)
            }
            (action, _) => format!("{} of {} failed", action.verb(), step.stack),
        };
        let mut fault = Fault::new(code, sentence);
        fault.because.clone_from(because);
        fault.hint = Some(match code {
            Code::GateFailed => format!("docker compose -p {} logs", step.stack),
            _ => "moorline runs show".into(),
        });
        Some(fault)
    })
}

/// Without a failure, only the order to stop skips steps.
fn unfinished(outcomes: &[Outcome]) -> Option<Fault> {
    let skipped = outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Skipped { .. })).count();
    let sentence = format!("moorline was asked to stop before {skipped} of {} steps", outcomes.len());
    (skipped > 0).then(|| Fault::new(Code::Stopped, sentence).hint("the next run goes on: `moorline reconcile`"))
}

/// The services of the stacks that `is_ours` names, as the engine shows them.
pub fn statuses(observed: &Observed, is_ours: impl Fn(&str) -> bool) -> Vec<ServiceStatus> {
    let of_ours = |container: &&Container| is_ours(&container.project);
    let status = |container: &Container| ServiceStatus {
        stack: container.project.clone(),
        service: container.service.clone(),
        container: container.name.clone(),
        image: container.image.clone(),
        state: container.state,
        health: container.health,
    };
    observed.containers.iter().filter(of_ours).map(status).collect()
}

/// Containers of ours that do not work although nothing about them was to be changed.
fn troubles(draft: &Draft) -> Vec<String> {
    let trouble = |container: &&Container| {
        draft.stacks.contains(&container.project)
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
