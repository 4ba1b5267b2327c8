//! Back-pressure for slow consumers (`--slow block`): which senders are paused, and in which order they resume.
//!
//! A paused sender's frame stays in the backlog of its connection, which is not read meanwhile. A sender that
//! acknowledges pushes is still read for [`MAX_SCANNED`] bytes, as its acknowledgements may free the queue that others
//! wait for. Beyond that its acknowledgements no longer arrive, and no sender waits for it: so no senders can wait in
//! a circle. Pauses for a rate limit are in `rate_limit`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Server;
use super::conn::StreamConn;
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{Form, SessionKey};
use crate::lazy_box::IsEmpty;
use crate::reliable::Seen;
use crate::service::ConnId;
use crate::wire::{Frame, SndArgs, Verb};

/// The most bytes after a paused frame that are read in search of acknowledgements.
const MAX_SCANNED: usize = 64 << 10;

/// The retry delay of a sender that cannot be paused.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The paused senders, by the session that they wait for, then in the order in which they began to wait.
#[derive(Debug, Default)]
pub(super) struct PausedSenders {
    queue: BTreeMap<(SessionKey, u64), ConnId>,
    next_ticket: u64,
    /// The resumption that the last hold of the lock had no budget to finish.
    resumption: Option<Resumption>,
}

/// Senders to resume: those that wait for this session with a ticket in this range, one or all of them.
#[derive(Debug)]
struct Resumption {
    member: SessionKey,
    tickets: Range<u64>,
    all: bool,
}

impl PausedSenders {
    /// Returns how many senders are paused.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns the first sender that waits for this session with a ticket in this range.
    fn first(&self, member: SessionKey, tickets: Range<u64>) -> Option<(u64, ConnId)> {
        let range = (member, tickets.start)..(member, tickets.end);
        self.queue.range(range).next().map(|(&(_, ticket), &conn)| (ticket, conn))
    }
}

/// The place of a connection in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    /// The session that it waits for.
    waits_for: Option<SessionKey>,
    /// Its ticket, until it has executed something: a sender that is resumed in vain keeps its place.
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
    /// Returns the session that the connection waits for.
    pub(super) fn waits_for(&self) -> Option<SessionKey> {
        self.waits_for
    }

    /// Gives up the ticket after progress: the next wait is behind all senders that wait already.
    pub(super) fn note_progress(&mut self) {
        self.ticket = None;
    }
}

/// Pausing.
impl Server {
    /// Pauses a connection whose next frame is a message that has to wait. Returns the session it waits for.
    pub(super) fn pause_for_frame(&mut self, conn: ConnId, frame: &Frame<'_>) -> Option<SessionKey> {
        if !self.hub.holds_senders() || frame.verb != Verb::Snd {
            return None;
        }
        let key = self.streams.session(conn)?;
        let SndArgs { target, body } = SndArgs::parse(frame.args())?;
        let must_wait = self.hub.must_wait(key, target, body.len()) && self.is_new(key, frame);
        if must_wait { self.pause_sender(conn, key, target, body.len()) } else { None }
    }

    /// Whether a request would be executed: a duplicate is answered without.
    fn is_new(&self, key: SessionKey, frame: &Frame<'_>) -> bool {
        frame.id.is_none() || self.seen(key, frame) == Some(Seen::New)
    }

    /// Whether a request was executed before, so that it only gets its cached answer.
    pub(super) fn is_repeat(&self, key: SessionKey, frame: &Frame<'_>) -> bool {
        matches!(frame.verb, Verb::Reg | Verb::Snd | Verb::Jon | Verb::Lev)
            && matches!(self.seen(key, frame), Some(Seen::Repeat(_)))
    }

    fn seen(&self, key: SessionKey, frame: &Frame<'_>) -> Option<Seen> {
        let (id, session) = (frame.id?, self.hub.get(key)?);
        Some(session.replies().lookup(id, self.secrets.frame_hash(frame)))
    }

    /// Pauses a connection if its next message, a body of `length` bytes for `target`, has to wait. Returns the session
    /// that it waits for.
    pub(super) fn pause_sender(
        &mut self,
        conn: ConnId,
        key: SessionKey,
        target: &[u8],
        length: usize,
    ) -> Option<SessionKey> {
        if self.is_draining() {
            return None;
        }
        let member = self.hub.blocked_on(key, target, length)?;
        let acknowledges = self.hub.get(key).is_some_and(|session| session.form == Form::Tagged);
        let waiting = self.streams.get_mut(conn)?.gate.pause_for_consumer();
        let ticket = *waiting.ticket.get_or_insert(self.paused_senders.next_ticket);
        self.paused_senders.next_ticket += 1;
        self.paused_senders.queue.insert((member, ticket), conn);
        (waiting.waits_for, waiting.acknowledges) = (Some(member), acknowledges);
        self.hub.await_room(member);
        Some(member)
    }

    /// Refuses a datagram's message that has to wait: over datagrams nothing can pause a sender.
    pub(super) fn refuse_to_wait(
        &self,
        key: SessionKey,
        target: &[u8],
        length: usize,
    ) -> Result<(), Refusal> {
        let is_stream = || self.hub.get(key).is_some_and(|session| session.is_on_streams());
        if self.hub.must_wait(key, target, length) && !is_stream() {
            return Err(Refusal::slow_down(RETRY_AFTER));
        }
        Ok(())
    }

    /// Searches the backlog of a paused connection for acknowledgements and executes them, wherever they stand:
    /// otherwise two members could block each other for ever. Each batch is searched once.
    pub(super) fn scan_backlog(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        let Some(key) = state.session().filter(|_| state.gate.waits_for_consumer()) else { return };
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
        if let Some(state) = self.streams.get_mut(conn) {
            state.backlog = backlog.into();
        }
    }

    /// Tells the hub whether the acknowledgements of a connection's session still arrive.
    pub(super) fn note_ack_reading(&mut self, conn: ConnId) {
        let Some(state) = self.streams.get(conn) else { return };
        if let Some(key) = state.session().filter(|_| state.gate.waiting().acknowledges) {
            let acks_paused = state.gate.waits_for_consumer() && !state.reads_acks();
            self.hub.set_acks_paused(key, acks_paused);
        }
    }
}

/// Resuming.
impl Server {
    /// Resumes senders whose slow consumers have room again, as far as this hold's budget allows.
    pub(super) fn resume_senders(&mut self, now: Instant) {
        while !self.is_hold_spent()
            && let Some(resumption) = self.next_resumption()
        {
            self.resume_senders_for(now, resumption);
        }
    }

    fn next_resumption(&mut self) -> Option<Resumption> {
        self.paused_senders.resumption.take().or_else(|| {
            let (member, all) = self.hub.poll_resumable()?;
            Some(Resumption { member, tickets: 0..self.paused_senders.next_ticket, all })
        })
    }

    /// Whether senders are to resume, or sessions to end, for which this hold had no budget.
    pub(super) fn has_deferred_work(&self) -> bool {
        let is_resuming = self.paused_senders.resumption.is_some() || self.hub.has_resumable();
        is_resuming || self.hub.has_slow_consumer()
    }

    /// Resumes the senders that wait for a session: in order until one has to wait for it again, or all.
    fn resume_senders_for(&mut self, now: Instant, Resumption { member, mut tickets, all }: Resumption) {
        while let Some((ticket, conn)) = self.paused_senders.first(member, tickets.clone()) {
            if self.is_hold_spent() {
                self.paused_senders.resumption = Some(Resumption { member, tickets, all });
                return;
            }
            self.resume_sender(now, conn);
            let waits_again =
                self.streams.get(conn).is_some_and(|state| state.gate.waiting().waits_for == Some(member));
            if waits_again && !all {
                break;
            }
            tickets.start = ticket + 1;
        }
    }

    /// Resumes one paused sender, for whatever session it waits. Returns whether there was one.
    pub(super) fn resume_next_sender(&mut self, now: Instant) -> bool {
        let Some(conn) = self.paused_senders.queue.first_key_value().map(|(_, conn)| *conn) else {
            return false;
        };
        self.resume_sender(now, conn);
        true
    }

    fn resume_sender(&mut self, now: Instant, conn: ConnId) {
        self.work().add(1, cost::CONNECTION);
        self.leave_queue(conn);
        if self.streams.get_mut(conn).is_some_and(|state| state.gate.resume_from_consumer()) {
            self.resume_input(now, conn);
        }
    }

    /// Removes a closed connection from the queue: the sender behind it may be next.
    pub(super) fn stop_waiting(&mut self, conn: ConnId) {
        if let Some(member) = self.leave_queue(conn) {
            self.hub.mark_resumable(member, false);
        }
    }

    fn leave_queue(&mut self, conn: ConnId) -> Option<SessionKey> {
        let waiting = self.streams.get_mut(conn)?.gate.waiting_mut()?;
        let (member, ticket) = waiting.waits_for.take().zip(waiting.ticket)?;
        self.paused_senders.queue.remove(&(member, ticket));
        Some(member)
    }
}

impl StreamConn {
    /// Whether a paused connection is still read for its acknowledgements.
    pub(super) fn reads_acks(&self) -> bool {
        let ends = self.backlog.get().back().is_some_and(|batch| batch.broken.is_some());
        self.gate.waiting().acknowledges
            && !ends
            && self.backlog.get().iter().map(|batch| batch.size()).sum::<usize>() <= MAX_SCANNED
    }
}
