//! What `moorline doctor` looks at besides what every run needs. Looks only.

use std::time::Duration;

use crate::decide::fault::{Code, Fault};
use crate::world::child::Child;
use crate::world::fetch::Fetch;
use crate::world::{Real, World, disk, memory};

/// What a host needs, each with what was found or how to mend it.
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Examine {
    /// The version of git.
    async fn git_version(&self) -> Result<String, Fault>;
    /// The version of ssh.
    async fn ssh_version(&self) -> Result<String, Fault>;
    /// The version of the engine.
    async fn engine_version(&self) -> Result<String, Fault>;
    /// Whether state can be written, and how much room is left.
    fn state_is_writable(&self) -> Result<String, Fault>;
    /// Whether secrets would stay in memory.
    fn memory_is_safe(&self) -> Result<String, Fault>;
    /// Whether the git server answers and knows the branch.
    async fn reachable(&self) -> Result<String, Fault>;
}

impl Examine for Real {
    async fn git_version(&self) -> Result<String, Fault> {
        program_version("git", "--version", "git").await
    }

    async fn ssh_version(&self) -> Result<String, Fault> {
        program_version("ssh", "-V", "openssh-client").await
    }

    async fn engine_version(&self) -> Result<String, Fault> {
        self.engine().version().await
    }

    fn state_is_writable(&self) -> Result<String, Fault> {
        disk::space(&self.settings().state)
    }

    fn memory_is_safe(&self) -> Result<String, Fault> {
        if disk::is_missing(&self.settings().run) {
            return Ok(format!("{} is mounted at the first start", self.settings().run.display()));
        }
        memory::check(&self.settings().run, self.settings().memory)?;
        Ok(self.settings().run.display().to_string())
    }

    async fn reachable(&self) -> Result<String, Fault> {
        Fetch::new(self.settings())?.ask().await
    }
}

/// What a program says of its version; ssh says it on stderr.
async fn program_version(program: &str, argument: &str, package: &str) -> Result<String, Fault> {
    let missing =
        || Fault::new(Code::FetchFailed, format!("{program} cannot be used")).hint(format!("apt install {package}"));
    let child = Child::new(program, Duration::from_secs(10)).args([argument]);
    let ended = child.run().await.map_err(|error| missing().caused_by(&error))?;
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
    said.lines().next().map(str::to_owned).ok_or_else(missing)
}
