//! Turns this process into another version of moorline: same process, same arguments, same environment. systemd sees one
//! service that never ended.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::{agents, program};
use crate::decide::fault::{Code, Fault};
use crate::model::Release;

/// What Linux writes behind the name of a program that was replaced, as by an upgrade of the package.
const DELETED: &[u8] = b" (deleted)";

/// Becomes a version that was verified. Returns only if that is not possible.
pub fn become_release(state: &Path, release: &Release) -> Fault {
    let to = program(state, release);
    let error = become_program(&to, own_program().as_deref().unwrap_or(&to), std::env::args_os().skip(1));
    Fault::new(Code::ReleaseDamaged, format!("moorline {release} cannot be started"))
        .because(format!("{}: {error}", to.display()))
        .at("the package's program goes on")
        .hint("the file system of the state needs to be mounted without `noexec`")
}

/// Becomes the package's program, which looks anew who is to run. Returns only if that is not possible.
pub fn become_package(state: &Path) -> Fault {
    let package = package(state);
    let error = become_program(&package, &package, std::env::args_os().skip(1));
    Fault::new(Code::ReleaseDamaged, "the package's program cannot be started")
        .because(format!("{}: {error}", package.display()))
        .hint("apt-get install --reinstall moorline")
}

/// Becomes a version on trial, which dies with the process that watches it. Returns only if that is not possible.
pub fn become_trial(watcher: u32, to: &Path, arguments: &[OsString]) -> Fault {
    let unfit = |error: &dyn std::error::Error| {
        Fault::new(Code::ReleaseRefused, format!("{} cannot be started", to.display())).caused_by(error)
    };
    let [name, arguments @ ..] = arguments else { return unfit(&io::Error::from(io::ErrorKind::InvalidInput)) };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return unfit(&error);
    }
    // It may have died before it was asked for.
    if getppid().map(Pid::as_raw_nonzero).map(std::num::NonZero::get) != i32::try_from(watcher).ok() {
        return unfit(&io::Error::other("nobody watches"));
    }
    unfit(&become_program(to, Path::new(name), arguments.iter().cloned()))
}

#[allow(clippy::disallowed_methods, reason = "no child: this process itself goes on as another program")]
fn become_program(to: &Path, name: &Path, arguments: impl Iterator<Item = OsString>) -> io::Error {
    Command::new(to).arg0(name).args(arguments).exec()
}

/// The directory of the version that this process is; none if it is the package's program.
pub(super) fn own_directory(state: &Path) -> Option<String> {
    let own = own_program()?;
    let agents = fs::canonicalize(agents(state)).ok()?;
    Some(own.strip_prefix(agents).ok()?.iter().next()?.to_str()?.to_owned())
}

/// The package's program: what this process is, or what it came from and is still called after.
pub(super) fn package(state: &Path) -> PathBuf {
    // The name that the package's program gave to this one; never one of these again.
    let is_fit = |path: &PathBuf| path.is_absolute() && !path.starts_with(agents(state));
    let called = std::env::args_os().next().map(PathBuf::from).filter(is_fit);
    match (own_directory(state), own_program()) {
        (None, Some(own)) => own,
        _ => called.unwrap_or_else(|| PathBuf::from("/usr/bin/moorline")),
    }
}

/// The file of this program.
fn own_program() -> Option<PathBuf> {
    let path = fs::read_link("/proc/self/exe").ok()?;
    let bytes = path.as_os_str().as_bytes();
    let there = bytes.strip_suffix(DELETED).unwrap_or(bytes);
    Some(PathBuf::from(OsString::from_vec(OsStr::from_bytes(there).as_bytes().to_vec())))
}
