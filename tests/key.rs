//! `moorline key` makes a key that age itself can use, and shows recipients only.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests start neighbours")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

#[path = "support/tools.rs"]
#[allow(dead_code, reason = "this binary needs two tools of the lab")]
mod tools;

/// Runs a verb on a host whose key is at `key`.
fn moorline(key: &Path, arguments: &[&str]) -> Output {
    let config = key.with_file_name("agent.toml");
    let text = format!(
        "host = \"alpha\"\nremote = \"https://git.example.org/fleet.git\"\n[paths]\nage_key = \"{}\"\n",
        key.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_moorline"));
    command.args(arguments).arg("--config").arg(&config).output().unwrap()
}

#[track_caller]
fn printed(output: &Output) -> Vec<String> {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("AGE-SECRET-KEY") && !text.contains("PRIVATE KEY"), "a private byte was printed");
    assert!(output.status.success(), "{text}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn age_reads_the_key_that_was_made_and_show_prints_its_recipients() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("age.key");
    let first = printed(&moorline(&key, &["key", "generate"]));
    assert_eq!(first.len(), 1);
    let again = moorline(&key, &["key", "generate"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("hint: `moorline key show`"));
    let second = printed(&moorline(&key, &["key", "generate", "--add"]));
    let both = [first, second].concat();
    assert_eq!(printed(&moorline(&key, &["key", "show"])), both);
    let seen = Command::new(tools::tool("age-keygen")).arg("-y").arg(&key).output().unwrap();
    assert_eq!(printed(&seen), both);
    let json = printed(&moorline(&key, &["key", "show", "--json"])).join("\n");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["recipients"], serde_json::json!(both));
}

#[test]
fn an_ssh_host_key_has_its_own_recipient_and_that_of_ssh_to_age() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("ssh_host_ed25519_key");
    let made = Command::new(tools::tool("ssh-keygen"))
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "root@alpha", "-f"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    let recipients = printed(&moorline(&key, &["key", "show"]));
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let public: Vec<&str> = public.split_whitespace().take(2).collect();
    assert_eq!(recipients.len(), 2);
    assert_eq!(recipients[0], public.join(" "));
    assert!(recipients[1].starts_with("age1") && recipients[1].len() == 62, "{}", recipients[1]);
    let refused = moorline(&key, &["key", "generate", "--add"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("it is an ssh key"));
}

#[test]
fn a_credential_of_systemd_is_a_file_that_only_root_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("age.key");
    let recipients = printed(&moorline(&key, &["key", "generate"]));
    // systemd hands credentials to a service of root with this mode.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(printed(&moorline(&key, &["key", "show"])), recipients);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).unwrap();
    assert_eq!(moorline(&key, &["key", "show"]).status.code(), Some(12));
}

#[test]
fn other_kinds_of_identities_are_refused_by_kind() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("age.key");
    for text in ["AGE-SECRET-KEY-PQ-1QQQQ\n", "AGE-PLUGIN-YUBIKEY-1QQQQ\n"] {
        fs::write(&key, text).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let refused = moorline(&key, &["key", "show"]);
        assert_eq!(refused.status.code(), Some(12));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("not supported by this build") && !said.contains("QQQQ"), "{said}");
    }
}
