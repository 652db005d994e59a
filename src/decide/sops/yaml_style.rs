//! How a text is written in YAML so that it reads back as itself: plain, quoted once or twice, or as a block.
//!
//! Makes the choices of go-yaml, character by character, so that the output is that of `sops -d`. Writes the
//! scalar alone and knows no tree.

use super::yaml_scalar::needs_quotes;

/// The indent of go-yaml as SOPS sets it.
pub const INDENT: usize = 4;

/// What a text allows.
#[derive(Default)]
struct Traits {
    multiline: bool,
    no_plain: bool,
    no_single: bool,
    no_block: bool,
}

/// Whether a key can stand on one line with its colon.
pub fn is_simple_key(text: &str) -> bool {
    text.len() <= 128 && !analyze(text).multiline
}

/// Writes a text as a key.
pub fn write_key(text: &str, out: &mut String) {
    let traits = analyze(text);
    if text.contains('\n') || traits.multiline || needs_quotes(text) {
        write_double(text, out);
    } else {
        write_flow(text, &traits, 0, out);
    }
}

/// Writes a text as a value, its block lines, if any, at `indent`.
pub fn write_value(text: &str, indent: usize, out: &mut String) {
    let traits = analyze(text);
    match text.contains('\n') {
        true if traits.no_block => write_double(text, out),
        true => write_literal(text, indent, out),
        // go-yaml gives it its tag in the place of quotes.
        false if text == "<<" => out.push_str("!!merge <<"),
        false if needs_quotes(text) => write_double(text, out),
        false => write_flow(text, &traits, indent, out),
    }
}

fn write_flow(text: &str, traits: &Traits, indent: usize, out: &mut String) {
    if !traits.no_plain {
        out.push_str(text);
    } else if !traits.no_single {
        out.push('\'');
        write_with_breaks(&text.replace('\'', "''"), indent, out);
        out.push('\'');
    } else {
        write_double(text, out);
    }
}

/// Writes one line. What was a break of a line in YAML 1.1 is one to go-yaml, and so the indent stands behind it.
fn write_with_breaks(line: &str, indent: usize, out: &mut String) {
    let mut behind_break = false;
    for letter in line.chars() {
        let is_old_break = is_old_break(letter);
        if behind_break && !is_old_break {
            out.extend(std::iter::repeat_n(' ', indent));
        }
        behind_break = is_old_break;
        out.push(letter);
    }
}

/// `yaml_emitter_analyze_scalar` for the block context.
fn analyze(text: &str) -> Traits {
    let mut traits = Traits::default();
    if text.is_empty() {
        traits.no_block = true;
        return traits;
    }
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut special, mut tabs) = (false, false);
    let (mut break_space, mut space_break) = (false, false);
    let mut before: Option<char> = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let blank_follows = letters.peek().is_none_or(|next| matches!(next, ' ' | '\t') || is_break(*next));
        let blank_before = before.is_none_or(|last| matches!(last, ' ' | '\t') || is_break(last));
        indicators |= match letter {
            '#' => blank_before,
            ':' => blank_follows,
            '?' | '-' => before.is_none() && blank_follows,
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                before.is_none()
            }
            _ => false,
        };
        match letter {
            '\t' => tabs = true,
            letter => special |= !is_printable(letter),
        }
        traits.multiline |= is_break(letter);
        break_space |= letter == ' ' && before.is_some_and(is_break);
        space_break |= is_break(letter) && before == Some(' ');
        before = Some(letter);
    }
    let edge = |letter: char| letter == ' ' || is_break(letter);
    let edges = text.starts_with(edge) || text.ends_with(edge);
    traits.no_single = break_space || space_break || tabs || special;
    traits.no_plain = traits.no_single || indicators || edges || traits.multiline;
    traits.no_block = text.ends_with(' ') || space_break || special;
    traits
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What ends a line in YAML 1.1, but is a letter in YAML 1.2. (A next line, U+0085, is never written as itself.)
pub fn is_old_break(letter: char) -> bool {
    matches!(letter, '\u{2028}' | '\u{2029}')
}

/// What go-yaml takes for printable. Nothing beyond the basic plane is.
fn is_printable(letter: char) -> bool {
    matches!(letter,
        '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn write_double(text: &str, out: &mut String) {
    // go-yaml asks at each letter whether the text begins with a byte order mark, and then escapes that letter.
    let is_marked = text.starts_with('\u{feff}');
    out.push('"');
    for letter in text.chars() {
        let code = u32::from(letter);
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if is_printable(letter) && !is_break(letter) && !is_marked => out.push(letter),
            '\0' => out.push_str("\\0"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\x1b' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{a0}' => out.push_str("\\_"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            _ if code <= 0xff => out.push_str(&format!("\\x{code:02X}")),
            _ if code <= 0xffff => out.push_str(&format!("\\u{code:04X}")),
            _ => out.push_str(&format!("\\U{code:08X}")),
        }
    }
    out.push('"');
}

/// A literal block: its hints, then every line at the indent; empty lines stay empty.
fn write_literal(text: &str, indent: usize, out: &mut String) {
    out.push('|');
    if text.starts_with(|letter| letter == ' ' || is_break(letter)) {
        // Always what the indent is set to, also inside of an item, where the lines stand at less and nobody can read
        // them back. It is what `sops -d` prints.
        out.push_str(&INDENT.to_string());
    }
    let mut ends = text.chars().rev();
    match (ends.next(), ends.next()) {
        (Some(last), _) if !is_break(last) => out.push('-'),
        (Some(_), None) => out.push('+'),
        (Some(_), Some(last)) if is_break(last) => out.push('+'),
        _ => {}
    }
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', indent));
            write_with_breaks(line, indent, out);
        }
    }
}
