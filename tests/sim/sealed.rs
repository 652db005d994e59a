//! Seals secrets as SOPS does, for keys whose sealed data key was written by the real SOPS (`tests/vectors/sops`).

use aes_gcm::aead::consts::{U16, U32};
use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInPlace, AesGcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};

/// The age key of the host `alpha`.
pub const ALPHA_KEY: &str = include_str!("../vectors/sops/keys/host1.txt");
/// The age key of the host `beta`.
pub const BETA_KEY: &str = include_str!("../vectors/sops/keys/host2.txt");
/// A file that SOPS 3.13.0 has sealed for three keys, alpha's and beta's among them.
const OF_SOPS: &str = include_str!("../vectors/sops/generated/k03_three.v3.13.0.yaml");
const MODIFIED: &str = "2026-01-01T00:00:00Z";

/// Sections of a SOPS file with their names and values, in the order of the file.
pub type Sections<'a> = &'a [(&'a str, &'a [(&'a str, &'a str)])];

/// A SOPS file, and what is wrong with it.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// The only recipient: the identity file of a host.
    pub key: &'a str,
    /// Whether the MAC is that of the content.
    pub honest: bool,
}

/// Seals for the host `alpha`.
pub fn seal(sections: Sections<'_>) -> String {
    seal_as(sections, Sealing { key: ALPHA_KEY, honest: true })
}

/// Seals in some other way.
pub fn seal_as(sections: Sections<'_>, sealing: Sealing<'_>) -> String {
    let recipient =
        sealing.key.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("age-keygen wrote it");
    let block = block_for(recipient);
    let data_key = data_key(&block, sealing.key);
    let mut text = String::new();
    let mut mac = Sha512::new();
    for (section, entries) in sections {
        text.push_str(&format!("{section}:\n"));
        for (name, value) in *entries {
            mac.update(value.as_bytes());
            let sealed = value_of(&data_key, &format!("{section}:{name}:"), value);
            text.push_str(&format!("    {name}: {sealed}\n"));
        }
    }
    if !sealing.honest {
        mac.update(b"something that is not in the file");
    }
    let mac = value_of(&data_key, MODIFIED, &hex::encode_upper(mac.finalize()));
    let indented: String = block.lines().map(|line| format!("            {line}\n")).collect();
    text.push_str(&format!(
        "sops:\n    age:\n        - enc: |\n{indented}          recipient: {recipient}\n    lastmodified: \"{MODIFIED}\"\n    \
         mac: {mac}\n    unencrypted_suffix: _unencrypted\n    version: 3.13.0\n"
    ));
    text
}

/// The armored data key that stands beside a recipient.
fn block_for(recipient: &str) -> String {
    let mut block = String::new();
    for line in OF_SOPS.lines().map(str::trim) {
        if line == format!("recipient: {recipient}") {
            return block;
        }
        if line.starts_with("-----BEGIN") {
            block.clear();
        }
        block.push_str(line);
        block.push('\n');
    }
    panic!("{recipient} is not a recipient of the vector");
}

fn data_key(block: &str, identity: &str) -> Vec<u8> {
    let letters: String = block.lines().filter(|line| !line.starts_with("-----") && !line.contains("enc: |")).collect();
    let sealed = STANDARD.decode(letters).expect("base64");
    let key = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).expect("a key");
    let identity: age::x25519::Identity = key.parse().expect("an age identity");
    age::decrypt(&identity, &sealed).expect("sealed for this key")
}

fn value_of(data_key: &[u8], place: &str, value: &str) -> String {
    // A nonce of its own for every place and value; tests need the same file in every run.
    let nonce = Sha256::digest(format!("{place}={value}"));
    let cipher = AesGcm::<Aes256, U32, U16>::new(GenericArray::from_slice(data_key));
    let mut bytes = value.as_bytes().to_vec();
    let nonce = GenericArray::<u8, U32>::from_slice(&nonce);
    let tag = cipher.encrypt_in_place_detached(nonce, place.as_bytes(), &mut bytes).expect("short enough");
    let [data, nonce, tag] = [bytes.as_slice(), nonce, tag.as_slice()].map(|part| STANDARD.encode(part));
    format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:str]")
}
