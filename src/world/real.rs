//! The world of a real host: every method hands over to the file of its neighbour.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use crate::decide::digest::DigestKey;
use crate::decide::event::Event;
use crate::decide::fault::{Code, Fault};
use crate::decide::health::Sample;
use crate::decide::push::Message;
use crate::decide::settings;
use crate::decide::sops::Identities;
use crate::decide::trust::{History, Objects};
use crate::model::host::Logins;
use crate::model::{
    Action, DesiredStack, Inputs, Ledger, Model, Observed, Page, Remap, Report, Revision, Secret, Settings, Step,
};
use crate::world::docker::Engine;
use crate::world::fetch::Fetch;
use crate::world::journal::Journal;
use crate::world::lock::{self, Lock};
use crate::world::outbox::Outbox;
use crate::world::watch::Watch;
use crate::world::{
    Fetched, Occasion, Plugin, Removal, World, clock, compose, disk, generations, git, key, kuma, ledger, memory, page,
    refs, secret_key, stack, stop, systemd, traefik,
};

/// `agent.toml` is a few hundred bytes.
const LARGEST_SETTINGS: u64 = 64 * 1024;
/// A push URL is one line.
const LARGEST_URL: u64 = 16 * 1024;

/// Everything around moorline on this host.
pub struct Real {
    settings: Settings,
    journal: Journal,
    engine: Engine,
    outbox: Outbox,
    stop: stop::Stop,
    client: OnceCell<reqwest::Client>,
    fetch: OnceCell<Fetch>,
    watch: RefCell<Option<Watch>>,
    seen_tip: RefCell<Option<Revision>>,
}

/// Reads `agent.toml`.
pub fn read_settings(path: &Path) -> Result<Settings, Fault> {
    let shown = path.display().to_string();
    let bytes = disk::read(path, LARGEST_SETTINGS).map_err(|error| {
        Fault::new(Code::SettingsInvalid, format!("{shown} cannot be read"))
            .caused_by(&error)
            .hint("docs/agent.toml.md has an example; `--config FILE` names another file")
    })?;
    settings::read(&String::from_utf8_lossy(&bytes), &shown)
}

impl Real {
    /// The world as `settings` describe it. Nothing is touched yet.
    pub fn new(settings: Settings, journal: Journal) -> Result<Rc<Self>, Fault> {
        let engine = Engine::at(&settings.socket);
        let outbox = Outbox::new(settings.run.join("outbox"));
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
        }))
    }

    /// Makes the directories of this host: state on disk, secrets in memory.
    pub fn set_up(&self) -> Result<(), Fault> {
        for directory in [self.settings.state.clone(), self.settings.state.join("runs")] {
            fs::create_dir_all(&directory).map_err(|error| disk::unwritable(&directory, &error))?;
        }
        memory::ensure(&self.settings.run, self.settings.memory)
    }

    /// The engine, for `doctor`.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What asks this process to stop.
    pub fn stop(&self) -> &stop::Stop {
        &self.stop
    }

    fn push_url_path(&self, monitor: &str) -> PathBuf {
        self.settings.run.join("push").join(monitor)
    }
}

/// Returns when the tip is another one than the last run saw. git touches the directory more often than that.
async fn tip_moved(watch: &mut Option<Watch>, world: &Real) {
    loop {
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
        let tip = refs::tip(&world.settings.repository(), &world.settings.branch);
        if tip.is_ok_and(|tip| tip.is_some() && tip != *world.seen_tip.borrow()) {
            return;
        }
    }
}

impl World for Real {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> Timestamp {
        clock::now()
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
        let left = timer.duration_since(self.now());
        let left = Duration::try_from(left).unwrap_or_default();
        // A watch that cannot be had costs promptness, not correctness: the timer still comes.
        let reference = refs::heads(&self.settings.repository()).join(&self.settings.branch);
        let directory = reference.parent().unwrap_or(&reference);
        let mut watch = self.watch.borrow_mut().take().or_else(|| Watch::new(directory).ok());
        let occasion = tokio::select! {
            () = self.stop.ordered() => Occasion::Stop,
            () = self.stop.hangup() => Occasion::Signal,
            () = tip_moved(&mut watch, self) => Occasion::Tip,
            () = clock::wait(left) => Occasion::Timer,
        };
        *self.watch.borrow_mut() = watch;
        occasion
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

    fn record(&self, report: &Report) -> Result<(), Fault> {
        ledger::record(&self.settings.state, report)
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
        disk::read(path, LARGEST_SETTINGS).map_err(|error| {
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

    async fn image_id(&self, image: &str) -> Result<Option<String>, Fault> {
        self.engine.image_id(image).await
    }

    async fn remove_image(&self, image: &str) -> Result<Removal, Fault> {
        self.engine.remove_image(image).await
    }

    async fn model(&self, inputs: &Inputs, key: &DigestKey) -> Result<Model, Fault> {
        compose::model(&self.settings, inputs, key).await
    }

    async fn act(&self, step: &Step, desired: Option<&DesiredStack>, logins: &Logins) -> Result<(), Fault> {
        match (&step.action, desired) {
            (Action::Pull { image }, _) => {
                let tell = |done, total| self.say(Event::PullProgressed { image: image.clone(), done, total });
                self.engine.pull(image, logins, self.settings.pull_timeout, tell).await
            }
            (Action::Write { .. }, Some(desired)) => stack::write(&self.settings, desired),
            (Action::Up { services }, Some(desired)) => compose::up(&self.settings, desired, services).await,
            (Action::UpWhole, Some(desired)) => compose::up_whole(&self.settings, desired).await,
            (Action::Signal { services, signal }, Some(desired)) => {
                compose::signal(&self.settings, desired, services, signal).await
            }
            (Action::Remove { services }, _) => self.engine.remove(&step.stack, services).await,
            (Action::Down, _) => {
                compose::down(&self.settings, &step.stack).await?;
                stack::remove(&self.settings, &step.stack)
            }
            (Action::Gate { .. }, _) | (_, None) => {
                Err(Fault::new(Code::StepFailed, format!("{} cannot be carried out alone", step.action.verb())))
            }
        }
    }

    async fn look(&self, stack: &str, services: &[String]) -> Result<Vec<Sample>, Fault> {
        self.engine.look(stack, services).await
    }

    async fn traefik_says(&self, address: &str) -> Result<serde_json::Value, Fault> {
        traefik::rawdata(address).await
    }

    fn push_url(&self, monitor: &str) -> Option<Secret<String>> {
        let bytes = disk::read(&self.push_url_path(monitor), LARGEST_URL).ok()?;
        Some(Secret::new(String::from_utf8(bytes).ok()?))
    }

    fn remember_push_url(&self, monitor: &str, url: Option<&Secret<String>>) {
        let path = self.push_url_path(monitor);
        // Kept in memory for the runs that open no secrets; if it cannot be kept, those runs are not announced, and
        // Kuma says so by itself.
        let _ = match url {
            Some(url) => path
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| disk::write(&path, url.expose().as_bytes(), 0o600)),
            None => fs::remove_file(&path),
        };
    }

    fn post(&self, message: &Message) -> Result<(), Fault> {
        self.outbox.put(message)
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
