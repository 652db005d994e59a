//! An SSH public key: which kind it is, how it is shown, whether a signature is its own.
//!
//! It does not say whether anybody trusts the key; that is the list of allowed signers.

mod algorithm;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use self::algorithm::{Algorithm, Curve};
use super::sshsig::SignatureFlaw;
use super::wire::{Short, Wire, put_string, shown};

const ED25519: &str = "ssh-ed25519";
const RSA: &str = "ssh-rsa";
const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
const SK_ECDSA: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

/// Kinds of keys that OpenSSH writes into lists and that sign nothing here. They are told apart from nonsense so that a
/// list may hold them; a signature by one is refused by name.
const OTHER_KINDS: [&str; 8] = [
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "sk-ssh-ed25519-cert-v01@openssh.com",
    "ssh-dss",
    "ssh-ed25519-cert-v01@openssh.com",
    "ssh-rsa-cert-v01@openssh.com",
];

/// A public key, as it stands in a list of allowed signers or inside a signature.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// The key in SSH's own encoding: what makes two keys the same one, and what the fingerprint is of.
    blob: Vec<u8>,
    kind: &'static str,
    algorithm: Result<Algorithm, Unsupported>,
}

/// Why nothing that a key signs is accepted, although the key is well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// OpenSSH knows this kind, and no signature by it is verified here.
    Kind(&'static str),
    /// Too few bits to last.
    ShortRsa(usize),
    /// More bits than anybody can need; each would be paid for at every verification.
    LongRsa(usize),
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(kind) if kind.contains("-cert-") => {
                write!(f, "a certificate ({kind}) signs nothing here; list its authority with cert-authority")
            }
            Self::Kind(kind) => write!(f, "keys of kind {kind} are not supported"),
            Self::ShortRsa(bits) => write!(f, "an RSA key of {bits} bits is too short; 3072 is the least"),
            Self::LongRsa(bits) => write!(f, "an RSA key of {bits} bits is too long; 8192 is the most"),
        }
    }
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
    /// Not a point, or one of the few for which anybody can make signatures.
    #[error("the key is not a usable point on its curve")]
    Weak,
}

impl From<Short> for KeyFlaw {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

impl PublicKey {
    /// Reads SSH's binary encoding.
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyFlaw> {
        let mut wire = Wire::new(blob);
        let name = wire.string()?;
        if let Some(kind) = OTHER_KINDS.iter().find(|kind| kind.as_bytes() == name) {
            return Ok(Self { blob: blob.to_vec(), kind, algorithm: Err(Unsupported::Kind(kind)) });
        }
        let kind = supported(name).ok_or_else(|| KeyFlaw::UnknownKind(shown(name)))?;
        let algorithm = Algorithm::read(kind, &mut wire)?;
        if !wire.is_at_end() {
            return Err(KeyFlaw::Malformed);
        }
        Ok(Self { blob: blob.to_vec(), kind, algorithm })
    }

    /// Reads the fields of a key of this kind where they stand inside something longer: a certificate.
    pub(super) fn from_fields<'a>(kind: &'static str, wire: &mut Wire<'a>, whole: &'a [u8]) -> Result<Self, KeyFlaw> {
        let before = whole.len() - wire.rest().len();
        let algorithm = Algorithm::read(kind, wire)?;
        let fields = whole.get(before..whole.len() - wire.rest().len()).unwrap_or_default();
        let mut blob = Vec::new();
        put_string(&mut blob, kind.as_bytes());
        blob.extend_from_slice(fields);
        Ok(Self { blob, kind, algorithm })
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
        supported(word.as_bytes()).is_some() || OTHER_KINDS.contains(&word)
    }

    /// The kind, by OpenSSH's name.
    pub fn kind(&self) -> &str {
        self.kind
    }

    /// Whether signatures of this key can be verified here.
    pub fn is_supported(&self) -> bool {
        self.algorithm.is_ok()
    }

    /// Why they cannot.
    pub(super) fn unsupported(&self) -> Option<Unsupported> {
        self.algorithm.as_ref().err().copied()
    }

    /// `SHA256:...`, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(&self.blob)))
    }

    /// Checks the innermost part of a signature: an algorithm's name and its bytes, over the message.
    pub(super) fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureFlaw> {
        match &self.algorithm {
            Ok(algorithm) => algorithm.check(self.kind, message, signature),
            Err(why) => Err(SignatureFlaw::Unsupported(why.to_string())),
        }
    }
}

/// The kind with this name, if its signatures are verified here.
pub(super) fn supported(name: &[u8]) -> Option<&'static str> {
    let kinds = [ED25519, RSA, SK_ED25519, SK_ECDSA, Curve::P256.kind(), Curve::P384.kind(), Curve::P521.kind()];
    kinds.into_iter().find(|kind| kind.as_bytes() == name)
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

#[cfg(test)]
mod tests;
