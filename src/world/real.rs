//! The world of a real host: every method hands over to the file of its neighbour.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::decide::digest::DigestKey;
use crate::decide::drift::Edited;
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::health::Sample;
use crate::decide::push::Message;
use crate::decide::sops::Identities;
use crate::decide::traefik::due::Found;
use crate::decide::trust::{History, Objects};
use crate::model::host::Logins;
use crate::model::{
    Action, Attached, DesiredStack, Good, Image, Inputs, Intent, Ledger, Model, Observed, Page, Remap, Report,
    Revision, Secret, Settings, Step,
};
use crate::world::docker::Engine;
use crate::world::fetch::Fetch;
use crate::world::journal::Journal;
use crate::world::lock::{self, Lock};
use crate::world::outbox::Outbox;
use crate::world::watch::Watch;
use crate::world::{
    Fetched, LastWords, Occasion, Plugin, Removal, World, act, clock, compose, disk, drift, generations, git, good,
    intent, key, kuma, last_report, ledger, page, push_url, refs, reserve, secret_key, stack, stop, systemd, traefik,
    watched,
};

/// A list of signers is a few hundred bytes.
const LARGEST_SIGNERS: u64 = 64 * 1024;

/// Everything around moorline on this host.
pub struct Real {
    pub(super) settings: Settings,
    journal: Journal,
    pub(super) engine: Engine,
    outbox: Outbox,
    pub(super) stop: stop::Stop,
    client: OnceCell<reqwest::Client>,
    fetch: OnceCell<Fetch>,
    pub(super) watch: RefCell<Option<Watch>>,
    pub(super) seen_tip: RefCell<Option<Revision>>,
    pub(super) last_drift: Cell<Option<Timestamp>>,
    pub(super) has_no_network: Cell<bool>,
}

impl Real {
    /// The world as `settings` describe it. Nothing is touched yet.
    pub fn new(settings: Settings, journal: Journal) -> Result<Rc<Self>, Fault> {
        let engine = Engine::at(&settings.socket);
        let outbox = Outbox::new(settings.run.join("outbox"), settings.courier());
        let (client, fetch) = (OnceCell::new(), OnceCell::new());
        let (watch, seen_tip) = (RefCell::new(None), RefCell::new(None));
        Ok(Rc::new(Self {
            settings,
            journal,
            engine,
            outbox,
            stop: stop::Stop::default(),
            client,
            fetch,
            watch,
            seen_tip,
            last_drift: Cell::new(None),
            has_no_network: Cell::new(false),
        }))
    }

    /// From now on jobs that need the network are done by who has it, where units see to that.
    pub fn do_without_network(&self) {
        self.has_no_network.set(true);
    }

    /// The engine, for `doctor`.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What asks this process to stop.
    pub fn stop(&self) -> &stop::Stop {
        &self.stop
    }
}

impl World for Real {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn zone(&self) -> TimeZone {
        clock::zone()
    }

    async fn wait(&self, time: Duration) {
        // Whoever waits is woken by the order to stop.
        tokio::select! {
            () = clock::wait(time) => {}
            () = self.stop.ordered() => {}
        }
        // After the order a wait ends before it began. Whoever waits in a loop must let the others go on even then, or
        // nobody would ever get to obey.
        tokio::task::yield_now().await;
    }

    fn stopping(&self) -> bool {
        self.stop.is_ordered()
    }

    fn say(&self, event: Event) {
        self.journal.say(&event);
    }

    fn lock_run(&self, verb: &str) -> Result<impl Sized, Fault> {
        Lock::take(&self.settings.run.join(lock::KEEPER), verb, self.now())
    }

    async fn occasion(&self, timer: Timestamp) -> Occasion {
        self.next_occasion(timer).await
    }

    fn service_ready(&self) {
        systemd::ready();
    }

    fn service_status(&self, line: &str) {
        systemd::status(line);
    }

    fn ledger(&self) -> Result<Ledger, Fault> {
        ledger::read(&self.settings.state)
    }

    fn mend_ledger(&self) -> Result<Vec<String>, Fault> {
        ledger::mend(&self.settings.state)
    }

    fn persist(&self, ledger: &Ledger) -> Result<(), Fault> {
        ledger::write_but_hold(&self.settings.state, ledger)
    }

    fn intent(&self) -> Result<Option<Intent>, Fault> {
        Ok(intent::read(&self.settings.state))
    }

    fn intend(&self, step: &Intent) -> Result<(), Fault> {
        intent::write(&self.settings.state, step)
    }

    fn intend_nothing(&self) -> Result<(), Fault> {
        intent::clear(&self.settings.state)
    }

    fn keep_good(&self, good: &Good, named: Option<&str>) -> Result<(), Fault> {
        good::keep(&self.settings.state, good, named)
    }

    fn good(&self, stack: &str, digest: &str) -> Result<Option<Good>, Fault> {
        good::read(&self.settings.state, stack, digest)
    }

    fn edited(&self, stacks: &[String]) -> Result<BTreeMap<String, Vec<Edited>>, Fault> {
        stack::all_edited(&self.settings, stacks)
    }

    fn save_drift(&self, text: &str) -> Result<String, Fault> {
        drift::save(&self.settings.state, text, self.now())
    }

    fn record(&self, report: &Report) -> Result<(), Fault> {
        let recorded = ledger::record(&self.settings.state, report);
        match &recorded {
            Ok(()) => reserve::refill(&self.settings.state),
            // For `status`, until a report can be kept again.
            Err(_) => last_report::keep(&self.settings.run, report),
        }
        recorded
    }

    fn page(&self) -> Option<Page> {
        page::read(&self.settings.state)
    }

    fn publish(&self, page: &Page) -> Result<(), Fault> {
        page::write(&self.settings.state, page)
    }

    fn digest_key(&self) -> Result<Option<DigestKey>, Fault> {
        secret_key::read(&self.settings.state)
    }

    fn make_digest_key(&self) -> Result<DigestKey, Fault> {
        secret_key::make(&self.settings.state)
    }

    fn tip(&self) -> Result<Revision, Fault> {
        let repository = self.settings.repository();
        let tip = refs::tip(&repository, &self.settings.branch)?;
        self.seen_tip.borrow_mut().clone_from(&tip);
        tip.ok_or_else(|| {
            Fault::new(Code::RepositoryMissing, "the courier has not fetched the repository yet")
                .at("nothing was changed")
                .hint("`moorline courier --once` fetches it and says what is in the way")
        })
    }

    fn newer_tip(&self, than: Option<&Revision>) -> Option<Revision> {
        let tip = refs::tip(&self.settings.repository(), &self.settings.branch).ok().flatten();
        tip.filter(|tip| Some(tip) != than)
    }

    fn local_signers(&self) -> Result<Vec<u8>, Fault> {
        let path = &self.settings.allowed_signers;
        disk::read(path, LARGEST_SIGNERS).map_err(|error| {
            Fault::new(Code::SignersInvalid, format!("{} cannot be read", path.display()))
                .caused_by(&error)
                .at("nothing was changed")
                .hint("write one line per signer: `alice@example.org namespaces=\"git\" ssh-ed25519 AAAA...`")
        })
    }

    fn history(&self, tip: &Revision, until: Option<&Revision>) -> Result<History, Fault> {
        git::Database::open(&self.settings.repository())?.history(tip, until)
    }

    fn objects(&self) -> Result<impl Objects<Error = Fault>, Fault> {
        git::Database::open(&self.settings.repository())
    }

    fn identities(&self) -> Result<Identities, Fault> {
        key::read(&self.settings.age_key)
    }

    async fn plugin(&self) -> Result<Plugin, Fault> {
        compose::plugin(&self.settings).await
    }

    fn plugin_stamp(&self, version: &str) -> Result<String, Fault> {
        compose::stamp(&compose::find(&self.settings)?, version)
    }

    async fn observe(&self) -> Result<Observed, Fault> {
        self.engine.observe().await
    }

    async fn attached(&self, networks: &BTreeSet<String>) -> Result<Vec<Attached>, Fault> {
        self.engine.attached(networks).await
    }

    async fn remap(&self) -> Result<Remap, Fault> {
        self.engine.remap().await
    }

    fn without_memory(&self, stacks: &[String]) -> BTreeSet<String> {
        stacks.iter().filter(|stack| !stack::is_in_memory(&self.settings, stack)).cloned().collect()
    }

    fn restore_memory(&self, desired: &DesiredStack) -> Result<(), Fault> {
        stack::write_memory(&self.settings, desired)
    }

    async fn forget_secrets(&self, needed: &BTreeSet<String>) -> Result<usize, Fault> {
        let others = generations::other_than(&self.settings.run, needed)?;
        match others.is_empty() {
            true => Ok(0),
            false => generations::remove(&others, &self.engine.mounted().await?),
        }
    }

    async fn missing_images(&self, images: &BTreeSet<String>) -> Result<BTreeSet<String>, Fault> {
        self.engine.missing_images(images).await
    }

    async fn image(&self, image: &str) -> Result<Option<Image>, Fault> {
        self.engine.image(image).await
    }

    async fn remove_image(&self, image: &str) -> Result<Removal, Fault> {
        self.engine.remove_image(image).await
    }

    async fn model(&self, inputs: &Inputs, key: &DigestKey) -> Result<Model, Fault> {
        compose::model(&self.settings, inputs, key).await
    }

    async fn act(&self, step: &Step, desired: Option<&DesiredStack>, logins: &Logins) -> Result<(), Fault> {
        if let Action::Pull { image } = &step.action {
            let tell = |done, total| self.say(Event::PullProgressed { image: image.clone(), done, total });
            return self.engine.pull(image, logins, self.settings.pull_timeout, tell).await;
        }
        act::act(&self.settings, &self.engine, step, desired).await
    }

    async fn last_words(&self, stack: &str, services: &[String], lines: usize) -> Result<Vec<LastWords>, Fault> {
        self.engine.last_words(stack, services, lines).await
    }

    async fn look(&self, stack: &str, services: &[String]) -> Result<Vec<Sample>, Fault> {
        self.engine.look(stack, services).await
    }

    fn routes(&self) -> Result<Found, Fault> {
        watched::read(&self.settings)
    }

    fn put_route(&self, path: &str, content: Option<&Secret<Vec<u8>>>) -> Result<(), Fault> {
        watched::put(&self.settings, path, content)
    }

    async fn traefik_says(&self, address: &str) -> Result<serde_json::Value, Fault> {
        traefik::rawdata(address).await
    }

    fn push_url(&self, monitor: &str) -> Option<Secret<String>> {
        push_url::read(&self.settings.run, monitor)
    }

    fn remember_push_url(&self, monitor: &str, url: Option<&Secret<String>>) {
        push_url::keep(&self.settings.run, monitor, url);
    }

    fn post(&self, message: &Message) -> Result<(), Fault> {
        match self.outbox.put(message) {
            Err(_) if reserve::give_away(&self.settings.run) => self.outbox.put(message),
            posted => posted,
        }
    }

    fn outbox(&self) -> Result<Vec<Message>, Fault> {
        self.outbox.read()
    }

    async fn send(&self, message: &Message) -> Result<(), Fault> {
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = kuma::client()?;
                self.client.get_or_init(|| client)
            }
        };
        kuma::send(client, message).await
    }

    fn delivered(&self, message: &Message) -> Result<(), Fault> {
        self.outbox.remove(message)
    }

    async fn serve_page(&self) -> Result<(), Fault> {
        match self.settings.status {
            Some(address) => page::serve(address, &self.settings.state).await,
            None => Ok(()),
        }
    }

    async fn fetch(&self) -> Result<Fetched, Fault> {
        // Kept, since a fetch looks the clone over once in its life.
        let fetch = match self.fetch.get() {
            Some(fetch) => fetch,
            None => {
                let fetch = Fetch::new(&self.settings)?;
                self.fetch.get_or_init(|| fetch)
            }
        };
        fetch.run().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::settings;

    #[tokio::test]
    async fn a_loop_that_waits_lets_others_go_on_after_the_order_to_stop() {
        let settings = settings::of_nowhere("alpha", None);
        let world = Real::new(settings, Journal::open(false, crate::world::journal::Audience::Service)).unwrap();
        world.stop.order();
        tokio::select! {
            biased;
            () = async { loop { world.wait(Duration::from_secs(3600)).await } } => {}
            () = std::future::ready(()) => {}
        }
    }
}
