//! YAML that was made to hurt, in every place where a repository may hold YAML: T29 of the fault matrix.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests measure, and say what they measured"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use moorline::decide::{fleet, yaml};
use moorline::model::tree::{File, Tree};
use moorline::world::disk;

#[path = "support/tools.rs"]
#[allow(dead_code, reason = "this binary needs one tool of the lab")]
mod tools;

/// What one file may cost.
const TIME: Duration = Duration::from_secs(1);
const MEMORY_KB: u64 = 64 * 1024;

/// Each costs much more to read than to write.
fn bombs() -> Vec<(&'static str, String)> {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        writeln!(laughs, "a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(", ")).unwrap();
    }
    let once_large =
        |bytes: usize, uses: usize| format!("a: &a \"{}\"\nb:\n{}", "x".repeat(bytes), "  - *a\n".repeat(uses));
    let mut chain = String::from("m0: &m0 {k: v}\n");
    for link in 1..3000 {
        writeln!(chain, "m{link}: &m{link}\n  <<: *m{}\n  k{link}: v", link - 1).unwrap();
    }
    let mut wide = String::from("m: &m\n");
    for key in 0..4000 {
        writeln!(wide, "  k{key}: v").unwrap();
    }
    wide += &format!("z:\n{}", "  - {<<: *m}\n".repeat(5000));
    let circle = "a: &a [*a]\n".to_owned();
    vec![
        ("billion laughs", laughs),
        ("one large anchor, used 9,000 times", once_large(1_000_000, 9_000)),
        ("one anchor of 190 KB, used 6,000 times", once_large(190_000, 6_000)),
        ("100,000 lists in one another", "[".repeat(100_000) + &"]".repeat(100_000)),
        ("100,000 lists in blocks", "- ".repeat(100_000)),
        ("60,000 mappings in one another", "{a: ".repeat(60_000)),
        ("50,000 mappings as keys of one another", "? ".repeat(50_000) + "a\n"),
        ("a chain of merges", chain),
        ("a wide merge, 5,000 times", wide),
        ("an anchor in itself", circle),
        ("30,000 documents", "---\na: 1\n".repeat(30_000)),
        ("a key of 250 KB", format!("? {}\n: 1\n", "k".repeat(250_000))),
        ("25,000 keys", (0..25_000).fold(String::new(), |keys, key| keys + &format!("k{key}: 1\n"))),
        ("120,000 empty items", "-\n".repeat(120_000)),
        ("15,000 anchors", (0..15_000).fold(String::new(), |keys, key| keys + &format!("- &a{key} x\n"))),
        ("tabs", "a:\n\tb: 1\n".to_owned()),
        ("a key twice", "version: 1\nversion: 1\n".to_owned()),
        ("colons", "a:".repeat(120_000)),
        ("tags", "!!x ".repeat(60_000)),
    ]
}

fn example() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/repo-layout-example"))
}

fn write(tree: &Tree, directory: &Path) {
    for (path, file) in tree.files() {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.bytes).unwrap();
    }
}

#[test]
fn t29_bombs_are_refused_within_a_second_and_64_megabytes_wherever_they_stand() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = disk::read_tree(example()).unwrap();
    let places = [
        "moorline.yaml",
        "rings/canary.yaml",
        "hosts/alpha/host.yaml",
        "hosts/alpha/secrets.sops.yaml",
        "stacks/nextcloud/compose.yaml",
        "stacks/nextcloud/included/part.yml",
        ".sops.yaml",
    ];
    for (number, (name, bomb)) in bombs().into_iter().enumerate() {
        for place in places {
            let mut tree = whole.clone();
            tree.insert(place, File::plain(bomb.as_str()));
            let directory = scratch.path().join(number.to_string());
            write(&tree, &directory);
            let output = Command::new(tools::tool("busybox"))
                .args(["time", "-v", env!("CARGO_BIN_EXE_moorline"), "check"])
                .arg(&directory)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let value = |name: &str| {
                let line = said.lines().find(|line| line.contains(name)).expect("busybox says so");
                line.rsplit(": ").next().unwrap().trim().parse::<f64>().unwrap()
            };
            // Of processor time: the machine may be busy with other tests.
            let took = Duration::from_secs_f64(value("User time") + value("System time"));
            // busybox takes the kernel's kilobytes for pages of four.
            let memory = value("Maximum resident") as u64 / 4;
            fs::remove_dir_all(&directory).unwrap();
            assert!(took < TIME && memory < MEMORY_KB, "{name} in {place}: {took:?}, {memory} kB");
            assert!(matches!(output.status.code(), Some(0 | 1 | 13)), "{name} in {place}: {said}");
        }
    }
}

#[test]
fn what_unfolds_to_more_than_it_may_is_named_with_its_place() {
    for (name, bomb) in bombs().into_iter().take(9) {
        let flaw = yaml::read::<serde_json::Value>(&bomb).expect_err(name);
        assert_eq!(flaw.kind, yaml::Kind::Cost, "{name}: {flaw}");
        assert!(flaw.place.is_some() || flaw.text == "is larger than 256 KiB", "{name}: {flaw}");
    }
}

#[test]
fn a_bomb_that_only_compose_would_read_is_a_mistake_of_its_stack() {
    let laughs = bombs().swap_remove(0).1;
    for path in ["stacks/web/parts/db.yml", "stacks/web/files/prometheus.yaml"] {
        let tree: Tree = [
            ("moorline.yaml", "version: 1\n"),
            ("hosts/alpha/host.yaml", "ring: canary\nstacks: [web]\n"),
            ("stacks/web/compose.yaml", "services: {web: {image: 'a:1'}}\n"),
            // Another dialect of YAML, or none: what it means is its reader's business.
            ("stacks/web/files/odd.yaml", "a: 1\na: 2\n--- !x\n{{ template }}\n"),
            (path, &laughs),
        ]
        .into_iter()
        .map(|(path, content)| (path.to_owned(), File::plain(content)))
        .collect();
        let mistakes = fleet::read(&tree, "alpha").unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].to_string().starts_with(&format!("{path}:")), "{}", mistakes[0]);
        assert!(mistakes[0].text.contains("unfolds to more than"), "{}", mistakes[0]);
    }
}

#[test]
fn more_files_than_compose_may_read_are_a_mistake_of_the_stack() {
    let stack = |count: usize, bytes: usize| {
        let mut tree: Tree = [
            ("moorline.yaml", "version: 1\n"),
            ("hosts/alpha/host.yaml", "ring: canary\nstacks: [web]\n"),
            ("stacks/web/compose.yaml", "services: {web: {image: 'a:1'}}\n"),
        ]
        .into_iter()
        .map(|(path, content)| (path.to_owned(), File::plain(content)))
        .collect();
        for number in 1..count {
            tree.insert(format!("stacks/web/env/{number}.env"), File::plain(vec![b'#'; bytes]));
        }
        fleet::read(&tree, "alpha").map(|_| ())
    };
    assert_eq!(stack(500, 10_000), Ok(()));
    for (count, bytes) in [(501, 10), (7, 900_000)] {
        let mistakes = stack(count, bytes).unwrap_err();
        assert!(mistakes[0].to_string().starts_with("stacks/web: its "), "{mistakes:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_line() {
    let mut tree = Tree::default();
    tree.insert("moorline.yaml", File::plain(b"version: 1\n\xff\xfe\n".as_slice()));
    tree.insert("hosts/alpha/host.yaml", File::plain("ring: canary\nstacks: []\n"));
    let mistakes = fleet::read(&tree, "alpha").unwrap_err();
    assert_eq!(mistakes[0].to_string(), "moorline.yaml:2: is not UTF-8 text");
}
