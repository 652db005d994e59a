//! Fetches the images of a plan before anything that runs is touched, and removes those that nobody needs any more.

use futures_util::StreamExt;

use crate::decide::compose::{Extension, Images};
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::images;
use crate::decide::report::Draft;
use crate::model::ledger::PulledImage;
use crate::model::{Action, Ledger, Model, Step};
use crate::runs::deploy::outcome;
use crate::runs::prepare::Prepared;
use crate::world::{Removal, World};

/// How many images are fetched at a time. More would only share the same line, and registries count connections.
const AT_A_TIME: usize = 3;

/// What could not be fetched.
#[derive(Debug, Default)]
pub struct Missed {
    /// Why the run ends, if one of the images cannot be had.
    pub because: Option<String>,
    /// The steps that failed, and how.
    pub failed: Vec<(Step, Fault)>,
}

/// Fetches the images of all stacks that are not held.
pub async fn pull_all(
    world: &impl World,
    steps: &[Step],
    prepared: &Prepared,
    ledger: &mut Ledger,
    draft: &mut Draft,
    stopped: &str,
) -> Result<Missed, Fault> {
    let known = ledger.images.clone();
    let ended = std::cell::RefCell::new(None::<String>);
    let one = async |step: &Step| {
        let began = world.now();
        if world.stopping() {
            ended.borrow_mut().get_or_insert_with(|| stopped.to_owned());
        }
        let skipped = ended.borrow().as_ref().or_else(|| draft.held.get(&step.stack)).cloned();
        let result = match skipped {
            Some(because) => Err(Fault::new(Code::Stopped, because)),
            None => pull(world, step, prepared, &known, began).await,
        };
        if result.as_ref().is_err_and(|fault| fault.code != Code::Stopped) {
            let because = format!("{} of {} failed", step.action.verb(), step.stack);
            ended.borrow_mut().get_or_insert(because);
        }
        (outcome(world, draft, step, &result, began), result)
    };
    let results: Vec<_> = futures_util::stream::iter(steps).map(one).buffered(AT_A_TIME).collect().await;
    let mut missed = Missed { because: ended.into_inner(), failed: Vec::new() };
    let mut fetched = false;
    for (outcome, result) in results {
        match (&outcome.step.action, result) {
            (Action::Pull { image }, Ok(Some(id))) => {
                let image = (image.clone(), PulledImage { id, at: world.now(), unused_since: None, removed: false });
                ledger.images.extend([image]);
                fetched = true;
            }
            (_, Err(fault)) if fault.code != Code::Stopped => missed.failed.push((outcome.step.clone(), fault)),
            _ => {}
        }
        draft.outcomes.push(outcome);
    }
    if fetched {
        world.persist(ledger)?;
    }
    Ok(missed)
}

/// Fetches one image, again and again while the trouble may pass, and looks whether its name still means what it meant.
/// Returns the image's id.
async fn pull(
    world: &impl World,
    step: &Step,
    prepared: &Prepared,
    known: &std::collections::BTreeMap<String, PulledImage>,
    began: jiff::Timestamp,
) -> Result<Option<String>, Fault> {
    let Action::Pull { image } = &step.action else { return Ok(None) };
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(fault) = world.act(step, None, prepared.secrets.logins()).await else { break };
        let left = world.settings().pull_timeout.saturating_sub(world.now().duration_since(began).unsigned_abs());
        let may_pass = fault.code == Code::ImageUnavailable && !world.stopping();
        match images::pause_after(tries).filter(|pause| may_pass && *pause < left) {
            Some(pause) => world.wait(pause).await,
            None => return Err(fault),
        }
    }
    let id = world.image_id(image).await?;
    let stack = prepared.desired.stacks.iter().find(|stack| stack.name == step.stack);
    let floating = stack.is_some_and(|stack| is_floating(&stack.model));
    let moved = id.as_ref().and_then(|id| images::moved(image, id, known.get(image), floating));
    if let Some(how) = moved {
        // It must not be there when the next run asks what is missing.
        world.remove_image(image).await?;
        return Err(Fault::new(Code::ImageMoved, format!("{image} is not the image that ran here under this name"))
            .because(how)
            .at("nothing that runs was touched")
            .hint("name the new image by a new tag or by its digest, or set `x-moorline.images: floating`"));
    }
    Ok(id)
}

fn is_floating(model: &Model) -> bool {
    Extension::read(&model.extension).is_ok_and(|extension| extension.images == Some(Images::Floating))
}

/// Removes images that moorline fetched and that no state of this host has needed for a while. What cannot be removed now
/// is for the next run: nothing depends on it.
pub async fn sweep(world: &impl World, ledger: &mut Ledger, draft: &Draft) -> Result<(), Fault> {
    let now = world.now();
    let swept = images::sweep(&ledger.images, needed(ledger), now);
    let before = ledger.images.clone();
    let mut set = |reference: &String, since| {
        if let Some(image) = ledger.images.get_mut(reference) {
            image.unused_since = since;
        }
    };
    swept.used.iter().for_each(|reference| set(reference, None));
    swept.unused.iter().for_each(|reference| set(reference, Some(now)));
    for reference in &swept.due {
        let Some(image) = ledger.images.get_mut(reference) else { continue };
        // Somebody may have given the name to an image of their own meanwhile.
        let Ok(id) = world.image_id(reference).await else { break };
        if id.as_ref() != Some(&image.id) {
            image.removed = true;
            continue;
        }
        match world.remove_image(reference).await {
            Ok(Removal::Removed) => {
                image.removed = true;
                world.say(Event::ImageRemoved { run: draft.run.clone(), image: reference.clone() });
            }
            // By a container that is not ours.
            Ok(Removal::InUse) => image.unused_since = Some(now),
            Err(_) => break,
        }
    }
    if ledger.images == before { Ok(()) } else { world.persist(ledger) }
}

/// Every state of this host whose images must stay.
fn needed(ledger: &Ledger) -> impl Iterator<Item = &Model> {
    ledger.applied.values().map(|applied| &applied.model)
}

/// What a sweep would remove now, for plans.
pub fn due(ledger: &Ledger, now: jiff::Timestamp) -> Vec<String> {
    let swept = images::sweep(&ledger.images, needed(ledger), now);
    swept.due.iter().map(|image| format!("{image} is not needed any more and will be removed")).collect()
}
