//! From the sealed key entries of a file to its data key.
//!
//! Tries every entry with every identity, because the recipient that stands beside an entry is a mere label.
//! Entries of kinds that are not ours do not open, which is no error as long as another one does.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::cipher::KEY_BYTES;
use super::error::SopsError;
use super::identity::{Identities, Identity};
use super::limits::MAX_KEY_ENTRY_BYTES;
use super::metadata::{AgeEntry, KeyGroup, Metadata};
use super::shamir;

/// The key that all values of one file are sealed with.
pub struct DataKey {
    pub(super) bytes: Zeroizing<[u8; KEY_BYTES]>,
    pub(super) opened_by: Vec<String>,
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// A share is one byte longer than the key.
const LONGEST_SHARE: u64 = KEY_BYTES as u64 + 1;

impl DataKey {
    pub(super) fn unseal(metadata: &Metadata, identities: &Identities) -> Result<Self, SopsError> {
        let mut opened_by: Vec<String> = Vec::new();
        let mut parts = Vec::new();
        for group in &metadata.groups {
            if let Some((identity, part)) = open_group(group, identities) {
                if !opened_by.contains(&identity.recipient) {
                    opened_by.push(identity.recipient.clone());
                }
                parts.push(part);
            }
        }
        let bytes = assemble(metadata, &parts, identities)?;
        Ok(Self { bytes, opened_by })
    }
}

fn assemble(
    metadata: &Metadata,
    parts: &[Zeroizing<Vec<u8>>],
    identities: &Identities,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, SopsError> {
    let (recipients, tried) = (metadata.recipients.clone(), identities.recipients());
    if parts.is_empty() {
        return Err(SopsError::NotForUs { recipients, tried });
    }
    if parts.len() < metadata.threshold {
        return Err(SopsError::TooFewShares { needed: metadata.threshold, opened: parts.len(), recipients, tried });
    }
    let key = match metadata.groups.len() {
        1 => parts[0].clone(),
        _ => shamir::combine(parts).ok_or_else(|| SopsError::BadMetadata {
            field: String::from("key_groups"),
            problem: "hold shares that do not fit each other",
        })?,
    };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if key.len() != KEY_BYTES {
        return Err(SopsError::BadMetadata {
            field: String::from("age"),
            problem: "seals a data key of the wrong length",
        });
    }
    bytes.copy_from_slice(&key);
    Ok(bytes)
}

/// The share of one group: entries that are labelled with our recipient first, then the others.
fn open_group<'a>(group: &KeyGroup, identities: &'a Identities) -> Option<(&'a Identity, Zeroizing<Vec<u8>>)> {
    let labelled = |entry: &AgeEntry, identity: &Identity| entry.recipient == identity.recipient;
    let pairs = || group.iter().flat_map(|entry| identities.iter().map(move |identity| (entry, identity)));
    let ours = pairs().filter(|(entry, identity)| labelled(entry, identity));
    let others = pairs().filter(|(entry, identity)| !labelled(entry, identity));
    ours.chain(others).find_map(|(entry, identity)| open_entry(entry, identity).map(|part| (identity, part)))
}

fn open_entry(entry: &AgeEntry, identity: &Identity) -> Option<Zeroizing<Vec<u8>>> {
    if entry.sealed.len() > MAX_KEY_ENTRY_BYTES {
        return None;
    }
    let file = without_armor(&entry.sealed)?;
    let decryptor = age::Decryptor::new_buffered(file.as_slice()).ok()?;
    let reader = decryptor.decrypt(std::iter::once(identity.as_age())).ok()?;
    let mut plain = Zeroizing::new(Vec::with_capacity(LONGEST_SHARE as usize + 1));
    reader.take(LONGEST_SHARE + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= LONGEST_SHARE).then_some(plain)
}

/// The binary form of an armored age file. White space around it is ignored, as SOPS does.
fn without_armor(text: &str) -> Option<Vec<u8>> {
    let body = text
        .trim()
        .strip_prefix("-----BEGIN AGE ENCRYPTED FILE-----")?
        .strip_suffix("-----END AGE ENCRYPTED FILE-----")?;
    let letters: String = body.lines().map(str::trim).collect();
    STANDARD.decode(letters).ok()
}
