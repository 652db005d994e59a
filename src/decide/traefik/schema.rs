//! What Traefik's dynamic configuration may say: one table for labels and for files. Judges nothing itself.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::decide::mistake::meant;

/// The table, as text that a person can compare with Traefik's reference.
const TABLE: &str = include_str!("schema.txt");

/// The root group.
pub const ROOT: &str = "root";

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refers {
    /// An entry point of the static configuration.
    EntryPoint,
    /// A certificate resolver of the static configuration.
    Resolver,
    /// A router of the same protocol.
    Router,
    /// A service of the same protocol.
    Service,
    /// A middleware of the same protocol.
    Middleware,
    /// A servers transport of the same protocol.
    ServersTransport,
    /// TLS options.
    TlsOptions,
}

impl Refers {
    /// What a person calls it.
    pub fn noun(self) -> &'static str {
        match self {
            Refers::EntryPoint => "entry point",
            Refers::Resolver => "certificate resolver",
            Refers::Router => "router",
            Refers::Service => "service",
            Refers::Middleware => "middleware",
            Refers::ServersTransport => "servers transport",
            Refers::TlsOptions => "set of TLS options",
        }
    }

    /// The key of the map in which it is defined, for what the dynamic configuration defines.
    pub fn section(self) -> Option<&'static str> {
        match self {
            Refers::EntryPoint | Refers::Resolver => None,
            Refers::Router => Some("routers"),
            Refers::Service => Some("services"),
            Refers::Middleware => Some("middlewares"),
            Refers::ServersTransport => Some("serversTransports"),
            Refers::TlsOptions => Some("options"),
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`, as Go reads them.
    Bool,
    /// A whole number.
    Int,
    /// Seconds, or a duration as Go writes it.
    Duration,
    /// Whatever a plugin takes.
    Any,
    /// The name of something.
    Name(Refers),
    /// A list.
    List(Box<Kind>),
    /// A map from names that the user chooses.
    Map(Box<Kind>),
    /// Keys that Traefik chooses.
    Group(String),
}

impl Kind {
    fn read(word: &str) -> Self {
        let inner = |open: char, close: char| word.strip_prefix(open)?.strip_suffix(close);
        if let Some(inner) = inner('[', ']') {
            return Kind::List(Box::new(Self::read(inner)));
        }
        if let Some(inner) = inner('{', '}') {
            return Kind::Map(Box::new(Self::read(inner)));
        }
        match word {
            "string" => Kind::Text,
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "duration" => Kind::Duration,
            "any" => Kind::Any,
            "@entryPoint" => Kind::Name(Refers::EntryPoint),
            "@resolver" => Kind::Name(Refers::Resolver),
            "@router" => Kind::Name(Refers::Router),
            "@service" => Kind::Name(Refers::Service),
            "@middleware" => Kind::Name(Refers::Middleware),
            "@serversTransport" => Kind::Name(Refers::ServersTransport),
            "@tlsOptions" => Kind::Name(Refers::TlsOptions),
            group => Kind::Group(group.to_owned()),
        }
    }

    /// What a person is told that must stand there.
    pub fn wanted(&self) -> String {
        match self {
            Kind::Text | Kind::Any => "text".into(),
            Kind::Bool => "`true` or `false`".into(),
            Kind::Int => "a whole number".into(),
            Kind::Duration => "a duration such as `10s`".into(),
            Kind::Name(refers) => format!("the name of a {}", refers.noun()),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) | Kind::Group(_) => "a mapping".into(),
        }
    }
}

/// Who may say a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Labels and files.
    Both,
    /// Files.
    FileOnly,
    /// Labels.
    LabelOnly,
}

/// One key of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The key in a file.
    pub name: String,
    /// What stands there.
    pub kind: Kind,
    /// Who may say it.
    pub speaker: Speaker,
    /// Whether it means something with nothing below it.
    pub may_be_empty: bool,
    /// The key in a label, where it is another one: then there is one element instead of a list.
    pub single: Option<String>,
}

impl Field {
    /// The key in a label.
    pub fn label(&self) -> &str {
        self.single.as_deref().unwrap_or(&self.name)
    }
}

/// The whole table.
#[derive(Debug)]
pub struct Schema {
    groups: BTreeMap<String, Vec<Field>>,
}

impl Schema {
    /// The one of the Traefik version that this agent knows.
    pub fn known() -> &'static Self {
        static KNOWN: LazyLock<Schema> = LazyLock::new(|| Schema::read(TABLE));
        &KNOWN
    }

    fn read(table: &str) -> Self {
        let mut groups: BTreeMap<String, Vec<Field>> = BTreeMap::new();
        let mut group = String::new();
        for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let Some(line) = line.strip_prefix("  ") else {
                group = line.to_owned();
                groups.entry(group.clone()).or_default();
                continue;
            };
            let mut words = line.split(' ');
            let (Some(name), Some(kind)) = (words.next(), words.next()) else { continue };
            let mut field = Field {
                name: name.to_owned(),
                kind: Kind::read(kind),
                speaker: Speaker::Both,
                may_be_empty: false,
                single: None,
            };
            for note in words {
                match note {
                    "file" => field.speaker = Speaker::FileOnly,
                    "label" => field.speaker = Speaker::LabelOnly,
                    "empty" => field.may_be_empty = true,
                    other => field.single = other.strip_prefix("as=").map(str::to_owned),
                }
            }
            groups.entry(group.clone()).or_default().push(field);
        }
        Self { groups }
    }

    /// The keys of a group.
    pub fn group(&self, name: &str) -> &[Field] {
        self.groups.get(name).map_or(&[], Vec::as_slice)
    }

    /// The key of a group that a label or a file means. Traefik does not tell capitals from small letters.
    pub fn field(&self, group: &str, key: &str, speaker: Speaker) -> Result<&Field, Unknown> {
        let spelled = |field: &&Field| match speaker {
            Speaker::LabelOnly => field.label().eq_ignore_ascii_case(key),
            _ => field.name.eq_ignore_ascii_case(key),
        };
        let found = self.group(group).iter().find(spelled);
        match found {
            Some(field) if field.speaker == Speaker::Both || field.speaker == speaker => Ok(field),
            Some(_) if speaker == Speaker::LabelOnly => Err(Unknown::OnlyInFiles),
            _ => {
                let sayable = |field: &&Field| field.speaker == Speaker::Both || field.speaker == speaker;
                let known = self.group(group).iter().filter(sayable);
                let known: Vec<&str> = known
                    .map(|field| if speaker == Speaker::LabelOnly { field.label() } else { &field.name })
                    .collect();
                // Spelling is compared without capitals, as Traefik compares.
                let lower: Vec<String> = known.iter().map(|name| name.to_lowercase()).collect();
                let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
                let mut hint = meant(&key.to_lowercase(), &lower);
                for name in known {
                    hint = hint.replace(&format!("`{}`", name.to_lowercase()), &format!("`{name}`"));
                }
                Err(Unknown::Nowhere(hint))
            }
        }
    }

    /// Every leaf as labels and files spell it, for documents and tests: path, type, who may say it.
    pub fn leaves(&self) -> Vec<Leaf> {
        let mut found = Vec::new();
        self.descend(ROOT, &Leaf::root(), &mut found);
        found
    }

    fn descend(&self, group: &str, above: &Leaf, found: &mut Vec<Leaf>) {
        for field in self.group(group) {
            let mut leaf = above.below(field);
            let mut kind = &field.kind;
            loop {
                match kind {
                    Kind::Map(inner) => {
                        leaf.file.push_str(".<name>");
                        leaf.label.push_str(".<name>");
                        kind = inner;
                    }
                    Kind::List(inner) if matches!(**inner, Kind::Group(_)) => {
                        leaf.file.push_str("[n]");
                        if field.single.is_none() {
                            leaf.label.push_str("[n]");
                        }
                        kind = inner;
                    }
                    _ => break,
                }
            }
            leaf.kind = kind.clone();
            match kind {
                Kind::Group(name) => {
                    if field.may_be_empty || self.group(name).is_empty() {
                        found.push(leaf.clone());
                    }
                    self.descend(name, &leaf, found);
                }
                _ => found.push(leaf),
            }
        }
    }
}

/// A place where a value can stand.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its path in a file.
    pub file: String,
    /// Its path in a label, after `traefik.`.
    pub label: String,
    /// What stands there.
    pub kind: Kind,
    /// Who may say it.
    pub speaker: Speaker,
}

impl Leaf {
    fn root() -> Self {
        Self { file: String::new(), label: String::new(), kind: Kind::Any, speaker: Speaker::Both }
    }

    fn below(&self, field: &Field) -> Self {
        let join = |path: &str, name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let speaker = if self.speaker == Speaker::Both { field.speaker } else { self.speaker };
        Self {
            file: join(&self.file, &field.name),
            label: join(&self.label, &field.label().to_lowercase()),
            kind: field.kind.clone(),
            speaker,
        }
    }
}

/// Why a key is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Traefik has it, but reads it from files only.
    OnlyInFiles,
    /// Traefik does not have it; with a hint that may be empty.
    Nowhere(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_that_is_used_is_in_the_table_and_every_group_in_the_table_is_used() {
        let schema = Schema::known();
        let mut used = vec![ROOT.to_owned()];
        for field in schema.groups.values().flatten() {
            let mut kind = &field.kind;
            while let Kind::List(inner) | Kind::Map(inner) = kind {
                kind = inner;
            }
            if let Kind::Group(name) = kind {
                assert!(schema.groups.contains_key(name), "{name}");
                used.push(name.clone());
            }
        }
        for name in schema.groups.keys() {
            assert!(used.contains(name), "{name}");
        }
        assert!(schema.leaves().len() > 300, "{}", schema.leaves().len());
    }

    #[test]
    fn keys_are_found_without_regard_to_capitals_and_near_ones_are_offered() {
        let schema = Schema::known();
        assert_eq!(schema.field("router", "ENTRYPOINTS", Speaker::LabelOnly).unwrap().name, "entryPoints");
        let unknown = schema.field("router", "entrypoint", Speaker::LabelOnly).unwrap_err();
        assert_eq!(unknown, Unknown::Nowhere(" (did you mean `entryPoints`?)".into()));
        assert_eq!(schema.field("service", "weighted", Speaker::LabelOnly), Err(Unknown::OnlyInFiles));
        assert_eq!(schema.field("serversLoadBalancer", "server", Speaker::LabelOnly).unwrap().name, "servers");
        assert!(schema.field("server", "port", Speaker::FileOnly).is_err());
    }
}
