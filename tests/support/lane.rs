//! Hosts with one stack each that share an engine: many deploys can be broken in the middle at the same time, since most
//! of a deploy is waiting. What must hold afterwards is asked here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::canary::search_for_canary;
use super::engine::Engine;
use super::fleet::{Fleet, Signer, Signing};
use super::git_server::GitServer;
use super::host::Host;
use super::image::Image;
use super::push_server::PushServer;
use super::run::{Ran, Run as _};
use super::wait::until;

/// Healthy a moment after they work; then asked seldom, since each question costs processor time.
const STACK: &str = "\
services:
  web:
    image: lab/web:IMAGE
    environment: { MESSAGE: 'VERSION' }
    secrets: [token]
    volumes: ['data:/data', './conf:/conf:ro']
    depends_on: { db: { condition: service_healthy } }
    stop_grace_period: 1s
    healthcheck: { test: [CMD, test, -e, /www/message], retries: 100, interval: 60s, start_period: 20s, start_interval: 200ms }
  db:
    image: lab/db:1
    environment: { A: 'VERSION' }
    stop_grace_period: 1s
    healthcheck: { test: [CMD, 'true'], retries: 100, interval: 60s, start_period: 20s, start_interval: 200ms }
";

const REST: &str = "\
volumes: { data: {} }
secrets:
  token: { environment: TOKEN }
x-moorline: { deploy: { health_timeout: 90s } }
";

/// No health check: it is looked at until it is steady.
const EXTRA: &str = "  extra: { image: 'lab/extra:1', stop_grace_period: 1s }\n";

/// Secrets that are looked for on disk.
const CANARIES: [&str; 2] = ["canary-lane-0-4f1b", "canary-lane-1-88c2"];

/// What a deploy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A host that has never seen a revision.
    First,
    /// Another image, another environment, another file.
    Version,
    /// Another secret.
    Secret,
    /// A service more, or one less.
    Service,
    /// A version that does not work, so that the last good one must come back.
    Broken,
    /// Nothing but what somebody did to containers and files.
    Drift,
}

/// What a stack is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    version: u32,
    secret: usize,
    extra: bool,
}

/// What lanes share.
pub struct Lanes {
    pub engine: Arc<Engine>,
    pub server: GitServer,
    pub push: PushServer,
    alice: Signer,
    foreign: String,
}

impl Lanes {
    #[track_caller]
    pub fn new() -> Self {
        let engine = Arc::new(Engine::start());
        for name in ["lab/web:1", "lab/web:2"] {
            engine.image(name, &Image::web());
        }
        engine.image("lab/web:broken", &Image::exits(3));
        engine.image("lab/db:1", &Image::idle());
        engine.image("lab/extra:1", &Image::idle());
        let run = ["run", "-d", "--restart", "always", "--name", "foreign", "lab/db:1"];
        let foreign = engine.docker(&run).succeeds().trim().to_owned();
        Self { engine, server: GitServer::ssh(), push: PushServer::start(), alice: Signer::new("alice"), foreign }
    }

    /// A lane with its first version deployed. `number` is its own.
    #[track_caller]
    pub fn lane(&self, number: usize) -> Lane<'_> {
        let name = format!("fleet{number}.git");
        let bare = self.server.repository(&name);
        let host = Host::new("alpha", &self.engine, &self.server, &name, &[&self.alice]);
        let fleet = Fleet::new(&bare);
        let stack = format!("web{number}");
        let url = self.push.monitor(&stack);
        let sealed = CANARIES.map(|token| host.seal(&format!("all:\n  KUMA: {url}\n{stack}:\n  TOKEN: {token}\n")));
        fleet.allow(&[&self.alice]).write("moorline.yaml", "version: 1\n").write("rings/canary.yaml", "follow: main\n");
        fleet.write("hosts/alpha/recipient", &host.recipient);
        let monitors = "monitors: { reconcile: KUMA }";
        fleet.write("hosts/alpha/host.yaml", format!("ring: canary\nstacks: [{stack}]\n{monitors}\n"));
        let wanted = Wanted { version: 1, secret: 0, extra: false };
        let mut lane = Lane {
            lanes: self,
            host,
            fleet,
            stack,
            sealed,
            wanted,
            good: wanted,
            published: Vec::new(),
            damages: number,
        };
        lane.publish(false);
        lane.host.moorline(&["reconcile"]).succeeds();
        fs::write(lane.volume().join("kept"), "kept").expect("the volume is on this disk");
        lane
    }

    fn has_foreign(&self) -> bool {
        self.engine
            .ask("/containers/foreign/json")
            .is_some_and(|found| found["Id"] == self.foreign.as_str() && found["State"]["Running"] == true)
    }
}

/// One host, its repository, and what it should be.
pub struct Lane<'lanes> {
    lanes: &'lanes Lanes,
    pub host: Host,
    fleet: Fleet,
    /// The only stack of the host, and its project.
    pub stack: String,
    sealed: [String; 2],
    wanted: Wanted,
    good: Wanted,
    published: Vec<String>,
    damages: usize,
}

/// What a lane was before a deploy was broken.
pub struct Before {
    change: Change,
    anchor: Option<usize>,
    run: String,
}

impl Lane<'_> {
    /// Everything that a change needs before a run can carry it out.
    #[track_caller]
    pub fn prepare(&mut self, change: Change) -> Before {
        let deploys = match change {
            Change::First => {
                self.forget();
                self.wanted.version += 1;
                true
            }
            Change::Version | Change::Broken => {
                self.wanted.version += 1;
                true
            }
            Change::Secret => {
                self.wanted.secret = 1 - self.wanted.secret;
                true
            }
            Change::Service => {
                self.wanted.extra = !self.wanted.extra;
                true
            }
            Change::Drift => {
                self.damage();
                false
            }
        };
        if deploys {
            self.publish(change == Change::Broken);
        }
        if change == Change::Broken {
            // The next change is one of what works.
            self.wanted = Wanted { version: self.wanted.version, ..self.good };
        } else {
            self.good = self.wanted;
        }
        Before { change, anchor: self.anchor().unwrap_or_default(), run: self.last_run() }
    }

    #[track_caller]
    fn publish(&mut self, broken: bool) {
        let Wanted { version, secret, extra } = self.wanted;
        let image = if broken { "broken".to_owned() } else { (1 + version % 2).to_string() };
        let text = format!("{STACK}{}{REST}", if extra { EXTRA } else { "" });
        let text = text.replace("lab/web:IMAGE", &format!("lab/web:{image}"));
        let text = text.replace("'VERSION'", &format!("'{version}'"));
        self.fleet.write(format!("stacks/{}/compose.yaml", self.stack).as_str(), text);
        self.fleet.write(format!("stacks/{}/conf", self.stack).as_str(), version.to_string());
        self.fleet.write("hosts/alpha/secrets.sops.yaml", &self.sealed[secret]);
        self.published.push(self.fleet.commit(Signing::By(&self.lanes.alice), "change"));
        self.fleet.push();
        self.host.moorline(&["courier", "--once"]).succeeds();
    }

    /// Makes the host one that was never deployed to; the volume stays, as on a disk that was kept.
    fn forget(&self) {
        let ids: Vec<String> = self.containers().iter().map(|found| text(&found["Id"])).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert!(!ids.is_empty(), "{} is not deployed", self.stack);
        self.lanes.engine.docker(&[&["rm", "-f"], &*ids].concat()).succeeds();
        self.lanes.engine.docker(&["network", "rm", &format!("{}_default", self.stack)]).succeeds();
        super::scratch::unmount_below(&self.host.run_directory());
        for entry in fs::read_dir(self.host.state()).expect("it is ours").flatten() {
            // The clone has what is to be deployed.
            if entry.file_name() != "courier" {
                let path = entry.path();
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it is ours");
            }
        }
    }

    /// What people do behind moorline's back, by turns.
    fn damage(&mut self) {
        self.damages += 1;
        let (web, db) = (format!("{}-web-1", self.stack), format!("{}-db-1", self.stack));
        let (network, other) = (format!("{}_default", self.stack), format!("precious-{}", self.stack));
        let done: &[&str] = match self.damages % 6 {
            0 => &["kill", &db],
            1 => &["rm", "-f", &web],
            2 => &["rename", &db, &other],
            3 => &["pause", &db],
            4 => &["network", "disconnect", &network, &web],
            _ => {
                fs::write(self.host.stack(&self.stack).join("conf"), "by hand").expect("it is ours");
                &["kill", &web]
            }
        };
        self.lanes.engine.docker(done).succeeds();
        until("the damage is seen", || (self.host.moorline(&["plan", "--exit-code"]).code == Some(3)).then_some(()));
    }

    /// `moorline reconcile` below strace.
    pub fn traced(&self, options: &[&str], log: &Path) -> Ran {
        let moorline = self.host.command(&["reconcile"]);
        let mut strace = self.lanes.engine.scratch().command("strace");
        // Not the engine's mark, which the command carries: what a killed run leaves is the host's to clear.
        strace.env_clear().envs(moorline.get_envs().filter_map(|(name, value)| Some((name, value?))));
        strace.args(options).arg("-o").arg(log).arg(moorline.get_program()).args(moorline.get_args());
        strace.run()
    }

    /// A path for a log of this lane.
    pub fn log(&self, name: &str) -> PathBuf {
        self.lanes.engine.scratch().join(format!("{}-{name}", self.stack))
    }

    /// What stands in the journal: the step that was in flight.
    pub fn in_flight(&self) -> Option<Json> {
        serde_json::from_slice(&fs::read(self.host.state().join("journal.json")).ok()?).ok()
    }

    /// The step in flight, for people.
    pub fn in_flight_words(&self) -> String {
        self.in_flight().map_or_else(
            || "no step".to_owned(),
            |intent| {
                format!("{} {}{}", text(&intent["phase"]), text(&intent["step"]["action"]), intent["step"]["services"])
            },
        )
    }

    /// What must hold at once after a kill, before anybody has done anything about it.
    pub fn right_after(&self, before: &Before) -> Vec<String> {
        let mut broken = Broken::default();
        match self.anchor() {
            Ok(anchor) => broken.unless(anchor >= before.anchor, || "I1: the anchor went back".to_owned()),
            Err(why) => broken.0.push(format!("I1: the ledger cannot be read: {why}")),
        }
        let containers = self.containers();
        let of = |service: &str| containers.iter().filter(|found| service_of(found) == service).collect::<Vec<_>>();
        // Nothing that a deploy has yet to touch is touched, and what it has replaced works.
        let intent = self.in_flight().unwrap_or_default();
        let replaces = |service: &str| match intent["step"]["action"].as_str() {
            Some("up") => intent["step"]["services"].as_array().is_some_and(|all| all.contains(&service.into())),
            Some("up-whole" | "restart") => true,
            _ => false,
        };
        if matches!(before.change, Change::Version | Change::Secret | Change::Service) {
            for service in ["web", "db"].into_iter().filter(|service| !replaces(service)) {
                let found = of(service);
                let serves = found.len() == 1 && found[0]["State"]["Running"] == true;
                broken.unless(serves, || format!("I9: {service} does not serve although nobody replaces it"));
            }
        }
        for web in of("web").into_iter().filter(|web| web["State"]["Running"] == true) {
            let (message, conf) = (environment(web, "MESSAGE"), inside(web, "conf"));
            // Only if it still runs: else it has no files to look at.
            if before.change != Change::Drift && conf.is_some() {
                broken.unless(conf == message, || format!("I2: web runs {message:?} with the file of {conf:?}"));
            }
            let is_new = message == Some(self.wanted.version.to_string());
            if before.change == Change::Version && is_new {
                let db = of("db").first().and_then(|db| environment(db, "A"));
                broken.unless(db == message, || format!("I9: web was replaced before db: {db:?}"));
            }
        }
        broken.0
    }

    /// The next run brings what is desired, or what worked last; the one after it finds nothing to do.
    pub fn recovers(&self, before: &Before) -> Vec<String> {
        let mut broken = Broken::default();
        let interrupted = self.in_flight().is_some();
        let first = self.host.moorline(&["reconcile"]);
        self.is_at_rest(before, &first, &mut broken);
        let told = first.said().contains("after a kill in the middle");
        broken.unless(!interrupted || told, || format!("the journal was not read: {first}"));
        let ids = |lane: &Self| lane.containers().iter().map(|found| text(&found["Id"])).collect::<Vec<_>>();
        let (mut left, report) = (ids(self), self.last_run());
        broken.unless(report != before.run, || "no report was written".to_owned());
        let acted = |lane: &Self| lane.status()["last_run"]["outcomes"].as_array().is_none_or(|all| !all.is_empty());
        let mut second = self.host.moorline(&["reconcile"]);
        if before.change == Change::Broken && acted(self) {
            // On a slow machine the second try is due by now. It is the last one.
            self.is_at_rest(before, &second, &mut broken);
            (left, second) = (ids(self), self.host.moorline(&["reconcile"]));
        }
        broken.unless(!acted(self) && ids(self) == left, || format!("I4: a second run does something: {second}"));
        if before.change != Change::Broken {
            broken.unless(second.is_success(), || format!("I4: not converged: {second}"));
        }
        if !broken.0.is_empty() {
            broken.0.push(format!("the first run said: {first}"));
        }
        broken.0
    }

    /// Whether the host is where it should be, wholly.
    fn is_at_rest(&self, before: &Before, ran: &Ran, broken: &mut Broken) {
        let Wanted { version, secret, extra } = self.good;
        let expected = version.to_string();
        if before.change != Change::Broken {
            broken.unless(ran.is_success(), || "I4: the next run did not succeed".to_owned());
        }
        let anchor = self.anchor().ok().flatten();
        broken.unless(anchor == self.published.len().checked_sub(1), || format!("I1: the anchor is {anchor:?}"));
        let containers = self.containers();
        let found: BTreeMap<String, (String, bool)> = containers
            .iter()
            .map(|found| (text(&found["Name"]), (service_of(found), found["State"]["Running"] == true)))
            .collect();
        let services = ["web", "db", "extra"].into_iter().filter(|service| extra || *service != "extra");
        let name = |service: &str| format!("/{}-{service}-1", self.stack);
        let wanted = services.map(|service| (name(service), (service.to_owned(), true))).collect();
        broken.unless(found == wanted && containers.len() == wanted.len(), || format!("I4: containers: {found:?}"));
        for container in &containers {
            match service_of(container).as_str() {
                "web" => {
                    let image = text(&container["Config"]["Image"]);
                    let known = [
                        ("image", Some(image), format!("lab/web:{}", 1 + version % 2)),
                        ("environment", environment(container, "MESSAGE"), expected.clone()),
                        ("page", inside(container, "www/message"), expected.clone()),
                        ("file", inside(container, "conf"), expected.clone()),
                        ("secret", inside(container, "run/secrets/token"), CANARIES[secret].to_owned()),
                        ("volume", inside(container, "data/kept"), "kept".to_owned()),
                    ];
                    for (what, found, wanted) in known {
                        broken
                            .unless(found.as_ref() == Some(&wanted), || format!("I2: {what}: {found:?}, not {wanted}"));
                    }
                }
                "db" => {
                    let found = environment(container, "A");
                    broken.unless(found.as_ref() == Some(&expected), || format!("I2: db is of {found:?}"));
                }
                _ => {}
            }
        }
        let directory = self.host.stack(&self.stack);
        let compose = fs::read_to_string(directory.join("compose.yaml")).unwrap_or_default();
        let conf = fs::read_to_string(directory.join("conf")).unwrap_or_default();
        broken.unless(compose.contains(&format!("MESSAGE: '{expected}'")) && conf == expected, || {
            format!("I5: files of another version than {expected}")
        });
        // What lies in the state itself has one name each, which the next write takes.
        let below = fs::read_dir(self.host.state()).into_iter().flatten().flatten().map(|entry| entry.path());
        let unfinished: Vec<PathBuf> =
            below.chain([self.host.run_directory()]).flat_map(|directory| unfinished(&directory)).collect();
        broken.unless(unfinished.is_empty(), || format!("I5: left over: {unfinished:?}"));
        let kept = fs::read_to_string(self.volume().join("kept")).unwrap_or_default();
        broken.unless(kept == "kept", || "I6: the volume".to_owned());
        let disks = [self.host.state(), self.lanes.engine.data_root.join("containers")];
        let hits = search_for_canary(&disks, &CANARIES);
        broken.unless(hits.is_empty(), || format!("I7: {hits:?}"));
        broken.unless(self.in_flight().is_none(), || "the journal is not empty".to_owned());
        broken.unless(self.lanes.has_foreign(), || "a foreign container was touched".to_owned());
        let failures = &self.ledger()["failures"][&self.stack];
        let begun = failures["begun"].as_u64().unwrap_or(0);
        broken.unless(begun <= 2, || format!("I8: begun {begun} times"));
    }

    /// How often something was tried and hindered, and how often it came to a verdict, as the ledger has it.
    pub fn failures(&self) -> (u64, u64) {
        let failure = &self.ledger()["failures"][&self.stack];
        (failure["hindered"].as_u64().unwrap_or(0), failure["failed"].as_u64().unwrap_or(0))
    }

    fn ledger(&self) -> Json {
        let bytes = fs::read(self.host.state().join("ledger.json")).expect("a run has written it");
        let mut found: Json = serde_json::from_slice(&bytes).expect("a run has left it whole");
        let ledger = found["ledger"].take();
        assert!(ledger["anchor"].is_object(), "not a ledger: {ledger}");
        ledger
    }

    /// `moorline status --json`; nothing if it has nothing to say.
    pub fn status(&self) -> Json {
        serde_json::from_str(&self.host.moorline(&["status", "--json"]).stdout).unwrap_or_default()
    }

    fn last_run(&self) -> String {
        text(&self.status()["last_run"]["run"])
    }

    /// How far the anchor has come, counted in revisions.
    fn anchor(&self) -> Result<Option<usize>, String> {
        let ran = self.host.moorline(&["status", "--json"]);
        let status: Json = serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {ran}"))?;
        match status["anchor"]["revision"].as_str() {
            None => Ok(None),
            Some(revision) => match self.published.iter().position(|published| published == revision) {
                Some(position) => Ok(Some(position)),
                None => Err(format!("{revision} was never published")),
            },
        }
    }

    fn volume(&self) -> PathBuf {
        self.lanes.engine.data_root.join("volumes").join(format!("{}_data", self.stack)).join("_data")
    }

    /// Every container of the stack, as the engine shows it.
    fn containers(&self) -> Vec<Json> {
        let listed = self.lanes.engine.ask("/containers/json?all=1").unwrap_or_default();
        let ours = listed.as_array().into_iter().flatten();
        let ours = ours.filter(|found| found["Labels"]["com.docker.compose.project"] == self.stack.as_str());
        ours.filter_map(|found| self.lanes.engine.ask(&format!("/containers/{}/json", text(&found["Id"])))).collect()
    }
}

#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn service_of(container: &Json) -> String {
    text(&container["Config"]["Labels"]["com.docker.compose.service"])
}

fn environment(container: &Json, name: &str) -> Option<String> {
    let all = container["Config"]["Env"].as_array()?;
    all.iter()
        .filter_map(|line| line.as_str()?.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// A file as a running container sees it, without starting anything in it.
fn inside(container: &Json, path: &str) -> Option<String> {
    let pid = container["State"]["Pid"].as_u64().filter(|pid| *pid > 0)?;
    fs::read_to_string(format!("/proc/{pid}/root/{path}")).ok().map(|text| text.trim_end().to_owned())
}

fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(unfinished(&path));
        } else if entry.file_name().to_string_lossy().ends_with(".moorline-new") && !path.with_extension("").exists() {
            // One beside a finished file is taken by the next write of that file.
            found.push(path);
        }
    }
    found
}
