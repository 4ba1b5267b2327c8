//! One sender and its receivers: how much it may send, and whether each receiver got exactly that. Connections are
//! elsewhere.

use std::rc::Rc;

use super::byte_pattern::{BytePattern, Render, body, period};
use super::peer::{Message, Peer, Target};
use crate::escape::escape_short;

/// Bytes shown of a mismatch.
const SHOWN: usize = 60;

/// The members of a group, and its message size.
#[derive(Clone, Debug)]
pub(crate) struct GroupSpec {
    /// The sender's name.
    pub(crate) sender: String,
    /// The receivers' names; without a room there is one.
    pub(crate) receivers: Vec<String>,
    /// Their room, if they have one.
    pub(crate) room: Option<String>,
    /// Bytes in a message.
    pub(crate) size: usize,
}

/// A mismatch between received and expected bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// The server sent BYE.
    #[error("the server ended the session of `{0}`: it is shutting down, or its log says why")]
    Bye(String),
    /// Other bytes came.
    #[error(
        "`{who}` received `{heard}` instead of `{expected}` after {after} messages; the server lost, changed or refused something"
    )]
    Other {
        /// The connection's client.
        who: String,
        /// The received bytes, escaped.
        heard: String,
        /// The expected bytes, escaped.
        expected: String,
        /// Number of correct messages before.
        after: u64,
    },
    /// More came than expected.
    #[error("`{0}` received an answer that it had not asked for")]
    Unasked(String),
}

impl Wrong {
    /// Describes the mismatch of these bytes at `at`; before that, they match the pattern.
    #[must_use]
    pub(crate) fn new(who: &str, expected: &BytePattern, heard: &[u8], at: usize) -> Self {
        let begun = at.saturating_sub(expected.within());
        if is_bye(heard.get(begun..).unwrap_or_default()) {
            return Self::Bye(who.to_owned());
        }
        let from = at.saturating_sub(SHOWN / 2);
        let shown = |bytes: &[u8]| escape_short(bytes, SHOWN).into_owned();
        Self::Other {
            who: who.to_owned(),
            heard: shown(heard.get(from..).unwrap_or_default()),
            expected: shown(expected.next()),
            after: expected.done(),
        }
    }
}

/// Whether a frame is, or begins like, the BYE of our server: no other frame begins so.
fn is_bye(frame: &[u8]) -> bool {
    const BYE: &[u8] = b"BYE ";
    let tagged = frame.strip_prefix(b"@").and_then(|tagged| {
        let tag = tagged.iter().take_while(|byte| byte.is_ascii_digit()).count();
        tagged.get(tag..)?.strip_prefix(b" ")
    });
    let said = tagged.unwrap_or(frame);
    said.starts_with(BYE) || (!said.is_empty() && BYE.starts_with(said))
}

/// A sender and its receivers, and their progress.
#[derive(Debug)]
pub(crate) struct Group {
    spec: GroupSpec,
    out: BytePattern,
    replies: BytePattern,
    heard: Vec<BytePattern>,
    /// Messages received by the slowest receiver, when last updated.
    slowest: u64,
    /// Bound on the messages in flight.
    window: u64,
}

impl Group {
    /// Creates a group without messages. At most `window` bytes will be in flight, or one message.
    #[must_use]
    pub(crate) fn new(peer: &Rc<dyn Peer>, spec: GroupSpec, window: usize) -> Self {
        let pattern = |act: fn(&dyn Peer, &Message<'_>, &mut Vec<u8>)| {
            BytePattern::new(peer.repeats(), period(spec.size), render(peer.clone(), spec.clone(), act))
                .with_aside(peer.aside())
        };
        let out = pattern(|peer, message, out| peer.message(message, out));
        let replies = pattern(|peer, message, out| peer.reply(message, out));
        let heard = vec![pattern(|peer, message, out| peer.delivery(message, out)); spec.receivers.len()];
        let messages = (window / out.each().max(1)).max(1) as u64;
        let window = messages.min(peer.max_in_flight().unwrap_or(messages));
        Self { spec, out, replies, heard, slowest: 0, window }
    }

    /// Returns the definition of the group.
    #[must_use]
    pub(crate) fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// Returns the bound on the messages in flight.
    #[must_use]
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Returns the bytes that may be written now, within `limit`, up to message `due`. Empty while there is too little
    /// for a call.
    pub(crate) fn writable(&mut self, due: u64, limit: usize) -> Vec<std::io::IoSlice<'_>> {
        let sent = self.out.done();
        let room = self.slowest + self.window - sent.min(self.slowest + self.window);
        if room < self.window.div_ceil(2) && sent < due {
            self.slowest = self.heard.iter().map(BytePattern::done).min().unwrap_or(sent);
            if !self.replies.is_silent() {
                self.slowest = self.slowest.min(self.replies.done());
            }
        }
        let through = due.min(self.slowest + self.window);
        let is_worth_it = through == due || through - sent.min(through) >= self.window.div_ceil(4);
        if is_worth_it || !self.out.is_between() { self.out.slices(through, limit) } else { Vec::new() }
    }

    /// Records that so many of these bytes were written.
    pub(crate) fn written(&mut self, bytes: usize) {
        self.out.advance(bytes);
    }

    /// Handles bytes of a receiver. Returns the numbers of the first new complete message, and of the one after the
    /// last.
    ///
    /// # Errors
    ///
    /// The bytes are not the expected ones.
    pub(crate) fn heard(&mut self, receiver: usize, bytes: &[u8]) -> Result<(u64, u64), Wrong> {
        let Some(pattern) = self.heard.get_mut(receiver) else { return Ok((0, 0)) };
        let first = pattern.done() + 1;
        let who = self.spec.receivers.get(receiver).map_or("", String::as_str);
        pattern.compare(bytes).map_err(|at| Wrong::new(who, pattern, bytes, at))?;
        Ok((first, pattern.done() + 1))
    }

    /// Handles bytes of the sender.
    ///
    /// # Errors
    ///
    /// The bytes are not the expected ones.
    pub(crate) fn replied(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.replies.compare(bytes).map_err(|at| Wrong::new(&self.spec.sender, &self.replies, bytes, at))
    }

    /// Returns the number of messages written completely.
    #[must_use]
    pub(crate) fn sent(&self) -> u64 {
        self.out.done()
    }

    /// Returns the number of messages written at least partly.
    #[must_use]
    pub(crate) fn begun(&self) -> u64 {
        self.out.done() + u64::from(!self.out.is_between())
    }

    /// Returns the number of messages received, over all receivers.
    #[must_use]
    pub(crate) fn delivered(&self) -> u64 {
        self.heard.iter().map(BytePattern::done).sum()
    }

    /// Returns the number of messages sent but not received, over all receivers.
    #[must_use]
    pub(crate) fn missing(&self) -> u64 {
        self.sent() * self.heard.len() as u64 - self.delivered()
    }

    /// Whether every message is written completely, received and replied to.
    #[must_use]
    pub(crate) fn is_quiet(&self) -> bool {
        let is_replied = self.replies.is_silent() || self.replies.done() == self.sent();
        self.out.is_between() && is_replied && self.missing() == 0
    }
}

/// Returns the generator of this group's messages.
fn render(peer: Rc<dyn Peer>, spec: GroupSpec, act: fn(&dyn Peer, &Message<'_>, &mut Vec<u8>)) -> Render {
    Rc::new(move |number, out| {
        let mut text = Vec::with_capacity(spec.size);
        body(number, spec.size, &mut text);
        let to = match &spec.room {
            Some(name) => Target::Room { name, receivers: spec.receivers.len() },
            None => Target::Name(spec.receivers.first().map_or("", String::as_str)),
        };
        act(peer.as_ref(), &Message { from: &spec.sender, to, body: &text, number }, out);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::peers::PeerKind;

    fn group(tagged: bool, receivers: usize, window: usize) -> Group {
        let peer = PeerKind::Sayagain.streams(tagged).unwrap().into();
        let receivers = (0..receivers).map(|place| format!("r{place}")).collect();
        Group::new(
            &peer,
            GroupSpec { sender: "s".into(), receivers, room: Some("load".into()), size: 4 },
            window,
        )
    }

    fn write(group: &mut Group, due: u64, limit: usize) -> String {
        let bytes: Vec<u8> = group.writable(due, limit).iter().flat_map(|slice| slice.to_vec()).collect();
        group.written(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_window_bounds_what_the_slowest_receiver_lacks() {
        let mut group = group(false, 2, 80);
        let each = "SND 0011 #load 0001".len();
        assert_eq!(write(&mut group, 100, 1_000).len(), 4 * each);
        assert_eq!(write(&mut group, 100, 1_000), "");
        let heard = b"RCV 0017 s#load 0001 0001RCV 0017 s#load 0001 0002";
        assert_eq!(group.heard(0, heard), Ok((1, 3)));
        assert_eq!(write(&mut group, 100, 1_000), "");
        assert_eq!(group.heard(1, &heard[..30]), Ok((1, 2)));
        assert_eq!(write(&mut group, 100, 1_000), "SND 0011 #load 0005");
        assert_eq!((group.sent(), group.delivered(), group.missing()), (5, 3, 7));
    }

    #[test]
    fn messages_that_are_not_due_are_not_sent_and_begun_ones_are_completed() {
        let mut group = group(false, 1, 1_000);
        assert_eq!(write(&mut group, 0, 1_000), "");
        assert_eq!(write(&mut group, 1, 5), "SND 0");
        assert_eq!(group.sent(), 0);
        assert!(!group.is_quiet());
        assert_eq!(write(&mut group, 1, 1_000), "011 #load 0001");
        assert_eq!(group.heard(0, b"RCV 0017 s#load 0001 0001"), Ok((1, 2)));
        assert!(group.is_quiet());
    }

    #[test]
    fn a_missing_message_is_reported_with_the_bytes_received_instead() {
        let mut group = group(false, 1, 1_000);
        write(&mut group, 3, 1_000);
        group.heard(0, b"RCV 0017 s#load 0001 0001").unwrap();
        let wrong = group.heard(0, b"GAP 0002 2").unwrap_err().to_string();
        assert!(
            wrong.starts_with("`r0` received `GAP 0002 2` instead of `RCV 0017 s#load 0001 0002"),
            "{wrong}"
        );
        assert!(wrong.contains("after 1 messages"), "{wrong}");
    }

    #[test]
    fn a_bye_is_reported_as_such_even_if_incomplete() {
        for said in ["B", "BYE 00", "BYE 0000"] {
            let mut group = group(false, 1, 1_000);
            write(&mut group, 3, 1_000);
            let heard = [b"RCV 0017 s#load 0001 0001", said.as_bytes()].concat();
            assert_eq!(group.heard(0, &heard), Err(Wrong::Bye("r0".to_owned())));
            assert_eq!(group.replied(said.as_bytes()), Err(Wrong::Bye("s".to_owned())));
        }
        for said in ["@1 BYE 0000", "@12 BYE 0000@17 ERR 0019 503 Shutting down!"] {
            let mut group = group(true, 1, 1_000);
            assert_eq!(group.heard(0, said.as_bytes()), Err(Wrong::Bye("r0".to_owned())));
            assert_eq!(group.replied(said.as_bytes()), Err(Wrong::Bye("s".to_owned())));
        }
    }

    #[test]
    fn tagged_messages_also_need_replies() {
        let mut group = group(true, 1, 1_000);
        assert_eq!(write(&mut group, 1, 1_000), "@17 SND 0011 #load 0001");
        group.heard(0, b"@1 RCV 0017 s#load 0001 0001").unwrap();
        assert!(!group.is_quiet());
        group.replied(b"@17 ACK 0000").unwrap();
        assert!(group.is_quiet());
        assert!(group.replied(b"@18 ERR 0007 503 no").is_err());
    }
}
