//! Checks OpenPGP signatures over commits against the keys in `signers/*.asc`, with fewer freedoms than the standard has.
//!
//! The `pgp` crate reads the packets and does the arithmetic; what counts is decided in [`keys`] and here. Dates are
//! judged as those of SSH keys are: against the commit, never against a clock.

mod armour;
mod keys;

use std::collections::BTreeMap;

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;

use self::keys::{Key, Maker};
use super::Signer;
use super::signers::{Limit, Times};

/// A signature by RSA 8192 has 1,500 bytes of text.
const LARGEST: usize = 16 * 1024;

/// The keys of a list of signers.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

/// Why a file of keys is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringFlaw {
    /// No armour, or something around it.
    #[error("it is not one armoured OpenPGP public key block")]
    NotArmoured,
    /// The packets inside do not hold together.
    #[error("its packets cannot be read: {0}")]
    Malformed(String),
    /// Nothing inside.
    #[error("it holds no public key")]
    Empty,
}

/// Why an OpenPGP signature is not accepted, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenPgpFlaw {
    /// No armour, or something around it.
    #[error("it is not one armoured OpenPGP signature")]
    NotArmoured,
    /// Not one signature packet, in the form that its writer would have given it.
    #[error("it is not exactly one signature packet")]
    NotOnePacket,
    /// Versions 4 and 6 are those that are written today.
    #[error("it is of a version that is not accepted")]
    Version,
    /// git asks for a signature over bytes. One over text leaves line ends open.
    #[error("it is not a signature over the bytes of a document")]
    Kind,
    /// Broken, or soon to be.
    #[error("it uses the hash {0}, and only SHA256, SHA384 and SHA512 are allowed")]
    Hash(String),
    /// A condition that is not known here, so that it cannot be met.
    #[error("it has a condition that is not known here")]
    UnknownCondition,
    /// Anybody can add to that part.
    #[error("it has more than the signer's key id in the part that it does not cover")]
    Uncovered,
    /// A signature that would be good today and bad tomorrow.
    #[error("it has no date, or an end")]
    Dates,
    /// The key did not sign this.
    #[error("it does not fit the content that it should cover")]
    Wrong,
}

/// Who made a signature.
pub(super) enum Verdict {
    /// A key of the ring, which may.
    Allowed(Signer),
    /// A key of the ring, which may not.
    Limited(Signer, Limit),
    /// A key that is not in the ring: its fingerprint, as the signature states it.
    Unknown(String),
}

impl Keyring {
    /// Reads `signers/*.asc`: their names, and what they hold.
    pub fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, (String, KeyringFlaw)> {
        let mut keys = Vec::new();
        for (file, text) in files {
            let principal = file.strip_suffix(".asc").unwrap_or(file);
            keys.extend(keys::read(principal, text).map_err(|flaw| (file.clone(), flaw))?);
        }
        Ok(Self { keys })
    }

    /// Whether a commit could be signed by any of them. Dates are left out: they pass.
    pub(super) fn someone_signs(&self) -> bool {
        self.makers().any(|(_, maker)| maker.unusable.is_none())
    }

    /// Keys that sign nothing here, each with the file and the reason: for `check`.
    pub fn unsupported(&self) -> impl Iterator<Item = (String, String)> {
        self.keys.iter().filter(|key| key.makers.iter().all(|maker| maker.unusable.is_some())).map(|key| {
            let why = key.makers.iter().find_map(|maker| maker.unusable.clone()).unwrap_or_default();
            (format!("{}.asc", key.principal), format!("key {} signs nothing: {why}", key.fingerprint))
        })
    }

    fn makers(&self) -> impl Iterator<Item = (&Key, &Maker)> {
        self.keys.iter().flat_map(|key| key.makers.iter().map(move |maker| (key, maker)))
    }

    /// Says who signed a payload.
    pub(super) fn signer_of(&self, text: &[u8], payload: &[u8], at: Times) -> Result<Verdict, OpenPgpFlaw> {
        let signature = read(text)?;
        let mut found = self.makers().filter(|(_, maker)| maker.may_have_made(&signature)).peekable();
        if found.peek().is_none() {
            return Ok(Verdict::Unknown(stated_maker(&signature)));
        }
        let (key, maker) = found.find(|(_, maker)| maker.made(&signature, payload)).ok_or(OpenPgpFlaw::Wrong)?;
        let signer = Signer::named(&key.principal, format!("OpenPGP:{}", key.fingerprint));
        Ok(match maker.limit(&signature, at) {
            None => Verdict::Allowed(signer),
            Some(limit) => Verdict::Limited(signer, limit),
        })
    }
}

/// Reads a signature, if it is one as git makes them.
fn read(text: &[u8]) -> Result<Signature, OpenPgpFlaw> {
    if text.len() > LARGEST {
        return Err(OpenPgpFlaw::NotArmoured);
    }
    let bytes = armour::open(text, "PGP SIGNATURE").ok_or(OpenPgpFlaw::NotArmoured)?;
    let mut packets = PacketParser::new(bytes.as_slice());
    let (Some(Ok(Packet::Signature(signature))), None) = (packets.next(), packets.next()) else {
        return Err(OpenPgpFlaw::NotOnePacket);
    };
    // Lengths and numbers can be written in several forms, and readers skip what they do not need. Whoever writes the
    // same packet again gets the same bytes, or was given something else.
    let again = Packet::Signature(signature.clone()).to_bytes();
    if again.ok().as_deref() != Some(bytes.as_slice()) {
        return Err(OpenPgpFlaw::NotOnePacket);
    }
    if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(OpenPgpFlaw::Version);
    }
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(OpenPgpFlaw::Kind);
    }
    if !has_strong_hash(&signature) {
        let name = signature.hash_alg().map_or_else(|| "unknown".to_owned(), |hash| hash.to_string());
        return Err(OpenPgpFlaw::Hash(name));
    }
    if has_unknown_condition(&signature) {
        return Err(OpenPgpFlaw::UnknownCondition);
    }
    let uncovered = signature.config().map_or(&[][..], |config| &config.unhashed_subpackets);
    if !matches!(uncovered, [] | [_]) || !uncovered.iter().all(is_plain_key_id) {
        return Err(OpenPgpFlaw::Uncovered);
    }
    if signature.created().is_none() || signature.signature_expiration_time().is_some() {
        return Err(OpenPgpFlaw::Dates);
    }
    Ok(signature)
}

/// A key id in the one form in which it is written.
fn is_plain_key_id(part: &Subpacket) -> bool {
    let again = Subpacket::regular(part.data.clone());
    matches!(part.data, SubpacketData::IssuerKeyId(_)) && again.is_ok_and(|again| again == *part)
}

fn has_strong_hash(signature: &Signature) -> bool {
    matches!(signature.hash_alg(), Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512))
}

/// Whoever does not know a critical subpacket must refuse the signature.
fn has_unknown_condition(signature: &Signature) -> bool {
    let unknown = |data: &SubpacketData| {
        matches!(data, SubpacketData::Experimental(..) | SubpacketData::Other(..) | SubpacketData::Notation(_))
    };
    signature.config().is_none_or(|config| {
        config.hashed_subpackets.iter().any(|subpacket| subpacket.is_critical && unknown(&subpacket.data))
    })
}

/// Who a signature says made it.
fn stated_maker(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|print| hex::encode_upper(print.as_bytes()));
    let id = signature.issuer_key_id().first().map(|id| hex::encode_upper(id.as_ref()));
    format!("OpenPGP:{}", fingerprint.or(id).unwrap_or_else(|| "unknown".to_owned()))
}

#[cfg(test)]
mod tests;
