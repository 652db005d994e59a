//! A verb of moorline that runs until it is asked to stop, in the background. Dropping it ends it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Host, Run as _, wait};

pub struct Service(Child);

impl Service {
    /// With its log in the host's `etc`; see [`Service::log`].
    pub fn start(host: &Host, verb: &str) -> Self {
        let log = std::fs::File::create(host.etc().join(format!("{verb}.log"))).unwrap();
        let mut command = host.command(&["--verbose", verb]);
        command.stderr(log);
        Self::spawn(command)
    }

    pub fn spawn(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("moorline starts"))
    }

    /// What the service of this verb has logged on a host.
    pub fn log(host: &Host, verb: &str) -> String {
        std::fs::read_to_string(host.etc().join(format!("{verb}.log"))).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.pid().to_string()]).run().succeeds();
    }

    /// Waits for its end; the exit code.
    pub fn ends(&mut self) -> Option<i32> {
        wait::within(Duration::from_secs(30), "the service ends", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
