//! Takes the seed out of an OpenSSH private key of the kind ed25519, for the identity derived from it.
//!
//! Only reads keys without passphrase. Everything else about ssh keys is done by the age crate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The 32 bytes the key pair was made of; `None` for any other kind of key.
pub fn ed25519_seed(pem: &str) -> Option<Zeroizing<[u8; 32]>> {
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?
        .strip_suffix("-----END OPENSSH PRIVATE KEY-----")?;
    let letters: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let file = Zeroizing::new(STANDARD.decode(letters.as_bytes()).ok()?);
    let mut rest = Fields(file.strip_prefix(b"openssh-key-v1\0")?);
    let (cipher, derivation) = (rest.text()?, rest.text()?);
    if cipher != b"none" || derivation != b"none" {
        return None;
    }
    let _options = rest.text()?;
    if rest.number()? != 1 {
        return None;
    }
    let _public = rest.text()?;
    let mut private = Fields(rest.text()?);
    if private.number()? != private.number()? || private.text()? != b"ssh-ed25519" {
        return None;
    }
    let _public = private.text()?;
    let pair = private.text()?;
    let seed = pair.get(..32).filter(|_| pair.len() == 64)?;
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(seed);
    Some(out)
}

/// The wire form of ssh: numbers of four bytes, and texts with their length before them.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }
}
