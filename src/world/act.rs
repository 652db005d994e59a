//! Carries out one step of a plan that changes a stack: hands it to the neighbour who can.

use crate::decide::fault::{Code, Fault};
use crate::model::{Action, DesiredStack, Settings, Step};
use crate::world::docker::Engine;
use crate::world::{compose, good, stack};

/// Carries out a step. `desired` is the stack as it should be, unless it is to be taken down.
pub async fn act(
    settings: &Settings,
    engine: &Engine,
    step: &Step,
    desired: Option<&DesiredStack>,
) -> Result<(), Fault> {
    match (&step.action, desired) {
        (Action::Rename { id, to, .. }, _) => engine.rename(id, to).await,
        (Action::Detach { id, name, network }, _) => engine.detach(id, name, network).await,
        (Action::Attach { id, name, network, endpoint }, _) => engine.attach(id, name, network, endpoint).await,
        (Action::Discard { id, name }, _) => engine.discard(id, name).await,
        (Action::Unpause { services }, _) => engine.unpause(&step.stack, services).await,
        (Action::Restart { services }, Some(desired)) => compose::restart(settings, desired, services).await,
        (Action::Write { .. }, Some(desired)) => stack::write(settings, desired),
        (Action::Up { services }, Some(desired)) => compose::up(settings, desired, services).await,
        (Action::StartFirst { services }, Some(desired)) => {
            let there = engine.count(&step.stack, services).await?;
            engine.hold_no_data(desired, services).await?;
            compose::start_first(settings, desired, &there).await
        }
        (Action::Drain { containers, .. } | Action::Withdraw { containers, .. }, _) => engine.end(containers).await,
        (Action::UpWhole, Some(desired)) => compose::up_whole(settings, desired).await,
        (Action::Signal { services, signal }, Some(desired)) => {
            compose::signal(settings, desired, services, signal).await
        }
        (Action::Remove { services }, _) => engine.remove(&step.stack, services).await,
        (Action::Down, _) => {
            compose::down(settings, &step.stack).await?;
            stack::remove(settings, &step.stack)?;
            good::forget(&settings.state, &step.stack)
        }
        (
            Action::Pull { .. }
            | Action::Gate { .. }
            | Action::Snapshot
            | Action::Publish { .. }
            | Action::Route { .. },
            _,
        )
        | (_, None) => Err(Fault::new(Code::StepFailed, format!("{} cannot be carried out alone", step.action.verb()))),
    }
}
