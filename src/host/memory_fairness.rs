//! Who is read: how the memory is shared, and who goes on when it is full.

use std::time::{Duration, Instant};

use super::conn::Stage;
use super::scheduler::forget_gone;
use super::state::{Owner, State};
use crate::service::{CloseReason, ConnId};
use crate::units::later;

/// How much whoever goes on alone at the bound of memory has to bring each time its patience ends.
const PROGRESS: usize = 64 << 10;

/// The least patience, so that looking after who goes on alone takes no more than some of the time.
const MIN_PATIENCE: Duration = Duration::from_millis(1);

/// Who is read.
impl State {
    /// Whether to read from a connection.
    pub(super) fn reads(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let wants = !conn.paused && !conn.closing && !conn.aborted && !conn.ended;
        let may = conn.has_room(self.settings.max_message) && conn.answers <= self.settings.pause_above;
        // A greeting is short, and has a deadline of its own.
        wants && may && (conn.stage == Stage::Handshake || !self.is_short_for(id))
    }

    fn is_short_for(&self, id: ConnId) -> bool {
        let leads = self.leader.is_some_and(|(leader, _)| leader == id);
        self.memory.is_full_of_answers() || self.memory.is_full_in() && !leads
    }

    /// Notes whether a connection is read, as the engine is told.
    pub(super) fn note_reading(&mut self, id: ConnId) -> bool {
        let (reading, is_short) = (self.reads(id), self.is_short_for(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.stopped = !reading;
            if is_short && !reading && !std::mem::replace(&mut conn.starved, true) {
                self.starved.push_back(id);
                forget_gone(&mut self.starved, &self.conns);
                self.has_starved = true;
            }
        }
        reading
    }

    /// Tells the engine to read again from a connection that it was told not to, if it may.
    pub(super) fn review(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.stopped) && self.note_reading(id) {
            self.wake(id);
        }
    }

    /// What all hold has changed: lets those go on who waited for that, or one of them where nothing else would.
    pub(super) fn share_memory(&mut self, now: Instant) {
        if self.memory.has_room_again() {
            self.lead_no_more();
            for _ in 0..self.starved.len() {
                let Some(id) = self.pop_starved() else { break };
                self.review(id);
            }
        } else if self.starved.is_empty() || self.memory.is_full_of_answers() {
            // Nobody waits for input's memory, or whoever goes on might want to be answered.
        } else {
            if self.leader.is_some_and(|(leader, _)| !self.brings(leader)) {
                self.lead_no_more();
            }
            if self.leader.is_none() && self.unread == 0 {
                self.choose_leader(now);
            }
        }
        self.has_starved = false;
    }

    /// Whether it is up to its peer that something of it can be taken.
    fn brings(&self, id: ConnId) -> bool {
        self.reads(id) && self.conns.get(id).is_some_and(|conn| !conn.unread)
    }

    fn pop_starved(&mut self) -> Option<ConnId> {
        let id = self.starved.pop_front()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.starved = false;
        }
        Some(id)
    }

    /// Lets one go on that has begun with something and needs more before that can be taken.
    fn choose_leader(&mut self, now: Instant) {
        for _ in 0..self.starved.len() {
            let Some(id) = self.pop_starved() else { return };
            let held = self.conns.get(id).map_or(0, |conn| conn.held.len());
            if held == 0 {
                // It holds nothing up, and may be silent.
                self.review(id);
                continue;
            }
            self.leader = Some((id, held));
            if self.reads(id) {
                self.set_patience(now);
                return self.wake(id);
            }
            // What it waits for besides is looked at again when that changes.
            self.leader = None;
        }
    }

    /// Something of a connection was taken: if it went on alone, it was for that.
    pub(super) fn taken(&mut self, id: ConnId) {
        if self.leader.is_some_and(|(leader, _)| leader == id) {
            self.lead_no_more();
        }
        self.review(id);
    }

    pub(super) fn lead_no_more(&mut self) {
        self.timers.set(Owner::Leader, None);
        if let Some((id, _)) = self.leader.take() {
            // Behind all others, if it has to wait again.
            self.wake(id);
        }
    }

    /// The patience with who goes on alone has ended.
    pub(super) fn check_leader(&mut self, now: Instant) {
        let Some((id, before)) = self.leader else { return };
        let held = self.conns.get(id).map_or(0, |conn| conn.held.len());
        let holds_up = self.starved.iter().any(|other| self.conns.contains(*other));
        if !self.brings(id) {
            self.lead_no_more();
        } else if !holds_up || held >= before.saturating_add(PROGRESS) {
            self.leader = Some((id, held));
            self.set_patience(now);
        } else {
            self.reject(id, CloseReason::TimedOut);
            self.lead_no_more();
        }
    }

    fn set_patience(&mut self, now: Instant) {
        let patience = self.settings.patience.max(MIN_PATIENCE);
        self.timers.set(Owner::Leader, Some(later(now, patience)));
    }
}
