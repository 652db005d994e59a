//! Who sits at the terminal, and what they answer.

use std::ffi::OsString;
use std::io::{BufRead, Write};

/// The person behind sudo, if there is one; else the one who is logged in.
#[allow(clippy::disallowed_methods, reason = "the one place that asks who sits here")]
pub fn who_types() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "root".into())
}

/// Asks a question; only `yes` means yes, and nobody there means no.
pub fn agrees(question: &str) -> bool {
    types(question, "yes")
}

/// Asks a question; only this word means yes, and nobody there means no.
pub fn types(question: &str, word: &str) -> bool {
    let mut answer = String::new();
    let asked = write!(std::io::stderr().lock(), "{question}");
    asked.is_ok() && std::io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim() == word
}

/// What the programs of a person need to work for them as they do in a shell.
#[allow(clippy::disallowed_methods, reason = "the one place that asks who sits here")]
pub fn environment() -> Vec<(&'static str, OsString)> {
    const NAMES: [&str; 11] = [
        "PATH",
        "HOME",
        "USER",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
        "SSH_AUTH_SOCK",
        "GNUPGHOME",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "DISPLAY",
        "SSH_ASKPASS",
    ];
    NAMES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}
