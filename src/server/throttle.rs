//! How much a peer on a stream may say: a token bucket for each, and who has emptied it is not read for a while.

use std::time::Instant;

use super::Server;
use super::stream::Held;
use crate::service::ConnId;
use crate::wire::{Frame, Verb};

impl Server {
    /// Takes the tokens for one frame, or line, of so many bytes that a stream connection has said. When the bucket is
    /// empty after it, nothing more is executed or read until there is a token again.
    pub(super) fn charge(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.bucket.take(now, bytes);
        // How much comes next is not known, but it is a message, and not an empty one.
        if let Some(at) = state.bucket.conforms_at(now, 1) {
            state.held = Some(Held::Until(at));
        }
    }
}

/// An acknowledgement is an answer to what we have sent.
pub(super) fn is_free(frame: &Frame<'_>) -> bool {
    frame.verb == Verb::Ack && frame.id.is_none()
}
