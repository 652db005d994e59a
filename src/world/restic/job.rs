//! One job in a process of its own: reads its order, does it, and says how it went. rustic cannot be asked to stop and may
//! panic; a process can be killed, and its end is noticed.

use std::io::{self, BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use rustic_core::repofile::SnapshotFile;
use rustic_core::{
    Credentials, OpenStatus, Progress as Bar, ProgressBars, ProgressType, Repository, RepositoryBackends,
    RepositoryOptions, RusticError, RusticProgress, WriteBackend,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getrlimit, kill_process, set_parent_process_death_signal, setpriority_process,
    setrlimit,
};

use super::backend::Backend;
use super::order::{LONGEST_LINE, Line, Order, Progress, Snapshot, Task};
use super::source::Counts;
use super::trouble::{Kind, Trouble};
use super::{backup, check, forget, measure, prune, restore, store};
use crate::world::clock;

/// How often progress is told, in milliseconds.
const PACE: i64 = 500;
/// The nicest that the kernel knows: whatever the host serves comes first.
const NICEST: i32 = 19;

/// Carries out the order on standard input.
pub fn serve() -> io::Result<()> {
    // Nobody is left to hear it once the one who gave the order is gone.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if fstat(io::stdin()).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket) {
        std::thread::spawn(end_with_the_connection);
    }
    be_modest();
    let mut line = zeroize::Zeroizing::new(String::new());
    io::stdin().lock().take(LONGEST_LINE).read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    let voice = Arc::new(Voice::default());
    let done = catch_unwind(AssertUnwindSafe(|| carry_out(&order, &voice)));
    let last = match done {
        Ok(Ok(line)) => line,
        Ok(Err(trouble)) => Line::Trouble(trouble),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Line::Trouble(Trouble::new(Kind::Internal, words.unwrap_or("it broke off without a word")))
        }
    };
    voice.say(&last)
}

/// Called by systemd, it is the connection that says whether anybody is left. What it has started ends with it, since the
/// unit does.
fn end_with_the_connection() {
    let stdin = io::stdin();
    let mut gone = [PollFd::new(&stdin, PollFlags::RDHUP)];
    while matches!(poll(&mut gone, None), Err(rustix::io::Errno::INTR)) {}
    let _ = kill_process(getpid(), Signal::TERM);
}

/// Neither the processor nor the disk is taken from what the host serves. What the system does not grant is no reason to
/// make no backup. It has many files open, one for each directory on the way.
fn be_modest() {
    let _ = setpriority_process(None, NICEST);
    let own = std::process::id().to_string();
    // A batch job is interrupted less often, also by itself: its threads hand every file on to each other.
    for (program, arguments) in [("ionice", ["-c", "3", "-p", &own]), ("chrt", ["--batch", "--pid", "0", &own])] {
        #[allow(clippy::disallowed_methods, reason = "it ends at once; the system has no safe call for it")]
        let mut program = std::process::Command::new(program);
        let _ = program.args(arguments).env_clear().envs(crate::world::child::ENVIRONMENT).output();
    }
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn carry_out(order: &Order, voice: &Arc<Voice>) -> Result<Line, Trouble> {
    let backend = Arc::new(Backend::new(store::open(order)?));
    match &order.task {
        Task::Backup(task) => backup::backup(&backend, order, task, voice).map(Line::Saved),
        Task::Snapshots => {
            list(&backend, &order.password, voice)?;
            Ok(Line::Listed)
        }
        Task::Restore(task) => restore::restore(&backend, &order.password, task, voice).map(Line::Restored),
        Task::Survey => {
            list(&backend, &order.password, voice)?;
            forget::survey(&backend).map(Line::Surveyed)
        }
        Task::Forget(task) => forget::forget(&backend, &order.password, task, voice).map(Line::Forgotten),
        Task::Prune(task) => prune::prune(&backend, &order.password, task, voice).map(Line::Pruned),
        Task::Check(task) => check::check(&backend, &order.password, task, voice).map(Line::Checked),
        Task::Measure(task) => measure::measure(&backend, &order.password, task, voice).map(Line::Measured),
    }
}

/// Says which snapshots there are.
fn list(backend: &Arc<Backend>, password: &str, voice: &Arc<Voice>) -> Result<(), Trouble> {
    let repository = open(backend, password, None, voice, &Arc::default())?;
    let mut snapshots = snapshots(backend, &repository)?.into_iter();
    let say = |snapshot| voice.say(&Line::Snapshot(describe(&snapshot)));
    snapshots.try_for_each(say).map_err(|error| Trouble::io("the output", &error))
}

/// Opens the backup repository, or says what is in the way.
pub fn open(
    backend: &Arc<Backend>,
    password: &str,
    cache: Option<&Path>,
    voice: &Arc<Voice>,
    counts: &Arc<Counts>,
) -> Result<Repository<OpenStatus>, Trouble> {
    if backend.store().size("config")?.is_none() {
        return Err(Trouble::new(Kind::Missing, backend.store().name()));
    }
    let repository = unopened(backend, cache, voice, counts)?;
    repository.open(&Credentials::password(password)).map_err(|error| explain(backend, &error))
}

/// The backup repository before it is opened or made.
pub fn unopened(
    backend: &Arc<Backend>,
    cache: Option<&Path>,
    voice: &Arc<Voice>,
    counts: &Arc<Counts>,
) -> Result<Repository<()>, Trouble> {
    let options = match cache {
        Some(cache) => RepositoryOptions::default().cache_dir(cache),
        None => RepositoryOptions::default().no_cache(true),
    };
    let backends = RepositoryBackends::new(backend.clone() as Arc<dyn WriteBackend>, None);
    let bars = Bars { voice: voice.clone(), counts: counts.clone() };
    Repository::new_with_progress(&options, &backends, bars).map_err(|error| explain(backend, &error))
}

/// All snapshots, oldest first. One that cannot be read is an error: what is not seen is not kept by others.
pub fn snapshots(backend: &Backend, repository: &Repository<OpenStatus>) -> Result<Vec<SnapshotFile>, Trouble> {
    let mut found = repository.get_all_snapshots().map_err(|error| explain(backend, &error))?;
    found.sort_by_key(|snapshot| snapshot.time.timestamp());
    Ok(found)
}

/// What the store says of a failure, or what rustic says if the store was fine.
pub fn explain(backend: &Backend, error: &RusticError) -> Trouble {
    backend.trouble().unwrap_or_else(|| Trouble::rustic(error))
}

fn describe(snapshot: &SnapshotFile) -> Snapshot {
    let summary = snapshot.summary.as_ref();
    Snapshot {
        id: snapshot.id.to_hex().as_str().to_owned(),
        time: snapshot.time.timestamp(),
        local: snapshot.time.datetime(),
        host: snapshot.hostname.clone(),
        label: snapshot.label.clone(),
        tags: snapshot.tags.iter().cloned().collect(),
        paths: snapshot.paths.iter().cloned().collect(),
        files: summary.map(|summary| summary.total_files_processed),
        bytes: summary.map(|summary| summary.total_bytes_processed),
    }
}

/// The most memory that this process held, in bytes; zero if the system does not say.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Says lines on standard output.
#[derive(Debug, Default)]
pub struct Voice {
    last: Mutex<Option<Timestamp>>,
}

impl Voice {
    /// Says one line.
    pub fn say(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut output = io::stdout().lock();
        output.write_all(&text)?;
        output.flush()
    }

    /// Says how far it is, unless it said so a moment ago.
    pub fn progress(&self, progress: Progress) {
        self.tell(progress);
    }

    /// The same; whether it did.
    pub fn tell(&self, progress: Progress) -> bool {
        let now = clock::now();
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_some_and(|last| now.as_millisecond() - last.as_millisecond() < PACE) {
            return false;
        }
        *last = Some(now);
        // Whoever does not listen to progress may still wait for the end.
        self.say(&Line::Progress(progress)).is_ok()
    }
}

/// rustic's progress bars: those that count bytes of content are told, the others are not.
#[derive(Debug)]
struct Bars {
    voice: Arc<Voice>,
    counts: Arc<Counts>,
}

impl ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, _prefix: &str) -> Bar {
        match kind {
            ProgressType::Bytes => Bar::new(Bytes { voice: self.voice.clone(), counts: self.counts.clone() }),
            ProgressType::Spinner | ProgressType::Counter => Bar::hidden(),
        }
    }
}

#[derive(Debug)]
struct Bytes {
    voice: Arc<Voice>,
    counts: Arc<Counts>,
}

impl RusticProgress for Bytes {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, _: u64) {}

    fn set_title(&self, _: &str) {}

    fn inc(&self, bytes: u64) {
        self.voice.progress(self.counts.add(bytes));
    }

    fn finish(&self) {}
}
