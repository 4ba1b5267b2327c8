//! Who asks: handles, and the futures of what they ask.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::oneshot;

use super::shared::{Asked, Ending, NOTHING, Shared, Stats, What};
use super::{Builder, Events};
use crate::client::Closed;
use crate::error::Refusal;
use crate::reliable::Outcome;

/// A handle of a session. Clones are handles of the same session, for any task and thread.
///
/// The session goes on while there is a handle, or [`Events`]. What a target may be is for the server to say: a
/// name, or the `#room` that one is in.
#[derive(Clone, Debug)]
pub struct Client(Arc<Handle>);

/// What the clones share: the session is told when the last of them is gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    max_message: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.no_clients();
    }
}

impl Client {
    /// Begins to say where to: `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:///PATH`; `HOST:PORT` alone is TCP, and a port
    /// that is left out is 50000.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// The handles of a session that nobody drives yet.
    pub(super) fn new(shared: &Arc<Shared>, max_message: usize) -> (Self, Events) {
        let handle = Handle { shared: Arc::clone(shared), max_message };
        (Self(Arc::new(handle)), Events::new(Arc::clone(shared)))
    }

    /// Sends a message to a name, or to a `#room` for all its other members.
    ///
    /// Acked means that it is queued for its receiver, exactly once.
    pub fn send(&self, target: &str, body: impl Into<Vec<u8>>) -> Request {
        let (target, body) = (target.to_owned(), body.into());
        // In a frame, a space goes before each.
        if target.len() + body.len() + 2 > self.0.max_message {
            return self.refuse(Refusal::TooLong);
        }
        self.request(&target, What::Send { body, target: target.clone().into_bytes() })
    }

    /// Joins a `#room`. In a new session, after [`Event::SessionLost`](super::Event::SessionLost), it is joined again.
    pub fn join(&self, room: &str) -> Request {
        self.request(room, What::Join(room.into()))
    }

    /// Leaves a `#room`.
    pub fn leave(&self, room: &str) -> Request {
        self.request(room, What::Leave(room.into()))
    }

    /// Asks for the names of everybody, or of a `#room`'s members. What an acked one carries is read with
    /// [`Names::read`](crate::client::Names::read).
    pub fn list(&self, room: Option<&str>) -> Request {
        self.request(room.unwrap_or("#"), What::List(room.map(Into::into)))
    }

    /// Asks for an echo: acked means that the server is there.
    pub fn ping(&self) -> Request {
        self.request("#", What::Ping)
    }

    /// Says goodbye once everything asked so far has ended; what is asked later is never sent. Resolves when the session has
    /// ended and its socket is closed, however that came about.
    pub fn close(&self) -> Close {
        let (answer, to) = oneshot::channel();
        Close(Asking::new(self.clone(), Asked::Close(answer), to))
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.stats()
    }

    /// `word` is what has to stand as one word in a frame.
    fn request(&self, word: &str, what: What) -> Request {
        if !is_word(word) {
            return self.refuse(Refusal::Malformed);
        }
        let (answer, to) = oneshot::channel();
        Request(Asking::new(self.clone(), Asked::Request(what, answer), to))
    }

    /// Rejected without being sent.
    fn refuse(&self, refusal: Refusal) -> Request {
        let (answer, to) = oneshot::channel();
        // The other end is right here.
        let _ = answer.send(Outcome::Rejected(refusal.code(), refusal.text().into()));
        Request(Asking { client: self.clone(), unasked: None, key: NOTHING, answer: to })
    }
}

/// Whether it can stand as one word in a frame.
pub(super) fn is_word(word: &str) -> bool {
    !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Something that a client asks: a future of its [`Outcome`].
///
/// Nothing is asked before it is first polled, and nothing is sent before there is room for it
/// ([`Builder::max_pending`]); until then it leaves nothing behind when it is dropped. Dropped after that, it goes on by
/// its policy, and nobody hears of its outcome. It keeps the session, like a [`Client`].
///
/// What fits no frame is rejected without being sent: with 400 what is not one word where one is due, with 413 what is
/// longer than [`Builder::max_message`] or than a datagram.
#[derive(Debug)]
#[must_use = "nothing is asked before a request is polled"]
pub struct Request(Asking<Outcome>);

impl Future for Request {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        // A driver that is gone without an answer had sent it, for all one knows.
        self.0.poll(cx).map(|outcome| outcome.unwrap_or(Outcome::Unknown))
    }
}

/// A goodbye: a future of how the session [ended](Ending).
///
/// As with a [`Request`], nothing is said before it is first polled; dropped after that, the session ends all the same.
#[derive(Debug)]
#[must_use = "nothing is said before a goodbye is polled"]
pub struct Close(Asking<Ending>);

impl Future for Close {
    type Output = Ending;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending> {
        let ending = self.0.poll(cx);
        ending.map(|ending| ending.unwrap_or_else(|| self.0.without_driver()))
    }
}

/// What a handle asks, and where the answer comes.
#[derive(Debug)]
struct Asking<T> {
    client: Client,
    /// Until it is first polled.
    unasked: Option<Asked>,
    /// By which it can be withdrawn.
    key: u64,
    answer: oneshot::Receiver<T>,
}

impl<T> Asking<T> {
    fn new(client: Client, asked: Asked, answer: oneshot::Receiver<T>) -> Self {
        Self { client, unasked: Some(asked), key: NOTHING, answer }
    }

    /// `None` if the driver is gone without an answer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(asked) = self.unasked.take() {
            self.key = self.client.0.shared.ask(asked);
        }
        Pin::new(&mut self.answer).poll(cx).map(Result::ok)
    }

    fn without_driver(&self) -> Ending {
        Ending { closed: Closed::GaveUp, stats: self.client.stats() }
    }
}

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        if self.key != NOTHING {
            self.client.0.shared.withdraw(self.key);
        }
    }
}
