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
    let directories = ["", "docs", "docs/decisions", "repo-layout-example", "repo-layout-example/demo-keys"];
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
