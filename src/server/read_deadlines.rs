//! Read deadlines of stream connections: the time to register, and to finish a frame or line once begun.
//!
//! Input that trickles in moves neither deadline. The deadline of a frame stops while the server itself does not read.
//! That of the registration does not: a peer that waits for tokens has spent them on other input. Only a PNG moves it,
//! as clients that just ping need no name, and at most by [`PINGING`]. Whether a connection is read is in
//! `read_gate`.

use std::time::{Duration, Instant};

use super::Server;
use super::conn::StreamConn;
use crate::service::ConnId;
use crate::units::later;
use crate::wire::Partial;

/// Bytes of an announced frame for which it gets one more second beyond `frame_timeout`.
const FRAME_BYTES_PER_SECOND: usize = 64 << 10;

/// The time limit of a line, in time limits of a frame.
const LINE_TIMES: u32 = 6;

/// The longest time that a connection may live on pings alone.
const PINGING: Duration = Duration::from_secs(24 * 60 * 60);

/// The deadline of an unfinished frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum ReadDeadline {
    /// No frame has begun.
    #[default]
    Idle,
    /// The frame has to be whole by then.
    Until { deadline: Instant, announced: usize },
    /// The server itself does not read: the clock is stopped with `left` remaining.
    Stopped { left: Duration, announced: usize },
}

impl Server {
    /// Starts, moves or stops the clock of an unfinished frame. `any_whole` says whether a frame was finished,
    /// `partial` is the frame that has begun.
    pub(super) fn watch_frame(
        &mut self,
        now: Instant,
        conn: ConnId,
        any_whole: bool,
        partial: Option<Partial>,
    ) {
        let limit = self.config.frame_timeout;
        let Some(state) = self.streams.get_mut(conn) else { return };
        let standing = if any_whole { ReadDeadline::Idle } else { state.read_deadline() };
        let read_deadline = match (partial.map(|partial| partial.announced), standing) {
            (None, _) => ReadDeadline::Idle,
            (Some(announced), ReadDeadline::Idle) => {
                ReadDeadline::Until { deadline: now + limit + allowance(announced), announced }
            }
            // The head is known now: add the time for the announced length.
            (Some(announced), ReadDeadline::Until { deadline, announced: 0 }) => {
                ReadDeadline::Until { deadline: deadline + allowance(announced), announced }
            }
            (Some(_), standing) => standing,
        };
        state.set_read_deadline(if state.is_reading() { read_deadline } else { read_deadline.stop(now) });
        self.arm_conn(conn);
    }

    /// Does the same for a line, with a longer limit because lines are typed. `has_begun`: a new line has begun.
    pub(super) fn watch_line(&mut self, now: Instant, conn: ConnId, is_unfinished: bool, has_begun: bool) {
        let limit = self.config.frame_timeout * LINE_TIMES;
        let Some(state) = self.streams.get_mut(conn) else { return };
        let standing = state.read_deadline();
        let read_deadline = match standing {
            _ if !is_unfinished => ReadDeadline::Idle,
            ReadDeadline::Until { .. } | ReadDeadline::Stopped { .. } if !has_begun => standing,
            _ => ReadDeadline::Until { deadline: later(now, limit), announced: 0 },
        };
        state.set_read_deadline(if state.is_reading() { read_deadline } else { read_deadline.stop(now) });
    }

    pub(super) fn drained_stream(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if state.is_reading() {
            state.set_read_deadline(state.read_deadline().resume(now));
            self.arm_conn(conn);
        }
    }

    pub(super) fn arm_conn(&mut self, conn: ConnId) {
        let Some(state) = self.streams.get(conn) else { return };
        let was_armed = state.armed;
        let register = self.register_by(state);
        let frame = match state.read_deadline() {
            ReadDeadline::Until { deadline, .. } => Some(deadline),
            ReadDeadline::Idle | ReadDeadline::Stopped { .. } => None,
        };
        let flush = state.lines.as_ref().and_then(|lines| lines.flush_at());
        let deadlines = [register, frame, state.gate.paused_until(), flush];
        let deadline = if state.is_closing() { None } else { deadlines.into_iter().flatten().min() };
        // Most connections have no deadline, call after call.
        if was_armed || deadline.is_some() {
            self.timers.set(conn.into(), deadline);
            if let Some(state) = self.streams.get_mut(conn) {
                state.armed = deadline.is_some();
            }
        }
    }

    /// Resumes a connection whose pause has ended.
    fn resume_if_due(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if state.gate.resume_at(now) {
            self.resume_input(now, conn);
        }
    }

    pub(super) fn conn_timeout(&mut self, now: Instant, conn: ConnId) {
        self.resume_if_due(now, conn);
        self.flush_line(now, conn);
        let Some(state) = self.streams.open(conn) else { return };
        let frame_late =
            matches!(state.read_deadline(), ReadDeadline::Until { deadline, .. } if deadline <= now);
        let silent = self.register_by(state).is_some_and(|at| at <= now);
        if !frame_late && !silent {
            return self.arm_conn(conn);
        }
        let why = match (frame_late, state.lines.is_some()) {
            (true, false) => "frame not finished in time",
            (false, false) => "not registered in time",
            (true, true) => "line not finished in time",
            (false, true) => "no name was given in time",
        };
        self.break_stream(now, conn, why);
    }

    /// Returns when a connection without a session has to have one; `None` if it has one.
    fn register_by(&self, state: &StreamConn) -> Option<Instant> {
        let limit = self.config.register_timeout;
        let by = later(state.heard, limit).min(later(state.opened, limit.max(PINGING)));
        state.session().is_none().then_some(by)
    }
}

/// Returns the time that a frame of `announced` bytes has beyond the frame timeout.
fn allowance(announced: usize) -> Duration {
    Duration::from_secs((announced / FRAME_BYTES_PER_SECOND) as u64)
}

impl ReadDeadline {
    fn stop(self, now: Instant) -> Self {
        match self {
            Self::Until { deadline, announced } => {
                Self::Stopped { left: deadline.saturating_duration_since(now), announced }
            }
            standing => standing,
        }
    }

    fn resume(self, now: Instant) -> Self {
        match self {
            Self::Stopped { left, announced } => Self::Until { deadline: now + left, announced },
            standing => standing,
        }
    }
}
