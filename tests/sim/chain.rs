//! Builds commits as git stores them, signed with real ed25519 keys, without git.
#![allow(dead_code, reason = "every test binary uses its own part")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use moorline::model::Revision;
use sha2::{Digest as _, Sha512};

/// A key that signs commits; the same number gives the same key in every run.
pub struct Key {
    signing: SigningKey,
    blob: Vec<u8>,
}

/// How a commit is signed.
#[derive(Clone, Copy)]
pub enum Signature<'key> {
    By(&'key Key),
    Not,
    /// A genuine signature, over other bytes.
    Stolen(&'key Key),
}

impl Key {
    pub fn new(number: u8) -> Self {
        let signing = SigningKey::from_bytes(&[number + 1; 32]);
        let mut blob = Vec::new();
        string(&mut blob, b"ssh-ed25519");
        string(&mut blob, signing.verifying_key().as_bytes());
        Self { signing, blob }
    }

    /// The line of `allowed_signers` for this key.
    pub fn line(&self, name: &str) -> String {
        format!("{name} ssh-ed25519 {}\n", STANDARD.encode(&self.blob))
    }

    /// The value of a `gpgsig` header over a payload.
    fn sign(&self, payload: &[u8]) -> String {
        self.armoured("git", payload).trim_end().replace('\n', "\n ")
    }

    /// `SHA256:...`, as moorline shows it.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(sha2::Sha256::digest(&self.blob)))
    }

    /// What `ssh-keygen -Y sign` writes.
    pub fn armoured(&self, namespace: &str, payload: &[u8]) -> String {
        let namespace = namespace.as_bytes();
        let mut signed = b"SSHSIG".to_vec();
        for field in [namespace, b"", b"sha512", &Sha512::digest(payload)] {
            string(&mut signed, field);
        }
        let mut signature = Vec::new();
        string(&mut signature, b"ssh-ed25519");
        string(&mut signature, &self.signing.sign(&signed).to_bytes());
        let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
        for field in [self.blob.as_slice(), namespace, b"", b"sha512", &signature] {
            string(&mut blob, field);
        }
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob))
    }
}

/// The bytes of a commit object.
pub fn commit(tree: &str, parents: &[Revision], at: i64, message: &str, signature: Signature<'_>) -> Vec<u8> {
    let mut head = format!("tree {tree}\n");
    for parent in parents {
        head.push_str(&format!("parent {parent}\n"));
    }
    head.push_str(&format!("author A <a@example.org> {at} +0000\ncommitter A <a@example.org> {at} +0000\n"));
    let message = format!("\n{message}\n");
    let payload = format!("{head}{message}");
    let header = match signature {
        Signature::By(key) => format!("gpgsig {}\n", key.sign(payload.as_bytes())),
        Signature::Stolen(key) => format!("gpgsig {}\n", key.sign(b"something else")),
        Signature::Not => String::new(),
    };
    format!("{head}{header}{message}").into_bytes()
}

fn string(to: &mut Vec<u8>, field: &[u8]) {
    to.extend_from_slice(&u32::try_from(field.len()).expect("keys are short").to_be_bytes());
    to.extend_from_slice(field);
}
