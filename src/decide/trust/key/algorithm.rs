//! The signature algorithms of SSH keys: reads a key's numbers and checks the bytes of a signature against them.
//!
//! One message and one key have few signatures that are good, and each has one form: numbers with more bytes than they
//! need, other lengths and unknown flags are refused, because whoever can change a signature without breaking it can
//! make a second commit out of a signed one.

use ed25519_dalek::VerifyingKey;
use p521::ecdsa::signature::Verifier as _;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use sha2::{Digest as _, Sha256};

use super::{KeyFlaw, RSA, SK_ECDSA, SK_ED25519, Unsupported};
use crate::decide::trust::sshsig::SignatureFlaw;
use crate::decide::trust::wire::{Wire, shown};

/// The shortest and longest RSA key, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 3072..=8192;
/// The flag by which a security key says that a person touched it.
const USER_PRESENT: u8 = 0x01;

/// What a key verifies with. A new algorithm is a new variant; the compiler then asks for the rest.
#[derive(Debug, Clone)]
pub(super) enum Algorithm {
    Ed25519(VerifyingKey),
    Ecdsa(Point),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A key inside a security key. It signs the digest of what it was asked for by, and whether it was touched.
    Sk {
        inner: Box<Algorithm>,
        application: Vec<u8>,
    },
}

/// A curve of NIST's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

/// A point that was found to be on its curve.
#[derive(Clone)]
pub(super) enum Point {
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Box<p521::ecdsa::VerifyingKey>),
}

impl Curve {
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
            Self::P521 => "ecdsa-sha2-nistp521",
        }
    }

    /// How SSH names the curve inside the key.
    fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => b"nistp256",
            Self::P384 => b"nistp384",
            Self::P521 => b"nistp521",
        }
    }

    /// How many bytes a number below the order has.
    fn bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

impl Algorithm {
    /// Reads the fields after the name of a kind that is supported.
    pub(super) fn read(kind: &'static str, wire: &mut Wire<'_>) -> Result<Result<Self, Unsupported>, KeyFlaw> {
        let ecdsa = [Curve::P256, Curve::P384, Curve::P521].into_iter().find(|curve| curve.kind() == kind);
        Ok(Ok(match (kind, ecdsa) {
            (_, Some(curve)) => Self::Ecdsa(Point::read(curve, wire)?),
            (RSA, _) => return read_rsa(wire),
            (SK_ED25519, _) => Self::Sk { inner: Box::new(read_ed25519(wire)?), application: wire.string()?.to_vec() },
            (SK_ECDSA, _) => {
                let inner = Box::new(Self::Ecdsa(Point::read(Curve::P256, wire)?));
                Self::Sk { inner, application: wire.string()?.to_vec() }
            }
            _ => read_ed25519(wire)?,
        }))
    }

    /// Checks a signature with its name, as it stands in an SSH structure.
    pub(super) fn check(&self, kind: &str, message: &[u8], signature: &[u8]) -> Result<(), SignatureFlaw> {
        let mut wire = Wire::new(signature);
        let name = wire.string()?;
        let bytes = wire.string()?;
        let touched = match self {
            Self::Sk { .. } => Some((wire.byte()?, wire.number()?)),
            _ => None,
        };
        if !wire.is_at_end() {
            return Err(SignatureFlaw::Malformed);
        }
        let is_named = match self {
            // The name of the key would mean SHA-1.
            Self::Rsa(_) => matches!(name, b"rsa-sha2-256" | b"rsa-sha2-512"),
            _ => name == kind.as_bytes(),
        };
        if !is_named {
            return Err(SignatureFlaw::OtherAlgorithm { key: kind.to_owned(), found: shown(name) });
        }
        match (self, touched) {
            (Self::Sk { inner, application }, Some((flags, counter))) => {
                if flags & USER_PRESENT == 0 {
                    return Err(SignatureFlaw::NotTouched);
                }
                let mut signed = Sha256::digest(application).to_vec();
                signed.push(flags);
                signed.extend_from_slice(&counter.to_be_bytes());
                signed.extend_from_slice(&Sha256::digest(message));
                inner.check_bytes(name, &signed, bytes)
            }
            _ => self.check_bytes(name, message, bytes),
        }
    }

    fn check_bytes(&self, name: &[u8], message: &[u8], bytes: &[u8]) -> Result<(), SignatureFlaw> {
        match self {
            Self::Ed25519(key) => {
                let bytes = <[u8; 64]>::try_from(bytes).map_err(|_| SignatureFlaw::Malformed)?;
                let signature = ed25519_dalek::Signature::from_bytes(&bytes);
                // The strict form also refuses the odd points for which two verifiers can disagree.
                key.verify_strict(message, &signature).map_err(|_| SignatureFlaw::Wrong)
            }
            Self::Ecdsa(point) => point.check(message, bytes),
            Self::Rsa(key) => {
                let parameters =
                    if name == b"rsa-sha2-256" { &RSA_PKCS1_2048_8192_SHA256 } else { &RSA_PKCS1_2048_8192_SHA512 };
                key.verify(parameters, message, bytes).map_err(|_| SignatureFlaw::Wrong)
            }
            // There is no key in a security key's key.
            Self::Sk { .. } => Err(SignatureFlaw::Malformed),
        }
    }
}

impl Point {
    fn read(curve: Curve, wire: &mut Wire<'_>) -> Result<Self, KeyFlaw> {
        if wire.string()? != curve.identifier() {
            return Err(KeyFlaw::Malformed);
        }
        let point = wire.string()?;
        // The other forms of the same point are not SSH's.
        if point.first() != Some(&4) || point.len() != 1 + 2 * curve.bytes() {
            return Err(KeyFlaw::Malformed);
        }
        match curve {
            Curve::P256 => p256::PublicKey::from_sec1_bytes(point).map(|_| Self::P256(point.to_vec())).ok(),
            Curve::P384 => p384::PublicKey::from_sec1_bytes(point).map(|_| Self::P384(point.to_vec())).ok(),
            Curve::P521 => p521::ecdsa::VerifyingKey::from_sec1_bytes(point).map(|key| Self::P521(Box::new(key))).ok(),
        }
        .ok_or(KeyFlaw::Weak)
    }

    /// Each of these refuses numbers that are not below the order of the curve. `ring` is many times as fast as the
    /// others, and does not have the third curve.
    fn check(&self, message: &[u8], bytes: &[u8]) -> Result<(), SignatureFlaw> {
        let verified = match self {
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(message, &two_numbers(Curve::P256, bytes)?)
                .is_ok(),
            Self::P384(point) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .verify(message, &two_numbers(Curve::P384, bytes)?)
                .is_ok(),
            Self::P521(key) => p521::ecdsa::Signature::from_slice(&two_numbers(Curve::P521, bytes)?)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        };
        if verified { Ok(()) } else { Err(SignatureFlaw::Wrong) }
    }
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let curve = match self {
            Self::P256(_) => Curve::P256,
            Self::P384(_) => Curve::P384,
            Self::P521(_) => Curve::P521,
        };
        f.debug_tuple("Point").field(&curve).finish()
    }
}

fn read_ed25519(wire: &mut Wire<'_>) -> Result<Algorithm, KeyFlaw> {
    let point = <[u8; 32]>::try_from(wire.string()?).map_err(|_| KeyFlaw::Malformed)?;
    let key = VerifyingKey::from_bytes(&point).map_err(|_| KeyFlaw::Weak)?;
    if key.is_weak() { Err(KeyFlaw::Weak) } else { Ok(Algorithm::Ed25519(key)) }
}

fn read_rsa(wire: &mut Wire<'_>) -> Result<Result<Algorithm, Unsupported>, KeyFlaw> {
    let (e, n) = (wire.positive()?.to_vec(), wire.positive()?.to_vec());
    let unused = n.first().map_or(0, |first| first.leading_zeros() as usize);
    let bits = n.len() * 8 - unused;
    Ok(match bits {
        bits if bits < *RSA_BITS.start() => Err(Unsupported::ShortRsa(bits)),
        bits if bits > *RSA_BITS.end() => Err(Unsupported::LongRsa(bits)),
        _ => Ok(Algorithm::Rsa(RsaPublicKeyComponents { n, e })),
    })
}

/// The two numbers of an ECDSA signature, each as long as the order.
fn two_numbers(curve: Curve, bytes: &[u8]) -> Result<Vec<u8>, SignatureFlaw> {
    let mut wire = Wire::new(bytes);
    let mut both = Vec::with_capacity(2 * curve.bytes());
    for number in [wire.positive()?, wire.positive()?] {
        let missing = curve.bytes().checked_sub(number.len()).ok_or(SignatureFlaw::Malformed)?;
        both.resize(both.len() + missing, 0);
        both.extend_from_slice(number);
    }
    if wire.is_at_end() { Ok(both) } else { Err(SignatureFlaw::Malformed) }
}
