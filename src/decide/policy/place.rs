//! Finds the line of a Compose file that asks for something, as well as it can be found without reading it as Compose.

use crate::decide::policy::Demand;

/// The line, from 1, where the demand stands; the nearest one above it that was found.
pub fn line(text: &str, demand: &Demand) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let mut at: Option<usize> = None;
    for segment in demand.place.split('.') {
        let from = at.unwrap_or(0);
        let Some(found) = (from..lines.len()).find(|index| is_key(lines[*index], segment)) else { break };
        at = Some(found);
    }
    let from = at?;
    let bare = demand.value.trim_end_matches(":ro");
    let bare = bare.split_once('=').map_or(bare, |(_, value)| value);
    let indent = indent_of(lines[from]);
    let inside = |index: &usize| {
        *index == from || lines[*index].trim().is_empty() || indent_of(lines[*index]) > indent || is_item(lines[*index])
    };
    let block = (from..lines.len()).take_while(inside);
    let value = block.into_iter().find(|index| !bare.is_empty() && lines[*index].contains(bare));
    Some(value.unwrap_or(from) + 1)
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
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
