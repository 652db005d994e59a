//! What a YAML scalar is to go-yaml: text, number, truth, time or nothing.
//!
//! SOPS authenticates the value that go-yaml made of the text, so every rule here is that of go-yaml v3, also
//! where YAML 1.2 says otherwise (`017` is fifteen, `yes` is text). Text to node; knows no file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::document::Node;
use super::go_text;
use crate::model::Secret;

/// The value of a scalar. `tag` is the name behind `!!`, empty for an own tag.
pub fn value(text: &str, plain: bool, tag: Option<&str>) -> Node {
    match tag {
        None if plain => resolve(text),
        None => Node::text(text),
        Some("binary") => binary(text),
        Some("float") => match resolve(text) {
            Node::Int(number) => float(number.expose()).unwrap_or_else(|| Node::text(text)),
            other => other,
        },
        Some("int" | "bool" | "null" | "timestamp") => resolve(text),
        Some(_) => Node::text(text),
    }
}

fn binary(text: &str) -> Node {
    let letters: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    match STANDARD.decode(letters) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Node::text(text),
            Err(error) => Node::Bytes(Secret::new(error.into_bytes())),
        },
        Err(_) => Node::text(text),
    }
}

/// Whether a text would be read as something else if it stood there without quotes.
pub fn needs_quotes(text: &str) -> bool {
    !matches!(resolve(text), Node::Str(_)) || text == "<<" || is_old_bool(text) || is_base_60(text)
}

/// The value of a scalar without quotes and tag.
fn resolve(text: &str) -> Node {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Node::Null,
        "true" | "True" | "TRUE" => return Node::Bool(true),
        "false" | "False" | "FALSE" => return Node::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Node::Float(Secret::new(String::from("NaN"))),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Node::Float(Secret::new(String::from("+Inf")));
        }
        "-.inf" | "-.Inf" | "-.INF" => return Node::Float(Secret::new(String::from("-Inf"))),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => number_or_time(text),
        _ => None,
    };
    number.unwrap_or_else(|| Node::text(text))
}

fn number_or_time(text: &str) -> Option<Node> {
    if let Some(time) = go_text::yaml_time(text) {
        return Some(Node::Time(Secret::new(time)));
    }
    let bare = text.replace('_', "");
    if let Some(number) = integer(&bare) {
        return Some(Node::Int(Secret::new(number)));
    }
    if has_float_form(&bare) {
        return float(&bare);
    }
    None
}

fn float(text: &str) -> Option<Node> {
    go_text::parse_float(text).map(|number| Node::Float(Secret::new(go_text::float_plain(number))))
}

/// `strconv.ParseInt(text, 0, 64)`, then `ParseUint`: the base stands in the prefix.
fn integer(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(digits, base).ok()?);
    let number = if negative { -size } else { size };
    // ParseUint takes no sign, so what is above i64 must stand without one.
    let accepted = number >= i128::from(i64::MIN) && (number <= i128::from(i64::MAX) || !text.starts_with('+'));
    accepted.then(|| number.to_string())
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn has_float_form(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let rest = &rest[whole..];
    let rest = match rest.strip_prefix('.') {
        Some(after) => {
            let fraction = digits(after);
            if whole == 0 && fraction == 0 {
                return false;
            }
            &after[fraction..]
        }
        None if whole == 0 => return false,
        None => rest,
    };
    match rest.strip_prefix(['e', 'E']) {
        None => rest.is_empty(),
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
    }
}

/// What YAML 1.1 took for a truth. go-yaml reads it as text but quotes it for the sake of others.
fn is_old_bool(text: &str) -> bool {
    matches!(
        text,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF"
    )
}

/// What YAML 1.1 took for a number of base 60, such as `190:20:30`.
fn is_base_60(text: &str) -> bool {
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (rest, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut parts = rest.split(':');
    let first = parts.next().unwrap_or_default();
    let digits_or_bars = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let mut any = false;
    let all_sixties = parts.all(|part| {
        any = true;
        match part.as_bytes() {
            [low] => low.is_ascii_digit(),
            [high, low] => (b'0'..=b'5').contains(high) && low.is_ascii_digit(),
            _ => false,
        }
    });
    any && all_sixties
        && first.starts_with(|letter: char| letter.is_ascii_digit())
        && digits_or_bars(first)
        && digits_or_bars(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> String {
        match resolve(text) {
            Node::Str(text) => format!("str {}", text.expose()),
            Node::Int(text) => format!("int {}", text.expose()),
            Node::Float(text) => format!("float {}", text.expose()),
            Node::Time(text) => format!("time {}", text.expose()),
            Node::Bool(truth) => format!("bool {truth}"),
            _ => String::from("null"),
        }
    }

    #[test]
    fn scalars_are_what_go_yaml_says() {
        for (text, expected) in [
            ("8080", "int 8080"),
            ("-7", "int -7"),
            ("0x1F", "int 31"),
            ("0o17", "int 15"),
            ("0755", "int 493"),
            ("08", "float 8"),
            ("1_000", "int 1000"),
            ("18446744073709551615", "int 18446744073709551615"),
            ("1e3", "float 1000"),
            ("1.", "float 1"),
            (".5", "float 0.5"),
            ("1e999", "str 1e999"),
            ("-.inf", "float -Inf"),
            ("2024-01-31", "time 2024-01-31T00:00:00Z"),
            ("yes", "str yes"),
            ("190:20:30", "str 190:20:30"),
            ("~", "null"),
            ("True", "bool true"),
            ("-", "str -"),
        ] {
            assert_eq!(form(text), expected);
        }
        assert!(needs_quotes("190:20:30") && needs_quotes("yes") && !needs_quotes("8080:80a"));
    }
}
