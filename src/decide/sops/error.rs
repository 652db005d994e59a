//! What can be wrong with a SOPS file or a key, as sentences.
//!
//! Carries names, places and recipients (all public). Never a value, never a key, and never a message
//! of a lower library, because such a message may quote the text it stumbled over.

use thiserror::Error;

/// Why a file could not be read or opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SopsError {
    /// The file is INI, which this decoder leaves out on purpose.
    #[error("ini files are not supported by this build: keep these values as yaml, json or dotenv")]
    IniRefused,

    /// The name of the file tells no format.
    #[error("`{path}` names no format of a sops file: expected .yaml, .yml, .json, .env or .bin")]
    UnknownFormat {
        /// The path as it was given.
        path: String,
    },

    /// The file is larger than any file of secrets should be.
    #[error("the file is larger than {limit} bytes")]
    TooLarge {
        /// The limit that was exceeded.
        limit: usize,
    },

    /// Nested deeper than the limit.
    #[error("the document is nested deeper than {limit} levels")]
    TooDeep {
        /// The limit that was exceeded.
        limit: usize,
    },

    /// More entries than the limit, aliases expanded.
    #[error("the document has more than {limit} entries once its aliases are expanded")]
    TooManyEntries {
        /// The limit that was exceeded.
        limit: usize,
    },

    /// The text does not follow its format.
    #[error("line {line} is not valid {format}: {problem}")]
    Malformed {
        /// Format the text was read as.
        format: &'static str,
        /// Line, counted from one.
        line: usize,
        /// What was expected.
        problem: &'static str,
    },

    /// There is no `sops` entry at all.
    #[error("the file has no sops metadata: it is plaintext, or not a sops file")]
    NotSealed,

    /// The metadata cannot be used.
    #[error("the sops metadata cannot be used: `{field}` {problem}")]
    BadMetadata {
        /// Name of the entry below `sops`.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A line of an identity file is no identity.
    #[error("line {line} of the identity file {problem}")]
    BadIdentity {
        /// Line, counted from one.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// An identity of a kind this build cannot use.
    #[error("line {line} of the identity file holds {kind}, which is not supported by this build")]
    UnsupportedIdentity {
        /// Line, counted from one.
        line: usize,
        /// The kind, in words.
        kind: &'static str,
    },

    /// The identity file is empty.
    #[error("the identity file holds no identity")]
    NoIdentity,

    /// None of the identities opens the file.
    #[error(
        "the file cannot be opened with this host's key: it is sealed for {}; this host is {}",
        listed(.recipients), listed(.tried)
    )]
    NotForUs {
        /// Whom the file is sealed for.
        recipients: Vec<String>,
        /// The recipients of the identities that were tried.
        tried: Vec<String>,
    },

    /// Some key groups could be opened, but fewer than the threshold.
    #[error(
        "the file needs {needed} of its key groups and this host opens {opened}: it is sealed for {}; this host is {}",
        listed(.recipients), listed(.tried)
    )]
    TooFewShares {
        /// The threshold of the file.
        needed: usize,
        /// How many groups could be opened.
        opened: usize,
        /// Whom the file is sealed for.
        recipients: Vec<String>,
        /// The recipients of the identities that were tried.
        tried: Vec<String>,
    },

    /// A value is damaged, moved, or not what its type says.
    #[error("the value at `{path}` {problem}")]
    BadValue {
        /// Names of the keys that lead to it.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// The message authentication code is not that of the values.
    #[error("the values do not match the message authentication code of the file: it was changed without sops")]
    MacMismatch,
}

impl SopsError {
    /// Whom the file is sealed for, where that is the matter.
    pub fn recipients(&self) -> &[String] {
        match self {
            Self::NotForUs { recipients, .. } | Self::TooFewShares { recipients, .. } => recipients,
            _ => &[],
        }
    }

    /// The recipients of the identities that were tried, where that is the matter.
    pub fn tried(&self) -> &[String] {
        match self {
            Self::NotForUs { tried, .. } | Self::TooFewShares { tried, .. } => tried,
            _ => &[],
        }
    }
}

/// Joins recipients for a sentence. A post-quantum recipient has 2000 characters, so long ones are cut.
fn listed(recipients: &[String]) -> String {
    if recipients.is_empty() {
        return String::from("nobody");
    }
    let shorten = |recipient: &String| -> String {
        if recipient.chars().count() <= 90 {
            return recipient.clone();
        }
        recipient.chars().take(24).chain(['…']).collect()
    };
    recipients.iter().map(shorten).collect::<Vec<_>>().join(", ")
}
