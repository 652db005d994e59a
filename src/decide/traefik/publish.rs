//! What goes into the directory that Traefik watches, and what Traefik's answer says about it. Writes and asks nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::definition::{self, Definition, Source};
use super::host::{STACK, Told};
use crate::decide::digest::DigestKey;
use crate::model::Secret;

/// The directory of the stack `traefik` that is published.
pub const DIRECTORY: &str = "dynamic";
/// What files that moorline adds there begin with. No file of the repository may.
pub const ADDED: &str = "moorline.";
/// The file with everything that Traefik is told. It is one, since Traefik would take up what lies between two renames
/// and keep it for `providersThrottleDuration`; and whoever has read its marker has read the whole.
pub const FILE: &str = "moorline.routes.yaml";
/// What the name of the marker begins with.
const MARKER: &str = "moorline-gen-";

/// Everything that Traefik shall read, at one time. Secrets may stand in it.
#[derive(Debug, Clone)]
pub struct Publication {
    /// [`FILE`], and what it refers to, such as certificates, by path below the directory.
    pub files: BTreeMap<String, Secret<Vec<u8>>>,
    /// The middleware that proves that this generation was read: ask for `<marker>@file`.
    pub marker: String,
}

impl Publication {
    /// The keyed digest of each file.
    pub fn digests(&self, key: &DigestKey) -> BTreeMap<String, String> {
        self.files.iter().map(|(name, bytes)| (name.clone(), key.of([bytes.expose().as_slice()]))).collect()
    }
}

/// The files of a generation. Traefik may know the marker of the same routes from before somebody edited them; another
/// `serial` gives them another marker.
///
/// The digest in the marker's name is keyed, since files may hold secrets and Traefik shows the name.
pub fn publish(told: &Told, key: &DigestKey, serial: u32) -> Publication {
    let by_labels = told.definitions.iter().filter(|definition| definition.source != Source::File);
    let mut root = definition::file_of(by_labels);
    for rendered in &told.rendered {
        merge(&mut root, &rendered.root);
    }
    let whole = root.to_string();
    let copied = told.copied.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes.as_slice()]);
    let serial = serial.to_be_bytes();
    let parts = [whole.as_bytes(), &serial].into_iter().chain(copied);
    let marker = format!("{MARKER}{}", &key.of(parts)[..16]);
    merge(&mut root, &json!({ "http": { "middlewares": { &marker: { "addPrefix": { "prefix": "/" } } } } }));
    let mut files: BTreeMap<String, Secret<Vec<u8>>> =
        told.copied.iter().map(|(name, bytes)| (name.clone(), Secret::new(bytes.clone()))).collect();
    files.insert(FILE.to_owned(), Secret::new(text(&root).into_bytes()));
    Publication { files, marker }
}

/// Adds what one file says to another: sections are put together, names in them differ (`inspect` saw to it).
fn merge(into: &mut Json, from: &Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(name) {
                    Some(there) => merge(there, value),
                    None => _ = into.insert(name.clone(), value.clone()),
                }
            }
        }
        (Json::Array(into), Json::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => into.clone_from(from),
    }
}

/// What one stack has to do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// The keyed digest of everything that it says.
    pub digest: String,
    /// How many routers it has.
    pub routes: usize,
}

/// What each stack says; stacks that say nothing are absent.
pub fn shares(told: &Told, key: &DigestKey) -> BTreeMap<String, Share> {
    let mut parts: BTreeMap<&str, (Vec<Vec<u8>>, usize)> = BTreeMap::new();
    for one in &told.definitions {
        let (said, routes) = parts.entry(&one.stack).or_default();
        said.push(json!([one.protocol, one.section, one.name, one.value]).to_string().into_bytes());
        *routes += usize::from(one.section == "routers");
    }
    for (name, bytes) in &told.copied {
        let (said, _) = parts.entry(STACK).or_default();
        said.extend([name.clone().into_bytes(), bytes.clone()]);
    }
    let share = |(stack, (said, routes)): (&str, (Vec<Vec<u8>>, usize))| {
        (stack.to_owned(), Share { digest: key.of(said.iter().map(Vec::as_slice)), routes })
    };
    parts.into_iter().map(share).collect()
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
    /// The stack that defines it.
    pub stack: String,
    /// The file in the repository that does, with the line.
    pub place: String,
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
        stack: router.stack.clone(),
        place: match router.line("rule").or_else(|| router.line("")) {
            Some(line) => format!("{}:{line}", router.path),
            None => router.path.clone(),
        },
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
    use super::super::file::Rendered;
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

    fn told(definitions: Vec<Definition>) -> Told {
        Told { definitions, ..Told::default() }
    }

    #[test]
    fn another_content_is_another_generation_and_the_same_is_the_same() {
        let key = DigestKey::new(vec![1; 32]);
        let one = publish(&told(vec![router("a")]), &key, 0);
        assert_eq!(one.marker, publish(&told(vec![router("a")]), &key, 0).marker);
        assert_ne!(one.marker, publish(&told(vec![router("b")]), &key, 0).marker);
        assert_ne!(one.marker, publish(&told(vec![router("a")]), &DigestKey::new(vec![2; 32]), 0).marker);
        assert_ne!(one.marker, publish(&told(vec![router("a")]), &key, 1).marker);
        let copied = Told { copied: [("pem".to_owned(), b"x".to_vec())].into(), ..told(vec![router("a")]) };
        assert_ne!(one.marker, publish(&copied, &key, 0).marker);
        assert_eq!(publish(&copied, &key, 0).digests(&key).keys().collect::<Vec<_>>(), [FILE, "pem"]);
        let text = String::from_utf8(one.files[FILE].expose().clone()).unwrap();
        assert!(text.contains(&one.marker), "{text}");
        assert!(!format!("{one:?}").contains("Host"), "{one:?}");
    }

    #[test]
    fn files_and_labels_become_one_file() {
        let rendered = |root: Json| Rendered { name: "a.yaml".into(), root };
        let told = Told {
            rendered: vec![
                rendered(json!({"http": {"routers": {"b": {"rule": "Host(`b`)"}}}, "tls": {"certificates": [1]}})),
                rendered(json!({"http": {"middlewares": {"m": {}}}, "tls": {"certificates": [2]}})),
            ],
            ..told(vec![router("a")])
        };
        let publication = publish(&told, &DigestKey::new(vec![1; 32]), 0);
        let text = String::from_utf8(publication.files[FILE].expose().clone()).unwrap();
        let read: Json = serde_yaml::from_str(&text).unwrap();
        assert_eq!(read["http"]["routers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read["http"]["middlewares"].as_object().unwrap().len(), 2);
        assert_eq!(read["tls"]["certificates"], json!([1, 2]));
    }

    #[test]
    fn each_stack_has_its_share() {
        let key = DigestKey::new(vec![1; 32]);
        let other = Definition { stack: "shop".into(), ..router("b") };
        let both = shares(&told(vec![router("a"), other.clone()]), &key);
        assert_eq!(both["web"], shares(&told(vec![router("a")]), &key)["web"]);
        assert_eq!(both["shop"].routes, 1);
        assert_eq!(shares(&told(Vec::new()), &key), BTreeMap::new());
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
