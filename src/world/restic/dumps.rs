//! Dumps of databases as files of a snapshot. Each is read while its command runs; one that is not whole is remembered,
//! since rustic leaves a file out that ends with an error, and says nothing.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::vec;

use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult};

use super::job::Voice;
use super::order::Backup;
use super::source::Counts;
use super::trouble::{Kind, Trouble};
use crate::decide::backup::dump::Stream;
use crate::decide::fault::Fault;
use crate::model::Secret;
use crate::world::clock;
use crate::world::docker::Engine;
use crate::world::dump::{self, Dumping};

/// Nobody but root may read what a database says of itself.
const MODE: u32 = 0o600;

/// The dumps of a stack.
pub struct Dumps {
    pending: Vec<Pending>,
    seen: Arc<Seen>,
}

/// One that was not begun.
#[derive(Clone)]
struct Pending {
    to: PathBuf,
    stream: Stream,
    stack: String,
    socket: PathBuf,
    password: Option<Secret<String>>,
}

/// What became of them.
struct Seen {
    failed: Mutex<Option<String>>,
    sizes: Mutex<BTreeMap<PathBuf, u64>>,
    counts: Arc<Counts>,
    voice: Arc<Voice>,
}

/// Where the dumps of a stack are in its snapshots.
pub fn directory(stack: &str) -> PathBuf {
    Path::new("/dumps").join(stack)
}

impl Dumps {
    /// Asks the databases which databases they have. No dump is begun yet.
    pub fn find(
        task: &Backup,
        logins: &BTreeMap<String, String>,
        counts: &Arc<Counts>,
        voice: &Arc<Voice>,
    ) -> Result<Self, Trouble> {
        let mut pending = Vec::new();
        for dump in &task.dumps {
            let login = dump.password.as_ref().and_then(|name| logins.get(name));
            let password = login.map(|login| Secret::new(login.clone()));
            let (stack, socket) = (task.label.clone(), task.socket.clone());
            let streams = dump::streams(&Engine::at(&socket), &stack, dump, password.as_ref());
            for stream in streams.map_err(|fault| Trouble::new(Kind::Dump, words(&fault)))? {
                let to = directory(&stack).join(&stream.to);
                let (stack, socket, password) = (stack.clone(), socket.clone(), password.clone());
                pending.push(Pending { to, stream, stack, socket, password });
            }
        }
        // rustic wants the tree in order.
        pending.sort_by(|one, two| one.to.cmp(&two.to));
        let (counts, voice) = (counts.clone(), voice.clone());
        let seen = Seen { failed: Mutex::default(), sizes: Mutex::default(), counts, voice };
        Ok(Self { pending, seen: Arc::new(seen) })
    }

    /// How long each of them is; the trouble of the first one that is not whole.
    pub fn sizes(&self) -> Result<BTreeMap<PathBuf, u64>, Trouble> {
        if let Some(words) = lock(&self.seen.failed).clone() {
            return Err(Trouble::new(Kind::Dump, words));
        }
        let sizes = lock(&self.seen.sizes).clone();
        match self.pending.iter().find(|pending| !sizes.contains_key(&pending.to)) {
            Some(pending) => Err(Trouble::new(Kind::Dump, format!("dump {} was not read", pending.stream.to))),
            None => Ok(sizes),
        }
    }
}

impl Seen {
    fn fail(&self, words: String) {
        lock(&self.failed).get_or_insert(words);
    }

    fn has_failed(&self) -> bool {
        lock(&self.failed).is_some()
    }
}

fn words(fault: &Fault) -> String {
    std::iter::once(&fault.sentence).chain(&fault.because).cloned().collect::<Vec<_>>().join(": ")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl ReadSource for Dumps {
    type Open = OpenDump;
    type Iter = vec::IntoIter<RusticResult<ReadSourceEntry<OpenDump>>>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Self::Iter {
        let entry = |pending: &Pending| {
            let metadata = Metadata {
                mode: Some(MODE),
                uid: Some(0),
                gid: Some(0),
                links: 1,
                // A file with the size and the time of yesterday's would be taken for it, and not be read.
                mtime: Some(clock::now()),
                ..Metadata::default()
            };
            let node = Node::new_node(pending.to.file_name().unwrap_or_default(), NodeType::File, metadata);
            let open = OpenDump { pending: pending.clone(), seen: self.seen.clone() };
            Ok(ReadSourceEntry { path: pending.to.clone(), node, open: Some(open) })
        };
        self.pending.iter().map(entry).collect::<Vec<_>>().into_iter()
    }
}

/// A dump that begins when its content is needed.
pub struct OpenDump {
    pending: Pending,
    seen: Arc<Seen>,
}

impl ReadSourceOpen for OpenDump {
    type Reader = Content;

    fn open(self) -> RusticResult<Content> {
        let Self { pending, seen } = self;
        let refused = |why| RusticError::new(ErrorKind::InputOutput, why);
        if seen.has_failed() {
            return Err(refused("another dump is not whole"));
        }
        let Pending { to, stream, stack, socket, password } = pending;
        // This thread belongs to rustic: no event loop runs in it.
        match dump::begin(&Engine::at(&socket), &stack, stream, password.as_ref()) {
            Ok(dumping) => {
                let beat = seen.clone();
                let dumping = dumping.beating(move || beat.voice.progress(beat.counts.add(0)));
                seen.counts.add_file();
                Ok(Content { dumping, to, length: 0, seen })
            }
            Err(fault) => {
                seen.fail(words(&fault));
                Err(refused("a dump could not begin"))
            }
        }
    }
}

/// A dump while it runs.
pub struct Content {
    dumping: Dumping,
    to: PathBuf,
    length: u64,
    seen: Arc<Seen>,
}

impl Read for Content {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.seen.has_failed() {
            return Err(io::Error::other("another dump is not whole"));
        }
        match self.dumping.read(space) {
            Ok(0) if !space.is_empty() => {
                lock(&self.seen.sizes).insert(self.to.clone(), self.length);
                Ok(0)
            }
            Ok(count) => {
                self.length += count as u64;
                Ok(count)
            }
            Err(error) => {
                self.seen.fail(error.to_string());
                Err(error)
            }
        }
    }
}
