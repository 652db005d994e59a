//! Writes the few trees of a snapshot that rustic cannot write: those with dumps.
//!
//! How long a dump is shows when it has ended, and rustic has fixed the size of a file before it reads it. restic goes
//! by that size, so these trees are written once more, with sizes; what they point to stays as it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use rustic_core::repofile::{MasterKey, SnapshotFile, Tree};
use rustic_core::{FileType, Id, IndexedIdsStatus, Repository, RusticError, WriteBackend};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::backend::Backend;
use super::job::explain;
use super::trouble::{Kind, Trouble};

/// restic's number for a tree that is not compressed.
const PLAIN_TREE: u8 = 1;

/// Trees that were made and not written yet.
pub struct Trees<'a> {
    backend: &'a Backend,
    repository: &'a Repository<IndexedIdsStatus>,
    /// Content by id: equal ones are one.
    made: BTreeMap<Id, Vec<u8>>,
}

impl<'a> Trees<'a> {
    /// For a repository whose index knows all that is pointed to.
    pub fn new(backend: &'a Backend, repository: &'a Repository<IndexedIdsStatus>) -> Self {
        Self { backend, repository, made: BTreeMap::new() }
    }

    /// Lets a snapshot of files have these dumps, too; `sizes` are theirs by path. Returns how many bytes that took.
    pub fn add_dumps(
        mut self,
        snapshot: &mut SnapshotFile,
        dumps: &SnapshotFile,
        sizes: &BTreeMap<PathBuf, u64>,
    ) -> Result<u64, Trouble> {
        let dumps = self.sized(&dumps.tree, Path::new("/"), sizes)?;
        let mut tree = self.repository.get_tree(&snapshot.tree).map_err(|error| explain(self.backend, &error))?;
        tree.nodes.extend(dumps.nodes);
        tree.nodes.sort_by(|one, two| one.name().cmp(&two.name()));
        snapshot.tree = self.make(&tree)?.into();
        self.write()
    }

    fn sized(&mut self, id: &Id, path: &Path, sizes: &BTreeMap<PathBuf, u64>) -> Result<Tree, Trouble> {
        let explained = |error: Box<RusticError>| explain(self.backend, &error);
        let mut tree = self.repository.get_tree(&(*id).into()).map_err(explained)?;
        for node in &mut tree.nodes {
            let path = path.join(node.name());
            if let Some(below) = &node.subtree {
                let below = self.sized(below, &path, sizes)?;
                node.subtree = Some(self.make(&below)?.into());
            } else {
                let size = sizes.get(&path).ok_or_else(|| Trouble::new(Kind::Internal, "a dump has no size"))?;
                node.meta.size = *size;
            }
        }
        Ok(tree)
    }

    fn make(&mut self, tree: &Tree) -> Result<Id, Trouble> {
        let made = tree.serialize().map_err(|error| Trouble::new(Kind::Internal, error.to_string()));
        let (content, id) = made?;
        self.made.insert(*id, content);
        Ok(*id)
    }

    /// Writes them as one pack, and what is in it as one file of the index.
    fn write(self) -> Result<u64, Trouble> {
        let key = key(&self.repository.key());
        let (mut pack, mut header, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
        for (id, content) in &self.made {
            let sealed = seal(&key, content)?;
            let length =
                u32::try_from(sealed.len()).map_err(|_| Trouble::new(Kind::Internal, "a tree is too large"))?;
            header.push(PLAIN_TREE);
            header.extend(length.to_le_bytes());
            header.extend(hex::decode(id.to_hex().as_str()).unwrap_or_default());
            blobs.push(json!({ "id": id, "type": "tree", "offset": pack.len(), "length": length }));
            pack.extend(sealed);
        }
        let header = seal(&key, &header)?;
        let length = u32::try_from(header.len()).map_err(|_| Trouble::new(Kind::Internal, "too many trees"))?;
        pack.extend(header);
        pack.extend(length.to_le_bytes());
        let id = named(&pack)?;
        let index = json!({ "packs": [{ "id": id, "blobs": blobs }] });
        let index = seal(&key, index.to_string().as_bytes())?;
        let added = pack.len() + index.len();
        let explained = |error: Box<RusticError>| explain(self.backend, &error);
        self.backend.write_bytes(FileType::Pack, &id, true, pack.into()).map_err(explained)?;
        let id = named(&index)?;
        self.backend.write_bytes(FileType::Index, &id, true, index.into()).map_err(explained)?;
        Ok(added as u64)
    }
}

fn key(master: &MasterKey) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([&master.encrypt[..], &master.mac.k, &master.mac.r].concat())
}

/// restic's sealed form: 16 random bytes, what they seal, and 16 bytes that prove it.
fn seal(key: &[u8], content: &[u8]) -> Result<Vec<u8>, Trouble> {
    let broken = |why: &str| Trouble::new(Kind::Internal, why);
    let mut nonce = Nonce::default();
    rustix::rand::getrandom(&mut nonce[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Trouble::io("random numbers", &error.into()))?;
    let mut sealed = [&nonce[..], content].concat();
    let cipher = Aes256CtrPoly1305Aes::new(Key::from_slice(key));
    let proof = cipher.encrypt_in_place_detached(&nonce, &[], &mut sealed[16..]);
    sealed.extend_from_slice(&proof.map_err(|_| broken("a tree cannot be sealed"))?);
    Ok(sealed)
}

/// The name of a file of the repository: the digest of its bytes.
fn named(bytes: &[u8]) -> Result<Id, Trouble> {
    hex::encode(Sha256::digest(bytes)).parse().map_err(|_| Trouble::new(Kind::Internal, "a digest is no name"))
}
