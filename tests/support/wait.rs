//! Waits for conditions. The only place of the lab that may sleep.

use std::time::{Duration, Instant};

/// How long a neighbour may take on a busy machine before a test says that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer; panics with `what` when patience ends.
#[track_caller]
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

/// Lets others work for a moment. For who makes a load, not for who waits for something.
pub fn breathe() {
    std::thread::sleep(Duration::from_millis(2));
}

/// [`until`], with its own patience.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(pause);
        // Most conditions hold within milliseconds; those that do not should not cost a core.
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
