//! The routes of a host, or of a directory that is not even committed. Changes nothing.

use serde_json::Value as Json;

use crate::decide::digest::DigestKey;
use crate::decide::fault::{Code, Fault};
use crate::decide::report::Draft;
use crate::decide::start_first::Names;
use crate::decide::traefik::host::{self, Sight, Stack, Told};
use crate::decide::traefik::routes::{self, Route};
use crate::decide::{fleet, render};
use crate::model::{Desired, Inputs, Settings, Tree};
use crate::runs::accept::Trust;
use crate::runs::prepare;
use crate::world::World;

/// What leads where on one host.
#[derive(Debug)]
pub struct Listing {
    /// The host's name.
    pub host: String,
    /// Its routes.
    pub routes: Vec<Route>,
    /// Why the state of routes is unknown, if it is.
    pub unknown: Option<String>,
}

/// The routes of this host, with their state as Traefik sees it.
pub async fn here(world: &impl World) -> Result<Listing, Fault> {
    let host = world.settings().host.clone();
    let mut draft = Draft::begin(&host, "routes", world.now(), std::process::id());
    let mut ledger = world.ledger()?;
    let prepared = prepare::prepare(world, &mut ledger, &mut draft, Trust::LookOnly, None).await?;
    let directories = directories(world.settings(), &prepared.inputs);
    let stacks = stacks(&prepared.inputs, &directories, &prepared.desired);
    let names = Names::new(&draft.observed, &ledger.begun);
    let told = host::tell(&stacks, &prepared.key, Sight::Whole, &|stack, service| names.of(stack, service));
    let answer = match routes::api(&stacks, &told) {
        Ok(address) => world.traefik_says(&address).await.map_err(|fault| fault.sentence),
        Err(why) => Err(why),
    };
    Ok(listing(host, &told, &answer))
}

/// The routes that a host would have with this directory. Needs neither engine nor plugin nor key.
pub fn of_directory(tree: &Tree, name: &str) -> Result<Listing, Fault> {
    let spec = fleet::read(tree, name).map_err(|found| fleet::spec_invalid(found, "this directory"))?;
    let secrets = render::Secrets::sealed(&spec)
        .map_err(|error| Fault::new(Code::SecretsDamaged, "the SOPS file cannot be read").caused_by(&error))?;
    let key = DigestKey::new(vec![0; 32]);
    let told = host::tell_roughly(&render::inputs(&spec, &secrets, &key), &key);
    if !told.mistakes.is_empty() {
        return Err(fleet::spec_invalid(told.mistakes, "this directory"));
    }
    Ok(listing(name.to_owned(), &told, &Err("this is a directory, not a host".to_owned())))
}

/// Finds everything that Traefik would not understand in what all stacks say together, before anything is touched.
pub fn refuse_mistakes(
    settings: &Settings,
    inputs: &[Inputs],
    desired: &Desired,
    key: &DigestKey,
) -> Result<(), Fault> {
    let told = told(settings, inputs, desired, key);
    match desired.revision.as_ref().filter(|_| !told.mistakes.is_empty()) {
        Some(revision) => Err(fleet::spec_invalid(told.mistakes, revision.short())),
        None => Ok(()),
    }
}

/// What Traefik is told when every stack is as desired.
pub fn told(settings: &Settings, inputs: &[Inputs], desired: &Desired, key: &DigestKey) -> Told {
    let directories = directories(settings, inputs);
    host::tell(&stacks(inputs, &directories, desired), key, Sight::Whole, &|_, _| None)
}

fn directories(settings: &Settings, inputs: &[Inputs]) -> Vec<String> {
    let directory = |inputs: &Inputs| settings.stack_directory(&inputs.stack).to_string_lossy().into_owned();
    inputs.iter().map(directory).collect()
}

fn stacks<'a>(inputs: &'a [Inputs], directories: &'a [String], desired: &'a Desired) -> Vec<Stack<'a>> {
    let of = |inputs: &Inputs| desired.stacks.iter().find(|stack| stack.name == inputs.stack);
    let with = inputs.iter().zip(directories);
    with.filter_map(|(inputs, directory)| Some(Stack { inputs, model: &of(inputs)?.model, directory })).collect()
}

fn listing(host: String, told: &Told, answer: &Result<Json, String>) -> Listing {
    let answer = answer.as_ref().map_err(Clone::clone);
    Listing { host, routes: routes::routes(told, &answer), unknown: answer.err() }
}
