//! Fetches the followed branch of the fleet repository into the courier's bare repository, and heals that repository
//! when it is damaged. What it fetches is not verified here: the keeper does that.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::process::geteuid;

use crate::decide::fault::{Code, Fault};
use crate::decide::last_words::{Meaning, meaning};
use crate::decide::remote::is_branch;
use crate::model::Settings;
use crate::world::refs::{self, tip};
use crate::world::transport::{Failure, Git};
use crate::world::{Fetched, clock, foreign};

mod faults;
mod files;

use files::{exchange, packs, sweep};

/// So many packs are made into one.
const PACKS: usize = 50;

/// So many bytes of packs are made into one: twice the largest pack that we take.
const PACKED: u64 = 512 * 1024 * 1024;

/// So many objects one fetch may bring: a fleet repository of ten years has fewer (docs/facts.md, G1).
const OBJECTS: u32 = 200_000;

/// Where a fetch arrives. The branch moves only when what came keeps the limits.
const INCOMING: &str = "refs/moorline/incoming";

/// The file in the repository with which a reader says that an object is missing or damaged.
const DAMAGED: &str = "moorline-damaged";

/// The courier's repository and where it comes from. Whoever calls it holds the courier's lock.
#[derive(Debug)]
pub struct Fetch {
    git: Git,
    repository: PathBuf,
    branch: String,
    known_hosts: PathBuf,
    deploy_key: Option<PathBuf>,
    began: SystemTime,
    looked_over: AtomicBool,
}

impl Fetch {
    /// Takes the part of the settings that concerns the repository, and checks it.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        if !is_branch(&settings.branch) {
            let shown = settings.branch.escape_debug();
            return Err(Fault::new(Code::SettingsInvalid, format!("`branch` in agent.toml cannot be `{shown}`")));
        }
        Ok(Self {
            git: Git::new(settings)?,
            repository: settings.repository(),
            branch: settings.branch.clone(),
            known_hosts: settings.known_hosts.clone(),
            deploy_key: settings.deploy_key.clone(),
            began: clock::now().into(),
            looked_over: AtomicBool::new(false),
        })
    }

    /// Asks the server once. When nothing moved, that is one `ls-refs`.
    pub async fn run(&self) -> Result<Fetched, Fault> {
        // What stands there may be unreadable; then everything is news, and the repository is damaged.
        let before = tip(&self.repository, &self.branch).ok().flatten();
        self.bring_up_to_date().await?;
        let after = tip(&self.repository, &self.branch)?.ok_or_else(|| self.nothing_came())?;
        self.make_few_packs().await?;
        Ok(if before.as_ref() == Some(&after) { Fetched::Unchanged } else { Fetched::Moved(after) })
    }

    /// Asks what the branch is on the server, and changes nothing here: for `moorline doctor`.
    pub async fn ask(&self) -> Result<String, Fault> {
        let reference = format!("refs/heads/{}", self.branch);
        let question = ["ls-remote", "--quiet", "--exit-code", "--", self.git.remote.address(), &reference];
        // ls-remote needs no repository; the directory is only where git starts.
        let nowhere = Path::new("/");
        self.git.run_online(nowhere, &question).await.map_err(|failure| self.fault(failure))?;
        Ok(format!("{} has `{}`", self.git.remote.host(), self.branch))
    }

    async fn bring_up_to_date(&self) -> Result<(), Fault> {
        check_owner(&self.repository)?;
        if self.is_missing() || self.is_damaged_from_the_start().await {
            return self.clone_anew().await;
        }
        let Err(failure) = self.fetch_into(&self.repository).await else { return Ok(()) };
        // No child of ours is left, so whatever is locked now is locked by nobody.
        sweep(&self.repository, None);
        if self.could_be_damage(&failure) && self.is_damaged().await {
            return self.clone_anew().await;
        }
        Err(self.fault(failure))
    }

    fn is_missing(&self) -> bool {
        !self.repository.join("HEAD").exists()
    }

    /// Once in the life of a courier, and whenever a reader complains, the repository is looked over: a fetch alone
    /// never notices a rotten object that it does not need.
    async fn is_damaged_from_the_start(&self) -> bool {
        if self.repository.join(DAMAGED).exists() {
            return true;
        }
        if self.looked_over.swap(true, Ordering::Relaxed) {
            return false;
        }
        sweep(&self.repository, Some(self.began));
        self.is_damaged().await
    }

    /// The facts: can every object be read, and does the branch lead to one?
    async fn is_damaged(&self) -> bool {
        if tip(&self.repository, &self.branch).is_err() {
            return true;
        }
        let look = ["fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress"];
        match self.git.run(&self.repository, &look).await {
            Ok(_) => false,
            // A bound that was hit or a missing program says nothing about the repository.
            Err(Failure::Words { all, .. }) => !matches!(meaning(&all), Meaning::TooLarge | Meaning::ProgramMissing),
            Err(Failure::Fault(_)) => false,
        }
    }

    /// Whether a look at the repository is worth its time: not when the trouble has a name already.
    fn could_be_damage(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::Words { all, .. } if meaning(all) == Meaning::Unclear)
    }

    /// A new clone takes the place of what is there, in one step and only when it is complete. Nothing is lost with the
    /// old one: the anchor and everything else that is trusted lies outside.
    async fn clone_anew(&self) -> Result<(), Fault> {
        let fresh = self.repository.with_extension("git.new");
        self.make_empty(&fresh).await?;
        if let Err(failure) = self.fetch_into(&fresh).await {
            // Half of a repository that was too large would otherwise lie there until the next try.
            let _ = fs::remove_dir_all(&fresh);
            return Err(self.fault(failure));
        }
        exchange(&fresh, &self.repository).map_err(|error| self.unwritable(&error))?;
        // After an exchange this is the damaged one. When it cannot be removed the next clone tries again.
        let _ = fs::remove_dir_all(&fresh);
        self.looked_over.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn make_empty(&self, fresh: &Path) -> Result<(), Fault> {
        match fs::remove_dir_all(fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(self.unwritable(&error)),
            _ => {}
        }
        fs::create_dir_all(fresh).map_err(|error| self.unwritable(&error))?;
        let head = format!("--initial-branch={}", self.branch);
        let init = ["init", "--quiet", "--bare", "--template=", &head];
        self.git.run(fresh, &init).await.map_err(|failure| self.fault(failure))?;
        Ok(())
    }

    async fn fetch_into(&self, repository: &Path) -> Result<(), Failure> {
        let before = packs(repository);
        let refspec = format!("+refs/heads/{}:{INCOMING}", self.branch);
        let fetch = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            // Only the refspec below, whatever the repository's own file of configuration says.
            "--refmap=",
            "--",
            self.git.remote.address(),
            &refspec,
        ];
        self.git.run_online(repository, &fetch).await?;
        let fault = |fault| Failure::Fault(Box::new(fault));
        self.weigh(repository, &before).map_err(fault)?;
        let incoming = refs::read(repository, INCOMING).map_err(fault)?;
        if let Some(incoming) =
            incoming.filter(|incoming| tip(repository, &self.branch).ok().flatten().as_ref() != Some(incoming))
        {
            let branch = format!("refs/heads/{}", self.branch);
            self.git.run(repository, &["update-ref", "--no-deref", &branch, incoming.as_str()]).await?;
        }
        Ok(())
    }

    /// Throws away what came if it is too much: the branch stays, and the next fetch begins where this one did.
    fn weigh(&self, repository: &Path, before: &BTreeMap<PathBuf, u64>) -> Result<(), Fault> {
        let new: Vec<PathBuf> = packs(repository).into_keys().filter(|pack| !before.contains_key(pack)).collect();
        let counted = new.iter().map(|pack| files::objects(pack)).sum::<std::io::Result<u32>>();
        let count = counted.map_err(|error| self.unwritable(&error))?;
        if count <= OBJECTS {
            return Ok(());
        }
        // The ref first: one that leads nowhere would be damage.
        fs::remove_file(repository.join(INCOMING)).map_err(|error| self.unwritable(&error))?;
        new.iter().try_for_each(|pack| files::remove_pack(pack)).map_err(|error| self.unwritable(&error))?;
        Err(Fault::new(Code::ResourceLimit, format!("the fetch brought {count} objects; at most {OBJECTS} are taken"))
            .at("nothing was fetched")
            .hint("the branch should hold only the fleet's own history: `git rev-list --objects HEAD | wc -l`"))
    }

    /// Keeps the number of packs bounded. Objects that the branch no longer leads to go with it.
    ///
    /// The keeper may read meanwhile: git removes a pack only after its objects stand in the new one, and whoever
    /// misses an object looks for new packs before giving up.
    async fn make_few_packs(&self) -> Result<(), Fault> {
        let packs = packs(&self.repository);
        let (count, bytes) = (packs.len(), packs.values().sum::<u64>());
        if count < PACKS && bytes < PACKED {
            return Ok(());
        }
        let repack = ["-c", "repack.writeBitmaps=false", "repack", "-a", "-d", "--quiet"];
        let result = self.git.run(&self.repository, &repack).await;
        // Packs that cannot be made into one are no reason to keep a new revision back, but they may not pile up.
        if result.is_err() {
            sweep(&self.repository, None);
            if count >= 10 * PACKS || bytes >= 2 * PACKED {
                return self.clone_anew().await;
            }
        }
        Ok(())
    }

    fn unwritable(&self, error: &std::io::Error) -> Fault {
        Fault::new(Code::StateUnwritable, format!("{} cannot be written", self.repository.display()))
            .at("nothing was fetched")
            .caused_by(error)
    }

    fn nothing_came(&self) -> Fault {
        Fault::new(Code::FetchFailed, format!("git fetched {} without a word, but it is not there", self.branch))
    }
}

/// Says that an object in the courier's repository is missing or damaged: the next fetch makes a new clone.
pub fn report_damage(repository: &Path) -> std::io::Result<()> {
    foreign::mark(repository, DAMAGED)
}

/// A repository can name programs for git to run, so git may only work in one of our own. Started by root in the clone of
/// a courier that somebody took over, it would hand them root. git itself does not ask when it is told the directory.
pub fn check_owner(repository: &Path) -> Result<(), Fault> {
    let us = geteuid().as_raw();
    for directory in [Some(repository), repository.parent()].into_iter().flatten() {
        if fs::symlink_metadata(directory).is_ok_and(|found| found.uid() != us) {
            return Err(Fault::new(Code::FetchRefused, format!("{} belongs to another user", directory.display()))
                .at("nothing was fetched")
                .hint("let the courier run as its owner: `systemctl restart moorline-courier`"));
        }
    }
    Ok(())
}
