//! Reads `.sops.yaml`: for whom `sops` would seal a file.
//!
//! Follows SOPS: the first rule whose `path_regex` matches wins, one without matches everything, and `key_groups`
//! replace what stands beside them. Reads age recipients only; says so where it cannot read a rule, and does not guess.

use regex::Regex;
use serde_json::Value;

use super::go_regex;
use super::limits::MAX_DEPTH;
use crate::decide::yaml;

/// The creation rules of a `.sops.yaml`.
#[derive(Debug)]
pub struct CreationRules(Vec<Result<CreationRule, String>>);

#[derive(Debug)]
struct CreationRule {
    /// Absent where the rule is for every file.
    path: Option<Regex>,
    recipients: Vec<String>,
}

/// What the rules say about one file.
#[derive(Debug, PartialEq, Eq)]
pub enum SealFor<'r> {
    /// These age recipients.
    Recipients(&'r [String]),
    /// No rule is for this file: `sops` refuses to seal it.
    Nobody,
    /// A rule that may be the one for this file cannot be read.
    Unknown(&'r str),
}

impl CreationRules {
    /// Reads the file. `None` if it is no YAML or its rules are no list.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let file: Value = yaml::read(std::str::from_utf8(bytes).ok()?).ok()?;
        let rules = match file.get("creation_rules") {
            None | Some(Value::Null) => &Vec::new(),
            Some(rules) => rules.as_array()?,
        };
        let read = |(index, rule): (usize, &Value)| {
            CreationRule::read(rule).map_err(|problem| format!("rule {} of .sops.yaml: {problem}", index + 1))
        };
        Some(Self(rules.iter().enumerate().map(read).collect()))
    }

    /// Which rule, from 0, is the one for a file at this path; `Err` when a rule before it cannot be read.
    pub fn index_for(&self, path: &str) -> Result<Option<usize>, &str> {
        for (index, rule) in self.0.iter().enumerate() {
            match rule {
                Ok(rule) if rule.path.as_ref().is_none_or(|regex| regex.is_match(path)) => return Ok(Some(index)),
                Ok(_) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(None)
    }

    /// For whom a file at this path, seen from `.sops.yaml`, is sealed.
    pub fn of(&self, path: &str) -> SealFor<'_> {
        for rule in &self.0 {
            match rule {
                Ok(rule) if rule.path.as_ref().is_none_or(|regex| regex.is_match(path)) => {
                    return SealFor::Recipients(&rule.recipients);
                }
                Ok(_) => {}
                Err(problem) => return SealFor::Unknown(problem),
            }
        }
        SealFor::Nobody
    }
}

impl CreationRule {
    fn read(rule: &Value) -> Result<Self, String> {
        if !rule.is_object() {
            return Err("it is not a mapping".into());
        }
        let path = match rule.get("path_regex") {
            None | Some(Value::Null) => None,
            Some(Value::String(go)) if go.is_empty() => None,
            Some(Value::String(go)) => Some(compile(go).ok_or("`path_regex` cannot be read")?),
            Some(_) => return Err("`path_regex` is not a text".into()),
        };
        let mut recipients = Vec::new();
        match rule.get("key_groups") {
            None | Some(Value::Null) => collect(rule, &mut recipients, 0)?,
            Some(Value::Array(groups)) if groups.is_empty() => collect(rule, &mut recipients, 0)?,
            Some(Value::Array(groups)) => {
                for group in groups {
                    collect(group, &mut recipients, 0)?;
                }
            }
            Some(_) => return Err("`key_groups` is not a list".into()),
        }
        Ok(Self { path, recipients })
    }
}

/// As SOPS compiles it. The size is bounded: a rule of a pull request is not yet trusted.
fn compile(go: &str) -> Option<Regex> {
    let translated = go_regex::translate(go)?;
    regex::RegexBuilder::new(&translated).size_limit(1 << 20).nest_limit(100).build().ok()
}

/// The age recipients of a rule or a key group, each once.
fn collect(holder: &Value, recipients: &mut Vec<String>, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("`merge` is nested too deep".into());
    }
    let listed: Vec<&str> = match holder.get("age") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split(',').collect(),
        Some(Value::Array(items)) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.ok_or("`age` holds something that is not a text")?
        }
        Some(_) => return Err("`age` is neither a text nor a list".into()),
    };
    for recipient in listed.into_iter().map(str::trim).filter(|recipient| !recipient.is_empty()) {
        if !recipients.iter().any(|known| known == recipient) {
            recipients.push(recipient.to_owned());
        }
    }
    for group in holder.get("merge").and_then(Value::as_array).into_iter().flatten() {
        collect(group, recipients, depth + 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> CreationRules {
        CreationRules::read(text.as_bytes()).unwrap()
    }

    fn sealed_for(text: &str, path: &str) -> Vec<String> {
        match rules(text).of(path) {
            SealFor::Recipients(recipients) => recipients.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_rule_that_matches_wins_and_one_without_a_path_matches_all() {
        let text = "creation_rules:\n  - {path_regex: '^hosts/a/', age: x}\n  - {path_regex: hosts, age: y}\n  - {age: z}\n  - {path_regex: stacks, age: never}\n";
        assert_eq!(sealed_for(text, "hosts/a/s.sops.yaml"), ["x"]);
        assert_eq!(sealed_for(text, "hosts/b/s.sops.yaml"), ["y"]);
        assert_eq!(sealed_for(text, "stacks/s.sops.yaml"), ["z"]);
        assert_eq!(rules("creation_rules: [{path_regex: a, age: x}]").of("b"), SealFor::Nobody);
        assert_eq!(rules("stores: {}").of("b"), SealFor::Nobody);
    }

    #[test]
    fn recipients_are_a_text_with_commas_or_a_list_or_stand_in_groups() {
        assert_eq!(sealed_for("creation_rules: [{age: ' x , y,, x'}]", "f"), ["x", "y"]);
        assert_eq!(sealed_for("creation_rules:\n  - age: >-\n      x,\n      y\n", "f"), ["x", "y"]);
        assert_eq!(sealed_for("creation_rules: [{age: [x, y]}]", "f"), ["x", "y"]);
        let groups = "creation_rules: [{age: ignored, key_groups: [{age: [x]}, {pgp: [p], merge: [{age: [y, x]}]}]}]";
        assert_eq!(sealed_for(groups, "f"), ["x", "y"]);
        assert!(sealed_for("creation_rules: [{pgp: p}]", "f").is_empty());
    }

    #[test]
    fn expressions_are_those_of_go() {
        // `{` without a count is a letter, and \d is ASCII.
        assert_eq!(sealed_for(r"creation_rules: [{path_regex: '^a{b\d\Q.\Ex$', age: x}]", "a{b7.x"), ["x"]);
        assert_eq!(rules(r"creation_rules: [{path_regex: '^\d$', age: x}]").of("٣"), SealFor::Nobody);
    }

    #[test]
    fn a_rule_that_cannot_be_read_hides_those_behind_it_but_not_those_before() {
        let text = "creation_rules: [{path_regex: a, age: x}, {path_regex: '(?=b)', age: y}, {age: z}]";
        let rules = rules(text);
        assert!(matches!(rules.of("a"), SealFor::Recipients(_)));
        assert_eq!(rules.of("b"), SealFor::Unknown("rule 2 of .sops.yaml: `path_regex` cannot be read"));
        assert!(CreationRules::read(b"creation_rules: 7").is_none());
        assert!(CreationRules::read(b"a: [").is_none());
        for rule in ["7", "{age: {}}", "{age: [[]]}", "{key_groups: x}", "{path_regex: [a]}"] {
            let text = format!("creation_rules: [{rule}]");
            assert!(matches!(CreationRules::read(text.as_bytes()).unwrap().of("f"), SealFor::Unknown(_)), "{rule}");
        }
    }
}
