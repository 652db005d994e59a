//! What is done in one SFTP session: each method sends as much as the window lets it before it waits for an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::super::super::order::Login;
use super::super::super::trouble::{Kind, Trouble};
use super::super::Entry;
use super::super::pace::Pace;
use super::packet::{self, Attributes, Reply, Request, nonsense};
use super::ssh::Ssh;

/// How many of each may be under way: enough to fill a line with 12 ms of delay.
const WRITES: usize = 64;
const LISTS: usize = 16;
/// What every server takes in one piece.
const PIECE: u64 = 32 * 1024;
/// What we send in one piece at most, whatever the server offers.
const LARGEST_PIECE: u64 = 255 * 1024;
/// A repository with more files than this in its directories is not one of ours.
const MOST_ENTRIES: usize = 5_000_000;

/// Why something was not done.
#[derive(Debug)]
pub enum Refusal {
    /// The connection cannot be used any more.
    Broken(Trouble),
    /// A file is not what it should be; the connection is fine.
    File(Trouble),
    /// The server said no, and goes on.
    Status {
        /// Its number.
        status: u32,
        /// Its words.
        words: String,
        /// What it is about.
        path: String,
    },
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Refusal::Broken(trouble)
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub(super) ssh: Ssh,
    pub(super) next: u32,
    /// Requests that nobody waits for.
    pub(super) unheard: BTreeSet<u32>,
    extensions: Vec<String>,
    pub(super) read_piece: u64,
    write_piece: u64,
}

impl Session {
    /// Connects and agrees on what both sides can do.
    pub fn open(login: &Login, pace: &Arc<Pace>) -> Result<Self, Refusal> {
        let mut ssh = Ssh::start(login, pace.clone())?;
        // The version stands where other requests have their id.
        ssh.send(&Request::new(packet::INIT, 3).bytes())?;
        let mut version = ssh.receive()?;
        if version.kind != packet::VERSION || version.number()? < 3 {
            return Err(nonsense().into());
        }
        let mut extensions = Vec::new();
        while !version.is_at_end() {
            extensions.push(String::from_utf8_lossy(&version.text()?).into_owned());
            version.text()?;
        }
        let mut session =
            Self { ssh, next: 0, unheard: BTreeSet::new(), extensions, read_piece: PIECE, write_piece: PIECE };
        if session.has("limits@openssh.com") {
            let request = session.request(packet::EXTENDED).text(b"limits@openssh.com");
            let mut limits = session.ask(request, "limits")?;
            if limits.kind == packet::EXTENDED_REPLY {
                let _longest = limits.long()?;
                let bounded = |offered: u64| if offered == 0 { PIECE } else { offered.min(LARGEST_PIECE) };
                session.read_piece = bounded(limits.long()?);
                session.write_piece = bounded(limits.long()?);
            }
        }
        Ok(session)
    }

    fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    pub(super) fn request(&mut self, kind: u8) -> Request {
        self.next = self.next.wrapping_add(1);
        Request::new(kind, self.next)
    }

    /// Sends one request and takes its answer. A status other than `OK` is a refusal.
    fn ask(&mut self, request: Request, path: &str) -> Result<Reply, Refusal> {
        self.ssh.send(&request.bytes())?;
        let (id, reply) = self.receive()?;
        if id != self.next {
            return Err(nonsense().into());
        }
        judge(reply, path)
    }

    /// The next answer that somebody waits for, and to which request.
    pub(super) fn receive(&mut self) -> Result<(u32, Reply), Trouble> {
        loop {
            let mut reply = self.ssh.receive()?;
            let id = reply.number()?;
            if !self.unheard.remove(&id) {
                return Ok((id, reply));
            }
        }
    }

    pub(super) fn open_handle(&mut self, path: &str, request: Request) -> Result<Vec<u8>, Refusal> {
        let mut reply = self.ask(request, path)?;
        match reply.kind {
            packet::HANDLE => Ok(reply.text()?),
            _ => Err(nonsense().into()),
        }
    }

    fn close(&mut self, handle: &[u8], path: &str) -> Result<(), Refusal> {
        let request = self.request(packet::CLOSE).text(handle);
        self.ask(request, path).map(drop)
    }

    /// What the server says of a file or directory.
    pub fn attributes(&mut self, path: &str) -> Result<Attributes, Refusal> {
        let request = self.request(packet::STAT).text(path.as_bytes());
        let mut reply = self.ask(request, path)?;
        match reply.kind {
            packet::ATTRS => Ok(reply.attributes()?),
            _ => Err(nonsense().into()),
        }
    }

    /// The entries of directories, several at a time.
    pub fn list(&mut self, directories: &[String]) -> Result<Vec<Entry>, Refusal> {
        let mut waiting: VecDeque<&String> = directories.iter().collect();
        let mut under_way: BTreeMap<u32, Listing<'_>> = BTreeMap::new();
        let mut entries = Vec::new();
        let mut refusal = None;
        while !under_way.is_empty() || (refusal.is_none() && !waiting.is_empty()) {
            while refusal.is_none() && under_way.len() < LISTS {
                let Some(path) = waiting.pop_front() else { break };
                let request = self.request(packet::OPENDIR).text(path.as_bytes());
                self.ssh.send(&request.bytes())?;
                under_way.insert(self.next, Listing { path, handle: None, is_closing: false });
            }
            let (id, reply) = self.receive()?;
            let mut listing = under_way.remove(&id).ok_or_else(nonsense)?;
            let is_closing = listing.is_closing;
            let goes_on = match judge(reply, listing.path) {
                Ok(_) if is_closing => continue,
                Ok(mut reply) if reply.kind == packet::HANDLE && listing.handle.is_none() => {
                    listing.handle = Some(reply.text()?);
                    true
                }
                Ok(mut reply) if reply.kind == packet::NAME => {
                    read_names(&mut reply, &mut entries)?;
                    true
                }
                Ok(_) => return Err(nonsense().into()),
                Err(Refusal::Status { status: packet::END, .. }) if listing.handle.is_some() => false,
                Err(refused) => {
                    refusal.get_or_insert(refused);
                    false
                }
            };
            // What was opened is closed, also when another directory could not be read.
            let Some(handle) = &listing.handle else { continue };
            let kind = if goes_on && refusal.is_none() { packet::READDIR } else { packet::CLOSE };
            if is_closing {
                continue;
            }
            let request = self.request(kind).text(handle);
            self.ssh.send(&request.bytes())?;
            listing.is_closing = kind == packet::CLOSE;
            under_way.insert(self.next, listing);
        }
        refusal.map_or(Ok(entries), Err)
    }

    /// Writes a file beside and gives it its name when it is whole.
    pub fn write(&mut self, unfinished: &str, path: &str, content: &[Bytes]) -> Result<(), Refusal> {
        let permissions = 0x04;
        let request = self.request(packet::OPEN).text(unfinished.as_bytes()).number(packet::FOR_WRITING);
        let handle = self.open_handle(unfinished, request.number(permissions).number(0o600))?;
        let written = self.write_handle(&handle, path, content);
        if let Err(Refusal::Broken(_)) = written {
            return written;
        }
        let mut written = written;
        if written.is_ok() && self.has("fsync@openssh.com") {
            let request = self.request(packet::EXTENDED).text(b"fsync@openssh.com").text(&handle);
            written = self.ask(request, path).map(drop);
        }
        let closed = self.close(&handle, path);
        match written.and(closed) {
            Ok(()) => self.rename(unfinished, path, content),
            Err(refusal) => {
                // It takes room that we may need at once.
                let removed = self.remove(unfinished);
                if let Err(Refusal::Broken(trouble)) = removed { Err(trouble.into()) } else { Err(refusal) }
            }
        }
    }

    fn write_handle(&mut self, handle: &[u8], path: &str, content: &[Bytes]) -> Result<(), Refusal> {
        let piece = usize::try_from(self.write_piece).unwrap_or(usize::MAX);
        let mut pieces = content.iter().flat_map(|bytes| bytes.chunks(piece));
        let mut under_way = BTreeSet::new();
        let (mut at, mut refusal) = (0_u64, None);
        loop {
            while refusal.is_none() && under_way.len() < WRITES {
                let Some(piece) = pieces.next() else { break };
                let request = self.request(packet::WRITE).text(handle).long(at).text(piece);
                self.ssh.send(&request.bytes())?;
                under_way.insert(self.next);
                at += piece.len() as u64;
            }
            if under_way.is_empty() {
                break;
            }
            let (id, reply) = self.receive()?;
            if !under_way.remove(&id) {
                return Err(nonsense().into());
            }
            if let Err(refused) = judge(reply, path) {
                refusal.get_or_insert(refused);
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn rename(&mut self, from: &str, to: &str, content: &[Bytes]) -> Result<(), Refusal> {
        if self.has("posix-rename@openssh.com") {
            let request = self.request(packet::EXTENDED).text(b"posix-rename@openssh.com");
            return self.ask(request.text(from.as_bytes()).text(to.as_bytes()), to).map(drop);
        }
        let request = self.request(packet::RENAME).text(from.as_bytes()).text(to.as_bytes());
        let Err(refusal) = self.ask(request, to) else { return Ok(()) };
        // The plain one refuses when the target is there: from before the connection broke, perhaps. Its name is the
        // digest of its content.
        let size: u64 = content.iter().map(|bytes| bytes.len() as u64).sum();
        match self.attributes(to) {
            Ok(found) if found.size == Some(size) => self.remove(from),
            _ => Err(refusal),
        }
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &str) -> Result<(), Refusal> {
        let request = self.request(packet::REMOVE).text(path.as_bytes());
        self.ask(request, path).map(drop)
    }

    /// Makes directories in this order. One that is there is fine.
    pub fn make_directories(&mut self, paths: &[String]) -> Result<(), Refusal> {
        for path in paths {
            let permissions = 0x04;
            let request = self.request(packet::MKDIR).text(path.as_bytes()).number(permissions).number(0o700);
            match self.ask(request, path) {
                Err(refusal @ Refusal::Status { .. }) => {
                    if !self.attributes(path).is_ok_and(Attributes::is_directory) {
                        return Err(refusal);
                    }
                }
                made => drop(made?),
            }
        }
        Ok(())
    }

    /// How many bytes are free below a path, if the server can say so.
    pub fn free(&mut self, path: &str) -> Result<Option<u64>, Refusal> {
        if !self.has("statvfs@openssh.com") {
            return Ok(None);
        }
        let request = self.request(packet::EXTENDED).text(b"statvfs@openssh.com").text(path.as_bytes());
        let mut reply = self.ask(request, path)?;
        if reply.kind != packet::EXTENDED_REPLY {
            return Err(nonsense().into());
        }
        let _block = reply.long()?;
        let fragment = reply.long()?;
        let (_blocks, _free) = (reply.long()?, reply.long()?);
        Ok(Some(reply.long()?.saturating_mul(fragment)))
    }
}

/// A directory that is being listed.
struct Listing<'paths> {
    path: &'paths str,
    handle: Option<Vec<u8>>,
    is_closing: bool,
}

/// A status other than `OK` is a refusal.
pub(super) fn judge(mut reply: Reply, path: &str) -> Result<Reply, Refusal> {
    if reply.kind != packet::STATUS {
        return Ok(reply);
    }
    match reply.number()? {
        packet::OK => Ok(reply),
        status => {
            let words = reply.text().map(|words| String::from_utf8_lossy(&words).into_owned()).unwrap_or_default();
            Err(Refusal::Status { status, words, path: path.to_owned() })
        }
    }
}

fn read_names(reply: &mut Reply, entries: &mut Vec<Entry>) -> Result<(), Refusal> {
    let count = reply.number()?;
    if count == 0 {
        // It would be asked for ever.
        return Err(nonsense().into());
    }
    for _ in 0..count {
        let name = reply.text()?;
        let _long = reply.text()?;
        let found = reply.attributes()?;
        if name == b"." || name == b".." {
            continue;
        }
        if entries.len() == MOST_ENTRIES {
            return Err(Trouble::new(Kind::Damaged, "the server lists more files than a repository has").into());
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        entries.push(Entry { name, is_directory: found.is_directory(), size: found.size.unwrap_or_default() });
    }
    Ok(())
}
