//! Whatever happens to a SOPS file on its way, nothing panics and no changed value is accepted.
//!
//! Deterministic: the seed of a mutant is its number, so a failure names the mutant that shows it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use moorline::decide::sops::{self, DataKey, Document, Format, Identities, Node, Outline};
use serde_json::Value;

/// Mutants that are opened with the data key of the original: the parsers, the rules, the cipher, the MAC.
const YAML_MUTANTS: usize = 62_000;
const JSON_MUTANTS: usize = 22_000;
const LINE_MUTANTS: usize = 20_000;
/// Mutants that are opened with the identity: the metadata and the key entries.
const KEY_MUTANTS: usize = 1_500;

struct Original {
    id: String,
    format: Format,
    bytes: Vec<u8>,
    identities: Identities,
    key: DataKey,
    mac_only_encrypted: bool,
    authenticated: Vec<u8>,
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops")
}

fn originals(wanted: &[Format]) -> Vec<Original> {
    let manifest = fs::read(vectors().join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("valid json");
    let cases = manifest["generated"].as_array().expect("a list");
    cases.iter().filter_map(|case| original(case, wanted)).collect()
}

fn original(case: &Value, wanted: &[Format]) -> Option<Original> {
    let format = Format::of_name(case["format"].as_str()?).ok()?;
    let id = case["id"].as_str()?.to_owned();
    let bytes = fs::read(vectors().join(&id)).expect("a vector");
    // Large files cost time and show nothing that small ones do not; the middle version adds nothing.
    let usable = wanted.contains(&format) && bytes.len() < 4_000 && case["sops_version"] != "3.10.2";
    if !usable {
        return None;
    }
    let keys = case["keys"].as_array()?.iter().map(|key| {
        let path = vectors().join(key.as_str().expect("a path"));
        fs::read_to_string(path).expect("a key")
    });
    let identities = keys.filter_map(|text| Identities::parse(&text).ok()).reduce(Identities::join)?;
    let key = sops::data_key(&bytes, format, &identities).expect("the vector opens");
    let mac_only_encrypted = case["rules"]["MACOnlyEncrypted"] == true;
    let document = sops::decrypt_with(&bytes, format, &key).expect("the vector opens");
    let authenticated = authenticated(&document, &bytes, format, mac_only_encrypted);
    Some(Original { id, format, bytes, identities, key, mac_only_encrypted, authenticated })
}

/// All values that the MAC covers, one behind the other as the MAC sees them.
fn authenticated(document: &Document, bytes: &[u8], format: Format, only_sealed: bool) -> Vec<u8> {
    let outlines = sops::keys_in_clear(bytes, format).expect("it was opened");
    let mut out = Vec::new();
    if format == Format::Binary {
        collect(document.root(), None, &mut out);
        return out;
    }
    for (node, outline) in document.documents().iter().zip(&outlines) {
        collect(node, only_sealed.then_some(outline), &mut out);
    }
    out
}

fn collect(node: &Node, outline: Option<&Outline>, out: &mut Vec<u8>) {
    match node {
        Node::Map(_) => {
            for (index, (_, value)) in node.entries().enumerate() {
                let below = outline.map(|outline| match outline {
                    Outline::Map(entries) => &entries[index].1,
                    _ => panic!("the outline has another shape"),
                });
                collect(value, below, out);
            }
        }
        Node::List(_) => {
            // Sealed comments between items are values to the outline, so lists are taken as a whole.
            let sealed = match outline {
                Some(Outline::List(items)) => items.contains(&Outline::Sealed),
                _ => true,
            };
            let items = node.items().filter(|_| sealed);
            items.for_each(|item| collect(item, None, out));
        }
        _ if outline.is_some_and(|outline| *outline != Outline::Sealed) => {}
        Node::Str(text) | Node::Int(text) | Node::Float(text) | Node::Time(text) => {
            out.extend_from_slice(text.expose().as_bytes());
        }
        Node::Bytes(bytes) => out.extend_from_slice(bytes.expose()),
        Node::Bool(truth) => out.extend_from_slice(truth.to_string().as_bytes()),
        Node::Null | Node::Comment(_) => {}
    }
}

/// Numbers that look random and are always the same (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides.max(1) as u64) as usize
    }
}

const TOKENS: [&str; 34] = [
    "\n",
    " ",
    "    ",
    "\t",
    "- ",
    ": ",
    "? ",
    "#",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "!!str ",
    "!!binary ",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "%",
    "\\",
    "\\u0000",
    "null",
    "~",
    "0",
    "-1e9",
    "ENC[",
    "type:comment]",
    "\u{2028}",
    "sops_",
];

fn mutate(original: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..=dice.roll(2) {
        let at = dice.roll(bytes.len());
        match dice.roll(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
            1 if !bytes.is_empty() => bytes[at] = dice.roll(256) as u8,
            2 => {
                let token = TOKENS[dice.roll(TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
            3 => {
                let end = (at + 1 + dice.roll(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + dice.roll(200)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len());
                bytes.splice(to..to, copy);
            }
            kind => mutate_lines(&mut bytes, kind, dice),
        }
    }
    bytes
}

fn mutate_lines(bytes: &mut Vec<u8>, kind: usize, dice: &mut Dice) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (one, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
    match kind {
        6 => lines.swap(one, other),
        7 => {
            let line = lines[one].clone();
            lines.insert(other, line);
        }
        _ => {
            lines.remove(one);
        }
    }
    *bytes = lines.join(&b'\n');
}

/// Opens one mutant and says what is wrong with the outcome, if anything is.
fn judge(original: &Original, mutant: &[u8], with_identity: bool) -> Result<bool, String> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let document = match with_identity {
            true => sops::decrypt(mutant, original.format, &original.identities),
            false => sops::decrypt_with(mutant, original.format, &original.key),
        };
        document.ok().map(|document| {
            let _ = document.emit();
            let only_sealed = original.mac_only_encrypted;
            authenticated(&document, mutant, original.format, only_sealed)
        })
    }));
    match opened {
        Err(_) => Err(String::from("panics")),
        Ok(None) => Ok(false),
        Ok(Some(values)) if values == original.authenticated => Ok(true),
        Ok(Some(_)) => Err(String::from("is accepted with other values")),
    }
}

fn run(formats: &[Format], count: usize, with_identity: bool) {
    let originals = originals(formats);
    assert!(originals.len() >= 10, "too few vectors: {}", originals.len());
    let mut accepted = 0;
    for number in 0..count {
        let original = &originals[number % originals.len()];
        let mut dice = Dice(number as u64);
        let mutant = mutate(&original.bytes, &mut dice);
        match judge(original, &mutant, with_identity) {
            Ok(opened) => accepted += usize::from(opened),
            Err(problem) => {
                panic!("mutant {number} of {} {problem}:\n{}", original.id, String::from_utf8_lossy(&mutant))
            }
        }
    }
    // Changes of comments, of white space and of the entries of others are harmless, the rest is not.
    assert!(accepted * 2 < count, "{accepted} of {count} mutants were accepted");
}

#[test]
fn no_change_of_a_yaml_file_panics_or_passes() {
    run(&[Format::Yaml], YAML_MUTANTS, false);
}

#[test]
fn no_change_of_a_json_file_panics_or_passes() {
    run(&[Format::Json], JSON_MUTANTS, false);
}

#[test]
fn no_change_of_a_dotenv_or_binary_file_panics_or_passes() {
    run(&[Format::Dotenv, Format::Binary], LINE_MUTANTS, false);
}

#[test]
fn no_change_of_the_key_entries_panics_or_passes() {
    run(&[Format::Yaml, Format::Dotenv], KEY_MUTANTS, true);
}

#[test]
fn no_change_of_an_identity_file_panics() {
    for name in ["host1.txt", "ssh_host_ed25519_key", "ssh_rsa", "pq.txt"] {
        let original = fs::read(vectors().join("keys").join(name)).expect("a key");
        for number in 0..500 {
            let mutant = mutate(&original, &mut Dice(number));
            let Ok(text) = String::from_utf8(mutant) else {
                continue;
            };
            let parsed = catch_unwind(|| drop(Identities::parse(&text)));
            assert!(parsed.is_ok(), "mutant {number} of {name} panics");
        }
    }
}

#[test]
fn the_suite_has_at_least_a_hundred_thousand_mutants() {
    const { assert!(YAML_MUTANTS + JSON_MUTANTS + LINE_MUTANTS + KEY_MUTANTS >= 100_000) };
}
