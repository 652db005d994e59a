//! Writes and reads as much of `.env` as moorline needs, by the rules of Compose's own reader.

use std::collections::BTreeSet;

/// Whether Compose takes this as the name of a variable.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
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
