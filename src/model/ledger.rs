//! The only memory of this host: what it accepted, what it applied, and whether a person holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::backup::Before;
use crate::model::observed::Container;
use crate::model::report::Opened;
use crate::model::ring::{Pending, Seal};
use crate::model::{Failure, Model, Remap, Revision, Seen};

/// The contents of `ledger.json`. Fields that this version does not know are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The newest accepted revision; absent until the first one was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
    /// The digest of the inputs that stand in each stack's directory; absent while they are being written. After a
    /// failed deploy these are not those that were applied.
    #[serde(default)]
    pub attempted: BTreeMap<String, String>,
    /// What was last applied, by stack.
    #[serde(default)]
    pub applied: BTreeMap<String, Applied>,
    /// Deploys that began and were not seen to work, by stack: what they may have left behind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<String, Begun>,
    /// Who ran at the last look at the engine.
    #[serde(default, skip_serializing_if = "Seen::is_nothing")]
    pub seen: Seen,
    /// Set when the last run left everything as desired: what it was based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Settled>,
    /// The revision that its ring has let this host run. It may be newer than what was applied, never one that is
    /// still waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Revision>,
    /// What its ring names and this host still waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
    /// Set once this host's ring said `signed: required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// How far the engine shifted the users of containers when it was last asked: after a reboot, files of secrets are
    /// put back before it can be asked.
    #[serde(default, skip_serializing_if = "Remap::is_none")]
    pub remap: Remap,
    /// Images that moorline pulled, by reference: what each name stood for. An entry outlives its image, so that a tag
    /// that moves is noticed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, PulledImage>,
    /// What Traefik was told; absent as long as it was told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Published>,
    /// Images whose pull has begun and was not seen to end: they are ours, too, should they be here.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pulling: BTreeSet<String>,
    /// Deploys that failed, by stack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, Failure>,
    /// Snapshots that were made before the last deploy that wanted some, by stack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, Before>,
    /// Last good versions that are kept instead of what failed and could not be put right, by stack.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repairs: BTreeMap<String, Failure>,
    /// A person's order to look but not to touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The same for single stacks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stack_holds: BTreeMap<String, Hold>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Json>,
}

/// The newest revision that this host ever accepted. It never goes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The revision.
    pub revision: Revision,
    /// The oldest accepted revision: where the signed chain of this host begins.
    pub first: Revision,
    /// Who signed it: principal and fingerprint.
    pub signer: String,
    /// On whose word that is.
    #[serde(default, skip_serializing_if = "Warrant::is_signer")]
    pub trust: Warrant,
    /// When it was accepted.
    pub at: Timestamp,
}

/// On whose word a revision was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warrant {
    /// An allowed signer's.
    #[default]
    Signer,
    /// The forge's, which signs web merges for everybody who may press the button there.
    Forge,
    /// A person's on this host, who moved the anchor.
    Person,
}

impl Warrant {
    /// The ordinary case.
    pub fn is_signer(&self) -> bool {
        *self == Self::Signer
    }

    /// What a person should know about it; nothing in the ordinary case.
    pub fn remark(self) -> Option<&'static str> {
        match self {
            Self::Signer => None,
            Self::Forge => Some("forge: a web merge, signed by the forge for whoever pressed the button"),
            Self::Person => Some("person: the anchor was moved by hand, and no signature led there"),
        }
    }
}

/// What an unfinished deploy may have made. Several in a row add up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Services that it may have brought up.
    pub services: BTreeSet<String>,
    /// Network definitions that it may have created.
    #[serde(default)]
    pub networks: BTreeMap<String, Json>,
    /// Volume definitions that it may have created.
    #[serde(default)]
    pub volumes: BTreeMap<String, Json>,
    /// Services whose new containers may stand beside the old ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub handovers: BTreeMap<String, Handover>,
}

/// A service whose new containers are made beside the old ones. Written down before the first of them is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The digest of the inputs that the new ones are made from.
    pub digest: String,
    /// The containers that were there before: id and name. Every other one of the service is new.
    pub old: BTreeMap<String, String>,
    /// Which of them serve.
    pub lead: Lead,
}

impl Handover {
    /// Whether this container was there before.
    pub fn has(&self, id: &str) -> bool {
        self.old.contains_key(id)
    }
}

/// Which containers of a service requests are led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lead {
    /// Those that were there before.
    Old,
    /// The new ones; as long as this is only being published, either.
    New,
}

impl fmt::Display for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lead::Old => "old",
            Lead::New => "new",
        })
    }
}

impl Begun {
    /// Adds what this model may leave behind.
    pub fn add(&mut self, model: &Model) {
        self.services.extend(model.services.keys().cloned());
        self.networks.extend(model.networks.clone());
        self.volumes.extend(model.volumes.clone());
    }
}

/// The generation of routes that was last published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The name of its marker.
    pub marker: String,
    /// The keyed digest of each of its files, by path below the directory that Traefik watches.
    pub files: BTreeMap<String, String>,
    /// The keyed digest of what each stack says in it; stacks that say nothing are absent.
    pub stacks: BTreeMap<String, String>,
    /// How far it got.
    #[serde(default)]
    pub standing: Standing,
    /// Counts up when the same routes are published again, so that their marker is another one.
    #[serde(default)]
    pub serial: u32,
    /// The files of another one that is being written; a run that finds this was killed in the middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<BTreeMap<String, String>>,
}

/// How far a generation of routes got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was written, and nobody has seen that Traefik serves it.
    #[default]
    Written,
    /// Traefik said that it serves every route of it.
    InForce,
}

/// What was last applied to one stack, and what the engine showed right after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision it came from.
    pub revision: Revision,
    /// The keyed digest of its inputs.
    pub digest: String,
    /// The model, with marks instead of secrets.
    pub model: Model,
    /// Keyed digest of the content that each service mounts and that needs a new container when it changes.
    pub content: BTreeMap<String, String>,
    /// Keyed digest of the files that services with `x-moorline.reload` mount.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reloads: BTreeMap<String, String>,
    /// The containers right after.
    pub snapshot: Vec<Container>,
    /// What registries call the images of these containers, by the engine's id of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: BTreeMap<String, String>,
    /// The version of the Compose plugin that made them.
    pub plugin: String,
    /// When.
    pub at: Timestamp,
}

/// What the last converged run was based on. If none of it moved, only the engine needs to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The tip.
    pub tip: Revision,
    /// The revision that the ring points at.
    pub revision: Revision,
    /// The ring of this host.
    #[serde(default)]
    pub ring: String,
    /// The stacks of this host.
    #[serde(default)]
    pub stacks: Vec<String>,
    /// The notes of that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How often the operators expect the tip to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_change_within: Option<Duration>,
    /// Which identity opened which SOPS file in that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened: Vec<Opened>,
    /// The version of moorline.
    pub agent: String,
    /// Which plugin file was used: version, size, time of change.
    pub plugin: String,
}

/// Look but do not touch, on this host or one of its stacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Who holds.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// An image that moorline pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    /// The engine's id of it: the digest of its configuration, which names every layer.
    pub id: String,
    /// What the registry calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When.
    pub at: Timestamp,
    /// Since when no state of this host has needed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_since: Option<Timestamp>,
    /// Whether it was removed again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

impl Ledger {
    /// The revision that this host may run without asking its ring again. A ledger of an older version does not say;
    /// there it is what the last converged run was based on.
    pub fn released(&self) -> Option<&Revision> {
        self.released.as_ref().or(self.settled.as_ref().map(|settled| &settled.revision))
    }

    /// What registries call the images of all stacks, by the engine's id of the image.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.applied.values().flat_map(|applied| applied.digests.clone()).collect()
    }

    /// The hold that is in force at `now`.
    pub fn held(&self, now: Timestamp) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| now < hold.until)
    }

    /// The stacks that are held at `now`, and by whom.
    pub fn held_stacks(&self, now: Timestamp) -> impl Iterator<Item = (&String, &Hold)> {
        self.stack_holds.iter().filter(move |(_, hold)| now < hold.until)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "held by {} until {}: {}", self.owner, self.until, self.reason)
    }
}
