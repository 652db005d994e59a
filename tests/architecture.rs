//! Holds the code to its walls: layers, purity, effects in one place, and a few habits. Each rule is shown to fail.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A file may name its own layer and those below.
const LAYERS: [&str; 5] = ["model", "decide", "world", "runs", "cli"];

/// What a pure layer may not name: each of these is a clock, a file, a socket, a log or the environment.
const IMPURE: [&str; 21] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "tokio",
    "rustix",
    "reqwest",
    "git2",
    "bollard",
    "notify",
    "sd_notify",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "log::",
    "stdout",
    "stderr",
    "getrandom",
];

/// What only `world` may name.
const EFFECTS: [&str; 15] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::os",
    "process::Command",
    "tokio::process",
    "tokio::net",
    "tokio::fs",
    "rustix",
    "reqwest",
    "git2",
    "bollard",
    "notify::",
    "sd_notify",
];

/// The longest file, without its tests.
const LONGEST: usize = 400;

/// Files that may be longer, and why.
const LONG: [(&str, &str); 0] = [];

/// Where a shell may be named: fixed scripts that run inside of containers, and take nothing of others but as arguments.
const IN_CONTAINERS: [&str; 2] = ["decide/backup/dump.rs", "decide/backup/load.rs"];

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Breach {
    rule: &'static str,
    place: String,
}

/// A source file with comments and tests taken out.
struct Source {
    /// Below `src/`.
    path: String,
    /// The text as it stands.
    text: String,
    /// The code: no comments, no literals, no tests.
    code: String,
    /// The string literals of the code.
    literals: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, literals) = strip(text);
        let (code, _) = code.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&code, ""));
        Self { path: path.to_owned(), text: text.to_owned(), code: code.to_owned(), literals }
    }

    fn layer(&self) -> Option<usize> {
        let (directory, _) = self.path.split_once('/')?;
        LAYERS.iter().position(|layer| *layer == directory)
    }

    /// The path of the module: `decide/sops/mod.rs` is `decide::sops`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        if path == "lib" || path == "main" { Vec::new() } else { path.split('/').collect() }
    }

    fn breach(&self, rule: &'static str, what: &str) -> Breach {
        Breach { rule, place: format!("{}: {what}", self.path) }
    }
}

/// Code without comments and the content of literals, and those contents.
fn strip(text: &str) -> (String, Vec<String>) {
    let (mut code, mut literals) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &rest[hashes + 2..];
            let length = body.find(&end).unwrap_or(body.len());
            literals.push(body[..length].to_owned());
            code.push_str("\"\"");
            rest = body.get(length + end.len()..).unwrap_or("");
        } else if first == '"' {
            let body = &rest[1..];
            let length = closing_quote(body);
            literals.push(body[..length].to_owned());
            code.push_str("\"\"");
            rest = body.get(length + 1..).unwrap_or("");
        } else if first == '\'' && is_character(rest) {
            // The quote after the first character, which may be an escaped quote.
            let skipped: usize =
                rest.chars().take(if rest[1..].starts_with('\\') { 3 } else { 2 }).map(char::len_utf8).sum();
            let end = rest[skipped..].find('\'').map_or(rest.len(), |end| skipped + end + 1);
            code.push_str("' '");
            rest = &rest[end..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    (code, literals)
}

fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn closing_quote(body: &str) -> usize {
    let mut escaped = false;
    for (at, character) in body.char_indices() {
        match character {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    body.len()
}

/// A character, not a lifetime.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

/// Whether `word` stands in the code and is not a part of a longer name. Paths may be taken apart by `use a::{b}`.
fn names(code: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let stands = |(at, _): (usize, &str)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let ends_open = word.ends_with(':');
        !before.is_some_and(is_part) && (ends_open || !after.is_some_and(is_part))
    };
    if code.match_indices(word).any(stands) {
        return true;
    }
    // `use std::{fs, io}` names `std::fs` too.
    let Some((root, last)) = word.trim_end_matches(':').rsplit_once("::") else { return false };
    groups(code, root).iter().any(|group| group.iter().any(|name| name == last))
}

/// What `root::{...}` takes, the first segment of each.
fn groups(code: &str, root: &str) -> Vec<Vec<String>> {
    let opening = format!("{root}::{{");
    let group = |(at, _): (usize, &str)| {
        let body = &code[at + opening.len()..];
        let (mut depth, mut names, mut name) = (0_usize, Vec::new(), String::new());
        for character in body.chars() {
            match character {
                '}' if depth == 0 => break,
                ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                '{' => depth += 1,
                '}' => depth -= 1,
                other if depth == 0 => name.push(other),
                _ => {}
            }
        }
        names.push(name);
        names.iter().map(|name| name.trim().split("::").next().unwrap_or_default().trim().to_owned()).collect()
    };
    code.match_indices(&opening).map(group).collect()
}

/// The layers that a file names, through `crate::` and through `super::`.
fn layers_named(source: &Source) -> BTreeSet<usize> {
    let module = source.module();
    let mut named = BTreeSet::new();
    let above_root = "super::".repeat(module.len());
    let roots = ["crate".to_owned(), above_root.trim_end_matches("::").to_owned()];
    for root in roots.iter().filter(|root| !root.is_empty()) {
        for (number, layer) in LAYERS.iter().enumerate() {
            if names(&source.code, &format!("{root}::{layer}")) {
                named.insert(number);
            }
        }
    }
    named
}

fn breaches(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    let layer = source.layer();
    if let Some(own) = layer {
        for named in layers_named(source).into_iter().filter(|named| *named > own) {
            found.push(source.breach("layers", &format!("names {}", LAYERS[named])));
        }
    }
    let pure = layer.is_some_and(|layer| LAYERS[layer] == "model" || LAYERS[layer] == "decide");
    let world = layer.is_some_and(|layer| LAYERS[layer] == "world");
    for word in IMPURE.iter().filter(|word| pure && names(&source.code, word)) {
        found.push(source.breach("purity", word));
    }
    for word in EFFECTS.iter().filter(|word| !pure && !world && names(&source.code, word)) {
        found.push(source.breach("effects", word));
    }
    if source.path != "world/journal.rs" && names(&source.code, "log::") {
        found.push(source.breach("one voice", "log::"));
    }
    let printing = ["println!", "eprintln!", "print!", "eprint!"];
    for word in printing.iter().filter(|word| layer != Some(4) && names(&source.code, word)) {
        found.push(source.breach("one voice", word));
    }
    if names(&source.code, "unsafe") {
        found.push(source.breach("unsafe", "unsafe"));
    }
    for word in ["todo!", "unimplemented!", "dbg!"].iter().filter(|word| names(&source.code, word)) {
        found.push(source.breach("unfinished", word));
    }
    let shells = ["sh", "bash", "dash", "zsh", "/bin/sh", "/bin/bash"];
    let is_ours = !IN_CONTAINERS.contains(&source.path.as_str());
    for literal in source.literals.iter().filter(|literal| is_ours && shells.contains(&literal.as_str())) {
        found.push(source.breach("no shell", literal));
    }
    let lines = source.code.lines().count();
    if lines > LONGEST && !LONG.iter().any(|(path, _)| *path == source.path) {
        found.push(source.breach("length", &format!("{lines} lines")));
    }
    if !source.text.starts_with("//! ") {
        found.push(source.breach("module doc", "does not begin with its duty"));
    }
    for word in ["Manager", "Helper", "Util", "Utils", "Context", "Handler"] {
        let is_named = |line: &str| {
            let mut words = line.split(|character: char| !(character.is_alphanumeric() || character == '_'));
            words.any(|part| ["struct", "enum", "trait", "type"].contains(&part))
                && line.split(|character: char| !character.is_alphanumeric()).any(|part| part.ends_with(word))
        };
        if source.code.lines().any(is_named) {
            found.push(source.breach("names", word));
        }
    }
    found
}

/// Every source file; files that are only compiled for tests are left out.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| {
            let below = path.strip_prefix(&root).expect("below src").display().to_string();
            (below, fs::read_to_string(path).expect("readable"))
        })
        .collect();
    let only_tests: BTreeSet<String> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    texts.iter().filter(|(path, _)| !only_tests.contains(path)).map(|(path, text)| Source::new(path, text)).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// The files of `#[cfg(test)] mod name;`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let directory = match path.strip_suffix("/mod.rs") {
        Some(directory) => directory,
        None => path.trim_end_matches(".rs"),
    };
    let after = text.split("#[cfg(test)]\nmod ").skip(1);
    let names = after.filter_map(|after| after.split_once(';').filter(|(name, _)| !name.contains([' ', '\n'])));
    names.map(|(name, _)| format!("{directory}/{name}.rs")).collect()
}

#[test]
fn every_wall_stands() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources were found");
    let found: Vec<Breach> = sources.iter().flat_map(breaches).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_layer_is_there_and_nothing_stands_outside_of_them() {
    let sources = sources();
    for layer in LAYERS {
        assert!(sources.iter().any(|source| source.path == format!("{layer}/mod.rs")), "{layer}");
    }
    let outside: Vec<&str> =
        sources.iter().filter(|source| source.layer().is_none()).map(|source| source.path.as_str()).collect();
    assert_eq!(outside, ["lib.rs", "main.rs"]);
}

#[test]
fn unsafe_code_is_forbidden_for_the_whole_library() {
    let library = sources().into_iter().find(|source| source.path == "lib.rs").expect("a library");
    assert!(library.code.contains("#![forbid(unsafe_code)]"));
}

#[test]
fn no_exception_outlives_its_reason() {
    for (path, _) in LONG {
        let source = sources().into_iter().find(|source| source.path == path);
        assert!(source.is_some_and(|source| source.code.lines().count() > LONGEST), "{path} is not long any more");
    }
}

/// The rules that a small sample breaks.
fn broken(path: &str, code: &str) -> Vec<&'static str> {
    let source = Source::new(path, &format!("//! A sample.\n{code}\n"));
    breaches(&source).into_iter().map(|breach| breach.rule).collect()
}

#[test]
fn each_rule_fails_on_a_sample_that_breaks_it() {
    let samples: [(&str, &str, &str); 24] = [
        ("layers", "model/x.rs", "use crate::decide::plan;"),
        ("layers", "decide/x.rs", "use crate::{model::Plan, world::World};"),
        ("layers", "world/x.rs", "fn f() { crate::runs::agent::agent() }"),
        ("layers", "decide/sops/x.rs", "use super::super::super::runs;"),
        ("layers", "decide/x.rs", "use super::super::cli;"),
        ("layers", "decide/mod.rs", "use super::{model, world::{self}};"),
        ("purity", "decide/x.rs", "use std::fs;"),
        ("purity", "decide/x.rs", "use std::{collections::BTreeMap, env};"),
        ("purity", "model/x.rs", "fn f() { std::process::id(); }"),
        ("purity", "decide/x.rs", "fn f() { jiff::Timestamp::now(); }"),
        ("purity", "decide/x.rs", "use std::time::Instant;"),
        ("purity", "decide/x.rs", "async fn f() { tokio::task::yield_now().await }"),
        ("effects", "runs/x.rs", "fn f() { let _ = std::fs::read(\"x\"); }"),
        ("effects", "cli/x.rs", "fn f() { std::process::Command::new(\"git\"); }"),
        ("effects", "cli/x.rs", "fn f() { std::env::var(\"USER\"); }"),
        ("one voice", "world/x.rs", "fn f() { log::info!(\"x\"); }"),
        ("one voice", "world/x.rs", "fn f() { println!(\"x\"); }"),
        ("unsafe", "world/x.rs", "fn f() { unsafe { g() } }"),
        ("unfinished", "world/x.rs", concat!("fn f() { todo", "!() }")),
        ("unfinished", "world/x.rs", "fn f() { dbg!(1); }"),
        ("no shell", "world/x.rs", "fn f() { run(\"sh\"); }"),
        ("no shell", "world/x.rs", "fn f() { run(\"/bin/bash\"); }"),
        ("names", "world/x.rs", "pub struct StackManager;"),
        ("names", "decide/x.rs", "trait Context {}"),
    ];
    for (rule, path, code) in samples {
        assert_eq!(broken(path, code), [rule], "{path}: {code}");
    }
    assert_eq!(broken("world/x.rs", &"fn f() {}\n".repeat(LONGEST + 1)), ["length"]);
    let undocumented = Source::new("world/x.rs", "fn f() {}\n");
    assert_eq!(breaches(&undocumented)[0].rule, "module doc");
}

#[test]
fn what_is_allowed_is_not_found() {
    for (path, code) in [
        (
            "decide/x.rs",
            "/// As `std::fs` does; see crate::world.\n// std::net\nfn f() -> &'static str { \"std::env println!\" }",
        ),
        ("decide/x.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}"),
        ("decide/x.rs", "use crate::model::Plan; use crate::decide::plan; use super::plan;"),
        ("decide/x.rs", "fn f<'a>(text: &'a str) -> bool { text.starts_with(['\"', '\\'', '/']) }"),
        ("world/x.rs", "use std::fs; use crate::decide::plan; fn f() { unsafety(); }"),
        ("cli/x.rs", "fn f() { eprintln!(\"x\"); crate::runs::agent::agent(); std::process::ExitCode::from(1); }"),
        ("runs/x.rs", "fn f(handler: u8) { catalog::of(std::process::id()); }"),
    ] {
        assert_eq!(broken(path, code), Vec::<&str>::new(), "{path}: {code}");
    }
}
