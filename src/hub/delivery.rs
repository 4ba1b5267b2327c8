//! Puts pushes into the queues of sessions, and takes them out as stream output or datagrams.
//!
//! Full queues are handled in `slow_consumer`. The queue itself is in [`super::queue`], which
//! sessions get a message in `requests`.

use std::time::Instant;

use super::memory::MemoryUse;
use super::message::{Cost, Message};
use super::push::{Load, Push};
use super::session::{ByeState, Traffic};
use super::work::cost;
use super::{Hub, HubConfig, Path, Session, SessionKey, SlowPolicy};
use crate::output::Output;
use crate::service::Origin;
use crate::wire::ByeArgs;

/// Why a session does not get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// There is no such session.
    Gone,
    /// The message is longer than may ever be sent there.
    TooLong,
    /// The session has no room now.
    NoRoom,
}

impl HubConfig {
    /// Whether a session with this load may get a message of this cost on top.
    pub(super) fn may_hold(&self, load: Load, cost: usize) -> bool {
        load.messages == 0
            || load.bytes + cost <= self.max_pending && load.messages < self.max_pending_messages
    }
}

/// Queues.
impl Hub {
    pub(super) fn has_room(&self, key: SessionKey, cost: Cost) -> bool {
        let Some(session) = self.get(key) else { return false };
        self.may_get(session, cost)
    }

    /// Whether there is room for a message of this cost: in the queue of a session, and in the memory of all queues.
    fn may_get(&self, session: &Session, cost: Cost) -> bool {
        self.config.may_hold(session.load(), cost.bytes)
            && self.memory.has_room_for(cost.fresh)
            && !session.is_over()
    }

    /// Returns what a message costs in the queue of `to`; `None` if it can never be sent there.
    pub(super) fn cost_of(&self, to: SessionKey, message: &Message<'_>) -> Option<Cost> {
        message.cost_for(self.sessions.get(to)?, self.config.slow == SlowPolicy::DropOld)
    }

    /// Queues a message for `to`.
    ///
    /// # Errors
    ///
    /// Why it was not queued.
    pub(super) fn deliver(&mut self, to: SessionKey, message: &Message<'_>) -> Result<(), Misfit> {
        let session = self.sessions.get(to).ok_or(Misfit::Gone)?;
        let are_dropped = self.config.slow == SlowPolicy::DropOld;
        let cost = message.cost_for(session, are_dropped).ok_or(Misfit::TooLong)?;
        if !self.may_get(session, cost) {
            return Err(Misfit::NoRoom);
        }
        let session = self.sessions.get_mut(to).ok_or(Misfit::Gone)?;
        message.put(session, &self.config, are_dropped, &self.memory);
        if !std::mem::replace(&mut session.woken, true) {
            self.woken.push_back(to);
        }
        self.memory.charge(MemoryUse::Queues, cost.own);
        self.waiting += 1;
        self.stats.queued += 1;
        Ok(())
    }

    /// Returns the traffic of a session, created if there was none.
    pub(super) fn traffic_of(&mut self, key: SessionKey) -> Option<&mut Traffic> {
        let session = self.sessions.get_mut(key)?;
        Some(session.traffic_mut(&self.config))
    }

    pub(super) fn enqueue(&mut self, key: SessionKey, push: Push) {
        let load = push.load();
        let Some(traffic) = self.traffic_of(key) else { return };
        traffic.queue.push(push);
        self.memory.charge(MemoryUse::Queues, load.own());
        self.waiting += load.messages;
        self.stats.queued += 1;
        self.wake(key);
    }

    pub(super) fn drop_into_gap(&mut self, key: SessionKey) {
        let Some(session) = self.get(key) else { return };
        if session.is_over() {
            self.stats.undelivered += 1;
            return;
        }
        // Behind other pushes a gap wakes nothing: for many slow consumers that would be most of the work.
        let Some(traffic) = self.traffic_of(key) else { return };
        let is_news = traffic.queue.is_empty();
        traffic.queue.push_gap();
        self.stats.gaps += 1;
        if is_news {
            self.wake(key);
        }
    }

    /// Releases bytes of the session's own that are not queued or in flight any more.
    fn free_of(&mut self, key: SessionKey, bytes: usize) {
        if bytes > 0 {
            self.memory.release(MemoryUse::Queues, bytes);
            self.mark_resumable(key, false);
        }
    }

    /// Queues the server's BYE: the last push of this session.
    pub fn say_bye(&mut self, key: SessionKey, bye: ByeArgs) {
        let Some(session) = self.get_mut(key) else { return };
        if !session.has_said_bye() {
            session.bye_state = ByeState::Queued;
            if let Some(traffic) = self.traffic_of(key) {
                traffic.queue.push(Push::Bye(bye));
            }
            self.mark_resumable(key, true);
            self.wake(key);
        }
    }

    /// Encodes the datagram of the server's BYE for a session on datagrams with nothing queued or in flight. Unlike
    /// [`Hub::say_bye`] it takes no memory, and the caller retransmits it. Returns whether there was one to encode.
    pub fn say_bye_alone(&mut self, key: SessionKey, bye: ByeArgs, out: &mut Vec<u8>) -> bool {
        let is_once = self.config.sabotage.no_push_repeat;
        let session = self.get_mut(key).filter(|session| !(is_once && session.has_said_bye()));
        session.is_some_and(|session| session.say_bye_alone(bye, out))
    }

    /// Marks a session as one that may have output.
    pub fn wake(&mut self, key: SessionKey) {
        let Some(session) = self.get_mut(key) else { return };
        if !session.woken {
            session.woken = true;
            self.woken.push_back(key);
        }
    }

    /// Returns the next session that may have output.
    pub fn poll_woken(&mut self) -> Option<SessionKey> {
        let key = self.woken.pop_front()?;
        if let Some(session) = self.get_mut(key) {
            session.woken = false;
        }
        Some(key)
    }
}

/// Output of one session.
impl Hub {
    /// Appends pushes for the connection of this session until `out` holds `enough` bytes.
    ///
    /// Returns whether more is waiting.
    pub fn fill_stream(&mut self, now: Instant, key: SessionKey, out: &mut Output, enough: usize) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let before = session.undelivered();
        while out.len() < enough && session.next_on_stream(now, out) {}
        self.waiting -= before - session.undelivered();
        session.has_stream_output()
    }

    /// Fills the next datagram with pushes for this session, behind answers if it has any. Returns whether there were
    /// any.
    pub fn next_datagram(&mut self, now: Instant, key: SessionKey, out: &mut Vec<u8>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let (before, mut freed, waiting) = (out.len(), 0, session.undelivered());
        while let Some(bytes) = session.next_in_datagram(now, out) {
            freed += bytes;
        }
        self.waiting -= waiting - session.undelivered();
        if out.len() == before {
            session.free_idle_traffic();
            return false;
        }
        self.free_of(key, freed);
        true
    }

    /// Records that all appended output of this session's connection goes to its writer.
    pub fn give(&mut self, key: SessionKey) {
        if let Some(traffic) = self.get_mut(key).and_then(|session| session.traffic.as_mut()) {
            traffic.writing += std::mem::take(&mut traffic.encoded);
        }
    }

    /// Records that the writer of this session's connection has written what it was given.
    pub fn written(&mut self, key: SessionKey) {
        let Some(session) = self.get_mut(key) else { return };
        let freed = session.traffic.as_mut().map_or(0, |traffic| traffic.written());
        session.free_idle_traffic();
        self.free_of(key, freed);
    }

    /// Takes a written buffer back, to be filled again.
    pub fn reuse(&mut self, buffer: Vec<u8>) {
        self.buffer_pool.give(buffer);
    }

    /// Returns when [`Hub::next_datagram`] has a retransmit for this session; `None` means never.
    pub fn push_timeout(&self, key: SessionKey) -> Option<Instant> {
        let session = self.get(key).filter(|session| !session.is_on_streams())?;
        session.traffic.as_ref()?.pushes.poll_timeout()
    }

    /// Records that the client has these pushes.
    pub fn acknowledge(&mut self, now: Instant, key: SessionKey, ranges: &[(u64, u64)]) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let before = session.undelivered();
        let (freed, passed) =
            session.traffic.as_mut().map_or((0, 0), |traffic| traffic.acknowledge(now, ranges));
        self.waiting -= before - session.undelivered();
        self.work.add(passed + ranges.len(), cost::PASSED);
        session.note_bye_acked(ranges);
        session.free_idle_traffic();
        self.free_of(key, freed);
        self.wake(key);
    }

    /// Records that the connection of a session is gone, or carries it no more. The writer's output is not the
    /// session's any more.
    pub fn lose_connection(&mut self, key: SessionKey) {
        let Some(session) = self.get_mut(key) else { return };
        session.lose_connection();
        let freed = session.traffic.as_mut().map_or(0, |traffic| traffic.leave_writer());
        session.free_idle_traffic();
        self.free_of(key, freed);
    }

    /// Lets `path` carry the session, with its `origin`, and retransmits the unacknowledged pushes there.
    pub fn take_up(&mut self, now: Instant, key: SessionKey, path: Path, origin: Origin) {
        if self.get(key).is_some_and(|session| session.path() != path) {
            self.lose_connection(key);
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.set_path(path, origin);
        session.acks_paused = false;
        match (path, &mut session.traffic) {
            (Path::Stream(_), Some(traffic)) => traffic.pushes.reattach(),
            (Path::Datagram(_), Some(traffic)) => {
                traffic.pushes.repeat_all(now);
                self.work.add(traffic.pushes.len(), cost::PASSED);
            }
            (_, None) => {}
        }
        self.wake(key);
    }
}
