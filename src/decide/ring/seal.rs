//! Decides whether a ring file that must be signed counts: by whom it is signed, and that it is not an old one.
//!
//! This is what keeps a forge, and whoever may merge there, from deploying. So the list of signers in the repository,
//! which a commit can change, is not enough: once a host has accepted a signed file, the next one needs a key that was
//! in the list then and still is. A key is added by listing it and signing one more file with an old one.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::decide::fault::Code;
use crate::decide::trust::{
    AllowedSigners, DetachedFlaw, PublicKey, Signature, SignedBy, SignersFlaw, Times, Verdict, signer_of_detached,
};
use crate::model::ring::{Ring, Seal, SealedRing, Signing};

/// What a ring file is signed for.
pub const NAMESPACE: &str = "moorline-ring@v1";

/// How far a sequence may leap: a stolen key must not be able to use up all numbers with one file.
const LEAP: u64 = 1000;
/// The highest number that a host believes of a ring that it has not seen before.
const HIGHEST_FIRST: u64 = 1_000_000_000;

/// A ring file and what stands beside it, at the tip.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// The file as read.
    pub ring: &'a Ring,
    /// Its bytes.
    pub file: &'a [u8],
    /// The bytes of the signature.
    pub signature: Option<&'a [u8]>,
    /// `signers/allowed_signers`.
    pub signers: &'a [u8],
    /// Seconds since 1970, for keys with dates.
    pub at: i64,
}

/// Why a ring file does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealFlaw {
    /// There is no signature.
    #[error("there is no signature beside it")]
    Missing,
    /// It has no number.
    #[error("it has no `sequence`")]
    NoSequence,
    /// The signature is no good, or not by somebody who may sign this ring.
    #[error(transparent)]
    Signature(#[from] DetachedFlaw),
    /// A certificate says too little about when its key came.
    #[error("it is signed with a certificate; a ring needs a key that stands in signers/allowed_signers itself")]
    Certificate,
    /// The list of signers cannot be read.
    #[error("signers/allowed_signers: {0}")]
    Signers(#[from] SignersFlaw),
    /// Listed too late.
    #[error("{0} was listed after the last signed file; one more file must be signed by a key from before")]
    TooNew(String),
    /// Older than what was accepted.
    #[error("its sequence is {found}, and {accepted} was accepted here")]
    Replayed {
        /// What it says.
        found: u64,
        /// What was accepted.
        accepted: u64,
    },
    /// The same number with other content.
    #[error("its sequence {0} was accepted here with other content")]
    Equivocal(u64),
    /// Further than anybody counts.
    #[error("its sequence leaps to {found}; the next may be {limit} at most")]
    Leap {
        /// What it says.
        found: u64,
        /// What is believed.
        limit: u64,
    },
}

impl SealFlaw {
    /// The fault's code.
    pub fn code(&self) -> Code {
        match self {
            SealFlaw::Replayed { .. } => Code::RingReplayed,
            SealFlaw::Equivocal(_) => Code::RingEquivocal,
            _ => Code::RingUnsigned,
        }
    }
}

/// Whether a ring file counts, and what to remember of it. `memory` is what this host remembers of signed rings: once
/// there is any, a file without `signed: required` must be signed too, and so must the file of another ring that the
/// host is moved to.
pub fn check(offered: &Offered<'_>, memory: Option<&Seal>) -> Result<Option<Seal>, SealFlaw> {
    let ring = offered.ring;
    if ring.signing == Signing::ByCommit && memory.is_none() {
        return Ok(None);
    }
    let digest = hex::encode(Sha256::digest(offered.file));
    let last = memory.and_then(|memory| memory.rings.get(&ring.name));
    if last.is_some_and(|last| last.digest == digest) {
        // Accepted before. Keys that were removed since then have signed it in their time.
        return Ok(memory.cloned());
    }
    let text = offered.signature.ok_or(SealFlaw::Missing)?;
    let principal = format!("ring:{}", ring.name);
    let signers = AllowedSigners::parse(offered.signers)?;
    let at = Times { stated: offered.at, before: offered.at };
    let signer = signer_of_detached(text, offered.file, NAMESPACE, &principal, &signers, at)?;
    if Signature::parse(text).is_ok_and(|signature| matches!(signature.by(), SignedBy::Certificate(_))) {
        return Err(SealFlaw::Certificate);
    }
    let fingerprint = signer.fingerprint;
    if memory.is_some_and(|memory| !memory.keys.contains(&fingerprint)) {
        return Err(SealFlaw::TooNew(fingerprint));
    }
    let sequence = ring.sequence.ok_or(SealFlaw::NoSequence)?;
    let limit = match last {
        Some(last) if sequence < last.sequence => {
            return Err(SealFlaw::Replayed { found: sequence, accepted: last.sequence });
        }
        Some(last) if sequence == last.sequence => return Err(SealFlaw::Equivocal(sequence)),
        Some(last) => last.sequence.saturating_add(LEAP),
        None => HIGHEST_FIRST,
    };
    if sequence > limit {
        return Err(SealFlaw::Leap { found: sequence, limit });
    }
    if ring.signing == Signing::ByCommit {
        // Signed, and it says that signatures are not needed any more.
        return Ok(None);
    }
    let mut seal = memory.cloned().unwrap_or_default();
    seal.keys = keys(&signers, &principal, at);
    seal.rings.insert(ring.name.clone(), SealedRing { sequence, digest });
    Ok(Some(seal))
}

/// The keys that may sign a ring.
fn keys(signers: &AllowedSigners, principal: &str, at: Times) -> BTreeSet<String> {
    let may = |key: &PublicKey| {
        let by = SignedBy::Key(Box::new(key.clone()));
        matches!(signers.judge_for(principal, &by, NAMESPACE, at), Verdict::Allowed(_))
    };
    signers.entries().iter().filter(|entry| may(&entry.key)).map(|entry| entry.key.fingerprint()).collect()
}
