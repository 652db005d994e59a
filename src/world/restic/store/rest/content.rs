//! What is sent with a question: piece by piece, as fast as it may go, and with a count of what is under way.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::super::pace::Pace;
use crate::world::clock;

/// How much goes out at a time: at the slowest rate that can be set, one second's worth.
const PIECE: usize = 64 * 1024;

/// How far a question and its answer are: a number that grows as long as anything moves.
pub type Moved = Arc<AtomicU64>;

/// The content of one question, once.
pub struct Content {
    waiting: VecDeque<Bytes>,
    left: u64,
    pace: Arc<Pace>,
    moved: Moved,
    next: Option<(Bytes, Option<Wait>)>,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Content {
    /// Of these bytes.
    pub fn new(content: &[Bytes], pace: Arc<Pace>, moved: Moved) -> Self {
        let mut waiting = VecDeque::new();
        for bytes in content {
            let mut rest = bytes.clone();
            while rest.len() > PIECE {
                waiting.push_back(rest.split_to(PIECE));
            }
            waiting.push_back(rest);
        }
        let left = waiting.iter().map(|piece| piece.len() as u64).sum();
        Self { waiting, left, pace, moved, next: None }
    }

    /// The next piece, when it may be sent.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.next.is_none() {
            let Some(piece) = self.waiting.pop_front() else { return Poll::Ready(None) };
            let wait = self.pace.before_upload(piece.len() as u64);
            let wait = (!wait.is_zero()).then(|| Box::pin(clock::wait(wait)) as Wait);
            self.next = Some((piece, wait));
        }
        if let Some((_, Some(wait))) = &mut self.next {
            ready!(wait.as_mut().poll(context));
        }
        let piece = self.next.take().map(|(piece, _)| piece);
        let length = piece.as_ref().map_or(0, |piece| piece.len() as u64);
        self.left -= length;
        self.moved.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(piece)
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_next(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    /// The server must know how much it is, or it could not tell half of it from all of it.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.left)
    }
}
