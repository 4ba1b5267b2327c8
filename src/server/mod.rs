//! The whole server without a socket: link -> wire -> reliable -> hub -> queues -> wire -> link.
//!
//! One datagram's way through it, top to bottom:
//!
//! 1. `links::enter`: the simulated network; `datagram::handle_datagram`: [`crate::wire::Datagram::parse`], whole;
//! 2. whose is it: a session's token from the session's address, a cookie, a bare peer, or a stranger;
//! 3. `requests::execute`: looked up in the dedup window, then done by the [`crate::hub::Hub`];
//! 4. the hub puts messages into queues and marks their sessions as woken;
//! 5. answers are packed into datagrams, pushes are numbered and repeated until acknowledged;
//! 6. `links::next_transmit`: the simulated network again, then the engine's socket.
//!
//! A stream goes the same way: `intake` is step 1, `fill::fill_stream` steps 5 and 6. What people say at a door for lines
//! is cut and done in `lines`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::config::ServerConfig;
use crate::conn_map::ConnMap;
use crate::door::{Door, Speaks};
use crate::hub::work::cost;
use crate::hub::{Hub, Path, Session, SessionKey};
use crate::link::{Direction, Flows};
use crate::log_limiter::LogLimiter;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, DoorId, Flow, Origin, Peer, Service, Transmit};
use crate::timers::Timers;

mod access;
mod admission;
mod conn;
mod cookie;
mod datagram;
mod farewell;
mod fill;
#[cfg(test)]
mod footprint;
mod guests;
mod held;
#[cfg(test)]
mod holds;
mod host_rates;
mod hosts;
mod input;
mod intake;
mod lines;
mod links;
mod lookup;
mod losses;
mod parting;
mod patience;
mod requests;
mod session_end;
mod sessions;
mod stream;
mod sweep;
mod throttle;
mod totals;
mod unread;
mod work_budget;

use admission::Admission;
use conn::{Eviction, StreamConn};
pub use cookie::{COOKIE_LIFETIME, COOKIE_SLOT, Secrets};
use farewell::Farewell;
pub use farewell::MOST_GOODBYES;
use guests::Guests;
use held::Waiters;
use host_rates::HostRates;
use input::InputHolders;
pub use intake::{Batch, StreamIntake};
use links::Simulated;
use lookup::{Lookup, Spent};
use losses::{Loss, Losses};
pub use session_end::{EndReason, SessionEnds};
use sessions::Discarded;
use sweep::Sweeps;
pub use totals::Totals;
pub use work_budget::HOLD_BOUND;
use work_budget::WorkBudget;

/// How long [`Service::shutdown`] waits for queues to empty and goodbyes to be acknowledged.
pub const DRAIN_TIME: Duration = Duration::from_secs(8);

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    /// A connection, by the halves of its id: time to register, time to finish a frame.
    Conn { serial: u32, place: u32 },
    /// A session: linger, idle, the next repeat of a push.
    Session(SessionKey),
    /// The oldest spent nonce.
    Spent,
    /// Token buckets of hosts that may be full again.
    HostRates,
    /// A line in the log about what was lost.
    Log,
    /// Goodbyes over datagrams: more of them, or the next round.
    Farewell,
    /// The end of draining.
    Drain,
    /// Work that this hold of the lock has no budget for.
    Sweep,
}

impl From<ConnId> for Owner {
    fn from(conn: ConnId) -> Self {
        let (place, serial) = conn.halves();
        Self::Conn { serial, place }
    }
}

/// Whose datagrams, or droppable frames, a simulated link counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum FlowKey {
    Conn(ConnId),
    Peer(Peer),
}

/// How often the server did what it was asked, and how often it knew that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executions {
    /// Messages that were executed.
    pub executed: u64,
    /// Repeats that were answered from the window instead.
    pub repeats: u64,
}

impl Executions {
    /// What has been added since `earlier`.
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
    /// Whose a datagram or a REG is.
    lookup: Lookup,
    /// Nonces of sessions that have ended.
    spent: Spent,
    conns: ConnMap<StreamConn>,
    admission: Admission,
    host_rates: HostRates,
    /// Connections that hold much unfinished input.
    input: InputHolders,
    /// Connections that have output.
    woken: VecDeque<ConnId>,
    /// Sessions on datagrams that may have pushes to send.
    pushing: VecDeque<SessionKey>,
    /// Answers to datagrams, and the sessions that they are for; strangers have none.
    outgoing: VecDeque<(Option<SessionKey>, Transmit)>,
    timers: Timers<Owner>,
    flows: Flows<FlowKey>,
    /// The simulated network, to the server.
    incoming: Simulated,
    /// And from it.
    outward: Simulated,
    totals: Totals,
    /// What sessions that ended left behind.
    undelivered: Losses,
    /// What slow readers missed.
    missed: Losses,
    /// When the next line about these is due.
    log_at: Option<Instant>,
    /// Connections that wait for slow readers.
    waiters: Waiters,
    budget: WorkBudget,
    sweeps: Sweeps,
    /// Names that rules refused, for the log.
    refusals: LogLimiter,
    guests: Guests,
    draining: Option<Draining>,
    /// What was given up when the time to drain was over.
    discarded: Option<Box<Discarded>>,
}

/// An empty hub, in which the rooms of doors are kept for them.
fn make_hub(config: &ServerConfig) -> Hub {
    let mut hub = Hub::new(config.hub.clone());
    for door in &config.doors {
        if let Speaks::Lines(door) = &door.speaks {
            hub.reserve_room(&door.room);
        }
    }
    hub
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    Underway(Farewell),
    /// Time is up: the sessions that are left end.
    Ending,
    Over,
}

impl Server {
    /// A server that nobody is connected to yet. `rng` is what tokens and keys are drawn from.
    pub fn new(now: Instant, config: ServerConfig, rng: Box<dyn CryptoRng + Send>) -> Self {
        Self {
            secrets: Secrets::new(now, rng),
            hub: make_hub(&config),
            lookup: Lookup::default(),
            spent: Spent::with_room_for(config.hub.max_sessions),
            conns: ConnMap::default(),
            admission: Admission::default(),
            host_rates: HostRates::default(),
            input: InputHolders::default(),
            woken: VecDeque::new(),
            pushing: VecDeque::new(),
            outgoing: VecDeque::new(),
            timers: Timers::default(),
            flows: Flows::new(),
            incoming: Simulated::new(&config.link_in, config.seed, Direction::Up),
            outward: Simulated::new(&config.link_out, config.seed, Direction::Down),
            totals: Totals::default(),
            undelivered: Losses::new(Loss::Undelivered),
            missed: Losses::new(Loss::Missed),
            log_at: None,
            waiters: Waiters::default(),
            budget: WorkBudget::default(),
            sweeps: Sweeps::default(),
            refusals: LogLimiter::default(),
            guests: Guests::default(),
            draining: None,
            discarded: None,
            config,
        }
    }

    /// The counters so far.
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals.clone();
        totals.hub = self.hub.stats();
        totals.waiting = self.hub.waiting();
        totals.pending_bytes = self.hub.memory();
        totals.longest_hold = self.longest_hold();
        totals.memory = self.hub.ledger().total();
        totals.loss_in = totals::Loss::of(&self.incoming);
        totals.loss_out = totals::Loss::of(&self.outward);
        totals
    }

    /// What became of the requests so far.
    pub fn executions(&self) -> Executions {
        Executions { executed: self.hub.stats().messages, repeats: self.totals.repeats }
    }

    /// How many sessions live.
    pub fn sessions(&self) -> usize {
        self.hub.len()
    }

    /// Whether nothing at all is remembered of any peer: no session, no connection, no flow, no nonce.
    pub fn is_stateless(&self) -> bool {
        let maps = [self.conns.len(), self.flows.len(), self.admission.hosts(), self.host_rates.len()];
        let queues = [self.spent.len(), self.woken.len(), self.pushing.len(), self.outgoing.len()];
        // What is under way on a link is of a flow that is counted above.
        self.hub.is_empty() && self.lookup.is_empty() && maps.into_iter().chain(queues).all(|len| len == 0)
    }

    /// Whether no push waits to be sent or acknowledged.
    pub fn is_settled(&self) -> bool {
        self.hub.memory() == 0
            && self.pushing.is_empty()
            && self.outgoing.is_empty()
            && self.is_quiet_outward()
    }

    /// What is spoken at a door.
    fn door(&self, id: DoorId) -> Option<&Door> {
        self.config.doors.get(id)
    }

    fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Hands the sessions that the hub has woken to whoever writes for them.
    fn dispatch(&mut self) {
        while let Some(key) = self.hub.poll_woken() {
            match self.hub.get(key).map(Session::path) {
                Some(Path::Stream(Some(conn))) => self.wake_conn(conn),
                Some(Path::Datagram(_)) => self.pushing.push_back(key),
                Some(Path::Stream(None)) | None => {}
            }
        }
    }

    /// What anything that happened may have brought about for others: it is done here, once for all of it.
    fn settle(&mut self, now: Instant) {
        self.end_condemned(now);
        self.release_held(now);
        self.note_missed(now);
        if self.has_put_off() {
            self.put_off_sweep(now);
        }
        let more = self.hub.has_missed();
        let line =
            [self.undelivered.next_line(false), self.missed.next_line(more), self.late_line(now, more)];
        let line = line.into_iter().flatten().min();
        if self.log_at != line {
            self.log_at = line;
            self.timers.set(Owner::Log, line);
        }
    }
}

impl Service for Server {
    type Conn = StreamIntake;

    fn begin_hold(&mut self) {
        self.begin_told_hold();
    }

    fn is_spent(&self) -> bool {
        self.is_hold_spent()
    }

    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> StreamIntake {
        self.begin_call();
        self.work().add(1, cost::CONNECTION);
        match arrival {
            Arrival::Accepted(origin) => self.open_stream(now, conn, origin),
            // It asks for none. Who was dialed all the same is served as at the first door.
            Arrival::Dialed(_, from) => self.open_stream(now, conn, Origin { door: 0, from }),
        }
    }

    fn received(&mut self, now: Instant, conn: ConnId, batch: Batch<'_>) {
        self.begin_call();
        self.handle_batch(now, conn, batch);
        self.settle(now);
    }

    fn ended(&mut self, now: Instant, conn: ConnId) {
        self.begin_call();
        self.end_input(now, conn);
        self.settle(now);
    }

    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        self.begin_call();
        self.work().add(1, cost::DATAGRAM);
        self.enter(now, peer, bytes);
        self.settle(now);
    }

    fn drained(&mut self, now: Instant, conn: ConnId) {
        if let Some(key) = self.conns.get(conn).and_then(|state| state.session) {
            self.hub.written(key);
        }
        self.answers_written(conn);
        self.drained_stream(now, conn);
        self.settle(now);
    }

    fn reuse(&mut self, buffer: Vec<u8>) {
        self.hub.reuse(buffer);
    }

    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason) {
        self.begin_call();
        self.close_stream(now, conn, why);
        self.settle(now);
    }

    fn timeout(&mut self, now: Instant) {
        self.begin_call();
        self.arrive(now);
        // Deadlines that this hold does not reach stay due.
        while !self.is_hold_spent()
            && let Some(owner) = self.timers.pop_due(now)
        {
            self.work().add(1, cost::TIMER);
            match owner {
                Owner::Conn { serial, place } => self.conn_timeout(now, ConnId::new(place, serial)),
                Owner::Session(key) => self.session_timeout(now, key),
                Owner::Spent => self.forget_spent(now),
                Owner::HostRates => self.forget_host_rates(now),
                Owner::Log => {
                    self.log_at = None;
                    self.undelivered.write(now);
                    self.note_missed(now);
                    self.missed.write(now);
                }
                Owner::Farewell => self.farewell_timeout(now),
                Owner::Drain => self.end_drain(now),
                Owner::Sweep => self.sweep(now),
            }
        }
        self.settle(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let links = [self.incoming.poll_timeout(), self.outward.poll_timeout()];
        links.into_iter().chain([self.timers.next()]).flatten().min()
    }

    fn poll_wake(&mut self) -> Option<ConnId> {
        self.dispatch();
        self.pop_woken()
    }

    fn fill(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow {
        let flow = self.fill_stream(now, conn, out);
        self.settle(now);
        flow
    }

    fn is_reading(&self, conn: ConnId) -> bool {
        self.conns.get(conn).is_some_and(StreamConn::takes_input)
    }

    fn is_closing(&self, conn: ConnId) -> bool {
        self.conns.get(conn).is_none_or(|state| state.closing)
    }

    fn is_aborted(&self, conn: ConnId) -> bool {
        self.is_refused_untold(conn)
            || self.conns.get(conn).is_some_and(|state| state.unfinished.get().eviction == Eviction::Told)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.begin_call();
        self.dispatch();
        let transmit = self.next_transmit(now);
        self.settle(now);
        transmit
    }

    fn shutdown(&mut self, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        self.begin_call();
        self.begin_round(now, 0);
        self.timers.set(Owner::Drain, Some(now + DRAIN_TIME));
        self.hub.close();
        self.begin_drain_sweep();
        self.sweep(now);
        self.settle(now);
    }

    fn is_finished(&self) -> bool {
        match self.draining {
            None => false,
            Some(Draining::Ending) => false,
            Some(Draining::Underway(_)) => {
                self.hub.is_empty() && self.conns.is_empty() && self.is_quiet_outward()
            }
            Some(Draining::Over) => true,
        }
    }
}
