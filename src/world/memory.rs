//! Makes sure that what must never reach a disk lies in memory that is never swapped out. It does not look at what is
//! kept there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use rustix::process::geteuid;

use crate::decide::fault::{Code, Fault};
use crate::model::settings::MemoryPolicy;
use crate::world::{courier_user, watched};

/// `RAMFS_MAGIC` and `TMPFS_MAGIC` of the kernel.
const RAMFS: i64 = 0x8584_58f6;
const TMPFS: i64 = 0x0102_1994;

/// The directories in it that nobody else may look into.
const DIRECTORIES: [&str; 5] = ["secrets", "render", "env", "routes", "backup"];
/// Those that the courier reads, and nobody else: messages, and the push URLs of monitors.
const SHARED: [&str; 2] = ["outbox", "push"];

/// Makes `run` memory-backed, by mounting ramfs there when it is not and we are root, with its directories in it.
pub fn ensure(run: &Path, policy: MemoryPolicy) -> Result<(), Fault> {
    make_directory(run, 0o755)?;
    if judge(run, policy)? == Storage::Unsafe {
        // Courier and keeper may begin at the same moment: one mounts, and the other finds it mounted.
        let _turn = turn(run).map_err(|error| not_safe(run).caused_by(&error))?;
        if judge(run, policy)? == Storage::Unsafe {
            mount_ramfs(run)?;
        }
        check(run, policy)?;
    }
    for name in DIRECTORIES {
        make_directory(&run.join(name), 0o700)?;
        narrow(&run.join(name), 0o700)?;
    }
    let courier = courier_user::group().filter(|_| geteuid().is_root());
    for directory in SHARED.map(|name| run.join(name)) {
        make_directory(&directory, 0o700)?;
        match courier {
            Some(group) => share(&directory, group)?,
            None => narrow(&directory, 0o700)?,
        }
    }
    // Traefik may run as any user inside of its container; outside, nobody gets past the directory above.
    let published = run.join(watched::PLACE);
    make_directory(&published, 0o755)?;
    fs::set_permissions(&published, fs::Permissions::from_mode(0o755)).map_err(|error| {
        Fault::new(Code::StateUnwritable, format!("{} cannot be made", published.display())).caused_by(&error)
    })
}

/// Only looks: is `run` memory-backed?
pub fn check(run: &Path, policy: MemoryPolicy) -> Result<(), Fault> {
    match judge(run, policy)? {
        Storage::Safe => Ok(()),
        Storage::Unsafe => Err(not_safe(run)),
    }
}

/// Waits until nobody else mounts there. What is locked is the directory below: whoever comes later finds the mount.
fn turn(run: &Path) -> std::io::Result<fs::File> {
    let directory = fs::File::open(run)?;
    directory.lock()?;
    Ok(directory)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    Safe,
    Unsafe,
}

fn judge(run: &Path, policy: MemoryPolicy) -> Result<Storage, Fault> {
    let unreadable = |error: &dyn std::error::Error| {
        Fault::new(Code::MemoryUnsafe, format!("the file system of {} is not known", run.display())).caused_by(error)
    };
    // The type's name and width differ between architectures; the magic numbers fit into 32 bits.
    #[allow(clippy::unnecessary_cast, reason = "not unnecessary on 32-bit architectures")]
    let kind = statfs(run).map_err(|error| unreadable(&error))?.f_type as i64;
    Ok(match kind & 0xffff_ffff {
        RAMFS => Storage::Safe,
        TMPFS if policy == MemoryPolicy::AllowTmpfs => Storage::Safe,
        TMPFS => {
            let device = fs::metadata(run).map_err(|error| unreadable(&error))?.dev();
            let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| unreadable(&error))?;
            if never_swapped(&mounts, device) { Storage::Safe } else { Storage::Unsafe }
        }
        _ => Storage::Unsafe,
    })
}

/// Whether the tmpfs with this device number was mounted with `noswap` (Linux 6.4 and later).
///
/// Looking the file system up by its number and not by the path leaves no room for doubt when mounts lie upon mounts.
fn never_swapped(mountinfo: &str, device: u64) -> bool {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mountinfo.lines().any(|line| {
        // `36 35 98:0 /root /mount/point rw,noatime shared:1 - tmpfs tmpfs rw,size=1024k,noswap`
        let Some((mount, file_system)) = line.split_once(" - ") else { return false };
        mount.split(' ').nth(2) == Some(&device)
            && file_system.split(' ').nth(2).is_some_and(|options| options.split(',').any(|option| option == "noswap"))
    })
}

fn mount_ramfs(run: &Path) -> Result<(), Fault> {
    if !geteuid().is_root() {
        return Err(not_safe(run));
    }
    // What the engine makes when it looks for files to mount before they are there.
    remove_empty_directories(run);
    // A mount hides what was there before, and with it any secret that an older set-up left on the disk.
    let full = fs::read_dir(run).map_err(|error| not_safe(run).caused_by(&error))?.next().is_some();
    if full {
        return Err(Fault::new(Code::MemoryUnsafe, format!("{} is not in memory and is not empty", run.display()))
            .at("nothing was mounted over it, since that would only hide what is there")
            .hint(format!("stop moorline's services, `rm -r {}`, and start them again", run.display())));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("moorline", run, "ramfs", flags, c"mode=0755").map_err(|error| not_safe(run).caused_by(&error))
}

/// Removes what holds nothing, below `directory`. Links are not followed; what cannot be removed stays and is named by
/// whoever looks next.
fn remove_empty_directories(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_directories(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn not_safe(run: &Path) -> Fault {
    let run = run.display();
    Fault::new(Code::MemoryUnsafe, format!("{run} is not in memory that is never swapped out"))
        .at("no secret was written")
        .hint(format!(
            "as root: `mount -t ramfs -o mode=0755,nosuid,nodev,noexec moorline {run}`, or accept tmpfs by name in \
             /etc/moorline/agent.toml: `allow_tmpfs = true` below `[paths]`"
        ))
}

fn make_directory(directory: &Path, mode: u32) -> Result<(), Fault> {
    let unwritable = |error: &std::io::Error| {
        Fault::new(Code::StateUnwritable, format!("{} cannot be made", directory.display())).caused_by(error)
    };
    match fs::DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => Ok(()),
        // Without following a link: it could lead out of memory and onto a disk.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::symlink_metadata(directory) {
            Ok(found) if found.is_dir() => Ok(()),
            _ => Err(unwritable(&error).because("what is there is not a directory")),
        },
        Err(error) => Err(unwritable(&error)),
    }
}

/// Lets a group look into a directory of root's, and change nothing.
fn share(directory: &Path, group: u32) -> Result<(), Fault> {
    let shared = chown(directory, Some(0), Some(group))
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o750)));
    shared.map_err(|error| {
        Fault::new(Code::StateUnwritable, format!("{} cannot be shared with the courier", directory.display()))
            .caused_by(&error)
    })
}

/// Takes away permissions beyond `widest`, whoever gave them.
fn narrow(directory: &Path, widest: u32) -> Result<(), Fault> {
    let result = fs::metadata(directory).and_then(|found| {
        let mode = found.permissions().mode() & 0o7777;
        let narrowed = mode & widest;
        if narrowed == mode { Ok(()) } else { fs::set_permissions(directory, fs::Permissions::from_mode(narrowed)) }
    });
    result.map_err(|error| {
        Fault::new(Code::MemoryUnsafe, format!("others may look into {}", directory.display()))
            .caused_by(&error)
            .hint(format!("`chmod {widest:o} {}`", directory.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 28 0:20 / /proc rw,nosuid - proc proc rw
36 28 0:31 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=1024k,mode=755
37 28 0:32 / /run/secrets rw shared:6 master:1 - tmpfs tmpfs rw,noswap,mode=700
38 28 0:33 / /run/noswap rw - tmpfs noswap rw";

    fn device(minor: u32) -> u64 {
        rustix::fs::makedev(0, minor)
    }

    #[test]
    fn only_a_tmpfs_that_was_mounted_with_noswap_is_never_swapped() {
        assert!(never_swapped(MOUNTS, device(32)));
        for minor in [20, 31, 33, 34] {
            assert!(!never_swapped(MOUNTS, device(minor)), "0:{minor}");
        }
    }

    #[test]
    fn what_is_not_in_memory_is_refused_with_the_command_that_mends_it() {
        let fault = check(Path::new("/proc"), MemoryPolicy::AllowTmpfs).unwrap_err();
        assert_eq!(fault.code, Code::MemoryUnsafe);
        let command = "as root: `mount -t ramfs -o mode=0755,nosuid,nodev,noexec moorline /proc`";
        assert!(fault.hint.unwrap().starts_with(command));
    }

    #[test]
    fn a_directory_with_something_in_it_is_not_hidden_under_a_mount() {
        assert_eq!(ensure(Path::new("/proc"), MemoryPolicy::NeverOnDisk).unwrap_err().code, Code::MemoryUnsafe);
        assert!(Path::new("/proc/self").exists());
    }

    #[test]
    fn only_directories_that_hold_nothing_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let full = directory.path().join("secrets/web/full");
        fs::create_dir_all(&full).unwrap();
        fs::write(full.join("file"), "theirs").unwrap();
        fs::create_dir_all(directory.path().join("secrets/app/digest/token")).unwrap();
        remove_empty_directories(directory.path());
        assert!(full.join("file").exists());
        assert!(!directory.path().join("secrets/app").exists());
    }

    #[test]
    fn root_gets_a_ramfs_and_nobody_else_gets_anything() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let run = directory.path().join("run");
        match ensure(&run, MemoryPolicy::NeverOnDisk) {
            Ok(()) => {
                assert!(run.join("secrets").is_dir());
                let mounted = statfs(&run).unwrap().f_type & 0xffff_ffff == RAMFS;
                // A second call finds it and mounts nothing more.
                ensure(&run, MemoryPolicy::NeverOnDisk).unwrap();
                if mounted {
                    rustix::mount::unmount(&run, rustix::mount::UnmountFlags::empty()).unwrap();
                    assert!(!run.join("secrets").exists());
                }
            }
            // Not root, or root in a container without the right to mount.
            Err(fault) => {
                assert_eq!(fault.code, Code::MemoryUnsafe);
                assert!(!run.join("secrets").exists());
            }
        }
    }

    #[test]
    fn tmpfs_is_accepted_only_by_name() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let run = directory.path().join("run");
        ensure(&run, MemoryPolicy::AllowTmpfs).unwrap();
        ensure(&run, MemoryPolicy::AllowTmpfs).unwrap();
        for name in DIRECTORIES.iter().chain(&SHARED) {
            assert_eq!(fs::metadata(run.join(name)).unwrap().mode() & 0o777, 0o700, "{name}");
        }
    }

    #[test]
    fn what_others_may_read_is_narrowed() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let secrets = directory.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o755)).unwrap();
        ensure(directory.path(), MemoryPolicy::AllowTmpfs).unwrap();
        assert_eq!(fs::metadata(&secrets).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_is_refused() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        std::os::unix::fs::symlink("/var", directory.path().join("secrets")).unwrap();
        let fault = ensure(directory.path(), MemoryPolicy::AllowTmpfs).unwrap_err();
        assert_eq!(fault.because.last().unwrap(), "what is there is not a directory");
    }
}
