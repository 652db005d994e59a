//! Finds SOPS files that are sealed for the wrong recipients. Needs no key: recipients stand in clear.
//!
//! Says nothing about the values, which only a key can open.

use crate::decide::check::Findings;
use crate::decide::fleet::Mistake;
use crate::decide::sops::{self, CreationRules, Format, Metadata, SealFor};
use crate::model::tree::{File, Tree};

/// Whether this is a file that SOPS sealed, by its name. `.sops.yaml` holds the rules, not secrets.
pub fn is_sops_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    (name.contains(".sops.") || name.ends_with(".sops")) && !name.starts_with(".sops")
}

/// Each SOPS file below `hosts/<host>/` is sealed for exactly that host and those whom `.sops.yaml` names for it.
pub fn check_host(tree: &Tree, host: &str, findings: &mut Findings) {
    let directory = format!("hosts/{host}/");
    let sealed: Vec<(&str, &File)> =
        tree.files().filter(|(path, _)| path.starts_with(&directory) && is_sops_path(path)).collect();
    if sealed.is_empty() {
        return;
    }
    let place = format!("hosts/{host}/recipient");
    let recipient = recipient_of(tree, host);
    if recipient.is_none() {
        let text =
            format!("this file is missing, so the host awaits enrolment: `moorline host enroll {host} RECIPIENT`");
        findings.notes.push(Mistake::new(place.clone(), text).to_string());
    }
    if recipient.is_some_and(|recipient| !sops::is_readable(recipient)) {
        let text = "is not the recipient of a key that this version can use; `moorline key show` on the host prints it";
        findings.mistakes.push(Mistake::new(place, text));
        return;
    }
    let rules = tree.get(".sops.yaml").map(|file| CreationRules::read(&file.bytes));
    if let Some(None) = rules {
        findings.notes.push(".sops.yaml: the creation rules cannot be read, so no recipient was compared".into());
    }
    let rules = rules.flatten();
    for (path, file) in sealed {
        // What cannot be read at all is named by the check of all SOPS files.
        let Ok(metadata) = Format::of_path(path).and_then(|format| sops::metadata(&file.bytes, format)) else {
            continue;
        };
        let rule = match rules.as_ref().map(|rules| rules.of(path)) {
            Some(SealFor::Recipients(recipients)) => Some(recipients),
            Some(SealFor::Nobody) => {
                findings.mistakes.push(Mistake::new(path, "no rule of .sops.yaml is for this file"));
                None
            }
            Some(SealFor::Unknown(problem)) => {
                findings.notes.push(format!("{problem}, so the recipients of {path} were not compared with it"));
                None
            }
            None => None,
        };
        note_empty(path, file, findings);
        let before = findings.mistakes.len();
        if let Some(recipient) = recipient {
            check_own(path, recipient, &metadata, rule, findings);
        }
        if let Some(rule) = rule
            && (before == findings.mistakes.len() || metadata.recipients.iter().any(|known| sops::is_readable(known)))
        {
            check_rule(tree, path, recipient, &metadata, rule, findings);
        }
    }
}

/// `sops` leaves an empty value in clear, so a skeleton whose values were never entered can be seen.
fn note_empty(path: &str, file: &File, findings: &mut Findings) {
    let places = Format::of_path(path).and_then(|format| sops::empty_places(&file.bytes, format)).unwrap_or_default();
    if !places.is_empty() {
        let text = format!("has no value for {}; `sops {path}` enters it", places.join(", "));
        findings.notes.push(Mistake::new(path, text).to_string());
    }
}

/// The host must be able to open its own files.
fn check_own(path: &str, own: &str, metadata: &Metadata, rule: Option<&[String]>, findings: &mut Findings) {
    if !metadata.recipients.iter().any(|known| sops::is_readable(known)) {
        let text = format!(
            "is sealed only for recipients that this version cannot read (post-quantum, plugin, pgp or a key service); \
             add {own} to .sops.yaml, then `sops updatekeys {path}`"
        );
        findings.mistakes.push(Mistake::new(path, text));
    } else if !holds(&metadata.recipients, own) {
        let text = match rule.is_some_and(|rule| holds(rule, own)) {
            true => format!("is not sealed for this host, {own}; `sops updatekeys {path}`"),
            false => format!("is not sealed for this host; add {own} to .sops.yaml, then `sops updatekeys {path}`"),
        };
        findings.mistakes.push(Mistake::new(path, text));
    } else if let Some((opened, needed)) = metadata.lacking(|known| is_same(known, own)) {
        let text = format!("needs {needed} of its key groups, and this host is in {opened}: it could not open it");
        findings.mistakes.push(Mistake::new(path, text));
    }
}

/// The others for whom it is sealed are those of the rule.
fn check_rule(
    tree: &Tree,
    path: &str,
    own: Option<&str>,
    metadata: &Metadata,
    rule: &[String],
    findings: &mut Findings,
) {
    let hosts = tree.directories_in("hosts");
    let name = |recipient: &str| {
        let of = |host: &&&str| recipient_of(tree, host).is_some_and(|known| is_same(known, recipient));
        match hosts.iter().find(of) {
            Some(host) => format!("{recipient} (host {host})"),
            None => shortened(recipient),
        }
    };
    let is_own = |recipient: &str| own.is_some_and(|own| is_same(recipient, own));
    for recipient in rule.iter().filter(|recipient| !is_own(recipient)) {
        let is_other_host =
            hosts.iter().any(|host| recipient_of(tree, host).is_some_and(|known| is_same(known, recipient)));
        // Sealing for another host is not mended by doing what the rule says.
        if is_other_host {
            let text = format!("the rule for {path} names {}, which has no business with it", name(recipient));
            findings.mistakes.push(Mistake::new(".sops.yaml", text));
        } else if !holds(&metadata.recipients, recipient) {
            let named = name(recipient);
            let text = format!("is not sealed for {named}, which .sops.yaml names for it; `sops updatekeys {path}`");
            findings.mistakes.push(Mistake::new(path, text));
        }
    }
    for recipient in metadata.recipients.iter().filter(|recipient| !is_own(recipient)) {
        if !holds(rule, recipient) {
            let text = format!(
                "is sealed for {} too, which .sops.yaml does not name for it; `sops updatekeys {path}`, \
                 then change the secrets: that key opens every older commit",
                name(recipient)
            );
            findings.mistakes.push(Mistake::new(path, text));
        }
    }
    // A host that the file is sealed for, but that the next `sops updatekeys` would take out.
    if let Some(own) = own.filter(|own| holds(&metadata.recipients, own) && !holds(rule, own)) {
        let text = format!("the rule for {path} does not name its host, {own}: `sops updatekeys` would lock it out");
        findings.mistakes.push(Mistake::new(".sops.yaml", text));
    }
}

fn recipient_of<'t>(tree: &'t Tree, host: &str) -> Option<&'t str> {
    tree.get(&format!("hosts/{host}/recipient")).and_then(|file| file.text().ok()).map(str::trim)
}

fn holds(recipients: &[String], recipient: &str) -> bool {
    recipients.iter().any(|known| is_same(known, recipient))
}

/// Behind an ssh recipient a comment may stand, which says nothing.
fn is_same(one: &str, two: &str) -> bool {
    one.split_whitespace().take(2).eq(two.split_whitespace().take(2))
}

/// A post-quantum recipient has 2000 characters.
fn shortened(recipient: &str) -> String {
    match recipient.char_indices().nth(90) {
        None => recipient.to_owned(),
        Some(_) => recipient.chars().take(24).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comment_behind_an_ssh_recipient_says_nothing() {
        assert!(is_same("ssh-ed25519 AAAA root@alpha", "ssh-ed25519 AAAA"));
        assert!(!is_same("ssh-ed25519 AAAA", "ssh-ed25519 AAAB"));
        assert!(!is_same("ssh-ed25519 AAAA", "ssh-ed25519"));
    }

    #[test]
    fn the_file_with_the_rules_is_no_file_of_secrets() {
        for path in ["hosts/a/secrets.sops.yaml", "hosts/a/files/tls.key.sops", "x.sops.env"] {
            assert!(is_sops_path(path), "{path}");
        }
        for path in [".sops.yaml", "hosts/a/.sops.yaml", "stacks/sops/compose.yaml", "a.sops/b.yaml"] {
            assert!(!is_sops_path(path), "{path}");
        }
    }

    /// A file of two key groups, of which both are needed.
    fn grouped() -> Metadata {
        let enc = "-----BEGIN AGE ENCRYPTED FILE-----";
        let group = |name: &str| format!("    - age: [{{recipient: {name}, enc: {enc}}}]\n");
        let text = format!(
            "a: x\nsops:\n  lastmodified: t\n  mac: m\n  shamir_threshold: 2\n  key_groups:\n{}{}",
            group("alpha"),
            group("operator")
        );
        sops::metadata(text.as_bytes(), Format::Yaml).unwrap()
    }

    #[test]
    fn a_host_that_is_in_too_few_key_groups_could_not_open_the_file() {
        assert_eq!(grouped().lacking(|known| known == "alpha"), Some((1, 2)));
        assert_eq!(grouped().lacking(|_| true), None);
    }
}
