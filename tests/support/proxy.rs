//! Stands between a host and its engine, counts what is asked, and holds one question until something has happened to the
//! engine: so an engine goes away exactly at that call.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// When a question is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The engine has not heard it.
    Before,
    /// The engine has done it; its answer is not passed on.
    After,
}

/// One question to the engine.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method and path.
    pub line: String,
    /// Whether the plugin asked, not the agent.
    pub by_plugin: bool,
}

#[derive(Default)]
struct Watch {
    questions: Vec<Question>,
    hold: Option<(usize, Side)>,
    is_reached: bool,
    is_away: bool,
}

struct Shared {
    socket: PathBuf,
    engine: PathBuf,
    watch: Mutex<Watch>,
    changed: Condvar,
}

/// A socket in front of the engine's. Dropping it closes it.
pub struct Proxy {
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    #[track_caller]
    pub fn start(socket: PathBuf, engine: &Path) -> Self {
        let watch = Mutex::new(Watch { is_away: true, ..Watch::default() });
        let shared = Shared { socket, engine: engine.to_owned(), watch, changed: Condvar::new() };
        let proxy = Self { shared: Arc::new(shared), listening: Mutex::new(None) };
        proxy.come_back();
        proxy
    }

    /// Forgets what was asked, and holds the question with this number, counted from 1.
    pub fn hold(&self, number: usize, side: Side) {
        let mut watch = self.shared.watch();
        *watch = Watch { hold: Some((number, side)), ..Watch::default() };
    }

    /// Forgets what was asked, and holds nothing.
    pub fn count(&self) {
        *self.shared.watch() = Watch::default();
    }

    /// What was asked since.
    pub fn questions(&self) -> Vec<Question> {
        self.shared.watch().questions.clone()
    }

    /// Whether the question is held.
    pub fn is_reached(&self) -> bool {
        self.shared.watch().is_reached
    }

    /// Lets the held question go on, to an engine that is not as it was.
    pub fn release(&self) {
        self.shared.watch().hold = None;
        self.shared.changed.notify_all();
    }

    /// Refuses connections, as a socket does that nobody listens on.
    pub fn go_away(&self) {
        self.shared.watch().is_away = true;
        // Who waits for a connection sees it only then.
        UnixStream::connect(&self.shared.socket).ok();
        if let Some(listening) = self.listening.lock().expect("nobody panics with it").take() {
            listening.join().expect("it does not panic");
        }
    }

    /// Listens again.
    #[track_caller]
    pub fn come_back(&self) {
        std::fs::remove_file(&self.shared.socket).ok();
        let listener = UnixListener::bind(&self.shared.socket).expect("the directory is writable");
        self.shared.watch().is_away = false;
        let shared = Arc::clone(&self.shared);
        let listening = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.watch().is_away {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.serve(&client));
            }
        });
        *self.listening.lock().expect("nobody panics with it") = Some(listening);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.release();
        self.go_away();
        std::fs::remove_file(&self.shared.socket).ok();
    }
}

impl Shared {
    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One connection, with all its questions. Whatever goes wrong ends it, as it would without us.
    fn serve(&self, client: &UnixStream) {
        if let Ok(engine) = UnixStream::connect(&self.engine) {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _ = self.pass_answers(client, &engine);
                    let _ = client.shutdown(Shutdown::Both);
                });
                let _ = self.pass_questions(client, &engine);
                let _ = engine.shutdown(Shutdown::Write);
            });
        }
        let _ = client.shutdown(Shutdown::Both);
    }

    fn pass_questions(&self, client: &UnixStream, mut engine: &UnixStream) -> std::io::Result<()> {
        let mut from = BufReader::new(client);
        loop {
            let (head, length) = head(&mut from)?;
            let Some(line) = head.lines().next() else { return Ok(()) };
            let mut body = Vec::new();
            match length {
                Length::Known(length) => _ = from.by_ref().take(length).read_to_end(&mut body)?,
                Length::Chunks => chunks(&mut from, &mut body)?,
            }
            let by_plugin = head.to_ascii_lowercase().contains("user-agent: compose");
            self.hear(Question { line: line.to_owned(), by_plugin });
            engine.write_all(head.as_bytes())?;
            engine.write_all(&body)?;
        }
    }

    /// Notes a question, and waits if it is the one to be held.
    fn hear(&self, question: Question) {
        let mut watch = self.watch();
        watch.questions.push(question);
        if watch.hold == Some((watch.questions.len(), Side::Before)) {
            watch.is_reached = true;
            drop(self.changed.wait_while(watch, |watch| watch.hold.is_some()));
        }
    }

    fn pass_answers(&self, mut client: &UnixStream, mut engine: &UnixStream) -> std::io::Result<()> {
        let mut piece = [0; 16 * 1024];
        loop {
            let count = engine.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            let mut watch = self.watch();
            if watch.hold.is_some_and(|(number, side)| side == Side::After && watch.questions.len() >= number) {
                watch.is_reached = true;
                drop(self.changed.wait_while(watch, |watch| watch.hold.is_some()));
                return Ok(());
            }
            drop(watch);
            client.write_all(&piece[..count])?;
        }
    }
}

enum Length {
    Known(u64),
    Chunks,
}

/// The head of a question, and how long its body is.
fn head(from: &mut impl std::io::BufRead) -> std::io::Result<(String, Length)> {
    let (mut head, mut length) = (String::new(), Length::Known(0));
    loop {
        let begin = head.len();
        if from.read_line(&mut head)? == 0 {
            return Ok((String::new(), Length::Known(0)));
        }
        let line = head[begin..].trim().to_ascii_lowercase();
        if line.is_empty() {
            return Ok((head, length));
        }
        match line.split_once(':') {
            Some(("content-length", value)) => {
                length = Length::Known(value.trim().parse().map_err(std::io::Error::other)?);
            }
            Some(("transfer-encoding", value)) if value.trim() == "chunked" => length = Length::Chunks,
            _ => {}
        }
    }
}

/// A body in chunks, as it came.
fn chunks(from: &mut impl std::io::BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        body.extend_from_slice(line.as_bytes());
        let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        // With the line end after it.
        from.take(size + 2).read_to_end(body)?;
        if size == 0 {
            return Ok(());
        }
    }
}
