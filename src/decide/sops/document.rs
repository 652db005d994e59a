//! The tree that a SOPS file holds, before and after it is opened.
//!
//! Keeps order, duplicate keys and comments, because SOPS authenticates values in the order of the file.
//! Knows no cipher and no format. Has no `Debug`, so that no value can be printed by accident.

use crate::model::Secret;

use super::error::SopsError;
use super::{Format, print_dotenv, print_json, print_yaml};

/// One value of the tree.
#[derive(Clone)]
pub enum Node {
    /// A mapping in the order of the file. A comment stands under the empty key as [`Node::Comment`].
    Map(Vec<(String, Node)>),
    /// A list. Comments between items are items.
    List(Vec<Node>),
    /// A text.
    Str(Secret<String>),
    /// A whole number in decimal: `8080`, never `8080.0`.
    Int(Secret<String>),
    /// A number with a fraction, in the shortest decimal form without exponent, or `+Inf`, `-Inf`, `NaN`.
    Float(Secret<String>),
    /// True or false.
    Bool(bool),
    /// A point in time as RFC 3339.
    Time(Secret<String>),
    /// Bytes that are not text.
    Bytes(Secret<Vec<u8>>),
    /// Nothing.
    Null,
    /// A comment, without its `#`.
    Comment(Secret<String>),
}

impl Node {
    /// The value of a key of a mapping; the last one where a key stands twice.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().rev().find_map(|(name, value)| (name == key).then_some(value))
    }

    /// The entries of a mapping without its comments; nothing for any other value.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (&str, &Node)> {
        let all: &[(String, Node)] = match self {
            Node::Map(entries) => entries,
            _ => &[],
        };
        all.iter().filter(|(_, value)| !value.is_comment()).map(|(key, value)| (key.as_str(), value))
    }

    /// The items of a list without its comments; nothing for any other value.
    pub fn items(&self) -> impl Iterator<Item = &Node> {
        let all: &[Node] = match self {
            Node::List(items) => items,
            _ => &[],
        };
        all.iter().filter(|item| !item.is_comment())
    }

    /// Whether this is a comment.
    pub fn is_comment(&self) -> bool {
        matches!(self, Node::Comment(_))
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Node::Str(Secret::new(text.into()))
    }

    /// Room for the printed form, so that no half-written copy of a secret is left behind by growing.
    pub(super) fn room(&self) -> usize {
        const LAYOUT: usize = 2 * super::limits::MAX_DEPTH;
        match self {
            Node::Map(entries) => entries.iter().map(|(key, value)| 2 * key.len() + value.room() + LAYOUT).sum(),
            Node::List(items) => items.iter().map(|item| item.room() + LAYOUT).sum(),
            Node::Bytes(bytes) => 3 * bytes.expose().len(),
            Node::Comment(text) => text.expose().len(),
            scalar => 2 * scalar.scalar_text().map_or(8, str::len),
        }
    }

    /// The scalar as it stood in the file; the metadata is read through this, whatever its YAML type.
    pub(super) fn scalar_text(&self) -> Option<&str> {
        match self {
            Node::Str(text) | Node::Int(text) | Node::Float(text) | Node::Time(text) => Some(text.expose()),
            Node::Bool(true) => Some("true"),
            Node::Bool(false) => Some("false"),
            Node::Map(_) | Node::List(_) | Node::Bytes(_) | Node::Null | Node::Comment(_) => None,
        }
    }
}

/// A decrypted and authenticated file.
pub struct Document {
    pub(super) format: Format,
    pub(super) documents: Vec<Node>,
    pub(super) opened_by: Vec<String>,
}

impl Document {
    /// The format of the file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The content: a mapping, or [`Node::Str`] / [`Node::Bytes`] for the binary format.
    ///
    /// A YAML file of several documents gives its first one; see [`Document::documents`].
    pub fn root(&self) -> &Node {
        self.documents.first().unwrap_or(&Node::Null)
    }

    /// All documents of the file. Only YAML has more than one.
    pub fn documents(&self) -> &[Node] {
        &self.documents
    }

    /// The recipient of the identity that opened the file; the first one where key groups need several.
    /// Empty if the file was opened with a data key that was already at hand.
    pub fn opened_by(&self) -> &str {
        self.opened_by.first().map_or("", String::as_str)
    }

    /// What `sops -d` prints, in the format of the file.
    pub fn emit(&self) -> Result<Secret<Vec<u8>>, SopsError> {
        let plain = match self.format {
            Format::Yaml => print_yaml::print(&self.documents),
            Format::Json => print_json::print(self.root())?,
            Format::Dotenv => print_dotenv::print(self.root())?,
            Format::Binary => match self.root() {
                Node::Str(text) => text.expose().clone().into_bytes(),
                Node::Bytes(bytes) => bytes.expose().clone(),
                _ => Vec::new(),
            },
        };
        Ok(Secret::new(plain))
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Document(..)")
    }
}
