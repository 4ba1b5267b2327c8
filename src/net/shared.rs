//! What is under the lock: the service, and who writes to which connection.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::Async;
use event_listener::Event;

use super::engine::TURN;
use super::stream::{Link, Mode, Socket, Write, Written};
use crate::output::Output;
use crate::service::{ConnId, Flow, Intake, Origin, Peer, Service, Transmit};
use crate::table::Table;
use crate::timers::Timers;

/// How long a connection that is to be closed, or whose peer has closed its side, has for each piece of what is still
/// to be written.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long the service may take for the last input of a connection whose peer has closed its side. A door for people has
/// read 1 KiB at most: 512 lines, at one a second.
const LAST_INPUT: Duration = Duration::from_secs(600);

/// How long it may do nothing of it meanwhile.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How long input is read and discarded behind the last words: a close with unread input is a reset, which may
/// overtake them.
const DISCARDING: Duration = Duration::from_secs(2);

/// The service and its connections.
#[derive(Debug)]
pub(super) struct Shared<S: Service> {
    pub(super) service: S,
    conns: Table<Entry>,
    /// When connections are closed at the latest.
    deadlines: Timers<ConnId>,
    /// What the timer task sleeps until.
    alarm: Option<Instant>,
    /// How many places connections have had.
    places: u32,
    /// The ids of connections that are gone: their places are used again.
    vacant: Vec<ConnId>,
    /// Datagrams that were taken from the service and are not sent yet.
    sending: usize,
    /// Told whenever a connection's socket has been closed.
    freed: Arc<Event>,
}

/// A connection.
#[derive(Debug)]
struct Entry {
    link: Arc<Link>,
    /// Somebody is writing to it.
    writing: bool,
    /// Who is writing has to look again.
    again: bool,
    /// Nothing more is read from it.
    ended: bool,
    /// What was read from it waits for its turn in the service.
    busy: bool,
    /// The service has refused it.
    refused: bool,
    /// When a connection whose peer has closed its side is given up although it is busy.
    last_input: Option<Instant>,
    parting: Parting,
}

/// How far the end of a connection has come, on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parting {
    /// Not begun.
    Not,
    /// The service has said its last words; they may not be written yet.
    Closing,
    /// They are written, and the peer was told that nothing follows.
    Shut,
}

/// What is to be done outside the lock.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) writes: Vec<Write>,
    pub(super) shuts: Vec<(Arc<Link>, Shutdown)>,
    pub(super) transmits: Vec<Transmit>,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sockets it touches.
    pub(super) fn len(&self) -> usize {
        self.writes.len() + self.shuts.len() + self.transmits.len()
    }
}

/// What became of a [`Work`], but for the writes that have to wait.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) written: Vec<Written>,
    pub(super) sent: usize,
}

impl<S: Service> Shared<S> {
    pub(super) fn new(service: S) -> Self {
        Self {
            service,
            conns: Table::default(),
            deadlines: Timers::default(),
            alarm: None,
            places: 0,
            vacant: Vec::new(),
            sending: 0,
            freed: Arc::default(),
        }
    }

    /// What is told whenever a connection's socket has been closed.
    pub(super) fn freed(&self) -> Arc<Event> {
        self.freed.clone()
    }

    /// A connection was accepted.
    pub(super) fn open(
        &mut self,
        now: Instant,
        socket: Async<Socket>,
        origin: Origin,
    ) -> (Arc<Link>, S::Conn, Work) {
        let id = self.new_id();
        let intake = self.service.opened(now, id, origin);
        let refused = self.service.is_closing(id);
        let link = Arc::new(Link::new(id, socket, self.freed.clone()));
        let entry = Entry {
            link: link.clone(),
            writing: false,
            again: false,
            ended: false,
            busy: false,
            refused,
            last_input: None,
            parting: Parting::Not,
        };
        self.conns.insert(id, entry);
        (link, intake, self.collect(now))
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
    pub(super) fn received(
        &mut self,
        now: Instant,
        link: &Link,
        batch: <S::Conn as Intake>::Batch<'_>,
    ) -> Work {
        if self.conns.contains(link.id) {
            self.service.received(now, link.id, batch);
            // A writer that waits does not ask for the flow; what the service holds for its reader grows meanwhile.
            link.allow_reading(self.service.is_reading(link.id));
        }
        self.collect(now)
    }

    /// Datagrams came in.
    pub(super) fn datagrams<'a>(
        &mut self,
        now: Instant,
        batch: impl Iterator<Item = (Peer, &'a [u8])>,
    ) -> Work {
        for (peer, bytes) in batch {
            self.service.datagram(now, peer, bytes);
        }
        self.collect(now)
    }

    /// Nothing more is read from a connection. If its peer has only closed its own side, it still gets what is due to
    /// it.
    pub(super) fn read_ended(&mut self, now: Instant, conn: ConnId, is_lost: bool) -> Work {
        let mut work = Work::default();
        if let Some(entry) = self.conns.get_mut(conn) {
            entry.ended = true;
            if is_lost {
                self.end(now, conn, &mut work);
            } else {
                if entry.parting == Parting::Not {
                    self.deadlines.set(conn, Some(now + LAST_WORDS));
                }
                self.service.ended(now, conn);
                self.claim(now, conn, &mut work);
            }
        }
        self.collect_into(now, work)
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Work {
        let mut work = Work::default();
        if self.service.poll_timeout().is_some_and(|at| at <= now) {
            self.service.timeout(now);
        }
        while let Some(conn) = self.deadlines.pop_due(now) {
            self.end(now, conn, &mut work);
        }
        self.collect_into(now, work)
    }

    /// What became of a work: frees the connections that were written to, or goes on with them.
    pub(super) fn settle(&mut self, now: Instant, outcome: Outcome) -> Work {
        let mut work = Work::default();
        self.sending -= outcome.sent;
        for written in outcome.written {
            self.settle_write(now, &written, &mut work);
        }
        self.collect_into(now, work)
    }

    /// Takes what became sendable, as much as one turn may.
    pub(super) fn collect(&mut self, now: Instant) -> Work {
        self.collect_into(now, Work::default())
    }

    fn collect_into(&mut self, now: Instant, mut work: Work) -> Work {
        loop {
            while work.writes.len() < TURN
                && let Some(conn) = self.service.poll_wake()
            {
                self.claim(now, conn, &mut work);
            }
            while work.transmits.len() < TURN
                && let Some(transmit) = self.service.poll_transmit(now)
            {
                self.sending += 1;
                work.transmits.push(transmit);
            }
            // The last datagram may have been what somebody waited for.
            if work.writes.len() >= TURN {
                return work;
            }
            let Some(conn) = self.service.poll_wake() else { return work };
            self.claim(now, conn, &mut work);
        }
    }

    /// Takes a connection's output, unless somebody is writing to it: they will.
    fn claim(&mut self, now: Instant, conn: ConnId, work: &mut Work) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.writing {
            entry.again = true;
            entry.link.allow_reading(self.service.is_reading(conn));
            if self.service.is_closing(conn) {
                self.part(now, conn);
            }
            return;
        }
        let mut bytes = Output::default();
        let flow = self.service.fill(now, conn, &mut bytes);
        self.apply(now, conn, flow);
        if bytes.is_empty() {
            self.rest(now, conn, work);
        } else if let Some(entry) = self.conns.get_mut(conn) {
            entry.writing = true;
            work.writes.push(Write::new(entry.link.clone(), bytes, flow.more));
        }
    }

    fn apply(&mut self, now: Instant, conn: ConnId, flow: Flow) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.link.allow_reading(flow.reading);
        entry.busy = flow.busy;
        if flow.closing {
            self.part(now, conn);
        }
    }

    /// The service has nothing more to say: what it has said may take so long to be written.
    fn part(&mut self, now: Instant, conn: ConnId) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.parting == Parting::Not {
            entry.parting = Parting::Closing;
            entry.link.set_mode(Mode::Discarding);
            self.deadlines.set(conn, Some(now + LAST_WORDS));
        }
    }

    /// Everything is written: what was to come after that comes now.
    fn rest(&mut self, now: Instant, conn: ConnId, work: &mut Work) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.ended && entry.busy {
            let until = *entry.last_input.get_or_insert_with(|| now + LAST_INPUT);
            self.deadlines.set(conn, Some(until.min(now + LAST_WAIT)));
        } else if entry.ended || entry.refused && entry.parting == Parting::Closing {
            // Whom there is no room for must not take up any.
            self.end(now, conn, work);
        } else if entry.parting == Parting::Closing {
            entry.parting = Parting::Shut;
            work.shuts.push((entry.link.clone(), Shutdown::Write));
            self.deadlines.set(conn, Some(now + DISCARDING));
        }
    }

    fn settle_write(&mut self, now: Instant, written: &Written, work: &mut Work) {
        let Some(entry) = self.conns.get_mut(written.conn) else { return };
        if written.failed {
            return self.end(now, written.conn, work);
        }
        entry.writing = false;
        if entry.ended || entry.parting == Parting::Closing {
            self.deadlines.set(written.conn, Some(now + LAST_WORDS));
        }
        let again = std::mem::take(&mut entry.again);
        self.service.drained(now, written.conn);
        if written.more || again {
            self.claim(now, written.conn, work);
        } else {
            self.rest(now, written.conn, work);
        }
    }

    /// Forgets a connection. Its socket is closed once the tasks that use it have let go of it.
    fn end(&mut self, now: Instant, conn: ConnId, work: &mut Work) {
        let Some(entry) = self.conns.remove(conn) else { return };
        if conn.serial() < u64::from(u32::MAX) {
            self.vacant.push(conn);
        }
        self.deadlines.set(conn, None);
        self.service.closed(now, conn);
        entry.link.set_mode(Mode::Gone);
        if !entry.ended || entry.writing {
            // Wakes who waits to read or to write.
            work.shuts.push((entry.link, Shutdown::Both));
        }
    }

    /// Whether the service has come to its end and nothing of it is left to be sent.
    pub(super) fn is_finished(&self) -> bool {
        self.sending == 0 && self.service.is_finished()
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.service.poll_timeout().into_iter().chain(self.deadlines.next()).min()
    }

    /// The timer task is going to sleep: until when?
    pub(super) fn set_alarm(&mut self) -> Option<Instant> {
        self.alarm = self.next_deadline();
        self.alarm
    }

    /// Whether the timer task sleeps for too long; says so once.
    pub(super) fn needs_alarm(&mut self) -> bool {
        let Some(next) = self.next_deadline() else { return false };
        let late = self.alarm.is_none_or(|alarm| next < alarm);
        if late {
            self.alarm = Some(next);
        }
        late
    }
}
