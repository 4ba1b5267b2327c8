//! What a server knows of each of its doors: how peers there speak, and how much they may say.
//!
//! A door is one listening socket. Its address, and everything else about sockets, is `net/`'s affair. The chat speaks
//! frames and lines; messages and bare bytes are for programs of other protocols ([`crate::host`]).

use std::time::Duration;

use crate::names::RoomName;
use crate::rates::Rate;

/// One door of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// What access rules call it: `tcp`, `udp`, `unix`, `line`, `line+unix`, or a name of its own.
    pub name: String,
    /// What is spoken there.
    pub speaks: Speaks,
    /// How much each client may say.
    pub rate: Rate,
    /// How much all clients of one host may say together: of an IPv4 address, or of an IPv6 /64. Clients on this machine are
    /// exempt.
    pub rate_per_host: Rate,
}

/// What is spoken at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaks {
    /// Frames.
    Frames,
    /// Lines of text, by people.
    Lines(LineDoor),
    /// Messages of any length.
    Messages,
    /// Bytes, which mean what the program says.
    Bytes,
}

/// How a stream of bytes is cut into pieces, and pieces are put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// Not at all: bytes as they come. URLs `raw://` and `raw+unix://`.
    Bytes,
    /// Messages, each behind its length in bytes: a 64-bit unsigned number, the most significant byte first, below 2^63.
    /// URLs `msg://` and `msg+unix://`.
    Messages,
    /// Lines that end with LF or CR LF, which are no part of them. URLs `line://` and `line+unix://`.
    Lines,
    /// The chat's frames, whole ([`crate::wire`]). URLs `tcp://` and `unix://`.
    Frames,
}

impl Speaks {
    /// How a stream there is cut.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        match self {
            Self::Frames => Framing::Frames,
            Self::Lines(_) => Framing::Lines,
            Self::Messages => Framing::Messages,
            Self::Bytes => Framing::Bytes,
        }
    }
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
        Self {
            name: name.to_owned(),
            speaks: Speaks::Frames,
            rate: Rate::UNLIMITED,
            rate_per_host: Rate::UNLIMITED,
        }
    }

    /// A door for messages, without a limit.
    pub fn messages(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Messages,
            rate: Rate::UNLIMITED,
            rate_per_host: Rate::UNLIMITED,
        }
    }

    /// A door for bytes, without a limit.
    pub fn bytes(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Bytes,
            rate: Rate::UNLIMITED,
            rate_per_host: Rate::UNLIMITED,
        }
    }

    /// A door for people, who may say 5 lines a second.
    pub fn lines(name: &str, door: LineDoor) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Lines(door),
            rate: Rate::messages(5),
            rate_per_host: Rate::UNLIMITED,
        }
    }
}
