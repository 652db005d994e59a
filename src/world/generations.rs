//! Removes files of secrets from memory that nobody uses any more. Who needs which is decided by others.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::decide::fault::Fault;
use crate::world::disk;

/// The directories of one stack and one content each, below `run`, that hold none of the `needed` files.
pub fn other_than(run: &Path, needed: &BTreeSet<String>) -> Result<Vec<PathBuf>, Fault> {
    let secrets = run.join("secrets");
    let needed: BTreeSet<PathBuf> =
        needed.iter().filter_map(|path| secrets.join(path).parent().map(Into::into)).collect();
    let mut others = Vec::new();
    for stack in below(&secrets)? {
        others.extend(below(&stack)?.into_iter().filter(|generation| !needed.contains(generation)));
    }
    Ok(others)
}

fn below(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>();
    list().map_err(|error: std::io::Error| disk::unwritable(directory, &error))
}

/// Removes those that no mount holds; returns how many. What was removed half by a run that was killed is removed wholly
/// by the next one.
pub fn remove(generations: &[PathBuf], mounted: &BTreeSet<PathBuf>) -> Result<usize, Fault> {
    // A container may also mount a directory further up.
    let is_held =
        |generation: &Path| mounted.iter().any(|path| path.starts_with(generation) || generation.starts_with(path));
    let mut removed = 0;
    for generation in generations.iter().filter(|generation| !is_held(generation)) {
        match fs::remove_dir_all(generation) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(disk::unwritable(generation, &error)),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_or_mounted_stays_and_the_rest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = directory.path().join("secrets");
        for path in ["app/1/token", "app/2/token", "app/3/token", "web/4/key", "web/5/key"] {
            fs::create_dir_all(secrets.join(path).parent().unwrap()).unwrap();
            fs::write(secrets.join(path), "x").unwrap();
        }
        let others = other_than(directory.path(), &["app/3/token".to_owned()].into()).unwrap();
        assert_eq!(others.len(), 4);
        let mounted = [secrets.join("app/2/token"), "/run/elsewhere".into()].into();
        assert_eq!(remove(&others, &mounted).unwrap(), 3);
        let left = |stack: &str| {
            let mut names: Vec<_> =
                fs::read_dir(secrets.join(stack)).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!((left("app"), left("web").len()), (vec!["2".into(), "3".into()], 0));
        assert_eq!(remove(&others, &mounted).unwrap(), 0, "again, there is nothing to do");
    }

    #[test]
    fn whoever_mounts_a_directory_further_up_keeps_all_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let generation = directory.path().join("secrets/app/1");
        fs::create_dir_all(&generation).unwrap();
        let mounted = [directory.path().join("secrets/app")].into();
        assert_eq!(remove(std::slice::from_ref(&generation), &mounted).unwrap(), 0);
        assert!(generation.exists());
    }
}
