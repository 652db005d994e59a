//! Tells one life of the engine from the next: the host was booted, or the engine was restarted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A word that is another one after each start of the host or of the engine behind `socket`. Empty if nothing is known.
///
/// The engine does not say when it was started. It writes its number beside its socket (`/run/docker.pid`), once at each
/// start, so also after a boot; the process itself is hidden from a hardened unit. Where there is no such file, only a boot
/// is noticed, and not by such a unit.
pub fn of(socket: &Path) -> String {
    let boot = || fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    written(&socket.with_extension("pid")).unwrap_or_else(boot)
}

/// When a file was written, to the nanosecond.
fn written(file: &Path) -> Option<String> {
    let found = fs::metadata(file).ok()?;
    Some(format!("{}.{:09}", found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_was_started_again_lives_another_life() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let file = directory.path().join("docker.pid");
        fs::write(&file, "12").unwrap();
        let first = of(&socket);
        assert_eq!(first, of(&socket));
        let later = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1);
        fs::File::open(&file).unwrap().set_modified(later).unwrap();
        assert_ne!(first, of(&socket));
    }
}
