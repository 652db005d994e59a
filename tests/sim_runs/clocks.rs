//! Clocks that jump: forwards by a year, as on a host whose battery is empty, and back by as much and a day, when somebody sets
//! it right. Waits, nights and ages come out of it within a day at the latest, and nothing is done twice because of it.

use moorline::model::State;
use moorline::model::backup::JobEnd;

use crate::fleet::{WEB, settled};
use crate::nights::{all_go_on, deployed, ended, tick};
use crate::sim::Sim;

const DAY: i64 = 24 * 3_600_000;
const YEAR: i64 = 365 * DAY;

fn web(sim: &Sim) -> Vec<String> {
    let host = sim.host();
    let containers = host.engine.observe(host.time().as_second()).containers;
    containers.into_iter().filter(|one| one.state == State::Running).map(|one| one.image).collect()
}

#[test]
fn nights_go_on_within_a_day_whichever_way_the_clock_jumps() {
    for jump in [YEAR, -DAY, -YEAR] {
        let sim = deployed();
        assert_eq!(ended(tick(&sim)).len(), 4);
        sim.host().clock += jump;
        // A year later they are late, and are made once; a day earlier they are not due, or are made once more.
        let mut nights = 0;
        for _ in 0..3 {
            if let Some(moorline::runs::backup::night::Night::Ended(outcomes)) = tick(&sim) {
                assert!(outcomes.iter().all(|outcome| outcome.report.end == JobEnd::Done), "{jump}: {outcomes:?}");
                nights += 1;
            }
        }
        assert!(nights <= 1, "{jump}: {nights} nights at once");
        // The clock is right again, and the account has seen a future, or a past, that never was.
        for back in [-jump, 0, 0] {
            sim.host().clock += back + DAY;
            let outcomes = ended(tick(&sim));
            assert_eq!(outcomes.len(), 4, "{jump}, {back}: {outcomes:?}");
            assert!(sim.run().fault.is_none() && all_go_on(&sim));
        }
    }
}

#[test]
fn what_waits_to_be_tried_again_waits_no_longer_than_it_would_have() {
    for jump in [YEAR, -DAY, -YEAR] {
        let sim = settled();
        sim.host().engine.refuse("app:2");
        sim.edit(WEB, "app:1", "app:2").commit();
        sim.run();
        sim.host().clock += jump;
        sim.run();
        sim.host().engine.offer("app:2", crate::sim::Behaviour::Healthy);
        sim.host().clock -= jump;
        for _ in 0..24 {
            sim.host().clock += 3_600_000;
            sim.run();
        }
        assert!(web(&sim).iter().any(|image| image == "app:2"), "{jump}: {:?}", web(&sim));
    }
}
