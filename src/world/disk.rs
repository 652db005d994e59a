//! Reads and writes files. A write is whole or absent, also after a power cut.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::decide::fault::{Code, Fault};
use crate::model::Access;
use crate::model::tree::{self, Tree};

/// The suffix of a file that is not finished. Neither Compose nor Traefik reads it.
pub(super) const UNFINISHED: &str = ".moorline-new";

/// Writes a file: temporary file beside it, fsync, rename, fsync of the directory.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_for(path, bytes, Access { mode, ..Access::default() })
}

/// The same, for the owner and for the group of the directory: that is the courier's, where it is a user of its own.
pub fn write_shared(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_for(path, bytes, shared(path.parent().unwrap_or(path))?)
}

/// Who may read a file in a directory that is shared with a group: nobody else, if it is not.
pub fn shared(directory: &Path) -> io::Result<Access> {
    let found = fs::metadata(directory)?;
    let is_shared = rustix::process::geteuid().is_root() && found.gid() != 0;
    Ok(if is_shared {
        Access { uid: 0, gid: found.gid(), mode: 0o640 }
    } else {
        Access { mode: 0o600, ..Access::default() }
    })
}

/// The same, for an owner. Only root can give a file away.
pub fn write_for(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(UNFINISHED);
    let unfinished = path.with_file_name(name);
    let written = write_and_rename(&unfinished, path, bytes, access);
    if written.is_err() {
        // What is left over is ours; the file itself is as it was.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// Whether the file is there and is theirs for whom it should be.
pub fn is_for(path: &Path, access: Access) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        let owner = Access { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777 };
        found.is_file() && owner == access
    })
}

fn write_and_rename(unfinished: &Path, path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    write_unfinished(unfinished, bytes, access)?;
    fs::rename(unfinished, path)?;
    sync_directory(path)
}

fn write_unfinished(unfinished: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    // A leftover of a run that was killed may have another mode or be a link.
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(access.mode & 0o700).open(unfinished)?;
    if (access.uid, access.gid) != (0, 0) {
        fchown(&file, Some(access.uid), Some(access.gid))?;
    }
    file.write_all(bytes)?;
    // Nobody else was let in before the file was whole and its owner's; and the umask may have taken bits away.
    file.set_permissions(fs::Permissions::from_mode(access.mode))?;
    file.sync_all()
}

/// Writes a file that must not be there yet; whatever has this name stays, and the error is `AlreadyExists`.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(UNFINISHED);
    let unfinished = path.with_file_name(name);
    let created = write_unfinished(&unfinished, bytes, Access { mode, ..Access::default() }).and_then(|()| {
        let no_replace = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(rustix::fs::CWD, &unfinished, rustix::fs::CWD, path, no_replace)?;
        sync_directory(path)
    });
    if created.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    created
}

/// Removes what writes that were killed left in a directory. Where each file has a name of its own, no later write would.
pub fn forget_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes the names in the directory of `path` as durable as the files.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads at most `limit` bytes; a larger file is an error, not a part of it.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("this file is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads a file with a key: regular, no link, ours, and closed to everyone else.
pub fn read_private(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // A pipe that nobody writes into would be waited for, so nothing is.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() && metadata.uid() != 0 {
        return Err(io::Error::other(format!("it belongs to user {}, not to root", metadata.uid())));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(io::Error::other(format!("its mode is {mode:04o}, so others can read it")));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("this file is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The fault of a state that could not be written.
pub fn unwritable(path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(Code::StateUnwritable, format!("{} cannot be written", path.display())).caused_by(error);
    match error.kind() {
        io::ErrorKind::StorageFull => fault.hint(format!("df -h {}", path.display())),
        io::ErrorKind::PermissionDenied => fault.hint("run it as root"),
        _ => fault.hint("`moorline doctor` looks at every directory"),
    }
}

/// Whether nothing at all has this name.
pub fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// How much space there is below a directory that can be written.
pub fn space(directory: &Path) -> Result<String, Fault> {
    if is_missing(directory) {
        return Ok(format!("{} is made at the first start", directory.display()));
    }
    let failed = |error: rustix::io::Errno| unwritable(directory, &error.into());
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).map_err(failed)?;
    let space = rustix::fs::statvfs(directory).map_err(failed)?;
    Ok(format!("{}, {} MiB free", directory.display(), space.f_bavail * space.f_frsize / (1024 * 1024)))
}

/// How many bytes are free on the file system of a directory; nothing if it is not here.
pub fn free_bytes(directory: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(directory).ok()?;
    Some(space.f_bavail * space.f_frsize)
}

/// Reads a directory as the tree of a repository, by the same rules: no links, no odd names, nothing too large.
/// `.git` is passed over.
pub fn read_tree(root: &Path) -> Result<Tree, Fault> {
    let mut tree = Tree::default();
    let mut directories = vec![PathBuf::new()];
    while let Some(relative) = directories.pop() {
        let directory = root.join(&relative);
        let unreadable = |error: &io::Error| {
            Fault::new(Code::UsageInvalid, format!("{} cannot be read", directory.display())).caused_by(error)
        };
        for entry in fs::read_dir(&directory).map_err(|error| unreadable(&error))? {
            let entry = entry.map_err(|error| unreadable(&error))?;
            if relative.as_os_str().is_empty() && entry.file_name() == ".git" {
                continue;
            }
            let path = relative.join(entry.file_name());
            let kind = entry.file_type().map_err(|error| unreadable(&error))?;
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                let (path, file) = read_tree_file(root, &path)?;
                tree.insert(path, file);
            } else {
                return Err(odd(&path, "only files and directories may stand in the repository"));
            }
        }
    }
    Ok(tree)
}

/// The largest file of a repository (DESIGN section 4).
const LARGEST_FILE: u64 = 1024 * 1024;

fn read_tree_file(root: &Path, path: &Path) -> Result<(String, tree::File), Fault> {
    let name = path.to_str().ok_or_else(|| odd(path, "its name is not UTF-8"))?.to_owned();
    let whole = root.join(path);
    let bytes = read(&whole, LARGEST_FILE).map_err(|error| odd(path, &error.to_string()))?;
    let metadata = fs::metadata(&whole).map_err(|error| odd(path, &error.to_string()))?;
    Ok((name, tree::File { executable: metadata.mode() & 0o111 != 0, bytes }))
}

fn odd(path: &Path, why: &str) -> Fault {
    Fault::new(Code::TreeRefused, format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.json");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_in_part() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big");
        write(&path, b"12345", 0o600).unwrap();
        assert!(read(&path, 4).is_err());
        assert_eq!(read(&path, 5).unwrap().len(), 5);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        write(&key, b"k", 0o600).unwrap();
        assert_eq!(read_private(&key, 10).unwrap(), b"k");
        let open = directory.path().join("open");
        write(&open, b"k", 0o644).unwrap();
        assert!(read_private(&open, 10).unwrap_err().to_string().contains("0644"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&key, &link).unwrap();
        assert!(read_private(&link, 10).is_err());
    }

    #[test]
    fn a_tree_with_a_link_is_refused_and_git_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join(".git")).unwrap();
        fs::write(directory.path().join(".git/config"), "x").unwrap();
        fs::create_dir_all(directory.path().join("hosts/a")).unwrap();
        fs::write(directory.path().join("hosts/a/host.yaml"), "x").unwrap();
        assert_eq!(read_tree(directory.path()).unwrap().len(), 1);
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
        assert!(read_tree(directory.path()).is_err());
    }
}
