//! The RCV, which delivers a message: its payload parsed, the whole frame encoded, and its head reused for consecutive
//! messages. All encoders write the head with `push_head` below. The payloads of the other verbs are in `message`.

use std::ops::Range;

use super::frame;
use super::message::split_word;
use super::{MAX_HEAD, SHORT_LENGTH_MAX, Verb, WORDS_MAX, digits};

/// The arguments of an RCV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RcvArgs<'a> {
    /// `name`, or `name#room` for a message to a room, or `*` for the server itself. Not empty.
    pub sender: &'a [u8],
    /// The stated word count, at most [`WORDS_MAX`], which means that many or more.
    pub words: u16,
    /// The message: any bytes, may be empty.
    pub body: &'a [u8],
}

impl<'a> RcvArgs<'a> {
    /// Parses the payload of an RCV; `None` unless it is a sender, four digits and a body, separated by spaces.
    ///
    /// The count is not checked against the body.
    #[must_use]
    pub fn parse(args: &'a [u8]) -> Option<Self> {
        let (sender, rest) = split_word(args);
        let (count, body) = split_word(rest?);
        let count: &[u8; 4] = count.try_into().ok()?;
        let words = u16::try_from(digits::parse_padded(count)?).ok()?;
        (!sender.is_empty()).then_some(Self { sender, words, body: body? })
    }
}

/// Splits the sender of an RCV, `name` or `name#room`, into its name and its `#room`.
///
/// ```
/// use sayagain::wire::split_sender;
///
/// assert_eq!(split_sender(b"ada#lobby"), (&b"ada"[..], Some(&b"#lobby"[..])));
/// assert_eq!(split_sender(b"ada"), (&b"ada"[..], None));
/// ```
#[must_use]
pub fn split_sender(sender: &[u8]) -> (&[u8], Option<&[u8]>) {
    let at = sender.iter().position(|byte| *byte == b'#').unwrap_or(sender.len());
    let (name, room) = sender.split_at_checked(at).unwrap_or((sender, b""));
    (name, (!room.is_empty()).then_some(room))
}

/// The words of a message as an RCV counts them: its spaces plus one, at most [`WORDS_MAX`].
#[must_use]
pub fn words(body: &[u8]) -> u16 {
    let spaces = spaces(body);
    u16::try_from(spaces).map_or(WORDS_MAX, |spaces| spaces.saturating_add(1).min(WORDS_MAX))
}

fn spaces(body: &[u8]) -> usize {
    // A `u8` counter per chunk, which cannot overflow, lets the compiler vectorise the loop.
    let of_piece = |piece: &[u8]| piece.iter().fold(0_u8, |spaces, byte| spaces + u8::from(*byte == b' '));
    body.chunks(128).map(|piece| usize::from(of_piece(piece))).sum()
}

/// Appends the whole untagged RCV that delivers `body` from `sender`, with its word count.
///
/// [`encode_tag`](super::encode_tag) before it makes it a numbered push.
pub fn encode_rcv(sender: &[u8], body: &[u8], out: &mut Vec<u8>) {
    out.reserve(MAX_HEAD + payload_len_of(sender.len(), body.len()));
    push_head(sender, b"", Counted::new(body), out);
    out.extend_from_slice(body);
}

/// Bytes in the payload of an RCV: ` sender 0001 body`.
const fn payload_len_of(sender: usize, body: usize) -> usize {
    " ".len() + sender + " 0000 ".len() + body
}

/// Appends the part of an untagged RCV before its body; the sender is `name`, followed by `room`. Returns the position
/// of the sender in `out`.
fn push_head(name: &[u8], room: &[u8], body: Counted, out: &mut Vec<u8>) -> usize {
    let length = payload_len_of(name.len() + room.len(), body.len);
    out.reserve(MAX_HEAD + length - body.len);
    frame::push_head(None, Verb::Rcv, length, out);
    out.push(b' ');
    let sender = out.len();
    out.extend_from_slice(name);
    out.extend_from_slice(room);
    let [a, b, c, d] = digits::four(body.words);
    out.extend_from_slice(&[b' ', a, b, c, d, b' ']);
    sender
}

/// The properties of a body that its head states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    len: usize,
    words: u16,
}

impl Counted {
    fn new(body: &[u8]) -> Self {
        Self { len: body.len(), words: words(body) }
    }
}

/// The part of an untagged RCV before its body, reused for consecutive messages from one sender.
///
/// ```
/// use sayagain::wire::RcvHead;
///
/// let mut head = RcvHead::new(b"TEST02", b"#room", b"Hi there", Vec::new());
/// assert_eq!(head.bytes(), b"RCV 0026 TEST02#room 0002 ");
/// head.set(b"Heyyyooo!");
/// assert_eq!(head.bytes(), b"RCV 0027 TEST02#room 0001 ");
/// assert_eq!(head.name(), b"TEST02");
/// ```
#[derive(Debug, Clone)]
pub struct RcvHead {
    bytes: Vec<u8>,
    /// The range of the sender's name in `bytes`.
    name: Range<usize>,
    /// The body that `bytes` are for.
    body: Counted,
}

/// The position of the length in an RCV.
const LENGTH_AT: usize = "RCV ".len();
/// The position of the sender in an RCV whose length has four digits.
const SENDER_AT: usize = "RCV 0000 ".len();

impl RcvHead {
    /// Encodes the head for `body` into `buffer`, which is cleared; the sender is `name`, followed by `room`, which is
    /// empty for a direct message.
    #[must_use]
    pub fn new(name: &[u8], room: &[u8], body: &[u8], mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        let body = Counted::new(body);
        let begin = push_head(name, room, body, &mut buffer);
        Self { bytes: buffer, name: begin..begin + name.len(), body }
    }

    /// Adapts the head to another body. Only the digits change, unless the payload of this or of the previous frame
    /// is over [`SHORT_LENGTH_MAX`] bytes.
    pub fn set(&mut self, body: &[u8]) {
        let body = Counted::new(body);
        if self.body != body {
            self.adapt(body);
        }
    }

    fn adapt(&mut self, body: Counted) {
        self.body = body;
        match u16::try_from(self.payload_len()) {
            Ok(length) if usize::from(length) <= SHORT_LENGTH_MAX && self.name.start == SENDER_AT => {
                self.put(LENGTH_AT, length);
                self.put(self.bytes.len() - "0000 ".len(), body.words);
            }
            _ => {
                let previous = std::mem::take(&mut self.bytes);
                let (name, room) = previous.split_at(self.name.end);
                let name = name.get(self.name.start..).unwrap_or_default();
                let room = room.get(..room.len() - " 0000 ".len()).unwrap_or_default();
                let begin = push_head(name, room, body, &mut self.bytes);
                self.name = begin..begin + name.len();
            }
        }
    }

    fn put(&mut self, at: usize, number: u16) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&digits::four(number));
        }
    }

    /// Bytes in the payload of the frame with this head.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        " ".len() + self.bytes.len() - self.name.start + self.body.len
    }

    /// Bytes in the frame with this head.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.bytes.len() + self.body.len
    }

    /// The name of the sender, without the room.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.bytes.get(self.name.clone()).unwrap_or_default()
    }

    /// The encoded head.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer that holds the encoded head.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_spaces_plus_one_up_to_9999() {
        assert_eq!(words(b""), 1);
        assert_eq!(words(b"Heyyyooo!"), 1);
        assert_eq!(words(b" a\nb  c "), 5);
        for (spaces, expected) in
            [(9_997, 9_998), (9_998, 9_999), (9_999, 9_999), (65_535, 9_999), (70_000, 9_999)]
        {
            assert_eq!(words(&vec![b' '; spaces]), expected, "{spaces}");
        }
    }

    #[test]
    fn an_rcv_is_written_as_asio_chatserver_writes_it_and_read_back() {
        let mut out = Vec::new();
        encode_rcv(b"TEST02", b"Heyyyooo!", &mut out);
        assert_eq!(out, b"RCV 0022 TEST02 0001 Heyyyooo!");
        let args = RcvArgs { sender: b"TEST02", words: 1, body: b"Heyyyooo!" };
        assert_eq!(RcvArgs::parse(b"TEST02 0001 Heyyyooo!"), Some(args));
        let missed = RcvArgs { sender: b"*", words: 4, body: b"you missed 12 messages" };
        assert_eq!(RcvArgs::parse(b"* 0004 you missed 12 messages"), Some(missed));
        assert_eq!(words(missed.body), missed.words);
    }

    #[test]
    fn a_head_that_is_adapted_equals_one_that_is_encoded_anew() {
        let short = SHORT_LENGTH_MAX - payload_len_of("TEST02#room".len(), 0);
        let mut head = RcvHead::new(b"TEST02", b"#room", b"", b"used before".to_vec());
        for (len, byte) in
            [(0, b'x'), (9, b'x'), (9, b' '), (short, b' '), (short + 1, b' '), (70_000, b'x'), (3, b' ')]
        {
            let body = vec![byte; len];
            head.set(&body);
            let mut frame = Vec::new();
            encode_rcv(b"TEST02#room", &body, &mut frame);
            assert_eq!([head.bytes(), &body].concat(), frame, "{len}");
            assert_eq!(head.frame_len(), frame.len(), "{len}");
            assert_eq!(head.payload_len(), payload_len_of("TEST02#room".len(), len), "{len}");
            assert_eq!(head.name(), b"TEST02", "{len}");
        }
    }

    #[test]
    fn an_rcv_without_its_three_parts_is_refused() {
        assert!(RcvArgs::parse(b"TEST02 0001 ").is_some());
        for wrong in
            ["", "a", "a 0001", " 0001 x", "a 1 x", "a 00001 x", "a +001 x", "a  001 x", "a 000\u{ff11} x"]
        {
            assert_eq!(RcvArgs::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
