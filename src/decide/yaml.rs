//! Reads YAML that others wrote, within limits: the one place of moorline that does.
//!
//! The limits hold for the text and for what its aliases unfold to, so that no file can cost more than a moment and
//! a few megabytes (docs/facts.md, G2). SOPS files are the exception: their decoder has to see comments, tags and
//! styles, and has limits of its own in `sops/limits.rs`.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Budget, Error, Options};

/// How many bytes a file may have. Ours are small; anything larger is a mistake or an attack.
pub const LARGEST: usize = 256 * 1024;
/// How many bytes all its texts may have together, with aliases counted as often as they are used.
const UNFOLDED: usize = 4 * 1024 * 1024;
/// How many values and keys it may have, with aliases counted as often as they are used.
const VALUES: usize = 50_000;
/// How deep lists and mappings may stand in one another. Also what keeps the stack small.
const DEPTH: usize = 64;
/// The shown part of what a reader has to say: it may quote the file.
const SHOWN: usize = 200;

/// How much larger than a file of a user the output of the Compose plugin may be. The plugin itself is bounded too,
/// see `world/compose.rs`.
const OUTPUT: usize = 32;

/// Why a text cannot be used, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Flaw {
    /// Line and column, from 1, where they are known.
    pub place: Option<(usize, usize)>,
    /// Whether a limit was hit.
    pub kind: Kind,
    /// What is wrong.
    pub text: String,
}

/// What kind of flaw it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not YAML, or not what is expected here.
    Content,
    /// It costs more than it may.
    Cost,
}

/// Reads one document.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Flaw> {
    within(text, LARGEST)?;
    serde_saphyr::from_str_with_options(text, options(1)).map_err(|error| flaw(&error))
}

/// Reads one document that may be as large as the output of the Compose plugin.
pub fn read_output<T: DeserializeOwned>(text: &str) -> Result<T, Flaw> {
    within(text, OUTPUT * LARGEST)?;
    serde_saphyr::from_str_with_options(text, options(OUTPUT)).map_err(|error| flaw(&error))
}

/// Whether a text that somebody else will read costs no more than it may. What it means, and whether it is YAML at
/// all, is that reader's business.
pub fn weigh(text: &str) -> Result<(), Flaw> {
    let weighed = serde_saphyr::from_multiple_with_options::<Weighed>(text, options(1));
    match weighed.map_err(|error| flaw(&error)) {
        Err(flaw) if flaw.kind == Kind::Cost => Err(flaw),
        _ => Ok(()),
    }
}

fn within(text: &str, most: usize) -> Result<(), Flaw> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Flaw { place: None, kind: Kind::Cost, text: format!("is larger than {} KiB", most / 1024) })
}

fn options(times: usize) -> Options {
    let mut budget = Budget::default();
    budget.max_depth = DEPTH;
    budget.flow_nesting_limit = DEPTH;
    budget.max_nodes = VALUES * times;
    budget.max_events = 4 * VALUES * times;
    budget.max_total_scalar_bytes = UNFOLDED * times;
    budget.max_recorded_anchor_bytes = UNFOLDED * times;
    budget.max_recorded_anchor_events = 4 * VALUES * times;
    // Real files use one anchor in a hundred places; what that costs is counted above.
    budget.enforce_alias_anchor_ratio = false;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.non_finite_float_policy = NonFiniteFloatPolicy::Reject;
    // Only `true` and `false`, as Compose has it: `NO` is Norway.
    options.strict_booleans = true;
    // The places we print; a piece of the file around them might be a secret that somebody left in clear.
    options.with_snippet = false;
    options
}

/// A document that is walked through, aliases too, and not kept.
struct Weighed;

impl<'de> serde::Deserialize<'de> for Weighed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

macro_rules! leaves {
    ($($method:ident $leaf:ty),*) => {
        $(fn $method<E>(self, _: $leaf) -> Result<Weighed, E> {
            Ok(Weighed)
        })*
    };
}

impl<'de> Visitor<'de> for Walk {
    type Value = Weighed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    leaves!(visit_bool bool, visit_i64 i64, visit_u64 u64, visit_i128 i128, visit_u128 u128, visit_f64 f64,
        visit_str &str, visit_bytes &[u8]);

    fn visit_unit<E>(self) -> Result<Weighed, E> {
        Ok(Weighed)
    }

    fn visit_none<E>(self) -> Result<Weighed, E> {
        Ok(Weighed)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Weighed, D::Error> {
        deserializer.deserialize_any(Walk)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Weighed, A::Error> {
        while items.next_element::<Weighed>()?.is_some() {}
        Ok(Weighed)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Weighed, A::Error> {
        while entries.next_entry::<IgnoredAny, Weighed>()?.is_some() {}
        Ok(Weighed)
    }
}

/// What the reader has to say, in our words where a person has to act on it.
fn flaw(error: &Error) -> Flaw {
    let error = error.without_snippet();
    let place = error.location().and_then(|place| {
        Some((usize::try_from(place.line()).ok()?, usize::try_from(place.column()).ok()?)).filter(|(line, _)| *line > 0)
    });
    let spoken = error.to_string();
    // By its words: inside of an alias, the library hands on nothing but words.
    let begins = |words: &[&str]| words.iter().any(|words| spoken.starts_with(words));
    let (kind, text) = match error {
        _ if begins(&["budget breached: Depth", "recursion limit exceeded"]) => {
            (Kind::Cost, format!("lists and mappings stand more than {DEPTH} deep in one another"))
        }
        _ if begins(&["budget breached", "alias replay", "alias expansion"]) => {
            let most = UNFOLDED / 1024 / 1024;
            let text = format!("unfolds to more than {VALUES} values or {most} MiB, counting each use of an alias");
            (Kind::Cost, text)
        }
        Error::MultipleDocuments { .. } => (Kind::Content, "holds more than one document".into()),
        Error::DuplicateMappingKey { key: Some(key), .. } => (Kind::Content, format!("`{key}` stands here twice")),
        Error::Eof { .. } => (Kind::Content, "is empty, or ends too early".into()),
        _ => (Kind::Content, spoken),
    };
    // The library adds the place to its message; ours stands in front.
    let text = text.split(" at line ").next().unwrap_or(&text).split(" (defined at").next().unwrap_or_default();
    Flaw { place, kind, text: text.chars().take(SHOWN).flat_map(printable).collect() }
}

fn printable(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_debug());
    let plain = (!character.is_control()).then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value as Json, json};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Host {
        ring: String,
        stacks: Vec<String>,
    }

    fn place(text: &str) -> (usize, usize, String) {
        let flaw = read::<Host>(text).unwrap_err();
        let (line, column) = flaw.place.unwrap_or_default();
        (line, column, flaw.text)
    }

    #[test]
    fn mistakes_of_form_and_of_meaning_have_a_line_and_a_column() {
        let found = |line, column, text: &str| (line, column, text.to_owned());
        assert_eq!(place("ring: a\nstacks: 3\n"), found(2, 9, "expected sequence start"));
        assert_eq!(place("ring: a\nstacks:\n  - a\n  - {b: 1}\n"), found(4, 5, "expected string scalar"));
        assert_eq!(place("ring: a\nstack: []\n"), found(2, 1, "unknown field `stack`, expected one of ring, stacks"));
        assert_eq!(place("ring: a\nring: b\nstacks: []\n"), found(2, 1, "`ring` stands here twice"));
        assert_eq!(place("ring: &a x\nstacks: [*b]\n"), found(2, 10, "alias references unknown anchor"));
        assert_eq!(place("ring: a\nstacks: []\n---\nring: b\n").2, "holds more than one document");
        assert_eq!(place("ring:\n\tx: y\n").0, 2);
        assert_eq!(place("").2, "is empty, or ends too early");
    }

    #[test]
    fn scalars_mean_what_they_mean_to_compose() {
        let text = "{a: yes, b: off, c: true, d: 0o17, e: 2024-01-01, f: 22:22, g: ~, h: 1.5, i: NO, j: '0755'}";
        let expected = json!({"a": "yes", "b": "off", "c": true, "d": 15, "e": "2024-01-01", "f": "22:22", "g": null,
            "h": 1.5, "i": "NO", "j": "0755"});
        assert_eq!(read::<Json>(text), Ok(expected));
        assert_eq!(read::<Json>("a: &a {b: 1}\nc: &c {<<: *a}\nd: {<<: *c}").unwrap()["d"], json!({"b": 1}));
        assert_eq!(read::<Json>("\u{feff}a: !reset 1\n"), Ok(json!({"a": 1})));
    }

    #[test]
    fn what_is_quoted_from_a_file_cannot_move_a_cursor_or_fill_a_screen() {
        let flaw = read::<Host>(&format!("\"\\e[2J{}\": 1\n", "x".repeat(900))).unwrap_err();
        assert!(flaw.text.contains("\\u{1b}[2J") && flaw.text.len() < 300, "{}", flaw.text);
    }

    #[test]
    fn what_another_program_will_read_is_weighed_and_not_judged() {
        assert_eq!(weigh("a: 1\na: 2\n---\n? [x]\n: !x y\n"), Ok(()));
        assert_eq!(weigh("no: yaml: at: all\n\t}"), Ok(()));
        let bomb = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(50));
        assert_eq!(weigh(&bomb).unwrap_err().kind, Kind::Cost);
    }
}
