//! Five hosts with systemd, engines of their own and the units that we ship: releases go from canary to production by
//! merges, and a bad one ends at canary.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value as Json;
use support::{
    Engine, Fleet, GitServer, Host, Image, Mood, PushServer, Ran, Run as _, Signer, Signing, Status, Vps, moor,
    search_for_canary, until,
};

const CANARY: &str = "alpha";
const PRODUCTION: [&str; 4] = ["bravo", "charlie", "delta", "echo"];
const IMAGES: [&str; 4] = ["lab/app:1", "lab/app:2", "lab/app:3", "lab/app:4"];
/// Stands in what every host runs, so a search that does not find it has not searched.
const IN_CLEAR: &str = "stands-in-the-repository-6c1f";

/// Everything that the five hosts talk to, and the operator's checkout.
struct Lab {
    push: PushServer,
    server: GitServer,
    fleet: Fleet,
    alice: Signer,
    hosts: BTreeMap<&'static str, Host>,
    engine: Arc<Engine>,
}

/// The container of a host: its id and its image.
type Container = (String, String);

fn names() -> impl Iterator<Item = &'static str> {
    [CANARY].into_iter().chain(PRODUCTION)
}

/// What only this host may know: the token of its stack, and that of its monitor.
fn secrets(name: &str) -> [String; 2] {
    [format!("canary-token-of-{name}-40d7"), format!("canary-push-of-{name}-b2e9")]
}

fn stack(image: &str) -> String {
    format!(
        "# {IN_CLEAR}\nservices:\n  app:\n    image: {image}\n    restart: unless-stopped\n    stop_grace_period: 1s\n    secrets: [token]\n\
         secrets:\n  token: {{ environment: TOKEN }}\nx-moorline: {{ deploy: {{ health_timeout: 20s }} }}\n"
    )
}

impl Lab {
    fn new() -> Self {
        let engine = Arc::new(Engine::start());
        for image in IMAGES {
            let idle = Image::idle();
            engine.image(image, &if image == "lab/app:3" { idle.unhealthy() } else { idle.healthy() });
        }
        let server = GitServer::ssh();
        let push = PushServer::beside(&engine);
        let alice = Signer::new("alice");
        let fleet = Fleet::new(&server.repository("fleet.git"));
        let host = |name| (name, Host::new(name, &engine, &server, "fleet.git", &[&alice]));
        let hosts: BTreeMap<_, _> = names().map(host).collect();
        fleet.allow(&[&alice]);
        fleet.write("rings/canary.yaml", "follow: main\n");
        fleet.write("stacks/app/compose.yaml", stack(IMAGES[0]));
        for (name, host) in &hosts {
            let ring = if *name == CANARY { "canary" } else { "production" };
            fleet.write(
                &format!("hosts/{name}/host.yaml"),
                format!("ring: {ring}\nstacks: [app]\nmonitors: {{ reconcile: KUMA }}\n"),
            );
            fleet.write(&format!("hosts/{name}/recipient"), &host.recipient);
            let [token, monitor] = secrets(name);
            let url = push.monitor(&monitor);
            let sealed = host.seal(&format!("all:\n  KUMA: {url}\napp:\n  TOKEN: {token}\n"));
            fleet.write(&format!("hosts/{name}/secrets.sops.yaml"), sealed);
        }
        Self { push, server, fleet, alice, hosts, engine }
    }

    /// Boots all hosts at the same time.
    fn boot<'engine>(&self, engine: &'engine Engine) -> BTreeMap<&'static str, Vps<'engine>> {
        std::thread::scope(|scope| {
            let boot = |name: &'static str| {
                move || {
                    let vps = Vps::boot(engine, "trixie", name);
                    vps.load(&IMAGES);
                    (name, vps)
                }
            };
            let booting: Vec<_> = names().map(|name| scope.spawn(boot(name))).collect();
            booting.into_iter().map(|host| host.join().expect("it boots")).collect()
        })
    }

    fn publish(&mut self, message: &str) -> String {
        let revision = self.fleet.commit(Signing::By(&self.alice), message);
        self.fleet.push();
        revision
    }

    /// A release as the team makes one: a branch, and its merge into what canary follows.
    fn merge_release(&mut self, branch: &str, image: &str) -> String {
        self.fleet.branch(branch).write("stacks/app/compose.yaml", stack(image));
        self.fleet.commit(Signing::By(&self.alice), branch);
        self.fleet.checkout("main");
        self.merge(branch)
    }

    fn merge(&mut self, branch: &str) -> String {
        let revision = self.fleet.merge(Signing::By(&self.alice), branch);
        self.fleet.push();
        revision
    }

    /// `moorline ...` in the operator's checkout, where the status page of canary can be reached.
    fn operator(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(support::tools::tool("nsenter"));
        command.arg(format!("--net=/run/netns/{}", self.engine.netns)).arg(env!("CARGO_BIN_EXE_moorline"));
        command.args(arguments).current_dir(self.fleet.path());
        command.env_clear().env("PATH", support::tools::search_path()).env("HOME", self.fleet.path());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", self.git_config());
        command.run()
    }

    fn git_config(&self) -> PathBuf {
        let key = self.alice.private_key();
        let text = format!(
            "[user]\nname = alice\nemail = alice@example.org\nsigningKey = {}\n[gpg]\nformat = ssh\n",
            key.display()
        );
        self.engine.scratch().write("operator.gitconfig", text)
    }

    /// Promotes what canary has proven, and merges that.
    fn promote(&mut self, revision: &str) {
        until("canary has proven it", || {
            self.operator(&["promote", "production", "--check"]).is_success().then_some(())
        });
        self.operator(&["promote", "production", revision]).succeeds();
        self.merge(&format!("promote-production-{}", &revision[..8]));
    }

    /// What Kuma heard of a host.
    fn beats(&self, name: &str) -> Vec<(Status, String)> {
        let beats = self.push.beats(&secrets(name)[1]);
        beats.into_iter().map(|beat| (beat.status, beat.msg)).collect()
    }

    /// No host was heard to be in trouble, but these.
    #[track_caller]
    fn nobody_was_down_but(&self, troubled: &[&str]) {
        for name in names() {
            let heard = || Some(self.beats(name)).filter(|beats| !beats.is_empty());
            let beats = until(&format!("Kuma hears of {name}"), heard);
            let is_down = beats.iter().any(|(status, _)| *status != Status::Up);
            assert_eq!(is_down, troubled.contains(&name), "{name}: {beats:?}");
        }
    }
}

fn status(vps: &Vps<'_>) -> Json {
    serde_json::from_str(&vps.exec(&["moorline", "status", "--json"]).succeeds()).expect("status prints JSON")
}

fn container(vps: &Vps<'_>) -> Option<Container> {
    let ran = vps.docker(&["inspect", "--format", "{{.Id}} {{.Config.Image}}", "app-app-1"]);
    let (id, image) = ran.stdout.trim().split_once(' ')?;
    Some((id.to_owned(), image.to_owned()))
}

/// Waits until a host runs this image, and its run has ended well.
#[track_caller]
fn runs(vps: &Vps<'_>, image: &str) -> Container {
    until(&format!("it runs {image}"), || {
        let found = container(vps).filter(|(_, found)| found == image)?;
        (status(vps)["last_run"]["end"] == "converged").then_some(found)
    })
}

/// Waits until all these hosts have accepted the tip and looked at it; returns what they run.
#[track_caller]
fn have_seen(vpses: &BTreeMap<&str, Vps<'_>>, names: &[&'static str], tip: &str) -> BTreeMap<&'static str, Container> {
    let seen = |name: &&'static str| {
        until(&format!("{name} has seen {}", &tip[..8]), || {
            let status = status(&vpses[name]);
            (status["anchor"]["revision"] == tip && status["last_run"]["tip"] == tip).then_some(())
        });
        (*name, container(&vpses[name]).expect("it runs"))
    };
    names.iter().map(seen).collect()
}

#[test]
fn releases_go_from_canary_to_production_by_merges_and_a_bad_one_ends_at_canary() {
    let began = Instant::now();
    let told = |what: &str| println!("{:>6.1} s  {what}", began.elapsed().as_secs_f32());
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let vpses = lab.boot(&engine);
    told("five hosts have booted");

    let address = engine.inspect(CANARY)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
    let page = format!("{}:9464", address.as_str().expect("it has one"));
    lab.fleet.write(
        "moorline.yaml",
        format!(
            "version: 1\npromotion:\n  order: [canary, production]\n  soak: 1s\n  \
             status: {{ {CANARY}: 'http://{page}/status.json' }}\n"
        ),
    );
    lab.fleet.write("rings/production.yaml", "follow: main\n");
    let first = lab.publish("first");
    let waves = "waves: [{ percent: 25, after: 0s }, { percent: 100, after: 6s }]";
    lab.fleet.write("rings/production.yaml", format!("ring: production\ncommit: {first}\n{waves}\n"));
    lab.publish("production names its release");
    let door = lab.server.door(&engine);
    std::thread::scope(|scope| {
        for (name, vps) in &vpses {
            let (host, door, server, page) = (&lab.hosts[name], &door, &lab.server, &page);
            scope.spawn(move || {
                let served = if *name == CANARY { format!("\n[status]\nlisten = \"{page}\"\n") } else { String::new() };
                moor(vps, host, (server, door), "poll = \"1s\"\ninterval = \"3s\"", &served);
                runs(vps, IMAGES[0]);
            });
        }
    });
    lab.nobody_was_down_but(&[]);
    told("five hosts have converged");

    // A merge: canary takes it, and the others have seen it and stay.
    let ones = have_seen(&vpses, &PRODUCTION, &lab.fleet.revision("HEAD"));
    let second = lab.merge_release("release-2", IMAGES[1]);
    runs(&vpses[CANARY], IMAGES[1]);
    assert_eq!(have_seen(&vpses, &PRODUCTION, &second), ones, "only canary changes");
    told("canary runs release 2");

    // Another merge: the four follow, the first of them ahead of the others.
    lab.promote(&second);
    let twos: BTreeMap<_, _> = PRODUCTION.map(|name| (name, runs(&vpses[name], IMAGES[1]))).into();
    let waited = |name: &&str| lab.beats(name).iter().any(|(_, text)| text.contains("waits for wave 2 of 2"));
    let waiting: Vec<&str> = PRODUCTION.into_iter().filter(waited).collect();
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    lab.nobody_was_down_but(&[]);
    told("production runs release 2");

    // A bad release: canary goes back and says so, and nobody else ever runs it.
    let third = lab.merge_release("release-3", IMAGES[2]);
    until("Kuma hears of it", || {
        let beats = lab.beats(CANARY);
        beats.iter().find(|(status, text)| *status == Status::Down && text.contains("app rolled back to")).cloned()
    });
    assert_eq!(container(&vpses[CANARY]).unwrap().1, IMAGES[1], "the last good release serves");
    assert_eq!(have_seen(&vpses, &PRODUCTION, &third), twos);
    let branches = lab.fleet.git(&["branch", "--list"]).succeeds();
    for more in [&["--check"][..], &[]] {
        let refused = lab.operator(&[&["promote", "production"], more].concat());
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(refused.stderr.contains("error[promotion-refused]"), "{refused}");
        assert!(refused.stderr.contains(&format!("{CANARY} is not well now: ")), "{refused}");
    }
    assert_eq!(lab.fleet.git(&["branch", "--list"]).succeeds(), branches, "nothing was written");
    lab.nobody_was_down_but(&[CANARY]);
    told("release 3 was stopped at canary");

    // It is mended, and everything goes its way again.
    let fourth = lab.merge_release("release-4", IMAGES[3]);
    runs(&vpses[CANARY], IMAGES[3]);
    until("Kuma hears that canary is well", || {
        lab.beats(CANARY).last().is_some_and(|(status, _)| *status == Status::Up).then_some(())
    });
    assert_eq!(have_seen(&vpses, &PRODUCTION, &fourth), twos, "they wait for the promotion");
    lab.promote(&fourth);
    for name in PRODUCTION {
        runs(&vpses[name], IMAGES[3]);
    }
    lab.nobody_was_down_but(&[CANARY]);
    told("production runs release 4");

    for (name, vps) in &vpses {
        knows_only_its_own(name, vps);
        assert_eq!(vps.failed_units(), "", "{name}");
        let bad = vps.exec(&["grep", "-rlF", IMAGES[2], "/var/lib/moorline/runs"]);
        assert_eq!(bad.is_success(), *name == CANARY, "{name} planned the bad release: {bad}");
    }
    assert!(lab.push.requests().iter().all(|line| line.starts_with("GET /api/push/canary-push-of-")));
    told("no host knows another's secrets");
}

/// Its own secrets are in its memory, those of others nowhere; on its disk there are none at all.
#[track_caller]
fn knows_only_its_own(name: &str, vps: &Vps<'_>) {
    let own = secrets(name);
    let others: Vec<String> = names().filter(|other| *other != name).flat_map(secrets).collect();
    let inside = vps.docker(&["exec", "app-app-1", "cat", "/run/secrets/token"]).succeeds();
    assert_eq!(inside, own[0]);
    let in_memory = |needle: &str| vps.exec(&["grep", "-rqF", needle, "/run", "/tmp", "/dev/shm"]).is_success();
    assert!(own.iter().all(|needle| in_memory(needle)), "{name}");
    assert!(!others.iter().any(|needle| in_memory(needle)), "{name}");
    assert!(!search_for_canary(&vps.disk(), &[IN_CLEAR]).is_empty(), "{:?} is not the disk", vps.disk());
    let hits = search_for_canary(&vps.disk(), &[&own[..], &others].concat());
    assert!(hits.is_empty(), "{name}: {hits:#?}");
}

const BACKUP_PASSWORD: &str = "canary-backup-password-77d0";

/// What the doctor says: each finding by its check, and the whole of it.
struct Said {
    code: Option<i32>,
    text: String,
    findings: Vec<Json>,
}

impl Said {
    #[track_caller]
    fn by(vps: &Vps<'_>, as_whom: &[&str]) -> Self {
        let json = vps.exec(&[as_whom, &["moorline", "doctor", "--json"]].concat());
        let whole: Json = serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!((&whole["version"], json.stderr.as_str()), (&2.into(), ""));
        let findings = whole["findings"].as_array().unwrap().clone();
        let said = Self { code: json.code, text: json.stdout, findings };
        for check in moorline::decide::doctor::Check::ALL {
            assert!(said.findings.iter().any(|finding| finding["check"] == check.name()), "{}\n{said}", check.name());
        }
        for secret in [BACKUP_PASSWORD, &secrets(CANARY)[0], &secrets(CANARY)[1], "AGE-SECRET-KEY"] {
            assert!(!said.text.contains(secret), "{said}");
        }
        said
    }

    fn of(&self, diagnosis: &str) -> Vec<&str> {
        let found = self.findings.iter().filter(|finding| finding["diagnosis"] == diagnosis);
        found.filter_map(|finding| finding["check"].as_str()).collect()
    }

    /// A finding of this check has this diagnosis, and its fix says this.
    #[track_caller]
    fn has(&self, check: &str, diagnosis: &str, fix: &str) {
        let fits = |finding: &&Json| {
            finding["check"] == check
                && finding["diagnosis"] == diagnosis
                && finding["fix"].as_str().unwrap_or_default().contains(fix)
        };
        assert!(self.findings.iter().any(|finding| fits(&finding)), "{check}, {diagnosis}, {fix}:\n{self}");
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[test]
fn the_doctor_names_everything_that_is_wrong_with_a_host_and_what_to_type() {
    let mut lab = Lab::new();
    let engine = lab.engine.clone();
    let vps = Vps::boot(&engine, "trixie", CANARY);
    vps.load(&IMAGES[..1]);

    // A host that nobody set up yet.
    let said = Said::by(&vps, &[]);
    assert_eq!(said.code, Some(1));
    said.has("settings", "broken", "docs/agent.toml.md");
    said.has("units", "broken", "install the package again");
    said.has("age key", "broken", "moorline key generate");
    assert!(said.of("unseen").contains(&"git server"), "{said}");

    lab.fleet.write("moorline.yaml", "version: 1\n").write("rings/production.yaml", "follow: main\n");
    lab.fleet.write(
        "hosts/alpha/host.yaml",
        "ring: canary\nstacks: [app]\nmonitors: { reconcile: KUMA }\n\
         backup: { repository: /srv/backup, at: \"03:00\", check: never, drill: never }\n",
    );
    let url = lab.push.monitor(&secrets(CANARY)[1]);
    let sealed =
        format!("all:\n  KUMA: {url}\n  BACKUP_PASSWORD: {BACKUP_PASSWORD}\napp:\n  TOKEN: {}\n", secrets(CANARY)[0]);
    // Its files are merged, and nobody let it in yet.
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", lab.hosts["bravo"].seal(&sealed));
    let recipient = lab.hosts[CANARY].recipient.clone();
    std::fs::remove_file(lab.fleet.path().join("hosts/alpha/recipient")).expect("the lab wrote it");
    lab.publish("alpha comes");
    let door = lab.server.door(&engine);
    moor(&vps, &lab.hosts[CANARY], (&lab.server, &door), "poll = \"1s\"", "");
    until("it waits", || (status(&vps)["last_run"]["end"] == "awaiting-enrolment").then_some(()));
    let said = Said::by(&vps, &[]);
    said.has("last run", "broken", "moorline host enroll");
    said.has("enrolment", "broken", &format!("`moorline host enroll alpha {recipient}`"));
    said.has("secrets", "broken", "sops updatekeys");
    lab.fleet.write("hosts/alpha/recipient", &recipient);
    lab.fleet.write("hosts/alpha/secrets.sops.yaml", lab.hosts[CANARY].seal(&sealed));
    lab.publish("alpha is let in");
    runs(&vps, IMAGES[0]);
    vps.exec(&["moorline", "backup", "--init"]).succeeds();

    let said = Said::by(&vps, &[]);
    assert_eq!((said.code, said.of("broken")), (Some(0), Vec::new()), "{said}");
    said.has("engine settings", "weak", "live-restore");
    let person = vps.exec(&["moorline", "doctor"]).succeeds();
    assert!(person.contains("\nok    backups          main: opened, 1 snapshots\n"), "{person}");
    // Whoever is not root sees less, and raises no alarm.
    let said = Said::by(&vps, &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    assert_eq!((said.code, said.of("broken")), (Some(0), Vec::new()), "{said}");
    assert!(said.of("unseen").len() > 10 && said.text.contains("cannot be seen without root"), "{said}");

    // Everything at once.
    vps.systemctl(&["stop", "moorline.service", "moorline-courier.service"]);
    vps.systemctl(&["disable", "--now", "moorline-backup.timer"]);
    let drop_in = "/etc/systemd/system/moorline-courier.service.d/mine.conf";
    vps.write(drop_in, "0644", "[Service]\nNoNewPrivileges=no\n");
    vps.systemctl(&["daemon-reload"]);
    vps.write("/usr/bin/tailscale", "0755", "#!/bin/sh\necho '{\"BackendState\":\"NeedsLogin\"}'\n");
    vps.write("/etc/moorline/ssh/known_hosts", "0644", "");
    vps.write("/etc/moorline/allowed_signers", "0644", "nonsense\n");
    for (mode, path) in [("0644", "/etc/moorline/ssh/deploy_key"), ("0777", "/run/moorline")] {
        vps.exec(&["chmod", mode, path]).succeeds();
    }
    vps.exec(&["mv", "/srv/backup", "/srv/elsewhere"]).succeeds();
    vps.exec(&["/usr/sbin/sshd", "-p", "80"]).succeeds();
    vps.exec(&["moorline", "hold", "--for", "1h", "--reason", "looking"]).succeeds();
    lab.push.behave(Mood::HangsUp);
    let look = ["find", "/etc/moorline", "/var/lib/moorline", "/srv", "-type", "f", "-printf", "%p %s %C@\n"];
    let before = vps.exec(&look).succeeds();
    let said = Said::by(&vps, &[]);
    assert_eq!(said.code, Some(1));
    for (check, diagnosis, fix) in [
        ("agent", "broken", "`systemctl enable --now moorline-courier moorline`"),
        ("units", "broken", "`systemctl start moorline.service`"),
        ("units", "broken", "`systemctl enable --now moorline-backup.timer`"),
        ("units", "weak", "`systemctl revert moorline-courier.service`"),
        ("hold", "weak", "`moorline release`"),
        ("deploy key", "broken", "`chmod 0600 /etc/moorline/ssh/deploy_key`"),
        ("known hosts", "broken", "`ssh-keyscan -p 2222 10.201.0.1 >> /etc/moorline/ssh/known_hosts`"),
        ("git server", "broken", ""),
        ("allowed signers", "broken", "`man ssh-keygen`"),
        ("memory", "broken", "`chmod 0755 /run/moorline`"),
        ("ports", "weak", "`ss -ltnp 'sport = :80'`"),
        ("tailnet", "broken", "`tailscale up --ssh`"),
        ("monitors", "broken", "push URL"),
        ("backups", "broken", "`moorline backup --init`"),
    ] {
        said.has(check, diagnosis, fix);
    }
    assert_eq!(vps.exec(&look).succeeds(), before, "a look changes nothing");

    // What hides other things: no key, no engine, a settings file with a mistake.
    vps.exec(&["chmod", "0644", "/etc/moorline/age.key"]).succeeds();
    // It hears everything, and says nothing.
    vps.systemctl(&["kill", "--signal=STOP", "docker.service"]);
    let said = Said::by(&vps, &[]);
    said.has("age key", "broken", "chmod");
    said.has("secrets", "broken", "");
    said.has("engine", "broken", "systemctl status docker");
    assert!(said.of("unseen").contains(&"backups"), "{said}");
    vps.write("/etc/moorline/agent.toml", "0644", "hots = \"alpha\"\n");
    Said::by(&vps, &[]).has("settings", "broken", "docs/agent.toml.md");
}
