//! The courier against real git servers and a push endpoint that behaves like Kuma's.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use moorline::decide::fault::{Code, Fault};
use moorline::decide::push::{self, Message};
use moorline::model::settings::MemoryPolicy;
use moorline::model::{Secret, Settings};
use moorline::runs::courier::courier;
use moorline::world::fetch::{Fetch, report_damage};
use moorline::world::journal::{Audience, Journal};
use moorline::world::refs::tip;
use moorline::world::{Fetched, Real, World as _, kuma};
use support::http::{Reaction, Response, Server};
use support::{Fleet, GitServer, Mood, PushServer, Scratch, Signing, Status};

/// A host that follows `fleet.git` on a server.
struct Host {
    settings: Settings,
    scratch: Scratch,
}

impl Host {
    fn of(server: &GitServer) -> Self {
        let scratch = Scratch::new();
        let settings = Settings {
            host: "alpha".into(),
            remote: server.url("fleet.git"),
            branch: "main".into(),
            first: None,
            poll: Duration::from_secs(60),
            interval: Duration::from_secs(60),
            deploy_key: Some(server.deploy_key()),
            known_hosts: server.known_hosts(),
            token_file: None,
            allowed_signers: scratch.join("allowed_signers"),
            age_key: scratch.join("age.key"),
            socket: "/var/run/docker.sock".into(),
            compose: None,
            pull_timeout: Duration::from_secs(60),
            status: None,
            state: scratch.join("state"),
            run: scratch.join("run"),
            timer: None,
            memory: MemoryPolicy::AllowTmpfs,
        };
        Self { settings, scratch }
    }

    fn courier(&self) -> Fetch {
        Fetch::new(&self.settings).unwrap()
    }

    fn repository(&self, path: &str) -> std::path::PathBuf {
        self.settings.repository().join(path)
    }

    /// Gives the courier a token in a file that only it can read.
    fn with_token(mut self, token: &str) -> Self {
        let file = self.scratch.write("token", format!("{token}\n"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        self.settings.token_file = Some(file);
        self
    }
}

/// A server with one commit, and the clone to make more.
fn served(server: &GitServer) -> (Fleet, String) {
    let mut fleet = Fleet::new(&server.repository("fleet.git"));
    let revision = commit(&mut fleet, "one");
    (fleet, revision)
}

fn commit(fleet: &mut Fleet, content: &str) -> String {
    fleet.write("file", content);
    let revision = fleet.commit(Signing::Unsigned, content);
    fleet.push();
    revision
}

fn moved(revision: &str) -> Result<Fetched, Fault> {
    Ok(Fetched::Moved(revision.parse().unwrap()))
}

/// Every file of the repository, to see that nothing was left behind.
fn leftovers(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(leftovers(&entry.path()));
        } else if name.ends_with(".lock") || name.starts_with("tmp_") || name.ends_with(".keep") {
            found.push(name);
        }
    }
    found
}

#[tokio::test]
async fn over_ssh_the_first_fetch_clones_and_the_next_ones_follow() {
    let server = GitServer::ssh();
    let (mut fleet, one) = served(&server);
    let host = Host::of(&server);
    let courier = host.courier();
    assert_eq!(courier.run().await, moved(&one));
    assert_eq!(courier.run().await, Ok(Fetched::Unchanged));
    let two = commit(&mut fleet, "two");
    assert_eq!(courier.run().await, moved(&two));
    assert_eq!(tip(&host.settings.repository(), "main").unwrap().unwrap().as_str(), two);
    // Nothing but the followed branch, and no file that git would run or believe.
    assert!(!host.repository("FETCH_HEAD").exists() && !host.repository("hooks").exists());
}

#[tokio::test]
async fn history_that_was_rewritten_is_seen_as_moved_for_the_keeper_to_judge() {
    let server = GitServer::http(None);
    let (mut fleet, one) = served(&server);
    let two = commit(&mut fleet, "two");
    let host = Host::of(&server);
    let courier = host.courier();
    assert_eq!(courier.run().await, moved(&two));
    fleet.reset(&one).force_push();
    assert_eq!(courier.run().await, moved(&one));
}

#[tokio::test]
async fn other_branches_and_tags_are_not_fetched() {
    let server = GitServer::http(None);
    let (mut fleet, one) = served(&server);
    fleet.git(&["tag", "v1"]).succeeds();
    fleet.git(&["push", "--quiet", "origin", "v1"]).succeeds();
    fleet.branch("other");
    commit(&mut fleet, "other");
    let host = Host::of(&server);
    assert_eq!(host.courier().run().await, moved(&one));
    let heads: Vec<_> = fs::read_dir(host.repository("refs/heads")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(heads, ["main"]);
    assert_eq!(fs::read_dir(host.repository("refs/tags")).unwrap().count(), 0);
}

#[tokio::test]
async fn another_host_key_is_refused_and_nothing_is_fetched() {
    let server = GitServer::ssh();
    let _fleet = served(&server);
    let host = Host::of(&server);
    server.change_host_key();
    let fault = host.courier().run().await.unwrap_err();
    assert_eq!(fault.code, Code::FetchRefused);
    assert_eq!(fault.sentence, "127.0.0.1 showed another host key than the pinned one");
    assert!(fault.because[0].starts_with("it showed SHA256:"), "{fault}");
    assert!(!host.settings.repository().exists() && !host.settings.repository().with_extension("git.new").exists());
    // And back, once a person has pinned the new one.
    server.write_known_hosts();
    assert!(host.courier().run().await.is_ok());
}

#[tokio::test]
async fn a_server_that_nobody_pinned_is_refused() {
    let server = GitServer::ssh();
    let _fleet = served(&server);
    let mut host = Host::of(&server);
    host.settings.known_hosts = host.scratch.write("known_hosts", "");
    let fault = host.courier().run().await.unwrap_err();
    assert_eq!((fault.code, &*fault.sentence), (Code::FetchRefused, "no host key of 127.0.0.1 is pinned"));
    host.settings.known_hosts = host.scratch.join("missing");
    let fault = host.courier().run().await.unwrap_err();
    assert_eq!(fault.code, Code::FetchRefused);
    assert!(fault.hint.unwrap().starts_with("`ssh-keyscan 127.0.0.1 > "));
}

#[tokio::test]
async fn a_key_that_is_not_registered_is_refused() {
    let server = GitServer::ssh();
    let _fleet = served(&server);
    let mut host = Host::of(&server);
    let stranger = support::Signer::new("stranger");
    host.settings.deploy_key = Some(stranger.private_key());
    let fault = host.courier().run().await.unwrap_err();
    assert_eq!((fault.code, &*fault.sentence), (Code::FetchRefused, "127.0.0.1 refused the deploy key"));
    assert!(fault.because[0].contains("Permission denied (publickey"), "{fault}");
}

#[tokio::test]
async fn the_right_token_fetches_and_a_wrong_one_or_none_is_refused() {
    let server = GitServer::http(Some("s3cr3t-t0ken"));
    let (_fleet, one) = served(&server);
    assert_eq!(Host::of(&server).with_token("s3cr3t-t0ken").courier().run().await, moved(&one));
    assert_eq!(Host::of(&server).with_token("anybody:s3cr3t-t0ken").courier().run().await, moved(&one));
    for host in [Host::of(&server), Host::of(&server).with_token("wr0ng-t0ken")] {
        let fault = host.courier().run().await.unwrap_err();
        assert_eq!(fault.code, Code::FetchRefused);
        assert_eq!(fault.sentence, "127.0.0.1 refused the token, or wants one");
        assert!(!format!("{fault:?}").contains("wr0ng-t0ken"), "{fault}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_the_next_runs_business() {
    for server in [GitServer::ssh(), GitServer::http(None)] {
        let (_fleet, one) = served(&server);
        let host = Host::of(&server);
        let courier = host.courier();
        server.go_away();
        let fault = courier.run().await.unwrap_err();
        assert_eq!((fault.code, &*fault.sentence), (Code::FetchFailed, "127.0.0.1 could not be asked"), "{fault}");
        server.come_back();
        assert_eq!(courier.run().await, moved(&one));
        server.go_away();
        assert_eq!(courier.run().await.unwrap_err().code, Code::FetchFailed);
    }
}

#[tokio::test]
async fn a_repository_or_branch_that_is_not_there_is_a_persons_business() {
    for server in [GitServer::ssh(), GitServer::http(None)] {
        served(&server);
        let mut host = Host::of(&server);
        host.settings.branch = "production".into();
        let fault = host.courier().run().await.unwrap_err();
        assert_eq!((fault.code, &*fault.sentence), (Code::FetchRefused, "the repository has no branch `production`"));
        host.settings.remote = server.url("nowhere.git");
        let fault = host.courier().run().await.unwrap_err();
        assert_eq!(fault.code, Code::FetchRefused, "{fault}");
        assert!(fault.sentence.contains("has no repository at this address"), "{fault}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = GitServer::http(None);
    let _fleet = served(&server);
    let target = server.url("fleet.git");
    let elsewhere = Server::start(move |request| {
        let rest = request.target.trim_start_matches("/fleet.git");
        Reaction::Answer(Response::new(301, "text/plain", "").header("Location", &format!("{target}{rest}")))
    });
    let mut host = Host::of(&server);
    host.settings.remote = format!("{}/fleet.git", elsewhere.url());
    let fault = host.courier().run().await.unwrap_err();
    assert_eq!((fault.code, &*fault.sentence), (Code::FetchRefused, "127.0.0.1 says that the repository has moved"));
}

#[tokio::test]
async fn locks_and_halves_that_a_killed_git_left_are_removed() {
    let server = GitServer::http(None);
    let (mut fleet, one) = served(&server);
    let host = Host::of(&server);
    assert_eq!(host.courier().run().await, moved(&one));
    let two = commit(&mut fleet, "two");
    for path in ["refs/heads/main.lock", "packed-refs.lock", "objects/pack/tmp_pack_abc", "objects/pack/pack-1.keep"] {
        fs::write(host.repository(path), "").unwrap();
    }
    // The next courier: what lies there was there before it.
    assert_eq!(host.courier().run().await, moved(&two));
    assert_eq!(leftovers(&host.settings.repository()), [""; 0]);
}

#[tokio::test]
async fn a_lock_that_appears_while_the_courier_lives_costs_one_poll() {
    let server = GitServer::http(None);
    let (mut fleet, one) = served(&server);
    let host = Host::of(&server);
    let courier = host.courier();
    assert_eq!(courier.run().await, moved(&one));
    let two = commit(&mut fleet, "two");
    fs::write(host.repository("refs/heads/main.lock"), "").unwrap();
    assert_eq!(courier.run().await.unwrap_err().code, Code::FetchFailed);
    assert_eq!(courier.run().await, moved(&two));
}

#[tokio::test]
async fn a_damaged_clone_is_replaced_by_a_new_one() {
    let server = GitServer::http(None);
    let (_fleet, one) = served(&server);
    type Damage = fn(&Host);
    let damages: [(&str, Damage); 7] = [
        ("a rotten pack", |host| {
            for entry in fs::read_dir(host.repository("objects/pack")).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "pack") {
                    let mut bytes = fs::read(entry.path()).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0xff;
                    fs::remove_file(entry.path()).unwrap();
                    fs::write(entry.path(), bytes).unwrap();
                }
            }
        }),
        ("no packs", |host| fs::remove_dir_all(host.repository("objects/pack")).unwrap()),
        ("no objects", |host| fs::remove_dir_all(host.repository("objects")).unwrap()),
        ("an empty ref", |host| fs::write(host.repository("refs/heads/main"), "").unwrap()),
        ("a ref to nowhere", |host| fs::write(host.repository("refs/heads/main"), "1".repeat(40) + "\n").unwrap()),
        ("an empty HEAD", |host| fs::write(host.repository("HEAD"), "").unwrap()),
        ("a broken configuration", |host| fs::write(host.repository("config"), "[core\n").unwrap()),
    ];
    for (name, damage) in damages {
        let host = Host::of(&server);
        assert_eq!(host.courier().run().await, moved(&one));
        damage(&host);
        let healed = host.courier().run().await.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert!(matches!(&healed, Fetched::Unchanged | Fetched::Moved(_)), "{name}");
        support::Run::run(host.scratch.command("git").arg("--git-dir").arg(host.settings.repository()).args(["fsck"]))
            .succeeds();
        assert_eq!(tip(&host.settings.repository(), "main").unwrap().unwrap().as_str(), one, "{name}");
        assert!(!host.settings.repository().with_extension("git.new").exists(), "{name}");
    }
}

#[tokio::test]
async fn what_the_keeper_reports_as_damaged_is_fetched_anew_at_the_next_poll() {
    let server = GitServer::http(None);
    let (_fleet, one) = served(&server);
    let host = Host::of(&server);
    let courier = host.courier();
    assert_eq!(courier.run().await, moved(&one));
    fs::write(host.repository("of-the-old-clone"), "").unwrap();
    report_damage(&host.settings.repository()).unwrap();
    report_damage(&host.settings.repository()).unwrap();
    assert_eq!(courier.run().await, Ok(Fetched::Unchanged));
    assert!(!host.repository("of-the-old-clone").exists());
    assert_eq!(courier.run().await, Ok(Fetched::Unchanged));
}

#[tokio::test]
async fn a_damaged_clone_stays_while_the_server_is_away() {
    let server = GitServer::http(None);
    let (_fleet, one) = served(&server);
    let host = Host::of(&server);
    assert_eq!(host.courier().run().await, moved(&one));
    report_damage(&host.settings.repository()).unwrap();
    server.go_away();
    assert_eq!(host.courier().run().await.unwrap_err().code, Code::FetchFailed);
    assert_eq!(tip(&host.settings.repository(), "main").unwrap().unwrap().as_str(), one);
}

#[tokio::test]
async fn many_fetches_leave_few_packs() {
    let server = GitServer::http(None);
    let (mut fleet, _) = served(&server);
    let host = Host::of(&server);
    let courier = host.courier();
    let packs = || {
        let files = fs::read_dir(host.repository("objects/pack")).unwrap().flatten();
        files.filter(|file| file.path().extension().is_some_and(|extension| extension == "pack")).count()
    };
    let mut most = 0;
    for number in 0..52 {
        let revision = commit(&mut fleet, &number.to_string());
        assert_eq!(courier.run().await, moved(&revision));
        most = most.max(packs());
    }
    assert_eq!((most, packs()), (49, 3));
}

#[tokio::test]
async fn an_object_that_breaks_gits_rules_is_refused_at_the_door() {
    let server = GitServer::http(None);
    let (fleet, one) = served(&server);
    let host = Host::of(&server);
    let courier = host.courier();
    assert_eq!(courier.run().await, moved(&one));
    // A commit whose author has no e-mail address, as no git writes it.
    let tree = fleet.revision("HEAD");
    let tree = fleet.git(&["rev-parse", &format!("{tree}^{{tree}}")]).succeeds();
    let path = host
        .scratch
        .write("commit", format!("tree {tree}\nparent {one}\nauthor me 1 +0000\ncommitter me <> 1 +0000\n\nx\n"));
    let bad = fleet.git(&["hash-object", "-t", "commit", "-w", "--literally", path.to_str().unwrap()]).succeeds();
    fleet.reset(&bad).force_push();
    let fault = courier.run().await.unwrap_err();
    assert_eq!(fault.code, Code::FetchRefused, "{fault}");
    assert!(fault.sentence.ends_with("breaks git's rules"), "{fault}");
    assert_eq!(tip(&host.settings.repository(), "main").unwrap().unwrap().as_str(), one);
}

#[tokio::test]
async fn a_clone_of_another_user_is_not_touched() {
    support::tools::needs_root("giving a directory away");
    let server = GitServer::http(None);
    let (_fleet, one) = served(&server);
    let host = Host::of(&server);
    assert_eq!(host.courier().run().await, moved(&one));
    std::os::unix::fs::chown(host.settings.repository(), Some(65534), None).unwrap();
    let fault = host.courier().run().await.unwrap_err();
    assert_eq!(fault.code, Code::FetchRefused, "{fault}");
    assert!(fault.sentence.ends_with("belongs to another user"), "{fault}");
}

/// The world of a host whose outbox lies in a plain directory: what is in it here is no secret.
fn world(host: &Host) -> Rc<Real> {
    fs::create_dir_all(host.settings.run.join("outbox")).unwrap();
    Real::new(host.settings.clone(), Journal::open(false, Audience::Service)).unwrap()
}

#[tokio::test]
async fn once_fetches_and_sends_and_returns_the_first_fault() {
    let (server, kuma) = (GitServer::http(None), PushServer::start());
    let (_fleet, one) = served(&server);
    let host = Host::of(&server);
    let world = world(&host);
    let url = kuma.monitor("t0kent0ken");
    world.post(&message(&url)).unwrap();
    courier(&*world, true).await.unwrap();
    assert_eq!(world.tip().unwrap().as_str(), one);
    assert_eq!(kuma.beats("t0kent0ken").len(), 1);
    assert!(world.outbox().unwrap().is_empty());
    // A git server that is away does not keep the message back, and is the fault that is returned.
    server.go_away();
    world.post(&message(&url)).unwrap();
    assert_eq!(courier(&*world, true).await.unwrap_err().code, Code::FetchFailed);
    assert_eq!(kuma.beats("t0kent0ken").len(), 2);
    server.come_back();
    // What Kuma does not take stays, and so does everything after it for that monitor, but not for the others.
    kuma.pause("t0kent0ken");
    let other =
        Message { id: "20260101T000001Z-backup".into(), monitor: "backup".into(), ..message(&kuma.monitor("0ther")) };
    world.post(&message(&url)).unwrap();
    world.post(&Message { id: "20260101T000002Z-reconcile".into(), ..message(&url) }).unwrap();
    world.post(&other).unwrap();
    let before = kuma.requests().len();
    assert_eq!(courier(&*world, true).await.unwrap_err().code, Code::PushRefused);
    assert_eq!(kuma.requests().len() - before, 2);
    assert_eq!(world.outbox().unwrap().len(), 2);
    assert_eq!(kuma.beats("0ther").len(), 1);
}

#[tokio::test]
async fn the_courier_follows_the_branch_and_sends_what_comes_until_it_is_told_to_stop() {
    let (server, kuma) = (GitServer::ssh(), PushServer::start());
    let (mut fleet, one) = served(&server);
    let mut host = Host::of(&server);
    host.settings.poll = Duration::from_secs(1);
    let world = world(&host);
    let url = kuma.monitor("t0kent0ken");
    let story = async {
        until(|| world.tip().is_ok_and(|tip| tip.as_str() == one)).await;
        let two = commit(&mut fleet, "two");
        world.post(&message(&url)).unwrap();
        until(|| world.tip().is_ok_and(|tip| tip.as_str() == two)).await;
        until(|| kuma.beats("t0kent0ken").len() == 1 && world.outbox().unwrap().is_empty()).await;
        world.stop().order();
    };
    let (ended, ()) = tokio::join!(courier(&*world, false), story);
    ended.unwrap();
}

#[tokio::test]
async fn while_fetching_waits_for_a_person_no_message_says_that_all_is_well() {
    let (server, kuma) = (GitServer::http(Some("r1ght-t0ken")), PushServer::start());
    let _fleet = served(&server);
    let host = Host::of(&server).with_token("wr0ng-t0ken");
    let url = kuma.monitor("t0kent0ken");
    let told = |world: Rc<Real>, beats: usize| {
        let (kuma, url) = (&kuma, url.clone());
        async move {
            world.remember_push_url("reconcile", Some(&Secret::new(url.clone())));
            let story = async {
                until(|| kuma.beats("t0kent0ken").len() + 1 == beats).await;
                world.post(&message(&url)).unwrap();
                until(|| kuma.beats("t0kent0ken").len() == beats).await;
                world.stop().order();
            };
            let (ended, ()) = tokio::join!(courier(&*world, false), story);
            ended.unwrap();
        }
    };
    // At once, and again in the place of what the keeper says.
    told(world(&host), 2).await;
    let host = host.with_token("r1ght-t0ken");
    told(world(&host), 3).await;
    let beats: Vec<_> = kuma.beats("t0kent0ken").into_iter().map(|beat| (beat.status, beat.msg)).collect();
    let waits = "fetch: fetch-refused: 127.0.0.1 refused the token, or wants one".to_owned();
    assert_eq!(beats[..2], [(Status::Down, waits.clone()), (Status::Down, waits)]);
    assert_eq!(beats[2].0, Status::Up);
}

#[tokio::test]
async fn the_order_to_stop_ends_a_fetch_that_hangs() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = GitServer::http(None);
    let mut host = Host::of(&server);
    host.settings.remote = format!("http://{}/fleet.git", silent.local_addr().unwrap());
    let world = world(&host);
    let began = Instant::now();
    let story = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.stop().order();
    };
    let (ended, ()) = tokio::join!(courier(&*world, false), story);
    ended.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// Looks often, and lets the courier go on meanwhile.
async fn until(mut so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < patience, "waited in vain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn message(url: &str) -> Message {
    Message {
        id: "20260101T000000Z-reconcile".into(),
        monitor: "reconcile".into(),
        url: Secret::new(url.into()),
        status: push::Status::Up,
        text: "converged at 9f2c1e07, 5 steps & \"more\"".into(),
        ping_ms: Some(97),
    }
}

async fn send(url: &str) -> Result<(), Fault> {
    let sent = kuma::send(&kuma::client().unwrap(), &message(url)).await;
    if let Err(fault) = &sent {
        let shown = format!("{fault} {fault:?}");
        assert!(!shown.contains("t0kent0ken") && !shown.contains("/api/push"), "{shown}");
    }
    sent
}

#[tokio::test]
async fn kuma_records_what_was_sent_also_with_the_examples_of_its_page_in_the_url() {
    let kuma = PushServer::start();
    let url = kuma.monitor("t0kent0ken");
    for url in [url.clone(), format!("{url}?status=up&msg=OK&ping=")] {
        send(&url).await.unwrap();
    }
    let down = Message { status: push::Status::Down, ping_ms: None, ..message(&url) };
    kuma::send(&kuma::client().unwrap(), &down).await.unwrap();
    let beats = kuma.beats("t0kent0ken");
    assert_eq!(beats.iter().map(|beat| beat.status).collect::<Vec<_>>(), [Status::Up, Status::Up, Status::Down]);
    assert!(beats.iter().all(|beat| beat.msg == "converged at 9f2c1e07, 5 steps & \"more\""));
    assert_eq!(beats.iter().map(|beat| beat.ping).collect::<Vec<_>>(), [Some(97.0), Some(97.0), None]);
    kuma.maintain("t0kent0ken", true);
    send(&url).await.unwrap();
}

#[tokio::test]
async fn an_unknown_or_paused_monitor_and_a_wrong_path_are_a_persons_business() {
    let kuma = PushServer::start();
    let url = kuma.monitor("t0kent0ken");
    kuma.pause("t0kent0ken");
    let unknown = format!("{}/api/push/an0ther-t0kent0ken", kuma.base());
    for url in [&url, &unknown] {
        let fault = send(url).await.unwrap_err();
        assert_eq!(fault.code, Code::PushRefused);
        assert_eq!(fault.because[1], "it says: Monitor not found or not active.");
    }
    let fault = send(&format!("{url}/")).await.unwrap_err();
    assert_eq!(fault.code, Code::PushRefused);
    assert_eq!(fault.because, ["what answers at the push URL is a page, not the push endpoint of Kuma"]);
}

#[tokio::test]
async fn whatever_else_answers_is_not_believed() {
    let kuma = PushServer::start();
    let url = kuma.monitor("t0kent0ken");
    let answer = |status, body: &str| Mood::Answers(Response::new(status, "application/json", body));
    let redirect = Response::new(302, "text/plain", "").header("Location", "http://127.0.0.1:1/");
    let huge = format!("{{\"ok\":true,\"x\":\"{}\"}}", "x".repeat(100_000));
    for (name, mood, code) in [
        ("a page", Mood::page(), Code::PushRefused),
        ("a broken server", Mood::broken(), Code::PushFailed),
        ("a server that hangs up", Mood::HangsUp, Code::PushFailed),
        ("a proxy", answer(502, ""), Code::PushFailed),
        ("too much", answer(200, &huge), Code::PushRefused),
        ("a redirect", Mood::Answers(redirect), Code::PushRefused),
        ("no", answer(200, "{\"ok\":false}"), Code::PushRefused),
        ("nothing", answer(200, ""), Code::PushRefused),
        ("a login page", answer(401, ""), Code::PushRefused),
    ] {
        kuma.behave(mood);
        assert_eq!(send(&url).await.unwrap_err().code, code, "{name}");
    }
    assert!(kuma.beats("t0kent0ken").is_empty());
}

#[tokio::test]
async fn a_kuma_that_hangs_or_is_away_costs_ten_seconds_at_most() {
    let kuma = PushServer::start();
    let url = kuma.monitor("t0kent0ken");
    kuma.behave(Mood::Hangs);
    let began = Instant::now();
    let fault = send(&url).await.unwrap_err();
    assert_eq!(fault.code, Code::PushFailed);
    assert_eq!(fault.because.last().unwrap(), "no answer within 10 s");
    assert!(began.elapsed() < Duration::from_secs(15));
    drop(kuma);
    assert_eq!(send(&url).await.unwrap_err().code, Code::PushFailed);
    assert_eq!(send("http://no-such-host.invalid/api/push/t0kent0ken").await.unwrap_err().code, Code::PushFailed);
}

#[tokio::test]
async fn tls_is_spoken_and_a_server_that_does_not_is_a_failure() {
    let kuma = PushServer::start();
    let url = kuma.monitor("t0kent0ken").replace("http://", "https://");
    assert_eq!(send(&url).await.unwrap_err().code, Code::PushFailed);
}
