//! Reads `backup` of `host.yaml`: repositories, times, what is kept. A repository that could not be reached, or a secret
//! that is not there, would be noticed at night.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Time;
use serde::Deserialize;

use super::SHARED_SECTION;
use crate::decide::mistake::{Mistake, line_of};
use crate::decide::ring::freeze;
use crate::decide::{dotenv, schedule};
use crate::model::backup::{Backups, Deletes, Every, HostKey, Keep, Limits, Place, Repository, Sftp};
use crate::model::host::Sealed;
use crate::model::tree::Tree;

/// Where secrets are looked for when `host.yaml` gives them no name.
const PASSWORD: &str = "BACKUP_PASSWORD";
const KEY: &str = "BACKUP_SSH_KEY";
/// How long a night may take when nothing is said.
const BUDGET: Duration = Duration::from_hours(6);
/// Less could not even open a repository; more, and a night would run into the next.
const BUDGETS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_hours(23);
/// The domain of Hetzner's Storage Boxes, which all show the same key.
const STORAGE_BOXES: &str = ".your-storagebox.de";
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
    let place = if url.starts_with('/') {
        only_for("sftp", &[("key", &key), ("host_key", &host_key)])?;
        only_for("rest", &[("login", &login)])?;
        directory(&url)?
    } else if let Some(rest) = url.strip_prefix("sftp://") {
        only_for("rest", &[("login", &login)])?;
        Place::Sftp(sftp(rest, key, host_key)?)
    } else if let Some(server) = url.strip_prefix("rest:") {
        only_for("sftp", &[("key", &key), ("host_key", &host_key)])?;
        rest(server, login)?
    } else {
        let shown: String = url.chars().take(40).collect();
        return Err(format!("`{shown}` is neither `sftp://USER@HOST:PORT/PATH`, `rest:https://...` nor `/PATH`"));
    };
    let deletes = if append_only { Deletes::Elsewhere } else { Deletes::Here };
    Ok(Repository { name, place, password: password.unwrap_or_else(|| PASSWORD.into()), deletes })
}

fn only_for(kind: &str, given: &[(&str, &Option<String>)]) -> Result<(), String> {
    match given.iter().find(|(_, value)| value.is_some()) {
        Some((key, _)) => Err(format!("`{key}` is for `{kind}:` only")),
        None => Ok(()),
    }
}

fn directory(url: &str) -> Result<Place, String> {
    let path = PathBuf::from(url);
    let is_plain = path.components().count() > 1 && !url.split('/').any(|part| part == ".." || part == ".");
    if !is_plain || url.contains(char::is_control) {
        return Err(format!("`{url}` is not the plain path of a directory"));
    }
    Ok(Place::Directory(path))
}

/// `USER@HOST[:PORT]/PATH`. All of it ends in arguments of `ssh`, so nothing may look like an option.
fn sftp(rest: &str, key: Option<String>, host_key: Option<String>) -> Result<Sftp, String> {
    let form = || "needs the form `sftp://USER@HOST:PORT/PATH`".to_owned();
    let (server, path) = rest.split_once('/').ok_or_else(form)?;
    let (user, address) = server.rsplit_once('@').ok_or_else(form)?;
    if user.contains(':') {
        return Err("a password does not belong into a URL; the login is by key".into());
    }
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(form)?)),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None => 22,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(format!("`{port}` is not a port"))?,
    };
    let is_word = |text: &str, more: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.chars().all(|character| character.is_ascii_alphanumeric() || more.contains(character))
    };
    if !is_word(user, "._-+") || !is_word(host, ".-:") {
        return Err(form());
    }
    let parts = path.strip_prefix('/').unwrap_or(path);
    if parts.is_empty()
        || path.contains(char::is_control)
        || parts.split('/').any(|part| [".", "..", ""].contains(&part))
    {
        return Err("needs a directory of its own on the server, such as `/alpha`".into());
    }
    let is_box = host.ends_with(STORAGE_BOXES);
    if is_box && port != 23 {
        return Err(format!("a Storage Box knows keys in OpenSSH's format on port 23 only: write `{host}:23`"));
    }
    let host_key = match host_key {
        Some(text) => pin(text)?,
        None if is_box => HostKey::StorageBox,
        None => {
            return Err(format!(
                "`host_key` is missing: what `ssh-keyscan -p {port} -t ed25519 {host}` prints behind the name, compared \
                 with what the server's owner says"
            ));
        }
    };
    Ok(Sftp {
        user: user.to_owned(),
        host: host.to_owned(),
        port,
        path: path.to_owned(),
        key: key.unwrap_or_else(|| KEY.into()),
        host_key,
    })
}

/// `ssh-ed25519 AAAA...`, or the name of a secret that holds it.
fn pin(text: String) -> Result<HostKey, String> {
    let Some((kind, rest)) = text.split_once(' ') else {
        return match dotenv::is_name(&text) {
            true => Ok(HostKey::Named(text)),
            false => Err("`host_key` is neither a key such as `ssh-ed25519 AAAA...` nor the name of a secret".into()),
        };
    };
    let body = rest.split(' ').next().unwrap_or_default();
    // A key repeats its kind inside: a length of four bytes, then the word.
    let is_key =
        STANDARD.decode(body).is_ok_and(|bytes| bytes.get(4..).is_some_and(|at| at.starts_with(kind.as_bytes())));
    match is_key {
        true => Ok(HostKey::Pinned(format!("{kind} {body}"))),
        false => Err("`host_key` is not a key in OpenSSH's format: `ssh-ed25519 AAAA...`".into()),
    }
}

fn rest(server: &str, login: Option<String>) -> Result<Place, String> {
    let after = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://"));
    let host = after.and_then(|after| after.split('/').next()).unwrap_or_default();
    if host.is_empty() || server.contains(char::is_whitespace) || server.contains(['?', '#']) {
        return Err("needs the form `rest:https://HOST:PORT/PATH`".into());
    }
    if host.contains('@') {
        return Err(
            "a login does not belong into a URL: put `USER:PASSWORD` into the SOPS file and its name at `login`".into(),
        );
    }
    let is_here = ["localhost", "127.0.0.1", "[::1]"]
        .iter()
        .any(|here| host.strip_prefix(here).is_some_and(|port| port.is_empty() || port.starts_with(':')));
    if login.is_some() && server.starts_with("http://") && !is_here {
        return Err("the login would cross the network in clear: use `https://`".into());
    }
    Ok(Place::Rest { url: server.to_owned(), login })
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
        number.trim().parse::<u64>().ok()?.checked_mul(unit).filter(|rate| *rate > 0)
    };
    match read() {
        Some(rate) => Ok(Some(rate)),
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
            Place::Sftp(sftp) => {
                want(&sftp.key, "private key");
                if let HostKey::Named(name) = &sftp.host_key {
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
