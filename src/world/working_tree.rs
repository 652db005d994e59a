//! The files of an operator's checkout, as they are edited for one purpose: all of it is done, or nothing. Nothing is
//! committed, and nothing is staged unless that was asked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::Repository;

use crate::decide::fault::{Code, Fault};
use crate::decide::onboarding::{Directory, Edit};
use crate::world::disk;

/// The working tree of a repository.
pub struct WorkingTree {
    repository: Repository,
    root: PathBuf,
}

/// What the index is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staging {
    /// Nothing.
    Leave,
    /// Every file that was written or removed.
    Stage,
}

impl WorkingTree {
    /// The working tree around `path`.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let none = |because: String| {
            Fault::new(Code::UsageInvalid, format!("{} is not in a checkout", path.display()))
                .because(because)
                .hint("run it in a checkout of the fleet repository, or name one: `--dir PATH`")
        };
        let repository = Repository::discover(path).map_err(|error| none(error.message().to_owned()))?;
        let root = repository.workdir().ok_or_else(|| none("the repository is bare".into()))?.to_owned();
        Ok(Self { repository, root })
    }

    /// Its uppermost directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Carries an edit out. When it fails, everything is as it was. A kill in the middle leaves what the same call accepts
    /// when it is made again: single files are written before a directory comes, and after one went.
    pub fn carry_out(&self, edit: &Edit, staging: Staging) -> Result<(), Fault> {
        let scratch = self.repository.path().join(format!("moorline-{}", std::process::id()));
        let done = self.edit(edit, &scratch);
        // Empty, or what was removed, or what could not be put in place.
        let _ = fs::remove_dir_all(&scratch);
        done?;
        match staging {
            Staging::Leave => Ok(()),
            Staging::Stage => self.stage(edit).map_err(|error| {
                Fault::new(Code::StateUnwritable, "the files are written, but they cannot be staged")
                    .because(error.message().to_owned())
                    .hint("git add --all -- .sops.yaml hosts")
            }),
        }
    }

    fn edit(&self, edit: &Edit, scratch: &Path) -> Result<(), Fault> {
        let unwritten = |path: &Path, error: &io::Error| {
            Fault::new(Code::StateUnwritable, format!("{} cannot be written", path.display()))
                .caused_by(error)
                .at("nothing was changed")
        };
        fs::create_dir(scratch).map_err(|error| unwritten(scratch, &error))?;
        let gone = scratch.join("gone");
        match &edit.directory {
            Some(Directory::Comes { files, .. }) => {
                let made = scratch.join("made");
                let write = |(name, bytes): &(String, Vec<u8>)| disk::write(&made.join(name), bytes, 0o644);
                fs::create_dir(&made)
                    .and_then(|()| files.iter().try_for_each(write))
                    .map_err(|error| unwritten(&made, &error))?;
            }
            Some(Directory::Goes { path }) => {
                let path = self.root.join(path);
                fs::rename(&path, &gone).map_err(|error| unwritten(&path, &error))?;
            }
            None => {}
        }
        let mut before: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        let written = edit.write.iter().try_for_each(|(path, bytes)| {
            let path = self.root.join(path);
            let failed = |error: io::Error| (path.clone(), error);
            let old = match disk::is_missing(&path) {
                true => None,
                false => Some(fs::read(&path).map_err(failed)?),
            };
            disk::write(&path, bytes, 0o644).map_err(failed)?;
            before.push((path.clone(), old));
            Ok(())
        });
        let placed = written.and_then(|()| match &edit.directory {
            Some(Directory::Comes { path, .. }) => {
                let place = self.root.join(path);
                put_in_place(&scratch.join("made"), &place).map_err(|error| (place, error))
            }
            _ => Ok(()),
        });
        placed.map_err(|(path, error)| {
            for (path, old) in before {
                // Whoever could write a moment ago mostly can write again; what fails is named by git.
                let _ = match old {
                    Some(bytes) => disk::write(&path, &bytes, 0o644),
                    None => fs::remove_file(&path),
                };
            }
            if let Some(Directory::Goes { path }) = &edit.directory {
                let _ = fs::rename(&gone, self.root.join(path));
            }
            unwritten(&path, &error)
        })
    }

    fn stage(&self, edit: &Edit) -> Result<(), git2::Error> {
        let mut index = self.repository.index()?;
        for (path, _) in &edit.write {
            index.add_path(Path::new(path))?;
        }
        match &edit.directory {
            Some(Directory::Comes { path, files }) => {
                for (name, _) in files {
                    index.add_path(&Path::new(path).join(name))?;
                }
            }
            Some(Directory::Goes { path }) => index.remove_dir(Path::new(path), 0)?,
            None => {}
        }
        index.write()
    }
}

/// A directory of this name that came meanwhile is not replaced.
fn put_in_place(made: &Path, place: &Path) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    rustix::fs::renameat_with(rustix::fs::CWD, made, rustix::fs::CWD, place, rustix::fs::RenameFlags::NOREPLACE)?;
    disk::sync_directory(place)
}
