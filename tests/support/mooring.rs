//! Makes a booted host a moored one: settings, keys and the units that we ship, as an operator puts them there.

use super::git_server::{Door, GitServer};
use super::host::Host;
use super::vps::Vps;
use super::wait::until;

/// Installs a host's settings, keys and units, and starts nothing. `settings` are further lines for the top of `agent.toml`,
/// `sections` what follows at its end.
#[track_caller]
pub fn furnish(vps: &Vps<'_>, host: &Host, (server, door): (&GitServer, &Door), settings: &str, sections: &str) {
    let agent = format!(
        "host = \"{}\"\nremote = \"{}\"\n{settings}\n[git]\ndeploy_key = \"/etc/moorline/ssh/deploy_key\"\n{sections}",
        host.name(),
        door.url("fleet.git")
    );
    vps.write("/etc/moorline/agent.toml", "0644", agent);
    vps.write("/etc/moorline/ssh/known_hosts", "0644", &door.known_hosts);
    vps.copy(&server.deploy_key(), "/etc/moorline/ssh/deploy_key", "0600");
    for (file, mode) in [("age.key", "0600"), ("allowed_signers", "0644")] {
        vps.copy(&host.etc().join(file), &format!("/etc/moorline/{file}"), mode);
    }
    vps.install_units();
}

/// The same, then starts its courier, and when that has fetched, its keeper.
#[track_caller]
pub fn moor(vps: &Vps<'_>, host: &Host, at: (&GitServer, &Door), settings: &str, sections: &str) {
    furnish(vps, host, at, settings, sections);
    vps.systemctl(&["enable", "--now", "moorline-secrets.service", "moorline-courier.service"]);
    until("the courier has fetched", || vps.journal("moorline-courier.service").contains("tip fetched").then_some(()));
    vps.systemctl(&["enable", "--now", "moorline.service", "moorline-backup.timer"]);
}
