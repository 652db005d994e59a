//! Whatever happens to the YAML of a fleet repository, nothing panics and nothing takes long: T29 of the fault matrix.
//!
//! Deterministic: the seed of a mutant is its number, so a failure names the mutant that shows it.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "tests measure, and say what they measured"
)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use moorline::decide::sops::{self, Format};
use moorline::decide::{check, fleet, yaml};
use moorline::model::tree::{File, Tree};
use moorline::world::disk;
use rustix::time::{ClockId, clock_gettime};

#[path = "support/random.rs"]
mod random;

use random::Random;

const MUTANTS: u64 = 50_000;

/// What one of them may cost.
const TIME: Duration = Duration::from_secs(1);

fn example() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/repo-layout-example"))
}

#[test]
fn t29_no_mutant_of_the_example_makes_a_reader_panic_or_think_for_long() {
    read_mutants(0..MUTANTS / 2);
}

/// A test of its own for each half, so that they run side by side.
#[test]
fn t29_no_mutant_of_the_second_half_does_either() {
    read_mutants(MUTANTS / 2..MUTANTS);
}

fn read_mutants(mutants: Range<u64>) {
    let whole = disk::read_tree(example()).unwrap();
    let texts: Vec<(String, Vec<u8>)> = whole
        .files()
        .filter(|(path, _)| path.ends_with(".yaml") || path.ends_with(".yml") || path.ends_with("recipient"))
        .map(|(path, file)| (path.to_owned(), file.bytes.clone()))
        .collect();
    assert!(texts.len() >= 8, "{}", texts.len());
    let mut longest = Duration::ZERO;
    for number in mutants {
        longest = longest.max(read_mutant(number, &whole, &texts));
    }
    eprintln!("the longest took {longest:?}");
}

/// The processor time of this thread: the machine may be busy with other tests.
fn worked() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it counts from zero")
}

/// How long the mutant with this number takes.
fn read_mutant(number: u64, whole: &Tree, texts: &[(String, Vec<u8>)]) -> Duration {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (path, bytes) = &texts[random.below(texts.len())];
    let mut mutant = bytes.clone();
    for _ in 0..=random.below(4) {
        mutate(&mut mutant, texts, &mut random);
    }
    let mut tree = small(whole, path);
    tree.insert(path.clone(), File::plain(mutant.clone()));
    let text = String::from_utf8_lossy(&mutant).into_owned();
    let began = worked();
    let survived = catch_unwind(AssertUnwindSafe(|| {
        for host in fleet::hosts(&tree) {
            let _ = fleet::read(&tree, &host);
        }
        if path.starts_with("rings/") {
            let _ = fleet::ring(&tree, "canary", "main");
            let _ = fleet::ring(&tree, "production", "main");
        }
        if number.is_multiple_of(4) {
            let _ = yaml::weigh(&text);
            let _ = sops::keys_in_clear(&mutant, Format::Yaml);
        }
        // It looks at every line of every file, so not at every mutant.
        if number.is_multiple_of(100) {
            let _ = check::check(&tree, None, "main");
        }
    }));
    let took = worked() - began;
    assert!(survived.is_ok(), "mutant {number} of {path} panics:\n{text}");
    assert!(took < TIME, "mutant {number} of {path} took {took:?}:\n{text}");
    took
}

/// The file's neighbours, without the rest of the example: each mutant is read many times.
fn small(whole: &Tree, path: &str) -> Tree {
    let stack = path.strip_prefix("stacks/").and_then(|rest| rest.split('/').next());
    let host = path.strip_prefix("hosts/").and_then(|rest| rest.split('/').next()).unwrap_or("alpha");
    let wanted = |path: &str| {
        !path.starts_with("stacks/") && !path.starts_with("hosts/")
            || path.starts_with(&format!("hosts/{host}/"))
            || stack.is_some_and(|stack| path.starts_with(&format!("stacks/{stack}/")))
    };
    let kept = whole.files().filter(|(path, _)| wanted(path) && !path.starts_with(".git"));
    kept.map(|(path, file)| (path.to_owned(), file.clone())).collect()
}

/// Pieces that mean something to a reader of YAML or of our files.
const PIECES: [&[u8]; 24] = [
    b"&a ",
    b"*a",
    b"<<: ",
    b"- ",
    b"? ",
    b": ",
    b"\n",
    b"\t",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"|\n",
    b">-\n",
    b"!!binary ",
    b"---\n",
    b"%YAML 9.9\n",
    b"\xff",
    b"${",
    b"\\u0000",
    b"1e999",
    b"\xe2\x80\xa8",
];

fn mutate(bytes: &mut Vec<u8>, others: &[(String, Vec<u8>)], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(40)).min(bytes.len());
    match random.below(6) {
        0 => bytes.insert(at, random.below(256) as u8),
        1 => _ = bytes.drain(at..end),
        2 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece.repeat(1 + random.below(20)));
        }
        3 => {
            let other = &others[random.below(others.len())].1;
            let from = random.below(other.len() + 1);
            bytes.splice(at..end, other[from..(from + 60).min(other.len())].iter().copied());
        }
        4 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => _ = bytes.splice(at..at, PIECES[random.below(PIECES.len())].repeat(1 + random.below(3))),
    }
}
