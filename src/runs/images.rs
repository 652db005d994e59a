//! Fetches the images of a plan before anything that runs is touched, and removes those that nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;

use crate::decide::compose::{Extension, Images};
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::images;
use crate::decide::report::Draft;
use crate::model::ledger::PulledImage;
use crate::model::{Action, Container, Image, Ledger, Model, Step};
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
    let wanted = steps.iter().filter(|step| !draft.held.contains_key(&step.stack));
    let wanted: BTreeSet<String> = wanted.filter_map(|step| image_of(step).map(str::to_owned)).collect();
    if !wanted.is_empty() {
        // Before the first byte: whoever is killed in the middle must find again what is his.
        ledger.pulling.extend(wanted);
        world.persist(ledger)?;
    }
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
            (Action::Pull { image: reference }, Ok(Some(image))) => {
                ledger.images.insert(reference.clone(), pulled(world, reference, image));
                ledger.pulling.remove(reference);
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
/// Returns the image.
async fn pull(
    world: &impl World,
    step: &Step,
    prepared: &Prepared,
    known: &BTreeMap<String, PulledImage>,
    began: jiff::Timestamp,
) -> Result<Option<Image>, Fault> {
    let Some(image) = image_of(step) else { return Ok(None) };
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
    let found = world.image(image).await?;
    let stack = prepared.desired.stacks.iter().find(|stack| stack.name == step.stack);
    let floating = stack.is_some_and(|stack| is_floating(&stack.model));
    let moved = found.as_ref().and_then(|found| images::moved(image, &found.id, known.get(image), floating));
    if let Some(how) = moved {
        // It must not be there when the next run asks what is missing.
        world.remove_image(image).await?;
        return Err(Fault::new(Code::ImageMoved, format!("{image} is not the image that ran here under this name"))
            .because(how)
            .at("nothing that runs was touched")
            .hint("name the new image by a new tag or by its digest, or set `x-moorline.images: floating`"));
    }
    Ok(found)
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
        let Ok(found) = world.image(reference).await else { break };
        if found.is_none_or(|found| found.id != image.id) {
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

fn image_of(step: &Step) -> Option<&str> {
    match &step.action {
        Action::Pull { image } => Some(image),
        _ => None,
    }
}

fn pulled(world: &impl World, reference: &str, image: Image) -> PulledImage {
    let digest = images::digest_of(reference, &image.digests);
    PulledImage { id: image.id, digest, at: world.now(), unused_since: None, removed: false }
}

/// Finds what was pulled by a run that was killed before it could write that down. A name that stands for another image
/// than before is taken off it: the pull that comes then says whether it may.
pub async fn adopt(world: &impl World, ledger: &mut Ledger) -> Result<(), Fault> {
    if ledger.pulling.is_empty() {
        return Ok(());
    }
    for reference in ledger.pulling.clone() {
        // An engine that is away is asked again by the next run.
        let Ok(found) = world.image(&reference).await else { return Ok(()) };
        if let Some(image) = found {
            match images::moved(&reference, &image.id, ledger.images.get(&reference), false) {
                Some(_) => _ = world.remove_image(&reference).await?,
                None => _ = ledger.images.insert(reference.clone(), pulled(world, &reference, image)),
            }
        }
        ledger.pulling.remove(&reference);
    }
    world.persist(ledger)
}

/// Asks for the digests of stacks that were applied before they were recorded.
pub async fn note_digests(world: &impl World, ledger: &mut Ledger) -> Result<(), Fault> {
    for applied in ledger.applied.values_mut().filter(|applied| applied.digests.is_empty()) {
        applied.digests = digests(world, &applied.snapshot).await?;
    }
    Ok(())
}

/// What registries call the images of these containers, by the engine's id of the image.
pub async fn digests(world: &impl World, containers: &[Container]) -> Result<BTreeMap<String, String>, Fault> {
    let mut digests = BTreeMap::new();
    for container in containers {
        if digests.contains_key(&container.image_id) {
            continue;
        }
        let found = world.image(&container.image_id).await?;
        let digest = found.and_then(|found| images::digest_of(&container.image, &found.digests));
        digests.extend(digest.map(|digest| (container.image_id.clone(), digest)));
    }
    Ok(digests)
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
