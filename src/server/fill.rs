//! Fills the output of a stream connection: answers first, then pushes. Also says whether the connection is read.
//!
//! Requests are answered in `stream`; the pushes of a session are queued in [`crate::hub`].

use std::time::Instant;

use super::Server;
use super::conn::StreamConn;
use crate::output::Output;
use crate::service::{ConnId, Flow};

/// Bytes at which `fill` stops: enough for one write, and short enough not to delay other connections.
const FILL_ENOUGH: usize = 64 << 10;

/// Moves a connection's answers to the output and keeps no buffer. Returns the bytes of memory they take.
fn take_answers(state: &mut StreamConn, out: &mut Output) -> usize {
    if state.answers.is_empty() {
        return 0;
    }
    let taken = state.answers.capacity();
    out.append(std::mem::take(&mut state.answers));
    taken
}

impl Server {
    pub(super) fn fill_stream(&mut self, now: Instant, conn: ConnId, out: &mut Output) -> Flow {
        let Some(state) = self.streams.get_mut(conn) else {
            return Flow { more: false, reading: false, closing: true, busy: false };
        };
        let mut taken = take_answers(state, out);
        if !state.backlog.get().is_empty() {
            self.give_answers(conn, std::mem::take(&mut taken));
            self.note_scarcity(conn);
            self.work_off(now, conn);
            self.recount_frames(now, conn);
            self.note_ack_reading(conn);
            self.arm_conn(conn);
            // A line client sees its answer between the messages before and after it.
            if let Some(state) = self.streams.get_mut(conn).filter(|state| state.lines.is_some()) {
                taken += take_answers(state, out);
            }
        }
        self.give_answers(conn, taken);
        let carried = self.streams.open(conn).and_then(|state| state.session());
        let mut more = false;
        if let Some(key) = carried {
            more = self.hub.fill_stream(now, key, out, FILL_ENOUGH);
            if !more {
                self.finish_bye(now, conn, key);
            }
        }
        if let Some(key) = self.streams.session(conn) {
            self.hub.give(key);
        }
        let state = self.streams.get(conn);
        Flow {
            more: more || state.is_some_and(|state| !state.answers.is_empty() || state.is_overdrawn()),
            reading: state.is_some_and(StreamConn::takes_input),
            closing: state.is_none_or(|state| state.is_closing()),
            busy: state.is_some_and(|state| !state.is_closing() && !state.backlog.get().is_empty()),
        }
    }

    /// Whether a connection's input is executed.
    pub(super) fn is_reading_stream(&self, conn: ConnId) -> bool {
        self.streams.get(conn).is_some_and(StreamConn::is_reading)
    }
}
