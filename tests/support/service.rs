//! A verb of moorline that runs until it is asked to stop, in the background. Dropping it ends it; a test that fails shows
//! what it logged last.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Host, Run as _, wait};

pub struct Service {
    child: Child,
    log: Option<PathBuf>,
}

/// How many lines of a log are shown.
const SHOWN: usize = 60;

impl Service {
    /// With its log in the host's `etc`; see [`Service::log`].
    pub fn start(host: &Host, verb: &str) -> Self {
        let log = host.etc().join(format!("{verb}.log"));
        let mut command = host.command(&["--verbose", verb]);
        command.stderr(std::fs::File::create(&log).unwrap());
        let mut service = Self::spawn(command);
        service.log = Some(log);
        service
    }

    pub fn spawn(mut command: Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("moorline starts");
        Self { child, log: None }
    }

    /// What the service of this verb has logged on a host.
    pub fn log(host: &Host, verb: &str) -> String {
        std::fs::read_to_string(host.etc().join(format!("{verb}.log"))).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.pid().to_string()]).run().succeeds();
    }

    /// Waits for its end; the exit code.
    pub fn ends(&mut self) -> Option<i32> {
        wait::within(Duration::from_secs(30), "the service ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if let Some(log) = self.log.as_ref().filter(|_| std::thread::panicking()) {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            eprintln!("--- the last lines of {}\n{last}", log.display());
        }
    }
}
