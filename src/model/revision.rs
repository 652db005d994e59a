//! The name of a commit of the fleet repository; it says nothing about whether that commit may be believed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many digits a message shows. Data (JSON, the ledger) always carries the whole name.
const SHORT: usize = 8;

/// A full commit id: 40 lower-case hexadecimal digits, nothing abbreviated and nothing symbolic.
///
/// Abbreviations are refused on purpose: what eight digits mean changes as a repository grows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);

/// Why a text is not a revision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a revision: 40 lower-case hexadecimal digits are needed")]
pub struct InvalidRevision {
    shown: String,
}

impl Revision {
    /// The first eight digits, for messages.
    pub fn short(&self) -> &str {
        // The text is ASCII and 40 long by construction; `get` keeps this line unable to panic all the same.
        self.0.get(..SHORT).unwrap_or(&self.0)
    }

    /// All the digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` keeps `{:<42}` and the like working in tables.
        f.pad(&self.0)
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Revision {
    type Error = InvalidRevision;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 40 && digits {
            return Ok(Self(text));
        }
        // What was offered may be anything: long, or full of escape sequences.
        let shown = text.chars().take(60).flat_map(char::escape_debug).collect();
        Err(InvalidRevision { shown })
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "9f2c1e07aa00bb11cc22dd33ee44ff5566778899";

    #[test]
    fn display_is_whole_and_short_is_eight_digits() {
        let revision: Revision = NAME.parse().unwrap();
        assert_eq!(revision.to_string(), NAME);
        assert_eq!(revision.short(), "9f2c1e07");
        assert_eq!(format!("{revision:<42}|"), format!("{NAME}  |"));
    }

    #[test]
    fn abbreviations_capitals_and_names_are_not_revisions() {
        for text in ["", "main", "9f2c1e07", &NAME.to_uppercase(), &format!("{NAME}0"), &format!(" {}", &NAME[1..])] {
            assert!(text.parse::<Revision>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refused_text_is_shown_without_its_escape_sequences() {
        let refused = "\u{1b}[31mred".parse::<Revision>().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`\\u{1b}[31mred` is not a revision: 40 lower-case hexadecimal digits are needed"
        );
    }

    #[test]
    fn json_is_a_plain_text_that_is_checked_on_the_way_in() {
        let revision: Revision = serde_json::from_str(&format!("\"{NAME}\"")).unwrap();
        assert_eq!(serde_json::to_string(&revision).unwrap(), format!("\"{NAME}\""));
        assert!(serde_json::from_str::<Revision>("\"main\"").is_err());
    }
}
