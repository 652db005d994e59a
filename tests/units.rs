//! The units that we ship, as systemd of Debian 13 judges them: nothing to remark, and each exposed no more than it must be.
//! That they boot and do their work like this, and what the courier may not, is shown on whole hosts (`real_units`,
//! `real_reboot`).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, and say what they measured"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::Scratch;

/// How exposed a unit may be, in tenths.
const EXPOSED: [(&str, u32); 5] = [
    ("moorline-courier.service", 15),
    ("moorline.service", 20),
    ("moorline-secrets.service", 15),
    ("moorline-backup.service", 25),
    ("moorline-job@.service", 25),
];

/// `systemd-analyze` of Debian 13, with its own libraries.
fn analyze(arguments: &[&str]) -> Output {
    let debian = support::tools::directory().join("vps/trixie");
    let libraries = debian.join("usr/lib/x86_64-linux-gnu");
    let mut analyze = Command::new(debian.join("lib64/ld-linux-x86-64.so.2"));
    analyze.arg("--library-path").arg(format!("{}:{}", libraries.display(), libraries.join("systemd").display()));
    analyze.arg(debian.join("usr/bin/systemd-analyze")).args(arguments).env("SYSTEMD_COLORS", "0");
    analyze.output().expect("the tree of the lab has systemd")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

#[test]
fn no_unit_is_more_exposed_than_it_must_be() {
    for (unit, tenths) in EXPOSED {
        let path = units().join(unit).display().to_string();
        let judge = |tenths: u32| {
            analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={tenths}"), &path])
        };
        let judged = judge(tenths);
        assert!(judged.status.success(), "{}", said(&judged));
        assert!(!judge(5).status.success(), "{unit}: a threshold is kept by whoever cannot fail it");
    }
    let services = fs::read_dir(units()).unwrap().filter_map(|unit| unit.unwrap().file_name().into_string().ok());
    assert_eq!(services.filter(|unit| unit.ends_with(".service")).count(), EXPOSED.len(), "every service is looked at");
}

#[test]
fn systemd_has_nothing_to_remark() {
    let scratch = Scratch::new();
    for program in ["usr/bin/moorline", "bin/kill"] {
        let path = scratch.write(program, "");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let root = format!("--root={}", scratch.join("").display());
    let verify = |unit: &str| {
        let verified = analyze(&["verify", "--man=no", "--recursive-errors=no", &root, &unit.replace('@', "@1")]);
        format!("{}{}", said(&verified), if verified.status.success() { "" } else { "it failed" })
    };
    let names: Vec<String> =
        fs::read_dir(units()).unwrap().map(|unit| unit.unwrap().file_name().into_string().unwrap()).collect();
    let names: Vec<String> = names.into_iter().filter(|name| !name.ends_with(".sysusers")).collect();
    let place = |name: &str, text: &str| _ = scratch.write(Path::new("etc/systemd/system").join(name), text);
    let text = |name: &str| fs::read_to_string(units().join(name)).unwrap();
    names.iter().for_each(|name| place(name, &text(name)));
    for name in &names {
        assert_eq!(verify(name), "", "{name}");
        // An unknown key is only a warning.
        place(name, &text(name).replace("[Unit]\n", "[Unit]\nUnknown=1\n"));
        assert!(verify(name).contains("Unknown key"), "{name}");
        place(name, &text(name));
    }
}
