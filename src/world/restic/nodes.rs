//! Between files as the system describes them and nodes as restic keeps them.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustic_core::repofile::{Metadata, NodeType};
use rustix::fs::{FileType, Stat, lgetxattr, llistxattr};
use rustix::io::Errno;
use serde_json::json;

/// restic keeps modes as Go does: permissions below, and these bits above.
const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHARACTER: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// The kernel's own bound for names, and for the value, of extended attributes.
const LONGEST_ATTRIBUTE: usize = 64 * 1024;
/// What nearly all of them fit into.
const SHORT_ATTRIBUTE: usize = 512;

/// The mode as restic keeps it.
fn to_go(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => GO_DIRECTORY,
        FileType::Symlink => GO_SYMLINK,
        FileType::BlockDevice => GO_DEVICE,
        FileType::CharacterDevice => GO_DEVICE | GO_CHARACTER,
        FileType::Fifo => GO_FIFO,
        FileType::Socket => GO_SOCKET,
        FileType::RegularFile | FileType::Unknown => 0,
    };
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    special.iter().filter(|(bit, _)| mode & bit != 0).fold(mode & 0o777 | kind, |mode, (_, go)| mode | go)
}

/// The permissions of a mode that restic kept.
pub fn permissions(go: u32) -> u32 {
    let special = [(0o4000, GO_SETUID), (0o2000, GO_SETGID), (0o1000, GO_STICKY)];
    special.iter().filter(|(_, bit)| go & bit != 0).fold(go & 0o777, |mode, (unix, _)| mode | unix)
}

/// What restic calls a file of this kind; `target` is asked only of a symbolic link.
pub fn kind(stat: &Stat, target: impl FnOnce() -> Result<PathBuf, Errno>) -> Result<NodeType, Errno> {
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => NodeType::Dir,
        FileType::Symlink => NodeType::from_link(&target()?),
        FileType::BlockDevice => NodeType::Dev { device: stat.st_rdev },
        FileType::CharacterDevice => NodeType::Chardev { device: stat.st_rdev },
        FileType::Fifo => NodeType::Fifo,
        FileType::Socket => NodeType::Socket,
        FileType::RegularFile | FileType::Unknown => NodeType::File,
    })
}

/// Everything about a file but its content. Names of users are left out: those of a container mean nothing here.
pub fn metadata(stat: &Stat, attributes: &[(String, Vec<u8>)]) -> Metadata {
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let time = |seconds: i64, nanoseconds: u64| {
        i32::try_from(nanoseconds).ok().and_then(|nanoseconds| Timestamp::new(seconds, nanoseconds).ok())
    };
    // The widths of these fields differ between architectures.
    #[allow(clippy::unnecessary_cast, reason = "not unnecessary on every architecture")]
    let links = stat.st_nlink as u64;
    // rustic does not name this type, so it is made from what restic would write.
    let attribute = |(name, value): &(String, Vec<u8>)| json!({ "name": name, "value": STANDARD.encode(value) });
    let attributes: Vec<_> = attributes.iter().map(attribute).collect();
    let changed = time(stat.st_mtime, stat.st_mtime_nsec);
    Metadata {
        mode: Some(to_go(stat.st_mode)),
        mtime: changed,
        // Reading changes it, so it would make every snapshot differ.
        atime: changed,
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
        inode: stat.st_ino,
        // Only where it tells which files are one.
        device_id: if links > 1 && !is_directory { stat.st_dev } else { 0 },
        size: if is_directory { 0 } else { stat.st_size.unsigned_abs() },
        links: if is_directory { 0 } else { links },
        extended_attributes: serde_json::from_value(attributes.into()).unwrap_or_default(),
        ..Metadata::default()
    }
}

/// The extended attributes of what has this name in a directory; a link is not followed.
pub fn attributes(directory: &OwnedFd, name: &OsStr) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    // There is no call that takes a directory and a name. The number stands for the open directory, whatever its path.
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    let names = match filled(|space| llistxattr(&path, space)) {
        Ok(names) => names,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = Vec::new();
    for attribute in names {
        match filled(|space| lgetxattr(&path, attribute, space)) {
            Ok(value) => found.push((String::from_utf8_lossy(attribute).into_owned(), value)),
            // Taken away since it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What the kernel fills a space with. It is asked for every file, and most have none: the large space is for the others.
fn filled(ask: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut short = [0; SHORT_ATTRIBUTE];
    match ask(&mut short) {
        Err(Errno::RANGE) => {
            let mut long = vec![0; LONGEST_ATTRIBUTE];
            let length = ask(&mut long)?;
            long.truncate(length);
            Ok(long)
        }
        length => length.map(|length| short[..length].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_survive_the_way_there_and_back() {
        for mode in [0o100_644, 0o104_755, 0o102_750, 0o041_777, 0o120_777, 0o020_600, 0o010_640] {
            assert_eq!(permissions(to_go(mode)), mode & 0o7777, "{mode:o}");
        }
        assert_eq!(to_go(0o041_777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(to_go(0o020_600), 1 << 26 | 1 << 21 | 0o600);
    }
}
