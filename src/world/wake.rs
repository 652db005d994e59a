//! Waits for the next reason to run: the order to stop, SIGHUP, a new tip, the engine's word, or the clock.

use std::time::Duration;

use jiff::Timestamp;

use crate::world::watch::Watch;
use crate::world::{Occasion, Real, World, clock, refs};

/// The pause between two runs that the engine's word begins.
const DRIFT_PAUSE: Duration = Duration::from_secs(30);

impl Real {
    /// Waits for the next reason to run, at the latest until `timer`.
    pub(super) async fn next_occasion(&self, timer: Timestamp) -> Occasion {
        let left = timer.duration_since(self.now());
        let left = Duration::try_from(left).unwrap_or_default();
        // A watch that cannot be had costs promptness, not correctness: the timer still comes.
        let reference = refs::heads(&self.settings.repository()).join(&self.settings.branch);
        let directory = reference.parent().unwrap_or(&reference);
        let mut watch = self.watch.borrow_mut().take().or_else(|| Watch::new(directory).ok());
        let occasion = tokio::select! {
            () = self.stop.ordered() => Occasion::Stop,
            () = self.stop.hangup() => Occasion::Signal,
            () = tip_moved(&mut watch, self) => Occasion::Tip,
            () = self.drifted() => Occasion::Drift,
            () = clock::wait(left) => Occasion::Timer,
        };
        *self.watch.borrow_mut() = watch;
        occasion
    }

    /// Returns when the engine tells of a change that no run has seen. A container that ends again and again must not
    /// keep this host busy, so there is a pause between two such runs.
    async fn drifted(&self) {
        let began = self.now();
        let earliest = self.last_drift.get().map_or(began, |last| last + DRIFT_PAUSE);
        clock::wait(Duration::try_from(earliest.duration_since(began)).unwrap_or_default()).await;
        self.engine.changed(began).await;
        self.last_drift.set(Some(self.now()));
    }
}

/// Returns when the tip is another one than the last run saw, also when it moved while that run was on and nothing was
/// watched yet. Whoever is woken has seen it, so that a run which fails before it reads the tip is not begun again and
/// again. git touches the directory more often than that.
async fn tip_moved(watch: &mut Option<Watch>, world: &Real) {
    loop {
        let tip = refs::tip(&world.settings.repository(), &world.settings.branch);
        if let Ok(Some(tip)) = tip
            && world.seen_tip.borrow().as_ref() != Some(&tip)
        {
            world.seen_tip.replace(Some(tip));
            return;
        }
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }
}
