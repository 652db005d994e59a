//! What should be: inputs that Compose is given, and the model that Compose makes of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::tree::File;
use crate::model::{Revision, Secret};

/// A value of the interpolation environment.
#[derive(Debug, Clone)]
pub enum Value {
    /// Came from `vars`: may be shown.
    Plain(String),
    /// Came from the SOPS file: tainted, never shown.
    Tainted(Secret<String>),
}

/// What one stack is made from, before Compose has looked at it.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The stack's name.
    pub stack: String,
    /// The repository's files, by path below the stack's directory.
    pub files: BTreeMap<String, File>,
    /// The interpolation environment on top of the stack's own `.env`; later sources have won already.
    pub environment: BTreeMap<String, Value>,
    /// Keyed digest of all of the above. Equal digests mean that nothing needs to be looked at.
    pub digest: String,
}

/// The project as Compose resolves it (`config`).
///
/// Tainted values stand in it as marks (see `decide::taint`), never in clear, so it can be stored and compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Services by name.
    #[serde(default)]
    pub services: BTreeMap<String, Json>,
    /// Network definitions.
    #[serde(default)]
    pub networks: BTreeMap<String, Json>,
    /// Volume definitions.
    #[serde(default)]
    pub volumes: BTreeMap<String, Json>,
    /// Top-level secrets.
    #[serde(default)]
    pub secrets: BTreeMap<String, Json>,
    /// Top-level configs.
    #[serde(default)]
    pub configs: BTreeMap<String, Json>,
    /// `x-moorline`, as written.
    #[serde(default, rename = "x-moorline", skip_serializing_if = "Json::is_null")]
    pub extension: Json,
    /// What else stands at the top and does something.
    #[serde(flatten)]
    pub other: BTreeMap<String, Json>,
}

/// Whose a file in memory is, and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The number of the user, as in the container.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The permissions.
    pub mode: u32,
}

impl Default for Access {
    /// Any user inside of a container may read what is mounted there; on the host, nobody but root gets to it.
    fn default() -> Self {
        Self { uid: 0, gid: 0, mode: 0o444 }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, group {}, mode {:04o}", self.uid, self.gid, self.mode)
    }
}

/// How far the engine shifts the users of containers away from those of the host (`userns-remap`); by nothing, mostly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remap {
    /// Root of a container is this user of the host.
    pub uid: u32,
    /// And this group.
    pub gid: u32,
}

impl Remap {
    /// Whether users are the same inside and outside.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A file that exists in memory-backed storage only.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// Path below the directory for secrets: `<stack>/<digest>/<name>`.
    pub path: String,
    /// Whose it is.
    pub access: Access,
    /// The content.
    pub content: Secret<Vec<u8>>,
}

/// One stack, ready to be compared with what runs and to be written.
#[derive(Debug, Clone)]
pub struct DesiredStack {
    /// The stack's name.
    pub name: String,
    /// The digest of [`Inputs`].
    pub digest: String,
    /// Files of the stack's directory, with the override file.
    pub files: BTreeMap<String, File>,
    /// The text of `.env`, for memory-backed storage.
    pub environment: Secret<String>,
    /// Files of secrets, for memory-backed storage.
    pub secrets: Vec<SecretFile>,
    /// What Compose makes of it, without the override.
    pub model: Model,
    /// Keyed digest of the content that each service mounts and that needs a new container when it changes.
    pub content: BTreeMap<String, String>,
    /// Keyed digest of the files that services with `x-moorline.reload` mount: they need no new container.
    pub reloads: BTreeMap<String, String>,
    /// How long the gate waits for each wave.
    pub health_timeout: std::time::Duration,
    /// Secrets that the stack puts into the environment of a container: (service, variable).
    pub exposed: Vec<(String, String)>,
}

/// The whole host as it should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The host's name.
    pub host: String,
    /// The revision that it was read from; absent for a directory that is not a revision yet.
    pub revision: Option<Revision>,
    /// Stacks in the order of `host.yaml`.
    pub stacks: Vec<DesiredStack>,
}
