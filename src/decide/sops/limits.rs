//! How much a file may ask of us: size, depth, entries.
//!
//! A host reads these files as root before it trusts any value in them, so every parser asks here before it
//! builds anything. Decides nothing else.

use super::document::Node;
use super::error::SopsError;

/// Largest file that is read.
pub const MAX_BYTES: usize = 5 * 1024 * 1024;
/// Deepest nesting of mappings and lists.
pub const MAX_DEPTH: usize = 128;
/// Most values of one file, aliases expanded.
pub const MAX_ENTRIES: usize = 100_000;
/// Most documents of one file.
pub const MAX_DOCUMENTS: usize = 1_000;
/// Most bytes of text that anchors may keep and aliases may copy.
const MAX_COPIED_BYTES: usize = 2 * MAX_BYTES;
/// Most key entries (age, pgp, kms ...) of one file.
pub const MAX_KEYS: usize = 1_000;
/// Longest sealed key entry. One of age has 400 bytes, a post-quantum one 3,000; each may ask for a curve
/// operation per 60 bytes.
pub const MAX_KEY_ENTRY_BYTES: usize = 16 * 1024;
/// Longest path of keys that leads to a sealed value, since the whole path is authenticated with each value.
pub const MAX_PATH_BYTES: usize = 16 * 1024;

/// Refuses a file that is too large.
pub fn check_size(bytes: &[u8]) -> Result<(), SopsError> {
    if bytes.len() > MAX_BYTES {
        return Err(SopsError::TooLarge { limit: MAX_BYTES });
    }
    Ok(())
}

/// Refuses a level that is too deep.
pub fn check_depth(depth: usize) -> Result<(), SopsError> {
    if depth > MAX_DEPTH {
        return Err(SopsError::TooDeep { limit: MAX_DEPTH });
    }
    Ok(())
}

/// What is left of the entries and of the copied bytes while one file is read.
pub struct Budget {
    entries: usize,
    copied: usize,
}

impl Budget {
    /// A full budget.
    pub fn full() -> Self {
        Self { entries: MAX_ENTRIES, copied: MAX_COPIED_BYTES }
    }

    /// Takes one entry.
    pub fn entry(&mut self) -> Result<(), SopsError> {
        self.entries = self.entries.checked_sub(1).ok_or(TOO_MANY)?;
        Ok(())
    }

    /// Pays for a copy of a whole subtree, before it is made.
    pub fn copy(&mut self, node: &Node) -> Result<(), SopsError> {
        self.entry()?;
        let text = |length: usize, left: usize| left.checked_sub(length).ok_or(TOO_MANY);
        match node {
            Node::Map(entries) => {
                for (key, value) in entries {
                    self.copied = text(key.len(), self.copied)?;
                    self.copy(value)?;
                }
            }
            Node::List(items) => {
                for item in items {
                    self.copy(item)?;
                }
            }
            Node::Bytes(bytes) => self.copied = text(bytes.expose().len(), self.copied)?,
            Node::Comment(comment) => self.copied = text(comment.expose().len(), self.copied)?,
            other => {
                let length = other.scalar_text().map_or(0, str::len);
                self.copied = text(length, self.copied)?;
            }
        }
        Ok(())
    }
}

/// The refusal of a file with too many entries.
pub const TOO_MANY: SopsError = SopsError::TooManyEntries { limit: MAX_ENTRIES };
