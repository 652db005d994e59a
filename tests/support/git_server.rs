//! Real git servers on the loopback: sshd with git-shell, and git's own HTTP backend.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::engine::Engine;
use super::http::{Reaction, Request, Response, Server};
use super::run::Run as _;
use super::scratch::Scratch;
use super::tools::tool;
use super::wait::until;

/// A server for the bare repositories of one directory. Dropping it ends it and removes them.
#[derive(Debug)]
pub struct GitServer {
    // Before the scratch: the listener must not start anything in a directory that is being cleared.
    transport: Transport,
    scratch: Scratch,
    is_away: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Transport {
    Ssh(SshListener),
    Http(Server),
}

impl GitServer {
    /// A real sshd that lets the deploy key do nothing but `git-shell`.
    #[track_caller]
    pub fn ssh() -> Self {
        let scratch = Scratch::new();
        scratch.directory("repositories");
        make_key(&scratch, "host_key");
        make_key(&scratch, "deploy_key");
        let public = std::fs::read_to_string(scratch.join("deploy_key.pub")).expect("ssh-keygen wrote it");
        let shell = tool("git-shell");
        scratch.write(
            "authorized_keys",
            format!("command=\"{} -c \\\"$SSH_ORIGINAL_COMMAND\\\"\",restrict {public}", shell.display()),
        );
        // sshd refuses a locked account unless PAM is to judge it; some images lock root, and Debian's do not.
        let locked = std::fs::read_to_string("/etc/shadow")
            .is_ok_and(|shadow| shadow.lines().any(|line| line.starts_with("root:!")));
        scratch.write(
            "sshd_config",
            format!(
                "HostKey {host_key}\nAuthorizedKeysFile {authorized}\nUsePAM {pam}\nStrictModes no\nPidFile none\n\
                 PermitRootLogin forced-commands-only\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 AcceptEnv GIT_PROTOCOL\nPrintMotd no\nUseDNS no\nLogLevel VERBOSE\n",
                host_key = scratch.join("host_key").display(),
                authorized = scratch.join("authorized_keys").display(),
                pam = if locked { "yes" } else { "no" },
            ),
        );
        // What Debian's service makes before it starts sshd.
        std::fs::create_dir_all("/run/sshd").ok();
        let is_away = Arc::new(AtomicBool::new(false));
        let listener = SshListener::start(&scratch, is_away.clone());
        let server = Self { transport: Transport::Ssh(listener), scratch, is_away };
        server.write_known_hosts();
        server
    }

    /// git's HTTP backend; with a token, only who sends it as the password of basic authentication may read.
    #[track_caller]
    pub fn http(token: Option<&str>) -> Self {
        let scratch = Scratch::new();
        let root = scratch.directory("repositories");
        let is_away = Arc::new(AtomicBool::new(false));
        let exec_path = scratch.command("git").arg("--exec-path").run().succeeds();
        let backend = Path::new(&exec_path).join("git-http-backend");
        assert!(backend.exists(), "{} is missing\nhint: install the package git", backend.display());
        let server = Server::start({
            let token = token.map(str::to_owned);
            let (name, home, is_away) = (scratch.name().to_owned(), scratch.path().to_owned(), is_away.clone());
            move |request| {
                if is_away.load(Ordering::SeqCst) {
                    return Reaction::Answer(Response::new(503, "text/plain", "gone for lunch\n"));
                }
                if let Some(token) = &token
                    && password(&request).as_deref() != Some(token)
                {
                    return Reaction::Answer(
                        Response::new(401, "text/plain", "who are you?\n")
                            .header("WWW-Authenticate", "Basic realm=\"lab\""),
                    );
                }
                let mut backend = Command::new(&backend);
                backend
                    .env_clear()
                    .env("PATH", super::tools::search_path())
                    .env("HOME", &home)
                    .env("MOORLINE_LAB_SCRATCH", &name);
                Reaction::Answer(ask_backend(backend, &root, &request))
            }
        });
        Self { transport: Transport::Http(server), scratch, is_away }
    }

    /// Makes an empty bare repository whose branch is `main`; returns its path.
    #[track_caller]
    pub fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let mut init = git(&self.scratch);
        init.args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&path).run().succeeds();
        for (key, value) in
            [("uploadpack.allowFilter", "true"), ("http.receivepack", "true"), ("receive.denyNonFastForwards", "false")]
        {
            git(&self.scratch).arg("-C").arg(&path).args(["config", key, value]).run().succeeds();
        }
        path
    }

    /// Where the repository is on disk: pushing there needs no server.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.join("repositories").join(name)
    }

    /// What an operator writes as the remote.
    pub fn url(&self, name: &str) -> String {
        match &self.transport {
            Transport::Ssh(listener) => {
                format!("ssh://{}@127.0.0.1:{}{}", listener.user, listener.port, self.path(name).display())
            }
            Transport::Http(server) => format!("{}/{name}", server.url()),
        }
    }

    /// The private key that may read.
    pub fn deploy_key(&self) -> PathBuf {
        self.scratch.join("deploy_key")
    }

    /// Pins the host key the server had at its start.
    pub fn known_hosts(&self) -> PathBuf {
        self.scratch.join("known_hosts")
    }

    /// `git` as a careful client calls it: only the pinned host key, only the deploy key, no configuration of the
    /// person who runs the tests.
    #[track_caller]
    pub fn client(&self) -> Command {
        let ssh = format!(
            "{} -F none -i {} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
            tool("ssh").display(),
            self.deploy_key().display(),
            self.known_hosts().display()
        );
        let mut client = git(&self.scratch);
        client.env("GIT_SSH_COMMAND", ssh).env("GIT_TERMINAL_PROMPT", "0");
        client
    }

    /// Gives the server another host key, as a server in the middle would have. The pinned one stays.
    pub fn change_host_key(&self) {
        for name in ["host_key", "host_key.pub"] {
            std::fs::remove_file(self.scratch.join(name)).expect("the server has a host key");
        }
        make_key(&self.scratch, "host_key");
    }

    /// Pins whatever host key the server has now.
    pub fn write_known_hosts(&self) {
        let Transport::Ssh(listener) = &self.transport else {
            return;
        };
        let public = std::fs::read_to_string(self.scratch.join("host_key.pub")).expect("ssh-keygen wrote it");
        self.scratch.write("known_hosts", format!("[127.0.0.1]:{} {public}", listener.port));
    }

    /// The server answers nothing of use until [`come_back`](Self::come_back).
    pub fn go_away(&self) {
        self.is_away.store(true, Ordering::SeqCst);
    }

    pub fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
    }

    /// How many connections were made so far; over ssh only.
    pub fn connections(&self) -> u32 {
        match &self.transport {
            Transport::Ssh(listener) => listener.connections.load(Ordering::SeqCst),
            Transport::Http(_) => 0,
        }
    }

    /// Bytes on the wire so far, without those of TCP; over HTTP only.
    pub fn bytes(&self) -> u64 {
        match &self.transport {
            Transport::Ssh(_) => 0,
            Transport::Http(server) => server.bytes(),
        }
    }

    /// Serves the same repositories, to the same deploy key, where the containers of an engine reach them.
    #[track_caller]
    pub fn door(&self, engine: &Engine) -> Door {
        let Transport::Ssh(listener) = &self.transport else {
            panic!("only sshd can listen in the network of an engine");
        };
        let mut sshd = engine.command("sshd");
        sshd.args(["-D", "-f"]).arg(self.scratch.join("sshd_config")).arg("-E").arg(self.scratch.join("sshd.log"));
        sshd.args(["-o", &format!("ListenAddress={}", Engine::ADDRESS), "-o", &format!("Port={}", Door::PORT)]);
        let server = sshd.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("sshd starts");
        let public = std::fs::read_to_string(self.scratch.join("host_key.pub")).expect("ssh-keygen wrote it");
        let (address, port) = (Engine::ADDRESS, Door::PORT);
        until("sshd listens for containers", || {
            let mut ask = engine.command("busybox");
            ask.args(["nc", "-w", "2", address, &port.to_string()]).run().is_success().then_some(())
        });
        Door {
            server,
            remote: format!("ssh://{}@{address}:{port}{}", listener.user, self.path("").display()),
            known_hosts: format!("[{address}]:{port} {public}"),
        }
    }

    /// Lets another key do what the deploy key may, as an operator does who enters it at the server; over ssh only.
    #[track_caller]
    pub fn let_in(&self, public_key: &str) {
        let path = self.scratch.join("authorized_keys");
        let before = std::fs::read_to_string(&path).expect("sshd reads it");
        let (options, _) = before.split_once(",restrict ").expect("of one line");
        std::fs::write(path, format!("{before}{options},restrict {}\n", public_key.trim())).expect("it is ours");
    }

    /// What sshd logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("sshd.log")).unwrap_or_default()
    }
}

/// A second entrance to a [`GitServer`], for containers. Dropping it closes it.
#[derive(Debug)]
pub struct Door {
    server: std::process::Child,
    remote: String,
    /// The line that pins the server's host key.
    pub known_hosts: String,
}

impl Door {
    const PORT: u16 = 2222;

    /// What an operator writes as the remote.
    pub fn url(&self, name: &str) -> String {
        format!("{}{name}", self.remote)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// `git` without any configuration but the repository's own.
#[track_caller]
pub(super) fn git(scratch: &Scratch) -> Command {
    let mut git = scratch.command("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git
}

#[track_caller]
pub(super) fn make_key(scratch: &Scratch, name: &str) {
    let mut keygen = scratch.command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(scratch.join(name)).run().succeeds();
}

/// Accepts connections and gives each to an sshd of its own. So the port is ours from the first moment, and no
/// other process can take it between choosing and listening.
#[derive(Debug)]
pub(super) struct SshListener {
    pub(super) port: u16,
    pub(super) user: String,
    connections: Arc<AtomicU32>,
    ending: Arc<AtomicBool>,
    listening: Option<std::thread::JoinHandle<()>>,
    sessions: Arc<Mutex<Vec<std::process::Child>>>,
}

impl SshListener {
    pub(super) fn start(scratch: &Scratch, is_away: Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let user = Command::new("id").arg("-un").run().succeeds();
        let connections = Arc::new(AtomicU32::new(0));
        let ending = Arc::new(AtomicBool::new(false));
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let mut sshd = scratch.command("sshd");
        sshd.args(["-i", "-f"]).arg(scratch.join("sshd_config")).arg("-E").arg(scratch.join("sshd.log"));
        sshd.stderr(Stdio::null());
        let listening = std::thread::spawn({
            let (connections, ending, sessions) = (connections.clone(), ending.clone(), sessions.clone());
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if ending.load(Ordering::SeqCst) {
                        return;
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                    if is_away.load(Ordering::SeqCst) {
                        continue;
                    }
                    let output = OwnedFd::from(stream.try_clone().expect("a socket can be shared"));
                    sshd.stdin(OwnedFd::from(stream)).stdout(output);
                    let session = sshd.spawn().expect("sshd starts");
                    let mut sessions = sessions.lock().expect("nobody panics with it");
                    sessions.retain_mut(|session: &mut std::process::Child| matches!(session.try_wait(), Ok(None)));
                    sessions.push(session);
                    // The command keeps the socket until it gets the next; the client must see the end of this one.
                    drop(sessions);
                    sshd.stdin(Stdio::null()).stdout(Stdio::null());
                }
            }
        });
        Self { port, user, connections, ending, listening: Some(listening), sessions }
    }
}

impl SshListener {
    /// Ends every connection that is open now.
    pub(super) fn cut(&self) {
        for session in self.sessions.lock().expect("nobody panics with it").iter_mut() {
            session.kill().ok();
            session.wait().ok();
        }
    }
}

impl Drop for SshListener {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        std::net::TcpStream::connect(("127.0.0.1", self.port)).ok();
        if let Some(listening) = self.listening.take() {
            listening.join().ok();
        }
        for session in self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter_mut() {
            session.kill().ok();
            session.wait().ok();
        }
    }
}

fn password(request: &Request) -> Option<String> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(decode_base64(encoded)).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

fn decode_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0_u32, 0);
    for value in text.bytes().filter_map(|byte| ALPHABET.iter().position(|letter| *letter == byte)) {
        buffer = (buffer << 6) | u32::try_from(value).expect("below 64");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 0xff).expect("one byte"));
        }
    }
    bytes
}

/// One request through the Common Gateway Interface.
fn ask_backend(mut backend: Command, root: &Path, request: &Request) -> Response {
    backend
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", super::http::decode(request.path()))
        .env("QUERY_STRING", request.query())
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", request.header("git-protocol").unwrap_or_default())
        .env("REMOTE_USER", "lab")
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let output = backend.spawn().and_then(|mut child| {
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        std::thread::scope(|scope| {
            scope.spawn(move || std::io::Write::write_all(&mut pipe, &request.body).ok());
            child.wait_with_output()
        })
    });
    let Ok(output) = output else {
        return Response::new(500, "text/plain", "the backend does not start\n");
    };
    let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some(end) = end else {
        return Response::new(500, "text/plain", "the backend said nothing\n");
    };
    let head = String::from_utf8_lossy(&output.stdout[..end]).into_owned();
    let mut response = Response { status: 200, headers: Vec::new(), body: output.stdout[end + 4..].to_vec() };
    for (name, value) in head.split("\r\n").filter_map(|line| line.split_once(": ")) {
        if name == "Status" {
            response.status = value.get(..3).and_then(|code| code.parse().ok()).unwrap_or(500);
        } else {
            response = response.header(name, value);
        }
    }
    response
}
