//! The least of an HTTP/1.1 server that real clients accept. Decides nothing about what it serves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::engine::Engine;

/// Node's limit for the request line and headers together: what is longer is answered with 431.
const HEAD_LIMIT: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As sent: path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".to_owned(), kind.to_owned())], body: body.into() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Reaction {
    Answer(Response),
    /// Never answer, until the client gives up or the server ends.
    Hang,
    /// Close the connection without a word.
    HangUp,
}

/// A listening server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    listening: Option<JoinHandle<()>>,
    /// The network namespace it listens in, where that is not the machine's.
    netns: Option<String>,
}

impl Server {
    pub fn start(react: impl Fn(Request) -> Reaction + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port"), None, react)
    }

    /// A server that the containers of an engine reach, at the address that the engine has for them.
    pub fn beside(engine: &Engine, react: impl Fn(Request) -> Reaction + Send + Sync + 'static) -> Self {
        let bind = || TcpListener::bind((Engine::ADDRESS, 0)).expect("the bridge has a free port");
        // A socket stays in the network in which it was made.
        let listener = in_netns(&engine.netns, bind);
        Self::on(listener, Some(engine.netns.clone()), react)
    }

    fn on(
        listener: TcpListener,
        netns: Option<String>,
        react: impl Fn(Request) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let ending = Arc::new(AtomicBool::new(false));
        let bytes = Arc::new(AtomicU64::new(0));
        let react = Arc::new(react);
        let listening = std::thread::spawn({
            let (ending, bytes) = (ending.clone(), bytes.clone());
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if ending.load(Ordering::SeqCst) {
                        return;
                    }
                    let (react, ending, bytes) = (react.clone(), ending.clone(), bytes.clone());
                    std::thread::spawn(move || converse(stream, &*react, &ending, &bytes));
                }
            }
        });
        Self { address, ending, bytes, listening: Some(listening), netns }
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of requests and answers so far, headers included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // The listener waits for a connection, so it gets one.
        let address = self.address;
        let knock = move || TcpStream::connect(address).ok();
        match &self.netns {
            Some(netns) => in_netns(netns, knock),
            None => knock(),
        };
        if let Some(listening) = self.listening.take() {
            listening.join().ok();
        }
    }
}

/// Does something in a network namespace, on a thread of its own, since a thread that went there stays.
fn in_netns<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        Engine::enter(netns);
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).expect("it does not panic")
}

fn converse(mut stream: TcpStream, react: &dyn Fn(Request) -> Reaction, ending: &AtomicBool, bytes: &AtomicU64) {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok();
    let reaction = match read(&stream, bytes) {
        Ok(Some(request)) => react(request),
        Ok(None) => Reaction::Answer(Response::new(431, "text/plain", "")),
        Err(_) => return,
    };
    match reaction {
        Reaction::Answer(response) => {
            let answer = render(&response);
            bytes.fetch_add(answer.len() as u64, Ordering::SeqCst);
            stream.write_all(&answer).ok();
            // Closing with unread input would reset the connection before the client has read the answer.
            stream.shutdown(std::net::Shutdown::Write).ok();
            std::io::copy(&mut stream.take(1 << 20), &mut std::io::sink()).ok();
        }
        Reaction::HangUp => {}
        Reaction::Hang => {
            stream.set_read_timeout(Some(Duration::from_millis(100))).ok();
            let mut one = [0];
            while !ending.load(Ordering::SeqCst) {
                match stream.read(&mut one) {
                    Ok(0) => return,
                    Err(error)
                        if !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                    {
                        return;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}

/// `None`: the head is too long.
fn read(stream: &TcpStream, bytes: &AtomicU64) -> std::io::Result<Option<Request>> {
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let before = head.len();
        reader.by_ref().take((HEAD_LIMIT - before) as u64).read_until(b'\n', &mut head)?;
        if head.len() == before {
            return if before == HEAD_LIMIT { Ok(None) } else { Err(broken()) };
        }
    }
    bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
    let head = String::from_utf8(head).map_err(|_| broken())?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (first.next().unwrap_or_default().to_owned(), first.next().ok_or_else(broken)?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: Vec::new() };
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length =
                u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).map_err(|_| broken())?;
            reader.by_ref().take(length).read_to_end(&mut request.body)?;
            reader.read_line(&mut line)?;
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length") {
        let length = length.parse().map_err(|_| broken())?;
        reader.by_ref().take(length).read_to_end(&mut request.body)?;
    }
    bytes.fetch_add(request.body.len() as u64, Ordering::SeqCst);
    Ok(Some(request))
}

fn render(response: &Response) -> Vec<u8> {
    let reason = match response.status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    };
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", response.status);
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", response.body.len());
    [head.as_bytes(), &response.body].concat()
}

/// `application/x-www-form-urlencoded`, as a query has it. Later duplicates are kept.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(&name.replace('+', " ")), decode(&value.replace('+', " "))))
        .collect()
}

/// Undoes percent encoding; what is not one stays as it is.
pub fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(byte);
            rest = &others[2..];
        } else {
            bytes.push(first);
            rest = others;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
