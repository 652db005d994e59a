//! The directory that Traefik watches: reads what lies there, and puts files in place, whole or not at all.
//!
//! It is in memory, since secrets may stand in what Traefik is told; and it is always the same one, since Traefik holds
//! on to the directory that it found when it was started. A container mounts it, so nothing is followed out of it.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType};

use crate::decide::fault::{Code, Fault};
use crate::decide::traefik::due::Found;
use crate::decide::traefik::host::STACK;
use crate::decide::traefik::publish::DIRECTORY;
use crate::model::{Secret, Settings};
use crate::world::disk;
use crate::world::stack::{name_of, open_directory, parent_beneath, read_beneath, remove_empty_parents, write_beneath};

/// Below the directory that must not reach a disk.
pub const PLACE: &str = "routes/dynamic";
/// More than this is no configuration of Traefik, and nobody shall make us read it.
const MOST_FILES: usize = 1000;
/// Any user inside of the container may read them; on the host, nobody but root gets to them.
const MODE: u32 = 0o444;

/// Where it is.
pub fn directory(settings: &Settings) -> PathBuf {
    settings.run.join(PLACE)
}

/// The link that leads there from the directory of the stack `traefik`: where it stands, and where it leads.
pub fn link(settings: &Settings, stack: &str) -> Option<(PathBuf, PathBuf)> {
    let place = settings.stack_directory(stack).join(DIRECTORY);
    (stack == STACK).then(|| (place, directory(settings)))
}

/// Every file in it, by path below it. What is no file, such as a link, has no content.
pub fn read(settings: &Settings) -> Result<Found, Fault> {
    let directory = directory(settings);
    let root = match open_directory(&directory) {
        Ok(root) => root,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::new()),
        Err(error) => return Err(disk::unwritable(&directory, &error)),
    };
    let mut found = Found::new();
    let mut waiting = vec![String::new()];
    while let Some(below) = waiting.pop() {
        for (name, is_directory) in entries(&root, &below).map_err(|error| disk::unwritable(&directory, &error))? {
            let path = format!("{below}{name}");
            if is_directory {
                waiting.push(format!("{path}/"));
                continue;
            }
            let bytes = parent_beneath(&root, &path, false).and_then(|parent| read_beneath(&parent, &name));
            found.insert(path, Secret::new(bytes.unwrap_or_default()));
        }
        if found.len() + waiting.len() > MOST_FILES {
            return Err(Fault::new(Code::StateUnwritable, format!("{} holds too many files", directory.display()))
                .at("nothing was published")
                .hint(format!("look what they are: `find {}`", directory.display())));
        }
    }
    Ok(found)
}

/// The names in one directory, and whether each is a directory. What is not finished is not there: Traefik does not
/// read it either.
fn entries(root: &OwnedFd, below: &str) -> io::Result<Vec<(String, bool)>> {
    let directory = parent_beneath(root, &format!("{below}."), false)?;
    let mut found = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if ![".", ".."].contains(&name.as_str()) && !name.ends_with(disk::UNFINISHED) {
            found.push((name, entry.file_type() == FileType::Directory));
        }
    }
    Ok(found)
}

/// Puts a file there by a rename from a name that Traefik does not read, or removes it.
pub fn put(settings: &Settings, path: &str, content: Option<&Secret<Vec<u8>>>) -> Result<(), Fault> {
    let directory = directory(settings);
    let put = || {
        let root = open_directory(&directory)?;
        match content {
            Some(content) => write_beneath(&root, path, content.expose(), MODE),
            None => {
                let parent = parent_beneath(&root, path, false)?;
                rustix::fs::unlinkat(&parent, name_of(path), AtFlags::empty())?;
                remove_empty_parents(&root, path);
                Ok(())
            }
        }
    };
    put().map_err(|error: io::Error| disk::unwritable(&directory.join(path), &error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::decide::settings;

    fn host() -> (tempfile::TempDir, Settings) {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { run: directory.path().to_owned(), ..settings::of_nowhere("alpha", None) };
        fs::create_dir_all(super::directory(&settings)).unwrap();
        (directory, settings)
    }

    fn names(settings: &Settings) -> Vec<String> {
        read(settings).unwrap().into_keys().collect()
    }

    #[test]
    fn files_are_put_read_and_taken_away_with_their_directories() {
        let (_directory, settings) = host();
        let text = Secret::new(b"x".to_vec());
        put(&settings, "moorline.routes.yaml", Some(&text)).unwrap();
        put(&settings, "certs/a/key.pem", Some(&text)).unwrap();
        assert_eq!(names(&settings), ["certs/a/key.pem", "moorline.routes.yaml"]);
        put(&settings, "certs/a/key.pem", None).unwrap();
        assert_eq!(names(&settings), ["moorline.routes.yaml"]);
        assert!(!directory(&settings).join("certs").exists());
    }

    #[test]
    fn a_leftover_is_not_there_and_a_link_leads_nowhere() {
        let (outside, settings) = host();
        fs::write(directory(&settings).join("a.yaml.moorline-new"), "half").unwrap();
        fs::write(outside.path().join("secret"), "theirs").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), directory(&settings).join("b.yaml")).unwrap();
        std::os::unix::fs::symlink(outside.path(), directory(&settings).join("c")).unwrap();
        let found = read(&settings).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["b.yaml", "c"]);
        assert!(found.values().all(|bytes| bytes.expose().is_empty()));
        put(&settings, "c", None).unwrap();
        assert!(outside.path().join("secret").exists());
    }
}
