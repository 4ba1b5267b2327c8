//! The name of a line client: it is asked for one, or named after its address. Commands of named clients are in
//! `commands`.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use super::commands::Command;
use crate::error::Refusal;
use crate::escape::escape;
use crate::hub::{Form, Opening, Path, SessionKey};
use crate::names::{Name, NameError};
use crate::server::Server;
use crate::service::{ConnId, Remote};
use crate::wire::{Found, MAX_LINE};

/// The greeting, sent in one piece with the question.
const GREETING: &str = "Welcome to sayagain! ";

/// The answer to a command before a name; it has no greeting.
const NAME_FIRST: &str = "first a name, then commands";

/// The number of refused names in a row after which the connection is closed.
pub(super) const MAX_BAD_NAMES: u8 = 8;

/// The question. Programs look for the word `name`.
const QUESTION: &str = "Enter your name: ";

impl Server {
    pub(super) fn send_greeting(&mut self, conn: ConnId) {
        if let Some(state) = self.streams.get_mut(conn) {
            state.answers.extend_from_slice(GREETING.as_bytes());
        }
        self.ask_name(conn);
    }

    fn ask_name(&mut self, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if let Some(lines) = &mut state.lines {
            lines.append_question(QUESTION, &mut state.answers);
        }
    }

    /// Handles a line of a client without a name.
    pub(super) fn take_name(&mut self, now: Instant, conn: ConnId, line: &Found) {
        let text = line.text().trim_ascii_start();
        let name = match Command::parse(text) {
            _ if !matches!(line, Found::Line(_)) => {
                return self.refuse_name(now, conn, &NameError::TooLong.to_string());
            }
            Command::Nothing => return self.ask_again(now, conn, &NameError::Empty.to_string()),
            Command::Quit => return self.close_with_bye(conn),
            Command::Help => {
                self.help(now, conn);
                return self.ask_name(conn);
            }
            Command::Nick(name) => name,
            _ if text.starts_with(b"/") => return self.ask_again(now, conn, NAME_FIRST),
            _ => text,
        };
        match self.register_line_client(now, conn, name) {
            Ok(named) => self.answer_line(now, conn, &named),
            Err(why) => self.refuse_name(now, conn, &why),
        }
    }

    /// Refuses a name and asks for another, [`MAX_BAD_NAMES`] times at most.
    fn refuse_name(&mut self, now: Instant, conn: ConnId, why: &str) {
        let Some(lines) = self.streams.get_mut(conn).and_then(|state| state.lines.as_mut()) else { return };
        lines.bad_names += 1;
        if lines.bad_names < MAX_BAD_NAMES {
            return self.ask_again(now, conn, why);
        }
        self.break_stream(now, conn, &format!("{why}; that was the last of {MAX_BAD_NAMES} names"));
    }

    fn ask_again(&mut self, now: Instant, conn: ConnId, why: &str) {
        self.answer_line(now, conn, why);
        self.ask_name(conn);
    }

    /// Opens a session under the name nearest to a line. Returns the answer, or why there is no session.
    fn register_line_client(&mut self, now: Instant, conn: ConnId, line: &[u8]) -> Result<String, String> {
        let name = self.hub.read_nearest(line).map_err(|error| error.to_string())?;
        let key = self.open_line_session(now, conn, name.clone()).map_err(|refusal| match refusal {
            Refusal::NameTaken => self.name_taken_text(now, &name),
            _ => refusal.text().to_owned(),
        })?;
        let name =
            self.hub.get(key).map(|session| shown(session.name.as_str()).into_owned()).unwrap_or_default();
        let place = self.room_of(key).map(|room| format!(" in {}", shown(room.as_str()))).unwrap_or_default();
        Ok(format!("you are {name}{place}; /help lists what else you can do"))
    }

    /// Opens a session without asking: under the address, or as `guest-N` where the address is not a name or is taken.
    pub(super) fn open_unasked(&mut self, now: Instant, conn: ConnId) {
        let address = self.streams.get(conn).and_then(|state| name_of(&state.origin().from));
        let named = address.map(|name| self.open_line_session(now, conn, name));
        if matches!(named, Some(Ok(_))) {
            return;
        }
        if let Err(refusal) = self.open_numbered(|server, name| server.open_line_session(now, conn, name)) {
            self.break_stream(now, conn, refusal.text());
        }
    }

    /// Returns the error for a name that is in use.
    pub(super) fn name_taken_text(&self, now: Instant, name: &Name) -> String {
        let name_shown = shown(name.as_str());
        match self.name_taken(now, name) {
            Refusal::NameWaits(secs) => {
                format!("{name_shown} is taken: its session waits {secs} s more for its owner")
            }
            _ => format!("{name_shown} is taken"),
        }
    }

    fn open_line_session(&mut self, now: Instant, conn: ConnId, name: Name) -> Result<SessionKey, Refusal> {
        let Some(origin) = self.streams.origin(conn) else {
            return Err(Refusal::RegisterFirst);
        };
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        self.admit(now, &name, &origin)?;
        let path = Path::Stream(Some(conn));
        self.has_room(now, path, origin.from)?;
        log::debug!("{}: {name} begins, on a line listener", origin.from);
        let (token, rate) = (self.secrets.token(), self.rate_of(origin.listener));
        let opening = Opening { name, form: Form::Lines, token, nonce: None, path, origin, rate };
        let key = self.hub.open(opening)?;
        if let Some(state) = self.streams.get_mut(conn) {
            state.carry(key);
            if let Some(lines) = &mut state.lines {
                lines.lines.set_limit(MAX_LINE);
            }
        }
        self.join_home_room(conn, key);
        Ok(key)
    }

    /// Joins a line client to the room of its listener.
    fn join_home_room(&mut self, conn: ConnId, key: SessionKey) {
        let Some((room, echo)) =
            self.line_listener(conn).map(|listener| (listener.room.clone(), listener.echo))
        else {
            return;
        };
        if let Some(session) = self.hub.get_mut(key) {
            session.set_listener_room(room.fold());
            session.echo = echo;
        }
        if let Err(refusal) = self.hub.join(key, room.as_str().as_bytes()) {
            log::warn!("no client can join {room}, the room of its listener: {refusal}");
        }
    }
}

/// Returns a name as it is shown.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    escape(name.as_bytes())
}

/// Returns the name for an address; `None` where there is no address, or it is too long for a name.
fn name_of(from: &Remote) -> Option<Name> {
    let Remote::Ip(addr) = from else { return None };
    let plain = SocketAddr::new(addr.ip().to_canonical(), addr.port());
    Name::parse(plain.to_string().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_name_if_it_is_short_enough() {
        let name = |addr: &str| name_of(&Remote::Ip(addr.parse().unwrap())).map(|name| name.to_string());
        assert_eq!(name("127.0.0.1:52344").as_deref(), Some("127.0.0.1:52344"));
        assert_eq!(name("[::1]:52344").as_deref(), Some("[::1]:52344"));
        assert_eq!(name("[::ffff:192.0.2.7]:1").as_deref(), Some("192.0.2.7:1"));
        assert_eq!(name("[2001:db8:1111:2222:3333:4444:5555:6666]:52344"), None);
        assert_eq!(name_of(&Remote::Unix { uid: 0, gid: 0 }), None);
    }
}
