//! Decides about images: which names move, what a failed pull means, and which images nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::compose;
use crate::model::Model;
use crate::model::ledger::PulledImage;

/// How long an image stays after its last use: going back to it within a week needs no registry.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many images one run removes: a run is not to be long because of what is not needed.
const MOST_REMOVED: usize = 10;
/// Pauses before the second and every further try of a pull: what a registry that limits its clients asks for at least.
const PAUSES: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(6), Duration::from_secs(20)];
/// A layer is kept packed while it is unpacked, and unpacks to about twice its size.
const UNPACKED: u64 = 3;
/// What stays free besides: ledger, reports and logs must be writable when the images are not.
const RESERVE: u64 = 512 * 1024 * 1024;

/// Whether an image reference names something that moves: no tag and no digest, or `latest`.
pub fn is_floating(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest" || tag.is_empty(),
    }
}

/// The registry of an image reference, as Docker reads it.
pub fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// What the engine's words about a failed pull mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The registry or the way to it; the same question may have another answer soon.
    Passing,
    /// The registry does not give it to this login, or to nobody without one.
    Denied,
    /// What the registry answered, and will answer again.
    Lasting,
}

/// Words that the engine (26.1, and the libraries it is made of) uses for what passes.
const PASSING: [&str; 20] = [
    "toomanyrequests",
    "too many requests",
    "429",
    "500 internal",
    "502 bad gateway",
    "503 service",
    "504 gateway",
    "connection refused",
    "connection reset",
    "broken pipe",
    "no route to host",
    "network is unreachable",
    "no such host",
    "server misbehaving",
    "timeout",
    "deadline exceeded",
    "request canceled",
    "eof",
    "http status: 5",
    "unavailable",
];

/// Words that it uses when a login is missing, wrong, or has no right.
const DENIED: [&str; 5] =
    ["unauthorized", "access denied", "denied:", "authentication required", "no basic auth credentials"];

/// What a failed pull means. Unknown words are taken for an answer: a person should see them.
pub fn trouble(message: &str) -> Trouble {
    let message = message.to_ascii_lowercase();
    // A hash that is wrong is no accident of the network, whatever else is said beside it.
    let is_forged = ["verification failed", "unexpected digest", "digest did not match", "does not match"];
    let speaks_of = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match (speaks_of(&is_forged), speaks_of(&PASSING), speaks_of(&DENIED)) {
        (false, true, _) => Trouble::Passing,
        (false, false, true) => Trouble::Denied,
        _ => Trouble::Lasting,
    }
}

/// How long to wait after so many tries that failed; none when it was tried often enough.
pub fn pause_after(tries: usize) -> Option<Duration> {
    PAUSES.get(tries.checked_sub(1)?).copied()
}

/// How much space a pull of so many packed bytes needs, in bytes.
fn space_needed(packed: u64) -> u64 {
    packed.saturating_mul(UNPACKED).saturating_add(RESERVE)
}

/// How much space is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// The bytes that are needed.
    pub needed: u64,
    /// How many of them are not free.
    pub missing: u64,
}

/// What is missing for a pull of so many packed bytes; none if it fits.
pub fn space_missing(packed: u64, free: u64) -> Option<Short> {
    let needed = space_needed(packed);
    (free < needed).then(|| Short { needed, missing: needed - free })
}

/// What is to be done about the images that were pulled here.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Begin to be unused.
    pub unused: Vec<String>,
    /// Are in use again.
    pub used: Vec<String>,
    /// Are to be removed.
    pub due: Vec<String>,
}

/// Compares what was pulled with what the models need. Whatever was not pulled by moorline is nobody's business here.
pub fn sweep<'a>(
    pulled: &BTreeMap<String, PulledImage>,
    needed: impl Iterator<Item = &'a Model>,
    now: Timestamp,
) -> Sweep {
    let needed: BTreeSet<String> = needed.flat_map(compose::images).collect();
    let mut sweep = Sweep::default();
    for (reference, image) in pulled.iter().filter(|(_, image)| !image.removed) {
        match image.unused_since {
            None if !needed.contains(reference) => sweep.unused.push(reference.clone()),
            Some(_) if needed.contains(reference) => sweep.used.push(reference.clone()),
            Some(since) if now.duration_since(since).unsigned_abs() > KEPT && now > since => {
                sweep.due.push(reference.clone());
            }
            _ => {}
        }
    }
    sweep.due.truncate(MOST_REMOVED);
    sweep
}

/// What the registry of this reference calls the image, out of what all registries call it.
pub fn digest_of(reference: &str, digests: &[String]) -> Option<String> {
    let name = reference.split('@').next().unwrap_or(reference);
    let repository = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(left, _)| left);
    let of_repository = |digest: &&String| digest.split_once('@').is_some_and(|(named, _)| named == repository);
    digests.iter().find(of_repository).or(digests.first()).cloned()
}

/// Why an image that was just pulled is not the one that this name stood for; none if it may be used.
pub fn moved(reference: &str, id: &str, before: Option<&PulledImage>, floating: bool) -> Option<String> {
    let before = before.filter(|before| before.id != id && !floating && !reference.contains('@'))?;
    Some(format!("it was {} when it was pulled at {}, and now it is {id}", before.id, before.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floating_references_are_known() {
        for image in ["nginx", "nginx:", "nginx:latest", "registry:5000/nginx", "registry:5000/a/nginx:latest"] {
            assert!(is_floating(image), "{image}");
        }
        for image in ["nginx:1.27", "registry:5000/a/nginx:1", "nginx@sha256:00", "nginx:latest@sha256:00"] {
            assert!(!is_floating(image), "{image}");
        }
    }

    #[test]
    fn registries_are_named_as_docker_names_them() {
        assert_eq!(registry_of("nginx:1"), "docker.io");
        assert_eq!(registry_of("library/nginx:1"), "docker.io");
        assert_eq!(registry_of("ghcr.io/a/b:1"), "ghcr.io");
        assert_eq!(registry_of("127.0.0.1:5000/a:1"), "127.0.0.1:5000");
    }

    #[test]
    fn what_passes_is_told_from_what_lasts() {
        for message in [
            "toomanyrequests: You have reached your pull rate limit",
            "received unexpected HTTP status: 503 Service Unavailable",
            "Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused",
            "unexpected EOF",
            "net/http: TLS handshake timeout",
        ] {
            assert_eq!(trouble(message), Trouble::Passing, "{message}");
        }
        for message in [
            "unauthorized: authentication required",
            "pull access denied for team/web, repository does not exist or may require 'docker login'",
        ] {
            assert_eq!(trouble(message), Trouble::Denied, "{message}");
        }
        for message in [
            "manifest unknown: manifest unknown",
            "filesystem layer verification failed for digest sha256:4290",
            "manifest verification failed for digest sha256:00: unexpected EOF",
            "something that nobody has seen yet",
        ] {
            assert_eq!(trouble(message), Trouble::Lasting, "{message}");
        }
    }

    #[test]
    fn tries_end() {
        let pauses: Vec<_> = (1..).map_while(pause_after).collect();
        assert_eq!(pauses.len(), 3);
        assert!(pauses.is_sorted());
    }

    #[test]
    fn only_what_was_pulled_and_was_not_needed_for_a_week_is_due() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        let image = |since: Option<&str>, removed| PulledImage {
            id: "sha256:1".into(),
            digest: None,
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            unused_since: since.map(|since| since.parse().unwrap()),
            removed,
        };
        let pulled: BTreeMap<String, PulledImage> = [
            ("running:1", image(None, false)),
            ("back:1", image(Some("2026-01-01T00:00:00Z"), false)),
            ("dropped:1", image(None, false)),
            ("yesterday:1", image(Some("2026-01-09T00:00:00Z"), false)),
            ("old:1", image(Some("2026-01-02T00:00:00Z"), false)),
            ("gone:1", image(Some("2026-01-01T00:00:00Z"), true)),
            ("future:1", image(Some("2027-01-01T00:00:00Z"), false)),
        ]
        .map(|(name, image)| (name.to_owned(), image))
        .into();
        let service = |image: &str| (image.to_owned(), json!({ "image": image }));
        let model = Model { services: ["running:1", "back:1"].map(service).into(), ..Model::default() };
        let swept = sweep(&pulled, [&model].into_iter(), now);
        assert_eq!(swept.unused, ["dropped:1"]);
        assert_eq!(swept.used, ["back:1"]);
        assert_eq!(swept.due, ["old:1"]);
    }

    #[test]
    fn the_digest_is_the_one_of_the_registry_that_the_reference_names() {
        let digests = ["mirror:5000/a/web@sha256:1".to_owned(), "nginx@sha256:2".to_owned()];
        let of = |reference| digest_of(reference, &digests).unwrap();
        assert_eq!(of("nginx:1.27"), digests[1]);
        assert_eq!(of("mirror:5000/a/web"), digests[0]);
        assert_eq!(of("mirror:5000/a/web:1@sha256:1"), digests[0]);
        assert_eq!(of("docker.io/library/nginx:1"), digests[0], "named in another way");
        assert_eq!(digest_of("nginx:1", &[]), None);
    }

    #[test]
    fn a_tag_that_moved_is_noticed_unless_it_may_move() {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let before = PulledImage { id: "sha256:1".into(), digest: None, at, unused_since: None, removed: true };
        assert!(moved("web:1", "sha256:2", Some(&before), false).is_some());
        assert!(moved("web:1", "sha256:1", Some(&before), false).is_none());
        assert!(moved("web:1", "sha256:2", Some(&before), true).is_none());
        assert!(moved("web:1", "sha256:2", None, false).is_none());
        assert!(moved("web@sha256:3", "sha256:2", Some(&before), false).is_none());
    }
}
