//! What a session tells.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::FusedStream;

use super::shared::Shared;
use crate::client::Closed;
use crate::wire::Verb;

/// Something that happened to a session after [`Builder::connect`](super::Builder::connect) opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message {
        /// Who sent it: a name.
        sender: String,
        /// The `#room` that it was sent to; `None` if it was sent to this client alone.
        room: Option<String>,
        /// What it says: any bytes, as they were sent.
        body: Vec<u8>,
    },
    /// The server dropped so many messages for this client in this place, because it read too slowly.
    Gap(u64),
    /// The connection is lost, and another one is being made by the policy. Requests go on waiting. Datagrams have no
    /// connections, so there this does not occur.
    Offline,
    /// The server no longer knows the session: what was in flight is unknown. A new session is being opened.
    SessionLost,
    /// The server shuts down, and the session ends with this run of it: what got no answer is unknown. A new session is opened
    /// later. It takes more than one send in the policy; without, the end is
    /// [`Closed::Draining`].
    Draining {
        /// After how long.
        wait: Duration,
    },
    /// The session that has the name now waits for its owner. The client registers again until that time is over, or the owner
    /// turns out to live.
    NameTaken {
        /// After how long it does next.
        wait: Duration,
    },
    /// There is a session again.
    Registered {
        /// Whether it is the one from before, in which nothing was lost. If not, it is new, and the rooms that were joined
        /// are being joined again.
        resumed: bool,
    },
    /// A request is sent again.
    Retry {
        /// What it asks; registrations and the pings that keep a session are requests as well.
        verb: Verb,
        /// Which of its sends this is, counted from 1.
        sends: u32,
    },
    /// A request came too soon for the server. It has not happened, and is sent anew after that time; so is what waits
    /// behind it.
    SlowDown {
        /// What it asks.
        verb: Verb,
        /// How long it waits.
        wait: Duration,
    },
    /// The session has ended; nothing comes after this.
    Closed(Closed),
}

/// What happens to a session, as a [`Stream`] of [`Event`]s that ends after [`Event::Closed`].
///
/// Events that nobody has taken are bounded by [`Builder::max_unread`](super::Builder::max_unread); beyond that nothing is
/// read from the server, retries are left out, and what became of the session meanwhile is told in one event. Once this is
/// dropped, messages are acknowledged, counted as [discarded](super::Stats::discarded), and gone.
#[derive(Debug)]
pub struct Events(Arc<Shared>);

impl Events {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// An event that is there already, without waiting.
    pub fn try_next(&mut self) -> Option<Event> {
        self.0.take_event()
    }
}

#[cfg(test)]
impl Events {
    pub(super) fn shared(&self) -> &Shared {
        &self.0
    }

    pub(super) fn weak(&self) -> std::sync::Weak<Shared> {
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
        self.0.no_events();
    }
}
