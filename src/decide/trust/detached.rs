//! Says who made a detached SSH signature over some bytes, for a purpose and in a role: what a signed ring file needs.

use super::Signer;
use super::signers::{AllowedSigners, Limit, Times, Verdict};
use super::sshsig::{Signature, SignatureFlaw};

/// Why a detached signature is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DetachedFlaw {
    /// It does not fit the bytes, or it is not a signature.
    #[error("the signature is bad: {0}")]
    Signature(#[from] SignatureFlaw),
    /// The signature is genuine, the key is nobody's.
    #[error("it is signed by {0}, which is not an allowed signer")]
    Unknown(String),
    /// The key is listed, but not for this.
    #[error("it is signed by {} ({}), whose key may not sign it: {limit}", .signer.principal, .signer.fingerprint)]
    Limited {
        /// Whose key it is.
        signer: Box<Signer>,
        /// What excludes it.
        limit: Limit,
    },
}

/// Who signed `content`: the armoured `signature` must be for `namespace`, and its key must be listed for `principal`,
/// as `ssh-keygen -Y verify -n NAMESPACE -I PRINCIPAL` asks. `at` is when it counts as signed: a claim, like the date
/// of a commit.
pub fn signer_of_detached(
    signature: &[u8],
    content: &[u8],
    namespace: &str,
    principal: &str,
    signers: &AllowedSigners,
    at: Times,
) -> Result<Signer, DetachedFlaw> {
    let signature = Signature::parse(signature)?;
    signature.verify(namespace, content)?;
    let by = signature.by();
    match signers.judge_for(principal, by, namespace, at) {
        Verdict::Allowed(entry) => Ok(Signer::of(entry, by)),
        Verdict::Limited(entry, limit) => Err(DetachedFlaw::Limited { signer: Box::new(Signer::of(entry, by)), limit }),
        Verdict::Unknown => Err(DetachedFlaw::Unknown(by.key().fingerprint())),
    }
}
