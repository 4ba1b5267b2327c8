//! The state under the lock of an engine: the service, and each connection.
//!
//! [`Shared`] decides what is read, written and closed, and hands out the I/O as [`PendingIo`]. It touches no socket,
//! except to ask the system whether a peer is dead. Connections close in `ending`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::SOCKET_BUDGET;
use super::connection::{Connection, Port, Write, Written};
use super::dead_peers::{PeerWatch, TcpState};
use super::ending::{CloseState, DRAIN_TIMEOUT};
use super::pending_io::{IoResults, PendingIo};
use crate::conn_map::ConnMap;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Flow, Peer, Service};
use crate::timers::Timers;

/// The service and its connections.
#[derive(Debug)]
pub(in crate::net) struct Shared<S: Service, P> {
    pub(in crate::net) service: S,
    pub(super) conns: ConnMap<Entry<P>>,
    /// Latest closing time of each connection.
    pub(super) deadlines: Timers<ConnId>,
    /// Time at which connections with pending last input are given up; their peers have closed their side.
    pub(super) last_inputs: HashMap<ConnId, Instant>,
    /// Connections with output in flight.
    peer_watch: PeerWatch,
    /// The deadline that the timer waits for.
    alarm: Option<Instant>,
    /// Number of connection slots ever in use.
    place_count: u32,
    /// Ids of closed connections, whose slots are used again.
    pub(super) free_ids: Vec<ConnId>,
    /// Datagrams that were taken from the service and not sent yet.
    sending: usize,
    /// Connections with more output, which wait behind those that have waited longer.
    deferred: VecDeque<ConnId>,
    /// Whether `deferred` was asked first the last time.
    takes_deferred: bool,
    /// The engine has ended: connections are not served any more.
    pub(super) is_over: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) connection: Arc<Connection<P>>,
    /// A write is in progress.
    pub(super) writing: bool,
    /// The writer has to look for more output.
    again: bool,
    /// Reading has ended.
    pub(super) ended: bool,
    /// Its input waits in the service.
    pub(super) busy: bool,
    /// It is in `deferred`.
    deferred: bool,
    /// It is watched: output is in flight.
    watched: bool,
    /// The service has refused it.
    pub(super) refused: bool,
    pub(super) close_state: CloseState,
    /// A write that waits for the socket, where the engine keeps it here.
    parked: Option<Box<Write<P>>>,
}

impl<P> Entry<P> {
    /// Whether our side is shut down right after this output.
    const fn is_shut_next(&self, flow: Flow) -> bool {
        flow.closing && !flow.more && !self.ended && !self.refused
    }
}

impl<S: Service, P: Port> Shared<S, P> {
    pub(in crate::net) fn new(service: S) -> Self {
        Self {
            service,
            conns: ConnMap::default(),
            deadlines: Timers::default(),
            last_inputs: HashMap::new(),
            peer_watch: PeerWatch::default(),
            alarm: None,
            place_count: 0,
            free_ids: Vec::new(),
            sending: 0,
            deferred: VecDeque::new(),
            takes_deferred: false,
            is_over: false,
        }
    }

    /// Adds a connection. `port` wraps its socket once the id is known.
    pub(in crate::net) fn open(
        &mut self,
        now: Instant,
        arrival: Arrival,
        port: impl FnOnce(ConnId) -> P,
    ) -> (Arc<Connection<P>>, S::Conn) {
        let id = self.new_id();
        let intake = self.service.opened(now, id, arrival);
        let refused = self.service.is_closing(id);
        let connection = Arc::new(Connection::new(id, port(id)));
        let entry = Entry {
            connection: connection.clone(),
            writing: false,
            again: false,
            ended: false,
            busy: false,
            deferred: false,
            watched: false,
            refused,
            close_state: CloseState::Open,
            parked: None,
        };
        self.conns.insert(id, entry);
        (connection, intake)
    }

    fn new_id(&mut self) -> ConnId {
        if let Some(gone) = self.free_ids.pop() {
            return ConnId(gone.0 + (1 << 32));
        }
        let place = self.place_count;
        self.place_count += 1;
        ConnId::new(place, 0)
    }

    /// Passes a decoded batch to the service.
    pub(in crate::net) fn received(
        &mut self,
        now: Instant,
        connection: &Arc<Connection<P>>,
        batch: <S::Conn as Decoder>::Batch<'_>,
        pending: &mut PendingIo<P>,
    ) {
        if self.conns.contains(connection.id) {
            self.service.received(now, connection.id, batch);
            // The flow is not asked for while a write is blocked; what the service buffers for it grows
            // meanwhile.
            if connection.allow_reading(self.service.is_reading(connection.id)) {
                pending.resumed.push(connection.clone());
            }
        }
    }

    /// Passes datagrams to the service. Returns whether the work budget of this hold of the lock is spent.
    pub(in crate::net) fn datagrams(
        &mut self,
        now: Instant,
        batch: &mut dyn Iterator<Item = (Peer, &[u8])>,
    ) -> bool {
        for (peer, bytes) in batch {
            self.service.datagram(now, peer, bytes);
            if self.service.is_spent() {
                return true;
            }
        }
        false
    }

    /// Handles deadlines. Those not reached this turn stay pending.
    pub(in crate::net) fn tick(&mut self, now: Instant, pending: &mut PendingIo<P>) {
        if self.service.poll_timeout().is_some_and(|at| at <= now) {
            self.service.timeout(now);
        }
        self.check_peers(now, pending);
        for _ in 0..SOCKET_BUDGET {
            let Some(conn) = self.deadlines.pop_due(now) else { return };
            self.end(now, conn, CloseReason::TimedOut, pending);
        }
    }

    /// Ends the connections of dead peers. Those not checked this turn stay due.
    fn check_peers(&mut self, now: Instant, pending: &mut PendingIo<P>) {
        for _ in 0..SOCKET_BUDGET {
            let Some(watched) = self.peer_watch.pop_due(now) else { return };
            let Some(entry) = self.conns.get_mut(watched.conn) else { continue };
            let state = TcpState::of(entry.connection.port.socket()).filter(|state| !state.is_idle());
            match state {
                None => entry.watched = false,
                Some(state) if state.is_dead(now.saturating_duration_since(watched.since)) => {
                    self.end(now, watched.conn, CloseReason::Unreachable, pending);
                }
                Some(_) => self.peer_watch.watch_on(now, watched),
            }
        }
    }

    /// Takes the results of I/O: frees the connections that were written to, or continues with them.
    pub(in crate::net) fn apply_results(
        &mut self,
        now: Instant,
        results: &mut IoResults,
        pending: &mut PendingIo<P>,
    ) {
        self.sending -= std::mem::take(&mut results.sent);
        for written in results.written.drain(..) {
            self.finish_write(now, &written, pending);
            if written.buffer.capacity() > 0 {
                self.service.reuse(written.buffer);
            }
        }
    }

    /// Keeps a write whose socket is full.
    pub(super) fn park(&mut self, write: Write<P>) {
        if let Some(entry) = self.conns.get_mut(write.connection.id) {
            entry.parked = Some(Box::new(write));
        }
    }

    /// Takes the write whose socket was full.
    pub(super) fn unpark(&mut self, conn: ConnId) -> Option<Write<P>> {
        self.conns.get_mut(conn)?.parked.take().map(|write| *write)
    }

    /// Takes what became sendable, as much as one turn may.
    pub(in crate::net) fn collect(&mut self, now: Instant, pending: &mut PendingIo<P>) {
        if self.is_over {
            self.give_up(now, pending);
        }
        loop {
            while pending.writes.len() < SOCKET_BUDGET
                && let Some(conn) = self.next_woken()
            {
                self.claim(now, conn, pending);
            }
            while pending.transmits.len() < SOCKET_BUDGET
                && let Some(transmit) = self.service.poll_transmit(now)
            {
                self.sending += 1;
                pending.transmits.push(transmit);
            }
            while let Some(dial) = self.service.poll_dial() {
                pending.dials.push(dial);
            }
            // The last datagram may have woken a connection.
            if pending.writes.len() >= SOCKET_BUDGET {
                return;
            }
            let Some(conn) = self.next_woken() else { return };
            self.claim(now, conn, pending);
        }
    }

    /// The next connection with output: woken by the service and deferred ones alternate.
    fn next_woken(&mut self) -> Option<ConnId> {
        self.takes_deferred = !self.takes_deferred;
        let conn = if self.takes_deferred { self.next_deferred() } else { self.service.poll_wake() };
        conn.or_else(|| if self.takes_deferred { self.service.poll_wake() } else { self.next_deferred() })
    }

    fn next_deferred(&mut self) -> Option<ConnId> {
        let conn = self.deferred.pop_front()?;
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.deferred = false;
        }
        Some(conn)
    }

    /// Queues a connection that has more output, as it would otherwise take every turn.
    fn defer(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(conn)
            && !std::mem::replace(&mut entry.deferred, true)
        {
            self.deferred.push_back(conn);
        }
    }

    /// Takes a connection's output, unless a write is in progress: then its writer will.
    pub(super) fn claim(&mut self, now: Instant, conn: ConnId, pending: &mut PendingIo<P>) {
        if self.service.is_aborted(conn) {
            return self.end(now, conn, CloseReason::Asked, pending);
        }
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.writing {
            entry.again = true;
            if self.service.is_closing(conn) {
                self.begin_close(now, conn, pending);
            } else if entry.connection.allow_reading(self.service.is_reading(conn)) {
                pending.resumed.push(entry.connection.clone());
            }
            return;
        }
        let mut bytes = Output::default();
        let flow = self.service.fill(now, conn, &mut bytes);
        self.apply(now, conn, flow, pending);
        if bytes.is_empty() {
            self.continue_close(now, conn, pending);
        } else if let Some(entry) = self.conns.get_mut(conn) {
            entry.writing = true;
            // A refused connection has a deadline of its own.
            if !entry.refused && !std::mem::replace(&mut entry.watched, true) {
                self.peer_watch.watch(now, conn);
            }
            let write = Write::new(entry.connection.clone(), bytes, flow.more);
            pending.writes.push(if entry.is_shut_next(flow) { write.with_shutdown() } else { write });
        }
    }

    fn apply(&mut self, now: Instant, conn: ConnId, flow: Flow, pending: &mut PendingIo<P>) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.busy = flow.busy;
        if flow.closing {
            self.begin_close(now, conn, pending);
        } else if entry.connection.allow_reading(flow.reading) {
            pending.resumed.push(entry.connection.clone());
        }
    }

    fn finish_write(&mut self, now: Instant, written: &Written, pending: &mut PendingIo<P>) {
        let Some(entry) = self.conns.get_mut(written.conn) else { return };
        if written.failed {
            return self.end(now, written.conn, CloseReason::Lost, pending);
        }
        entry.writing = false;
        if entry.ended || entry.close_state == CloseState::Closing {
            self.deadlines.set(written.conn, Some(now + DRAIN_TIMEOUT));
        }
        let again = std::mem::take(&mut entry.again);
        self.service.drained(now, written.conn);
        if written.more || again {
            self.defer(written.conn);
        } else {
            self.continue_close(now, written.conn, pending);
        }
    }

    /// Whether the service has finished and nothing of it is unsent.
    pub(in crate::net) fn is_finished(&self) -> bool {
        self.sending == 0 && self.service.is_finished()
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.service.poll_timeout(), self.deadlines.next(), self.peer_watch.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The timer is about to wait: returns until when.
    pub(in crate::net) fn set_alarm(&mut self) -> Option<Instant> {
        self.alarm = self.next_deadline();
        self.alarm
    }

    /// Whether the timer would wake too late; true once per change.
    pub(in crate::net) fn needs_alarm(&mut self) -> bool {
        let Some(next) = self.next_deadline() else { return false };
        let late = self.alarm.is_none_or(|alarm| next < alarm);
        if late {
            self.alarm = Some(next);
        }
        late
    }
}
