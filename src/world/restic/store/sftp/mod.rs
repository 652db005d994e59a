//! A backup repository on an SSH server, over one `ssh -s sftp` child. What breaks is taken up again a few times; what
//! the server refuses is not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use self::session::{Refusal, Session};
use super::super::order::Login;
use super::super::trouble::{Kind, Trouble};
use super::pace::Pace;
use super::{Entry, LARGEST, PAUSES, Part, Store, UNFINISHED};
use crate::world::clock;

mod packet;
mod reading;
mod session;
mod ssh;

/// With less than this left, a server that says only "failure" is taken to be full: one pack is 16 MiB.
const LITTLE: u64 = 32 * 1024 * 1024;

/// The server.
#[derive(Debug)]
pub struct Sftp {
    login: Login,
    session: Mutex<Option<Session>>,
    pace: Arc<Pace>,
}

impl Sftp {
    /// Nothing is connected yet.
    pub fn new(login: Login, pace: Arc<Pace>) -> Self {
        Self { login, session: Mutex::new(None), pace }
    }

    /// The path on the server: relative to where the login lands, or absolute, as the URL said.
    fn place(&self, path: &str) -> String {
        match (self.login.path.as_str(), path) {
            ("", "") => ".".to_owned(),
            ("", path) => path.to_owned(),
            (root, "") => root.to_owned(),
            (root, path) => format!("{}/{path}", root.trim_end_matches('/')),
        }
    }

    /// Does something in a session, and once more in a new one when the connection breaks. Everything that is done here
    /// may be done twice.
    fn with<T>(&self, act: impl Fn(&mut Session) -> Result<T, Refusal>) -> Result<T, Trouble> {
        let mut session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut pauses = PAUSES.iter();
        let mut again = true;
        loop {
            let tried = match session.take().map_or_else(|| Session::open(&self.login, &self.pace), Ok) {
                Ok(mut open) => {
                    let tried = act(&mut open);
                    if !matches!(tried, Err(Refusal::Broken(_))) {
                        *session = Some(open);
                    }
                    tried
                }
                Err(refusal) => Err(refusal),
            };
            match tried {
                Ok(done) => return Ok(done),
                Err(Refusal::Broken(trouble)) if trouble.kind == Kind::Away => match pauses.next() {
                    Some(seconds) => clock::pause(Duration::from_secs(*seconds)),
                    None => return Err(trouble),
                },
                Err(Refusal::Broken(trouble) | Refusal::File(trouble)) => return Err(trouble),
                // "Failure" may mean anything; most of what it means does not pass.
                Err(Refusal::Status { status: packet::FAILURE, .. }) if again => again = false,
                Err(Refusal::Status { status, words, path }) => return Err(refused(status, &words, &path)),
            }
        }
    }
}

fn refused(status: u32, words: &str, path: &str) -> Trouble {
    let kind = match status {
        packet::NO_SUCH_FILE => Kind::Gone,
        packet::PERMISSION_DENIED => Kind::Denied,
        _ if words.to_lowercase().contains("no space") || words.to_lowercase().contains("quota") => Kind::Full,
        _ => Kind::Internal,
    };
    Trouble::new(kind, format!("{path}: the server says: {words}"))
}

impl Store for Sftp {
    fn name(&self) -> String {
        let Login { user, host, port, path, .. } = &self.login;
        format!("sftp://{user}@{host}:{port}/{path}")
    }

    fn list(&self, directories: &[String]) -> Result<Vec<Entry>, Trouble> {
        let places: Vec<String> = directories.iter().map(|directory| self.place(directory)).collect();
        self.with(|session| session.list(&places))
    }

    fn size(&self, path: &str) -> Result<Option<u64>, Trouble> {
        let place = self.place(path);
        self.with(|session| match session.attributes(&place) {
            Ok(found) => Ok(Some(found.size.unwrap_or_default())),
            Err(Refusal::Status { status: packet::NO_SUCH_FILE, .. }) => Ok(None),
            Err(refusal) => Err(refusal),
        })
    }

    fn read(&self, path: &str, part: Option<Part>) -> Result<Bytes, Trouble> {
        let place = self.place(path);
        self.with(|session| {
            let part = match part {
                Some(part) => (part.offset, u64::from(part.length)),
                None => (0, session.attributes(&place)?.size.unwrap_or_default()),
            };
            if part.1 > LARGEST {
                return Err(Refusal::File(Trouble::new(Kind::Damaged, format!("{place} is too large"))));
            }
            session.read(&place, part.0, part.1)
        })
        .map(Into::into)
    }

    fn write(&self, path: &str, content: &[Bytes]) -> Result<(), Trouble> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let unfinished = self.place(&format!("{UNFINISHED}/{name}"));
        let place = self.place(path);
        let written = self.with(|session| session.write(&unfinished, &place, content));
        written.map_err(|trouble| match self.free() {
            Ok(Some(free)) if trouble.kind == Kind::Internal && free < LITTLE => {
                let mebibytes = free / (1024 * 1024);
                Trouble::new(Kind::Full, format!("{}: {mebibytes} MiB are free", self.name()))
            }
            _ => trouble,
        })
    }

    fn remove(&self, path: &str) -> Result<(), Trouble> {
        let place = self.place(path);
        self.with(|session| match session.remove(&place) {
            // A connection that broke may have taken the answer with it.
            Err(Refusal::Status { status: packet::NO_SUCH_FILE, .. }) => Ok(()),
            removed => removed,
        })
    }

    fn make_directories(&self, paths: &[String]) -> Result<(), Trouble> {
        // The server makes one level at a time, and the place itself may be several below the login.
        let root = self.place("");
        let above = root.match_indices('/').map(|(at, _)| root[..at].to_owned());
        let mut places: Vec<String> = above.filter(|place| !place.is_empty()).chain([root.clone()]).collect();
        places.extend(paths.iter().filter(|path| !path.is_empty()).map(|path| self.place(path)));
        places.retain(|place| place != ".");
        self.with(|session| session.make_directories(&places))
    }

    fn free(&self) -> Result<Option<u64>, Trouble> {
        let root = self.place("");
        self.with(|session| session.free(&root))
    }
}
