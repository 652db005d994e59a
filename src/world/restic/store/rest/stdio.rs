//! Asks what an SSH server runs for our key, such as `rclone serve restic --stdio`: HTTP/2 on the input and output of
//! one `ssh` child.

use std::future::poll_fn;
use std::io;
use std::process::Stdio as Pipe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use hyper::Request;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr};

use super::super::super::order::Login;
use super::super::super::trouble::{Kind, Trouble};
use super::super::pace::Pace;
use super::super::ssh::{LONGEST_WORDS, arguments, trouble};
use super::content::{Content, Moved};
use super::wire::{Answer, Arriving, Question, patient};
use crate::world::child::ENVIRONMENT;
use crate::world::clock;

/// What is asked of a server that has no command of its own for our key. It will not know it, and say so: anything that it
/// did know could be more than our key should do.
const COMMAND: &str = "serve-restic-over-stdio";
/// How much the server may send before we took it: a pack, so that a long line is full.
const WINDOW: u32 = 16 * 1024 * 1024;
/// How much later than an answer the words may arrive that explain it: they come by another pipe.
const BEHIND: Duration = Duration::from_millis(300);
/// How long the last words of ssh may take once it was ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The way to the program.
#[derive(Debug)]
pub struct Stdio {
    login: Login,
    session: tokio::sync::Mutex<Option<Session>>,
    words: Words,
}

/// The last of what came out of ssh's error output: its own words, and those of the program.
type Words = Arc<Mutex<String>>;

/// One ssh, with a connection on its pipes. Dropping it ends it.
#[derive(Debug)]
struct Session {
    child: Child,
    requests: SendRequest<Bytes>,
    listening: tokio::task::JoinHandle<()>,
}

impl Stdio {
    /// Nothing is connected yet.
    pub fn new(login: Login) -> Self {
        Self { login, session: tokio::sync::Mutex::new(None), words: Words::default() }
    }

    /// What the program said lately.
    pub async fn words(&self) -> String {
        clock::wait(BEHIND).await;
        lock(&self.words).clone()
    }

    /// Asks once, over the connection there is or a new one.
    pub async fn ask(&self, question: &Question<'_>, pace: &Arc<Pace>) -> Result<Answer, Trouble> {
        let moved = Moved::default();
        let mut session = self.session.lock().await;
        let open = match session.take() {
            Some(open) => open,
            None => Session::open(&self.login, &self.words).await?,
        };
        let answer = open.ask(&self.login, question, pace, &moved).await;
        match answer {
            Ok(answer) => {
                *session = Some(open);
                Ok(answer)
            }
            Err(Broken::Answer(trouble)) => Err(trouble),
            Err(Broken::Connection(words)) => Err(open.end(&self.words, &words).await),
        }
    }
}

/// Why there is no answer. The connection is not used again.
enum Broken {
    /// What came is no answer.
    Answer(Trouble),
    /// Nothing came; ssh may know why.
    Connection(String),
}

impl From<Trouble> for Broken {
    fn from(trouble: Trouble) -> Self {
        Broken::Answer(trouble)
    }
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Broken::Connection(error.to_string())
    }
}

impl Session {
    async fn open(login: &Login, words: &Words) -> Result<Self, Trouble> {
        let missing = |error: io::Error| Trouble::new(Kind::Internal, format!("ssh cannot be started: {error}"));
        #[allow(clippy::disallowed_methods, reason = "a conversation over two pipes, which `Child` does not have")]
        let mut command = tokio::process::Command::new("ssh");
        command
            .args(arguments(login))
            .args(["-T", "--", &login.host, COMMAND])
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Pipe::piped())
            .stdout(Pipe::piped())
            .stderr(Pipe::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(missing)?;
        let pipes =
            tokio::io::join(child.stdout.take().expect("stdout is piped"), child.stdin.take().expect("stdin is piped"));
        lock(words).clear();
        let stderr = child.stderr.take().expect("stderr is piped");
        let listening = tokio::spawn(listen(stderr, words.clone()));
        // Both sides may speak first, so this waits for nothing but the pipes.
        let mut builder = Builder::new();
        builder.enable_push(false).initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (requests, connection) =
            builder.handshake(pipes).await.map_err(|error| Trouble::new(Kind::Away, error.to_string()))?;
        // It ends with the pipes; whoever waits for an answer is told.
        drop(tokio::spawn(connection));
        Ok(Self { child, requests, listening })
    }

    async fn ask(
        &self,
        login: &Login,
        question: &Question<'_>,
        pace: &Arc<Pace>,
        moved: &Moved,
    ) -> Result<Answer, Broken> {
        let below = login.path.trim_matches('/');
        let slash = if below.is_empty() { "" } else { "/" };
        let address = format!("http://localhost/{below}{slash}{}", question.path);
        let mut request = Request::builder().method(question.method.clone()).uri(address);
        if let Some(headers) = request.headers_mut() {
            headers.extend(question.headers.clone());
            if question.method == hyper::Method::POST {
                let length: u64 = question.content.iter().map(|bytes| bytes.len() as u64).sum();
                headers.insert(hyper::header::CONTENT_LENGTH, length.into());
            }
        }
        let request =
            request.body(()).map_err(|error| Trouble::new(Kind::Internal, format!("{}: {error}", question.path)))?;
        let mut requests = patient(moved, self.requests.clone().ready()).await??;
        let is_all = question.content.is_empty();
        let (response, stream) = requests.send_request(request, is_all)?;
        let sent = match is_all {
            true => Ok(()),
            false => patient(moved, send(stream, question, pace, moved)).await?,
        };
        receive(response, question, pace, moved, sent).await
    }

    /// Ends ssh, and says what it means that the connection broke.
    async fn end(mut self, words: &Words, otherwise: &str) -> Trouble {
        // A connection that was refused leaves by itself, with a word.
        let ended = tokio::time::timeout(LAST_WORDS, self.child.wait()).await;
        if ended.is_err() {
            let _ = self.child.start_kill();
        }
        let _ = tokio::time::timeout(LAST_WORDS, &mut self.listening).await;
        let words = lock(words).clone();
        match words.contains(COMMAND) {
            true => Trouble::new(Kind::LoginRefused, "the server has no command of its own for this key"),
            false => trouble(&words, otherwise),
        }
    }
}

/// Sends what goes along. The server may answer before it has all of it.
async fn send(
    mut stream: SendStream<Bytes>,
    question: &Question<'_>,
    pace: &Arc<Pace>,
    moved: &Moved,
) -> Result<(), h2::Error> {
    let mut content = Content::new(question.content, pace.clone(), moved.clone());
    while let Some(mut piece) = content.next().await {
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let Some(room) = poll_fn(|context| stream.poll_capacity(context)).await else { return Ok(()) };
            let part = piece.split_to(room?.min(piece.len()));
            moved.fetch_add(part.len() as u64, Ordering::Relaxed);
            stream.send_data(part, false)?;
        }
    }
    stream.send_data(Bytes::new(), true)
}

async fn receive(
    response: ResponseFuture,
    question: &Question<'_>,
    pace: &Pace,
    moved: &Moved,
    sent: Result<(), h2::Error>,
) -> Result<Answer, Broken> {
    let (head, mut body): (_, RecvStream) = patient(moved, response).await??.into_parts();
    if !head.status.is_success() {
        return Ok(Answer { status: head.status, headers: head.headers, body: Bytes::new() });
    }
    sent?;
    let mut arriving = Arriving::new(question, &head.headers)?;
    while let Some(piece) = patient(moved, body.data()).await? {
        let piece = piece?;
        moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        arriving.take(&piece, question, pace).await?;
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(Answer { status: head.status, headers: head.headers, body: arriving.whole()? })
}

/// Keeps the last words.
async fn listen(mut stderr: ChildStderr, words: Words) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        let mut words = lock(&words);
        words.push_str(&String::from_utf8_lossy(&piece[..count]));
        let longest = usize::try_from(LONGEST_WORDS).unwrap_or(usize::MAX);
        let excess = words.len().saturating_sub(longest);
        let excess = words.ceil_char_boundary(excess);
        words.drain(..excess);
    }
}

fn lock(words: &Words) -> std::sync::MutexGuard<'_, String> {
    words.lock().unwrap_or_else(PoisonError::into_inner)
}
