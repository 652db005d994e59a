use std::collections::BTreeMap;

use super::*;

/// Objects by a number that stands for their hash.
#[derive(Default)]
struct Memory {
    objects: BTreeMap<ObjectId, Vec<u8>>,
    sizes: BTreeMap<ObjectId, u64>,
}

impl Memory {
    fn put(&mut self, bytes: impl Into<Vec<u8>>) -> ObjectId {
        let mut id = [0; 20];
        id[..8].copy_from_slice(&self.objects.len().to_be_bytes());
        self.objects.insert(ObjectId(id), bytes.into());
        ObjectId(id)
    }

    fn directory(&mut self, entries: &[(&str, &str, ObjectId)]) -> ObjectId {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(&id.0);
        }
        self.put(bytes)
    }

    fn read(&self, root: ObjectId, limits: &Limits) -> Result<Tree, (String, TreeFault)> {
        read(self, &root, limits).map_err(|unread| match unread {
            Unread::Flaw(flaw) => (flaw.path, flaw.fault),
            Unread::Objects(id) => panic!("{id} is not there"),
        })
    }
}

impl Objects for Memory {
    type Error = ObjectId;

    fn size(&self, id: &ObjectId) -> Result<u64, ObjectId> {
        match self.sizes.get(id) {
            Some(size) => Ok(*size),
            None => Ok(self.blob(id)?.len() as u64),
        }
    }

    fn tree(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectId> {
        self.blob(id)
    }

    fn blob(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectId> {
        self.objects.get(id).cloned().ok_or(*id)
    }
}

/// The fault of a root with one file, by its mode and name.
fn fault(mode: &str, name: &str) -> Option<TreeFault> {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let root = memory.directory(&[(mode, name, blob)]);
    memory.read(root, &Limits::default()).err().map(|(_, fault)| fault)
}

#[test]
fn files_are_read_with_their_paths_and_modes() {
    let mut memory = Memory::default();
    let (one, two) = (memory.put("one"), memory.put("two"));
    let inner = memory.directory(&[("100755", "run.sh", two)]);
    let root = memory.directory(&[("100644", "a.b", one), ("40000", "a", inner), ("100644", "a0", one)]);
    let tree = memory.read(root, &Limits::default()).unwrap();
    let found: Vec<_> = tree.files().map(|(path, file)| (path, file.executable, file.text().unwrap())).collect();
    assert_eq!(found, [("a.b", false, "one"), ("a/run.sh", true, "two"), ("a0", false, "one")]);
}

#[test]
fn only_three_modes_are_allowed() {
    for mode in ["100644", "100755"] {
        assert_eq!(fault(mode, "a"), None);
    }
    assert_eq!(fault("120000", "a"), Some(TreeFault::SymbolicLink));
    assert_eq!(fault("160000", "a"), Some(TreeFault::Submodule));
    for mode in ["104755", "102755", "100664", "100666", "040000", "0100644", "", "644", "40755"] {
        assert_eq!(fault(mode, "a"), Some(TreeFault::Mode(mode.into())), "{mode}");
    }
}

#[test]
fn names_that_could_mean_something_else_are_refused() {
    for name in ["compose.yaml", ".sops.yaml", "a b", "app@.service", "[x](y)", "a~", "%41", &"n".repeat(255)] {
        assert_eq!(fault("100644", name), None, "{name:?}");
    }
    for name in [
        "",
        ".",
        "..",
        ".git",
        ".GIT",
        "git~1",
        "a/b",
        "../x",
        "a\\b",
        "a\nb",
        "a\x1bb",
        "a\x7f",
        "-rf",
        "~root",
        " a",
        "a ",
        "a:b",
        "a$b",
        "a;b",
        "a`b",
        "a\"b",
        "é",
        "a\u{202e}b",
        "*",
        &"n".repeat(256),
    ] {
        assert!(matches!(fault("100644", name), Some(TreeFault::Name(_))), "{name:?}");
    }
    let others = "only letters, digits, blanks and `._-+@=,~%#()[]` may be in it";
    for (name, why) in [("é", "it is not ASCII"), ("a\nb", "it has a control character"), ("a:b", others)] {
        assert_eq!(fault("100644", name), Some(TreeFault::Name(why)), "{name:?}");
    }
    let mut memory = Memory::default();
    let root = memory.put([b"100644 a\xff\0".as_slice(), &[0; 20]].concat());
    assert_eq!(memory.read(root, &Limits::default()).unwrap_err().1, TreeFault::Name("it is not ASCII"));
}

#[test]
fn a_flaw_names_the_path_and_does_not_print_what_is_in_it() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let inner = memory.directory(&[("100644", "a\x1b[2J", blob)]);
    let root = memory.directory(&[("40000", "stacks", inner)]);
    let Err(Unread::Flaw(flaw)) = read(&memory, &root, &Limits::default()) else { panic!() };
    assert_eq!(flaw.to_string(), "`stacks/a\\u{1b}[2J` has a name that is not allowed: it has a control character");
}

#[test]
fn duplicates_and_names_that_differ_only_in_case_are_refused() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let empty = memory.directory(&[]);
    for entries in [
        [("100644", "a", blob), ("100644", "a", blob)],
        [("100644", "A", blob), ("100644", "a", blob)],
        [("100644", "a", blob), ("40000", "a", empty)],
    ] {
        let root = memory.directory(&entries);
        assert_eq!(memory.read(root, &Limits::default()).unwrap_err().1, TreeFault::Duplicate);
    }
}

#[test]
fn only_gits_own_order_is_accepted() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let empty = memory.directory(&[]);
    for (entries, good) in [
        ([("100644", "b", blob), ("100644", "a", blob)], false),
        ([("40000", "a", empty), ("100644", "a.b", blob)], false),
        ([("100644", "a.b", blob), ("40000", "a", empty)], true),
        ([("100644", "a", blob), ("100644", "a.b", blob)], true),
    ] {
        let root = memory.directory(&entries);
        let found = memory.read(root, &Limits::default());
        assert_eq!(found.is_ok(), good, "{entries:?}");
        if let Err((_, fault)) = found {
            assert_eq!(fault, TreeFault::Order);
        }
    }
}

#[test]
fn sixteen_levels_are_allowed_and_seventeen_are_not() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let mut inner = memory.directory(&[("100644", "file", blob)]);
    for _ in 0..15 {
        inner = memory.directory(&[("40000", "d", inner)]);
    }
    assert!(memory.read(inner, &Limits::default()).is_ok());
    let deep = memory.directory(&[("40000", "d", inner)]);
    let (path, fault) = memory.read(deep, &Limits::default()).unwrap_err();
    assert_eq!((path.matches('/').count(), fault), (16, TreeFault::Depth(16)));
}

#[test]
fn a_directory_that_contains_itself_ends_at_the_depth_limit() {
    let mut memory = Memory::default();
    let id = ObjectId([0; 20]);
    let root = memory.directory(&[("40000", "d", id)]);
    assert_eq!(root, id);
    assert_eq!(memory.read(root, &Limits::default()).unwrap_err().1, TreeFault::Depth(16));
}

#[test]
fn a_bomb_of_empty_directories_is_refused() {
    let mut memory = Memory::default();
    let mut inner = memory.directory(&[]);
    for _ in 0..10 {
        let names: Vec<String> = (0..10).map(|name| name.to_string()).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), inner)).collect();
        inner = memory.directory(&entries);
    }
    assert_eq!(memory.read(inner, &Limits::default()).unwrap_err().1, TreeFault::Directories(5_000));
}

#[test]
fn sizes_are_bounded_before_any_content_is_read() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let root = memory.directory(&[("100644", "a", blob), ("100644", "b", blob)]);
    let limits = Limits { file_bytes: 10, total_bytes: 15, files: 2, ..Limits::default() };
    for (size, expected) in [
        (11, Some(("a", TreeFault::Size { found: 11, limit: 10 }))),
        (u64::MAX, Some(("a", TreeFault::Size { found: u64::MAX, limit: 10 }))),
        (8, Some(("b", TreeFault::TotalSize(15)))),
        (7, Some(("a", TreeFault::OtherSize))),
        (1, None),
    ] {
        memory.sizes.insert(blob, size);
        let found = memory.read(root, &limits).err();
        assert_eq!(found, expected.map(|(path, fault)| (path.to_owned(), fault)), "{size}");
    }
    let fewer = Limits { files: 1, ..limits };
    assert_eq!(memory.read(root, &fewer).unwrap_err(), ("b".to_owned(), TreeFault::Files(1)));
    memory.sizes.insert(root, 2 << 20);
    let (path, fault) = memory.read(root, &fewer).unwrap_err();
    assert_eq!((path.as_str(), fault), ("/", TreeFault::Size { found: 2 << 20, limit: 1 << 20 }));
}

#[test]
fn what_is_exactly_at_its_limit_is_allowed() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let root = memory.directory(&[("100644", "a", blob), ("100644", "b", blob)]);
    let directory_bytes = memory.objects[&root].len() as u64;
    let limits =
        Limits { files: 2, directories: 1, depth: 1, name: 1, path: 1, file_bytes: 1, total_bytes: 2, directory_bytes };
    assert!(memory.read(root, &limits).is_ok());
    for less in [
        Limits { files: 1, ..limits.clone() },
        Limits { directories: 0, ..limits.clone() },
        Limits { depth: 0, ..limits.clone() },
        Limits { name: 0, ..limits.clone() },
        Limits { path: 0, ..limits.clone() },
        Limits { file_bytes: 0, ..limits.clone() },
        Limits { total_bytes: 1, ..limits.clone() },
        Limits { directory_bytes: directory_bytes - 1, ..limits.clone() },
    ] {
        assert!(memory.read(root, &less).is_err(), "{less:?}");
    }
}

#[test]
fn paths_are_bounded() {
    let mut memory = Memory::default();
    let blob = memory.put("x");
    let name = "n".repeat(255);
    let mut inner = memory.directory(&[("100644", "file", blob)]);
    for _ in 0..4 {
        inner = memory.directory(&[("40000", name.as_str(), inner)]);
    }
    let (_, fault) = memory.read(inner, &Limits::default()).unwrap_err();
    assert_eq!(fault, TreeFault::LongPath(1_024));
}

#[test]
fn bytes_that_are_no_tree_are_refused() {
    for bytes in ["x", "100644 a", "100644 a\0short", "100644\0aaaaaaaaaaaaaaaaaaaa"] {
        let mut memory = Memory::default();
        let root = memory.put(bytes);
        assert_eq!(memory.read(root, &Limits::default()).unwrap_err(), ("/".to_owned(), TreeFault::Malformed));
    }
}

#[test]
fn an_object_that_cannot_be_read_is_not_a_flaw_of_the_tree() {
    let mut memory = Memory::default();
    let gone = ObjectId([9; 20]);
    let root = memory.directory(&[("100644", "a", gone)]);
    assert_eq!(read(&memory, &root, &Limits::default()), Err(Unread::Objects(gone)));
}

#[test]
fn a_file_may_have_one_mebibyte_and_all_of_them_thirty_two() {
    let (mut memory, limits) = (Memory::default(), Limits::default());
    let blob = memory.put("x");
    let names: Vec<String> = (10..43).map(|number| number.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_str(), blob)).collect();
    let (most, more) = (memory.directory(&entries[..32]), memory.directory(&entries));
    memory.sizes.insert(blob, 1_048_576);
    // Read in full, the file turns out to be shorter than its header says: the limits were kept.
    assert_eq!(memory.read(most, &limits).unwrap_err().1, TreeFault::OtherSize);
    assert_eq!(memory.read(more, &limits).unwrap_err(), ("42".to_owned(), TreeFault::TotalSize(33_554_432)));
    memory.sizes.insert(blob, 1_048_577);
    let size = TreeFault::Size { found: 1_048_577, limit: 1_048_576 };
    assert_eq!(memory.read(most, &limits).unwrap_err(), ("10".to_owned(), size));
    memory.sizes.insert(blob, 1);
    memory.sizes.insert(most, 1_048_576);
    assert!(memory.read(most, &limits).is_ok());
    memory.sizes.insert(most, 1_048_577);
    let size = TreeFault::Size { found: 1_048_577, limit: 1_048_576 };
    assert_eq!(memory.read(most, &limits).unwrap_err(), ("/".to_owned(), size));
}

#[test]
fn files_that_are_not_committed_are_judged_by_the_same_rules() {
    let limits = Limits { depth: 3, path: 12, file_bytes: 4, ..Limits::default() };
    let flaws = |paths: &[&str]| {
        let files = paths.iter().map(|path| ((*path).to_owned(), File::plain("1234")));
        let found = flaws(&files.collect::<Tree>(), &limits);
        found.into_iter().map(|flaw| (flaw.path, flaw.fault)).collect::<Vec<_>>()
    };
    let one = |path: &str, fault| vec![(path.to_owned(), fault)];
    assert_eq!(flaws(&["a/b/c", "a/b/d", "a/e", "123456789012"]), []);
    assert_eq!(flaws(&["a/b/c/d"]), one("a/b/c/d", TreeFault::Depth(3)));
    assert_eq!(flaws(&["1234567890123"]), one("1234567890123", TreeFault::LongPath(12)));
    assert_eq!(flaws(&["A/b", "a/c", "a/d"]), one("a", TreeFault::Duplicate));
    assert_eq!(flaws(&["a/B", "a/b"]), one("a/b", TreeFault::Duplicate));
    assert_eq!(flaws(&["a/b", "c/a", "c/b"]), []);
    let git = TreeFault::Name("it is git's own");
    assert_eq!(flaws(&["a/.git/x"]), one("a/.git/x", git));
    let large = std::iter::once(("a".to_owned(), File::plain("12345"))).collect::<Tree>();
    let found = super::flaws(&large, &limits);
    assert_eq!(found[0].fault, TreeFault::Size { found: 5, limit: 4 });
}

#[test]
fn of_a_long_path_the_end_is_shown() {
    assert_eq!(shown_path(&"a".repeat(200)), "a".repeat(200));
    assert_eq!(shown_path(&format!("a{}", "b".repeat(200))), format!("...{}", "b".repeat(200)));
}

#[test]
fn an_object_is_named_by_forty_small_digits() {
    let text = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
    let id = ObjectId::from_hex(text.as_bytes()).unwrap();
    assert_eq!((id.to_string().as_str(), id.as_bytes()[0], id.as_bytes()[19]), (text, 0x4b, 0x04));
    for wrong in [&text[1..], &text.to_uppercase(), &text.replace('4', "g"), "", &format!("{text}00")] {
        assert_eq!(ObjectId::from_hex(wrong.as_bytes()), None, "{wrong}");
    }
}
