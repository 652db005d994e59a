//! Reads `promotion` in `moorline.yaml`: in which order rings get a change, and what proves it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::decide::mistake::{Mistake, line_of, meant};
use crate::decide::promotion::Rules;
use crate::decide::schedule;
use crate::model::tree::Tree;

/// `promotion` in `moorline.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PromotionFile {
    order: Vec<String>,
    soak: String,
    #[serde(default)]
    status: BTreeMap<String, String>,
}

/// The rules, or what in them can never come true.
pub(super) fn rules(tree: &Tree, file: PromotionFile) -> Result<Rules, Vec<Mistake>> {
    let path = "moorline.yaml";
    let mut mistakes = Vec::new();
    let mut wrong = |word: &str, text: String| mistakes.push(Mistake::at(path, line_of(tree, path, word), text));
    let rings: Vec<&str> = tree.below("rings").filter_map(|(name, _)| name.strip_suffix(".yaml")).collect();
    for (place, ring) in file.order.iter().enumerate() {
        if !rings.contains(&ring.as_str()) {
            wrong(ring, format!("promotion.order: there is no ring `{ring}`{}", meant(ring, &rings)));
        }
        if file.order[..place].contains(ring) {
            wrong(ring, format!("promotion.order: ring `{ring}` is listed twice"));
        }
    }
    let hosts = tree.directories_in("hosts");
    let known: Vec<&str> = hosts.into_iter().collect();
    for (host, url) in &file.status {
        if !known.contains(&host.as_str()) {
            wrong(host, format!("promotion.status: there is no host `{host}`{}", meant(host, &known)));
        }
        if !url.starts_with("http://") && !url.starts_with("https://") {
            wrong(host, format!("promotion.status.{host}: needs an http or https URL"));
        }
    }
    let soak = schedule::parse_duration(&file.soak).unwrap_or_else(|error| {
        wrong("soak", format!("promotion.soak: {error}"));
        std::time::Duration::ZERO
    });
    match mistakes.is_empty() {
        true => Ok(Rules { order: file.order, soak, status: file.status }),
        false => Err(mistakes),
    }
}
