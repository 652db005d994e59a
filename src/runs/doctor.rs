//! Looks at everything that a host needs. Changes nothing; one thing that is wrong keeps nothing else from being looked at.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::decide::backup::logbook;
use crate::decide::doctor::{Check, Diagnosis, Eyes, Finding, asked, broken, engine, machine, seen, standing, units};
use crate::decide::fault::{Code, Fault};
use crate::decide::fleet;
use crate::decide::mistake::meant;
use crate::decide::onboarding;
use crate::decide::trust::{AllowedSigners, VerifiedTree};
use crate::model::backup::Repository;
use crate::model::{HostSpec, Ledger};
use crate::runs::backup::account;
use crate::runs::backup::known::{Known, known};
use crate::runs::backup::restore;
use crate::runs::{accept, prepare, routes, succession};
use crate::world::World;
use crate::world::examine::Examine;

/// The monitors that a host may have.
const MONITORS: [&str; 4] = ["reconcile", "backup", "check", "drill"];
/// What is only in `agent.toml`.
const TOLD: [Check; 3] = [Check::DeployKey, Check::KnownHosts, Check::GitServer];
/// What stands in the accepted repository, each resting on those before.
const IN_REPOSITORY: [Check; 5] = [Check::Host, Check::Enrolment, Check::Secrets, Check::Routes, Check::Backups];

/// How long a neighbour on this host may take to answer.
const SHORT: Duration = Duration::from_secs(10);
/// How long a server may take.
const LONG: Duration = Duration::from_secs(60);
/// Where the engine keeps everything, unless it says otherwise.
const ENGINE_ROOT: &str = "/var/lib/docker";

/// What was found so far.
struct Findings {
    eyes: Eyes,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, check: Check, diagnosis: Diagnosis) {
        self.all.push(seen(check, diagnosis, self.eyes));
    }

    fn add_all(&mut self, check: Check, diagnoses: Vec<Diagnosis>) {
        diagnoses.into_iter().for_each(|diagnosis| self.add(check, diagnosis));
    }

    fn ask(&mut self, check: Check, result: Result<String, Fault>) {
        self.add(check, asked(check, result));
    }

    fn unseen(&mut self, checks: &[Check], why: &str) {
        checks.iter().for_each(|check| self.add(*check, Diagnosis::Unseen(why.to_owned())));
    }
}

/// Looks at everything, in the order of [`Check::ALL`]. `told` is what is wrong with `agent.toml`; then the world has
/// defaults in its place.
pub async fn examine(world: &(impl World + Examine), told: Option<Fault>) -> Vec<Finding> {
    let eyes = if world.is_root() { Eyes::Root } else { Eyes::Anybody };
    let mut findings = Findings { eyes, all: Vec::new() };
    let is_told = told.is_none();
    let host = world.settings().host.clone();
    findings.ask(Check::Settings, told.map_or_else(|| Ok(format!("host {host}")), Err));
    programs(world, &mut findings).await;
    machine(world, &mut findings).await;
    let engine_answers = engine(world, &mut findings).await;
    services(world, &mut findings).await;
    let ledger = world.ledger();
    memory_of(world, &ledger, &mut findings);
    let accepted = ledger.as_ref().ok().and_then(|ledger| ledger.anchor.as_ref()).map(|anchor| anchor.at);
    findings.add(Check::Clock, machine::clock(world.now(), accepted, world.clock_is_set().await));
    match is_told {
        true => {
            server(world, &mut findings).await;
            repository(world, &ledger, engine_answers, &mut findings).await;
        }
        false => findings.unseen(&[&TOLD[..], &IN_REPOSITORY].concat(), "not before agent.toml can be read"),
    }
    findings.all.sort_by_key(|finding| finding.check);
    findings.all
}

async fn programs(world: &(impl World + Examine), findings: &mut Findings) {
    findings.ask(Check::Git, world.git_version().await);
    findings.ask(Check::Ssh, world.ssh_version().await);
    findings.ask(Check::Plugin, world.plugin().await.map(|plugin| plugin.version));
}

async fn machine(world: &(impl World + Examine), findings: &mut Findings) {
    findings.ask(Check::State, world.state_is_writable());
    findings.add_all(Check::Disk, world.room_for_state().iter().map(machine::room).collect());
    findings.ask(Check::Memory, world.memory_is_safe());
    findings.add(Check::Swap, machine::swap(&world.swap_on_disk()));
    findings.add(Check::Zone, machine::zone(world.zone().iana_name()));
    findings.add(Check::Tailnet, machine::tailnet(world.tailnet().await.as_deref(), world.now()));
    findings.add(Check::Upgrades, machine::upgrades(world.upgrades().await));
}

/// Whether the engine answers, which nothing else has to find out then.
async fn engine(world: &(impl World + Examine), findings: &mut Findings) -> bool {
    let version = in_time(world, SHORT, world.engine_version()).await;
    let answers = version.is_ok();
    findings.ask(Check::Engine, version);
    let settings = match answers {
        true => in_time(world, SHORT, world.engine_settings()).await.ok(),
        false => None,
    };
    match &settings {
        Some(settings) => findings.add_all(Check::EngineSettings, engine::settings(settings)),
        None => findings.unseen(&[Check::EngineSettings], "the engine does not answer"),
    }
    // A full disk may be why it does not.
    let room = world.room_in(settings.as_ref().map_or(ENGINE_ROOT, |settings| &settings.root));
    findings.add_all(Check::Disk, room.iter().map(machine::room).collect());
    let ours: Option<BTreeSet<u16>> = match answers {
        true => in_time(world, SHORT, world.published_ports()).await.ok(),
        false => None,
    };
    findings.add_all(Check::Ports, machine::ports(&world.listening_ports(), ours.as_ref()));
    answers
}

/// What came of asking, if it came in time: whoever hangs must not hang the doctor.
async fn in_time<T>(
    world: &impl World,
    time: Duration,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::select! {
        answer = asked => answer,
        () = world.wait(time) => {
            Err(Fault::new(Code::Stopped, format!("there was no answer within {} s", time.as_secs())))
        }
    }
}

async fn services(world: &(impl World + Examine), findings: &mut Findings) {
    match world.units().await {
        Some(found) => findings.add_all(Check::Units, units::units(&found)),
        None => findings.add(Check::Units, Diagnosis::Idle("systemd is not the init here".into())),
    }
    let at_work = world.at_work();
    findings.add(Check::Agent, standing::agent(env!("CARGO_PKG_VERSION"), at_work.keeper, at_work.replaced));
    findings.ask(Check::Version, succession::examine(world));
    match world.last_report() {
        Ok(last) => {
            let diagnosis = standing::last_run(last.as_ref(), world.settings().interval, world.now());
            findings.add(Check::LastRun, diagnosis);
        }
        Err(fault) => findings.ask(Check::LastRun, Err(fault)),
    }
    let mut urls = MONITORS.into_iter().filter_map(|name| Some((name, world.push_url(name)?))).peekable();
    if urls.peek().is_none() {
        findings.add(Check::Monitors, Diagnosis::Idle("no push URL is known since the host booted".into()));
    }
    for (monitor, url) in urls {
        let answered = world.answers(monitor, &url).await;
        findings.ask(Check::Monitors, answered.map(|()| format!("the server of `{monitor}` answers")));
    }
    match world.messages_waiting() {
        Ok(Some(waiting)) => findings.add(Check::Messages, standing::messages(waiting)),
        Ok(None) => findings.add(Check::Messages, Diagnosis::Idle("there is no outbox before the first start".into())),
        Err(fault) => findings.ask(Check::Messages, Err(fault)),
    }
}

async fn server(world: &(impl World + Examine), findings: &mut Findings) {
    let idle = "the git server is not asked over ssh";
    let or_idle = |check, found: Result<Option<String>, Fault>| match found.transpose() {
        Some(found) => asked(check, found),
        None => Diagnosis::Idle(idle.into()),
    };
    findings.add(Check::DeployKey, or_idle(Check::DeployKey, world.deploy_key()));
    findings.add(Check::KnownHosts, or_idle(Check::KnownHosts, world.pinned_key().await));
    findings.ask(Check::GitServer, in_time(world, LONG, world.reachable()).await);
}

/// What the host remembers.
fn memory_of(world: &(impl World + Examine), ledger: &Result<Ledger, Fault>, findings: &mut Findings) {
    findings.ask(Check::Repository, world.tip().map(|tip| format!("tip {}", tip.short())));
    findings.ask(Check::Signers, signers(world));
    findings.ask(Check::AgeKey, world.identities().map(|identities| identities.recipients().join(", ")));
    let found = ledger.as_ref().map_err(Fault::clone).map(|ledger| match &ledger.anchor {
        Some(anchor) => format!("anchor {}", anchor.revision.short()),
        None => "no revision accepted yet".into(),
    });
    findings.ask(Check::Ledger, found);
    match ledger {
        Ok(ledger) => {
            findings.add_all(Check::Hold, standing::hold(ledger, world.now()));
            findings.add_all(Check::Deploys, standing::deploys(ledger));
        }
        Err(_) => findings.unseen(&[Check::Hold, Check::Deploys], "the ledger cannot be read"),
    }
    match leftovers(world) {
        Ok(found) => findings.add_all(Check::Leftovers, standing::leftovers(&found)),
        Err(fault) => findings.ask(Check::Leftovers, Err(fault)),
    }
    match world.logbook().and_then(|logbook| Ok((logbook, account::next(world)?))) {
        Ok((logbook, next)) => {
            findings.add(Check::Nights, standing::nights(&logbook::statuses(&logbook, world.now()), next));
        }
        Err(fault) => findings.ask(Check::Nights, Err(fault)),
    }
}

fn leftovers(world: &(impl World + Examine)) -> Result<standing::Leftovers, Fault> {
    let restores = world.unfinished_restores()?;
    Ok(standing::Leftovers {
        at_work: world.at_work().working,
        step: world.intent()?.is_some(),
        standing: world.standing()?.map(|standing| standing.stack),
        restores: restores.into_iter().map(|restore| restore.stack).collect(),
    })
}

fn signers(world: &impl World) -> Result<String, Fault> {
    let bytes = world.local_signers()?;
    match AllowedSigners::parse(&bytes) {
        Ok(_) => Ok("readable".into()),
        Err(flaw) => Err(Fault::new(Code::SignersInvalid, "the list of allowed signers cannot be used")
            .because(flaw.to_string())
            .hint("`man ssh-keygen` has the format, below ALLOWED SIGNERS")),
    }
}

/// What the newest accepted revision says of this host, and what follows from it.
async fn repository(
    world: &(impl World + Examine),
    ledger: &Result<Ledger, Fault>,
    engine_answers: bool,
    findings: &mut Findings,
) {
    let Some(ledger) = ledger.as_ref().ok().filter(|ledger| ledger.anchor.is_some()) else {
        return findings.unseen(&IN_REPOSITORY, "not before a revision was accepted");
    };
    let spec = match accepted(world, ledger) {
        Ok(tree) => match host(world, &tree, findings) {
            Some(spec) => spec,
            None => return findings.unseen(&IN_REPOSITORY[1..], "not before the repository has this host"),
        },
        Err(fault) => {
            findings.ask(Check::Host, Err(fault));
            return findings.unseen(&IN_REPOSITORY[1..], "not before the repository can be read");
        }
    };
    if let Err(fault) = prepare::open(world, &spec) {
        findings.ask(Check::Secrets, Err(fault));
        return findings.unseen(&IN_REPOSITORY[3..], "not before the secrets can be opened");
    }
    findings.add(Check::Secrets, Diagnosis::Fine("they can be opened".into()));
    match engine_answers {
        true => traefik(world, findings).await,
        false => findings.unseen(&[Check::Routes], "the engine does not answer"),
    }
    match known(world) {
        Ok(known) => backups(world, &known, findings).await,
        Err(fault) if fault.code == Code::BackupUnset => {
            findings.add(Check::Backups, Diagnosis::Idle("this host makes no backups".into()));
        }
        Err(fault) => findings.ask(Check::Backups, Err(fault)),
    }
}

/// The files of the newest accepted revision.
fn accepted(world: &impl World, ledger: &Ledger) -> Result<VerifiedTree, Fault> {
    let revision = ledger.anchor.as_ref().map(|anchor| (&anchor.revision, &anchor.first));
    let (revision, first) = revision.ok_or_else(|| Fault::new(Code::RepositoryMissing, "no revision was accepted"))?;
    let verified = accept::verify(world, ledger, revision, Some(first))?;
    accept::admit(world, &verified, revision, ledger)
}

/// Whether the repository has this host and its key; what it says of it, if it does.
fn host(world: &impl World, tree: &VerifiedTree, findings: &mut Findings) -> Option<HostSpec> {
    let name = &world.settings().host;
    let hosts = fleet::hosts(tree);
    if !hosts.contains(name) {
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let (what, fix) =
            (format!("there is no hosts/{name}/{}", meant(name, &names)), "`host` in agent.toml is its name");
        findings.add(
            Check::Host,
            broken(what, format!("{fix}; a new one comes by `moorline host new {name}` in a checkout")),
        );
        return None;
    }
    let own = world.identities().map(|identities| identities.recipients()).unwrap_or_default();
    findings.add(Check::Enrolment, standing::enrolment(name, onboarding::recipient(tree, name), &own));
    let spec = fleet::read(tree, name).map_err(|found| fleet::spec_invalid(found, tree.revision().short()));
    let ring = spec.as_ref().map_err(Fault::clone).map(|spec| format!("{name}, ring {}", spec.ring));
    findings.ask(Check::Host, ring);
    spec.ok()
}

async fn traefik(world: &impl World, findings: &mut Findings) {
    let listing = match in_time(world, LONG, routes::here(world)).await {
        Ok(listing) => listing,
        // What is in the way is said by a check of its own.
        Err(fault) => return findings.unseen(&[Check::Routes], &fault.sentence),
    };
    let count = listing.routes.len();
    let off: Vec<String> =
        listing.routes.iter().filter(|route| route.state != "enabled").map(|route| route.name.clone()).collect();
    findings.add(
        Check::Routes,
        match (count, listing.unknown, off.is_empty()) {
            (0, ..) => Diagnosis::Idle("this host has none".into()),
            (_, Some(why), _) => broken(
                format!("Traefik does not say: {why}"),
                "`docker compose ps` in /var/lib/moorline/stacks/traefik",
            ),
            (_, None, true) => Diagnosis::Fine(format!("{count} are served")),
            (_, None, false) => broken(
                format!("{} of {count} are not served: {}", off.len(), off.join(", ")),
                "`moorline routes` says why",
            ),
        },
    );
}

async fn backups(world: &impl World, known: &Known, findings: &mut Findings) {
    for repository in &known.backups.repositories {
        let opened = in_time(world, LONG, open(world, known, repository)).await;
        let opened = opened.map_err(|fault| of_repository(fault, repository));
        findings.ask(Check::Backups, opened);
    }
}

/// With the name of the repository, which not every fault has.
fn of_repository(fault: Fault, repository: &Repository) -> Fault {
    match fault.sentence.contains(&repository.name) {
        true => fault,
        false => Fault { sentence: format!("{}: {}", repository.name, fault.sentence), ..fault },
    }
}

/// Opens a repository and lists its snapshots; nothing is written there.
async fn open(world: &impl World, known: &Known, repository: &Repository) -> Result<String, Fault> {
    let snapshots = restore::list(world, repository, &known.access(repository)?).await?;
    Ok(format!("{}: opened, {} snapshots", repository.name, snapshots.len()))
}
