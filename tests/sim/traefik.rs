//! A Traefik in memory, with the habits of docs/facts.md, F1 and F2, as far as runs depend on them: one file that it cannot
//! read freezes all, a cold start with one leaves nothing, and its API says nothing of either.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

/// What Traefik remembers while it runs.
#[derive(Debug, Clone, Default)]
pub struct Traefik {
    /// Which process of which container it is: id, and when it was started.
    process: Option<(String, i64)>,
    /// What it read last, all files together.
    loaded: Json,
    /// What it logged.
    pub log: Vec<String>,
    /// Routers that it does not serve, for reasons that only it knows.
    pub refuses: BTreeSet<String>,
    /// A word that this version of it does not understand: a file with it cannot be read.
    pub stumbles_over: Option<String>,
    /// Whether it answers.
    pub is_silent: bool,
}

impl Traefik {
    /// It is this process now, and its directory holds these files.
    pub fn looks(&mut self, process: Option<(String, i64)>, files: &BTreeMap<String, Vec<u8>>) {
        if self.process != process {
            self.process = process;
            self.loaded = json!({});
        }
        if self.process.is_none() {
            return;
        }
        let mut all = Map::new();
        for (path, bytes) in files.iter().filter(|(path, _)| path.ends_with(".yaml") || path.ends_with(".yml")) {
            match self.read(bytes) {
                Ok(file) => merge(&mut all, file),
                Err(why) => return self.log.push(format!("ERR error=\"collecting file configs: /d/{path}: {why}\"")),
            }
        }
        self.loaded = Json::Object(all);
    }

    fn read(&self, bytes: &[u8]) -> Result<Json, String> {
        let text = String::from_utf8_lossy(bytes);
        if let Some(word) = self.stumbles_over.as_ref().filter(|word| text.contains(*word)) {
            return Err(format!("field not found, node: {word}"));
        }
        serde_yaml::from_str(&text).map_err(|error| error.to_string())
    }

    /// `/api/rawdata`, with these entry points.
    pub fn says(&self, entry_points: &BTreeSet<String>) -> Option<Json> {
        self.process.as_ref().filter(|_| !self.is_silent)?;
        let section = |name: &str| self.loaded["http"][name].as_object().cloned().unwrap_or_default();
        let (services, middlewares) = (section("services"), section("middlewares"));
        let is_there = |all: &Map<String, Json>, name: &str| {
            name.ends_with("@internal") || all.contains_key(name.strip_suffix("@file").unwrap_or(name))
        };
        let words = |value: &Json| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let mut routers = Map::new();
        for (name, router) in section("routers") {
            let mut errors = Vec::new();
            let service = router["service"].as_str().unwrap_or_default();
            if !is_there(&services, service) {
                errors.push(format!("the service \"{service}\" does not exist"));
            }
            for word in words(&router["middlewares"]).iter().filter(|word| !is_there(&middlewares, word)) {
                errors.push(format!("middleware \"{word}\" does not exist"));
            }
            for word in words(&router["entryPoints"]).iter().filter(|word| !entry_points.contains(*word)) {
                errors.push(format!("EntryPoint doesn't exist: {word}"));
            }
            if self.refuses.contains(&name) {
                errors.push("error parsing regexp".to_owned());
            }
            let status = if errors.is_empty() { "enabled" } else { "disabled" };
            routers
                .insert(format!("{name}@file"), json!({ "status": status, "error": errors, "rule": router["rule"] }));
        }
        let named = middlewares.into_iter().map(|(name, value)| (format!("{name}@file"), value));
        Some(json!({ "routers": routers, "middlewares": Json::Object(named.collect()) }))
    }

    /// Whether a request by this rule finds a router that serves it.
    pub fn serves(&self, rule: &str, entry_points: &BTreeSet<String>) -> bool {
        let Some(said) = self.says(entry_points) else { return false };
        let mut routers = said["routers"].as_object().into_iter().flatten();
        routers.any(|(_, router)| router["rule"] == rule && router["status"] == "enabled")
    }
}

fn merge(into: &mut Map<String, Json>, from: Json) {
    let Json::Object(from) = from else { return };
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Json::Object(there)), value @ Json::Object(_)) => merge(there, value),
            (Some(_), _) => {}
            (None, value) => _ = into.insert(name, value),
        }
    }
}
