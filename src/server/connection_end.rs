//! The end of a connection: the ERR and BYE that it gets, in frames or lines, and the effect on its session.
//!
//! Sessions end in `session_end`; sockets are closed by the engine.

use std::time::Instant;

use super::conn::StreamConn;
use super::requests::encode_refusal;
use super::session_end::{EndReason, encode_bye};
use super::{Owner, Server};
use crate::error::Refusal;
use crate::hub::push::bye_in_words;
use crate::hub::{Form, Path, SessionKey};
use crate::service::{CloseReason, ConnId};
use crate::wire::{ByeArgs, Verb, encode_args};

impl StreamConn {
    /// Appends an error as a frame or a line.
    fn append_error(&mut self, why: &str) {
        match &mut self.lines {
            Some(lines) => lines.append_line(why, &mut self.answers),
            None => encode_args(None, Verb::Err, &[why.as_bytes()], &mut self.answers),
        }
    }

    fn append_bye(&mut self, is_tagged: bool, bye: ByeArgs) {
        match &mut self.lines {
            Some(lines) => lines.append_line(&bye_in_words(bye), &mut self.answers),
            None => encode_bye(is_tagged, bye, &mut self.answers),
        }
    }
}

impl Server {
    /// Closes a connection for a fault of its peer: an ERR that says what was wrong, then BYE. A tagged session
    /// lingers; any other ends at once.
    pub(super) fn break_stream(&mut self, now: Instant, conn: ConnId, why: &str) {
        let Some(state) = self.streams.open(conn) else { return };
        log::debug!("{}: cut off: {why}", state.origin().from);
        self.totals.cut_off_connections += 1;
        let key = state.session();
        let lingers = key.is_some_and(|key| self.may_linger(key));
        let bye = if lingers { ByeArgs::Waiting(self.config.linger) } else { self.bye_of_end() };
        self.close_with(conn, why, bye);
        match key {
            Some(key) if lingers => self.linger(now, key),
            Some(key) => self.end_session(now, key, EndReason::CutOff),
            None => {}
        }
    }

    fn bye_of_end(&self) -> ByeArgs {
        if self.is_draining() { self.draining_bye() } else { ByeArgs::Ended }
    }

    /// Sends an ERR and a BYE, then closes. The connection loses its session, which is left to the caller.
    pub(super) fn close_with(&mut self, conn: ConnId, why: &str, bye: ByeArgs) {
        let is_tagged = self.carries_tagged(conn);
        let Some(state) = self.streams.open_mut(conn) else { return };
        state.append_error(why);
        state.append_bye(is_tagged, bye);
        state.close();
        self.detach(conn, true);
        self.streams.wake(conn);
    }

    fn carries_tagged(&self, conn: ConnId) -> bool {
        let key = self.streams.session(conn);
        key.and_then(|key| self.hub.get(key)).is_some_and(|session| session.form == Form::Tagged)
    }

    /// Sends BYE to a connection without a session, and closes it.
    pub(super) fn close_with_bye(&mut self, conn: ConnId) {
        let bye = self.bye_of_end();
        let Some(state) = self.streams.get_mut(conn) else { return };
        state.append_bye(false, bye);
        state.close();
        self.streams.wake(conn);
    }

    /// Closes the older connection of a session that was resumed over another.
    pub(super) fn close_superseded(&mut self, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        encode_refusal(None, Refusal::TakenUp, &mut state.answers);
        ByeArgs::Elsewhere.encode(None, &mut state.answers);
        state.release_session();
        state.close();
        self.streams.wake(conn);
    }

    /// Takes the session from a connection. A line client cannot open another one: its connection gets a BYE, unless
    /// the session has sent one, and closes.
    pub(super) fn detach(&mut self, conn: ConnId, has_said_bye: bool) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        state.release_session();
        if let Some(member) = state.gate.waiting().waits_for() {
            self.hub.mark_resumable(member, true);
        }
        if state.lines.is_some() && !state.is_closing() && !has_said_bye {
            self.close_with_bye(conn);
        }
    }

    pub(super) fn close_stream(&mut self, now: Instant, conn: ConnId, why: CloseReason) {
        self.stop_waiting(conn);
        self.forget_input(conn);
        let Some(state) = self.streams.remove(conn) else { return };
        self.forget_answers(&state);
        self.timers.set(conn.into(), None);
        if let Some(class) = state.admission_class {
            self.admission.leave(class, state.origin().from);
        }
        if why == CloseReason::Unreachable {
            self.totals.unreachable_peers += 1;
            log::debug!("{}: cut off: {why}", state.origin().from);
        }
        let Some(key) = state.session() else { return };
        if self.may_linger(key) {
            log::debug!("{}: the connection ends: {why}; its session waits", state.origin().from);
            self.linger(now, key);
        } else {
            self.end_session(now, key, EndReason::ConnectionLost);
        }
    }

    /// Whether a session outlives its connection.
    fn may_linger(&self, key: SessionKey) -> bool {
        let session = self.hub.get(key).filter(|_| !self.is_draining());
        session.is_some_and(|session| session.form == Form::Tagged && !session.has_said_bye())
    }

    /// Lets a tagged session wait, without a connection, to be resumed.
    fn linger(&mut self, now: Instant, key: SessionKey) {
        let from = self.hub.get(key).map(|session| session.origin().from);
        self.hub.lose_connection(key);
        if let Some(from) = from {
            self.hold_host(Path::Stream(None), from);
        }
        self.hub.set_acks_paused(key, false);
        // It may be away for long; senders do not wait for it.
        self.hub.mark_resumable(key, true);
        self.timers.set(Owner::Session(key), Some(now + self.config.linger));
    }

    /// Ends a session whose BYE is written: an untagged one at once, a tagged one as soon as it has acknowledged
    /// everything.
    pub(super) fn finish_bye(&mut self, now: Instant, conn: ConnId, key: SessionKey) {
        let over =
            self.hub.get(key).is_some_and(|s| s.has_said_bye() && (s.form != Form::Tagged || s.is_settled()));
        if over {
            self.end_session(now, key, EndReason::Draining);
            if let Some(state) = self.streams.get_mut(conn) {
                state.close();
            }
        }
    }
}
