//! The clock: the time, and waiting. Nothing else asks the system for either.

use std::time::Duration;

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

/// Waits, and lets everything else go on.
pub async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits, and keeps this thread from everything else: for a job's own process, which has nothing else to do.
#[allow(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
