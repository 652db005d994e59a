//! Reads `agent.toml`: defaults filled in, every mistake named.

use core::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::decide::fault::{Code, Fault};
use crate::decide::remote::is_branch;
use crate::decide::schedule;
use crate::model::Revision;
use crate::model::settings::{MemoryPolicy, Settings, Timer};

/// How often the courier asks when nothing else is said.
const POLL: &str = "60s";
/// How often the keeper looks when nothing wakes it.
const INTERVAL: &str = "5m";

/// How long the pull of one image may take when nothing else is said: 2 GiB over a line of 10 Mbit/s.
const PULL_TIMEOUT: &str = "30m";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    host: String,
    remote: String,
    #[serde(default = "main_branch")]
    branch: String,
    anchor: Option<Revision>,
    poll: Option<String>,
    interval: Option<String>,
    backups: Option<TimerWord>,
    #[serde(default)]
    git: GitFile,
    #[serde(default)]
    engine: EngineFile,
    #[serde(default)]
    status: StatusFile,
    #[serde(default)]
    paths: PathsFile,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TimerWord {
    Timer,
    Run,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusFile {
    listen: Option<SocketAddr>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GitFile {
    deploy_key: Option<PathBuf>,
    known_hosts: Option<PathBuf>,
    token_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EngineFile {
    socket: Option<PathBuf>,
    compose: Option<PathBuf>,
    pull_timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathsFile {
    etc: Option<PathBuf>,
    state: Option<PathBuf>,
    run: Option<PathBuf>,
    age_key: Option<PathBuf>,
    #[serde(default)]
    allow_tmpfs: bool,
}

fn main_branch() -> String {
    "main".into()
}

/// Reads the text of `agent.toml`. `path` is only for messages.
pub fn read(text: &str, path: &str) -> Result<Settings, Fault> {
    let invalid = |why: String| {
        Fault::new(Code::SettingsInvalid, format!("{path} has a mistake"))
            .because(why)
            .hint("docs/agent.toml.md explains every key")
    };
    let file: AgentFile = toml::from_str(text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
    let duration = |key: &str, text: Option<String>, default: &str| -> Result<Duration, Fault> {
        schedule::parse_duration(text.as_deref().unwrap_or(default))
            .map_err(|error| invalid(format!("`{key}`: {error}")))
    };
    if !is_host_name(&file.host) {
        return Err(invalid(format!("`host`: `{}` cannot be the name of a directory below hosts/", file.host)));
    }
    if !is_branch(&file.branch) {
        return Err(invalid(format!("`branch`: `{}` is not a plain branch name", file.branch)));
    }
    let etc = file.paths.etc.unwrap_or_else(|| "/etc/moorline".into());
    let memory = if file.paths.allow_tmpfs { MemoryPolicy::AllowTmpfs } else { MemoryPolicy::NeverOnDisk };
    let settings = Settings {
        host: file.host,
        remote: file.remote,
        branch: file.branch,
        first: file.anchor,
        poll: duration("poll", file.poll, POLL)?,
        interval: duration("interval", file.interval, INTERVAL)?,
        deploy_key: file.git.deploy_key,
        known_hosts: file.git.known_hosts.unwrap_or_else(|| etc.join("ssh/known_hosts")),
        token_file: file.git.token_file,
        allowed_signers: etc.join("allowed_signers"),
        age_key: file.paths.age_key.unwrap_or_else(|| etc.join("age.key")),
        socket: file.engine.socket.unwrap_or_else(|| "/var/run/docker.sock".into()),
        compose: file.engine.compose,
        pull_timeout: duration("engine.pull_timeout", file.engine.pull_timeout, PULL_TIMEOUT)?,
        status: file.status.listen,
        state: file.paths.state.unwrap_or_else(|| "/var/lib/moorline".into()),
        run: file.paths.run.unwrap_or_else(|| "/run/moorline".into()),
        timer: file.backups.map(|word| match word {
            TimerWord::Timer => Timer::Systemd,
            TimerWord::Run => Timer::Keeper,
        }),
        memory,
    };
    for path in [&settings.state, &settings.run, &settings.socket, &settings.age_key, &settings.known_hosts] {
        if !path.is_absolute() {
            return Err(invalid(format!("`{}` is not an absolute path", path.display())));
        }
    }
    Ok(settings)
}

/// The settings of a host that is not here, to plan for a directory. Nothing may be read or written at its places.
pub fn of_nowhere(host: &str, compose: Option<PathBuf>) -> Settings {
    let nowhere = Path::new("/nonexistent/moorline");
    Settings {
        host: host.to_owned(),
        remote: String::new(),
        branch: main_branch(),
        first: None,
        poll: Duration::ZERO,
        interval: Duration::ZERO,
        deploy_key: None,
        known_hosts: nowhere.join("known_hosts"),
        token_file: None,
        allowed_signers: nowhere.join("allowed_signers"),
        age_key: nowhere.join("age.key"),
        socket: "/var/run/docker.sock".into(),
        compose,
        pull_timeout: Duration::ZERO,
        status: None,
        state: nowhere.join("state"),
        run: nowhere.join("run"),
        timer: None,
        memory: MemoryPolicy::AllowTmpfs,
    }
}

/// Every default, for a host whose `agent.toml` cannot be read.
pub fn of_unknown() -> Settings {
    let etc = Path::new("/etc/moorline");
    let state = PathBuf::from("/var/lib/moorline");
    let duration = |text: &str| schedule::parse_duration(text).unwrap_or_default();
    Settings {
        known_hosts: etc.join("ssh/known_hosts"),
        allowed_signers: etc.join("allowed_signers"),
        age_key: etc.join("age.key"),
        state,
        run: "/run/moorline".into(),
        memory: MemoryPolicy::NeverOnDisk,
        interval: duration(INTERVAL),
        ..of_nowhere("unknown", None)
    }
}

/// Whether a host can have this name: it is a directory, and part of other names.
pub fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_enough() {
        let settings = read("host = \"alpha\"\nremote = \"git@example.org:fleet.git\"\n", "agent.toml").unwrap();
        assert_eq!(settings.branch, "main");
        assert_eq!(settings.poll, Duration::from_secs(60));
        assert_eq!(settings.age_key, PathBuf::from("/etc/moorline/age.key"));
        assert_eq!(settings.memory, MemoryPolicy::NeverOnDisk);
        assert_eq!(settings.timer, None);
    }

    #[test]
    fn the_keeper_may_be_told_to_begin_nights() {
        let text =
            |word: &str| format!("host = \"alpha\"\nremote = \"git@example.org:fleet.git\"\nbackups = \"{word}\"\n");
        assert_eq!(read(&text("run"), "agent.toml").unwrap().timer, Some(Timer::Keeper));
        assert_eq!(read(&text("timer"), "agent.toml").unwrap().timer, Some(Timer::Systemd));
        assert!(read(&text("never"), "agent.toml").is_err());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let fault = read("host = \"alpha\"\nremote = \"x\"\nhots = 1\n", "agent.toml").unwrap_err();
        assert_eq!(fault.code, Code::SettingsInvalid);
        assert!(fault.to_string().contains("line 3"), "{fault}");
        for bad in ["host = \"../x\"", "host = \"a\"\nbranch = \"--upload-pack=x\"", "host = \"a\"\npoll = \"soon\""] {
            assert!(read(&format!("{bad}\nremote = \"x\"\n").replace("\nremote", "\nremote"), "a").is_err(), "{bad}");
        }
    }
}
