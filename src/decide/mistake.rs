//! Names what is wrong in the repository, with its place, so that a person can mend all of it at once.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::decide::fault::{Code, Fault};
use crate::decide::yaml::{self, LARGEST};
use crate::model::tree::{File, Tree};

/// Something in the repository that must be changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Path in the repository.
    pub path: String,
    /// The line, from 1, where one can be named.
    pub line: Option<usize>,
    /// The column in that line, from 1, where a reader names it.
    pub column: Option<usize>,
    /// What is wrong, and what to do.
    pub text: String,
}

impl Mistake {
    /// A mistake in a file as a whole.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::at(path, None, text)
    }

    /// A mistake at a line.
    pub fn at(path: impl Into<String>, line: Option<usize>, text: impl Into<String>) -> Self {
        Self { path: path.into(), line, column: None, text: text.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "{}:{line}:{column}: {}", self.path, self.text),
            (Some(line), None) => write!(f, "{}:{line}: {}", self.path, self.text),
            (None, _) => write!(f, "{}: {}", self.path, self.text),
        }
    }
}

/// Reads one of our own files, or says where it is wrong.
pub fn read_yaml<T: DeserializeOwned>(tree: &Tree, path: &str, mistakes: &mut Vec<Mistake>) -> Option<T> {
    let Some(file) = tree.get(path) else {
        mistakes.push(Mistake::new(path, "this file is missing"));
        return None;
    };
    let text = text_of(file, path, mistakes)?;
    match yaml::read(text) {
        Ok(value) => Some(value),
        Err(flaw) => {
            mistakes.push(yaml_mistake(path, flaw));
            None
        }
    }
}

/// The text of one of our own files, if it is text and small.
pub fn text_of<'a>(file: &'a File, path: &str, mistakes: &mut Vec<Mistake>) -> Option<&'a str> {
    if file.bytes.len() > LARGEST {
        mistakes.push(Mistake::new(path, format!("is larger than {} KiB", LARGEST / 1024)));
        return None;
    }
    match file.text() {
        Ok(text) => Some(text),
        Err(error) => {
            let line = file.bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            mistakes.push(Mistake::at(path, Some(line), "is not UTF-8 text"));
            None
        }
    }
}

/// A flaw of a YAML file as a mistake of the repository.
pub fn yaml_mistake(path: &str, flaw: yaml::Flaw) -> Mistake {
    let (line, column) = flaw.place.unzip();
    Mistake { path: path.to_owned(), line, column, text: flaw.text }
}

/// The first line that holds `word` as a whole word and is not a comment.
pub fn line_of(tree: &Tree, path: &str, word: &str) -> Option<usize> {
    line_in(tree.get(path)?.text().ok()?, word)
}

/// The first line of a text that holds `word` as a whole word and is not a comment.
pub fn line_in(text: &str, word: &str) -> Option<usize> {
    let is_part = |character: char| character.is_alphanumeric() || "_-.".contains(character);
    let holds = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    };
    let found = text.lines().position(|line| !line.trim_start().starts_with('#') && holds(line));
    found.map(|index| index + 1)
}

/// The line, from 1, where the keys of a path such as `services.web.ports` lead, in a block or in braces; the nearest one
/// above it that was found.
pub fn line_at(text: &str, place: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let mut at: Option<usize> = None;
    for segment in place.split('.') {
        // What an anchor brings stands elsewhere: then the line that asks for it is named, not one of a neighbour.
        let within = at.map_or(0..lines.len(), |from| from..end_of_block(&lines, from));
        let Some(found) = within.into_iter().find(|index| is_key(lines[*index], segment)) else { break };
        at = Some(found);
    }
    at.map(|index| index + 1)
}

/// Where the block ends that the key in this line has: at the next key that is not further in.
fn end_of_block(lines: &[&str], from: usize) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let ends = |line: &&str| {
        let bare = line.trim_start();
        !bare.is_empty() && !bare.starts_with(['#', '-']) && indent(line) <= indent(lines[from])
    };
    lines.iter().skip(from + 1).position(ends).map_or(lines.len(), |after| from + 1 + after)
}

/// Whether a line has this key, in a block or in braces.
fn is_key(line: &str, key: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || "_-.".contains(character);
    let bare = line.trim_start();
    !bare.starts_with('#')
        && bare.match_indices(key).any(|(at, _)| {
            let before = bare[..at].chars().next_back();
            let after = bare[at + key.len()..].trim_start_matches(['"', '\'']);
            !before.is_some_and(is_part) && after.starts_with(':')
        })
}

/// ` (did you mean ...?)` when one of the known names is close.
pub fn meant(name: &str, known: &[&str]) -> String {
    let closest = known.iter().map(|candidate| (distance(name, candidate), candidate)).min();
    match closest {
        Some((away, candidate)) if away <= 2 => format!(" (did you mean `{candidate}`?)"),
        _ => String::new(),
    }
}

/// How many letters must change.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[two.len()]
}

/// The fault of a repository with mistakes: all of them, with their places.
pub fn spec_invalid(mistakes: Vec<Mistake>, what: &str) -> Fault {
    let count = match mistakes.len() {
        1 => "1 mistake".to_owned(),
        more => format!("{more} mistakes"),
    };
    let mut fault = Fault::new(Code::SpecInvalid, format!("{count} in {what}"));
    fault.places = mistakes.iter().map(Mistake::to_string).collect();
    fault.hint("`moorline check` finds these before you merge")
}
