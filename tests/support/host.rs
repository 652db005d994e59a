//! A host as moorline sees it: its own directories, key, settings and engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::engine::Engine;
use super::fleet::Signer;
use super::git_server::GitServer;
use super::run::{Ran, Run as _};
use super::scratch::Scratch;

/// One host. Dropping it removes its directories and what it mounted.
#[derive(Debug)]
pub struct Host {
    scratch: Scratch,
    name: String,
    /// The public half of its age key.
    pub recipient: String,
}

impl Host {
    /// A host that follows `main` of a repository on `server`, with an engine of its own.
    #[track_caller]
    pub fn new(name: &str, engine: &Engine, server: &GitServer, repository: &str, signers: &[&Signer]) -> Self {
        let scratch = Scratch::new();
        let key = scratch.directory("etc").join("age.key");
        scratch.command("age-keygen").arg("-o").arg(&key).run().succeeds();
        let recipient = scratch.command("age-keygen").arg("-y").arg(&key).run().succeeds();
        scratch.write("etc/allowed_signers", signers.iter().map(|signer| signer.allowed_line()).collect::<String>());
        let host = Self { scratch, name: name.to_owned(), recipient };
        let path = |path: &str| host.scratch.join(path).display().to_string();
        host.scratch.write(
            "etc/agent.toml",
            format!(
                "host = \"{name}\"\nremote = \"{}\"\npoll = \"2s\"\n\n[git]\ndeploy_key = \"{}\"\nknown_hosts = \"{}\"\n\n\
                 [engine]\nsocket = \"{}\"\ncompose = \"{}\"\n\n[paths]\netc = \"{}\"\nstate = \"{}\"\nrun = \"{}\"\n",
                server.url(repository),
                server.deploy_key().display(),
                server.known_hosts().display(),
                engine.socket.display(),
                engine.plugin().display(),
                path("etc"),
                path("state"),
                path("run"),
            ),
        );
        host
    }

    /// Uses a token file instead of a deploy key.
    pub fn use_token(&self, token: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.scratch.write("etc/token", token);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        let path = self.etc().join("agent.toml");
        let settings = std::fs::read_to_string(&path).expect("written above");
        let kept = settings.lines().filter(|line| !line.starts_with("deploy_key") && !line.starts_with("known_hosts"));
        let kept = kept.collect::<Vec<_>>().join("\n");
        let settings = kept.replace("[git]", &format!("[git]\ntoken_file = \"{}\"", file.display()));
        std::fs::write(path, settings + "\n").expect("it is ours");
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its state is.
    pub fn state(&self) -> PathBuf {
        self.scratch.join("state")
    }

    /// What must not reach a disk.
    pub fn run_directory(&self) -> PathBuf {
        self.scratch.join("run")
    }

    /// Its own settings and keys.
    pub fn etc(&self) -> PathBuf {
        self.scratch.join("etc")
    }

    /// The Compose directory of a stack.
    pub fn stack(&self, stack: &str) -> PathBuf {
        self.state().join("stacks").join(stack)
    }

    /// `moorline ...` on this host.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
        command
            .env_clear()
            .env("PATH", super::tools::search_path())
            .env("MOORLINE_LAB_SCRATCH", self.scratch.name())
            .arg("--config")
            .arg(self.scratch.join("etc/agent.toml"))
            .args(arguments);
        command
    }

    /// `moorline ...` in the network of the engine: what containers publish on loopback is there, as on a real host.
    #[track_caller]
    pub fn command_beside(&self, engine: &Engine, arguments: &[&str]) -> Command {
        let alone = self.command(arguments);
        let mut command = Command::new(super::tools::tool("nsenter"));
        command.env_clear().envs(alone.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.arg(format!("--net=/run/netns/{}", engine.netns)).arg(alone.get_program()).args(alone.get_args());
        command
    }

    /// `moorline ...` on this host, to its end.
    #[track_caller]
    pub fn moorline(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).run()
    }

    /// Fetches, then reconciles; both must succeed.
    #[track_caller]
    pub fn converges(&self) -> String {
        self.moorline(&["courier", "--once"]).succeeds();
        self.moorline(&["reconcile"]).succeeds()
    }

    /// `moorline status --json`, parsed.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.moorline(&["status", "--json"]).succeeds()).expect("status prints JSON")
    }

    /// Seals a YAML text for this host, as an operator does: with real `sops`.
    #[track_caller]
    pub fn seal(&self, yaml: &str) -> String {
        seal(yaml, &[&self.recipient])
    }
}

/// Seals a YAML text for these recipients.
#[track_caller]
pub fn seal(yaml: &str, recipients: &[&str]) -> String {
    let scratch = Scratch::new();
    let plain = scratch.write("secrets.sops.yaml", yaml);
    let mut sops = scratch.command("sops");
    sops.args(["--encrypt", "--age", &recipients.join(",")]).arg(&plain).current_dir(Path::new("/"));
    format!("{}\n", sops.run().succeeds())
}
