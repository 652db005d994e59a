//! Any bytes as each of the YAML files of a fleet repository: no panic, and no more than a moment.
//!
//! The first byte chooses the file, the rest is its content. Start from the files of `repo-layout-example`, each behind
//! one byte: `cargo +nightly fuzz run --features whole fleet_read -- -timeout=1 -rss_limit_mb=256`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline::decide::{check, fleet, yaml};
use moorline::model::tree::{File, Tree};

/// The files that are read as YAML, with something sensible in them: one is replaced by the fuzzer's bytes.
const FILES: [(&str, &str); 4] = [
    ("moorline.yaml", "version: 1\n"),
    ("rings/canary.yaml", "follow: main\n"),
    ("hosts/alpha/host.yaml", "ring: canary\nvars: {A: b}\nstacks: [web]\n"),
    ("stacks/web/compose.yaml", "services: {web: {image: 'a:1', environment: {A: '${A}'}}}\n"),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let mut tree: Tree =
        FILES.iter().map(|(path, content)| ((*path).to_owned(), File::plain(*content))).collect();
    tree.insert(FILES[usize::from(*first) % FILES.len()].0, File::plain(rest));
    let _ = fleet::read(&tree, "alpha");
    let _ = fleet::ring(&tree, "canary", "main");
    let _ = check::check(&tree, None, "main");
    let _ = yaml::weigh(&String::from_utf8_lossy(rest));
});
