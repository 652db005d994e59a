//! How fast a job may go. Everything that goes into a store or comes out of it, piece by piece, passes here first.

use std::sync::Mutex;
use std::time::Duration;

use crate::model::backup::Limits;
use crate::world::clock;

/// How much time that was not used may be made up for: enough for what a machine that is busy sleeps too long.
const SLACK: Duration = Duration::from_millis(250);

/// Both directions; a direction without a limit costs nothing.
#[derive(Debug, Default)]
pub struct Pace {
    up: Option<Bucket>,
    down: Option<Bucket>,
}

impl Pace {
    /// No faster than these.
    pub fn new(limits: Limits) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket { rate: rate.max(1), free: Mutex::default() });
        Self { up: bucket(limits.upload), down: bucket(limits.download) }
    }

    /// Waits until so many bytes may be sent.
    pub fn upload(&self, bytes: u64) {
        pause(self.before_upload(bytes));
    }

    /// Waits for as long as so many bytes, which have arrived, should have taken.
    pub fn download(&self, bytes: u64) {
        pause(self.after_download(bytes));
    }

    /// How long it must be waited before so many bytes are sent. They count as sent.
    pub fn before_upload(&self, bytes: u64) -> Duration {
        self.up.as_ref().map_or(Duration::ZERO, |bucket| bucket.take(bytes).before)
    }

    /// How long it must be waited before more is taken than so many bytes, which have arrived.
    pub fn after_download(&self, bytes: u64) -> Duration {
        self.down.as_ref().map_or(Duration::ZERO, |bucket| bucket.take(bytes).until_done)
    }
}

fn pause(wait: Duration) {
    if !wait.is_zero() {
        clock::pause(wait);
    }
}

/// One direction.
#[derive(Debug)]
struct Bucket {
    /// Bytes per second.
    rate: u64,
    /// When the line is free again, on the clock that never jumps.
    free: Mutex<Duration>,
}

impl Bucket {
    fn take(&self, bytes: u64) -> Waits {
        let now = clock::running();
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let begins = begins(*free, now);
        *free = begins + took(bytes, self.rate);
        Waits { before: begins.saturating_sub(now), until_done: free.saturating_sub(now) }
    }
}

/// From now on: what is sent waits for its turn, what has arrived for the end of its turn, since the line was already busy
/// with it. (A large piece that arrived would otherwise cost nothing if it is the last one.)
struct Waits {
    before: Duration,
    until_done: Duration,
}

/// When the next piece may begin.
fn begins(free: Duration, now: Duration) -> Duration {
    free.max(now.saturating_sub(SLACK))
}

/// How long so many bytes take at a rate.
fn took(bytes: u64, rate: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_no_wait() {
        let pace = Pace::default();
        assert_eq!((pace.before_upload(u64::MAX), pace.after_download(u64::MAX)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn pieces_follow_each_other_at_the_rate_and_unused_time_is_not_saved_up() {
        let second = Duration::from_secs(1);
        let (mut free, mut now) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..100 {
            now = now.max(begins(free, now));
            free = begins(free, now) + took(64 * 1024, 1024 * 1024);
        }
        assert_eq!(free, took(100 * 64 * 1024, 1024 * 1024));
        // After a minute of nothing, the next second is not a fast one.
        let later = free + 60 * second;
        assert_eq!(begins(free, later), later - SLACK);
    }

    #[test]
    fn each_direction_has_its_own_limit() {
        let pace = Pace::new(Limits { upload: Some(1000), download: None });
        pace.before_upload(2000);
        let wait = pace.before_upload(1);
        assert!(wait > Duration::from_millis(1500) && wait <= Duration::from_secs(2), "{wait:?}");
        assert_eq!(pace.after_download(1 << 40), Duration::ZERO);
    }

    #[test]
    fn what_has_arrived_is_waited_for_at_once() {
        let pace = Pace::new(Limits { upload: None, download: Some(1000) });
        let wait = pace.after_download(2000);
        assert!(wait > Duration::from_millis(1500) && wait <= Duration::from_secs(2), "{wait:?}");
    }
}
