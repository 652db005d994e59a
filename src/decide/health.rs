//! Judges from samples of the engine whether a service works. Asks nothing, waits for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Health, State};

/// How many samples in a row a service without a health check must be seen running, with no restart between.
pub const STEADY_SAMPLES: usize = 3;

/// One look at one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The engine's id.
    pub id: String,
    /// The container's name.
    pub name: String,
    /// The service it belongs to.
    pub service: String,
    /// What it does.
    pub state: State,
    /// Its health check's verdict; absent when it has none.
    pub health: Option<Health>,
    /// How often the engine restarted it.
    pub restarts: i64,
    /// Whether the engine starts it again after exit 0.
    pub restarts_after_success: bool,
}

/// What the samples say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Every service works.
    Healthy,
    /// It is too early to tell; what is waited for.
    Waiting(String),
    /// It will not work by itself.
    Failed(String),
}

/// Judges the services of one wave: `looks` are all looks so far, oldest first; `expected` is the number of
/// containers by service.
pub fn judge(
    looks: &[Vec<Sample>],
    expected: &BTreeMap<String, usize>,
    elapsed: Duration,
    timeout: Duration,
) -> Judgement {
    let Some(latest) = looks.last() else {
        return Judgement::Waiting("the first look".into());
    };
    let mut waiting = None;
    for (service, count) in expected {
        let containers: Vec<_> = latest.iter().filter(|sample| &sample.service == service).collect();
        if containers.len() < *count {
            waiting = Some(format!("{service} has {} of {count} containers", containers.len()));
        }
        for sample in containers {
            match judge_container(sample, looks) {
                Judgement::Healthy => {}
                Judgement::Waiting(what) => waiting = Some(what),
                failed @ Judgement::Failed(_) => return failed,
            }
        }
    }
    match waiting {
        None => Judgement::Healthy,
        Some(what) if elapsed >= timeout => Judgement::Failed(format!("{what} after {}s", timeout.as_secs())),
        Some(what) => Judgement::Waiting(what),
    }
}

fn judge_container(sample: &Sample, looks: &[Vec<Sample>]) -> Judgement {
    let name = &sample.name;
    match (sample.state, sample.health) {
        // A one-shot that did its work. Anything else that ends by itself does not serve.
        (State::Exited(0), _) if !sample.restarts_after_success => Judgement::Healthy,
        (State::Exited(code), _) if !will_restart(sample, looks) => {
            Judgement::Failed(format!("{name} exited with {code}"))
        }
        (State::Running, Some(Health::Healthy)) => Judgement::Healthy,
        // The engine says so only after the start period and as many failures as the stack allows.
        (State::Running, Some(Health::Unhealthy)) if !was_otherwise(sample, looks) => {
            Judgement::Waiting(format!("{name} is unhealthy"))
        }
        (State::Running, Some(Health::Unhealthy)) => Judgement::Failed(format!("{name} is unhealthy")),
        (State::Running, Some(Health::Starting)) => {
            Judgement::Waiting(format!("the health check of {name} is starting"))
        }
        (State::Running, None) if is_steady(sample, looks) => Judgement::Healthy,
        (State::Running, None) if restarted_often(sample, looks) => {
            Judgement::Failed(format!("{name} was restarted again and again"))
        }
        (State::Running, None) => Judgement::Waiting(format!("{name} is not steady yet")),
        (State::Restarting, _) if restarted_often(sample, looks) => {
            Judgement::Failed(format!("{name} was restarted again and again"))
        }
        (state, _) => Judgement::Waiting(format!("{name} is {state}")),
    }
}

/// The same container in the last `count` looks, newest first.
fn past<'a>(sample: &Sample, looks: &'a [Vec<Sample>]) -> impl Iterator<Item = &'a Sample> {
    let id = sample.id.clone();
    looks.iter().rev().map_while(move |look| look.iter().find(|earlier| earlier.id == id))
}

fn is_steady(sample: &Sample, looks: &[Vec<Sample>]) -> bool {
    let steady = past(sample, looks)
        .take(STEADY_SAMPLES)
        .filter(|earlier| earlier.state == State::Running && earlier.restarts == sample.restarts)
        .count();
    steady == STEADY_SAMPLES
}

/// Whether it was seen with another verdict before. One that was unhealthy from the first look on may be so from before
/// the step, such as one that was paused: its next checks say more.
fn was_otherwise(sample: &Sample, looks: &[Vec<Sample>]) -> bool {
    past(sample, looks).any(|earlier| earlier.health != Some(Health::Unhealthy))
}

/// A crash loop: three restarts while we were looking.
fn restarted_often(sample: &Sample, looks: &[Vec<Sample>]) -> bool {
    let fewest = past(sample, looks).map(|earlier| earlier.restarts).min().unwrap_or(sample.restarts);
    sample.restarts >= fewest + 3
}

/// An exited container is started again by the engine only if its restart policy says so; seen from outside, that is
/// so if it was restarted before or is restarted whatever its exit code.
fn will_restart(sample: &Sample, looks: &[Vec<Sample>]) -> bool {
    (sample.restarts_after_success || sample.restarts > 0) && !restarted_often(sample, looks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(state: State, health: Option<Health>, restarts: i64) -> Sample {
        Sample {
            id: "1".into(),
            name: "web-1".into(),
            service: "web".into(),
            state,
            health,
            restarts,
            restarts_after_success: true,
        }
    }

    fn judged(looks: &[Vec<Sample>], elapsed: u64) -> Judgement {
        let expected = [("web".to_owned(), 1)].into();
        judge(looks, &expected, Duration::from_secs(elapsed), Duration::from_secs(60))
    }

    #[test]
    fn a_healthy_container_passes_at_once() {
        let look = vec![sample(State::Running, Some(Health::Healthy), 0)];
        assert_eq!(judged(&[look], 0), Judgement::Healthy);
    }

    #[test]
    fn without_a_health_check_three_steady_looks_are_needed() {
        let look = vec![sample(State::Running, None, 0)];
        assert!(matches!(judged(&[look.clone(), look.clone()], 2), Judgement::Waiting(_)));
        assert_eq!(judged(&[look.clone(), look.clone(), look], 3), Judgement::Healthy);
    }

    #[test]
    fn a_restart_between_two_looks_is_not_steady() {
        let before = vec![sample(State::Running, None, 0)];
        let after = vec![sample(State::Running, None, 1)];
        let looks = [before, after.clone(), after];
        assert!(matches!(judged(&looks, 3), Judgement::Waiting(_)));
    }

    #[test]
    fn a_crash_loop_fails_before_the_timeout() {
        let looks: Vec<_> = (0..4).map(|restarts| vec![sample(State::Restarting, None, restarts)]).collect();
        assert!(matches!(judged(&looks, 4), Judgement::Failed(_)));
    }

    #[test]
    fn a_one_shot_that_ended_with_0_is_healthy_and_with_3_is_not() {
        let mut done = sample(State::Exited(0), None, 0);
        done.restarts_after_success = false;
        assert_eq!(judged(&[vec![done.clone()]], 1), Judgement::Healthy);
        done.state = State::Exited(3);
        assert_eq!(judged(&[vec![done]], 1), Judgement::Failed("web-1 exited with 3".into()));
    }

    #[test]
    fn unhealthy_fails_and_starting_fails_only_at_the_timeout() {
        let unhealthy = vec![sample(State::Running, Some(Health::Unhealthy), 0)];
        let before = vec![sample(State::Running, Some(Health::Starting), 0)];
        assert!(matches!(judged(&[before, unhealthy.clone()], 1), Judgement::Failed(_)));
        // A verdict from before the step, as of a container that was paused.
        assert!(matches!(judged(&[unhealthy.clone(), unhealthy.clone()], 1), Judgement::Waiting(_)));
        assert!(matches!(judged(&[unhealthy.clone(), unhealthy], 60), Judgement::Failed(_)));
        let starting = [vec![sample(State::Running, Some(Health::Starting), 0)]];
        assert!(matches!(judged(&starting, 59), Judgement::Waiting(_)));
        assert!(matches!(judged(&starting, 60), Judgement::Failed(_)));
    }

    #[test]
    fn a_missing_container_is_waited_for_until_the_timeout() {
        assert!(matches!(judged(&[vec![]], 1), Judgement::Waiting(_)));
        assert!(matches!(judged(&[vec![]], 60), Judgement::Failed(_)));
    }
}
