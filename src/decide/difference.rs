//! Names what differs between two definitions of a service, as a person may see it.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::decide::taint;

/// What differs between two definitions: (field, from, to), as far down as both sides are mappings.
pub fn differences(before: &Json, after: &Json) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    compare(before, after, &mut Vec::new(), &mut found);
    found
}

fn compare(before: &Json, after: &Json, path: &mut Vec<String>, found: &mut Vec<(String, String, String)>) {
    match (before, after) {
        (Json::Object(one), Json::Object(two)) => {
            let names: BTreeSet<_> = one.keys().chain(two.keys()).collect();
            for name in names {
                path.push(name.clone());
                compare(one.get(name).unwrap_or(&Json::Null), two.get(name).unwrap_or(&Json::Null), path, found);
                path.pop();
            }
        }
        _ if before != after => {
            let (from, mut to) = (shown(before, path), shown(after, path));
            if from == to {
                to = "(another value)".into();
            }
            found.push((path.join("."), from, to));
        }
        _ => {}
    }
}

/// Values of an environment may be confidential even when they come from `vars`; everything else may be shown.
fn shown(value: &Json, path: &[String]) -> String {
    let text = match value {
        Json::Null => return "(none)".into(),
        Json::String(text) => taint::readable(text),
        other => taint::readable(&other.to_string()),
    };
    let hidden = path.first().is_some_and(|field| field == "environment") && !text.starts_with("(secret ");
    match hidden {
        true => "(a value)".into(),
        false if text.chars().count() > 80 => text.chars().take(79).chain(['…']).collect(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_name_the_field_and_hide_values_of_the_environment() {
        let before = json!({"image": "a:1", "environment": {"MODE": "one"}, "ports": [1]});
        let after = json!({"image": "a:2", "environment": {"MODE": "two"}, "ports": [1]});
        let found = differences(&before, &after);
        assert_eq!(
            found,
            [
                ("environment.MODE".into(), "(a value)".into(), "(another value)".into()),
                ("image".into(), "a:1".into(), "a:2".into()),
            ]
        );
    }
}
