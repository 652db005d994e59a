//! Reads YAML with the line of every value. Aliases and `<<` are followed; a key that stands twice is refused.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// More nodes than any dynamic file has; a bomb of aliases has more.
const MOST_NODES: usize = 100_000;
/// Deeper than any of them.
const DEEPEST: usize = 64;

/// A value and its line, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// What stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A single value: the text, and whether it was quoted.
    Scalar(String, Style),
    /// A list.
    List(Vec<Node>),
    /// A mapping: key, the line of the key, value; in the order of the file.
    Map(Vec<(String, usize, Node)>),
}

/// How a single value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be a number, a boolean or nothing.
    Plain,
    /// In quotes or as a block: it is text.
    Quoted,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where.
    pub line: usize,
    /// Why.
    pub text: String,
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(name, _, _)| name == key).map(|(_, _, node)| node)
    }

    /// The entries of a mapping; nothing else has any.
    pub fn entries(&self) -> &[(String, usize, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a single value.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands there.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, Style::Plain) if ["", "~", "null", "Null", "NULL"].contains(&text.as_str()))
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar(..) => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|(_, _, node)| node.size()).sum(),
        }
    }
}

/// Reads the first document of a text. An empty one is null.
pub fn parse(text: &str) -> Result<Node, Broken> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    crate::decide::yaml::weigh(text)
        .map_err(|flaw| Broken { line: flaw.place.map_or(1, |(line, _)| line), text: flaw.text })?;
    let mut reader = Reader { frames: Vec::new(), anchors: BTreeMap::new(), budget: MOST_NODES, done: None };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| Broken { line: error.marker().line(), text: error.info().to_owned() })?;
        reader.take(event, span.start.line())?;
        if reader.done.is_some() {
            break;
        }
    }
    let null = Node { line: 1, value: Value::Scalar(String::new(), Style::Plain) };
    Ok(reader.done.unwrap_or(null))
}

struct Frame {
    line: usize,
    anchor: usize,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(String, usize, Node)>, merged: Vec<Node>, key: Option<(String, usize)> },
}

struct Reader {
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    budget: usize,
    done: Option<Node>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), Broken> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                self.add(Node { line, value: Value::Scalar(text.into_owned(), style) }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, Open::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(line, anchor, Open::Map { entries: Vec::new(), merged: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(line),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.add(node, 0),
                None => Err(Broken { line, text: "an alias stands inside of what it names".into() }),
            },
            _ => Ok(()),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, open: Open) -> Result<(), Broken> {
        if self.frames.len() >= DEEPEST {
            return Err(Broken { line, text: "is nested too deeply".into() });
        }
        self.frames.push(Frame { line, anchor, open });
        Ok(())
    }

    fn close(&mut self, line: usize) -> Result<(), Broken> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::List(items) => Value::List(items),
            Open::Map { mut entries, merged, .. } => {
                // What stands in the mapping itself wins over what is merged into it; the first merged one wins.
                for (key, line, node) in merged.iter().flat_map(|node| node.entries().iter().cloned()) {
                    if entries.iter().all(|(own, _, _)| *own != key) {
                        entries.push((key, line, node));
                    }
                }
                Value::Map(entries)
            }
        };
        let _ = line;
        self.add(Node { line: frame.line, value }, frame.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        let line = node.line;
        self.budget = self
            .budget
            .checked_sub(node.size())
            .ok_or_else(|| Broken { line, text: "its aliases make it too large".into() })?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.frames.last_mut().map(|frame| &mut frame.open) {
            None => self.done = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, merged, key }) => match (key.take(), node.value) {
                (None, Value::Scalar(text, _)) => *key = Some((text, line)),
                (None, _) => return Err(Broken { line, text: "a key must be a single value".into() }),
                (Some((name, _)), Value::List(items)) if name == "<<" => merged.extend(items),
                (Some((name, _)), value) if name == "<<" => merged.push(Node { line, value }),
                (Some((name, _)), _) if entries.iter().any(|(own, _, _)| *own == name) => {
                    return Err(Broken { line, text: format!("`{name}` stands twice") });
                }
                (Some((name, at)), value) => entries.push((name, at, Node { line, value })),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_aliases_and_merges_are_followed() {
        let text = "x: &x\n  a: 1\n  b: two\ny:\n  <<: *x\n  b: 'three'\nz: [1, *x]\n";
        let node = parse(text).unwrap();
        let y = node.get("y").unwrap();
        assert_eq!(y.get("a").unwrap().text(), Some("1"));
        assert_eq!(y.get("a").unwrap().line, 2);
        assert_eq!(y.get("b").unwrap().value, Value::Scalar("three".into(), Style::Quoted));
        assert_eq!(node.get("z").unwrap().items()[1].get("b").unwrap().text(), Some("two"));
        assert!(parse("").unwrap().is_null());
    }

    #[test]
    fn what_cannot_be_read_has_a_line() {
        assert_eq!(parse("a: 1\nb: 2\na: 3\n").unwrap_err(), Broken { line: 3, text: "`a` stands twice".into() });
        assert_eq!(parse("a:\n  - b\n c: [\n").unwrap_err().line, 3);
        let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
        assert!(parse(&format!("a0: &a0 x\n{bomb}")).is_err());
    }
}
