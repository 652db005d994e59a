//! Reads what lies in a directory of another user, the courier's above all: beneath that directory only, without following a
//! link, without waiting for the other end of a pipe, and never more than was asked for.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

/// A whole file, if there is one. Anything that is no plain file is an error.
pub fn read(directory: &Path, name: &str, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match open(directory, name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::other(format!("{name} is longer than {longest} bytes")));
    }
    Ok(Some(bytes))
}

/// Makes an empty file. One that is there already, whatever it is, stays as it is.
pub fn mark(directory: &Path, name: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    match open(directory, name, flags, Mode::RUSR | Mode::WUSR) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// One directory further down. Not by `openat2`, which does the same for a whole path: `RestrictSUIDSGID=` of a unit forbids
/// it, since it cannot look into its arguments.
pub fn descend(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    if matches!(name, "" | "." | "..") {
        return Err(ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map_err(|error| {
        // The kernel calls a link here something that is no directory.
        let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let is_link = found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
        if is_link { Errno::LOOP.into() } else { error.into() }
    })
}

fn open(directory: &Path, path: &str, flags: OFlags, mode: Mode) -> io::Result<File> {
    let flags_of_root = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = openat(CWD, directory, flags_of_root, Mode::empty())?;
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in above.split('/').filter(|_| !above.is_empty()) {
        here = descend(&here, part)?;
    }
    Ok(openat(here, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::mknodat;

    use super::*;

    #[test]
    fn only_a_plain_file_beneath_the_directory_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let (theirs, ours) = (scratch.path().join("theirs"), scratch.path().join("ours"));
        fs::create_dir_all(theirs.join("refs")).unwrap();
        fs::create_dir(&ours).unwrap();
        fs::write(ours.join("secret"), "ours").unwrap();
        fs::write(theirs.join("refs/main"), "theirs").unwrap();
        assert_eq!(read(&theirs, "refs/main", 6).unwrap().unwrap(), b"theirs");
        assert!(read(&theirs, "refs/main", 5).is_err(), "it is too long");
        assert_eq!(read(&theirs, "refs/other", 6).unwrap(), None);
        assert_eq!(read(&theirs.join("nowhere"), "main", 6).unwrap(), None);

        symlink(ours.join("secret"), theirs.join("file")).unwrap();
        symlink(&ours, theirs.join("directory")).unwrap();
        mknodat(CWD, theirs.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for name in ["file", "directory/secret", "../ours/secret", "pipe", "refs"] {
            assert!(read(&theirs, name, 100).is_err(), "{name}");
        }
        symlink(&ours, scratch.path().join("link")).unwrap();
        assert_eq!(read(&scratch.path().join("link"), "secret", 100).unwrap(), None);
        assert!(mark(&theirs, "directory/mark").is_err());
        assert!(!ours.join("mark").exists());
        mark(&theirs, "mark").unwrap();
        mark(&theirs, "mark").unwrap();
    }
}
