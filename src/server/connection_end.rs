//! How a connection ends, in what is spoken there: frames, or lines.
//!
//! What ends a session is in `session_end`; how the socket is closed is the engine's affair.

use std::time::Instant;

use super::conn::StreamConn;
use super::requests::encode_refusal;
use super::session_end::{EndReason, encode_bye};
use super::{Owner, Server};
use crate::error::Refusal;
use crate::hub::queue::bye_in_words;
use crate::hub::{Form, Path, SessionKey};
use crate::service::{CloseReason, ConnId};
use crate::wire::{ByeArgs, Verb, encode_args};

impl StreamConn {
    /// Appends what is wrong, in what is spoken here.
    fn complain(&mut self, why: &str) {
        match &mut self.lines {
            Some(lines) => lines.say(why, &mut self.answers),
            None => encode_args(None, Verb::Err, &[why.as_bytes()], &mut self.answers),
        }
    }

    fn say_bye(&mut self, is_tagged: bool, bye: ByeArgs) {
        match &mut self.lines {
            Some(lines) => lines.say(&bye_in_words(bye), &mut self.answers),
            None => encode_bye(is_tagged, bye, &mut self.answers),
        }
    }
}

impl Server {
    /// Cuts a connection off: says what was wrong, then BYE, then closes. A tagged session waits for its owner; any other
    /// ends at once.
    pub(super) fn break_stream(&mut self, now: Instant, conn: ConnId, why: &str) {
        let Some(state) = self.conns.get(conn).filter(|state| !state.closing) else { return };
        log::debug!("{}: cut off: {why}", state.origin().from);
        self.totals.cut_off_connections += 1;
        let key = state.session;
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

    /// Says what was wrong, then BYE, then closes. What becomes of the session is the caller's affair: it is not this
    /// connection's any more.
    pub(super) fn close_with(&mut self, conn: ConnId, why: &str, bye: ByeArgs) {
        let is_tagged = self.carries_tagged(conn);
        let Some(state) = self.conns.get_mut(conn).filter(|state| !state.closing) else { return };
        state.complain(why);
        state.say_bye(is_tagged, bye);
        state.closing = true;
        self.detach(conn, true);
        self.wake_conn(conn);
    }

    fn carries_tagged(&self, conn: ConnId) -> bool {
        let key = self.conns.get(conn).and_then(|state| state.session);
        key.and_then(|key| self.hub.get(key)).is_some_and(|session| session.form == Form::Tagged)
    }

    /// Says BYE to a connection that carries no session any more, and closes it.
    pub(super) fn part(&mut self, conn: ConnId) {
        let bye = self.bye_of_end();
        let Some(state) = self.conns.get_mut(conn) else { return };
        state.say_bye(false, bye);
        state.closing = true;
        self.wake_conn(conn);
    }

    /// Tells the older connection of a session that another carries it now.
    pub(super) fn cut_off(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        encode_refusal(None, Refusal::TakenUp, &mut state.answers);
        ByeArgs::Elsewhere.encode(None, &mut state.answers);
        state.session = None;
        state.closing = true;
        self.wake_conn(conn);
    }

    /// A connection carries its session no more. A person cannot have another one: they are told goodbye, if that was not
    /// said in the session.
    pub(super) fn detach(&mut self, conn: ConnId, has_said_bye: bool) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        state.session = None;
        if let Some(member) = state.waiting.get().waits_for() {
            self.hub.relieve(member, true);
        }
        if state.lines.is_some() && !state.closing && !has_said_bye {
            self.part(conn);
        }
    }

    pub(super) fn close_stream(&mut self, now: Instant, conn: ConnId, why: CloseReason) {
        self.stop_waiting(conn);
        self.forget_input(conn);
        let Some(state) = self.conns.remove(conn) else { return };
        self.forget_answers(&state);
        self.timers.set(conn.into(), None);
        if let Some(seat) = state.seat {
            self.admission.leave(seat, state.origin().from);
        }
        if why == CloseReason::Unreachable {
            self.totals.unreachable_peers += 1;
            log::debug!("{}: cut off: {why}", state.origin().from);
        }
        let Some(key) = state.session else { return };
        if self.may_linger(key) {
            log::debug!("{}: the connection ends: {why}; its session waits", state.origin().from);
            self.linger(now, key);
        } else {
            self.end_session(now, key, EndReason::ConnectionLost);
        }
    }

    /// Whether a session outlives its connection.
    fn may_linger(&self, key: SessionKey) -> bool {
        let session = self.hub.get(key).filter(|_| self.draining.is_none());
        session.is_some_and(|session| session.form == Form::Tagged && !session.has_said_bye())
    }

    /// A tagged session has no connection from now on, and waits for its owner.
    fn linger(&mut self, now: Instant, key: SessionKey) {
        let from = self.hub.get(key).map(|session| session.origin().from);
        self.hub.lose_connection(key);
        if let Some(from) = from {
            self.hold_host(Path::Stream(None), from);
        }
        self.hub.set_deaf(key, false);
        // It may wait for long, and misses what is said meanwhile.
        self.hub.relieve(key, true);
        self.timers.set(Owner::Session(key), Some(now + self.config.linger));
    }

    /// The server's BYE is out: an untagged session is over, a tagged one as soon as it has acknowledged it.
    pub(super) fn finish_bye(&mut self, now: Instant, conn: ConnId, key: SessionKey) {
        let over =
            self.hub.get(key).is_some_and(|s| s.has_said_bye() && (s.form != Form::Tagged || s.is_settled()));
        if over {
            self.end_session(now, key, EndReason::Draining);
            if let Some(state) = self.conns.get_mut(conn) {
                state.closing = true;
            }
        }
    }
}
