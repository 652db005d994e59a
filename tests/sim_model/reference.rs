//! The reference: what a host must come to, told from what operators, people and strangers did. It asks nothing of the
//! code that decides.

use std::collections::BTreeSet;

use moorline::model::{Health, Revision, State};

use crate::fleet::{Fleet, Ring, STACKS, Version};
use crate::sim::Host;

/// A commit, and whether the one before it lets its signer sign.
pub struct Commit {
    pub revision: Revision,
    pub parent: Option<usize>,
    pub signed: bool,
    pub fleet: Fleet,
}

/// What a run has to do with the tip that was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    /// Nothing may be touched, and a person is told; the exit code, where there is only one.
    None(Option<&'static str>),
    /// The stacks of this fleet.
    Deploy(Fleet),
}

/// What is known of the commits, and which versions of each stack ever may have worked here.
#[derive(Default)]
pub struct Reference {
    pub commits: Vec<Commit>,
    /// The newest commit of the operators.
    pub branch: usize,
    /// The commit that the courier fetched last.
    pub tip: usize,
    /// The newest accepted commit.
    pub anchor: Option<usize>,
    /// For each stack what may be its last good version: one, unless runs were cut.
    pub good: [BTreeSet<Version>; 2],
    /// Whether one of them was seen to work, and the stack not taken away since.
    pub proven: [bool; 2],
}

impl Reference {
    /// The numbers of a commit and of all before it, newest first.
    pub fn path(&self, from: usize) -> Vec<usize> {
        std::iter::successors(Some(from), |commit| self.commits[*commit].parent).collect()
    }

    /// Whether the tip may be accepted: every commit after the anchor is signed, and the anchor is before it.
    pub fn accepts_tip(&self) -> bool {
        let path = self.path(self.tip);
        let new = match self.anchor {
            None => path.as_slice(),
            Some(anchor) => match path.iter().position(|commit| *commit == anchor) {
                None => return false,
                Some(at) => &path[..at],
            },
        };
        new.iter().all(|commit| self.commits[*commit].signed)
    }

    /// A run began that may have brought a stack to this version.
    pub fn begun(&mut self, stack: usize, version: Option<Version>) {
        self.good[stack].extend(version.filter(|version| version.works()));
        self.proven[stack] &= version.is_some();
    }

    /// A run converged on this version of a stack.
    pub fn worked(&mut self, stack: usize, version: Option<Version>) {
        self.good[stack] = version.into_iter().collect();
        self.proven[stack] = version.is_some();
    }

    /// What a run has to do.
    pub fn orders(&self) -> Orders {
        if !self.accepts_tip() {
            return Orders::None(None);
        }
        let fleet = match self.commits[self.tip].fleet.ring {
            Ring::Halted => return Orders::None(Some("halted")),
            Ring::Follows => self.commits[self.tip].fleet,
            Ring::Pinned(commit) if self.path(self.tip).contains(&commit) => self.commits[commit].fleet,
            Ring::Pinned(_) => return Orders::None(Some("revision-not-accepted")),
        };
        match fleet.mistaken && (fleet.web.is_some() || fleet.shop.is_some()) {
            true => Orders::None(None),
            false => Orders::Deploy(fleet),
        }
    }
}

/// Whether exactly this version of a stack runs, and nothing else of it.
pub fn runs(host: &Host, stack: usize, version: Version) -> bool {
    // What starts is given its time.
    let later = host.time().as_second() + 60;
    let project = STACKS[stack];
    let shape = version.shape();
    let found: Vec<_> = host.engine.containers.iter().filter(|container| container.project == project).collect();
    let file_is_right = match version.file() {
        None => true,
        Some(text) => host
            .directories
            .get(project)
            .is_some_and(|files| files.get("files/app.conf").is_some_and(|file| file.bytes == text.as_bytes())),
    };
    file_is_right
        && found.len() == shape.len()
        && shape.iter().all(|(service, image, secret)| {
            found.iter().any(|container| {
                let state = container.state(later);
                let in_memory = host.secrets.iter().filter(|(path, content)| {
                    let mounted = container.files.iter().any(|file| file.ends_with(path.as_str()));
                    mounted && secret.as_ref().is_some_and(|secret| secret.as_bytes() == content.as_slice())
                });
                container.service == *service
                    && container.name == format!("{project}-{service}-1")
                    && container.image == *image
                    && (state == State::Running || (state == State::Exited(0) && *service == "init"))
                    && container.health(later) != Some(Health::Unhealthy)
                    && secret.is_some() == (in_memory.count() > 0)
            })
        })
}

/// What a person who looks at the engine sees of some containers: neither times nor what changes by itself.
pub fn glance(host: &Host, of: impl Fn(&str) -> bool) -> Vec<String> {
    let later = host.time().as_second() + 60;
    let chosen = host.engine.containers.iter().filter(|container| of(&container.project));
    chosen
        .map(|one| format!("{} {} {} {:?} {:?}", one.id, one.name, one.image, one.state(later), one.networks))
        .collect()
}
