//! Opens a file: every value decrypted at its place, then the message authentication code of all of them.
//!
//! Nothing leaves here before the code was right, and there is no way around it.

use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::cipher::{self, KEY_BYTES, Sealed};
use super::document::Node;
use super::error::SopsError;
use super::limits::MAX_PATH_BYTES;
use super::metadata::{Metadata, bad};
use super::rules::{Demand, Rule};

/// What SOPS hashes first where only sealed values count: the SHA-256 of `sops`.
const MAC_ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Decrypts the documents of one file and verifies them together.
pub fn open(documents: &[Node], metadata: &Metadata, key: &[u8; KEY_BYTES]) -> Result<Vec<Node>, SopsError> {
    if metadata.mac_only_encrypted && matches!(metadata.rule, Rule::ByComment) {
        // The form of a value decides what is sealed here, and the MAC would not notice a change of form.
        return Err(bad(
            "mac_only_encrypted",
            "stands beside a comment rule, so nothing would authenticate what is sealed",
        ));
    }
    let mut opening = Opening { metadata, key, hash: Sha512::new() };
    if metadata.mac_only_encrypted {
        opening.hash.update(MAC_ONLY_ENCRYPTED);
    }
    let opened = documents
        .iter()
        .map(|document| opening.node(document, &mut Path::default(), Place::Value))
        .collect::<Result<Vec<_>, _>>()?;
    let computed = Zeroizing::new(format!("{:X}", opening.hash.finalize()));
    verify(metadata, key, &computed)?;
    Ok(opened)
}

/// Compares with the code in the file, which is itself sealed with the time of the last change.
fn verify(metadata: &Metadata, key: &[u8; KEY_BYTES], computed: &str) -> Result<(), SopsError> {
    let damaged = |problem| bad("mac", problem);
    let sealed = Sealed::parse(&metadata.mac).map_err(damaged)?;
    if sealed.kind() != "str" {
        return Err(bad("mac", "is not sealed as a text"));
    }
    let stated = sealed
        .open(key, &metadata.lastmodified)
        .map_err(|_| bad("mac", "does not belong to this data key and `lastmodified`"))?;
    match bool::from(stated.ct_eq(computed.as_bytes())) {
        true => Ok(()),
        false => Err(SopsError::MacMismatch),
    }
}

/// Where a node stands. A comment may only stand between the items of a list, or as a comment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Value,
    Item,
}

/// The keys that lead to a node, and whether the rule marks one of them.
#[derive(Default)]
struct Path<'n> {
    keys: Vec<&'n str>,
    marked: bool,
}

impl Path<'_> {
    /// What a value is sealed with beside the key: its keys, each with a colon behind it; a single colon at
    /// the top.
    fn authenticated(&self) -> Result<String, cipher::Problem> {
        let length: usize = self.keys.iter().map(|key| key.len() + 1).sum();
        if length > MAX_PATH_BYTES {
            return Err("lies below keys that are too long");
        }
        Ok(format!("{}:", self.keys.join(":")))
    }
}

struct Opening<'a> {
    metadata: &'a Metadata,
    key: &'a [u8; KEY_BYTES],
    hash: Sha512,
}

impl Opening<'_> {
    fn node<'n>(&mut self, node: &'n Node, path: &mut Path<'n>, place: Place) -> Result<Node, SopsError> {
        match node {
            Node::Map(entries) => {
                let mut opened = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    if value.is_comment() {
                        opened.push((key.clone(), self.comment(value, path)));
                        continue;
                    }
                    let marked = path.marked;
                    path.marked |= self.metadata.rule.marks(key);
                    path.keys.push(key);
                    let value = self.node(value, path, Place::Value)?;
                    path.keys.pop();
                    path.marked = marked;
                    opened.push((key.clone(), value));
                }
                Ok(Node::Map(opened))
            }
            Node::List(items) => {
                items.iter().map(|item| self.node(item, path, Place::Item)).collect::<Result<_, _>>().map(Node::List)
            }
            // To SOPS, an empty comment between sealed items is an empty text.
            Node::Comment(text)
                if text.expose().is_empty() && self.metadata.rule.demand(path.marked) == Demand::Sealed =>
            {
                Ok(Node::text(""))
            }
            Node::Comment(_) => Ok(self.comment(node, path)),
            Node::Null => Ok(Node::Null),
            scalar => self.scalar(scalar, path, place),
        }
    }

    fn scalar(&mut self, node: &Node, path: &Path<'_>, place: Place) -> Result<Node, SopsError> {
        let demand = self.metadata.rule.demand(path.marked);
        let sealed = match (demand, node) {
            (Demand::Sealed, _) => true,
            (Demand::Clear, _) => false,
            (Demand::Either, Node::Str(text)) => cipher::looks_sealed(text.expose()),
            (Demand::Either, _) => false,
        };
        let opened = match sealed {
            true => self
                .unseal(node, path, place)
                .map_err(|problem| SopsError::BadValue { path: path.keys.join("."), problem })?,
            false => node.clone(),
        };
        if sealed || !self.metadata.mac_only_encrypted {
            authenticate(&mut self.hash, &opened);
        }
        Ok(opened)
    }

    fn unseal(&self, node: &Node, path: &Path<'_>, place: Place) -> Result<Node, cipher::Problem> {
        let Node::Str(text) = node else {
            return Err("is not sealed: it stands in plaintext where its rule demands ciphertext");
        };
        // SOPS leaves the empty text as it is.
        if text.expose().is_empty() {
            return Ok(Node::text(""));
        }
        let sealed = Sealed::parse(text.expose())?;
        let plain = sealed.open(self.key, &path.authenticated()?)?;
        let node = cipher::typed(sealed.kind(), &plain)?;
        match (&node, place) {
            // The type is not authenticated: a value turned into a comment would vanish from the MAC.
            (Node::Comment(_), Place::Value) => Err("is sealed as a comment but stands as a value"),
            _ => Ok(node),
        }
    }

    /// A comment outside of the MAC. What does not open is kept as it is, since it may never have been sealed.
    fn comment(&self, node: &Node, path: &Path<'_>) -> Node {
        let opened = match node {
            Node::Comment(text) => Sealed::parse(text.expose())
                .and_then(|sealed| sealed.open(self.key, &path.authenticated()?))
                .and_then(|plain| cipher::typed("comment", &plain)),
            _ => return Node::Null,
        };
        opened.unwrap_or_else(|_| node.clone())
    }
}

/// Adds a value to the hash in the text form of SOPS. Null and comments add nothing.
fn authenticate(hash: &mut Sha512, node: &Node) {
    match node {
        Node::Str(text) | Node::Int(text) | Node::Float(text) | Node::Time(text) => {
            hash.update(text.expose().as_bytes());
        }
        Node::Bytes(bytes) => hash.update(bytes.expose()),
        Node::Bool(true) => hash.update(b"True"),
        Node::Bool(false) => hash.update(b"False"),
        Node::Null | Node::Comment(_) | Node::Map(_) | Node::List(_) => {}
    }
}
