//! Edits `.sops.yaml` as text, so that comments and the rules of others stay as they are, and reads it again to prove that
//! nothing else changed.

use std::ops::Range;

use serde_json::{Value as Json, json};

use crate::decide::sops::{CreationRules, SealFor};
use crate::decide::yaml;
use crate::model::tree::Tree;

/// Where the rules stand.
pub const PATH: &str = ".sops.yaml";

const HEAD: &str = "# For whom `sops` seals. One rule per host: the host itself, and every operator who may edit its secrets.\n\
                    # After a change here: sops updatekeys hosts/<host>/secrets.sops.yaml\ncreation_rules:\n";

/// The file of secrets that the rules are asked about.
pub fn secrets_path(host: &str) -> String {
    format!("hosts/{host}/secrets.sops.yaml")
}

/// `path_regex` of a host's own rule.
pub fn pattern(host: &str) -> String {
    format!(r"^hosts/{}/.*\.sops\.yaml$", host.replace('.', r"\."))
}

/// What the rules say about one host now.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// A rule for this host alone: its place in the list, and for whom it seals.
    Own(usize, Vec<String>),
    /// A rule that is for others too.
    Shared(usize),
    /// No rule.
    None,
}

/// The rule that `sops` would take for a host, or why that cannot be said.
pub fn standing(tree: &Tree, host: &str, hosts: &[String]) -> Result<Standing, String> {
    let Some(file) = tree.get(PATH) else { return Ok(Standing::None) };
    let rules = CreationRules::read(&file.bytes).ok_or(".sops.yaml: the creation rules cannot be read")?;
    let path = secrets_path(host);
    let Some(index) = rules.index_for(&path)? else { return Ok(Standing::None) };
    // Whoever is not there yet, and whoever only begins with the same letters, must not be caught by it.
    let others = hosts.iter().filter(|other| *other != host).cloned();
    let mut others = others.chain([format!("{host}-other"), "some-other-host".to_owned()]);
    if others.any(|other| rules.index_for(&secrets_path(&other)) == Ok(Some(index))) {
        return Ok(Standing::Shared(index));
    }
    match rules.of(&path) {
        SealFor::Recipients(recipients) => Ok(Standing::Own(index, recipients.to_vec())),
        SealFor::Nobody | SealFor::Unknown(_) => Ok(Standing::None),
    }
}

/// The file with a rule for `host`, before the rule at `before` or at the end.
pub fn add(text: &str, host: &str, recipients: &[String], before: Option<usize>) -> Result<String, String> {
    let rule = json!({ "path_regex": pattern(host), "age": recipients });
    let by_hand = || {
        let lines = written(host, recipients, "  ");
        format!(".sops.yaml is not written in a form that can be edited here; add this rule by hand:\n{lines}")
    };
    let whole;
    let text = match text.trim().is_empty() {
        true => HEAD,
        false if !text.ends_with('\n') => {
            whole = format!("{text}\n");
            &whole
        }
        false => text,
    };
    let list = List::find(text).ok_or_else(by_hand)?;
    let at = before.map_or_else(|| list.end(), |index| list.begin_of(index));
    let block = written(host, recipients, &" ".repeat(list.indent));
    let edited = format!("{}{block}{}", list.lines[..at].concat(), list.lines[at..].concat());
    let expected = |rules: &mut Vec<Json>| rules.insert(before.unwrap_or(rules.len()), rule);
    is_only(text, &edited, expected).then_some(edited).ok_or_else(by_hand)
}

/// The file with the host's recipient in its rule, in the place of an older one if there was one.
pub fn admit(text: &str, index: usize, host: &str, old: Option<&str>, new: &str) -> Result<String, String> {
    let by_hand =
        || format!(".sops.yaml is not written in a form that can be edited here; add {new} to the rule of {host}");
    let list = List::find(text).ok_or_else(by_hand)?;
    let range = list.items.get(index).cloned().ok_or_else(by_hand)?;
    let mut lines: Vec<String> = list.lines.iter().map(|line| (*line).to_owned()).collect();
    let known = old.filter(|old| lines[range.clone()].iter().any(|line| line.contains(old)));
    match known {
        Some(old) => lines[range].iter_mut().for_each(|line| *line = line.replace(old, new)),
        None => insert(&mut lines, range, host, new).ok_or_else(by_hand)?,
    }
    let edited = lines.concat();
    let before = rule_of(text, index).ok_or_else(by_hand)?;
    let mut wanted: Vec<String> = recipients(&before).ok_or_else(by_hand)?;
    match known {
        Some(old) => wanted.iter_mut().filter(|one| *one == old).for_each(|one| new.clone_into(one)),
        None => wanted.insert(0, new.to_owned()),
    }
    let after = rule_of(&edited, index).ok_or_else(by_hand)?;
    let has_them = recipients(&after).is_some_and(|found| found == wanted);
    let replace = |rules: &mut Vec<Json>| rules[index] = after;
    (has_them && is_only(text, &edited, replace)).then_some(edited).ok_or_else(by_hand)
}

/// The file without the rule at `index`. Comments stay.
pub fn remove(text: &str, index: usize, host: &str) -> Result<String, String> {
    let by_hand =
        || format!(".sops.yaml is not written in a form that can be edited here; take out the rule of {host} by hand");
    let list = List::find(text).ok_or_else(by_hand)?;
    let range = list.items.get(index).cloned().ok_or_else(by_hand)?;
    let edited = [&list.lines[..range.start], &list.lines[range.end..]].concat().concat();
    is_only(text, &edited, |rules| drop(rules.remove(index))).then_some(edited).ok_or_else(by_hand)
}

/// What rules of other hosts say besides recipients for age: a new rule that lacks it would be weaker than they are.
pub fn more_than_age(text: &str) -> Vec<String> {
    let rules = rules_of(text).unwrap_or_default();
    let keys = rules.iter().filter_map(Json::as_object).flat_map(|rule| rule.keys());
    let mut more: Vec<String> = keys.filter(|key| !["path_regex", "age"].contains(&key.as_str())).cloned().collect();
    more.sort();
    more.dedup();
    more
}

fn written(host: &str, recipients: &[String], indent: &str) -> String {
    let mut block = format!("{indent}- path_regex: {}\n{indent}  age:\n", pattern(host));
    for recipient in recipients {
        block.push_str(&format!("{indent}    - {recipient}\n"));
    }
    block
}

/// Puts a recipient in front of those of a rule, in each of the forms that people write.
fn insert(lines: &mut Vec<String>, range: Range<usize>, host: &str, new: &str) -> Option<()> {
    let at =
        range.clone().find(|at| lines[*at].trim_start().trim_start_matches("- ").trim_start().starts_with("age:"))?;
    let (head, value) = lines[at].split_once("age:")?;
    let value = value.trim_start_matches(' ');
    if let Some(rest) = value.strip_prefix('[') {
        lines[at] = format!("{head}age: [{new}, {rest}");
    } else if value.trim_end().is_empty() || value.starts_with('#') {
        let first = (at + 1..range.end).find(|at| lines[*at].trim_start().starts_with("- "))?;
        let indent = lines[first].len() - lines[first].trim_start().len();
        lines.insert(first, format!("{}- {new} # {host}\n", " ".repeat(indent)));
    } else {
        lines[at] = format!("{head}age: {new},{value}");
    }
    Some(())
}

/// The lines of a file, and which of them belong to each rule.
struct List<'t> {
    lines: Vec<&'t str>,
    head: usize,
    indent: usize,
    items: Vec<Range<usize>>,
}

impl<'t> List<'t> {
    fn find(text: &'t str) -> Option<Self> {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let is_head = |line: &&str| line.split('#').next().unwrap_or_default().trim_end() == "creation_rules:";
        let head = lines.iter().position(is_head)?;
        let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let depth = |line: &str| line.len() - line.trim_start_matches(' ').len();
        let first = (head + 1..lines.len()).find(|at| is_content(lines[*at]));
        let first = first.filter(|at| lines[*at].trim_start().starts_with("- "));
        let indent = first.map_or(2, |at| depth(lines[at]));
        let mut items: Vec<Range<usize>> = Vec::new();
        for at in first.into_iter().flat_map(|first| first..lines.len()) {
            let line = lines[at];
            if line.trim().is_empty() || (!is_content(line) && depth(line) <= indent) {
                continue;
            }
            match depth(line) {
                deep if deep > indent => items.last_mut()?.end = at + 1,
                same if same == indent && line.trim_start().starts_with("- ") => items.push(at..at + 1),
                _ => break,
            }
        }
        Some(Self { lines, head, indent, items })
    }

    /// Behind the last rule.
    fn end(&self) -> usize {
        self.items.last().map_or(self.head + 1, |last| last.end)
    }

    /// Before a rule and the comments right above it.
    fn begin_of(&self, index: usize) -> usize {
        let Some(item) = self.items.get(index) else { return self.end() };
        let is_comment = |at: &usize| self.lines[*at].trim_start().starts_with('#');
        (self.head + 1..item.start).rev().take_while(is_comment).last().unwrap_or(item.start)
    }
}

/// Whether exactly the expected change of the list was made, as a reader of YAML sees it.
fn is_only(before: &str, after: &str, change: impl FnOnce(&mut Vec<Json>)) -> bool {
    let (Ok(mut whole), Some(mut rules)) = (yaml::read::<Json>(before), rules_of(before)) else { return false };
    let (Ok(mut edited), Some(found)) = (yaml::read::<Json>(after), rules_of(after)) else { return false };
    change(&mut rules);
    whole["creation_rules"] = Json::Null;
    edited["creation_rules"] = Json::Null;
    rules == found && whole == edited
}

fn rules_of(text: &str) -> Option<Vec<Json>> {
    let file: Json = yaml::read(text).ok()?;
    match file.get("creation_rules")? {
        Json::Null => Some(Vec::new()),
        rules => rules.as_array().cloned(),
    }
}

fn rule_of(text: &str, index: usize) -> Option<Json> {
    rules_of(text)?.get(index).cloned()
}

/// The recipients of a rule, in their order.
fn recipients(rule: &Json) -> Option<Vec<String>> {
    let all = |text: &str| text.split(',').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    match rule.get("age")? {
        Json::String(text) => Some(all(text)),
        Json::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "# who may\nstores: {}\ncreation_rules:\n  # the first\n  - path_regex: ^hosts/a/\n    age: # a\n      - x # one\n      - y\n  # everything else\n  - age: x,y\n# the end\n";

    fn operators() -> Vec<String> {
        vec!["x".into(), "y".into()]
    }

    #[test]
    fn a_rule_goes_before_one_that_would_catch_its_files_and_comments_stay() {
        let edited = add(RULES, "b.c", &operators(), Some(1)).unwrap();
        let block =
            "  - path_regex: ^hosts/b\\.c/.*\\.sops\\.yaml$\n    age:\n      - x\n      - y\n  # everything else\n";
        assert_eq!(edited, RULES.replace("  # everything else\n", block));
        assert_eq!(remove(&edited, 1, "b.c").unwrap(), RULES);
    }

    #[test]
    fn a_rule_goes_to_the_end_of_the_list_not_of_the_file() {
        let text = "creation_rules:\n- path_regex: ^hosts/a/\n  age: x\n\n# stores\nstores: {}";
        let edited = add(text, "b", &operators(), None).unwrap();
        assert!(
            edited
                .contains("  age: x\n- path_regex: ^hosts/b/.*\\.sops\\.yaml$\n  age:\n    - x\n    - y\n\n# stores\n"),
            "{edited}"
        );
        assert!(add("", "b", &operators(), None).unwrap().starts_with("# For whom"));
    }

    #[test]
    fn what_cannot_be_edited_is_left_to_a_person_with_the_rule_to_type() {
        for text in ["creation_rules: []\n", "creation_rules: [{age: x}]\n", "- x\n", "stores: {}\n", "a: [\n"] {
            let told = add(text, "b", &operators(), None).unwrap_err();
            assert!(told.contains("by hand:\n  - path_regex: ^hosts/b/"), "{text}: {told}");
        }
        let flow = "creation_rules:\n  - {path_regex: ^hosts/a/, age: x}\n";
        assert!(admit(flow, 0, "a", None, "n").is_err());
        assert!(admit("creation_rules:\n  - path_regex: a\n    pgp: x\n", 0, "a", None, "n").is_err());
    }

    #[test]
    fn a_host_stands_first_among_its_recipients_and_its_new_key_takes_the_place_of_the_old_one() {
        let edited = admit(RULES, 0, "a", None, "old-key").unwrap();
        assert_eq!(edited, RULES.replace("      - x # one\n", "      - old-key # a\n      - x # one\n"));
        assert_eq!(admit(&edited, 0, "a", Some("old-key"), "new").unwrap(), edited.replace("old-key", "new"));
        let inline = "creation_rules:\n  - path_regex: ^hosts/a/\n    age: x, y\n";
        assert!(admit(inline, 0, "a", None, "n").unwrap().contains("    age: n,x, y\n"));
        let list = "creation_rules:\n  - age: [x]\n    path_regex: ^hosts/a/\n";
        assert!(admit(list, 0, "a", None, "n").unwrap().contains("  - age: [n, x]\n"));
    }
}
