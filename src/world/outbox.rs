//! Keeps the messages for Uptime Kuma between the keeper, which may not use the network, and the courier, which sends
//! them: one file each, in memory only, because a push URL is a secret. It does not send anything.
//!
//! A courier of its own user only reads here, or it could fill the memory of the host. What it has sent it writes down in
//! its own directory, and the keeper removes it with the next message.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::decide::fault::{Code, Fault};
use crate::decide::push::{Message, Status};
use crate::model::Secret;
use crate::world::{disk, foreign};

/// The longest file that is read. A message is a URL and 500 characters.
const LONGEST: usize = 16 * 1024;

/// How many messages for one monitor are kept while Kuma is away. Kuma counts a message from its arrival, so that old
/// ones tell little; and ramfs has no bound of its own.
const KEPT: usize = 20;

/// How many files are looked at. The outbox of a host holds a few; more means that something else writes there.
const MOST: usize = 1000;

/// The longest list of what was sent: of a full outbox.
const LARGEST_SENT: u64 = 256 * 1024;

/// The file with the names of what was sent, in the courier's directory.
const SENT: &str = "sent";

/// The directory of messages.
#[derive(Debug, Clone)]
pub struct Outbox {
    directory: PathBuf,
    courier: PathBuf,
}

/// A message as it stands in its file. This is the one place where a push URL is written down.
#[derive(Serialize, Deserialize)]
struct Letter {
    version: u32,
    id: String,
    monitor: String,
    url: String,
    status: Status,
    text: String,
    ping_ms: Option<u64>,
}

impl Drop for Letter {
    fn drop(&mut self) {
        self.url.zeroize();
    }
}

impl Outbox {
    /// The outbox in a memory-backed directory, and the directory of the courier.
    pub fn new(directory: impl Into<PathBuf>, courier: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), courier: courier.into() }
    }

    /// Its directory, for a watch.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts a message in, whole or not at all, and lets the oldest of its monitor go when there are too many.
    pub fn put(&self, message: &Message) -> Result<(), Fault> {
        let name = file_name(message)?;
        let temporary = self.directory.join(format!(".{}-{name}", std::process::id()));
        let unwritten = |error: &std::io::Error| {
            Fault::new(Code::StateUnwritable, format!("a message cannot be put into {}", self.directory.display()))
                .caused_by(error)
        };
        let bytes = letter(message).map_err(|error| unwritten(&error.into()))?;
        if bytes.len() > LONGEST {
            return Err(Fault::new(
                Code::PushFailed,
                format!("the message for monitor `{}` is too long", message.monitor),
            ));
        }
        self.write(&temporary, &bytes).and_then(|()| fs::rename(&temporary, self.directory.join(&name))).map_err(
            |error| {
                let _ = fs::remove_file(&temporary);
                unwritten(&error)
            },
        )?;
        self.remove_sent().and_then(|()| self.thin_out(&message.monitor)).map_err(|error| unwritten(&error))
    }

    /// The messages, oldest first.
    ///
    /// A file that is not a message is removed and reported, once: in memory nothing could be learnt from it later,
    /// and left in place it would be reported for ever. The next call returns the others.
    pub fn read(&self) -> Result<Vec<Message>, Fault> {
        let unreadable = |error: &std::io::Error| {
            Fault::new(Code::PushFailed, format!("{} cannot be read", self.directory.display())).caused_by(error)
        };
        let mut messages = Vec::new();
        let mut malformed = Vec::new();
        let files = match self.files() {
            // Root makes it, and may not have done so yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(messages),
            files => files.map_err(|error| unreadable(&error))?,
        };
        let sent = if files.is_empty() { BTreeSet::new() } else { self.sent() };
        for entry in files.into_iter().filter(|entry| !sent.iter().any(|name| *entry.file_name() == **name)) {
            match read_letter(&entry.path()) {
                Ok(Some(message)) if file_name(&message).is_ok_and(|name| *entry.file_name() == *name) => {
                    messages.push(message);
                }
                // The keeper let it go meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // A file that we may not open is not malformed: removing it could lose a good message.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(unreadable(&error)),
                _ => malformed.push(entry),
            }
        }
        if malformed.is_empty() {
            return Ok(messages);
        }
        let mut fault = Fault::new(Code::PushFailed, "files in the outbox are not messages and were removed");
        for entry in malformed {
            fault = fault.at(entry.path().display().to_string().escape_debug().to_string());
            fs::remove_file(entry.path()).map_err(|error| unreadable(&error))?;
        }
        Err(fault)
    }

    /// Takes a message out, or has it taken out by whose outbox it is. One that is gone already is no fault.
    pub fn remove(&self, message: &Message) -> Result<(), Fault> {
        let name = file_name(message)?;
        let removed = match fs::remove_file(self.directory.join(&name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Not ours; to a hardened unit it is a file system that is only read.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                self.note(name)
            }
            removed => removed,
        };
        removed.map_err(|error| {
            Fault::new(
                Code::StateUnwritable,
                format!("a sent message for monitor `{}` cannot be removed and will be sent again", message.monitor),
            )
            .caused_by(&error)
        })
    }

    /// Writes down that a message was sent. What is not in the outbox any more is forgotten.
    fn note(&self, name: String) -> std::io::Result<()> {
        let mut sent = self.sent();
        sent.retain(|name| self.directory.join(name).exists());
        sent.insert(name);
        let lines: String = sent.iter().map(|name| format!("{name}\n")).collect();
        disk::write(&self.courier.join(SENT), lines.as_bytes(), 0o600)
    }

    /// The names of what was sent. The courier says so, so that nothing else in it is believed.
    fn sent(&self) -> BTreeSet<String> {
        let bytes = foreign::read(&self.courier, SENT, LARGEST_SENT).ok().flatten().unwrap_or_default();
        let is_name = |name: &&str| name.ends_with(".json") && !name.starts_with('.') && !name.contains('/');
        String::from_utf8_lossy(&bytes).lines().filter(is_name).map(str::to_owned).collect()
    }

    fn remove_sent(&self) -> std::io::Result<()> {
        self.sent().into_iter().try_for_each(|name| match fs::remove_file(self.directory.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).or_else(|error| {
            // Our own process number in an earlier life: killed between the two steps of a write.
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error);
            }
            fs::remove_file(path)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        })?;
        file.write_all(bytes)?;
        // Readable for the courier alone. No fsync: this is memory.
        let access = disk::shared(&self.directory)?;
        if access.gid != 0 {
            fchown(&file, None, Some(access.gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(access.mode))
    }

    /// The finished files, sorted by name and so by time.
    fn files(&self) -> std::io::Result<Vec<DirEntry>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)?.take(MOST) {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push(entry);
            }
        }
        files.sort_by_key(DirEntry::file_name);
        Ok(files)
    }

    fn thin_out(&self, monitor: &str) -> std::io::Result<()> {
        let ending = format!("@{monitor}.json");
        let files = self.files()?;
        let of_monitor: Vec<_> =
            files.iter().filter(|file| file.file_name().to_string_lossy().ends_with(&ending)).collect();
        for oldest in of_monitor.iter().take(of_monitor.len().saturating_sub(KEPT)) {
            match fs::remove_file(oldest.path()) {
                // The courier has just sent it.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `<id>@<monitor>.json`: sorted by time, and the monitor can be told without opening the file.
fn file_name(message: &Message) -> Result<String, Fault> {
    let plain = |text: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && text.bytes().all(known)
    };
    if plain(&message.id) && plain(&message.monitor) {
        return Ok(format!("{}@{}.json", message.id, message.monitor));
    }
    let shown = message.monitor.escape_debug();
    Err(Fault::new(Code::PushFailed, format!("a message for monitor `{shown}` cannot be kept"))
        .because("its name may hold only letters, digits, `-`, `_` and `.`"))
}

fn letter(message: &Message) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let letter = Letter {
        version: 1,
        id: message.id.clone(),
        monitor: message.monitor.clone(),
        url: message.url.expose().clone(),
        status: message.status,
        text: message.text.clone(),
        ping_ms: message.ping_ms,
    };
    // Room enough from the start: a buffer that grows leaves copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
    serde_json::to_writer(&mut *bytes, &letter)?;
    Ok(bytes)
}

/// The message in a file; none when the file is something else.
fn read_letter(path: &Path) -> std::io::Result<Option<Message>> {
    // Without following a link, and without waiting for the other end of a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => return Ok(None),
        file => file?,
    };
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let bytes = read_bounded(file)?;
    let letter = serde_json::from_slice::<Letter>(&bytes).ok().filter(|letter| letter.version == 1);
    Ok(letter.map(|mut letter| Message {
        id: std::mem::take(&mut letter.id),
        monitor: std::mem::take(&mut letter.monitor),
        // Moved, not copied.
        url: Secret::new(std::mem::take(&mut letter.url)),
        status: letter.status,
        text: std::mem::take(&mut letter.text),
        ping_ms: letter.ping_ms,
    }))
}

/// A file that is too long comes back empty, which is no message either.
fn read_bounded(file: File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        return Ok(Zeroizing::default());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn outbox() -> (tempfile::TempDir, Outbox) {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(directory.path().join("outbox"), directory.path());
        fs::create_dir(&outbox.directory).unwrap();
        (directory, outbox)
    }

    fn message(id: &str, monitor: &str) -> Message {
        Message {
            id: id.into(),
            monitor: monitor.into(),
            url: Secret::new("https://kuma.example.org/api/push/t0ken".into()),
            status: Status::Up,
            text: "converged, \"quoted\"\n".into(),
            ping_ms: Some(97),
        }
    }

    fn ids(outbox: &Outbox) -> Vec<String> {
        outbox.read().unwrap().into_iter().map(|message| message.id).collect()
    }

    #[test]
    fn messages_come_back_whole_and_oldest_first() {
        let (_directory, outbox) = outbox();
        for id in ["20260102T0000", "20260101T0000", "20260103T0000"] {
            outbox.put(&message(id, "reconcile")).unwrap();
        }
        assert_eq!(ids(&outbox), ["20260101T0000", "20260102T0000", "20260103T0000"]);
        let first = outbox.read().unwrap().remove(0);
        assert_eq!(first.url.expose(), "https://kuma.example.org/api/push/t0ken");
        assert_eq!((first.status, first.ping_ms), (Status::Up, Some(97)));
        assert_eq!(first.text, "converged, \"quoted\"\n");
    }

    #[test]
    fn only_the_owner_can_read_a_message() {
        let (directory, outbox) = outbox();
        outbox.put(&message("1", "reconcile")).unwrap();
        let file = fs::read_dir(directory.path().join("outbox")).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_removed_message_is_gone_and_removing_it_twice_is_no_fault() {
        let (_directory, outbox) = outbox();
        let message = message("1", "reconcile");
        outbox.put(&message).unwrap();
        outbox.remove(&message).unwrap();
        outbox.remove(&message).unwrap();
        assert!(ids(&outbox).is_empty());
    }

    #[test]
    fn what_the_courier_says_it_has_sent_is_not_sent_again_and_goes_with_the_next_message() {
        let (directory, outbox) = outbox();
        for id in ["1", "2", "3"] {
            outbox.put(&message(id, "reconcile")).unwrap();
        }
        outbox.note("1@reconcile.json".into()).unwrap();
        outbox.note("2@reconcile.json".into()).unwrap();
        assert_eq!(ids(&outbox), ["3"]);
        fs::write(directory.path().join("precious.json"), "kept").unwrap();
        let hostile = "1@reconcile.json\n2@reconcile.json\n../precious.json\n..\n.json\n\u{fffd}\n";
        fs::write(directory.path().join(SENT), hostile).unwrap();
        outbox.put(&message("4", "reconcile")).unwrap();
        assert!(directory.path().join("precious.json").exists());
        fs::remove_file(directory.path().join(SENT)).unwrap();
        assert_eq!(ids(&outbox), ["3", "4"]);
        // It forgets what is gone.
        outbox.note("3@reconcile.json".into()).unwrap();
        outbox.remove(&message("3", "reconcile")).unwrap();
        outbox.note("4@reconcile.json".into()).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join(SENT)).unwrap(), "4@reconcile.json\n");
    }

    #[test]
    fn an_outbox_that_is_not_made_yet_holds_nothing() {
        let (_directory, outbox) = outbox();
        fs::remove_dir(&outbox.directory).unwrap();
        assert!(ids(&outbox).is_empty());
    }

    #[test]
    fn of_too_many_messages_the_oldest_of_that_monitor_go_first() {
        let (_directory, outbox) = outbox();
        outbox.put(&message("000", "backup")).unwrap();
        for number in 100..100 + KEPT + 3 {
            outbox.put(&message(&number.to_string(), "reconcile")).unwrap();
        }
        let ids = ids(&outbox);
        assert_eq!(ids.len(), KEPT + 1);
        assert_eq!(ids[..2], ["000", "103"]);
    }

    #[test]
    fn what_is_not_a_message_is_reported_once_and_does_not_stop_the_others() {
        let (directory, outbox) = outbox();
        outbox.put(&message("5", "reconcile")).unwrap();
        let path = |name: &str| directory.path().join("outbox").join(name);
        fs::write(path("1@a.json"), "not json").unwrap();
        fs::write(path("2@a.json"), vec![b' '; LONGEST + 1]).unwrap();
        fs::copy(path("5@reconcile.json"), path("3@other.json")).unwrap();
        std::os::unix::fs::symlink("5@reconcile.json", path("4@a.json")).unwrap();
        let fault = outbox.read().unwrap_err();
        assert_eq!(fault.code, Code::PushFailed);
        assert_eq!(fault.places.len(), 4);
        assert!(!fault.to_string().contains("t0ken"));
        assert_eq!(ids(&outbox), ["5"]);
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_nothing_that_is_read() {
        let (directory, outbox) = outbox();
        let temporary = directory.path().join("outbox").join(format!(".{}-1@reconcile.json", std::process::id()));
        fs::write(&temporary, "{").unwrap();
        assert!(ids(&outbox).is_empty());
        outbox.put(&message("1", "reconcile")).unwrap();
        assert_eq!(ids(&outbox), ["1"]);
        assert!(!temporary.exists());
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_outbox() {
        let (_directory, outbox) = outbox();
        for (id, monitor) in [("../1", "a"), ("1", "a/b"), ("", "a"), ("1", ".."), ("1", "a@b"), (".1", "a")] {
            assert_eq!(outbox.put(&message(id, monitor)).unwrap_err().code, Code::PushFailed, "{id} {monitor}");
        }
    }
}
