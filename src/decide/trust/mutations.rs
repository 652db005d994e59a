//! Feeds damaged input to every parser of this directory: none may panic, and none may take it for something good.
//!
//! The damage is the same in every run; a failure prints the seed that made it.

use super::tree::{ObjectId, Objects};
use super::*;

const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----\n\
    U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgACowY1jT/kP37Avvz0qRzq9v1I\n\
    MzW/kCW+5NBFojdtoAAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5\n\
    AAAAQJvSW4YVUvW6U/NJX8oFVVTyxnR71NnN6lF5JXXm1uG51dyIA1vQdLftvR3vPTSooT\n\
    rgPPvuTeXuu4WBfqXn7wM=\n\
    -----END SSH SIGNATURE-----\n";

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAqMGNY0/5D9+wL789Kkc6vb9SDM1v5AlvuTQRaI3ba";

/// A small generator (xorshift): enough for damage, and no dependency.
pub(super) struct Damage(u64);

impl Damage {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }

    /// One to three of: change, remove, insert, repeat, cut.
    pub(super) fn done_to(&mut self, bytes: &[u8]) -> Vec<u8> {
        const INTERESTING: &[u8] = b"\0\n\r\t \"\\,=#!*?-~\x1b\x7f\x80\xff0Zag";
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len() + 1);
            let byte = match self.below(3) {
                0 => self.below(256) as u8,
                _ => INTERESTING[self.below(INTERESTING.len())],
            };
            match self.below(6) {
                0 => bytes.insert(at, byte),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                3 => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                4 if self.below(4) == 0 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        }
        bytes
    }
}

fn without_breaks(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\n').collect()
}

#[test]
fn a_damaged_signature_is_never_good() {
    for seed in 0..30_000 {
        let damaged = Damage::new(seed).done_to(SIGNATURE.as_bytes());
        let good = Signature::parse(&damaged).is_ok_and(|signature| signature.verify("git", b"content\n").is_ok());
        // Where lines break is the only thing that nobody cares about.
        assert!(!good || without_breaks(&damaged) == without_breaks(SIGNATURE.as_bytes()), "seed {seed}");
    }
}

#[test]
fn a_damaged_list_is_read_or_refused_in_printable_words() {
    let list = format!(
        "# list\nalice {KEY} laptop\n\"b b,c\" namespaces=\"git,!file\",valid-after=\"20250101Z\",valid-before=\"20300101\" {KEY}\n\
         ca cert-authority {KEY}\n"
    );
    let genuine = AllowedSigners::parse(list.as_bytes()).unwrap();
    for seed in 0..30_000 {
        let damaged = Damage::new(seed).done_to(list.as_bytes());
        match AllowedSigners::parse(&damaged) {
            Ok(signers) => {
                let _ = (signers.someone_signs("git"), signers.unsupported().count());
                let _ = signers.judge_for(
                    "alice",
                    &SignedBy::Key(Box::new(genuine.entries()[0].key.clone())),
                    "git",
                    Times::at(0),
                );
            }
            Err(flaw) => assert!(!flaw.to_string().chars().any(char::is_control), "seed {seed}: {flaw:?}"),
        }
    }
}

#[test]
fn a_damaged_commit_never_has_another_payload_than_its_bytes() {
    let signature = SIGNATURE.trim_end().replace('\n', "\n ");
    let commit = format!(
        "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent 9f2c1e07aa00bb11cc22dd33ee44ff5566778899\n\
         author A <a@example.org> 1760000000 +0200\ncommitter C <c@example.org> 1760000001 -0930\n\
         encoding x\ngpgsig {signature}\n\nmessage\n"
    );
    for seed in 0..30_000 {
        let damaged = Damage::new(seed).done_to(commit.as_bytes());
        let Ok(parsed) = Commit::parse(&damaged) else {
            continue;
        };
        if let Some(signed) = parsed.signed {
            // Put back where it was, the header must give the commit again: nothing was lost, nothing joined.
            let value = String::from_utf8_lossy(&signed.signature).trim_end_matches('\n').replace('\n', "\n ");
            let lossless = String::from_utf8(signed.signature.clone()).is_ok() && !value.is_empty();
            let header = format!("gpgsig {value}\n");
            let whole = String::from_utf8_lossy(&damaged).into_owned();
            if lossless && !signed.signature.ends_with(b"\n\n") {
                let at = whole.find(&header).unwrap_or_else(|| panic!("seed {seed}: {whole:?}"));
                let rest = format!("{}{}", &whole[..at], &whole[at + header.len()..]);
                assert_eq!(String::from_utf8_lossy(&signed.payload), rest, "seed {seed}");
            }
        }
    }
}

/// Gives the same bytes for every tree, so that a damaged one is also a nested one.
struct Same(Vec<u8>);

impl Objects for Same {
    type Error = ();

    fn size(&self, _: &ObjectId) -> Result<u64, ()> {
        Ok(self.0.len() as u64)
    }

    fn tree(&self, _: &ObjectId) -> Result<Vec<u8>, ()> {
        Ok(self.0.clone())
    }

    fn blob(&self, _: &ObjectId) -> Result<Vec<u8>, ()> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_damaged_tree_never_panics_and_never_leaves_its_root() {
    let tree = |entries: &[(&str, &str)]| {
        let entry = |(mode, name): &(&str, &str)| [format!("{mode} {name}\0").as_bytes(), &[7; 20]].concat();
        entries.iter().flat_map(entry).collect::<Vec<u8>>()
    };
    let nested = tree(&[("100644", "a.yaml"), ("100755", "b.sh"), ("40000", "c"), ("100644", "d")]);
    let plain = tree(&[("100644", "a.yaml"), ("100755", "b.sh"), ("100644", "d")]);
    for seed in 0..20_000 {
        let from = if seed % 2 == 0 { &nested } else { &plain };
        let damaged = Damage::new(seed).done_to(from);
        match tree::read(&Same(damaged), &ObjectId::from([7; 20]), &Limits::default()) {
            Ok(tree) => {
                for (path, _) in tree.files() {
                    let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.starts_with('-');
                    assert!(!path.split('/').any(odd) && path.is_ascii(), "seed {seed}: {path:?}");
                }
            }
            Err(Unread::Flaw(flaw)) => {
                assert!(!flaw.to_string().chars().any(char::is_control), "seed {seed}: {flaw:?}");
            }
            Err(Unread::Objects(())) => panic!("seed {seed}"),
        }
    }
}
