//! Writes and reads as much of `.env` as moorline needs, by the rules of Compose's own reader.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Secret;

/// Whether Compose takes this as the name of a variable.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Variables that steer Compose itself. Profiles may be chosen per host; nothing else may be redirected.
pub fn is_reserved(name: &str) -> bool {
    (name.starts_with("COMPOSE_") && name != "COMPOSE_PROFILES") || name.starts_with("DOCKER_")
}

/// One line that sets `name` to exactly `value`.
///
/// Single quotes keep everything literally, but cannot hold a quote or end in a backslash; double quotes can, with
/// escapes, and there a dollar sign must be escaped too (compose-go `dotenv/parser.go`; checked against the plugin).
pub fn line(name: &str, value: &str) -> String {
    let plain = !value.contains(['\'', '\\', '\r']);
    if plain {
        return format!("{name}='{value}'\n");
    }
    let mut quoted = String::new();
    for character in value.chars() {
        match character {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '$' => quoted.push_str("\\$"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            other => quoted.push(other),
        }
    }
    format!("{name}=\"{quoted}\"\n")
}

/// The names that a `.env` file sets. Lines that Compose would refuse are passed over here: Compose reports them.
pub fn names(text: &str) -> BTreeSet<String> {
    let name_of = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, _) = line.split_once(['=', ':'])?;
        is_name(name.trim()).then(|| name.trim().to_owned())
    };
    text.lines().filter_map(name_of).collect()
}

/// A name without the `export ` that Compose passes over.
pub fn without_export(name: &str) -> &str {
    name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map_or(name, str::trim_start)
}

/// The values that a dotenv file of secrets sets, as Compose reads them (compose-go `dotenv/parser.go`): quotes, escapes
/// within double quotes, comments. The last one of a name wins.
///
/// Two things are refused where Compose goes on: octal escapes, and a value that names another variable, which would be
/// that of the file, of the stack or nothing, depending on who reads it. The mistake names the line, never a value.
pub fn values(text: &str) -> Result<BTreeMap<String, Secret<String>>, String> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
            continue;
        }
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (name, value, after) = statement(rest).map_err(|problem| format!("line {line} {problem}"))?;
        found.insert(name.to_owned(), value);
        rest = after.trim_start();
    }
    Ok(found)
}

/// The first statement: its name, its value, and what stands behind it.
fn statement(text: &str) -> Result<(&str, Secret<String>, &str), &'static str> {
    let text = without_export(text);
    let sign = text.find(['=', ':', '\n']).filter(|at| !text[*at..].starts_with('\n')).ok_or("is not `NAME=value`")?;
    let name = text[..sign].trim_end();
    if !is_name(name) {
        return Err("has a name that no variable can have");
    }
    let after = text[sign + 1..].trim_start_matches([' ', '\t', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{a0}']);
    let (value, rest) = match after.strip_prefix('"') {
        Some(inside) => {
            let (value, rest) = quoted(inside, '"')?;
            if value.expose().contains("\\0") {
                return Err("has an octal escape");
            }
            (expanded(unescaped(value.expose()).expose())?, rest)
        }
        None => match after.strip_prefix('\'') {
            Some(inside) => quoted(inside, '\'')?,
            None => {
                let (line, rest) = after.split_once('\n').unwrap_or((after, ""));
                let value = line.split_once(" #").map_or(line, |(value, _)| value);
                (expanded(value.trim_end())?, rest)
            }
        },
    };
    Ok((name, value, rest))
}

/// The text up to the closing quote. A backslash keeps a quote from closing, and stays before everything else.
fn quoted(text: &str, quote: char) -> Result<(Secret<String>, &str), &'static str> {
    let mut value = String::with_capacity(text.len());
    let mut is_escaped = false;
    for (at, letter) in text.char_indices() {
        match (letter, is_escaped) {
            (letter, false) if letter == quote => return Ok((Secret::new(value), &text[at + 1..])),
            ('\\', false) => is_escaped = true,
            (letter, escaped) => {
                if escaped && letter != quote {
                    value.push('\\');
                }
                value.push(letter);
                is_escaped = false;
            }
        }
    }
    drop(Secret::new(value));
    Err("has a quote that nothing closes")
}

/// The escapes of double quotes. An escaped dollar sign becomes two, which stand for one.
fn unescaped(text: &str) -> Secret<String> {
    let mut out = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let known = rest[at + 1..].chars().next().and_then(|letter| {
            Some(match letter {
                'a' => "\x07",
                'b' => "\x08",
                'f' => "\x0c",
                'n' => "\n",
                'r' => "\r",
                't' => "\t",
                'v' => "\x0b",
                '$' => "$$",
                '"' => "\"",
                '\\' => "\\",
                _ => return None,
            })
        });
        out.push_str(known.unwrap_or("\\"));
        rest = &rest[at + 1 + usize::from(known.is_some())..];
    }
    out.push_str(rest);
    Secret::new(out)
}

/// Two dollar signs are one; a single one would name a variable.
fn expanded(text: &str) -> Result<Secret<String>, &'static str> {
    let value = Secret::new(text.replace("$$", ""));
    match value.expose().contains('$') {
        true => Err("names another variable with `$`; single quotes keep a dollar sign as it is"),
        false => Ok(Secret::new(text.replace("$$", "$"))),
    }
}

/// A use of a variable in a Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The line, from 1.
    pub line: usize,
    /// The variable.
    pub name: String,
    /// Whether the file itself says what to do when it is not set (`:-`, `-`, `:+`, `+`, `:?`, `?`).
    pub has_rule: bool,
}

/// The variables that a Compose file uses, without those in comments.
pub fn uses(text: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line);
        let mut rest = line;
        while let Some(at) = rest.find('$') {
            rest = &rest[at + 1..];
            if let Some(escaped) = rest.strip_prefix('$') {
                rest = escaped;
                continue;
            }
            let (braced, body) = match rest.strip_prefix('{') {
                Some(body) => (true, body),
                None => (false, rest),
            };
            let length = body.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            let (name, after) = body.split_at(length);
            rest = after;
            if is_name(name) {
                let has_rule = braced && !after.starts_with('}');
                found.push(Use { line: index + 1, name: name.to_owned(), has_rule });
            }
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, character) in line.char_indices() {
        if character == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = character;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_are_quoted_so_that_nothing_is_expanded() {
        assert_eq!(line("A", "x $HOME # y"), "A='x $HOME # y'\n");
        assert_eq!(line("A", "it's \"$5\" \\"), "A=\"it's \\\"\\$5\\\" \\\\\"\n");
        assert_eq!(line("A", "one\ntwo"), "A='one\ntwo'\n");
    }

    #[test]
    fn names_are_read_with_export_and_without() {
        let found = names("A=1\n  export B = 2\n# C=3\nD: 4\n1E=5\n");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["A", "B", "D"]);
    }

    #[test]
    fn uses_know_rules_escapes_comments_and_nesting() {
        let text = "image: a:${TAG}\n# ${NOT}\ncommand: echo $$HOME ${A:-${B}} $C # $D\nurl: http://x/#${E}\n";
        let found: Vec<_> = uses(text).into_iter().map(|used| (used.line, used.name, used.has_rule)).collect();
        let expected = [(1, "TAG", false), (3, "A", true), (3, "B", false), (3, "C", false), (4, "E", false)];
        assert_eq!(found, expected.map(|(line, name, rule)| (line, name.to_owned(), rule)));
    }
}
