//! Fills variables into a Compose file, well enough to see what changes; Compose itself has the last word.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::decide::dotenv;

/// The assignments of a `.env` file, without the finer points of quoting.
pub(super) fn assignments(text: &str) -> BTreeMap<String, String> {
    let assignment = |line: &str| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        dotenv::is_name(name.trim()).then(|| (name.trim().to_owned(), value.to_owned()))
    };
    text.lines().filter_map(assignment).collect()
}

/// Fills in every text below a value.
pub(super) fn fill(value: &mut Json, environment: &BTreeMap<String, String>) {
    match value {
        Json::String(text) if text.contains('$') => *text = filled(text, environment),
        Json::Array(items) => items.iter_mut().for_each(|item| fill(item, environment)),
        Json::Object(fields) => fields.values_mut().for_each(|field| fill(field, environment)),
        _ => {}
    }
}

fn filled(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((body, after)) = after.strip_prefix('{').and_then(|body| body.split_once('}')) {
            out.push_str(&of_body(body, environment));
            rest = after;
        } else {
            let end = after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            let (name, after) = after.split_at(end);
            match dotenv::is_name(name) {
                true => out.push_str(&value(name, environment)),
                false => out.push_str(&format!("${name}")),
            }
            rest = after;
        }
    }
    out + rest
}

/// `NAME`, `NAME:-default`, `NAME-default`, `NAME:+other`, `NAME+other`, `NAME:?error`, `NAME?error`.
fn of_body(body: &str, environment: &BTreeMap<String, String>) -> String {
    let end = body.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (name, rule) = body.split_at(end);
    let (strict, rule) = rule.strip_prefix(':').map_or((false, rule), |rule| (true, rule));
    let set = environment.get(name).filter(|value| !strict || !value.is_empty());
    match (rule.chars().next(), set) {
        (Some('-'), None) => rule[1..].to_owned(),
        (Some('+'), Some(_)) => rule[1..].to_owned(),
        (Some('+'), None) => String::new(),
        _ => value(name, environment),
    }
}

fn value(name: &str, environment: &BTreeMap<String, String>) -> String {
    environment.get(name).cloned().unwrap_or_else(|| format!("${{{name}}}"))
}
