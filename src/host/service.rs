//! The host as a [`Service`]: translates an engine's calls into a handler's callbacks.

use std::fmt;
use std::io;
use std::time::Instant;

use super::Handler;
use super::conn::{Conn, Stage};
use super::context::{Context, PeerInfo};
use super::memory::FreeMemory;
use super::settings::Settings;
use super::state::{HostState, TimerOwner};
use crate::listener::Listener;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Dial, DialId, Flow, Peer, Service, Transmit};

/// A [`Handler`] with its connections, as a [`Service`] for any engine.
pub struct Host<H> {
    handler: H,
    state: HostState,
}

impl<H> fmt::Debug for Host<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<H: Handler> Host<H> {
    /// Creates a host without connections. `listeners` has the framing of each listener, by its ordinal
    /// ([`Listeners::list`](crate::net::Listeners::list)); other listeners carry unframed bytes.
    pub fn new(settings: Settings, listeners: Vec<Listener>, handler: H) -> Self {
        Self { handler, state: HostState::new(settings, listeners) }
    }

    /// The handler.
    pub const fn handler(&self) -> &H {
        &self.handler
    }

    pub(crate) const fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Calls `act` with the handler and a context, as in a callback.
    ///
    /// On an engine: `engine.change(|host, now| host.with(now, |handler, cx| ..))`.
    pub fn with<R>(&mut self, now: Instant, act: impl FnOnce(&mut H, &mut Context<'_>) -> R) -> R {
        self.state.begin(now);
        let result = act(&mut self.handler, &mut Context { now, state: &mut self.state });
        self.settle(now);
        result
    }

    /// Adds listeners after the existing ones.
    pub(crate) fn add_all_listeners(&mut self, listeners: Vec<Listener>) {
        self.state.listeners.extend(listeners);
    }

    /// [`Context::peer`], without a callback.
    pub(crate) fn peer(&self, conn: ConnId) -> Option<PeerInfo<'_>> {
        self.state.peer(conn)
    }

    /// [`Context::find`], without a callback.
    pub(crate) fn find(&self, name: &str) -> Option<ConnId> {
        self.state.find(name)
    }

    /// [`Context::memory`], without a callback.
    pub(crate) const fn memory(&self) -> (usize, usize) {
        self.state.memory.held()
    }

    fn tell(&mut self, now: Instant, act: impl FnOnce(&mut H, &mut Context<'_>)) {
        act(&mut self.handler, &mut Context { now, state: &mut self.state });
    }

    /// Passes a connection's input to the handler, as far as it may.
    fn deliver(&mut self, now: Instant, conn: ConnId) {
        if self.state.greet(conn) {
            self.tell(now, |handler, cx| handler.opened(cx, conn));
        }
        if self.state.is_deliverable(conn) {
            self.state.handing_over = Some(conn);
            self.tell(now, |handler, cx| handler.readable(cx, conn));
            self.state.handing_over = None;
        }
        self.tell_end(now, conn);
    }

    /// Reports that the peer has closed its side, after all earlier input.
    fn tell_end(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.state.conns.get_mut(id) else { return };
        if !conn.ended || conn.told_end || conn.is_open() && (conn.unread || conn.holds > 0) {
            return;
        }
        conn.told_end = true;
        if conn.is_open() {
            self.tell(now, |handler, cx| handler.ended(cx, id));
        } else {
            self.state.close(id);
        }
        self.state.wake(id);
    }

    /// Handles the consequences of any event: failures, drained queues, ready input, memory.
    fn settle(&mut self, now: Instant) {
        while let Some((dial, error)) = self.state.dials.poll_failure() {
            self.tell(now, |handler, cx| handler.failed(cx, dial, &error));
        }
        // Only those that are queued now: a connection that finds no room again waits for the next event.
        for _ in 0..self.state.to_tell_of_room() {
            if let Some(conn) = self.state.pop_awaiting_room() {
                self.tell(now, |handler, cx| handler.drained(cx, conn));
            }
        }
        while let Some(conn) = self.state.pop_ready() {
            self.deliver(now, conn);
        }
        self.state.share_memory(now);
    }
}

/// The per-connection half of a [`Host`]: bounds reads by the free memory. It passes bytes on unchanged, because the
/// framing may change with each piece.
#[derive(Debug)]
pub struct HostDecoder(FreeMemory);

#[doc(hidden)]
impl Decoder for HostDecoder {
    type Batch<'a> = &'a [u8];

    fn max_read(&self) -> usize {
        self.0.max_read()
    }

    fn received<'a>(&'a mut self, _now: Instant, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }
}

impl<H: Handler> Service for Host<H> {
    type Conn = HostDecoder;

    fn opened(&mut self, now: Instant, conn: ConnId, arrival: Arrival) -> HostDecoder {
        self.state.begin(now);
        self.state.open(now, conn, arrival);
        if self.state.conns.get(conn).is_some_and(|conn| conn.stage == Stage::Open) {
            self.tell(now, |handler, cx| handler.opened(cx, conn));
        }
        self.settle(now);
        HostDecoder(self.state.memory.room())
    }

    fn dial_failed(&mut self, now: Instant, dial: DialId, error: &io::Error) {
        self.state.begin(now);
        self.state.dials.failed(dial, io::Error::new(error.kind(), error.to_string()));
        self.settle(now);
    }

    fn received(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        self.state.begin(now);
        self.state.append(conn, bytes);
        self.deliver(now, conn);
        self.settle(now);
        self.state.note_reading(conn);
    }

    fn ended(&mut self, now: Instant, conn: ConnId) {
        self.state.begin(now);
        if let Some(state) = self.state.conns.get_mut(conn) {
            state.ended = true;
        }
        self.deliver(now, conn);
        self.settle(now);
    }

    fn datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        self.state.begin(now);
        self.tell(now, |handler, cx| handler.datagram(cx, peer, bytes));
        self.settle(now);
    }

    fn drained(&mut self, now: Instant, conn: ConnId) {
        self.state.begin(now);
        if self.state.drained(conn) {
            self.tell(now, |handler, cx| handler.drained(cx, conn));
        }
        self.settle(now);
    }

    fn closed(&mut self, now: Instant, conn: ConnId, why: CloseReason) {
        self.state.begin(now);
        if let Some(gone) = self.state.close_over(conn) {
            let why = gone.why.unwrap_or(why);
            match (gone.stage, gone.dial) {
                (Stage::Open, _) => {
                    self.state.gone = Some((conn, gone));
                    self.tell(now, |handler, cx| handler.closed(cx, conn, why));
                    self.state.gone = None;
                }
                (Stage::Handshake, Some(dial)) => {
                    let error =
                        io::Error::new(io::ErrorKind::ConnectionAborted, format!("no welcome: {why}"));
                    self.state.dials.failed(dial, error);
                }
                (Stage::Handshake | Stage::Refused, _) => {}
            }
        }
        self.settle(now);
    }

    fn timeout(&mut self, now: Instant) {
        self.state.begin(now);
        while let Some(owner) = self.state.timers.pop_due(now) {
            match owner {
                TimerOwner::Greeting(conn) => self.state.reject(conn, CloseReason::TimedOut),
                TimerOwner::Leader => self.state.check_leader(now),
            }
        }
        if self.handler.poll_timeout().is_some_and(|at| at <= now) {
            self.tell(now, |handler, cx| handler.timeout(cx));
        }
        self.settle(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.state.poll_timeout(), self.handler.poll_timeout()].into_iter().flatten().min()
    }

    fn poll_wake(&mut self) -> Option<ConnId> {
        self.state.pop_woken()
    }

    fn fill(&mut self, _now: Instant, conn: ConnId, out: &mut Output) -> Flow {
        self.state.fill(conn, out)
    }

    fn is_reading(&self, conn: ConnId) -> bool {
        self.state.reads(conn)
    }

    fn is_closing(&self, conn: ConnId) -> bool {
        self.state.conns.get(conn).is_none_or(Conn::is_closing)
    }

    fn is_aborted(&self, conn: ConnId) -> bool {
        self.state.conns.get(conn).is_some_and(|conn| conn.aborted)
    }

    fn poll_dial(&mut self) -> Option<Dial> {
        self.state.dials.poll()
    }

    fn poll_transmit(&mut self, _now: Instant) -> Option<Transmit> {
        self.state.poll_transmit()
    }

    fn shutdown(&mut self, now: Instant) {
        self.state.begin(now);
        self.tell(now, |handler, cx| handler.shutdown(cx));
        // Whatever the handler did, nothing is served from now on.
        self.state.is_stopping = true;
        self.settle(now);
    }

    fn is_finished(&self) -> bool {
        self.state.is_finished()
    }
}
