//! Reads the file of one ring, and names what could never come true in it.

use std::collections::BTreeSet;

use jiff::civil::{Time, Weekday};
use serde::Deserialize;

use crate::decide::mistake::{Mistake, line_of, meant, read_yaml};
use crate::decide::ring::freeze;
use crate::decide::schedule;
use crate::model::Revision;
use crate::model::ring::{Freeze, Moment, Ring, RingPointer, Signing, Wave};
use crate::model::tree::Tree;

/// More would be a mistake in the making of the file.
const MOST: usize = 32;

/// `rings/<ring>.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RingFile {
    #[serde(default)]
    ring: Option<String>,
    #[serde(default)]
    follow: Option<String>,
    #[serde(default)]
    commit: Option<Revision>,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(default)]
    halt: Option<String>,
    #[serde(default)]
    waves: Vec<WaveFile>,
    #[serde(default)]
    freeze: Vec<FreezeFile>,
    #[serde(default)]
    signed: Option<SignedFile>,
    #[serde(default)]
    downgrade: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaveFile {
    percent: u8,
    after: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FreezeFile {
    from: String,
    until: String,
    zone: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SignedFile {
    Required,
}

/// Where a ring's file stands.
pub fn ring_path(ring: &str) -> String {
    format!("rings/{ring}.yaml")
}

/// Where the signature of a ring's file stands.
pub fn ring_signature_path(ring: &str) -> String {
    format!("rings/{ring}.yaml.sig")
}

/// The ring file of `ring`. `branch` is the one that this host follows.
pub fn ring(tree: &Tree, ring: &str, branch: &str) -> Result<Ring, Vec<Mistake>> {
    let path = ring_path(ring);
    let mut mistakes = Vec::new();
    if tree.get(&path).is_none() {
        let names: Vec<&str> = tree.below("rings").filter_map(|(name, _)| name.strip_suffix(".yaml")).collect();
        return Err(vec![Mistake::new(path, format!("there is no such ring{}", meant(ring, &names)))]);
    }
    let Some(file) = read_yaml::<RingFile>(tree, &path, &mut mistakes) else {
        return Err(mistakes);
    };
    let line = |word: &str| line_of(tree, &path, word);
    let pointer = match (file.follow, file.commit) {
        (Some(follow), None) if follow == branch => RingPointer::Follow(follow),
        (Some(follow), None) => {
            let text = format!("follows `{follow}`, but the branch that is accepted here is `{branch}`");
            return Err(vec![Mistake::at(&path, line("follow"), text)]);
        }
        (None, Some(commit)) => RingPointer::Commit(commit),
        _ => return Err(vec![Mistake::new(path, "needs either `follow: BRANCH` or `commit: REVISION`")]),
    };
    let signing = file.signed.map_or(Signing::ByCommit, |SignedFile::Required| Signing::Required);
    let mut wrong = |word: &str, text: String| mistakes.push(Mistake::at(&path, line(word), text));
    match (&file.ring, signing) {
        (Some(named), _) if named != ring => {
            wrong("ring", format!("is for the ring `{named}`; a signed file counts for its own ring only"));
        }
        (None, Signing::Required) => wrong("signed", format!("needs `ring: {ring}`, so that it counts nowhere else")),
        _ => {}
    }
    if signing == Signing::Required && file.sequence.is_none() {
        wrong("signed", "needs `sequence: NUMBER`, one more in each version, so that no older one can return".into());
    }
    let waves = waves(&file.waves, &pointer).unwrap_or_else(|text| {
        wrong("waves", text);
        Vec::new()
    });
    let freezes = freezes(&file.freeze).unwrap_or_else(|text| {
        wrong("freeze", text);
        Vec::new()
    });
    let downgrade: BTreeSet<String> = file.downgrade.into_iter().collect();
    match mistakes.is_empty() {
        true => Ok(Ring {
            name: ring.to_owned(),
            pointer,
            halt: file.halt,
            waves,
            freezes,
            signing,
            sequence: file.sequence,
            downgrade,
        }),
        false => Err(mistakes),
    }
}

fn waves(files: &[WaveFile], pointer: &RingPointer) -> Result<Vec<Wave>, String> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    if matches!(pointer, RingPointer::Follow(_)) {
        // Each merge would begin the count anew, and the last hosts of a busy branch would never move.
        return Err("waves spread a promotion; a ring that follows a branch has none".into());
    }
    if files.len() > MOST {
        return Err(format!("there are more than {MOST} waves"));
    }
    let mut waves: Vec<Wave> = Vec::new();
    for file in files {
        let after = schedule::parse_duration(&file.after).map_err(|error| format!("`after`: {error}"))?;
        let earlier = waves.last().copied().unwrap_or(Wave { percent: 0, after: std::time::Duration::ZERO });
        if file.percent <= earlier.percent || file.percent > 100 || after < earlier.after {
            return Err("each wave needs more percent than the one before, at most 100, and no less `after`".into());
        }
        waves.push(Wave { percent: file.percent, after });
    }
    match waves.last() {
        Some(last) if last.percent == 100 => Ok(waves),
        _ => Err("the last wave needs `percent: 100`: the hosts beyond it would never move".into()),
    }
}

fn freezes(files: &[FreezeFile]) -> Result<Vec<Freeze>, String> {
    if files.len() > MOST {
        return Err(format!("there are more than {MOST} freezes"));
    }
    let mut freezes = Vec::new();
    for file in files {
        let (from, until) = (moment(&file.from)?, moment(&file.until)?);
        if from == until {
            return Err(format!("a freeze from `{}` until `{}` has no length", file.from, file.until));
        }
        if freeze::zone(&file.zone).is_none() {
            let text = format!("`{}` is not a time zone: write an IANA name such as `Europe/Berlin`", file.zone);
            return Err(text);
        }
        freezes.push(Freeze { from, until, zone: file.zone.clone() });
    }
    match freeze::is_endless(&freezes) {
        true => Err("the freezes together leave no moment of the week for a deploy".into()),
        false => Ok(freezes),
    }
}

/// `Fri 16:00`.
fn moment(text: &str) -> Result<Moment, String> {
    let read = || {
        let (day, time) = text.split_once(' ')?;
        let day = match day.to_ascii_lowercase().as_str() {
            "mon" => Weekday::Monday,
            "tue" => Weekday::Tuesday,
            "wed" => Weekday::Wednesday,
            "thu" => Weekday::Thursday,
            "fri" => Weekday::Friday,
            "sat" => Weekday::Saturday,
            "sun" => Weekday::Sunday,
            _ => return None,
        };
        let (hour, minute) = time.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
        let time = Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()?;
        Some(Moment { day, time })
    };
    read().ok_or_else(|| {
        let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        format!("`{shown}` is not a moment of the week: write it as in `Fri 16:00`")
    })
}
