//! What the user of a client learns: events, how it ended, counters.

use crate::reliable::{AskedToWait, Ended, Sent};

/// Something that the user of a client learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream connection is wanted: make one, then call `handle_connected` or `handle_disconnected`.
    Connect,
    /// The stream connection is no longer wanted: drop it. `handle_disconnected` need not be called.
    Disconnect,
    /// Over datagrams, the server has been silent for a while: if the host's address has changed, send from a new socket and
    /// call `handle_moved`.
    CheckPath {
        /// Take a new socket also if the address is the same.
        replace: bool,
    },
    /// A session is open under the wanted name.
    Registered {
        /// Whether it is the session from before; otherwise it is a new one.
        resumed: bool,
    },
    /// The session is gone at the server: what was in flight is unknown. A new one is being opened.
    SessionLost,
    /// A message; `sender` is `name` or `name#room`.
    Message {
        /// Who sent it.
        sender: Vec<u8>,
        /// What it says.
        body: Vec<u8>,
    },
    /// So many messages were dropped here because this client read too slowly.
    Gap(u64),
    /// A request is sent again.
    Retry(Sent),
    /// A request came too soon for the server (429): it has not happened, and is sent anew, under another id, in a while.
    SlowDown(AskedToWait),
    /// A request has ended.
    Ended(Ended),
    /// The client is through: the last event.
    Closed(Closed),
}

/// Why a client is through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It said goodbye.
    Done,
    /// The server refused the registration: its code and words.
    Refused(u16, String),
    /// Nobody answered until the policy gave up: no connection, or no answer to the registration.
    GaveUp,
    /// The server said goodbye; what it said before, if anything.
    ServerBye(Option<String>),
    /// Another program has taken up the session.
    TakenUp,
}

/// The answer to LST: names, and how many more did not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The names, in the order of the answer.
    pub names: Vec<Vec<u8>>,
    /// How many more there are.
    pub more: u64,
}

impl Names {
    /// Reads what an [`Acked`](crate::reliable::Outcome::Acked) LST carries.
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
        for word in payload.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
            // No name begins with `+`.
            match word.strip_prefix(b"+").map(|digits| String::from_utf8_lossy(digits).parse()) {
                Some(Ok(count)) => read.more = count,
                _ => read.names.push(word.to_vec()),
            }
        }
        read
    }
}

/// What a client has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Datagrams, or frames on a stream, that were sent.
    pub transmits: u64,
    /// Sends of a request beyond its first, registrations included.
    pub retries: u64,
    /// Answers to requests that had been answered, or given up, already.
    pub repeated_answers: u64,
    /// Copies of pushes that had come already.
    pub repeated_pushes: u64,
    /// Datagrams that were not of this session.
    pub stray: u64,
    /// Datagrams that could not be read.
    pub malformed: u64,
}
