//! Decides which containers were stopped because the host or its engine was restarted, and which ended by themselves:
//! after an orderly shutdown both have ended with 0.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Applied, Observed, Seen, State};

/// What is known after another look. A container that ran at the last look, in another life of the engine, and is found
/// ended with 0, did not end by itself. That stays known until it runs again: a hold may keep it from being started.
///
/// A program that ends by itself between the last look and the shutdown is mistaken for one that was stopped. Engine
/// events bring a look within a second, so that is rare; and a one-shot that others wait for is never run again.
pub fn look(before: &Seen, applied: &BTreeMap<String, Applied>, observed: &Observed) -> Seen {
    let snapshots = applied.values().flat_map(|applied| &applied.snapshot);
    let ours: BTreeSet<&str> = snapshots.map(|container| container.id.as_str()).collect();
    let of = |is_wanted: &dyn Fn(&str, State) -> bool| -> BTreeSet<String> {
        let wanted = observed.containers.iter().filter(|container| is_wanted(&container.id, container.state));
        wanted.map(|container| container.id.clone()).collect()
    };
    let is_another_life = !before.life.is_empty() && !observed.life.is_empty() && before.life != observed.life;
    let was_cut = |id: &str| before.cut.contains(id) || (is_another_life && before.running.contains(id));
    Seen {
        life: if observed.life.is_empty() { before.life.clone() } else { observed.life.clone() },
        running: of(&|id, state| ours.contains(id) && state == State::Running),
        cut: of(&|id, state| was_cut(id) && state == State::Exited(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Container, Model};

    fn container(state: State) -> Container {
        Container {
            id: "1".into(),
            name: "web-worker-1".into(),
            project: "web".into(),
            service: "worker".into(),
            config_hash: String::new(),
            image: String::new(),
            image_id: String::new(),
            state,
            health: None,
            networks: BTreeSet::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The lives of the engine and the states in which the container was found, and whether it counts as cut at the end.
    fn is_cut(looks: &[(&str, State)]) -> bool {
        let applied = Applied {
            revision: "0".repeat(40).parse().unwrap(),
            digest: String::new(),
            model: Model::default(),
            content: BTreeMap::new(),
            reloads: BTreeMap::new(),
            snapshot: vec![container(State::Running)],
            digests: BTreeMap::new(),
            plugin: String::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
        };
        let applied = BTreeMap::from([("web".to_owned(), applied)]);
        let mut seen = Seen::default();
        for (life, state) in looks {
            let observed = Observed { life: (*life).to_owned(), containers: vec![container(*state)] };
            seen = look(&seen, &applied, &observed);
        }
        seen.cut.contains("1")
    }

    #[test]
    fn only_what_ran_at_the_last_look_of_an_earlier_life_was_cut() {
        use State::{Exited, Running};
        assert!(is_cut(&[("a", Running), ("b", Exited(0))]));
        assert!(is_cut(&[("a", Running), ("b", Exited(0)), ("b", Exited(0)), ("c", Exited(0))]), "it stays known");
        assert!(!is_cut(&[("a", Running), ("b", Exited(0)), ("b", Running), ("b", Exited(0))]), "until it ran again");
        assert!(!is_cut(&[("a", Running), ("a", Exited(0))]), "the host was up");
        assert!(!is_cut(&[("a", Running), ("a", Exited(0)), ("b", Exited(0))]), "it had ended before");
        assert!(!is_cut(&[("a", Running), ("b", Running), ("b", Exited(0))]), "it came back, and ended");
        assert!(!is_cut(&[("", Running), ("b", Exited(0))]), "nobody knows");
        assert!(is_cut(&[("a", Running), ("", Running), ("b", Exited(0))]));
    }
}
