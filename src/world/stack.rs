//! Writes a stack's inputs into its constant directory, and removes only what was written before.
//!
//! Containers may own parts of that directory, so every path is resolved beneath it and never through a link: a
//! container that plants a link must not make us write elsewhere on the host.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::decide::drift::Edited;
use crate::decide::fault::{Code, Fault};
use crate::decide::traefik::host::STACK as TRAEFIK;
use crate::decide::traefik::publish::DIRECTORY as PUBLISHED;
use crate::model::{DesiredStack, Settings};
use crate::world::{disk, foreign, watched};

/// Which files of a stack's directory are ours: path and SHA-256 of the content. Their content is what stands in the
/// repository, so the digest needs no key.
type Manifest = BTreeMap<String, String>;

/// Puts the stack's files, its `.env` and its secrets in place.
pub fn write(settings: &Settings, stack: &DesiredStack) -> Result<(), Fault> {
    let directory = settings.stack_directory(&stack.name);
    let place = |error: io::Error| disk::unwritable(&directory, &error);
    write_memory(settings, stack)?;
    fs::create_dir_all(&directory).map_err(place)?;
    let manifest_path = manifest_path(settings, &stack.name);
    let before = read_manifest(&manifest_path)?;
    let after: Manifest =
        stack.files.iter().map(|(path, file)| (path.clone(), hex::encode(Sha256::digest(&file.bytes)))).collect();
    // Both generations are ours while we are between them: after a kill, nothing of ours is taken for a person's.
    let mut both = before.clone();
    both.extend(after.clone());
    write_manifest(&manifest_path, &both)?;

    let root = open_directory(&directory).map_err(place)?;
    for (path, file) in &stack.files {
        let mode = if file.executable { 0o755 } else { 0o644 };
        write_beneath(&root, path, &file.bytes, mode)
            .map_err(|error| disk::unwritable(&directory.join(path), &error))?;
    }
    link(&root, ".env", &env_path(settings, &stack.name)).map_err(place)?;
    for (path, digest) in before.iter().filter(|(path, _)| !after.contains_key(*path)) {
        remove_beneath(&root, path, digest).map_err(|error| disk::unwritable(&directory.join(path), &error))?;
    }
    if stack.name == TRAEFIK {
        link(&root, PUBLISHED, &watched::directory(settings))
            .map_err(|error| disk::unwritable(&directory.join(PUBLISHED), &error))?;
    }
    write_manifest(&manifest_path, &after)
}

/// Removes what was written for a stack that the host no longer has. Anything else in its directory stays.
pub fn remove(settings: &Settings, name: &str) -> Result<(), Fault> {
    let directory = settings.stack_directory(name);
    let manifest_path = manifest_path(settings, name);
    let manifest = read_manifest(&manifest_path)?;
    if let Ok(root) = open_directory(&directory) {
        for (path, digest) in &manifest {
            remove_beneath(&root, path, digest).map_err(|error| disk::unwritable(&directory.join(path), &error))?;
        }
        // `.env` is our link; the directory goes only if nothing else is in it.
        let _ = rustix::fs::unlinkat(&root, ".env", AtFlags::empty());
        if name == TRAEFIK {
            let _ = rustix::fs::unlinkat(&root, PUBLISHED, AtFlags::empty());
        }
        let _ = fs::remove_dir(&directory);
    }
    for path in [env_path(settings, name), manifest_path] {
        remove_if_there(fs::remove_file(&path), &path)?;
    }
    let secrets = settings.run.join("secrets").join(name);
    remove_if_there(fs::remove_dir_all(&secrets), &secrets)
}

/// The files of these stacks that are not as they were written; stacks with none are absent.
pub fn all_edited(settings: &Settings, names: &[String]) -> Result<BTreeMap<String, Vec<Edited>>, Fault> {
    let mut all = BTreeMap::new();
    for name in names {
        let edited = edited(settings, name)?;
        if !edited.is_empty() {
            all.insert(name.clone(), edited);
        }
    }
    Ok(all)
}

/// The stack's files that are not as they were written. A stack that was never written has none.
fn edited(settings: &Settings, name: &str) -> Result<Vec<Edited>, Fault> {
    let directory = settings.stack_directory(name);
    let root = open_directory(&directory).ok();
    let found = |path: &str| {
        let parent = parent_beneath(root.as_ref()?, path, false).ok()?;
        read_beneath(&parent, name_of(path)).ok()
    };
    let mut edited = Vec::new();
    for (path, digest) in read_manifest(&manifest_path(settings, name))? {
        let found = found(&path);
        if found.as_ref().is_none_or(|found| hex::encode(Sha256::digest(found)) != digest) {
            edited.push(Edited { place: directory.join(&path), path, found });
        }
    }
    let mut links = vec![(".env", env_path(settings, name))];
    if name == TRAEFIK {
        links.push((PUBLISHED, watched::directory(settings)));
    }
    for (link, target) in links {
        let is_linked = fs::read_link(directory.join(link)).is_ok_and(|found| found == target);
        if !is_linked && manifest_path(settings, name).exists() {
            // Not its content: whoever put a file there may have put secrets into it.
            edited.push(Edited { path: link.into(), place: directory.join(link), found: None });
        }
    }
    Ok(edited)
}

/// Whether the stack's files in memory are there.
pub fn is_in_memory(settings: &Settings, name: &str) -> bool {
    env_path(settings, name).is_file()
}

fn remove_if_there(removed: io::Result<()>, path: &Path) -> Result<(), Fault> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk::unwritable(path, &error)),
        _ => Ok(()),
    }
}

fn env_path(settings: &Settings, name: &str) -> PathBuf {
    settings.run.join("env").join(name)
}

fn manifest_path(settings: &Settings, name: &str) -> PathBuf {
    settings.state.join("manifests").join(format!("{name}.json"))
}

fn read_manifest(path: &Path) -> Result<Manifest, Fault> {
    let bytes = match disk::read(path, 4 * 1024 * 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::new()),
        Err(error) => return Err(damaged(path, &error)),
    };
    serde_json::from_slice(&bytes).map_err(|error| damaged(path, &error))
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> Fault {
    Fault::new(Code::LedgerDamaged, format!("{} is damaged", path.display()))
        .caused_by(error)
        .at("nothing was changed")
        .hint(format!("remove it (`rm {}`): files that left the repository then stay where they are", path.display()))
}

fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), Fault> {
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        disk::write(path, &serde_json::to_vec(manifest)?, 0o600)
    };
    write().map_err(|error: io::Error| disk::unwritable(path, &error))
}

/// Puts the stack's files in memory in place: its secrets and its `.env`. They come first: a container must never start
/// before its files are there.
pub fn write_memory(settings: &Settings, stack: &DesiredStack) -> Result<(), Fault> {
    let secrets = settings.run.join("secrets");
    for file in &stack.secrets {
        let path = secrets.join(&file.path);
        clear_way(&path)?;
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            // The path names its content, so what is there is right, unless the engine has begun to remap users.
            if disk::is_for(&path, file.access) {
                Ok(())
            } else {
                disk::write_for(&path, file.content.expose(), file.access)
            }
        };
        write().map_err(|error| disk::unwritable(&path, &error))?;
    }
    let env = env_path(settings, &stack.name);
    clear_way(&env)?;
    let write = || {
        env.parent().map_or(Ok(()), fs::create_dir_all)?;
        disk::write(&env, stack.environment.expose().as_bytes(), 0o600)
    };
    write().map_err(|error| disk::unwritable(&env, &error))
}

/// Removes the empty directory that the engine makes where it was told to mount a file and found none.
fn clear_way(path: &Path) -> Result<(), Fault> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    fs::remove_dir(path).map_err(|error| {
        Fault::new(Code::StateUnwritable, format!("{} is a directory in the place of a file", path.display()))
            .caused_by(&error)
            .at("it was left as it is, and the file was not written")
            .hint(format!("look into it, then `rm -r {}`", path.display()))
    })
}

/// Makes a link in the stack's directory, into memory.
fn link(root: &OwnedFd, name: &str, target: &Path) -> io::Result<()> {
    if rustix::fs::readlinkat(root, name, Vec::new())
        .is_ok_and(|now| now.as_bytes() == target.as_os_str().as_encoded_bytes())
    {
        return Ok(());
    }
    let unfinished = format!("{name}.moorline-new");
    let _ = rustix::fs::unlinkat(root, unfinished.as_str(), AtFlags::empty());
    rustix::fs::symlinkat(target, root, unfinished.as_str())?;
    Ok(rustix::fs::renameat(root, unfinished.as_str(), root, name)?)
}

pub(super) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Opens the directory of a relative path beneath `root`, making what is missing.
pub(super) fn parent_beneath(root: &OwnedFd, path: &str, make: bool) -> io::Result<OwnedFd> {
    let mut directory = root.try_clone()?;
    let Some((parents, _)) = path.rsplit_once('/') else { return Ok(directory) };
    for name in parents.split('/') {
        if make {
            match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
                _ => {}
            }
        }
        directory = foreign::descend(&directory, name)?;
    }
    Ok(directory)
}

pub(super) fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(super) fn read_beneath(directory: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(2 * 1024 * 1024).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn write_beneath(root: &OwnedFd, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = parent_beneath(root, path, true)?;
    let name = name_of(path);
    // A file that is right already keeps its inode: single-file bind mounts hold on to it (docs/facts.md, C5).
    let same_mode =
        rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| stat.st_mode & 0o7777 == mode);
    if same_mode && read_beneath(&directory, name).is_ok_and(|now| now == bytes) {
        return Ok(());
    }
    let unfinished = format!("{name}.moorline-new");
    let _ = rustix::fs::unlinkat(&directory, unfinished.as_str(), AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(&directory, unfinished.as_str(), flags, Mode::from_raw_mode(mode))?);
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rustix::fs::renameat(&directory, unfinished.as_str(), &directory, name)?;
    Ok(rustix::fs::fsync(&directory)?)
}

/// Removes a file of ours, unless somebody has changed it since: then it is not ours any more.
fn remove_beneath(root: &OwnedFd, path: &str, digest: &str) -> io::Result<()> {
    let Ok(directory) = parent_beneath(root, path, false) else { return Ok(()) };
    let is_ours = read_beneath(&directory, name_of(path)).is_ok_and(|now| hex::encode(Sha256::digest(&now)) == digest);
    if is_ours {
        rustix::fs::unlinkat(&directory, name_of(path), AtFlags::empty())?;
    }
    remove_empty_parents(root, path);
    Ok(())
}

/// Directories that became empty go too, innermost first; one that is not empty stays.
pub(super) fn remove_empty_parents(root: &OwnedFd, path: &str) {
    let mut rest = path;
    while let Some((parents, _)) = rest.rsplit_once('/') {
        let removed = parent_beneath(root, parents, false)
            .map(|above| rustix::fs::unlinkat(&above, name_of(parents), AtFlags::REMOVEDIR));
        if !matches!(removed, Ok(Ok(()))) {
            break;
        }
        rest = parents;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let root = open_directory(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn a_planted_link_is_never_followed() {
        let (directory, root) = root();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), directory.path().join("files")).unwrap();
        assert!(write_beneath(&root, "files/conf", b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        let target = outside.path().join("target");
        fs::write(&target, "theirs").unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join("conf")).unwrap();
        write_beneath(&root, "conf", b"ours", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(directory.path().join("conf")).unwrap(), "ours");
    }

    #[test]
    fn an_empty_directory_in_the_place_of_a_file_goes_and_a_full_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        clear_way(&path).unwrap();
        fs::create_dir(&path).unwrap();
        clear_way(&path).unwrap();
        assert!(!path.exists());
        fs::create_dir_all(path.join("theirs")).unwrap();
        let fault = clear_way(&path).unwrap_err();
        assert!(fault.sentence.contains(&path.display().to_string()), "{fault}");
        assert!(path.join("theirs").exists());
    }

    #[test]
    fn an_unchanged_file_keeps_its_inode() {
        use std::os::unix::fs::MetadataExt;
        let (directory, root) = root();
        let inode = || fs::metadata(directory.path().join("a/b")).unwrap().ino();
        write_beneath(&root, "a/b", b"one", 0o644).unwrap();
        let first = inode();
        write_beneath(&root, "a/b", b"one", 0o644).unwrap();
        assert_eq!(inode(), first);
        write_beneath(&root, "a/b", b"two", 0o644).unwrap();
        assert_ne!(inode(), first);
    }

    #[test]
    fn only_unchanged_files_of_ours_are_removed_and_empty_directories_with_them() {
        let (directory, root) = root();
        write_beneath(&root, "a/b/ours", b"one", 0o644).unwrap();
        write_beneath(&root, "c/edited", b"one", 0o644).unwrap();
        fs::write(directory.path().join("c/edited"), "by hand").unwrap();
        let digest = hex::encode(Sha256::digest(b"one"));
        remove_beneath(&root, "a/b/ours", &digest).unwrap();
        remove_beneath(&root, "c/edited", &digest).unwrap();
        assert!(!directory.path().join("a").exists());
        assert!(directory.path().join("c/edited").exists());
    }
}
