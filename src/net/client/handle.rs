//! [`Client`]: the handle of a session, and the futures of its requests. Requests wait in `shared`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::oneshot;

use super::shared::{Ending, NOTHING, QueuedRequest, RequestKind, SessionShared, Stats};
use super::{Builder, Events};
use crate::client::Closed;
use crate::error::Refusal;
use crate::reliable::Outcome;

/// A handle of a session. Clones share the session, for any task and thread.
///
/// The session lasts while there is a handle, or [`Events`]. Valid targets are names, and the `#room`s that
/// the session is in; the server decides.
#[derive(Clone, Debug)]
pub struct Client(Arc<Handle>);

/// State shared by the clones; dropped with the last of them.
#[derive(Debug)]
struct Handle {
    shared: Arc<SessionShared>,
    max_message: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.drop_clients();
    }
}

impl Client {
    /// Starts building a session to `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:///PATH`. `HOST:PORT` alone
    /// is TCP; the default port is 50000.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Creates the handles of a session that has no driver yet.
    pub(super) fn new(shared: &Arc<SessionShared>, max_message: usize) -> (Self, Events) {
        let handle = Handle { shared: Arc::clone(shared), max_message };
        (Self(Arc::new(handle)), Events::new(Arc::clone(shared)))
    }

    /// Sends a message to a name, or to all other members of a `#room`.
    ///
    /// Acked means that the message is queued for its receiver, exactly once.
    pub fn send(&self, target: &str, body: impl Into<Vec<u8>>) -> Request {
        let (target, body) = (target.to_owned(), body.into());
        // A frame has a space before each.
        if target.len() + body.len() + 2 > self.0.max_message {
            return self.refuse(Refusal::TooLong);
        }
        self.request(&target, RequestKind::Send { body, target: target.clone().into_bytes() })
    }

    /// Joins a `#room`. A new session, after [`Event::SessionLost`](super::Event::SessionLost), rejoins it.
    pub fn join(&self, room: &str) -> Request {
        self.request(room, RequestKind::Join(room.into()))
    }

    /// Leaves a `#room`.
    pub fn leave(&self, room: &str) -> Request {
        self.request(room, RequestKind::Leave(room.into()))
    }

    /// Lists the names of all sessions, or of a room's members. Read an acked answer with
    /// [`Names::read`](crate::client::Names::read).
    pub fn list(&self, room: Option<&str>) -> Request {
        self.request(room.unwrap_or("#"), RequestKind::List(room.map(Into::into)))
    }

    /// Pings the server: acked means that it is alive.
    pub fn ping(&self) -> Request {
        self.request("#", RequestKind::Ping)
    }

    /// Closes the session with BYE once all earlier requests have ended; later requests are never sent.
    /// Resolves when the session has ended, for any reason, and its socket is closed.
    pub fn close(&self) -> Close {
        let (answer, to) = oneshot::channel();
        Close(PendingReply::new(self.clone(), QueuedRequest::Close(answer), to))
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// Creates a request; `word` must be one word in its frame.
    fn request(&self, word: &str, what: RequestKind) -> Request {
        if !is_word(word) {
            return self.refuse(Refusal::Malformed);
        }
        let (answer, to) = oneshot::channel();
        Request(PendingReply::new(self.clone(), QueuedRequest::Request(what, answer), to))
    }

    /// Creates a request that is rejected without being sent.
    fn refuse(&self, refusal: Refusal) -> Request {
        let (answer, to) = oneshot::channel();
        // The receiver is still alive.
        let _ = answer.send(Outcome::Rejected(refusal.code(), refusal.text().into()));
        Request(PendingReply { client: self.clone(), unqueued: None, key: NOTHING, answer: to })
    }
}

/// Whether it is one word in a frame.
pub(super) fn is_word(word: &str) -> bool {
    !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// A request: a future of its [`Outcome`].
///
/// Nothing is queued before the first poll, and nothing is sent before there is room ([`Builder::max_pending`]).
/// Dropped until then, it is never sent. Dropped later, it continues by its policy, and its outcome is discarded. It
/// keeps the session alive, like a [`Client`].
///
/// A request that fits no frame is rejected without being sent. The code is 400 if a target is not one word, 413 if the
/// request is longer than [`Builder::max_message`] or than a datagram.
#[derive(Debug)]
#[must_use = "nothing is asked before a request is polled"]
pub struct Request(PendingReply<Outcome>);

impl Future for Request {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        // A driver that ended without an answer may have sent it.
        self.0.poll(cx).map(|outcome| outcome.unwrap_or(Outcome::Unknown))
    }
}

/// The close of a session: a future of how it [ended](Ending).
///
/// As with a [`Request`], nothing happens before the first poll. Dropped after that, the session ends all the same.
#[derive(Debug)]
#[must_use = "nothing is sent before a close is polled"]
pub struct Close(PendingReply<Ending>);

impl Future for Close {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let ending = self.0.poll(cx);
        ending.map(|ending| ending.unwrap_or_else(|| self.0.without_driver()))
    }
}

/// A queued request or close, and the receiver of its result.
#[derive(Debug)]
struct PendingReply<T> {
    client: Client,
    /// Until it is first polled.
    unqueued: Option<QueuedRequest>,
    /// The key to withdraw it.
    key: u64,
    answer: oneshot::Receiver<T>,
}

impl<T> PendingReply<T> {
    fn new(client: Client, asked: QueuedRequest, answer: oneshot::Receiver<T>) -> Self {
        Self { client, unqueued: Some(asked), key: NOTHING, answer }
    }

    /// `None` if the driver ended without an answer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(asked) = self.unqueued.take() {
            self.key = self.client.0.shared.ask(asked);
        }
        Pin::new(&mut self.answer).poll(cx).map(Result::ok)
    }

    fn without_driver(&self) -> Ending {
        Ending { closed: Closed::GaveUp, stats: self.client.stats() }
    }
}

impl<T> Drop for PendingReply<T> {
    fn drop(&mut self) {
        if self.key != NOTHING {
            self.client.0.shared.withdraw(self.key);
        }
    }
}
