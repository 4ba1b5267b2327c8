//! The whole server without a socket: link -> wire -> reliable -> hub -> queues -> wire -> link.
//!
//! It is for programs that serve the chat, on an engine ([`Engine::chat`](crate::net::Engine::chat)), on sockets of
//! their own, or in a simulation. It stands behind the sockets, where a [`Host`](crate::host::Host) stands for other
//! protocols.
//!
//! ```
//! use std::time::Instant;
//! use rand::{SeedableRng as _, rngs::StdRng};
//! use sayagain::config::ServerConfig;
//! use sayagain::server::Server;
//! use sayagain::service::{Peer, Service as _};
//!
//! let now = Instant::now();
//! let mut server = Server::new(now, ServerConfig::default(), Box::new(StdRng::seed_from_u64(1)));
//! let peer = Peer::new(0, "192.0.2.1:4000".parse()?);
//! server.datagram(now, peer, b"@1 PNG 0000");
//! let answer = server.poll_transmit(now).expect("a ping is answered");
//! assert_eq!((answer.peer, answer.bytes), (peer, b"@1 ACK 0000".to_vec()));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```
//!
//! This file holds [`Server`], its state, and its [`Service`] implementation; each step is in a module of its own.
//! Sockets and threads are in `net`. The path of one datagram, from top to bottom:
//!
//! 1. `links::enter` applies the simulated link; `datagram::handle_datagram` parses the whole datagram
//!    ([`crate::wire::Datagram::parse`]);
//! 2. its session is found: by token and address, by cookie, or by the address of a bare peer; any other peer is
//!    unvalidated;
//! 3. `requests::execute` looks the request up in the dedup window, then the [`crate::hub::Hub`] executes it;
//! 4. the hub queues messages and marks their sessions as woken;
//! 5. answers are packed into datagrams; pushes are numbered and retransmitted until acknowledged;
//! 6. `links::next_transmit` applies the simulated link again, then the engine sends the datagram.
//!
//! A stream takes the same path: `intake` is step 1, `fill::fill_stream` is steps 5 and 6. Input on a line listener is
//! split into lines and executed in `lines`.

use std::collections::VecDeque;
use std::time::Instant;

use rand::CryptoRng;

use crate::config::ServerConfig;
use crate::hub::work::cost;
use crate::hub::{Hub, Path, Session, SessionKey};
use crate::listener::{Listener, Speaks};
use crate::log_limiter::LogLimiter;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Flow, ListenerId, Origin, Peer, Service, Transmit};
use crate::timers::Timers;

mod access;
mod admission;
mod backpressure;
mod bye_rounds;
mod conn;
mod connection_end;
mod cookie;
mod datagram;
mod drain;
mod drop_log;
mod fill;
mod guests;
#[cfg(test)]
mod holds;
mod host_rates;
mod hosts;
#[cfg(test)]
mod idle_memory;
mod input;
mod intake;
mod lines;
mod links;
mod lookup;
mod rate_limit;
mod read_deadlines;
mod read_gate;
mod requests;
mod session_end;
mod sessions;
mod stream;
mod streams;
mod sweep;
mod totals;
mod unread;
mod unvalidated;
mod work_budget;

use admission::Admission;
use backpressure::PausedSenders;
use conn::{Eviction, StreamConn};
use cookie::{COOKIE_LIFETIME, Secrets};
#[doc(hidden)]
pub use drain::DRAIN_TIME;
use drain::Drain;
use drop_log::DropLogs;
use guests::Guests;
use host_rates::HostRates;
use input::InputHolders;
use links::Links;
use lookup::{Lookup, Spent};
use streams::Streams;
use sweep::Sweeps;
use work_budget::WorkBudget;

// Hidden: not part of the public API, without a promise of stability; for the tests and benches of this project.
#[doc(hidden)]
pub use {
    bye_rounds::MAX_BYES,
    intake::{Batch, StreamIntake},
    session_end::{EndReason, SessionEnds},
    totals::Totals,
    work_budget::HOLD_BOUND,
};

/// The owner of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    /// A connection, by the halves of its id: the deadlines to register and to finish a frame.
    Conn { serial: u32, place: u32 },
    /// A session: linger, idle time, the next retransmit of a push.
    Session(SessionKey),
    /// The oldest spent nonce.
    Spent,
    /// Token buckets of hosts that may be full again.
    HostRates,
    /// The next log line about lost messages.
    Log,
    /// BYEs over datagrams: room for more of them, or the next round.
    ByeRounds,
    /// The end of draining.
    Drain,
    /// Work left over by a hold of the lock whose budget was spent.
    Sweep,
}

impl From<ConnId> for Owner {
    fn from(conn: ConnId) -> Self {
        let (place, serial) = conn.halves();
        Self::Conn { serial, place }
    }
}

/// Counts of executed messages and of recognised duplicate requests.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executions {
    /// Messages that were executed.
    pub executed: u64,
    /// Duplicate requests that got their cached answer.
    pub repeats: u64,
}

impl Executions {
    /// Returns what has been added since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self { executed: self.executed - earlier.executed, repeats: self.repeats - earlier.repeats }
    }
}

/// The server.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    secrets: Secrets,
    hub: Hub,
    /// Finds the session of a datagram or a REG.
    lookup: Lookup,
    /// Nonces of sessions that have ended.
    spent: Spent,
    streams: Streams,
    admission: Admission,
    host_rates: HostRates,
    /// Connections that hold much unfinished input.
    input: InputHolders,
    /// Sessions on datagrams that may have pushes to send.
    pushing: VecDeque<SessionKey>,
    /// Answers to datagrams, each with its session; `None` for an unvalidated peer.
    outgoing: VecDeque<(Option<SessionKey>, Transmit)>,
    timers: Timers<Owner>,
    links: Links,
    totals: Totals,
    drop_logs: DropLogs,
    /// Connections whose reading is paused for slow consumers.
    paused_senders: PausedSenders,
    budget: WorkBudget,
    sweeps: Sweeps,
    /// Limits the log lines about names that rules refused.
    refusals: LogLimiter,
    guests: Guests,
    drain: Drain,
}

/// Returns an empty hub in which the rooms of line listeners are reserved.
fn make_hub(config: &ServerConfig) -> Hub {
    let mut hub = Hub::new(config.hub.clone());
    for listener in &config.listeners {
        if let Speaks::Lines(listener) = &listener.speaks {
            hub.reserve_room(&listener.room);
        }
    }
    hub
}

impl Server {
    /// Creates a server without connections. Tokens and keys are drawn from `rng`.
    pub fn new(now: Instant, config: ServerConfig, rng: Box<dyn CryptoRng + Send>) -> Self {
        Self {
            secrets: Secrets::new(now, rng),
            hub: make_hub(&config),
            lookup: Lookup::default(),
            spent: Spent::with_room_for(config.hub.max_sessions),
            streams: Streams::default(),
            admission: Admission::default(),
            host_rates: HostRates::default(),
            input: InputHolders::default(),
            pushing: VecDeque::new(),
            outgoing: VecDeque::new(),
            timers: Timers::default(),
            links: Links::new(&config),
            totals: Totals::default(),
            drop_logs: DropLogs::default(),
            paused_senders: PausedSenders::default(),
            budget: WorkBudget::default(),
            sweeps: Sweeps::default(),
            refusals: LogLimiter::default(),
            guests: Guests::default(),
            drain: Drain::default(),
            config,
        }
    }

    /// Returns the counters so far.
    #[doc(hidden)]
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        totals.hub = self.hub.stats();
        totals.waiting = self.hub.waiting();
        totals.pending_bytes = self.hub.memory();
        totals.longest_hold = self.longest_hold();
        totals.memory = self.hub.ledger().total();
        totals.loss_in = totals::Loss::of(self.links.incoming());
        totals.loss_out = totals::Loss::of(self.links.outward());
        totals
    }

    /// Returns how many requests were executed or recognised as duplicates so far.
    #[doc(hidden)]
    pub fn executions(&self) -> Executions {
        Executions { executed: self.hub.stats().messages, repeats: self.totals.repeats }
    }

    /// Returns the number of open sessions.
    pub fn sessions(&self) -> usize {
        self.hub.len()
    }

    /// Whether no state is left of any peer: no session, no connection, no flow, no nonce.
    #[doc(hidden)]
    pub fn is_stateless(&self) -> bool {
        let maps = [self.streams.len(), self.links.flows(), self.admission.hosts(), self.host_rates.len()];
        let queues = [self.spent.len(), self.pushing.len(), self.outgoing.len()];
        // Datagrams under way on a link belong to a flow that is counted above.
        let is_empty = self.hub.is_empty() && self.lookup.is_empty() && !self.streams.has_woken();
        is_empty && maps.into_iter().chain(queues).all(|len| len == 0)
    }

    /// Whether no push waits to be sent or acknowledged.
    #[doc(hidden)]
    pub fn is_settled(&self) -> bool {
        self.hub.memory() == 0
            && self.pushing.is_empty()
            && self.outgoing.is_empty()
            && self.links.is_quiet_outward()
    }

    /// Returns the settings of a listener.
    fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.config.listeners.get(id)
    }

    /// Queues each woken session for the connection or datagram path that carries it.
    fn dispatch(&mut self) {
        while let Some(key) = self.hub.poll_woken() {
            match self.hub.get(key).map(Session::path) {
                Some(Path::Stream(Some(conn))) => self.streams.wake(conn),
                Some(Path::Datagram(_)) => self.pushing.push_back(key),
                Some(Path::Stream(None)) | None => {}
            }
        }
    }

    /// Does the follow-up work of a call for other connections and sessions, once per call.
    fn finish_call(&mut self, now: Instant) {
        // Most calls leave nothing to do, and each datagram takes several calls.
        if self.has_deferred_work() {
            self.end_slow_consumers(now);
            self.resume_senders(now);
            if self.has_deferred_work() {
                self.defer_sweep(now);
            }
        }
        if self.hub.has_gap() || self.drop_logs.is_active() {
            self.log_gaps(now);
            self.arm_log(now);
        }
    }
}

impl Service for Server {
    type Conn = StreamIntake;

    fn begin_hold(&mut self) {
        self.begin_driver_hold();
    }

    fn is_spent(&self) -> bool {
        self.is_hold_spent()
    }

    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> StreamIntake {
        self.begin_call();
        self.work().add(1, cost::CONNECTION);
        match arrival {
            Arrival::Accepted(origin) => self.open_stream(now, conn, origin),
            // The server asks for no connections. A dialed one is served as on the first listener.
            Arrival::Dialed(_, from) => self.open_stream(now, conn, Origin { listener: 0, from }),
        }
    }

    fn received(&mut self, now: Instant, conn: ConnId, batch: Batch<'_>) {
        self.begin_call();
        self.handle_batch(now, conn, batch);
        self.finish_call(now);
    }

    fn ended(&mut self, now: Instant, conn: ConnId) {
        self.begin_call();
        self.end_input(now, conn);
        self.finish_call(now);
    }

    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        self.begin_call();
        self.work().add(1, cost::DATAGRAM);
        self.enter(now, peer, bytes);
        self.finish_call(now);
    }

    fn drained(&mut self, now: Instant, conn: ConnId) {
        if let Some(key) = self.streams.session(conn) {
            self.hub.written(key);
        }
        self.answers_written(conn);
        self.drained_stream(now, conn);
        self.finish_call(now);
    }

    fn reuse(&mut self, buffer: Vec<u8>) {
        self.hub.reuse(buffer);
    }

    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason) {
        self.begin_call();
        self.close_stream(now, conn, why);
        self.finish_call(now);
    }

    fn timeout(&mut self, now: Instant) {
        self.begin_call();
        self.arrive(now);
        // Deadlines that this hold does not reach stay pending.
        while !self.is_hold_spent()
            && let Some(owner) = self.timers.pop_due(now)
        {
            self.work().add(1, cost::TIMER);
            match owner {
                Owner::Conn { serial, place } => self.conn_timeout(now, ConnId::new(place, serial)),
                Owner::Session(key) => self.session_timeout(now, key),
                Owner::Spent => self.forget_spent(now),
                Owner::HostRates => self.forget_host_rates(now),
                Owner::Log => self.log_timeout(now),
                Owner::ByeRounds => self.bye_rounds_timeout(now),
                Owner::Drain => self.end_drain(now),
                Owner::Sweep => self.sweep(now),
            }
        }
        self.finish_call(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.links.poll_timeout(), self.timers.next()].into_iter().flatten().min()
    }

    fn poll_wake(&mut self) -> Option<ConnId> {
        self.dispatch();
        self.streams.pop_woken()
    }

    fn fill(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow {
        let flow = self.fill_stream(now, conn, out);
        self.finish_call(now);
        flow
    }

    fn is_reading(&self, conn: ConnId) -> bool {
        self.streams.get(conn).is_some_and(StreamConn::takes_input)
    }

    fn is_closing(&self, conn: ConnId) -> bool {
        self.streams.get(conn).is_none_or(|state| state.is_closing())
    }

    fn is_aborted(&self, conn: ConnId) -> bool {
        self.is_refused_at_once(conn)
            || self.streams.get(conn).is_some_and(|state| state.unfinished.get().eviction == Eviction::Done)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.begin_call();
        self.dispatch();
        let transmit = self.next_transmit(now);
        self.finish_call(now);
        transmit
    }

    fn shutdown(&mut self, now: Instant) {
        self.begin_drain(now);
    }

    fn is_finished(&self) -> bool {
        self.is_drained()
    }
}
