//! An SSH public key: which kind it is, how it is shown, whether a signature is its own.
//!
//! It does not say whether anybody trusts the key; that is the list of allowed signers.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

use super::sshsig::SignatureFlaw;
use super::wire::{Wire, shown};

const ED25519: &str = "ssh-ed25519";

/// Kinds of keys that OpenSSH writes into lists and signatures, beside ed25519. They are told apart from nonsense so
/// that a list may hold them; a signature by one is refused by name.
const OTHER_KINDS: [&str; 14] = [
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-dss",
    "ssh-ed25519-cert-v01@openssh.com",
    "ssh-rsa",
    "ssh-rsa-cert-v01@openssh.com",
];

/// A public key, as it stands in a list of allowed signers or inside a signature.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// The key in SSH's own encoding: what makes two keys the same one, and what the fingerprint is of.
    blob: Vec<u8>,
    kind: Kind,
}

/// What can be done with a key. A new algorithm is a new variant; the compiler then asks for the rest.
#[derive(Debug, Clone)]
enum Kind {
    Ed25519(VerifyingKey),
    /// A kind that OpenSSH knows and this program does not verify.
    Unsupported(&'static str),
}

/// Why bytes are not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFlaw {
    /// No structure.
    #[error("the key is cut short or has bytes after its end")]
    Malformed,
    /// Not base64.
    #[error("the key is not base64")]
    Base64,
    /// The word before the key and the word inside it differ.
    #[error("the key says it is `{inside}`, the word before it `{before}`")]
    OtherKind {
        /// Inside the encoded key.
        inside: String,
        /// In the text.
        before: String,
    },
    /// A kind that OpenSSH does not have.
    #[error("`{0}` is not a kind of key")]
    UnknownKind(String),
    /// For ed25519: not a point, or one of the few for which anybody can make signatures.
    #[error("the key is not a usable point on its curve")]
    Weak,
}

impl PublicKey {
    /// Reads SSH's binary encoding.
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyFlaw> {
        let mut wire = Wire::new(blob);
        let name = wire.string().map_err(|_| KeyFlaw::Malformed)?;
        if name == ED25519.as_bytes() {
            let point = wire.string().map_err(|_| KeyFlaw::Malformed)?;
            let point = <[u8; 32]>::try_from(point).map_err(|_| KeyFlaw::Malformed)?;
            if !wire.is_at_end() {
                return Err(KeyFlaw::Malformed);
            }
            let key = VerifyingKey::from_bytes(&point).map_err(|_| KeyFlaw::Weak)?;
            if key.is_weak() {
                return Err(KeyFlaw::Weak);
            }
            return Ok(Self { blob: blob.to_vec(), kind: Kind::Ed25519(key) });
        }
        match OTHER_KINDS.iter().find(|kind| kind.as_bytes() == name) {
            Some(kind) => Ok(Self { blob: blob.to_vec(), kind: Kind::Unsupported(kind) }),
            None => Err(KeyFlaw::UnknownKind(shown(name))),
        }
    }

    /// Reads the two words of a `.pub` file or of a list: the kind and the base64.
    pub fn from_words(kind: &str, encoded: &str) -> Result<Self, KeyFlaw> {
        let blob = STANDARD.decode(encoded).map_err(|_| KeyFlaw::Base64)?;
        let key = Self::from_blob(&blob)?;
        if key.kind() == kind {
            Ok(key)
        } else {
            Err(KeyFlaw::OtherKind { inside: key.kind().to_owned(), before: shown(kind.as_bytes()) })
        }
    }

    /// Whether a word is the name of a kind of key, so that what follows is one.
    pub(super) fn is_kind(word: &str) -> bool {
        word == ED25519 || OTHER_KINDS.contains(&word)
    }

    /// The kind, by OpenSSH's name.
    pub fn kind(&self) -> &str {
        match self.kind {
            Kind::Ed25519(_) => ED25519,
            Kind::Unsupported(name) => name,
        }
    }

    /// Whether signatures of this key can be verified here.
    pub fn is_supported(&self) -> bool {
        match self.kind {
            Kind::Ed25519(_) => true,
            Kind::Unsupported(_) => false,
        }
    }

    /// `SHA256:...`, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }

    /// Checks the innermost part of a signature: an algorithm's name and its bytes, over the message.
    pub(super) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureFlaw> {
        let key = match &self.kind {
            Kind::Ed25519(key) => key,
            Kind::Unsupported(name) => return Err(SignatureFlaw::Unsupported((*name).to_owned())),
        };
        let mut wire = Wire::new(signature);
        let algorithm = wire.string().map_err(|_| SignatureFlaw::Malformed)?;
        let bytes = wire.string().map_err(|_| SignatureFlaw::Malformed)?;
        if !wire.is_at_end() {
            return Err(SignatureFlaw::Malformed);
        }
        if algorithm != ED25519.as_bytes() {
            return Err(SignatureFlaw::OtherAlgorithm { key: ED25519.to_owned(), found: shown(algorithm) });
        }
        let bytes = <[u8; 64]>::try_from(bytes).map_err(|_| SignatureFlaw::Malformed)?;
        // The strict form also refuses the odd points for which two verifiers can disagree.
        key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&bytes)).map_err(|_| SignatureFlaw::Wrong)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with `ssh-keygen -t ed25519`; the fingerprint is what `ssh-keygen -l` printed.
    const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAAqMGNY0/5D9+wL789Kkc6vb9SDM1v5AlvuTQRaI3ba";

    #[test]
    fn kind_and_encoded_key_must_agree() {
        let key = PublicKey::from_words("ssh-ed25519", KEY).unwrap();
        assert_eq!(key.fingerprint(), "SHA256:pWIHlF3BcaBhh+6v2zbPfIaKibvBo33k5SiZNZ0+u7E");
        assert_eq!(
            PublicKey::from_words("ssh-rsa", KEY),
            Err(KeyFlaw::OtherKind { inside: "ssh-ed25519".into(), before: "ssh-rsa".into() })
        );
        assert_eq!(PublicKey::from_words("ssh-ed25519", "not base64"), Err(KeyFlaw::Base64));
    }

    #[test]
    fn a_point_for_which_anybody_can_sign_is_no_key() {
        let mut blob = Vec::new();
        super::super::wire::put_string(&mut blob, b"ssh-ed25519");
        let mut identity = [0; 32];
        identity[0] = 1;
        super::super::wire::put_string(&mut blob, &identity);
        assert_eq!(PublicKey::from_blob(&blob), Err(KeyFlaw::Weak));
    }

    #[test]
    fn bytes_after_the_key_are_refused() {
        let mut blob = STANDARD.decode(KEY).unwrap();
        blob.push(0);
        assert_eq!(PublicKey::from_blob(&blob), Err(KeyFlaw::Malformed));
    }
}
