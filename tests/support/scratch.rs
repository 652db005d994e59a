//! A place of its own for every neighbour, and the certainty that nothing outlives it.
//!
//! Everything that a [`Scratch`] starts carries its name: processes in an environment variable, containers in their
//! control group, mounts and files in their path, network namespaces in theirs. So clearing needs no bookkeeping
//! that a killed test could have left unfinished, and the same code clears up after us and after those who could not.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use super::tools::{search_path, tool};

const PREFIX: &str = "moorline-lab-";
const TAG: &str = "MOORLINE_LAB_SCRATCH";

/// A private directory, and the name of everything started from it. Dropping it clears all of that.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    path: PathBuf,
    /// Locked as long as the owner lives, however it ends. A recorded process id could have been given to
    /// someone else since.
    _alive: File,
}

impl Scratch {
    pub fn new() -> Self {
        static SWEPT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        loop {
            let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(&name);
            // The lock comes first: a directory without a locked lock file is a leftover to everyone else.
            let lock = lock_file(&path);
            let alive = File::create(&lock).unwrap_or_else(|error| panic!("{}: {error}", lock.display()));
            if alive.try_lock().is_err() {
                continue;
            }
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    return Self { name, path, _alive: alive };
                }
                // A process of our id was killed here, and nobody has swept yet.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    clear(&name, &path);
                }
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    /// Unique on this machine while the scratch lives; fit for a network namespace or a control group.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.path.join(path)
    }

    /// Makes a directory below.
    pub fn directory(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.join(path);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Writes a file below, with the directories above it.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(path);
        std::fs::create_dir_all(path.parent().expect("below the scratch")).expect("the scratch is writable");
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// A program of the lab with a clean environment, marked as ours. What it starts inherits the mark.
    #[track_caller]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(tool(program));
        command
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", &self.path)
            .env("LC_ALL", "C")
            .env("TMPDIR", &self.path)
            .env(TAG, &self.name);
        command
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clear(&self.name, &self.path);
        std::fs::remove_file(lock_file(&self.path)).ok();
    }
}

fn lock_file(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

/// Clears what killed runs left. Done by the first scratch of every process.
pub fn sweep() {
    let own = std::fs::metadata("/proc/self").expect("/proc is mounted").uid();
    for entry in std::fs::read_dir(std::env::temp_dir()).expect("the temporary directory is readable").flatten() {
        let lock = entry.path();
        let Some(name) = lock.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".lock"))
        else {
            continue;
        };
        // The temporary directory is everyone's: a stranger's bait must not make root unmount or kill anything.
        let ours = lock.symlink_metadata().is_ok_and(|found| found.is_file() && found.uid() == own);
        if !name.starts_with(PREFIX) || !ours {
            continue;
        }
        if let Ok(file) = File::open(&lock)
            && file.try_lock().is_ok()
        {
            clear(name, &lock.with_extension(""));
            std::fs::remove_file(&lock).ok();
        }
    }
}

/// Ends and removes everything that carries `name`. Never panics: it runs during panics.
fn clear(name: &str, path: &Path) {
    thaw(name);
    end_processes(name);
    remove_shim_sockets(path);
    unmount_below(path);
    remove_network_namespace(name);
    remove_control_groups(name);
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("lab: {} stays behind: {error}", path.display());
    }
}

/// Lets paused containers go on, or they could not end.
fn thaw(name: &str) {
    fn below(directory: &Path) {
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = directory.join(file);
            if file.exists() {
                std::fs::write(file, word).ok();
            }
        }
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path());
            }
        }
    }
    let root = Path::new("/sys/fs/cgroup");
    below(&root.join("freezer").join(name));
    below(&root.join(name));
}

/// Ends every process that has our mark or lives in our control group, until none is left: some are just being
/// started by others.
fn end_processes(name: &str) {
    for _ in 0..500 {
        let found = processes(name);
        if found.is_empty() {
            return;
        }
        Command::new(tool("busybox")).args(["kill", "-9"]).args(&found).run_quietly();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    eprintln!("lab: processes of {name} do not end: {:?}", processes(name));
}

fn processes(name: &str) -> Vec<String> {
    let mark = format!("{TAG}={name}");
    let group = format!("/{name}/");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let marked = read("environ").split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
        let contained = String::from_utf8_lossy(&read("cgroup")).lines().any(|line| line.contains(&group));
        // A zombie has ended; it waits for its parent, who may be this very process.
        let ended =
            String::from_utf8_lossy(&read("stat")).rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" Z"));
        if (marked || contained) && !ended {
            found.push(pid);
        }
    }
    found
}

/// containerd's shims keep their sockets outside the engine's directories, under a hashed name that only a file in
/// the container's bundle tells.
fn remove_shim_sockets(path: &Path) {
    // Of the containerd that the lab starts, and of the one that an engine with `userns-remap` starts itself.
    let states = ["containerd/state", "exec/containerd/daemon"].map(|state| path.join(state));
    let list = |directory: PathBuf| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let spaces = states.into_iter().flat_map(|state| list(state.join("io.containerd.runtime.v2.task")));
    for bundle in spaces.flat_map(|space| list(space.path())) {
        if let Ok(address) = std::fs::read_to_string(bundle.path().join("address"))
            && let Some(socket) = address.trim().strip_prefix("unix://")
        {
            std::fs::remove_file(socket).ok();
        }
    }
}

/// Takes away everything that is mounted below a path.
pub fn unmount_below(path: &Path) {
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let mut points: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| Path::new(point).starts_with(path))
        .collect();
    // Inner mounts first.
    points.sort_unstable_by_key(|point| std::cmp::Reverse(point.len()));
    for point in points {
        Command::new(tool("busybox")).args(["umount", "-l", point]).run_quietly();
    }
}

fn remove_network_namespace(name: &str) {
    if Path::new("/run/netns").join(name).exists() {
        Command::new(tool("ip")).args(["netns", "delete", name]).run_quietly();
    }
}

/// One hierarchy with version 2 of control groups, one per controller with version 1.
fn remove_control_groups(name: &str) {
    fn remove(directory: &Path) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        std::fs::remove_dir(directory).ok();
    }
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let directory = hierarchy.join(name);
        if directory.is_dir() {
            remove(&directory);
        }
    }
}

trait RunQuietly {
    fn run_quietly(&mut self);
}

impl RunQuietly for Command {
    /// For clearing up: what is already gone is no failure.
    fn run_quietly(&mut self) {
        self.stdin(std::process::Stdio::null()).output().ok();
    }
}
