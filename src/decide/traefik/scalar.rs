//! Reads single values as Go's standard library does, because Traefik reads them with it.

use serde_json::{Value as Json, json};

use super::schema::{Kind, Refers};

/// The value that stands in a file for this text, or nothing when Traefik would refuse it.
pub fn read(text: &str, kind: &Kind) -> Option<Json> {
    match kind {
        Kind::Bool => boolean(text).map(Json::Bool),
        Kind::Int => text.parse::<i64>().ok().map(|number| json!(number)),
        Kind::Duration => is_duration(text).then(|| json!(text)),
        Kind::Name(refers) => Some(json!(as_file_name(text, *refers))),
        Kind::Text | Kind::Any => Some(json!(text)),
        Kind::List(_) | Kind::Map(_) | Kind::Group(_) => None,
    }
}

/// What one provider calls `x@docker` is `x@file` here: there is no Docker provider.
fn as_file_name(text: &str, refers: Refers) -> String {
    match refers {
        Refers::EntryPoint | Refers::Resolver => text.to_owned(),
        _ => text.strip_suffix("@docker").map_or_else(|| text.to_owned(), |name| format!("{name}@file")),
    }
}

/// `strconv.ParseBool`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Whole seconds, or `time.ParseDuration`: `1h30m`, `1.5s`, `-2ms`.
pub fn is_duration(text: &str) -> bool {
    if text.parse::<i64>().is_ok() {
        return true;
    }
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if !number.contains(|character: char| character.is_ascii_digit()) || number.matches('.').count() > 1 {
            return false;
        }
        // The longest unit first: `ms` is not `m`.
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(unit) = units.into_iter().find(|unit| after.starts_with(unit)) else { return false };
        rest = &after[unit.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for text in ["10", "10s", "1h30m", "1.5s", "-2ms", ".5s", "100µs", "0"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "s", "10 s", "1d", "1.2.3s", "10s5", "ten", "-"] {
            assert!(!is_duration(text), "{text}");
        }
    }

    #[test]
    fn booleans_are_those_of_go() {
        assert_eq!(boolean("T"), Some(true));
        assert_eq!(boolean("yes"), None);
        assert_eq!(boolean(""), None);
    }

    #[test]
    fn names_of_the_docker_provider_become_names_of_the_file_provider() {
        assert_eq!(read("web@docker", &Kind::Name(Refers::Service)), Some(json!("web@file")));
        assert_eq!(read("api@internal", &Kind::Name(Refers::Service)), Some(json!("api@internal")));
        assert_eq!(read("web@docker", &Kind::Text), Some(json!("web@docker")));
    }
}
