//! The loop of a client with its transport, for [`client`](super::client) and for the program `client`.
//!
//! [`Driven`] holds both; the sockets are in `transport`, and retries are decided in [`crate::client`]. An
//! [`Application`] makes the requests and takes the events. The loop repeats:
//!
//! 1. read input and handle deadlines;
//! 2. hand out events, take requests and send, until all have nothing left;
//! 3. wait for the socket, the application or the next deadline.

#![expect(clippy::disallowed_types, reason = "drivers own the seed of the jitter and the source of nonces")]

use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, select_biased};
use rand::Rng as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use super::{ServerAddr, rt};
use crate::client::{Client, ClientStats, Closed, Event};
use crate::config::ClientConfig;

mod transport;

use transport::ClientTransport;

/// The pause before checking again whether unsent output has drained.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(20);
/// Time limit for the last bytes of a connection.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// The user of a driven client: makes requests, and receives events. It has no socket.
pub(crate) trait Application {
    /// Begins a turn of the loop: handles the application's deadlines, and what [`Application::changed`] has found. Early
    /// calls are harmless.
    fn handle_wakeup(&mut self, now: Instant, client: &mut Client);

    /// Handles an event.
    fn on_event(&mut self, now: Instant, client: &mut Client, event: Event);

    /// Makes the next request that needs no waiting. Returns whether there was one.
    fn ask(&mut self, now: Instant, client: &mut Client) -> bool;

    /// Called before the loop waits: all events are handed out, and all requests taken.
    fn flush(&mut self, client: &Client);

    /// Number of bytes of messages that may be read in this turn.
    fn free(&self, client: &Client) -> usize {
        let _ = client;
        usize::MAX
    }

    /// The time at which [`Application::handle_wakeup`] is due; `None` means never.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Waits until `handle_wakeup` or `ask` has something new. Can be dropped at any await without loss.
    fn changed(&mut self) -> impl Future<Output = ()>;
}

/// A client and its transport.
#[derive(Debug)]
pub(crate) struct Driven {
    client: Client,
    transport: ClientTransport,
}

impl Driven {
    /// Creates a client of `server`, which gives it its transport. Over UDP this resolves the host's name; over a
    /// stream each attempt to connect does. Without a `seed` of the jitter, the system draws one.
    pub(crate) async fn open(
        server: &ServerAddr,
        mut config: ClientConfig,
        seed: Option<u64>,
    ) -> io::Result<Self> {
        let transport = ClientTransport::to(server, config.policy.ack_timeout()).await?;
        config.transport = server.transport();
        let seed = seed.unwrap_or_else(|| UnwrapErr(SysRng).next_u64());
        let client = Client::new(rt::now(), config, seed, Box::new(UnwrapErr(SysRng)));
        Ok(Self { client, transport })
    }

    /// The client, for requests before the loop begins.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The client's counters.
    pub(crate) fn stats(&self) -> ClientStats {
        self.client.stats()
    }

    /// Whether anything ever came from the server.
    pub(crate) fn has_heard(&self) -> bool {
        self.client.has_heard()
    }

    /// Drives the client for `app` until it is closed. Returns why it closed, and why there is no connection, if there
    /// is none.
    pub(crate) async fn run(&mut self, app: &mut impl Application) -> (Closed, Option<io::Error>) {
        let mut closed = None;
        loop {
            let now = rt::now();
            let free = app.free(&self.client);
            self.transport.step(now, &mut self.client, free);
            self.client.handle_timeout(now);
            app.handle_wakeup(now, &mut self.client);
            while self.step(now, app, &mut closed).await {}
            app.flush(&self.client);
            // The flush may have found that the output is closed.
            while self.step(now, app, &mut closed).await {}
            self.transport.write();
            if let Some(closed) = closed {
                return (closed, self.finish().await);
            }
            self.wait(now, app).await;
        }
    }

    /// Does one piece of what needs no waiting. Returns whether there was one.
    async fn step(&mut self, now: Instant, app: &mut impl Application, closed: &mut Option<Closed>) -> bool {
        if let Some(event) = self.poll() {
            if let Event::Closed(why) = &event {
                *closed = Some(why.clone());
            }
            app.on_event(now, &mut self.client, event);
            return true;
        }
        app.ask(now, &mut self.client) || self.transmit(now).await
    }

    /// The next event. Requests to connect, disconnect or check the path are carried out first.
    fn poll(&mut self) -> Option<Event> {
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
    async fn transmit(&mut self, now: Instant) -> bool {
        let bytes = if self.transport.has_room() { self.client.poll_transmit(now) } else { None };
        match bytes {
            Some(bytes) => self.transport.send(now, bytes, self.client.has_heard()).await,
            None => return false,
        }
        true
    }

    /// Waits for the application, the socket or a deadline.
    async fn wait(&mut self, now: Instant, app: &mut impl Application) {
        let deadline = [self.deadline(now), app.poll_timeout()].into_iter().flatten().min();
        let is_reading = app.free(&self.client) > 0;
        select_biased! {
            () = Box::pin(app.changed()).fuse() => (),
            () = Box::pin(self.transport.ready(is_reading)).fuse() => (),
            () = Box::pin(rt::until(deadline)).fuse() => (),
        }
    }

    /// The next deadline of the client or its transport; `None` means never.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let due = self.client.poll_timeout();
        // Output that is due but has no room would be due again at once.
        let due = if self.transport.has_room() { due } else { due.map(|at| at.max(now + NO_ROOM_PAUSE)) };
        [due, self.transport.deadline()].into_iter().flatten().min()
    }

    /// Sends the remaining bytes. Returns why there is no connection, if there is none.
    async fn finish(&mut self) -> Option<io::Error> {
        while let Some(bytes) = self.client.poll_transmit(rt::now()) {
            self.transport.send(rt::now(), bytes, self.client.has_heard()).await;
        }
        // A server that takes nothing for that long does not read.
        let _ = rt::before(rt::now() + LAST_WRITE, self.transport.finish()).await;
        self.transport.take_error()
    }
}
