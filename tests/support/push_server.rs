//! An HTTP server that answers pushes as Uptime Kuma does, mistakes included, and keeps the beats it recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::engine::Engine;
use super::http::{Reaction, Request, Response, Server, decode, parse_query};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Up,
    Down,
    /// Down, but not told to anyone yet: retries are left.
    Pending,
    Maintenance,
}

/// One recorded push, or the timer's remark that there was none.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    pub status: Status,
    pub msg: String,
    pub ping: Option<f64>,
}

/// Releases differ in what the same push does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 2.0.0-dev, and the 1.x before it: GET only; down is down at once; pings are whole numbers.
    Old,
    /// 2.5.3, measured.
    Usual,
    /// What its main branch has become: errors have statuses of their own, and a ping is checked strictly.
    Next,
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub enum Mood {
    Kuma,
    /// The same answer to everything; nothing is recorded.
    Answers(Response),
    /// Accepts and never answers.
    Hangs,
    /// Closes every connection without a word.
    HangsUp,
}

impl Mood {
    pub fn broken() -> Self {
        Self::Answers(Response::new(500, "text/html; charset=utf-8", "<!DOCTYPE html><title>Error</title>"))
    }

    /// As a proxy, or Kuma under a path it does not know: success, and not what was asked for.
    pub fn page() -> Self {
        Self::Answers(page())
    }
}

#[derive(Debug, Default)]
struct Monitor {
    is_paused: bool,
    is_in_maintenance: bool,
    retries: u32,
    retries_used: u32,
    beats: Vec<Beat>,
}

#[derive(Debug)]
struct State {
    release: Release,
    mood: Mood,
    monitors: BTreeMap<String, Monitor>,
    requests: Vec<String>,
}

/// A running push endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct PushServer {
    server: Server,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl PushServer {
    pub fn start() -> Self {
        Self::of_release(Release::Usual)
    }

    pub fn of_release(release: Release) -> Self {
        Self::by(release, Server::start)
    }

    /// One that the containers of an engine reach.
    pub fn beside(engine: &Engine) -> Self {
        Self::by(Release::Usual, |react| Server::beside(engine, react))
    }

    fn by(release: Release, start: impl FnOnce(Box<dyn Fn(Request) -> Reaction + Send + Sync>) -> Server) -> Self {
        let state = State { release, mood: Mood::Kuma, monitors: BTreeMap::new(), requests: Vec::new() };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let server = start({
            let shared = shared.clone();
            Box::new(move |request| {
                let (state, changed) = &*shared;
                let reaction = state.lock().expect("nobody panics with it").react(&request);
                changed.notify_all();
                reaction
            })
        });
        Self { server, shared }
    }

    /// `http://<address>:<port>`
    pub fn base(&self) -> String {
        self.server.url()
    }

    /// Makes a monitor; returns its push URL as Kuma shows it, without the example query.
    pub fn monitor(&self, token: &str) -> String {
        self.monitor_with_retries(token, 0)
    }

    pub fn monitor_with_retries(&self, token: &str, retries: u32) -> String {
        self.state().monitors.insert(token.to_owned(), Monitor { retries, ..Monitor::default() });
        format!("{}/api/push/{token}", self.base())
    }

    pub fn pause(&self, token: &str) {
        self.with(token, |monitor| monitor.is_paused = true);
    }

    pub fn unpause(&self, token: &str) {
        self.with(token, |monitor| monitor.is_paused = false);
    }

    pub fn maintain(&self, token: &str, is_in_maintenance: bool) {
        self.with(token, |monitor| monitor.is_in_maintenance = is_in_maintenance);
    }

    /// Lets the monitor's interval pass without a push: Kuma writes a beat of its own, over whatever was said last.
    pub fn let_interval_pass(&self, token: &str) {
        self.with(token, |monitor| {
            let status = monitor.judge(false);
            monitor.beats.push(Beat { status, msg: "No heartbeat in the time window".to_owned(), ping: None });
        });
    }

    pub fn behave(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// What was recorded, oldest first.
    #[track_caller]
    pub fn beats(&self, token: &str) -> Vec<Beat> {
        self.with(token, |monitor| monitor.beats.clone())
    }

    /// Waits until `count` beats are recorded.
    #[track_caller]
    pub fn wait_for_beats(&self, token: &str, count: usize) -> Vec<Beat> {
        let (state, changed) = &*self.shared;
        let state = state.lock().expect("nobody panics with it");
        let (state, timeout) = changed
            .wait_timeout_while(state, Duration::from_secs(30), |state| {
                state.monitors.get(token).is_none_or(|monitor| monitor.beats.len() < count)
            })
            .expect("nobody panics with it");
        let beats = state.monitors.get(token).map(|monitor| monitor.beats.clone()).unwrap_or_default();
        drop(state);
        assert!(!timeout.timed_out(), "waited in vain for {count} beats of {token}: {beats:?}");
        beats
    }

    /// Method and target of every request, answered or not: `GET /api/push/...`.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("nobody panics with it")
    }

    #[track_caller]
    fn with<T>(&self, token: &str, change: impl FnOnce(&mut Monitor) -> T) -> T {
        let mut state = self.state();
        let found = state.monitors.get_mut(token).map(change);
        drop(state);
        found.unwrap_or_else(|| panic!("no monitor has the token {token}"))
    }
}

fn page() -> Response {
    Response::new(
        200,
        "text/html; charset=utf-8",
        "<!DOCTYPE html><html><title>Uptime Kuma</title><div id=\"app\"></div></html>",
    )
}

fn json(status: u16, value: &serde_json::Value) -> Response {
    Response::new(status, "application/json; charset=utf-8", value.to_string())
}

fn refuse(status: u16, why: &str) -> Reaction {
    Reaction::Answer(json(status, &serde_json::json!({ "ok": false, "msg": why })))
}

impl State {
    fn react(&mut self, request: &Request) -> Reaction {
        self.requests.push(format!("{} {}", request.method, request.target));
        match &self.mood {
            Mood::Kuma => self.answer(request),
            Mood::Answers(response) => Reaction::Answer(response.clone()),
            Mood::Hangs => Reaction::Hang,
            Mood::HangsUp => Reaction::HangUp,
        }
    }

    fn answer(&mut self, request: &Request) -> Reaction {
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let token = request.path().strip_prefix("/api/push/").filter(|token| !token.is_empty() && !token.contains('/'));
        let (Some(token), true) = (token, reads || self.release != Release::Old) else {
            // Everything that is no API is the web interface's business, and it says 200 to every path.
            return Reaction::Answer(if reads {
                page()
            } else {
                Response::new(404, "text/html; charset=utf-8", "<pre>Cannot POST</pre>")
            });
        };
        let query = parse_query(request.query());
        let values = |name: &str| -> Vec<&str> {
            query.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
        };
        // JavaScript: an empty text counts as absent, and two of one name are a list, which no text equals.
        let is_up = match values("status")[..] {
            [] | [""] => true,
            [status] => status == "up",
            _ => false,
        };
        let msg = match values("msg")[..] {
            [] | [""] => "OK".to_owned(),
            [msg] => msg.to_owned(),
            _ => "[object Object]".to_owned(),
        };
        let ping = match parse_ping(self.release, values("ping").first().copied().unwrap_or_default()) {
            Ok(ping) => ping,
            Err(why) => {
                return refuse(if self.release == Release::Next { 400 } else { 404 }, &why);
            }
        };
        let release = self.release;
        let Some(monitor) = self.monitors.get_mut(&decode(token)).filter(|monitor| !monitor.is_paused) else {
            return refuse(if release == Release::Next { 500 } else { 404 }, "Monitor not found or not active.");
        };
        let status = if monitor.is_in_maintenance {
            Status::Maintenance
        } else if release == Release::Old {
            if is_up { Status::Up } else { Status::Down }
        } else {
            monitor.judge(is_up)
        };
        monitor.beats.push(Beat { status, msg, ping });
        Reaction::Answer(json(200, &serde_json::json!({ "ok": true })))
    }
}

impl Monitor {
    /// The first failures after a success use up the retries, and only then is it down.
    fn judge(&mut self, is_up: bool) -> Status {
        if is_up {
            self.retries_used = 0;
            Status::Up
        } else if self.retries_used < self.retries {
            self.retries_used += 1;
            Status::Pending
        } else {
            Status::Down
        }
    }
}

fn parse_ping(release: Release, text: &str) -> Result<Option<f64>, String> {
    let invalid = || format!("Invalid ping value: {text}");
    match release {
        // `parseInt(...) || null`: digits at the front, and zero counts as absent.
        Release::Old => Ok(leading(text, |byte| byte.is_ascii_digit()).filter(|ping| *ping != 0.0)),
        // `parseFloat(...) || null`
        Release::Usual => {
            let ping = leading(text, |byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
            match ping.filter(|ping| *ping != 0.0) {
                Some(ping) if !(0.0..=1e11).contains(&ping) => Err(invalid()),
                ping => Ok(ping),
            }
        }
        Release::Next => match text.trim().parse::<f64>() {
            _ if text.is_empty() => Ok(None),
            Ok(ping) if (0.0..=86_400_000.0).contains(&ping) => Ok(Some(ping)),
            Ok(_) | Err(_) => Err(invalid()),
        },
    }
}

/// The longest number that the text begins with.
fn leading(text: &str, belongs: impl Fn(u8) -> bool) -> Option<f64> {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let length = sign + text[sign..].bytes().take_while(|byte| belongs(*byte)).count();
    (1..=length).rev().find_map(|length| text[..length].parse::<f64>().ok())
}
