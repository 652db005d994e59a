//! The gate: looks at the services of a wave until the engine shows that they work, or that they will not.

use std::time::Duration;

use crate::decide::fault::{Code, Fault};
use crate::decide::health::{self, Judgement};
use crate::decide::start_first::Handovers;
use crate::decide::{compose, start_first};
use crate::model::DesiredStack;
use crate::runs::deploy::STOPPED;
use crate::world::World;

/// How often the gate looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until every service works, one of them cannot, or the time is up.
pub async fn gate(
    world: &impl World,
    desired: &DesiredStack,
    services: &[String],
    timeout: Duration,
    handovers: Option<&Handovers>,
) -> Result<(), Fault> {
    let count = |service: &String| {
        let definition = desired.model.services.get(service);
        (service.clone(), definition.map_or(1, compose::replicas))
    };
    let expected = services.iter().map(count).collect();
    let began = world.now();
    let mut looks = Vec::new();
    loop {
        looks.push(start_first::judged(world.look(&desired.name, services).await?, handovers));
        let elapsed = world.now().duration_since(began).unsigned_abs();
        match health::judge(&looks, &expected, elapsed, timeout) {
            Judgement::Healthy => return Ok(()),
            Judgement::Failed(why) => return Err(Fault::new(Code::GateFailed, why)),
            Judgement::Waiting(_) if world.stopping() => return Err(Fault::new(Code::Stopped, STOPPED)),
            Judgement::Waiting(_) => world.wait(LOOK_EVERY).await,
        }
    }
}
