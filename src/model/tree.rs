//! The files of one revision, or of one directory, held in memory; nobody vouches for them here.
//!
//! That a tree was signed is said by another type, `decide::trust::VerifiedTree`. This one is also what
//! `moorline check` makes of a plain checkout.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::Utf8Error;

/// Files by their path: relative, separated by `/`, never empty, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

/// One file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Mode 100755 in git: the only thing about a mode that is kept.
    pub executable: bool,
    /// The content, exactly.
    pub bytes: Vec<u8>,
}

impl Tree {
    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Every file, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The files below a directory, with paths relative to it, sorted.
    pub fn below<'tree>(&'tree self, directory: &str) -> impl Iterator<Item = (&'tree str, &'tree File)> {
        let prefix = prefix(directory);
        let length = prefix.len();
        self.files
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(move |(path, file)| (&path[length..], file))
    }

    /// The names of the directories directly inside a directory (`""` is the root), sorted.
    pub fn directories_in(&self, directory: &str) -> BTreeSet<&str> {
        self.below(directory).filter_map(|(path, _)| path.split_once('/')).map(|(name, _)| name).collect()
    }

    /// Puts a file in, in place of one with the same path.
    pub fn insert(&mut self, path: impl Into<String>, file: File) -> Option<File> {
        self.files.insert(path.into(), file)
    }

    /// How many files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl FromIterator<(String, File)> for Tree {
    fn from_iter<I: IntoIterator<Item = (String, File)>>(files: I) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

impl File {
    /// A file that is not executable.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { executable: false, bytes: bytes.into() }
    }

    /// The content as text.
    pub fn text(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(&self.bytes)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A failed assertion should show which file, not megabytes of it.
        let kind = if self.executable { "executable" } else { "plain" };
        write!(f, "File({kind}, {} bytes)", self.bytes.len())
    }
}

fn prefix(directory: &str) -> String {
    match directory.trim_end_matches('/') {
        "" => String::new(),
        directory => format!("{directory}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> Tree {
        paths.iter().map(|path| (path.to_string(), File::plain(*path))).collect()
    }

    #[test]
    fn below_gives_relative_paths_and_no_neighbours() {
        let tree = tree(&["stacks/a/compose.yaml", "stacks/a/files/x", "stacks/a-b/compose.yaml", "stacks/a.yaml"]);
        let found: Vec<_> = tree.below("stacks/a").map(|(path, _)| path).collect();
        assert_eq!(found, ["compose.yaml", "files/x"]);
        assert_eq!(tree.below("stacks/a/").count(), 2);
        assert_eq!(tree.below("").count(), 4);
        assert_eq!(tree.below("nothing").count(), 0);
    }

    #[test]
    fn directories_are_named_once_and_files_are_not_directories() {
        let tree = tree(&["hosts/alpha/host.yaml", "hosts/alpha/recipient", "hosts/beta/host.yaml", "hosts/README"]);
        assert_eq!(tree.directories_in("hosts").into_iter().collect::<Vec<_>>(), ["alpha", "beta"]);
        assert_eq!(tree.directories_in("").into_iter().collect::<Vec<_>>(), ["hosts"]);
    }

    #[test]
    fn debug_shows_sizes_not_content() {
        assert_eq!(format!("{:?}", File::plain("hunter2")), "File(plain, 7 bytes)");
    }
}
