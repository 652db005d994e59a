//! Keeps the programs of other versions of moorline beside the package's, and `agent.json`: who runs, and who is to follow.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::decide::fault::{Code, Fault};
use crate::decide::succession::Verdict;
use crate::model::release::{Offer, Release, Succession, VERSION};
use crate::world::{Real, World, disk, lock, reserve};

mod arrive;
mod fetch;
mod hand_over;
mod watch;

pub use hand_over::{become_package, become_release, become_trial};

/// A record is a few hundred bytes.
const LARGEST_RECORD: u64 = 64 * 1024;
/// A program is some ten MiB; one with everything for debuggers some hundred.
pub(super) const LARGEST: u64 = 512 * 1024 * 1024;
/// How much of a program is read at once.
pub(super) const PIECE: usize = 256 * 1024;
/// The name of every program, in a directory of its version.
const PROGRAM: &str = "moorline";

/// What became of a program that should have arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// It has not come yet.
    Missing,
    /// Something else came, and was removed.
    Wrong(String),
    /// It is what the repository says, and stands beside the others.
    Installed,
}

/// Other versions of moorline: a part of [`World`].
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Releases {
    /// The record; empty when there is none, a fault when it cannot be believed.
    fn succession(&self) -> Result<Succession, Fault>;
    /// Writes the record, on disk when this returns.
    fn keep_succession(&self, next: &Succession) -> Result<(), Fault>;
    /// Writes a record in the place of one that cannot be believed, which is kept beside it.
    fn begin_succession_anew(&self, next: &Succession) -> Result<(), Fault>;
    /// The directory of the version that this process is; none if it is the package's program.
    fn own_release(&self) -> Option<String>;
    /// The version of this program.
    fn own_version(&self) -> String;
    /// The boot that this host is in; empty if that is not known.
    fn boot(&self) -> String;
    /// Whether a backup is being made: it would be ended with the process that began it.
    fn backup_is_on(&self) -> bool;
    /// Whether the program of a version is still what it was when it came.
    fn verify_release(&self, release: &Release) -> Result<(), Fault>;
    /// Whether something lies there that should be this program, verified or not.
    fn has_arrived(&self, offer: &Offer) -> bool;
    /// Fetches a program. Nobody has verified it when this returns.
    async fn fetch_release(&self, offer: &Offer) -> Result<(), Fault>;
    /// Verifies what the courier fetched, and puts it beside the other versions.
    fn install_release(&self, offer: &Offer) -> Result<Arrival, Fault>;
    /// Removes the programs of versions that are not needed.
    fn forget_releases(&self, needed: &[&Release]) -> Result<(), Fault>;
    /// Lets a version be the keeper until it has finished a run or its time is over, and ends it.
    async fn try_release(&self, release: &Release) -> Verdict;
}

impl Releases for Real {
    fn succession(&self) -> Result<Succession, Fault> {
        let path = record(&self.settings().state);
        match disk::read(&path, LARGEST_RECORD) {
            Ok(bytes) => {
                let state: Succession = serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &error))?;
                match state.version {
                    VERSION => Ok(state),
                    other => Err(damaged(&path, &io::Error::other(format!("its form is version {other}")))),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Succession::default()),
            Err(error) => Err(damaged(&path, &error)),
        }
    }

    fn keep_succession(&self, next: &Succession) -> Result<(), Fault> {
        let path = record(&self.settings().state);
        let unwritable = |error: &io::Error| disk::unwritable(&path, error);
        let bytes = serde_json::to_vec_pretty(next).map_err(|error| unwritable(&error.into()))?;
        // The courier reads it, too.
        reserve::spend(&self.settings().state, || disk::write(&path, &bytes, 0o644)).map_err(|error| unwritable(&error))
    }

    fn begin_succession_anew(&self, next: &Succession) -> Result<(), Fault> {
        let path = record(&self.settings().state);
        let aside = path.with_extension("json.damaged");
        fs::copy(&path, &aside).map_err(|error| disk::unwritable(&aside, &error))?;
        self.keep_succession(next)
    }

    fn own_release(&self) -> Option<String> {
        hand_over::own_directory(&self.settings().state)
    }

    fn own_version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn boot(&self) -> String {
        // In memory, so that it goes with the boot; the kernel's own word for it is hidden from a hardened service.
        let path = self.settings().run.join("boot");
        if let Ok(Ok(known)) = disk::read(&path, LARGEST_RECORD).map(String::from_utf8) {
            return known;
        }
        let new = format!("{}-{}", self.now(), std::process::id());
        match disk::write(&path, new.as_bytes(), 0o600) {
            Ok(()) => new,
            Err(_) => String::new(),
        }
    }

    fn backup_is_on(&self) -> bool {
        lock::holder(&self.settings().run.join(lock::BACKUP)).is_some()
    }

    fn verify_release(&self, release: &Release) -> Result<(), Fault> {
        let path = program(&self.settings().state, release);
        let found = File::open(&path).and_then(|file| digest(file, io::sink()));
        match found {
            Ok(found) if found == release.sha256 => Ok(()),
            Ok(found) => Err(changed(release).because(format!("the SHA-256 of {} is {found}", path.display()))),
            Err(error) => Err(changed(release).because(format!("{}: {error}", path.display()))),
        }
    }

    fn has_arrived(&self, offer: &Offer) -> bool {
        let state = &self.settings().state;
        arrive::downloads(state).join(&offer.release.sha256).exists() || program(state, &offer.release).exists()
    }

    async fn fetch_release(&self, offer: &Offer) -> Result<(), Fault> {
        fetch::fetch(&arrive::downloads(&self.settings().state), offer).await
    }

    fn install_release(&self, offer: &Offer) -> Result<Arrival, Fault> {
        arrive::install(&self.settings().state, offer)
    }

    fn forget_releases(&self, needed: &[&Release]) -> Result<(), Fault> {
        let directory = agents(&self.settings().state);
        let needed: BTreeSet<String> = needed.iter().map(|release| release.directory()).collect();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| disk::unwritable(&directory, &error))?,
        };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
                fs::remove_dir_all(entry.path()).map_err(|error| disk::unwritable(&entry.path(), &error))?;
            }
        }
        Ok(())
    }

    async fn try_release(&self, release: &Release) -> Verdict {
        watch::try_release(self, &program(&self.settings().state, release)).await
    }
}

/// Copies a program and returns its SHA-256, in hexadecimal digits.
fn digest(from: impl Read, mut to: impl io::Write) -> io::Result<String> {
    let mut from = from.take(LARGEST + 1);
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        size += read as u64;
        if size > LARGEST {
            let large = format!("it is larger than {} MiB", LARGEST >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, large));
        }
        hash.update(&piece[..read]);
        to.write_all(&piece[..read])?;
    }
    Ok(hex::encode(hash.finalize()))
}

fn record(state: &Path) -> PathBuf {
    state.join("agent.json")
}

/// Where the versions stand, each in a directory of its own.
fn agents(state: &Path) -> PathBuf {
    state.join("agents")
}

fn program(state: &Path, release: &Release) -> PathBuf {
    agents(state).join(release.directory()).join(PROGRAM)
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::new(Code::ReleaseDamaged, format!("{} cannot be read", path.display()))
        .caused_by(error)
        .at("the package's program goes on")
}

fn changed(release: &Release) -> Fault {
    Fault::new(Code::ReleaseDamaged, format!("the program of moorline {release} is not what it was"))
        .at("the package's program goes on")
}

#[cfg(test)]
mod tests;
