//! The directory that a restore fills. Every name from the repository is a plain name in a directory that we have just
//! made and hold open, so nothing can lead elsewhere, and nothing that is there is replaced.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{
    Advice, AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fadvise, fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2, statvfs,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::nodes::permissions;
use super::trouble::{Kind, Trouble};

/// A run of zeros of this length becomes a hole: the size of a block of most file systems.
const HOLE: usize = 4096;
/// Files of this size are read back from the disk and not from memory.
const LARGE: u64 = 1024 * 1024;

/// Why something was not restored.
#[derive(Debug)]
pub enum Unrestored {
    /// It is lost; the rest goes on.
    Lost(String),
    /// Nothing more can be restored.
    End(Trouble),
}

impl From<Errno> for Unrestored {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl From<io::Error> for Unrestored {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
                Unrestored::End(Trouble::new(Kind::Target, error.to_string()))
            }
            _ => Unrestored::Lost(error.to_string()),
        }
    }
}

/// Where a restore goes.
#[derive(Debug)]
pub struct Place {
    /// The directories on the way, each open, the place itself first.
    levels: Vec<OwnedFd>,
    names: Vec<OsString>,
    /// Where the first name of each file with several names is, by device and inode.
    links: std::cell::RefCell<BTreeMap<(u64, u64), PathBuf>>,
}

impl Place {
    /// Takes a directory that is empty, or makes it. `needed` bytes must be free.
    pub fn open(directory: &Path, needed: u64) -> Result<Self, Trouble> {
        let shown = directory.display();
        let unusable = |error: &io::Error| Trouble::new(Kind::Target, format!("{shown}: {error}"));
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|error| unusable(&error))?,
        }
        if fs::read_dir(directory).map_err(|error| unusable(&error))?.next().is_some() {
            return Err(Trouble::new(Kind::Target, format!("{shown} is not empty")));
        }
        let opened = openat(CWD, directory, DIRECTORY, Mode::empty()).map_err(|error| unusable(&error.into()))?;
        let space = statvfs(directory).map_err(|error| unusable(&error.into()))?;
        let free = space.f_bavail * space.f_frsize;
        if free < needed {
            let mebibytes = |bytes: u64| bytes.div_ceil(1024 * 1024);
            let words = format!("{shown} has {} MiB free, and {} are needed", mebibytes(free), mebibytes(needed));
            return Err(Trouble::new(Kind::Target, words));
        }
        Ok(Self { levels: vec![opened], names: Vec::new(), links: std::cell::RefCell::default() })
    }

    fn here(&self) -> Result<BorrowedFd<'_>, Unrestored> {
        self.levels.last().map(AsFd::as_fd).ok_or_else(|| Unrestored::Lost("it has no directory".to_owned()))
    }

    /// Makes a directory and goes into it.
    pub fn enter(&mut self, name: &OsStr) -> Result<(), Unrestored> {
        let name = plain(name)?;
        mkdirat(self.here()?, name, Mode::RWXU)?;
        let opened = openat(self.here()?, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        self.levels.push(opened);
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Goes back up.
    pub fn leave(&mut self) {
        if self.names.pop().is_some() {
            self.levels.pop();
        }
    }

    /// Gives the directory that we are in what else it had. It comes last: what is written into it changes its time.
    pub fn dress_directory(&self, node: &Node) -> Result<(), Unrestored> {
        dress(self.here()?, &node.meta)
    }

    /// Makes a file that must not be there yet.
    pub fn create(&self, node: &Node) -> Result<Unfinished<'_>, Unrestored> {
        let name = node.name();
        let name = plain(&name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.here()?, name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Unfinished { place: self, name: name.to_owned(), file: file.into(), length: 0, error: None })
    }

    /// Makes another name for a file that was restored already. False if this is its first name.
    pub fn link(&self, node: &Node) -> Result<bool, Unrestored> {
        let Some(identity) = identity(node) else { return Ok(false) };
        let Some(first) = self.links.borrow().get(&identity).cloned() else { return Ok(false) };
        let name = node.name();
        let top = self.levels.first().ok_or_else(|| Unrestored::Lost("it has no directory".to_owned()))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found = openat2(top, &first, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        let found = Path::new("/proc/self/fd").join(found.as_raw_fd().to_string());
        linkat(CWD, &found, self.here()?, plain(&name)?, AtFlags::SYMLINK_FOLLOW)?;
        Ok(true)
    }

    /// Remembers a file that may have further names.
    pub fn remember(&self, node: &Node) -> Result<(), Unrestored> {
        if let Some(identity) = identity(node) {
            let path = self.names.iter().collect::<PathBuf>().join(&*node.name());
            self.links.borrow_mut().insert(identity, path);
        }
        Ok(())
    }

    /// Makes a symbolic link, a pipe or a device.
    pub fn special(&self, node: &Node) -> Result<(), Unrestored> {
        let name = node.name();
        let (name, here) = (plain(&name)?, self.here()?);
        match &node.node_type {
            NodeType::Symlink { .. } => symlinkat(node.node_type.to_link(), here, name)?,
            NodeType::Fifo => mknodat(here, name, FileType::Fifo, Mode::RUSR, 0)?,
            NodeType::Dev { device } => mknodat(here, name, FileType::BlockDevice, Mode::RUSR, *device)?,
            NodeType::Chardev { device } => mknodat(here, name, FileType::CharacterDevice, Mode::RUSR, *device)?,
            NodeType::File | NodeType::Dir | NodeType::Socket => return Ok(()),
        }
        let meta = &node.meta;
        if let (Some(uid), Some(gid)) = (meta.uid, meta.gid) {
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(here, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !node.is_symlink() {
            // We made it, it is no link, and nobody else gets into this directory.
            chmodat(here, name, Mode::from_raw_mode(permissions(meta.mode.unwrap_or(0))), AtFlags::empty())?;
        }
        if let Some(times) = times(meta) {
            utimensat(here, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Brings everything to the disk, and hears what the disk says.
    pub fn flush(&self) -> Result<(), Trouble> {
        let Some(top) = self.levels.first() else { return Ok(()) };
        rustix::fs::syncfs(top).map_err(|error| Trouble::new(Kind::Target, io::Error::from(error).to_string()))
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A file that is being written. Runs of zeros become holes.
#[derive(Debug)]
pub struct Unfinished<'place> {
    place: &'place Place,
    name: OsString,
    file: File,
    length: u64,
    error: Option<io::Error>,
}

impl Unfinished<'_> {
    /// Gives it its length and everything else it had. What comes back reads it from its beginning.
    pub fn finish(mut self, node: &Node) -> Result<impl Read + use<>, Unrestored> {
        self.file.set_len(self.length)?;
        if self.length >= LARGE {
            self.file.sync_data()?;
            fadvise(&self.file, 0, None, Advice::DontNeed)?;
        }
        dress(self.file.as_fd(), &node.meta)?;
        self.file.seek(SeekFrom::Start(0))?;
        Ok(io::BufReader::with_capacity(128 * 1024, self.file))
    }

    /// Removes it: half of a file is worse than none. The reason, if it is not the repository's.
    pub fn abandon(self) -> Option<Unrestored> {
        if let Ok(here) = self.place.here() {
            // It stays, with its length of zero or more, if even that fails; it is named as lost.
            let _ = unlinkat(here, &self.name, AtFlags::empty());
        }
        self.error.map(Unrestored::from)
    }

    /// Writes a run of blocks that are not all zeros.
    fn put(&mut self, run: &[u8], from: usize) -> io::Result<()> {
        self.file.write_all_at(run, self.length + from as u64)
    }

    fn put_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Up to the next block, so that holes lie where the file system can make them.
        let past = usize::try_from(self.length % HOLE as u64).unwrap_or(0);
        let (first, rest) = bytes.split_at(bytes.len().min((HOLE - past) % HOLE));
        let (mut run, mut at) = (0, 0);
        for block in std::iter::once(first).chain(rest.chunks(HOLE)) {
            if block.iter().all(|byte| *byte == 0) {
                self.put(&bytes[run..at], run)?;
                run = at + block.len();
            }
            at += block.len();
        }
        self.put(&bytes[run..], run)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Write for Unfinished<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put_all(bytes).map(|()| bytes.len()).map_err(|error| {
            let kind = error.kind();
            self.error.get_or_insert(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A name that is one, and nothing else: no way up, no way elsewhere.
fn plain(name: &OsStr) -> Result<&OsStr, Unrestored> {
    let bytes = name.as_bytes();
    let is_odd = bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.len() > 255;
    if is_odd || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(Unrestored::Lost("this cannot be the name of a file".to_owned()));
    }
    Ok(name)
}

/// Which file it is one name of, if it has several.
fn identity(node: &Node) -> Option<(u64, u64)> {
    (node.meta.links > 1 && node.meta.inode != 0).then_some((node.meta.device_id, node.meta.inode))
}

fn times(meta: &Metadata) -> Option<Timestamps> {
    let time = |stamp: jiff::Timestamp| {
        // Before 1970 the fraction counts backwards here, and forwards in the system.
        let (mut seconds, mut nanoseconds) = (stamp.as_second(), stamp.subsec_nanosecond());
        if nanoseconds < 0 {
            (seconds, nanoseconds) = (seconds - 1, nanoseconds + 1_000_000_000);
        }
        Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
    };
    let modified = meta.mtime?;
    Some(Timestamps { last_access: time(meta.atime.unwrap_or(modified)), last_modification: time(modified) })
}

/// Owner, attributes, permissions, times, in this order: each undoes a part of those after it.
fn dress(file: BorrowedFd<'_>, meta: &Metadata) -> Result<(), Unrestored> {
    if let (Some(uid), Some(gid)) = (meta.uid, meta.gid) {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    for attribute in &meta.extended_attributes {
        let value = attribute.value.as_deref().unwrap_or_default();
        fsetxattr(file, attribute.name.as_str(), value, XattrFlags::empty())?;
    }
    // restic leaves a mode of zero out.
    fchmod(file, Mode::from_raw_mode(permissions(meta.mode.unwrap_or(0))))?;
    if let Some(times) = times(meta) {
        futimens(file, &times)?;
    }
    Ok(())
}
