//! A directory with everything that a file system can hold, and the comparison of two such.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat};

/// Bytes that no compression makes smaller.
pub fn random(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// Fills a directory.
pub fn fill(root: &Path) {
    fs::create_dir_all(root.join("deep/er/still")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("small"), "small\n").unwrap();
    fs::write(root.join("nothing"), "").unwrap();
    fs::write(root.join("big"), random(5 * 1024 * 1024 + 17)).unwrap();
    for number in 0..300 {
        fs::write(root.join(format!("deep/er/{number}")), random(700)).unwrap();
    }
    for name in ["with space", "ünïcödé ☃", "new\nline", "back\\slash", "\"quoted\"", "-rf", "{braces}"] {
        fs::write(root.join("deep").join(name), name).unwrap();
    }
    fs::write(root.join("deep").join(std::ffi::OsStr::from_bytes(b"not \xff utf8")), "x").unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(64 * 1024 * 1024).unwrap();
    sparse.write_all_at(b"in the middle", 40 * 1024 * 1024 + 5).unwrap();
    fs::write(root.join("linked"), "one file, three names").unwrap();
    fs::hard_link(root.join("linked"), root.join("deep/er/linked too")).unwrap();
    fs::hard_link(root.join("linked"), root.join("zz linked")).unwrap();
    symlink("deep/er", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    lchown(root.join("dangling"), Some(1000), Some(1001)).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
    setxattr(root.join("small"), "user.note", b"a \0 note", XattrFlags::empty()).unwrap();
    setxattr(root.join("deep"), "user.where", b"on a directory", XattrFlags::empty()).unwrap();
    chown(root.join("small"), Some(1000), Some(1001)).unwrap();
    chown(root.join("deep/er"), Some(33), Some(33)).unwrap();
    chown(root, Some(999), Some(998)).unwrap();
    for (path, mode) in [
        ("small", 0o640),
        ("big", 0o4755),
        ("nothing", 0o000),
        ("empty", 0o1777),
        ("deep/er", 0o2750),
        ("deep/er/still", 0o700),
        (".", 0o750),
    ] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (path, seconds, nanoseconds) in [
        ("small", 1_700_000_001, 123_456_789),
        ("dangling", 1_600_000_000, 1),
        ("deep/er", 1_500_000_000, 999_999_999),
        ("empty", -5, 250_000_000),
    ] {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Everything about everything below a directory that a restore must bring back.
pub fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    let (mut found, mut inodes) = (BTreeMap::new(), BTreeMap::new());
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let below = path.strip_prefix(root).unwrap().to_owned();
        let mut text = format!(
            "mode {:o} owner {}:{} modified {}.{:09}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_symlink() {
            text += &format!(" to {:?}", fs::read_link(&path).unwrap());
        } else if metadata.is_file() {
            let content = fs::read(&path).unwrap();
            let holes = metadata.blocks() * 512 < metadata.len() / 2;
            let digest = <sha2::Sha256 as sha2::Digest>::digest(&content);
            text += &format!(" size {} content {digest:x} holes {holes}", content.len());
            if metadata.nlink() > 1 {
                let first = inodes.entry(metadata.ino()).or_insert_with(Vec::new);
                first.push(below.clone());
            }
        } else {
            text += &format!(" device {}", metadata.rdev());
        }
        let mut names = vec![0; 4096];
        if !metadata.is_symlink() {
            let length = rustix::fs::llistxattr(&path, &mut names[..]).unwrap();
            for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
                let mut value = vec![0; 4096];
                let length = rustix::fs::lgetxattr(&path, name, &mut value[..]).unwrap();
                text += &format!(" {}={:?}", String::from_utf8_lossy(name), &value[..length]);
            }
        }
        found.insert(below, text);
    }
    for (number, mut names) in inodes.into_values().enumerate() {
        names.sort();
        found.insert(format!("names of file {number}").into(), format!("{names:?}"));
    }
    found
}

/// Panics with the first difference.
#[track_caller]
pub fn assert_same(expected: &Path, found: &Path) {
    let (expected, found) = (describe(expected), describe(found));
    for (path, text) in &expected {
        assert_eq!(Some(text), found.get(path), "{path:?}");
    }
    let more: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(more.is_empty(), "{more:?}");
}
