//! One question to a server and its answer, over HTTP or over what an SSH server runs, each with a bounded wait and a
//! bounded size.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::CONTENT_LENGTH;
use hyper::{HeaderMap, Method, StatusCode};

use super::super::super::trouble::{Kind, Trouble};
use super::super::pace::Pace;
use super::content::Moved;
use super::http::Http;
use super::stdio::Stdio;
use crate::world::clock;

/// What a pack has at most that we made.
const LIKELY: u64 = 20 * 1024 * 1024;
/// How long nothing may move while we wait for the server.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// What is to be done.
    pub method: Method,
    /// With what, below the repository.
    pub path: &'a str,
    /// Headers of this question.
    pub headers: HeaderMap,
    /// What goes along.
    pub content: &'a [Bytes],
    /// How much is read of the answer, if it is what was asked for.
    pub most: u64,
}

/// What the server answers.
#[derive(Debug)]
pub struct Answer {
    /// How it went.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, all of it; of an answer other than success, nothing.
    pub body: Bytes,
}

/// The way to a server.
#[derive(Debug)]
pub enum Wire {
    /// HTTP or HTTPS.
    Http(Http),
    /// HTTP/2 on the input and output of what an SSH server runs.
    Ssh(Box<Stdio>),
}

impl Wire {
    /// Asks once.
    pub async fn ask(&self, question: &Question<'_>, pace: &Arc<Pace>) -> Result<Answer, Trouble> {
        match self {
            Wire::Http(http) => http.ask(question, pace).await,
            Wire::Ssh(stdio) => stdio.ask(question, pace).await,
        }
    }

    /// What the server's program said lately that was no answer.
    pub async fn words(&self) -> String {
        match self {
            Wire::Http(_) => String::new(),
            Wire::Ssh(stdio) => stdio.words().await,
        }
    }
}

/// Waits for something as long as anything moves.
pub async fn patient<T>(moved: &Moved, act: impl Future<Output = T>) -> Result<T, Trouble> {
    within(PATIENCE, moved, act).await
}

async fn within<T>(limit: Duration, moved: &Moved, act: impl Future<Output = T>) -> Result<T, Trouble> {
    let mut act = pin!(act);
    loop {
        let before = moved.load(Ordering::Relaxed);
        match tokio::time::timeout(limit, &mut act).await {
            Ok(done) => return Ok(done),
            Err(_) if moved.load(Ordering::Relaxed) != before => {}
            Err(_) => {
                let words = format!("the server did not answer within {} s", limit.as_secs());
                return Err(Trouble::new(Kind::Away, words));
            }
        }
    }
}

/// A body that is arriving.
#[derive(Debug)]
pub struct Arriving {
    bytes: Vec<u8>,
    most: u64,
    /// What the server said that it would be.
    whole: Option<u64>,
}

impl Arriving {
    /// The body of an answer with these headers; an error if it will be more than we take.
    pub fn new(question: &Question<'_>, headers: &HeaderMap) -> Result<Self, Trouble> {
        let whole = length(headers).filter(|_| question.method != Method::HEAD);
        if whole.is_some_and(|whole| whole > question.most) {
            return Err(too_large(question.path));
        }
        // No more than a promise: it grows by what arrives.
        let likely = whole.unwrap_or_default().min(LIKELY);
        Ok(Self { bytes: Vec::with_capacity(usize::try_from(likely).unwrap_or_default()), most: question.most, whole })
    }

    /// Takes what arrived.
    pub async fn take(&mut self, piece: &[u8], question: &Question<'_>, pace: &Pace) -> Result<(), Trouble> {
        if (self.bytes.len() + piece.len()) as u64 > self.most {
            return Err(too_large(question.path));
        }
        self.bytes.extend_from_slice(piece);
        let wait = pace.after_download(piece.len() as u64);
        if !wait.is_zero() {
            clock::wait(wait).await;
        }
        Ok(())
    }

    /// All of it: less than was said is a connection that broke off.
    pub fn whole(self) -> Result<Bytes, Trouble> {
        match self.whole.is_none_or(|whole| whole == self.bytes.len() as u64) {
            true => Ok(self.bytes.into()),
            false => Err(Trouble::new(Kind::Away, "the answer was cut off")),
        }
    }
}

fn too_large(path: &str) -> Trouble {
    Trouble::new(Kind::Damaged, format!("{path} is too large"))
}

/// How long the server says that something is.
pub fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(most: u64) -> Question<'static> {
        Question { method: Method::GET, path: "keys/a", headers: HeaderMap::new(), content: &[], most }
    }

    fn headers(length: &str) -> HeaderMap {
        [(CONTENT_LENGTH, length.parse().unwrap())].into_iter().collect()
    }

    #[tokio::test]
    async fn a_server_that_keeps_silent_is_given_up_and_one_that_takes_long_is_not() {
        let (short, moved) = (Duration::from_millis(50), Moved::default());
        let silent = within(short, &moved, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(silent.kind, Kind::Away);
        let steps = moved.clone();
        let slow = async move {
            for _ in 0..40 {
                clock::wait(short / 5).await;
                steps.fetch_add(1, Ordering::Relaxed);
            }
        };
        within(short, &moved, slow).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_is_taken_whole_or_not_at_all_and_never_beyond_the_bound() {
        let (question, pace) = (question(10), Pace::default());
        let mut arriving = Arriving::new(&question, &headers("4")).unwrap();
        arriving.take(b"abc", &question, &pace).await.unwrap();
        assert_eq!(arriving.whole().unwrap_err().kind, Kind::Away);
        assert!(Arriving::new(&question, &headers("11")).is_err());
        let mut arriving = Arriving::new(&question, &HeaderMap::new()).unwrap();
        arriving.take(b"0123456789", &question, &pace).await.unwrap();
        assert!(arriving.take(b"0", &question, &pace).await.is_err());
    }
}
