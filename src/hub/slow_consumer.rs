//! Slow consumers: what happens to a message to a room when a member's queue is full.
//!
//! A direct message is queued or refused under every policy, so this file concerns rooms alone. Which connection a
//! paused sender has, and how it resumes, is in the server's `backpressure`.

use std::collections::BTreeMap;

use super::memory::MemoryUse;
use super::message::Cost;
use super::push::FRAME_OVERHEAD;
use super::queue::SendQueue;
use super::session::SHORT_HEAD;
use super::work::cost;
use super::{Form, Hub, Path, Session, SessionKey, SlowPolicy};
use crate::names::is_room;
use crate::wire::MAX_HEAD;

/// Decisions about slow consumers that are not carried out or logged yet.
#[derive(Debug, Default)]
pub(super) struct SlowConsumers {
    /// Sessions with dropped messages that are not logged.
    unlogged: Vec<SessionKey>,
    /// Slow consumers whose sessions are to end.
    to_end: Vec<SessionKey>,
    /// Members for which senders need not wait now. `true` resumes all of the senders, because they may have waited
    /// for other reasons than the queue.
    resumable: BTreeMap<SessionKey, bool>,
}

/// Full queues.
impl Hub {
    /// Applies the policy to a message to a room for which a member has no room. Returns whether there is room now; if
    /// not, the message is dropped and counted.
    pub(super) fn overflow(&mut self, member: SessionKey, cost: Cost) -> bool {
        if self.config.slow == SlowPolicy::DropOld && self.make_room(member, cost) {
            return true;
        }
        let Some(session) = self.get(member).filter(|session| !session.is_over()) else {
            self.drop_into_gap(member);
            return false;
        };
        if self.config.slow == SlowPolicy::Disconnect && self.is_itself_slow(session, cost) {
            self.disconnect(member);
            return false;
        }
        self.note_dropped(member);
        self.drop_into_gap(member);
        false
    }

    /// Drops the oldest queued messages to rooms of a member until a message of this cost has room. Returns `false`,
    /// and drops nothing, if dropping all of them might not be enough. A shared body stays in memory for other queues,
    /// so only the member's own bytes count as freed.
    fn make_room(&mut self, member: SessionKey, cost: Cost) -> bool {
        let Some(session) = self.get(member).filter(|session| !session.is_over()) else { return false };
        let (mut kept, droppable) = (session.load(), session.droppable());
        kept -= droppable;
        let memory = self.memory.total() - droppable.own() + cost.fresh;
        if !self.config.may_hold(kept, cost.bytes) || memory > self.memory.bound() {
            return false;
        }
        while !self.has_room(member, cost) {
            let queue = self.get_mut(member).and_then(|session| session.queue_mut());
            let Some(freed) = queue.and_then(SendQueue::drop_oldest) else { return false };
            self.memory.release(MemoryUse::Queues, freed.own());
            self.waiting -= freed.messages;
            self.work.add(1, cost::PASSED);
            self.stats.gaps += 1;
            self.note_dropped(member);
        }
        true
    }

    /// Whether the member itself is slow: it has reached its own limits, or holds more than its share of the memory of
    /// all queues.
    fn is_itself_slow(&self, session: &Session, cost: Cost) -> bool {
        let load = session.load();
        !self.config.may_hold(load, cost.bytes) || load.bytes > self.config.max_memory / self.len().max(1)
    }

    fn disconnect(&mut self, key: SessionKey) {
        let Some(session) = self.get_mut(key) else { return };
        session.cut_off = true;
        self.slow.to_end.push(key);
        self.stats.cut_off += 1;
        // The message that did not fit.
        self.stats.undelivered += 1;
    }

    /// Returns the next slow consumer whose session is to end.
    pub fn poll_slow_consumer(&mut self) -> Option<SessionKey> {
        self.slow.to_end.pop()
    }

    /// Whether [`Hub::poll_slow_consumer`] has one.
    pub fn has_slow_consumer(&self) -> bool {
        !self.slow.to_end.is_empty()
    }

    fn note_dropped(&mut self, key: SessionKey) {
        let Some(traffic) = self.traffic_of(key) else { return };
        traffic.unlogged += 1;
        if traffic.unlogged == 1 {
            self.slow.unlogged.push(key);
        }
    }

    /// Whether [`Hub::poll_gap`] has one.
    pub fn has_gap(&self) -> bool {
        !self.slow.unlogged.is_empty()
    }

    /// Returns the next open session with newly dropped messages, and how many they are.
    pub fn poll_gap(&mut self) -> Option<(SessionKey, u64)> {
        loop {
            let key = self.slow.unlogged.pop()?;
            if let Some(session) = self.get_mut(key) {
                return Some((key, session.take_unlogged()));
            }
        }
    }
}

/// Blocking.
impl Hub {
    /// Whether the policy may pause senders.
    pub fn holds_senders(&self) -> bool {
        self.config.slow == SlowPolicy::Block
    }

    /// Under [`SlowPolicy::Block`], whether a body of `length` bytes for the room `target` has to wait for room in a
    /// member's queue. A message that would be refused, or is for no room, never waits.
    pub fn must_wait(&self, from: SessionKey, target: &[u8], length: usize) -> bool {
        self.blocked_on(from, target, length).is_some()
    }

    /// Returns the first member that such a body has to wait for. A later message waits behind those that wait
    /// already.
    ///
    /// When the memory of all queues is full, no message waits. The sessions that fill it need not be in the room, and
    /// may never read.
    pub fn blocked_on(&self, from: SessionKey, target: &[u8], length: usize) -> Option<SessionKey> {
        if !self.holds_senders() || !is_room(target) {
            return None;
        }
        let room = self.with_fold(target, |key| self.rooms.get(key)).flatten()?;
        let sender = self.get(from).filter(|_| room.members().contains(&from))?;
        let payload_len = sender.name.as_str().len() + room.name().as_str().len() + length + RCV_SPACES;
        if !self.memory.has_room_for(FRAME_OVERHEAD + payload_len) {
            return None;
        }
        let is_full = |member: &Session| {
            member.awaited || !self.config.may_hold(member.load(), most_cost(member.form, payload_len))
        };
        let members = self.work().walk(cost::PASSED, room.members());
        let mut receivers = members.copied().filter(|key| *key != from || sender.echo);
        receivers.find(|key| {
            self.get(*key).is_some_and(|member| member.is_waited_for(payload_len) && is_full(member))
        })
    }

    /// Records that a sender waits for room in this member's queue.
    pub fn await_room(&mut self, member: SessionKey) {
        if let Some(session) = self.get_mut(member) {
            session.awaited = true;
        }
    }

    /// Returns the next member that has more room, or has left, since it was last returned. The first of its senders
    /// may resume, or all of them.
    pub fn poll_resumable(&mut self) -> Option<(SessionKey, bool)> {
        let (member, all) = self.slow.resumable.pop_first()?;
        if let Some(session) = self.get_mut(member) {
            session.awaited = false;
        }
        Some((member, all))
    }

    /// Whether [`Hub::poll_resumable`] has one.
    pub fn has_resumable(&self) -> bool {
        !self.slow.resumable.is_empty()
    }

    /// Records that senders which wait for this member may resume: the first of them, or `all`.
    pub fn mark_resumable(&mut self, member: SessionKey, all: bool) {
        if self.get(member).is_some_and(|session| session.awaited) {
            *self.slow.resumable.entry(member).or_default() |= all;
        }
    }

    /// Records that a member has ended.
    pub(super) fn mark_resumable_at_end(&mut self, key: SessionKey, session: &Session) {
        if session.awaited {
            self.slow.resumable.insert(key, true);
        }
    }

    /// Sets whether the acknowledgements of this session no longer arrive. Meanwhile no sender waits for it: it could
    /// be for ever.
    pub fn set_acks_paused(&mut self, key: SessionKey, acks_paused: bool) {
        let Some(session) = self.get_mut(key) else { return };
        if std::mem::replace(&mut session.acks_paused, acks_paused) != acks_paused && acks_paused {
            self.mark_resumable(key, true);
        }
    }
}

/// Bytes of an RCV's payload beside sender and body: ` `, ` 0001 `.
const RCV_SPACES: usize = 7;

impl Session {
    /// Whether a sender may wait for this member with an RCV of this payload length. The member would get it, and its
    /// reads free the queue. A lingering session does not read.
    fn is_waited_for(&self, payload_len: usize) -> bool {
        let lingers = matches!(self.path(), Path::Stream(None));
        !lingers && !self.is_over() && !self.acks_paused && self.fits(SHORT_HEAD + payload_len, payload_len)
    }
}

/// Returns the most that an RCV with a payload of this length may cost in a queue.
fn most_cost(form: Form, payload_len: usize) -> usize {
    let shown = match form {
        Form::Tagged | Form::Untagged => payload_len,
        // A byte that is shown escaped takes four.
        Form::Lines => 4 * payload_len,
    };
    FRAME_OVERHEAD + MAX_HEAD + shown
}
