//! Puts differences into text for a terminal, and into Markdown for the comment of a pull request.

use super::{Change, HostDiff, How};
use crate::model::Revision;

/// For a terminal.
pub fn text(diffs: &[HostDiff]) -> String {
    let mut text = String::new();
    for diff in diffs {
        text.push_str(&format!("{}  {}\n", diff.host, summary(diff)));
        for change in &diff.changes {
            text.push_str(&format!("  {}\n", line(change)));
        }
        for note in &diff.notes {
            text.push_str(&format!("  note: {note}\n"));
        }
    }
    text
}

/// For the comment of a pull request.
pub fn markdown(diffs: &[HostDiff]) -> String {
    let mut text = String::from("### What changes on each host\n");
    for diff in diffs {
        text.push_str(&format!("\n**{}**: {}\n", inert(&diff.host), summary(diff)));
        if !diff.changes.is_empty() {
            text.push_str("\n| where | what | before | after |\n|---|---|---|---|\n");
        }
        for change in &diff.changes {
            let (before, after) = match &change.how {
                How::Added => (String::new(), "added".into()),
                How::Removed => ("removed".into(), String::new()),
                How::Changed => ("(a value)".into(), "(another value)".into()),
                How::Replaced { from, to } => (code(from), code(to)),
            };
            text.push_str(&format!("| {} | {} | {before} | {after} |\n", inert(&change.place), code(&change.what)));
        }
        for note in &diff.notes {
            text.push_str(&format!("\n> {}\n", inert(note)));
        }
    }
    text
}

fn summary(diff: &HostDiff) -> String {
    let short = |revision: &Option<Revision>| revision.as_ref().map_or("nothing", Revision::short).to_owned();
    let count = match (diff.changes.len(), diff.notes.is_empty()) {
        (_, false) => "cannot be compared".to_owned(),
        (0, true) => "no change".to_owned(),
        (1, true) => "1 change".to_owned(),
        (more, true) => format!("{more} changes"),
    };
    match diff.from == diff.to {
        true => format!("stays at {}, {count}", short(&diff.to)),
        false => format!("{} -> {}, {count}", short(&diff.from), short(&diff.to)),
    }
}

fn line(change: &Change) -> String {
    let Change { place, what, how } = change;
    match how {
        How::Added => format!("+ {place}  {what}"),
        How::Removed => format!("- {place}  {what}"),
        How::Changed => format!("~ {place}  {what}"),
        How::Replaced { from, to } => format!("~ {place}  {what}: {from} -> {to}"),
    }
}

/// What a pull request writes may not become markup of the comment: no new cell, no link, no mention.
fn inert(text: &str) -> String {
    let plain = |character: char| character.is_alphanumeric() || " _-./:,()`".contains(character);
    let shown = text.chars().map(|character| if plain(character) && character != '`' { character } else { '?' });
    shown.collect()
}

/// In a code span only backticks, bars and line ends mean anything.
fn code(text: &str) -> String {
    let shown: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    format!("`{}`", shown.replace('`', "'").replace('|', "\\|"))
}
