//! Tells systemd how a service is doing. Without systemd (`NOTIFY_SOCKET` is not set) every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service is up.
pub fn ready() {
    tell(&NotifyState::Ready);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A line break would let what follows it be read as another assignment, such as `MAINPID=`.
    let line: String = line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    tell(&NotifyState::Status(&line));
}

/// The service ends because it was asked to.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

/// The service is alive.
pub fn watchdog() {
    tell(&NotifyState::Watchdog);
}

/// The unit's `WatchdogSec`, if it has one.
pub fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero())
}

/// How often to call [`watchdog`]: half of the unit's `WatchdogSec`, as systemd advises.
pub fn watchdog_interval() -> Option<Duration> {
    watchdog_limit().map(|limit| limit / 2).filter(|half| !half.is_zero())
}

/// Calls [`watchdog`] as often as the unit wants, for as long as this is polled: so it also tells that the event loop
/// still turns. Without a watchdog it waits for ever.
pub async fn beat() {
    match watchdog_interval() {
        None => std::future::pending().await,
        Some(interval) => loop {
            watchdog();
            tokio::time::sleep(interval).await;
        },
    }
}

fn tell(state: &NotifyState<'_>) {
    // Nobody could be told that systemd does not listen, and no work depends on it. If it listens for the watchdog
    // and this fails, it will act by itself.
    let _ = sd_notify::notify(std::slice::from_ref(state));
}
