//! Reads where a branch of the courier's repository stands, from the files that git writes. It knows nothing of objects,
//! and what it returns is not verified.

use std::path::{Path, PathBuf};

use crate::decide::fault::{Code, Fault};
use crate::decide::remote::is_branch;
use crate::model::Revision;
use crate::world::foreign;

/// A loose ref is 41 bytes.
const LONGEST_REF: u64 = 256;

/// The courier's repository has one ref, and git packs refs into one file.
const LONGEST_PACKED: u64 = 64 * 1024;

/// Where branches stand as files: the directory to watch for a new tip.
pub fn heads(repository: &Path) -> PathBuf {
    repository.join("refs/heads")
}

/// The revision that a branch points to; none when the branch or the whole repository is not there yet.
pub fn tip(repository: &Path, branch: &str) -> Result<Option<Revision>, Fault> {
    if !is_branch(branch) {
        return Err(damaged(repository, branch, "the branch has an impossible name".into()));
    }
    read(repository, &format!("refs/heads/{branch}"))
}

/// The revision that a ref points to, by its whole name.
pub fn read(repository: &Path, name: &str) -> Result<Option<Revision>, Fault> {
    let damaged = |cause: String| damaged(repository, name.trim_start_matches("refs/heads/"), cause);
    let loose = text(repository, name, LONGEST_REF).map_err(|error| damaged(error.to_string()))?;
    let name = match loose {
        Some(text) => Some(text),
        None => text(repository, "packed-refs", LONGEST_PACKED)
            .map_err(|error| damaged(error.to_string()))?
            .and_then(|packed| packed_ref(&packed, name)),
    };
    // Anything but a whole object name is refused, symbolic refs too: git never writes one for a branch.
    name.map(|name| name.trim_end_matches('\n').parse::<Revision>().map_err(|error| damaged(error.to_string())))
        .transpose()
}

fn damaged(repository: &Path, name: &str, cause: String) -> Fault {
    Fault::new(Code::RepositoryDamaged, format!("the tip of {name} in {} cannot be read", repository.display()))
        .because(cause)
}

/// The line `<id> <name>` of packed-refs.
fn packed_ref(packed: &str, wanted: &str) -> Option<String> {
    packed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, name)| *name == wanted)
        .map(|(id, _)| id.to_owned())
}

/// A whole text file, if it is there. A directory in its place counts as not there: the branch was once called
/// `main/something`.
fn text(repository: &Path, name: &str, longest: u64) -> std::io::Result<Option<String>> {
    if std::fs::symlink_metadata(repository.join(name)).is_ok_and(|found| found.is_dir()) {
        return Ok(None);
    }
    let bytes = foreign::read(repository, name, longest)?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other)).transpose()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ONE: &str = "9f2c1e07aa00bb11cc22dd33ee44ff5566778899";
    const TWO: &str = "1111111111111111111111111111111111111111";

    fn repository() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(heads(directory.path())).unwrap();
        directory
    }

    fn loose(repository: &tempfile::TempDir, content: &str) {
        fs::write(heads(repository.path()).join("main"), content).unwrap();
    }

    fn name_of(repository: &tempfile::TempDir) -> Option<String> {
        tip(repository.path(), "main").unwrap().map(String::from)
    }

    #[test]
    fn a_loose_ref_is_newer_than_a_packed_one() {
        let repository = repository();
        assert_eq!(name_of(&repository), None);
        let packed = format!(
            "# pack-refs with: peeled fully-peeled sorted \n{TWO} refs/heads/main-2\n{ONE} refs/heads/main\n^{TWO}\n"
        );
        fs::write(repository.path().join("packed-refs"), packed).unwrap();
        assert_eq!(name_of(&repository).as_deref(), Some(ONE));
        loose(&repository, &format!("{TWO}\n"));
        assert_eq!(name_of(&repository).as_deref(), Some(TWO));
    }

    #[test]
    fn a_repository_that_is_not_there_has_no_tip() {
        assert_eq!(tip(Path::new("/nonexistent"), "main"), Ok(None));
    }

    #[test]
    fn anything_but_a_whole_object_name_is_damage() {
        let repository = repository();
        for content in ["", "ref: refs/heads/other\n", &ONE[1..], &format!("{ONE} \n"), &"a".repeat(300), "\u{1b}[2J"] {
            loose(&repository, content);
            assert_eq!(tip(repository.path(), "main").unwrap_err().code, Code::RepositoryDamaged, "{content:?}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let repository = repository();
        fs::write(repository.path().join("elsewhere"), ONE).unwrap();
        std::os::unix::fs::symlink("../../elsewhere", heads(repository.path()).join("main")).unwrap();
        assert_eq!(tip(repository.path(), "main").unwrap_err().code, Code::RepositoryDamaged);
        // Nor one on the way.
        let theirs = repository.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("main"), ONE).unwrap();
        fs::remove_dir_all(heads(repository.path())).unwrap();
        std::os::unix::fs::symlink(&theirs, heads(repository.path())).unwrap();
        assert_eq!(tip(repository.path(), "main").unwrap_err().code, Code::RepositoryDamaged);
    }
}
