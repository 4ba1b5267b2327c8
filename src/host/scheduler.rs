//! Input: what is there to be taken, and whose turn it is to have it handed over.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::conn::{Conn, Stage};
use super::framing::Front;
use super::state::State;
use crate::conn_map::ConnMap;
use crate::door::Framing;
use crate::service::{CloseReason, ConnId};

/// What each piece that is handed over counts beside its bytes.
const PIECE_COST: usize = 64;

/// So many that are gone may stand in a queue, besides as many as twice those that are there.
const MANY_GONE: usize = 64;

/// What is handed over.
#[derive(Debug)]
pub(super) enum Piece {
    /// A whole one.
    Message(Bytes),
    /// All that is there.
    Bytes(BytesMut),
}

/// Input.
impl State {
    /// Bytes have come.
    pub(super) fn append(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.closing && !conn.aborted) else { return };
        conn.held.extend_from_slice(bytes);
        let is_known = conn.unread;
        self.memory.take_in(bytes.len());
        // Where the first piece is whole, that is so whatever follows it.
        if !is_known {
            self.look(id);
        }
    }

    /// Looks whether there is something to be taken.
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

    /// Whether something is to be handed over: if so but not now, it is put off.
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
        } else if self.turn == 0 {
            self.make_ready(id);
        } else {
            return true;
        }
        false
    }

    /// Its turn comes.
    pub(super) fn make_ready(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Its turn comes once there is room for answers.
    fn hold_back(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.held_back, true)
        {
            self.held_back.push_back(id);
            forget_gone(&mut self.held_back, &self.conns);
        }
    }

    /// Takes what is to be handed over next. Bytes that are not cut count as held until they come [back](Self::give_back).
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
        self.turn = self.turn.saturating_sub(PIECE_COST + piece.len());
        self.memory.give_in(span.before + span.len + span.after);
        self.look(id);
        self.taken(id);
        Some(piece)
    }

    /// Puts back what was not used of bytes. Returns whether there is more to be handed over.
    pub(super) fn give_back(&mut self, id: ConnId, mut bytes: BytesMut, used: usize) -> bool {
        let used = used.min(bytes.len());
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.closing && !conn.aborted) else {
            self.memory.give_in(bytes.len());
            return false;
        };
        self.turn = self.turn.saturating_sub(PIECE_COST + used);
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

    /// The handler has used nothing of what is there. Where no more may come, or not now, that goes on waiting to be taken.
    fn wants_nothing(&mut self, id: ConnId) {
        let most = self.settings.max_message;
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.framing == Framing::Bytes) {
            conn.stuck = conn.held.len() >= most && !conn.ended;
            let is_waiting = conn.stuck || conn.paused && !conn.held.is_empty();
            self.set_unread(id, is_waiting);
        }
    }

    /// Takes the first piece, or all bytes that are not cut.
    pub(super) fn recv(&mut self, id: ConnId) -> Option<Bytes> {
        self.conns.get(id).filter(|conn| conn.is_open() && conn.unread)?;
        let piece = self.cut(id);
        if self.conns.get(id).is_some_and(|conn| conn.ended) {
            // Who takes its time is not to be given up, and behind the last piece the handler is told of the end.
            self.wake(id);
            if self.conns.get(id).is_some_and(|conn| !conn.unread) {
                self.make_ready(id);
            }
        }
        piece
    }

    /// Stops handing anything over.
    pub(super) fn pause(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.paused = true;
        }
        self.wake(id);
    }

    /// Goes on handing over, what was not used before included.
    pub(super) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.paused = false;
            self.look(id);
            self.make_ready(id);
        }
        self.review(id);
    }

    pub(super) fn set_framing(&mut self, id: ConnId, framing: Framing) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.set_framing(framing);
            self.look(id);
            self.make_ready(id);
        }
        self.review(id);
    }

    /// Who comes next to have something handed over, while the turn lasts.
    pub(super) fn pop_ready(&mut self) -> Option<ConnId> {
        if self.turn == 0 {
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

    /// When something is to be done: at once, if somebody's turn was put off.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_somebodys =
            !self.ready.is_empty() || !self.held_back.is_empty() && !self.memory.is_full_of_answers();
        let at_once = self.now.filter(|_| is_somebodys || self.has_starved || !self.failures.is_empty());
        [at_once, self.timers.next()].into_iter().flatten().min()
    }
}

/// Forgets those in a queue that are gone, if there are many, so that it does not grow with who comes and goes.
pub(super) fn forget_gone(queue: &mut VecDeque<ConnId>, conns: &ConnMap<Conn>) {
    if queue.len() > 2 * conns.len() + MANY_GONE {
        queue.retain(|id| conns.contains(*id));
    }
}
