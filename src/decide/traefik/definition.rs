//! One router, service, middleware, ... with the place that defines it, and files made of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::schema::{Kind, ROOT, Refers, Schema};

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Labels of a service.
    Labels {
        /// The service.
        service: String,
    },
    /// A dynamic file of the stack `traefik`.
    File,
}

/// Something that has a name in Traefik, or stands in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// `http`, `tcp`, `udp` or `tls`.
    pub protocol: String,
    /// `routers`, `services`, ...
    pub section: String,
    /// Its name; certificates have a number.
    pub name: String,
    /// What it is, as in a dynamic file.
    pub value: Json,
    /// The stack whose file it goes into.
    pub stack: String,
    /// Who said it.
    pub source: Source,
    /// The file in the repository.
    pub path: String,
    /// The lines of its parts, by path; the empty path is the whole.
    pub lines: BTreeMap<String, usize>,
}

impl Definition {
    /// What a person calls it: `router web`.
    pub fn title(&self) -> String {
        let kind = match self.section.as_str() {
            "routers" => "router",
            "services" => "service",
            "middlewares" => "middleware",
            "serversTransports" => "servers transport",
            "options" => "TLS options",
            "stores" => "TLS store",
            _ => "certificate",
        };
        match self.protocol.as_str() {
            "tcp" | "udp" => format!("{} {kind} `{}`", self.protocol, self.name),
            _ => format!("{kind} `{}`", self.name),
        }
    }

    /// The line of a part, or of the nearest thing above it.
    pub fn line(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = match path.rsplit_once('.') {
                Some((above, _)) => above,
                None if path.is_empty() => return None,
                None => "",
            };
        }
    }

    /// Every name that it uses, with the path where it stands.
    pub fn references(&self) -> Vec<(String, Refers, String)> {
        let schema = Schema::known();
        let section = schema.group(&self.protocol).iter().find(|field| field.name == self.section);
        let Some(Kind::Map(kind) | Kind::List(kind)) = section.map(|field| &field.kind) else { return Vec::new() };
        let mut found = Vec::new();
        walk(&self.value, kind, String::new(), &mut found);
        found
    }
}

fn walk(value: &Json, kind: &Kind, path: String, found: &mut Vec<(String, Refers, String)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (kind, value) {
        (Kind::Name(refers), Json::String(name)) => found.push((path, *refers, name.clone())),
        (Kind::List(of), Json::Array(items)) => {
            items.iter().enumerate().for_each(|(at, item)| walk(item, of, below(&at.to_string()), found));
        }
        (Kind::Map(of), Json::Object(fields)) => {
            fields.iter().for_each(|(name, field)| walk(field, of, below(name), found));
        }
        (Kind::Group(group), Json::Object(fields)) => {
            for field in Schema::known().group(group) {
                if let Some(value) = fields.get(&field.name) {
                    walk(value, &field.kind, below(&field.name), found);
                }
            }
        }
        _ => {}
    }
}

/// Takes what a file or labels say apart. `lines` has the paths of the whole.
pub fn definitions(
    root: &Map<String, Json>,
    lines: &BTreeMap<String, usize>,
    stack: &str,
    path: &str,
    source: &Source,
) -> Vec<Definition> {
    let mut found = Vec::new();
    for (protocol, sections) in root {
        for (section, entries) in sections.as_object().into_iter().flatten() {
            let named: Vec<(String, &Json)> = match entries {
                Json::Object(entries) => entries.iter().map(|(name, value)| (name.clone(), value)).collect(),
                Json::Array(entries) => entries.iter().enumerate().map(|(at, one)| (at.to_string(), one)).collect(),
                _ => Vec::new(),
            };
            for (name, value) in named {
                let above = format!("{protocol}.{section}.{name}");
                found.push(Definition {
                    lines: lines_below(lines, &above),
                    protocol: protocol.clone(),
                    section: section.clone(),
                    name,
                    value: value.clone(),
                    stack: stack.to_owned(),
                    source: source.clone(),
                    path: path.to_owned(),
                });
            }
        }
    }
    found
}

fn lines_below(lines: &BTreeMap<String, usize>, above: &str) -> BTreeMap<String, usize> {
    let relative = |(path, line): (&String, &usize)| {
        let rest = path.strip_prefix(above)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix('.')? };
        Some((rest.to_owned(), *line))
    };
    lines.iter().filter_map(relative).collect()
}

/// The content of one dynamic file.
pub fn file_of<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> Json {
    let mut root = Map::new();
    let lists: BTreeSet<&str> = Schema::known()
        .group(ROOT)
        .iter()
        .flat_map(|protocol| match &protocol.kind {
            Kind::Group(group) => Schema::known().group(group),
            _ => &[],
        })
        .filter(|field| matches!(field.kind, Kind::List(_)))
        .map(|field| field.name.as_str())
        .collect();
    for definition in definitions {
        let protocol = root.entry(&definition.protocol).or_insert_with(|| Json::Object(Map::new()));
        let is_list = lists.contains(definition.section.as_str());
        let empty = || if is_list { Json::Array(Vec::new()) } else { Json::Object(Map::new()) };
        let Some(protocol) = protocol.as_object_mut() else { continue };
        match protocol.entry(&definition.section).or_insert_with(empty) {
            Json::Array(entries) => entries.push(definition.value.clone()),
            Json::Object(entries) => _ = entries.insert(definition.name.clone(), definition.value.clone()),
            _ => {}
        }
    }
    Json::Object(root)
}
