//! Whether a stream connection is read: the only code that decides whether its next frame or line is executed.
//!
//! A [`Server`] asks for a [`Decision`] before each frame. It combines the reasons to stop the input of a connection.
//! Their order is: its end, unread answers, the work budget of the hold, the rate limits, and slow consumers under
//! `--slow block`. A decision to wait closes the connection's [`ReadGate`] until the reason is gone. The reasons are
//! computed in `work_budget`, `rate_limit` and `backpressure`; the time limit of an unfinished frame is in
//! `read_deadlines`.

use std::time::Instant;

use super::Server;
use super::backpressure::Waiting;
use super::conn::StreamConn;
use crate::hub::SessionKey;
use crate::lazy_box::LazyBox;
use crate::service::ConnId;
use crate::wire::{Found, Frame};

/// Whether the next frame, or line, of a connection is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is executed now.
    Run {
        /// It costs tokens.
        is_charged: bool,
    },
    /// It is executed at this time: the work budget is spent, or the tokens are.
    WaitUntil(Instant),
    /// It is executed once this slow consumer has room.
    WaitFor(SessionKey),
    /// It is executed once enough answers are written, or never if the connection is closing.
    WaitForAnswers,
}

/// Why nothing more is executed from a connection for now; flow control then blocks its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Its rate limit, or the work budget, pauses it until then.
    Until(Instant),
    /// A slow consumer has no room for its next message.
    SlowConsumer,
}

/// The pause of one connection, and its place among the senders that wait for slow consumers.
#[derive(Debug, Default)]
pub(super) struct ReadGate {
    pause: Option<Pause>,
    waiting: LazyBox<Waiting>,
}

impl ReadGate {
    /// Whether nothing pauses the connection.
    pub(super) fn is_open(&self) -> bool {
        self.pause.is_none()
    }

    /// Whether the connection waits for a slow consumer.
    pub(super) fn waits_for_consumer(&self) -> bool {
        self.pause == Some(Pause::SlowConsumer)
    }

    /// Returns when the pause ends, if that is known.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        match self.pause {
            Some(Pause::Until(at)) => Some(at),
            Some(Pause::SlowConsumer) | None => None,
        }
    }

    /// Pauses the connection until then.
    pub(super) fn pause_until(&mut self, at: Instant) {
        self.pause = Some(Pause::Until(at));
    }

    /// Pauses the connection for a slow consumer, and returns its place among the waiting senders.
    pub(super) fn pause_for_consumer(&mut self) -> &mut Waiting {
        self.pause = Some(Pause::SlowConsumer);
        self.waiting.get_or_default()
    }

    /// Ends a pause whose time has come. Returns whether it did.
    pub(super) fn resume_at(&mut self, now: Instant) -> bool {
        let is_due = self.paused_until().is_some_and(|at| at <= now);
        if is_due {
            self.pause = None;
        }
        is_due
    }

    /// Ends a wait for a slow consumer. Returns whether there was one.
    pub(super) fn resume_from_consumer(&mut self) -> bool {
        let has_waited = self.waits_for_consumer();
        if has_waited {
            self.pause = None;
        }
        has_waited
    }

    /// Returns the place among the waiting senders.
    pub(super) fn waiting(&self) -> &Waiting {
        self.waiting.get()
    }

    /// Returns the place among the waiting senders, if there is one, to be changed.
    pub(super) fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        self.waiting.get_mut()
    }

    /// Records that the connection has executed input: its next wait is behind all senders that wait already.
    pub(super) fn note_progress(&mut self) {
        if let Some(waiting) = self.waiting.get_mut() {
            waiting.note_progress();
            self.waiting.free_if_empty();
        }
    }
}

impl Server {
    /// Decides whether the next frame of a connection is executed. If it has to wait, the connection is paused.
    pub(super) fn decide_frame(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>) -> Decision {
        if !self.is_reading_stream(conn) {
            return Decision::WaitForAnswers;
        }
        let is_charged = self.is_charged(conn, frame);
        let bytes = if is_charged { Some(frame.encoded_len()) } else { None };
        if let Some(at) = self.time_of_next(now, conn, bytes) {
            return self.pause_until(conn, at);
        }
        match self.pause_for_frame(conn, frame) {
            Some(member) => Decision::WaitFor(member),
            None => Decision::Run { is_charged },
        }
    }

    /// Does the same for a line of `bytes` bytes.
    pub(super) fn decide_line(&mut self, now: Instant, conn: ConnId, line: &Found, bytes: usize) -> Decision {
        if let Some(at) = self.time_of_next(now, conn, Some(bytes)) {
            return self.pause_until(conn, at);
        }
        match self.pause_for_line(conn, line) {
            Some(member) => Decision::WaitFor(member),
            None => Decision::Run { is_charged: true },
        }
    }

    /// Returns when the next input may be executed, if not now; `bytes` is its size if it costs tokens.
    fn time_of_next(&mut self, now: Instant, conn: ConnId, bytes: Option<usize>) -> Option<Instant> {
        self.budget_returns_at(now).or_else(|| self.tokens_at(now, conn, bytes?))
    }

    fn pause_until(&mut self, conn: ConnId, at: Instant) -> Decision {
        if let Some(state) = self.streams.get_mut(conn) {
            state.gate.pause_until(at);
        }
        Decision::WaitUntil(at)
    }
}

impl StreamConn {
    /// Whether its input is executed.
    pub(super) fn is_reading(&self) -> bool {
        !self.is_closing() && self.has_room() && self.gate.is_open()
    }

    /// Whether its bytes are read: to be executed, or to be searched for acknowledgements.
    pub(super) fn takes_input(&self) -> bool {
        self.is_reading() || !self.is_closing() && self.gate.waits_for_consumer() && self.reads_acks()
    }
}
