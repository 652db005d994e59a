//! Prints what a poll with nothing new costs on the wire, against a repository with 10,001 refs. It asserts nothing.
//!
//! What ssh carries is git's own protocol, so it is counted without encryption: over `git://`, between the courier and
//! `git daemon`. Over HTTP the headers count too.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::disallowed_types,
    reason = "tests start neighbours, wait for them, and say what they measured"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moorline::model::Settings;
use moorline::model::settings::MemoryPolicy;
use moorline::world::Fetched;
use moorline::world::fetch::Fetch;
use support::{Fleet, GitServer, Run as _, Scratch, Signing};

const BRANCHES: usize = 10_000;
const POLLS: u32 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = GitServer::http(None);
    let repository = server.repository("fleet.git");
    let mut fleet = Fleet::new(&repository);
    fleet.write("file", "content");
    let revision = fleet.commit(Signing::Unsigned, "one");
    fleet.push();
    make_branches(&repository, &revision);
    let daemon = Daemon::start(repository.parent().expect("it has a parent").to_owned());

    println!("{} refs, {POLLS} polls with nothing new", BRANCHES + 1);
    let http = measure(&server.url("fleet.git"), || server.bytes()).await;
    println!("over http, headers included: {} bytes per poll, {} ms", http.0, http.1);
    let plain = measure(&daemon.url("fleet.git"), || daemon.bytes()).await;
    println!("git's protocol, as ssh carries it: {} bytes per poll, {} ms", plain.0, plain.1);
}

/// Bytes and milliseconds per poll.
async fn measure(remote: &str, bytes: impl Fn() -> u64) -> (u64, u128) {
    let scratch = Scratch::new();
    let courier = Fetch::new(&settings(&scratch, remote)).expect("the settings are right");
    courier.run().await.expect("the first fetch clones");
    let (began, before) = (Instant::now(), bytes());
    for _ in 0..POLLS {
        assert_eq!(courier.run().await, Ok(Fetched::Unchanged));
    }
    ((bytes() - before) / u64::from(POLLS), began.elapsed().as_millis() / u128::from(POLLS))
}

fn settings(scratch: &Scratch, remote: &str) -> Settings {
    Settings {
        host: "alpha".into(),
        remote: remote.into(),
        branch: "main".into(),
        first: None,
        poll: Duration::from_secs(60),
        interval: Duration::from_secs(60),
        deploy_key: None,
        known_hosts: PathBuf::new(),
        token_file: None,
        allowed_signers: PathBuf::new(),
        age_key: PathBuf::new(),
        socket: PathBuf::new(),
        compose: None,
        status: None,
        timer: None,
        pull_timeout: Duration::from_secs(60),
        state: scratch.join("state"),
        run: scratch.join("run"),
        memory: MemoryPolicy::NeverOnDisk,
    }
}

fn make_branches(repository: &std::path::Path, revision: &str) {
    let mut commands = String::new();
    for number in 0..BRANCHES {
        let _ = writeln!(commands, "create refs/heads/topic/{number} {revision}");
    }
    let mut update = Command::new("git");
    update.arg("-C").arg(repository).args(["update-ref", "--stdin"]).stdin(Stdio::piped());
    let mut child = update.spawn().expect("git starts");
    child.stdin.take().expect("it is piped").write_all(commands.as_bytes()).expect("git reads");
    assert!(child.wait().expect("git ends").success());
    Command::new("git").arg("-C").arg(repository).args(["pack-refs", "--all"]).run().succeeds();
}

/// `git daemon` behind a listener that counts what goes through.
struct Daemon {
    port: u16,
    bytes: Arc<AtomicU64>,
}

impl Daemon {
    fn start(root: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(&root, stream, &counter);
            }
        });
        Self { port, bytes }
    }

    fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

fn serve(root: &std::path::Path, stream: TcpStream, counter: &AtomicU64) {
    let mut base = std::ffi::OsString::from("--base-path=");
    base.push(root);
    let mut daemon = Command::new("git");
    daemon.args(["daemon", "--inetd", "--export-all"]).arg(base).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = daemon.spawn().expect("git daemon starts");
    let (mut to, mut from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut reading, mut writing) = (stream.try_clone().expect("a socket can be shared"), stream);
    std::thread::scope(|scope| {
        scope.spawn(move || count(&mut reading, &mut to, counter));
        count(&mut from, &mut writing, counter);
        writing.shutdown(Shutdown::Both).ok();
    });
    child.wait().ok();
}

fn count(from: &mut impl Read, to: &mut impl Write, counter: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        counter.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
