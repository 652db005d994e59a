//! Signals from outside: the order to stop (SIGTERM, SIGINT), and the wish to run now (SIGHUP).

use std::cell::Cell;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Given once, seen by everyone who waits.
#[derive(Debug, Default)]
pub struct Stop {
    ordered: Cell<bool>,
    told: Notify,
    hangup: Notify,
}

impl Stop {
    /// Orders to stop. The step in flight is finished first.
    pub fn order(&self) {
        self.ordered.set(true);
        self.told.notify_waiters();
    }

    /// Whether the order was given.
    pub fn is_ordered(&self) -> bool {
        self.ordered.get()
    }

    /// Returns when the order is given.
    pub async fn ordered(&self) {
        while !self.is_ordered() {
            self.told.notified().await;
        }
    }

    /// Returns at the next SIGHUP, also at one that came while nobody waited.
    pub async fn hangup(&self) {
        self.hangup.notified().await;
    }

    /// Waits for signals and passes them on. A second SIGTERM changes nothing: the step is finished. Poll it before the work
    /// begins (`biased`): until then, a signal ends the process on the spot.
    pub async fn listen(&self) -> std::io::Result<std::convert::Infallible> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = hangup.recv() => self.hangup.notify_one(),
                _ = terminate.recv() => self.order(),
                _ = interrupt.recv() => self.order(),
            }
        }
    }
}
