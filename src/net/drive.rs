//! One step of a client with its transport, shared by the loops of [`client`](super::client) and
//! [`connect`](super::connect).
//!
//! [`Driven`] holds both; the sockets are in `transport`, and retries are decided in [`crate::client`]. A loop repeats:
//!
//! 1. [`Driven::step`] reads input and handles deadlines.
//! 2. [`Driven::poll`] and [`Driven::transmit`] until both have nothing, then [`Driven::write`].
//! 3. Wait for [`Driven::ready`] or [`Driven::deadline`]; call [`Driven::finish`] once the client is closed.

use std::io;
use std::time::{Duration, Instant};

use super::rt;
use crate::client::{Client, Event};

mod transport;

pub(super) use transport::ClientTransport;

/// The pause before checking again whether unsent output has drained.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(20);
/// How long the last bytes of a connection may take.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// A client and its transport.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) client: Client,
    transport: ClientTransport,
}

impl Driven {
    pub(super) fn new(client: Client, transport: ClientTransport) -> Self {
        Self { client, transport }
    }

    /// Reads input, in at most `reads` reads, and handles deadlines.
    pub(super) fn step(&mut self, now: Instant, reads: usize) {
        self.transport.step(now, &mut self.client, reads);
        self.client.handle_timeout(now);
    }

    /// The next event. Requests to connect, disconnect or check the path are carried out first.
    pub(super) fn poll(&mut self) -> Option<Event> {
        let event = self.client.poll()?;
        match event {
            Event::Connect => self.transport.connect(),
            Event::Disconnect => self.transport.disconnect(),
            Event::CheckPath { replace } if self.transport.check_path(replace) => {
                self.client.handle_moved(rt::now())
            }
            _ => {}
        }
        Some(event)
    }

    /// Sends one datagram, or queues one piece of the stream. Returns whether there was one.
    pub(super) async fn transmit(&mut self, now: Instant) -> bool {
        let bytes = if self.transport.has_room() { self.client.poll_transmit(now) } else { None };
        match bytes {
            Some(bytes) => self.transport.send(now, bytes, self.client.has_heard()).await,
            None => return false,
        }
        true
    }

    /// Writes queued output, without waiting.
    pub(super) fn write(&mut self) {
        self.transport.write();
    }

    /// Waits until [`Driven::step`] has something to do for the socket. Without `is_reading`, only until it can write.
    pub(super) async fn ready(&mut self, is_reading: bool) {
        self.transport.ready(is_reading).await;
    }

    /// When [`Driven::step`] is due; `None` means never.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let due = self.client.poll_timeout();
        // Output that is due but has no room would be due again at once.
        let due = if self.transport.has_room() { due } else { due.map(|at| at.max(now + NO_ROOM_PAUSE)) };
        [due, self.transport.deadline()].into_iter().flatten().min()
    }

    /// Sends what is left. Returns why there is no connection, if there is none.
    pub(super) async fn finish(&mut self) -> Option<io::Error> {
        while let Some(bytes) = self.client.poll_transmit(rt::now()) {
            self.transport.send(rt::now(), bytes, self.client.has_heard()).await;
        }
        // A server that takes nothing for that long does not read.
        let _ = rt::before(rt::now() + LAST_WRITE, self.transport.finish()).await;
        self.transport.take_error()
    }
}
