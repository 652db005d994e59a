//! As much of Compose as the scenarios use: loads a project from files, and gives the model that `config` would print.
//!
//! Only tests may read Compose files this way; moorline itself leaves that to Compose.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use moorline::model::tree::File;
use serde_json::{Map, Value as Json, json};
use serde_yaml::Value as Yaml;

/// The files of a project's directory, by path.
pub type Files = BTreeMap<String, File>;

/// A project as Compose resolves it.
#[derive(Debug, Clone)]
pub struct Project {
    /// The model, in the form of `config --format json`.
    pub model: Rc<Json>,
}

impl Project {
    /// Loads the project from its files, of which `env` is `.env`. `directory` is what relative paths are below.
    pub fn load(files: &Files, env: &str, directory: &str) -> Result<Self, String> {
        // The same few projects are loaded again and again.
        thread_local!(static LOADED: RefCell<HashMap<Vec<u8>, Result<Project, String>>> = RefCell::default());
        let texts = files.iter().flat_map(|(path, file)| [path.as_bytes(), &file.bytes]);
        let key = [env.as_bytes(), directory.as_bytes()].into_iter().chain(texts).collect::<Vec<_>>().join(&0);
        if let Some(known) = LOADED.with_borrow(|loaded| loaded.get(&key).cloned()) {
            return known;
        }
        let project = Self::load_anew(files, env, directory);
        LOADED.with_borrow_mut(|loaded| _ = loaded.insert(key, project.clone()));
        project
    }

    fn load_anew(files: &Files, env: &str, directory: &str) -> Result<Self, String> {
        let environment = parse_env(env);
        let name = environment.get("COMPOSE_PROJECT_NAME").ok_or("no project name")?;
        let list = environment.get("COMPOSE_FILE").ok_or("no compose file")?;
        let mut merged = Yaml::Mapping(serde_yaml::Mapping::new());
        for path in list.split(':') {
            let file = files.get(path).ok_or_else(|| format!("open {path}: no such file or directory"))?;
            let text = file.text().map_err(|error| error.to_string())?;
            let mut value: Yaml = serde_yaml::from_str(text).map_err(|error| format!("{path}: {error}"))?;
            let mut unset = Vec::new();
            interpolate(&mut value, &environment, &mut unset);
            if !unset.is_empty() {
                return Err(format!("not set: {}", unset.join(", ")));
            }
            merge(&mut merged, value);
        }
        let raw = serde_json::to_value(&merged).map_err(|error| error.to_string())?;
        Ok(Self { model: normalize(&raw, name, directory, &environment)?.into() })
    }

    /// The services by name.
    pub fn services(&self) -> &Map<String, Json> {
        self.model["services"].as_object().expect("`normalize` made it")
    }

    /// What a service has below a key of the project, such as the secrets that it mounts.
    pub fn mounted(&self, service: &Json, kind: &str) -> Vec<Json> {
        let used = service.get(kind).and_then(Json::as_array).into_iter().flatten();
        used.filter_map(|used| Some(self.model[kind].get(used["source"].as_str()?)?.clone())).collect()
    }
}

/// Reads `.env` as Compose does, as far as `decide::dotenv::line` writes it: bare, single and double quotes.
fn parse_env(text: &str) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let value;
        (value, rest) = if let Some(quoted) = after.strip_prefix('\'') {
            let (value, after) = quoted.split_once('\'').expect("a closing quote");
            (value.to_owned(), after.strip_prefix('\n').unwrap_or(after))
        } else if let Some(quoted) = after.strip_prefix('"') {
            double_quoted(quoted)
        } else {
            let (value, after) = after.split_once('\n').unwrap_or((after, ""));
            (value.to_owned(), after)
        };
        let name = name.trim();
        if !name.starts_with('#') {
            environment.insert(name.to_owned(), value);
        }
    }
    environment
}

fn double_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (escaped, character) {
            (false, '\\') => escaped = true,
            (false, '"') => return (value, text[at + 1..].trim_start_matches('\n')),
            (false, other) => value.push(other),
            (true, other) => {
                value.push(match other {
                    'n' => '\n',
                    'r' => '\r',
                    other => other,
                });
                escaped = false;
            }
        }
    }
    panic!("a closing quote is missing")
}

fn interpolate(value: &mut Yaml, environment: &BTreeMap<String, String>, unset: &mut Vec<String>) {
    match value {
        Yaml::String(text) => *text = interpolated(text, environment, unset),
        Yaml::Sequence(items) => items.iter_mut().for_each(|item| interpolate(item, environment, unset)),
        Yaml::Mapping(entries) => entries.values_mut().for_each(|value| interpolate(value, environment, unset)),
        Yaml::Tagged(tagged) => interpolate(&mut tagged.value, environment, unset),
        _ => {}
    }
}

fn interpolated(text: &str, environment: &BTreeMap<String, String>, unset: &mut Vec<String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            result.push('$');
            rest = escaped;
            continue;
        }
        let (expression, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').expect("a closing brace"),
            None => {
                after.split_at(after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count())
            }
        };
        let (name, default) = match expression.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (expression, None),
        };
        match environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty() || default.is_none())
            .or(default)
        {
            Some(value) => result.push_str(value),
            None => unset.push(format!("${{{name}}}")),
        }
        rest = after;
    }
    result + rest
}

/// Puts a later file over an earlier one: mappings are joined, `!override` and everything else replace.
fn merge(under: &mut Yaml, over: Yaml) {
    match (under, over) {
        (under, Yaml::Tagged(tagged)) => *under = tagged.value,
        (Yaml::Mapping(under), Yaml::Mapping(over)) => {
            for (name, value) in over {
                match under.get_mut(&name) {
                    Some(there) => merge(there, value),
                    None => {
                        let value = if let Yaml::Tagged(tagged) = value { tagged.value } else { value };
                        under.insert(name, value);
                    }
                }
            }
        }
        // Labels and environments may be lists in one file and mappings in the other.
        (Yaml::Sequence(under), Yaml::Mapping(over)) => {
            under.extend(over.into_iter().map(|(name, value)| {
                let text = |value: &Yaml| value.as_str().unwrap_or_default().to_owned();
                Yaml::String(format!("{}={}", text(&name), text(&value)))
            }));
        }
        (under, over) => *under = over,
    }
}

fn normalize(
    raw: &Json,
    project: &str,
    directory: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Json, String> {
    let profiles: Vec<&str> =
        environment.get("COMPOSE_PROFILES").map(|list| list.split(',').collect()).unwrap_or_default();
    let mut services = Map::new();
    for (name, service) in entries(&raw["services"]) {
        let wanted = service["profiles"].as_array();
        if wanted
            .is_some_and(|wanted| !wanted.iter().any(|one| one.as_str().is_some_and(|one| profiles.contains(&one))))
        {
            continue;
        }
        services.insert(name.clone(), normalize_service(service, directory));
    }
    for (name, service) in &services {
        for (on, _) in entries(&service["depends_on"]) {
            if !services.contains_key(on) {
                return Err(format!("service \"{name}\" depends on undefined service \"{on}\""));
            }
        }
    }
    let named = |kind: &str| -> Map<String, Json> {
        let definition = |(name, definition): (&String, &Json)| {
            let mut fields = definition.as_object().cloned().unwrap_or_default();
            fields.entry("name").or_insert_with(|| json!(format!("{project}_{name}")));
            if let Some(file) = fields.get("file").and_then(Json::as_str) {
                fields.insert("file".into(), json!(absolute(file, directory)));
            }
            (name.clone(), Json::Object(fields))
        };
        entries(&raw[kind]).map(definition).collect()
    };
    let mut networks = named("networks");
    networks.entry("default").or_insert_with(|| json!({ "name": format!("{project}_default") }));
    let mut model = json!({
        "name": project, "services": services, "networks": networks, "volumes": named("volumes"),
        "secrets": named("secrets"), "configs": named("configs"),
    });
    if let Some(extension) = raw.get("x-moorline") {
        model["x-moorline"] = extension.clone();
    }
    Ok(model)
}

fn normalize_service(service: &Json, directory: &str) -> Json {
    let mut fields = service.as_object().cloned().unwrap_or_default();
    let each = |fields: &mut Map<String, Json>, name: &str, change: &dyn Fn(&Json) -> Json| {
        if let Some(value) = fields.get(name) {
            let changed = change(value);
            fields.insert(name.to_owned(), changed);
        }
    };
    each(&mut fields, "depends_on", &|value| {
        let plain = json!({ "condition": "service_started", "required": true });
        match value {
            Json::Array(names) => names.iter().filter_map(Json::as_str).map(|name| (name, plain.clone())).collect(),
            other => other.clone(),
        }
    });
    for name in ["environment", "labels"] {
        each(&mut fields, name, &|value| match value {
            Json::Array(lines) => {
                let pair = |line: &Json| {
                    let (name, value) = line.as_str()?.split_once('=')?;
                    Some((name.to_owned(), json!(value)))
                };
                lines.iter().filter_map(pair).collect()
            }
            other => other.clone(),
        });
    }
    for name in ["secrets", "configs"] {
        each(&mut fields, name, &|value| {
            let long = |item: &Json| match item {
                Json::String(source) => json!({ "source": source }),
                other => other.clone(),
            };
            value.as_array().into_iter().flatten().map(long).collect()
        });
    }
    each(&mut fields, "volumes", &|value| {
        let long = |item: &Json| match item.as_str().and_then(|item| item.split_once(':')) {
            Some((source, target)) if source.starts_with(['.', '/']) => {
                json!({ "type": "bind", "source": absolute(source, directory), "target": target })
            }
            Some((source, target)) => json!({ "type": "volume", "source": source, "target": target }),
            None => item.clone(),
        };
        value.as_array().into_iter().flatten().map(long).collect()
    });
    match fields.get("networks") {
        Some(Json::Array(names)) => {
            let names: Map<String, Json> =
                names.iter().filter_map(Json::as_str).map(|name| (name.to_owned(), Json::Null)).collect();
            fields.insert("networks".into(), Json::Object(names));
        }
        None if !fields.contains_key("network_mode") => {
            _ = fields.insert("networks".into(), json!({ "default": null }));
        }
        _ => {}
    }
    Json::Object(fields)
}

fn absolute(path: &str, directory: &str) -> String {
    match path.strip_prefix("./") {
        Some(relative) => format!("{directory}/{relative}"),
        None if path.starts_with('/') => path.to_owned(),
        None => format!("{directory}/{path}"),
    }
}

fn entries(value: &Json) -> impl Iterator<Item = (&String, &Json)> {
    value.as_object().into_iter().flatten()
}
