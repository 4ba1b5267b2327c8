//! [`Event`]: what happens to a session; and [`Events`], the stream of them. Their queue is in `shared`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::FusedStream;

use super::shared::SessionShared;
use crate::client::Closed;
use crate::wire::Verb;

/// A change of a session after [`Builder::connect`](super::Builder::connect) opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message {
        /// The sender's name.
        sender: String,
        /// The `#room` that it was sent to; `None` if it was sent to this client alone.
        room: Option<String>,
        /// The body: any bytes, as they were sent.
        body: Vec<u8>,
    },
    /// The server dropped this many messages here in the order of messages, because this client is a slow consumer.
    Gap(u64),
    /// The connection is lost, and the client reconnects by its policy. Requests stay pending. Over UDP this
    /// does not occur.
    Offline,
    /// The server does not know the session any more: requests in flight are unknown. A new session is being opened.
    SessionLost,
    /// The server is draining, and its sessions end: unanswered requests are unknown. A new session is opened
    /// later. This needs a policy of more than one send; otherwise the end is [`Closed::Draining`].
    Draining {
        /// After how long.
        wait: Duration,
    },
    /// The name belongs to a session that waits for its owner. The client registers again until that wait is
    /// over, or the owner turns out to be alive.
    NameTaken {
        /// After how long it registers again.
        wait: Duration,
    },
    /// There is a session again.
    Registered {
        /// Whether it is the earlier one, in which nothing was lost. Otherwise it is new, and the client
        /// rejoins its rooms.
        resumed: bool,
    },
    /// A request is retransmitted.
    Retry {
        /// Its verb; registrations and keep-alive pings are requests as well.
        verb: Verb,
        /// The number of this send, counted from 1.
        sends: u32,
    },
    /// The server rate-limited a request. It was not executed, and is sent anew after `wait`, as are those behind it.
    SlowDown {
        /// Its verb.
        verb: Verb,
        /// Length of the wait.
        wait: Duration,
    },
    /// The session has ended; no event follows.
    Closed(Closed),
}

/// The events of a session: a [`Stream`] that ends after [`Event::Closed`].
///
/// Events that were not taken are bounded by [`Builder::max_unread`](super::Builder::max_unread). Beyond
/// that, reading is paused, retries are left out, and changes of the session are merged into one event. After
/// a drop, messages are acknowledged, counted as [discarded](super::Stats::discarded) and dropped.
#[derive(Debug)]
pub struct Events(Arc<SessionShared>);

impl Events {
    pub(super) fn new(shared: Arc<SessionShared>) -> Self {
        Self(shared)
    }

    /// Returns an event that is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.take_event()
    }
}

#[cfg(test)]
impl Events {
    pub(super) fn shared(&self) -> &SessionShared {
        &self.0
    }

    pub(super) fn weak(&self) -> std::sync::Weak<SessionShared> {
        Arc::downgrade(&self.0)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_event(cx)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.0.is_over()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.drop_events();
    }
}
