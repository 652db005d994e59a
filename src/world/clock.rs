//! The clock: the time, and waiting. Nothing else asks the system for either.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time.
#[allow(clippy::disallowed_methods, reason = "the one place that asks for the time")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The zone of this host's own clock; UTC if it says nothing.
pub fn zone() -> TimeZone {
    TimeZone::system()
}

/// How long this process runs, as far as anybody asked before. Unlike the time, it is never set.
#[allow(clippy::disallowed_methods, reason = "the one place that asks for the time")]
pub fn running() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

/// Waits, and lets everything else go on.
pub async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits, and keeps this thread from everything else: for a job's own process, which has nothing else to do.
#[allow(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
