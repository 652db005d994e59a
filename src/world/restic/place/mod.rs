//! The directory that a restore fills. Every name from the repository is a plain name in a directory that we have made and
//! hold open, so nothing can lead elsewhere. A file gets its name when it is whole, also if we are killed. Nothing that is
//! there is replaced, unless a restore of the same began there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustic_core::repofile::{Metadata, Node, NodeType};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat, openat2, renameat,
    renameat_with, statvfs, symlinkat, syncfs, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::nodes::permissions;
use super::trouble::{Kind, Trouble};
pub use begun::{Begun, is_begun, restores_into};

mod begun;
mod unfinished;

use unfinished::Unfinished;

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

/// How a restore begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// In a directory that is empty or not there.
    Fresh,
    /// Where the same restore began before: what is there is ours.
    Again,
}

/// What a file is called before it has its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// While it is written.
    Unfinished,
    /// While it is read back, and the next one is written.
    Unproven,
}

/// What an earlier attempt left, as somebody may look at it who goes ahead.
#[derive(Debug)]
pub struct Sight(OwnedFd);

impl Sight {
    /// Whether a file of this size lies there, by its path below the place.
    pub fn shows(&self, path: &Path, size: u64) -> bool {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found = openat2(&self.0, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).and_then(fstat);
        found.is_ok_and(|found| {
            FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_size.unsigned_abs() == size
        })
    }
}

/// Where a restore goes.
#[derive(Debug)]
pub struct Place {
    /// The directories on the way, each open, the place itself first.
    levels: Vec<OwnedFd>,
    names: Vec<OsString>,
    start: Start,
    /// Where the first name of each file with several names is, by device and inode.
    links: std::cell::RefCell<BTreeMap<(u64, u64), PathBuf>>,
}

impl Place {
    /// Takes a directory that is empty, or makes it; or one where the same restore began. `needed` bytes must be free, with
    /// those that are there already. The record is on disk when this returns.
    pub fn open(directory: &Path, needed: u64, start: Start, record: &Begun) -> Result<Self, Trouble> {
        let shown = directory.display();
        let unusable = |error: &io::Error| Trouble::new(Kind::Target, format!("{shown}: {error}"));
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(|error| unusable(&error))?,
        }
        if start == Start::Fresh && !begun::is_empty(directory).map_err(|error| unusable(&error))? {
            return Err(Trouble::new(Kind::Target, format!("{shown} is not empty")));
        }
        let opened = openat(CWD, directory, DIRECTORY, Mode::empty()).map_err(|error| unusable(&error.into()))?;
        let space = statvfs(directory).map_err(|error| unusable(&error.into()))?;
        let free = space.f_bavail * space.f_frsize;
        let there = if start == Start::Again { used(directory) } else { 0 };
        if free.saturating_add(there) < needed {
            let mebibytes = |bytes: u64| bytes.div_ceil(1024 * 1024);
            let words = format!("{shown} has {} MiB free, and {} are needed", mebibytes(free), mebibytes(needed));
            return Err(Trouble::new(Kind::Target, words));
        }
        if start == Start::Fresh {
            record.write(directory).map_err(|error| unusable(&error))?;
        }
        Ok(Self { levels: vec![opened], names: Vec::new(), start, links: std::cell::RefCell::default() })
    }

    fn top(&self) -> Result<BorrowedFd<'_>, Unrestored> {
        self.levels.first().map(AsFd::as_fd).ok_or_else(|| Unrestored::Lost("it has no directory".to_owned()))
    }

    fn here(&self) -> Result<BorrowedFd<'_>, Unrestored> {
        self.levels.last().map(AsFd::as_fd).ok_or_else(|| Unrestored::Lost("it has no directory".to_owned()))
    }

    /// Makes a directory and goes into it.
    pub fn enter(&mut self, name: &OsStr) -> Result<(), Unrestored> {
        let name = self.plain(name)?;
        match mkdirat(self.here()?, name, Mode::RWXU) {
            Err(Errno::EXIST) if self.start == Start::Again => {}
            made => made?,
        }
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

    /// Makes a file. It has no name of its own before [`Place::settle`].
    pub fn create(&self) -> Result<Unfinished<'_>, Unrestored> {
        let top = self.top()?;
        remove(top, begun::UNFINISHED.as_ref())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(top, begun::UNFINISHED, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Unfinished { place: self, file: file.into(), length: 0, error: None })
    }

    /// Puts the file that was made last aside, so that the next one can be made.
    pub fn set_aside(&self) -> Result<(), Unrestored> {
        let top = self.top()?;
        Ok(renameat(top, begun::UNFINISHED, top, begun::UNPROVEN)?)
    }

    /// Gives the file that goes by a name of ours its own. Nothing is replaced.
    pub fn settle(&self, node: &Node, from: Name) -> Result<(), Unrestored> {
        let (name, top, here) = (node.name(), self.top()?, self.here()?);
        let name = self.plain(&name)?;
        let from = match from {
            Name::Unfinished => begun::UNFINISHED,
            Name::Unproven => begun::UNPROVEN,
        };
        match renameat_with(top, from, here, name, RenameFlags::NOREPLACE) {
            // Not every file system knows how not to replace.
            Err(Errno::INVAL | Errno::NOSYS) => {
                linkat(top, from, here, name, AtFlags::empty())?;
                Ok(remove(top, from.as_ref())?)
            }
            renamed => Ok(renamed?),
        }
    }

    /// What an earlier attempt left; none if there was none.
    pub fn sight(&self) -> Result<Option<Sight>, Trouble> {
        let top = self.levels.first().filter(|_| self.start == Start::Again);
        let sight = top.map(|top| top.try_clone().map(Sight)).transpose();
        sight.map_err(unwritable)
    }

    /// The file of this name, if an earlier attempt left one; anything else of this name is taken away.
    pub fn found(&self, node: &Node) -> Result<Option<File>, Unrestored> {
        if self.start == Start::Fresh {
            return Ok(None);
        }
        let name = node.name();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(self.here()?, self.plain(&name)?, flags, Mode::empty()) {
            Ok(file) if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile => {
                Ok(Some(file.into()))
            }
            Err(Errno::NOENT) => Ok(None),
            Ok(_) | Err(_) => self.clear(node).map(|()| None),
        }
    }

    /// Takes away what an earlier attempt left under this name.
    pub fn clear(&self, node: &Node) -> Result<(), Unrestored> {
        let name = node.name();
        match self.start {
            Start::Fresh => Ok(()),
            Start::Again => Ok(remove(self.here()?, self.plain(&name)?)?),
        }
    }

    /// Gives a file that is whole everything else that it had.
    pub fn dress(&self, file: &File, node: &Node) -> Result<(), Unrestored> {
        dress(file.as_fd(), &node.meta)
    }

    /// Makes another name for a file that was restored already. False if this is its first name.
    pub fn link(&self, node: &Node) -> Result<bool, Unrestored> {
        let Some(identity) = identity(node) else { return Ok(false) };
        let Some(first) = self.links.borrow().get(&identity).cloned() else { return Ok(false) };
        let name = node.name();
        let top = self.top()?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found = openat2(top, &first, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        let found = Path::new("/proc/self/fd").join(found.as_raw_fd().to_string());
        self.clear(node)?;
        linkat(CWD, &found, self.here()?, self.plain(&name)?, AtFlags::SYMLINK_FOLLOW)?;
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
        let (name, here) = (self.plain(&name)?, self.here()?);
        self.clear(node)?;
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
        syncfs(top).map_err(|error| unwritable(error.into()))
    }

    /// The same with what is there now, beside whatever is done next.
    pub fn flush_behind(&self) -> Result<JoinHandle<Result<(), Trouble>>, Trouble> {
        let top = self.levels.first().ok_or_else(|| unwritable(Errno::BADF.into()))?.try_clone().map_err(unwritable)?;
        Ok(std::thread::spawn(move || syncfs(top).map_err(|error| unwritable(error.into()))))
    }

    /// Takes the record away: everything is there. The place itself stands for this node, or for none.
    pub fn end(&self, stands_for: Option<&Node>) -> Result<(), Trouble> {
        let Some(top) = self.levels.first() else { return Ok(()) };
        begun::end(top, stands_for.and_then(|node| times(&node.meta))).map_err(unwritable)
    }

    /// A name that is one, and nothing else: no way up, no way elsewhere.
    fn plain<'name>(&self, name: &'name OsStr) -> Result<&'name OsStr, Unrestored> {
        let bytes = name.as_bytes();
        let is_odd = bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.len() > 255;
        if is_odd || bytes.contains(&b'/') || bytes.contains(&0) {
            return Err(Unrestored::Lost("this cannot be the name of a file".to_owned()));
        }
        if self.names.is_empty() && bytes.starts_with(begun::OURS.as_bytes()) {
            return Err(Unrestored::Lost("the restore itself needs this name here".to_owned()));
        }
        Ok(name)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unwritable(error: io::Error) -> Trouble {
    Trouble::new(Kind::Target, error.to_string())
}

/// Removes a file, if it is there.
fn remove(directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// How many bytes of the disk the files below a directory take; what cannot be seen takes none.
fn used(directory: &Path) -> u64 {
    let mut waiting = vec![directory.to_owned()];
    let mut used = 0;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            match found.is_dir() {
                true => waiting.push(entry.path()),
                false => used += found.blocks() * 512 / found.nlink().max(1),
            }
        }
    }
    used
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Which file it is one name of, if it has several.
pub fn identity(node: &Node) -> Option<(u64, u64)> {
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
