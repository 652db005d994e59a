//! Takes over what the courier fetched. The courier is not trusted: no link of its is followed, and what is hashed is what
//! is written, so that nothing can be changed in between.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::{Arrival, LARGEST, digest, program};
use crate::decide::fault::Fault;
use crate::model::release::Offer;
use crate::world::disk;

/// A directory of the courier's, below the state.
const DOWNLOADS: &str = "downloads";

/// Where the courier puts what it fetched, each under its SHA-256.
pub(super) fn downloads(state: &Path) -> PathBuf {
    state.join(DOWNLOADS)
}

/// Verifies a program and puts it beside the others: whole under its name, or not there at all.
pub(super) fn install(state: &Path, offer: &Offer) -> Result<Arrival, Fault> {
    let (release, installed) = (&offer.release, program(state, &offer.release));
    let unwritable = |error: io::Error| disk::unwritable(&installed, &error);
    match File::open(&installed).and_then(|file| digest(file, io::sink())) {
        Ok(found) if found == release.sha256 => return Ok(Arrival::Installed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // It rotted, or was changed; the courier fetches it only when nothing has its name.
        _ => fs::remove_file(&installed).map_err(unwritable)?,
    }
    let Some(directory) = open(state, DOWNLOADS, OFlags::DIRECTORY).map_err(unwritable)? else {
        return Ok(Arrival::Missing);
    };
    let name = release.sha256.as_str();
    let taken = match open(&directory, name, OFlags::NONBLOCK) {
        Ok(None) => return Ok(Arrival::Missing),
        Ok(Some(file)) => take_over(file, &installed, name).map_err(unwritable)?,
        Err(error) => Taken::Other(error.to_string()),
    };
    // Whatever it was, it has served.
    match unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(unwritable(error.into())),
    }
    Ok(match taken {
        Taken::Whole => Arrival::Installed,
        Taken::Other(because) => Arrival::Wrong(because),
    })
}

enum Taken {
    Whole,
    Other(String),
}

/// Opens something of the courier's, without following a link. A name is one step, so that `openat2`, which the keeper's unit
/// forbids, has nothing to add.
fn open(below: impl Below, name: &str, flags: OFlags) -> io::Result<Option<File>> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match openat(below.directory()?, name, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened.into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A directory to begin from.
trait Below {
    fn directory(&self) -> io::Result<File>;
}

impl Below for &Path {
    fn directory(&self) -> io::Result<File> {
        File::open(self)
    }
}

impl Below for &File {
    fn directory(&self) -> io::Result<File> {
        self.try_clone()
    }
}

/// Size first, then the digest of exactly the bytes that are written.
fn take_over(file: File, installed: &Path, sha256: &str) -> io::Result<Taken> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Taken::Other("it is no file".into()));
    }
    if metadata.len() > LARGEST {
        return Ok(Taken::Other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let directory = installed.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_directories(directory)?;
    let unfinished = installed.with_extension("moorline-new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = match write(&file, &unfinished) {
        Ok(found) if found == sha256 => {
            fs::rename(&unfinished, installed).and_then(|()| disk::sync_directory(installed)).map(|()| Taken::Whole)
        }
        Ok(found) => Ok(Taken::Other(format!("its SHA-256 is {found}"))),
        // It has grown meanwhile.
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Taken::Other(error.to_string())),
        Err(error) => Err(error),
    };
    if !matches!(written, Ok(Taken::Whole)) {
        // What is left over is ours, and of no use.
        let _ = fs::remove_dir_all(directory);
    }
    written
}

fn write(from: &File, to: &Path) -> io::Result<String> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let found = digest(from, &mut file)?;
    // Whoever runs a unit runs it; the umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(0o755))?;
    file.sync_all()?;
    Ok(found)
}

fn make_directories(directory: &Path) -> io::Result<()> {
    let above = directory.parent().ok_or(io::ErrorKind::InvalidInput)?;
    for directory in [above, directory] {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        disk::sync_directory(directory)?;
    }
    Ok(())
}
