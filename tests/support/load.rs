//! A small load: workers that ask without a break, and count the answers. Nothing is asked twice.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::wait::{breathe, until};

/// What the answers were.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often each status came.
    pub answers: BTreeMap<u16, usize>,
    /// How often each body came, with a status of 200.
    pub bodies: BTreeMap<String, usize>,
    /// Why there was none.
    pub lost: Vec<String>,
    /// The longest time that an answer took, but for those that are slow by themselves.
    pub longest: Duration,
    /// The statuses of each worker in their order, each once until another one comes.
    pub orders: Vec<Vec<u16>>,
}

impl Tally {
    /// How many requests were sent.
    pub fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.lost.len()
    }

    /// How many of them got no whole answer, or another one than 200.
    pub fn failures(&self) -> usize {
        // Without a length, an answer that was cut off looks whole, and is empty.
        let whole = self.bodies.iter().filter(|(body, _)| !body.is_empty());
        self.requests() - whole.map(|(_, count)| count).sum::<usize>()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bodies: Vec<String> = self.bodies.iter().map(|(body, count)| format!("{count} `{body}`")).collect();
        let (failures, requests, bodies) = (self.failures(), self.requests(), bodies.join(", "));
        write!(f, "{failures} of {requests} requests lost; {bodies}; at most {} ms", self.longest.as_millis())?;
        let others: Vec<_> = self.answers.iter().filter(|(status, _)| **status != 200).collect();
        if others.is_empty() && self.lost.is_empty() { Ok(()) } else { write!(f, "; {others:?}, {:?}", self.lost) }
    }
}

/// What one worker does.
#[derive(Debug, Clone)]
pub struct Habit {
    /// What it asks for.
    pub path: String,
    /// Whether it keeps its connection.
    pub keeps: bool,
    /// Whether its answers take long by themselves: then one is in flight most of the time.
    pub is_slow: bool,
}

/// A load that goes on until it is ended.
#[derive(Debug)]
pub struct Load {
    ending: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    workers: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Asks for `/` of this host on a port of the engine's loopback; every other worker keeps its connection.
    pub fn start(engine: &Engine, port: u16, host: &str, workers: usize) -> Self {
        let habit = |number: usize| Habit { path: "/".into(), keeps: number.is_multiple_of(2), is_slow: false };
        Self::of(engine, port, host, (0..workers).map(habit).collect())
    }

    /// One worker for each of these habits.
    pub fn of(engine: &Engine, port: u16, host: &str, habits: Vec<Habit>) -> Self {
        let (ending, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let worker = |habit: Habit| {
            let (ending, sent) = (ending.clone(), sent.clone());
            let (netns, host) = (engine.netns.clone(), host.to_owned());
            std::thread::spawn(move || {
                Engine::enter(&netns);
                work(port, &host, &habit, &ending, &sent)
            })
        };
        let workers = habits.into_iter().map(worker).collect();
        Self { ending, sent, workers }
    }

    /// Returns when so many requests more have been sent.
    #[track_caller]
    pub fn goes_on_for(&self, more: usize) {
        let goal = self.sent.load(Ordering::SeqCst) + more;
        until("the requests are sent", || (self.sent.load(Ordering::SeqCst) >= goal).then_some(()));
    }

    /// Ends it.
    #[track_caller]
    pub fn end(self) -> Tally {
        self.ending.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for worker in self.workers {
            let one = worker.join().expect("a worker counts its failures");
            one.answers.into_iter().for_each(|(status, count)| *all.answers.entry(status).or_default() += count);
            one.bodies.into_iter().for_each(|(body, count)| *all.bodies.entry(body).or_default() += count);
            all.longest = all.longest.max(one.longest);
            all.lost.extend(one.lost);
            all.orders.extend(one.orders);
        }
        all
    }
}

/// One request for `/` of this host, with its whole answer. Unlike `nc`, it does not hang up before it was answered.
#[track_caller]
pub fn request(engine: &Engine, port: u16, host: &str) -> String {
    let (netns, host) = (engine.netns.clone(), host.to_owned());
    let asking = std::thread::spawn(move || -> std::io::Result<String> {
        Engine::enter(&netns);
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    asking.join().expect("it only asks").unwrap_or_else(|error| error.to_string())
}

fn work(port: u16, host: &str, habit: &Habit, ending: &AtomicBool, sent: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    let mut order: Vec<u16> = Vec::new();
    let mut kept: Option<BufReader<TcpStream>> = None;
    while !ending.load(Ordering::SeqCst) {
        sent.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        match ask(port, host, habit, &mut kept) {
            Ok((status, body)) => {
                *tally.answers.entry(status).or_default() += 1;
                if status == 200 {
                    *tally.bodies.entry(body).or_default() += 1;
                }
                if !habit.is_slow {
                    tally.longest = tally.longest.max(began.elapsed());
                }
                if order.last() != Some(&status) {
                    order.push(status);
                }
            }
            Err(error) => {
                kept = None;
                tally.lost.push(format!("{} after {} ms: {error}", habit.path, began.elapsed().as_millis()));
            }
        }
        breathe();
    }
    tally.orders.push(order);
    tally
}

/// One request, to the end of its answer.
fn ask(
    port: u16,
    host: &str,
    habit: &Habit,
    kept: &mut Option<BufReader<TcpStream>>,
) -> std::io::Result<(u16, String)> {
    let (path, keeps) = (&habit.path, habit.keeps);
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(("127.0.0.1", port))?),
    };
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(20)))?;
    let connection = if keeps { "keep-alive" } else { "close" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes())?;
    let broken = |what: &str| std::io::Error::other(what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| broken("the connection was closed before the answer"))?;
    let mut length = None;
    let mut chunked = false;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            _ if header.is_empty() => break,
            Some(("content-length", value)) => length = value.parse().ok(),
            Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(&mut stream, &mut body)?;
    } else if let Some(length) = length {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    }
    if keeps && (chunked || length.is_some()) {
        *kept = Some(stream);
    }
    Ok((status, String::from_utf8_lossy(&body).trim().to_owned()))
}

fn read_chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; length + 2];
        stream.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..length]);
        if length == 0 {
            return Ok(());
        }
    }
}
