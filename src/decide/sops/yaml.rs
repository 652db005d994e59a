//! Reads YAML into the tree: several documents, comments, aliases, and scalars as go-yaml sees them.
//!
//! Built on a parser that yields events. They are read twice: first to bound size and depth, to see that the structure
//! is whole and to learn where comments can stand; then to build. So they are never held all at once. Refuses a key that stands twice, since nobody can say which of the two is meant.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::document::Node;
use super::error::SopsError;
use super::limits::{Budget, MAX_BYTES, MAX_DOCUMENTS, MAX_ENTRIES, TOO_MANY, check_depth};
use super::yaml_comments::{Behind, Comment, find};
use super::yaml_scalar;
use super::yaml_style::is_old_break;
use crate::model::Secret;

/// Reads every document of a text. Each one is a mapping.
pub fn parse(text: &str) -> Result<Vec<Node>, SopsError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mended;
    let (text, scalars) = match scalars_in(text) {
        Err(SopsError::Malformed { line, .. }) => {
            mended = with_braces_indented(text, line)?;
            (mended.as_str(), scalars_in(&mended)?)
        }
        found => (text, found?),
    };
    let mut builder = Builder {
        comments: find(text, &scalars)?.into_iter().peekable(),
        frames: Vec::new(),
        anchors: BTreeMap::new(),
        budget: Budget::full(),
        documents: Vec::new(),
    };
    for event in events(text) {
        let (event, span) = event?;
        builder.take(event, span)?;
    }
    builder.end_of_stream();
    Ok(builder.documents)
}

/// go-yaml writes the end of an empty mapping with a comment in it further left than YAML allows. Such ends are moved to
/// the right; whatever else breaks the structure is refused.
///
/// ```yaml
/// key: {
///     # comment
/// }
/// ```
fn with_braces_indented(text: &str, line: usize) -> Result<String, SopsError> {
    let mut mended = with_brace_indented(text, line).ok_or_else(|| malformed_at(line))?;
    let mut bytes_read = text.len();
    while let Some(line) = broken_line(&mended) {
        // Each attempt reads the text again, so a large one has few.
        bytes_read += mended.len();
        let again = if bytes_read <= MAX_BYTES { with_brace_indented(&mended, line) } else { None };
        mended = again.ok_or_else(|| malformed_at(line))?;
    }
    Ok(mended)
}

/// The first line where the structure breaks.
fn broken_line(text: &str) -> Option<usize> {
    events(text).find_map(|event| match event {
        Err(SopsError::Malformed { line, .. }) => Some(line),
        _ => None,
    })
}

fn with_brace_indented(text: &str, line: usize) -> Option<String> {
    let start = match line.checked_sub(2) {
        Some(before) => text.match_indices('\n').nth(before)?.0 + 1,
        None => 0,
    };
    let (before, rest) = text.split_at(start);
    let is_brace = rest.lines().next().is_some_and(|line| line.trim() == "}");
    let opened = before.lines().rev().find(|line| !line.trim_start().starts_with('#'))?;
    (is_brace && opened.ends_with('{')).then(|| format!("{before}{:width$}{rest}", "", width = opened.len()))
}

fn events(text: &str) -> impl Iterator<Item = Result<(Event<'_>, Span), SopsError>> {
    let mut parser = Parser::new_from_str(text);
    // The message of the parser is left out because it may quote the text.
    std::iter::from_fn(move || parser.next_event())
        .map(|event| event.map_err(|error| malformed_at(error.marker().line())))
}

/// Where the scalars stand in a text whose size and depth are within the limits.
fn scalars_in(text: &str) -> Result<Vec<(usize, usize)>, SopsError> {
    let mut scalars = Vec::new();
    let (mut depth, mut entries, mut documents) = (0, 0, 0);
    for event in events(text) {
        let (event, span) = event?;
        match event {
            Event::Scalar(..) => {
                entries += 1;
                scalars.push((span.start.index(), span.end.index()));
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                entries += 1;
                depth += 1;
            }
            Event::MappingEnd | Event::SequenceEnd => depth -= 1,
            Event::DocumentStart(_) => documents += 1,
            _ => {}
        }
        check_depth(depth)?;
        if entries > MAX_ENTRIES || documents > MAX_DOCUMENTS {
            return Err(TOO_MANY);
        }
    }
    Ok(scalars)
}

fn malformed_at(line: usize) -> SopsError {
    malformed(line, "the structure is broken")
}

fn malformed(line: usize, problem: &'static str) -> SopsError {
    SopsError::Malformed { format: "yaml", line, problem }
}

/// A collection that has been opened and not yet closed.
struct Frame {
    content: Open,
    anchor: usize,
    column: usize,
}

enum Open {
    Map {
        entries: Vec<(String, Node)>,
        /// The key whose value comes next.
        key: Option<String>,
    },
    List(Vec<Node>),
}

impl Frame {
    fn add_comment(&mut self, comment: Comment) {
        let node = Node::Comment(Secret::new(comment.text));
        match &mut self.content {
            Open::Map { entries, key } => {
                // A comment behind a value stands before its key once SOPS has read it.
                let behind_value = comment.behind == Behind::Value && key.is_none() && !entries.is_empty();
                let place = entries.len() - usize::from(behind_value);
                entries.insert(place, (String::new(), node));
            }
            Open::List(items) => {
                let behind_item = comment.behind == Behind::Value && !items.is_empty();
                items.insert(items.len() - usize::from(behind_item), node);
            }
        }
    }
}

struct Builder {
    comments: std::iter::Peekable<std::vec::IntoIter<Comment>>,
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    budget: Budget,
    documents: Vec<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), SopsError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.comments_before(&span, false);
                let text = match style == ScalarStyle::SingleQuoted && text.contains(is_old_break) {
                    true => without_indent(&text).into(),
                    false => text,
                };
                let node = scalar(&text, style, tag.as_deref());
                self.budget.entry()?;
                self.complete(node, anchor, line, Some(&text))?;
            }
            Event::Alias(anchor) => {
                self.comments_before(&span, false);
                let node = self
                    .anchors
                    .get(&anchor)
                    .ok_or_else(|| malformed(line, "an alias stands inside of what it names"))?;
                self.budget.copy(node)?;
                let copy = node.clone();
                let text = copy.scalar_text().map(str::to_owned);
                self.complete(copy, 0, line, text.as_deref())?;
            }
            Event::MappingStart(anchor, _) => {
                let content = Open::Map { entries: Vec::new(), key: None };
                self.open(content, anchor, &span)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.open(Open::List(Vec::new()), anchor, &span)?;
            }
            Event::MappingEnd | Event::SequenceEnd => self.close(&span)?,
            Event::StreamEnd | Event::StreamStart | Event::Nothing | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(&mut self, content: Open, anchor: usize, span: &Span) -> Result<(), SopsError> {
        self.budget.entry()?;
        let is_item = self.frames.last().is_some_and(|frame| matches!(frame.content, Open::List(_)));
        // What stands behind the colon of a long key stands before that key once SOPS has read it.
        let behind_colon = self.comments.peek().is_some_and(|comment| comment.behind == Behind::Colon);
        if is_item {
            self.comments_before(span, false);
        } else if behind_colon
            && let Some(frame) = self.frames.last_mut()
            && let Some(comment) = self.comments.next_if(|comment| comment.position < span.start.index())
        {
            frame.add_comment(comment);
        }
        self.frames.push(Frame { content, anchor, column: span.start.col() });
        Ok(())
    }

    fn close(&mut self, span: &Span) -> Result<(), SopsError> {
        match self.frames.last().map(|frame| &frame.content) {
            // The comments inside of braces that hold nothing else are lost to go-yaml.
            Some(Open::Map { entries, .. }) if entries.is_empty() && self.frames.len() > 1 => {
                while self.comments.next_if(|comment| comment.position < span.start.index()).is_some() {}
            }
            _ => self.comments_before(span, true),
        }
        let line = span.start.line();
        let Some(frame) = self.frames.pop() else {
            return Err(malformed_at(line));
        };
        let node = match frame.content {
            Open::List(items) => Node::List(items),
            Open::Map { entries, .. } => {
                refuse_twins(&entries, line)?;
                Node::Map(entries)
            }
        };
        self.complete(node, frame.anchor, line, None)
    }

    /// Puts a finished node into the collection around it, or ends a document with it.
    fn complete(&mut self, node: Node, anchor: usize, line: usize, text: Option<&str>) -> Result<(), SopsError> {
        if anchor > 0 {
            self.budget.copy(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.frames.last_mut().map(|frame| &mut frame.content) {
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, key }) => match key.take() {
                Some(name) => entries.push((name, node)),
                None => {
                    let name = text.ok_or_else(|| malformed(line, "a key is not a scalar"))?;
                    *key = Some(name.to_owned());
                }
            },
            None => match node {
                Node::Map(_) => self.documents.push(node),
                Node::Null => self.documents.push(Node::Map(Vec::new())),
                _ => return Err(malformed(line, "expected a mapping")),
            },
        }
        Ok(())
    }

    /// Hands the comments before a place to the innermost collection. One that stands further left than a
    /// collection that ends belongs to a collection around it.
    fn comments_before(&mut self, span: &Span, ends: bool) {
        let outermost = self.frames.len() == 1;
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        let column = frame.column;
        let due = |comment: &Comment| {
            let further_left = comment.column < column && comment.behind == Behind::Nothing && !outermost;
            comment.position < span.start.index() && !(ends && further_left)
        };
        while let Some(comment) = self.comments.next_if(due) {
            frame.add_comment(comment);
        }
    }

    /// Comments behind the last value belong to the last document.
    fn end_of_stream(&mut self) {
        if let Some(Node::Map(entries)) = self.documents.last_mut() {
            for comment in self.comments.by_ref() {
                let node = Node::Comment(Secret::new(comment.text));
                entries.push((String::new(), node));
            }
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
    let name = tag.map(|tag| match tag.is_yaml_core_schema() {
        true => tag.suffix.as_str(),
        false => "",
    });
    yaml_scalar::value(text, style == ScalarStyle::Plain, name)
}

/// A quoted text whose lines end as in YAML 1.1, as go-yaml reads it: no blanks around the ends.
fn without_indent(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for (index, line) in text.split_inclusive(is_old_break).enumerate() {
        let line = if index == 0 { line } else { line.trim_start_matches([' ', '\t']) };
        match line.char_indices().next_back() {
            Some((at, end)) if is_old_break(end) => {
                joined.push_str(line[..at].trim_end_matches([' ', '\t']));
                joined.push(end);
            }
            _ => joined.push_str(line),
        }
    }
    joined
}

fn refuse_twins(entries: &[(String, Node)], line: usize) -> Result<(), SopsError> {
    let mut seen = BTreeSet::new();
    let twice = entries.iter().filter(|(_, value)| !value.is_comment()).any(|(key, _)| !seen.insert(key.as_str()));
    match twice {
        true => Err(malformed(line, "a key stands twice in a mapping that ends here")),
        false => Ok(()),
    }
}
