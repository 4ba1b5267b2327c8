//! One sender and those who hear it: how much it may send, and whether each heard exactly that.

use std::rc::Rc;

use super::byte_pattern::{BytePattern, Render, body, period};
use super::peer::{Message, Peer, Target};
use crate::escape::escape_short;

/// Bytes that are shown of what is wrong.
const SHOWN: usize = 60;

/// Who is in a group, and what is sent.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The sender's name.
    pub sender: String,
    /// The receivers' names; without a room there is one.
    pub receivers: Vec<String>,
    /// Their room, if they are in one.
    pub room: Option<String>,
    /// Bytes in a message.
    pub size: usize,
}

/// What came back is not what has to come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The server said goodbye.
    #[error("the server ended the session of `{0}`: it is shutting down, or its log says why")]
    Goodbye(String),
    /// Something else came.
    #[error(
        "`{who}` heard `{heard}` instead of `{expected}` after {after} messages; the server lost, changed or refused something"
    )]
    Other {
        /// Whose connection that is.
        who: String,
        /// What came, escaped.
        heard: String,
        /// What had to come, escaped.
        expected: String,
        /// How many had come as they had to.
        after: u64,
    },
    /// More came than has to.
    #[error("`{0}` heard an answer more than it had asked for")]
    Unasked(String),
}

impl Wrong {
    /// What is wrong with these bytes from `at` on; before that, they are as this pattern expects.
    #[must_use]
    pub fn new(who: &str, expected: &BytePattern, heard: &[u8], at: usize) -> Self {
        let begun = at.saturating_sub(expected.within());
        if is_goodbye(heard.get(begun..).unwrap_or_default()) {
            return Self::Goodbye(who.to_owned());
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

/// Whether our server says goodbye in this frame, or begins to: no other begins so.
fn is_goodbye(frame: &[u8]) -> bool {
    const BYE: &[u8] = b"BYE ";
    let tagged = frame.strip_prefix(b"@").and_then(|tagged| {
        let tag = tagged.iter().take_while(|byte| byte.is_ascii_digit()).count();
        tagged.get(tag..)?.strip_prefix(b" ")
    });
    let said = tagged.unwrap_or(frame);
    said.starts_with(BYE) || (!said.is_empty() && BYE.starts_with(said))
}

/// A sender and its receivers.
#[derive(Debug)]
pub struct Group {
    cast: Cast,
    out: BytePattern,
    replies: BytePattern,
    heard: Vec<BytePattern>,
    /// What the slowest receiver has heard, as far as that was looked at.
    slowest: u64,
    /// Most messages that may be under way.
    window: u64,
}

impl Group {
    /// Nothing is sent yet; at most `window` bytes will be under way, or one message.
    #[must_use]
    pub fn new(peer: &Rc<dyn Peer>, cast: Cast, window: usize) -> Self {
        let pattern = |act: fn(&dyn Peer, &Message<'_>, &mut Vec<u8>)| {
            BytePattern::new(peer.repeats(), period(cast.size), render(peer.clone(), cast.clone(), act))
                .with_aside(peer.aside())
        };
        let out = pattern(|peer, message, out| peer.message(message, out));
        let replies = pattern(|peer, message, out| peer.reply(message, out));
        let heard = vec![pattern(|peer, message, out| peer.delivery(message, out)); cast.receivers.len()];
        let messages = (window / out.each().max(1)).max(1) as u64;
        let window = messages.min(peer.max_in_flight().unwrap_or(messages));
        Self { cast, out, replies, heard, slowest: 0, window }
    }

    /// Who is in it.
    #[must_use]
    pub fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Most messages that are under way.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// What may be written now, within `limit` bytes, where messages up to number `due` are due. Nothing, until it is worth a call.
    pub fn writable(&mut self, due: u64, limit: usize) -> Vec<std::io::IoSlice<'_>> {
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

    /// So many bytes of that were written.
    pub fn written(&mut self, bytes: usize) {
        self.out.advance(bytes);
    }

    /// A receiver has heard something. Returns the numbers of the first message that is new and complete, and of the one after the
    /// last.
    ///
    /// # Errors
    ///
    /// It is not what it has to be.
    pub fn heard(&mut self, receiver: usize, bytes: &[u8]) -> Result<(u64, u64), Wrong> {
        let Some(pattern) = self.heard.get_mut(receiver) else { return Ok((0, 0)) };
        let first = pattern.done() + 1;
        let who = self.cast.receivers.get(receiver).map_or("", String::as_str);
        pattern.compare(bytes).map_err(|at| Wrong::new(who, pattern, bytes, at))?;
        Ok((first, pattern.done() + 1))
    }

    /// The sender has heard something.
    ///
    /// # Errors
    ///
    /// It is not what it has to be.
    pub fn replied(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.replies.compare(bytes).map_err(|at| Wrong::new(&self.cast.sender, &self.replies, bytes, at))
    }

    /// Messages that are written to their last byte.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.out.done()
    }

    /// Messages of which at least a byte is written.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.out.done() + u64::from(!self.out.is_between())
    }

    /// Messages that all receivers together have heard.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.heard.iter().map(BytePattern::done).sum()
    }

    /// Messages that receivers have not heard though they were sent.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.sent() * self.heard.len() as u64 - self.delivered()
    }

    /// Whether no message is begun and not written, and all are heard and replied to.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let is_replied = self.replies.is_silent() || self.replies.done() == self.sent();
        self.out.is_between() && is_replied && self.missing() == 0
    }
}

/// How the bytes of a message of this cast are made.
fn render(peer: Rc<dyn Peer>, cast: Cast, act: fn(&dyn Peer, &Message<'_>, &mut Vec<u8>)) -> Render {
    Rc::new(move |number, out| {
        let mut text = Vec::with_capacity(cast.size);
        body(number, cast.size, &mut text);
        let to = match &cast.room {
            Some(name) => Target::Room { name, receivers: cast.receivers.len() },
            None => Target::Name(cast.receivers.first().map_or("", String::as_str)),
        };
        act(peer.as_ref(), &Message { from: &cast.sender, to, body: &text, number }, out);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::load::peers::PeerKind;

    fn group(tagged: bool, receivers: usize, window: usize) -> Group {
        let peer = PeerKind::Sayagain.streams(tagged).unwrap().into();
        let receivers = (0..receivers).map(|place| format!("r{place}")).collect();
        Group::new(&peer, Cast { sender: "s".into(), receivers, room: Some("load".into()), size: 4 }, window)
    }

    fn write(group: &mut Group, due: u64, limit: usize) -> String {
        let bytes: Vec<u8> = group.writable(due, limit).iter().flat_map(|slice| slice.to_vec()).collect();
        group.written(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_more_is_under_way_than_the_window_and_the_slowest_receiver_decides() {
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
    fn what_is_not_due_is_not_sent_and_what_is_begun_is_ended() {
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
    fn a_missing_message_is_told_with_what_came_instead() {
        let mut group = group(false, 1, 1_000);
        write(&mut group, 3, 1_000);
        group.heard(0, b"RCV 0017 s#load 0001 0001").unwrap();
        let wrong = group.heard(0, b"GAP 0002 2").unwrap_err().to_string();
        assert!(
            wrong.starts_with("`r0` heard `GAP 0002 2` instead of `RCV 0017 s#load 0001 0002"),
            "{wrong}"
        );
        assert!(wrong.contains("after 1 messages"), "{wrong}");
    }

    #[test]
    fn a_goodbye_is_told_as_one_however_much_of_it_has_come() {
        for said in ["B", "BYE 00", "BYE 0000"] {
            let mut group = group(false, 1, 1_000);
            write(&mut group, 3, 1_000);
            let heard = [b"RCV 0017 s#load 0001 0001", said.as_bytes()].concat();
            assert_eq!(group.heard(0, &heard), Err(Wrong::Goodbye("r0".to_owned())));
            assert_eq!(group.replied(said.as_bytes()), Err(Wrong::Goodbye("s".to_owned())));
        }
        for said in ["@1 BYE 0000", "@12 BYE 0000@17 ERR 0019 503 Shutting down!"] {
            let mut group = group(true, 1, 1_000);
            assert_eq!(group.heard(0, said.as_bytes()), Err(Wrong::Goodbye("r0".to_owned())));
            assert_eq!(group.replied(said.as_bytes()), Err(Wrong::Goodbye("s".to_owned())));
        }
    }

    #[test]
    fn tagged_messages_have_to_be_replied_to_as_well() {
        let mut group = group(true, 1, 1_000);
        assert_eq!(write(&mut group, 1, 1_000), "@17 SND 0011 #load 0001");
        group.heard(0, b"@1 RCV 0017 s#load 0001 0001").unwrap();
        assert!(!group.is_quiet());
        group.replied(b"@17 ACK 0000").unwrap();
        assert!(group.is_quiet());
        assert!(group.replied(b"@18 ERR 0007 503 no").is_err());
    }
}
