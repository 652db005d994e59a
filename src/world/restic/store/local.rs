//! A backup repository in a directory of this host.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::super::trouble::{Kind, Trouble};
use super::pace::Pace;
use super::{Entry, LARGEST, Part, Store, UNFINISHED};
use crate::world::disk;

/// How much is written at a time, between two looks at how fast it may go.
const PIECE: usize = 256 * 1024;

/// The directory.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
    pace: Arc<Pace>,
}

impl Local {
    /// Nothing is touched yet.
    pub fn new(root: PathBuf, pace: Arc<Pace>) -> Self {
        Self { root, pace }
    }

    fn place(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

fn trouble(path: &Path) -> impl Fn(io::Error) -> Trouble + '_ {
    |error| Trouble::io(path.display(), &error)
}

impl Store for Local {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, directories: &[String]) -> Result<Vec<Entry>, Trouble> {
        let mut entries = Vec::new();
        for directory in directories {
            let directory = self.place(directory);
            for entry in fs::read_dir(&directory).map_err(trouble(&directory))? {
                let entry = entry.map_err(trouble(&directory))?;
                let path = entry.path();
                let metadata = match fs::symlink_metadata(&path) {
                    Ok(metadata) => metadata,
                    // Removed since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Trouble::io(path.display(), &error)),
                };
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(Entry { name, is_directory: metadata.is_dir(), size: metadata.len() });
            }
        }
        Ok(entries)
    }

    fn size(&self, path: &str) -> Result<Option<u64>, Trouble> {
        let path = self.place(path);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Trouble::io(path.display(), &error)),
        }
    }

    fn read(&self, path: &str, part: Option<Part>) -> Result<Bytes, Trouble> {
        let path = self.place(path);
        let mut file = File::open(&path).map_err(trouble(&path))?;
        let mut bytes = Vec::new();
        let Some(part) = part else {
            self.pace.download(file.metadata().map_or(0, |metadata| metadata.len()));
            file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(trouble(&path))?;
            if bytes.len() as u64 > LARGEST {
                return Err(Trouble::new(Kind::Damaged, format!("{} is too large", path.display())));
            }
            return Ok(bytes.into());
        };
        self.pace.download(part.length.into());
        file.seek(SeekFrom::Start(part.offset)).map_err(trouble(&path))?;
        file.take(part.length.into()).read_to_end(&mut bytes).map_err(trouble(&path))?;
        if bytes.len() != part.length as usize {
            return Err(Trouble::new(Kind::Damaged, format!("{} is cut off", path.display())));
        }
        Ok(bytes.into())
    }

    fn write(&self, path: &str, content: &[Bytes]) -> Result<(), Trouble> {
        let place = self.place(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        let unfinished = self.root.join(UNFINISHED).join(name);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
            for piece in content.iter().flat_map(|bytes| bytes.chunks(PIECE)) {
                self.pace.upload(piece.len() as u64);
                file.write_all(piece)?;
            }
            file.sync_all()?;
            fs::rename(&unfinished, &place)?;
            disk::sync_directory(&place)
        };
        write().map_err(|error| {
            // What is left is cleared by the next job too.
            let _ = fs::remove_file(&unfinished);
            Trouble::io(place.display(), &error)
        })
    }

    fn remove(&self, path: &str) -> Result<(), Trouble> {
        let path = self.place(path);
        fs::remove_file(&path).map_err(trouble(&path))
    }

    fn make_directories(&self, paths: &[String]) -> Result<(), Trouble> {
        paths
            .iter()
            .map(|path| self.place(path))
            .try_for_each(|path| DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(trouble(&path)))
    }

    fn free(&self) -> Result<Option<u64>, Trouble> {
        Ok(disk::free_bytes(&self.root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Local) {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path().join("box"), Arc::default());
        local.make_directories(&[String::new(), UNFINISHED.into(), "keys".into()]).unwrap();
        (directory, local)
    }

    #[test]
    fn what_was_written_can_be_listed_read_and_removed() {
        let (_directory, local) = store();
        local.write("keys/a", &[Bytes::from_static(b"one"), Bytes::from_static(b"two")]).unwrap();
        let entry = Entry { name: "a".into(), is_directory: false, size: 6 };
        assert_eq!(local.list(&["keys".into()]).unwrap(), [entry]);
        assert_eq!(local.read("keys/a", None).unwrap(), "onetwo");
        assert_eq!(local.read("keys/a", Some(Part { offset: 2, length: 3 })).unwrap(), "etw");
        assert!(local.list(&[UNFINISHED.into()]).unwrap().is_empty());
        local.remove("keys/a").unwrap();
        assert_eq!(local.size("keys/a").unwrap(), None);
    }

    #[test]
    fn what_is_missing_or_cut_off_is_an_error_and_never_empty() {
        let (_directory, local) = store();
        assert_eq!(local.list(&["snapshots".into()]).unwrap_err().kind, Kind::Gone);
        assert_eq!(local.read("keys/a", None).unwrap_err().kind, Kind::Gone);
        local.write("keys/a", &[Bytes::from_static(b"one")]).unwrap();
        assert_eq!(local.read("keys/a", Some(Part { offset: 2, length: 3 })).unwrap_err().kind, Kind::Damaged);
    }
}
