//! Reads lists of allowed signers, with the grammar of `ssh-keygen` (ALLOWED SIGNERS in ssh-keygen(1)), and answers who a key is.
//!
//! A line that cannot be read makes the whole list unusable, where `ssh-keygen` goes on to the next one: a list that
//! means less than its author thinks is worse than none. Dates without a zone are taken as UTC, where `ssh-keygen` takes the
//! zone of the machine it runs on: a signature must not be good on one host and bad on another.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::key::{KeyFlaw, PublicKey};
use super::pattern::list_matches;
use super::wire::shown;

/// What a line may be separated by; line feeds end it.
const BLANK: [char; 3] = [' ', '\t', '\r'];

/// A list of allowed signers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedSigners {
    entries: Vec<Entry>,
}

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counted from one.
    pub line: usize,
    /// Who the key belongs to: a list of patterns, as written.
    pub principals: String,
    /// The key.
    pub key: PublicKey,
    options: Options,
}

/// What is said between the principals and the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Options {
    role: Role,
    namespaces: Option<String>,
    after: Option<Moment>,
    before: Option<Moment>,
}

/// What a key is there for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Role {
    /// It signs.
    #[default]
    Signer,
    /// It signs certificates for other keys (`cert-authority`).
    Authority,
}

/// A date, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moment {
    seconds: i64,
    written: String,
}

/// Whether a key may sign something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It may, by this entry.
    Allowed(&'a Entry),
    /// It is listed, but what is said beside it excludes this.
    Limited(&'a Entry, Limit),
    /// It is not listed.
    Unknown,
}

/// What excludes a listed key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// `namespaces=` does not include what is signed.
    Namespaces {
        /// As written.
        namespaces: String,
        /// What is signed.
        wanted: String,
    },
    /// `valid-after=` is later than the commit says it was made.
    NotYetValid(String),
    /// `valid-before=` is earlier than the commit says it was made.
    Expired(String),
    /// The key is a certificate authority's.
    Authority,
    /// The entry is for others.
    Principal(String),
}

/// Why a list is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignersFlaw {
    /// A line cannot be read.
    #[error("line {line}: {flaw}")]
    Line {
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        flaw: LineFlaw,
    },
    /// No entry is any good for signing commits.
    #[error("it has no key that could sign a commit{}", because(.0))]
    Nobody(Vec<String>),
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFlaw {
    /// `ssh-keygen` would stop reading there, or a terminal would obey it.
    #[error("it contains a control character")]
    ControlCharacter,
    /// Nothing but a name.
    #[error("it has no key")]
    NoKey,
    /// Nobody.
    #[error("it has no principal")]
    NoPrincipal,
    /// Cut off inside quotes.
    #[error("a quote is not closed")]
    OpenQuote,
    /// Not an option, and not a kind of key.
    #[error("`{0}` is neither an option nor a kind of key")]
    UnknownOption(String),
    /// Options end in a comma, or have two in a row.
    #[error("an option is missing after a comma")]
    EmptyOption,
    /// The value must be in quotes.
    #[error("the value of `{0}` is not in quotes")]
    NotQuoted(&'static str),
    /// Twice the same.
    #[error("`{0}` is given twice")]
    Twice(&'static str),
    /// Not a date.
    #[error("`{0}` is not a date (YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, then Z for UTC)")]
    Date(String),
    /// Never valid.
    #[error("valid-before is not later than valid-after")]
    NeverValid,
    /// Not a key.
    #[error(transparent)]
    Key(#[from] KeyFlaw),
}

impl AllowedSigners {
    /// Reads a list.
    pub fn parse(bytes: &[u8]) -> Result<Self, SignersFlaw> {
        let mut entries = Vec::new();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            // Only principals and comments can hold anything but ASCII; they are shown, never compared byte by byte.
            let line = String::from_utf8_lossy(line);
            match entry(number, &line) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(flaw) => return Err(SignersFlaw::Line { line: number, flaw }),
            }
        }
        Ok(Self { entries })
    }

    /// Every entry, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether a key may sign, in a namespace, at a time. A key that is listed more than once may if any entry lets it.
    pub fn judge(&self, key: &PublicKey, namespace: &str, at: i64) -> Verdict<'_> {
        self.verdict(key, |entry| entry.limit(namespace, at))
    }

    /// The same for one principal: `ring:production`, say.
    pub fn judge_for(&self, principal: &str, key: &PublicKey, namespace: &str, at: i64) -> Verdict<'_> {
        self.verdict(key, |entry| {
            if list_matches(&entry.principals, principal) {
                entry.limit(namespace, at)
            } else {
                Some(Limit::Principal(entry.principals.clone()))
            }
        })
    }

    fn verdict(&self, key: &PublicKey, limit: impl Fn(&Entry) -> Option<Limit>) -> Verdict<'_> {
        let mut verdict = Verdict::Unknown;
        for entry in self.entries.iter().filter(|entry| entry.key == *key) {
            match limit(entry) {
                None => return Verdict::Allowed(entry),
                Some(limit) if verdict == Verdict::Unknown => verdict = Verdict::Limited(entry, limit),
                Some(_) => {}
            }
        }
        verdict
    }

    /// Entries that are well-formed but do nothing here, each with the reason: for `check` and `doctor`.
    pub fn unsupported(&self) -> impl Iterator<Item = (usize, String)> {
        self.entries.iter().filter_map(|entry| Some((entry.line, entry.unsupported()?)))
    }

    /// Refuses a list by which nobody could ever sign in a namespace. Dates are left out: they pass.
    pub fn someone_signs(&self, namespace: &str) -> Result<(), SignersFlaw> {
        if self.entries.iter().any(|entry| entry.unsupported().is_none() && entry.covers(namespace)) {
            return Ok(());
        }
        let why = self.entries.iter().map(|entry| {
            let why = entry.unsupported().unwrap_or_else(|| format!("namespaces= leaves out `{namespace}`"));
            format!("line {}: {why}", entry.line)
        });
        Err(SignersFlaw::Nobody(why.collect()))
    }
}

impl Entry {
    fn unsupported(&self) -> Option<String> {
        match self.options.role {
            Role::Authority => Some("certificate authorities are not supported".to_owned()),
            Role::Signer if !self.key.is_supported() => {
                Some(format!("keys of kind {} are not supported", self.key.kind()))
            }
            Role::Signer => None,
        }
    }

    fn covers(&self, namespace: &str) -> bool {
        self.options.namespaces.as_ref().is_none_or(|list| list_matches(list, namespace))
    }

    fn limit(&self, namespace: &str, at: i64) -> Option<Limit> {
        if self.options.role == Role::Authority {
            return Some(Limit::Authority);
        }
        if let Some(namespaces) = &self.options.namespaces
            && !self.covers(namespace)
        {
            return Some(Limit::Namespaces { namespaces: namespaces.clone(), wanted: namespace.to_owned() });
        }
        // Both ends belong to the time of validity, as for ssh-keygen.
        if let Some(after) = &self.options.after
            && at < after.seconds
        {
            return Some(Limit::NotYetValid(after.written.clone()));
        }
        if let Some(before) = &self.options.before
            && at > before.seconds
        {
            return Some(Limit::Expired(before.written.clone()));
        }
        None
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaces { namespaces, wanted } => {
                write!(f, "the key is limited to namespaces=\"{}\", without `{wanted}`", shown(namespaces.as_bytes()))
            }
            Self::NotYetValid(date) => {
                write!(f, "the key has valid-after=\"{date}\", later than the date of the commit")
            }
            Self::Expired(date) => {
                write!(f, "the key has valid-before=\"{date}\", earlier than the date of the commit")
            }
            Self::Authority => f.write_str("the key is a certificate authority, and those are not supported"),
            Self::Principal(principals) => {
                write!(f, "the key is for {}", shown(principals.as_bytes()))
            }
        }
    }
}

fn because(why: &[String]) -> String {
    match why {
        [] => String::new(),
        why => format!(" ({})", why.join("; ")),
    }
}

/// One line: `principals [options] kind base64 [comment]`.
fn entry(number: usize, line: &str) -> Result<Option<Entry>, LineFlaw> {
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

#[cfg(test)]
mod tests;
