//! Reads Traefik's static configuration as far as routes depend on it: entry points, certificate resolvers, the API.
//!
//! It stands in a mounted file, in flags or in the environment, and Traefik reads exactly one of them, in this order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::yaml::{self, Node, Value};
use crate::model::{Inputs, Model};

/// Where Traefik looks for a file by itself, without the ending.
const SEARCHED: [&str; 1] = ["/etc/traefik/traefik"];
/// The endings, in Traefik's order.
const ENDINGS: [&str; 3] = ["toml", "yaml", "yml"];
/// The entry point of the API when `api.insecure` is set.
pub const API_ENTRY_POINT: &str = "traefik";

/// An entry point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryPoint {
    /// The port that it listens on.
    pub port: Option<u16>,
    /// Whether routers that name none are on it, while others are not.
    pub is_default: bool,
    /// The certificate resolver of its routers that name none.
    pub resolver: Option<String>,
    /// Middlewares that its routers get besides their own.
    pub middlewares: Vec<String>,
    /// Whether it is for UDP.
    pub is_udp: bool,
}

/// The static configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Static {
    /// The file in the repository that says it.
    pub path: String,
    /// Its text, to find lines in.
    pub text: String,
    /// Entry points by name.
    pub entry_points: BTreeMap<String, EntryPoint>,
    /// Certificate resolvers.
    pub resolvers: BTreeSet<String>,
    /// Whether the API is on the entry point `traefik` without a router.
    pub api_is_insecure: bool,
    /// Directories and files of the file provider, as Traefik sees them.
    pub watched: BTreeSet<String>,
    /// Whether it looks at them once and never again.
    pub never_looks_again: bool,
    /// Whether rules are in the words of Traefik 2 unless they say otherwise.
    pub rules_are_old: bool,
    /// Other providers, whose names are not ours to check.
    pub providers: BTreeSet<String>,
}

impl Static {
    /// The entry points of a router that names none.
    pub fn default_entry_points(&self, is_udp: bool) -> Vec<&str> {
        let fitting = self.entry_points.iter().filter(|(_, entry_point)| entry_point.is_udp == is_udp);
        let chosen: Vec<&str> =
            fitting.clone().filter(|(_, entry_point)| entry_point.is_default).map(|(name, _)| name.as_str()).collect();
        if !chosen.is_empty() {
            return chosen;
        }
        fitting.map(|(name, _)| name.as_str()).filter(|name| *name != API_ENTRY_POINT).collect()
    }
}

/// Settings as paths: the names as compared, the names as written, the value.
type Settings = Vec<(Vec<String>, String)>;

/// Reads the static configuration of a service of a stack. `directory` is the stack's, as paths of the model have it.
pub fn read(service: &str, inputs: &Inputs, model: &Model, directory: &str) -> Result<Static, String> {
    let definition = model.services.get(service).unwrap_or(&Json::Null);
    let flags = flags(&words(definition.get("command")));
    let compose = format!("stacks/{}/compose.yaml", inputs.stack);
    let compose_text = || {
        let text = inputs.files.get("compose.yaml").and_then(|file| file.text().ok());
        text.unwrap_or_default().to_owned()
    };
    if let Some((path, target, text)) = mounted(definition, model, inputs, directory, &flags) {
        let settings = if target.ends_with(".toml") { toml_settings(&text) } else { yaml_settings(&text) };
        return Ok(from(&settings.map_err(|text| format!("{path}: {text}"))?, &path, text));
    }
    if !flags.is_empty() {
        return Ok(from(&flags, &compose, compose_text()));
    }
    Ok(from(&environment(definition), &compose, compose_text()))
}

/// `command` as the model has it: a list.
fn words(command: Option<&Json>) -> Vec<String> {
    match command {
        Some(Json::Array(words)) => words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect(),
        Some(Json::String(line)) => line.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// `--a.b=c`, `--a.b c`, `--a.b`.
fn flags(words: &[String]) -> Settings {
    let mut settings = Settings::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match words.next_if(|next| !next.starts_with('-')) {
                Some(value) => (flag, value.clone()),
                None => (flag, "true".to_owned()),
            },
        };
        settings.push((name.split('.').map(str::to_owned).collect(), value));
    }
    settings
}

/// `TRAEFIK_A_B=c`. Names lose their capitals.
fn environment(service: &Json) -> Settings {
    let variables = service.get("environment").and_then(Json::as_object).into_iter().flatten();
    let setting = |(name, value): (&String, &Json)| {
        let path = name.strip_prefix("TRAEFIK_")?.split('_').map(str::to_lowercase).collect();
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((path, value))
    };
    variables.filter_map(setting).collect()
}

/// The file that is mounted where Traefik reads its configuration: its path in the
/// repository, its path in the container, its text.
fn mounted(
    service: &Json,
    model: &Model,
    inputs: &Inputs,
    directory: &str,
    flags: &Settings,
) -> Option<(String, String, String)> {
    let named = flags.iter().find(|(path, _)| path.len() == 1 && path[0].eq_ignore_ascii_case("configfile"));
    let wanted: Vec<String> = match named {
        Some((_, path)) => vec![path.clone()],
        None => SEARCHED.iter().flat_map(|path| ENDINGS.map(|ending| format!("{path}.{ending}"))).collect(),
    };
    wanted.iter().find_map(|target| {
        let volumes = service.get("volumes").and_then(Json::as_array).into_iter().flatten();
        let from_volume = volumes.filter_map(|volume| {
            let below = target.strip_prefix(volume.get("target")?.as_str()?)?;
            let source = volume.get("source")?.as_str()?.strip_prefix(directory)?;
            let path = format!("{source}{below}");
            let path = path.trim_start_matches('/');
            let text = inputs.files.get(path)?.text().ok()?;
            Some((format!("stacks/{}/{path}", inputs.stack), target.clone(), text.to_owned()))
        });
        let configs = service.get("configs").and_then(Json::as_array).into_iter().flatten();
        let from_config = configs.filter(|config| config.get("target").and_then(Json::as_str) == Some(target.as_str()));
        let from_config = from_config.filter_map(|config| {
            let definition = model.configs.get(config.get("source")?.as_str()?)?;
            if let Some(content) = definition.get("content").and_then(Json::as_str) {
                let place = format!("stacks/{}/compose.yaml", inputs.stack);
                return Some((place, target.clone(), content.to_owned()));
            }
            let path = definition.get("file")?.as_str()?.strip_prefix(directory)?.trim_start_matches('/').to_owned();
            let text = inputs.files.get(&path)?.text().ok()?;
            Some((format!("stacks/{}/{path}", inputs.stack), target.clone(), text.to_owned()))
        });
        from_volume.chain(from_config).next()
    })
}

fn yaml_settings(text: &str) -> Result<Settings, String> {
    let node = yaml::parse(text).map_err(|broken| format!("line {}: {}", broken.line, broken.text))?;
    let mut settings = Settings::new();
    flatten(&node, &mut Vec::new(), &mut settings);
    Ok(settings)
}

fn flatten(node: &Node, path: &mut Vec<String>, settings: &mut Settings) {
    match &node.value {
        Value::Scalar(text, _) => settings.push((path.clone(), text.clone())),
        Value::List(items) => {
            let words: Vec<&str> = items.iter().filter_map(Node::text).collect();
            settings.push((path.clone(), words.join(",")));
        }
        Value::Map(entries) => {
            settings.push((path.clone(), String::new()));
            for (key, _, below) in entries {
                path.push(key.clone());
                flatten(below, path, settings);
                path.pop();
            }
        }
    }
}

fn toml_settings(text: &str) -> Result<Settings, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    // The same shape, so that there is one way to read it.
    let json = serde_json::to_string(&table).map_err(|error| error.to_string())?;
    yaml_settings(&json)
}

fn from(settings: &Settings, path: &str, text: String) -> Static {
    let mut read = Static { path: path.to_owned(), text, ..Static::default() };
    for (path, value) in settings {
        let lower: Vec<String> = path.iter().map(|name| name.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        let list = || value.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty());
        match lower.as_slice() {
            ["entrypoints", _, rest @ ..] => {
                let entry_point = read.entry_points.entry(path[1].clone()).or_default();
                match rest {
                    ["address"] => {
                        let (address, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
                        entry_point.port = address.rsplit(':').next().and_then(|port| port.parse().ok());
                        entry_point.is_udp = protocol == "udp";
                    }
                    ["asdefault"] => entry_point.is_default = value == "true",
                    ["http", "tls", "certresolver"] => entry_point.resolver = Some(value.clone()),
                    ["http", "middlewares"] => entry_point.middlewares = list().collect(),
                    _ => {}
                }
            }
            ["certificatesresolvers", _, ..] => _ = read.resolvers.insert(path[1].clone()),
            ["api", "insecure"] => read.api_is_insecure = value == "true",
            ["core", "defaultrulesyntax"] => read.rules_are_old = value.eq_ignore_ascii_case("v2"),
            ["providers", "file", "directory" | "filename"] => _ = read.watched.insert(value.clone()),
            ["providers", "file", "watch"] => read.never_looks_again = value.eq_ignore_ascii_case("false"),
            ["providers", "plugin", name, ..] => _ = read.providers.insert(format!("plugin-{name}")),
            ["providers", name, ..] if !["file", "providersthrottleduration", "precedence"].contains(name) => {
                read.providers.insert((*name).to_owned());
            }
            _ => {}
        }
    }
    if read.entry_points.is_empty() {
        read.entry_points.insert("http".into(), EntryPoint { port: Some(80), ..EntryPoint::default() });
    }
    if read.api_is_insecure {
        let api = EntryPoint { port: Some(8080), ..EntryPoint::default() };
        read.entry_points.entry(API_ENTRY_POINT.into()).or_insert(api);
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::File;
    use serde_json::json;

    fn read_service(service: Json, files: &[(&str, &str)]) -> Static {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), File::plain(*text))).collect();
        let inputs = Inputs { stack: "traefik".into(), files, environment: BTreeMap::new(), digest: String::new() };
        let model = Model { services: [("traefik".to_owned(), service)].into(), ..Model::default() };
        read("traefik", &inputs, &model, "/s/traefik").unwrap()
    }

    #[test]
    fn flags_file_and_environment_say_the_same() {
        let flags = json!({"command": [
            "--entryPoints.web.address=:80", "--entrypoints.webSecure.address=:443/tcp", "--entrypoints.webSecure.asDefault",
            "--entrypoints.webSecure.http.tls.certresolver=le", "--entrypoints.webSecure.http.middlewares=a@file, b@file",
            "--certificatesresolvers.le.acme.email", "a@b.c", "--providers.file.directory=/d", "--entrypoints.dns.address=:53/udp",
        ]});
        let by_flags = read_service(flags, &[]);
        assert_eq!(by_flags.default_entry_points(false), ["webSecure"]);
        assert_eq!(by_flags.default_entry_points(true), ["dns"]);
        assert_eq!(by_flags.entry_points["webSecure"].middlewares, ["a@file", "b@file"]);
        assert_eq!(by_flags.entry_points["web"].port, Some(80));
        assert!(by_flags.resolvers.contains("le"));

        let yaml = "entryPoints:\n  web: {address: ':80'}\n  webSecure:\n    address: ':443'\n    asDefault: true\n    \
                    http: {tls: {certResolver: le}, middlewares: [a@file, b@file]}\n  dns: {address: ':53/udp'}\n\
                    certificatesResolvers: {le: {acme: {email: a@b.c}}}\nproviders: {file: {directory: /d}}\n";
        let mount = json!({"volumes": [{"source": "/s/traefik/conf", "target": "/etc/traefik"}]});
        let by_file = read_service(mount, &[("conf/traefik.yaml", yaml)]);
        assert_eq!(by_file.path, "stacks/traefik/conf/traefik.yaml");
        assert_eq!(Static { path: by_flags.path.clone(), text: String::new(), ..by_file }, by_flags);

        let toml = "[entryPoints.web]\naddress = \":80\"\n[certificatesResolvers.le.acme]\nemail = \"a@b.c\"\n";
        let mount = json!({"command": ["--configFile=/x.toml"], "volumes": [{"source": "/s/traefik/x.toml", "target": "/x.toml"}]});
        let by_toml = read_service(mount, &[("x.toml", toml)]);
        assert_eq!(by_toml.entry_points["web"].port, Some(80));
        assert!(by_toml.resolvers.contains("le"));

        let variables = json!({"environment": {
            "TRAEFIK_ENTRYPOINTS_WEB_ADDRESS": ":80", "TRAEFIK_API_INSECURE": "true", "TRAEFIK_PROVIDERS_DOCKER": "true",
            "TRAEFIK_CERTIFICATESRESOLVERS_LE_ACME_EMAIL": "a@b.c", "OTHER": "x",
        }});
        let by_variables = read_service(variables, &[]);
        assert_eq!(by_variables.entry_points.keys().collect::<Vec<_>>(), ["traefik", "web"]);
        assert!(by_variables.resolvers.contains("le"));
        assert!(by_variables.providers.contains("docker"));
    }
}
