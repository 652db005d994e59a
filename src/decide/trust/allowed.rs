//! Who may sign the next commit of a history, and whether that commit is signed so.
//!
//! The list is always the one before the commit. What a commit says about signers counts for its successors only.

use super::commit::Commit;
use super::refusal::{Refusal, SignersOf};
use super::signers::{AllowedSigners, Verdict};
use super::sshsig::{Signature, SignatureFlaw};
use super::{History, Signer};
use crate::model::Revision;

/// The namespace in which git signs commits.
const NAMESPACE: &str = "git";

/// Who may sign the next commit.
pub(super) struct Allowed<'a> {
    list: SignersOf,
    bytes: &'a [u8],
    signers: AllowedSigners,
}

impl<'a> Allowed<'a> {
    pub(super) fn by_host(bytes: &'a [u8]) -> Result<Self, Refusal> {
        Self::read(SignersOf::Host, bytes)
    }

    pub(super) fn by_commit(history: &'a History, revision: &Revision) -> Result<Self, Refusal> {
        Self::read(SignersOf::Commit(revision.clone()), signers_in(history, revision)?)
    }

    /// The same for the next commit on the path. Most commits do not touch the list, so it is read again only if it
    /// changed.
    pub(super) fn followed_by(self, history: &'a History, revision: &Revision) -> Result<Self, Refusal> {
        let list = SignersOf::Commit(revision.clone());
        let bytes = signers_in(history, revision)?;
        if self.bytes == bytes { Ok(Self { list, ..self }) } else { Self::read(list, bytes) }
    }

    fn read(list: SignersOf, bytes: &'a [u8]) -> Result<Self, Refusal> {
        let signers = AllowedSigners::parse(bytes).and_then(|signers| {
            // A commit that locks everybody out could only be followed by one that nobody signed.
            signers.someone_signs(NAMESPACE)?;
            Ok(signers)
        });
        match signers {
            Ok(signers) => Ok(Self { list, bytes, signers }),
            Err(flaw) => Err(Refusal::SignersInvalid { list, flaw }),
        }
    }

    pub(super) fn signer_of(&self, revision: &Revision, commit: &Commit) -> Result<Signer, Refusal> {
        let revision = revision.clone();
        let Some(signed) = &commit.signed else {
            return Err(Refusal::CommitUnsigned { revision, asked: self.list.clone() });
        };
        if let Some(kind) = foreign_signature(&signed.signature) {
            return Err(Refusal::SignatureUnsupported { revision, kind: kind.to_owned() });
        }
        let verified = Signature::parse(&signed.signature).and_then(|signature| {
            signature.verify(NAMESPACE, &signed.payload)?;
            Ok(signature)
        });
        let signature = match verified {
            Ok(signature) => signature,
            Err(SignatureFlaw::Unsupported(kind)) => {
                return Err(Refusal::SignatureUnsupported { revision, kind });
            }
            Err(flaw) => return Err(Refusal::SignatureBad { revision, flaw }),
        };
        let fingerprint = signature.key().fingerprint();
        match self.signers.judge(signature.key(), NAMESPACE, commit.committed_at) {
            Verdict::Allowed(entry) => Ok(Signer { principal: entry.principals.clone(), fingerprint }),
            Verdict::Limited(entry, limit) => Err(Refusal::SignerLimited {
                revision,
                signer: Box::new(Signer { principal: entry.principals.clone(), fingerprint }),
                limit,
                asked: self.list.clone(),
            }),
            Verdict::Unknown => Err(Refusal::SignerUnknown { revision, fingerprint, asked: self.list.clone() }),
        }
    }
}

fn signers_in<'a>(history: &'a History, revision: &Revision) -> Result<&'a [u8], Refusal> {
    match history.signers.get(revision) {
        Some(Some(bytes)) => Ok(bytes),
        Some(None) => Err(Refusal::SignersMissing { revision: revision.clone() }),
        None => Err(Refusal::HistoryIncomplete {
            tip: history.tip.clone(),
            what: format!("the signers of commit {} were not read", revision.short()),
        }),
    }
}

/// Other kinds of signatures that git can carry in the same header.
fn foreign_signature(signature: &[u8]) -> Option<&'static str> {
    if signature.starts_with(b"-----BEGIN PGP ") {
        Some("OpenPGP")
    } else if signature.starts_with(b"-----BEGIN SIGNED MESSAGE-----") {
        Some("X.509")
    } else {
        None
    }
}
