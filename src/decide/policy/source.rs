//! Looks for what Compose would act on while it only reads: files outside of the stack, and repositories elsewhere.
//!
//! Compose reads these before it prints the model that is judged, as root. So they are found in the files, before it is
//! started: every mapping of every file that is reached counts, also where Compose would not look.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::decide::mistake::{Mistake, line_in, text_of, yaml_mistake};
use crate::decide::{dotenv, yaml};
use crate::model::tree::File;

/// Names every file that Compose would read from outside of the stack's directory, and every variable that would
/// redirect it.
pub fn check(stack: &str, files: &BTreeMap<String, File>, mistakes: &mut Vec<Mistake>) {
    check_dotenv(stack, files, mistakes);
    let mut seen = BTreeSet::new();
    let mut waiting = vec!["compose.yaml".to_owned()];
    while let Some(path) = waiting.pop() {
        let Some(file) = files.get(&path) else { continue };
        // No file is read twice, so a circle of them ends.
        if !seen.insert(path.clone()) {
            continue;
        }
        let shown = format!("stacks/{stack}/{path}");
        let Some(text) = text_of(file, &shown, mistakes) else { continue };
        let value: Json = match yaml::read(text) {
            Ok(value) => value,
            Err(flaw) => {
                mistakes.push(yaml_mistake(&shown, flaw));
                continue;
            }
        };
        let mut references = Vec::new();
        walk(&value, &mut references);
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for (key, reference) in references {
            if let Some(why) = flaw(&reference) {
                let line = line_in(text, &reference).or_else(|| line_in(text, key));
                mistakes.push(Mistake::at(&shown, line, format!("`{key}: {reference}` {why}")));
                continue;
            }
            // The others hold lines, not YAML.
            if !["include", "extends"].contains(&key) {
                continue;
            }
            let reference = reference.trim_start_matches("./");
            waiting.push(reference.to_owned());
            waiting.push(format!("{directory}/{reference}").trim_start_matches('/').to_owned());
        }
    }
}

/// The stack's own `.env` may set what its files use, and nothing that steers Compose.
fn check_dotenv(stack: &str, files: &BTreeMap<String, File>, mistakes: &mut Vec<Mistake>) {
    let Some(Ok(text)) = files.get(".env").map(File::text) else { return };
    for name in dotenv::names(text).into_iter().filter(|name| dotenv::is_reserved(name)) {
        let path = format!("stacks/{stack}/.env");
        mistakes.push(Mistake::at(path, line_in(text, &name), format!("`{name}` is set by moorline")));
    }
}

/// What is wrong with the name of a file that Compose is to read; nothing if it is one of the stack's own.
fn flaw(reference: &str) -> Option<&'static str> {
    let is_remote = ["://", "git@", "oci:"].iter().any(|mark| reference.contains(mark))
        || reference.contains(".git#")
        || reference.ends_with(".git")
        || reference.starts_with("github.com/");
    if is_remote {
        return Some("is not in this repository: nothing is fetched that was not signed");
    }
    if reference.contains('$') {
        return Some("must be written out: what it means would be known only on the host");
    }
    if reference.starts_with(['/', '~', '\\']) || reference.split('/').any(|part| part == "..") {
        return Some("is outside of the stack's directory");
    }
    None
}

fn walk(value: &Json, found: &mut Vec<(&'static str, String)>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Json::Object(entries) => {
            for (key, value) in entries {
                match key.as_str() {
                    "include" => texts(value, "include", found),
                    "env_file" => texts(value, "env_file", found),
                    "label_file" => texts(value, "label_file", found),
                    // As text it names a service of the same file.
                    "extends" => value.get("file").into_iter().for_each(|file| texts(file, "extends", found)),
                    _ => {}
                }
                walk(value, found);
            }
        }
        _ => {}
    }
}

/// Every text below a key that names files, but for words that are none. `env_file` of an `include` has its own turn.
fn texts(value: &Json, key: &'static str, found: &mut Vec<(&'static str, String)>) {
    match value {
        Json::String(text) => found.push((key, text.clone())),
        Json::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        Json::Object(entries) => {
            let of_files =
                entries.iter().filter(|(name, _)| !["format", "required", "env_file"].contains(&name.as_str()));
            of_files.for_each(|(_, value)| texts(value, key, found));
        }
        _ => {}
    }
}
