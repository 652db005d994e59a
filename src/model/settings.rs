//! What this host was told before it ever saw the repository: `/etc/moorline/agent.toml`.

use core::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::Revision;

/// The contents of `agent.toml`, with every default filled in.
///
/// It holds only what the repository must not be able to change (DESIGN section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of this host: a directory under `hosts/`.
    pub host: String,
    /// The URL of the fleet repository: `ssh://`, `https://`, `user@host:path`; `http://` and `file://` for tests.
    pub remote: String,
    /// The branch that is followed.
    pub branch: String,
    /// The first revision that this host accepts; without it the whole history must be signed.
    pub first: Option<Revision>,
    /// How often the courier asks the git server.
    pub poll: Duration,
    /// How often the keeper looks at the engine when nothing wakes it.
    pub interval: Duration,
    /// The deploy key for `ssh` remotes.
    pub deploy_key: Option<PathBuf>,
    /// The pinned host keys of the git server, in OpenSSH's format.
    pub known_hosts: PathBuf,
    /// A file with an access token, for `https` remotes.
    pub token_file: Option<PathBuf>,
    /// The root of trust: who may sign the first accepted revision.
    pub allowed_signers: PathBuf,
    /// The host's own age identity.
    pub age_key: PathBuf,
    /// The Docker Engine's socket.
    pub socket: PathBuf,
    /// The Compose plugin; found in Docker's usual plugin directories when not set.
    pub compose: Option<PathBuf>,
    /// How long the pull of one image may take.
    pub pull_timeout: Duration,
    /// Where the courier serves the status page; nowhere when not set.
    pub status: Option<SocketAddr>,
    /// State that survives a reboot; `/var/lib/moorline`.
    pub state: PathBuf,
    /// State that must not reach a disk; `/run/moorline`.
    pub run: PathBuf,
    /// Who begins nights; systemd's timer wherever systemd is when not set.
    pub timer: Option<Timer>,
    /// File systems for `run` besides ramfs that the owner of this host accepts by name.
    pub memory: MemoryPolicy,
}

/// Who looks at the clock for backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// `moorline-backup.timer`.
    Systemd,
    /// `moorline run`.
    Keeper,
}

/// Which file systems may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryPolicy {
    /// ramfs, or tmpfs that was mounted with `noswap`.
    NeverOnDisk,
    /// Plain tmpfs too: its pages can be swapped out, so the owner must say so by name.
    AllowTmpfs,
}

impl Settings {
    /// What is the courier's own.
    pub fn courier(&self) -> PathBuf {
        self.state.join("courier")
    }

    /// The courier's bare repository.
    pub fn repository(&self) -> PathBuf {
        self.courier().join("repo.git")
    }

    /// The directory of a stack, constant over all revisions (docs/facts.md, C18).
    pub fn stack_directory(&self, stack: &str) -> PathBuf {
        self.state.join("stacks").join(stack)
    }
}
