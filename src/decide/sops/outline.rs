//! The names in a sealed file, without the values: what can be checked before anyone has a key.
//!
//! Never holds a value, not even one that stands in clear.

use super::cipher;
use super::document::Node;
use super::rules::{Demand, Rule};

/// The shape of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outline {
    /// A mapping with its keys in order.
    Map(Vec<(String, Outline)>),
    /// A list.
    List(Vec<Outline>),
    /// A value that is sealed.
    Sealed,
    /// A value that stands in clear, an empty text included.
    Clear,
    /// Nothing.
    Null,
}

impl Outline {
    pub(super) fn of(node: &Node) -> Self {
        match node {
            Node::Map(_) => {
                Outline::Map(node.entries().map(|(key, value)| (key.to_owned(), Outline::of(value))).collect())
            }
            Node::List(_) => Outline::List(node.items().map(Outline::of).collect()),
            Node::Null => Outline::Null,
            Node::Str(text) if cipher::looks_sealed(text.expose()) => Outline::Sealed,
            _ => Outline::Clear,
        }
    }

    /// The outline below a key; the last one where a key stands twice.
    pub fn get(&self, key: &str) -> Option<&Outline> {
        match self {
            Outline::Map(entries) => entries.iter().rev().find_map(|(name, outline)| (name == key).then_some(outline)),
            _ => None,
        }
    }
}

/// More than anyone would mend by hand.
const MOST_PLACES: usize = 1_000;

/// Paths of values that the rule wants sealed but that stand in clear. An empty text is never sealed.
pub(super) fn unsealed_places(documents: &[Node], rule: &Rule) -> Vec<String> {
    let mut places = Vec::new();
    for document in documents {
        collect(document, rule, &mut Vec::new(), false, &mut places);
    }
    places
}

/// Where an empty text stands.
pub(super) fn empty_places(documents: &[Node]) -> Vec<String> {
    fn walk<'n>(node: &'n Node, path: &mut Vec<&'n str>, places: &mut Vec<String>) {
        for (key, value) in node.entries() {
            path.push(key);
            match value {
                Node::Map(_) => walk(value, path, places),
                Node::Str(text) if text.expose().is_empty() && places.len() < MOST_PLACES => {
                    places.push(path.join("."));
                }
                _ => {}
            }
            path.pop();
        }
    }
    let mut places = Vec::new();
    documents.iter().for_each(|document| walk(document, &mut Vec::new(), &mut places));
    places
}

fn collect<'n>(node: &'n Node, rule: &Rule, path: &mut Vec<&'n str>, marked: bool, places: &mut Vec<String>) {
    match node {
        Node::Map(_) => {
            for (key, value) in node.entries() {
                path.push(key);
                collect(value, rule, path, marked || rule.marks(key), places);
                path.pop();
            }
        }
        Node::List(_) => {
            for item in node.items() {
                collect(item, rule, path, marked, places);
            }
        }
        Node::Null | Node::Comment(_) => {}
        scalar => {
            let in_clear = match scalar {
                Node::Str(text) => !text.expose().is_empty() && !cipher::looks_sealed(text.expose()),
                _ => true,
            };
            if in_clear && rule.demand(marked) == Demand::Sealed && places.len() < MOST_PLACES {
                places.push(path.join("."));
            }
        }
    }
}
