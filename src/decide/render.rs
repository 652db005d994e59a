//! Turns the repository's words and the opened secrets into what should be: first inputs, then, with the model that
//! Compose made of them, the desired stack.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;

use crate::decide::compose::{self, Extension};
use crate::decide::delivery::{Delivery, in_clear};
use crate::decide::digest::DigestKey;
use crate::decide::sops::{Document, Format, Node, SopsError};
use crate::decide::traefik::host::STACK;
use crate::decide::traefik::publish::DIRECTORY;
use crate::decide::{dotenv, fleet, taint};
use crate::model::host::{HostSpec, Login, Logins, StackSource};
use crate::model::tree::File;
use crate::model::{DesiredStack, Inputs, Model, Secret, Settings, Value};

/// Changes when the files that moorline itself adds change, so that an upgrade that matters is seen, and only then.
const FORM: &[u8] = b"moorline inputs 3";

/// The opened secrets of a host, by section and name.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    sections: BTreeMap<String, BTreeMap<String, Secret<String>>>,
    logins: Logins,
}

impl Secrets {
    /// Reads the decrypted shape: `all: {NAME: value}`, `<stack>: {NAME: value}`,
    /// `registries: {HOST: {username: ..., password: ...}}`. Values are literal, but for those of dotenv: it has no
    /// sections, and its values are what Compose would read.
    pub fn read(document: &Document) -> Result<Self, String> {
        let mut secrets = Self::default();
        if document.format() == Format::Dotenv {
            let text = document.emit().map_err(|error| error.to_string())?;
            let text = std::str::from_utf8(text.expose()).map_err(|_| "it is not text".to_owned())?;
            secrets.sections.insert(fleet::SHARED_SECTION.to_owned(), dotenv::values(text)?);
            return Ok(secrets);
        }
        for (section, node) in document.root().entries() {
            if section == fleet::REGISTRIES_SECTION {
                secrets.logins = read_logins(node)?;
                continue;
            }
            if !matches!(node, Node::Map(_)) {
                return Err(format!("section `{section}` is not a mapping"));
            }
            let mut values = BTreeMap::new();
            for (name, value) in node.entries() {
                let text = text(value).ok_or_else(|| format!("`{section}.{name}` is not a single value"))?;
                values.insert(name.to_owned(), text);
            }
            secrets.sections.insert(section.to_owned(), values);
        }
        Ok(secrets)
    }

    /// The secrets of a host that nobody here can open: every name is known, no value is.
    pub fn sealed(spec: &HostSpec) -> Result<Self, SopsError> {
        let mut secrets = Self::default();
        for (section, names) in fleet::names_in(spec.sealed.as_ref())? {
            let unknown = |name: String| (name, Secret::new("sealed".to_owned()));
            if section != fleet::REGISTRIES_SECTION {
                secrets.sections.insert(section, names.into_iter().map(unknown).collect());
            }
        }
        Ok(secrets)
    }

    /// A secret that is shared by all stacks, such as a push URL.
    pub fn shared(&self, name: &str) -> Option<&Secret<String>> {
        self.sections.get(fleet::SHARED_SECTION)?.get(name)
    }

    /// A secret that a stack has: one of its own, or one of all stacks.
    pub fn of_stack(&self, stack: &str, name: &str) -> Option<&Secret<String>> {
        self.sections.get(stack).and_then(|section| section.get(name)).or_else(|| self.shared(name))
    }

    /// Every value that may stand nowhere but in memory: secrets of all stacks, and passwords of registries.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        let sections = self.sections.values().flat_map(BTreeMap::values).map(|secret| secret.expose().as_str());
        sections.chain(self.logins.values().map(|login| login.password.expose().as_str()))
    }

    /// Logins of registries.
    pub fn logins(&self) -> &Logins {
        &self.logins
    }

    fn of(&self, section: &str) -> impl Iterator<Item = (&String, &Secret<String>)> {
        self.sections.get(section).into_iter().flatten()
    }
}

/// A single value as text. Numbers keep the text that they have in the file.
fn text(node: &Node) -> Option<Secret<String>> {
    match node {
        Node::Str(text) | Node::Int(text) | Node::Float(text) | Node::Time(text) => Some(text.clone()),
        Node::Bool(value) => Some(Secret::new(value.to_string())),
        Node::Map(_) | Node::List(_) | Node::Bytes(_) | Node::Null | Node::Comment(_) => None,
    }
}

fn read_logins(node: &Node) -> Result<Logins, String> {
    let mut logins = Logins::new();
    for (registry, login) in node.entries() {
        let of = |wanted: &str| {
            login.get(wanted).and_then(text).ok_or_else(|| format!("`registries.{registry}` needs `{wanted}`"))
        };
        let login = Login { username: of("username")?.expose().clone(), password: of("password")? };
        logins.insert(registry.to_owned(), login);
    }
    Ok(logins)
}

/// The inputs of every stack of a host.
pub fn inputs(spec: &HostSpec, secrets: &Secrets, key: &DigestKey) -> Vec<Inputs> {
    spec.stacks.iter().map(|stack| stack_inputs(stack, spec, secrets, key)).collect()
}

fn stack_inputs(stack: &StackSource, spec: &HostSpec, secrets: &Secrets, key: &DigestKey) -> Inputs {
    let mut environment: BTreeMap<String, Value> =
        spec.vars.iter().map(|(name, value)| (name.clone(), Value::Plain(value.clone()))).collect();
    for section in [fleet::SHARED_SECTION, &stack.name] {
        for (name, secret) in secrets.of(section) {
            environment.insert(name.clone(), Value::Tainted(secret.clone()));
        }
    }
    // Push URLs are for moorline, not for containers: a new URL must not touch a stack.
    for name in [&spec.monitors.reconcile, &spec.monitors.backup, &spec.monitors.check, &spec.monitors.drill] {
        name.as_ref().and_then(|name| environment.remove(name));
    }
    environment.retain(|name, _| !spec.withheld.contains(name));
    let mut parts: Vec<&[u8]> = vec![FORM, stack.name.as_bytes()];
    for (path, file) in &stack.files {
        parts.extend([path.as_bytes(), if file.executable { b"x" } else { b"-" }, &file.bytes]);
    }
    for (name, value) in &environment {
        let (kind, text) = match value {
            Value::Plain(text) => (&b"plain"[..], text),
            Value::Tainted(secret) => (&b"secret"[..], secret.expose()),
        };
        parts.extend([name.as_bytes(), kind, text.as_bytes()]);
    }
    let digest = key.of(parts);
    Inputs { stack: stack.name.clone(), files: stack.files.clone(), environment, digest }
}

/// The text of `.env`: the stack's own, then what Compose must know, then the environment. The last one wins.
pub fn env_text(inputs: &Inputs, files: &[&str], environment: &BTreeMap<String, String>) -> String {
    let own = inputs.files.get(".env").map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
    let mut text = own.unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&dotenv::line("COMPOSE_FILE", &files.join(":")));
    text.push_str(&dotenv::line("COMPOSE_PROJECT_NAME", &inputs.stack));
    for (name, value) in environment {
        text.push_str(&dotenv::line(name, value));
    }
    text
}

/// The files that Compose is given to make a model, by path below a staging directory in memory.
pub fn staging(inputs: &Inputs, key: &DigestKey) -> BTreeMap<String, File> {
    let mut files = inputs.files.clone();
    let env = env_text(inputs, &["compose.yaml"], &taint::marked(inputs, key));
    files.insert(".env".into(), File::plain(env.into_bytes()));
    files
}

/// The desired stack, from its inputs and the model that Compose made of them; or every reason why it is refused.
pub fn stack(
    inputs: &Inputs,
    model: &Model,
    settings: &Settings,
    key: &DigestKey,
) -> Result<DesiredStack, Vec<String>> {
    let mut refused = compose::refusals(model);
    let directory = settings.stack_directory(&inputs.stack);
    let secrets_directory = settings.run.join("secrets");
    let delivery = Delivery::choose(inputs, model, key, &secrets_directory, &mut refused);
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut content = BTreeMap::new();
    let mut reloads = BTreeMap::new();
    let digest = |parts: &[Vec<u8>]| key.of(parts.iter().map(Vec::as_slice));
    for (name, service) in &model.services {
        let mut parts = defined_content(service, inputs, model, &delivery, &directory);
        let files = mounted_files(service, inputs, &directory);
        let rule = compose::service_extension(service).unwrap_or_default();
        // Mounted files can be read anew; secrets and configs are other files after a change, and only a new container
        // mounts those.
        match rule.reload {
            Some(_) if !files.is_empty() => _ = reloads.insert(name.clone(), digest(&files)),
            _ => parts.extend(files),
        }
        if mounts_published(service, inputs, &directory) {
            // Whoever mounted the directory before it was a link into memory needs a new container.
            parts.push(b"published".to_vec());
        }
        if !parts.is_empty() {
            content.insert(name.clone(), digest(&parts));
        }
    }
    let mut files = inputs.files.clone();
    files.remove(".env");
    // Traefik is told by way of memory what stands there.
    files.retain(|path, _| !is_published(&inputs.stack, path));
    let added = compose::override_file(&content, &delivery.secrets, &delivery.configs);
    files.insert(compose::OVERRIDE.into(), File::plain(added.into_bytes()));
    let clear: BTreeMap<String, String> =
        inputs.environment.iter().map(|(name, value)| (name.clone(), in_clear(value))).collect();
    let environment = Secret::new(env_text(inputs, &["compose.yaml", compose::OVERRIDE], &clear));
    let extension = Extension::read(&model.extension).unwrap_or_default();
    Ok(DesiredStack {
        name: inputs.stack.clone(),
        digest: inputs.digest.clone(),
        files,
        environment,
        secrets: delivery.files,
        model: model.clone(),
        content,
        reloads,
        health_timeout: extension.health_timeout().map_err(|mistake| vec![mistake])?,
        exposed: compose::exposed(model),
    })
}

/// The configs and secrets of a service, which Compose's own hash does not cover.
fn defined_content(
    service: &Json,
    inputs: &Inputs,
    model: &Model,
    delivery: &Delivery,
    directory: &Path,
) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (kind, definitions) in [("secrets", &model.secrets), ("configs", &model.configs)] {
        let used = service.get(kind).and_then(Json::as_array).into_iter().flatten();
        let names: BTreeSet<&str> = used.filter_map(|used| used.get("source")?.as_str()).collect();
        for name in names {
            parts.push(format!("{kind} {name}").into_bytes());
            let definition = definitions.get(name).unwrap_or(&Json::Null);
            parts.push(definition_content(definition, inputs, directory));
            parts.extend(delivery.mark(kind, name));
        }
    }
    parts
}

/// Whether a file of a stack is for Traefik's eyes: it is published, and not written into the stack's directory.
fn is_published(stack: &str, path: &str) -> bool {
    stack == STACK && path.strip_prefix(DIRECTORY).is_some_and(|rest| rest.starts_with('/'))
}

fn mounts_published(service: &Json, inputs: &Inputs, directory: &Path) -> bool {
    let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
    let mut sources = volumes.filter_map(|volume| volume.get("source")?.as_str());
    inputs.stack == STACK && sources.any(|source| Path::new(source) == directory.join(DIRECTORY))
}

/// The stack's own files that a service mounts.
fn mounted_files(service: &Json, inputs: &Inputs, directory: &Path) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
    for source in volumes.filter_map(|volume| volume.get("source")?.as_str()) {
        let files = files_at(source, inputs, directory).into_iter();
        for (path, file) in files.filter(|(path, _)| !is_published(&inputs.stack, path)) {
            parts.push(format!("bind {path} {}", file.executable).into_bytes());
            parts.push(file.bytes.clone());
        }
    }
    parts
}

fn definition_content(definition: &Json, inputs: &Inputs, directory: &Path) -> Vec<u8> {
    if let Some(Json::String(variable)) = definition.get("environment") {
        return inputs.environment.get(variable).map(in_clear).unwrap_or_default().into_bytes();
    }
    if let Some(Json::String(content)) = definition.get("content") {
        // Marks change with the secret, so the marked text will do.
        return content.clone().into_bytes();
    }
    let source = definition.get("file").and_then(Json::as_str).unwrap_or_default();
    let mut bytes = source.as_bytes().to_vec();
    for (path, file) in files_at(source, inputs, directory) {
        bytes.extend_from_slice(path.as_bytes());
        bytes.extend_from_slice(&file.bytes);
    }
    bytes
}

/// The repository's files at or below an absolute path of the model.
fn files_at<'a>(source: &str, inputs: &'a Inputs, directory: &Path) -> Vec<(&'a str, &'a File)> {
    let Ok(relative) = Path::new(source).strip_prefix(directory) else {
        return Vec::new();
    };
    let found = inputs.files.iter().filter(|(path, _)| Path::new(path).starts_with(relative));
    found.map(|(path, file)| (path.as_str(), file)).collect()
}
