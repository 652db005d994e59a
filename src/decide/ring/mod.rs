//! Decides whether a host may move to the revision that its ring names: at once, or after a wave or a freeze.
//!
//! A clock is never trusted further than it must be. A wave is counted in time that the host saw go by, so that a clock
//! that jumps cannot bring it forward; a freeze goes by the calendar, which a host can only get from its clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::Revision;
use crate::model::ring::{Pending, Ring, Waiting, WaitingFor};

pub mod freeze;
pub mod seal;
pub mod wave;

/// Where a revision lies, seen from the one that a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// It is newer, or neither is known to be.
    Forward,
    /// It is older.
    Back,
}

/// Everything that the answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The ring.
    pub ring: &'a Ring,
    /// The host that asks.
    pub host: &'a str,
    /// All hosts of the ring.
    pub hosts: &'a [String],
    /// What the ring names.
    pub target: &'a Revision,
    /// What the ring has let this host run before, if that can still be run.
    pub released: Option<&'a Revision>,
    /// Where the target lies, seen from there.
    pub heading: Heading,
    /// What was counted so far.
    pub pending: Option<&'a Pending>,
    /// The time.
    pub now: Timestamp,
    /// How often the host counts.
    pub interval: Duration,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The host runs what the ring names.
    Go,
    /// The host stays where it is.
    Wait(Pending, Waiting),
}

/// Whether a host moves.
///
/// A host that has not been let run anything yet does not wait: nothing runs there that a wave or a freeze could
/// protect, and a host that is built anew on a Saturday must come up. Neither does one that goes back: whoever promotes
/// an older revision wants to be rid of the newer one.
pub fn answer(question: &Question<'_>) -> Answer {
    let Question { ring, target, now, .. } = *question;
    let goes = match question.released {
        None => true,
        Some(released) => released == target || question.heading == Heading::Back,
    };
    if goes {
        return Answer::Go;
    }
    let pending = counted(question);
    let waited = Duration::from_millis(pending.waited_ms);
    let wave = wave::of(ring, question.host, question.hosts, target);
    let left = wave.map_or(Duration::ZERO, |wave| wave.after.saturating_sub(waited));
    let wave_at = later(now, left);
    let thaw = freeze::thaw(&ring.freezes, now);
    let (what, until) = match (thaw, wave) {
        (Some(thaw), _) if thaw >= wave_at => (WaitingFor::Freeze, thaw),
        (_, Some(wave)) if !left.is_zero() => (WaitingFor::Wave { number: wave.number, of: ring.waves.len() }, wave_at),
        _ => return Answer::Go,
    };
    Answer::Wait(pending, Waiting { revision: target.clone(), what, until })
}

/// Adds the time since the last count. A host counts at every run; a longer step is a clock that was set or a host that
/// was off, and counts as two intervals at most. A clock that went back counts nothing.
fn counted(question: &Question<'_>) -> Pending {
    let same = question.pending.filter(|pending| pending.revision == *question.target);
    let Some(pending) = same else {
        return Pending { revision: question.target.clone(), waited_ms: 0, counted: question.now };
    };
    let step = went_by(pending.counted, question.now, question.interval);
    let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
    Pending {
        revision: pending.revision.clone(),
        waited_ms: pending.waited_ms.saturating_add(step_ms),
        counted: question.now,
    }
}

/// How much time between two looks may be believed: none if the clock went back, two intervals at most.
pub fn went_by(then: Timestamp, now: Timestamp, interval: Duration) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default().min(interval.saturating_mul(2))
}

fn later(now: Timestamp, time: Duration) -> Timestamp {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
