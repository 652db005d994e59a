//! Decides whether what the repository offers may be believed, and is the only place that can say so.
//!
//! It reads no file and no clock, and it never believes half of a history: a tip is accepted with every commit
//! between the anchor and itself, or not at all. What it does not do is hash: that some bytes *are* the object
//! they are said to be is `world::git`'s promise. libgit2's object database computes the SHA-1 of every object it
//! reads, with collision detection, and refuses an object whose name is another one
//! (`tests/trust_real_git.rs` shows it), so a second hash here would prove nothing new.
//!
//! ```text
//! History --verify--> Verified --admit(revision, objects)--> VerifiedTree
//! ```

mod allowed;
mod certificate;
mod commit;
mod detached;
mod key;
#[cfg(test)]
mod mutations;
mod openpgp;
mod path;
mod pattern;
mod refusal;
mod signers;
mod sshsig;
mod tree;
mod wire;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::allowed::Allowed;
use self::path::Path;
pub use allowed::readable as signers_readable;
pub use certificate::{Certificate, CertificateFlaw};
pub use commit::{Commit, CommitFlaw, SignedPart};
pub use detached::{DetachedFlaw, signer_of_detached};
pub use key::{KeyFlaw, PublicKey};
pub use openpgp::{Keyring, KeyringFlaw, OpenPgpFlaw};
pub use refusal::{Refusal, SignersOf};
pub use signers::{AllowedSigners, Entry, Limit, LineFlaw, SignersFlaw, Times, Verdict};
pub use sshsig::{Signature, SignatureFlaw, SignedBy};
pub use tree::{Limits, ObjectId, Objects, TreeFault, TreeFlaw, Unread, flaws as tree_flaws};

use crate::model::{Revision, Tree, Warrant};

/// What the repository offered: raw bytes, nothing believed yet.
#[derive(Debug, Clone)]
pub struct History {
    /// The newest commit of the branch.
    pub tip: Revision,
    /// The first-parent path, newest first, from the tip to the anchor; to the root commit where there is no anchor.
    /// It may go on below the anchor: a ring that names an older commit needs the path down to the first revision
    /// accepted here.
    pub commits: Vec<RawCommit>,
    /// Who may sign after each commit from the tip to the anchor, both included. Most commits share theirs.
    pub signers: BTreeMap<Revision, Arc<SignerFiles>>,
}

/// What a tree says about who may sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignerFiles {
    /// `signers/allowed_signers`; `None` where the tree has no such file.
    pub allowed_signers: Option<Vec<u8>>,
    /// `signers/*.asc`, by name.
    pub keys: BTreeMap<String, Vec<u8>>,
}

impl SignerFiles {
    /// The largest file that is read; the list of a large team is a few KiB.
    pub const LARGEST: usize = 64 * 1024;
    /// The most `*.asc` files that are read.
    pub const MOST_KEYS: usize = 16;

    /// A list alone, without OpenPGP keys.
    pub fn of_list(allowed_signers: Option<Vec<u8>>) -> Self {
        Self { allowed_signers, keys: BTreeMap::new() }
    }

    /// The bytes of all files together.
    pub fn size(&self) -> usize {
        self.allowed_signers.iter().chain(self.keys.values()).map(Vec::len).sum()
    }
}

/// One commit object, as it lies in the object database.
#[derive(Debug, Clone)]
pub struct RawCommit {
    /// Its name.
    pub revision: Revision,
    /// Its content, without git's `commit <length>` prefix.
    pub bytes: Vec<u8>,
}

/// Where belief begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor<'a> {
    /// This host has accepted revisions before, and its ledger says which.
    Known {
        /// The newest one: the anchor proper. It never goes back.
        newest: &'a Revision,
        /// The oldest one: nothing older is ever deployed here.
        first: &'a Revision,
    },
    /// First start; `agent.toml` names the first revision to accept.
    Named(&'a Revision),
    /// First start, and nothing is named: the whole history, from its root commit.
    Root,
}

/// Who signed a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The principals beside the key in the list of allowed signers, as written there; of a certificate, those of its
    /// own that the list lets in; of an OpenPGP key, the name of its file.
    pub principal: String,
    /// The key, as `ssh-keygen -l` shows it: `SHA256:...`; `OpenPGP:` and the fingerprint of the primary key.
    pub fingerprint: String,
}

impl Signer {
    fn of(entry: &Entry, by: &SignedBy) -> Self {
        Self::named(&entry.names(by), by.key().fingerprint())
    }

    fn named(principal: &str, fingerprint: String) -> Self {
        // Principals are foreign text, and go into journals and onto terminals.
        Self { principal: wire::shown(principal.as_bytes()), fingerprint }
    }

    /// On whose word a commit by this signer rests: the forge signs for everybody who may press its merge button.
    pub fn warrant(&self) -> Warrant {
        let is_forge = |name: &str| name == "forge" || name.starts_with("forge:") || name.starts_with("forge-");
        if self.principal.split(',').any(is_forge) { Warrant::Forge } else { Warrant::Signer }
    }
}

/// A commit that was verified in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The commit.
    pub revision: Revision,
    /// Who signed it.
    pub signer: Signer,
}

/// A history that may be believed. Only [`verify`] makes one:
///
/// ```compile_fail,E0451
/// use moorline::decide::trust::Verified;
/// fn forged(honest: Verified, tip: moorline::model::Revision) -> Verified {
///     Verified { tip, ..honest }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Verified {
    tip: Revision,
    first: Revision,
    range: Vec<Signed>,
    /// Every accepted revision that may be deployed, with its tree: the tip down to `first`.
    accepted: BTreeMap<Revision, ObjectId>,
}

impl Verified {
    /// The newest accepted revision: the next anchor.
    pub fn tip(&self) -> &Revision {
        &self.tip
    }

    /// The oldest accepted revision: what the ledger records beside the anchor.
    pub fn first(&self) -> &Revision {
        &self.first
    }

    /// Who signed the tip; `None` if the tip is the anchor, which an earlier run verified.
    pub fn signer(&self) -> Option<&Signer> {
        self.range.first().map(|signed| &signed.signer)
    }

    /// What was verified in this run, newest first; empty if the tip is the anchor.
    pub fn range(&self) -> &[Signed] {
        &self.range
    }

    /// Whether a revision is part of the accepted history, so that a ring may name it.
    pub fn accepts(&self, revision: &Revision) -> bool {
        self.accepted.contains_key(revision)
    }
}

/// The files of an accepted revision. Only [`admit`] makes one:
///
/// ```compile_fail,E0451
/// use moorline::decide::trust::VerifiedTree;
/// fn forged(revision: moorline::model::Revision, tree: moorline::model::Tree) -> VerifiedTree {
///     VerifiedTree { revision, tree }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct VerifiedTree {
    revision: Revision,
    tree: Tree,
}

impl VerifiedTree {
    /// The accepted revision.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Its files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

impl Deref for VerifiedTree {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}

/// Decides whether a history may be believed.
///
/// Every commit after the anchor, up to the tip, must be signed by a key that its parent's `signers/allowed_signers`
/// allows; on a first start the first commit must be signed by a key of `local_signers`. A merge counts as its own
/// signature: what it merges is content that its signer answers for.
pub fn verify(history: &History, anchor: Anchor<'_>, local_signers: &[u8]) -> Result<Verified, Refusal> {
    let path = Path::read(history, anchor)?;
    let local = SignerFiles::of_list(Some(local_signers.to_vec()));
    let mut allowed = match path.anchor {
        Some(anchor) => Allowed::by_commit(history, anchor)?,
        None => Allowed::by_host(&local)?,
    };
    let mut before = path.anchored_at;
    // Oldest first, so that the commit named in a refusal is the one where things began to go wrong.
    let mut range = Vec::with_capacity(path.unverified.len());
    for (revision, commit) in path.unverified.iter().rev() {
        let signer = allowed.signer_of(revision, commit, before)?;
        before = before.max(commit.committed_at);
        range.push(Signed { revision: (*revision).clone(), signer });
        // The commit may say who signs after it, never who signs it.
        allowed = allowed.followed_by(history, revision)?;
    }
    range.reverse();
    Ok(Verified { tip: history.tip.clone(), first: path.first.clone(), range, accepted: path.accepted })
}

/// Reads the tree of an accepted revision, if its files may lie on a host.
pub fn admit<O: Objects>(
    verified: &Verified,
    revision: &Revision,
    objects: &O,
) -> Result<VerifiedTree, Unadmitted<O::Error>> {
    let Some(root) = verified.accepted.get(revision) else {
        return Err(Unadmitted::Refused(Refusal::RevisionNotAccepted {
            revision: revision.clone(),
            tip: verified.tip.clone(),
        }));
    };
    match tree::read(objects, root, &Limits::default()) {
        Ok(tree) => Ok(VerifiedTree { revision: revision.clone(), tree }),
        Err(Unread::Flaw(flaw)) => Err(Unadmitted::Refused(Refusal::TreeRefused { revision: revision.clone(), flaw })),
        Err(Unread::Objects(error)) => Err(Unadmitted::Unread(error)),
    }
}

/// Why there is no [`VerifiedTree`].
#[derive(Debug, thiserror::Error)]
pub enum Unadmitted<E> {
    /// The revision or its tree is refused: a person moves next.
    #[error(transparent)]
    Refused(Refusal),
    /// The objects could not be read: a damaged clone, say. Nothing is known about the revision.
    #[error("the objects of the revision cannot be read")]
    Unread(#[source] E),
}

#[cfg(test)]
mod tests;
