//! The private keys of this host, read from the text of an identity file.
//!
//! Accepts what `age-keygen` writes (comments, several identities) and an OpenSSH private key, which gives
//! two identities: the native ssh one, and for ed25519 the `ssh-to-age` one. Opens no file, starts no plugin,
//! asks for no passphrase.

use std::str::FromStr;

use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::bech32;
use super::error::SopsError;
use super::ssh_key;

/// Every identity of a host, with the recipient that belongs to each.
pub struct Identities(Vec<Identity>);

/// One identity.
pub(super) struct Identity {
    pub recipient: String,
    key: Key,
}

enum Key {
    Native(age::x25519::Identity),
    Ssh(Box<age::ssh::Identity>),
}

impl Identity {
    /// The identity as the age crate uses it.
    pub fn as_age(&self) -> &dyn age::Identity {
        match &self.key {
            Key::Native(identity) => identity,
            Key::Ssh(identity) => identity.as_ref(),
        }
    }
}

impl Identities {
    /// Reads an identity file, or an OpenSSH private key without passphrase.
    pub fn parse(text: &str) -> Result<Self, SopsError> {
        let identities = match text.trim_start().starts_with("-----BEGIN ") {
            true => parse_ssh(text)?,
            false => parse_age(text)?,
        };
        if identities.is_empty() {
            return Err(SopsError::NoIdentity);
        }
        Ok(Self(identities))
    }

    /// Adds the identities of another file, for instance the old one while a key is rotated.
    pub fn join(mut self, other: Identities) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The recipients, in the order of the identities. These are public.
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|identity| identity.recipient.clone()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter()
    }
}

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identities").field(&self.recipients()).finish()
    }
}

fn parse_age(text: &str) -> Result<Vec<Identity>, SopsError> {
    let mut identities = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let (line, number) = (line.trim(), index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let upper = Zeroizing::new(line.to_ascii_uppercase());
        if let Some(kind) = unsupported(&upper) {
            return Err(SopsError::UnsupportedIdentity { line: number, kind });
        }
        let identity = age::x25519::Identity::from_str(line).map_err(|_| SopsError::BadIdentity {
            line: number,
            problem: "is not an age identity: expected `AGE-SECRET-KEY-1...`",
        })?;
        identities.push(native(identity));
    }
    Ok(identities)
}

/// Kinds that other tools write and that cannot work here, so that the sentence names the cause.
fn unsupported(line: &str) -> Option<&'static str> {
    if line.starts_with("AGE-PLUGIN-") {
        Some("the identity of an age plugin")
    } else if line.starts_with("AGE-SECRET-KEY-PQ-") {
        Some("a post-quantum identity")
    } else if line.starts_with("AGE-ENCRYPTION.ORG/") || line.starts_with("-----BEGIN AGE") {
        Some("an identity that is encrypted with a passphrase")
    } else {
        None
    }
}

/// Whether an identity that this build can use could belong to this recipient: X25519 or ssh, not post-quantum, not a plugin.
pub fn is_readable(recipient: &str) -> bool {
    let is_native = age::x25519::Recipient::from_str(recipient).is_ok();
    is_native || age::ssh::Recipient::from_str(recipient).is_ok()
}

fn native(identity: age::x25519::Identity) -> Identity {
    Identity { recipient: identity.to_public().to_string(), key: Key::Native(identity) }
}

fn parse_ssh(text: &str) -> Result<Vec<Identity>, SopsError> {
    let unsupported = |kind| SopsError::UnsupportedIdentity { line: 1, kind };
    if text.trim_start().starts_with("-----BEGIN AGE") {
        return Err(unsupported("an identity that is encrypted with a passphrase"));
    }
    let bad = SopsError::BadIdentity { line: 1, problem: "starts a private key that cannot be read" };
    let identity = age::ssh::Identity::from_buffer(text.trim_start().as_bytes(), None).map_err(|_| bad.clone())?;
    match &identity {
        age::ssh::Identity::Unencrypted(_) => {}
        age::ssh::Identity::Encrypted(_) => {
            return Err(unsupported("an ssh key that is encrypted with a passphrase"));
        }
        age::ssh::Identity::Unsupported(_) => {
            return Err(unsupported("an ssh key that is neither ed25519 nor rsa"));
        }
    }
    let recipient = age::ssh::Recipient::try_from(identity.clone()).map_err(|_| bad)?.to_string();
    let own = Identity { recipient, key: Key::Ssh(Box::new(identity)) };
    let derived = ssh_key::ed25519_seed(text).and_then(|seed| converted(&seed));
    Ok(std::iter::once(own).chain(derived).collect())
}

/// The identity that `ssh-to-age` derives: the first half of SHA-512 of the seed is the X25519 scalar.
fn converted(seed: &[u8; 32]) -> Option<Identity> {
    let digest = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    let text = bech32::encode("age-secret-key-", &digest[..32]);
    age::x25519::Identity::from_str(&Zeroizing::new(text.to_ascii_uppercase())).ok().map(native)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_of_other_kinds_are_refused_by_kind() {
        for (text, kind) in [
            ("# x\nAGE-PLUGIN-YUBIKEY-1QQQ", "the identity of an age plugin"),
            ("AGE-SECRET-KEY-PQ-1QQQ", "a post-quantum identity"),
        ] {
            let error = Identities::parse(text).expect_err("must be refused");
            assert!(error.to_string().contains(kind), "{error}");
            assert!(error.to_string().contains("not supported by this build"));
            assert!(!error.to_string().contains("QQQ"));
        }
    }

    #[test]
    fn a_file_without_identity_is_refused() {
        assert_eq!(Identities::parse("# nothing\n\n").expect_err("empty"), SopsError::NoIdentity);
    }
}
