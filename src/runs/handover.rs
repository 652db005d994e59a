//! Takes a service from its old containers to new ones that stand beside them, one step at a time. What is about to be
//! done is in the ledger before it is: whoever comes after a kill knows which containers are which, and which serve.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::decide::fault::{Code, Fault};
use crate::decide::report::Draft;
use crate::decide::start_first::{Handovers, Names};
use crate::decide::traefik::host::STACK as TRAEFIK;
use crate::model::host::Logins;
use crate::model::ledger::{Handover, Lead};
use crate::model::{DesiredStack, Ledger, Step};
use crate::runs::deploy::STOPPED;
use crate::runs::prepare::Prepared;
use crate::runs::publish::{self, Word};
use crate::world::World;

/// The handovers of a stack that did not come to their end.
pub fn of<'a>(ledger: &'a Ledger, stack: &str) -> Option<&'a Handovers> {
    ledger.begun.get(stack).map(|begun| &begun.handovers)
}

/// To which containers routes lead now.
pub async fn names(world: &impl World, ledger: &Ledger) -> Result<Names, Fault> {
    Ok(Names::new(&world.observe().await?, &ledger.begun))
}

/// Makes the new containers. Every container that is there before the first of them is an old one.
pub async fn start(
    world: &impl World,
    step: &Step,
    services: &[String],
    desired: &DesiredStack,
    logins: &Logins,
    ledger: &mut Ledger,
    draft: &Draft,
) -> Result<(), Fault> {
    if let Some(hold) = draft.held.get(TRAEFIK) {
        return Err(Fault::new(Code::Held, format!("the route cannot be moved: {hold}")).at("nothing was touched"));
    }
    let observed = world.observe().await?;
    let begun = ledger.begun.entry(step.stack.clone()).or_default();
    for service in services {
        let old = observed.of(&step.stack).filter(|container| container.service == *service);
        let old = old.map(|container| (container.id.clone(), container.name.clone())).collect();
        let handover = Handover { digest: desired.digest.clone(), old, lead: Lead::Old };
        begun.handovers.insert(service.clone(), handover);
    }
    world.persist(ledger)?;
    world.act(step, Some(desired), logins).await
}

/// Leads requests to the new containers, or back to the old ones. As long as this goes on, the new ones may serve, and
/// the ledger says so.
pub async fn route(
    world: &impl World,
    prepared: &Prepared,
    services: &[String],
    to: Lead,
    desired: &DesiredStack,
    ledger: &mut Ledger,
    draft: &mut Draft,
) -> Result<(), Fault> {
    let stack = &desired.name;
    let before = of(ledger, stack).cloned().unwrap_or_default();
    set_lead(world, stack, services, Lead::New, ledger)?;
    let names = names(world, ledger).await?;
    let (names, now) = match to {
        Lead::New => (names, taken_over(desired, ledger)),
        Lead::Old => (names.led_back(stack), desired.clone()),
    };
    match publish::publish(world, prepared, stack, Some(&now), ledger, draft, &names).await? {
        Word::Given => set_lead(world, stack, services, to, ledger),
        Word::NotGiven => {
            // Nothing was published, so whoever served still does.
            ledger.begun.entry(stack.clone()).or_default().handovers = before;
            world.persist(ledger)?;
            let sentence = format!("the route of {} cannot be moved yet", services.join(" "));
            let because = "it goes with routes of other stacks that are not there yet";
            Err(Fault::new(Code::DeployWaiting, sentence).because(because).at("what served before serves"))
        }
    }
}

/// The stack as it is when these services have been taken over and the others have not: their routes do not follow before
/// their own gates. What Traefik's own stack says in files has no gate.
fn taken_over(desired: &DesiredStack, ledger: &Ledger) -> DesiredStack {
    let Some(applied) = ledger.applied.get(&desired.name).filter(|_| desired.name != TRAEFIK) else {
        return desired.clone();
    };
    let leads = |service: &&String| {
        let handover = of(ledger, &desired.name).and_then(|handovers| handovers.get(*service));
        handover.is_some_and(|handover| handover.lead == Lead::New)
    };
    let mut now = desired.clone();
    for (name, definition) in &applied.model.networks {
        now.model.networks.entry(name.clone()).or_insert_with(|| definition.clone());
    }
    now.model.services.retain(|service, definition| match applied.model.services.get(service) {
        _ if leads(&service) => true,
        Some(before) => {
            definition.clone_from(before);
            true
        }
        None => false,
    });
    now
}

fn set_lead(
    world: &impl World,
    stack: &str,
    services: &[String],
    lead: Lead,
    ledger: &mut Ledger,
) -> Result<(), Fault> {
    let Some(begun) = ledger.begun.get_mut(stack) else { return Ok(()) };
    let before = begun.handovers.clone();
    let concerned = begun.handovers.iter_mut().filter(|(service, _)| services.contains(service));
    concerned.for_each(|(_, handover)| handover.lead = lead);
    if begun.handovers == before { Ok(()) } else { world.persist(ledger) }
}

/// Lets the old containers finish what they have begun, then stops and removes them.
pub async fn drain(world: &impl World, step: &Step, wait: Duration, logins: &Logins) -> Result<(), Fault> {
    world.wait(wait).await;
    // A wait ends early when moorline is asked to stop; the next run drains anew.
    if world.stopping() {
        return Err(Fault::new(Code::Stopped, STOPPED));
    }
    world.act(step, None, logins).await
}

/// Stops and removes new containers that did not take over. Then there is nothing to tell apart any more.
pub async fn withdraw(
    world: &impl World,
    step: &Step,
    services: &[String],
    logins: &Logins,
    ledger: &mut Ledger,
) -> Result<(), Fault> {
    world.act(step, None, logins).await?;
    if let Some(begun) = ledger.begun.get_mut(&step.stack) {
        begun.handovers.retain(|service, _| !services.contains(service));
    }
    world.persist(ledger)
}

/// The services of a stack whose old containers serve while new ones stand beside them.
pub fn undisturbed(ledger: &Ledger, stack: &str) -> Vec<String> {
    let handovers = of(ledger, stack).into_iter().flatten();
    handovers.filter(|(_, handover)| handover.lead == Lead::Old).map(|(service, _)| service.clone()).collect()
}

/// The names of containers that served when a deploy failed beside them: they say nothing about why.
pub fn uninvolved(ledger: &Ledger, stack: &str) -> BTreeSet<String> {
    let handovers = of(ledger, stack).into_iter().flatten();
    handovers.flat_map(|(_, handover)| handover.old.values().cloned()).collect()
}
