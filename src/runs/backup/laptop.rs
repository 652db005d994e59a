//! Upkeep from a desk: for hosts whose own login cannot delete. What is kept, and where, comes from a checkout; the SOPS
//! file is opened with the key of whoever sits there.

use jiff::{SignedDuration, Timestamp};

use crate::decide::fault::{Code, Fault};
use crate::decide::fleet;
use crate::decide::onboarding::Kept;
use crate::model::backup::{Deletes, Place, Repository};
use crate::model::tree::Tree;
use crate::model::{HostSpec, Ledger, Secret};
use crate::runs::backup::known::Known;
use crate::runs::backup::restore;
use crate::runs::backup::upkeep::{PARTIAL, Plan, Site};
use crate::runs::prepare;
use crate::world::World;
use crate::world::restic::order::Snapshot;

/// How long ago a host must have written, so that it is most likely done.
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// How somebody gets to a repository who may delete in it, as far as that is another way than the host's own.
#[derive(Debug, Default)]
pub struct Login {
    /// Where it is for them.
    pub url: Option<String>,
    /// Who they are there.
    pub user: Option<String>,
    /// Their key.
    pub key: Option<Secret<String>>,
}

/// What a checkout says of the backups of a host.
pub fn known(world: &impl World, tree: &Tree) -> Result<Known, Fault> {
    let host = &world.settings().host;
    let spec: HostSpec = fleet::read(tree, host).map_err(|found| fleet::spec_invalid(found, "the checkout"))?;
    let (secrets, _) = prepare::open(world, &spec).map_err(|fault| match fault.code {
        Code::KeyMissing => fault.hint("`--age-key FILE` names a file with an age identity that only you can read"),
        _ => fault,
    })?;
    let unset = || Fault::new(Code::BackupUnset, format!("hosts/{host}/host.yaml says nothing of backups"));
    let backups = spec.backups.ok_or_else(unset)?;
    Ok(Known { backups, secrets, withheld: spec.withheld, ledger: Ledger::default() })
}

/// The stacks of a host, each of which is backed up.
pub fn stacks(tree: &Tree, host: &str) -> Result<Vec<String>, Fault> {
    let spec = fleet::read(tree, host).map_err(|found| fleet::spec_invalid(found, "the checkout"))?;
    Ok(spec.stacks.into_iter().map(|stack| stack.name).collect())
}

/// The repository as whoever sits there reaches it.
pub fn site(known: &Known, repository: &Repository, login: &Login) -> Result<Site, Fault> {
    let wrong = |text: String| Fault::new(Code::UsageInvalid, format!("repository `{}`: {text}", repository.name));
    let mut repository = Repository { deletes: Deletes::Here, ..repository.clone() };
    if let Some(url) = &login.url {
        repository.place = fleet::elsewhere(&repository, url).map_err(wrong)?;
    }
    match (&mut repository.place, &login.user) {
        (Place::Sftp(ssh) | Place::RestOverSsh(ssh), Some(user)) => ssh.user.clone_from(user),
        (_, Some(_)) => return Err(wrong("`--user` is for logins over ssh only".into())),
        (_, None) => {}
    }
    let mut site = Site::of(known, &repository)?;
    if let (Place::Sftp(_) | Place::RestOverSsh(_), Some(key)) = (&repository.place, &login.key) {
        site.access.key = Some(key.clone());
    }
    Ok(site)
}

/// What lies in each repository of a host, or why nobody can tell.
pub async fn kept(world: &impl World, known: &Known, login: &Login) -> Vec<(String, Result<Vec<Kept>, String>)> {
    let mut all = Vec::new();
    for repository in &known.backups.repositories {
        let found = match site(known, repository, login) {
            Ok(site) => restore::list(world, &site.repository, &site.access).await,
            Err(fault) => Err(fault),
        };
        let found = found.map(|snapshots| snapshots.into_iter().map(of_snapshot).collect());
        let why = |fault: Fault| std::iter::once(fault.sentence).chain(fault.because).collect::<Vec<_>>().join(": ");
        all.push((repository.name.clone(), found.map_err(why)));
    }
    all
}

fn of_snapshot(snapshot: Snapshot) -> Kept {
    let is_whole = !snapshot.tags.iter().any(|tag| tag == PARTIAL);
    Kept { id: snapshot.id, host: snapshot.host, stack: snapshot.label, time: snapshot.time, is_whole }
}

/// Why it may be better to wait: somebody seems to write into the repository.
pub fn warnings(plan: &Plan, host: &str, now: Timestamp) -> Vec<String> {
    let newest = plan.snapshots.iter().filter(|snapshot| snapshot.host == host).map(|snapshot| snapshot.time).max();
    let recent = newest.filter(|newest| now.duration_since(*newest) < QUIET);
    let recent =
        recent.map(|newest| format!("{host} wrote a snapshot at {newest:.0}, and may be writing the next one"));
    let locks = plan.surveyed.locks;
    let locks =
        (locks > 0).then(|| format!("{locks} locks of restic lie there: it is at work, or `restic unlock` is due"));
    let unfinished = plan.surveyed.unfinished;
    let unfinished =
        (unfinished > 0).then(|| format!("{unfinished} unfinished files lie there: a job is at work, or was killed"));
    [recent, locks, unfinished].into_iter().flatten().collect()
}
