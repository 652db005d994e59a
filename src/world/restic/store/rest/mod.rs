//! A backup repository behind restic's REST protocol, version 2: on a REST server, or over what an SSH server runs for our
//! key. Servers answer "not found" and "forbidden" to many things, so each is believed only where it can be meant.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use hyper::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use tokio::runtime::{self, Runtime};

use self::http::Http;
use self::stdio::Stdio;
use self::wire::{Answer, Question, Wire};
use super::super::order::Login;
use super::super::trouble::{Kind, Trouble};
use super::pace::Pace;
use super::{Entry, LARGEST, PAUSES, Part, Store, UNFINISHED};
use crate::world::clock;

mod content;
mod http;
mod stdio;
mod wire;

/// A listing with sizes.
const LISTING: &str = "application/vnd.x.restic.rest.v2";
/// The one file that is not named by the digest of its content.
const CONFIG: &str = "config";

/// The server.
#[derive(Debug)]
pub struct Rest {
    name: String,
    wire: Wire,
    pace: Arc<Pace>,
    /// On the thread that asks; each question is waited for.
    runtime: Runtime,
}

/// One line of a listing.
#[derive(Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl Rest {
    /// The repository at a URL, for a login of the form `USER:PASSWORD`. Nothing is connected yet.
    pub fn over_http(url: &str, login: Option<&str>, pace: Arc<Pace>) -> Result<Self, Trouble> {
        Self::new(format!("rest:{url}"), Wire::Http(Http::new(url, login)?), pace)
    }

    /// What an SSH server runs for our key. Nothing is connected yet.
    pub fn over_ssh(login: Login, pace: Arc<Pace>) -> Result<Self, Trouble> {
        let Login { user, host, port, path, .. } = &login;
        Self::new(format!("rest+ssh://{user}@{host}:{port}/{path}"), Wire::Ssh(Box::new(Stdio::new(login))), pace)
    }

    fn new(name: String, wire: Wire, pace: Arc<Pace>) -> Result<Self, Trouble> {
        let failed = |error: io::Error| Trouble::io("the runtime", &error);
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        Ok(Self { name, wire, pace, runtime })
    }

    /// Asks, and once more when the connection breaks. Everything that is asked here may be asked twice.
    fn ask(&self, question: &Question<'_>) -> Result<Answer, Trouble> {
        let mut pauses = PAUSES.iter();
        let mut again = true;
        loop {
            let trouble = match self.runtime.block_on(self.wire.ask(question, &self.pace)) {
                Ok(answer) if is_passing(answer.status) => says(Kind::Away, question.path, answer.status),
                // It may mean anything; most of what it means does not pass.
                Ok(answer) if answer.status == StatusCode::INTERNAL_SERVER_ERROR && again && !self.is_full() => {
                    again = false;
                    continue;
                }
                Ok(answer) => return Ok(answer),
                Err(trouble) if trouble.kind == Kind::Away => trouble,
                Err(trouble) => return Err(trouble),
            };
            match pauses.next() {
                Some(seconds) => clock::pause(Duration::from_secs(*seconds)),
                None => return Err(trouble),
            }
        }
    }

    /// Whether the server's program says, beside its answers, that its disk is full.
    fn is_full(&self) -> bool {
        let words = self.runtime.block_on(self.wire.words()).to_lowercase();
        // The system's words, and rclone's own.
        ["no space left", "quota exceeded", "remaining disk space"].iter().any(|piece| words.contains(piece))
    }

    fn get(&self, path: &str, headers: HeaderMap, most: u64) -> Result<Answer, Trouble> {
        self.ask(&Question { method: Method::GET, path, headers, content: &[], most })
    }

    /// A question whose answer has no content.
    fn tell(&self, method: Method, path: &str, content: &[Bytes]) -> Result<StatusCode, Trouble> {
        let question = Question { method, path, headers: HeaderMap::new(), content, most: LARGEST };
        self.ask(&question).map(|answer| answer.status)
    }

    /// The files of one kind. That there are none must be said, not guessed: "not found" is no listing.
    fn list_kind(&self, kind: &str) -> Result<Vec<Entry>, Trouble> {
        let accept = [(ACCEPT, HeaderValue::from_static(LISTING))].into_iter().collect();
        let path = format!("{kind}/");
        let answer = self.get(&path, accept, LARGEST)?;
        match answer.status {
            StatusCode::OK => read_listing(&path, &answer),
            StatusCode::NOT_FOUND => Err(says(Kind::Damaged, &path, answer.status)),
            status => Err(refused(&path, status)),
        }
    }

    /// After a refusal to write: what stands there may be ours, from before the connection broke, whole or torn.
    fn settle(&self, path: &str, content: &[Bytes], status: StatusCode) -> Result<(), Trouble> {
        let there = match self.read(path, None) {
            Err(trouble) if trouble.kind == Kind::Gone => return Err(refused(path, status)),
            there => there?,
        };
        if there.iter().eq(content.iter().flatten()) {
            return Ok(());
        }
        if path == CONFIG {
            return Err(Trouble::new(Kind::Denied, "there is another repository already"));
        }
        // Its name is the digest of what we have, which it is not.
        match self.remove(path) {
            Ok(()) => match self.tell(Method::POST, &place(path), content)? {
                status if status.is_success() => Ok(()),
                status => Err(refused(path, status)),
            },
            Err(trouble) if trouble.kind == Kind::Denied => {
                let kind = if self.is_full() { Kind::Full } else { Kind::Torn };
                Err(Trouble::new(kind, format!("{} of {} bytes of {path}", there.len(), sum(content))))
            }
            Err(trouble) => Err(trouble),
        }
    }
}

impl Store for Rest {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn list(&self, directories: &[String]) -> Result<Vec<Entry>, Trouble> {
        let mut entries = Vec::new();
        // The server has its own way of writing a file whole, and shows nothing that is not.
        for kind in directories.iter().filter(|kind| *kind != UNFINISHED) {
            entries.extend(self.list_kind(kind)?);
        }
        // Some servers list what is not there as empty. Without a key, nobody ever opened this repository.
        if entries.is_empty() && directories == ["keys"] {
            return Err(Trouble::new(Kind::Damaged, "the server lists no keys"));
        }
        Ok(entries)
    }

    fn packs(&self) -> Result<Vec<Entry>, Trouble> {
        self.list_kind("data")
    }

    fn size(&self, path: &str) -> Result<Option<u64>, Trouble> {
        let path = place(path);
        let (method, headers) = (Method::HEAD, HeaderMap::new());
        let answer = self.ask(&Question { method, path: &path, headers, content: &[], most: 0 })?;
        match (answer.status, wire::length(&answer.headers)) {
            (StatusCode::OK, Some(size)) => Ok(Some(size)),
            (StatusCode::OK, None) => Err(Trouble::new(Kind::Internal, format!("{path}: the server says no size"))),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(refused(&path, status)),
        }
    }

    fn read(&self, path: &str, part: Option<Part>) -> Result<Bytes, Trouble> {
        let path = &place(path);
        let (range, most) = match part {
            Some(Part { offset, length }) => {
                (Some((offset, offset + u64::from(length).saturating_sub(1))), length.into())
            }
            None => (None, LARGEST),
        };
        let header = |(first, last)| HeaderValue::from_str(&format!("bytes={first}-{last}")).ok();
        let headers = range.and_then(header).map(|value| (RANGE, value)).into_iter().collect();
        let answer = self.get(path, headers, most)?;
        match (answer.status, range) {
            // What may be half of it cannot be told from all of it.
            (StatusCode::OK, None) if wire::length(&answer.headers).is_some() => Ok(answer.body),
            (StatusCode::OK, None) => Err(Trouble::new(Kind::Internal, format!("{path}: the server says no size"))),
            (StatusCode::PARTIAL_CONTENT, Some(range)) if is_part(&answer, range) => Ok(answer.body),
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                Err(Trouble::new(Kind::Damaged, format!("{path} is cut off")))
            }
            (status, _) => Err(refused(path, status)),
        }
    }

    fn write(&self, path: &str, content: &[Bytes]) -> Result<(), Trouble> {
        match self.tell(Method::POST, &place(path), content)? {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::FORBIDDEN | StatusCode::CONFLICT) => self.settle(path, content, status),
            StatusCode::INTERNAL_SERVER_ERROR => {
                if self.is_full() {
                    return Err(Trouble::new(Kind::Full, format!("{path}: the server says that its disk is full")));
                }
                let words = format!("{path}: the server says: 500; some say no more than this when their disk is full");
                Err(Trouble::new(Kind::Internal, words))
            }
            status => Err(refused(path, status)),
        }
    }

    fn remove(&self, path: &str) -> Result<(), Trouble> {
        let path = place(path);
        match self.tell(Method::DELETE, &path, &[])? {
            // A connection that broke may have taken the answer with it.
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => Err(refused(&path, status)),
        }
    }

    /// The server makes what it needs, once it was told to make the place itself.
    fn make_directories(&self, paths: &[String]) -> Result<(), Trouble> {
        if !paths.iter().any(String::is_empty) {
            return Ok(());
        }
        // Some servers call a file that they cannot read just now "not found", `config` too.
        if self.list_kind("keys").is_ok_and(|keys| !keys.is_empty()) {
            return Err(Trouble::new(Kind::Damaged, "there are keys of a repository, but no `config`"));
        }
        match self.tell(Method::POST, "?create=true", &[])? {
            status if status.is_success() => Ok(()),
            status => Err(refused(&self.name, status)),
        }
    }

    fn free(&self) -> Result<Option<u64>, Trouble> {
        Ok(None)
    }
}

/// The path as the protocol has it: packs lie side by side.
fn place(path: &str) -> String {
    match path.strip_prefix("data/").and_then(|rest| rest.split_once('/')) {
        Some((_, name)) => format!("data/{name}"),
        None => path.to_owned(),
    }
}

/// Whether the server may answer otherwise in a moment.
fn is_passing(status: StatusCode) -> bool {
    [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

fn refused(path: &str, status: StatusCode) -> Trouble {
    let kind = match status {
        StatusCode::UNAUTHORIZED => Kind::LoginRefused,
        StatusCode::FORBIDDEN => Kind::Denied,
        StatusCode::NOT_FOUND => Kind::Gone,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => Kind::Full,
        // To a place that nobody named.
        status if status.is_redirection() => Kind::Denied,
        _ => Kind::Internal,
    };
    says(kind, path, status)
}

fn says(kind: Kind, path: &str, status: StatusCode) -> Trouble {
    Trouble::new(kind, format!("{path}: the server says: {status}"))
}

fn read_listing(path: &str, answer: &Answer) -> Result<Vec<Entry>, Trouble> {
    let is_listing = answer.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == LISTING.as_bytes());
    if !is_listing {
        let words = format!("{path}: the server does not speak version 2 of restic's REST protocol");
        return Err(Trouble::new(Kind::Internal, words));
    }
    // Go writes a list without entries as `null`.
    let listed: Option<Vec<Listed>> = serde_json::from_slice(&answer.body)
        .map_err(|error| Trouble::new(Kind::Damaged, format!("{path}: the listing cannot be read: {error}")))?;
    let entry = |Listed { name, size }| Entry { name, is_directory: false, size };
    Ok(listed.unwrap_or_default().into_iter().map(entry).collect())
}

/// Whether it is the part that was asked for.
fn is_part(answer: &Answer, (first, last): (u64, u64)) -> bool {
    let range = answer.headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    range.starts_with(&format!("bytes {first}-{last}/")) && answer.body.len() as u64 == last - first + 1
}

fn sum(content: &[Bytes]) -> u64 {
    content.iter().map(|bytes| bytes.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(kind: &'static str, body: &'static str) -> Result<Vec<Entry>, Trouble> {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
        read_listing("keys/", &Answer { status: StatusCode::OK, headers, body: Bytes::from_static(body.as_bytes()) })
    }

    #[test]
    fn only_a_whole_listing_is_one() {
        let entries = listing(LISTING, r#"[{"name":"ab","size":3}]"#).unwrap();
        assert_eq!(entries, [Entry { name: "ab".into(), is_directory: false, size: 3 }]);
        assert_eq!(listing(LISTING, "[]").unwrap(), []);
        assert_eq!(listing(LISTING, "null").unwrap(), []);
        for torn in ["", r#"[{"name":"ab","size":3}"#, r#"["ab"]"#, "<html>"] {
            assert_eq!(listing(LISTING, torn).unwrap_err().kind, Kind::Damaged, "{torn}");
        }
        assert_eq!(listing("text/html", "[]").unwrap_err().kind, Kind::Internal);
    }

    #[test]
    fn a_part_is_the_one_that_was_asked_for() {
        let answer = |range: &'static str, body: &'static str| Answer {
            status: StatusCode::PARTIAL_CONTENT,
            headers: [(CONTENT_RANGE, HeaderValue::from_static(range))].into_iter().collect(),
            body: Bytes::from_static(body.as_bytes()),
        };
        assert!(is_part(&answer("bytes 2-4/9", "abc"), (2, 4)));
        assert!(!is_part(&answer("bytes 2-3/4", "ab"), (2, 4)));
        assert!(!is_part(&answer("bytes 0-2/9", "abc"), (2, 4)));
        assert!(!is_part(&answer("bytes 2-4/9", "ab"), (2, 4)));
    }

    #[test]
    fn packs_lie_side_by_side() {
        assert_eq!(place("data/ab/abcd"), "data/abcd");
        assert_eq!(place("keys/abcd"), "keys/abcd");
        assert_eq!(place("config"), "config");
    }
}
