//! Input scheduling: which connection may pass its next piece to the handler, and when.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::conn::{Conn, Stage};
use super::framing::Front;
use super::state::HostState;
use crate::conn_map::ConnMap;
use crate::listener::Framing;
use crate::service::{CloseReason, ConnId};

/// Fixed cost of a piece in the budget, in bytes, besides its length.
const PIECE_COST: usize = 64;

/// Number of closed connections that a queue may hold, besides twice the number of open ones.
const MANY_GONE: usize = 64;

/// Input for the handler.
#[derive(Debug)]
pub(super) enum Piece {
    /// A whole message, line or frame.
    Message(Bytes),
    /// All bytes that have arrived.
    Bytes(BytesMut),
}

/// Input.
impl HostState {
    /// Appends input of a connection.
    pub(super) fn append(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.closing && !conn.aborted) else { return };
        conn.held.extend_from_slice(bytes);
        let is_known = conn.unread;
        self.memory.take_in(bytes.len());
        // If the first piece is already complete, more input does not change that.
        if !is_known {
            self.look(id);
        }
    }

    /// Updates whether a connection has a complete piece.
    pub(super) fn look(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.stage != Stage::Open {
            return;
        }
        conn.stuck = false;
        self.memory.give_in(conn.skip_blank());
        match conn.look(self.settings.max_message) {
            Front::Unfinished { .. } => self.set_unread(id, false),
            Front::Whole(_) => self.set_unread(id, true),
            Front::Broken => self.reject(id, CloseReason::Broken),
        }
    }

    pub(super) fn set_unread(&mut self, id: ConnId, unread: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if std::mem::replace(&mut conn.unread, unread) != unread {
            self.unread = if unread { self.unread + 1 } else { self.unread - 1 };
        }
    }

    /// Whether a connection may pass input to the handler now. If it has some but has to wait, queues the connection.
    pub(super) fn is_deliverable(&mut self, id: ConnId) -> bool {
        let most = self.settings.pause_above;
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if !conn.is_open() || conn.paused || !conn.unread {
            return false;
        }
        if conn.answers > most {
            conn.deferred = true;
        } else if self.memory.is_full_of_answers() {
            self.hold_back(id);
        } else if self.budget == 0 {
            self.make_ready(id);
        } else {
            return true;
        }
        false
    }

    /// Queues a connection to be served again.
    pub(super) fn make_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Queues a connection until there is room for answers.
    fn hold_back(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.held_back, true)
        {
            self.held_back.push_back(id);
            forget_gone(&mut self.held_back, &self.conns);
        }
    }

    /// Takes the next piece for the handler. Unframed bytes count as held until they [come back](Self::give_back).
    pub(super) fn next(&mut self, id: ConnId) -> Option<Piece> {
        if !self.is_deliverable(id) {
            return None;
        }
        let conn = self.conns.get_mut(id)?;
        if conn.framing == Framing::Bytes {
            return Some(Piece::Bytes(std::mem::take(&mut conn.held)));
        }
        self.cut(id).map(Piece::Message)
    }

    fn cut(&mut self, id: ConnId) -> Option<Bytes> {
        let conn = self.conns.get_mut(id)?;
        let Front::Whole(span) = conn.look(self.settings.max_message) else { return None };
        let piece = conn.cut(span);
        self.budget = self.budget.saturating_sub(PIECE_COST + piece.len());
        self.memory.give_in(span.before + span.len + span.after);
        self.look(id);
        self.taken(id);
        Some(piece)
    }

    /// Returns the unused rest of unframed bytes. The result says whether there is more for the handler now.
    pub(super) fn give_back(&mut self, id: ConnId, mut bytes: BytesMut, used: usize) -> bool {
        let used = used.min(bytes.len());
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.closing && !conn.aborted) else {
            self.memory.give_in(bytes.len());
            return false;
        };
        self.budget = self.budget.saturating_sub(PIECE_COST + used);
        self.memory.give_in(used);
        let is_used_up = used == bytes.len();
        if !is_used_up {
            conn.held = if used == 0 { bytes } else { bytes.split_off(used) };
        }
        self.look(id);
        if used == 0 {
            self.wants_nothing(id);
            self.review(id);
        } else {
            self.taken(id);
        }
        used > 0 && !is_used_up
    }

    /// The handler used none of the bytes. If no more may arrive, they still count as input that waits for the handler.
    fn wants_nothing(&mut self, id: ConnId) {
        let most = self.settings.max_message;
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.framing == Framing::Bytes) {
            conn.stuck = conn.held.len() >= most && !conn.ended;
            let is_waiting = conn.stuck || conn.paused && !conn.held.is_empty();
            self.set_unread(id, is_waiting);
        }
    }

    /// Takes the first piece, or all unframed bytes.
    pub(super) fn recv(&mut self, id: ConnId) -> Option<Bytes> {
        self.conns.get(id).filter(|conn| conn.is_open() && conn.unread)?;
        let piece = self.cut(id);
        if self.conns.get(id).is_some_and(|conn| conn.ended) {
            // Tell the engine that the connection is still in use. After its last piece, the handler learns of the end.
            self.wake(id);
            if self.conns.get(id).is_some_and(|conn| !conn.unread) {
                self.make_ready(id);
            }
        }
        piece
    }

    /// Stops passing input to the handler.
    pub(super) fn pause(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.paused = true;
        }
        self.wake(id);
    }

    /// Resumes passing input to the handler, beginning with unused bytes.
    pub(super) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.paused = false;
            self.look(id);
            self.make_ready(id);
        }
        self.review(id);
    }

    /// Keeps a connection whose peer closes its side.
    pub(super) fn hold(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.holds = conn.holds.saturating_add(1);
        }
    }

    /// Ends a hold. After the last, the handler learns of an end that came meanwhile.
    pub(super) fn release(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.holds > 0) else { return };
        conn.holds -= 1;
        if conn.holds == 0 && conn.ended {
            self.make_ready(id);
        }
    }

    pub(super) fn set_framing(&mut self, id: ConnId, framing: Framing) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.set_framing(framing);
            self.look(id);
            self.make_ready(id);
        }
        self.review(id);
    }

    /// The next connection to serve, while the budget lasts.
    pub(super) fn pop_ready(&mut self) -> Option<ConnId> {
        if self.budget == 0 {
            return None;
        }
        if let Some(id) = self.ready.pop_front() {
            if let Some(conn) = self.conns.get_mut(id) {
                (conn.is_ready, conn.deferred) = (false, false);
            }
            return Some(id);
        }
        if self.memory.is_full_of_answers() {
            return None;
        }
        let id = self.held_back.pop_front()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.held_back = false;
        }
        Some(id)
    }

    /// The next deadline: now, if a connection was queued to be served again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let has_work =
            !self.ready.is_empty() || !self.held_back.is_empty() && !self.memory.is_full_of_answers();
        let at_once = self.now.filter(|_| has_work || self.starvation.is_new() || self.dials.has_failed());
        [at_once, self.timers.next()].into_iter().flatten().min()
    }
}

/// Removes closed connections from a queue if there are many, so that it does not grow as connections come and go.
pub(super) fn forget_gone(queue: &mut VecDeque<ConnId>, conns: &ConnMap<Conn>) {
    if queue.len() > 2 * conns.len() + MANY_GONE {
        queue.retain(|id| conns.contains(*id));
    }
}
