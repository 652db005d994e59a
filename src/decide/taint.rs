//! Follows secrets through Compose without showing them to it.
//!
//! For planning, Compose is given a *mark* instead of each tainted value. Where a mark turns up in the resolved
//! model, a secret would stand; and since the mark carries a keyed digest of the value, a rotation is a visible
//! change. So the model never holds a secret and can be stored, compared and printed.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::decide::digest::DigestKey;
use crate::model::{Inputs, Value};

const BEGIN: &str = "__moorline_secret_";
const END: &str = "__";

/// The mark of one tainted value.
pub fn mark(key: &DigestKey, name: &str, value: &str) -> String {
    let digest = key.of([name.as_bytes(), value.as_bytes()]);
    format!("{BEGIN}{name}_{}{END}", &digest[..12])
}

/// The environment with marks instead of tainted values: what Compose sees while a plan is made.
pub fn marked(inputs: &Inputs, key: &DigestKey) -> BTreeMap<String, String> {
    let show = |(name, value): (&String, &Value)| match value {
        Value::Plain(text) => (name.clone(), text.clone()),
        // `${A:+service:}host` means one thing with a mark and another with nothing, so nothing has no mark.
        Value::Tainted(secret) if secret.expose().is_empty() => (name.clone(), String::new()),
        Value::Tainted(secret) => (name.clone(), mark(key, name, secret.expose())),
    };
    inputs.environment.iter().map(show).collect()
}

/// Whether a secret would stand somewhere in this text.
pub fn is_tainted(text: &str) -> bool {
    text.contains(BEGIN)
}

/// The text with every mark replaced by its secret, for files in memory-backed storage.
pub fn unmark(text: &str, inputs: &Inputs, key: &DigestKey) -> String {
    let mut clear = text.to_owned();
    for (name, value) in &inputs.environment {
        if let Value::Tainted(secret) = value {
            clear = clear.replace(&mark(key, name, secret.expose()), secret.expose());
        }
    }
    clear
}

/// The text as a person may see it: `(secret DB_PASSWORD)`, with the digest left out.
pub fn readable(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        shown.push_str(&rest[..at]);
        let name_on = &rest[at + BEGIN.len()..];
        let Some(end) = name_on.find(END) else {
            rest = name_on;
            continue;
        };
        let name = name_on[..end].rsplit_once('_').map_or("", |(name, _digest)| name);
        shown.push_str(&format!("(secret {name})"));
        rest = &name_on[end + END.len()..];
    }
    shown.push_str(rest);
    shown
}

/// The paths below `value` at which a secret would stand.
pub fn places(value: &Json) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut found);
    found
}

fn walk(value: &Json, path: &mut Vec<String>, found: &mut Vec<String>) {
    match value {
        Json::String(text) if is_tainted(text) => found.push(path.join(".")),
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                walk(item, path, found);
                path.pop();
            }
        }
        Json::Object(fields) => {
            for (name, field) in fields {
                path.push(readable(name));
                if is_tainted(name) {
                    found.push(path.join("."));
                }
                walk(field, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn inputs() -> Inputs {
        let secret = Value::Tainted(Secret::new("hunter2".to_owned()));
        Inputs {
            stack: "web".into(),
            files: BTreeMap::new(),
            environment: [("DB_PASSWORD".to_owned(), secret)].into(),
            digest: String::new(),
        }
    }

    #[test]
    fn marks_hide_and_give_back_a_secret() {
        let key = DigestKey::new(vec![3; 32]);
        let marked = &marked(&inputs(), &key)["DB_PASSWORD"];
        assert!(!marked.contains("hunter2"));
        assert_eq!(unmark(&format!("pw={marked};"), &inputs(), &key), "pw=hunter2;");
        assert_eq!(readable(&format!("pw={marked};")), "pw=(secret DB_PASSWORD);");
    }

    #[test]
    fn an_empty_secret_stands_as_nothing_and_hides_no_branch() {
        let mut inputs = inputs();
        inputs.environment.insert("EMPTY".into(), Value::Tainted(Secret::new(String::new())));
        let key = DigestKey::new(vec![3; 32]);
        assert_eq!(marked(&inputs, &key)["EMPTY"], "");
        assert_eq!(unmark("a", &inputs, &key), "a");
    }

    #[test]
    fn a_rotated_secret_has_another_mark() {
        let key = DigestKey::new(vec![3; 32]);
        assert_ne!(mark(&key, "A", "one"), mark(&key, "A", "two"));
    }

    #[test]
    fn places_name_the_path() {
        let key = DigestKey::new(vec![3; 32]);
        let model = serde_json::json!({"labels": {"a": mark(&key, "A", "x")}, "command": ["b", mark(&key, "A", "x")]});
        assert_eq!(places(&model), ["labels.a", "command.1"]);
    }

    #[test]
    fn a_broken_mark_is_still_taint_and_does_not_loop() {
        assert!(is_tainted("__moorline_secret_"));
        assert_eq!(readable("a__moorline_secret_b"), "ab");
    }
}
