//! Random documents that real `sops` seals: our decoder prints for each what `sops -d` prints, byte for byte.
//!
//! Deterministic: a document is made from the name of its format and its number, so a failure names what shows it.
//! `MOORLINE_SOPS_DOCUMENTS` asks for another number of documents per format, `MOORLINE_SOPS_FIRST` for other ones.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod dice;
mod json;
mod lines;
#[path = "../support/tools.rs"]
#[allow(dead_code, reason = "every test binary uses its own part of the lab")]
mod tools;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use dice::Dice;
use moorline::decide::sops::{self, Format, Identities};

const KEYS: [&str; 3] = [
    include_str!("../vectors/sops/keys/host1.txt"),
    include_str!("../vectors/sops/keys/host2.txt"),
    include_str!("../vectors/sops/keys/admin.txt"),
];

/// What one document showed.
enum Shown {
    Same,
    /// The values are the same, but a comment stands elsewhere. Which comment belongs to which value is a guess of
    /// go-yaml that depends on the layout.
    SameButComments,
    /// SOPS does not seal such a document, or does not open what it sealed.
    Refused(String),
    Differs(String),
}

#[test]
fn yaml_opens_to_what_sops_prints() {
    compare("yaml", 200, |dice| yaml::text(dice).into_bytes());
}

#[test]
fn json_opens_to_what_sops_prints() {
    compare("json", 100, |dice| json::text(dice).into_bytes());
}

#[test]
fn dotenv_opens_to_what_sops_prints() {
    compare("dotenv", 100, lines::dotenv);
}

#[test]
fn binary_opens_to_what_sops_prints() {
    compare("binary", 40, lines::binary);
}

fn compare(name: &'static str, usual: u64, make: impl Fn(&mut Dice) -> Vec<u8> + Sync) {
    let number = |variable, otherwise| {
        std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number of documents"))
    };
    let (first, count) = (number("MOORLINE_SOPS_FIRST", 0), number("MOORLINE_SOPS_DOCUMENTS", usual));
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let key = scratch.path().join("keys.txt");
    fs::write(&key, KEYS.concat()).expect("writable");
    let identities = KEYS.map(|key| Identities::parse(key).expect("readable"));
    let identities = identities.into_iter().reduce(Identities::join).expect("three");
    let next = AtomicU64::new(first);
    let shown = Mutex::new(Vec::new());
    // Starting a program is mostly waiting, so this is more than there are cores.
    std::thread::scope(|threads| {
        for worker in 0..3 {
            let directory = scratch.path().join(format!("{name}-{worker}"));
            fs::create_dir(&directory).expect("writable");
            let (make, next, shown, identities, key) = (&make, &next, &shown, &identities, &key);
            threads.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + count {
                        return;
                    }
                    let mut dice = Dice::new(name, number);
                    let plain = make(&mut dice);
                    let result = one(name, &plain, &mut dice, &directory, identities, key);
                    shown.lock().expect("no worker panics").push((number, result));
                }
            });
        }
    });
    let shown = shown.into_inner().expect("no worker panics");
    let same = shown.iter().filter(|(_, shown)| matches!(shown, Shown::Same)).count();
    let moved = shown.iter().filter(|(_, shown)| matches!(shown, Shown::SameButComments)).count();
    let mut differing: Vec<_> = shown
        .iter()
        .filter_map(|(number, shown)| match shown {
            Shown::Differs(how) => Some((number, how)),
            Shown::Refused(why) => {
                if std::env::var_os("MOORLINE_SOPS_REFUSED").is_some() {
                    println!("{name} {number}: sops refused: {why}");
                }
                None
            }
            Shown::Same | Shown::SameButComments => None,
        })
        .collect();
    differing.sort();
    let refused = count as usize - same - moved - differing.len();
    println!("{name}: {same} of {count} documents the same, {moved} but for comments, {refused} refused by sops");
    let places: Vec<_> = differing.iter().take(20).map(|(number, how)| format!("{name} {number}: {how}")).collect();
    assert!(differing.is_empty(), "{} of {count} differ:\n{}", differing.len(), places.join("\n"));
    assert!(moved * 50 <= same, "comments stand elsewhere in {moved} of {count}");
    assert!(same as u64 * 10 >= count * 7, "only {same} of {count} were compared: sops refuses too many");
}

/// Seals one document with random rules, opens it with both, and compares.
fn one(name: &str, plain: &[u8], dice: &mut Dice, directory: &Path, identities: &Identities, key: &Path) -> Shown {
    let file = directory.join(match name {
        "dotenv" => "document.env",
        "binary" => "document.bin",
        other => ["document.yaml", "document.json"][usize::from(other == "json")],
    });
    fs::write(&file, plain).expect("writable");
    let rule = rule(dice);
    fs::write(directory.join(".sops.yaml"), &rule).expect("writable");
    let sealing = sops(directory, key).args(["encrypt", "--in-place"]).arg(&file).output().expect("sops starts");
    let because = |output: &Output| String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !sealing.status.success() {
        return Shown::Refused(because(&sealing));
    }
    let sealed = fs::read(&file).expect("sops wrote it");
    let opening = sops(directory, key).arg("decrypt").arg(&file).output().expect("sops starts");
    let format = Format::of_name(name).expect("known");
    let ours = sops::decrypt(&sealed, format, identities).and_then(|document| document.emit());
    if !opening.status.success() {
        return Shown::Refused(because(&opening));
    }
    let problem = match ours {
        Ok(ours) if *ours.expose() == opening.stdout => match sops::unsealed_places(&sealed, format) {
            Ok(places) if places.is_empty() => return Shown::Same,
            Ok(places) => format!("plaintext would be reported at {places:?}"),
            Err(error) => error.to_string(),
        },
        Ok(ours) => {
            let [ours, theirs] =
                [ours.expose(), &opening.stdout].map(|text| String::from_utf8_lossy(text).into_owned());
            if name == "yaml" && without_comments(&ours) == without_comments(&theirs) {
                return Shown::SameButComments;
            }
            let same = ours.lines().zip(theirs.lines()).take_while(|(ours, theirs)| ours == theirs).count();
            let part = |text: &str| text.lines().skip(same.saturating_sub(3)).take(9).collect::<Vec<_>>().join("\n");
            format!("--- ours, near the difference\n{}\n--- theirs\n{}", part(&ours), part(&theirs))
        }
        Err(error) => format!("--- refused: {error}"),
    };
    let [plain, sealed] = [plain, &sealed].map(String::from_utf8_lossy);
    let sealed = sealed.split("\nsops:").next().unwrap_or_default();
    Shown::Differs(format!("{rule}\n--- plain\n{plain}\n--- sealed\n{sealed}\n{problem}\n"))
}

fn without_comments(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')).collect()
}

fn sops(directory: &Path, key: &Path) -> Command {
    let mut command = Command::new(program());
    command.current_dir(directory).arg("--disable-version-check").stdin(Stdio::null());
    command.env_clear().env("SOPS_AGE_KEY_FILE", key).env("HOME", directory);
    command
}

fn program() -> PathBuf {
    tools::tool("sops")
}

/// A `.sops.yaml`: who may open, and what is sealed.
fn rule(dice: &mut Dice) -> String {
    let recipient = |key: &str| key.lines().find_map(|line| line.strip_prefix("# public key: ")).map(str::to_owned);
    let recipients: Vec<_> = KEYS.iter().map(|key| recipient(key).expect("age-keygen wrote it")).collect();
    let mut rule = String::from("creation_rules:\n  - path_regex: .*\n");
    if dice.one_in(4) {
        let groups = 2 + dice.below(2);
        rule += "    key_groups:\n";
        for recipient in recipients.iter().take(groups) {
            rule += &format!("      - age: [{recipient}]\n");
        }
        if groups > 2 || dice.one_in(2) {
            rule += &format!("    shamir_threshold: {}\n", 2 + dice.below(groups - 1));
        }
    } else {
        rule += &format!("    age: '{}'\n", recipients[..1 + dice.below(3)].join(","));
    }
    if let Some(sealed) = dice.pick(&[
        None,
        None,
        None,
        Some("unencrypted_suffix: _clear"),
        Some("encrypted_suffix: _secret"),
        Some("unencrypted_regex: '^(p|name)'"),
        Some("encrypted_regex: '(?i)pass|_secret$|^\\Qa.b\\E$'"),
        Some("unencrypted_comment_regex: clear"),
        Some("encrypted_comment_regex: seal"),
    ]) {
        rule += &format!("    {sealed}\n");
        // Refused together with a rule by comment, on purpose.
        if !sealed.contains("comment") && dice.one_in(3) {
            rule += "    mac_only_encrypted: true\n";
        }
    }
    rule
}
