//! What a host knows of its backups: where its backup repositories are, what opens them, and which stacks it has. It comes
//! from what this host accepted; nothing is fetched, deployed or stopped for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::fault::{Code, Fault};
use crate::decide::fleet;
use crate::decide::render::Secrets;
use crate::model::backup::{Backups, HostKey, Place, Repository, StackBackup};
use crate::model::{Applied, HostSpec, Ledger, Secret};
use crate::runs::{accept, prepare};
use crate::world::World;
use crate::world::restic::{Access, Logins};

/// What this host knows of its backups.
#[derive(Debug)]
pub struct Known {
    /// What the repository says of it.
    pub backups: Backups,
    /// Its opened secrets.
    pub secrets: Secrets,
    /// Names of secrets that no stack gets.
    pub withheld: BTreeSet<String>,
    /// Its ledger, as it was then.
    pub ledger: Ledger,
}

/// Reads what the revision that this host runs says of backups, and opens its secrets.
pub fn known(world: &impl World) -> Result<Known, Fault> {
    let ledger = world.ledger()?;
    let Some(anchor) = &ledger.anchor else {
        return Err(unset("this host has not accepted any revision yet").hint("`moorline reconcile`"));
    };
    let revision = ledger.released().unwrap_or(&anchor.revision).clone();
    let verified = accept::verify(world, &ledger, &anchor.revision, Some(&anchor.first))?;
    let tree = accept::admit(world, &verified, &revision, &ledger)?;
    let spec: HostSpec = fleet::read(&tree, &world.settings().host)
        .map_err(|found| fleet::spec_invalid(found, tree.revision().short()))?;
    let (secrets, _) = prepare::open(world, &spec)?;
    let Some(backups) = spec.backups else {
        let host = &spec.name;
        return Err(unset(&format!("hosts/{host}/host.yaml says nothing of backups at {}", revision.short()))
            .hint("add `backup:` there: docs/repository.md"));
    };
    Ok(Known { backups, secrets, withheld: spec.withheld, ledger })
}

fn unset(sentence: &str) -> Fault {
    Fault::new(Code::BackupUnset, sentence).at("no snapshot was written or read")
}

impl Known {
    /// What opens a repository.
    pub fn access(&self, repository: &Repository) -> Result<Access, Fault> {
        let secret = |name: &str| -> Result<Secret<String>, Fault> {
            let found = self.secrets.shared(name).cloned();
            found.ok_or_else(|| unset(&format!("`all.{name}` is not in the SOPS file")))
        };
        let password = secret(&repository.password)?;
        let limits = self.backups.limits;
        let mut access = Access { password, key: None, host_key: None, login: None, limits };
        match &repository.place {
            Place::Directory(_) => {}
            Place::Rest { login, .. } => access.login = login.as_deref().map(secret).transpose()?,
            Place::Sftp(ssh) | Place::RestOverSsh(ssh) => {
                access.key = Some(secret(&ssh.key)?);
                access.host_key = Some(match &ssh.host_key {
                    HostKey::StorageBox => String::new(),
                    HostKey::Pinned(key) => key.clone(),
                    HostKey::Named(name) => secret(name)?.expose().clone(),
                });
            }
        }
        Ok(access)
    }

    /// What the dumps of a stack log in with.
    pub fn logins(&self, plan: &StackBackup) -> Result<Logins, Fault> {
        let mut logins = Logins::new();
        for (service, name) in plan.dumps.iter().filter_map(|dump| Some((&dump.service, dump.password.as_ref()?))) {
            let found = self.secrets.of_stack(&plan.stack, name).filter(|_| !self.withheld.contains(name));
            let Some(secret) = found else {
                let what = format!("the dump of `{service}` logs in with `{name}`, which {} does not have", plan.stack);
                return Err(unset(&what).hint(format!("add `{name}` to section `{}` of the SOPS file", plan.stack)));
            };
            logins.insert(name.clone(), secret.clone());
        }
        Ok(logins)
    }

    /// The repository of this name, or the first one.
    pub fn repository(&self, name: Option<&str>) -> Result<&Repository, Fault> {
        let all = &self.backups.repositories;
        let found = match name {
            Some(name) => all.iter().find(|repository| repository.name == name),
            None => all.first(),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|repository| repository.name.as_str()).collect();
            let name = name.unwrap_or_default();
            Fault::new(Code::UsageInvalid, format!("`{name}` is none of the backup repositories: {}", names.join(", ")))
        })
    }

    /// All repositories, or the one that a person named.
    pub fn chosen(&self, name: Option<&str>) -> Result<Vec<&Repository>, Fault> {
        match name {
            Some(_) => self.repository(name).map(|repository| vec![repository]),
            None => Ok(self.backups.repositories.iter().collect()),
        }
    }

    /// The stacks that were deployed here, or the one that a person named.
    pub fn stacks(&self, only: Option<&str>) -> Result<BTreeMap<&String, &Applied>, Fault> {
        let stacks = self.ledger.applied.iter().filter(|(stack, _)| only.is_none_or(|only| only == *stack));
        let stacks: BTreeMap<_, _> = stacks.collect();
        match only.filter(|_| stacks.is_empty()) {
            Some(only) => Err(Fault::new(Code::UsageInvalid, format!("stack `{only}` was not deployed on this host"))),
            None => Ok(stacks),
        }
    }
}
