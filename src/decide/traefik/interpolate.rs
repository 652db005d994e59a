//! Fills in `${NAME}` as Compose does. What comes from the SOPS file is filled in as a mark (see `decide::taint`).

use std::collections::BTreeMap;

use crate::decide::dotenv;

/// Fills in every variable of a text, or says what is missing.
///
/// `$$` is a dollar sign. What cannot be a variable stays: `$1` and `${1}` are groups of a regular expression, and
/// the dollar signs of a password hash are followed by digits.
pub fn fill(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(body) = rest.strip_prefix('{') {
            let name = name_at(body);
            if name.is_empty() {
                filled.push('$');
                continue;
            }
            let end = closing(body).ok_or_else(|| format!("`${{{name}` has no `}}`"))?;
            filled.push_str(&ruled(name, &body[name.len()..end], environment)?);
            rest = &body[end + 1..];
        } else {
            let name = name_at(rest);
            if name.is_empty() {
                filled.push('$');
                continue;
            }
            filled.push_str(&value(name, environment)?);
            rest = &rest[name.len()..];
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn name_at(text: &str) -> &str {
    let end = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let name = &text[..end];
    if dotenv::is_name(name) { name } else { "" }
}

/// Where the brace closes that was opened before this text.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn value(name: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let found = environment.get(name).cloned();
    found.ok_or_else(|| format!("`${{{name}}}` is not set; write `$$` for a dollar sign"))
}

/// `:-default`, `-default`, `:?error`, `?error`, `:+other`, `+other`.
fn ruled(name: &str, rule: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    if rule.is_empty() {
        return value(name, environment);
    }
    let (counts_empty, rule) = match rule.strip_prefix(':') {
        Some(rule) => (true, rule),
        None => (false, rule),
    };
    let stated = environment.get(name).filter(|value| !counts_empty || !value.is_empty());
    let mut characters = rule.chars();
    let operator = characters.next();
    let operand = characters.as_str();
    match (operator, stated) {
        (Some('-' | '?'), Some(stated)) => Ok(stated.clone()),
        (Some('-'), None) | (Some('+'), Some(_)) => fill(operand, environment),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => Err(format!("`${{{name}}}` is required: {operand}")),
        _ => Err(format!("`${{{name}{rule}}}` is not a form that Compose knows")),
    }
}

/// What a `.env` file sets.
pub fn env_file(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        dotenv::is_name(name.trim()).then(|| (name.trim().to_owned(), env_value(value.trim())))
    };
    text.lines().filter_map(pair).collect()
}

fn env_value(text: &str) -> String {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inner.0.to_owned();
        }
    }
    text.split(" #").next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_compose_are_filled_in_and_groups_of_expressions_stay() {
        let environment: BTreeMap<String, String> =
            [("A", "a"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        for (text, expected) in [
            ("x$A-${A}y", "xa-ay"),
            ("$$A ${1} $1 $", "$A ${1} $1 $"),
            ("${B:-d} ${B-${A}} ${EMPTY:-d} ${EMPTY-d}", "d a d "),
            ("${A:+yes} ${B+yes}${EMPTY:+yes}", "yes "),
            ("u:$2y$05$", "u:$2y$05$"),
        ] {
            assert_eq!(fill(text, &environment).as_deref(), Ok(expected), "{text}");
        }
        for (text, reason) in [("$B", "not set"), ("${B:?give it}", "give it"), ("${A", "no `}`"), ("${A!x}", "form")] {
            assert!(fill(text, &environment).unwrap_err().contains(reason), "{text}");
        }
    }

    #[test]
    fn an_env_file_is_read_with_quotes_and_comments() {
        let found = env_file("A=1 # one\nexport B='x # y'\n# C=2\nD=\"z\"\n");
        assert_eq!(found["A"], "1");
        assert_eq!(found["B"], "x # y");
        assert_eq!(found["D"], "z");
        assert_eq!(found.len(), 3);
    }
}
