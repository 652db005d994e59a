//! Who may sign the next commit of a history, and whether that commit is signed so.
//!
//! The list is always the one before the commit. What a commit says about signers counts for its successors only.

use super::commit::{Commit, SignedPart};
use super::openpgp::{self, Keyring};
use super::refusal::{Refusal, SignersOf};
use super::signers::{AllowedSigners, SignersFlaw, Times, Verdict};
use super::sshsig::{Signature, SignatureFlaw};
use super::{History, Signer, SignerFiles};
use crate::model::Revision;

/// The namespace in which git signs commits.
const NAMESPACE: &str = "git";

/// Who may sign the next commit.
pub(super) struct Allowed<'a> {
    list: SignersOf,
    files: &'a SignerFiles,
    signers: AllowedSigners,
    keyring: Keyring,
}

/// Refuses lists by which nobody could sign a commit: such a one could only be followed by a commit that nobody signed.
pub fn readable(files: &SignerFiles) -> Result<(AllowedSigners, Keyring), SignersFlaw> {
    let signers = AllowedSigners::parse(files.allowed_signers.as_deref().unwrap_or_default())?;
    let keyring = Keyring::read(&files.keys).map_err(|(file, flaw)| SignersFlaw::Keys { file, flaw })?;
    if !keyring.someone_signs() {
        signers.someone_signs(NAMESPACE)?;
    }
    Ok((signers, keyring))
}

impl<'a> Allowed<'a> {
    pub(super) fn by_host(files: &'a SignerFiles) -> Result<Self, Refusal> {
        Self::read(SignersOf::Host, files)
    }

    pub(super) fn by_commit(history: &'a History, revision: &Revision) -> Result<Self, Refusal> {
        Self::read(SignersOf::Commit(revision.clone()), signers_in(history, revision)?)
    }

    /// The same for the next commit on the path. Most commits do not touch the list, so it is read again only if it
    /// changed.
    pub(super) fn followed_by(self, history: &'a History, revision: &Revision) -> Result<Self, Refusal> {
        let list = SignersOf::Commit(revision.clone());
        let files = signers_in(history, revision)?;
        if self.files == files { Ok(Self { list, ..self }) } else { Self::read(list, files) }
    }

    fn read(list: SignersOf, files: &'a SignerFiles) -> Result<Self, Refusal> {
        match readable(files) {
            Ok((signers, keyring)) => Ok(Self { list, files, signers, keyring }),
            Err(flaw) => Err(Refusal::SignersInvalid { list, flaw }),
        }
    }

    /// Who signed a commit. `before` is the newest date below it.
    pub(super) fn signer_of(&self, revision: &Revision, commit: &Commit, before: i64) -> Result<Signer, Refusal> {
        let Some(signed) = &commit.signed else {
            return Err(Refusal::CommitUnsigned { revision: revision.clone(), asked: self.list.clone() });
        };
        let at = Times { stated: commit.committed_at, before };
        if signed.signature.starts_with(b"-----BEGIN PGP SIGNATURE-----") {
            return self.signer_by_openpgp(revision, signed, at);
        }
        let revision = revision.clone();
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
        let by = signature.by();
        match self.signers.judge(by, NAMESPACE, at) {
            Verdict::Allowed(entry) => Ok(Signer::of(entry, by)),
            Verdict::Limited(entry, limit) => {
                let signer = Box::new(Signer::of(entry, by));
                Err(Refusal::SignerLimited { revision, signer, limit, asked: self.list.clone() })
            }
            Verdict::Unknown => {
                let fingerprint = by.key().fingerprint();
                Err(Refusal::SignerUnknown { revision, fingerprint, asked: self.list.clone() })
            }
        }
    }

    fn signer_by_openpgp(&self, revision: &Revision, signed: &SignedPart, at: Times) -> Result<Signer, Refusal> {
        let (revision, asked) = (revision.clone(), self.list.clone());
        match self.keyring.signer_of(&signed.signature, &signed.payload, at) {
            Ok(openpgp::Verdict::Allowed(signer)) => Ok(signer),
            Ok(openpgp::Verdict::Limited(signer, limit)) => {
                Err(Refusal::SignerLimited { revision, signer: Box::new(signer), limit, asked })
            }
            Ok(openpgp::Verdict::Unknown(fingerprint)) => Err(Refusal::SignerUnknown { revision, fingerprint, asked }),
            Err(flaw) => Err(Refusal::SignatureBad { revision, flaw: SignatureFlaw::OpenPgp(flaw) }),
        }
    }
}

fn signers_in<'a>(history: &'a History, revision: &Revision) -> Result<&'a SignerFiles, Refusal> {
    match history.signers.get(revision) {
        Some(files) if files.allowed_signers.is_some() => Ok(files),
        Some(_) => Err(Refusal::SignersMissing { revision: revision.clone() }),
        None => Err(Refusal::HistoryIncomplete {
            tip: history.tip.clone(),
            what: format!("the signers of commit {} were not read", revision.short()),
        }),
    }
}

/// Other kinds of signatures that git can carry in the same header.
fn foreign_signature(signature: &[u8]) -> Option<&'static str> {
    if signature.starts_with(b"-----BEGIN PGP ") {
        Some("an OpenPGP message that is not a detached signature")
    } else if signature.starts_with(b"-----BEGIN SIGNED MESSAGE-----") {
        Some("X.509")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
