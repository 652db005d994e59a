//! A hold says who set it: the user, and who came over ssh, as the tailnet knows them. The tailnet is a stub of `tailscale`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::Scratch;

/// Puts the stub where moorline looks for programs, in a mount namespace of its own, and takes the variable away on the way, as
/// sudo does.
const PLACE: &str = "mount -t tmpfs none /usr/local/bin; cp \"$1\" /usr/local/bin/tailscale; shift; \
                     SSH_CONNECTION=\"$1\" sh -c 'shift; env -u SSH_CONNECTION \"$@\"; exit $?' x \"$@\"";

struct Host {
    scratch: Scratch,
    config: PathBuf,
}

impl Host {
    fn new() -> Self {
        support::tools::needs_root("a mount namespace");
        let scratch = Scratch::new();
        let place = |name: &str| scratch.directory(name).display().to_string();
        let text = format!(
            "host = \"alpha\"\nremote = \"https://git.example.org/fleet.git\"\n[paths]\nstate = {:?}\nrun = {:?}\netc = {:?}\n",
            place("state"),
            place("run"),
            place("etc")
        );
        let config = scratch.write("agent.toml", text);
        Self { scratch, config }
    }

    /// What `moorline hold` says, called by this user over this connection, where `tailscale` is this script.
    fn hold(&self, stub: &str, user: &str, connection: &str) -> String {
        let stub = self.scratch.write("tailscale", format!("#!/bin/sh\n{stub}\n"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&stub, mode).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", PLACE, "place"]).arg(&stub).arg(connection);
        command.arg(env!("CARGO_BIN_EXE_moorline")).arg("--config").arg(&self.config);
        command.args(["hold", "--for", "1h", "--reason", "looking"]).env("SUDO_USER", user);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    }
}

#[test]
fn a_hold_names_the_login_of_the_tailnet_that_set_it() {
    let host = Host::new();
    let asked = host.scratch.join("asked");
    let stub = format!(
        "echo \"$@\" >{}; echo '{{\"Node\":{{\"ComputedName\":\"laptop\"}},\"UserProfile\":{{\"LoginName\":\"alice@example.org\"}}}}'",
        asked.display()
    );
    let said = host.hold(&stub, "alice", "100.64.0.9 51544 100.64.0.7 22");
    assert!(said.starts_with("held by alice (alice@example.org on laptop, 100.64.0.9) until "), "{said}");
    assert_eq!(std::fs::read_to_string(asked).unwrap(), "whois --json 100.64.0.9:51544\n");
}

#[test]
fn a_hold_does_not_depend_on_the_tailnet() {
    let host = Host::new();
    let said = host.hold("echo 'peer not found' >&2; exit 1", "bob", "2001:db8::9 51544 2001:db8::7 22");
    assert!(said.starts_with("held by bob (from 2001:db8::9) until "), "{said}");
    let said = host.hold("exit 1", "carol", "--help 22");
    assert!(said.starts_with("held by carol until "), "{said}");
}
