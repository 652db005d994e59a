//! Says when the tip has stood still for longer than the operators expect, as when news is kept from a host.
//!
//! It is said and nothing more: a clock decides nothing about trust.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::decide::mistake::{Mistake, line_of, read_yaml};
use crate::decide::schedule;
use crate::model::tree::Tree;

const FILE: &str = "moorline.yaml";
const DAY: i64 = 24 * 60 * 60;

/// `trust` in `moorline.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustSection {
    #[serde(default)]
    expect_change_within: Option<String>,
}

/// The part of `moorline.yaml` that is read here.
#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    trust: TrustSection,
}

/// What is wrong with the section.
pub fn mistake(tree: &Tree, section: &TrustSection) -> Option<Mistake> {
    let error = schedule::parse_duration(section.expect_change_within.as_deref()?).err()?;
    let line = line_of(tree, FILE, "expect_change_within");
    Some(Mistake::at(FILE, line, format!("trust.expect_change_within: {error}")))
}

/// How often the operators expect the tip to move, if they said so in a way that can be read.
pub fn expected_change(tree: &Tree) -> Option<Duration> {
    let part = read_yaml::<Part>(tree, FILE, &mut Vec::new())?;
    schedule::parse_duration(&part.trust.expect_change_within?).ok()
}

/// What there is to say about a tip that was accepted then.
pub fn remark(accepted: Option<Timestamp>, within: Option<Duration>, now: Timestamp) -> Option<String> {
    let still = now.duration_since(accepted?);
    let too_long = still > SignedDuration::try_from(within?).ok()?;
    too_long.then(|| format!("the tip has not moved for {} days", still.as_secs() / DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tip_stands_still_for_too_long_only_after_the_time_and_never_before_it_was_accepted() {
        let accepted = Timestamp::from_second(1_760_000_000).unwrap();
        let within = Some(Duration::from_secs(30 * 24 * 60 * 60));
        let after = |seconds: i64| Timestamp::from_second(1_760_000_000 + seconds).unwrap();
        assert_eq!(remark(Some(accepted), within, after(30 * DAY)), None);
        let said = Some("the tip has not moved for 30 days".to_owned());
        assert_eq!(remark(Some(accepted), within, after(30 * DAY + 1)), said);
        assert_eq!(remark(Some(accepted), within, after(-3650 * DAY)), None);
        assert_eq!(remark(Some(accepted), None, after(3650 * DAY)), None);
        assert_eq!(remark(None, within, after(0)), None);
    }

    #[test]
    fn a_time_that_cannot_be_read_is_a_mistake_with_its_line() {
        let section = |text: &str| TrustSection { expect_change_within: Some(text.to_owned()) };
        let mut tree = Tree::default();
        let bytes = b"version: 1\ntrust:\n  expect_change_within: soon\n".to_vec();
        tree.insert(FILE.to_owned(), crate::model::tree::File { executable: false, bytes });
        let found = mistake(&tree, &section("soon")).unwrap();
        assert_eq!((found.path.as_str(), found.line), (FILE, Some(3)));
        assert!(mistake(&tree, &section("30d")).is_none());
        assert_eq!(expected_change(&tree), None);
    }
}
