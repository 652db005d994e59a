//! Writes the user-data of a host's first boot from the template in `cloud-init/`. No secret in it outlives that boot.

use crate::decide::fault::{Code, Fault};
use crate::decide::mistake::meant;
use crate::decide::remote::Remote;
use crate::decide::{fleet, settings};
use crate::model::Secret;
use crate::model::tree::Tree;

const TEMPLATE: &str = include_str!("../../cloud-init/user-data.yaml");
const SETUP: &str = include_str!("../../cloud-init/setup");
const FIREWALL: &str = include_str!("../../cloud-init/firewall.nft");
/// What Hetzner takes; others take no more than half, and say so.
const LARGEST: usize = 32 * 1024;
const SIGNERS: &str = "signers/allowed_signers";

/// What a new host is told.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Its name in the repository.
    pub host: &'a str,
    /// The fleet repository, over ssh.
    pub remote: &'a str,
    /// The branch that it follows.
    pub branch: &'a str,
    /// The first revision that it accepts, if that is not the first of the history.
    pub anchor: Option<&'a str>,
    /// The git server's host keys, in OpenSSH's format.
    pub known_hosts: &'a str,
    /// Where moorline's package is.
    pub package_url: &'a str,
    /// Its SHA-256.
    pub package_sha256: &'a str,
    /// Who may log in, and with which public key beside the tailnet's own login.
    pub admins: &'a [(String, Option<String>)],
    /// Lets one machine into the tailnet, once.
    pub tailscale_key: &'a Secret<String>,
}

/// The user-data, or everything that is wrong with the wish.
pub fn user_data(tree: &Tree, wish: &Wish<'_>) -> Result<Secret<String>, Fault> {
    let refuse = |problems: Vec<String>| {
        let fault = Fault::new(Code::UsageInvalid, format!("there is no user-data for {}", wish.host.escape_debug()));
        problems.into_iter().fold(fault, Fault::at)
    };
    let signers = tree.get(SIGNERS).and_then(|file| file.text().ok()).unwrap_or_default();
    let mut problems = wrong(tree, wish, signers);
    let agent_toml = agent_toml(wish);
    if let Err(fault) = settings::read(&agent_toml, "agent.toml") {
        problems.push(fault.sentence);
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let shell = [("host", wish.host), ("package_url", wish.package_url), ("package_sha256", wish.package_sha256)];
    // None of the three can hold a quote: their forms were looked at.
    let settings: String = shell.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
    let blocks = [
        ("@users@", users(wish.admins)),
        ("@firewall@", FIREWALL.to_owned()),
        ("@agent_toml@", agent_toml),
        ("@allowed_signers@", signers.to_owned()),
        ("@known_hosts@", wish.known_hosts.to_owned()),
        ("@tailscale_key@", wish.tailscale_key.expose().trim().to_owned()),
        ("@settings@", settings),
        ("@setup@", SETUP.to_owned()),
    ];
    let mut text = String::with_capacity(LARGEST);
    for line in TEMPLATE.lines() {
        let (place, indent) = (line.trim_start(), line.len() - line.trim_start().len());
        match blocks.iter().find(|(name, _)| *name == place) {
            Some((_, block)) => block.lines().for_each(|line| {
                let line =
                    if line.trim().is_empty() { String::new() } else { format!("{}{line}", &" ".repeat(indent)) };
                text.push_str(&line);
                text.push('\n');
            }),
            None => {
                text.push_str(&line.replace("@host@", &quoted(wish.host)));
                text.push('\n');
            }
        }
    }
    let length = text.len();
    let text = Secret::new(text);
    match length > LARGEST {
        true => Err(refuse(vec![format!("it would have {length} bytes, and providers take {LARGEST}")])),
        false => Ok(text),
    }
}

fn wrong(tree: &Tree, wish: &Wish<'_>, signers: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut unless = |holds: bool, problem: &str| {
        if !holds {
            problems.push(problem.to_owned());
        }
    };
    let hosts = fleet::hosts(tree);
    if !hosts.iter().any(|host| host == wish.host) {
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let host = wish.host.escape_debug();
        unless(
            false,
            &format!("there is no hosts/{host}/{}; `moorline host new {host} ...`", meant(wish.host, &names)),
        );
    }
    let is_clear = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    unless(signers.lines().any(is_clear), "signers/allowed_signers names nobody: the host would accept nothing");
    match Remote::parse(wish.remote) {
        Ok(remote) if wish.remote.starts_with("ssh://") || !wish.remote.contains("://") => {
            let is_its = |line: &str| line.starts_with("|1|") || line.contains(remote.host());
            unless(
                wish.known_hosts.lines().any(|line| is_clear(line) && is_its(line)),
                &format!(
                    "--known-hosts: no key of {} is in it; `ssh-keyscan {0}`, compared with what its owner says",
                    remote.host()
                ),
            );
        }
        Ok(_) => unless(false, "--remote: use ssh; a token for https would be a secret that outlives the first boot"),
        Err(error) => unless(false, &format!("--remote: {error}")),
    }
    let is_url = wish.package_url.strip_prefix("https://").is_some_and(|rest| {
        rest.contains('/')
            && !rest.contains('@')
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"\\".contains(&byte))
    });
    unless(is_url, "--package-url: write `https://...`, without a login");
    let is_digest = wish.package_sha256.len() == 64
        && wish.package_sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    unless(is_digest, "--package-sha256: 64 hexadecimal digits, as `sha256sum` prints them");
    let key = wish.tailscale_key.expose().trim();
    let is_word = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    unless(
        key.starts_with("tskey-auth-") && is_word,
        "--tailscale-key-file: this is no auth key (`tskey-auth-...`); keys of the API and of OAuth clients live too long",
    );
    unless(!wish.admins.is_empty(), "--admin: nobody could log in");
    for (name, public) in wish.admins {
        let mut letters = name.bytes();
        let is_name = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
            && name.len() <= 32
            && name != "root";
        unless(is_name, &format!("--admin {}: this is no name for a user", name.escape_debug()));
        let is_public = |key: &String| {
            ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| key.starts_with(kind)) && key.trim_end().lines().count() == 1
        };
        unless(public.as_ref().is_none_or(is_public), &format!("--admin {name}: the file holds no public key of ssh"));
    }
    for (what, text) in [("--known-hosts", wish.known_hosts), (SIGNERS, signers)] {
        unless(!text.contains("PRIVATE KEY"), &format!("{what}: there is a private key in it"));
    }
    problems
}

fn agent_toml(wish: &Wish<'_>) -> String {
    let mut text = format!("host = {}\nremote = {}\n", quoted(wish.host), quoted(wish.remote));
    if wish.branch != "main" {
        text.push_str(&format!("branch = {}\n", quoted(wish.branch)));
    }
    if let Some(anchor) = wish.anchor {
        text.push_str(&format!("anchor = {}\n", quoted(anchor)));
    }
    text.push_str("\n[git]\ndeploy_key = \"/etc/moorline/ssh/deploy\"\n");
    text
}

fn users(admins: &[(String, Option<String>)]) -> String {
    let mut text = String::new();
    for (name, key) in admins {
        text.push_str(&format!("- name: {name}\n  groups: [deploy]\n  shell: /bin/bash\n  lock_passwd: true\n"));
        if let Some(key) = key {
            text.push_str(&format!("  ssh_authorized_keys: [{}]\n", quoted(key.trim())));
        }
    }
    text
}

/// A text between double quotes, as JSON, YAML and TOML all read it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
