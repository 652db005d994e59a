//! The smallest parts of a Go regular expression: characters, escapes, classes and their items.
//!
//! Each function reads from the start of a text and says how much it took. Knows nothing of groups and
//! repetitions.

use std::iter::Peekable;
use std::str::Chars;

/// The content of the ASCII class behind `\d`, `\s`, `\w` or their negations.
pub fn perl_class(letter: char) -> Option<&'static str> {
    match letter {
        'd' | 'D' => Some("0-9"),
        's' | 'S' => Some(r"\t\n\x0C\r "),
        'w' | 'W' => Some("0-9A-Za-z_"),
        _ => None,
    }
}

/// `\pL`, `\p{Greek}`, `\p{^Greek}` and their negations: length and text; the text is missing if it is no name.
pub fn property(text: &str) -> Option<(usize, Option<String>)> {
    let negated = match text.as_bytes().get(1)? {
        b'p' => false,
        b'P' => true,
        _ => return None,
    };
    let after = &text[2..];
    let Some(braced) = after.strip_prefix('{') else {
        let letter = after.chars().next();
        let text = letter.filter(char::is_ascii_uppercase).map(|letter| property_text(negated, &letter.to_string()));
        return Some((2 + letter.map_or(0, char::len_utf8), text));
    };
    let Some((name, _)) = braced.split_once('}') else {
        return Some((text.len(), None));
    };
    let (inverted, bare) = match name.strip_prefix('^') {
        Some(bare) => (true, bare),
        None => (false, name),
    };
    // Go knows names by their exact spelling; Rust would also take `greek` or `script=Greek`.
    let spelled = bare.starts_with(|letter: char| letter.is_ascii_uppercase())
        && bare.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '_');
    let length = 2 + name.len() + 2;
    Some((length, spelled.then(|| property_text(negated != inverted, bare))))
}

fn property_text(negated: bool, name: &str) -> String {
    format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' })
}

/// One character behind a backslash: how many bytes it takes, and which it is.
pub fn character(after: &str) -> Option<(usize, char)> {
    let mut letters = after.chars();
    let first = letters.next()?;
    let simple = match first {
        'a' => '\x07',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '0'..='7' => return octal(first, letters.peekable()),
        'x' => return hexadecimal(letters.as_str()).map(|(length, letter)| (1 + length, letter)),
        punctuation if punctuation.is_ascii_punctuation() => punctuation,
        space if space.is_ascii() && !space.is_ascii_alphanumeric() => space,
        _ => return None,
    };
    Some((1, simple))
}

/// `\0`, `\12`, `\123`. A single digit other than zero would be a back reference, which Go has not.
fn octal(first: char, mut letters: Peekable<Chars>) -> Option<(usize, char)> {
    let follows = letters.peek().is_some_and(|letter| ('0'..='7').contains(letter));
    if first != '0' && !follows {
        return None;
    }
    let mut value = first.to_digit(8)?;
    let mut length = 1;
    while length < 3 {
        let Some(digit) = letters.next().and_then(|letter| letter.to_digit(8)) else {
            break;
        };
        value = value * 8 + digit;
        length += 1;
    }
    char::from_u32(value).map(|letter| (length, letter))
}

/// `7F` or `{10FFFF}` behind `\x`.
fn hexadecimal(after: &str) -> Option<(usize, char)> {
    let (digits, length) = match after.strip_prefix('{') {
        Some(braced) => {
            let (digits, _) = braced.split_once('}')?;
            (digits, digits.len() + 2)
        }
        None => (after.get(..2)?, 2),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let value = u32::from_str_radix(digits, 16).ok()?;
    char::from_u32(value).map(|letter| (length, letter))
}

/// One item of a class: a range, a single character, or a named class.
pub fn class_item(text: &str) -> Option<(usize, String)> {
    // Go takes `[:` as a named class only where `:]` follows, and then refuses unknown names.
    let named = text.strip_prefix("[:").and_then(|name| name.split_once(":]"));
    if let Some((name, _)) = named {
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let bare = name.strip_prefix('^').unwrap_or(name);
        return known.contains(&bare).then(|| (name.len() + 4, format!("[:{name}:]")));
    }
    if let Some(after) = text.strip_prefix('\\') {
        let letter = after.chars().next()?;
        if let Some(set) = perl_class(letter) {
            let negated = if letter.is_ascii_uppercase() { "^" } else { "" };
            return Some((2, format!("[{negated}{set}]")));
        }
        if let Some((length, property)) = property(text) {
            return property.map(|property| (length, property));
        }
    }
    let (length, low) = class_character(text)?;
    let after = &text[length..];
    match after.strip_prefix('-') {
        Some(end) if !end.starts_with(']') && !end.is_empty() => {
            let (end_length, high) = class_character(end)?;
            (low <= high).then(|| {
                let range = format!("{}-{}", literal(low), literal(high));
                (length + 1 + end_length, range)
            })
        }
        _ => Some((length, literal(low))),
    }
}

fn class_character(text: &str) -> Option<(usize, char)> {
    match text.strip_prefix('\\') {
        Some(after) => character(after).map(|(length, letter)| (1 + length, letter)),
        None => text.chars().next().map(|letter| (letter.len_utf8(), letter)),
    }
}

/// A character that means itself, inside a class and outside of it.
pub fn literal(letter: char) -> String {
    match letter {
        letter if letter.is_ascii_alphanumeric() || letter == '_' => letter.to_string(),
        letter if letter.is_ascii() => format!(r"\x{:02X}", u32::from(letter)),
        letter => letter.to_string(),
    }
}
