//! Who sits at the terminal, and what they answer.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, Write};
use std::time::Duration;

use crate::decide::login;
use crate::world::child::{Child, Ended};

/// How many parents are asked for their environment.
const GENERATIONS: usize = 16;
/// How long the tailnet may think about who somebody is. A hold must not wait for it.
const LIMIT: Duration = Duration::from_secs(5);

/// The person behind sudo, if there is one; else the one who is logged in.
#[allow(clippy::disallowed_methods, reason = "the one place that asks who sits here")]
pub fn who_types() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "root".into())
}

/// The same, with where they came from over ssh, and who that is on the tailnet. Whoever is root here could write all of
/// it: it is a record for colleagues, and no proof.
pub async fn who_came() -> String {
    let user = who_types();
    let Some((from, port)) = connection().as_deref().and_then(login::client) else { return user };
    let address = std::net::SocketAddr::new(from, port).to_string();
    let asked = Child::new("tailscale", LIMIT).args(["whois", "--json", &address]).run().await;
    let whois = asked.ok().filter(Ended::succeeded).and_then(|ended| login::whois(&ended.stdout));
    login::owner(&user, whois.as_deref(), Some(from))
}

/// `SSH_CONNECTION` of this process, or of one that led to it: sudo takes it out of the environment.
#[allow(clippy::disallowed_methods, reason = "the one place that asks who sits here")]
fn connection() -> Option<String> {
    const NAME: &str = "SSH_CONNECTION";
    if let Ok(own) = std::env::var(NAME) {
        return Some(own);
    }
    let mut process = parent("self")?;
    for _ in 0..GENERATIONS {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
        if let Some((_, found)) = variables.find_map(|text| text.split_once('=').filter(|(name, _)| *name == NAME)) {
            return Some(found.to_owned());
        }
        process = parent(&process)?;
    }
    None
}

/// The process that started this one; none for the first of all.
fn parent(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim();
    (parent != "0").then(|| parent.to_owned())
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
