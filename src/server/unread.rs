//! Answers on streams that their peers do not read: what they count for in `max_memory`, and how few there may be of them
//! when that is short.
//!
//! An answer is not read until the socket has taken it, so what a connection's writer has counts, too. As long as memory is
//! plentiful a connection is read until 64 KiB of answers wait. While it is scarce, a connection is not read with more than
//! 4 KiB unread, and long answers are refused: they may get along with less, and a message may not.

use super::Server;
use super::conn::{Eviction, StreamConn};
use crate::hub::memory::MemoryUse;
use crate::service::ConnId;

/// So many bytes of answers may wait for a connection while memory is scarce.
const FEW_ANSWERS: usize = 4 << 10;

/// So many do not count, the number of connections bounds them: those, one more, and what has room for them in doubling.
const UNCOUNTED: usize = 12 << 10;

/// The longest payload of an answer, in bytes, while memory is scarce.
const SHORT_ANSWER: usize = 2 << 10;

impl Server {
    /// The longest payload of an answer that may be made now, in bytes.
    pub(super) fn longest_answer(&self) -> usize {
        if self.hub.ledger().is_scarce() { SHORT_ANSWER } else { usize::MAX }
    }

    /// Looks whether memory is scarce, before a connection is executed.
    pub(super) fn note_scarcity(&mut self, conn: ConnId) {
        let scarce = self.hub.ledger().is_scarce();
        if let Some(state) = self.conns.get_mut(conn).filter(|state| state.unfinished.get().frugal != scarce)
        {
            state.unfinished.update(|unfinished| unfinished.frugal = scarce);
        }
    }

    /// Counts what waits for a connection to be read, now that it may have changed.
    pub(super) fn count_answers(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        let (before, unread) = (state.unfinished.get().answers, state.unread());
        let after = unread.saturating_sub(UNCOUNTED);
        if before != after {
            state.unfinished.update(|unfinished| unfinished.answers = after);
            self.hub.ledger_mut().recharge(MemoryUse::Answers, before, after);
        }
    }

    /// The writer of a connection was given answers that take so many bytes.
    pub(super) fn give_answers(&mut self, conn: ConnId, taken: usize) {
        if taken > FEW_ANSWERS
            && let Some(state) = self.conns.get_mut(conn)
        {
            state.unfinished.get_or_default().given += taken;
        }
        self.count_answers(conn);
    }

    /// The writer of a connection has written what it was given.
    pub(super) fn answers_written(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        if state.unfinished.get().given > 0 {
            state.unfinished.update(|unfinished| unfinished.given = 0);
        }
        let is_condemned = state.unfinished.get().eviction == Eviction::Condemned && state.answers.is_empty();
        if is_condemned {
            state.unfinished.get_or_default().eviction = Eviction::Told;
            self.wake_conn(conn);
        }
        self.count_answers(conn);
    }

    /// A connection is gone, and its answers with it.
    pub(super) fn forget_answers(&mut self, state: &StreamConn) {
        self.hub.ledger_mut().release(MemoryUse::Answers, state.unfinished.get().answers);
    }
}

impl StreamConn {
    /// The bytes that its answers take until they are read.
    fn unread(&self) -> usize {
        self.answers.capacity() + self.unfinished.get().given
    }

    /// Whether more waits to be read than may while memory is scarce.
    pub(super) fn is_overdrawn(&self) -> bool {
        let unfinished = self.unfinished.get();
        unfinished.frugal && self.answers.len() + unfinished.given > FEW_ANSWERS
    }
}
