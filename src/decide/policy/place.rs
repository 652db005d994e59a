//! Finds the line of a Compose file that asks for something, as well as it can be found without reading it as Compose.

use crate::decide::mistake::line_at;
use crate::decide::policy::Demand;

/// The line, from 1, where the demand stands; the nearest one above it that was found.
pub fn line(text: &str, demand: &Demand) -> Option<usize> {
    line_with(text, &demand.place, &demand.value)
}

/// The line, from 1, of a value at a place such as `services.web.cap_add`.
pub fn line_with(text: &str, place: &str, value: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let from = line_at(text, place)? - 1;
    let bare = value.trim_end_matches(":ro");
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
