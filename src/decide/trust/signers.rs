//! Reads lists of allowed signers, with the grammar of `ssh-keygen` (ALLOWED SIGNERS in ssh-keygen(1)), and answers who a key is.
//!
//! A line that cannot be read makes the whole list unusable, where `ssh-keygen` goes on to the next one: a list that
//! means less than its author thinks is worse than none. Dates without a zone are taken as UTC, where `ssh-keygen` takes the
//! zone of the machine it runs on: a signature must not be good on one host and bad on another.

mod line;

use std::fmt;

use super::certificate::Certificate;
use super::key::{KeyFlaw, PublicKey};
use super::openpgp::KeyringFlaw;
use super::pattern::list_matches;
use super::sshsig::SignedBy;
use super::wire::shown;

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

/// When something says it was signed, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Its own date: a claim of whoever signed.
    pub stated: i64,
    /// The newest date below it: a claim of others. A key whose time is over gains nothing by an older date.
    pub before: i64,
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
    /// `valid-before=` is earlier than the commit can have been made.
    Expired(String),
    /// The key is a certificate authority's, and signed itself.
    Authority,
    /// None of the certificate's principals is one that the entry is for.
    CertificateForOthers(String),
    /// The certificate's time begins later than the commit says it was made.
    CertificateNotYetValid,
    /// The certificate's time ended before the commit can have been made.
    CertificateExpired,
    /// What excludes an OpenPGP key.
    OpenPgp(String),
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
    /// A file of OpenPGP keys cannot be read.
    #[error("{}: {flaw}", shown(.file.as_bytes()))]
    Keys {
        /// The name of the file below `signers/`.
        file: String,
        /// What is wrong with it.
        flaw: KeyringFlaw,
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
            match line::entry(number, &line) {
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
    pub fn judge(&self, by: &SignedBy, namespace: &str, at: Times) -> Verdict<'_> {
        self.verdict(by, |entry, names| match names {
            Some([]) => Some(Limit::CertificateForOthers(entry.principals.clone())),
            _ => entry.limit(by, namespace, at),
        })
    }

    /// The same for one principal: `ring:production`, say.
    pub fn judge_for(&self, principal: &str, by: &SignedBy, namespace: &str, at: Times) -> Verdict<'_> {
        self.verdict(by, |entry, names| {
            if !list_matches(&entry.principals, principal) {
                Some(Limit::Principal(entry.principals.clone()))
            } else if names.is_some_and(|names| !names.contains(&principal)) {
                Some(Limit::CertificateForOthers(principal.to_owned()))
            } else {
                entry.limit(by, namespace, at)
            }
        })
    }

    /// `limit` is given the entry and, for a certificate, those of its principals that the entry lets in.
    fn verdict(&self, by: &SignedBy, limit: impl Fn(&Entry, Option<&[&str]>) -> Option<Limit>) -> Verdict<'_> {
        let mut verdict = Verdict::Unknown;
        for entry in self.entries.iter().filter(|entry| entry.is_about(by)) {
            let certificate = entry.certificate(by);
            let names = certificate.map(|certificate| certificate.principals_in(&entry.principals));
            match limit(entry, names.as_deref()) {
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
    /// Why nothing signed with this entry's key is ever accepted.
    fn unsupported(&self) -> Option<String> {
        self.key.unsupported().map(|why| why.to_string())
    }

    fn covers(&self, namespace: &str) -> bool {
        self.options.namespaces.as_ref().is_none_or(|list| list_matches(list, namespace))
    }

    /// Whether it names the key itself, or the authority that signed the key's certificate.
    fn is_about(&self, by: &SignedBy) -> bool {
        match by {
            SignedBy::Key(key) => self.key == **key,
            SignedBy::Certificate(_) => self.certificate(by).is_some(),
        }
    }

    fn certificate<'by>(&self, by: &'by SignedBy) -> Option<&'by Certificate> {
        match by {
            SignedBy::Certificate(certificate)
                if self.options.role == Role::Authority && certificate.authority == self.key =>
            {
                Some(certificate)
            }
            _ => None,
        }
    }

    /// Who it says signed.
    pub fn names(&self, by: &SignedBy) -> String {
        match self.certificate(by) {
            Some(certificate) => certificate.principals_in(&self.principals).join(","),
            None => self.principals.clone(),
        }
    }

    fn limit(&self, by: &SignedBy, namespace: &str, at: Times) -> Option<Limit> {
        let certificate = self.certificate(by);
        if self.options.role == Role::Authority && certificate.is_none() {
            return Some(Limit::Authority);
        }
        if let Some(namespaces) = &self.options.namespaces
            && !self.covers(namespace)
        {
            return Some(Limit::Namespaces { namespaces: namespaces.clone(), wanted: namespace.to_owned() });
        }
        // Both ends belong to the time of validity, as for ssh-keygen.
        if let Some(after) = &self.options.after
            && at.stated < after.seconds
        {
            return Some(Limit::NotYetValid(after.written.clone()));
        }
        if let Some(before) = &self.options.before
            && at.not_before() > before.seconds
        {
            return Some(Limit::Expired(before.written.clone()));
        }
        match certificate {
            Some(certificate) if certificate.begins_after(at.stated) => Some(Limit::CertificateNotYetValid),
            Some(certificate) if certificate.ended_before(at.not_before()) => Some(Limit::CertificateExpired),
            _ => None,
        }
    }
}

impl Times {
    /// A date with nothing before it.
    pub fn at(stated: i64) -> Self {
        Self { stated, before: stated }
    }

    /// The earliest time at which it can have been made: nobody signs before what they sign on top of.
    pub(super) fn not_before(self) -> i64 {
        self.stated.max(self.before)
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
                write!(f, "the key has valid-before=\"{date}\", earlier than the date of the commit or of one below it")
            }
            Self::Authority => {
                f.write_str("the key is a certificate authority's: it signs certificates, and nothing else")
            }
            Self::CertificateForOthers(wanted) => {
                write!(f, "the authority is for {}, and the certificate for others", shown(wanted.as_bytes()))
            }
            Self::CertificateNotYetValid => {
                f.write_str("the certificate's time begins later than the date of the commit")
            }
            Self::CertificateExpired => {
                f.write_str("the certificate's time ended before the date of the commit or of one below it")
            }
            Self::OpenPgp(why) => write!(f, "the key may not sign: {why}"),
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

#[cfg(test)]
mod tests;
