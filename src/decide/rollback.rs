//! Decides which way a stack goes after its first failure, and plans the way back. It never asks the registry or git:
//! the plan is made from what this host has.

use std::collections::BTreeSet;

use crate::decide::compose::{self, Extension, Rollback};
use crate::decide::fault::{Code, Fault};
use crate::decide::plan::{self, Circumstances};
use crate::decide::retry::Kind;
use crate::model::backup::{Before, Repository};
use crate::model::{Action, Cause, Desired, DesiredStack, Ledger, Left, Observed, Plan, Revision, Settings, Step};

/// Which way a stack goes after a step of it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing that runs was touched.
    Stay,
    /// It is in the middle, and what is in the way goes away by itself: the next run goes on from there.
    GoOn,
    /// It is left as it is, for a person: it has no version to go back to, or must not go back.
    Leave,
    /// Back to the last good version.
    Back,
}

impl Way {
    /// How the stack is left, before a way back was tried.
    pub fn left(self) -> Left {
        match self {
            Way::Stay => Left::Untouched,
            Way::GoOn => Left::Begun,
            Way::Leave => Left::AsIs,
            Way::Back => Left::Begun,
        }
    }
}

/// Whether a stack has a version to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastGood {
    /// Another one than the one that failed.
    Other,
    /// The one that failed: it worked once, and was only being put right.
    Same,
    /// It never worked on this host.
    None,
}

/// The way after `action` failed.
pub fn way(action: &Action, kind: Kind, stack: &DesiredStack, good: LastGood) -> Way {
    let rule = Extension::read(&stack.model.extension).ok().and_then(|extension| extension.deploy.rollback);
    match (action, kind, good) {
        (Action::Pull { .. } | Action::Snapshot | Action::Write { .. }, ..) => Way::Stay,
        (_, Kind::Transient, _) | (_, _, LastGood::Same) | (_, Kind::Cut, LastGood::None) => Way::GoOn,
        (_, Kind::Cut, LastGood::Other) if rule == Some(Rollback::ForwardOnly) => Way::GoOn,
        (_, Kind::Deterministic, LastGood::None) => Way::Leave,
        (_, Kind::Deterministic, LastGood::Other) if rule == Some(Rollback::ForwardOnly) => Way::Leave,
        // What served serves again until the next attempt.
        (_, Kind::Cut | Kind::Deterministic, LastGood::Other) => Way::Back,
    }
}

/// The way back: the files, every container that is not as it was when it worked, and a gate over all that the failed
/// deploy touched. `touched` are the services of its steps.
pub fn plan(
    good: &DesiredStack,
    to: &Revision,
    touched: &BTreeSet<String>,
    observed: &Observed,
    circumstances: &Circumstances<'_>,
) -> Plan {
    let desired = Desired { host: String::new(), revision: Some(to.clone()), stacks: vec![good.clone()] };
    // A stack that is not in this plan stays declared: only this one goes back.
    let mine = |step: &Step| step.stack == good.name;
    let mut steps: Vec<Step> = plan::plan(&desired, observed, circumstances).steps.into_iter().filter(mine).collect();
    let mut ungated: BTreeSet<String> =
        touched.iter().filter(|service| good.model.services.contains_key(*service)).cloned().collect();
    for step in &mut steps {
        match &step.action {
            Action::Gate { services, .. } => services.iter().for_each(|service| _ = ungated.remove(service)),
            _ => step.causes = vec![Cause::DeployFailed { to: to.clone() }],
        }
    }
    if !ungated.is_empty() {
        let services = ungated.into_iter().collect();
        let action = Action::Gate { services, timeout: good.health_timeout };
        steps.push(Step { stack: good.name.clone(), action, causes: vec![Cause::AfterUp] });
    }
    Plan { steps }
}

/// The services that a step brings up or waits for.
pub fn services_of(step: &Step, stack: &DesiredStack) -> Vec<String> {
    match &step.action {
        Action::Up { services }
        | Action::Gate { services, .. }
        | Action::Restart { services }
        | Action::Signal { services, .. }
        | Action::Unpause { services }
        | Action::StartFirst { services }
        | Action::Route { services, .. }
        | Action::Drain { services, .. }
        | Action::Withdraw { services, .. } => services.clone(),
        Action::UpWhole => stack.model.services.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// The images of the last good version that are not here: then there is no way back.
pub fn missing<'a>(good: &DesiredStack, missing: &'a BTreeSet<String>) -> Vec<&'a String> {
    let images = compose::images(&good.model);
    missing.iter().filter(|image| images.contains(*image)).collect()
}

/// What is said when the last good version serves again.
pub fn rolled_back(
    stack: &str,
    to: &Revision,
    failed: &Fault,
    undisturbed: &[String],
    before: Option<&Before>,
) -> Fault {
    let why = failed.because.first().map(|why| format!(": {why}")).unwrap_or_default();
    let sentence = format!("{stack} rolled back to {}: {}{why}", to.short(), failed.sentence);
    let mut fault = Fault::new(Code::RolledBack, sentence)
        .at(format!("{} serves; nothing of the data was changed back", to.short()))
        .hint("`moorline runs show` has the last lines of what failed");
    if !undisturbed.is_empty() {
        let services = undisturbed.join(" ");
        fault = fault.at(format!("{services} served all the time: the new containers stood beside the old ones"));
    }
    fault.places.extend(before.map(|before| data_before(stack, before)));
    fault.because.extend(failed.because.iter().skip(1).cloned());
    fault
}

/// Where the data is as it was before a deploy.
fn data_before(stack: &str, before: &Before) -> String {
    format!("data as it was before: `{}`", restore(stack, before))
}

/// The command that brings it back.
fn restore(stack: &str, before: &Before) -> String {
    let taken = before.snapshots.first();
    let snapshot = taken.map_or("latest", |taken| taken.snapshot.get(..8).unwrap_or(&taken.snapshot));
    let among = taken.filter(|taken| taken.repository != Repository::ONLY);
    let among = among.map(|taken| format!(" --repository {}", taken.repository)).unwrap_or_default();
    format!("moorline restore {stack} {snapshot}{among} --in-place")
}

/// The snapshots that tell how the data of a stack was before this deploy of it.
pub fn before<'a>(ledger: &'a Ledger, desired: &DesiredStack) -> Option<&'a Before> {
    let applied = ledger.applied.get(&desired.name)?;
    let is_of = |before: &&Before| before.state == applied.digest && before.deploy == desired.digest;
    ledger.before.get(&desired.name).filter(is_of)
}

/// What is said when the way back could not be finished in this run, for a reason that goes away by itself.
pub fn rolled_back_later(stack: &str, to: &Revision, failed: &Fault, hindrance: &Fault) -> Fault {
    let sentence = format!("{stack} is on its way back to {}: {}", to.short(), failed.sentence);
    Fault::new(hindrance.code, sentence)
        .because(hindrance.sentence.clone())
        .at("the next run goes on with it")
        .hint("moorline reconcile")
}

/// What is said when the last good version does not come back either.
pub fn failed(
    settings: &Settings,
    stack: &str,
    to: &Revision,
    first: &Fault,
    second: &Fault,
    before: Option<&Before>,
) -> Fault {
    let directory = settings.stack_directory(stack);
    let sentence = format!("{stack} could not be rolled back to {}: {}", to.short(), second.sentence);
    let mut fault = Fault::new(Code::RollbackFailed, sentence)
        .at(format!("nothing more is done to {stack}; its containers, files and data are left as they are"))
        .hint(format!(
            "moorline hold --for 1h --reason \"mending {stack}\" --stack {stack}; cd {}; docker compose ps -a; docker \
             compose logs --tail 50; then `moorline retry {stack}`",
            directory.display()
        ));
    fault.because.clone_from(&second.because);
    fault.places.extend(before.map(|before| data_before(stack, before)));
    fault.because(format!("it was rolled back because {}", first.sentence))
}

/// What is said when a stack is left as the failed deploy made it.
pub fn left_as_is(stack: &DesiredStack, good: LastGood, before: Option<&Before>, failed: Fault) -> Fault {
    let name = &stack.name;
    if good == LastGood::None {
        return failed
            .at(format!("{name} never worked on this host, so there is nothing to go back to; it is left for a look"))
            .hint(format!("docker compose -p {name} logs"));
    }
    let restore = match before {
        Some(before) => format!("`{}`", restore(name, before)),
        None => format!("restore the data of {name} from your own backup"),
    };
    failed.at(format!("{name} says `rollback: forward-only`: its data and the new version are left as they are")).hint(
        format!(
            "mend it and merge; or go back by hand: {restore}, promote the revision before, `moorline retry {name}`"
        ),
    )
}
