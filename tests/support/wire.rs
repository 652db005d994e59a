//! A line between a client and a server on the loopback: it can be long, and be cut, and it counts.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// The line. Dropping it cuts it.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: u16,
    delay: Duration,
    is_over: AtomicBool,
    carried: AtomicU64,
    ends: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// A line to a port; everything takes `delay` in each direction.
    #[track_caller]
    pub fn to(port: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let own = listener.local_addr().expect("a listener has an address").port();
        let shared = Arc::new(Shared {
            to: port,
            delay,
            is_over: AtomicBool::default(),
            carried: AtomicU64::default(),
            ends: Mutex::default(),
        });
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if all.is_over.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is away refuses; the client sees the end of its connection.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", all.to)) {
                    all.carry(&client, &server);
                    all.carry(&server, &client);
                    all.ends.lock().expect("nobody panics with it").extend([client, server]);
                }
            }
        });
        Self { port: own, shared }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Bytes so far, in both directions.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// Ends every connection. New ones are taken.
    pub fn cut(&self) {
        for end in self.shared.ends.lock().expect("nobody panics with it").drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.cut();
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, from: &TcpStream, to: &TcpStream) {
        let [mut from, mut to] = [from, to].map(|stream| stream.try_clone().expect("a socket can be shared"));
        to.set_nodelay(true).ok();
        // As much as is under way on a line of this length; more must wait for room.
        let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(64);
        let (all, delay) = (self.clone(), self.delay);
        std::thread::spawn(move || {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                if sender.send((Instant::now() + delay, piece[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || {
            for (due, piece) in receiver {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    return;
                }
                all.carried.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
            to.shutdown(Shutdown::Write).ok();
        });
    }
}
