//! What this host remembers of a deploy that did not work, so that it is not tried for ever.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Revision;

/// The memory of one stack's failures. It is about one desired state and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The digest of the inputs that failed. Other inputs are tried as if nothing had happened.
    pub digest: String,
    /// The revision they came from.
    pub revision: Option<Revision>,
    /// How many attempts were begun that ended with a verdict, or never ended because the process died. Each is written
    /// down before it is begun.
    pub begun: u32,
    /// How many of them the gate, or Compose, said no to.
    pub failed: u32,
    /// How many attempts in a row were kept from ending by something that mends itself.
    pub hindered: u32,
    /// Why the last one failed, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// When.
    pub at: Timestamp,
    /// Not before; absent when it is not tried again until the inputs change or a person says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// What became of the stack.
    pub left: Left,
}

/// How a failed deploy left its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// No container was touched.
    Untouched,
    /// In the middle; the next run goes on.
    Begun,
    /// The last good version serves again.
    RolledBack,
    /// The new containers stand as they are, for a person to look at.
    AsIs,
    /// The last good version could not be brought back either; nothing more is done to it.
    Stuck,
}
