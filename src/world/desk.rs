//! A place to work for a verb that runs on somebody's desk and not on a host: a private directory in memory, for as long as
//! the verb takes. There is no agent.toml, no engine, no state and no root.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::decide::fault::{Code, Fault};
use crate::model::Secret;
use crate::model::settings::{MemoryPolicy, Settings};
use crate::world::{child, disk};

/// The beginning of its name; the number of the process follows.
const NAME: &str = "moorline-";
/// A private key is a few kilobytes.
const LARGEST_KEY: u64 = 64 * 1024;

/// The place. Dropping it removes it.
#[derive(Debug)]
pub struct Desk {
    directory: PathBuf,
}

impl Desk {
    /// Makes it, in the memory that the system gives to a login, or to everybody.
    #[allow(clippy::disallowed_methods, reason = "the login knows where its memory is, and nobody else")]
    pub fn open() -> Result<Self, Fault> {
        let memory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        let memory = memory.unwrap_or_else(|| PathBuf::from("/dev/shm"));
        sweep(&memory);
        let directory = memory.join(format!("{NAME}{}", std::process::id()));
        let make = || {
            DirBuilder::new().mode(0o700).create(&directory)?;
            DirBuilder::new().mode(0o700).create(directory.join("backup"))
        };
        make().map_err(|error| {
            Fault::new(Code::MemoryUnsafe, format!("{} cannot be made", directory.display()))
                .caused_by(&error)
                .hint("set XDG_RUNTIME_DIR to a directory in memory that is yours")
        })?;
        Ok(Self { directory })
    }

    /// The settings of a world that works here for `host`, with the key file of whoever sits at it.
    pub fn settings(&self, host: &str, age_key: &Path) -> Settings {
        let here = |name: &str| self.directory.join(name);
        Settings {
            host: host.to_owned(),
            remote: String::new(),
            branch: String::new(),
            first: None,
            poll: Duration::ZERO,
            interval: Duration::ZERO,
            deploy_key: None,
            known_hosts: here("known_hosts"),
            token_file: None,
            allowed_signers: here("allowed_signers"),
            age_key: age_key.to_owned(),
            socket: here("no-engine"),
            compose: None,
            pull_timeout: Duration::ZERO,
            status: None,
            timer: None,
            state: self.directory.clone(),
            run: self.directory.clone(),
            memory: MemoryPolicy::AllowTmpfs,
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // It is memory, and the next one clears what is left.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Removes what processes left that were killed.
fn sweep(memory: &Path) {
    let is_dead = |name: &str| {
        let process =
            name.strip_prefix(NAME).filter(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
        process.and_then(|process| process.parse().ok()).is_some_and(|process| !child::lives(process))
    };
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        let is_ours = entry.metadata().is_ok_and(|entry| entry.uid() == rustix::process::geteuid().as_raw());
        if is_ours && entry.file_name().to_str().is_some_and(is_dead) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Reads a private key that somebody names.
pub fn private_key(path: &Path) -> Result<Secret<String>, Fault> {
    let bytes = disk::read_private(path, LARGEST_KEY).map_err(|error| {
        Fault::new(Code::UsageInvalid, format!("the key {} cannot be used", path.display()))
            .caused_by(&error)
            .hint(format!("`chmod 0600 {}`; it needs to be a file of yours", path.display()))
    })?;
    Ok(Secret::new(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_desk_is_private_and_leaves_nothing() {
        let desk = Desk::open().unwrap();
        let directory = desk.directory.clone();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o700);
        let dead = directory.with_file_name(format!("{NAME}4294967295"));
        fs::create_dir_all(&dead).unwrap();
        sweep(directory.parent().unwrap());
        assert!(directory.exists() && !dead.exists());
        drop(desk);
        assert!(!directory.exists());
    }
}
