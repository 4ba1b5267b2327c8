//! The output of a client to its user: events, the reason of a close, the answer to LST and counters.

use std::time::{Duration, Instant};

use crate::reliable::{AskedToWait, Ended, Sent};

/// An event for the user or the driver of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream connection is wanted: connect, then call `handle_connected` or `handle_disconnected`.
    Connect,
    /// The stream connection is no longer wanted: drop it. `handle_disconnected` need not be called.
    Disconnect,
    /// Over datagrams, the server has been silent for 10 s: if the host's address has changed, send from a new socket
    /// and call `handle_moved`.
    CheckPath {
        /// Take a new socket even if the address is the same.
        replace: bool,
    },
    /// A session is open under the wanted name.
    Registered {
        /// Whether it is the previous session, resumed; otherwise it is a new one.
        resumed: bool,
    },
    /// The server no longer has the session: requests in flight are unknown. The client opens a new session.
    SessionLost,
    /// The server shuts down, which ends the session: unanswered requests are unknown. The client later opens a new
    /// session and rejoins its rooms.
    Draining {
        /// Time at which the client reconnects.
        again_at: Instant,
    },
    /// The name is taken by a session that waits for its owner (409). The client retries until that session ends, or
    /// its owner turns out to be alive.
    NameTaken {
        /// Time at which the client registers next.
        again_at: Instant,
    },
    /// A message arrived.
    Message {
        /// `name` or `name#room`.
        sender: Vec<u8>,
        /// The message, any bytes.
        body: Vec<u8>,
    },
    /// The number of messages that the server dropped at this point, because the client was a slow consumer.
    Gap(u64),
    /// A request was retransmitted.
    Retry(Sent),
    /// A request exceeded a rate limit (429): it was not executed, and is sent later under another id.
    SlowDown(AskedToWait),
    /// A request has ended.
    Ended(Ended),
    /// The client has closed. This is the last event.
    Closed(Closed),
}

/// Why a client has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client ended the session with BYE, or had none.
    Done,
    /// The server refused the registration: code and text.
    Refused(u16, String),
    /// The policy gave up: no connection, or no answer to the registration.
    GaveUp,
    /// The server sent BYE; the text of the ERR before it, if any.
    ServerBye(Option<String>),
    /// The server shuts down, and the policy allows no second attempt, or none that late. The time until the server
    /// expects to be back, if announced.
    Draining(Option<Duration>),
    /// Another connection has resumed the session.
    TakenUp,
}

/// The answer to LST: names, and the number of names that did not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The names, in the order of the answer.
    pub names: Vec<Vec<u8>>,
    /// The number of names that did not fit.
    pub more: u64,
}

impl Names {
    /// Parses the payload of an [`Acked`](crate::reliable::Outcome::Acked) LST.
    ///
    /// ```
    /// use sayagain::client::Names;
    ///
    /// let read = Names::read(b" alice bob +7");
    /// assert_eq!((read.names, read.more), (vec![b"alice".to_vec(), b"bob".to_vec()], 7));
    /// ```
    #[must_use]
    pub fn read(payload: &[u8]) -> Self {
        let mut read = Self::default();
        for word in Self::words(payload) {
            // A name never begins with `+`.
            match word.strip_prefix(b"+").map(|digits| String::from_utf8_lossy(digits).parse()) {
                Some(Ok(count)) => read.more = count,
                _ => read.names.push(word.to_vec()),
            }
        }
        read
    }

    /// The words of the payload of an acked LST: the names, and `+n` for those that did not fit.
    pub(crate) fn words(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
        payload.split(|byte| *byte == b' ').filter(|word| !word.is_empty())
    }
}

/// Counters of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Datagrams sent, or on a stream frames.
    pub transmits: u64,
    /// Retransmissions of requests, registrations included.
    pub retries: u64,
    /// Answers to requests that already had an outcome.
    pub repeated_answers: u64,
    /// Copies of pushes that had been received already.
    pub repeated_pushes: u64,
    /// Datagrams, with or without a token, that do not belong to this session.
    pub stray: u64,
    /// Datagrams that could not be parsed.
    pub malformed: u64,
}
