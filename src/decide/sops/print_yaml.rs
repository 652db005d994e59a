//! Prints the tree as `sops -d` prints YAML, comments included.
//!
//! Follows the layout of go-yaml with an indent of four. How a scalar is written is decided elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::document::Node;
use super::go_text;
use super::yaml_style::{INDENT, is_simple_key, write_key, write_value};

/// The bytes `sops -d` prints for a YAML file.
pub fn print(documents: &[Node]) -> Vec<u8> {
    let mut out = String::with_capacity(documents.iter().map(Node::room).sum());
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            out.push_str("---\n");
        }
        let mut printer = Printer { out: &mut out, foot: None, late: Vec::new() };
        printer.document(document);
    }
    out.into_bytes()
}

struct Printer<'a> {
    out: &'a mut String,
    /// Indent of a comment that ended a collection. go-yaml sets an empty line between it and what follows at
    /// the same indent, so that it is not read as the head of that.
    foot: Option<usize>,
    /// Comments of an empty list. go-yaml writes them before what follows, unless that has comments of its own.
    late: Vec<String>,
}

impl Printer<'_> {
    fn document(&mut self, root: &Node) {
        match root {
            Node::Map(entries) if root.entries().next().is_some() => self.map(entries, 0, true),
            Node::Map(entries) => {
                self.out.push_str("{}");
                self.foot_comments(entries.iter().map(|(_, node)| node), 0);
            }
            _ => self.out.push_str("null"),
        }
        self.late_comments(false, 0);
        self.out.push('\n');
    }

    /// Starts a line, unless the first entry stands behind the dash of its item.
    fn line(&mut self, indent: usize, first_in_line: bool) {
        if first_in_line {
            return;
        }
        self.out.push('\n');
        if self.foot == Some(indent) {
            self.out.push('\n');
        }
        self.foot = None;
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn late_comments(&mut self, has_own: bool, indent: usize) {
        for text in std::mem::take(&mut self.late) {
            if !has_own {
                self.line(indent, false);
                self.comment(&text);
            }
        }
    }

    fn map(&mut self, entries: &[(String, Node)], indent: usize, mut in_line: bool) {
        let last = entries.iter().rposition(|(_, value)| !value.is_comment());
        let (body, foot) = entries.split_at(last.map_or(0, |last| last + 1));
        for (key, value) in body {
            self.late_comments(value.is_comment(), indent);
            self.line(indent, in_line);
            in_line = false;
            if let Node::Comment(text) = value {
                self.comment(text.expose());
                continue;
            }
            self.entry(key, value, indent);
        }
        self.foot_comments(foot.iter().map(|(_, node)| node), indent);
    }

    fn entry(&mut self, key: &str, value: &Node, indent: usize) {
        let below = INDENT * (indent / INDENT + 1);
        let is_collection = value.entries().next().is_some() || value.items().next().is_some();
        let mut in_line = false;
        match key {
            "<<" => self.out.push_str("!!merge <<"),
            key if is_simple_key(key) => write_key(key, self.out),
            key => {
                self.out.push_str("? ");
                write_value(key, below, self.out);
                self.line(indent, false);
                in_line = is_collection;
            }
        }
        self.out.push(':');
        if in_line {
            // Behind the colon of such a key, as behind a dash, a collection starts on the same line.
            self.out.extend(std::iter::repeat_n(' ', below - indent - 1));
        }
        match value {
            Node::Map(entries) if is_collection => self.map(entries, below, in_line),
            Node::List(items) if is_collection => self.list(items, below, in_line),
            Node::Map(_) => self.out.push_str(" {}"),
            Node::List(_) => {
                self.out.push_str(" []");
                self.late = head_comments(value).into_iter().map(str::to_owned).collect();
            }
            scalar => {
                self.out.push(' ');
                self.scalar(scalar, below);
            }
        }
    }

    fn list(&mut self, items: &[Node], indent: usize, mut in_line: bool) {
        let last = items.iter().rposition(|item| !item.is_comment());
        let (body, foot) = items.split_at(last.map_or(0, |last| last + 1));
        let first = body.iter().position(|item| !item.is_comment()).unwrap_or(0);
        // Of the comments of the list and those of its first item, go-yaml keeps the latter.
        let lost = if body.get(first).is_some_and(|item| !head_comments(item).is_empty()) { first } else { 0 };
        for item in &body[lost..] {
            let head = head_comments(item);
            self.late_comments(!head.is_empty() || item.is_comment(), indent);
            for text in &head {
                self.line(indent, in_line);
                in_line = false;
                self.comment(text);
            }
            self.line(indent, in_line);
            in_line = false;
            // Inside of an item, go-yaml indents by the width of the dash.
            let below = indent + 2;
            match item {
                Node::Comment(text) => {
                    self.comment(text.expose());
                    continue;
                }
                Node::Map(entries) if item.entries().next().is_some() => {
                    self.out.push_str("- ");
                    self.map(&entries[head.len()..], below, true);
                }
                Node::List(items) if item.items().next().is_some() => {
                    self.out.push_str("- ");
                    self.list(&items[head.len()..], below, true);
                }
                Node::Map(_) => self.out.push_str("- {}"),
                Node::List(_) => self.out.push_str("- []"),
                scalar => {
                    self.out.push_str("- ");
                    self.scalar(scalar, below);
                }
            }
        }
        self.foot_comments(foot.iter(), indent);
    }

    fn foot_comments<'n>(&mut self, comments: impl Iterator<Item = &'n Node>, indent: usize) {
        let mut any = false;
        for node in comments {
            if let Node::Comment(text) = node {
                self.line(indent, false);
                self.comment(text.expose());
                any = true;
            }
        }
        if any {
            self.foot = Some(indent);
        }
    }

    /// A comment is one line, whatever a damaged file put into it.
    fn comment(&mut self, text: &str) {
        self.out.push('#');
        self.out.push_str(&text.replace(['\n', '\r'], " "));
    }

    fn scalar(&mut self, node: &Node, indent: usize) {
        match node {
            Node::Str(text) => write_value(text.expose(), indent, self.out),
            Node::Int(text) | Node::Time(text) => self.out.push_str(text.expose()),
            Node::Float(text) => {
                let number = go_text::parse_float(text.expose());
                let printed = number.map_or_else(|| text.expose().clone(), go_text::float_yaml);
                self.out.push_str(&printed);
            }
            Node::Bool(true) => self.out.push_str("true"),
            Node::Bool(false) => self.out.push_str("false"),
            Node::Bytes(bytes) => {
                self.out.push_str("!!binary ");
                let letters = base64_lines(bytes.expose());
                match letters.contains('\n') {
                    true => write_value(&letters, indent, self.out),
                    // The tag says what it is, so even digits alone need no quotes.
                    false => self.out.push_str(&letters),
                }
            }
            Node::Null | Node::Comment(_) | Node::Map(_) | Node::List(_) => {
                self.out.push_str("null");
            }
        }
    }
}

/// The comments at the head of a collection. Where that is an item, they stand before its dash.
fn head_comments(item: &Node) -> Vec<&str> {
    fn text(node: &Node) -> Option<&str> {
        match node {
            Node::Comment(text) => Some(text.expose()),
            _ => None,
        }
    }
    match item {
        Node::Map(entries) => entries.iter().map_while(|(_, value)| text(value)).collect(),
        Node::List(items) => items.iter().map_while(text).collect(),
        _ => Vec::new(),
    }
}

/// Base64 on one line, or on lines of 70 letters that each end in a break, as go-yaml writes it.
fn base64_lines(bytes: &[u8]) -> Zeroizing<String> {
    const LINE: usize = 70;
    let rest = Zeroizing::new(STANDARD.encode(bytes));
    if rest.len() < LINE {
        return rest;
    }
    let mut lines = Zeroizing::new(String::with_capacity(rest.len() + rest.len() / LINE + 1));
    for (index, letter) in rest.char_indices() {
        if index > 0 && index % LINE == 0 {
            lines.push('\n');
        }
        lines.push(letter);
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::sops::yaml;

    const LETTERS: [&str; 40] = [
        "a", "b", "-", "- ", "?", "? ", ":", ": ", "#", " #", " ", "  ", "\n", "\n\n", "\n ", " \n", "\t", "\r",
        "\r\n", "'", "\"", "\\", "|", ">", "&", "*", "!", "%", "@", "`", "{", "]", ",", "---", "...", "\u{85}",
        "\u{2028}", "\u{feff}", "é", "😀",
    ];

    #[test]
    fn bytes_read_back_as_themselves_short_and_long() {
        for length in [1, 3, 52, 53, 300] {
            let bytes = vec![0xff; length];
            let node = Node::Bytes(crate::model::Secret::new(bytes.clone()));
            let root = Node::Map(vec![(String::from("b"), Node::List(vec![node]))]);
            let printed = String::from_utf8(print(&[root])).expect("utf-8");
            let read = yaml::parse(&printed).expect("valid yaml");
            match read[0].get("b").and_then(|list| list.items().next()) {
                Some(Node::Bytes(read)) => assert_eq!(*read.expose(), bytes),
                _ => panic!("not bytes:\n{printed}"),
            }
        }
    }

    /// Every text reads back as itself, as a key, as a value and as an item, at any depth.
    #[test]
    fn what_is_printed_reads_back_as_itself() {
        let mut state = 1u64;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % sides
        };
        for _ in 0..20_000 {
            let length = roll(6);
            let text: String = (0..length).map(|_| LETTERS[roll(LETTERS.len())]).collect();
            // What go-yaml writes in a form that does not read back, and so do we.
            let is_block = text.contains('\n');
            if is_block && (text.starts_with([' ', '\n']) || text.contains('\u{2028}')) {
                continue;
            }
            let map = |key: &str, value| Node::Map(vec![(key.to_owned(), value)]);
            let item = Node::List(vec![Node::text(&*text), map(&text, Node::text(&*text))]);
            let root = map(&text, map("m", map("l", Node::List(vec![item]))));
            let printed = String::from_utf8(print(std::slice::from_ref(&root))).expect("utf-8");
            let read = yaml::parse(&printed).unwrap_or_else(|error| panic!("{text:?} {error}:\n{printed}"));
            let again = String::from_utf8(print(&read)).expect("utf-8");
            assert_eq!(again, printed, "{text:?}");
            let back = read[0].entries().next().expect("one entry");
            assert_eq!(back.0, text, "\n{printed}");
            let list = back.1.get("m").and_then(|m| m.get("l")).expect("a list");
            let inner = list.items().next().expect("a list in a list");
            let first = inner.items().next().and_then(Node::scalar_text);
            assert_eq!(first, Some(text.as_str()), "\n{printed}");
        }
    }
}
