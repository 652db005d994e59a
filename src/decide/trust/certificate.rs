//! An SSH certificate (OpenSSH's PROTOCOL.certkeys): by which a certificate authority says whose a key is, and for how long.
//!
//! It says that the authority signed it; whether anybody trusts that authority is decided elsewhere.

use super::key::{KeyFlaw, PublicKey, supported};
use super::pattern::list_matches;
use super::sshsig::SignatureFlaw;
use super::wire::{Short, Wire, shown};

/// The end of every name of a kind of certificate.
const SUFFIX: &str = "-cert-v01@openssh.com";
/// A certificate for people; the other kind is for hosts.
const USER: u32 = 1;

/// A certificate whose authority really signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The key that it is for.
    pub key: PublicKey,
    /// The key that signed it.
    pub authority: PublicKey,
    /// Who the key belongs to; never empty.
    pub principals: Vec<String>,
    valid_from: u64,
    valid_until: u64,
}

/// Why a certificate is not accepted, whoever its authority is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFlaw {
    /// No structure.
    #[error("its certificate is cut short or has bytes where none belong")]
    Malformed,
    /// The key inside is none.
    #[error("in its certificate, {0}")]
    Key(#[from] KeyFlaw),
    /// A host signs no commits.
    #[error("its certificate is not one for a person")]
    NotForUsers,
    /// OpenSSH takes that for everybody.
    #[error("its certificate names no principal")]
    Nobody,
    /// Whoever does not know an option must refuse it, and none of those known is about signing.
    #[error("its certificate has the critical option `{0}`, which is not known here")]
    CriticalOption(String),
    /// Not by the authority that it names.
    #[error("its certificate was not signed by the authority that it names: {0}")]
    Signature(Box<SignatureFlaw>),
}

impl From<Short> for CertificateFlaw {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

impl Certificate {
    /// Whether these bytes are a certificate, and not a bare key.
    pub(super) fn is_one(blob: &[u8]) -> bool {
        Wire::new(blob).string().is_ok_and(|name| certified(name).is_some())
    }

    /// Reads a certificate, and checks it against the key of its authority.
    pub(super) fn from_blob(blob: &[u8]) -> Result<Self, CertificateFlaw> {
        let mut wire = Wire::new(blob);
        let kind = certified(wire.string()?).ok_or(CertificateFlaw::Malformed)?;
        // Only there so that nobody can choose every byte that the authority signs.
        let _nonce = wire.string()?;
        let key = PublicKey::from_fields(kind, &mut wire, blob)?;
        let _serial = wire.long()?;
        let role = wire.number()?;
        let _name = wire.string()?;
        let principals = principals(wire.string()?)?;
        let (valid_from, valid_until) = (wire.long()?, wire.long()?);
        let critical = wire.string()?;
        // What the key may do when it logs in. That a security key need not be touched is one of them; here it must.
        let _extensions = wire.string()?;
        let reserved = wire.string()?;
        let authority = wire.string()?;
        let signed = blob.get(..blob.len() - wire.rest().len()).unwrap_or_default();
        let signature = wire.string()?;
        if !wire.is_at_end() || !reserved.is_empty() {
            return Err(CertificateFlaw::Malformed);
        }
        if role != USER {
            return Err(CertificateFlaw::NotForUsers);
        }
        if let Some(name) = first_option(critical)? {
            return Err(CertificateFlaw::CriticalOption(shown(name)));
        }
        if principals.is_empty() {
            return Err(CertificateFlaw::Nobody);
        }
        let authority = PublicKey::from_blob(authority)?;
        authority.check(signed, signature).map_err(|flaw| CertificateFlaw::Signature(Box::new(flaw)))?;
        Ok(Self { key, authority, principals, valid_from, valid_until })
    }

    /// The principals of the certificate that a list of patterns lets in.
    pub(super) fn principals_in(&self, patterns: &str) -> Vec<&str> {
        self.principals.iter().map(String::as_str).filter(|name| list_matches(patterns, name)).collect()
    }

    /// The end does not belong to the time of validity, as for ssh.
    pub(super) fn begins_after(&self, at: i64) -> bool {
        u64::try_from(at).map_or(true, |at| at < self.valid_from)
    }

    pub(super) fn ended_before(&self, at: i64) -> bool {
        u64::try_from(at).is_ok_and(|at| at >= self.valid_until)
    }
}

/// The kind of the key in a certificate of this kind.
fn certified(name: &[u8]) -> Option<&'static str> {
    let kind = std::str::from_utf8(name).ok()?.strip_suffix(SUFFIX)?;
    // `ssh-ed25519` stays as it is; the kinds in security keys have a domain.
    supported(kind.as_bytes()).or_else(|| supported(format!("{kind}@openssh.com").as_bytes()))
}

fn principals(packed: &[u8]) -> Result<Vec<String>, CertificateFlaw> {
    let mut wire = Wire::new(packed);
    let mut names = Vec::new();
    while !wire.is_at_end() {
        let name = std::str::from_utf8(wire.string()?).map_err(|_| CertificateFlaw::Malformed)?;
        // They are shown, and a list of principals is separated by commas.
        if name.is_empty() || name.contains(|character: char| character.is_control() || character == ',') {
            return Err(CertificateFlaw::Malformed);
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn first_option(options: &[u8]) -> Result<Option<&[u8]>, CertificateFlaw> {
    if options.is_empty() { Ok(None) } else { Ok(Some(Wire::new(options).string()?)) }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::certificate;
