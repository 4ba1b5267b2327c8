//! Memory limits for input: which connections are read, and which one may continue when memory is full.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::conn::Stage;
use super::scheduler::forget_gone;
use super::state::{HostState, TimerOwner};
use crate::service::{CloseReason, ConnId};
use crate::units::later;

/// Bytes that the leader, the one connection that is read when memory is full, has to deliver per `progress_timeout` interval.
const PROGRESS: usize = 64 << 10;

/// The shortest `progress_timeout`, so that checking the leader costs little time.
const MIN_PROGRESS_TIMEOUT: Duration = Duration::from_millis(1);

/// The connections that wait for input memory, and the one that is read meanwhile.
#[derive(Debug, Default)]
pub(super) struct Starvation {
    /// Connections that are not read because memory is full, each once.
    starved: VecDeque<ConnId>,
    /// One was added to `starved`, and no leader was chosen since.
    is_new: bool,
    /// The one connection that is read while memory is full, and its held bytes at the last check.
    leader: Option<(ConnId, usize)>,
}

impl Starvation {
    /// Whether a connection waits for memory since [`HostState::share_memory`] was called last.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether a connection is the leader.
    pub(super) fn is_leader(&self, id: ConnId) -> bool {
        self.leader.is_some_and(|(leader, _)| leader == id)
    }
}

/// Back-pressure.
impl HostState {
    /// Whether to read from a connection.
    pub(super) fn reads(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let wants = !conn.paused && !conn.closing && !conn.aborted && !conn.ended;
        let may = conn.has_room(self.settings.max_message) && conn.answers <= self.settings.pause_above;
        // A greeting is short, and has its own deadline.
        wants && may && (conn.stage == Stage::Handshake || !self.is_short_for(id))
    }

    fn is_short_for(&self, id: ConnId) -> bool {
        let leads = self.starvation.is_leader(id);
        self.memory.is_full_of_answers() || self.memory.is_full_in() && !leads
    }

    /// Records whether a connection is read, as the engine will be told.
    pub(super) fn note_reading(&mut self, id: ConnId) -> bool {
        let (reading, is_short) = (self.reads(id), self.is_short_for(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.stopped = !reading;
            if is_short && !reading && !std::mem::replace(&mut conn.starved, true) {
                self.starvation.starved.push_back(id);
                forget_gone(&mut self.starvation.starved, &self.conns);
                self.starvation.is_new = true;
            }
        }
        reading
    }

    /// Resumes reading a connection if it was paused and may be read again.
    pub(super) fn review(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.stopped) && self.note_reading(id) {
            self.wake(id);
        }
    }

    /// Reacts to a change of held memory: resumes the connections that wait for memory, or one of them if nothing else
    /// can free any.
    pub(super) fn share_memory(&mut self, now: Instant) {
        if self.memory.has_room_again() {
            self.lead_no_more();
            for _ in 0..self.starvation.starved.len() {
                let Some(id) = self.pop_starved() else { break };
                self.review(id);
            }
        } else if self.starvation.starved.is_empty() || self.memory.is_full_of_answers() {
            // No connection waits for input memory, or the leader's input might need memory for answers.
        } else {
            if self.starvation.leader.is_some_and(|(leader, _)| !self.brings(leader)) {
                self.lead_no_more();
            }
            if self.starvation.leader.is_none() && self.unread == 0 {
                self.choose_leader(now);
            }
        }
        self.starvation.is_new = false;
    }

    /// Whether only the peer can make progress: the connection is read and has no complete piece.
    fn brings(&self, id: ConnId) -> bool {
        self.reads(id) && self.conns.get(id).is_some_and(|conn| !conn.unread)
    }

    fn pop_starved(&mut self) -> Option<ConnId> {
        let id = self.starvation.starved.pop_front()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.starved = false;
        }
        Some(id)
    }

    /// Selects a leader: a connection that has begun a piece and needs more bytes to complete it.
    fn choose_leader(&mut self, now: Instant) {
        for _ in 0..self.starvation.starved.len() {
            let Some(id) = self.pop_starved() else { return };
            let held = self.conns.get(id).map_or(0, |conn| conn.held.len());
            if held == 0 {
                // It holds no memory, and its peer may be silent.
                self.review(id);
                continue;
            }
            self.starvation.leader = Some((id, held));
            if self.reads(id) {
                self.set_progress_deadline(now);
                return self.wake(id);
            }
            // Other reasons pause it. `review` checks again when one of them changes.
            self.starvation.leader = None;
        }
    }

    /// A piece of a connection was taken. If it is the leader, its purpose is fulfilled.
    pub(super) fn taken(&mut self, id: ConnId) {
        if self.starvation.is_leader(id) {
            self.lead_no_more();
        }
        self.review(id);
    }

    pub(super) fn lead_no_more(&mut self) {
        self.timers.set(TimerOwner::Leader, None);
        if let Some((id, _)) = self.starvation.leader.take() {
            // It queues behind all others if it has to wait again.
            self.wake(id);
        }
    }

    /// The leader's `progress_timeout` interval has ended: disconnects a leader that delivered too little.
    pub(super) fn check_leader(&mut self, now: Instant) {
        let Some((id, before)) = self.starvation.leader else { return };
        let held = self.conns.get(id).map_or(0, |conn| conn.held.len());
        let holds_up = self.starvation.starved.iter().any(|other| self.conns.contains(*other));
        if !self.brings(id) {
            self.lead_no_more();
        } else if !holds_up || held >= before.saturating_add(PROGRESS) {
            self.starvation.leader = Some((id, held));
            self.set_progress_deadline(now);
        } else {
            self.reject(id, CloseReason::TimedOut);
            self.lead_no_more();
        }
    }

    fn set_progress_deadline(&mut self, now: Instant) {
        let progress_timeout = self.settings.progress_timeout.max(MIN_PROGRESS_TIMEOUT);
        self.timers.set(TimerOwner::Leader, Some(later(now, progress_timeout)));
    }
}
