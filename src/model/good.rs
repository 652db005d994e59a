//! What a stack that works was made from: all that it takes to bring it back with no git server and no registry.

use crate::model::{HostSpec, Revision};

/// The inputs of the last good version of one stack. Secrets in it are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// The stack.
    pub stack: String,
    /// The keyed digest of its inputs.
    pub digest: String,
    /// The revision it came from.
    pub revision: Revision,
    /// What the repository said about the host, with this stack and no other, and the SOPS file as it was committed.
    pub spec: HostSpec,
}
