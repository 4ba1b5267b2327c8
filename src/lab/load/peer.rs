//! The interface to a server's protocol, in bytes: every workload uses it, whatever server it loads.
//!
//! A peer keeps no state and makes no decisions: the workload knows what is in flight. All bytes are exact, so that
//! received bytes can be compared.

use std::fmt;

/// The purpose of a connection; some protocols need or allow a greeting for some of them only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends messages, and receives only replies.
    Sender,
    /// Receives messages to its name, or to its room.
    Receiver,
    /// Sends pings.
    Asker,
}

/// The identity of a connection at the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    /// Its name, the target of messages to it: 1 to 32 letters and digits.
    pub(crate) name: &'a str,
    /// Its purpose.
    pub(crate) role: Role,
    /// The room that it belongs to and sends to, without a prefix.
    pub(crate) room: Option<&'a str>,
}

/// Bytes to send, and the answer required before the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// The bytes to write.
    pub(crate) say: Vec<u8>,
    /// The required answer.
    pub(crate) hear: Answer,
}

impl Step {
    /// Creates a step with an exact answer.
    #[must_use]
    pub(crate) fn new(say: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Self {
        Self { say: say.into(), hear: Answer { start: answer.into(), end: Vec::new() } }
    }
}

/// A pattern of an answer: `start`, anything, `end`, and nothing behind it. Without an end, exactly the start; without
/// both, no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its beginning.
    pub(crate) start: Vec<u8>,
    /// Its end, which occurs nowhere else in it.
    pub(crate) end: Vec<u8>,
}

/// The state of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Complete.
    Complete,
    /// Correct so far.
    Incomplete,
    /// Another answer.
    Wrong,
}

/// Longest answer that is waited for, in bytes.
pub(crate) const MAX_ANSWER: usize = 16 << 10;

impl Answer {
    /// Compares all bytes received since the step was sent.
    #[must_use]
    pub(crate) fn check(&self, heard: &[u8]) -> Heard {
        let Some(rest) = heard.strip_prefix(self.start.as_slice()) else {
            return if self.start.starts_with(heard) { Heard::Incomplete } else { Heard::Wrong };
        };
        match (self.end.is_empty(), rest.is_empty()) {
            (true, true) => Heard::Complete,
            (true, false) => Heard::Wrong,
            (false, _) if rest.ends_with(&self.end) => Heard::Complete,
            (false, _) if heard.len() > MAX_ANSWER => Heard::Wrong,
            (false, _) => Heard::Incomplete,
        }
    }

    /// The same, if the server may have sent unsolicited bytes before or behind the answer ([`Peer::aside`]).
    #[must_use]
    pub(crate) fn check_beside(&self, aside: &[u8], heard: &[u8]) -> Heard {
        let mut rest = heard;
        while let (Heard::Wrong, Some(shorter)) = (self.check(rest), without(rest, aside)) {
            rest = shorter;
        }
        match self.check(rest) {
            Heard::Wrong if aside.starts_with(rest) => Heard::Incomplete,
            checked => checked,
        }
    }
}

/// Removes unsolicited bytes at one end; `None` if there are none.
fn without<'a>(heard: &'a [u8], aside: &[u8]) -> Option<&'a [u8]> {
    heard.strip_prefix(aside).or_else(|| heard.strip_suffix(aside)).filter(|_| !aside.is_empty())
}

/// The target of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// One client, by its name.
    Name(&'a str),
    /// All members of a room except the sender.
    Room {
        /// The room, without a prefix.
        name: &'a str,
        /// Number of receivers.
        receivers: usize,
    },
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// The sender's name.
    pub(crate) from: &'a str,
    /// The target.
    pub(crate) to: Target<'a>,
    /// The body, without spaces and line ends.
    pub(crate) body: &'a [u8],
    /// Its number among the sender's messages, from 1; also among the receiver's, which has no other sender.
    pub(crate) number: u64,
}

/// A protocol over a stream.
///
/// Connections are made one after the other: in a pair the sender first, in a room the sender before all members.
pub(crate) trait Peer: fmt::Debug {
    /// Returns the protocol's name, one word.
    fn name(&self) -> &'static str;

    /// Returns the steps after connecting; after the last the client is registered, and in its room. Without steps it
    /// is at once.
    fn greeting(&self, client: &Client<'_>) -> Vec<Step>;

    /// Appends the bytes that the sender writes.
    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>);

    /// Appends the bytes that each receiver reads.
    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>);

    /// Appends the bytes that the sender reads as a reply, if any.
    fn reply(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        let _ = (message, out);
    }

    /// Appends the bytes that a receiver writes to acknowledge messages `first` through `last`, if any.
    fn acknowledgement(&self, first: u64, last: u64, out: &mut Vec<u8>) {
        let _ = (first, last, out);
    }

    /// Whether no byte of a message depends on its number, so that a few messages may be written repeatedly.
    fn repeats(&self) -> bool {
        true
    }

    /// Returns the longest body of a message, in bytes.
    fn max_body(&self) -> usize {
        usize::MAX
    }

    /// Returns the bound on unanswered messages of one sender; `None` means no bound.
    fn max_in_flight(&self) -> Option<u64> {
        None
    }

    /// Whether a server of this kind delivers messages to other clients. An echo server does not.
    fn routes(&self) -> bool {
        true
    }

    /// Appends a ping of an [`Role::Asker`].
    fn ping(&self, out: &mut Vec<u8>);

    /// Appends the answer to a ping.
    fn pong(&self, out: &mut Vec<u8>);

    /// Returns bytes that a server may send unsolicited; they need no answer within the duration of a run.
    fn aside(&self) -> &'static [u8] {
        b""
    }

    /// Whether the server keeps a session after its connection closes, unless the client ends it first.
    fn keeps_sessions(&self) -> bool {
        false
    }

    /// Returns the step that ends a session before the close; with an empty answer the client does not wait.
    fn end_session(&self) -> Step;
}

/// The next action of a client that opens a session over datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Send this, and repeat it until an answer comes.
    Say(Vec<u8>),
    /// The session is open, with this token.
    Ready(Vec<u8>),
    /// The session is refused, for this reason.
    Refused(String),
}

/// A protocol over datagrams: requests and their answers.
pub(crate) trait DatagramPeer: fmt::Debug {
    /// Returns the protocol's name, one word.
    fn name(&self) -> &'static str;

    /// Returns the next action of the client with this name after a datagram; `None` is the beginning. A datagram that
    /// is not an answer repeats the action. By default there are no sessions: every client is ready, without a token.
    fn join(&self, _name: &str, _heard: Option<&[u8]>) -> Join {
        Join::Ready(Vec::new())
    }

    /// Appends the request with this number, from 1 in each session, and this body.
    fn request(&self, session: &[u8], number: u64, body: &[u8], out: &mut Vec<u8>);

    /// Whether a datagram answers that request.
    fn answers(&self, session: &[u8], number: u64, body: &[u8], datagram: &[u8]) -> bool;

    /// Whether the server ends a session with this datagram.
    fn is_end_of_session(&self, datagram: &[u8]) -> bool {
        let _ = datagram;
        false
    }

    /// Returns the request with this number that ends a session; `None` if sessions need no end.
    fn end_session(&self, session: &[u8], number: u64) -> Option<Vec<u8>> {
        let _ = (session, number);
        None
    }

    /// Whether a datagram means that the session has ended, as the request with this number asked.
    fn has_ended(&self, session: &[u8], number: u64, datagram: &[u8]) -> bool {
        let _ = (session, number, datagram);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_answer_is_complete_at_its_last_byte_and_wrong_at_its_first_wrong_one() {
        let Step { hear, .. } = Step::new("PING", "PONG");
        assert_eq!(hear.check(b""), Heard::Incomplete);
        assert_eq!(hear.check(b"PO"), Heard::Incomplete);
        assert_eq!(hear.check(b"PONG"), Heard::Complete);
        assert_eq!(hear.check(b"PONGO"), Heard::Wrong);
        assert_eq!(hear.check(b"PX"), Heard::Wrong);
        assert_eq!(Answer::default().check(b""), Heard::Complete);
    }

    #[test]
    fn an_answer_is_found_beside_unsolicited_bytes() {
        let Step { hear, .. } = Step::new("", "MSG");
        for (heard, checked) in [
            ("", Heard::Incomplete),
            ("MS", Heard::Incomplete),
            ("PI", Heard::Incomplete),
            ("PING", Heard::Incomplete),
            ("PINGMS", Heard::Incomplete),
            ("PINGMSG", Heard::Complete),
            ("MSGPING", Heard::Complete),
            ("PINGMSGPING", Heard::Complete),
            ("PINGMXG", Heard::Wrong),
            ("MPINGSG", Heard::Wrong),
        ] {
            assert_eq!(hear.check_beside(b"PING", heard.as_bytes()), checked, "{heard}");
        }
        assert_eq!(hear.check_beside(b"", b"PING"), Heard::Wrong);
    }

    #[test]
    fn an_answer_with_an_end_may_contain_anything_before_it_within_the_bound() {
        let answer = Answer { start: b"INFO ".to_vec(), end: b"PONG".to_vec() };
        assert_eq!(answer.check(b"INFO {}"), Heard::Incomplete);
        assert_eq!(answer.check(b"INFO {}PONG"), Heard::Complete);
        assert_eq!(answer.check(b"-ERR"), Heard::Wrong);
        assert_eq!(answer.check(&[&b"INFO "[..], &[b'x'; MAX_ANSWER]].concat()), Heard::Wrong);
    }
}
