//! Tells one life of the engine from the next: the host was booted, or the engine was restarted.

use std::fs;
use std::path::Path;

/// A word that is another one after each start of the host or of the engine behind `socket`. Empty if nothing is known.
///
/// The engine does not say when it was started. It leaves its number beside its socket (`/run/docker.pid`), and the
/// kernel knows since when that process lives. Where there is no such file, only a boot is noticed.
pub fn of(socket: &Path) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let started = fs::read_to_string(socket.with_extension("pid")).ok().and_then(|number| started(number.trim()));
    [Some(boot.trim().to_owned()), started].into_iter().flatten().collect::<Vec<_>>().join("+")
}

/// When a process was started, in ticks since the boot: the 22nd field of its `stat`, of which the second may hold
/// anything between its parentheses.
fn started(number: &str) -> Option<String> {
    let number: u32 = number.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_read() {
        let started = started(&std::process::id().to_string()).unwrap();
        assert!(started.parse::<u64>().unwrap() > 0);
        assert_eq!(super::started("no number"), None);
    }
}
