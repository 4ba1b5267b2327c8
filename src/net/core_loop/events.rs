//! The events of a [`Core`](super::Core), and the handler that queues them until the next poll. The calls of the
//! owner are in `core_loop`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use bytes::Bytes;

use crate::host::{Context, Handler};
use crate::service::{CloseReason, ConnId, DialId, Peer};

/// Most bytes of datagrams that wait to be taken; more are dropped, as in the system's buffers.
const MAX_DATAGRAM_BYTES: usize = 1 << 20;

/// An event of [`Core::poll`](super::Core::poll).
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// An expected peer is connected: a rule has its name, or this core connected to it.
    Expected(ConnId),
    /// An unexpected peer is connected: it has another name, or none.
    Unknown(ConnId),
    /// There is input to [take](super::Core::recv). Not repeated until more has come.
    Readable(ConnId),
    /// Everything sent to a peer is written; its queue is empty.
    Drained(ConnId),
    /// A peer is gone, and with it any input that was not taken. After an orderly close the input stays first. This
    /// event then follows it, as long as some input is taken every minute, for at most ten minutes.
    Disconnected(ConnId, CloseReason),
    /// A datagram was received.
    Datagram(Peer, Bytes),
    /// A requested connection could not be made, or was refused.
    Failed(DialId, io::Error),
}

/// The events since the last call of [`Core::poll`](super::Core::poll), in order.
#[derive(Debug)]
pub struct Events(VecDeque<Event>);

impl Events {
    /// Whether nothing happened: the timeout passed, or a [`Waker`](super::Waker) was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.0.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

/// Events that were not returned yet.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    pub(super) events: VecDeque<Event>,
    /// The connections whose `Readable` is among them.
    readable: BTreeSet<ConnId>,
    /// Bytes of the datagrams among them, and how many datagrams were dropped.
    datagrams: usize,
    pub(super) lost: u64,
    /// The names of peers whose `Disconnected` was returned by the last poll, or is among them.
    pub(super) gone: BTreeMap<ConnId, String>,
}

impl EventQueue {
    pub(super) fn take(&mut self) -> Events {
        self.readable.clear();
        self.datagrams = 0;
        Events(std::mem::take(&mut self.events))
    }

    /// The owner polls again: it has seen the events of the last poll. Returns whether there are others.
    pub(super) fn begin(&mut self) -> bool {
        let pending = self.events.iter().filter_map(|event| match event {
            Event::Disconnected(conn, _) => Some(*conn),
            _ => None,
        });
        let pending: BTreeSet<ConnId> = pending.collect();
        self.gone.retain(|conn, _| pending.contains(conn));
        !self.events.is_empty()
    }
}

impl Handler for EventQueue {
    fn opened(&mut self, cx: &mut Context<'_>, conn: ConnId) {
        let expected = cx.peer(conn).is_some_and(|peer| peer.expected());
        self.events.push_back(if expected { Event::Expected(conn) } else { Event::Unknown(conn) });
    }

    fn readable(&mut self, _cx: &mut Context<'_>, conn: ConnId) {
        if self.readable.insert(conn) {
            self.events.push_back(Event::Readable(conn));
        }
    }

    fn drained(&mut self, _cx: &mut Context<'_>, conn: ConnId) {
        self.events.push_back(Event::Drained(conn));
    }

    fn closed(&mut self, cx: &mut Context<'_>, conn: ConnId, why: CloseReason) {
        let name = cx.peer(conn).and_then(|peer| peer.name().map(str::to_owned));
        self.gone.extend(name.map(|name| (conn, name)));
        self.events.push_back(Event::Disconnected(conn, why));
    }

    fn datagram(&mut self, _cx: &mut Context<'_>, peer: Peer, bytes: &[u8]) {
        if self.datagrams + bytes.len() > MAX_DATAGRAM_BYTES {
            self.lost += 1;
            return;
        }
        self.datagrams += bytes.len();
        self.events.push_back(Event::Datagram(peer, Bytes::copy_from_slice(bytes)));
    }

    fn failed(&mut self, _cx: &mut Context<'_>, dial: DialId, error: &io::Error) {
        self.events.push_back(Event::Failed(dial, io::Error::new(error.kind(), error.to_string())));
    }
}
