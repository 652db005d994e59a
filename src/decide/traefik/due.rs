//! What of a host's routes must be published, and why: what stacks say now, what Traefik was told, and what lies in the
//! directory that it watches.

use std::collections::BTreeMap;
use std::path::Path;

use super::host::STACK;
use super::publish::{DIRECTORY, Share};
use crate::decide::digest::DigestKey;
use crate::decide::drift::Edited;
use crate::model::ledger::{Published, Standing};
use crate::model::{Cause, Secret};

/// The files in the directory that Traefik watches, by path below it.
pub type Found = BTreeMap<String, Secret<Vec<u8>>>;

/// What must be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// How many routes each stack has.
    pub routes: BTreeMap<String, usize>,
    /// Why it must be published, by stack; what is wrong with the files is the stack `traefik`'s to mend.
    pub causes: BTreeMap<String, Vec<Cause>>,
}

/// Compares. `shares` is what stacks say now.
pub fn due(shares: &BTreeMap<String, Share>, published: Option<&Published>, found: &Found, key: &DigestKey) -> Due {
    let none = Published { standing: Standing::InForce, ..Published::default() };
    let published = published.unwrap_or(&none);
    let mut due = Due::default();
    for (stack, share) in shares {
        due.routes.insert(stack.clone(), share.routes);
        if published.stacks.get(stack) != Some(&share.digest) {
            due.causes.insert(stack.clone(), vec![Cause::RoutesChanged]);
        }
    }
    for stack in published.stacks.keys().filter(|stack| !shares.contains_key(*stack)) {
        due.causes.insert(stack.clone(), vec![Cause::RoutesChanged]);
    }
    let mut of_traefik: Vec<Cause> = match found.is_empty() && !published.files.is_empty() {
        true => vec![Cause::MemoryEmpty],
        false => amiss(published, found, key).into_iter().map(|(path, what)| cause(&path, what)).collect(),
    };
    if published.begun.is_some() || published.standing == Standing::Written {
        of_traefik.push(Cause::RoutesUnseen);
    }
    if !of_traefik.is_empty() {
        due.causes.entry(STACK.to_owned()).or_default().extend(of_traefik);
    }
    due
}

/// Whether Traefik serves what it was told, and nobody touched it.
pub fn is_as_left(published: &Published, found: &Found, key: &DigestKey) -> bool {
    published.standing == Standing::InForce && published.begun.is_none() && amiss(published, found, key).is_empty()
}

/// The files that somebody changed or put there, for the record. `directory` is the stack's.
pub fn edited(published: Option<&Published>, found: &Found, key: &DigestKey, directory: &Path) -> Vec<Edited> {
    let none = Published::default();
    let amiss = amiss(published.unwrap_or(&none), found, key).into_iter();
    let edited = amiss.filter_map(|(path, _)| {
        let bytes = found.get(&path)?.expose().clone();
        let path = format!("{DIRECTORY}/{path}");
        Some(Edited { place: directory.join(&path), path, found: Some(bytes) })
    });
    edited.collect()
}

/// Whether this file is one that moorline put there.
pub fn is_ours(path: &str, published: &Published) -> bool {
    published.files.contains_key(path) || published.begun.as_ref().is_some_and(|begun| begun.contains_key(path))
}

/// Whether somebody else changed this file of ours, or took it away.
pub fn is_touched(path: &str, published: &Published, found: &Found, key: &DigestKey) -> bool {
    let digest = found.get(path).map(|bytes| key.of([bytes.expose().as_slice()]));
    let begun = published.begun.as_ref().and_then(|begun| begun.get(path));
    digest.is_none() || ![published.files.get(path), begun].contains(&digest.as_ref())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amiss {
    Edited,
    Gone,
    Foreign,
}

fn amiss(published: &Published, found: &Found, key: &DigestKey) -> Vec<(String, Amiss)> {
    let none = BTreeMap::new();
    let begun = published.begun.as_ref().unwrap_or(&none);
    let mut amiss = Vec::new();
    for (path, bytes) in found {
        let digest = key.of([bytes.expose().as_slice()]);
        let known = [published.files.get(path), begun.get(path)];
        if !known.contains(&Some(&digest)) {
            amiss.push((path.clone(), if is_ours(path, published) { Amiss::Edited } else { Amiss::Foreign }));
        }
    }
    let gone = published.files.keys().filter(|path| !found.contains_key(*path) && published.begun.is_none());
    amiss.extend(gone.map(|path| (path.clone(), Amiss::Gone)));
    amiss
}

fn cause(path: &str, what: Amiss) -> Cause {
    let found = match what {
        Amiss::Edited => "edited",
        Amiss::Gone => "gone",
        Amiss::Foreign => "beside what moorline wrote",
    };
    Cause::FileEdited { path: format!("{DIRECTORY}/{path}"), found: found.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DigestKey {
        DigestKey::new(vec![1; 32])
    }

    fn files(files: &[(&str, &str)]) -> Found {
        files.iter().map(|(path, text)| ((*path).to_owned(), Secret::new(text.as_bytes().to_vec()))).collect()
    }

    fn digests(of: &Found) -> BTreeMap<String, String> {
        of.iter().map(|(path, bytes)| (path.clone(), key().of([bytes.expose().as_slice()]))).collect()
    }

    fn published(of: &Found) -> Published {
        let stacks = [("web".to_owned(), "1".to_owned())].into();
        Published { files: digests(of), stacks, standing: Standing::InForce, ..Published::default() }
    }

    fn share(digest: &str) -> BTreeMap<String, Share> {
        [("web".to_owned(), Share { digest: digest.into(), routes: 2 })].into()
    }

    fn causes(shares: &BTreeMap<String, Share>, published: Option<&Published>, found: &Found) -> Vec<String> {
        let due = due(shares, published, found, &key());
        due.causes.iter().flat_map(|(stack, all)| all.iter().map(move |cause| format!("{stack}: {cause}"))).collect()
    }

    #[test]
    fn what_was_told_and_lies_there_is_not_due() {
        let ours = files(&[("moorline.routes.yaml", "a")]);
        assert_eq!(causes(&share("1"), Some(&published(&ours)), &ours), [""; 0]);
        assert!(is_as_left(&published(&ours), &ours, &key()));
        assert_eq!(causes(&BTreeMap::new(), None, &Found::new()), [""; 0]);
        assert_eq!(causes(&share("2"), Some(&published(&ours)), &ours), ["web: its routes changed"]);
        assert_eq!(causes(&share("1"), None, &Found::new()), ["web: its routes changed"]);
        assert_eq!(causes(&BTreeMap::new(), Some(&published(&ours)), &ours), ["web: its routes changed"]);
    }

    #[test]
    fn what_a_person_did_to_the_files_is_drift_and_what_a_kill_did_is_not() {
        let ours = files(&[("moorline.routes.yaml", "a")]);
        let edited_file = files(&[("moorline.routes.yaml", "b"), ("mine.yaml", "x")]);
        let found = causes(&share("1"), Some(&published(&ours)), &edited_file);
        let expected = [
            "traefik: dynamic/mine.yaml was found beside what moorline wrote",
            "traefik: dynamic/moorline.routes.yaml was found edited",
        ];
        assert_eq!(found, expected);
        let record = edited(Some(&published(&ours)), &edited_file, &key(), Path::new("/s/traefik"));
        assert_eq!(record[0].path, "dynamic/mine.yaml");
        assert_eq!(record[1].found.as_deref(), Some(&b"b"[..]));
        let other = files(&[("mine.yaml", "x")]);
        assert_eq!(causes(&share("1"), Some(&published(&ours)), &other).len(), 2);
        assert_eq!(
            causes(&share("1"), Some(&published(&ours)), &Found::new()),
            ["traefik: its files in memory are gone"]
        );
        let begun = files(&[("moorline.routes.yaml", "b")]);
        let killed = Published { begun: Some(digests(&begun)), ..published(&ours) };
        for found in [&ours, &begun] {
            let expected = ["traefik: nobody has seen yet that Traefik serves them"];
            assert_eq!(causes(&share("1"), Some(&killed), found), expected);
            assert!(!is_as_left(&killed, found, &key()));
        }
    }
}
