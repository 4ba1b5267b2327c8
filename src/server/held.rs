//! Senders that wait for slow readers (`--slow block`): who waits for what, and in which order they go on.
//!
//! A sender waits where it stands: its frame stays in the backlog of its connection, which is not read meanwhile. Who
//! acknowledges pushes is read a little further, for the acknowledgements: they may be what somebody else waits for.
//! Beyond that it is deaf, nobody waits for it, and so nobody can wait in a circle.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Server;
use super::conn::{Held, StreamConn};
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{Form, SessionKey};
use crate::lazy_box::IsEmpty;
use crate::reliable::Seen;
use crate::service::ConnId;
use crate::wire::{Frame, SndArgs, Verb};

/// How many bytes of frames that wait are read behind the one that is held, in search of acknowledgements.
const HELD_ENOUGH: usize = 64 << 10;

/// When who cannot be held may ask again.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Connections that wait, by whom they wait for, then in the order in which they began to.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    queue: BTreeMap<(SessionKey, u64), ConnId>,
    next_ticket: u64,
    /// Those that are being let on, as far as the last hold of the lock has not come.
    relief: Option<Relief>,
}

/// Senders that go on: those who wait for this member with a ticket in this range, one or all of them.
#[derive(Debug)]
struct Relief {
    member: SessionKey,
    tickets: Range<u64>,
    all: bool,
}

impl Waiters {
    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The first who waits for this member with a ticket in this range.
    fn first(&self, member: SessionKey, tickets: Range<u64>) -> Option<(u64, ConnId)> {
        let range = (member, tickets.start)..(member, tickets.end);
        self.queue.range(range).next().map(|(&(_, ticket), &conn)| (ticket, conn))
    }
}

/// Where a connection stands in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// Whom it waits for.
    waits_for: Option<SessionKey>,
    /// Its ticket, until it has executed something: who is let on in vain keeps its place.
    ticket: Option<u64>,
    /// Whether it acknowledges pushes.
    acknowledges: bool,
}

impl IsEmpty for Waiting {
    const EMPTY: &'static Self = &Self { waits_for: None, ticket: None, acknowledges: false };

    fn is_empty(&self) -> bool {
        self.waits_for.is_none() && self.ticket.is_none() && !self.acknowledges
    }
}

impl Waiting {
    /// Whom its connection waits for.
    pub(super) fn waits_for(&self) -> Option<SessionKey> {
        self.waits_for
    }

    /// It has executed something: if it has to wait again, then behind those who wait already.
    pub(super) fn has_gone_on(&mut self) {
        self.ticket = None;
    }
}

/// Holding.
impl Server {
    /// Whether a connection's next frame has to wait. If so, its connection is held.
    pub(super) fn holds_frame(&mut self, conn: ConnId, frame: &Frame<'_>) -> bool {
        if !self.hub.holds_senders() || frame.verb != Verb::Snd {
            return false;
        }
        let Some(key) = self.conns.get(conn).and_then(|state| state.session) else { return false };
        let Some(SndArgs { target, body }) = SndArgs::parse(frame.args()) else { return false };
        self.hub.must_wait(key, target, body.len())
            && self.is_new(key, frame)
            && self.hold(conn, key, target, body.len())
    }

    /// Whether a request would be executed: a repeat is answered without.
    fn is_new(&self, key: SessionKey, frame: &Frame<'_>) -> bool {
        frame.id.is_none() || self.seen(key, frame) == Some(Seen::New)
    }

    /// Whether a request was executed before, and is only answered again.
    pub(super) fn is_repeat(&self, key: SessionKey, frame: &Frame<'_>) -> bool {
        matches!(frame.verb, Verb::Reg | Verb::Snd | Verb::Jon | Verb::Lev)
            && matches!(self.seen(key, frame), Some(Seen::Repeat(_)))
    }

    fn seen(&self, key: SessionKey, frame: &Frame<'_>) -> Option<Seen> {
        let (id, session) = (frame.id?, self.hub.get(key)?);
        Some(session.replies().look(id, self.secrets.frame_hash(frame)))
    }

    /// Holds a connection if what it says next, a body of `length` bytes for `target`, has to wait; says whether.
    pub(super) fn hold(&mut self, conn: ConnId, key: SessionKey, target: &[u8], length: usize) -> bool {
        if self.is_draining() {
            return false;
        }
        let Some(member) = self.hub.obstacle(key, target, length) else { return false };
        let acknowledges = self.hub.get(key).is_some_and(|session| session.form == Form::Tagged);
        let Some(state) = self.conns.get_mut(conn) else { return false };
        let waiting = state.waiting.get_or_default();
        let ticket = *waiting.ticket.get_or_insert(self.waiters.next_ticket);
        self.waiters.next_ticket += 1;
        self.waiters.queue.insert((member, ticket), conn);
        (waiting.waits_for, waiting.acknowledges) = (Some(member), acknowledges);
        state.held = Some(Held::ByReaders);
        self.hub.await_room(member);
        true
    }

    /// What cannot be held is refused for a while: over datagrams nothing stops a sender.
    pub(super) fn refuse_to_hold(
        &self,
        key: SessionKey,
        target: &[u8],
        length: usize,
    ) -> Result<(), Refusal> {
        let is_stream = || self.hub.get(key).is_some_and(|session| session.is_on_streams());
        if self.hub.must_wait(key, target, length) && !is_stream() {
            return Err(Refusal::slow_down(ASK_AGAIN));
        }
        Ok(())
    }

    /// Looks through what waits on a connection that is held for slow readers: acknowledgements count at once, wherever
    /// they stand, or two members could hold each other for ever. Each batch is looked through once.
    pub(super) fn scan_backlog(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        let (Some(Held::ByReaders), Some(key)) = (state.held, state.session) else { return };
        let mut backlog = state.backlog.take();
        for batch in backlog.iter_mut().filter(|batch| !batch.scanned) {
            batch.scanned = true;
            for frame in batch.frames() {
                self.work().add(1, cost::PASSED);
                if frame.verb == Verb::Ack && frame.id.is_none() {
                    self.acknowledged(now, key, &frame);
                }
            }
        }
        if let Some(state) = self.conns.get_mut(conn) {
            state.backlog = backlog.into();
        }
    }

    /// Notes whether the acknowledgements of the session that a connection carries still arrive.
    pub(super) fn note_hearing(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get(conn) else { return };
        if let Some(key) = state.session.filter(|_| state.waiting.get().acknowledges) {
            let is_deaf = state.held == Some(Held::ByReaders) && !state.listens();
            self.hub.set_deaf(key, is_deaf);
        }
    }
}

/// Going on.
impl Server {
    /// Lets senders go on who wait for members that they need not wait for any more, as far as this hold's budget allows.
    pub(super) fn release_held(&mut self, now: Instant) {
        while !self.is_hold_spent()
            && let Some(relief) = self.next_relief()
        {
            self.let_those_on(now, relief);
        }
    }

    fn next_relief(&mut self) -> Option<Relief> {
        self.waiters.relief.take().or_else(|| {
            let (member, all) = self.hub.poll_relieved()?;
            Some(Relief { member, tickets: 0..self.waiters.next_ticket, all })
        })
    }

    /// Whether senders may go on, or sessions are to end, and this hold of the lock had no budget for it.
    pub(super) fn has_put_off(&self) -> bool {
        let is_relieving = self.waiters.relief.is_some() || self.hub.has_relieved();
        is_relieving || self.hub.has_condemned()
    }

    /// Lets the senders on who wait for a member: one after the other until one waits for it again, or all.
    fn let_those_on(&mut self, now: Instant, Relief { member, mut tickets, all }: Relief) {
        while let Some((ticket, conn)) = self.waiters.first(member, tickets.clone()) {
            if self.is_hold_spent() {
                self.waiters.relief = Some(Relief { member, tickets, all });
                return;
            }
            self.let_on(now, conn);
            let waits_again =
                self.conns.get(conn).is_some_and(|state| state.waiting.get().waits_for == Some(member));
            if waits_again && !all {
                break;
            }
            tickets.start = ticket + 1;
        }
    }

    /// Lets one sender on that waits, whatever for. Returns whether there was one.
    pub(super) fn release_next(&mut self, now: Instant) -> bool {
        let Some(conn) = self.waiters.queue.first_key_value().map(|(_, conn)| *conn) else { return false };
        self.let_on(now, conn);
        true
    }

    fn let_on(&mut self, now: Instant, conn: ConnId) {
        self.work().add(1, cost::CONNECTION);
        self.leave_queue(conn);
        if let Some(state) = self.conns.get_mut(conn).filter(|state| state.held == Some(Held::ByReaders)) {
            state.held = None;
            self.go_on(now, conn);
        }
    }

    /// A connection waits no more, as it is gone: who waits behind it may be next.
    pub(super) fn stop_waiting(&mut self, conn: ConnId) {
        if let Some(member) = self.leave_queue(conn) {
            self.hub.relieve(member, false);
        }
    }

    fn leave_queue(&mut self, conn: ConnId) -> Option<SessionKey> {
        let waiting = self.conns.get_mut(conn)?.waiting.get_mut()?;
        let (member, ticket) = waiting.waits_for.take().zip(waiting.ticket)?;
        self.waiters.queue.remove(&(member, ticket));
        Some(member)
    }
}

impl StreamConn {
    /// Whether bytes are taken in: to be executed, or to be looked through for acknowledgements.
    pub(super) fn takes_input(&self) -> bool {
        self.is_reading() || !self.closing && self.held == Some(Held::ByReaders) && self.listens()
    }

    /// Whether a connection that is held is read on for its acknowledgements.
    fn listens(&self) -> bool {
        let ends = self.backlog.get().back().is_some_and(|batch| batch.broken.is_some());
        self.waiting.get().acknowledges
            && !ends
            && self.backlog.get().iter().map(|batch| batch.size()).sum::<usize>() <= HELD_ENOUGH
    }
}
