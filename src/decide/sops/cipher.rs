//! One sealed value: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]` to plaintext of its type.
//!
//! Knows no tree and no file. A problem is named without a word of what the value holds.

use aes_gcm::aead::consts::{U12, U16, U32};
use aes_gcm::aead::generic_array::{ArrayLength, GenericArray};
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInPlace, AesGcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::Secret;

use super::document::Node;
use super::go_text;

/// Length of an AES-256 key.
pub const KEY_BYTES: usize = 32;

/// A problem of one value, in words that go into [`super::SopsError::BadValue`].
pub type Problem = &'static str;

/// The parts of a sealed value.
pub struct Sealed<'a> {
    data: Vec<u8>,
    nonce: Vec<u8>,
    tag: Vec<u8>,
    kind: &'a str,
}

/// Whether a text has the outer form of a sealed value.
pub fn looks_sealed(text: &str) -> bool {
    text.starts_with(PREFIX) && text.ends_with(']')
}

const PREFIX: &str = "ENC[AES256_GCM,data:";

impl<'a> Sealed<'a> {
    /// Takes the parts apart. Stricter than SOPS, which lets anything stand behind the last bracket.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        let inner = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or("is not sealed: it stands in plaintext where its rule demands ciphertext")?;
        let (data, inner) = inner.split_once(",iv:").ok_or(DAMAGED)?;
        let (nonce, inner) = inner.split_once(",tag:").ok_or(DAMAGED)?;
        let (tag, kind) = inner.split_once(",type:").ok_or(DAMAGED)?;
        let bytes = |text: &str| -> Result<Vec<u8>, Problem> {
            match STANDARD.decode(text) {
                Ok(bytes) if !bytes.is_empty() => Ok(bytes),
                _ => Err(DAMAGED),
            }
        };
        Ok(Self { data: bytes(data)?, nonce: bytes(nonce)?, tag: bytes(tag)?, kind })
    }

    /// The type that the file claims. SOPS does not authenticate it.
    pub fn kind(&self) -> &str {
        self.kind
    }

    /// Decrypts and authenticates, without reading the type.
    pub fn open(&self, key: &[u8; KEY_BYTES], place: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
        match self.nonce.len() {
            32 => self.open_with_nonce::<U32>(key, place),
            12 => self.open_with_nonce::<U12>(key, place),
            _ => Err("has a nonce of the wrong length"),
        }
    }

    fn open_with_nonce<N: ArrayLength<u8>>(
        &self,
        key: &[u8; KEY_BYTES],
        place: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        if self.tag.len() != 16 {
            return Err("has an authentication tag of the wrong length");
        }
        let cipher = AesGcm::<Aes256, N, U16>::new(GenericArray::from_slice(key));
        let nonce = GenericArray::<u8, N>::from_slice(&self.nonce);
        let tag = GenericArray::<u8, U16>::from_slice(&self.tag);
        let mut plain = Zeroizing::new(self.data.clone());
        cipher
            .decrypt_in_place_detached(nonce, place.as_bytes(), &mut plain, tag)
            .map_err(|_| "is damaged, stands at another place than it was sealed for, or belongs to another file")?;
        Ok(plain)
    }
}

const DAMAGED: Problem = "has the form of a sealed value but is damaged";

/// Reads plaintext as the type the file claims.
pub fn typed(kind: &str, plain: &[u8]) -> Result<Node, Problem> {
    let text = || std::str::from_utf8(plain).map_err(|_| "is not text though its type says so");
    let secret = |text: String| Secret::new(text);
    match kind {
        "str" => Ok(match std::str::from_utf8(plain) {
            Ok(text) => Node::text(text),
            Err(_) => Node::Bytes(Secret::new(plain.to_vec())),
        }),
        // `int64` was written by some old versions.
        "int" | "int64" => go_text::integer(text()?)
            .map(|number| Node::Int(secret(number)))
            .ok_or("is no whole number though its type says so"),
        "float" => go_text::parse_float(text()?)
            .map(|number| Node::Float(secret(go_text::float_plain(number))))
            .ok_or("is no number though its type says so"),
        "bool" => match text()? {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Node::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Node::Bool(false)),
            _ => Err("is neither true nor false though its type says so"),
        },
        "time" => go_text::yaml_time(text()?)
            .map(|time| Node::Time(secret(time)))
            .ok_or("is no point in time though its type says so"),
        "bytes" => Ok(Node::Bytes(Secret::new(plain.to_vec()))),
        "comment" => Ok(Node::Comment(secret(String::from_utf8_lossy(plain).into_owned()))),
        _ => Err("has a type this build does not know"),
    }
}
