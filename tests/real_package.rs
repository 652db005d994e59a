//! The package: what is in it, that two packings are the same, that its checksums can be verified with plain tools, and what
//! installing, upgrading, removing and purging it does to a real Debian with systemd.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tools::{search_path, tool};
use support::{Engine, Ran, Run as _, Scratch, Vps, until};

const BINARY: &str = env!("CARGO_BIN_EXE_moorline");

/// What an operator types, word for word as in `docs/install.md`.
const VERIFY: [&str; 2] = [
    "ssh-keygen -Y verify -f release_signers -I moorline -n file -s SHA256SUMS.sig <SHA256SUMS",
    "sha256sum --check --strict --ignore-missing SHA256SUMS",
];

const SERVICES: [&str; 2] = ["moorline-courier.service", "moorline.service"];

/// A script of `packaging/`. It finds cargo as the tests themselves did.
fn packaging(script: &str) -> Command {
    let mut command = Command::new(root().join("packaging").join(script));
    command.env("PATH", search_path()).env("SOURCE_DATE_EPOCH", "1780000000");
    command
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Packs the binary under test, stripped as that of a release is; returns the path that the script prints.
#[track_caller]
fn pack(scratch: &Scratch, out: &str, version: &str) -> PathBuf {
    tool("cargo-deb");
    let binary = scratch.join("moorline");
    if !binary.exists() {
        Command::new("strip").arg("-o").arg(&binary).arg(BINARY).run().succeeds();
    }
    let mut pack = packaging("build-deb");
    pack.args(["--fast", "--version", version]).arg("--binary").arg(binary).arg("--out").arg(scratch.join(out));
    PathBuf::from(pack.run().succeeds())
}

#[test]
fn the_package_holds_every_unit_and_a_page_for_every_verb_and_packs_to_the_same_bytes_twice() {
    let scratch = Scratch::new();
    let [one, two] = ["one", "another/place"].map(|out| pack(&scratch, out, "0.1.0"));
    assert_eq!(one.file_name().unwrap(), two.file_name().unwrap());
    assert!(one.ends_with(format!("moorline_0.1.0_{}.deb", architecture())), "{}", one.display());
    assert!(std::fs::read(&one).unwrap() == std::fs::read(two).unwrap(), "two packings of one binary differ");

    let listed = Command::new("dpkg-deb").arg("--contents").arg(&one).run().succeeds();
    let mut files = BTreeSet::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mode = if line.starts_with('d') || words[5] == "./usr/bin/moorline" { "rwxr-xr-x" } else { "rw-r--r--" };
        assert_eq!((&words[0][1..], words[1]), (mode, "0/0"), "{line}");
        files.insert(words[5].trim_start_matches('.').to_owned());
    }
    let below = |place: &str| -> BTreeSet<String> {
        let names = files.iter().filter_map(|file| file.strip_prefix(place)).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let names = |place: &str, from: &str, to: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join(place)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(from, to)).collect()
    };
    let mut units = names("systemd", "", "");
    assert!(units.remove("moorline.sysusers"));
    assert_eq!(below("/usr/lib/systemd/system/"), units);
    // The golden files of `--help` are the list of verbs; that of moorline itself has its own name.
    let pages = names("tests/cli/help", ".txt", ".1.gz").into_iter();
    let pages = pages.map(|page| if page == "moorline.1.gz" { page } else { format!("moorline-{page}") });
    assert_eq!(below("/usr/share/man/man1/"), pages.collect());
    for file in [
        "/usr/lib/sysusers.d/moorline.conf",
        "/usr/lib/tmpfiles.d/moorline.conf",
        "/usr/share/bash-completion/completions/moorline",
        "/usr/share/zsh/vendor-completions/_moorline",
        "/usr/share/fish/vendor_completions.d/moorline.fish",
        "/usr/share/doc/moorline/copyright",
        "/usr/share/doc/moorline/changelog.gz",
        "/usr/share/doc/moorline/third-parties.gz",
        "/usr/share/doc/moorline/docs/install.md",
    ] {
        assert!(files.contains(file), "{file} is not in\n{listed}");
    }
}

#[test]
fn the_binary_needs_no_more_than_its_package_says() {
    let scratch = Scratch::new();
    let said = packaging("check-binary").arg(BINARY).run().succeeds();
    assert!(said.contains("libc.so.6") && !said.contains("libz"), "{said}");

    // git's client for ssh is linked with much.
    let refused = packaging("check-binary").arg(tool("ssh").canonicalize().unwrap()).run().fails();
    assert!(refused.contains("in no package that moorline depends on"), "{refused}");

    // The same binary, were it for Debian 10.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    scratch.write("Cargo.toml", manifest.replace("libc6 (>= 2.34)", "libc6 (>= 2.28)"));
    let check = scratch.directory("packaging").join("check-binary");
    std::fs::copy(root().join("packaging/check-binary"), &check).unwrap();
    let refused = Command::new(check).arg(BINARY).run().fails();
    assert!(refused.contains("and should run with libc6 2.28"), "{refused}");
}

#[test]
fn a_release_is_verified_with_plain_ssh_and_any_changed_byte_is_refused() {
    let scratch = Scratch::new();
    let guide = std::fs::read_to_string(root().join("docs/install.md")).unwrap();
    for command in VERIFY {
        assert!(guide.contains(&format!("    {command}\n")), "docs/install.md does not say: {command}");
    }
    let package = pack(&scratch, "release", "0.1.0");
    let release = scratch.join("release");
    scratch.write("release/sbom.cdx.json", "{}\n");
    let key = |name: &str| {
        let path = scratch.join(name);
        let mut make = scratch.command("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path).run().succeeds();
        path
    };
    let sign = |key: &Path| packaging("sign").arg("--key").arg(key).arg(&release).run().succeeds();
    let verify = |command: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", command]).current_dir(&release).env("PATH", search_path()).env("LC_ALL", "C").run()
    };
    let verified = || VERIFY.iter().map(|command| verify(command)).find(|ran| !ran.is_success());

    let (releases, strangers) = (key("releases"), key("strangers"));
    sign(&releases);
    let public = std::fs::read_to_string(releases.with_extension("pub")).unwrap();
    scratch.write("release/release_signers", format!("moorline namespaces=\"file\" {public}"));
    assert!(verified().is_none(), "{}", verified().unwrap());
    let sums = std::fs::read_to_string(release.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 2, "{sums}");

    // Of the package.
    let packed = std::fs::read(&package).unwrap();
    let mut changed = packed.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&package, changed).unwrap();
    assert!(verified().is_some_and(|ran| ran.said().contains(".deb: FAILED")));
    // Of the package and its checksum.
    verify("sha256sum moorline_* sbom.cdx.json >SHA256SUMS").succeeds();
    assert!(verified().is_some_and(|ran| ran.said().contains("Signature verification failed")));
    // By another key.
    std::fs::write(&package, packed).unwrap();
    std::fs::remove_file(release.join("release_signers")).unwrap();
    sign(&strangers);
    scratch.write("release/release_signers", format!("moorline namespaces=\"file\" {public}"));
    assert!(verified().is_some_and(|ran| ran.what.contains("-Y verify")));
}

#[test]
fn shellcheck_finds_nothing_in_what_packs_and_in_what_root_runs_on_hosts() {
    let scripts =
        ["build-deb", "check-binary", "release", "sign", "scripts/postinst", "scripts/prerm", "scripts/postrm"];
    let mut check = Scratch::new().command("shellcheck");
    check.arg("--severity=warning").args(scripts.map(|script| root().join("packaging").join(script)));
    check.run().succeeds();
}

#[test]
fn a_host_is_installed_upgraded_removed_and_purged_and_keeps_what_cannot_be_made_again() {
    let scratch = Scratch::new();
    let engine = Engine::start();
    let vps = Vps::boot(&engine, "trixie", "packed");
    // The lab's own way to give a host its moorline.
    vps.exec(&["umount", "/usr/bin/moorline"]).succeeds();
    let dpkg = |arguments: &[&str]| -> Ran { vps.exec(&[&["dpkg"], arguments].concat()) };
    let install = |version: &str| -> Ran {
        vps.copy(&pack(&scratch, version, version), "/root/moorline.deb", "0644");
        dpkg(&["--force-unsafe-io", "--install", "/root/moorline.deb"])
    };
    let active = |unit: &&str| vps.is_active(unit);
    let started = |unit: &str| vps.property(unit, "InvocationID");

    install("0.1.0").succeeds();
    vps.exec(&["moorline", "--version"]).succeeds();
    // Nothing is told to it yet, and it says so.
    let doctor = vps.exec(&["moorline", "doctor"]).fails();
    assert!(doctor.contains("/etc/moorline/agent.toml"), "{doctor}");
    assert_eq!(vps.exec(&["id", "--name", "--groups", "moorline-courier"]).succeeds(), "moorline-courier");
    let user = vps.exec(&["getent", "passwd", "moorline-courier"]).succeeds();
    assert!(user.ends_with("/nologin"), "{user}");
    assert_eq!(vps.exec(&["stat", "--format=%a %U:%G", "/etc/moorline"]).succeeds(), "755 root:root");
    // No unit is enabled, and one that is started does nothing.
    for unit in SERVICES {
        assert_eq!(vps.exec(&["systemctl", "is-enabled", unit]).stdout.trim(), "disabled", "{unit}");
        vps.systemctl(&["start", unit]);
    }
    assert!(!SERVICES.iter().any(active));
    assert_eq!(vps.failed_units(), "");

    moor(&vps);
    vps.systemctl(&["enable", "--now", "moorline-secrets.service", SERVICES[0], SERVICES[1]]);
    vps.write("/run/moorline/secrets/app/one", "0400", "held by a container");
    let before = SERVICES.map(started);
    install("0.1.1").succeeds();
    assert_eq!(vps.exec(&["dpkg-query", "--show", "--showformat=${Version}", "moorline"]).succeeds(), "0.1.1");
    until("both run again", || SERVICES.iter().all(active).then_some(()));
    for (unit, before) in SERVICES.iter().zip(before) {
        assert_ne!(started(unit), before, "{unit} still runs the old version");
        let said = vps.exec(&["journalctl", "--output=cat", &format!("_SYSTEMD_INVOCATION_ID={before}")]).succeeds();
        assert!(said.ends_with(" stopped"), "{unit} was not stopped in order:\n{said}");
    }
    assert!(!vps.is_active("moorline-backup.timer"), "what did not run was started");

    let removed = dpkg(&["--remove", "moorline"]).succeeds();
    assert!(removed.contains("its stacks go on running"), "{removed}");
    assert!(!SERVICES.iter().any(active));
    vps.exec(&["test", "!", "-e", "/usr/bin/moorline"]).succeeds();
    let kept =
        ["/etc/moorline/agent.toml", "/etc/moorline/age.key", "/var/lib/moorline", "/run/moorline/secrets/app/one"];
    let all_is_kept = || kept.iter().for_each(|file| drop(vps.exec(&["test", "-e", file]).succeeds()));
    all_is_kept();
    assert_eq!(vps.failed_units(), "");

    let purged = dpkg(&["--purge", "moorline"]).succeeds();
    assert!(purged.contains("rm -r /etc/moorline /var/lib/moorline"), "{purged}");
    all_is_kept();
    let links = vps.exec(&["find", "/etc/systemd/system", "-name", "*moorline*"]).succeeds();
    assert_eq!(links, "", "still enabled");

    dpkg(&["--force-unsafe-io", "--install", "/root/moorline.deb"]).succeeds();
    vps.systemctl(&["enable", "--now", SERVICES[0], SERVICES[1]]);
    assert!(SERVICES.iter().all(active), "the host it was goes on");
}

/// Tells the host who it is. Its git server does not answer: that is no reason for a service not to run.
#[track_caller]
fn moor(vps: &Vps<'_>) {
    let settings = "host = \"packed\"\nremote = \"ssh://git@127.0.0.1:9/fleet.git\"\n\n\
        [git]\ndeploy_key = \"/etc/moorline/ssh/deploy\"\n";
    vps.write("/etc/moorline/agent.toml", "0644", settings);
    vps.exec(&["mkdir", "/etc/moorline/ssh"]).succeeds();
    vps.exec(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/moorline/ssh/deploy"]).succeeds();
    vps.exec(&["chown", "moorline-courier:", "/etc/moorline/ssh/deploy"]).succeeds();
    let key = vps.exec(&["cat", "/etc/moorline/ssh/deploy.pub"]).succeeds();
    vps.write("/etc/moorline/ssh/known_hosts", "0644", format!("[127.0.0.1]:9 {key}\n"));
    vps.write("/etc/moorline/allowed_signers", "0644", format!("alice@example.org {key}\n"));
    vps.exec(&["moorline", "key", "generate"]).succeeds();
}

/// As Debian names it.
fn architecture() -> String {
    Command::new("dpkg").arg("--print-architecture").run().succeeds()
}
