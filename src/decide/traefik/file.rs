//! Reads the repository's dynamic files: fills in variables, checks every key and type, and renders what Traefik reads.
//!
//! Traefik itself accepts unknown top-level keys and wrong types without a word, and one file that it cannot parse
//! freezes all others (docs/facts.md, F1 and F2). So a file that is rendered here has been understood completely.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::definition::{self, Definition, Source};
use super::interpolate;
use super::publish;
use super::scalar;
use super::schema::{Kind, ROOT, Schema, Speaker, Unknown};
use super::yaml::{self, Node, Style, Value};
use crate::decide::digest::DigestKey;
use crate::decide::mistake::Mistake;
use crate::decide::taint;
use crate::model::Inputs;

/// A dynamic file as Traefik shall read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The name below `dynamic/`.
    pub name: String,
    /// What it says, with secrets in clear.
    pub root: Json,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rendered({})", self.name)
    }
}

/// What the dynamic files of a stack say.
#[derive(Debug, Default)]
pub struct Dynamic {
    /// What Traefik reads.
    pub rendered: Vec<Rendered>,
    /// What stands beside it and is no dynamic file, such as a certificate, by path below `dynamic/`.
    pub copied: BTreeMap<String, Vec<u8>>,
    /// What they define. Secrets stand in it as marks.
    pub definitions: Vec<Definition>,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
}

/// Reads `dynamic/` of a stack.
pub fn read(inputs: &Inputs, key: &DigestKey) -> Dynamic {
    let mut environment =
        inputs.files.get(".env").and_then(|file| file.text().ok()).map(interpolate::env_file).unwrap_or_default();
    environment.extend(taint::marked(inputs, key));
    let mut dynamic = Dynamic::default();
    for (path, file) in &inputs.files {
        let Some(name) = path.strip_prefix(publish::DIRECTORY).and_then(|rest| rest.strip_prefix('/')) else {
            continue;
        };
        let place = format!("stacks/{}/{path}", inputs.stack);
        if name.starts_with(publish::ADDED) {
            dynamic.mistakes.push(Mistake::new(place, "this name is taken by moorline"));
            continue;
        }
        match name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("yaml" | "yml") => {}
            Some("toml") => {
                dynamic.mistakes.push(Mistake::new(place, "TOML is not read here; write it as YAML"));
                continue;
            }
            _ => {
                dynamic.copied.insert(name.to_owned(), file.bytes.clone());
                continue;
            }
        }
        let Ok(text) = file.text() else {
            dynamic.mistakes.push(Mistake::new(place, "is not UTF-8 text"));
            continue;
        };
        let mut reading = Reading { place, environment: &environment, lines: BTreeMap::new(), mistakes: Vec::new() };
        let root = reading.file(text);
        if reading.mistakes.is_empty() {
            let marked = Json::Object(root.clone());
            let root = in_clear(&marked, inputs, key);
            dynamic.rendered.push(Rendered { name: name.to_owned(), root });
        }
        let Reading { place, lines, mistakes, .. } = reading;
        dynamic.definitions.extend(definition::definitions(&root, &lines, &inputs.stack, &place, &Source::File));
        dynamic.mistakes.extend(mistakes);
    }
    dynamic
}

fn in_clear(value: &Json, inputs: &Inputs, key: &DigestKey) -> Json {
    match value {
        Json::String(text) => Json::String(taint::unmark(text, inputs, key)),
        Json::Array(items) => items.iter().map(|item| in_clear(item, inputs, key)).collect(),
        Json::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), in_clear(field, inputs, key))).collect()
        }
        other => other.clone(),
    }
}

struct Reading<'a> {
    place: String,
    environment: &'a BTreeMap<String, String>,
    lines: BTreeMap<String, usize>,
    mistakes: Vec<Mistake>,
}

impl Reading<'_> {
    fn refuse(&mut self, line: usize, text: impl Into<String>) {
        self.mistakes.push(Mistake::at(&self.place, Some(line), text));
    }

    fn file(&mut self, text: &str) -> Map<String, Json> {
        let node = match yaml::parse(text) {
            Ok(node) => node,
            Err(broken) => {
                self.refuse(broken.line, broken.text);
                return Map::new();
            }
        };
        match &node.value {
            _ if node.is_null() => Map::new(),
            Value::Map(_) => self.group(&node, ROOT, ""),
            _ => {
                self.refuse(node.line, "is not a mapping");
                Map::new()
            }
        }
    }

    fn group(&mut self, node: &Node, group: &str, path: &str) -> Map<String, Json> {
        let mut read = Map::new();
        for (key, line, below) in node.entries() {
            // Anchors for other values need a place; Traefik does not read this one.
            if group == ROOT && key.starts_with("x-") {
                continue;
            }
            match Schema::known().field(group, key, Speaker::FileOnly) {
                Ok(field) => {
                    let path = join(path, &field.name);
                    self.lines.insert(path.clone(), *line);
                    if let Some(value) = self.value(below, &field.kind, &path, key, *line) {
                        read.insert(field.name.clone(), value);
                    }
                }
                Err(Unknown::Nowhere(hint)) => self.refuse(*line, format!("Traefik does not know `{key}` here{hint}")),
                Err(Unknown::OnlyInFiles) => {}
            }
        }
        read
    }

    fn value(&mut self, node: &Node, kind: &Kind, path: &str, key: &str, line: usize) -> Option<Json> {
        if node.is_null() {
            let empty = if matches!(kind, Kind::List(_)) { "[]" } else { "{}" };
            let text = match kind {
                Kind::Group(_) | Kind::Map(_) | Kind::List(_) => {
                    format!("nothing stands below `{key}`; write `{empty}`")
                }
                _ => format!("`{key}` has no value"),
            };
            self.refuse(line, text);
            return None;
        }
        match (kind, &node.value) {
            (Kind::Group(group), Value::Map(_)) => Some(Json::Object(self.group(node, group, path))),
            (Kind::Map(of), Value::Map(entries)) => {
                let mut read = Map::new();
                for (name, at, below) in entries {
                    let path = join(path, name);
                    self.lines.insert(path.clone(), *at);
                    if let Some(value) = self.value(below, of, &path, name, *at) {
                        read.insert(name.clone(), value);
                    }
                }
                Some(Json::Object(read))
            }
            (Kind::List(of), Value::List(items)) => {
                let mut read = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}.{index}");
                    self.lines.insert(path.clone(), item.line);
                    read.extend(self.value(item, of, &path, key, item.line));
                }
                Some(Json::Array(read))
            }
            (Kind::Any, _) => self.any(node),
            (Kind::Group(_) | Kind::Map(_) | Kind::List(_), _) | (_, Value::List(_) | Value::Map(_)) => {
                self.refuse(line, format!("`{key}` must be {}", kind.wanted()));
                None
            }
            (scalar, Value::Scalar(text, _)) => {
                let text = self.filled(text, node.line)?;
                // What a secret is, only the host knows.
                if taint::is_tainted(&text) {
                    return Some(Json::String(text));
                }
                let read = scalar::read(&text, scalar);
                if read.is_none() {
                    self.refuse(line, format!("`{key}`: `{text}` is not {}", scalar.wanted()));
                }
                read
            }
        }
    }

    /// What a plugin is given: numbers and booleans stay what they are.
    fn any(&mut self, node: &Node) -> Option<Json> {
        match &node.value {
            Value::List(items) => Some(items.iter().filter_map(|item| self.any(item)).collect()),
            Value::Map(entries) => Some(Json::Object(
                entries.iter().filter_map(|(name, _, below)| Some((name.clone(), self.any(below)?))).collect(),
            )),
            Value::Scalar(text, Style::Quoted) => self.filled(text, node.line).map(Json::String),
            Value::Scalar(text, Style::Plain) => {
                let filled = self.filled(text, node.line)?;
                Some(match (filled.as_str(), filled.parse::<i64>(), filled.parse::<f64>()) {
                    ("true" | "True" | "TRUE", _, _) => json!(true),
                    ("false" | "False" | "FALSE", _, _) => json!(false),
                    (_, Ok(number), _) => json!(number),
                    (text, _, Ok(number)) if text.starts_with(|first: char| first.is_ascii_digit()) => json!(number),
                    (text, _, _) => json!(text),
                })
            }
        }
    }

    fn filled(&mut self, text: &str, line: usize) -> Option<String> {
        if text.contains("{{") {
            self.refuse(line, "`{{` begins a Go template, which is not carried out here; write `${NAME}`");
            return None;
        }
        match interpolate::fill(text, self.environment) {
            Ok(filled) => Some(filled),
            Err(problem) => {
                self.refuse(line, problem);
                None
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{File, Secret, Value as Variable};

    fn dynamic(files: &[(&str, &str)]) -> Dynamic {
        let files = files.iter().map(|(name, text)| (format!("dynamic/{name}"), File::plain(*text))).collect();
        let secret = Variable::Tainted(Secret::new("hun\"ter2 {{".to_owned()));
        let domain = Variable::Plain("example.org".to_owned());
        let environment = [("TOKEN".to_owned(), secret), ("DOMAIN".to_owned(), domain)].into();
        let inputs = Inputs { stack: "traefik".into(), files, environment, digest: String::new() };
        read(&inputs, &DigestKey::new(vec![1; 32]))
    }

    fn mistakes(text: &str) -> Vec<String> {
        dynamic(&[("a.yaml", text)]).mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_is_filled_in_typed_and_rendered() {
        let text = "http:\n  routers:\n    web: {rule: 'Host(`${DOMAIN}`)', service: web@docker, priority: 5}\n";
        let found = dynamic(&[("a.yaml", text), ("readme.md", "no"), ("sub/b.yml", "{}\n")]);
        assert_eq!(found.mistakes, []);
        let rendered = publish::text(&found.rendered[0].root);
        assert!(rendered.contains("\"rule\": \"Host(`example.org`)\""), "{rendered}");
        assert!(rendered.contains("\"service\": \"web@file\""), "{rendered}");
        assert_eq!(found.copied.keys().collect::<Vec<_>>(), ["readme.md"]);
        assert_eq!(found.rendered[1].name, "sub/b.yml");
        assert_eq!(found.definitions[0].line("rule"), Some(3));
    }

    #[test]
    fn a_secret_stands_in_the_bytes_only_and_cannot_break_out() {
        let text =
            "http:\n  middlewares:\n    m:\n      headers:\n        customRequestHeaders: {X-Token: 'a ${TOKEN}'}\n";
        let found = dynamic(&[("a.yaml", text)]);
        let rendered = publish::text(&found.rendered[0].root);
        assert!(rendered.contains(r#""X-Token": "a hun\"ter2 {{"{{"}}""#), "{rendered}");
        assert!(!format!("{:?}{:?}", found.definitions, found.rendered).contains("ter2"));
    }

    #[test]
    fn what_traefik_would_take_in_silence_is_refused_with_its_line() {
        let place = "stacks/traefik/dynamic/a.yaml";
        for (text, line, expected) in [
            ("htpt: {}\n", 1, "does not know `htpt` here (did you mean `http`?)"),
            ("http:\n  services:\n    a:\n      loadBalancer:\n        servers: x\n", 5, "`servers` must be a list"),
            ("http:\n  routers:\n    a:\n      rul: x\n", 4, "does not know `rul`"),
            ("http:\n  services:\n    a: {loadBalancer: {passHostHeader: maybe}}\n", 3, "`maybe` is not `true`"),
            ("http:\n  routers: {a: {entryPoints: web}}\n", 2, "`entryPoints` must be a list"),
            ("http:\n", 1, "nothing stands below `http`"),
            ("http:\n  routers: {a: {rule: '{{ env \"X\" }}'}}\n", 2, "Go template"),
            ("http:\n  routers: {a: {rule: '${NOPE}'}}\n", 2, "`${NOPE}` is not set"),
            ("- a\n", 1, "is not a mapping"),
            ("http: [\n", 2, ""),
        ] {
            let found = mistakes(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].starts_with(&format!("{place}:{line}: ")), "{text}: {}", found[0]);
            assert!(found[0].contains(expected), "{text}: {}", found[0]);
        }
        assert_eq!(dynamic(&[("a.toml", "")]).mistakes.len(), 1);
        assert_eq!(dynamic(&[("moorline.web.yaml", "")]).mistakes.len(), 1);
    }
}
