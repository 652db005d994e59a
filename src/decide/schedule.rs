//! Decides when: a steady offset for each host, how long to wait after failures, when to speak of them again; and
//! reads durations as people write them. It never asks for the time; callers pass it in.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::decide::fault::{Code, Fault};

/// The first wait after a failure.
const FIRST_WAIT: Duration = Duration::from_secs(30);

/// The longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How long a failure that goes on is not spoken of again.
const SILENCE: SignedDuration = SignedDuration::from_hours(1);

/// The longest duration that is accepted: ten years. Beyond it a slip of the pen is likelier than a wish, and times
/// computed from it could leave the calendar.
const LONGEST: u64 = 10 * 366 * DAY;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A fraction between zero and one that looks random and is always the same for the same words.
///
/// It takes the place of randomness: a hundred hosts that start together spread out, and yet each keeps its own time,
/// so that an operator can learn when a host will move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(u32);

impl Share {
    /// The share of a host for one occasion, such as `poll` or `backup`.
    pub fn of(host: &str, occasion: &str) -> Self {
        let mut hash = Sha256::new();
        // The length keeps `a` + `bc` and `ab` + `c` apart.
        hash.update((host.len() as u64).to_be_bytes());
        hash.update(host);
        hash.update(occasion);
        let digest = hash.finalize();
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }

    /// This share of a span of time, to the millisecond; always shorter than the span.
    pub fn of_span(self, span: Duration) -> Duration {
        let milliseconds = (span.as_millis() * u128::from(self.0)) >> 32;
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
    }
}

/// How long to wait after so many failures in a row: 30 seconds, doubled each time, up to an hour; up to a fifth less
/// by the host's share, so that the hosts do not all come back to a server at the moment it wakes.
pub fn backoff(failures: u32, share: Share) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    longest.saturating_sub(share.of_span(longest / 5))
}

/// The next time on this host's own grid: multiples of `every`, shifted by the host's share of it.
///
/// Counting from the calendar and not from the last time keeps the hosts apart after they were all restarted at once.
pub fn next_on_grid(now: Timestamp, every: Duration, share: Share) -> Timestamp {
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let offset_ms = i64::try_from(share.of_span(every).as_millis()).unwrap_or(0);
    let since = (now.as_millisecond() - offset_ms).rem_euclid(every_ms);
    now.checked_add(SignedDuration::from_millis(every_ms - since)).unwrap_or(Timestamp::MAX)
}

/// Something that is tried until it works: when to try again, and whether a failure is worth a line in the journal.
#[derive(Debug, Clone, Default)]
pub struct Attempts {
    failures: u32,
    not_before: Option<Timestamp>,
    said: Option<(Code, Timestamp)>,
}

impl Attempts {
    /// Whether it is time to try.
    pub fn due(&self, now: Timestamp) -> bool {
        // A wait that is longer than any we ever ask for means that the clock was set back meanwhile.
        self.not_before.is_none_or(|time| {
            now >= time || time.duration_since(now) > SignedDuration::try_from(LONGEST_WAIT).unwrap_or(SILENCE)
        })
    }

    /// How often it failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed: wait at least `wait(failures)`. True when this should be said: the first time, when the reason is
    /// another one than what was said last, and once an hour while it goes on.
    pub fn failed(&mut self, now: Timestamp, fault: &Fault, wait: impl FnOnce(u32) -> Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        let wait = SignedDuration::try_from(wait(self.failures)).unwrap_or(SignedDuration::MAX);
        self.not_before = Some(now.checked_add(wait).unwrap_or(Timestamp::MAX));
        let news = self
            .said
            .is_none_or(|(code, then)| code != fault.code || now.duration_since(then) >= SILENCE || now < then);
        if news {
            self.said = Some((fault.code, now));
        }
        news
    }

    /// It worked. Tells how many failures came before.
    pub fn worked(&mut self) -> u32 {
        std::mem::take(self).failures
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// There is nothing.
    #[error("a duration is missing: write `90s`, `10m`, `1h30m` or `2d`")]
    Empty,
    /// A number stands alone.
    #[error("`{shown}` has no unit: write `{number}s`, `{number}m`, `{number}h` or `{number}d`")]
    WithoutUnit {
        /// The whole text.
        shown: String,
        /// The number that has no unit.
        number: String,
    },
    /// It is not made of numbers and units, largest unit first.
    #[error("`{shown}` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`")]
    Malformed {
        /// The whole text.
        shown: String,
    },
    /// It is more than ten years.
    #[error("`{shown}` is longer than ten years")]
    TooLong {
        /// The whole text.
        shown: String,
    },
}

/// Reads `10m`, `90s`, `1h30m`, `2d`: whole numbers with units, each unit once, the largest first.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    // What was offered may be anything; a message shows only a piece of it, without escape sequences.
    let shown = || text.chars().take(40).flat_map(char::escape_debug).collect::<String>();
    if text.is_empty() {
        return Err(InvalidDuration::Empty);
    }
    let mut units = [('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)].into_iter();
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let Some(unit) = after.chars().next() else {
            return Err(InvalidDuration::WithoutUnit { shown: shown(), number: number.chars().take(20).collect() });
        };
        // `find` moves on in the list of units, so that none comes twice or after a smaller one.
        let known = units.find(|(name, _)| *name == unit);
        let (Some((_, length)), false) = (known, number.is_empty()) else {
            return Err(InvalidDuration::Malformed { shown: shown() });
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(length));
        seconds = part
            .and_then(|part| seconds.checked_add(part))
            .filter(|sum| *sum <= LONGEST)
            .ok_or_else(|| InvalidDuration::TooLong { shown: shown() })?;
        rest = &after[unit.len_utf8()..];
    }
    Ok(Duration::from_secs(seconds))
}

/// Writes a duration so that [`parse_duration`] reads the same; parts of a second are left out.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, length) in [('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)] {
        if rest >= length {
            let _ = write!(text, "{}{name}", rest / length);
            rest %= length;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn seconds(duration: Duration) -> u64 {
        duration.as_secs()
    }

    #[test]
    fn a_share_is_steady_and_differs_between_hosts_and_occasions() {
        assert_eq!(Share::of("alpha", "poll"), Share::of("alpha", "poll"));
        assert_ne!(Share::of("alpha", "poll"), Share::of("beta", "poll"));
        assert_ne!(Share::of("alpha", "poll"), Share::of("alpha", "backup"));
        // A change here would move every host's nightly backup: that is a change users must be told of.
        assert_eq!(Share::of("alpha", "poll").of_span(Duration::from_secs(3600)), Duration::from_millis(3_456_195));
    }

    #[test]
    fn shares_fill_the_span_evenly() {
        let hour = Duration::from_secs(3600);
        let mut quarters = [0; 4];
        for number in 0..1000 {
            let offset = Share::of(&format!("host-{number}"), "poll").of_span(hour);
            assert!(offset < hour);
            quarters[usize::try_from(offset.as_secs() / 900).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (200..300).contains(count)), "{quarters:?}");
    }

    #[test]
    fn backoff_doubles_from_half_a_minute_to_an_hour() {
        let none = Share(0);
        let waits: Vec<_> = (1..=9).map(|failures| seconds(backoff(failures, none))).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(seconds(backoff(u32::MAX, none)), 3600);
        assert_eq!(seconds(backoff(0, none)), 30);
    }

    #[test]
    fn jitter_only_ever_shortens_a_wait_and_by_a_fifth_at_most() {
        assert_eq!(seconds(backoff(9, Share(u32::MAX))), 2880);
        assert_eq!(seconds(backoff(1, Share(u32::MAX))), 24);
    }

    #[test]
    fn polls_stand_on_a_grid_of_the_hosts_own() {
        let share = Share(1 << 31);
        let every = Duration::from_secs(600);
        assert_eq!(next_on_grid(at("2026-01-01T00:00:00Z"), every, share), at("2026-01-01T00:05:00Z"));
        assert_eq!(next_on_grid(at("2026-01-01T00:04:59.999Z"), every, share), at("2026-01-01T00:05:00Z"));
        assert_eq!(next_on_grid(at("2026-01-01T00:05:00Z"), every, share), at("2026-01-01T00:15:00Z"));
        assert_eq!(next_on_grid(Timestamp::MAX, every, share), Timestamp::MAX);
        assert!(next_on_grid(at("2026-01-01T00:05:00Z"), Duration::ZERO, share) > at("2026-01-01T00:05:00Z"));
    }

    #[test]
    fn a_failure_that_goes_on_is_said_once_an_hour_and_another_reason_at_once() {
        let mut attempts = Attempts::default();
        let away = Fault::new(Code::FetchFailed, "x");
        let refused = Fault::new(Code::FetchRefused, "y");
        let wait = |_| Duration::from_secs(60);
        assert!(attempts.failed(at("2026-01-01T00:00:00Z"), &away, wait));
        assert!(!attempts.failed(at("2026-01-01T00:59:59Z"), &away, wait));
        assert!(attempts.failed(at("2026-01-01T01:00:00Z"), &away, wait));
        assert!(attempts.failed(at("2026-01-01T01:01:00Z"), &refused, wait));
        assert_eq!(attempts.worked(), 4);
        assert_eq!(attempts.worked(), 0);
    }

    #[test]
    fn the_next_attempt_waits_but_not_for_a_clock_that_was_set_back() {
        let mut attempts = Attempts::default();
        assert!(attempts.due(at("2026-01-01T00:00:00Z")));
        let fault = Fault::new(Code::FetchFailed, "x");
        attempts.failed(at("2026-01-01T00:00:00Z"), &fault, |failures| Duration::from_secs(u64::from(failures) * 60));
        assert!(!attempts.due(at("2026-01-01T00:00:59Z")));
        assert!(attempts.due(at("2026-01-01T00:01:00Z")));
        assert!(attempts.due(at("2025-12-31T00:00:00Z")));
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, expected) in [
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1d2h3m4s", 93_784),
            ("0m", 0),
            ("90m", 5400),
        ] {
            assert_eq!(parse_duration(text).map(seconds), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_duration_is_told_what_to_write() {
        for (text, expected) in [
            ("", "a duration is missing: write `90s`, `10m`, `1h30m` or `2d`"),
            ("90", "`90` has no unit: write `90s`, `90m`, `90h` or `90d`"),
            ("1h30", "`1h30` has no unit: write `30s`, `30m`, `30h` or `30d`"),
            ("m", "`m` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`"),
            ("1m1h", "`1m1h` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`"),
            ("1m1m", "`1m1m` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`"),
            ("-5m", "`-5m` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`"),
            ("1.5h", "`1.5h` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`"),
            ("10 m", "`10 m` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`"),
            (
                "5ë\u{1b}",
                "`5ë\\u{1b}` is not a duration: write whole numbers with d, h, m, s in this order, as in `1h30m`",
            ),
            ("4000d", "`4000d` is longer than ten years"),
            ("99999999999999999999d", "`99999999999999999999d` is longer than ten years"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for number in [0, 1, 59, 60, 61, 3600, 5400, 86_399, 86_400, 90_061, LONGEST] {
            let duration = Duration::from_secs(number);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration), "{}", show_duration(duration));
        }
        assert_eq!(show_duration(Duration::from_millis(5_400_900)), "1h30m");
    }
}
