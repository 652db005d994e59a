//! Finds every mistake in a checkout before it is merged. Needs no Docker, no key, no host.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::decide::check_secrets::is_sops_path;
use crate::decide::digest::DigestKey;
use crate::decide::fleet::{self, Mistake};
use crate::decide::mistake::{line_at, line_in};
use crate::decide::render::{self, Secrets};
use crate::decide::ring::seal::{self, SealFlaw};
use crate::decide::sops::{self, Format};
use crate::decide::trust::{self, DetachedFlaw, SignerFiles, SignersFlaw};
use crate::decide::{advice, backup, check_clear, check_secrets, compose, images, policy, start_first, traefik, yaml};
use crate::model::HostSpec;
use crate::model::policy::Allowances;
use crate::model::ring::Ring;
use crate::model::tree::Tree;

/// Whether a key with dates is valid now is nothing that a checkout can say.
const SOME_TIME: i64 = 0;

/// What `moorline check` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The hosts that were looked at.
    pub hosts: Vec<String>,
    /// What must be changed before it can run, sorted by place.
    pub mistakes: Vec<Mistake>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Checks the whole repository, or one host of it. `branch` is the one that hosts follow.
pub fn check(tree: &Tree, only: Option<&str>, branch: &str) -> Findings {
    let mut findings = Findings::default();
    let allowances = fleet::read_repository(tree, &mut findings.mistakes).allowances;
    findings.mistakes.extend(fleet::promotion(tree).err().unwrap_or_default());
    check_files(tree, &mut findings);
    check_signers(tree, &mut findings);
    check_sops_rules(tree, &mut findings);
    let hosts = match only {
        Some(host) => vec![host.to_owned()],
        None => fleet::hosts(tree),
    };
    if hosts.is_empty() {
        findings.mistakes.push(Mistake::new("hosts", "there is no host"));
    }
    for host in &hosts {
        check_host(tree, host, branch, &allowances, &mut findings);
    }
    if only.is_none() {
        for stack in tree.directories_in("stacks") {
            check_compose_file(tree, stack, &allowances, &mut findings);
        }
    }
    check_sops_files(tree, &mut findings);
    check_clear::check(tree, &mut findings);
    findings.hosts = hosts;
    findings.mistakes.sort();
    findings.mistakes.dedup();
    findings.notes.sort();
    findings.notes.dedup();
    findings
}

/// Names and sizes that every host refuses, wherever in the repository they are.
fn check_files(tree: &Tree, findings: &mut Findings) {
    for flaw in trust::tree_flaws(tree, &trust::Limits::default()) {
        findings.mistakes.push(Mistake::new(flaw.path, flaw.fault.to_string()));
    }
}

/// A revision without usable signers is refused by every host, so it must never be merged.
fn check_signers(tree: &Tree, findings: &mut Findings) {
    let path = "signers/allowed_signers";
    match tree.get(path) {
        None => findings.mistakes.push(Mistake::new(path, "this file is missing: nobody could sign the next commit")),
        // The same two questions that a host asks.
        Some(file) => match trust::signers_readable(&signer_files(tree, &file.bytes)) {
            Ok((signers, keyring)) => {
                let lines = signers.unsupported().map(|(line, why)| format!("{path}:{line}: {why}"));
                let keys = keyring.unsupported().map(|(file, why)| format!("signers/{file}: {why}"));
                findings.notes.extend(lines.chain(keys));
            }
            Err(SignersFlaw::Keys { file, flaw }) => {
                findings.mistakes.push(Mistake::new(format!("signers/{file}"), flaw.to_string()));
            }
            Err(SignersFlaw::Line { line, flaw }) => {
                findings.mistakes.push(Mistake::at(path, Some(line), flaw.to_string()));
            }
            Err(flaw) => findings.mistakes.push(Mistake::new(path, flaw.to_string())),
        },
    }
}

fn signer_files(tree: &Tree, list: &[u8]) -> SignerFiles {
    let key = |(path, file): (&str, &crate::model::tree::File)| {
        let name = path.strip_prefix("signers/").filter(|name| name.ends_with(".asc") && !name.contains('/'))?;
        Some((name.to_owned(), file.bytes.clone()))
    };
    SignerFiles { allowed_signers: Some(list.to_vec()), keys: tree.files().filter_map(key).collect() }
}

fn check_sops_rules(tree: &Tree, findings: &mut Findings) {
    let has_secrets = tree.files().any(|(path, _)| path.contains("/secrets.sops."));
    if has_secrets && tree.get(".sops.yaml").is_none() {
        let text = "this file is missing: `sops` would not know for whom to seal";
        findings.mistakes.push(Mistake::new(".sops.yaml", text));
    }
}

fn check_host(tree: &Tree, host: &str, branch: &str, allowances: &Allowances, findings: &mut Findings) {
    let path = format!("hosts/{host}/host.yaml");
    match fleet::read(tree, host) {
        Ok(spec) => {
            check_traefik(&spec, findings);
            findings.notes.extend(spec.notes);
            for stack in &spec.stacks {
                check_compose_file(tree, &stack.name, allowances, findings);
            }
        }
        Err(mistakes) => findings.mistakes.extend(mistakes),
    }
    check_secrets::check_host(tree, host, findings);
    if let Ok(ring) = fleet::ring_of(tree, host) {
        match fleet::ring(tree, &ring, branch) {
            Ok(ring) => check_seal(tree, &ring, findings),
            Err(mut mistakes) => {
                // A ring that is not there is the host's mistake; anything else is the ring file's.
                for mistake in &mut mistakes {
                    if tree.get(&mistake.path).is_none() {
                        mistake.text = format!("ring `{ring}`: {}", mistake.text);
                        mistake.line = fleet::line_of(tree, &path, &ring);
                        mistake.path.clone_from(&path);
                    }
                }
                findings.mistakes.extend(mistakes);
            }
        }
    }
}

/// A ring file that must be signed, and is not, stops every host of the ring. Whether its sequence is new only the hosts
/// know.
fn check_seal(tree: &Tree, ring: &Ring, findings: &mut Findings) {
    let bytes = |path: &str| tree.get(path).map(|file| file.bytes.as_slice());
    let path = fleet::ring_path(&ring.name);
    let offered = seal::Offered {
        ring,
        file: bytes(&path).unwrap_or_default(),
        signature: bytes(&fleet::ring_signature_path(&ring.name)),
        signers: bytes("signers/allowed_signers").unwrap_or_default(),
        at: SOME_TIME,
    };
    match seal::check(&offered, None) {
        Ok(_) | Err(SealFlaw::Signature(DetachedFlaw::Limited { .. })) => {}
        Err(flaw) => {
            findings.mistakes.push(Mistake::at(&path, fleet::line_of(tree, &path, "signed"), flaw.to_string()));
        }
    }
}

/// What Traefik would be told on this host: all stacks together, since names must be there and must be there once.
fn check_traefik(spec: &HostSpec, findings: &mut Findings) {
    // Secrets that nobody here can open are named where they are read.
    let Ok(secrets) = Secrets::sealed(spec) else { return };
    let key = DigestKey::new(vec![0; 32]);
    let told = traefik::tell_roughly(&render::inputs(spec, &secrets, &key), &key);
    findings.mistakes.extend(told.mistakes);
    findings.notes.extend(told.notes);
}

/// What can be said about a Compose file without Compose: images, and the plainest demands.
fn check_compose_file(tree: &Tree, stack: &str, allowances: &Allowances, findings: &mut Findings) {
    let path = format!("stacks/{stack}/compose.yaml");
    let Some(Ok(text)) = tree.get(&path).map(|file| file.text()) else { return };
    let value = match yaml::read::<Json>(text) {
        Ok(value) => value,
        Err(flaw) => return findings.mistakes.push(fleet::yaml_mistake(&path, flaw)),
    };
    let allowed = allowances.get(stack).map_or(&[][..], Vec::as_slice);
    findings.mistakes.extend(policy::sketched(stack, &value, text, allowed));
    let floating_allowed = value
        .get("x-moorline")
        .and_then(|extension| extension.get("images")?.as_str())
        .is_some_and(|rule| rule == "floating");
    let extension = extension_of(&value);
    match compose::Extension::read(&extension) {
        Err(text) => findings.mistakes.push(Mistake::at(&path, fleet::line_of(tree, &path, "x-moorline:"), text)),
        Ok(extension) => check_extension(&path, text, &value, &extension, findings),
    }
    let services = value.get("services").and_then(Json::as_object);
    if services.is_none_or(serde_json::Map::is_empty) {
        findings.mistakes.push(Mistake::new(&path, "there are no services"));
    }
    for (service, lacks) in advice::of_file(&value) {
        let line = fleet::line_of(tree, &path, &format!("{service}:"));
        findings.notes.push(Mistake::at(&path, line, format!("service `{service}`: {lacks}")).to_string());
    }
    let all: BTreeMap<String, Json> =
        services.into_iter().flatten().map(|(name, service)| (name.clone(), service.clone())).collect();
    for (name, service) in services.into_iter().flatten() {
        for found in start_first::hindrances(name, &all) {
            let line = line_at(text, &format!("services.{name}.{}", found.place));
            findings.mistakes.push(Mistake::at(&path, line, format!("service `{name}`: {found}")));
        }
        let from_elsewhere = service.get("extends").is_some();
        match service.get("image").and_then(Json::as_str) {
            None if from_elsewhere => {}
            None => {
                let text = format!("service `{name}` has no image; hosts pull, they do not build");
                findings.mistakes.push(Mistake::at(&path, fleet::line_of(tree, &path, &format!("{name}:")), text));
            }
            // A tag that comes from a variable is known only on the host.
            Some(image) if !image.contains('$') && images::is_floating(image) && !floating_allowed => {
                let text = format!("`{image}` has no fixed tag; name one, or set `x-moorline.images: floating`");
                let line =
                    fleet::line_of(tree, &path, &format!("image: {image}")).or(fleet::line_of(tree, &path, image));
                findings.mistakes.push(Mistake::at(&path, line, text));
            }
            Some(_) => {}
        }
        if let Err(text) = compose::service_extension(&json!({ "x-moorline": extension_of(service) })) {
            let line = fleet::line_of(tree, &path, &format!("{name}:"));
            findings.mistakes.push(Mistake::at(&path, line, format!("service `{name}`: {text}")));
        }
    }
}

/// What `x-moorline` says of deploys and backups can be carried out.
fn check_extension(path: &str, text: &str, value: &Json, extension: &compose::Extension, findings: &mut Findings) {
    if let Err(flaw) = extension.refusal() {
        findings.mistakes.push(Mistake::at(path, line_in(text, "x-moorline:"), flaw));
    }
    let names = |key: &str| {
        let entries = value.get(key).and_then(Json::as_object).into_iter().flatten();
        entries.map(|(name, _)| name.as_str()).collect()
    };
    // Only Compose knows what another file brings in.
    let is_whole = value.get("include").is_none();
    let names = is_whole.then(|| backup::Names { services: names("services"), volumes: names("volumes") });
    for flaw in backup::flaws(&extension.backup, &extension.drill, names.as_ref()) {
        let line = policy::line_with(text, &format!("x-moorline.{}", flaw.place), &flaw.value);
        findings.mistakes.push(Mistake::at(path, line, format!("x-moorline.{}: {}", flaw.place, flaw.text)));
    }
}

/// `x-moorline` of a Compose file or a service, unless it is only known after interpolation.
fn extension_of(value: &Json) -> Json {
    let extension = value.get("x-moorline").cloned();
    extension.filter(|extension| !extension.to_string().contains('$')).unwrap_or(json!({}))
}

/// Nothing in a `*.sops.*` path is plaintext.
fn check_sops_files(tree: &Tree, findings: &mut Findings) {
    for (path, file) in tree.files().filter(|(path, _)| is_sops_path(path)) {
        let checked = Format::of_path(path).and_then(|format| sops::unsealed_places(&file.bytes, format));
        match checked {
            Ok(places) => {
                for place in places {
                    let line = place.rsplit('.').next().and_then(|key| fleet::line_of(tree, path, key));
                    let text = format!("`{place}` stands in clear; take it out and enter a new one with `sops {path}`");
                    findings.mistakes.push(Mistake::at(path, line, text));
                }
            }
            Err(error) => findings.mistakes.push(fleet::sealed_mistake(path, &error)),
        }
    }
}
