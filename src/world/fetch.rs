//! Fetches the followed branch of the fleet repository into the courier's bare repository, and heals that repository
//! when it is damaged. What it fetches is not verified here: the keeper does that.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::geteuid;

use crate::decide::fault::{Code, Fault};
use crate::decide::last_words::{Meaning, meaning};
use crate::decide::remote::{Transport, is_branch};
use crate::model::Settings;
use crate::world::refs::tip;
use crate::world::transport::{Failure, Git};
use crate::world::{Fetched, clock};

/// So many packs are made into one.
const PACKS: usize = 50;

/// So many bytes of packs are made into one: twice the largest pack that we take.
const PACKED: u64 = 512 * 1024 * 1024;

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
        self.check_owner()?;
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

    /// A repository can name programs for git to run, so git may only work in one of our own. Started by root in the
    /// clone of a courier that somebody took over, it would hand them root. git itself does not ask when it is told
    /// the directory.
    fn check_owner(&self) -> Result<(), Fault> {
        let us = geteuid().as_raw();
        for directory in [Some(self.repository.as_path()), self.repository.parent()].into_iter().flatten() {
            if fs::symlink_metadata(directory).is_ok_and(|found| found.uid() != us) {
                return Err(Fault::new(Code::FetchRefused, format!("{} belongs to another user", directory.display()))
                    .at("nothing was fetched")
                    .hint("let the courier run as its owner: `systemctl restart moorline-courier`"));
            }
        }
        Ok(())
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
        let refspec = format!("+refs/heads/{0}:refs/heads/{0}", self.branch);
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
        self.git.run_online(repository, &fetch).await.map(drop)
    }

    /// Keeps the number of packs bounded. Objects that the branch no longer leads to go with it.
    ///
    /// The keeper may read meanwhile: git removes a pack only after its objects stand in the new one, and whoever
    /// misses an object looks for new packs before giving up.
    async fn make_few_packs(&self) -> Result<(), Fault> {
        let (count, bytes) = packs(&self.repository);
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

    /// What a person or the next run needs to know about a failure.
    fn fault(&self, failure: Failure) -> Fault {
        let (all, telling) = match failure {
            Failure::Fault(fault) => return *fault,
            Failure::Words { all, telling } => (all, telling),
        };
        let (host, branch) = (self.git.remote.host(), &self.branch);
        let server = if host.is_empty() { "the directory" } else { host };
        let known_hosts = self.known_hosts.display();
        let meaning = meaning(&all);
        let (code, sentence, hint) = match meaning {
            Meaning::HostKeyChanged => (
                Code::FetchRefused,
                format!("{host} showed another host key than the pinned one"),
                Some(format!(
                    "if the server's owner confirms the new key: `ssh-keygen -R {host} -f {known_hosts}`, then `ssh-keyscan {host} \
                     >> {known_hosts}` and compare the fingerprint"
                )),
            ),
            Meaning::HostKeyUnknown => (
                Code::FetchRefused,
                format!("no host key of {host} is pinned"),
                Some(format!(
                    "`ssh-keyscan {host} >> {known_hosts}`, then compare with the fingerprint the server publishes"
                )),
            ),
            Meaning::CertificateRefused => (
                Code::FetchRefused,
                format!("the TLS certificate of {host} is not valid"),
                Some(format!("`curl -v https://{host}/` on this host shows why")),
            ),
            Meaning::KeyRefused => (
                Code::FetchRefused,
                format!("{host} refused the deploy key"),
                self.deploy_key.as_ref().map(|key| {
                    format!("register what `ssh-keygen -yf {}` prints as a deploy key, to read only", key.display())
                }),
            ),
            Meaning::TokenRefused => (
                Code::FetchRefused,
                format!("{host} refused the token, or wants one"),
                Some("put a token that may read the repository into the `token_file` that agent.toml names".into()),
            ),
            Meaning::RepositoryUnknown => (
                Code::FetchRefused,
                format!("{server} has no repository at this address, or hides it from this key"),
                Some("check `remote` in /etc/moorline/agent.toml, and what the key or token may read".into()),
            ),
            Meaning::RepositoryMoved => (
                Code::FetchRefused,
                format!("{host} says that the repository has moved"),
                Some("write the new address as `remote` in /etc/moorline/agent.toml".into()),
            ),
            Meaning::BranchUnknown => (
                Code::FetchRefused,
                format!("the repository has no branch `{branch}`"),
                Some("check `branch` in /etc/moorline/agent.toml".into()),
            ),
            Meaning::ContentRefused => (
                Code::FetchRefused,
                format!("what {server} sent for `{branch}` breaks git's rules"),
                Some("`git fsck` in a checkout names the object".into()),
            ),
            Meaning::TooLarge => (
                Code::FetchRefused,
                "the fetch needs more memory, time or space than it may have".into(),
                Some("keep large files out of the fleet repository: `git count-objects -vH` shows its size".into()),
            ),
            Meaning::DiskFull => {
                (Code::StateUnwritable, format!("{} cannot be written", self.repository.display()), None)
            }
            Meaning::ProgramMissing => {
                let packages = match self.git.remote.transport() {
                    Transport::Ssh => "git openssh-client",
                    _ => "git",
                };
                (Code::FetchRefused, "git or ssh is missing".into(), Some(format!("`apt install {packages}`")))
            }
            Meaning::Unreachable => (Code::FetchFailed, format!("{server} could not be asked"), None),
            Meaning::Unclear => (Code::FetchFailed, format!("git could not fetch from {server}"), None),
        };
        let mut fault = Fault::new(code, sentence).at("nothing was fetched");
        fault.because = match meaning {
            Meaning::HostKeyChanged => fingerprint(&all),
            _ => telling,
        };
        fault.hint = hint;
        fault
    }
}

/// Says that an object in the courier's repository is missing or damaged: the next fetch makes a new clone.
pub fn report_damage(repository: &Path) -> std::io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).open(repository.join(DAMAGED)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// What ssh says about the key it was shown.
fn fingerprint(words: &str) -> Vec<String> {
    let shown = words.lines().map(str::trim).find(|line| line.starts_with("SHA256:"));
    shown.map(|key| format!("it showed {}", key.trim_end_matches('.'))).into_iter().collect()
}

/// Puts `fresh` in the place of `repository`, and what was there in the place of `fresh`.
fn exchange(fresh: &Path, repository: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, fresh, CWD, repository, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::NOENT) => {}
        // Not every file system can exchange; then there is an instant without a repository, which readers survive.
        Err(_) => fs::remove_dir_all(repository)?,
    }
    fs::rename(fresh, repository)
}

/// The number of packs and their size.
fn packs(repository: &Path) -> (usize, u64) {
    let Ok(entries) = fs::read_dir(repository.join("objects/pack")) else { return (0, 0) };
    let sizes: Vec<u64> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|found| found.len())
        .collect();
    (sizes.len(), sizes.iter().sum())
}

/// Removes what a killed git leaves behind: locks, that would stop every later one, and halves of packs, that would
/// fill the disk.
///
/// We hold the courier's lock, so only a git of ours can have made them. With `began`, what was touched since then is
/// left alone: at the start of a courier a git of the one before may still be ending. A time in the future is none.
fn sweep(repository: &Path, began: Option<SystemTime>) {
    let now = SystemTime::from(clock::now());
    let is_young = |path: &Path| {
        let touched = fs::symlink_metadata(path).and_then(|found| found.modified());
        began.is_some_and(|began| touched.is_ok_and(|touched| touched >= began && touched <= now))
    };
    for path in leftovers(repository, 4) {
        if !is_young(&path) {
            // What cannot be removed will make git fail, with a message that names it.
            let _ = fs::remove_file(path);
        }
    }
}

fn leftovers(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ending = |ending| name.ends_with(ending);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => found.extend(leftovers(&entry.path(), depth - 1)),
            Ok(kind)
                if kind.is_file()
                    && (ending(".lock") || ending(".keep") || ending(".new") || name.starts_with("tmp_")) =>
            {
                found.push(entry.path());
            }
            _ => {}
        }
    }
    found
}
