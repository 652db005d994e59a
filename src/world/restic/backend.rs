//! Puts restic's layout of files upon a [`Store`], for rustic. It fails fast after a write that failed for good, and
//! holds the snapshot back until the job has judged what went into it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustic_core::{BytesList, FileType, Id, ReadBackend, RusticResult, WriteBackend};

use super::ahead::Ahead;
use super::needs::Needs;
use super::store::{Part, Store, UNFINISHED};
use super::trouble::{Kind, Trouble};

/// A store as rustic sees it.
#[derive(Debug)]
pub struct Backend {
    store: Box<dyn Store>,
    holds_snapshots: AtomicBool,
    spoiled: Mutex<Option<Trouble>>,
    last: Mutex<Option<Trouble>>,
    saved: Mutex<Option<Id>>,
    held: Mutex<BTreeMap<Id, Bytes>>,
    ahead: Ahead,
    needs: Needs,
}

impl Backend {
    /// Over this store. Snapshots are written through.
    pub fn new(store: Box<dyn Store>) -> Self {
        Self {
            store,
            holds_snapshots: AtomicBool::new(false),
            spoiled: Mutex::new(None),
            last: Mutex::new(None),
            saved: Mutex::new(None),
            held: Mutex::default(),
            ahead: Ahead::default(),
            needs: Needs::default(),
        }
    }

    /// From now on, or no longer, a snapshot that rustic writes is not written: rustic saves one whatever could not be
    /// read, and the job has to see first what that was. It can be read, as the parent of the next one. Nor is the
    /// configuration written: what a job changes in it is for this job.
    pub fn hold_snapshots(&self, hold: bool) {
        self.holds_snapshots.store(hold, Ordering::SeqCst);
    }

    /// The snapshot that was written last.
    pub fn saved(&self) -> Option<Id> {
        *lock(&self.saved)
    }

    /// What went wrong in the store, which says more than what rustic makes of it.
    pub fn trouble(&self) -> Option<Trouble> {
        lock(&self.spoiled).clone().or_else(|| lock(&self.last).take())
    }

    /// The store itself.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// What will be read.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Fetches what will be read, from now on until that is over.
    pub fn fetch_ahead(self: &Arc<Self>) {
        let backend = self.clone();
        std::thread::spawn(move || backend.needs.fetch(&*backend.store, |pack| path(FileType::Pack, pack)));
    }

    /// Clears what a job that was killed left half-written. One job at a time writes.
    pub fn sweep(&self) -> Result<(), Trouble> {
        let unfinished = [UNFINISHED.to_owned()];
        // A repository that restic made has none.
        self.store.make_directories(&unfinished)?;
        let mut files = self.store.list(&unfinished)?.into_iter().filter(|entry| !entry.is_directory);
        files.try_for_each(|file| self.store.remove(&format!("{UNFINISHED}/{}", file.name)))
    }

    fn keep<T>(&self, result: Result<T, Trouble>) -> RusticResult<T> {
        result.map_err(|trouble| {
            *lock(&self.last) = Some(trouble.clone());
            trouble.into()
        })
    }

    /// A write that failed fails the job: rustic would go on feeding packs to a full disk.
    fn keep_writing<T>(&self, write: impl FnOnce() -> Result<T, Trouble>) -> RusticResult<T> {
        if let Some(trouble) = lock(&self.spoiled).clone() {
            return Err(trouble.into());
        }
        write().map_err(|trouble| {
            lock(&self.spoiled).get_or_insert_with(|| trouble.clone());
            trouble.into()
        })
    }

    fn list(&self, kind: FileType) -> Result<Vec<(Id, u32)>, Trouble> {
        let entries = match kind {
            FileType::Config => {
                let size = self.store.size("config")?;
                return Ok(size.map(|size| (Id::default(), narrow(size))).into_iter().collect());
            }
            FileType::Pack => self.store.packs()?,
            FileType::Snapshot | FileType::Index | FileType::Key => self.store.list(&[kind.dirname().to_owned()])?,
        };
        let files = entries.into_iter().filter(|entry| !entry.is_directory);
        Ok(files.filter_map(|file| Some((id(&file.name)?, narrow(file.size)))).collect())
    }
}

/// Whether it is the name of one of restic's files: a digest. Anything else is not one of them.
fn id(name: &str) -> Option<Id> {
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| name.parse().ok()).flatten()
}

/// Sizes are 32 bits wide in rustic. A larger file is none of restic's, and does not fit its index either.
fn narrow(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// restic's layout: packs in one of 256 directories by the first two digits of their name, everything else by its kind.
fn path(kind: FileType, id: &Id) -> String {
    let hex = id.to_hex();
    let name = hex.as_str();
    match kind {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{name}", &name[..2]),
        FileType::Snapshot | FileType::Index | FileType::Key => format!("{}/{name}", kind.dirname()),
    }
}

impl ReadBackend for Backend {
    fn location(&self) -> String {
        self.store.name()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.keep(self.list(kind))
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        if let Some(held) = lock(&self.held).get(id).filter(|_| kind == FileType::Snapshot) {
            return Ok(held.clone());
        }
        self.keep(self.store.read(&path(kind, id), None))
    }

    fn read_partial(&self, kind: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let (path, part) = (path(kind, id), Part { offset: offset.into(), length });
        let read = self.needs.take(id, part).unwrap_or_else(|| self.ahead.read(&*self.store, id, &path, part));
        self.keep(read)
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        path(kind, id)
    }
}

impl WriteBackend for Backend {
    fn create(&self) -> RusticResult<()> {
        let kinds = ["", UNFINISHED, "locks", "keys", "snapshots", "index", "data"].map(str::to_owned);
        let packs = (0..=u8::MAX).map(|first| format!("data/{first:02x}"));
        let all: Vec<String> = kinds.into_iter().chain(packs).collect();
        self.keep_writing(|| self.store.make_directories(&all))
    }

    fn write_bytes(&self, kind: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        if self.holds_snapshots.load(Ordering::SeqCst) {
            match kind {
                FileType::Snapshot => {
                    lock(&self.held).insert(*id, content.into_vec().concat().into());
                    return Ok(());
                }
                FileType::Config => return Ok(()),
                FileType::Pack | FileType::Index | FileType::Key => {}
            }
        }
        self.keep_writing(|| {
            let path = path(kind, id);
            let content = content.into_vec();
            match self.store.write(&path, &content) {
                // A directory for packs that somebody removed, empty as it was.
                Err(trouble) if trouble.kind == Kind::Gone && kind == FileType::Pack => {
                    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                    self.store.make_directories(&[directory.to_owned()])?;
                    self.store.write(&path, &content)
                }
                written => written,
            }
        })?;
        if kind == FileType::Snapshot {
            *lock(&self.saved) = Some(*id);
        }
        Ok(())
    }

    fn remove(&self, kind: FileType, id: &Id, _: bool) -> RusticResult<()> {
        self.keep_writing(|| self.store.remove(&path(kind, id)))
    }
}
