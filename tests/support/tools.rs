//! Finds the programs that `scripts/install-tools` laid out. Downloads nothing itself.

use std::path::{Path, PathBuf};

/// The directory that `scripts/install-tools` fills.
pub fn directory() -> PathBuf {
    std::env::var_os("MOORLINE_LAB")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".lab/tools"), PathBuf::from)
}

/// The absolute path of a program of the lab; panics with what to do when it is missing.
#[track_caller]
pub fn tool(name: &str) -> PathBuf {
    let path = directory().join("bin").join(name);
    assert!(
        path.exists(),
        "`{name}` is missing: {} does not exist\nhint: run `make tools` (scripts/install-tools), which installs or names the package",
        path.display()
    );
    path
}

/// A search path on which the programs of the lab come first.
pub fn search_path() -> std::ffi::OsString {
    let machine = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(directory().join("bin")).chain(std::env::split_paths(&machine));
    std::env::join_paths(directories).expect("no colon in the lab's directory")
}

/// Network namespaces, mounts and an engine are root's business.
#[track_caller]
pub fn needs_root(what: &str) {
    use std::os::unix::fs::MetadataExt as _;
    let uid = std::fs::metadata("/proc/self").expect("/proc is mounted").uid();
    assert!(uid == 0, "{what} needs root\nhint: `make test` runs the tests through sudo where it must");
}
