//! Keyed digests: they show that something changed and give nothing away about what it is.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::model::Secret;

/// This host's random key for digests. Without it a digest of a short password could be guessed from a report.
#[derive(Debug, Clone)]
pub struct DigestKey(Secret<Vec<u8>>);

impl DigestKey {
    /// Takes 32 random bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Secret::new(bytes))
    }

    /// The digest of a list of parts, as 32 hex digits. Where one part ends and the next begins counts too.
    pub fn of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(self.0.expose()).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        hex::encode(&mac.finalize().into_bytes()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_parts_counts() {
        let key = DigestKey::new(vec![7; 32]);
        assert_ne!(key.of([&b"ab"[..], b"c"]), key.of([&b"a"[..], b"bc"]));
        assert_eq!(key.of([&b"ab"[..]]).len(), 32);
    }

    #[test]
    fn another_key_gives_another_digest() {
        let one = DigestKey::new(vec![1; 32]).of([&b"x"[..]]);
        let two = DigestKey::new(vec![2; 32]).of([&b"x"[..]]);
        assert_ne!(one, two);
    }
}
