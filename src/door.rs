//! What a server knows of each of its doors: how peers there speak, and how much they may say.
//!
//! A door is one listening socket. Its address, and everything else about sockets, is `net/`'s affair.

use std::time::Duration;

use crate::hub::name::RoomName;
use crate::hub::rate::Rate;

/// One door of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// What access rules call it: `tcp`, `udp`, `unix`, `line`, `line+unix`, or a name of its own.
    pub name: String,
    /// What is spoken there.
    pub speaks: Speaks,
    /// How much each client may say.
    pub rate: Rate,
}

/// What is spoken at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Frames.
    Frames,
    /// Lines of text, by people.
    Lines(LineDoor),
}

/// A door for people with netcat or telnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineDoor {
    /// The room that everybody enters.
    pub room: RoomName,
    /// How a person gets a name.
    pub greet: Greet,
    /// Whether a person is shown what they said themselves.
    pub echo: bool,
    /// After so much silence an unfinished line counts as finished; `None` waits for its end.
    pub flush: Option<Duration>,
}

/// How a person gets a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greet {
    /// They are asked for it.
    Name,
    /// Without a question: it is their address.
    None,
}

impl Door {
    /// A door for frames, without a limit.
    pub fn frames(name: &str) -> Self {
        Self { name: name.to_owned(), speaks: Speaks::Frames, rate: Rate::UNLIMITED }
    }

    /// A door for people, who may say 5 lines a second.
    pub fn lines(name: &str, door: LineDoor) -> Self {
        Self { name: name.to_owned(), speaks: Speaks::Lines(door), rate: Rate::messages(5) }
    }
}
