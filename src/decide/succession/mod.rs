//! Decides which version of moorline runs on a host, which one is to follow, and what becomes of a trial.
//!
//! The package's program is the anchor: it is started first, always, and hands over to another one that was verified.

use jiff::{SignedDuration, Timestamp};
use semver::Version;

use crate::decide::fault::{Code, Fault};
use crate::decide::report::is_quiet;
use crate::decide::schedule::{Share, backoff};
use crate::model::release::{Named, Offer, Probation, Refused, Release, Succession, Trial, VERSION};
use crate::model::report::{Report, RunEnd};

pub mod event;

/// A host that goes down in the middle of a trial has said nothing about the version; but not for ever.
const MOST_ATTEMPTS: u32 = 3;
/// How often the keeper may be started in the time after a trial.
const MOST_STARTS: u32 = 3;
/// A version that has lived for so long has proven itself.
const PROBATION: SignedDuration = SignedDuration::from_mins(10);
/// How long a download may take until a person is told.
const PATIENCE: SignedDuration = SignedDuration::from_mins(15);

/// What the anchor does at the start of the keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Hand over to this version; to none: go on itself.
    Run(Option<Release>),
    /// Try this version first.
    Try(Release),
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It finished a run that found nothing to do.
    Passed,
    /// It did not.
    Refused(String),
    /// It finished a run, and that one found something to do, or was in trouble. The version before it has to say whether
    /// there was anything.
    Doubtful(String),
    /// The service was asked to stop meanwhile.
    Interrupted,
}

/// What one report of a version on trial says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// It found nothing to do.
    Quiet,
    /// It would have done something.
    Acts(String),
    /// Something else was in the way, and may pass.
    Trouble(String),
}

/// Who runs: a version, or the package's program.
///
/// A package that is newer wins as soon as nothing else is named: a person installed it. One that is older does not: it
/// may not be able to read what the chosen version wrote.
pub fn runs(state: &Succession) -> Option<&Release> {
    let chosen = state.chosen.as_ref()?;
    let is_left = state.named.as_ref().is_none_or(|named| named.offer.release.version == state.package);
    (!is_left || is_newer(&chosen.version, &state.package)).then_some(chosen)
}

/// What the repository names, and neither runs nor was refused.
pub fn due(state: &Succession) -> Option<&Offer> {
    let offer = &state.named.as_ref()?.offer;
    let runs_already = match runs(state) {
        Some(release) => *release == offer.release,
        None => offer.release.version == state.package,
    };
    let is_refused = state.refused.as_ref().is_some_and(|refused| refused.release == offer.release);
    (!runs_already && !is_refused).then_some(offer)
}

/// The same, if it may be tried or fetched at `now`.
pub fn due_at(state: &Succession, now: Timestamp) -> Option<&Offer> {
    let waits = state.named.as_ref().and_then(|named| named.next).is_some_and(|next| now < next);
    due(state).filter(|_| !waits)
}

/// Notes what the repository names for this host. What was refused is forgotten when another one is named.
pub fn name(state: &Succession, offer: Option<&Offer>, now: Timestamp) -> Succession {
    let mut next = Succession { version: VERSION, ..state.clone() };
    if state.named.as_ref().map(|named| &named.offer) != offer {
        next.named =
            offer.map(|offer| Named { offer: offer.clone(), since: now, failures: 0, because: None, next: None });
    }
    let is_named = |release: &Release| offer.is_some_and(|offer| offer.release == *release);
    next.refused = next.refused.filter(|refused| is_named(&refused.release));
    next.trial = next.trial.filter(|trial| is_named(&trial.release));
    next
}

/// What lay where the repository says is something else: it is fetched again, each time later.
pub fn wrong(state: &Succession, because: String, now: Timestamp) -> Succession {
    let mut next = state.clone();
    if let Some(named) = &mut next.named {
        named.failures = named.failures.saturating_add(1);
        named.because = Some(because);
        named.next = now.checked_add(backoff(named.failures, Share::default())).ok();
    }
    next
}

/// Puts a version on trial; the next start of the keeper begins it.
pub fn put_on_trial(state: &Succession, release: &Release) -> Succession {
    let mut next = state.clone();
    let attempts = state.trial.as_ref().filter(|trial| trial.release == *release).map_or(0, |trial| trial.attempts);
    next.trial = Some(Trial { release: release.clone(), attempts, boot: None, doubt: None });
    if let Some(named) = &mut next.named {
        (named.failures, named.because, named.next) = (0, None, None);
    }
    next
}

/// What the anchor of this version does when the keeper starts in this boot, and what is recorded before it does.
///
/// A trial that was begun in the same boot and has no verdict ended with the anchor that watched it, as when the system
/// killed both: that counts against it. After a power cut it is begun again, a few times.
pub fn start(state: &Succession, package: &str, boot: &str, now: Timestamp) -> (Succession, Start) {
    let mut next = Succession { version: VERSION, package: package.to_owned(), ..state.clone() };
    if let Some(trial) = next.trial.as_mut().filter(|trial| trial.doubt.is_none()) {
        if trial.boot.as_deref() != Some(boot) && trial.attempts < MOST_ATTEMPTS {
            trial.attempts += 1;
            trial.boot = Some(boot.to_owned());
            let release = trial.release.clone();
            return (next, Start::Try(release));
        }
        next = refuse(&next, "it did not come to the end of its trial".into(), now);
    } else if let Some(probation) = &mut next.probation {
        probation.starts += 1;
        if probation.starts > MOST_STARTS {
            next = back(&next, now);
        }
    }
    let runs = runs(&next).cloned();
    (next, Start::Run(runs))
}

/// What is recorded when a trial has ended.
pub fn tried(state: &Succession, verdict: &Verdict, now: Timestamp) -> Succession {
    let Some(trial) = &state.trial else { return state.clone() };
    let mut next = state.clone();
    match verdict {
        Verdict::Passed => {
            next.probation = Some(Probation { previous: runs(state).cloned(), starts: 0 });
            next.chosen = Some(trial.release.clone());
            (next.trial, next.refused, next.damage) = (None, None, None);
        }
        Verdict::Refused(because) => return refuse(state, because.clone(), now),
        Verdict::Doubtful(because) => {
            next.trial = Some(Trial { doubt: Some(because.clone()), ..trial.clone() });
        }
        Verdict::Interrupted => next.trial = Some(Trial { boot: None, ..trial.clone() }),
    }
    next
}

/// What the version before says of a doubtful trial by its own next run: if it finds nothing to do, there was nothing.
pub fn answer(state: &Succession, is_still: bool, now: Timestamp) -> Succession {
    let Some(trial) = &state.trial else { return state.clone() };
    let Some(doubt) = &trial.doubt else { return state.clone() };
    if is_still || trial.attempts >= MOST_ATTEMPTS {
        return refuse(state, doubt.clone(), now);
    }
    Succession { trial: Some(Trial { boot: None, doubt: None, ..trial.clone() }), ..state.clone() }
}

/// The keeper has lived for so long.
pub fn lived(state: &Succession, time: SignedDuration) -> Succession {
    let probation = state.probation.clone().filter(|_| time < PROBATION);
    Succession { probation, ..state.clone() }
}

/// The program of the chosen version is not what it was: the package's runs, and the named one comes again.
pub fn lost(state: &Succession, because: String) -> Succession {
    Succession { chosen: None, probation: None, damage: Some(because), ..state.clone() }
}

/// A record that could not be read begins anew.
pub fn anew(package: &str, because: String) -> Succession {
    Succession { version: VERSION, package: package.to_owned(), damage: Some(because), ..Succession::default() }
}

/// A person wants what was refused to be tried again.
pub fn retry(state: &Succession) -> Succession {
    let mut next = Succession { refused: None, ..state.clone() };
    if let Some(named) = &mut next.named {
        named.next = None;
    }
    next
}

/// The versions whose programs are needed.
pub fn needed(state: &Succession) -> Vec<&Release> {
    let previous = state.probation.as_ref().and_then(|probation| probation.previous.as_ref());
    let trial = state.trial.as_ref().map(|trial| &trial.release);
    state.chosen.iter().chain(previous).chain(trial).collect()
}

/// Whether a run changed nothing and had nothing to change: what is wrong with a version keeps none from being tried.
pub fn is_still(report: &Report) -> bool {
    let is_ours = |code: &str| {
        [Code::ReleaseUnfetched, Code::ReleaseRefused, Code::ReleaseDamaged].iter().any(|ours| ours.name() == code)
    };
    let is_well = match &report.fault {
        None => report.end == RunEnd::Converged,
        Some(fault) => is_ours(&fault.code),
    };
    is_well && report.outcomes.is_empty() && report.plan.steps.is_empty()
}

/// What a report of a version on trial says.
pub fn word(report: &Report) -> Word {
    match &report.fault {
        _ if is_quiet(report) => Word::Quiet,
        Some(fault) if fault.code == Code::TrialFailed.name() => Word::Acts(fault.sentence.clone()),
        _ => Word::Trouble(report.summary.clone()),
    }
}

/// The fault of a version on trial that would do something.
pub fn acts(steps: usize) -> Fault {
    let sentence = match steps {
        0 => "it would put off what was applied before".to_owned(),
        1 => "it would carry out 1 step".to_owned(),
        more => format!("it would carry out {more} steps"),
    };
    Fault::new(Code::TrialFailed, sentence).at("nothing was changed")
}

/// What a person should know about the version that is named and does not run.
pub fn fault(state: &Succession, now: Timestamp) -> Option<Fault> {
    let goes_on = runs(state).map_or_else(|| format!("the package's {}", state.package), ToString::to_string);
    if let Some(refused) = &state.refused {
        return Some(
            Fault::new(Code::ReleaseRefused, format!("moorline {} did not pass its trial", refused.release))
                .because(&refused.because)
                .at(format!("{goes_on} goes on"))
                .hint("name another version in `moorline.yaml`, or `moorline retry`"),
        );
    }
    if let Some((offer, named)) = due(state).zip(state.named.as_ref()) {
        let unfetched = |what: &str| {
            Fault::new(Code::ReleaseUnfetched, format!("moorline {} {what}", offer.release))
                .at(format!("{goes_on} goes on"))
        };
        if let Some(because) = &named.because {
            let hint = format!("compare `agent` in `moorline.yaml` with `curl -L {} | sha256sum`", offer.url);
            return Some(unfetched("cannot be had").because(because).hint(hint));
        }
        if state.trial.is_none() && now.duration_since(named.since) > PATIENCE {
            let hint = "journalctl -u moorline-courier";
            return Some(unfetched(&format!("has not arrived since {:.0}", named.since)).hint(hint));
        }
    }
    let damage = state.damage.as_ref()?;
    Some(
        Fault::new(Code::ReleaseDamaged, "a version of moorline, or the record of it, was damaged")
            .because(damage)
            .at(format!("{goes_on} goes on"))
            .hint("what the repository names is fetched and tried again; look at the disk: `dmesg`"),
    )
}

/// Which version runs, in words. `own` is the version of this program.
pub fn runs_text(state: &Succession, own: &str) -> String {
    match runs(state) {
        Some(release) => format!("{release}, which the repository names; the package has {}", state.package),
        None => format!("{own}, the package's"),
    }
}

/// The lines of `moorline status`.
pub fn text(state: &Succession, own: &str, now: Timestamp) -> String {
    let mut text = format!("version   {}\n", runs_text(state, own));
    let mut line = |what: String| text.push_str(&format!("update    {what}\n"));
    match (&state.trial, &state.refused, due(state)) {
        (Some(trial), ..) => line(match trial.doubt {
            Some(_) => format!("{} was on trial; the one before has a look", trial.release),
            None => format!("{} is on trial", trial.release),
        }),
        (_, Some(refused), _) => {
            let since = now.duration_since(refused.at).as_mins();
            line(format!("{} was refused {since} min ago: {}", refused.release, refused.because));
            line("not tried again: name another version, or `moorline retry`".to_owned());
        }
        (_, _, Some(offer)) => line(match state.named.as_ref().and_then(|named| named.because.as_ref()) {
            Some(because) => format!("{} cannot be had: {because}", offer.release),
            None => format!("{} is being fetched", offer.release),
        }),
        _ => {}
    }
    text
}

fn refuse(state: &Succession, because: String, at: Timestamp) -> Succession {
    let mut next = state.clone();
    next.refused = next.trial.take().map(|trial| Refused { release: trial.release, because, at });
    next
}

fn back(state: &Succession, at: Timestamp) -> Succession {
    let mut next = state.clone();
    let because = format!("it passed its trial, and ended {MOST_STARTS} times soon after");
    next.refused = next.chosen.take().map(|release| Refused { release, because, at });
    next.chosen = next.probation.take().and_then(|probation| probation.previous);
    next
}

/// Whether a version is newer than another; what is no version is older than all.
fn is_newer(version: &str, than: &str) -> bool {
    Version::parse(version).ok() > Version::parse(than).ok()
}

#[cfg(test)]
mod tests;
