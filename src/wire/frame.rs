//! One frame: its head, its payload, and the errors in them.

use std::ops::RangeInclusive;

use super::{
    ID_DIGITS, Id, LONG_LENGTH_DIGITS, MAX_ID, SHORT_LENGTH_MAX, TOKEN_CHARS, VERB_LEN, Verb, digits,
};

/// One frame, borrowing its payload (see [the grammar](super)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The number behind the `@`, if the frame is tagged.
    pub id: Option<Id>,
    /// The request or response that the frame carries.
    pub verb: Verb,
    /// The payload as on the wire: empty, or beginning with its space.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Creates a frame from its parts; `payload` is empty or begins with a space.
    #[must_use]
    pub fn new(id: Option<Id>, verb: Verb, payload: &'a [u8]) -> Self {
        Self { id, verb, payload }
    }

    /// The payload without its leading space.
    #[must_use]
    pub fn args(&self) -> &'a [u8] {
        self.payload.strip_prefix(b" ").unwrap_or(self.payload)
    }

    /// Appends the frame's bytes to `out`, with the length in its short form if that is enough.
    ///
    /// A payload that is not empty has to begin with a space, or every reader gets out of step; debug builds assert it.
    /// [`encode_args`] writes the spaces itself.
    pub fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(
            matches!(self.payload, [] | [b' ', ..]),
            "the payload of {} lacks its space",
            self.verb
        );
        out.reserve(self.encoded_len());
        push_head(self.id, self.verb, self.payload.len(), out);
        out.extend_from_slice(self.payload);
    }

    /// The number of bytes that [`Frame::encode`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        head_len(self.id, self.payload.len()) + self.payload.len()
    }
}

/// Appends a frame whose payload is a space and a part for each of `parts`; without parts the payload is empty.
///
/// `["TEST02", "0001", "Heyyyooo!"]` under RCV gives `RCV 0022 TEST02 0001 Heyyyooo!`.
pub fn encode_args(id: Option<Id>, verb: Verb, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = parts.iter().map(|part| 1 + part.len()).sum();
    out.reserve(head_len(id, length) + length);
    push_head(id, verb, length, out);
    for part in parts {
        out.push(b' ');
        out.extend_from_slice(part);
    }
}

/// Appends `@id `, which makes the untagged frame after it a tagged one.
///
/// So receivers that number a frame differently can share its encoded bytes.
pub fn encode_tag(id: Id, out: &mut Vec<u8>) {
    out.push(b'@');
    digits::push(id.get(), 0, out);
    out.push(b' ');
}

/// Appends the part of a frame before its payload of `length` bytes.
pub(super) fn push_head(id: Option<Id>, verb: Verb, length: usize, out: &mut Vec<u8>) {
    if let Some(id) = id {
        encode_tag(id, out);
    }
    out.extend_from_slice(&verb.as_bytes());
    out.push(b' ');
    match u16::try_from(length) {
        Ok(length) if usize::from(length) <= SHORT_LENGTH_MAX => {
            return out.extend_from_slice(&digits::four(length));
        }
        _ => {}
    }
    let number = length as u64;
    out.push(b'+');
    digits::push(digits::count(number) as u64, 3, out);
    out.push(b' ');
    digits::push(number, 0, out);
}

/// The number of bytes that [`push_head`] appends.
fn head_len(id: Option<Id>, length: usize) -> usize {
    let tag = id.map_or(0, |id| "@ ".len() + digits::count(id.get()));
    let digits = if length <= SHORT_LENGTH_MAX { 4 } else { "+000 ".len() + digits::count(length as u64) };
    tag + VERB_LEN + " ".len() + digits
}

/// The part of a frame before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number behind the `@`, if the frame is tagged.
    pub id: Option<Id>,
    /// The request or response that the frame carries.
    pub verb: Verb,
    /// Bytes in the payload, including its leading space.
    pub length: usize,
    /// Bytes in the head itself, at most [`MAX_HEAD`](super::MAX_HEAD).
    pub head_len: usize,
}

impl Head {
    /// Bytes in the whole frame. Saturates; no memory could hold such a frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.head_len.saturating_add(self.length)
    }

    /// Cuts this head's frame off the front of `bytes`, which begin with the head; `None` until it is complete.
    #[inline]
    pub(super) fn split_frame<'a>(&self, bytes: &'a [u8]) -> Option<(Frame<'a>, &'a [u8])> {
        let (frame, rest) = bytes.split_at_checked(self.frame_len())?;
        Some((Frame::new(self.id, self.verb, frame.get(self.head_len..)?), rest))
    }

    /// Fails if the payload's first byte has arrived and is not a space. `bytes` begin with the head.
    pub(super) fn check_space(&self, bytes: &[u8]) -> Result<(), Malformed> {
        match bytes.get(self.head_len) {
            Some(&first) if self.length > 0 && first != b' ' => Err(Malformed::Space),
            _ => Ok(()),
        }
    }
}

/// The reason why bytes are not a frame, or not a datagram. The peer is at fault, and the stream cannot continue.
///
/// The messages quote no input, so they are safe to send back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The `@` is not followed by an id and a space.
    #[error("malformed tag: after @ come 1 to {ID_DIGITS} digits without a leading zero, then one space")]
    Tag,
    /// A frame begins with something other than a verb or a tag, or no space follows the verb.
    #[error("malformed verb: it is {VERB_LEN} upper-case letters, then one space")]
    Verb,
    /// The length is in neither of its two forms.
    #[error(
        "malformed length: it is 4 digits, or + and 3 digits saying how many, a space and so many digits"
    )]
    Length,
    /// The length is well-formed but exceeds the reader's limit.
    #[error("length {length} is over the limit of {limit}")]
    TooLong {
        /// The payload's announced length in bytes.
        length: u64,
        /// The reader's limit in bytes.
        limit: usize,
    },
    /// The length is not 0000, but the payload does not begin with a space.
    #[error("payload does not begin with a space")]
    Space,
    /// The `~` that begins a datagram is not followed by a token and a space.
    #[error("malformed token: after ~ come {TOKEN_CHARS} letters, digits, - or _, then one space")]
    Token,
    /// A datagram ends within a frame.
    #[error("the datagram ends before its last frame does")]
    Incomplete,
    /// A datagram holds no frame.
    #[error("the datagram holds no frame")]
    Empty,
}

/// Parses the head at the front of `bytes`, for payloads of at most `max_payload` bytes.
///
/// `Ok(None)` means that the bytes are valid so far and the head is not complete. The payload may be missing; if its
/// first byte has arrived, it is checked.
///
/// # Errors
///
/// As soon as a wrong byte is there, the part that contains it. For a length over the limit, with its last digit, so
/// that the error can name the length.
pub fn parse_head(bytes: &[u8], max_payload: usize) -> Result<Option<Head>, Malformed> {
    if let Some(head) = usual_head(bytes, max_payload) {
        return head.check_space(bytes).map(|()| Some(head));
    }
    match (Cursor { bytes, at: 0 }).head(max_payload) {
        Ok(head) => head.check_space(bytes).map(|()| Some(head)),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Wrong(why)) => Err(why),
    }
}

/// Parses the most common form of a head, `SND 0021`, in one step. `None` for any other, valid or not.
#[inline]
pub(super) fn usual_head(bytes: &[u8], max_payload: usize) -> Option<Head> {
    let &[a, b, c, b' ', ref digits @ ..] = bytes.first_chunk::<8>()? else { return None };
    let verb = Verb::from_bytes([a, b, c])?;
    let length = digits.iter().try_fold(0, |length, byte| Some(length * 10 + digits::digit(*byte)?))?;
    let length = usize::try_from(length).ok().filter(|length| *length <= max_payload)?;
    Some(Head { id: None, verb, length, head_len: 8 })
}

/// The reason why the cursor stopped.
enum Stop {
    /// The bytes ended.
    Incomplete,
    /// The byte there was wrong.
    Wrong(Malformed),
}

/// A position in a head. Each step is told which part a wrong byte belongs to.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn head(&mut self, max_payload: usize) -> Result<Head, Stop> {
        let id = if self.peek()? == b'@' { Some(self.tag()?) } else { None };
        let verb = self.verb()?;
        let announced = if self.peek()? == b'+' { self.long_length()? } else { self.short_length()? };
        let length = usize::try_from(announced).ok().filter(|length| *length <= max_payload);
        let too_long = Malformed::TooLong { length: announced, limit: max_payload };
        Ok(Head { id, verb, length: length.ok_or(Stop::Wrong(too_long))?, head_len: self.at })
    }

    fn tag(&mut self) -> Result<Id, Stop> {
        self.accept(Malformed::Tag, |byte| byte == b'@')?;
        let mut number = self.digit(Malformed::Tag, 1..=9)?;
        while self.peek()? != b' ' {
            // A twentieth digit is always wrong: the number had nineteen.
            if number > MAX_ID / 10 {
                return Err(Stop::Wrong(Malformed::Tag));
            }
            number = number * 10 + self.digit(Malformed::Tag, 0..=9)?;
        }
        self.space(Malformed::Tag)?;
        Id::new(number).ok_or(Stop::Wrong(Malformed::Tag))
    }

    fn verb(&mut self) -> Result<Verb, Stop> {
        let mut letters = [0; VERB_LEN];
        for letter in &mut letters {
            *letter = self.accept(Malformed::Verb, |byte| byte.is_ascii_uppercase())?;
        }
        self.space(Malformed::Verb)?;
        Verb::from_bytes(letters).ok_or(Stop::Wrong(Malformed::Verb))
    }

    fn short_length(&mut self) -> Result<u64, Stop> {
        self.number(0, 4)
    }

    fn long_length(&mut self) -> Result<u64, Stop> {
        self.accept(Malformed::Length, |byte| byte == b'+')?;
        self.accept(Malformed::Length, |byte| byte == b'0')?;
        let tens = self.digit(Malformed::Length, 0..=1)?;
        let least = if tens == 0 { *LONG_LENGTH_DIGITS.start() as u64 } else { 0 };
        let digits = tens * 10 + self.digit(Malformed::Length, least..=9)?;
        self.space(Malformed::Length)?;
        let first = self.digit(Malformed::Length, 1..=9)?;
        self.number(first, digits - 1)
    }

    /// Continues a length after `number`, for that many more digits (19 in all at most).
    fn number(&mut self, mut number: u64, digits: u64) -> Result<u64, Stop> {
        for _ in 0..digits {
            number = number * 10 + self.digit(Malformed::Length, 0..=9)?;
        }
        Ok(number)
    }

    fn digit(&mut self, part: Malformed, right: RangeInclusive<u64>) -> Result<u64, Stop> {
        let value = digits::digit(self.peek()?).filter(|value| right.contains(value));
        self.at += 1;
        value.ok_or(Stop::Wrong(part))
    }

    fn space(&mut self, part: Malformed) -> Result<u8, Stop> {
        self.accept(part, |byte| byte == b' ')
    }

    fn accept(&mut self, part: Malformed, right: impl Fn(u8) -> bool) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        if right(byte) { Ok(byte) } else { Err(Stop::Wrong(part)) }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MAX_HEAD;

    fn encoded(id: Option<Id>, verb: Verb, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_args(id, verb, parts, &mut out);
        out
    }

    #[test]
    fn each_part_gets_its_space_and_no_part_is_an_empty_payload() {
        let rcv = encoded(None, Verb::Rcv, &[b"TEST02", b"0001", b"Heyyyooo!"]);
        assert_eq!(rcv, b"RCV 0022 TEST02 0001 Heyyyooo!");
        assert_eq!(encoded(Id::new(7), Verb::Ack, &[]), b"@7 ACK 0000");
        assert_eq!(encoded(None, Verb::Png, &[b""]), b"PNG 0001 ");
        let err = encoded(Id::new(7), Verb::Err, &[b"404", b"No such client!"]);
        assert_eq!(err, b"@7 ERR 0020 404 No such client!");
    }

    #[test]
    fn a_tag_before_an_untagged_frame_makes_it_the_tagged_one() {
        let id = Id::new(MAX_ID);
        let mut out = Vec::new();
        encode_tag(id.unwrap(), &mut out);
        out.extend(encoded(None, Verb::Bye, &[]));
        assert_eq!(out, encoded(id, Verb::Bye, &[]));
    }

    #[test]
    fn the_length_grows_into_its_long_form_after_9999() {
        for (length, head) in
            [(9_998, "SND 9999 "), (9_999, "SND +005 10000 "), (1_048_582, "SND +007 1048583 ")]
        {
            let out = encoded(None, Verb::Snd, &[&vec![b'x'; length]]);
            assert!(out.starts_with(head.as_bytes()), "{head}");
            assert_eq!(out.len(), head.len() + length);
        }
    }

    #[test]
    fn the_encoded_length_is_known_beforehand() {
        for id in [None, Id::new(9), Id::new(10), Id::new(MAX_ID)] {
            for length in [0, 1, 9_999, 10_000, 99_999, 100_000] {
                let payload = vec![b' '; length];
                let frame = Frame::new(id, Verb::Other(*b"XYZ"), &payload);
                let mut out = Vec::new();
                frame.encode(&mut out);
                assert_eq!(frame.encoded_len(), out.len());
                let head = parse_head(&out, length).unwrap().unwrap();
                assert_eq!((head.id, head.length, head.frame_len()), (id, length, out.len()));
            }
        }
    }

    #[test]
    fn the_longest_head_is_49_bytes() {
        assert_eq!(MAX_HEAD, 49);
        assert_eq!(head_len(Id::new(MAX_ID), usize::MAX / 10), MAX_HEAD);
    }
}
