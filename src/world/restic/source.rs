//! Reads what goes into a snapshot, from open directories and never through a link, and counts what cannot be read:
//! rustic leaves such files out and says nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustic_core::repofile::Node;
use rustic_core::{ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::job::Voice;
use super::nodes;
use super::order::{Line, Losses, Progress, Source, Turn};
use super::trouble::{Kind, Trouble};

/// What was noticed while reading.
#[derive(Debug, Default)]
pub struct Counts {
    seen: Mutex<Seen>,
}

/// The counts themselves.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// How far it is.
    pub progress: Progress,
    /// Files that went away between being listed and being read.
    pub vanished: u64,
    /// Files that are there and cannot be read.
    pub unreadable: Losses,
}

impl Counts {
    /// What was noticed so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// Adds bytes that were read; how far it is now.
    pub fn add(&self, bytes: u64) -> Progress {
        let mut seen = self.lock();
        seen.progress.bytes += bytes;
        seen.progress
    }

    /// One more file.
    pub fn add_file(&self) {
        self.lock().progress.files += 1;
    }

    /// Forgets what was noticed: all files are read again.
    pub fn begin_again(&self) {
        *self.lock() = Seen::default();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn missed(&self, path: &Path, error: &io::Error) {
        let mut seen = self.lock();
        match error.kind() {
            io::ErrorKind::NotFound => seen.vanished += 1,
            _ => seen.unreadable.add(path.display(), error),
        }
    }
}

/// What goes into a snapshot.
pub struct Reading {
    roots: Vec<Root>,
    excludes: Gitignore,
    counts: Arc<Counts>,
    ending: Mutex<Option<Ending>>,
}

/// Says that all has been read, once nobody reads any more. What was read is written for a while longer.
pub struct Ending {
    voice: Arc<Voice>,
}

impl Ending {
    /// Says it there.
    pub fn new(voice: Arc<Voice>) -> Self {
        Self { voice }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Whoever does not hear it hears the end of the job.
        let _ = self.voice.say(&Line::Turn(Turn::GoOn));
    }
}

/// One source, opened. It stays the same, whatever its path leads to later.
#[derive(Clone)]
struct Root {
    directory: Arc<OwnedFd>,
    name: OsString,
    to: PathBuf,
    from: PathBuf,
}

impl Reading {
    /// Opens every source. One that is not there fails the job: an empty snapshot of it would pass for a good one.
    pub fn open(sources: &[Source], excludes: &[String], counts: &Arc<Counts>) -> Result<Self, Trouble> {
        let mut sources: Vec<&Source> = sources.iter().collect();
        // rustic wants the tree in order.
        sources.sort_by(|one, two| one.to.cmp(&two.to));
        let roots = sources.into_iter().map(open_root).collect::<Result<_, _>>()?;
        let mut patterns = GitignoreBuilder::new("/");
        for pattern in excludes {
            patterns
                .add_line(None, pattern)
                .map_err(|error| Trouble::new(Kind::Source, format!("the exclude `{pattern}`: {error}")))?;
        }
        let excludes = patterns.build().map_err(|error| Trouble::new(Kind::Source, error.to_string()))?;
        Ok(Self { roots, excludes, counts: counts.clone(), ending: Mutex::default() })
    }

    /// Says so when what is read next has been read.
    pub fn end_with(&self, ending: Ending) {
        *self.ending.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(ending);
    }
}

fn open_root(source: &Source) -> Result<Root, Trouble> {
    let trouble =
        |error: Errno| Trouble::new(Kind::Source, format!("{}: {}", source.from.display(), io::Error::from(error)));
    let path = source.below.as_os_str();
    let base = open_directory(CWD, source.from.as_os_str()).map_err(trouble)?;
    if path.is_empty() {
        let name = OsString::new();
        return Ok(Root { directory: Arc::new(base), name, to: source.to.clone(), from: source.from.clone() });
    }
    let from = source.from.join(&source.below);
    let trouble = |error: Errno| Trouble::new(Kind::Source, format!("{}: {}", from.display(), io::Error::from(error)));
    let (above, name) = (source.below.parent().unwrap_or(Path::new("")), source.below.file_name().unwrap_or_default());
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    let directory = rustix::fs::openat2(&base, above, DIRECTORY, Mode::empty(), resolve).map_err(trouble)?;
    statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(trouble)?;
    Ok(Root { directory: Arc::new(directory), name: name.to_owned(), to: source.to.clone(), from })
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_directory(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    openat(at, name, DIRECTORY, Mode::empty())
}

impl ReadSource for Reading {
    type Open = OpenLater;
    type Iter = Walk;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Walk {
        let mut roots = self.roots.clone();
        roots.reverse();
        let ending = self.ending.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take().map(Arc::new);
        Walk { roots, levels: Vec::new(), excludes: self.excludes.clone(), counts: self.counts.clone(), ending }
    }
}

/// Walks through the sources, each directory before what is in it, names in order.
pub struct Walk {
    roots: Vec<Root>,
    levels: Vec<Level>,
    excludes: Gitignore,
    counts: Arc<Counts>,
    ending: Option<Arc<Ending>>,
}

/// A directory that is being walked through.
struct Level {
    directory: Arc<OwnedFd>,
    /// Last one first.
    names: Vec<OsString>,
    /// Below the source, for the excludes.
    below: PathBuf,
    to: PathBuf,
    from: PathBuf,
}

impl Walk {
    /// What has this name in an open directory; none when it is left out or cannot be read.
    fn entry(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: &OsStr,
        (below, to, from): (PathBuf, PathBuf, PathBuf),
    ) -> Option<ReadSourceEntry<OpenLater>> {
        let looked = self.look(directory, name, &below);
        let (stat, node_name) = match looked {
            Ok(Some(stat)) => (stat, to.file_name().unwrap_or_default().to_owned()),
            Ok(None) => return None,
            Err(error) => {
                self.counts.missed(&from, &error.into());
                return None;
            }
        };
        let target =
            || readlinkat(&**directory, name, Vec::new()).map(|target| OsStr::from_bytes(target.as_bytes()).into());
        let node = nodes::kind(&stat, target).and_then(|kind| {
            let attributes = nodes::attributes(directory, name)?;
            Ok(Node::new_node(&node_name, kind, nodes::metadata(&stat, &attributes)))
        });
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                self.counts.missed(&from, &error.into());
                return None;
            }
        };
        let open = OpenLater {
            directory: directory.clone(),
            name: name.into(),
            from: from.clone(),
            counts: self.counts.clone(),
            ending: self.ending.clone(),
        };
        if node.is_dir() {
            self.descend(
                directory,
                name,
                Level { directory: directory.clone(), names: Vec::new(), below, to: to.clone(), from },
            );
        } else {
            self.counts.lock().progress.files += 1;
        }
        Some(ReadSourceEntry { path: to, node, open: Some(open) })
    }

    fn look(&self, directory: &OwnedFd, name: &OsStr, below: &Path) -> Result<Option<Stat>, Errno> {
        let stat =
            if name.is_empty() { fstat(directory)? } else { statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)? };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let is_excluded =
            !below.as_os_str().is_empty() && matches!(self.excludes.matched(below, is_directory), Match::Ignore(_));
        Ok((!is_excluded).then_some(stat))
    }

    fn descend(&mut self, directory: &OwnedFd, name: &OsStr, mut level: Level) {
        let name = if name.is_empty() { OsStr::new(".") } else { name };
        let read = || -> Result<_, Errno> {
            let opened = openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
            let mut names = Vec::new();
            for entry in Dir::read_from(&opened)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsStr::from_bytes(name).to_owned());
                }
            }
            names.sort_unstable_by(|one, two| two.cmp(one));
            Ok((opened, names))
        };
        match read() {
            Ok((opened, names)) => {
                level.directory = Arc::new(opened);
                level.names = names;
                self.levels.push(level);
            }
            Err(error) => self.counts.missed(&level.from, &error.into()),
        }
    }

    fn advance(&mut self) -> Option<ReadSourceEntry<OpenLater>> {
        loop {
            let Some(level) = self.levels.last_mut() else {
                let root = self.roots.pop()?;
                let paths = (PathBuf::new(), root.to.clone(), root.from.clone());
                match self.entry(&root.directory, &root.name, paths) {
                    Some(entry) => return Some(entry),
                    None => continue,
                }
            };
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let directory = level.directory.clone();
            let paths = (level.below.join(&name), level.to.join(&name), level.from.join(&name));
            if let Some(entry) = self.entry(&directory, &name, paths) {
                return Some(entry);
            }
        }
    }
}

impl Iterator for Walk {
    type Item = RusticResult<ReadSourceEntry<OpenLater>>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_none() {
            self.ending = None;
        }
        next.map(Ok)
    }
}

/// A file that is opened when its content is needed.
pub struct OpenLater {
    directory: Arc<OwnedFd>,
    name: OsString,
    from: PathBuf,
    counts: Arc<Counts>,
    ending: Option<Arc<Ending>>,
}

impl ReadSourceOpen for OpenLater {
    type Reader = Content;

    fn open(self) -> RusticResult<Content> {
        // What was a file may be a pipe by now, which nobody writes into, or a link to anywhere.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = openat(&*self.directory, &self.name, flags, Mode::empty()).and_then(|file| {
            let is_file = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile;
            // It is not what was listed; that went away.
            if is_file { Ok(file) } else { Err(Errno::NOENT) }
        });
        match opened {
            Ok(file) => Ok(Content { file: file.into(), from: self.from, counts: self.counts, _ending: self.ending }),
            Err(error) => {
                // A link where a file was is another way of having gone away.
                let error = if error == Errno::LOOP { Errno::NOENT } else { error };
                self.counts.missed(&self.from, &error.into());
                Err(RusticError::new(ErrorKind::InputOutput, "a file could not be opened"))
            }
        }
    }
}

/// The content of a file.
pub struct Content {
    file: File,
    from: PathBuf,
    counts: Arc<Counts>,
    _ending: Option<Arc<Ending>>,
}

impl Read for Content {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.file.read(space).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.counts.missed(&self.from, error);
            }
        })
    }
}
