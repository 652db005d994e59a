//! Reads `backup` of `host.yaml`: repositories, times, what is kept. A repository that could not be reached, or a secret
//! that is not there, would be noticed at night.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Time;
use serde::Deserialize;

use super::SHARED_SECTION;
use super::place::{self, Opened};
use crate::decide::mistake::{Mistake, line_of};
use crate::decide::ring::freeze;
use crate::decide::schedule;
use crate::model::backup::{Backups, Deletes, Every, HostKey, Keep, Limits, Place, Repository};
use crate::model::host::Sealed;
use crate::model::tree::Tree;

/// Where the password is looked for when `host.yaml` gives it no name.
const PASSWORD: &str = "BACKUP_PASSWORD";
/// How long a night may take when nothing is said.
const BUDGET: Duration = Duration::from_hours(6);
/// Less could not even open a repository; more, and a night would run into the next.
const BUDGETS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(23);
/// At less than this, the 16 MiB of one pack would take more than four minutes, and a job that is silent for long is ended.
const SLOWEST: u64 = 64 << 10;
/// More would be a mistake in the making of the file.
const MOST: usize = 8;

/// `backup` in `host.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupFile {
    #[serde(default)]
    repository: Option<String>,
    #[serde(default)]
    repositories: Vec<RepositoryFile>,
    at: String,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    keep: KeepFile,
    #[serde(default)]
    check: Option<Every>,
    #[serde(default)]
    drill: Option<Every>,
    #[serde(default)]
    budget: Option<String>,
    #[serde(default)]
    limits: LimitsFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryFile {
    name: String,
    url: String,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    host_key: Option<String>,
    #[serde(default)]
    login: Option<String>,
    #[serde(default)]
    append_only: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeepFile {
    last: u32,
    hourly: u32,
    daily: u32,
    weekly: u32,
    monthly: u32,
    yearly: u32,
    within: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsFile {
    upload: Option<String>,
    download: Option<String>,
}

/// Where mistakes of this section go.
struct Margin<'a> {
    tree: &'a Tree,
    path: &'a str,
    mistakes: &'a mut Vec<Mistake>,
}

impl Margin<'_> {
    fn wrong(&mut self, word: &str, text: String) {
        let line = line_of(self.tree, self.path, word).or_else(|| line_of(self.tree, self.path, "backup"));
        self.mistakes.push(Mistake::at(self.path, line, format!("backup.{text}")));
    }

    /// A value, or a mistake.
    fn value<T>(&mut self, word: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|text| self.wrong(word, text)).ok()
    }
}

/// The section, or every mistake in it.
pub(super) fn read(tree: &Tree, path: &str, file: BackupFile, mistakes: &mut Vec<Mistake>) -> Option<Backups> {
    let mut place = Margin { tree, path, mistakes };
    let repositories = repositories(file.repository, file.repositories, &mut place);
    let at = place.value("at", time_of_day(&file.at));
    if let Some(zone) = file.zone.as_ref().filter(|zone| freeze::zone(zone).is_none()) {
        place.wrong("zone", format!("zone: `{zone}` is not a time zone: write an IANA name such as `Europe/Berlin`"));
    }
    let keep = place.value("keep", keep(&file.keep));
    let budget = place.value("budget", budget(file.budget.as_deref()));
    let upload = place.value("upload", rate("upload", file.limits.upload.as_deref()));
    let download = place.value("download", rate("download", file.limits.download.as_deref()));
    Some(Backups {
        repositories,
        at: at?,
        zone: file.zone,
        keep: keep?,
        check: file.check.unwrap_or(Every::Weekly),
        drill: file.drill.unwrap_or(Every::Monthly),
        budget: budget?,
        limits: Limits { upload: upload?, download: download? },
    })
}

/// What a person should know of a section without mistakes.
pub(super) fn notes(path: &str, backups: &Backups) -> Vec<String> {
    let mut notes = Vec::new();
    if backups.keep == Keep::default() {
        notes.push(format!("{path}: backup.keep names nothing, so no snapshot is ever forgotten"));
    }
    if backups.repositories.iter().all(|repository| matches!(repository.place, Place::Directory(_))) {
        notes.push(format!("{path}: all repositories are on this host: what takes the host takes its backups"));
    }
    notes
}

fn repositories(one: Option<String>, many: Vec<RepositoryFile>, place: &mut Margin<'_>) -> Vec<Repository> {
    let files = match (one, many) {
        (Some(url), many) if many.is_empty() => {
            vec![RepositoryFile { name: Repository::ONLY.into(), url, ..Default::default() }]
        }
        (None, many) if !many.is_empty() && many.len() <= MOST => many,
        _ => {
            place.wrong("backup", format!("needs either `repository: URL` or up to {MOST} `repositories`"));
            return Vec::new();
        }
    };
    let mut seen = BTreeSet::new();
    let mut read = Vec::new();
    for file in files {
        let name = file.name.clone();
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(is_word) {
            place.wrong(&name, format!("repositories: `{name}` is no name: lower-case letters, digits and `-`"));
        } else if !seen.insert(name.clone()) {
            place.wrong(&name, format!("repositories: `{name}` is listed twice"));
        }
        let url = file.url.clone();
        let repository = repository(file).map_err(|text| format!("repository `{name}`: {text}"));
        read.extend(place.value(&url, repository));
    }
    read
}

fn repository(file: RepositoryFile) -> Result<Repository, String> {
    let RepositoryFile { name, url, password, key, host_key, login, append_only } = file;
    let place = place::place(&url, Opened { key, host_key, login })?;
    let deletes = if append_only { Deletes::Elsewhere } else { Deletes::Here };
    Ok(Repository { name, place, password: password.unwrap_or_else(|| PASSWORD.into()), deletes })
}

fn time_of_day(text: &str) -> Result<Time, String> {
    let read = || {
        let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    };
    read().ok_or_else(|| {
        let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        format!("at: `{shown}` is not a time of day: write it as in `\"03:00\"`")
    })
}

fn keep(file: &KeepFile) -> Result<Keep, String> {
    let within = match &file.within {
        Some(text) => Some(schedule::parse_duration(text).map_err(|error| format!("keep.within: {error}"))?),
        None => None,
    };
    let KeepFile { last, hourly, daily, weekly, monthly, yearly, .. } = *file;
    Ok(Keep { last, hourly, daily, weekly, monthly, yearly, within })
}

fn budget(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(BUDGET) };
    let budget = schedule::parse_duration(text).map_err(|error| format!("budget: {error}"))?;
    match BUDGETS.contains(&budget) {
        true => Ok(budget),
        false => Err(format!(
            "budget: `{text}` is not between {} and {}",
            schedule::show_duration(*BUDGETS.start()),
            schedule::show_duration(*BUDGETS.end())
        )),
    }
}

/// `5MiB`, per second.
fn rate(key: &str, text: Option<&str>) -> Result<Option<u64>, String> {
    let Some(text) = text else { return Ok(None) };
    let read = || {
        let text = text.strip_suffix("/s").unwrap_or(text);
        let (number, unit) = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1_u64 << 30)]
            .into_iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
        number.trim().parse::<u64>().ok()?.checked_mul(unit)
    };
    match read() {
        Some(rate) if rate >= SLOWEST => Ok(Some(rate)),
        Some(_) => Err(format!("limits.{key}: `{text}` is too slow to be of use: at least `64KiB` per second")),
        None => Err(format!("limits.{key}: `{text}` is no rate: write bytes per second, as in `5MiB`")),
    }
}

/// The names in section `all` that are for backups alone, with what each of them is.
fn wanted(backups: &Backups) -> Vec<(&str, String)> {
    let mut wanted = Vec::new();
    for repository in &backups.repositories {
        let mut want =
            |name, what: &str| wanted.push((name, format!("the {what} of repository `{}`", repository.name)));
        want(repository.password.as_str(), "password");
        match &repository.place {
            Place::Directory(_) => {}
            Place::Rest { login, .. } => login.iter().for_each(|login| want(login, "login")),
            Place::Sftp(ssh) | Place::RestOverSsh(ssh) => {
                want(&ssh.key, "private key");
                if let HostKey::Named(name) = &ssh.host_key {
                    want(name, "server's key");
                }
            }
        }
    }
    wanted
}

/// The names of secrets that no stack gets: they are for moorline.
pub(super) fn withheld(backups: Option<&Backups>) -> BTreeSet<String> {
    backups.map(wanted).unwrap_or_default().into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// Every secret that a repository needs is in the file.
pub(super) fn check_secrets(
    tree: &Tree,
    path: &str,
    backups: &Backups,
    sealed: Option<&Sealed>,
    secrets: &BTreeMap<String, BTreeSet<String>>,
    mistakes: &mut Vec<Mistake>,
) {
    for (name, what) in wanted(backups) {
        if !secrets.get(SHARED_SECTION).is_some_and(|names| names.contains(name)) {
            let file = sealed.map_or("a SOPS file", |sealed| sealed.path.as_str());
            let text = format!("`{name}`, {what}, is not in section `{SHARED_SECTION}` of {file}");
            let line = line_of(tree, path, name).or_else(|| line_of(tree, path, "backup"));
            mistakes.push(Mistake::at(path, line, text));
        }
    }
}
