//! The handshake on a connection of messages: each side's first message is its name, and the acceptor may refuse.
//!
//! The connecting side begins with a message that holds its name, or is empty if it has none. The acceptor answers with
//! `+` and its own name, which may be empty, or with `-` and a reason, and closes. All later messages belong to the
//! program.

use std::io;

use super::conn::{Conn, Stage};
use super::framing::{self, Front};
use super::state::{HostState, TimerOwner};
use crate::escape::escape_short;
use crate::listener::Framing;
use crate::names::Name;
use crate::rules::Verdict;
use crate::service::{CloseReason, ConnId};

/// The longest message of a handshake, in bytes.
pub(crate) const MAX_HANDSHAKE: usize = 512;

/// Characters of a refusal's reason that an error shows.
const SHOWN: usize = 200;

impl HostState {
    /// Sends our name, if we opened the connection.
    pub(super) fn greet_first(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.dial.is_some()) {
            let name = self.own_name();
            self.say(id, name.as_bytes());
        }
    }

    fn own_name(&self) -> String {
        self.settings.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default()
    }

    /// Sends a message of the handshake.
    fn say(&mut self, id: ConnId, message: &[u8]) {
        if let Some(conn) = self.conns.get_mut(id) {
            let before = conn.out.len();
            framing::put(Framing::Messages, message, &mut conn.out);
            let added = conn.out.len() - before;
            self.memory.take_out(added);
        }
        self.wake(id);
    }

    /// Reads the peer's first message, if it is complete. Returns whether the connection is open now.
    pub(super) fn greet(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.stage == Stage::Handshake) else {
            return false;
        };
        let greeting = match conn.look_for_greeting(MAX_HANDSHAKE) {
            Front::Unfinished { .. } => return false,
            Front::Broken => {
                self.reject(id, CloseReason::Broken);
                return false;
            }
            Front::Whole(span) => {
                let greeting = conn.cut(span);
                self.memory.give_in(span.before + span.len + span.after);
                greeting
            }
        };
        self.timers.set(TimerOwner::Greeting(id), None);
        let is_ours = self.conns.get(id).is_some_and(|conn| conn.dial.is_some());
        if is_ours { self.be_welcomed(id, &greeting) } else { self.welcome(id, &greeting) }
    }

    /// Handles the name of a connecting peer, which may be empty.
    fn welcome(&mut self, id: ConnId, greeting: &[u8]) -> bool {
        let admitted = self.conns.get(id).map(|conn| self.admit(conn, greeting));
        match admitted {
            None => false,
            Some(Ok((name, expected))) => {
                let answer = format!("+{}", self.own_name());
                self.say(id, answer.as_bytes());
                self.let_in(id, name, expected)
            }
            Some(Err(reason)) => {
                log::debug!("connection {}: refused: {reason}", id.0);
                self.say(id, format!("-{reason}").as_bytes());
                self.refuse(id, CloseReason::Asked);
                false
            }
        }
    }

    /// The name in a peer's greeting and whether a rule expects it; or the reason for refusing it.
    fn admit(&self, conn: &Conn, greeting: &[u8]) -> Result<(Option<Name>, bool), String> {
        if greeting.is_empty() {
            let refused = self.settings.only_expected;
            return if refused {
                Err("no name given; only expected peers are accepted".into())
            } else {
                Ok((None, false))
            };
        }
        let name = Name::parse(greeting).map_err(|error| error.to_string())?;
        let listener = conn
            .listener
            .and_then(|listener| self.listeners.get(listener))
            .map(|listener| listener.name.as_str());
        match self.settings.rules.verdict(&name, &conn.remote, listener) {
            Verdict::Denied(..) => Err("this name may not be used from there".into()),
            Verdict::Open if self.settings.only_expected => Err("no peer of this name is expected".into()),
            _ if name.clash_keys().iter().any(|key| self.names.contains_key(key)) => {
                Err("the name is taken".into())
            }
            verdict => Ok((Some(name), matches!(verdict, Verdict::Allowed(..)))),
        }
    }

    /// Handles the acceptor's answer to our name.
    fn be_welcomed(&mut self, id: ConnId, greeting: &[u8]) -> bool {
        match greeting.split_first() {
            Some((b'+', name)) => {
                // A name that we cannot parse is treated as none.
                self.let_in(id, Name::parse(name).ok(), true)
            }
            Some((b'-', reason)) => {
                let reason = escape_short(reason, SHOWN).into_owned();
                self.fail(id, io::Error::new(io::ErrorKind::PermissionDenied, format!("refused: {reason}")));
                false
            }
            _ => {
                self.reject(id, CloseReason::Broken);
                false
            }
        }
    }

    fn let_in(&mut self, id: ConnId, name: Option<Name>, expected: bool) -> bool {
        if let Some(name) = &name {
            for key in name.clash_keys().iter() {
                self.names.entry(key.clone()).or_insert(id);
            }
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.stage = Stage::Open;
            (conn.name, conn.expected) = (name, expected);
        }
        self.look(id);
        true
    }

    /// Fails an attempt to connect that the peer refused.
    fn fail(&mut self, id: ConnId, error: io::Error) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.stage = Stage::Refused;
        if let Some(dial) = conn.dial {
            self.dials.failed(dial, error);
        }
        self.close(id);
    }
}
