//! How ssh is started for a backup repository, and what its last words mean.

use std::path::Path;

use super::super::order::Login;
use super::super::trouble::{Kind, Trouble};
use crate::decide::last_words::{Meaning, meaning};

/// How much of ssh's own words is kept.
pub const LONGEST_WORDS: u64 = 16 * 1024;

/// Nothing is asked, nothing is remembered, nothing is shared, and only the pinned key will do.
const FIXED: [&str; 13] = [
    "IdentitiesOnly=yes",
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "ServerAliveInterval=20",
    "ServerAliveCountMax=3",
    "ConnectTimeout=20",
    "ControlMaster=no",
    "ControlPath=none",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "LogLevel=ERROR",
];

/// What ssh is told before the host and what is wanted there.
pub fn arguments(login: &Login) -> Vec<String> {
    let option = |name: &str, path: &Path| format!("{name}={}", path.display());
    let files = [option("IdentityFile", &login.key), option("UserKnownHostsFile", &login.known_hosts)];
    let options = files.into_iter().chain(FIXED.map(str::to_owned)).flat_map(|option| ["-o".to_owned(), option]);
    let server = ["-F", "/dev/null", "-p", &login.port.to_string(), "-l", &login.user].map(str::to_owned);
    server.into_iter().chain(options).collect()
}

/// What it means that ssh ended, by its own words.
pub fn trouble(words: &str, otherwise: &str) -> Trouble {
    let last = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(otherwise);
    match meaning(words) {
        Meaning::HostKeyChanged | Meaning::HostKeyUnknown => {
            let shown = words.split_whitespace().find(|word| word.starts_with("SHA256:"));
            let shown = shown.map(|key| format!("it showed {}", key.trim_end_matches('.')));
            Trouble::new(Kind::HostKeyChanged, shown.as_deref().unwrap_or(last))
        }
        Meaning::KeyRefused => Trouble::new(Kind::LoginRefused, last),
        _ => Trouble::new(Kind::Away, last),
    }
}
