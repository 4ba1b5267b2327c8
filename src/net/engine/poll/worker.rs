//! One readiness loop: its events, its output, and how long it sleeps. Reading is in `reading`.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll};

use super::Looped;
use super::datagrams::Datagrams;
use super::loop_handle::{Inbox, LoopHandle, PollPort, Subject, Wakeup, handle_of};
use super::reading::{READ_SIZE, Reader};
use crate::log_limiter::LogLimiter;
use crate::net::engine::SOCKET_BUDGET;
use crate::net::engine::accept::Acceptor;
use crate::net::engine::connection::{Connection, Mode, Write};
use crate::net::engine::engine_core::Blocked;
use crate::net::engine::pending_io::{IoResults, PendingIo};
use crate::net::engine::shared::Shared;
use crate::net::rt;
use crate::service::{ConnId, Service, Transmit};

/// Most events taken at once.
const EVENTS: usize = 1_024;

/// A readiness loop.
#[derive(Debug)]
pub(super) struct Worker<S: Service + 'static> {
    pub(super) core: Looped<S>,
    pub(super) nth: usize,
    pub(super) wakeup: Arc<Wakeup>,
    poll: Poll,
    events: Events,
    /// Its connections, by their place in this loop.
    pub(super) readers: Vec<Option<Reader<S>>>,
    /// Places of connections that may have input, each once.
    pub(super) ready: VecDeque<usize>,
    /// Connections whose socket has become writable for a waiting write, each once.
    pub(super) writable: VecDeque<ConnId>,
    pub(super) datagrams: Datagrams,
    pub(super) buffer: Vec<u8>,
    /// The service may have output that was not collected yet.
    pub(super) is_dirty: bool,
    pub(super) pending: PendingIo<PollPort>,
    results: IoResults,
    /// The first loop only.
    pub(super) acceptor: Option<Acceptor>,
    /// Limits warnings about connections that no loop can wait for.
    pub(super) warnings: LogLimiter,
    /// The next deadline; the first loop only.
    pub(super) deadline: Option<Instant>,
}

impl<S: Service + 'static> Worker<S> {
    pub(super) fn new(core: Looped<S>, (nth, wakeup): (usize, Arc<Wakeup>), poll: Poll) -> Self {
        let acceptor = (nth == 0).then(|| Acceptor::new(wakeup.slots().clone()));
        Self {
            core,
            nth,
            wakeup,
            poll,
            events: Events::with_capacity(EVENTS),
            readers: Vec::new(),
            ready: VecDeque::new(),
            writable: VecDeque::new(),
            datagrams: Datagrams::default(),
            buffer: vec![0; READ_SIZE],
            is_dirty: false,
            pending: PendingIo::default(),
            results: IoResults::default(),
            acceptor,
            warnings: LogLimiter::default(),
            deadline: None,
        }
    }

    pub(super) fn run(mut self) {
        self.with(|_, _, _| ());
        while !self.core.end.is_over() {
            if let Err(error) = self.step(None) {
                log::error!("cannot wait for sockets: {error}");
                return self.core.end.fail();
            }
        }
    }

    /// Waits for at most `most`, and handles what happened.
    pub(super) fn step(&mut self, most: Option<Duration>) -> io::Result<()> {
        let timeout = [self.timeout(), most].into_iter().flatten().min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => self.turn(),
        }
        Ok(())
    }

    /// The epoll or kqueue instance.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    /// Longest sleep.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let is_busy = !self.ready.is_empty() || !self.writable.is_empty() || !self.pending.is_empty();
        if is_busy || self.acceptor.as_ref().is_some_and(Acceptor::is_busy) {
            return Some(Duration::ZERO);
        }
        let deadline =
            [self.deadline, self.acceptor.as_ref().and_then(Acceptor::deadline)].into_iter().flatten().min();
        let deadline = deadline.map(|at| at.saturating_duration_since(rt::now()));
        [self.datagrams.timeout(), deadline].into_iter().flatten().min()
    }

    /// One wake-up, bounded so that every source gets its share.
    fn turn(&mut self) {
        self.take_inbox();
        self.take_events();
        self.unpark();
        self.flush();
        self.tick();
        self.accept();
        self.receive();
        self.read();
        self.flush();
        self.send_waiting();
    }

    /// Calls `act` under the lock. The next flush collects what became sendable.
    pub(super) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Shared<S, PollPort>, Instant, &mut PendingIo<PollPort>) -> R,
    ) -> R {
        let (is_first, deadline, pending) = (self.nth == 0, &mut self.deadline, &mut self.pending);
        self.core.with(|shared, now| {
            let result = act(shared, now, pending);
            if is_first {
                *deadline = shared.set_alarm();
            }
            result
        })
    }

    fn take_events(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token().into() {
                Subject::Conn(place) => self.conn_event(place, event),
                Subject::Listener(_) => self.acceptor.iter_mut().for_each(Acceptor::notice),
                Subject::Datagrams(id) => self.datagrams.notice(id),
                // A deadline may be earlier now, which concerns the first loop alone.
                Subject::Inbox if self.nth == 0 => self.with(|_, _, _| ()),
                Subject::Inbox => {}
            }
        }
        self.events = events;
    }

    fn conn_event(&mut self, place: usize, event: &Event) {
        let (_, place) = handle_of(place, self.loops());
        let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) else { return };
        reader.is_ending |= event.is_read_closed() || event.is_error();
        if event.is_readable() || reader.is_ending {
            reader.queue(place, &mut self.ready);
        }
        if event.is_writable() && reader.connection.port.set_writable() {
            self.writable.push_back(reader.connection.id);
        }
    }

    /// Continues writes whose sockets have become writable, up to a limit; the rest follows in the next turn.
    pub(super) fn unpark(&mut self) {
        let count = self.writable.len().min(SOCKET_BUDGET);
        if count == 0 {
            return;
        }
        let mut writable = std::mem::take(&mut self.writable);
        self.with(|shared, _, pending| {
            pending.writes.extend(writable.drain(..count).filter_map(|id| shared.unpark(id)));
        });
        self.writable = writable;
    }

    fn loops(&self) -> usize {
        self.core.backend.handles.len()
    }

    fn loop_handle(&self) -> Option<&LoopHandle<S>> {
        self.core.backend.handles.get(self.nth)
    }

    /// Takes the inbox.
    fn take_inbox(&mut self) {
        let Some(Inbox { made, opened, resumed, pending }) =
            self.loop_handle().and_then(LoopHandle::take_inbox)
        else {
            return;
        };
        for (socket, arrival) in made {
            self.open(socket, arrival);
        }
        for (connection, intake) in opened {
            self.adopt(connection, intake);
        }
        for connection in resumed {
            self.resume(&connection);
        }
        for mut more in pending {
            self.pending.append(&mut more);
        }
    }

    /// Reads from a connection from now on.
    pub(super) fn adopt(&mut self, connection: Arc<Connection<PollPort>>, intake: S::Conn) {
        let (_, place) = handle_of(connection.id.place(), self.loops());
        if place >= self.readers.len() {
            self.readers.resize_with(place + 1, || None);
        }
        if let Some(reader) = self.readers.get_mut(place) {
            *reader = Some(Reader::new(connection, intake));
        }
    }

    /// Handles the deadline, if it is due.
    fn tick(&mut self) {
        if self.deadline.is_some_and(|at| at <= rt::now()) {
            self.with(Shared::tick);
            self.is_dirty = true;
        }
    }

    /// Collects output and writes it, up to a limit of sockets; the rest follows in the next turn.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            self.with(Shared::collect);
        }
        let mut sockets = 0;
        while !self.pending.is_empty() && sockets < SOCKET_BUDGET {
            sockets += self.pending.len();
            self.perform();
        }
    }

    /// Writes, sends, shuts and resumes; then collects what became sendable meanwhile.
    fn perform(&mut self) {
        for connection in std::mem::take(&mut self.pending.resumed) {
            self.resume(&connection);
        }
        for (connection, how) in std::mem::take(&mut self.pending.shuts) {
            self.shut(&connection, how);
        }
        let Blocked { writes, transmits } = self.core.perform(&mut self.pending, &mut self.results);
        for write in writes {
            self.park(write);
        }
        if !transmits.is_empty() {
            let too_many = self.datagrams.waiting.push(rt::now(), transmits);
            self.give_up(&too_many);
        }
        let mut results = std::mem::take(&mut self.results);
        self.with(|shared, now, pending| {
            shared.apply_results(now, &mut results, pending);
            shared.collect(now, pending);
        });
        self.results = results;
    }

    /// Reads on from a connection, as no event will report it.
    pub(super) fn resume(&mut self, connection: &Arc<Connection<PollPort>>) {
        if connection.port.loop_index() != self.nth {
            if let Some(loop_handle) = self.core.backend.handles.get(connection.port.loop_index()) {
                loop_handle.post(|inbox| inbox.resumed.push(connection.clone()));
                loop_handle.wake();
            }
            return;
        }
        let (_, place) = handle_of(connection.id.place(), self.loops());
        if let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) {
            reader.queue(place, &mut self.ready);
        }
    }

    /// Shuts a connection down. A closed one of this loop is dropped, which closes the socket; another loop
    /// gets an event.
    fn shut(&mut self, connection: &Arc<Connection<PollPort>>, how: Shutdown) {
        if how == Shutdown::Both && connection.port.loop_index() == self.nth {
            self.forget(connection);
        } else {
            connection.shut(how);
        }
    }

    /// Drops a closed connection.
    pub(super) fn forget(&mut self, connection: &Connection<PollPort>) {
        let (_, place) = handle_of(connection.id.place(), self.loops());
        if let Some(reader) = self.readers.get_mut(place)
            && reader.as_ref().is_some_and(|reader| {
                reader.connection.id == connection.id && connection.mode() == Mode::Gone
            })
        {
            *reader = None;
        }
    }

    /// Keeps a write for the loop of its connection, which sees when its socket is writable.
    fn park(&mut self, write: Write<PollPort>) {
        self.with(|shared, _, pending| {
            if write.connection.port.park() {
                shared.park(write);
            } else {
                pending.writes.push(write);
            }
        });
    }

    /// Tries again to send delayed datagrams, and gives up those that waited too long.
    fn send_waiting(&mut self) {
        if self.datagrams.waiting.is_empty() {
            return;
        }
        let core = &self.core;
        let (sent, late) = self.datagrams.waiting.retry(rt::now(), |batch| core.send(batch));
        self.results.sent += sent;
        self.give_up(&late);
        self.perform();
    }

    /// Drops datagrams whose socket stayed full for too long.
    fn give_up(&mut self, transmits: &[Transmit]) {
        self.core.drop_all(transmits);
        self.results.sent += transmits.len();
    }
}
