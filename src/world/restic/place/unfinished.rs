//! A file while it is written: it has no name that anybody looks at, and runs of zeros become holes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustic_core::repofile::Node;
use rustix::fs::{Advice, fadvise};

use super::{Place, Unrestored, begun, dress, remove};

/// A run of zeros of this length becomes a hole: the size of a block of most file systems.
const HOLE: usize = 4096;
/// Files of this size are read back from the disk and not from memory.
const LARGE: u64 = 1024 * 1024;

/// A file that is being written. Runs of zeros become holes.
#[derive(Debug)]
pub struct Unfinished<'place> {
    pub(super) place: &'place Place,
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) error: Option<io::Error>,
}

impl Unfinished<'_> {
    /// Gives it its length and everything else it had.
    pub fn finish(self, node: &Node) -> Result<Written, Unrestored> {
        self.file.set_len(self.length)?;
        dress(self.file.as_fd(), &node.meta)?;
        Ok(Written { file: self.file, length: self.length })
    }

    /// Removes it, for its room. The reason why it could not be written, if it is not the repository's.
    pub fn abandon(self) -> Option<Unrestored> {
        if let Ok(top) = self.place.top() {
            let _ = remove(top, begun::UNFINISHED.as_ref());
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

/// A file that is written and dressed.
#[derive(Debug)]
pub struct Written {
    file: File,
    length: u64,
}

impl Written {
    /// How long it is.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is read back from the disk, which takes its time, and not from memory.
    pub fn is_large(&self) -> bool {
        self.length >= LARGE
    }

    /// Reads it from its beginning.
    pub fn read_back(mut self) -> Result<impl Read + use<>, Unrestored> {
        if self.is_large() {
            self.file.sync_data()?;
            fadvise(&self.file, 0, None, Advice::DontNeed)?;
        }
        self.file.seek(SeekFrom::Start(0))?;
        Ok(io::BufReader::with_capacity(128 * 1024, self.file))
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
