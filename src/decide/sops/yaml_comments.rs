//! Finds the comments of a YAML text, which the parser below us drops.
//!
//! A comment can only stand between scalars, so this looks at what the parser left out. Says where a comment
//! stands, not what it belongs to.

use super::error::SopsError;
use super::limits::{MAX_ENTRIES, TOO_MANY};

/// One comment.
pub struct Comment {
    /// Position of the `#` in characters.
    pub position: usize,
    /// Column of the `#`, from zero.
    pub column: usize,
    /// What stands before it on its line.
    pub behind: Behind,
    /// What stands behind the `#`.
    pub text: String,
}

/// What stands before a comment on its line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// White space.
    Nothing,
    /// The dash of an item, or several.
    Dash,
    /// The colon of a key that stands on lines of its own.
    Colon,
    /// A value, or a key.
    Value,
}

impl Behind {
    fn of(before: &str) -> Self {
        match before.trim() {
            "" | "\u{feff}" => Self::Nothing,
            ":" => Self::Colon,
            marks if marks.split(' ').all(|mark| matches!(mark, "-" | "")) => Self::Dash,
            _ => Self::Value,
        }
    }
}

/// The comments outside of these spans, which are in order and given in characters.
pub fn find(text: &str, scalars: &[(usize, usize)]) -> Result<Vec<Comment>, SopsError> {
    let mut comments = Vec::new();
    let mut spans = scalars.iter().peekable();
    let mut letters = text.char_indices().enumerate();
    let (mut column, mut line_start, mut after_space) = (0, 0, true);
    while let Some((position, (byte, letter))) = letters.next() {
        while spans.next_if(|(_, end)| *end <= position).is_some() {}
        let inside = spans.peek().is_some_and(|(start, _)| *start <= position);
        if letter == '\n' {
            (column, line_start, after_space) = (0, byte + 1, true);
            continue;
        }
        if letter == '#' && !inside && after_space {
            let line = text[byte + 1..].lines().next().unwrap_or_default();
            if comments.len() >= MAX_ENTRIES {
                return Err(TOO_MANY);
            }
            let behind = Behind::of(&text[line_start..byte]);
            comments.push(Comment { position, column, behind, text: line.to_owned() });
            // Go on behind the comment, so that a `#` inside of it is not taken for another one.
            let length = line.chars().count();
            if length > 0 {
                letters.nth(length - 1);
            }
            column += length;
        }
        after_space = matches!(letter, ' ' | '\t' | '\r');
        column += 1;
    }
    Ok(comments)
}
