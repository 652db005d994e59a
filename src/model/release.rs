//! Versions of moorline itself: what the repository names, and what a host has recorded about them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The version of the form of `agent.json`.
pub const VERSION: u32 = 1;

/// A version of moorline. What it is, its digest says; the version is the name that people use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its version, as semver writes it.
    pub version: String,
    /// The SHA-256 of the program, in 64 hexadecimal digits.
    pub sha256: String,
}

/// A version of moorline, and where it is to be had: an entry of `agent` in `moorline.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The version.
    #[serde(flatten)]
    pub release: Release,
    /// Where the program lies: `https://`.
    pub url: String,
}

/// The contents of `agent.json`: who runs on this host, and who is to follow. Fields that this version does not know are
/// kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// [`VERSION`].
    pub version: u32,
    /// The version of the package, which stands where the units look for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub package: String,
    /// What runs in the place of the package's; absent: the package's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Release>,
    /// What the repository names for this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<Named>,
    /// What is being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Set for a while after a trial was passed: who comes back should the new version end again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probation: Option<Probation>,
    /// What was tried and did not do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// What was amiss with the program or the record of the chosen version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Json>,
}

/// What the repository names, and how it is coming here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The entry.
    pub offer: Offer,
    /// Since when it is named.
    pub since: Timestamp,
    /// How often what came was not it.
    #[serde(default)]
    pub failures: u32,
    /// What was wrong with what came last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Before this it is not fetched again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The version.
    pub release: Release,
    /// How often it was begun.
    #[serde(default)]
    pub attempts: u32,
    /// The boot in which it was begun last; absent: it is to be begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// How its run ended, if it found something to do: the version before it has to say whether there was something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// The time after a trial was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// What comes back; absent: the package's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Release>,
    /// How often the keeper was started since.
    #[serde(default)]
    pub starts: u32,
}

/// A version that did not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The version.
    pub release: Release,
    /// Why.
    pub because: String,
    /// When.
    pub at: Timestamp,
}

impl Release {
    /// The name of its directory: two programs of one version do not get in each other's way.
    pub fn directory(&self) -> String {
        format!("{}-{}", self.version, self.short())
    }

    /// The first digits of its digest.
    pub fn short(&self) -> &str {
        self.sha256.get(..16).unwrap_or(&self.sha256)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.sha256.get(..8).unwrap_or(&self.sha256))
    }
}
