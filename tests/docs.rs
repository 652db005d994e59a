//! The documents say what the code does, where that can be compared, and their links lead somewhere.
#![allow(clippy::disallowed_methods, reason = "tests touch files themselves")]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "sim/golden.rs"]
mod golden;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let directories = [
        "",
        "cloud-init",
        "docs",
        "docs/decisions",
        "repo-layout-example",
        "repo-layout-example/demo-keys",
        "repo-layout-example/tofu",
    ];
    let files = directories.iter().flat_map(|directory| fs::read_dir(root().join(directory)).unwrap());
    let mut found: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(found.len() > 10, "{found:?}");
    found
}

#[test]
fn links_between_documents_lead_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {link} leads nowhere", document.display());
        }
    }
}

#[test]
fn every_key_of_agent_toml_is_explained() {
    let source = fs::read_to_string(root().join("src/decide/settings.rs")).unwrap();
    let text = fs::read_to_string(root().join("docs/agent.toml.md")).unwrap();
    let mut keys = 0;
    let structs = source.split("File {\n").skip(1).filter_map(|rest| rest.split("\n}").next());
    for field in structs.flat_map(str::lines) {
        let Some((name, kind)) = field.trim().split_once(": ") else { continue };
        if field.starts_with("    ") && !kind.contains("File,") && !name.starts_with('#') && !name.contains(' ') {
            keys += 1;
            assert!(text.contains(&format!("| `{name}` |")), "docs/agent.toml.md says nothing about `{name}`");
        }
    }
    assert!(keys >= 15, "only {keys} keys were found: has settings.rs another form?");
}

#[test]
fn every_fact_that_a_comment_names_is_in_the_table() {
    let table = fs::read_to_string(root().join("docs/facts.md")).unwrap();
    let mut named = 0;
    let mut directories = vec![root().join("src"), root().join("tests")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                for rest in text.split("docs/facts.md, ").skip(1) {
                    let label = rest.split(|character: char| !character.is_ascii_alphanumeric()).next().unwrap();
                    if label.is_empty() {
                        continue;
                    }
                    named += 1;
                    assert!(table.contains(&format!("| {label} |")), "{}: {label} is no fact", entry.display());
                }
            }
        }
    }
    assert!(named > 15, "only {named} were found: do comments name them in another way?");
}
