//! Begins nights where no timer of systemd does: `moorline backup --if-due`, as a process of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::decide::fault::{Code, Fault};
use crate::model::settings::Timer;
use crate::world::child::{ENVIRONMENT, Group};
use crate::world::restic::OURSELVES;
use crate::world::{Real, World};

/// Is there where systemd is the init.
const SYSTEMD: &str = "/run/systemd/system";
/// How long a night may take to end after the order to stop: containers that it stopped are started again.
const GRACE: Duration = Duration::from_mins(2);

/// Who begins nights.
#[allow(async_fn_in_trait, reason = "as for `World`")]
pub trait Nights {
    /// Whether the keeper does.
    fn keeps_nights(&self) -> bool;
    /// Has one made by a process of its own, which reads the same `agent.toml`, and returns the exit code; none if a signal
    /// ended it. The order to stop is handed on, and its end is waited for.
    async fn night(&self, config: &Path) -> Result<Option<i32>, Fault>;
}

impl Nights for Real {
    fn keeps_nights(&self) -> bool {
        match self.settings().timer {
            Some(timer) => timer == Timer::Keeper,
            None => !Path::new(SYSTEMD).exists(),
        }
    }

    async fn night(&self, config: &Path) -> Result<Option<i32>, Fault> {
        let broken = |error: std::io::Error| {
            Fault::new(Code::BackupFailed, "a night could not be begun, or its end not be seen").caused_by(&error)
        };
        #[allow(clippy::disallowed_methods, reason = "our own program; `Child` has an end, and hides what it says")]
        let mut command = tokio::process::Command::new(OURSELVES);
        // What it says goes where we say things.
        command
            .arg0("moorline")
            .arg("--config")
            .arg(config)
            .args(["backup", "--if-due"])
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(broken)?;
        let group = Group::of(&child);
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = self.stop().ordered() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                group.signal(Signal::TERM);
                tokio::time::timeout(GRACE, child.wait()).await.unwrap_or_else(|late| Err(late.into()))
            }
        };
        let ended = ended.map_err(broken)?;
        group.disarm();
        Ok(ended.code())
    }
}
