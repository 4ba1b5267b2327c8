//! A client on its way to the server: the steps that every loop which drives one is made of.
//!
//! 1. [`Driven::work`] takes in what has come and does what is due.
//! 2. [`Driven::poll`] and [`Driven::transmit`] until there is neither, and [`Driven::write`] after that.
//! 3. [`Driven::ready`] or [`Driven::deadline`], whichever comes first; [`Driven::finish`] once the client is closed.

use std::io;
use std::time::{Duration, Instant};

use super::rt;
use crate::client::{Client, Event};

mod transport;

pub(super) use transport::{ClientTransport, StreamAddr};

/// How long to wait before looking again whether there is room for what is due to be sent.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(20);
/// How long the last bytes of a connection may take.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// A client and its way to the server.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) client: Client,
    way: ClientTransport,
}

impl Driven {
    pub(super) fn new(client: Client, way: ClientTransport) -> Self {
        Self { client, way }
    }

    /// Takes in what has come, in so many reads at most, and does what is due.
    pub(super) fn work(&mut self, now: Instant, reads: usize) {
        self.way.work(now, &mut self.client, reads);
        self.client.handle_timeout(now);
    }

    /// The next event. What it asks of the connection is done already.
    pub(super) fn poll(&mut self) -> Option<Event> {
        let event = self.client.poll()?;
        match event {
            Event::Connect => self.way.connect(),
            Event::Disconnect => self.way.disconnect(),
            Event::CheckPath { replace } if self.way.check_path(replace) => {
                self.client.handle_moved(rt::now())
            }
            _ => {}
        }
        Some(event)
    }

    /// Sends a datagram, or queues a piece of the stream. Returns whether there was any.
    pub(super) async fn transmit(&mut self, now: Instant) -> bool {
        let bytes = if self.way.has_room() { self.client.poll_transmit(now) } else { None };
        match bytes {
            Some(bytes) => self.way.send(now, bytes, self.client.has_heard()).await,
            None => return false,
        }
        true
    }

    /// Writes whatever can be written, without waiting.
    pub(super) fn write(&mut self) {
        self.way.write();
    }

    /// Waits until [`Driven::work`] has something to do for the socket; if nothing is to be read, until it can write.
    pub(super) async fn ready(&mut self, is_reading: bool) {
        self.way.ready(is_reading).await;
    }

    /// When [`Driven::work`] has something to do; `None` means never.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let due = self.client.poll_timeout();
        // What is due to be sent and finds no room would be due again at once.
        let due = if self.way.has_room() { due } else { due.map(|at| at.max(now + NO_ROOM_PAUSE)) };
        [due, self.way.deadline()].into_iter().flatten().min()
    }

    /// Sends what is left, for the last time. Returns why there is no connection, if there is none.
    pub(super) async fn finish(&mut self) -> Option<io::Error> {
        while let Some(bytes) = self.client.poll_transmit(rt::now()) {
            self.way.send(rt::now(), bytes, self.client.has_heard()).await;
        }
        // What a server does not take within that time, it does not read.
        let _ = rt::before(rt::now() + LAST_WRITE, self.way.finish()).await;
        self.way.take_trouble()
    }
}
