//! Starts git for the courier: bounded in memory, time and space, with no configuration but ours, and with one deploy
//! key or token. It does not know what a fetch is for.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::decide::fault::{Code, Fault};
use crate::decide::last_words::telling_lines;
use crate::decide::remote::{Remote, Transport, ssh_command};
use crate::model::{Secret, Settings};
use crate::world::child::{Child, ChildError, Ended};
use crate::world::courier_user;

/// How long one git command may take.
const LIMIT: Duration = Duration::from_mins(5);

/// What git and everything it starts may use, each process for itself. A pack of 16 KiB can ask for 2 GiB of memory
/// and half a minute of processor time; these bounds turn that into an error.
const BOUNDS: [&str; 4] = ["--as=536870912", "--cpu=60", "--fsize=268435456", "--core=0"];

/// Settings that stand above every file of configuration.
const CONFIGURATION: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "credential.helper=",
    "protocol.version=2",
    // Only what `Transport` allows below.
    "protocol.allow=never",
    // A redirect could lead the token to another server, or an http remote into this host's own network.
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    // Malformed objects are refused at the door.
    "fetch.fsckObjects=true",
    // One pack for each fetch, even a small one. Unpacked, every change would leave a handful of files for ever, since
    // git's own tidying up is off (it would run behind our back, outside of the bounds); packs are counted and made
    // into one again in time, see `fetch.rs`.
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "maintenance.auto=false",
    // After a power cut there is the old tip or the new one, never an empty file.
    "core.fsync=objects,derived-metadata,reference",
    // Within the bound on memory: large blobs are refused later anyway, so they need not be held whole.
    "core.bigFileThreshold=2m",
    "core.packedGitWindowSize=16m",
    "core.packedGitLimit=128m",
    "core.deltaBaseCacheLimit=32m",
    "pack.threads=1",
    "pack.windowMemory=64m",
];

/// git, ready to talk to one remote.
#[derive(Debug)]
pub struct Git {
    /// What it talks to.
    pub remote: Remote,
    deploy_key: Option<PathBuf>,
    known_hosts: PathBuf,
    token_file: Option<PathBuf>,
}

/// A git command that did not work.
#[derive(Debug)]
pub enum Failure {
    /// It was not started, and a person has to know why.
    Fault(Box<Fault>),
    /// It ended with an error; these are its words, all of them and the ones worth showing.
    Words {
        /// All that was said.
        all: String,
        /// What may be shown.
        telling: Vec<String>,
    },
}

impl Git {
    /// Takes the part of the settings that concerns the remote, and checks it.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let invalid = |name: &str, error: &dyn std::error::Error| {
            Fault::new(Code::SettingsInvalid, format!("`{name}` in agent.toml cannot be used")).caused_by(error)
        };
        let remote = Remote::parse(&settings.remote).map_err(|error| {
            // Not the address itself: it may hold the password that it is refused for.
            invalid("remote", &error).hint("tokens belong into a file that only the courier can read: `token_file`")
        })?;
        if remote.transport() == Transport::Ssh {
            let Some(key) = &settings.deploy_key else {
                return Err(Fault::new(Code::SettingsInvalid, "`remote` in agent.toml needs a `deploy_key`"));
            };
            ssh_command(key, &settings.known_hosts).map_err(|error| invalid("deploy_key` or `known_hosts", &error))?;
        }
        if settings.token_file.is_some() && !remote.may_see_token() {
            return Err(Fault::new(Code::SettingsInvalid, "`token_file` in agent.toml does not go with this `remote`")
                .because("a token is sent over https only, or over http to this host itself")
                .hint("use an https address, or remove `token_file`"));
        }
        Ok(Self {
            remote,
            deploy_key: settings.deploy_key.clone(),
            known_hosts: settings.known_hosts.clone(),
            token_file: settings.token_file.clone(),
        })
    }

    /// Runs a command that needs no remote.
    pub async fn run(&self, repository: &Path, arguments: &[&str]) -> Result<Ended, Failure> {
        finish(self.child(repository, arguments), &[]).await
    }

    /// Runs a command that talks to the remote.
    pub async fn run_online(&self, repository: &Path, arguments: &[&str]) -> Result<Ended, Failure> {
        let transport = self.remote.transport();
        let allow = format!("protocol.{}.allow=always", transport.name());
        let mut online = vec!["-c", &allow];
        online.extend(arguments);
        let mut child = self.child(repository, &online);
        let mut header = None;
        if let (Transport::Ssh, Some(key)) = (transport, &self.deploy_key) {
            let command = self.ssh(key).map_err(|fault| Failure::Fault(Box::new(fault)))?;
            child = child.env("GIT_SSH_COMMAND", command).env("GIT_SSH_VARIANT", "ssh");
        }
        if let Some(file) = &self.token_file {
            let found = header.insert(authorization(file).map_err(|fault| Failure::Fault(Box::new(fault)))?);
            // Through the environment, which only we and root can read; arguments are shown to everybody.
            child = child
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", self.remote.origin()))
                .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {}", found.encoded.expose()));
        }
        let secrets =
            header.as_ref().map(|header| [header.encoded.expose().as_str(), header.password.expose().as_str()]);
        finish(child, secrets.as_ref().map_or(&[], |secrets| secrets.as_slice())).await
    }

    /// The files are looked at each time, not once: they may come after the courier, or be replaced.
    fn ssh(&self, key: &Path) -> Result<String, Fault> {
        let missing = |what: &str, path: &Path, error: &std::io::Error, hint: String| {
            Fault::new(Code::FetchRefused, format!("the {what} {} cannot be read", path.display()))
                .at("nothing was fetched")
                .caused_by(error)
                .hint(hint)
        };
        File::open(key).map_err(|error| {
            let path = key.display();
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => {
                    format!("`chown {} {path}`: the courier is not root", courier_user::NAME)
                }
                _ => format!("`ssh-keygen -t ed25519 -N '' -f {path}`, then register {path}.pub"),
            };
            missing("deploy key", key, &error, hint)
        })?;
        File::open(&self.known_hosts).map_err(|error| {
            let (host, path) = (self.remote.host(), self.known_hosts.display());
            let hint = format!("`ssh-keyscan {host} > {path}`, then compare with the fingerprint the server publishes");
            missing("list of pinned host keys", &self.known_hosts, &error, hint)
        })?;
        ssh_command(key, &self.known_hosts)
            .map_err(|error| Fault::new(Code::SettingsInvalid, "ssh cannot be started").caused_by(&error))
    }

    fn child(&self, repository: &Path, arguments: &[&str]) -> Child {
        let mut directory = std::ffi::OsString::from("--git-dir=");
        directory.push(repository);
        Child::new("prlimit", LIMIT)
            .args(BOUNDS)
            .args(["--", "git"])
            .args([directory])
            .args(CONFIGURATION.iter().flat_map(|setting| ["-c", setting]))
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_NO_LAZY_FETCH", "1")
            // Refs as files and SHA-1, whatever git's defaults become: `refs.rs` and libgit2 read nothing else.
            .env("GIT_DEFAULT_REF_FORMAT", "files")
            .env("GIT_DEFAULT_HASH", "sha1")
    }
}

async fn finish(child: Child, secrets: &[&str]) -> Result<Ended, Failure> {
    match child.run().await {
        Ok(ended) if ended.succeeded() => Ok(ended),
        Ok(ended) => {
            let mut all = ended.stderr;
            if ended.code.is_none() || ended.code.is_some_and(|code| code > 128) {
                // A signal ends git without a word: a bound was hit, or the system ran out of memory.
                all.push_str("\ngit was ended by a signal: out of memory, cpu time limit or file size limit");
            }
            let telling = telling_lines(&all, secrets);
            Err(Failure::Words { all, telling })
        }
        Err(error @ ChildError::Start { .. }) => Err(Failure::Fault(Box::new(
            Fault::new(Code::FetchFailed, "git cannot be started")
                .caused_by(&error)
                .hint("`apt install git util-linux`"),
        ))),
        Err(error @ ChildError::TooLoud { .. }) => Err(Failure::Fault(Box::new(
            Fault::new(Code::ResourceLimit, "the git server does not stop talking").caused_by(&error),
        ))),
        Err(error) => {
            Err(Failure::Fault(Box::new(Fault::new(Code::FetchFailed, "git did not finish").caused_by(&error))))
        }
    }
}

/// A token, as it is sent and as it must not be shown.
struct Authorization {
    encoded: Secret<String>,
    password: Secret<String>,
}

/// Reads a token: one line, `token` or `user:token`. The forges that take any user take ours.
fn authorization(file: &Path) -> Result<Authorization, Fault> {
    let path = file.display();
    let refused = |cause: String| {
        Fault::new(Code::FetchRefused, format!("the token in {path} cannot be used"))
            .at("nothing was fetched")
            .because(cause)
    };
    let unreadable = |error: std::io::Error| refused(error.to_string());
    let opened = File::open(file).map_err(unreadable)?;
    let found = opened.metadata().map_err(unreadable)?;
    if found.mode() & 0o077 != 0 {
        let cause = format!("others may read it: its mode is {:04o}", found.mode() & 0o7777);
        return Err(refused(cause).hint(format!("`chmod 600 {path}`")));
    }
    let mut text = Zeroizing::new(String::with_capacity(4096));
    opened.take(4096).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim_end();
    // A line break would begin a header of its own.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("it is not one line of visible characters".into()));
    }
    let (user, password) = token.split_once(':').unwrap_or(("moorline", token));
    let pair = Zeroizing::new(format!("{user}:{password}"));
    Ok(Authorization {
        encoded: Secret::new(STANDARD.encode(pair.as_bytes())),
        password: Secret::new(password.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn token_file(content: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    fn refusal(content: &str, mode: u32) -> Fault {
        authorization(token_file(content, mode).path()).err().unwrap()
    }

    #[test]
    fn a_token_comes_with_a_user_or_gets_one() {
        let encoded = |content| authorization(token_file(content, 0o600).path()).unwrap().encoded.expose().clone();
        assert_eq!(encoded("t0ken\n"), STANDARD.encode("moorline:t0ken"));
        assert_eq!(encoded("deploy:t0:ken"), STANDARD.encode("deploy:t0:ken"));
    }

    #[test]
    fn a_token_that_others_may_read_is_not_used() {
        let fault = refusal("t0ken", 0o640);
        assert_eq!(fault.because, ["others may read it: its mode is 0640"]);
        assert!(!fault.to_string().contains("t0ken"));
    }

    #[test]
    fn a_token_cannot_bring_a_header_along() {
        for content in ["", "\n", "t0ken\r\nX-Evil: 1", "two words", "t0kën"] {
            let fault = refusal(content, 0o600);
            assert_eq!(fault.because, ["it is not one line of visible characters"], "{content:?}");
        }
    }
}
