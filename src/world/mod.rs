//! Every effect, one file per neighbour; no decisions.
//!
//! [`World`] is the one seam of moorline. `Real` stands behind it on a host; the tests have `Sim`, a whole host in
//! memory that can be cut at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::decide::digest::DigestKey;
use crate::decide::drift::Edited;
use crate::decide::event::Event;
use crate::decide::fault::Fault;
use crate::decide::health::Sample;
use crate::decide::push::Message;
use crate::decide::sops::Identities;
use crate::decide::traefik::due::Found;
use crate::decide::trust::{History, Objects};
use crate::model::host::Logins;
use crate::model::{
    Attached, DesiredStack, Good, Image, Inputs, Intent, Ledger, Model, Observed, Page, Remap, Report, Revision,
    Secret, Settings, State, Step,
};

pub mod act;
pub mod agent_toml;
pub mod binds;
pub mod checkout;
pub mod child;
pub mod clock;
pub mod compose;
pub mod courier_user;
pub mod desk;
pub mod dialogue;
pub mod disk;
pub mod docker;
pub mod docker_hands;
pub mod docker_networks;
pub mod drift;
pub mod drill;
pub mod dump;
pub mod examine;
pub mod fetch;
pub mod foreign;
pub mod generations;
pub mod git;
pub mod good;
pub mod images;
pub mod in_place;
pub mod intent;
pub mod journal;
pub mod key;
pub mod kuma;
pub mod last_report;
pub mod ledger;
pub mod life;
pub mod load;
pub mod lock;
pub mod logbook;
pub mod memory;
pub mod night;
pub mod nowhere;
pub mod outbox;
pub mod own_memory;
pub mod page;
pub mod person;
pub mod push_url;
pub mod quiesce;
pub mod real;
pub mod refs;
pub mod release;
pub mod remote;
pub mod reserve;
pub mod restic;
pub mod secret_key;
pub mod set_up;
pub mod stack;
pub mod stop;
pub mod systemd;
pub mod tls;
pub mod traefik;
pub mod transport;
pub mod wake;
pub mod watch;
pub mod watched;
pub mod working_tree;

pub use real::Real;

/// What one fetch found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// The branch has not moved.
    Unchanged,
    /// The branch moved; its new tip is in the repository, not verified.
    Moved(Revision),
}

/// The Compose plugin of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its version, as it says itself: `2.40.3`.
    pub version: String,
    /// Changes whenever the file does, without starting it: version, size, time of change.
    pub stamp: String,
}

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is not there any more, at least not under this name.
    Removed,
    /// A container was made from it.
    InUse,
}

/// What a container logged last, and how it ended.
#[derive(Debug)]
pub struct LastWords {
    /// The service.
    pub service: String,
    /// The container's name.
    pub container: String,
    /// The image it was created from.
    pub image: String,
    /// What it does.
    pub state: State,
    /// The exit code of its last end, if it ever ended.
    pub exit_code: Option<i64>,
    /// The lines. A program may print its secrets, so this is one.
    pub text: Secret<String>,
}

/// Why a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The service was started.
    Start,
    /// The courier fetched a new tip.
    Tip,
    /// The engine said that a container changed.
    Drift,
    /// The time came.
    Timer,
    /// A person sent SIGHUP.
    Signal,
    /// No run: the order to stop.
    Stop,
}

impl Occasion {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Occasion::Start => "start",
            Occasion::Tip => "tip",
            Occasion::Drift => "drift",
            Occasion::Timer => "timer",
            Occasion::Signal => "signal",
            Occasion::Stop => "stop",
        }
    }
}

/// Every effect that a run can have or needs.
///
/// Methods do one thing to one neighbour and decide nothing. Each error is a [`Fault`] that says what was not done.
#[allow(async_fn_in_trait, reason = "runs are generic over the world and never need a boxed or Send future")]
pub trait World: logbook::Logs + restic::Restic + quiesce::Quiet + drill::Throwaway + release::Releases {
    /// What this host was told before it saw the repository.
    fn settings(&self) -> &Settings;
    /// The time.
    fn now(&self) -> Timestamp;
    /// The zone of this host's own clock.
    fn zone(&self) -> TimeZone;
    /// Waits, without keeping anything else from going on.
    async fn wait(&self, time: Duration);
    /// Whether this process was asked to stop; then no further step is begun.
    fn stopping(&self) -> bool;
    /// Tells the journal.
    fn say(&self, event: Event);

    /// Keeps every other run off this host for as long as the returned value lives.
    fn lock_run(&self, verb: &str) -> Result<impl Sized, Fault>;
    /// Waits for the next reason to run, at the latest until `timer`.
    async fn occasion(&self, timer: Timestamp) -> Occasion;
    /// Tells the service manager that the service is up.
    fn service_ready(&self);
    /// Tells the service manager how it goes.
    fn service_status(&self, line: &str);

    /// Reads the ledger; empty when there is none, a fault when it is damaged.
    fn ledger(&self) -> Result<Ledger, Fault>;
    /// Makes the copies of the ledger agree again, before anything rests on it. Says what was amiss.
    fn mend_ledger(&self) -> Result<Vec<String>, Fault>;
    /// Writes the ledger, on disk when this returns.
    fn persist(&self, ledger: &Ledger) -> Result<(), Fault>;
    /// The step in flight of a run that was killed.
    fn intent(&self) -> Result<Option<Intent>, Fault>;
    /// Writes down the step that is about to begin; on disk when this returns.
    fn intend(&self, intent: &Intent) -> Result<(), Fault>;
    /// Forgets the step in flight: it has ended.
    fn intend_nothing(&self) -> Result<(), Fault>;
    /// Keeps what a stack that works was made from, in the place of what was kept before, but for the version with the
    /// digest that the ledger names.
    fn keep_good(&self, good: &Good, named: Option<&str>) -> Result<(), Fault>;
    /// What the version of a stack with this digest was made from, if it was kept.
    fn good(&self, stack: &str, digest: &str) -> Result<Option<Good>, Fault>;
    /// Files in the directories of these stacks that are not as they were written; stacks with none are absent.
    fn edited(&self, stacks: &[String]) -> Result<BTreeMap<String, Vec<Edited>>, Fault>;
    /// Writes down what was found before it is undone. Returns where.
    fn save_drift(&self, text: &str) -> Result<String, Fault>;
    /// Writes the report of a run.
    fn record(&self, report: &Report) -> Result<(), Fault>;
    /// What the last run left for the status page; none if there is nothing that can be read.
    fn page(&self) -> Option<Page>;
    /// Writes what the status page shows.
    fn publish(&self, page: &Page) -> Result<(), Fault>;
    /// This host's key for digests; none before the first run.
    fn digest_key(&self) -> Result<Option<DigestKey>, Fault>;
    /// Makes this host's key for digests.
    fn make_digest_key(&self) -> Result<DigestKey, Fault>;

    /// The tip that the courier fetched, not verified.
    fn tip(&self) -> Result<Revision, Fault>;
    /// The tip, if it is another one than this; asking does not count as having seen it.
    fn newer_tip(&self, than: Option<&Revision>) -> Option<Revision>;
    /// The root of trust, as it stands in `/etc/moorline/allowed_signers`.
    fn local_signers(&self) -> Result<Vec<u8>, Fault>;
    /// The first-parent path from `tip` down to and including `until`, or to the root.
    fn history(&self, tip: &Revision, until: Option<&Revision>) -> Result<History, Fault>;
    /// The objects of the courier's repository, by id.
    fn objects(&self) -> Result<impl Objects<Error = Fault>, Fault>;
    /// This host's age identities.
    fn identities(&self) -> Result<Identities, Fault>;

    /// The Compose plugin, with its version.
    async fn plugin(&self) -> Result<Plugin, Fault>;
    /// The stamp of the plugin's file, without starting it.
    fn plugin_stamp(&self, version: &str) -> Result<String, Fault>;
    /// All containers of Compose projects.
    async fn observe(&self) -> Result<Observed, Fault>;
    /// Who is attached to the networks with these names, whoever made them.
    async fn attached(&self, networks: &BTreeSet<String>) -> Result<Vec<Attached>, Fault>;
    /// How far the engine shifts the users of containers.
    async fn remap(&self) -> Result<Remap, Fault>;
    /// Which of these stacks have no files in memory-backed storage, as after a reboot.
    fn without_memory(&self, stacks: &[String]) -> BTreeSet<String>;
    /// Puts back the files in memory of what stands in a stack's directory already.
    fn restore_memory(&self, desired: &DesiredStack) -> Result<(), Fault>;
    /// Removes the files of secrets in memory that are neither `needed` (paths below the secrets) nor mounted into a
    /// container, running or not. Returns how many generations that were.
    async fn forget_secrets(&self, needed: &BTreeSet<String>) -> Result<usize, Fault>;
    /// Which of these images are not on this host.
    async fn missing_images(&self, images: &BTreeSet<String>) -> Result<BTreeSet<String>, Fault>;
    /// The image that this name or id stands for on this host.
    async fn image(&self, image: &str) -> Result<Option<Image>, Fault>;
    /// Takes a name off an image, and removes the image if it had no other.
    async fn remove_image(&self, image: &str) -> Result<Removal, Fault>;
    /// What Compose makes of these inputs, with marks instead of secrets. Needs no engine.
    async fn model(&self, inputs: &Inputs, key: &DigestKey) -> Result<Model, Fault>;
    /// Carries out one step. `desired` is the stack it belongs to; absent only for `down`.
    async fn act(&self, step: &Step, desired: Option<&DesiredStack>, logins: &Logins) -> Result<(), Fault>;
    /// What the containers of these services logged last, as they wrote it.
    async fn last_words(&self, stack: &str, services: &[String], lines: usize) -> Result<Vec<LastWords>, Fault>;
    /// One look at the containers of these services.
    async fn look(&self, stack: &str, services: &[String]) -> Result<Vec<Sample>, Fault>;

    /// The files in the directory that Traefik watches.
    fn routes(&self) -> Result<Found, Fault>;
    /// Puts a file into that directory, whole or not at all; or removes it.
    fn put_route(&self, path: &str, content: Option<&Secret<Vec<u8>>>) -> Result<(), Fault>;
    /// What Traefik's API at this address on loopback knows: its `/api/rawdata`.
    async fn traefik_says(&self, address: &str) -> Result<serde_json::Value, Fault>;

    /// The push URL of a monitor, as far as this host learned it since it booted. Kept in memory only.
    fn push_url(&self, monitor: &str) -> Option<Secret<String>>;
    /// Learns, or forgets, the push URL of a monitor.
    fn remember_push_url(&self, monitor: &str, url: Option<&Secret<String>>);
    /// Puts a message into the outbox.
    fn post(&self, message: &Message) -> Result<(), Fault>;
    /// The messages in the outbox, oldest first.
    fn outbox(&self) -> Result<Vec<Message>, Fault>;
    /// Sends one message; returns only when Kuma has accepted it.
    async fn send(&self, message: &Message) -> Result<(), Fault>;
    /// Takes a message out of the outbox.
    fn delivered(&self, message: &Message) -> Result<(), Fault>;
    /// Serves the status page until it is dropped; returns only when it cannot, at once if no address is set.
    async fn serve_page(&self) -> Result<(), Fault>;
    /// Asks the git server for the followed branch.
    async fn fetch(&self) -> Result<Fetched, Fault>;
}
