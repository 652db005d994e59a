//! The grammar of one line of a list of allowed signers, and of the dates in it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Entry, LineFlaw, Moment, Options, Role};
use crate::decide::trust::key::PublicKey;
use crate::decide::trust::wire::shown;

/// What a line may be separated by; line feeds end it.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// Reads one line: `principals [options] kind base64 [comment]`. Nothing, if it is blank or a comment.
pub(super) fn entry(number: usize, line: &str) -> Result<Option<Entry>, LineFlaw> {
    let line = line.trim_matches(BLANK);
    if line.chars().any(|character| character.is_control() && character != '\t') {
        return Err(LineFlaw::ControlCharacter);
    }
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (principals, rest) = principals(line)?;
    if principals.is_empty() {
        return Err(LineFlaw::NoPrincipal);
    }
    let first = rest.split([' ', '\t']).next().unwrap_or_default();
    let (options, key) = if PublicKey::is_kind(first) { ("", rest) } else { split_options(rest)? };
    // The options first: a kind of key that is not known looks like one.
    let options = if options.is_empty() { Options::default() } else { read_options(options)? };
    Ok(Some(Entry { line: number, principals, key: read_key(key)?, options }))
}

/// The first word, in which quotes may protect blanks.
fn principals(line: &str) -> Result<(String, &str), LineFlaw> {
    let end = line.find([' ', '\t', '\r', '"']).ok_or(LineFlaw::NoKey)?;
    let (before, rest) = line.split_at(end);
    let Some(quoted) = rest.strip_prefix('"') else {
        return Ok((before.to_owned(), rest.trim_start_matches(BLANK)));
    };
    let (inside, rest) = quoted.split_once('"').ok_or(LineFlaw::OpenQuote)?;
    Ok((format!("{before}{inside}"), rest.trim_start_matches(BLANK)))
}

fn read_key(text: &str) -> Result<PublicKey, LineFlaw> {
    let mut words = text.split([' ', '\t']).filter(|word| !word.is_empty());
    let (kind, encoded) = (words.next().ok_or(LineFlaw::NoKey)?, words.next());
    if !PublicKey::is_kind(kind) {
        return Err(LineFlaw::UnknownOption(shown(kind.as_bytes())));
    }
    Ok(PublicKey::from_words(kind, encoded.ok_or(LineFlaw::NoKey)?)?)
}

/// Options reach to the first blank that is not in quotes.
fn split_options(text: &str) -> Result<(&str, &str), LineFlaw> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b' ' | b'\t' if !quoted => {
                let (options, rest) = text.split_at(at);
                return Ok((options, rest.trim_start_matches(BLANK)));
            }
            _ => {}
        }
        escaped = byte == b'\\';
    }
    if quoted { Err(LineFlaw::OpenQuote) } else { Ok((text, "")) }
}

fn read_options(mut text: &str) -> Result<Options, LineFlaw> {
    let mut options = Options::default();
    loop {
        if let Some(rest) = strip_name(text, "cert-authority") {
            options.role = Role::Authority;
            text = rest;
        } else if let Some(rest) = strip_name(text, "namespaces=") {
            let (value, rest) = quoted_value("namespaces", rest)?;
            once("namespaces", &mut options.namespaces, value)?;
            text = rest;
        } else if let Some(rest) = strip_name(text, "valid-after=") {
            let (value, rest) = quoted_value("valid-after", rest)?;
            once("valid-after", &mut options.after, moment(value)?)?;
            text = rest;
        } else if let Some(rest) = strip_name(text, "valid-before=") {
            let (value, rest) = quoted_value("valid-before", rest)?;
            once("valid-before", &mut options.before, moment(value)?)?;
            text = rest;
        }
        if text.is_empty() {
            break;
        }
        text = text.strip_prefix(',').ok_or_else(|| LineFlaw::UnknownOption(shown(text.as_bytes())))?;
        if text.is_empty() || text.starts_with(',') {
            return Err(LineFlaw::EmptyOption);
        }
    }
    match (&options.after, &options.before) {
        (Some(after), Some(before)) if before.seconds <= after.seconds => Err(LineFlaw::NeverValid),
        _ => Ok(options),
    }
}

/// Names of options are the same in capitals.
fn strip_name<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

/// A value in quotes, in which `\"` stands for a quote.
fn quoted_value<'a>(name: &'static str, text: &'a str) -> Result<(String, &'a str), LineFlaw> {
    let text = text.strip_prefix('"').ok_or(LineFlaw::NotQuoted(name))?;
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' if text.get(at + 1..).is_some_and(|rest| rest.starts_with('"')) => {
                value.push('"');
                characters.next();
            }
            _ => value.push(character),
        }
    }
    Err(LineFlaw::OpenQuote)
}

fn once<T>(name: &'static str, place: &mut Option<T>, value: T) -> Result<(), LineFlaw> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(LineFlaw::Twice(name)),
    }
}

fn moment(written: String) -> Result<Moment, LineFlaw> {
    match seconds(&written) {
        // ssh-keygen uses zero for "no date" and so refuses 1970-01-01.
        Some(seconds) if seconds > 0 => Ok(Moment { seconds, written }),
        _ => Err(LineFlaw::Date(shown(written.as_bytes()))),
    }
}

fn seconds(written: &str) -> Option<i64> {
    let digits = ["UTC", "Z"]
        .iter()
        .find_map(|zone| {
            let (digits, end) = written.split_at_checked(written.len().checked_sub(zone.len())?)?;
            end.eq_ignore_ascii_case(zone).then_some(digits)
        })
        .unwrap_or(written);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| match digits.get(from..to) {
        Some(part) => part.parse::<i8>().ok(),
        None => Some(0),
    };
    let year = digits.get(..4)?.parse().ok()?;
    let civil = DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).ok()?;
    Some(TimeZone::UTC.to_timestamp(civil).ok()?.as_second())
}
