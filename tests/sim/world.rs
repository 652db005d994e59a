//! The host in memory: what survives the death of the process is [`Host`], and [`Sim`] is the world around one run.

use std::any::Any;
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use moorline::decide::digest::DigestKey;
use moorline::decide::drift::Edited;
use moorline::decide::event::Event;
use moorline::decide::fault::{Code, Fault};
use moorline::decide::health::Sample;
use moorline::decide::push::Message;
use moorline::decide::sops::Identities;
use moorline::decide::traefik::due::Found;
use moorline::decide::trust::{History, Objects};
use moorline::decide::{render, settings};
use moorline::model::host::Logins;
use moorline::model::tree::File;
use moorline::model::{
    Action, Attached, DesiredStack, Endpoint, Good, Hold, Image, Inputs, Intent, Ledger, Model, Observed, Page, Remap,
    Report, Revision, Secret, Settings, State, Step,
};
use moorline::runs::reconcile::reconcile;
use moorline::world::{Fetched, LastWords, Occasion, Plugin, Removal, World};

use super::compose::Project;
use super::engine::Engine;
use super::release::{Manners, Program};
use super::repository::{Repository, Signer, allowed_signers};
use super::restic::Vault;
use super::sealed::ALPHA_KEY;
use super::traefik::Traefik;

/// 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600;

/// Everything that is still there when the process is not.
#[derive(Clone)]
pub struct Host {
    /// `ledger.json`, as bytes: what cannot be written down cannot be remembered.
    pub ledger: Option<Vec<u8>>,
    /// `runs/*.json`, as bytes, by run.
    pub reports: BTreeMap<String, Vec<u8>>,
    /// `status.json`, as bytes.
    pub page: Option<Vec<u8>>,
    /// `backups.json`, as bytes.
    pub backups: Option<Vec<u8>>,
    /// `standing.json`, as bytes.
    pub standing: Option<Vec<u8>>,
    /// Each stack's directory, without `.env`.
    pub directories: BTreeMap<String, BTreeMap<String, File>>,
    /// Each stack's `.env`, in memory.
    pub environments: BTreeMap<String, String>,
    /// Files of secrets, in memory.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Push URLs, in memory.
    pub push_urls: BTreeMap<String, String>,
    /// Messages that wait for the courier.
    pub outbox: Vec<Message>,
    /// The Docker Engine.
    pub engine: Engine,
    /// The tip that the courier fetched.
    pub tip: Option<Revision>,
    /// Milliseconds since 1970.
    pub clock: i64,
    /// `age.key`.
    pub age_key: Option<String>,
    /// `/etc/moorline/allowed_signers`.
    pub signers: String,
    /// The version of the Compose plugin.
    pub plugin: String,
    /// Whether the engine answers.
    pub engine_answers: bool,
    /// Whether the disk takes anything.
    pub disk_is_full: bool,
    /// `journal.json`, as bytes.
    pub journal: Option<Vec<u8>>,
    /// `good/<stack>/`.
    pub good: BTreeMap<String, Vec<Good>>,
    /// `drift/*.txt`.
    pub drift: Vec<String>,
    /// What was last written into each stack's directory.
    pub written: BTreeMap<String, BTreeMap<String, File>>,
    /// Backup repositories.
    pub vault: Vault,
    /// The fault of a pull that the registry refuses.
    pub pull_fails_as: Code,
    /// The files in the directory that Traefik watches, in memory.
    pub routes: BTreeMap<String, Vec<u8>>,
    /// Traefik itself.
    pub traefik: Traefik,
    /// What Compose says instead of doing anything.
    pub compose_says: Option<String>,
    /// What is amiss with one of the copies of the ledger, until it is mended.
    pub amiss: Vec<String>,
    /// `agent.json`, as bytes.
    pub succession: Option<Vec<u8>>,
    /// Programs of other versions, by directory.
    pub installed: BTreeMap<String, Program>,
    /// What the courier fetched, by what it should be.
    pub arrived: BTreeMap<String, Program>,
    /// What is served, by URL.
    pub served: BTreeMap<String, Program>,
    /// What versions do on trial.
    pub manners: BTreeMap<String, Manners>,
    /// The version of the package.
    pub package: String,
    /// How often the host was booted.
    pub boots: u32,
}

/// Something that befalls a host.
type Befalls = Box<dyn FnOnce(&mut Host)>;

/// A host, its repository, and what the present run did.
pub struct Sim {
    settings: Settings,
    host: RefCell<Host>,
    repository: RefCell<Repository>,
    /// How many effects happen before the process dies.
    cut: Cell<Option<usize>>,
    /// What the present run asked and did, in order.
    asked: RefCell<Vec<String>>,
    effects: Cell<usize>,
    said: RefCell<Vec<Event>>,
    /// After how many effects the order to stop comes.
    stop: Cell<Option<usize>>,
    /// After how many effects the courier fetches which tip.
    arrives: RefCell<Option<(usize, Revision)>>,
    /// After how many effects what befalls the host.
    befalls: RefCell<Option<(usize, Befalls)>>,
    /// The directory of the version that the present process is.
    pub own: RefCell<Option<String>>,
    /// The ledger that was read last, and its bytes.
    read: RefCell<Option<(Vec<u8>, Ledger)>>,
}

/// What unwinds when the process dies.
struct Death;

impl Sim {
    /// An empty host `alpha` and an empty repository.
    pub fn new() -> Self {
        let text = "host = \"alpha\"\nremote = \"ssh://git@example.org/fleet.git\"\n";
        let host = Host {
            ledger: None,
            reports: BTreeMap::new(),
            page: None,
            backups: None,
            standing: None,
            directories: BTreeMap::new(),
            environments: BTreeMap::new(),
            secrets: BTreeMap::new(),
            push_urls: BTreeMap::new(),
            outbox: Vec::new(),
            engine: Engine::default(),
            tip: None,
            clock: BEGIN * 1000,
            age_key: Some(ALPHA_KEY.to_owned()),
            signers: allowed_signers(),
            plugin: "2.40.3".into(),
            engine_answers: true,
            disk_is_full: false,
            journal: None,
            good: BTreeMap::new(),
            drift: Vec::new(),
            written: BTreeMap::new(),
            vault: Vault::default(),
            pull_fails_as: Code::StepFailed,
            routes: BTreeMap::new(),
            traefik: Traefik::default(),
            compose_says: None,
            amiss: Vec::new(),
            succession: None,
            installed: BTreeMap::new(),
            arrived: BTreeMap::new(),
            served: BTreeMap::new(),
            manners: BTreeMap::new(),
            package: "0.1.0".into(),
            boots: 1,
        };
        Self {
            settings: settings::read(text, "agent.toml").expect("valid"),
            host: RefCell::new(host),
            repository: RefCell::default(),
            cut: Cell::new(None),
            asked: RefCell::default(),
            effects: Cell::new(0),
            said: RefCell::default(),
            stop: Cell::new(None),
            arrives: RefCell::default(),
            befalls: RefCell::default(),
            own: RefCell::default(),
            read: RefCell::default(),
        }
    }

    /// Another host in the same state, with a history of its own from here on.
    pub fn fork(&self) -> Self {
        let fork = Self::new();
        *fork.host.borrow_mut() = self.host.borrow().clone();
        *fork.repository.borrow_mut() = self.repository.borrow().clone();
        fork
    }

    /// The state of the host.
    pub fn host(&self) -> RefMut<'_, Host> {
        self.host.borrow_mut()
    }

    /// The fleet repository.
    pub fn repository(&self) -> RefMut<'_, Repository> {
        self.repository.borrow_mut()
    }

    /// Writes a file of the fleet repository; it counts from the next commit on.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.repository().write(path, content);
        self
    }

    /// Removes a file or directory of the fleet repository.
    pub fn remove(&self, path: &str) -> &Self {
        self.repository().remove(path);
        self
    }

    /// Replaces a part of a file of the fleet repository.
    pub fn edit(&self, path: &str, from: &str, to: &str) -> &Self {
        let text = self.repository().read(path);
        assert!(text.contains(from), "{path} does not hold {from:?}");
        self.write(path, text.replace(from, to))
    }

    /// A signed commit on top of the tip, fetched by the courier.
    pub fn commit(&self) -> Revision {
        self.commit_as(Signer::Operator)
    }

    /// A commit on top of the tip, fetched by the courier.
    pub fn commit_as(&self, signer: Signer) -> Revision {
        let tip = self.host().tip.clone();
        self.commit_on(tip.as_ref(), signer)
    }

    /// A commit on top of another commit, which becomes the tip: a branch that was rewritten.
    pub fn commit_on(&self, parent: Option<&Revision>, signer: Signer) -> Revision {
        let revision = self.repository().commit(parent, signer);
        self.host().tip = Some(revision.clone());
        revision
    }

    /// The next run dies after this many effects: nothing after them happens.
    pub fn cut_after(&self, effects: usize) -> &Self {
        self.cut.set(Some(effects));
        self
    }

    /// The next run is asked to stop after this many effects.
    pub fn stop_after(&self, effects: usize) -> &Self {
        self.stop.set(Some(effects));
        self
    }

    /// During the next run the courier fetches this tip, after so many effects.
    pub fn arrives_after(&self, effects: usize, tip: &Revision) -> &Self {
        *self.arrives.borrow_mut() = Some((effects, tip.clone()));
        self
    }

    /// During the next run this befalls the host, after so many effects.
    pub fn befalls_after(&self, effects: usize, what: impl FnOnce(&mut Host) + 'static) -> &Self {
        *self.befalls.borrow_mut() = Some((effects, Box::new(what)));
        self
    }

    /// One run that a person began. None when the process died.
    pub fn try_run(&self) -> Option<Report> {
        self.try_run_as("reconcile")
    }

    /// One run that the clock began.
    #[track_caller]
    pub fn run_by_timer(&self) -> Report {
        self.try_run_as("timer").expect("nothing cuts this run")
    }

    /// One run. None when the process died.
    pub fn try_run_as(&self, occasion: &str) -> Option<Report> {
        self.try_work(async { reconcile(self, occasion).await })
    }

    /// Something else that a process does. None when it died.
    pub fn try_work<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.begin();
        let run = || work.now_or_never().expect("nothing in memory is waited for");
        let ended = catch_unwind(AssertUnwindSafe(run));
        self.cut.set(None);
        self.stop.set(None);
        self.arrives.take();
        self.befalls.take();
        match ended {
            Ok(done) => Some(done),
            Err(payload) if payload.is::<Death>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// One run that lives.
    #[track_caller]
    pub fn run(&self) -> Report {
        self.try_run().expect("nothing cuts this run")
    }

    /// Forgets what was asked and said; the next question belongs to a new process.
    pub fn begin(&self) {
        self.effects.set(0);
        self.asked.borrow_mut().clear();
        self.said.borrow_mut().clear();
        self.host().clock += 60_000;
    }

    /// How many effects the last run had.
    pub fn effects(&self) -> usize {
        self.effects.get()
    }

    /// What the last run asked and did, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    /// What the last run told the journal.
    pub fn said(&self) -> Ref<'_, Vec<Event>> {
        self.said.borrow()
    }

    /// The ledger as it stands on disk.
    pub fn remembered(&self) -> Ledger {
        self.read_ledger().expect("readable")
    }

    /// The memory is empty and every container was restarted.
    pub fn reboot(&self) -> &Self {
        let mut host = self.host();
        host.environments.clear();
        host.secrets.clear();
        host.push_urls.clear();
        host.outbox.clear();
        host.routes.clear();
        let now = host.seconds();
        host.engine.reboot(now);
        drop(host);
        self
    }

    /// The same after a shutdown in order, with the files of secrets put back before the engine was started.
    pub fn reboot_in_order(&self) -> &Self {
        let mut host = self.host();
        let now = host.seconds();
        host.engine.reboot_in_order(now);
        drop(host);
        self
    }

    /// A person holds the host for so many minutes.
    pub fn hold(&self, minutes: i64) -> &Self {
        let mut ledger = self.remembered();
        let since = self.host().time();
        let until = since + Duration::from_secs(minutes.unsigned_abs() * 60);
        ledger.hold = Some(Hold { owner: "alice".into(), reason: "looking".into(), since, until });
        self.host().ledger = Some(serde_json::to_vec(&ledger).expect("a ledger can be written"));
        self
    }

    /// The same for one stack.
    pub fn hold_stack(&self, stack: &str, minutes: i64) -> &Self {
        let mut ledger = self.remembered();
        let since = self.host().time();
        let until = since + Duration::from_secs(minutes.unsigned_abs() * 60);
        let hold = Hold { owner: "alice".into(), reason: "looking".into(), since, until };
        ledger.stack_holds.insert(stack.to_owned(), hold);
        self.host().ledger = Some(serde_json::to_vec(&ledger).expect("a ledger can be written"));
        self
    }

    /// `moorline retry`: what failed is forgotten.
    pub fn retry(&self) -> &Self {
        let mut ledger = self.remembered();
        ledger.failures.clear();
        ledger.repairs.clear();
        self.host().ledger = Some(serde_json::to_vec(&ledger).expect("a ledger can be written"));
        self
    }

    fn ask(&self, what: impl Into<String>) {
        self.asked.borrow_mut().push(what.into());
    }

    /// The process dies here if it is its time; else one thing more has happened when this returns.
    pub(super) fn effect(&self, what: impl Into<String>) {
        if self.cut.get() == Some(self.effects.get()) {
            resume_unwind(Box::new(Death) as Box<dyn Any + Send>);
        }
        let due = self.befalls.borrow_mut().take_if(|(effects, _)| *effects == self.effects.get());
        due.into_iter().for_each(|(_, what)| what(&mut self.host()));
        self.effects.set(self.effects.get() + 1);
        self.ask(what);
    }

    pub(super) fn written(&self, what: &str) -> Result<RefMut<'_, Host>, Fault> {
        self.effect(what);
        let host = self.host();
        match host.disk_is_full {
            true => {
                Err(Fault::new(Code::StateUnwritable, format!("{what} cannot be written")).because("no space left"))
            }
            false => Ok(host),
        }
    }

    pub(super) fn engine(&self) -> Result<RefMut<'_, Host>, Fault> {
        let host = self.host();
        match host.engine_answers {
            true => Ok(host),
            false => Err(Fault::new(Code::EngineAway, "the Docker Engine does not answer").at("nothing was changed")),
        }
    }

    fn read_ledger(&self) -> Result<Ledger, Fault> {
        let damaged = |error: serde_json::Error| {
            Fault::new(Code::LedgerDamaged, "ledger.json is damaged").caused_by(&error).at("nothing was changed")
        };
        let host = self.host();
        let Some(bytes) = &host.ledger else { return Ok(Ledger::default()) };
        let mut read = self.read.borrow_mut();
        if let Some((_, ledger)) = read.as_ref().filter(|(known, _)| known == bytes) {
            return Ok(ledger.clone());
        }
        let ledger: Ledger = serde_json::from_slice(bytes).map_err(damaged)?;
        *read = Some((bytes.clone(), ledger.clone()));
        Ok(ledger)
    }

    fn directory(&self, stack: &str) -> String {
        self.settings.stack_directory(stack).display().to_string()
    }

    /// The project as Compose finds it in the stack's directory.
    fn project(&self, stack: &str) -> Result<Project, Fault> {
        let failed = |why| could_not_bring_up(stack, why);
        let host = self.host();
        let env = host.environments.get(stack).ok_or_else(|| failed("env file not found".into()))?;
        let nothing = BTreeMap::new();
        let files = host.directories.get(stack).unwrap_or(&nothing);
        let project = Project::load(files, env, &self.directory(stack)).map_err(failed)?;
        let secrets = self.settings.run.join("secrets");
        for (name, service) in project.services() {
            for definition in ["secrets", "configs"].iter().flat_map(|kind| project.mounted(service, kind)) {
                let Some(path) = definition["file"].as_str() else { continue };
                let there = match Path::new(path).strip_prefix(&secrets) {
                    Ok(below) => host.secrets.contains_key(&below.display().to_string()),
                    Err(_) => files.keys().any(|file| path.ends_with(file.as_str())),
                };
                if !there {
                    return Err(failed(format!("service {name}: {path} does not exist")));
                }
            }
        }
        Ok(project)
    }

    fn up(&self, stack: &str, services: &[String]) -> Result<(), Fault> {
        let project = self.project(stack)?;
        let failed = |why| could_not_bring_up(stack, why);
        if let Some(words) = self.host().compose_says.clone() {
            return Err(failed(words));
        }
        for service in services {
            self.effect(format!("create {stack}/{service}"));
            self.engine()?.engine.begin(stack, service, &project).map_err(failed)?;
        }
        self.start(stack, services)
    }

    fn start(&self, stack: &str, services: &[String]) -> Result<(), Fault> {
        for service in services {
            self.effect(format!("start {stack}/{service}"));
            let mut host = self.engine()?;
            let now = host.seconds();
            host.engine.start(stack, service, now).map_err(|why| could_not_bring_up(stack, why))?;
        }
        Ok(())
    }

    /// `up --no-recreate --scale`: one container more of each of these services.
    fn start_first(&self, stack: &str, services: &[String]) -> Result<(), Fault> {
        let project = self.project(stack)?;
        let failed = |why| could_not_bring_up(stack, why);
        for service in services {
            self.effect(format!("create another {stack}/{service}"));
            self.engine()?.engine.add(stack, service, &project).map_err(failed)?;
        }
        self.start(stack, services)
    }

    fn write_memory(&self, desired: &DesiredStack) -> Result<(), Fault> {
        let stack = &desired.name;
        let mut host = self.written(&format!("memory of {stack}"))?;
        for file in &desired.secrets {
            host.secrets.insert(file.path.clone(), file.content.expose().clone());
        }
        host.environments.insert(stack.clone(), desired.environment.expose().clone());
        Ok(())
    }

    fn write_stack(&self, desired: &DesiredStack) -> Result<(), Fault> {
        self.write_memory(desired)?;
        let stack = &desired.name;
        let mut host = self.written(&format!("directory of {stack}"))?;
        host.directories.insert(stack.clone(), desired.files.clone());
        host.written.insert(stack.clone(), desired.files.clone());
        Ok(())
    }
}

impl Host {
    /// The time, without letting any pass.
    pub fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock).expect("within the years that jiff knows")
    }

    pub(super) fn seconds(&self) -> i64 {
        self.clock / 1000
    }

    /// Traefik takes notice of what lies in its directory, if it runs. Returns its entry points.
    pub fn traefik_looks(&mut self) -> BTreeSet<String> {
        let runs = self.engine.runs("traefik", "traefik", self.seconds());
        let words = runs.iter().flat_map(|(_, _, words)| words);
        let flags = words.filter_map(|word| word.strip_prefix("--entryPoints."));
        let entry_points = flags.filter_map(|flag| Some(flag.split_once('.')?.0.to_owned())).collect();
        self.traefik.looks(runs.map(|(id, started, _)| (id, started)), &self.routes);
        entry_points
    }

    /// Whether Traefik serves requests that match this rule.
    pub fn serves(&mut self, rule: &str) -> bool {
        let entry_points = self.traefik_looks();
        self.traefik.serves(rule, &entry_points)
    }
}

impl World for Sim {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> Timestamp {
        self.host().clock += 1;
        self.host().time()
    }

    fn zone(&self) -> TimeZone {
        TimeZone::UTC
    }

    async fn wait(&self, time: Duration) {
        self.host().clock += i64::try_from(time.as_millis()).expect("a short time");
    }

    fn stopping(&self) -> bool {
        self.stop.get().is_some_and(|effects| self.effects.get() >= effects)
    }

    fn say(&self, event: Event) {
        self.said.borrow_mut().push(event);
    }

    fn lock_run(&self, _verb: &str) -> Result<impl Sized, Fault> {
        Ok(())
    }

    async fn occasion(&self, _timer: Timestamp) -> Occasion {
        Occasion::Stop
    }

    fn service_ready(&self) {}

    fn service_status(&self, _line: &str) {}

    fn ledger(&self) -> Result<Ledger, Fault> {
        self.ask("ledger");
        self.read_ledger()
    }

    fn mend_ledger(&self) -> Result<Vec<String>, Fault> {
        Ok(std::mem::take(&mut self.host().amiss))
    }

    fn persist(&self, ledger: &Ledger) -> Result<(), Fault> {
        let mut ledger = ledger.clone();
        // A person may have held this host meanwhile.
        let on_disk = self.read_ledger()?;
        (ledger.hold, ledger.stack_holds) = (on_disk.hold, on_disk.stack_holds);
        let bytes = serde_json::to_vec(&ledger).expect("a ledger can be written");
        self.written("ledger")?.ledger = Some(bytes);
        Ok(())
    }

    fn intent(&self) -> Result<Option<Intent>, Fault> {
        let host = self.host();
        Ok(host.journal.as_ref().map(|bytes| serde_json::from_slice(bytes).expect("an intent")))
    }

    fn intend(&self, intent: &Intent) -> Result<(), Fault> {
        let bytes = serde_json::to_vec(intent).expect("an intent can be written");
        self.written("journal")?.journal = Some(bytes);
        Ok(())
    }

    fn intend_nothing(&self) -> Result<(), Fault> {
        self.effect("no journal");
        self.host().journal = None;
        Ok(())
    }

    fn keep_good(&self, good: &Good, named: Option<&str>) -> Result<(), Fault> {
        let is_needed = |kept: &Good| kept == good || Some(kept.digest.as_str()) == named && kept.digest != good.digest;
        let kept = self.host().good.get(&good.stack).cloned().unwrap_or_default();
        if !kept.contains(good) || !kept.iter().all(is_needed) {
            let mut host = self.written(&format!("good {}", good.stack))?;
            let kept = host.good.entry(good.stack.clone()).or_default();
            kept.retain(is_needed);
            kept.retain(|kept| kept != good);
            kept.push(good.clone());
        }
        Ok(())
    }

    fn good(&self, stack: &str, digest: &str) -> Result<Option<Good>, Fault> {
        Ok(self.host().good.get(stack).into_iter().flatten().find(|good| good.digest == digest).cloned())
    }

    fn edited(&self, stacks: &[String]) -> Result<BTreeMap<String, Vec<Edited>>, Fault> {
        self.ask("edited");
        let host = self.host();
        let mut all = BTreeMap::new();
        for stack in stacks {
            let nothing = BTreeMap::new();
            let (written, found) = (host.written.get(stack), host.directories.get(stack).unwrap_or(&nothing));
            let mut edited = Vec::new();
            for (path, _) in written.into_iter().flatten().filter(|(path, file)| found.get(*path) != Some(file)) {
                let place = Path::new(&self.directory(stack)).join(path);
                let found = found.get(path).map(|file| file.bytes.clone());
                edited.push(Edited { path: path.clone(), place, found });
            }
            if !edited.is_empty() {
                all.insert(stack.clone(), edited);
            }
        }
        Ok(all)
    }

    fn save_drift(&self, text: &str) -> Result<String, Fault> {
        let mut host = self.written("drift")?;
        host.drift.push(text.to_owned());
        Ok(format!("/var/lib/moorline/drift/{}.txt", host.drift.len()))
    }

    fn record(&self, report: &Report) -> Result<(), Fault> {
        let bytes = serde_json::to_vec(report).expect("a report can be written");
        self.written("report")?.reports.insert(report.run.clone(), bytes);
        Ok(())
    }

    fn page(&self) -> Option<Page> {
        serde_json::from_slice(self.host().page.as_ref()?).ok()
    }

    fn publish(&self, page: &Page) -> Result<(), Fault> {
        let bytes = serde_json::to_vec(page).expect("a page can be written");
        self.written("page")?.page = Some(bytes);
        Ok(())
    }

    async fn serve_page(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn digest_key(&self) -> Result<Option<DigestKey>, Fault> {
        Ok(Some(DigestKey::new(vec![7; 32])))
    }

    fn make_digest_key(&self) -> Result<DigestKey, Fault> {
        Ok(DigestKey::new(vec![7; 32]))
    }

    fn tip(&self) -> Result<Revision, Fault> {
        self.ask("tip");
        let missing = || Fault::new(Code::RepositoryMissing, "the courier has not fetched the repository yet");
        self.host().tip.clone().ok_or_else(missing)
    }

    fn newer_tip(&self, than: Option<&Revision>) -> Option<Revision> {
        let arrives = self.arrives.borrow().clone();
        if let Some((_, tip)) = arrives.filter(|(effects, _)| self.effects.get() >= *effects) {
            self.host().tip = Some(tip);
        }
        self.host().tip.clone().filter(|tip| Some(tip) != than)
    }

    fn local_signers(&self) -> Result<Vec<u8>, Fault> {
        Ok(self.host().signers.clone().into_bytes())
    }

    fn history(&self, tip: &Revision, until: Option<&Revision>) -> Result<History, Fault> {
        self.ask("history");
        self.repository().history(tip, until)
    }

    fn objects(&self) -> Result<impl Objects<Error = Fault>, Fault> {
        self.ask("objects");
        Ok(self.repository().objects())
    }

    fn identities(&self) -> Result<Identities, Fault> {
        self.ask("identities");
        let missing = || Fault::new(Code::KeyMissing, "the age key cannot be used").at("nothing was changed");
        let text = self.host().age_key.clone().ok_or_else(missing)?;
        Identities::parse(&text).map_err(|error| missing().caused_by(&error))
    }

    async fn plugin(&self) -> Result<Plugin, Fault> {
        self.ask("plugin");
        let version = self.host().plugin.clone();
        Ok(Plugin { stamp: format!("{version} 1 1.1"), version })
    }

    fn plugin_stamp(&self, version: &str) -> Result<String, Fault> {
        self.ask("plugin stamp");
        let is_same = self.host().plugin == version;
        Ok(format!("{version} 1 {}", if is_same { "1.1" } else { "2.2" }))
    }

    async fn observe(&self) -> Result<Observed, Fault> {
        self.ask("observe");
        let host = self.engine()?;
        Ok(host.engine.observe(host.seconds()))
    }

    async fn attached(&self, networks: &BTreeSet<String>) -> Result<Vec<Attached>, Fault> {
        let host = self.engine()?;
        let on = |network: &String| {
            let members = host.engine.containers.iter().filter(|container| container.networks.contains(network));
            let attached = |member: &super::engine::Instance| Attached {
                network: network.clone(),
                id: member.id.clone(),
                name: member.name.clone(),
                made_for: Some((member.project.clone(), member.service.clone())),
                endpoint: Endpoint::default(),
            };
            members.map(attached).collect::<Vec<_>>()
        };
        Ok(networks.iter().flat_map(on).collect())
    }

    async fn remap(&self) -> Result<Remap, Fault> {
        Ok(Remap::default())
    }

    fn without_memory(&self, stacks: &[String]) -> BTreeSet<String> {
        self.ask("memory");
        let host = self.host();
        stacks.iter().filter(|stack| !host.environments.contains_key(*stack)).cloned().collect()
    }

    fn restore_memory(&self, desired: &DesiredStack) -> Result<(), Fault> {
        self.write_memory(desired)
    }

    async fn forget_secrets(&self, needed: &BTreeSet<String>) -> Result<usize, Fault> {
        let mounted = self.engine()?.engine.mounted();
        let secrets = self.settings.run.join("secrets");
        let is_used =
            |path: &String| needed.contains(path) || mounted.contains(&secrets.join(path).display().to_string());
        let unused: Vec<String> = self.host().secrets.keys().filter(|path| !is_used(path)).cloned().collect();
        for path in &unused {
            self.effect(format!("forget {path}"));
            self.host().secrets.remove(path);
        }
        Ok(unused.len())
    }

    async fn missing_images(&self, images: &BTreeSet<String>) -> Result<BTreeSet<String>, Fault> {
        self.ask("images");
        let host = self.engine()?;
        Ok(images.difference(&host.engine.images).cloned().collect())
    }

    async fn image(&self, image: &str) -> Result<Option<Image>, Fault> {
        Ok(self.engine()?.engine.image(image))
    }

    async fn remove_image(&self, image: &str) -> Result<Removal, Fault> {
        self.effect(format!("remove image {image}"));
        let mut host = self.engine()?;
        if host.engine.containers.iter().any(|container| container.image == image) {
            return Ok(Removal::InUse);
        }
        host.engine.images.remove(image);
        Ok(Removal::Removed)
    }

    async fn model(&self, inputs: &Inputs, key: &DigestKey) -> Result<Model, Fault> {
        self.ask(format!("model of {}", inputs.stack));
        let refused = |why: String| {
            Fault::new(Code::ComposeRefused, format!("compose does not accept stacks/{}/compose.yaml", inputs.stack))
                .because(why)
                .at("nothing was changed")
        };
        let files = render::staging(inputs, key);
        let env = files[".env"].text().expect("moorline writes text").to_owned();
        let project = Project::load(&files, &env, &self.directory(&inputs.stack)).map_err(refused)?;
        serde_json::from_value((*project.model).clone()).map_err(|error| refused(error.to_string()))
    }

    async fn act(&self, step: &Step, desired: Option<&DesiredStack>, _logins: &Logins) -> Result<(), Fault> {
        let stack = &step.stack;
        // Each step takes its time.
        self.host().clock += 1000;
        match (&step.action, desired) {
            (Action::Pull { image }, _) => {
                self.effect(format!("pull {image}"));
                let code = self.host().pull_fails_as;
                let failed = |why: String| Fault::new(code, format!("{image} cannot be pulled")).because(why);
                self.engine()?.engine.pull(image).map_err(failed)
            }
            (Action::Write { .. }, Some(desired)) => self.write_stack(desired),
            (Action::Up { services }, Some(_)) => self.up(stack, services),
            (Action::UpWhole, Some(_)) => {
                let services: Vec<String> = self.project(stack)?.services().keys().cloned().collect();
                self.up(stack, &services)
            }
            (Action::StartFirst { services }, Some(_)) => self.start_first(stack, services),
            (Action::Drain { containers, .. } | Action::Withdraw { containers, .. }, _) => {
                for (id, name) in containers {
                    self.effect(format!("stop {name}"));
                    self.engine()?.engine.stop(id);
                    self.effect(format!("remove {name}"));
                    self.engine()?.engine.discard(id);
                }
                Ok(())
            }
            (Action::Rename { id, from, to }, _) => {
                self.effect(format!("rename {from}"));
                self.engine()?.engine.rename(id, to);
                Ok(())
            }
            (Action::Detach { id, name, network }, _) => {
                self.effect(format!("detach {name}"));
                self.engine()?.engine.containers.iter_mut().filter(|container| container.id == *id).for_each(
                    |container| {
                        container.networks.remove(network);
                    },
                );
                Ok(())
            }
            (Action::Attach { id, name, network, .. }, _) => {
                self.effect(format!("attach {name}"));
                self.engine()?.engine.containers.iter_mut().filter(|container| container.id == *id).for_each(
                    |container| {
                        container.networks.insert(network.clone());
                    },
                );
                Ok(())
            }
            (Action::Discard { id, name }, _) => {
                self.effect(format!("discard {name}"));
                self.engine()?.engine.discard(id);
                Ok(())
            }
            (Action::Unpause { services }, _) => {
                for service in services {
                    self.effect(format!("unpause {stack}/{service}"));
                    self.engine()?.engine.by_hand(stack, service, None);
                }
                Ok(())
            }
            (Action::Restart { services }, Some(_)) => {
                for service in services {
                    self.effect(format!("restart {stack}/{service}"));
                    let mut host = self.engine()?;
                    let now = host.seconds();
                    host.engine.restart(stack, service, now);
                }
                Ok(())
            }
            (Action::Signal { services, signal }, Some(_)) => {
                for service in services {
                    self.effect(format!("signal {stack}/{service}"));
                    self.engine()?.engine.signal(stack, service, signal);
                }
                Ok(())
            }
            (Action::Remove { services }, _) => {
                for service in services {
                    self.effect(format!("remove {stack}/{service}"));
                    self.engine()?.engine.remove(stack, service);
                }
                Ok(())
            }
            (Action::Down, _) => {
                let services: Vec<String> = {
                    let host = self.engine()?;
                    let ours = host.engine.containers.iter().filter(|container| container.project == *stack);
                    ours.map(|container| container.service.clone()).collect()
                };
                for service in services {
                    self.effect(format!("remove {stack}/{service}"));
                    self.engine()?.engine.remove(stack, &service);
                }
                self.effect(format!("remove networks of {stack}"));
                self.engine()?.engine.remove_networks(stack);
                let mut host = self.written(&format!("no directory of {stack}"))?;
                host.directories.remove(stack);
                host.written.remove(stack);
                host.good.remove(stack);
                host.environments.remove(stack);
                let prefix = format!("{stack}/");
                host.secrets.retain(|path, _| !path.starts_with(&prefix));
                Ok(())
            }
            (Action::Gate { .. } | Action::Snapshot | Action::Publish { .. } | Action::Route { .. }, _) | (_, None) => {
                panic!("`{}` cannot be carried out alone", step.action.verb())
            }
        }
    }

    async fn last_words(&self, stack: &str, services: &[String], _lines: usize) -> Result<Vec<LastWords>, Fault> {
        let host = self.engine()?;
        let given = host.environments.get(stack).cloned().unwrap_or_default();
        let seen = host.engine.look(stack, services, host.seconds());
        // A program that prints everything that it was given.
        let words = |sample: Sample| LastWords {
            text: Secret::new(match stack {
                "traefik" => host.traefik.log.join("\n"),
                _ => format!("{} starts with\n{given}", sample.service),
            }),
            exit_code: match sample.state {
                State::Exited(code) => Some(code),
                State::Restarting => Some(1),
                _ => None,
            },
            image: host.engine.image_of(&sample.id),
            service: sample.service,
            container: sample.name,
            state: sample.state,
        };
        Ok(seen.into_iter().map(words).collect())
    }

    async fn look(&self, stack: &str, services: &[String]) -> Result<Vec<Sample>, Fault> {
        let host = self.engine()?;
        Ok(host.engine.look(stack, services, host.seconds()))
    }

    fn routes(&self) -> Result<Found, Fault> {
        self.ask("routes");
        Ok(self.host().routes.iter().map(|(path, bytes)| (path.clone(), Secret::new(bytes.clone()))).collect())
    }

    fn put_route(&self, path: &str, content: Option<&Secret<Vec<u8>>>) -> Result<(), Fault> {
        let mut host = self.written(&format!("route {path}"))?;
        match content {
            Some(content) => _ = host.routes.insert(path.to_owned(), content.expose().clone()),
            None => _ = host.routes.remove(path),
        }
        host.traefik_looks();
        Ok(())
    }

    async fn traefik_says(&self, address: &str) -> Result<serde_json::Value, Fault> {
        self.ask("traefik");
        let mut host = self.host();
        let entry_points = host.traefik_looks();
        let said = host.traefik.says(&entry_points).filter(|_| address == "http://127.0.0.1:8080");
        said.ok_or_else(|| Fault::new(Code::TraefikSilent, format!("Traefik's API does not answer at {address}")))
    }

    fn push_url(&self, monitor: &str) -> Option<Secret<String>> {
        self.host().push_urls.get(monitor).cloned().map(Secret::new)
    }

    fn remember_push_url(&self, monitor: &str, url: Option<&Secret<String>>) {
        match url {
            Some(url) => _ = self.host().push_urls.insert(monitor.to_owned(), url.expose().clone()),
            None => _ = self.host().push_urls.remove(monitor),
        }
    }

    fn post(&self, message: &Message) -> Result<(), Fault> {
        self.effect("post");
        self.host().outbox.push(message.clone());
        Ok(())
    }

    fn outbox(&self) -> Result<Vec<Message>, Fault> {
        Ok(self.host().outbox.clone())
    }

    async fn send(&self, _message: &Message) -> Result<(), Fault> {
        Err(Fault::new(Code::PushFailed, "there is no network in memory"))
    }

    fn delivered(&self, message: &Message) -> Result<(), Fault> {
        self.host().outbox.retain(|other| other.id != message.id);
        Ok(())
    }

    async fn fetch(&self) -> Result<Fetched, Fault> {
        Ok(Fetched::Unchanged)
    }
}

fn could_not_bring_up(stack: &str, why: String) -> Fault {
    Fault::new(Code::StepFailed, format!("compose could not bring up {stack}")).because(why)
}
