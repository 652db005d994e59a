//! The `sops` entry of a file: whom it is sealed for, and by which rules.
//!
//! Readable without any key. Tolerant where SOPS is (absent, null and empty lists, unknown entries, kinds of
//! keys that are not ours), strict where a guess could open the wrong thing (two rules, no MAC).

use super::document::Node;
use super::error::SopsError;
use super::limits::MAX_KEYS;
use super::rules::Rule;

/// What a file says about itself in clear.
#[derive(Debug, Clone)]
pub struct Metadata {
    /// Every age recipient of the file, native, ssh, plugin or post-quantum, each once, in order.
    pub recipients: Vec<String>,
    /// The version of SOPS that wrote the file.
    pub version: String,
    /// When the file was last written, as the file says it.
    pub lastmodified: String,
    /// Kinds of keys beside age that could open the file: `pgp`, `kms`, `hc_vault` and others.
    pub other_keys: Vec<String>,
    pub(super) groups: Vec<KeyGroup>,
    pub(super) threshold: usize,
    pub(super) mac: String,
    pub(super) mac_only_encrypted: bool,
    pub(super) rule: Rule,
}

/// The age entries of one key group. Any one of them gives the share of the group.
pub(super) type KeyGroup = Vec<AgeEntry>;

/// The data key (or a share of it), sealed for one recipient.
#[derive(Debug, Clone)]
pub(super) struct AgeEntry {
    pub recipient: String,
    pub sealed: String,
}

const OTHER_KEYS: [&str; 6] = ["kms", "gcp_kms", "azure_kv", "hc_vault", "hckms", "pgp"];

impl Metadata {
    pub(super) fn read(sops: &Node) -> Result<Self, SopsError> {
        let Node::Map(_) = sops else {
            return Err(bad("sops", "is not a mapping"));
        };
        let mut other_keys = Vec::new();
        let groups = key_groups(sops, &mut other_keys)?;
        let mut recipients: Vec<String> = Vec::new();
        for entry in groups.iter().flatten() {
            if !recipients.contains(&entry.recipient) {
                recipients.push(entry.recipient.clone());
            }
        }
        Ok(Self {
            recipients,
            version: text(sops, "version")?.unwrap_or_default(),
            lastmodified: text(sops, "lastmodified")?.ok_or(bad("lastmodified", "is missing"))?,
            mac: text(sops, "mac")?.ok_or(bad("mac", "is missing"))?,
            mac_only_encrypted: flag(sops, "mac_only_encrypted")?,
            threshold: threshold(sops, groups.len())?,
            rule: Rule::read(sops)?,
            other_keys,
            groups,
        })
    }
}

impl Metadata {
    /// Whether whoever holds only the keys of the recipients that `is_own` names lacks key groups: in how many it is,
    /// and how many are needed.
    pub fn lacking(&self, is_own: impl Fn(&str) -> bool) -> Option<(usize, usize)> {
        let in_group = |group: &&KeyGroup| group.iter().any(|entry| is_own(&entry.recipient));
        let opened = self.groups.iter().filter(in_group).count();
        (opened < self.threshold).then_some((opened, self.threshold))
    }
}

pub(super) fn bad(field: &str, problem: &'static str) -> SopsError {
    SopsError::BadMetadata { field: field.to_owned(), problem }
}

/// A scalar by name. Absent, null and empty are the same, as in SOPS.
pub(super) fn text(map: &Node, field: &str) -> Result<Option<String>, SopsError> {
    match map.get(field) {
        None | Some(Node::Null) => Ok(None),
        Some(value) => match value.scalar_text() {
            Some(text) => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
            None => Err(bad(field, "is not a text")),
        },
    }
}

fn flag(map: &Node, field: &str) -> Result<bool, SopsError> {
    match text(map, field)?.as_deref() {
        None => Ok(false),
        Some("true" | "True" | "TRUE" | "1" | "t" | "T") => Ok(true),
        Some("false" | "False" | "FALSE" | "0" | "f" | "F") => Ok(false),
        Some(_) => Err(bad(field, "is neither true nor false")),
    }
}

/// A list by name. Absent, null and an empty text are an empty list.
fn list<'a>(map: &'a Node, field: &str) -> Result<Vec<&'a Node>, SopsError> {
    match map.get(field) {
        None | Some(Node::Null) => Ok(Vec::new()),
        Some(list @ Node::List(_)) => Ok(list.items().collect()),
        Some(Node::Str(text)) if text.expose().is_empty() => Ok(Vec::new()),
        Some(_) => Err(bad(field, "is not a list")),
    }
}

/// The keys at top level as the only group; where there are none, the key groups. This is the order of SOPS.
fn key_groups(sops: &Node, other_keys: &mut Vec<String>) -> Result<Vec<KeyGroup>, SopsError> {
    let top = key_group(sops, other_keys)?;
    let groups = match top.is_empty() && other_keys.is_empty() {
        true => list(sops, "key_groups")?,
        false => Vec::new(),
    };
    if groups.len() > MAX_KEYS {
        return Err(bad("key_groups", "has too many entries"));
    }
    let groups: Vec<KeyGroup> = match groups.is_empty() {
        true => vec![top],
        false => groups.into_iter().map(|group| key_group(group, other_keys)).collect::<Result<_, _>>()?,
    };
    if groups.iter().map(Vec::len).sum::<usize>() > MAX_KEYS {
        return Err(bad("age", "has too many entries"));
    }
    Ok(groups)
}

fn key_group(holder: &Node, other_keys: &mut Vec<String>) -> Result<KeyGroup, SopsError> {
    for kind in OTHER_KEYS {
        // What such an entry holds is none of our business, so its form is not checked.
        let used = match holder.get(kind) {
            Some(Node::List(entries)) => !entries.is_empty(),
            _ => false,
        };
        if used && !other_keys.iter().any(|known| known == kind) {
            other_keys.push(kind.to_owned());
        }
    }
    let mut group = KeyGroup::new();
    for entry in list(holder, "age")? {
        let recipient = text(entry, "recipient")?.unwrap_or_default();
        if let Some(sealed) = text(entry, "enc")? {
            group.push(AgeEntry { recipient, sealed });
        }
    }
    Ok(group)
}

/// How many groups are needed. SOPS leaves it out, or writes zero, where every group is needed.
fn threshold(sops: &Node, groups: usize) -> Result<usize, SopsError> {
    const FIELD: &str = "shamir_threshold";
    let number = match text(sops, FIELD)? {
        None => 0,
        Some(text) => text.parse::<usize>().map_err(|_| bad(FIELD, "is not a number"))?,
    };
    match number {
        0 => Ok(groups),
        number if number > groups => Err(bad(FIELD, "is larger than the number of key groups")),
        number => Ok(number),
    }
}
