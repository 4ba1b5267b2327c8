//! What a workload needs of a protocol, as bytes: every workload goes through it, whatever server it loads.
//!
//! A peer decides nothing and keeps no state: who is in flight, and how far, is for the workload to know. All that it names is
//! exact, so that what comes back can be compared byte by byte.

use std::fmt;

/// What a connection is for; some protocols greet, or allow, one and not the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends messages, and hears only what answers them.
    Sender,
    /// It gets messages to its name, or to its room.
    Receiver,
    /// It pings.
    Asker,
}

/// A connection, as the server is to know it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its name, and where messages to it go: 1 to 32 letters and digits.
    pub name: &'a str,
    /// What it is for.
    pub role: Role,
    /// The room that it belongs to, without any sign before it; its messages go there.
    pub room: Option<&'a str>,
}

/// Something to say, and what has to be heard before anything else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The bytes to write.
    pub say: Vec<u8>,
    /// What has to come.
    pub hear: Answer,
}

impl Step {
    /// Says something that is answered by exactly this.
    #[must_use]
    pub fn new(say: impl Into<Vec<u8>>, answer: impl Into<Vec<u8>>) -> Self {
        Self { say: say.into(), hear: Answer { start: answer.into(), end: Vec::new() } }
    }
}

/// An answer: `start`, anything, `end`, and nothing behind it. Without an end it is the start alone; without both, there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it begins with.
    pub start: Vec<u8>,
    /// What it ends with, which is nowhere else in it.
    pub end: Vec<u8>,
}

/// How far an answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is all there.
    Complete,
    /// It is right so far.
    Incomplete,
    /// It is another one.
    Wrong,
}

/// The longest answer that is waited for, in bytes.
pub const MAX_ANSWER: usize = 16 << 10;

impl Answer {
    /// Judges all that has been heard since the step was said.
    #[must_use]
    pub fn judge(&self, heard: &[u8]) -> Heard {
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

    /// The same, where the server may have said this before or behind the answer ([`Peer::aside`]).
    #[must_use]
    pub fn judge_beside(&self, aside: &[u8], heard: &[u8]) -> Heard {
        let mut rest = heard;
        while let (Heard::Wrong, Some(shorter)) = (self.judge(rest), without(rest, aside)) {
            rest = shorter;
        }
        match self.judge(rest) {
            Heard::Wrong if aside.starts_with(rest) => Heard::Incomplete,
            judged => judged,
        }
    }
}

/// What is left without an aside at one end; `None` if there is none.
fn without<'a>(heard: &'a [u8], aside: &[u8]) -> Option<&'a [u8]> {
    heard.strip_prefix(aside).or_else(|| heard.strip_suffix(aside)).filter(|_| !aside.is_empty())
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// To one client, by its name.
    Name(&'a str),
    /// To all in a room but its sender.
    Room {
        /// The room, without any sign before it.
        name: &'a str,
        /// How many get it.
        receivers: usize,
    },
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The name of its sender.
    pub from: &'a str,
    /// Where it goes.
    pub to: Target<'a>,
    /// What it says: no spaces, no line ends.
    pub body: &'a [u8],
    /// Its number among all of its sender, from 1; also among all of its receiver, which hears nobody else.
    pub number: u64,
}

/// A protocol over a stream.
///
/// Connections are made one after the other: of pairs the sender first, of a room its sender before all members.
pub trait Peer: fmt::Debug {
    /// What it is called, in a word.
    fn name(&self) -> &'static str;

    /// What a client says upon connecting, step by step; after the last it is registered, and in its room. No steps: it is so at once.
    fn greeting(&self, client: &Client<'_>) -> Vec<Step>;

    /// Appends what the sender writes.
    fn message(&self, message: &Message<'_>, out: &mut Vec<u8>);

    /// Appends what each receiver reads for it.
    fn delivery(&self, message: &Message<'_>, out: &mut Vec<u8>);

    /// Appends what the sender reads for it, if anything.
    fn reply(&self, message: &Message<'_>, out: &mut Vec<u8>) {
        let _ = (message, out);
    }

    /// Appends what a receiver writes for the messages from number `first` through `last`, if anything.
    fn acknowledgement(&self, first: u64, last: u64, out: &mut Vec<u8>) {
        let _ = (first, last, out);
    }

    /// Whether a message's number shows in none of its bytes, so that those of a few messages may be written again and again.
    fn repeats(&self) -> bool {
        true
    }

    /// The longest body that a message may have, in bytes.
    fn max_body(&self) -> usize {
        usize::MAX
    }

    /// Most messages of one sender that may be unanswered; `None` is any number.
    fn max_in_flight(&self) -> Option<u64> {
        None
    }

    /// Whether a server of this kind can get a message to somebody else than its sender. One that only echoes sends each its own.
    fn routes(&self) -> bool {
        true
    }

    /// Appends a ping of an [`Role::Asker`].
    fn ping(&self, out: &mut Vec<u8>);

    /// Appends what answers it.
    fn pong(&self, out: &mut Vec<u8>);

    /// What a server may say between all that, now and then and of its own; it needs no answer as soon as a run lasts.
    fn aside(&self) -> &'static [u8] {
        b""
    }

    /// Whether the server keeps a session when its connection closes, unless the client ends it first.
    fn keeps_sessions(&self) -> bool {
        false
    }

    /// What a client says before it closes; with an empty answer it does not wait for any.
    fn goodbye(&self) -> Step;
}

/// How a client over datagrams gets a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// This is to be sent, and again until something is heard.
    Say(Vec<u8>),
    /// It has one; these bytes stand for it.
    Ready(Vec<u8>),
    /// It gets none, for this reason.
    Refused(String),
}

/// A protocol over datagrams: requests and their answers.
pub trait DatagramPeer: fmt::Debug {
    /// What it is called, in a word.
    fn name(&self) -> &'static str;

    /// What the client of this name does after this datagram was heard; `None` at the beginning. What is no answer says the same again.
    fn join(&self, name: &str, heard: Option<&[u8]>) -> Join;

    /// Appends the request of this number, from 1 on in each session, that carries `body`.
    fn request(&self, session: &[u8], number: u64, body: &[u8], out: &mut Vec<u8>);

    /// Whether a datagram is what answers that request.
    fn answers(&self, session: &[u8], number: u64, body: &[u8], datagram: &[u8]) -> bool;

    /// Whether the server ends a session with this datagram.
    fn says_goodbye(&self, datagram: &[u8]) -> bool {
        let _ = datagram;
        false
    }

    /// The request of this number that ends a session; `None` where sessions need no end.
    fn goodbye(&self, session: &[u8], number: u64) -> Option<Vec<u8>> {
        let _ = (session, number);
        None
    }

    /// Whether a datagram says that the session has ended, as the request of this number asked for.
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
        assert_eq!(hear.judge(b""), Heard::Incomplete);
        assert_eq!(hear.judge(b"PO"), Heard::Incomplete);
        assert_eq!(hear.judge(b"PONG"), Heard::Complete);
        assert_eq!(hear.judge(b"PONGO"), Heard::Wrong);
        assert_eq!(hear.judge(b"PX"), Heard::Wrong);
        assert_eq!(Answer::default().judge(b""), Heard::Complete);
    }

    #[test]
    fn an_answer_is_found_beside_what_the_server_says_of_its_own() {
        let Step { hear, .. } = Step::new("", "MSG");
        for (heard, judged) in [
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
            assert_eq!(hear.judge_beside(b"PING", heard.as_bytes()), judged, "{heard}");
        }
        assert_eq!(hear.judge_beside(b"", b"PING"), Heard::Wrong);
    }

    #[test]
    fn an_answer_with_an_end_may_hold_anything_before_it_but_not_for_ever() {
        let answer = Answer { start: b"INFO ".to_vec(), end: b"PONG".to_vec() };
        assert_eq!(answer.judge(b"INFO {}"), Heard::Incomplete);
        assert_eq!(answer.judge(b"INFO {}PONG"), Heard::Complete);
        assert_eq!(answer.judge(b"-ERR"), Heard::Wrong);
        assert_eq!(answer.judge(&[&b"INFO "[..], &[b'x'; MAX_ANSWER]].concat()), Heard::Wrong);
    }
}
