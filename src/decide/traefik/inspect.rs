//! Finds what Traefik would only show as a missing route: names that nobody defines, names that two define, and things
//! that are incomplete.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::definition::{Definition, Source};
use super::rule;
use super::schema::Refers;
use super::statics::Static;
use crate::decide::mistake::{Mistake, line_in, meant};
use crate::decide::taint;

/// What Traefik defines itself.
const INTERNAL: [&str; 10] = [
    "api",
    "dashboard",
    "ping",
    "prometheus",
    "rest",
    "noop",
    "acme-http",
    "default",
    "dashboard_redirect",
    "dashboard_stripprefix",
];

/// Every mistake in what all files and labels of a host say together.
pub fn inspect(definitions: &[Definition], statics: &Static) -> Vec<Mistake> {
    let mut mistakes = twice(definitions);
    for definition in definitions {
        mistakes.extend(incomplete(definition));
        mistakes.extend(unreadable(definition, statics));
        for (path, refers, name) in definition.references() {
            if let Some(text) = unknown(definition, refers, &name, definitions, statics) {
                mistakes.push(Mistake::at(&definition.path, definition.line(&path), text));
            }
        }
    }
    for (entry_point, settings) in &statics.entry_points {
        for name in &settings.middlewares {
            if !exists(definitions, "http", "middlewares", name, statics) {
                let text = format!("entry point `{entry_point}`: there is no middleware `{name}`");
                mistakes.push(Mistake::at(&statics.path, line_in(&statics.text, name), text));
            }
        }
        if let Some(resolver) = settings.resolver.as_ref().filter(|name| !statics.resolvers.contains(*name)) {
            let text = format!("entry point `{entry_point}`: there is no certificate resolver `{resolver}`");
            mistakes.push(Mistake::at(&statics.path, line_in(&statics.text, resolver), text));
        }
    }
    mistakes
}

fn twice(definitions: &[Definition]) -> Vec<Mistake> {
    let mut seen: BTreeMap<(&str, &str, &str), &Definition> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for definition in definitions.iter().filter(|definition| definition.section != "certificates") {
        let key = (definition.protocol.as_str(), definition.section.as_str(), definition.name.as_str());
        let Some(first) = seen.get(&key) else {
            seen.insert(key, definition);
            continue;
        };
        // The same middleware in the same words stands in many tutorials, and so in many stacks.
        let by_labels = first.source != Source::File && definition.source != Source::File;
        if by_labels && definition.section == "middlewares" && first.value == definition.value {
            continue;
        }
        let line = first.line("").map(|line| format!(":{line}")).unwrap_or_default();
        let text = format!("{} is also defined in {}{line}", definition.title(), first.path);
        mistakes.push(Mistake::at(&definition.path, definition.line(""), text));
    }
    mistakes
}

fn incomplete(definition: &Definition) -> Option<Mistake> {
    let keys = || definition.value.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let has = |key: &str| definition.value.get(key).and_then(Json::as_str).is_some_and(|text| !text.is_empty());
    let text = match definition.section.as_str() {
        // A router with children has no service of its own; only files can say so.
        "routers" if !has("service") && definition.protocol != "http" => "needs a `service`".to_owned(),
        "routers" if !has("rule") && definition.protocol != "udp" => "needs a `rule`".to_owned(),
        "middlewares" | "services" => {
            let kinds: Vec<&str> =
                keys().filter(|key| *key != "middlewares" || definition.section == "middlewares").collect();
            match kinds.as_slice() {
                [_] => return None,
                [] => "says nothing".to_owned(),
                more => format!("must be one thing, not {}", more.join(" and ")),
            }
        }
        _ => return None,
    };
    Some(Mistake::at(&definition.path, definition.line(""), format!("{} {text}", definition.title())))
}

/// Rules in the words of Traefik 2 are another language.
fn unreadable(definition: &Definition, statics: &Static) -> Option<Mistake> {
    let text = |key: &str| definition.value.get(key).and_then(Json::as_str);
    let is_old = text("ruleSyntax").map_or(statics.rules_are_old, |syntax| syntax == "v2");
    let rule = text("rule").filter(|rule| !rule.is_empty() && !is_old && definition.section == "routers")?;
    // What a secret is, only the host knows.
    let flaw = rule::flaw(rule, &definition.protocol).filter(|_| !taint::is_tainted(rule))?;
    let text = format!("{}: Traefik cannot read its rule: {flaw}", definition.title());
    Some(Mistake::at(&definition.path, definition.line("rule"), text))
}

fn unknown(
    definition: &Definition,
    refers: Refers,
    name: &str,
    definitions: &[Definition],
    statics: &Static,
) -> Option<String> {
    let known: Vec<&str> = match refers {
        Refers::EntryPoint => statics.entry_points.keys().map(String::as_str).collect(),
        Refers::Resolver => statics.resolvers.iter().map(String::as_str).collect(),
        _ => {
            let section = refers.section()?;
            let protocol = if refers == Refers::TlsOptions { "tls" } else { &definition.protocol };
            if exists(definitions, protocol, section, name, statics) {
                return None;
            }
            let named = |one: &&Definition| one.protocol == *protocol && one.section == section;
            definitions.iter().filter(named).map(|one| one.name.as_str()).collect()
        }
    };
    if known.contains(&name) {
        return None;
    }
    let hint = meant(name, &known);
    Some(format!("{}: there is no {} `{name}`{hint}", definition.title(), refers.noun()))
}

fn exists(definitions: &[Definition], protocol: &str, section: &str, name: &str, statics: &Static) -> bool {
    let (name, provider) = name.split_once('@').unwrap_or((name, "file"));
    match provider {
        "file" => {
            (section == "options" && name == "default")
                || definitions.iter().any(|one| one.protocol == protocol && one.section == section && one.name == name)
        }
        "internal" => INTERNAL.contains(&name),
        other => statics.providers.contains(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition;
    use super::super::statics::EntryPoint;
    use super::*;
    use serde_json::json;

    fn found(roots: &[(&str, Json)]) -> Vec<String> {
        let statics = Static {
            path: "stacks/traefik/compose.yaml".into(),
            entry_points: [("websecure".to_owned(), EntryPoint::default())].into(),
            resolvers: ["letsencrypt".to_owned()].into(),
            ..Static::default()
        };
        let definitions: Vec<Definition> = roots
            .iter()
            .flat_map(|(path, root)| {
                let root = root.as_object().unwrap();
                definition::definitions(root, &BTreeMap::new(), "traefik", path, &Source::File)
            })
            .collect();
        inspect(&definitions, &statics).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_that_nobody_defines_are_named_and_near_ones_offered() {
        let root = json!({"http": {
            "routers": {"a": {
                "rule": "Host(`a`)", "service": "b", "entryPoints": ["websecur"], "middlewares": ["m@file", "x@consul"],
                "tls": {"certResolver": "le", "options": "modern"},
            }},
            "services": {"bb": {"loadBalancer": {"serversTransport": "t"}}},
        }});
        assert_eq!(
            found(&[("f", root)]),
            [
                "f: router `a`: there is no entry point `websecur` (did you mean `websecure`?)",
                "f: router `a`: there is no middleware `m@file`",
                "f: router `a`: there is no middleware `x@consul`",
                "f: router `a`: there is no service `b` (did you mean `bb`?)",
                "f: router `a`: there is no set of TLS options `modern`",
                "f: router `a`: there is no certificate resolver `le`",
                "f: service `bb`: there is no servers transport `t`",
            ]
        );
    }

    #[test]
    fn what_is_there_is_found_with_and_without_its_provider() {
        let root = json!({"http": {
            "routers": {"a": {"rule": "Host(`x`)", "service": "api@internal", "middlewares": ["m@file", "m"], "tls": {"options": "default"}}},
            "middlewares": {"m": {"chain": {"middlewares": ["m"]}}},
        }});
        assert_eq!(found(&[("f", root)]), [] as [&str; 0]);
    }

    #[test]
    fn the_same_name_in_two_files_is_refused_and_half_things_too() {
        let router = json!({"http": {"routers": {"a": {"rule": "Host(`x`)", "service": "api@internal"}}}});
        assert_eq!(found(&[("f", router.clone()), ("g", router)]), ["g: router `a` is also defined in f"]);
        let root = json!({"http": {
            "routers": {"a": {"service": "api@internal"}},
            "middlewares": {"m": {}, "n": {"compress": {}, "retry": {"attempts": 1}}},
        }});
        assert_eq!(found(&[("f", root)]).len(), 3);
    }
}
