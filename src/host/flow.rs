//! Output: queueing, writing, and wakeups of connections with something to write.

use super::framing;
use super::scheduler::forget_gone;
use super::state::HostState;
use crate::listener::Framing;
use crate::output::Output;
use crate::service::{ConnId, Flow};

/// Bytes per write, and bytes per write of a connection that is closing: each write has the same time limit.
const WRITE_SIZE: usize = 1 << 20;
const LAST_WRITE_SIZE: usize = 256 << 10;

/// The longest buffer that collects short pieces, in bytes.
const TAIL: usize = 256 << 10;

/// The reason why a piece was not sent. The caller keeps the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue or memory is full: wait for [`drained`](super::Handler::drained). It is also called for a connection
    /// with an empty queue when other connections have left room.
    #[error("too much waits to be sent; wait until the connection has drained")]
    Full,
    /// The connection is closed or closing.
    #[error("the connection is closed")]
    Gone,
    /// The piece does not fit the framing: a line that holds a line end, or bytes that are not one frame.
    #[error("it does not fit the framing of this connection; send exactly one line or one frame")]
    NotAPiece,
    /// The datagram is longer than the protocol allows.
    #[error("a datagram holds 65507 bytes at most")]
    TooLong,
}

/// Output.
impl HostState {
    /// Queues a piece if there is room: `put` appends it.
    pub(super) fn send(
        &mut self,
        id: ConnId,
        piece: &[u8],
        put: impl FnOnce(Framing, &mut Output),
    ) -> Result<(), SendError> {
        let most = self.settings.max_pending;
        let conn = self.conns.get_mut(id).filter(|conn| conn.is_open()).ok_or(SendError::Gone)?;
        if !framing::is_piece(conn.framing, piece) {
            return Err(SendError::NotAPiece);
        }
        let bytes = piece.len() + framing::overhead(conn.framing);
        let fits = conn.pending() == 0 || conn.pending().saturating_add(bytes) <= most;
        if !fits || !self.memory.takes_out(bytes) {
            self.await_room_out(id);
            return Err(SendError::Full);
        }
        put(conn.framing, &mut conn.out);
        conn.out.close_long_tail(TAIL);
        self.queued(id, bytes);
        Ok(())
    }

    /// Queues pieces while there is room.
    pub(super) fn send_many<T: AsRef<[u8]>>(
        &mut self,
        id: ConnId,
        pieces: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError> {
        let (most, mut count, mut queued) = (self.settings.max_pending, 0, 0);
        let conn = self.conns.get_mut(id).filter(|conn| conn.is_open()).ok_or(SendError::Gone)?;
        let mut result = Ok(());
        while (conn.pending() == 0 || conn.pending() < most)
            && self.memory.has_room_out(queued)
            && let Some(piece) = pieces.next()
        {
            let piece = piece.as_ref();
            if !framing::is_piece(conn.framing, piece) {
                result = Err(SendError::NotAPiece);
                break;
            }
            queued += piece.len() + framing::overhead(conn.framing);
            framing::put(conn.framing, piece, &mut conn.out);
            conn.out.close_long_tail(TAIL);
            count += 1;
        }
        self.queued(id, queued);
        if count == 0 {
            self.await_room_out(id);
        }
        result.map(|()| count)
    }

    /// Records that a send found no room. A connection with an empty queue is told when there is room again.
    fn await_room_out(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.pending() == 0
            && !std::mem::replace(&mut conn.awaiting_room, true)
        {
            self.awaiting_room.push_back(id);
            forget_gone(&mut self.awaiting_room, &self.conns);
        }
    }

    /// The number of connections that may send again now and are told so.
    pub(super) fn to_tell_of_room(&self) -> usize {
        if self.memory.has_room_out_again() { self.awaiting_room.len() } else { 0 }
    }

    /// The next of them, if its queue is still empty.
    pub(super) fn pop_awaiting_room(&mut self) -> Option<ConnId> {
        let id = self.awaiting_room.pop_front()?;
        let conn = self.conns.get_mut(id)?;
        conn.awaiting_room = false;
        (conn.is_open() && conn.pending() == 0).then_some(id)
    }

    fn queued(&mut self, id: ConnId, bytes: usize) {
        self.memory.take_out(bytes);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.owes |= bytes > 0;
            if let Some(of) = self.handing_over {
                conn.answers += if of == id { bytes } else { 0 };
                conn.caused += bytes;
                self.memory.count_answers(0, bytes);
            }
        }
        self.wake(id);
    }

    /// Output was written or dropped: at most what is still pending counts as answers.
    pub(super) fn forget_answers(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            let (most, before) = (conn.pending(), conn.caused);
            (conn.answers, conn.caused) = (conn.answers.min(most), before.min(most));
            self.memory.count_answers(before, conn.caused);
        }
    }

    /// Queues a connection that has output or whose flow has changed.
    pub(super) fn wake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.woken, true)
        {
            self.woken.push_back(id);
        }
    }

    pub(super) fn pop_woken(&mut self) -> Option<ConnId> {
        loop {
            let id = self.woken.pop_front()?;
            if let Some(conn) = self.conns.get_mut(id) {
                conn.woken = false;
                self.note_reading(id);
                return Some(id);
            }
        }
    }

    /// Appends the next output to write.
    pub(super) fn fill(&mut self, id: ConnId, out: &mut Output) -> Flow {
        let reading = self.note_reading(id);
        let Some(conn) = self.conns.get_mut(id) else {
            return Flow { more: false, reading: false, closing: true, busy: false };
        };
        let is_last = conn.closing || conn.ended;
        let next = conn.out.take(if is_last { LAST_WRITE_SIZE } else { WRITE_SIZE });
        conn.writing += next.len();
        out.join(next);
        let more = !conn.out.is_empty();
        let flow = Flow { more, reading, closing: conn.closing && !more, busy: conn.ended && !conn.told_end };
        if conn.closing && more {
            // So that the engine limits the time of this write: see `is_closing`.
            self.wake(id);
        }
        flow
    }

    /// The last write is complete. Returns whether the handler's output is all written.
    pub(super) fn drained(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        self.memory.give_out(std::mem::take(&mut conn.writing));
        let is_all = conn.out.is_empty() && conn.is_open() && std::mem::take(&mut conn.owes);
        self.forget_answers(id);
        let Some(conn) = self.conns.get(id) else { return false };
        if conn.deferred && conn.answers <= self.settings.pause_above {
            self.make_ready(id);
        }
        self.review(id);
        is_all
    }
}
