//! Runs the Compose plugin: the hand of moorline. The binary is called directly, which is half the work of going
//! through `docker` (docs/facts.md, C19).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::decide::digest::DigestKey;
use crate::decide::fault::{Code, Fault};
use crate::decide::{compose, render, schedule};
use crate::model::tree::File;
use crate::model::{DesiredStack, Inputs, Model, Settings};
use crate::world::child::{Child, Ended};
use crate::world::{Plugin, binds, disk, watched};

/// Where Docker's packages put the plugin.
const PLACES: &[&str] = &[
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// Older ones recreate the dependants of a changed service (docs/facts.md, C17).
const OLDEST: (u32, u32) = (2, 32);
/// For questions that touch no container.
const QUESTION: Duration = Duration::from_secs(60);
/// What it may spend on a question. An ordinary stack needs less than 256 MiB; a bomb of YAML that got past our own limits
/// ends here after three seconds of processor time. `--data` and not `--as`: a Go program reserves much and uses little.
const BOUNDS: [&str; 3] = ["--data=536870912", "--cpu=60", "--core=0"];
/// On top of the grace periods of all containers that a call may stop.
const WORK: Duration = Duration::from_secs(300);
/// Docker's own default grace period.
const GRACE: Duration = Duration::from_secs(10);

/// Finds the plugin's file.
pub fn find(settings: &Settings) -> Result<PathBuf, Fault> {
    let candidates: Vec<PathBuf> = match &settings.compose {
        Some(path) => vec![path.clone()],
        None => PLACES.iter().map(|place| Path::new(place).join("docker-compose")).collect(),
    };
    candidates.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let looked = candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        missing("the Compose plugin is not installed").because(format!("looked for {looked}"))
    })
}

fn missing(sentence: impl Into<String>) -> Fault {
    Fault::new(Code::PluginMissing, sentence).at("nothing was changed").hint(
        "install `docker-compose-plugin` from Docker's package repository, or name the file as `compose` in agent.toml",
    )
}

/// The plugin with its version, if it is new enough.
pub async fn plugin(settings: &Settings) -> Result<Plugin, Fault> {
    let path = find(settings)?;
    let ended = Child::new(&path, QUESTION)
        .args(["version", "--short"])
        .run()
        .await
        .map_err(|error| missing(format!("{} cannot be used", path.display())).caused_by(&error))?;
    let version = String::from_utf8_lossy(&ended.stdout).trim().trim_start_matches('v').to_owned();
    match numbers(&version) {
        Some(found) if found >= OLDEST => Ok(Plugin { stamp: stamp(&path, &version)?, version }),
        Some(_) => {
            let (major, minor) = OLDEST;
            Err(missing(format!("the Compose plugin {version} is too old: {major}.{minor} is needed"))
                .because("older ones recreate services that did not change"))
        }
        None => {
            Err(missing(format!("{} does not say its version", path.display())).because(ended.last_words(1).join(" ")))
        }
    }
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Changes whenever the plugin's file does.
pub fn stamp(path: &Path, version: &str) -> Result<String, Fault> {
    let metadata =
        fs::metadata(path).map_err(|error| missing(format!("{} cannot be read", path.display())).caused_by(&error))?;
    Ok(format!("{version} {} {}.{}", metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// What Compose makes of these inputs. It works on a copy in memory, with marks instead of secrets.
pub async fn model(settings: &Settings, inputs: &Inputs, key: &DigestKey) -> Result<Model, Fault> {
    let place = staging_place(settings);
    let staging = place.join(format!("moorline-{}-{}", inputs.stack, std::process::id()));
    if place.starts_with(&settings.run) {
        // Ours alone; a run that was killed may have left one.
        let _ = fs::remove_dir_all(&staging);
    }
    // Made new, never taken over: whoever made it before us could have planted links, and would lose it to us below.
    let unwritable = |error: std::io::Error| disk::unwritable(&staging, &error);
    fs::DirBuilder::new().mode(0o700).create(&staging).map_err(unwritable)?;
    let deep = depths(settings, inputs).fold(staging.clone(), |path, _| path.join("d"));
    let resolved = match stage(&deep, &render::staging(inputs, key)) {
        Ok(()) => resolve(settings, inputs, &deep).await,
        Err(error) => Err(unwritable(error)),
    };
    // Ours, in memory, and of no use any more, however it went.
    let _ = fs::remove_dir_all(&staging);
    resolved
}

/// As many as the stack's own directory is deep. So `../` leads out of the copy either to a place in the copy's own
/// directory, which no policy allows, or to the same place as it will lead from the stack's directory.
fn depths(settings: &Settings, inputs: &Inputs) -> impl Iterator<Item = usize> {
    0..settings.stack_directory(&inputs.stack).components().count()
}

/// Marks are no secrets, so that any private directory will do for whoever only looks, before a run has mounted memory.
fn staging_place(settings: &Settings) -> PathBuf {
    let prepared = settings.run.join("render");
    #[allow(clippy::disallowed_methods, reason = "nothing of it stays, and no secret is in it")]
    if prepared.is_dir() { prepared } else { std::env::temp_dir() }
}

fn stage(staging: &Path, files: &BTreeMap<String, File>) -> std::io::Result<()> {
    fs::create_dir_all(staging)?;
    for (path, file) in files {
        let path = staging.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, &file.bytes)?;
    }
    Ok(())
}

async fn resolve(settings: &Settings, inputs: &Inputs, staging: &Path) -> Result<Model, Fault> {
    let child = command(settings, QUESTION)?.within(&BOUNDS).args(["config"]).directory(staging);
    let ended = child.run().await.map_err(|error| refused(inputs).caused_by(&error))?;
    // Compose only warns about a variable that is not set and goes on with nothing: a site without a password.
    let unset: Vec<String> = ended.stderr.lines().filter_map(unset_variable).collect();
    if !unset.is_empty() {
        return Err(refused(inputs).because(format!("not set: {}", unset.join(", "))));
    }
    if !ended.succeeded() {
        return Err(said(refused(inputs), &ended, staging, inputs));
    }
    let directory = settings.stack_directory(&inputs.stack);
    let copy = staging.ancestors().nth(depths(settings, inputs).count()).unwrap_or(staging);
    let outside = directory.with_file_name("outside");
    let places = [(staging, directory.as_path()), (copy, outside.as_path())];
    compose::read_model(&ended.stdout, &places).map_err(|error| refused(inputs).caused_by(&error))
}

fn unset_variable(line: &str) -> Option<String> {
    let (before, _) = line.split_once("variable is not set")?;
    let name = before.rsplit("The ").next()?;
    let name: String =
        name.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '_').collect();
    Some(format!("${{{name}}}"))
}

fn refused(inputs: &Inputs) -> Fault {
    Fault::new(Code::ComposeRefused, format!("compose does not accept stacks/{}/compose.yaml", inputs.stack))
        .at("nothing was changed")
        .hint(format!("`docker compose config` in stacks/{} shows the same", inputs.stack))
}

/// Adds what Compose said, with the paths of the repository instead of those of the copy.
fn said(mut fault: Fault, ended: &Ended, staging: &Path, inputs: &Inputs) -> Fault {
    let staging = staging.to_string_lossy();
    let place = format!("stacks/{}", inputs.stack);
    fault.because.extend(ended.last_words(5).iter().map(|line| line.replace(&*staging, &place)));
    fault
}

/// `up -d` for one wave: these services and nothing else, from images that are here.
pub async fn up(settings: &Settings, stack: &DesiredStack, services: &[String]) -> Result<(), Fault> {
    binds::lie_within(&settings.stack_directory(&stack.name), stack, watched::link(settings, &stack.name).as_ref())?;
    let fixed = ["up", "-d", "--no-deps", "--no-build", "--pull", "never", "--"];
    let arguments = fixed.iter().map(OsString::from).chain(services.iter().map(OsString::from)).collect();
    work(settings, stack, services.iter(), arguments).await
}

/// Makes as many new containers of these services as there should be, beside those that are there: `there` says how many
/// each has. The old ones are not touched, also where their definition is another one.
pub async fn start_first(
    settings: &Settings,
    stack: &DesiredStack,
    there: &BTreeMap<String, usize>,
) -> Result<(), Fault> {
    binds::lie_within(&settings.stack_directory(&stack.name), stack, watched::link(settings, &stack.name).as_ref())?;
    let fixed = ["up", "-d", "--no-deps", "--no-build", "--pull", "never", "--no-recreate"].map(OsString::from);
    let scales = there.iter().flat_map(|(service, there)| {
        let wanted = stack.model.services.get(service).map_or(1, compose::replicas);
        [OsString::from("--scale"), OsString::from(format!("{service}={}", there + wanted))]
    });
    let services = there.keys().map(OsString::from);
    let arguments = fixed.into_iter().chain(scales).chain([OsString::from("--")]).chain(services).collect();
    work(settings, stack, there.keys(), arguments).await
}

/// `up -d` for the whole project.
pub async fn up_whole(settings: &Settings, stack: &DesiredStack) -> Result<(), Fault> {
    binds::lie_within(&settings.stack_directory(&stack.name), stack, watched::link(settings, &stack.name).as_ref())?;
    let arguments = ["up", "-d", "--no-build", "--pull", "never"].iter().map(OsString::from).collect();
    work(settings, stack, stack.model.services.keys(), arguments).await
}

/// Starts the containers of these services again, so that they mount what is there now.
pub async fn restart(settings: &Settings, stack: &DesiredStack, services: &[String]) -> Result<(), Fault> {
    let fixed = ["restart", "--no-deps", "--"];
    let arguments = fixed.iter().map(OsString::from).chain(services.iter().map(OsString::from)).collect();
    work(settings, stack, services.iter(), arguments).await
}

/// Sends a signal to the containers of these services.
pub async fn signal(settings: &Settings, stack: &DesiredStack, services: &[String], name: &str) -> Result<(), Fault> {
    let fixed = ["kill", "-s", name, "--"];
    let arguments = fixed.iter().map(OsString::from).chain(services.iter().map(OsString::from)).collect();
    work(settings, stack, services.iter(), arguments).await
}

/// Removes the containers and networks of a project that the host no longer has. Never its volumes.
pub async fn down(settings: &Settings, project: &str) -> Result<(), Fault> {
    let child = command(settings, WORK)?.args(["-p", project, "down"]).directory("/");
    finish(child, &format!("{project} cannot be taken down")).await
}

async fn work<'a>(
    settings: &Settings,
    stack: &DesiredStack,
    services: impl Iterator<Item = &'a String>,
    arguments: Vec<OsString>,
) -> Result<(), Fault> {
    let limit = services.map(|service| grace(stack, service)).sum::<Duration>() + WORK;
    let directory = settings.stack_directory(&stack.name);
    let child = command(settings, limit)?.args(arguments).directory(directory);
    finish(child, &format!("compose could not bring up {}", stack.name)).await
}

/// Runs a call that changes something to its end; its last words are the cause when it fails.
async fn finish(child: Child, sentence: &str) -> Result<(), Fault> {
    let failed = || Fault::new(Code::StepFailed, sentence);
    let ended = child.run().await.map_err(|error| failed().caused_by(&error))?;
    match ended.succeeded() {
        true => Ok(()),
        false => Err(ended.last_words(5).into_iter().fold(failed(), Fault::because)),
    }
}

/// How long a service may take to stop.
fn grace(stack: &DesiredStack, service: &str) -> Duration {
    let stated = stack.model.services.get(service).and_then(|service| service.get("stop_grace_period")?.as_str());
    stated.and_then(|text| schedule::parse_duration(text).ok()).unwrap_or(GRACE)
}

fn command(settings: &Settings, limit: Duration) -> Result<Child, Fault> {
    let socket = format!("unix://{}", settings.socket.display());
    Ok(Child::new(find(settings)?, limit)
        .env("DOCKER_HOST", socket)
        // An empty one: no credential helpers, no contexts, no other plugins.
        .env("DOCKER_CONFIG", settings.run.join("docker"))
        // Nothing is fetched that was not signed; and these win over what a stack's own `.env` says.
        .env("COMPOSE_EXPERIMENTAL_GIT_REMOTE", "false")
        .env("COMPOSE_EXPERIMENTAL_OCI_REMOTE", "false")
        .env("COMPOSE_PATH_SEPARATOR", ":")
        .args(["--ansi", "never", "--progress", "plain"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(numbers("2.40.3-3"), Some((2, 40)));
        assert!(numbers("2.9.0") < Some(OLDEST));
        assert_eq!(numbers("dev"), None);
    }

    #[test]
    fn the_warning_about_an_unset_variable_is_understood() {
        let line =
            r#"time="2026" level=warning msg="The \"DB_PASSWORD\" variable is not set. Defaulting to a blank string.""#;
        assert_eq!(unset_variable(line).as_deref(), Some("${DB_PASSWORD}"));
        assert_eq!(unset_variable("something else"), None);
    }
}
