//! Decides whether the files of a stack cost no more than the Compose plugin may spend on them.

use std::collections::BTreeMap;

use crate::decide::mistake::{Mistake, yaml_mistake};
use crate::decide::yaml;
use crate::model::tree::File;

/// How many files Compose may have to read for one stack.
const MOST_FILES: usize = 500;
/// How many bytes they may have.
const MOST_BYTES: usize = 5 * 1024 * 1024;

/// Compose may read any YAML or environment file of the stack (`include`, `extends`, `env_file`), so all of them have to
/// be affordable before Compose is started: a bomb would go off there.
pub fn check(name: &str, files: &BTreeMap<String, File>, mistakes: &mut Vec<Mistake>) {
    let ends = |file: &str, endings: &[&str]| endings.iter().any(|ending| file.ends_with(ending));
    let read: Vec<_> = files.iter().filter(|(file, _)| ends(file, &[".yaml", ".yml", ".env"])).collect();
    let bytes: usize = read.iter().map(|(_, file)| file.bytes.len()).sum();
    if read.len() > MOST_FILES || bytes > MOST_BYTES {
        let text = format!(
            "its {} YAML and environment files have {} KiB; at most {MOST_FILES} files and {} KiB are given to Compose",
            read.len(),
            bytes / 1024,
            MOST_BYTES / 1024
        );
        mistakes.push(Mistake::new(format!("stacks/{name}"), text));
    }
    for (file, content) in read.iter().filter(|(file, _)| *file != "compose.yaml" && ends(file, &[".yaml", ".yml"])) {
        if let Err(flaw) = yaml::weigh(&String::from_utf8_lossy(&content.bytes)) {
            mistakes.push(yaml_mistake(&format!("stacks/{name}/{file}"), flaw));
        }
    }
}
