//! What the fleet repository says about one host.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::backup::Backups;
use crate::model::policy::Allowances;
use crate::model::tree::File;
use crate::model::{Offer, Secret};

/// Everything the repository says about one host, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSpec {
    /// The host's name.
    pub name: String,
    /// The ring it belongs to.
    pub ring: String,
    /// Values for `${...}` in this host's stacks.
    pub vars: BTreeMap<String, String>,
    /// The stacks, in the order of `host.yaml`.
    pub stacks: Vec<StackSource>,
    /// The names of push URLs in the SOPS file.
    pub monitors: Monitors,
    /// Where and when backups are made; absent when the host makes none.
    pub backups: Option<Backups>,
    /// The names in section `all` of the SOPS file that are for moorline's backups, and that no stack gets.
    pub withheld: BTreeSet<String>,
    /// The SOPS file as it stands in the repository, still sealed; absent when the host has none.
    pub sealed: Option<Sealed>,
    /// What stacks of the repository may have though the policy is against it.
    pub allowances: Allowances,
    /// The stacks that must work before each stack is touched.
    pub needs: BTreeMap<String, Vec<String>>,
    /// The version of moorline that its ring names; absent: whatever is installed.
    pub agent: Option<Offer>,
    /// What is configured but not carried out by this version, one sentence each.
    pub notes: Vec<String>,
}

/// A sealed SOPS file and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Path in the repository.
    pub path: String,
    /// The bytes as committed.
    pub bytes: Vec<u8>,
}

/// The files of one stack as they stand in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSource {
    /// The stack's name; also its Compose project name.
    pub name: String,
    /// Paths below `stacks/<name>/`, with their contents.
    pub files: BTreeMap<String, File>,
}

/// Which push URL (by its name among the secrets) holds which status.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Monitors {
    /// Told after every reconcile.
    pub reconcile: Option<String>,
    /// Told after every backup.
    pub backup: Option<String>,
    /// Told after every check of the backup repository.
    pub check: Option<String>,
    /// Told after every drill.
    pub drill: Option<String>,
}

/// Logins of registries, by the registry's host name as it stands in image references.
pub type Logins = BTreeMap<String, Login>;

/// A login of one registry.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password or token.
    pub password: Secret<String>,
}
