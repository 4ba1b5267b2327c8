//! How a connection ends, in what is spoken there: frames, or lines.
//!
//! What ends a session is in `sessions`; how the socket is closed is the engine's affair.

use std::time::Instant;

use super::conn::StreamConn;
use super::requests::encode_refusal;
use super::{Owner, Server};
use crate::error::Refusal;
use crate::hub::queue::GOODBYE;
use crate::hub::{Form, SessionKey};
use crate::service::ConnId;
use crate::wire::{Verb, encode_args};

impl StreamConn {
    /// Appends what is wrong, in what is spoken here.
    pub(super) fn complain(&mut self, why: &str) {
        match &mut self.lines {
            Some(lines) => lines.say(why, &mut self.answers),
            None => encode_args(None, Verb::Err, &[why.as_bytes()], &mut self.answers),
        }
    }

    fn say_goodbye(&mut self) {
        match &mut self.lines {
            Some(lines) => lines.say(GOODBYE, &mut self.answers),
            None => encode_args(None, Verb::Bye, &[], &mut self.answers),
        }
    }
}

impl Server {
    /// Says what was wrong, then goodbye, then closes.
    pub(super) fn break_stream(&mut self, conn: ConnId, why: &str) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        log::debug!("{}: cut off: {why}", state.origin().from);
        state.complain(why);
        self.part(conn);
    }

    /// Says goodbye to a connection and closes it; a tagged session lingers.
    pub(super) fn part(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        state.say_goodbye();
        state.closing = true;
        self.wake_conn(conn);
    }

    /// Tells the older connection of a session that another carries it now.
    pub(super) fn cut_off(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        match &mut state.lines {
            Some(lines) => lines.say(Refusal::TakenUp.text(), &mut state.answers),
            None => encode_refusal(None, Refusal::TakenUp, &mut state.answers),
        }
        state.session = None;
        state.closing = true;
        self.wake_conn(conn);
    }

    /// The session of a connection has ended by itself. A person cannot have another one: they are told goodbye, if that
    /// was not said in the session.
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

    pub(super) fn close_stream(&mut self, now: Instant, conn: ConnId) {
        self.stop_waiting(conn);
        let Some(state) = self.conns.remove(conn) else { return };
        self.buffered -= state.unfinished.get().buffered;
        self.timers.set(conn.into(), None);
        if let Some(seat) = state.seat {
            self.admission.leave(seat, state.origin().from);
        }
        let Some(key) = state.session else { return };
        let Some(session) = self.hub.get(key) else { return };
        if session.form != Form::Tagged || session.has_said_bye() || self.draining.is_some() {
            self.end_session(now, key);
            return;
        }
        log::debug!("{}: {} lingers", state.origin().from, session.name);
        self.hub.lose_connection(key);
        self.hub.set_deaf(key, false);
        // It may linger for long, and what is said meanwhile it misses.
        self.hub.relieve(key, true);
        self.timers.set(Owner::Session(key), Some(now + self.config.linger));
    }

    /// The server's BYE is out: an untagged session is over, a tagged one as soon as it has acknowledged it.
    pub(super) fn finish_bye(&mut self, now: Instant, conn: ConnId, key: SessionKey) {
        let over =
            self.hub.get(key).is_some_and(|s| s.has_said_bye() && (s.form != Form::Tagged || s.is_settled()));
        if over {
            self.end_session(now, key);
            if let Some(state) = self.conns.get_mut(conn) {
                state.closing = true;
            }
        }
    }
}
