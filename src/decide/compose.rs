//! Reads the model that Compose resolved: what changed, in which order, and what must be added to it.
//!
//! It never interprets a Compose file itself; that is Compose's business (docs/facts.md, C20).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::decide::backup::{self, BackupExtension, DrillExtension, Names};
use crate::decide::images::is_floating;
use crate::decide::{schedule, start_first, taint, yaml};
use crate::model::Model;

/// The file that moorline adds to a stack's directory.
pub const OVERRIDE: &str = "moorline.override.yaml";
/// The label that carries the digest of the content that a service mounts.
pub const CONTENT_LABEL: &str = "moorline.content";
/// `x-moorline.reload` of a service that watches its files itself.
pub const WATCH: &str = "watch";
/// How long a wave may take to become healthy when the stack does not say.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(300);

/// Why the output of Compose cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("compose printed a model that cannot be read")]
pub struct ModelError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Reads what `config` prints. Compose worked in a copy; `places` says which path there is which path of the model.
///
/// In YAML, because the JSON form leaves out `x-moorline` below a service (seen with 2.40.3). It is Compose's own
/// output, in one plain style, and not a file of a user.
pub fn read_model(output: &[u8], places: &[(&Path, &Path)]) -> Result<Model, ModelError> {
    let text = std::str::from_utf8(output).map_err(|error| ModelError(error.into()))?;
    let mut value: Json = yaml::read_output(text).map_err(|flaw| ModelError(flaw.into()))?;
    let places: Vec<_> = places.iter().map(|(from, to)| (from.to_string_lossy(), to.to_string_lossy())).collect();
    as_applied(&mut value, &places);
    let mut model = Model::deserialize(value).map_err(|error| ModelError(error.into()))?;
    model.other.retain(|key, _| key != "name" && !key.starts_with("x-"));
    Ok(model)
}

/// Compose doubles every `$` of its output, so that the output could be an input again.
fn as_applied(value: &mut Json, places: &[(Cow<'_, str>, Cow<'_, str>)]) {
    match value {
        Json::String(text) => {
            let moved = places.iter().find_map(|(from, to)| {
                let rest = text.strip_prefix(&**from)?;
                (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
            });
            if let Some(moved) = moved {
                *text = moved;
            }
            if text.contains("$$") {
                *text = text.replace("$$", "$");
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| as_applied(item, places)),
        Json::Object(fields) => fields.values_mut().for_each(|field| as_applied(field, places)),
        _ => {}
    }
}

/// `x-moorline` at the top of a Compose file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Extension {
    /// How it is deployed.
    pub deploy: DeployExtension,
    /// What is backed up.
    pub backup: BackupExtension,
    /// How a restore is proven.
    pub drill: DrillExtension,
    /// `floating`: tags that move are allowed.
    pub images: Option<Images>,
    /// `files-only`: no secret may stand in an environment.
    pub secrets: Option<SecretsRule>,
}

/// `x-moorline.deploy`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeployExtension {
    /// How long a wave may take to become healthy.
    pub health_timeout: Option<String>,
    /// What happens when it does not.
    pub rollback: Option<Rollback>,
    /// Whether a snapshot must exist before a container with volumes is replaced.
    pub snapshot_before: bool,
}

/// `x-moorline.deploy.rollback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rollback {
    /// Put the last good inputs back.
    Image,
    /// One-way migrations: keep the data, stop and ask.
    ForwardOnly,
}

/// `x-moorline.images`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Images {
    /// Tags that move are allowed.
    Floating,
}

/// `x-moorline.secrets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretsRule {
    /// No secret may stand in an environment.
    FilesOnly,
}

/// `x-moorline` below a service.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceExtension {
    /// A signal instead of a new container when mounted content changed, or `watch` when the service looks itself.
    pub reload: Option<String>,
    /// What comes first when a container is replaced.
    pub strategy: Strategy,
    /// With `start-first`: how long the old container gets to finish what it has begun.
    pub drain: Option<String>,
}

/// `x-moorline.strategy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The old container is stopped, then the new one is started.
    #[default]
    StopFirst,
    /// The new container is started beside the old one, which is stopped once the new one serves.
    StartFirst,
}

impl Extension {
    /// Reads `x-moorline` of a model; `null` is an empty one.
    pub fn read(value: &Json) -> Result<Self, String> {
        if value.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(value).map_err(|error| format!("x-moorline: {error}"))
    }

    /// What of it this version does not carry out.
    pub fn refusal(&self) -> Result<(), String> {
        self.health_timeout().map(|_| ())
    }

    /// How long the gate waits.
    pub fn health_timeout(&self) -> Result<Duration, String> {
        match &self.deploy.health_timeout {
            None => Ok(HEALTH_TIMEOUT),
            Some(text) => {
                schedule::parse_duration(text).map_err(|error| format!("x-moorline.deploy.health_timeout: {error}"))
            }
        }
    }
}

/// The `x-moorline` of one service.
pub fn service_extension(service: &Json) -> Result<ServiceExtension, String> {
    match service.get("x-moorline") {
        None => Ok(ServiceExtension::default()),
        Some(value) => ServiceExtension::deserialize(value).map_err(|error| format!("x-moorline: {error}")),
    }
}

/// Everything in a model that this host does not carry out, one sentence each.
pub fn refusals(model: &Model) -> Vec<String> {
    let mut refused = Vec::new();
    let extension = Extension::read(&model.extension).unwrap_or_else(|mistake| {
        refused.push(mistake);
        Extension::default()
    });
    refused.extend(extension.refusal().err());
    let names = Names {
        services: model.services.keys().map(String::as_str).collect(),
        volumes: model.volumes.keys().map(String::as_str).collect(),
    };
    let flaws = backup::flaws(&extension.backup, &extension.drill, Some(&names));
    refused.extend(flaws.into_iter().map(|flaw| format!("x-moorline.{}: {}", flaw.place, flaw.text)));
    for place in taint::places(&model.extension) {
        refused.push(format!("x-moorline.{place} holds a secret, which may not stand there"));
    }
    for (name, service) in &model.services {
        refused.extend(refused_in_service(name, service, &extension));
        let hindrances = start_first::hindrances(name, &model.services);
        refused.extend(hindrances.iter().map(|found| format!("services.{name}.{found}")));
    }
    for (kind, definitions) in [("networks", &model.networks), ("volumes", &model.volumes), ("secrets", &model.secrets)]
    {
        for (name, definition) in definitions {
            for place in taint::places(definition) {
                refused.push(format!("{kind}.{name}.{place} holds a secret, which may not stand there"));
            }
        }
    }
    for (name, definition) in &model.configs {
        for place in taint::places(definition).iter().filter(|place| *place != "content") {
            refused.push(format!("configs.{name}.{place} holds a secret, which may not stand there"));
        }
    }
    refused
}

fn refused_in_service(name: &str, service: &Json, extension: &Extension) -> Vec<String> {
    let mut refused = Vec::new();
    match service_extension(service) {
        Err(mistake) => refused.push(format!("services.{name}.{mistake}")),
        Ok(ServiceExtension { reload: Some(reload), .. }) if reload != WATCH && !is_signal(&reload) => {
            refused.push(format!("services.{name}.x-moorline.reload: `{reload}` is neither a signal nor `{WATCH}`"));
        }
        Ok(_) => {}
    }
    match service.get("image").and_then(Json::as_str) {
        // The policy has the right word for it.
        None if service.get("provider").is_some() => {}
        None => refused.push(format!("services.{name} has no image; hosts pull, they do not build")),
        Some(image) if is_floating(image) && extension.images != Some(Images::Floating) => refused.push(format!(
            "services.{name}.image: `{}` has no fixed tag; name one, or set `x-moorline.images: floating`",
            taint::readable(image)
        )),
        Some(_) => {}
    }
    for place in taint::places(service) {
        let in_environment = place.starts_with("environment.");
        if !in_environment {
            refused.push(format!("services.{name}.{place} holds a secret, which may not stand there"));
        } else if extension.secrets == Some(SecretsRule::FilesOnly) {
            refused.push(format!("services.{name}.{place} holds a secret; this stack says `secrets: files-only`"));
        }
    }
    refused
}

/// `SIGHUP`, `SIGUSR1` and the like: a name, so that it can be nothing but a signal in an argument.
fn is_signal(text: &str) -> bool {
    text.strip_prefix("SIG").is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    })
}

/// The secrets that a stack puts into the environment of a container, as (service, variable).
pub fn exposed(model: &Model) -> Vec<(String, String)> {
    let in_service = |(name, service): (&String, &Json)| {
        let places = taint::places(service);
        let variables = places.iter().filter_map(|place| place.strip_prefix("environment."));
        variables.map(|variable| (name.clone(), variable.to_owned())).collect::<Vec<_>>()
    };
    model.services.iter().flat_map(in_service).collect()
}

/// The images of a model.
pub fn images(model: &Model) -> BTreeSet<String> {
    model.services.values().filter_map(|service| Some(service.get("image")?.as_str()?.to_owned())).collect()
}

/// How many containers a service should have. Compose leaves `scale: 0` out of nothing: it means none.
pub fn replicas(service: &Json) -> usize {
    let stated = service.get("scale").or_else(|| service.pointer("/deploy/replicas"));
    stated.and_then(Json::as_u64).and_then(|count| usize::try_from(count).ok()).unwrap_or(1)
}

/// Whether a service mounts something of its own at this path.
pub fn mounts_at(service: &Json, place: &str) -> bool {
    let each = |field: &str| service.get(field).and_then(Json::as_array).into_iter().flatten();
    let memory = each("tmpfs").filter_map(|mount| mount.as_str()?.split(':').next());
    let volumes = each("volumes").filter_map(|mount| mount.get("target")?.as_str());
    memory.chain(volumes).any(|target| target.trim_end_matches('/') == place.trim_end_matches('/'))
}

/// Services by what must be handled together with them: dependants with `restart: true`, and those that live in the
/// namespace of another service (docs/facts.md, C16).
pub fn followers(model: &Model) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut followers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, service) in &model.services {
        for leader in leaders(service) {
            followers.entry(leader).or_default().insert(name);
        }
    }
    followers
}

/// The services together with which this one is replaced or restarted.
pub fn leaders(service: &Json) -> Vec<&str> {
    let restarting = service.get("depends_on").and_then(Json::as_object).into_iter().flatten();
    let restarting = restarting
        .filter(|(_, dependency)| dependency.get("restart") == Some(&Json::Bool(true)))
        .map(|(leader, _)| leader.as_str());
    let volumes = service.get("volumes_from").and_then(Json::as_array).into_iter().flatten();
    let volumes = volumes.filter_map(|from| from.as_str()?.split(':').next());
    restarting.chain(namespaces(service)).chain(volumes).collect()
}

/// The services whose namespaces this one uses.
pub fn namespaces(service: &Json) -> impl Iterator<Item = &str> {
    let fields = ["network_mode", "ipc", "pid"];
    fields.into_iter().filter_map(|field| service.get(field)?.as_str()?.strip_prefix("service:"))
}

fn dependencies(service: &Json) -> Vec<&str> {
    let stated = service.get("depends_on").and_then(Json::as_object).into_iter().flatten();
    let stated = stated.map(|(name, _)| name.as_str());
    stated.chain(leaders(service)).collect()
}

/// The chosen services in waves: each after everything that it depends on, followers in the wave of their leader.
pub fn waves(model: &Model, chosen: &BTreeSet<String>) -> Vec<BTreeSet<String>> {
    let mut level: BTreeMap<&str, usize> = model.services.keys().map(|name| (name.as_str(), 0)).collect();
    // Compose refuses cycles, so this settles after at most one round per service; the bound is for a model that
    // did not come from Compose.
    for _ in 0..=model.services.len() {
        let mut moved = false;
        for (name, service) in &model.services {
            let deepest = dependencies(service).iter().filter_map(|on| level.get(on)).max().copied();
            if let Some(needed) = deepest.map(|deepest| deepest + 1)
                && level[name.as_str()] < needed
            {
                level.insert(name, needed);
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let followers = followers(model);
    let mut waves: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for name in chosen {
        // A follower goes with the earliest chosen service that it follows: both in one call.
        let own = level.get(name.as_str()).copied().unwrap_or(0);
        let with = followers.iter().filter(|(leader, who)| chosen.contains(**leader) && who.contains(name.as_str()));
        let wave = with.filter_map(|(leader, _)| level.get(leader)).min().copied().unwrap_or(own);
        waves.entry(wave).or_default().insert(name.clone());
    }
    waves.into_values().collect()
}

/// The chosen services, and whatever must follow them, with the service that each one follows.
pub fn with_followers(model: &Model, chosen: BTreeSet<String>) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let followers = followers(model);
    let mut all = chosen;
    let mut reasons = BTreeMap::new();
    loop {
        let next: Vec<(String, String)> = all
            .iter()
            .flat_map(|leader| followers.get(leader.as_str()).into_iter().flatten().map(move |who| (who, leader)))
            .filter(|(who, _)| !all.contains(**who))
            .map(|(who, leader)| ((*who).to_owned(), leader.clone()))
            .collect();
        if next.is_empty() {
            return (all, reasons);
        }
        for (who, leader) in next {
            all.insert(who.clone());
            reasons.entry(who).or_insert(leader);
        }
    }
}

/// The override file: digest labels, and secrets and configs that become files in memory.
pub fn override_file(
    labels: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, String>,
    configs: &BTreeMap<String, String>,
) -> String {
    let mut text = String::from("# Written by moorline; changes are undone. See `moorline plan`.\n");
    let quoted = |value: &str| Json::String(value.to_owned()).to_string();
    if !labels.is_empty() {
        text.push_str("services:\n");
        for (service, digest) in labels {
            text.push_str(&format!("  {}:\n    labels:\n      {CONTENT_LABEL}: {}\n", quoted(service), quoted(digest)));
        }
    }
    for (kind, files) in [("secrets", secrets), ("configs", configs)] {
        if !files.is_empty() {
            text.push_str(&format!("{kind}:\n"));
            for (name, path) in files {
                text.push_str(&format!("  {}: !override\n    file: {}\n", quoted(name), quoted(path)));
            }
        }
    }
    if labels.is_empty() && secrets.is_empty() && configs.is_empty() {
        text.push_str("{}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model(services: Json) -> Model {
        Model { services: serde_json::from_value(services).unwrap(), ..Model::default() }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn paths_move_from_the_staging_directory_to_the_stack_directory_and_nothing_else_does() {
        let yaml =
            b"services:\n  a:\n    command: [echo, $$HOME]\n    volumes: [{source: /s/x/conf}, {source: /s/xy}]\n";
        let model = read_model(yaml, &[(Path::new("/s/x"), Path::new("/var/x"))]).unwrap();
        let volumes = json!([{"source": "/var/x/conf"}, {"source": "/s/xy"}]);
        assert_eq!(model.services["a"], json!({"command": ["echo", "$HOME"], "volumes": volumes}));
    }

    #[test]
    fn waves_follow_dependencies_and_keep_followers_with_their_leader() {
        let model = model(json!({
            "db": {}, "app": {"depends_on": {"db": {"condition": "service_healthy"}}},
            "vpn": {}, "inside": {"network_mode": "service:vpn"},
            "proxy": {"depends_on": {"app": {"restart": true}}},
        }));
        let all = set(&["app", "db", "inside", "proxy", "vpn"]);
        assert_eq!(waves(&model, &all), [set(&["db", "inside", "vpn"]), set(&["app", "proxy"])]);
        assert_eq!(waves(&model, &set(&["proxy"])), [set(&["proxy"])]);
    }

    #[test]
    fn followers_join_with_the_reason() {
        let model = model(json!({"vpn": {}, "a": {"network_mode": "service:vpn"}, "b": {"pid": "service:a"}}));
        let (all, reasons) = with_followers(&model, set(&["vpn"]));
        assert_eq!(all, set(&["a", "b", "vpn"]));
        assert_eq!(reasons["b"], "a");
    }

    #[test]
    fn secrets_are_refused_where_they_would_be_seen() {
        let mark = "__moorline_secret_A_0123456789ab__";
        let mut model = model(json!({
            "a": {"image": "a:1", "command": [mark], "environment": {"OK": mark}, "labels": {"x": mark}},
        }));
        assert_eq!(refusals(&model).len(), 2);
        model.extension = json!({"secrets": "files-only"});
        assert_eq!(refusals(&model).len(), 3);
        assert_eq!(exposed(&model), [("a".to_owned(), "OK".to_owned())]);
    }

    #[test]
    fn an_unknown_key_of_x_moorline_is_a_mistake() {
        let mut model = model(json!({"a": {"image": "a:1"}}));
        model.extension = json!({"deplyo": {}});
        assert!(refusals(&model)[0].contains("deplyo"));
    }

    #[test]
    fn the_override_file_quotes_what_it_is_given() {
        let labels = [("web".to_owned(), "abc".to_owned())].into();
        let secrets = [("db_password".to_owned(), "/run/x".to_owned())].into();
        let text = override_file(&labels, &secrets, &BTreeMap::new());
        assert!(text.contains("  \"web\":\n    labels:\n      moorline.content: \"abc\"\n"), "{text}");
        assert!(text.contains("  \"db_password\": !override\n    file: \"/run/x\"\n"), "{text}");
    }
}
