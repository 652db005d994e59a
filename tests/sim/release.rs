//! Other versions of moorline, as they would stand on disk, and what becomes of them on trial.

use moorline::decide::fault::{Code, Fault};
use moorline::decide::succession::{Verdict, Word, word};
use moorline::model::release::{Offer, Release, Succession};
use moorline::runs::reconcile::reconcile;
use moorline::world::release::{Arrival, Releases};

use super::Sim;

/// What a version does when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// It works.
    Works,
    /// It ends by itself, or hangs: nothing comes of it.
    Fails,
    /// It would carry out a step.
    Acts,
}

/// A program that lies somewhere: its SHA-256.
pub type Program = String;

impl Releases for Sim {
    fn succession(&self) -> Result<Succession, Fault> {
        let host = self.host();
        let Some(bytes) = &host.succession else { return Ok(Succession::default()) };
        serde_json::from_slice(bytes)
            .map_err(|error| Fault::new(Code::ReleaseDamaged, "agent.json cannot be read").caused_by(&error))
    }

    fn keep_succession(&self, next: &Succession) -> Result<(), Fault> {
        self.written("agent.json")?.succession = Some(serde_json::to_vec(next).expect("it can be written"));
        Ok(())
    }

    fn begin_succession_anew(&self, next: &Succession) -> Result<(), Fault> {
        self.keep_succession(next)
    }

    fn own_release(&self) -> Option<String> {
        self.own.borrow().clone()
    }

    fn own_version(&self) -> String {
        self.host().package.clone()
    }

    fn boot(&self) -> String {
        self.host().boots.to_string()
    }

    fn backup_is_on(&self) -> bool {
        false
    }

    fn verify_release(&self, release: &Release) -> Result<(), Fault> {
        match self.host().installed.get(&release.directory()) {
            Some(program) if *program == release.sha256 => Ok(()),
            _ => Err(Fault::new(Code::ReleaseDamaged, "the program is not what it was")),
        }
    }

    fn has_arrived(&self, offer: &Offer) -> bool {
        let host = self.host();
        host.arrived.contains_key(&offer.release.sha256) || host.installed.contains_key(&offer.release.directory())
    }

    async fn fetch_release(&self, offer: &Offer) -> Result<(), Fault> {
        self.effect("fetch a program");
        let mut host = self.host();
        let served = host.served.get(&offer.url).cloned();
        let served = served.ok_or_else(|| Fault::new(Code::ReleaseUnfetched, "nobody serves it"))?;
        host.arrived.insert(offer.release.sha256.clone(), served);
        Ok(())
    }

    fn install_release(&self, offer: &Offer) -> Result<Arrival, Fault> {
        let (sha256, directory) = (&offer.release.sha256, offer.release.directory());
        if self.host().installed.get(&directory) == Some(sha256) {
            return Ok(Arrival::Installed);
        }
        self.host().installed.remove(&directory);
        let Some(arrived) = self.host().arrived.get(sha256).cloned() else { return Ok(Arrival::Missing) };
        if arrived == *sha256 {
            self.written("agents")?.installed.insert(directory, arrived.clone());
        }
        self.effect("forget what arrived");
        self.host().arrived.remove(sha256);
        Ok(if arrived == *sha256 { Arrival::Installed } else { Arrival::Wrong(format!("its SHA-256 is {arrived}")) })
    }

    fn forget_releases(&self, needed: &[&Release]) -> Result<(), Fault> {
        let needed: Vec<String> = needed.iter().map(|release| release.directory()).collect();
        let stale = self.host().installed.keys().any(|directory| !needed.contains(directory));
        if stale {
            self.effect("forget programs");
            self.host().installed.retain(|directory, _| needed.contains(directory));
        }
        Ok(())
    }

    async fn try_release(&self, release: &Release) -> Verdict {
        self.effect("begin a trial");
        let manners = self.host().manners.get(&release.version).copied().unwrap_or(Manners::Works);
        let verdict = match manners {
            Manners::Fails => Verdict::Refused("it ended by itself".into()),
            Manners::Acts => Verdict::Doubtful("it would carry out 1 step".into()),
            Manners::Works => {
                *self.own.borrow_mut() = Some(release.directory());
                let report = reconcile(self, "start").await;
                match word(&report) {
                    Word::Quiet => Verdict::Passed,
                    Word::Acts(what) | Word::Trouble(what) => Verdict::Doubtful(what),
                }
            }
        };
        *self.own.borrow_mut() = None;
        self.effect("end a trial");
        verdict
    }
}
