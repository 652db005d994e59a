//! One generation of routes: what Traefik is told when each stack is at a certain version.

use crate::decide::digest::DigestKey;
use crate::decide::fault::{Code, Fault};
use crate::decide::start_first::Names;
use crate::decide::traefik::host::{self, STACK, Sight, Stack, Told, traefik_service};
use crate::decide::traefik::publish::{self, Publication};
use crate::decide::traefik::routes;
use crate::model::{DesiredStack, Inputs, Ledger, Model, Settings};
use crate::runs::good;
use crate::runs::prepare::Prepared;
use crate::world::World;

/// One version of a stack, as far as routes are concerned.
#[derive(Debug)]
pub struct Version {
    inputs: Inputs,
    model: Model,
}

/// What Traefik is told at one time.
#[derive(Debug)]
pub struct Generation {
    /// What it says.
    pub told: Told,
    /// Its files.
    pub publication: Publication,
    /// The service that is Traefik.
    pub proxy: String,
    /// Where its API answers.
    pub api: Result<String, String>,
    /// Its serial.
    pub serial: u32,
    /// Why it must not be published: versions that do not fit together.
    pub mistakes: Vec<String>,
}

/// The applied version of every stack, but for one that is as it is `now`.
pub fn versions(
    world: &impl World,
    prepared: &Prepared,
    ledger: &Ledger,
    but: Option<(&str, Option<&DesiredStack>)>,
) -> Result<Vec<Version>, Fault> {
    let mut versions = Vec::new();
    for desired in &prepared.desired.stacks {
        let name = desired.name.as_str();
        let chosen = match but {
            Some((stack, now)) if stack == name => now.map(|now| (now.digest.as_str(), &now.model)),
            _ => ledger.applied.get(name).map(|applied| (applied.digest.as_str(), &applied.model)),
        };
        let Some((digest, model)) = chosen else { continue };
        versions.push(version(world, &prepared.inputs, ledger, &prepared.key, name, digest, model)?);
    }
    Ok(versions)
}

/// A version with what it was made from: what Traefik's dynamic files say stands there and nowhere else. Of other stacks
/// the model says it all, but for the lines.
pub fn version(
    world: &impl World,
    known: &[Inputs],
    ledger: &Ledger,
    key: &DigestKey,
    name: &str,
    digest: &str,
    model: &Model,
) -> Result<Version, Fault> {
    let model = model.clone();
    if let Some(inputs) = known.iter().find(|inputs| inputs.stack == name && inputs.digest == digest) {
        return Ok(Version { inputs: inputs.clone(), model });
    }
    if name != STACK {
        let (stack, digest) = (name.to_owned(), digest.to_owned());
        let inputs = Inputs { stack, files: Default::default(), environment: Default::default(), digest };
        return Ok(Version { inputs, model });
    }
    let lost = || Fault::new(Code::StackRefused, format!("the last good inputs of {name} are not there"));
    let good = good::last_good(world, ledger, name, key)?.ok_or_else(lost)?;
    Ok(Version { inputs: good.inputs, model })
}

/// What Traefik is told of these versions; nothing when it is not among them. `serial` is that of the ledger.
pub fn generation(
    settings: &Settings,
    versions: &[Version],
    key: &DigestKey,
    names: &Names,
    serial: u32,
) -> Option<Generation> {
    // In which order `host.yaml` names stacks, or a run brings them up, makes no other generation.
    let mut versions: Vec<&Version> = versions.iter().collect();
    versions.sort_by(|one, two| one.inputs.stack.cmp(&two.inputs.stack));
    let directory = |version: &&Version| settings.stack_directory(&version.inputs.stack).to_string_lossy().into_owned();
    let directories: Vec<String> = versions.iter().map(directory).collect();
    let with = versions.iter().zip(&directories);
    let stacks: Vec<Stack<'_>> =
        with.map(|(version, directory)| Stack { inputs: &version.inputs, model: &version.model, directory }).collect();
    let traefik = stacks.iter().find(|stack| stack.inputs.stack == STACK)?;
    let proxy = traefik_service(traefik.model)?.to_owned();
    let told = host::tell(&stacks, key, Sight::Whole, &|stack, service| names.of(stack, service));
    told.statics.as_ref()?;
    let publication = publish::publish(&told, key, serial);
    let api = routes::api(&stacks, &told);
    let mistakes = told.mistakes.iter().map(ToString::to_string).collect();
    Some(Generation { told, publication, proxy, api, serial, mistakes })
}
