//! Reads and checks SSH signatures (OpenSSH's PROTOCOL.sshsig), stricter than `ssh-keygen` where that costs nobody anything.
//!
//! It says that a key made a signature; whether that key may is decided elsewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};

use super::certificate::{Certificate, CertificateFlaw};
use super::key::{KeyFlaw, PublicKey};
use super::openpgp::OpenPgpFlaw;
use super::wire::{Short, Wire, put_string, shown};

const MAGIC: &[u8] = b"SSHSIG";
const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----\n";
const END: &[u8] = b"\n-----END SSH SIGNATURE-----";

/// An ed25519 signature has 300 bytes of text, one by an RSA 8192 key with a certificate 9,000: more is not a signature.
const LARGEST: usize = 16 * 1024;

/// A signature as parsed; nothing is known of it until [`Signature::verify`] has succeeded.
#[derive(Debug, Clone)]
pub struct Signature {
    by: SignedBy,
    namespace: Vec<u8>,
    hash: Hash,
    signature: Vec<u8>,
}

/// What a signature says it is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// A key alone.
    Key(Box<PublicKey>),
    /// A key with a certificate for it.
    Certificate(Box<Certificate>),
}

impl SignedBy {
    /// The key that signs.
    pub fn key(&self) -> &PublicKey {
        match self {
            Self::Key(key) => key,
            Self::Certificate(certificate) => &certificate.key,
        }
    }

    fn from_blob(blob: &[u8]) -> Result<Self, SignatureFlaw> {
        if Certificate::is_one(blob) {
            Ok(Self::Certificate(Box::new(Certificate::from_blob(blob)?)))
        } else {
            Ok(Self::Key(Box::new(PublicKey::from_blob(blob)?)))
        }
    }
}

/// How the message was digested before it was signed.
#[derive(Debug, Clone, Copy)]
enum Hash {
    Sha256,
    Sha512,
}

/// Why a signature is not accepted, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFlaw {
    /// No armour, or something around it.
    #[error("it is not an armoured SSH signature")]
    NotArmoured,
    /// Not base64 inside.
    #[error("its text is not base64")]
    Base64,
    /// The structure inside does not hold together.
    #[error("it is cut short or has bytes where none belong")]
    Malformed,
    /// A format of the future.
    #[error("it has format version {0}, and only version 1 is known")]
    Version(u32),
    /// The key inside is none.
    #[error(transparent)]
    Key(#[from] KeyFlaw),
    /// A signature made for another purpose.
    #[error("it was made for `{found}`, not for `{wanted}`")]
    Namespace {
        /// What it was made for.
        found: String,
        /// What it is needed for.
        wanted: String,
    },
    /// A digest that PROTOCOL.sshsig does not allow.
    #[error("it uses the hash `{0}`, and only sha256 and sha512 are allowed")]
    Hash(String),
    /// A genuine kind that is not verified here.
    #[error("{0}")]
    Unsupported(String),
    /// The certificate beside the key is not good.
    #[error(transparent)]
    Certificate(#[from] CertificateFlaw),
    /// A security key that signed by itself: malware on its owner's machine can make it do so.
    #[error("nobody touched the security key that made it")]
    NotTouched,
    /// The signature names another algorithm than its key has.
    #[error("it names the algorithm `{found}`, its key is {key}")]
    OtherAlgorithm {
        /// The kind of the key.
        key: String,
        /// What the signature names.
        found: String,
    },
    /// An OpenPGP signature that is not accepted.
    #[error(transparent)]
    OpenPgp(#[from] OpenPgpFlaw),
    /// The key did not sign this message.
    #[error("it does not fit the content that it should cover")]
    Wrong,
}

impl From<Short> for SignatureFlaw {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

impl Signature {
    /// Reads the armoured form. Only the armour, base64 and line feeds may be there: one signature, one text.
    pub fn parse(text: &[u8]) -> Result<Self, SignatureFlaw> {
        if text.len() > LARGEST {
            return Err(SignatureFlaw::NotArmoured);
        }
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let encoded =
            text.strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END)).ok_or(SignatureFlaw::NotArmoured)?;
        // Writers differ in how long their lines are (ssh-keygen 70, Go's pem 64), so only the breaks are taken out.
        let encoded: Vec<u8> = encoded.iter().copied().filter(|byte| *byte != b'\n').collect();
        let blob = STANDARD.decode(encoded).map_err(|_| SignatureFlaw::Base64)?;
        Self::from_blob(&blob)
    }

    fn from_blob(blob: &[u8]) -> Result<Self, SignatureFlaw> {
        let mut wire = Wire::new(blob);
        if wire.take(MAGIC.len())? != MAGIC {
            return Err(SignatureFlaw::Malformed);
        }
        let version = wire.number()?;
        if version != 1 {
            return Err(SignatureFlaw::Version(version));
        }
        let key = wire.string()?;
        let namespace = wire.string()?;
        let reserved = wire.string()?;
        let hash = wire.string()?;
        let signature = wire.string()?;
        // ssh-keygen ignores the reserved field and signs an empty one, so content there is covered by nothing.
        if !reserved.is_empty() || !wire.is_at_end() {
            return Err(SignatureFlaw::Malformed);
        }
        let hash = match hash {
            b"sha256" => Hash::Sha256,
            b"sha512" => Hash::Sha512,
            other => return Err(SignatureFlaw::Hash(shown(other))),
        };
        let by = SignedBy::from_blob(key)?;
        Ok(Self { by, namespace: namespace.to_vec(), hash, signature: signature.to_vec() })
    }

    /// The key that the signature says it is by; true once [`Signature::verify`] has succeeded.
    pub fn key(&self) -> &PublicKey {
        self.by.key()
    }

    /// The same, with the certificate if there is one.
    pub fn by(&self) -> &SignedBy {
        &self.by
    }

    /// Checks that the key signed this message, for this purpose.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<(), SignatureFlaw> {
        if self.namespace != namespace.as_bytes() {
            return Err(SignatureFlaw::Namespace { found: shown(&self.namespace), wanted: namespace.to_owned() });
        }
        self.key().check(&self.signed(message), &self.signature)
    }

    /// What is really signed: the message's digest, bound to its purpose.
    fn signed(&self, message: &[u8]) -> Vec<u8> {
        let (name, digest) = match self.hash {
            Hash::Sha256 => ("sha256", Sha256::digest(message).to_vec()),
            Hash::Sha512 => ("sha512", Sha512::digest(message).to_vec()),
        };
        let mut signed = MAGIC.to_vec();
        put_string(&mut signed, &self.namespace);
        put_string(&mut signed, b"");
        put_string(&mut signed, name.as_bytes());
        put_string(&mut signed, &digest);
        signed
    }
}

#[cfg(test)]
mod tests;
