//! Reads `agent` in `moorline.yaml`: which version of moorline the hosts of a ring run.

use std::collections::BTreeMap;

use semver::Version;
use serde::Deserialize;

use crate::decide::mistake::{Mistake, line_at, line_of, meant};
use crate::model::release::{Offer, Release};
use crate::model::tree::Tree;

const PATH: &str = "moorline.yaml";
/// The key that stands for every ring that has no entry of its own.
const ALL: &str = "all";
/// A longer URL is a mistake, or somebody's token.
const LONGEST_URL: usize = 500;
/// A directory is named after it.
const LONGEST_VERSION: usize = 64;

/// `agent`: entries by ring.
pub type AgentFile = BTreeMap<String, EntryFile>;

/// One entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryFile {
    version: String,
    url: String,
    sha256: String,
}

/// What each ring is to run.
pub type Offers = BTreeMap<String, Offer>;

/// What a ring is to run; nothing if the repository leaves it to the host.
pub fn offer_of<'a>(offers: &'a Offers, ring: &str) -> Option<&'a Offer> {
    offers.get(ring).or_else(|| offers.get(ALL))
}

/// Reads all entries, and names every mistake.
pub fn offers(file: &AgentFile, tree: &Tree, mistakes: &mut Vec<Mistake>) -> Offers {
    let text = tree.get(PATH).and_then(|file| file.text().ok()).unwrap_or_default();
    let rings: Vec<&str> = tree.below("rings").filter_map(|(name, _)| name.strip_suffix(".yaml")).collect();
    let mut offers = Offers::new();
    for (ring, entry) in file {
        let line = |key: &str| line_at(text, &format!("agent.{ring}{key}")).or_else(|| line_of(tree, PATH, "agent"));
        if ring != ALL && !rings.contains(&ring.as_str()) {
            let text =
                format!("agent: there is no ring `{ring}`{}; `{ALL}` stands for every other", meant(ring, &rings));
            mistakes.push(Mistake::at(PATH, line(""), text));
        }
        let flaws = [
            (".version", version_flaw(&entry.version)),
            (".url", url_flaw(&entry.url)),
            (".sha256", sha256_flaw(&entry.sha256)),
        ];
        let flaws = flaws.into_iter().filter_map(|(key, flaw)| Some((key, flaw?)));
        let flaws: Vec<Mistake> =
            flaws.map(|(key, flaw)| Mistake::at(PATH, line(key), format!("agent.{ring}{key}: {flaw}"))).collect();
        if flaws.is_empty() {
            let release = Release { version: entry.version.clone(), sha256: entry.sha256.clone() };
            offers.insert(ring.clone(), Offer { release, url: entry.url.clone() });
        }
        mistakes.extend(flaws);
    }
    offers
}

fn version_flaw(version: &str) -> Option<String> {
    match Version::parse(version) {
        _ if version.len() > LONGEST_VERSION => Some(format!("is longer than {LONGEST_VERSION} characters")),
        Ok(_) => None,
        Err(error) => Some(format!("is no version such as `0.2.0`: {error}")),
    }
}

fn sha256_flaw(digest: &str) -> Option<String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_digest = digest.len() == 64 && digest.bytes().all(is_digit);
    (!is_digest).then(|| "needs 64 hexadecimal digits in lower case, as `sha256sum` prints them".into())
}

/// A URL that can be taken for nothing else, and that holds nothing that everybody on the host should not read.
fn url_flaw(url: &str) -> Option<String> {
    let Some(rest) = url.strip_prefix("https://") else { return Some("needs `https://`".into()) };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%+/:@[]".contains(&byte);
    if url.len() > LONGEST_URL {
        return Some(format!("is longer than {LONGEST_URL} characters"));
    }
    if host.contains('@') || rest.contains(['?', '#']) {
        return Some("a login, a token or a query has no place in it: everybody on the host can read it".into());
    }
    if host.is_empty() || host.starts_with([':', '-', '.']) || path.is_empty() || !url.bytes().all(plain) {
        return Some("needs the form `https://HOST/PATH`".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tree::File;

    const GOOD: &str = "agent:\n  all:\n    version: 0.2.0\n    url: https://releases.example.org/0.2.0/moorline\n    sha256: \
                        \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n";

    fn read(text: &str) -> (Offers, Vec<String>) {
        #[derive(Deserialize)]
        struct Whole {
            agent: AgentFile,
        }
        let mut tree = Tree::default();
        let file = |text: &str| File { executable: false, bytes: text.as_bytes().to_vec() };
        tree.insert(PATH, file(text));
        tree.insert("rings/production.yaml", file("follow: main\n"));
        let whole: Whole = crate::decide::yaml::read(text).unwrap();
        let mut mistakes = Vec::new();
        let offers = offers(&whole.agent, &tree, &mut mistakes);
        (offers, mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_ring_runs_what_it_names_and_else_what_all_name() {
        let (offers, mistakes) = read(&GOOD.replace("all", "production"));
        assert_eq!(mistakes, Vec::<String>::new());
        assert_eq!(offer_of(&offers, "production").unwrap().release.version, "0.2.0");
        assert_eq!(offer_of(&offers, "canary"), None);
        assert!(offer_of(&read(GOOD).0, "canary").is_some());
    }

    #[test]
    fn each_mistake_is_named_with_its_line() {
        for (from, to, expected) in [
            ("https:", "http:", "moorline.yaml:4: agent.all.url: needs `https://`"),
            ("example.org/0.2.0/moorline", "example.org", "moorline.yaml:4: agent.all.url: needs the form"),
            ("releases", "u:p@releases", "moorline.yaml:4: agent.all.url: a login"),
            ("/moorline", "/moorline?token=1", "moorline.yaml:4: agent.all.url: a login"),
            ("version: 0.2.0", "version: v0.2", "moorline.yaml:3: agent.all.version: is no version"),
            ("version: 0.2.0", "version: 0.2.0-../..", "moorline.yaml:3: agent.all.version: is no version"),
            ("aaaa\"", "aaa\"", "moorline.yaml:5: agent.all.sha256: needs 64"),
            ("aaaa\"", "aaaA\"", "moorline.yaml:5: agent.all.sha256: needs 64"),
            ("all:", "prodution:", "moorline.yaml:2: agent: there is no ring `prodution` (did you mean `production`?)"),
        ] {
            let (_, mistakes) = read(&GOOD.replace(from, to));
            assert!(mistakes.len() == 1 && mistakes[0].starts_with(expected), "{to}: {mistakes:?}");
        }
    }
}
