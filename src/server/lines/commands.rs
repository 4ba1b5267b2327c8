//! Parses and executes the lines of a named line client: messages to its room, and commands that begin with `/`.
//!
//! A line client's messages go to the last of its session's rooms: the one it joined, or returned to, last. Lines
//! before a name are in `naming`.

use std::borrow::Cow;
use std::time::Instant;

use super::naming::shown;
use crate::error::Refusal;
use crate::escape::{escape, escape_short};
use crate::hub::SessionKey;
use crate::names::{RoomName, is_room, with_hash};
use crate::server::{EndReason, Server};
use crate::service::ConnId;
use crate::wire::{Found, MAX_LINE, split_word};

/// The answer to `/help`.
const HELP: [&str; 5] = [
    "each line is a message to everybody in the room; //text says /text",
    "/me waves says *waves*; /pm NAME text says it to one alone",
    "/list says who is here, /list #room who is in another room of yours; /nick NEW takes another name",
    "/join #room also enters another room: there you talk from then on, and it is shown as NAME#room> text",
    "/leave leaves it for the one before; /quit ends the session",
];

const NO_ROOM: &str = "you are in no room; /join #room";

/// Most bytes of names in a list.
const LIST_MAX: usize = 2_400;

/// Most characters that are shown of an unknown command.
const SHOWN: usize = 40;

/// A parsed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// Nothing but white space.
    Nothing,
    /// A message to the room.
    Say(Cow<'a, [u8]>),
    Private {
        to: &'a [u8],
        text: &'a [u8],
    },
    Nick(&'a [u8]),
    /// The members of this room, or of the present one.
    List(Option<&'a [u8]>),
    Join(&'a [u8]),
    Leave,
    Help,
    Quit,
    /// An argument is missing; the usage.
    Incomplete(&'static str),
    Unknown(&'a [u8]),
    /// A command that is longer than a line may be.
    TooLong,
}

impl<'a> Command<'a> {
    /// Parses a line. The pieces of a line that is too long are all messages, or all nothing.
    pub(super) fn of(line: &'a Found) -> Self {
        match line {
            Found::Line(line) => Self::parse(line),
            Found::Front(front) if Self::is_command(front) => Self::TooLong,
            Found::Front(front) => Self::parse(front),
            Found::Rest(text) => Self::Say(Cow::Borrowed(text)),
            Found::TimingMark => Self::Nothing,
        }
    }

    /// Whether a line with this front is a command.
    pub(super) fn is_command(line: &[u8]) -> bool {
        line.starts_with(b"/") && !line.starts_with(b"//")
    }

    pub(super) fn parse(line: &'a [u8]) -> Self {
        match line {
            blank if blank.trim_ascii().is_empty() => Self::Nothing,
            [b'/', b'/', ..] => Self::Say(Cow::Borrowed(line.get(1..).unwrap_or_default())),
            [b'/', command @ ..] => {
                let (word, rest) = split_word(command);
                Self::parse_command(word.trim_ascii_end(), rest.unwrap_or_default().trim_ascii())
            }
            text => Self::Say(Cow::Borrowed(text)),
        }
    }

    fn parse_command(word: &'a [u8], args: &'a [u8]) -> Self {
        match (word, args) {
            (b"me", []) => Self::Incomplete("/me waves"),
            (b"me", text) => Self::Say(Cow::Owned([b"*", text, b"*"].concat())),
            (b"pm", args) => match split_word(args) {
                (to, Some(text)) if !text.trim_ascii().is_empty() => {
                    Self::Private { to, text: text.trim_ascii_start() }
                }
                _ => Self::Incomplete("/pm NAME text"),
            },
            (b"nick", []) => Self::Incomplete("/nick NEW"),
            (b"nick", name) => Self::Nick(name),
            (b"list", []) => Self::List(None),
            (b"list", room) => Self::List(Some(room)),
            (b"join", []) => Self::Incomplete("/join #room"),
            (b"join", room) => Self::Join(room),
            (b"leave", _) => Self::Leave,
            (b"help", _) => Self::Help,
            (b"quit", _) => Self::Quit,
            (word, _) => Self::Unknown(word),
        }
    }
}

/// The text of an answer, if there is one.
type Answer = Result<Option<String>, Refusal>;

impl Server {
    /// Executes a line of a named client.
    pub(super) fn execute_line(&mut self, now: Instant, conn: ConnId, key: SessionKey, line: &Found) {
        let answer = match Command::of(line) {
            Command::Nothing => Ok(None),
            Command::Say(body) => self.say_in_room(key, &body),
            Command::Private { to, text } => self.say_to(key, to, text),
            Command::Nick(name) => self.rename(now, key, name),
            Command::List(room) => self.list_members(key, room),
            Command::Join(room) => self.join_room(key, room),
            Command::Leave => self.leave_room(key),
            Command::Help => return self.help(now, conn),
            Command::Quit => return self.quit(now, conn, key),
            Command::TooLong => {
                Ok(Some(format!("that line is longer than {MAX_LINE} bytes and was not sent")))
            }
            Command::Incomplete(usage) => Ok(Some(format!("write {usage}"))),
            Command::Unknown(word) => {
                Ok(Some(format!("no such command: /{}; /help lists them", escape_short(word, SHOWN))))
            }
        };
        match answer {
            Ok(Some(text)) => self.answer_line(now, conn, &text),
            Ok(None) => {}
            Err(refusal) => self.answer_line(now, conn, refusal.text()),
        }
    }

    pub(super) fn help(&mut self, now: Instant, conn: ConnId) {
        for text in HELP {
            self.answer_line(now, conn, text);
        }
    }

    /// Writes the earlier messages first. The name is free at once, and the connection closes with the session.
    fn quit(&mut self, now: Instant, conn: ConnId, key: SessionKey) {
        self.catch_up(now, conn);
        self.end_session(now, key, EndReason::Asked);
    }

    /// Pauses a sender whose next line is a message for which a member of the room has no room in its queue. Returns the
    /// session that it waits for.
    pub(in crate::server) fn pause_for_line(&mut self, conn: ConnId, line: &Found) -> Option<SessionKey> {
        let state = self.streams.get(conn)?;
        let key = state.session().filter(|_| self.hub.holds_senders())?;
        if state.lines.as_ref().is_some_and(|lines| lines.has_refused(line)) {
            return None;
        }
        let Command::Say(body) = Command::of(line) else { return None };
        let room = self.room_of(key)?;
        self.pause_sender(conn, key, room.as_str().as_bytes(), body.len())
    }

    /// Returns the room that a line client's messages go to.
    pub(super) fn room_of(&self, key: SessionKey) -> Option<RoomName> {
        let room = self.hub.get(key)?.rooms().last()?;
        self.hub.room_name(room).cloned()
    }

    fn say_in_room(&mut self, key: SessionKey, body: &[u8]) -> Answer {
        let Some(room) = self.room_of(key) else { return Ok(Some(NO_ROOM.to_owned())) };
        self.hub.send(key, room.as_str().as_bytes(), body).map(|()| None)
    }

    fn say_to(&mut self, key: SessionKey, to: &[u8], text: &[u8]) -> Answer {
        if is_room(to) {
            return Err(Refusal::NoSuchClient);
        }
        self.hub.send(key, to, text).map(|()| None)
    }

    fn rename(&mut self, now: Instant, key: SessionKey, name: &[u8]) -> Answer {
        let name = match self.hub.read_nearest(name) {
            Ok(name) => name,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let session = self.hub.get(key).ok_or(Refusal::RegisterFirst)?;
        let (old, origin) = (session.name.clone(), session.origin());
        self.admit(now, &name, &origin)?;
        match self.hub.rename(key, name.clone()) {
            Err(Refusal::NameTaken) => return Ok(Some(self.name_taken_text(now, &name))),
            renamed => renamed?,
        }
        log::debug!("{}: {old} is {name} now", origin.from);
        self.guests.forget(key, &old);
        Ok(Some(format!("you are {}", shown(name.as_str()))))
    }

    fn list_members(&self, key: SessionKey, room: Option<&[u8]>) -> Answer {
        let Some(room) = (match room {
            Some(room) => Some(self.room_named(room)?),
            None => self.room_of(key),
        }) else {
            return Ok(Some(NO_ROOM.to_owned()));
        };
        if !self.hub.get(key).is_some_and(|session| session.rooms().contains(&room.fold())) {
            return Ok(Some(format!("you are not in {}", shown(room.as_str()))));
        }
        let names = self.hub.list(Some(room.as_str().as_bytes()), LIST_MAX)?;
        Ok(Some(format!("in {}: {}", shown(room.as_str()), escape(&names))))
    }

    /// Returns the room of that name, if it has members.
    fn room_named(&self, room: &[u8]) -> Result<RoomName, Refusal> {
        let found = self.hub.fold_of(&with_hash(room)).and_then(|fold| self.hub.room_name(&fold).cloned());
        found.ok_or(Refusal::NoSuchRoom)
    }

    fn join_room(&mut self, key: SessionKey, room: &[u8]) -> Answer {
        let room = with_hash(room);
        self.hub.join(key, &room)?;
        let fold = self.hub.fold_of(&room);
        let session = self.hub.get_mut(key).ok_or(Refusal::RegisterFirst)?;
        // A client that was in the room already sends to it again.
        if let Some(at) = session.rooms().iter().position(|joined| Some(joined) == fold.as_ref()) {
            session.change_rooms(|rooms| {
                let room = rooms.remove(at);
                rooms.push(room);
            });
        }
        let back = if session.rooms().len() > 1 { "; /leave goes back" } else { "" };
        Ok(self.room_of(key).map(|room| format!("you are in {}{back}", shown(room.as_str()))))
    }

    fn leave_room(&mut self, key: SessionKey) -> Answer {
        if let Some(room) = self.room_of(key) {
            self.hub.leave(key, room.as_str().as_bytes())?;
        }
        Ok(Some(match self.room_of(key) {
            Some(room) => format!("you are in {}", shown(room.as_str())),
            None => NO_ROOM.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_a_slash() {
        let say = |text: &'static str| Command::Say(Cow::Borrowed(text.as_bytes()));
        for (line, command) in [
            ("", Command::Nothing),
            (" \t", Command::Nothing),
            (" hi  there ", say(" hi  there ")),
            ("//quit", say("/quit")),
            (" /quit", say(" /quit")),
            ("/me waves ", say("*waves*")),
            ("/me", Command::Incomplete("/me waves")),
            ("/pm bob  hi there", Command::Private { to: b"bob", text: b"hi there" }),
            ("/pm bob ", Command::Incomplete("/pm NAME text")),
            ("/pm", Command::Incomplete("/pm NAME text")),
            ("/nick Guard #1", Command::Nick(b"Guard #1")),
            ("/list", Command::List(None)),
            ("/list #dev", Command::List(Some(b"#dev"))),
            ("/join #dev", Command::Join(b"#dev")),
            ("/join ", Command::Incomplete("/join #room")),
            ("/leave", Command::Leave),
            ("/help me", Command::Help),
            ("/quit ", Command::Quit),
            ("/quit\t", Command::Quit),
            ("/quite", Command::Unknown(b"quite")),
            ("/", Command::Unknown(b"")),
        ] {
            assert_eq!(Command::of(&Found::Line(line.into())), command, "{line:?}");
        }
    }

    #[test]
    fn a_piece_of_a_line_is_a_message_or_nothing() {
        let say = |text: &'static str| Command::Say(Cow::Borrowed(text.as_bytes()));
        for (front, command) in [
            ("hi", say("hi")),
            (" /quit", say(" /quit")),
            ("//quit", say("/quit")),
            ("/pm bob my PIN is", Command::TooLong),
            ("/me waves", Command::TooLong),
            ("/", Command::TooLong),
        ] {
            assert_eq!(Command::of(&Found::Front(front.into())), command, "{front:?}");
        }
        for rest in ["hi", "/quit", "//quit", " ", "/pm bob psst"] {
            assert_eq!(Command::of(&Found::Rest(rest.into())), say(rest), "{rest:?}");
        }
    }
}
