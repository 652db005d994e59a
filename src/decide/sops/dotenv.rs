//! Reads dotenv as SOPS does: one `KEY=value` per line, nothing quoted, nothing trimmed.
//!
//! Applies none of the rules of Compose or of a shell; those belong to whoever uses the printed text. The
//! metadata is flattened into keys that start with `sops_`.

use super::document::Node;
use super::error::SopsError;
use super::limits::{Budget, MAX_KEYS, check_depth};
use crate::model::Secret;

/// A file of the most keys has a few lines for each; every line is looked up among those before it.
const MAX_METADATA_LINES: usize = 5 * MAX_KEYS;

/// Reads a file into its entries, with the metadata as a mapping below `sops` at the end.
pub fn parse(bytes: &[u8]) -> Result<Node, SopsError> {
    let mut budget = Budget::full();
    let mut entries = Vec::new();
    let mut metadata = Vec::new();
    let mut lines_of_metadata = 0;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        budget.entry()?;
        if let Some(comment) = line.strip_prefix(b"#") {
            let text = String::from_utf8_lossy(comment).into_owned();
            entries.push((String::new(), Node::Comment(Secret::new(text))));
            continue;
        }
        let malformed = |problem| SopsError::Malformed { format: "dotenv", line: index + 1, problem };
        let split = line.iter().position(|byte| *byte == b'=').ok_or_else(|| malformed("expected `KEY=value`"))?;
        let key = std::str::from_utf8(&line[..split]).map_err(|_| malformed("the key is not valid utf-8"))?;
        let value = with_line_breaks(&line[split + 1..]);
        match key.strip_prefix("sops_") {
            Some(path) => {
                lines_of_metadata += 1;
                if lines_of_metadata > MAX_METADATA_LINES {
                    return Err(malformed("the flattened metadata has too many entries"));
                }
                insert(&mut metadata, path, value, &mut budget, &malformed)?;
            }
            None => entries.push((key.to_owned(), value)),
        }
    }
    if !metadata.is_empty() {
        entries.push((String::from("sops"), Node::Map(metadata)));
    }
    Ok(Node::Map(entries))
}

/// SOPS keeps a line break inside a value as a backslash and an n.
fn with_line_breaks(value: &[u8]) -> Node {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\n") {
            Some(tail) => {
                out.push(b'\n');
                rest = tail;
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    match String::from_utf8(out) {
        Ok(text) => Node::text(text),
        Err(error) => Node::Bytes(Secret::new(error.into_bytes())),
    }
}

/// Puts a value at a flattened path such as `age__list_0__map_recipient`.
fn insert(
    metadata: &mut Vec<(String, Node)>,
    path: &str,
    value: Node,
    budget: &mut Budget,
    malformed: &impl Fn(&'static str) -> SopsError,
) -> Result<(), SopsError> {
    let unusable = || malformed("the flattened metadata does not fit together");
    let mut steps = Vec::new();
    let mut parts = path.split("__");
    let first = parts.next().unwrap_or_default();
    for part in parts {
        check_depth(steps.len())?;
        if let Some(index) = part.strip_prefix("list_") {
            let index: usize = index.parse().map_err(|_| unusable())?;
            if index >= MAX_KEYS {
                return Err(malformed("the flattened metadata has too many entries"));
            }
            steps.push(Step::Item(index));
        } else {
            let name = part.strip_prefix("map_").ok_or_else(unusable)?;
            steps.push(Step::Entry(name));
        }
    }
    let mut place = entry_of(metadata, first);
    for step in steps {
        place = match step {
            Step::Entry(name) => {
                if matches!(place, Node::Null) {
                    *place = Node::Map(Vec::new());
                }
                match place {
                    Node::Map(entries) => entry_of(entries, name),
                    _ => return Err(unusable()),
                }
            }
            Step::Item(index) => {
                if matches!(place, Node::Null) {
                    *place = Node::List(Vec::new());
                }
                match place {
                    Node::List(items) => item_of(items, index, budget)?,
                    _ => return Err(unusable()),
                }
            }
        };
    }
    match place {
        Node::Null => *place = value,
        _ => return Err(malformed("a key of the metadata stands twice")),
    }
    Ok(())
}

enum Step<'a> {
    Entry(&'a str),
    Item(usize),
}

fn entry_of<'a>(entries: &'a mut Vec<(String, Node)>, name: &str) -> &'a mut Node {
    let index = match entries.iter().position(|(key, _)| key == name) {
        Some(index) => index,
        None => {
            entries.push((name.to_owned(), Node::Null));
            entries.len() - 1
        }
    };
    &mut entries[index].1
}

/// Newer files sort the flattened keys as text, so item 10 may come before item 2: the gap is filled, and paid for.
fn item_of<'a>(items: &'a mut Vec<Node>, index: usize, budget: &mut Budget) -> Result<&'a mut Node, SopsError> {
    while items.len() <= index {
        budget.entry()?;
        items.push(Node::Null);
    }
    Ok(&mut items[index])
}
