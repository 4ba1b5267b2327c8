//! Bounds the answers on streams that their peers do not read, and counts them in `max_memory`.
//!
//! An answer counts until the socket has taken it, so the bytes that a connection's writer holds count too. With
//! plentiful memory a connection is read until 64 KiB of answers wait. While memory is scarce, a connection with more
//! than 4 KiB unread is not read, and long answers are refused. Answers yield first, since messages cannot be made
//! shorter. Input is bounded in `input`.

use super::Server;
use super::conn::{Eviction, StreamConn};
use crate::hub::memory::MemoryUse;
use crate::service::ConnId;

/// The most bytes of answers that wait for a connection while memory is scarce.
const FEW_ANSWERS: usize = 4 << 10;

/// Bytes of answers that do not count, as the number of connections bounds them: [`FEW_ANSWERS`], one more answer, and
/// the buffer's doubling.
const UNCOUNTED: usize = 12 << 10;

/// The longest payload of an answer, in bytes, while memory is scarce.
const SHORT_ANSWER: usize = 2 << 10;

impl Server {
    /// Returns the longest payload of an answer now, in bytes.
    pub(super) fn longest_answer(&self) -> usize {
        if self.hub.ledger().is_scarce() { SHORT_ANSWER } else { usize::MAX }
    }

    /// Notes whether memory is scarce, before a connection's input is executed.
    pub(super) fn note_scarcity(&mut self, conn: ConnId) {
        let scarce = self.hub.ledger().is_scarce();
        if let Some(state) =
            self.streams.get_mut(conn).filter(|state| state.unfinished.get().scarce != scarce)
        {
            state.unfinished.update(|unfinished| unfinished.scarce = scarce);
        }
    }

    /// Counts a connection's unread answers again after a change.
    pub(super) fn count_answers(&mut self, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        let (before, unread) = (state.unfinished.get().answers, state.unread());
        let after = unread.saturating_sub(UNCOUNTED);
        if before != after {
            state.unfinished.update(|unfinished| unfinished.answers = after);
            self.hub.ledger_mut().recharge(MemoryUse::Answers, before, after);
        }
    }

    /// Records that a connection's writer was given answers that take `taken` bytes.
    pub(super) fn give_answers(&mut self, conn: ConnId, taken: usize) {
        if taken > FEW_ANSWERS
            && let Some(state) = self.streams.get_mut(conn)
        {
            state.unfinished.get_or_default().given += taken;
        }
        self.count_answers(conn);
    }

    /// Records that a connection's writer has written what it was given.
    pub(super) fn answers_written(&mut self, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if state.unfinished.get().given > 0 {
            state.unfinished.update(|unfinished| unfinished.given = 0);
        }
        let is_last_written =
            state.unfinished.get().eviction == Eviction::Closing && state.answers.is_empty();
        if is_last_written {
            state.unfinished.get_or_default().eviction = Eviction::Done;
            self.streams.wake(conn);
        }
        self.count_answers(conn);
    }

    /// Uncounts the answers of a closed connection.
    pub(super) fn forget_answers(&mut self, state: &StreamConn) {
        self.hub.ledger_mut().release(MemoryUse::Answers, state.unfinished.get().answers);
    }
}

impl StreamConn {
    /// Returns the bytes that its unread answers take.
    fn unread(&self) -> usize {
        self.answers.capacity() + self.unfinished.get().given
    }

    /// Whether more answers wait than may while memory is scarce.
    pub(super) fn is_overdrawn(&self) -> bool {
        let unfinished = self.unfinished.get();
        unfinished.scarce && self.answers.len() + unfinished.given > FEW_ANSWERS
    }
}
