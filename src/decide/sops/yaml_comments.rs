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
    /// Whether something stands before it on its line.
    pub inline: bool,
    /// What stands behind the `#`.
    pub text: String,
}

/// The comments outside of these spans, which are in order and given in characters.
pub fn find(text: &str, scalars: &[(usize, usize)]) -> Result<Vec<Comment>, SopsError> {
    let mut comments = Vec::new();
    let mut spans = scalars.iter().peekable();
    let mut letters = text.char_indices().enumerate();
    let (mut column, mut blank_so_far, mut after_space) = (0, true, true);
    while let Some((position, (byte, letter))) = letters.next() {
        while spans.next_if(|(_, end)| *end <= position).is_some() {}
        let inside = spans.peek().is_some_and(|(start, _)| *start <= position);
        if letter == '\n' {
            (column, blank_so_far, after_space) = (0, true, true);
            continue;
        }
        if letter == '#' && !inside && after_space {
            let line = text[byte + 1..].lines().next().unwrap_or_default();
            if comments.len() >= MAX_ENTRIES {
                return Err(TOO_MANY);
            }
            comments.push(Comment { position, column, inline: !blank_so_far, text: line.to_owned() });
            // Go on behind the comment, so that a `#` inside of it is not taken for another one.
            let length = line.chars().count();
            if length > 0 {
                letters.nth(length - 1);
            }
            column += length;
        }
        after_space = matches!(letter, ' ' | '\t' | '\r');
        blank_so_far &= after_space || letter == '\u{feff}';
        column += 1;
    }
    Ok(comments)
}
