//! A proxy in front of a registry that misbehaves as it is told. It stands in the engine's network, so it is a process of
//! its own: the test binary, started again.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::engine::Engine;
use super::registry::Registry;
use super::wait::until;

const UPSTREAM: &str = "MOORLINE_MISBEHAVING_UPSTREAM";
const PLACE: &str = "MOORLINE_MISBEHAVING_PLACE";
/// The test that [`serve`]s when it is started in the engine's network.
const SERVER: &str = "a_registry_that_misbehaves_serves_when_it_is_told_to";

/// The first byte of a client that wants TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// What the proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Hands everything on.
    Honest,
    /// Answers the first question for a manifest with 429, and the others honestly.
    BusyOnce,
    /// Answers every question for a manifest with 500.
    Broken,
    /// Changes a byte of every layer.
    ForgedLayer,
    /// Changes a byte of every manifest.
    ForgedManifest,
    /// Ends every layer in the middle.
    Truncated,
    /// Sends every layer a byte at a time.
    Slow,
    /// The same, in chunks, so that nobody knows how large a layer is.
    SlowAndUnsaid,
    /// Takes questions, and never answers.
    Silent,
}

const ALL: [Manners; 9] = [
    Manners::Honest,
    Manners::BusyOnce,
    Manners::Broken,
    Manners::ForgedLayer,
    Manners::ForgedManifest,
    Manners::Truncated,
    Manners::Slow,
    Manners::SlowAndUnsaid,
    Manners::Silent,
];

/// The proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Misbehaving {
    server: Child,
    place: PathBuf,
    port: String,
}

impl Misbehaving {
    /// Starts an honest proxy in front of a registry.
    #[track_caller]
    pub fn before(registry: &Registry<'_>, engine: &Engine) -> Self {
        let place = engine.scratch().directory("misbehaving");
        let mut nsenter = engine.scratch().command("nsenter");
        nsenter.arg(format!("--net=/run/netns/{}", engine.netns));
        nsenter.arg(std::env::current_exe().expect("the test binary has a path"));
        nsenter.args(["--exact", SERVER, "--ignored", "--nocapture"]);
        nsenter.env(UPSTREAM, registry.address()).env(PLACE, &place).stdin(Stdio::null());
        let log = std::fs::File::create(place.join("log")).expect("the scratch is writable");
        let mut server = nsenter.stdout(log.try_clone().expect("a file")).stderr(log).spawn().expect("nsenter starts");
        let port = until("the proxy listens", || {
            let ended = server.try_wait().expect("our own child");
            assert!(ended.is_none(), "{}", std::fs::read_to_string(place.join("log")).unwrap_or_default());
            std::fs::read_to_string(place.join("port")).ok().filter(|port| port.ends_with('\n'))
        });
        Self { server, place, port: port.trim().to_owned() }
    }

    /// What image names begin with.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Tells it how to behave from now on.
    pub fn be(&self, manners: Manners) {
        std::fs::write(self.place.join("manners.new"), format!("{manners:?}")).expect("the scratch is writable");
        std::fs::rename(self.place.join("manners.new"), self.place.join("manners")).expect("the scratch is writable");
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// The life of the proxy; returns at once when nobody asked for one.
pub fn serve() {
    let (Ok(upstream), Some(place)) = (std::env::var(UPSTREAM), std::env::var_os(PLACE)) else { return };
    let place = PathBuf::from(place);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
    let port = listener.local_addr().expect("a listener has an address").port();
    std::fs::write(place.join("port"), format!("{port}\n")).expect("the scratch is writable");
    let asked: &'static AtomicUsize = Box::leak(Box::new(AtomicUsize::new(0)));
    for stream in listener.incoming().map_while(Result::ok) {
        let (upstream, place) = (upstream.clone(), place.clone());
        std::thread::spawn(move || {
            let told = std::fs::read_to_string(place.join("manners")).unwrap_or_default();
            let manners = ALL.into_iter().find(|manners| format!("{manners:?}") == told);
            converse(stream, &upstream, manners.unwrap_or(Manners::Honest), asked).ok()
        });
    }
}

fn converse(mut stream: TcpStream, upstream: &str, manners: Manners, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first)? == 1 && first == [TLS_HANDSHAKE] && manners != Manners::Silent {
        // What the engine takes for "no TLS here, ask again without".
        return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nno TLS here");
    }
    let head = read_head(&mut stream)?;
    let is = |kind: &str| head.lines().next().is_some_and(|line| line.contains(kind));
    let (manifest, layer) = (is("/manifests/"), is("/blobs/"));
    let refuse =
        |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n");
    match manners {
        Manners::Silent => {
            std::thread::sleep(Duration::from_secs(600));
            return Ok(());
        }
        Manners::Broken if manifest => return stream.write_all(refuse("500 Internal Server Error").as_bytes()),
        Manners::BusyOnce if manifest && asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            return stream.write_all(refuse("429 Too Many Requests").as_bytes());
        }
        _ => {}
    }
    let mut answer = ask(upstream, &head)?;
    let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let middle = body + (answer.len() - body) / 2;
    let forged = (manners == Manners::ForgedLayer && layer) || (manners == Manners::ForgedManifest && manifest);
    if forged && middle < answer.len() {
        // The space after a key, in a manifest: it is still JSON, and it is another digest.
        let space = answer[body..].iter().position(|byte| manifest && *byte == b' ').map(|at| body + at);
        answer[space.unwrap_or(middle)] = if space.is_some() { b'\t' } else { answer[middle] ^ 1 };
    }
    match manners {
        Manners::Truncated if layer => stream.write_all(&answer[..middle]),
        Manners::Slow if layer => {
            stream.write_all(&answer[..body])?;
            for byte in &answer[body..] {
                stream.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        }
        Manners::SlowAndUnsaid if layer => {
            let head = String::from_utf8_lossy(&answer[..body - 2]).into_owned();
            let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
            let head: String = kept.map(|line| format!("{line}\r\n")).collect();
            stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            for byte in &answer[body..] {
                stream.write_all(&[b"1\r\n".as_slice(), &[*byte], b"\r\n"].concat())?;
                std::thread::sleep(Duration::from_millis(200));
            }
            stream.write_all(b"0\r\n\r\n")
        }
        _ => stream.write_all(&answer),
    }
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Asks the registry the same, over a connection that ends with the answer.
fn ask(upstream: &str, head: &str) -> std::io::Result<Vec<u8>> {
    let mut registry = TcpStream::connect(upstream)?;
    let kept = head.lines().filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:"));
    let question: String = kept.map(|line| format!("{line}\r\n")).collect();
    registry.write_all(format!("{question}Connection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    registry.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..answer.len().min(2048)]).into_owned();
    // The engine must not take the connection for one that goes on.
    assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
    Ok(answer)
}
