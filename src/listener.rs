//! The settings of each listener of a server: its protocol, its rate limits, and the options of line listeners.
//!
//! A [`Listener`] is one listening socket. Its address, and everything else about sockets, is in `net/`. The chat speaks
//! frames and lines; messages and plain bytes are for programs of other protocols ([`crate::host`]).

use std::time::Duration;

use crate::names::RoomName;
use crate::rates::Rate;

/// The settings of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in access rules: `tcp`, `udp`, `unix`, `line`, `line+unix`, or a name of its own.
    #[doc(hidden)]
    pub name: String,
    /// Its protocol.
    #[doc(hidden)]
    pub speaks: Speaks,
    /// The rate limit of each client.
    #[doc(hidden)]
    pub rate: Rate,
    /// The rate limit of all clients of one host together: of an IPv4 address, or of an IPv6 /64. Clients on this
    /// machine are exempt.
    #[doc(hidden)]
    pub rate_per_host: Rate,
}

/// The protocol of a listener.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaks {
    /// The chat's frames.
    Frames,
    /// Lines of text, for netcat or telnet.
    Lines(LineListener),
    /// Messages of any length.
    Messages,
    /// Bytes without framing; their meaning is the program's.
    Bytes,
}

/// The framing of a byte stream: its pieces, as read and as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// No framing: bytes as they come. URLs `raw://` and `raw+unix://`.
    Bytes,
    /// Messages, each after its length in bytes: a 64-bit unsigned number, the most significant byte first, below
    /// 2^63. URLs `msg://` and `msg+unix://`.
    Messages,
    /// Lines that end with LF or CR LF, without these ends. URLs `line://` and `line+unix://`.
    Lines,
    /// The chat's frames, whole ([`crate::wire`]). URLs `tcp://` and `unix://`.
    Frames,
}

impl Speaks {
    /// Returns how a stream is cut there.
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

/// The options of a line listener, for clients such as netcat or telnet.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineListener {
    /// The room that every client joins.
    pub room: RoomName,
    /// The source of a client's name.
    pub greet: Greet,
    /// Whether a client gets its own messages back.
    pub echo: bool,
    /// The silence after which an unfinished line counts as finished; `None` waits for its end.
    pub flush: Option<Duration>,
}

/// The source of a line client's name.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greet {
    /// The server asks for it.
    Name,
    /// The client is named after its address, without a question.
    None,
}

impl Listener {
    /// Creates a listener for frames, without a rate limit.
    pub fn frames(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Frames,
            rate: Rate::UNLIMITED,
            rate_per_host: Rate::UNLIMITED,
        }
    }

    /// Creates a listener for messages, without a rate limit.
    pub fn messages(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Messages,
            rate: Rate::UNLIMITED,
            rate_per_host: Rate::UNLIMITED,
        }
    }

    /// Creates a listener for bytes, without a rate limit.
    pub fn bytes(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Bytes,
            rate: Rate::UNLIMITED,
            rate_per_host: Rate::UNLIMITED,
        }
    }

    /// Creates a line listener with a rate limit of 5 lines a second per client.
    #[doc(hidden)]
    pub fn lines(name: &str, listener: LineListener) -> Self {
        Self {
            name: name.to_owned(),
            speaks: Speaks::Lines(listener),
            rate: Rate::messages(5),
            rate_per_host: Rate::UNLIMITED,
        }
    }
}
