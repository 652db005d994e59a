//! A small load: workers that ask without a break, half of them over connections that they keep, and count the answers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::engine::Engine;
use super::wait::breathe;

/// What the answers were.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often each status came.
    pub answers: BTreeMap<u16, usize>,
    /// Why there was none.
    pub lost: Vec<String>,
    /// The statuses of each worker in their order, each once until another one comes.
    pub orders: Vec<Vec<u16>>,
}

impl Tally {
    /// How many requests were sent.
    pub fn requests(&self) -> usize {
        self.answers.values().sum::<usize>() + self.lost.len()
    }
}

/// A load that goes on until it is ended.
#[derive(Debug)]
pub struct Load {
    ending: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Asks for `/` of this host on a port of the engine's loopback.
    pub fn start(engine: &Engine, port: u16, host: &str, workers: usize) -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let worker = |number: usize| {
            let (ending, netns, host) = (ending.clone(), engine.netns.clone(), host.to_owned());
            std::thread::spawn(move || {
                Engine::enter(&netns);
                work(port, &host, number % 2 == 0, &ending)
            })
        };
        let workers = (0..workers).map(worker).collect();
        Self { ending, workers }
    }

    /// Ends it.
    #[track_caller]
    pub fn end(self) -> Tally {
        self.ending.store(true, Ordering::SeqCst);
        let mut all = Tally::default();
        for worker in self.workers {
            let one = worker.join().expect("a worker counts its failures");
            one.answers.into_iter().for_each(|(status, count)| *all.answers.entry(status).or_default() += count);
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

fn work(port: u16, host: &str, keeps: bool, ending: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut order: Vec<u16> = Vec::new();
    let mut kept: Option<BufReader<TcpStream>> = None;
    while !ending.load(Ordering::SeqCst) {
        match ask(port, host, keeps, &mut kept) {
            Ok(status) => {
                *tally.answers.entry(status).or_default() += 1;
                if order.last() != Some(&status) {
                    order.push(status);
                }
            }
            Err(error) => {
                kept = None;
                tally.lost.push(error.to_string());
            }
        }
        breathe();
    }
    tally.orders.push(order);
    tally
}

/// One request, to the end of its answer.
fn ask(port: u16, host: &str, keeps: bool, kept: &mut Option<BufReader<TcpStream>>) -> std::io::Result<u16> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(("127.0.0.1", port))?),
    };
    stream.get_ref().set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = if keeps { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n");
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
    if chunked {
        read_chunks(&mut stream)?;
    } else if let Some(length) = length {
        stream.read_exact(&mut vec![0; length])?;
    }
    if keeps && (chunked || length.is_some()) {
        *kept = Some(stream);
    }
    Ok(status)
}

fn read_chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        stream.read_exact(&mut vec![0; length + 2])?;
        if length == 0 {
            return Ok(());
        }
    }
}
