//! Decides whether what failed before is tried again: what mends itself for ever, with longer and longer waits; what does
//! not, at most twice. Pure: the time and the host's share are passed in.

use jiff::Timestamp;

use crate::decide::fault::{Code, Fault};
use crate::decide::schedule::{Share, backoff};
use crate::model::{Action, Failure, Hold, Ledger, Left, Revision};

/// How often a desired state is tried that the gate, or Compose, says no to.
pub const TRIES: u32 = 2;
/// How often it is tried when no attempt ever comes to a verdict, since the process or the host dies in the middle.
pub const INTERRUPTED: u32 = 5;

/// What a failure says about the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Registry, engine, disk, network: it will go away by itself.
    Transient,
    /// Compose was killed in the middle. The next attempt may work, and nothing keeps the way back from it until then.
    Cut,
    /// The same attempt would fail in the same way.
    Deterministic,
}

/// What Compose and the engine say when nothing is wrong with the stack.
const HINDRANCES: [&str; 13] = [
    "cannot connect to the docker daemon",
    // What Docker's client says of every question that the daemon did not answer, whatever the reason.
    "error during connect",
    "is the docker daemon running",
    "connection refused",
    "connection reset",
    "broken pipe",
    "no space left on device",
    "read-only file system",
    "i/o timeout",
    "tls handshake timeout",
    "context deadline exceeded",
    "unexpected eof",
    "server is shutting down",
];
/// What is said of a Compose that was killed: the host was short of memory, or it was somebody. A stack cannot do that.
pub const CUT: &str = "it was ended by a signal";

/// What kind of failure a step ended with. The list is whole, so that a new code has to say on which side it is.
pub fn kind(action: &Action, fault: &Fault) -> Kind {
    match fault.code {
        // A neighbour of this host: it comes back, or a person mends it, and nothing about the stack has to change.
        Code::EngineAway
        | Code::StateUnwritable
        | Code::SpaceShort
        | Code::ImageUnavailable
        | Code::FetchFailed
        | Code::FetchRefused
        | Code::ResourceLimit
        | Code::RepositoryMissing
        | Code::RepositoryDamaged
        | Code::HistoryIncomplete
        | Code::TraefikSilent
        | Code::StatusUnserved
        | Code::PushFailed
        | Code::PushRefused
        | Code::LockHeld
        | Code::BackupMissing
        | Code::BackupPassword
        | Code::BackupRefused
        | Code::BackupAway
        | Code::BackupFull
        | Code::BackupDamaged
        | Code::BackupSource
        | Code::BackupDump
        | Code::BackupFailed
        | Code::BackupBudget
        | Code::DrillFailed
        | Code::RestoreUnfinished
        | Code::NetworkInUse
        // So is the host itself.
        | Code::SettingsInvalid
        | Code::LedgerDamaged
        | Code::KeyMissing
        | Code::MemoryUnsafe
        | Code::PluginMissing
        // A login is no part of what is remembered, and a registry takes and gives rights.
        | Code::ImageDenied
        // Somebody's will is no verdict.
        | Code::Stopped
        | Code::Held
        | Code::Halted
        | Code::AwaitingEnrolment
        // A version of moorline is no stack.
        | Code::ReleaseUnfetched
        | Code::ReleaseRefused
        | Code::ReleaseDamaged
        | Code::TrialFailed
        | Code::DeployWaiting => Kind::Transient,
        // What is desired is what is wrong: the same question gets the same answer.
        Code::GateFailed
        | Code::RouteRefused
        | Code::ServiceUnhealthy
        | Code::ImageRefused
        | Code::ImageMoved
        | Code::ComposeRefused
        | Code::PolicyRefused
        | Code::StackRefused
        | Code::DowngradeRefused
        | Code::DeployRefused
        | Code::RolledBack
        | Code::RollbackFailed
        | Code::SpecInvalid
        | Code::SecretsSealed
        | Code::SecretsDamaged
        | Code::TreeRefused
        | Code::PromotionRefused
        | Code::UsageInvalid
        | Code::BackupUnset
        | Code::RestoreRefused
        | Code::CommitUnsigned
        | Code::CommitMalformed
        | Code::SignerUnknown
        | Code::SignatureBad
        | Code::SignatureUnsupported
        | Code::SignerLimited
        | Code::SignersMissing
        | Code::SignersInvalid
        | Code::AnchorUnknown
        | Code::HistoryRewound
        | Code::RevisionNotAccepted
        | Code::RingUnsigned
        | Code::RingReplayed
        | Code::RingEquivocal => Kind::Deterministic,
        // What Compose or the engine said about a step can be either; a snapshot may be had later.
        Code::StepFailed | Code::SnapshotMissing => match is_no_verdict(action) || speaks_of_a_hindrance(fault) {
            true => Kind::Transient,
            false if fault.because.iter().any(|words| words == CUT) => Kind::Cut,
            false => Kind::Deterministic,
        },
    }
}

/// Steps before anything is touched; and those after the new containers serve, or the old ones do again: what is left over
/// can be removed later.
fn is_no_verdict(action: &Action) -> bool {
    let touches_nothing = matches!(action, Action::Pull { .. } | Action::Snapshot | Action::Write { .. });
    touches_nothing || matches!(action, Action::Drain { .. } | Action::Withdraw { .. })
}

fn speaks_of_a_hindrance(fault: &Fault) -> bool {
    fault.because.iter().chain([&fault.sentence]).any(|words| {
        let words = words.to_lowercase();
        HINDRANCES.iter().any(|hindrance| words.contains(hindrance))
    })
}

/// Whether a person is behind the run: then waits are cut short, but a refusal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A timer, a tip, an event.
    Waits,
    /// `moorline reconcile` was typed.
    TriesNow,
}

/// What to do about a desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Bring it up.
    Try,
    /// Not yet.
    Wait,
    /// Not until it changes or a person says so.
    Refuse,
}

/// The course for the desired state with this digest.
pub fn course(failure: Option<&Failure>, digest: &str, now: Timestamp, patience: Patience) -> Course {
    let Some(failure) = failure.filter(|failure| failure.digest == digest) else {
        return Course::Try;
    };
    let Some(next) = failure.next else { return Course::Refuse };
    if failure.failed == 0 && failure.begun >= INTERRUPTED {
        return Course::Refuse;
    }
    // The clock was wrong then, or is now: nobody waits for a moment that may be years away.
    let next = if now < failure.at { now } else { next };
    let waits = patience == Patience::Waits || failure.hindered == 0;
    if now < next && waits { Course::Wait } else { Course::Try }
}

/// The memory of an attempt that is about to begin. It must be on disk before the attempt is.
pub fn begin(before: Option<&Failure>, digest: &str, revision: Option<&Revision>, now: Timestamp) -> Failure {
    let known = before.filter(|failure| failure.digest == digest).cloned();
    let fresh = Failure {
        digest: digest.to_owned(),
        revision: revision.cloned(),
        begun: 0,
        failed: 0,
        hindered: 0,
        because: Vec::new(),
        at: now,
        next: Some(now),
        left: Left::Begun,
    };
    let failure = known.unwrap_or(fresh);
    Failure { begun: failure.begun + 1, at: now, next: Some(now), left: Left::Begun, ..failure }
}

/// The memory after an attempt failed.
pub fn failed(begun: Failure, kind: Kind, because: Vec<String>, left: Left, now: Timestamp, share: Share) -> Failure {
    let mut failure = Failure { because, at: now, left, ..begun };
    let wait = match kind {
        Kind::Transient | Kind::Cut => {
            // It came to no verdict, so it is not one of the tries.
            failure.begun = failure.begun.saturating_sub(1);
            failure.hindered += 1;
            backoff(failure.hindered, share)
        }
        Kind::Deterministic => {
            failure.failed += 1;
            failure.hindered = 0;
            backoff(failure.failed, share)
        }
    };
    let is_final = kind == Kind::Deterministic && failure.begun >= TRIES;
    failure.next = (!is_final).then(|| now + wait);
    failure
}

/// The memory of an attempt that the order to stop ended: it says nothing about the stack.
pub fn not_counted(begun: Failure) -> Option<Failure> {
    let begun = Failure { begun: begun.begun.saturating_sub(1), ..begun };
    (begun.begun > 0 || begun.failed > 0 || begun.hindered > 0).then_some(begun)
}

/// The next moment at which something that is waited for may be tried, or a hold ends.
pub fn next_moment(ledger: &Ledger, now: Timestamp) -> Option<Timestamp> {
    let retries = ledger.failures.values().chain(ledger.repairs.values()).filter_map(|failure| failure.next);
    let holds = ledger.hold.iter().chain(ledger.stack_holds.values()).map(|hold: &Hold| hold.until);
    retries.chain(holds).filter(|moment| *moment > now).min()
}

/// Why a stack is not brought to what is desired in this run. `good` is what it stays at, if it ever worked.
pub fn fault(stack: &str, failure: &Failure, course: Course, good: Option<&Revision>) -> Fault {
    let place = match (failure.left, good) {
        (Left::Stuck, _) => "is left as it is".to_owned(),
        (Left::AsIs, _) | (_, None) => "is left as it was found".to_owned(),
        (_, Some(good)) => format!("stays at {}", good.short()),
    };
    let from = failure.revision.as_ref().map_or("what is desired", Revision::short);
    let why = failure.because.first().map(|why| format!(": {why}")).unwrap_or_default();
    let fault = match failure.next.filter(|_| course != Course::Refuse) {
        Some(next) => {
            Fault::new(Code::DeployWaiting, format!("{stack} {place}, {from} is tried again at {next:.0}{why}"))
                .hint(format!("`moorline retry {stack}` tries it now"))
        }
        None => {
            let tries = match failure.failed {
                0 => format!("was begun {} times and never came to an end", failure.begun),
                1 => "failed".to_owned(),
                many => format!("failed {many} times"),
            };
            Fault::new(Code::DeployRefused, format!("{stack} {place}, since {from} {tries}{why}")).hint(format!(
                "merge a commit that mends it; or, if something outside of the repository was mended: `moorline retry \
                 {stack}`"
            ))
        }
    };
    failure.because.iter().skip(1).cloned().fold(fault, Fault::because)
}

/// The same when the last good version is not as it should be either, and putting it right failed: nothing is done until
/// the repair is tried again.
pub fn with_repair(mut fault: Fault, good: &Revision, repair: &Failure) -> Fault {
    let why = repair.because.first().map(|why| format!(": {why}")).unwrap_or_default();
    let when = repair.next.map(|next| format!(", and is tried again at {next:.0}")).unwrap_or_default();
    fault.sentence =
        format!("{}; what runs of {} was to be put right, which failed{when}{why}", fault.sentence, good.short());
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::fault::Mover;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn fail(before: Option<&Failure>, kind: Kind, second: i64) -> Failure {
        let begun = begin(before, "d", None, at(second));
        failed(begun, kind, vec!["why".into()], Left::RolledBack, at(second), Share::default())
    }

    #[test]
    fn what_the_gate_refuses_is_tried_twice_and_then_only_when_it_changed() {
        let first = fail(None, Kind::Deterministic, 0);
        assert_eq!(course(Some(&first), "d", at(29), Patience::Waits), Course::Wait);
        assert_eq!(course(Some(&first), "d", at(29), Patience::TriesNow), Course::Wait);
        assert_eq!(course(Some(&first), "d", at(30), Patience::Waits), Course::Try);
        let second = fail(Some(&first), Kind::Deterministic, 30);
        assert_eq!(course(Some(&second), "d", at(1_000_000), Patience::TriesNow), Course::Refuse);
        assert_eq!(course(Some(&second), "other", at(31), Patience::Waits), Course::Try);
    }

    #[test]
    fn what_mends_itself_is_tried_for_ever_with_waits_of_30_seconds_to_an_hour() {
        let mut memory: Option<Failure> = None;
        let (mut second, mut waits) = (0, Vec::new());
        for _ in 0..40 {
            let failure = fail(memory.as_ref(), Kind::Transient, second);
            let wait = failure.next.unwrap().duration_since(at(second)).as_secs();
            waits.push(wait);
            second += wait;
            assert_eq!(course(Some(&failure), "d", at(second - 1), Patience::Waits), Course::Wait);
            assert_eq!(course(Some(&failure), "d", at(second - 1), Patience::TriesNow), Course::Try);
            assert_eq!(course(Some(&failure), "d", at(second), Patience::Waits), Course::Try);
            memory = Some(failure);
        }
        assert_eq!((waits[0], waits[1], *waits.last().unwrap()), (30, 60, 3600));
        // None of them was a try.
        let verdict = fail(memory.as_ref(), Kind::Deterministic, second);
        assert!(verdict.next.is_some());
    }

    #[test]
    fn a_crash_counts_once_there_was_a_verdict_and_alone_only_after_five() {
        let crashed = begin(None, "d", None, at(0));
        assert_eq!(course(Some(&crashed), "d", at(0), Patience::Waits), Course::Try);
        assert_eq!(fail(Some(&crashed), Kind::Deterministic, 1).next, None, "applied twice, refused now");
        let mut crashed = crashed;
        for _ in 1..INTERRUPTED {
            assert_eq!(course(Some(&crashed), "d", at(0), Patience::Waits), Course::Try);
            crashed = begin(Some(&crashed), "d", None, at(0));
        }
        assert_eq!(course(Some(&crashed), "d", at(0), Patience::Waits), Course::Refuse);
    }

    #[test]
    fn a_clock_that_was_years_ahead_keeps_nothing_waiting_once_it_is_right_again() {
        let wrong = fail(None, Kind::Deterministic, 20 * 365 * 24 * 3600);
        assert_eq!(course(Some(&wrong), "d", at(0), Patience::Waits), Course::Try);
        let refused = fail(Some(&wrong), Kind::Deterministic, 20 * 365 * 24 * 3600);
        assert_eq!(course(Some(&refused), "d", at(0), Patience::Waits), Course::Refuse, "it is no way round a refusal");
    }

    #[test]
    fn the_order_to_stop_is_no_try() {
        assert_eq!(not_counted(begin(None, "d", None, at(0))), None);
        let first = fail(None, Kind::Deterministic, 0);
        let stopped = not_counted(begin(Some(&first), "d", None, at(40))).unwrap();
        assert_eq!((stopped.begun, stopped.failed), (1, 1));
    }

    #[test]
    fn hosts_do_not_come_back_at_the_same_moment() {
        let wait = |host: &str| {
            let begun = begin(None, "d", None, at(0));
            let share = Share::of(host, "retry web");
            failed(begun, Kind::Transient, Vec::new(), Left::Begun, at(0), share).next.unwrap()
        };
        assert_ne!(wait("alpha"), wait("beta"));
        assert!(wait("alpha") >= at(24) && wait("alpha") <= at(30));
    }

    #[test]
    fn the_words_of_an_engine_that_is_away_are_no_verdict() {
        let up = Action::Up { services: vec!["app".into()] };
        let said = |words: &str| kind(&up, &Fault::new(Code::StepFailed, "x").because(words));
        assert_eq!(said("Cannot connect to the Docker daemon at unix:///run/docker.sock."), Kind::Transient);
        assert_eq!(said("error during connect: Get \"http://%2Frun%2Fdocker.sock/_ping\": EOF"), Kind::Transient);
        assert_eq!(said("write /var/lib/docker/x: no space left on device"), Kind::Transient);
        assert_eq!(said(CUT), Kind::Cut);
        assert_eq!(said("Bind for 0.0.0.0:80 failed: port is already allocated"), Kind::Deterministic);
        assert_eq!(kind(&up, &Fault::new(Code::GateFailed, "unhealthy")), Kind::Deterministic);
        let pull = Action::Pull { image: "a:1".into() };
        assert_eq!(kind(&pull, &Fault::new(Code::StepFailed, "manifest unknown")), Kind::Transient);
    }

    #[test]
    fn what_a_registry_refuses_is_a_verdict_and_what_keeps_it_from_answering_is_not() {
        let pull = Action::Pull { image: "a:1".into() };
        let ended = |code| kind(&pull, &Fault::new(code, "a:1 cannot be pulled").because("unexpected eof"));
        assert_eq!(ended(Code::ImageRefused), Kind::Deterministic);
        assert_eq!(ended(Code::ImageMoved), Kind::Deterministic);
        assert_eq!(ended(Code::ImageDenied), Kind::Transient);
        assert_eq!(ended(Code::ImageUnavailable), Kind::Transient);
        assert_eq!(ended(Code::SpaceShort), Kind::Transient);
    }

    #[test]
    fn what_the_next_run_may_find_mended_is_no_verdict() {
        let up = Action::UpWhole;
        for code in Code::ALL.iter().filter(|code| code.mover() == Mover::NextRun) {
            // These two say how a service is, and what Compose said.
            let expected = match code {
                Code::StepFailed | Code::ServiceUnhealthy => Kind::Deterministic,
                _ => Kind::Transient,
            };
            assert_eq!(kind(&up, &Fault::new(*code, "x")), expected, "{}", code.name());
        }
    }
}
