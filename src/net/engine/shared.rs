//! What is under the lock: the service, and who writes to which connection.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::TURN;
use super::dead_peers::{PeerWatch, TcpState};
use super::ending::{LAST_WORDS, Parting};
use super::link::{Link, Port, Write, Written};
use super::work::{Outcome, Work};
use crate::conn_map::ConnMap;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Decoder, Flow, Peer, Service};
use crate::timers::Timers;

/// The service and its connections.
#[derive(Debug)]
pub(in crate::net) struct Shared<S: Service, P> {
    pub(in crate::net) service: S,
    pub(super) conns: ConnMap<Entry<P>>,
    /// When connections are closed at the latest.
    pub(super) deadlines: Timers<ConnId>,
    /// When those whose peers have closed their side are given up although they are busy.
    pub(super) last_inputs: HashMap<ConnId, Instant>,
    /// Connections whose peers may have vanished.
    peers: PeerWatch,
    /// What the timer task sleeps until.
    alarm: Option<Instant>,
    /// How many places connections have had.
    places: u32,
    /// The ids of connections that are gone: their places are used again.
    pub(super) vacant: Vec<ConnId>,
    /// Datagrams that were taken from the service and are not sent yet.
    sending: usize,
    /// Connections that have more to be written, and stand back for those who have waited longer.
    behind: VecDeque<ConnId>,
    /// Whether one of those comes next.
    is_theirs: bool,
    /// The engine has ended: nobody is served any more.
    pub(super) is_over: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) link: Arc<Link<P>>,
    /// Somebody is writing to it.
    pub(super) writing: bool,
    /// Who is writing has to look again.
    again: bool,
    /// Nothing more is read from it.
    pub(super) ended: bool,
    /// What was read from it waits for its turn in the service.
    pub(super) busy: bool,
    /// It is among those that stand back.
    behind: bool,
    /// Its peer is watched, as something is on its way there.
    watched: bool,
    /// The service has refused it.
    pub(super) refused: bool,
    pub(super) parting: Parting,
    /// What the socket has no room for, where somebody looks after it here.
    parked: Option<Box<Write<P>>>,
}

impl<P> Entry<P> {
    /// Whether our side ends once this output is written, and nothing else ends before.
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
            peers: PeerWatch::default(),
            alarm: None,
            places: 0,
            vacant: Vec::new(),
            sending: 0,
            behind: VecDeque::new(),
            is_theirs: false,
            is_over: false,
        }
    }

    /// There is a connection; `port` makes what it is read and written through.
    pub(in crate::net) fn open(
        &mut self,
        now: Instant,
        arrival: Arrival,
        port: impl FnOnce(ConnId) -> P,
    ) -> (Arc<Link<P>>, S::Conn) {
        let id = self.new_id();
        let intake = self.service.opened(now, id, arrival);
        let refused = self.service.is_closing(id);
        let link = Arc::new(Link::new(id, port(id)));
        let entry = Entry {
            link: link.clone(),
            writing: false,
            again: false,
            ended: false,
            busy: false,
            behind: false,
            watched: false,
            refused,
            parting: Parting::Not,
            parked: None,
        };
        self.conns.insert(id, entry);
        (link, intake)
    }

    fn new_id(&mut self) -> ConnId {
        if let Some(gone) = self.vacant.pop() {
            return ConnId(gone.0 + (1 << 32));
        }
        let place = self.places;
        self.places += 1;
        ConnId::new(place, 0)
    }

    /// A connection's intake has made a batch.
    pub(in crate::net) fn received(
        &mut self,
        now: Instant,
        link: &Arc<Link<P>>,
        batch: <S::Conn as Decoder>::Batch<'_>,
        work: &mut Work<P>,
    ) {
        if self.conns.contains(link.id) {
            self.service.received(now, link.id, batch);
            // A writer that waits does not ask for the flow; what the service holds for its reader grows meanwhile.
            if link.allow_reading(self.service.is_reading(link.id)) {
                work.resumed.push(link.clone());
            }
        }
    }

    /// Datagrams came in. Returns whether this hold of the lock is spent, so that what is left is for another.
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

    /// Time has passed. What is due and comes not to its turn stays due.
    pub(in crate::net) fn tick(&mut self, now: Instant, work: &mut Work<P>) {
        if self.service.poll_timeout().is_some_and(|at| at <= now) {
            self.service.timeout(now);
        }
        self.check_peers(now, work);
        for _ in 0..TURN {
            let Some(conn) = self.deadlines.pop_due(now) else { return };
            self.end(now, conn, CloseReason::TimedOut, work);
        }
    }

    /// Ends the connections whose peers have vanished. Those not looked at in this turn stay due.
    fn check_peers(&mut self, now: Instant, work: &mut Work<P>) {
        for _ in 0..TURN {
            let Some(watched) = self.peers.pop_due(now) else { return };
            let Some(entry) = self.conns.get_mut(watched.conn) else { continue };
            let state = TcpState::of(entry.link.port.socket()).filter(|state| !state.is_settled());
            match state {
                None => entry.watched = false,
                Some(state) if state.is_dead(now.saturating_duration_since(watched.since)) => {
                    self.end(now, watched.conn, CloseReason::Unreachable, work);
                }
                Some(_) => self.peers.watch_on(now, watched),
            }
        }
    }

    /// What became of a work: frees the connections that were written to, or goes on with them.
    pub(in crate::net) fn settle(&mut self, now: Instant, outcome: &mut Outcome, work: &mut Work<P>) {
        self.sending -= std::mem::take(&mut outcome.sent);
        for written in outcome.written.drain(..) {
            self.settle_write(now, &written, work);
            if written.buffer.capacity() > 0 {
                self.service.reuse(written.buffer);
            }
        }
    }

    /// Keeps what a socket has no room for.
    pub(super) fn park(&mut self, write: Write<P>) {
        if let Some(entry) = self.conns.get_mut(write.link.id) {
            entry.parked = Some(Box::new(write));
        }
    }

    /// What a socket had no room for.
    pub(super) fn unpark(&mut self, conn: ConnId) -> Option<Write<P>> {
        self.conns.get_mut(conn)?.parked.take().map(|write| *write)
    }

    /// Takes what became sendable, as much as one turn may.
    pub(in crate::net) fn collect(&mut self, now: Instant, work: &mut Work<P>) {
        if self.is_over {
            self.give_up(now, work);
        }
        loop {
            while work.writes.len() < TURN
                && let Some(conn) = self.next_woken()
            {
                self.claim(now, conn, work);
            }
            while work.transmits.len() < TURN
                && let Some(transmit) = self.service.poll_transmit(now)
            {
                self.sending += 1;
                work.transmits.push(transmit);
            }
            while let Some(dial) = self.service.poll_dial() {
                work.dials.push(dial);
            }
            // The last datagram may have been what somebody waited for.
            if work.writes.len() >= TURN {
                return;
            }
            let Some(conn) = self.next_woken() else { return };
            self.claim(now, conn, work);
        }
    }

    /// Who comes next: by turns somebody whom the service has woken and somebody who stands back, while there are both.
    fn next_woken(&mut self) -> Option<ConnId> {
        self.is_theirs = !self.is_theirs;
        let conn = if self.is_theirs { self.next_behind() } else { self.service.poll_wake() };
        conn.or_else(|| if self.is_theirs { self.service.poll_wake() } else { self.next_behind() })
    }

    fn next_behind(&mut self) -> Option<ConnId> {
        let conn = self.behind.pop_front()?;
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.behind = false;
        }
        Some(conn)
    }

    /// Lets a connection that has more wait for its next turn: those who always have more would take every turn otherwise.
    fn stand_back(&mut self, conn: ConnId) {
        if let Some(entry) = self.conns.get_mut(conn)
            && !std::mem::replace(&mut entry.behind, true)
        {
            self.behind.push_back(conn);
        }
    }

    /// Takes a connection's output, unless somebody is writing to it: they will.
    pub(super) fn claim(&mut self, now: Instant, conn: ConnId, work: &mut Work<P>) {
        if self.service.is_aborted(conn) {
            return self.end(now, conn, CloseReason::Asked, work);
        }
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.writing {
            entry.again = true;
            if self.service.is_closing(conn) {
                self.part(now, conn, work);
            } else if entry.link.allow_reading(self.service.is_reading(conn)) {
                work.resumed.push(entry.link.clone());
            }
            return;
        }
        let mut bytes = Output::default();
        let flow = self.service.fill(now, conn, &mut bytes);
        self.apply(now, conn, flow, work);
        if bytes.is_empty() {
            self.rest(now, conn, work);
        } else if let Some(entry) = self.conns.get_mut(conn) {
            entry.writing = true;
            // A refused connection has a deadline of its own.
            if !entry.refused && !std::mem::replace(&mut entry.watched, true) {
                self.peers.watch(now, conn);
            }
            let write = Write::new(entry.link.clone(), bytes, flow.more);
            work.writes.push(if entry.is_shut_next(flow) { write.before_the_end() } else { write });
        }
    }

    fn apply(&mut self, now: Instant, conn: ConnId, flow: Flow, work: &mut Work<P>) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.busy = flow.busy;
        if flow.closing {
            self.part(now, conn, work);
        } else if entry.link.allow_reading(flow.reading) {
            work.resumed.push(entry.link.clone());
        }
    }

    fn settle_write(&mut self, now: Instant, written: &Written, work: &mut Work<P>) {
        let Some(entry) = self.conns.get_mut(written.conn) else { return };
        if written.failed {
            return self.end(now, written.conn, CloseReason::Lost, work);
        }
        entry.writing = false;
        if entry.ended || entry.parting == Parting::Closing {
            self.deadlines.set(written.conn, Some(now + LAST_WORDS));
        }
        let again = std::mem::take(&mut entry.again);
        self.service.drained(now, written.conn);
        if written.more || again {
            self.stand_back(written.conn);
        } else {
            self.rest(now, written.conn, work);
        }
    }

    /// Whether the service has come to its end and nothing of it is left to be sent.
    pub(in crate::net) fn is_finished(&self) -> bool {
        self.sending == 0 && self.service.is_finished()
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.service.poll_timeout(), self.deadlines.next(), self.peers.next()].into_iter().flatten().min()
    }

    /// The timer task is going to sleep: until when?
    pub(in crate::net) fn set_alarm(&mut self) -> Option<Instant> {
        self.alarm = self.next_deadline();
        self.alarm
    }

    /// Whether the timer task sleeps for too long; says so once.
    pub(in crate::net) fn needs_alarm(&mut self) -> bool {
        let Some(next) = self.next_deadline() else { return false };
        let late = self.alarm.is_none_or(|alarm| next < alarm);
        if late {
            self.alarm = Some(next);
        }
        late
    }
}
