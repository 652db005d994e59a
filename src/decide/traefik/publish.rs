//! What goes into the directory that Traefik watches, and what Traefik's answer says about it. Writes and asks nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::definition::{self, Definition, Source};
use super::file::Rendered;
use crate::decide::digest::DigestKey;

/// The directory of the stack `traefik` that is published.
pub const DIRECTORY: &str = "dynamic";
/// What files that moorline adds there begin with. No file of the repository may.
pub const ADDED: &str = "moorline.";
/// The file with the marker. It is read with all the others, so a generation that shows it has them all.
pub const MARKER_FILE: &str = "moorline.generation.yaml";
/// What the name of the marker begins with.
const MARKER: &str = "moorline-gen-";

/// One file as Traefik shall read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether a secret stands in it: then it lives in memory only.
    pub tainted: bool,
}

/// Everything that Traefik shall read, at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// By file name, with the marker.
    pub files: BTreeMap<String, Content>,
    /// The middleware that proves that this generation was read: ask for `<marker>@file`.
    pub marker: String,
}

/// The files of a generation: one for each stack with labels, the rendered ones of the repository, and the marker.
///
/// The digest in the marker's name is keyed, since files may hold secrets and Traefik shows the name.
pub fn publish(definitions: &[Definition], rendered: &[Rendered], key: &DigestKey) -> Publication {
    let mut files = BTreeMap::new();
    let mut stacks: BTreeMap<&str, Vec<&Definition>> = BTreeMap::new();
    for definition in definitions.iter().filter(|definition| definition.source != Source::File) {
        stacks.entry(&definition.stack).or_default().push(definition);
    }
    for (stack, definitions) in stacks {
        let bytes = text(&definition::file_of(definitions)).into_bytes();
        files.insert(file_of_stack(stack), Content { bytes, tainted: false });
    }
    for rendered in rendered {
        let content = Content { bytes: rendered.bytes.clone(), tainted: rendered.tainted };
        files.insert(rendered.name.clone(), content);
    }
    let parts = files.iter().flat_map(|(name, content)| [name.as_bytes(), content.bytes.as_slice()]);
    let marker = format!("{MARKER}{}", &key.of(parts)[..16]);
    let middleware = json!({ "http": { "middlewares": { &marker: { "addPrefix": { "prefix": "/" } } } } });
    let content = Content { bytes: text(&middleware).into_bytes(), tainted: false };
    files.insert(MARKER_FILE.to_owned(), content);
    Publication { files, marker }
}

/// The file with the labels of a stack.
pub fn file_of_stack(stack: &str) -> String {
    format!("{ADDED}{stack}.yaml")
}

/// A dynamic file. Every text is quoted: what looks like a number or a date to one YAML reader is text to another.
pub fn text(root: &Json) -> String {
    let mut text = String::from("# Written by moorline; changes are undone.\n");
    match root {
        Json::Object(fields) if !fields.is_empty() => mapping(fields, 0, &mut text),
        _ => text.push_str("{}\n"),
    }
    // Traefik reads every dynamic file as a Go template first.
    text.replace("{{", "{{\"{{\"}}")
}

fn mapping(fields: &Map<String, Json>, depth: usize, text: &mut String) {
    for (name, value) in fields {
        text.push_str(&"  ".repeat(depth));
        text.push_str(&Json::String(name.clone()).to_string());
        text.push(':');
        below(value, depth, text);
    }
}

fn below(value: &Json, depth: usize, text: &mut String) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            mapping(fields, depth + 1, text);
        }
        Json::Array(items) if !items.is_empty() => {
            text.push('\n');
            for item in items {
                text.push_str(&"  ".repeat(depth + 1));
                text.push('-');
                match item {
                    Json::Object(fields) if !fields.is_empty() => {
                        // A mapping in a list begins on a line of its own, one step further in.
                        text.push('\n');
                        mapping(fields, depth + 2, text);
                    }
                    item => below(item, depth + 1, text),
                }
            }
        }
        // One line: `{}` and `[]` must not become a template's braces with what stands beside them.
        scalar => text.push_str(&format!(" {scalar}\n")),
    }
}

/// How Traefik sees a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Enabled,
    /// It does not serve, or not as written, and why.
    Disabled(Vec<String>),
    /// Traefik does not have it.
    Absent,
}

/// One router of ours, as Traefik sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterState {
    /// `http`, `tcp` or `udp`.
    pub protocol: String,
    /// The name.
    pub name: String,
    /// What Traefik says.
    pub state: State,
}

/// What Traefik's `/api/rawdata` says about a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it has read this generation. While it has not, the routers are those of an older one.
    pub loaded: bool,
    /// Our routers.
    pub routers: Vec<RouterState>,
}

impl Judgement {
    /// Whether the generation is in force, and every router of it.
    pub fn is_good(&self) -> bool {
        self.loaded && self.routers.iter().all(|router| router.state == State::Enabled)
    }
}

/// Reads `/api/rawdata`. `marker` is that of the generation that should be in force.
pub fn judge(rawdata: &Json, definitions: &[Definition], marker: &str) -> Judgement {
    let loaded = rawdata.get("middlewares").and_then(|all| all.get(format!("{marker}@file"))).is_some();
    let routers = definitions.iter().filter(|definition| definition.section == "routers");
    let routers = routers.map(|router| RouterState {
        protocol: router.protocol.clone(),
        name: router.name.clone(),
        state: state(rawdata, &router.protocol, &router.name),
    });
    Judgement { loaded, routers: routers.collect() }
}

/// The state of one router of the file provider.
pub fn state(rawdata: &Json, protocol: &str, name: &str) -> State {
    let all = if protocol == "http" { "routers".to_owned() } else { format!("{protocol}Routers") };
    let Some(router) = rawdata.get(all).and_then(|all| all.get(format!("{name}@file"))) else {
        return State::Absent;
    };
    let errors = router.get("error").and_then(Json::as_array).into_iter().flatten();
    let errors: Vec<String> = errors.filter_map(|error| error.as_str().map(str::to_owned)).collect();
    match router.get("status").and_then(Json::as_str) {
        Some("enabled") => State::Enabled,
        _ => State::Disabled(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(name: &str) -> Definition {
        Definition {
            protocol: "http".into(),
            section: "routers".into(),
            name: name.into(),
            value: json!({ "rule": "Host(`a`)", "service": "a" }),
            stack: "web".into(),
            source: Source::Labels { service: "web".into() },
            path: "stacks/web/compose.yaml".into(),
            lines: BTreeMap::new(),
        }
    }

    #[test]
    fn text_is_quoted_and_no_template_begins_in_it() {
        let root = json!({"a": {"b": ["x", {"c": 1, "d": {}}], "1_000": "{{ env }}", "e": true}});
        let expected = "# Written by moorline; changes are undone.\n\"a\":\n  \"b\":\n    - \"x\"\n    -\n      \
                        \"c\": 1\n      \"d\": {}\n  \"1_000\": \"{{\"{{\"}} env }}\"\n  \"e\": true\n";
        assert_eq!(text(&root), expected);
        let read: Json = serde_yaml::from_str(&text(&root).replace("{{\"{{\"}}", "{{")).unwrap();
        assert_eq!(read, root);
    }

    #[test]
    fn another_content_is_another_generation_and_the_same_is_the_same() {
        let key = DigestKey::new(vec![1; 32]);
        let one = publish(&[router("a")], &[], &key);
        assert_eq!(one, publish(&[router("a")], &[], &key));
        let two = publish(&[router("b")], &[], &key);
        assert_ne!(one.marker, two.marker);
        assert_ne!(one.marker, publish(&[router("a")], &[], &DigestKey::new(vec![2; 32])).marker);
        assert_eq!(one.files.keys().collect::<Vec<_>>(), ["moorline.generation.yaml", "moorline.web.yaml"]);
        let marker = String::from_utf8(one.files[MARKER_FILE].bytes.clone()).unwrap();
        assert!(marker.contains(&one.marker), "{marker}");
    }

    #[test]
    fn a_generation_is_good_when_it_was_read_and_every_router_serves() {
        let rawdata = json!({
            "middlewares": {"moorline-gen-1@file": {}},
            "routers": {
                "good@file": {"status": "enabled"},
                "bad@file": {"status": "disabled", "error": ["the service \"x@file\" does not exist"]},
                "other@internal": {"status": "disabled"},
            },
        });
        assert!(judge(&rawdata, &[router("good")], "moorline-gen-1").is_good());
        assert!(!judge(&rawdata, &[router("good")], "moorline-gen-2").is_good());
        let found = judge(&rawdata, &[router("bad"), router("gone")], "moorline-gen-1");
        let reason = "the service \"x@file\" does not exist".to_owned();
        assert_eq!(found.routers[0].state, State::Disabled(vec![reason]));
        assert_eq!(found.routers[1].state, State::Absent);
    }
}
