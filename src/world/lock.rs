//! Takes the locks that keep two runs from working at once, and says who holds one. It never waits for a lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::decide::fault::{Code, Fault};
use crate::world::{child, reserve};

/// Held during one run, below `settings.run`.
pub const KEEPER: &str = "lock";
/// Held by `moorline run` for as long as it lives, so that there is only one.
pub const AGENT: &str = "agent.lock";
/// Held by the anchor before it becomes the keeper, and while it watches a trial.
pub const TRIAL: &str = "trial.lock";
/// Held by the courier for as long as it lives, in its own directory.
pub const COURIER: &str = "courier.lock";
/// Held during one backup.
pub const BACKUP: &str = "backup.lock";

/// What a lock file may hold at most.
const LONGEST: u64 = 4096;

/// A lock that is held until this value is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Who holds a lock, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// What it does.
    pub verb: String,
    /// Since when.
    pub since: Timestamp,
}

impl Lock {
    /// Takes a lock, or says who has it.
    pub fn take(path: &Path, verb: &str, since: Timestamp) -> Result<Self, Fault> {
        let mut file = open(path).map_err(|error| unwritable(path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, read(&mut file))),
            Err(TryLockError::Error(error)) => return Err(unwritable(path, &error)),
        }
        let mut lock = Self { file };
        let holder = Holder { pid: std::process::id(), verb: verb.to_owned(), since };
        match lock.sign(&holder) {
            // It is ours, without a name on it: a full `/run` must not keep a run from saying so.
            Err(error) if reserve::is_full(&error) => Ok(lock),
            signed => signed.map(|()| lock).map_err(|error| unwritable(path, &error)),
        }
    }

    fn sign(&mut self, holder: &Holder) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(holder)?;
        line.push(b'\n');
        self.file.set_len(0)?;
        self.file.write_all(&line)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: removing it would let two processes hold "the" lock, each on a file of its own.
        let _ = self.file.set_len(0);
    }
}

/// Who holds a lock at this moment. Only a look: the answer may be old when it arrives, and after a kill it may name
/// a process that is gone, which is why the process table is asked too.
pub fn holder(path: &Path) -> Option<Holder> {
    let mut file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path).ok()?;
    let holder = read(&mut file)?;
    child::lives(holder.pid).then_some(holder)
}

fn open(path: &Path) -> std::io::Result<File> {
    // 0600: whoever may open the file may also lock it, and so keep us from working.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

fn read(file: &mut File) -> Option<Holder> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn held(path: &Path, holder: Option<Holder>) -> Fault {
    let fault = Fault::new(Code::LockHeld, format!("another run holds {}", path.display())).at("nothing was changed");
    match holder {
        Some(Holder { pid, verb, since }) => fault
            .because(format!("pid {pid} runs `{}` since {since:.0}", verb.escape_debug()))
            .hint(format!("wait for it, or look at it with `ps -fp {pid}`")),
        // It has the lock and has not yet written its name.
        None => fault.hint("wait for it and try again"),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(Code::StateUnwritable, format!("the lock {} cannot be taken", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since() -> Timestamp {
        "2026-01-02T03:04:05.678Z".parse().unwrap()
    }

    #[test]
    fn the_second_one_is_told_who_was_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEEPER);
        let _lock = Lock::take(&path, "reconcile", since()).unwrap();
        let fault = Lock::take(&path, "run", since()).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            fault.to_string(),
            format!(
                "error[lock-held]: another run holds {}\n  because: pid {pid} runs `reconcile` since \
                 2026-01-02T03:04:05Z\n  nothing was changed\n\nhint: wait for it, or look at it with `ps -fp {pid}`",
                path.display()
            )
        );
        assert_eq!(fault.code.exit(), 11);
        assert_eq!(holder(&path).map(|holder| holder.verb), Some("reconcile".to_owned()));
    }

    #[test]
    fn a_dropped_lock_is_free_and_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(COURIER);
        drop(Lock::take(&path, "courier", since()).unwrap());
        assert_eq!(holder(&path), None);
        Lock::take(&path, "courier", since()).unwrap();
    }

    #[test]
    fn what_a_killed_run_left_behind_is_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEEPER);
        std::fs::write(&path, r#"{"pid":4294967295,"verb":"run","since":"2026-01-01T00:00:00Z"}"#).unwrap();
        assert_eq!(holder(&path), None);
        let _lock = Lock::take(&path, "run", since()).unwrap();
        assert_eq!(holder(&path).map(|holder| holder.pid), Some(std::process::id()));
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(KEEPER);
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "content").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert_eq!(Lock::take(&path, "run", since()).unwrap_err().code, Code::StateUnwritable);
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "content");
    }
}
