//! One readiness loop: what has happened, what is to be written, and until when to sleep. Reading is in `reading`.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll};

use super::Looped;
use super::datagrams::Datagrams;
use super::home::{Bell, Home, Mail, Polled, Subject, home_of};
use super::reading::{READ_SIZE, Reader};
use crate::log_limiter::LogLimiter;
use crate::net::engine::TURN;
use crate::net::engine::accept::Acceptor;
use crate::net::engine::commons::Blocked;
use crate::net::engine::link::{Link, Mode, Write};
use crate::net::engine::shared::Shared;
use crate::net::engine::work::{Outcome, Work};
use crate::net::rt;
use crate::service::{ConnId, Service, Transmit};

/// Most events that are taken at once.
const EVENTS: usize = 1_024;

/// A readiness loop.
#[derive(Debug)]
pub(super) struct Worker<S: Service + 'static> {
    pub(super) core: Looped<S>,
    pub(super) nth: usize,
    pub(super) bell: Arc<Bell>,
    poll: Poll,
    events: Events,
    /// The connections that it reads from, by their place among its own.
    pub(super) readers: Vec<Option<Reader<S>>>,
    /// The places of those that may have something, each once.
    pub(super) ready: VecDeque<usize>,
    /// Those whose sockets have got room for a write that waits, each once.
    pub(super) roomy: VecDeque<ConnId>,
    pub(super) datagrams: Datagrams,
    pub(super) buffer: Vec<u8>,
    /// The service may have something to be sent that nobody has taken.
    pub(super) is_dirty: bool,
    pub(super) work: Work<Polled>,
    outcome: Outcome,
    /// The first loop only.
    pub(super) acceptor: Option<Acceptor>,
    /// About connections that no loop can wait for.
    pub(super) complaints: LogLimiter,
    /// When the service or a connection has to be looked after; the first loop only.
    pub(super) deadline: Option<Instant>,
}

impl<S: Service + 'static> Worker<S> {
    pub(super) fn new(core: Looped<S>, (nth, bell): (usize, Arc<Bell>), poll: Poll) -> Self {
        let acceptor = (nth == 0).then(|| Acceptor::new(bell.room().clone()));
        Self {
            core,
            nth,
            bell,
            poll,
            events: Events::with_capacity(EVENTS),
            readers: Vec::new(),
            ready: VecDeque::new(),
            roomy: VecDeque::new(),
            datagrams: Datagrams::default(),
            buffer: vec![0; READ_SIZE],
            is_dirty: false,
            work: Work::default(),
            outcome: Outcome::default(),
            acceptor,
            complaints: LogLimiter::default(),
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

    /// Waits for something to do, for so long at most, and does it.
    pub(super) fn step(&mut self, most: Option<Duration>) -> io::Result<()> {
        let timeout = [self.timeout(), most].into_iter().flatten().min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => self.turn(),
        }
        Ok(())
    }

    /// How long to sleep at most.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let is_busy = !self.ready.is_empty() || !self.roomy.is_empty() || !self.work.is_empty();
        if is_busy || self.acceptor.as_ref().is_some_and(Acceptor::is_busy) {
            return Some(Duration::ZERO);
        }
        let deadline =
            [self.deadline, self.acceptor.as_ref().and_then(Acceptor::deadline)].into_iter().flatten().min();
        let deadline = deadline.map(|at| at.saturating_duration_since(rt::now()));
        [self.datagrams.timeout(), deadline].into_iter().flatten().min()
    }

    /// One wake-up: bounded, so that whoever else has something comes next.
    fn turn(&mut self) {
        self.take_mail();
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

    /// Does something under the lock. What it makes sendable is collected by the next flush.
    pub(super) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Shared<S, Polled>, Instant, &mut Work<Polled>) -> R,
    ) -> R {
        let (is_first, deadline, work) = (self.nth == 0, &mut self.deadline, &mut self.work);
        self.core.with(|shared, now| {
            let result = act(shared, now, work);
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
                // A deadline may have become earlier, which is the affair of the first loop alone.
                Subject::Mail if self.nth == 0 => self.with(|_, _, _| ()),
                Subject::Mail => {}
            }
        }
        self.events = events;
    }

    fn conn_event(&mut self, place: usize, event: &Event) {
        let (_, place) = home_of(place, self.loops());
        let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) else { return };
        reader.is_ending |= event.is_read_closed() || event.is_error();
        if event.is_readable() || reader.is_ending {
            reader.queue(place, &mut self.ready);
        }
        if event.is_writable() && reader.link.port.give_room() {
            self.roomy.push_back(reader.link.id);
        }
    }

    /// Goes on with what sockets had no room for and have it now: so many, the rest is for the next turn.
    pub(super) fn unpark(&mut self) {
        let count = self.roomy.len().min(TURN);
        if count == 0 {
            return;
        }
        let mut roomy = std::mem::take(&mut self.roomy);
        self.with(|shared, _, work| {
            work.writes.extend(roomy.drain(..count).filter_map(|id| shared.unpark(id)));
        });
        self.roomy = roomy;
    }

    fn loops(&self) -> usize {
        self.core.mechanism.homes.len()
    }

    fn home(&self) -> Option<&Home<S>> {
        self.core.mechanism.homes.get(self.nth)
    }

    /// What others have left.
    fn take_mail(&mut self) {
        let Some(Mail { made, opened, resumed, work }) = self.home().and_then(Home::take_mail) else {
            return;
        };
        for (socket, arrival) in made {
            self.welcome(socket, arrival);
        }
        for (link, intake) in opened {
            self.adopt(link, intake);
        }
        for link in resumed {
            self.resume(&link);
        }
        for mut more in work {
            self.work.append(&mut more);
        }
    }

    /// Reads from a connection from now on.
    pub(super) fn adopt(&mut self, link: Arc<Link<Polled>>, intake: S::Conn) {
        let (_, place) = home_of(link.id.place(), self.loops());
        if place >= self.readers.len() {
            self.readers.resize_with(place + 1, || None);
        }
        if let Some(reader) = self.readers.get_mut(place) {
            *reader = Some(Reader::new(link, intake));
        }
    }

    /// The deadline has come.
    fn tick(&mut self) {
        if self.deadline.is_some_and(|at| at <= rt::now()) {
            self.with(Shared::tick);
            self.is_dirty = true;
        }
    }

    /// Takes what became sendable, and writes it: to so many sockets, the rest is for the next turn.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            self.with(Shared::collect);
        }
        let mut sockets = 0;
        while !self.work.is_empty() && sockets < TURN {
            sockets += self.work.len();
            self.perform();
        }
    }

    /// Writes, sends, shuts and resumes; then takes what became sendable meanwhile.
    fn perform(&mut self) {
        for link in std::mem::take(&mut self.work.resumed) {
            self.resume(&link);
        }
        for (link, how) in std::mem::take(&mut self.work.shuts) {
            self.shut(&link, how);
        }
        let Blocked { writes, transmits } = self.core.perform(&mut self.work, &mut self.outcome);
        for write in writes {
            self.park(write);
        }
        if !transmits.is_empty() {
            let too_many = self.datagrams.waiting.push(rt::now(), transmits);
            self.give_up(&too_many);
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        self.with(|shared, now, work| {
            shared.settle(now, &mut outcome, work);
            shared.collect(now, work);
        });
        self.outcome = outcome;
    }

    /// Reads on from a connection: no event says so.
    pub(super) fn resume(&mut self, link: &Arc<Link<Polled>>) {
        if link.port.home() != self.nth {
            if let Some(home) = self.core.mechanism.homes.get(link.port.home()) {
                home.leave(|mail| mail.resumed.push(link.clone()));
                home.wake();
            }
            return;
        }
        let (_, place) = home_of(link.id.place(), self.loops());
        if let Some(reader) = self.readers.get_mut(place).and_then(Option::as_mut) {
            reader.queue(place, &mut self.ready);
        }
    }

    /// Shuts a connection down. One of this loop that is gone is forgotten, which closes it; to another loop the system
    /// says so.
    fn shut(&mut self, link: &Arc<Link<Polled>>, how: Shutdown) {
        if how == Shutdown::Both && link.port.home() == self.nth {
            self.forget(link);
        } else {
            link.shut(how);
        }
    }

    /// Lets go of a connection that is gone.
    pub(super) fn forget(&mut self, link: &Link<Polled>) {
        let (_, place) = home_of(link.id.place(), self.loops());
        if let Some(reader) = self.readers.get_mut(place)
            && reader.as_ref().is_some_and(|reader| reader.link.id == link.id && link.mode() == Mode::Gone)
        {
            *reader = None;
        }
    }

    /// Leaves a write to the loop of its connection, which is told when its socket has room.
    fn park(&mut self, write: Write<Polled>) {
        self.with(|shared, _, work| {
            if write.link.port.park() {
                shared.park(write);
            } else {
                work.writes.push(write);
            }
        });
    }

    /// Tries again to send what sockets had no room for, and gives up what has waited for too long.
    fn send_waiting(&mut self) {
        if self.datagrams.waiting.is_empty() {
            return;
        }
        let core = &self.core;
        let (sent, late) = self.datagrams.waiting.retry(rt::now(), |batch| core.send(batch));
        self.outcome.sent += sent;
        self.give_up(&late);
        self.perform();
    }

    /// Drops datagrams for which there was no room in time.
    fn give_up(&mut self, transmits: &[Transmit]) {
        self.core.drop_all(transmits);
        self.outcome.sent += transmits.len();
    }
}
