//! Wakes a run when something in a directory changes, above all when the tip of the followed branch moves. It does not
//! look at what has changed: whoever is woken looks for himself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::decide::fault::{Code, Fault};

/// How long changes are gathered before they wake anybody: git makes a lock file, writes and renames.
const QUIET: Duration = Duration::from_millis(200);

/// How many directories above the watched one are watched too: up to the one of this host's state, which is always there.
/// The courier's, with the clone in it, may be made after the keeper has begun to wait.
const ANCESTORS: usize = 4;

/// A watch on a directory that may be missing, or be replaced by another of the same name.
///
/// The system watches a directory, not its path: when the courier exchanges a damaged clone for a new one, the old
/// directory would be watched for ever. So the directories above are watched as well, and each time something
/// happens the paths are looked up again.
pub struct Watch {
    directory: PathBuf,
    watcher: RecommendedWatcher,
    changed: Arc<Notify>,
    watched: BTreeMap<PathBuf, Identity>,
}

/// Which directory it is, whatever its name: device, number, and when it was made, where the file system says. A number is
/// given again as soon as it is free, and of a directory that was removed and made anew, nobody would hear.
type Identity = (u64, u64, Option<SystemTime>);

impl Watch {
    /// Watches a directory from now on.
    pub fn new(directory: &Path) -> Result<Self, Fault> {
        let changed = Arc::new(Notify::new());
        let signal = Arc::clone(&changed);
        let ours = directory.to_owned();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error counts as a change: something may have been missed.
            if event.map_or(true, |event| concerns(&event, &ours)) {
                signal.notify_one();
            }
        })
        .map_err(|error| {
            Fault::new(Code::StateUnwritable, format!("{} cannot be watched", directory.display()))
                .caused_by(&error)
                .hint("raise the limit: `sysctl fs.inotify.max_user_instances=512`")
        })?;
        let mut watch = Self { directory: directory.to_owned(), watcher, changed, watched: BTreeMap::new() };
        watch.look_up();
        Ok(watch)
    }

    /// Waits until something has changed since the last call. Changes that come together wake once; sometimes it
    /// wakes for nothing.
    pub async fn changed(&mut self) {
        self.changed.notified().await;
        tokio::time::sleep(QUIET).await;
        // What happened below a directory before it was watched told nobody; so look until nothing is new.
        while self.look_up() {}
        self.forget();
    }

    /// Watches every directory on the path that is not watched yet. True when there was a new one.
    fn look_up(&mut self) -> bool {
        let mut news = false;
        let paths: Vec<_> = self.directory.ancestors().take(ANCESTORS + 1).map(Path::to_owned).collect();
        // From above to below: what appears while we look is then seen by one or the other.
        for path in paths.into_iter().rev() {
            let found = fs::metadata(&path).ok().map(|found| (found.dev(), found.ino(), found.created().ok()));
            if self.watched.get(&path).copied() == found {
                continue;
            }
            if self.watched.remove(&path).is_some() {
                // It may have been removed already, and its watch with it.
                let _ = self.watcher.unwatch(&path);
            }
            if let Some(found) = found
                && self.watcher.watch(&path, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.insert(path, found);
                news = true;
            }
        }
        news
    }

    /// Drops the wake-up for changes that the caller is about to see.
    fn forget(&self) {
        let changed = std::pin::pin!(self.changed.notified());
        let _ = futures_util::FutureExt::now_or_never(changed);
    }
}

/// Whether something changed in the directory, or about a directory on the way to it; reading changes nothing.
fn concerns(event: &notify::Event, directory: &Path) -> bool {
    let on_the_way = |path: &PathBuf| path.starts_with(directory) || directory.starts_with(path);
    !matches!(event.kind, EventKind::Access(_)) && (event.paths.is_empty() || event.paths.iter().any(on_the_way))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn woken(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.is_ok()
    }

    async fn quiet(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(400), watch.changed()).await.is_err()
    }

    #[tokio::test]
    async fn changes_that_come_together_wake_once() {
        let directory = tempfile::tempdir().unwrap();
        let refs = directory.path().join("a/b/refs");
        fs::create_dir_all(&refs).unwrap();
        let mut watch = Watch::new(&refs).unwrap();
        for name in ["one", "two", "three"] {
            fs::write(refs.join(name), name).unwrap();
        }
        assert!(woken(&mut watch).await);
        assert!(quiet(&mut watch).await);
        fs::rename(refs.join("one"), refs.join("two")).unwrap();
        assert!(woken(&mut watch).await);
    }

    #[tokio::test]
    async fn a_change_before_anybody_waits_is_not_lost() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(directory.path()).unwrap();
        fs::write(directory.path().join("x"), "x").unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(woken(&mut watch).await);
    }

    #[tokio::test]
    async fn reading_wakes_nobody() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x"), "x").unwrap();
        let mut watch = Watch::new(directory.path()).unwrap();
        fs::read(directory.path().join("x")).unwrap();
        assert!(quiet(&mut watch).await);
    }

    #[tokio::test]
    async fn a_directory_that_is_missing_is_watched_once_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let refs = directory.path().join("courier/repo.git/refs/heads");
        let mut watch = Watch::new(&refs).unwrap();
        fs::create_dir_all(&refs).unwrap();
        assert!(woken(&mut watch).await);
        fs::write(refs.join("main"), "x").unwrap();
        assert!(woken(&mut watch).await);
    }

    #[tokio::test]
    async fn a_directory_that_was_removed_and_made_again_is_watched_also_under_the_same_number() {
        let directory = tempfile::tempdir().unwrap();
        let refs = directory.path().join("repo/refs/heads");
        fs::create_dir_all(&refs).unwrap();
        let mut watch = Watch::new(&refs).unwrap();
        let number = || fs::metadata(&refs).unwrap().ino();
        let before = number();
        for _ in 0..20 {
            fs::remove_dir_all(directory.path().join("repo")).unwrap();
            fs::create_dir_all(&refs).unwrap();
            if number() == before {
                break;
            }
        }
        while !quiet(&mut watch).await {}
        fs::write(refs.join("main"), "x").unwrap();
        assert!(woken(&mut watch).await);
    }

    #[tokio::test]
    async fn a_directory_that_was_exchanged_for_another_is_watched_under_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("repo/refs/heads")).unwrap();
        fs::create_dir_all(path("new/refs/heads")).unwrap();
        let mut watch = Watch::new(&path("repo/refs/heads")).unwrap();
        fs::rename(path("repo"), path("old")).unwrap();
        fs::rename(path("new"), path("repo")).unwrap();
        assert!(woken(&mut watch).await);
        while !quiet(&mut watch).await {}
        fs::write(path("repo/refs/heads/main"), "x").unwrap();
        assert!(woken(&mut watch).await);
    }
}
