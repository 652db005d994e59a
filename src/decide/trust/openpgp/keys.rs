//! Decides what of an OpenPGP key may sign: which of its keys, until when, and why another may not.
//!
//! Only what the owner's own signatures say counts. A revocation counts even if it cannot be checked.

use pgp::composed::{Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{PacketParser, PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::ser::Serialize as _;
use pgp::types::{EddsaLegacyPublicParams, Fingerprint, KeyDetails, KeyVersion, PublicParams, Tag};

use super::{KeyringFlaw, armour, has_strong_hash, has_unknown_condition};
use crate::decide::trust::signers::{Limit, Times};
use crate::decide::trust::wire::shown;

/// The shortest and longest RSA key, in bits.
const RSA_BITS: std::ops::RangeInclusive<u16> = 3072..=8192;

/// One public key with everything that belongs to it.
#[derive(Debug)]
pub(super) struct Key {
    /// The name of its file: who it belongs to, as the list says and not as the key does.
    pub(super) principal: String,
    /// Of the primary key, as `gpg --fingerprint` shows it.
    pub(super) fingerprint: String,
    pub(super) makers: Vec<Maker>,
}

/// A key that makes signatures: the primary one, or one below it.
#[derive(Debug)]
pub(super) struct Maker {
    material: Material,
    fingerprint: Fingerprint,
    id: Vec<u8>,
    created: i64,
    ends: Option<i64>,
    /// Why no signature by it is accepted.
    pub(super) unusable: Option<String>,
}

#[derive(Debug)]
enum Material {
    Primary(Box<PublicKey>),
    Subkey(Box<PublicSubkey>),
}

/// Reads every key of an armoured block.
pub(super) fn read(principal: &str, text: &[u8]) -> Result<Vec<Key>, KeyringFlaw> {
    let bytes = armour::open(text, "PGP PUBLIC KEY BLOCK").ok_or(KeyringFlaw::NotArmoured)?;
    let malformed = |error: pgp::errors::Error| KeyringFlaw::Malformed(shown(error.to_string().as_bytes()));
    // Each packet must be readable: what was left out could be a revocation.
    let packets = PacketParser::new(bytes.as_slice()).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let keys = SignedPublicKey::from_packets(packets.into_iter().map(Ok).peekable());
    let keys: Vec<Key> =
        keys.map(|key| key.map(|key| Key::of(principal, key))).collect::<Result<_, _>>().map_err(malformed)?;
    if keys.is_empty() { Err(KeyringFlaw::Empty) } else { Ok(keys) }
}

impl Key {
    fn of(principal: &str, key: SignedPublicKey) -> Self {
        let fingerprint = hex::encode_upper(key.primary_key.fingerprint().as_bytes());
        let own = newest(own_signatures(&key));
        let ends = own.as_ref().and_then(|own| end(&key.primary_key, own));
        let revoked = !key.details.revocation_signatures.is_empty();
        // What is true of the primary key is true of all below it.
        let whole = if revoked {
            Some("it was revoked".to_owned())
        } else if own.is_none() {
            Some("it has no signature of its own that counts".to_owned())
        } else {
            weakness(&key.primary_key)
        };
        let signs = own.as_ref().is_some_and(|own| own.key_flags().sign());
        let mut makers = vec![Maker {
            fingerprint: key.primary_key.fingerprint(),
            id: key.primary_key.legacy_key_id().as_ref().to_vec(),
            created: i64::from(key.primary_key.created_at().as_secs()),
            ends,
            unusable: whole.clone().or_else(|| (!signs).then(|| "it is not for signing".to_owned())),
            material: Material::Primary(Box::new(key.primary_key.clone())),
        }];
        for subkey in key.public_subkeys {
            makers.push(Maker::below(&key.primary_key, ends, whole.clone(), subkey));
        }
        Self { principal: principal.to_owned(), fingerprint, makers }
    }
}

impl Maker {
    fn below(primary: &PublicKey, ends: Option<i64>, whole: Option<String>, subkey: SignedPublicSubKey) -> Self {
        let key = subkey.key;
        let revoked =
            subkey.signatures.iter().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation));
        let binds = |signature: &Signature| {
            signature.typ() == Some(SignatureType::SubkeyBinding)
                && counts(signature)
                && signature.verify_subkey_binding(primary, &key).is_ok()
        };
        let binding = newest(subkey.signatures.iter().filter(|signature| binds(signature)).cloned().collect());
        // Without the subkey's own word, anybody could put another's key below theirs.
        let agrees = |binding: &Signature| {
            binding.key_flags().sign()
                && binding
                    .embedded_signature()
                    .is_some_and(|back| counts(back) && back.verify_primary_key_binding(&key, primary).is_ok())
        };
        let unusable = if revoked {
            Some("its subkey was revoked".to_owned())
        } else if binding.as_ref().is_none_or(|binding| !agrees(binding)) {
            Some("its subkey is not for signing".to_owned())
        } else {
            weakness(&key)
        };
        let own_end = binding.as_ref().and_then(|binding| end(&key, binding));
        Self {
            fingerprint: key.fingerprint(),
            id: key.legacy_key_id().as_ref().to_vec(),
            created: i64::from(key.created_at().as_secs()),
            ends: ends.into_iter().chain(own_end).min(),
            unusable: whole.or(unusable),
            material: Material::Subkey(Box::new(key)),
        }
    }

    /// Whether the signature says that this key made it, wherever it says so.
    pub(super) fn may_have_made(&self, signature: &Signature) -> bool {
        let (prints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
        prints.iter().all(|print| **print == self.fingerprint)
            && ids.iter().all(|id| id.as_ref() == self.id)
            && !(prints.is_empty() && ids.is_empty())
    }

    /// Whether it did.
    pub(super) fn made(&self, signature: &Signature, payload: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Primary(key) => signature.verify(key.as_ref(), payload),
            Material::Subkey(key) => signature.verify(key.as_ref(), payload),
        };
        verified.is_ok()
    }

    /// Why a signature that it made does not count.
    pub(super) fn limit(&self, signature: &Signature, at: Times) -> Option<Limit> {
        if let Some(why) = &self.unusable {
            return Some(Limit::OpenPgp(why.clone()));
        }
        let signed = signature.created().map_or(0, |created| i64::from(created.as_secs()));
        if signed.min(at.stated) < self.created {
            return Some(Limit::OpenPgp("it is younger than what it signed".to_owned()));
        }
        let ended = self.ends.is_some_and(|ends| signed.max(at.not_before()) >= ends);
        ended.then(|| Limit::OpenPgp("its time ended before the date of the commit or of one below it".to_owned()))
    }
}

/// The signatures of a key about itself.
fn own_signatures(key: &SignedPublicKey) -> Vec<Signature> {
    let primary = &key.primary_key;
    let users =
        key.details.users.iter().filter(|user| {
            !user.signatures.iter().any(|signature| signature.typ() == Some(SignatureType::CertRevocation))
        });
    let by_user = users.flat_map(|user| {
        let own = |signature: &&Signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok();
        user.signatures.iter().filter(own)
    });
    let direct = key.details.direct_signatures.iter().filter(|signature| signature.verify_key(primary).is_ok());
    by_user.chain(direct).filter(|signature| counts(signature)).cloned().collect()
}

fn counts(signature: &Signature) -> bool {
    has_strong_hash(signature) && !has_unknown_condition(signature) && signature.signature_expiration_time().is_none()
}

/// The last word; of two at the same time the one about the key itself.
fn newest(signatures: Vec<Signature>) -> Option<Signature> {
    signatures.into_iter().max_by_key(|signature| signature.created().map(pgp::types::Timestamp::as_secs))
}

fn end(key: &impl KeyDetails, own: &Signature) -> Option<i64> {
    let life = own.key_expiration_time().map(|life| i64::from(life.as_secs())).filter(|life| *life > 0)?;
    Some(i64::from(key.created_at().as_secs()) + life)
}

/// Why this sort of key is not accepted.
fn weakness(key: &impl KeyDetails) -> Option<String> {
    if !matches!(key.version(), KeyVersion::V4 | KeyVersion::V6) {
        return Some("its version is not accepted".to_owned());
    }
    let usable_point = |point: &ed25519_dalek::VerifyingKey| !point.is_weak();
    match key.public_params() {
        // The number of bits stands before the modulus.
        parameters @ PublicParams::RSA(_) if key.algorithm() != PublicKeyAlgorithm::RSAEncrypt => {
            let bits =
                parameters.to_bytes().ok().and_then(|bytes| bytes.first_chunk().copied().map(u16::from_be_bytes));
            let bits = bits.unwrap_or_default();
            (!RSA_BITS.contains(&bits)).then(|| format!("it is an RSA key of {bits} bits; 3072 to 8192 are accepted"))
        }
        PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { key }) if usable_point(key) => None,
        PublicParams::Ed25519(parameters) if usable_point(&parameters.key) => None,
        _ => Some(format!("keys of the algorithm {:?} are not supported", key.algorithm())),
    }
}

#[cfg(test)]
mod tests {
    use pgp::packet::Packet;

    use super::*;

    /// Whether a key of version 4 with these numbers is accepted.
    fn accepted(algorithm: u8, numbers: &[u8]) -> bool {
        let body = [&[4, 0x65, 0x92, 0, 0x80, algorithm], numbers].concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let bytes = [&[0x99], &length[..], &body].concat();
        let Some(Ok(Packet::PublicKey(key))) = PacketParser::new(bytes.as_slice()).next() else {
            panic!("algorithm {algorithm}");
        };
        weakness(&key).is_none()
    }

    #[test]
    fn a_point_for_which_anybody_can_sign_is_no_key() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let honest = *ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes();
        for (point, good) in [(honest, true), (identity, false)] {
            assert_eq!(accepted(27, &point), good);
            // The older form: the name of the curve, and the point behind its length in bits.
            let curve = [9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1, 1, 7, 0x40];
            assert_eq!(accepted(22, &[&curve[..], &point].concat()), good);
        }
    }

    #[test]
    fn an_rsa_key_is_long_enough_and_there_for_signing() {
        let numbers = |bits: u16| {
            let mut number = vec![0xff; usize::from(bits).div_ceil(8)];
            number[0] >>= (8 - bits % 8) % 8;
            [&bits.to_be_bytes()[..], &number, &[0, 17, 1, 0, 1]].concat()
        };
        assert!(accepted(1, &numbers(3072)) && accepted(3, &numbers(4096)));
        assert!(!accepted(1, &numbers(3071)));
        // For encrypting only.
        assert!(!accepted(2, &numbers(3072)));
    }
}
