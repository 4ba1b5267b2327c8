//! Cuts a stream of bytes into frames, resumable at any byte.

use std::fmt;

use bytes::{Buf as _, Bytes};

use super::frame::usual_head;
use super::{Frame, Head, Id, MAX_HEAD, Malformed, Verb, parse_head, skip_newlines};

/// The most bytes in one chunk of an unfinished frame.
const MAX_CHUNK: usize = 1 << 20;

/// Cuts one direction of one stream into [`Frame`]s.
///
/// A frame that lies whole in the input is borrowed from there. Only the beginning of an unfinished frame is kept: at
/// most [`MAX_HEAD`] and `max_payload` bytes, in chunks. They are joined once, when the frame is complete. A peer can
/// announce any length at no cost, so the length alone allocates nothing: at most twice what has arrived is allocated.
/// Between frames nothing is.
///
/// ```
/// use sayagain::wire::Deframer;
///
/// let mut deframer = Deframer::new(9_999);
/// let mut verbs = Vec::new();
/// for mut input in [&b"REG 0007 TEST01\r\nSND 00"[..], b"17 TEST01 Heyyyooo!BYE 0000"] {
///     while let Some(frame) = deframer.next(&mut input)? {
///         verbs.push(frame.verb.to_string());
///     }
/// }
/// assert_eq!(verbs, ["REG", "SND", "BYE"]);
/// # Ok::<(), sayagain::wire::Malformed>(())
/// ```
pub struct Deframer {
    state: DeframerState,
    max_payload: usize,
}

/// The position in the stream.
enum DeframerState {
    /// Between frames.
    Between,
    /// Within a frame.
    Within(Box<UnfinishedFrame>),
    /// Between frames; the last frame was buffered here, and lent to the caller.
    Lent(Box<Joined>),
    /// After the first wrong byte.
    Broken(Box<Malformed>),
}

/// The beginning of a frame.
struct UnfinishedFrame {
    /// Its head, once complete.
    head: Option<Head>,
    /// The bytes that have arrived. The first chunk has room for any head.
    chunks: Vec<Vec<u8>>,
    /// Bytes in all chunks.
    held: usize,
}

/// The size of an unfinished frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Bytes in its payload, once the head is complete; 0 before.
    pub announced: usize,
    /// Bytes that have arrived, including the head.
    pub buffered: usize,
    /// Bytes allocated for it: at most twice what has arrived, or room for a head.
    pub allocated: usize,
}

/// A frame as [`Deframer::cut`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut<'i> {
    /// It lies whole in the input.
    Whole(Frame<'i>),
    /// It began in earlier input.
    Joined(Joined),
}

impl Cut<'_> {
    /// The frame's id, if it is tagged, and its verb.
    #[must_use]
    pub fn head(&self) -> (Option<Id>, Verb) {
        match self {
            Self::Whole(Frame { id, verb, .. }) | Self::Joined(Joined { id, verb, .. }) => (*id, *verb),
        }
    }
}

/// A frame that arrived in pieces, joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The number behind the `@`, if the frame is tagged.
    pub id: Option<Id>,
    /// The request or response that the frame carries.
    pub verb: Verb,
    /// The payload as on the wire, to pass on without a copy.
    pub payload: Bytes,
}

impl Joined {
    /// Borrows the frame.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame::new(self.id, self.verb, &self.payload)
    }
}

impl Deframer {
    /// Creates a deframer at the start of a stream, for payloads of at most `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: usize) -> Self {
        Self { state: DeframerState::Between, max_payload }
    }

    /// Returns the next frame of the stream, which continues with `input`, and cuts the used bytes off the front of
    /// `input`.
    ///
    /// `Ok(None)` means that all of `input` is used and the next frame is not complete. Call it until then for each
    /// piece of input: that call also frees the buffer of the last frame.
    ///
    /// # Errors
    ///
    /// The first wrong byte breaks the stream, even within an unfinished frame. Every later call returns the same
    /// error.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'s>>, Malformed> {
        let joined = match self.cut(input)? {
            None => return Ok(None),
            Some(Cut::Whole(frame)) => return Ok(Some(frame)),
            Some(Cut::Joined(joined)) => joined,
        };
        self.state = DeframerState::Lent(Box::new(joined));
        match &self.state {
            DeframerState::Lent(joined) => Ok(Some(joined.frame())),
            DeframerState::Between | DeframerState::Within(_) | DeframerState::Broken(_) => Ok(None),
        }
    }

    /// As [`Deframer::next`], but a frame that arrived in pieces is returned by value.
    ///
    /// # Errors
    ///
    /// As [`Deframer::next`].
    pub fn cut<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Cut<'i>>, Malformed> {
        let cut = match &mut self.state {
            DeframerState::Between => self.start(input),
            DeframerState::Lent(_) => {
                self.state = DeframerState::Between;
                self.start(input)
            }
            DeframerState::Within(unfinished) => {
                let joined = unfinished.resume(input, self.max_payload);
                if let Ok(Some(_)) = joined {
                    self.state = DeframerState::Between;
                }
                joined.map(|joined| joined.map(Cut::Joined))
            }
            DeframerState::Broken(why) => return Err(**why),
        };
        if let Err(why) = cut {
            self.state = DeframerState::Broken(Box::new(why));
        }
        cut
    }

    /// Fast path for the most common frame: untagged, short, and whole in the input with nothing before it. On `None`,
    /// ask [`Deframer::cut`].
    ///
    /// A result this small stays in registers; this accounts for a third of the time of a cut.
    #[inline]
    pub(crate) fn cut_usual<'i>(&mut self, input: &mut &'i [u8]) -> Option<Frame<'i>> {
        if !matches!(self.state, DeframerState::Between) {
            return None;
        }
        let head = usual_head(input, self.max_payload)?;
        let (frame, rest) = head.split_frame(input)?;
        if frame.payload.first().is_some_and(|first| *first != b' ') {
            return None;
        }
        *input = rest;
        Some(frame)
    }

    /// The unfinished frame, if any, so that a caller can limit the time it may take to arrive.
    #[must_use]
    pub fn partial(&self) -> Option<Partial> {
        let DeframerState::Within(unfinished) = &self.state else { return None };
        let announced = unfinished.head.map_or(0, |head| head.length);
        let allocated = unfinished.chunks.iter().map(Vec::capacity).sum();
        Some(Partial { announced, buffered: unfinished.held, allocated })
    }

    /// Between frames: takes a whole frame out of `input`, or keeps the beginning of one.
    fn start<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Cut<'i>>, Malformed> {
        *input = skip_newlines(input);
        let head = parse_head(input, self.max_payload)?;
        if let Some((frame, rest)) = head.and_then(|head| head.split_frame(input)) {
            *input = rest;
            return Ok(Some(Cut::Whole(frame)));
        }
        if !input.is_empty() {
            let mut unfinished = Box::new(UnfinishedFrame { head, chunks: Vec::new(), held: 0 });
            unfinished.take(input, head.map_or(MAX_HEAD, |head| head.frame_len()));
            self.state = DeframerState::Within(unfinished);
        }
        Ok(None)
    }
}

impl UnfinishedFrame {
    /// Takes the missing bytes of the frame, or all of `input`. Returns the frame once it is complete.
    fn resume(&mut self, input: &mut &[u8], max_payload: usize) -> Result<Option<Joined>, Malformed> {
        if self.head.is_none() {
            self.head = self.finish_head(input, max_payload)?;
        }
        let Some(head) = self.head else { return Ok(None) };
        let begins = self.held == head.head_len && head.length > 0;
        if begins && input.first().is_some_and(|first| *first != b' ') {
            return Err(Malformed::Space);
        }
        if let Some((last, rest)) = input.split_at_checked(head.frame_len() - self.held) {
            *input = rest;
            return Ok(Some(self.join(&head, last)));
        }
        self.take(input, head.frame_len());
        Ok(None)
    }

    /// Searches for the end of a head that began in earlier input. Takes the head's bytes, or all if it is not
    /// complete.
    fn finish_head(&mut self, input: &mut &[u8], max_payload: usize) -> Result<Option<Head>, Malformed> {
        let before = self.held;
        let all = *input;
        self.take(input, MAX_HEAD);
        let Some(front) = self.chunks.first_mut() else { return Ok(None) };
        let head = parse_head(front, max_payload)?;
        if let Some(head) = head {
            front.truncate(head.head_len);
            self.held = front.len();
            *input = all.get(head.head_len.saturating_sub(before)..).unwrap_or_default();
        }
        Ok(head)
    }

    /// Moves bytes from `input` until the chunks hold `total` bytes or `input` is empty.
    fn take(&mut self, input: &mut &[u8], total: usize) {
        let lacking = total.saturating_sub(self.held);
        let (taken, rest) = input.split_at(lacking.min(input.len()));
        *input = rest;
        let room = self.chunks.last().map_or(0, |last| last.capacity() - last.len());
        let (into_last, more) = taken.split_at(room.min(taken.len()));
        if let Some(last) = self.chunks.last_mut() {
            last.extend_from_slice(into_last);
        }
        self.held += into_last.len();
        if !more.is_empty() {
            let as_much_again = (self.held + more.len()).min(MAX_CHUNK).max(more.len());
            let room = as_much_again.min(total - self.held).max(if self.held == 0 { MAX_HEAD } else { 0 });
            let mut chunk = Vec::with_capacity(room);
            chunk.extend_from_slice(more);
            self.chunks.push(chunk);
            self.held += more.len();
        }
    }

    /// Joins the frame, whose last part is `last`. Each chunk is freed as soon as it is copied.
    fn join(&mut self, head: &Head, last: &[u8]) -> Joined {
        let mut chunks = std::mem::take(&mut self.chunks).into_iter();
        let mut whole = chunks.next().unwrap_or_default();
        if whole.capacity() < head.frame_len() {
            let front = std::mem::replace(&mut whole, Vec::with_capacity(head.frame_len()));
            whole.extend_from_slice(&front);
        }
        chunks.for_each(|chunk| whole.extend_from_slice(&chunk));
        whole.extend_from_slice(last);
        let mut payload = Bytes::from(whole);
        payload.advance(head.head_len);
        Joined { id: head.id, verb: head.verb, payload }
    }
}

/// Omits the buffered bytes, which may hold a token.
impl fmt::Debug for Deframer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deframer")
            .field("partial", &self.partial())
            .field("broken", &if let DeframerState::Broken(why) = &self.state { Some(why) } else { None })
            .field("max_payload", &self.max_payload)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Verb;

    #[test]
    fn a_whole_frame_is_borrowed_from_the_input_and_nothing_is_kept() {
        let bytes = b"PNG 0006 hello";
        let mut input = &bytes[..];
        let mut deframer = Deframer::new(9_999);
        let frame = deframer.next(&mut input).unwrap().unwrap();
        assert_eq!(frame.payload.as_ptr(), bytes[8..].as_ptr());
        assert!(matches!(deframer.state, DeframerState::Between));
        assert_eq!(deframer.partial(), None);
    }

    /// Bytes allocated for an unfinished frame.
    fn capacity(deframer: &Deframer) -> usize {
        match &deframer.state {
            DeframerState::Within(unfinished) => unfinished.chunks.iter().map(Vec::capacity).sum(),
            DeframerState::Lent(joined) => joined.payload.len(),
            DeframerState::Between | DeframerState::Broken(_) => 0,
        }
    }

    #[test]
    fn the_fast_path_takes_usual_frames_and_leaves_all_others_alone() {
        let mut deframer = Deframer::new(20);
        let mut input = &b"PNG 0006 helloBYE 0000"[..];
        assert_eq!(deframer.cut_usual(&mut input).unwrap().payload, b" hello");
        assert_eq!(deframer.cut_usual(&mut input).unwrap().verb, Verb::Bye);
        for other in [
            &b""[..],
            b"\nBYE 0000",
            b"@1 BYE 0000",
            b"BYE 000",
            b"BYE 0001",
            b"BYE 0001x",
            b"bye 0000",
            b"BYE 0021",
        ] {
            let mut input = other;
            assert_eq!(deframer.cut_usual(&mut input), None);
            assert_eq!(input, other);
        }
        deframer.next(&mut &b"BY"[..]).unwrap();
        assert_eq!(deframer.cut_usual(&mut &b"BYE 0000"[..]), None, "another has begun");
    }

    #[test]
    fn only_what_completes_the_frame_is_taken_from_the_input() {
        let mut deframer = Deframer::new(9_999);
        assert_eq!(deframer.next(&mut &b"BY"[..]), Ok(None));
        let mut input = &b"E 0000LST 0000\nPNG 00"[..];
        assert_eq!(deframer.next(&mut input).map(|frame| frame.map(|frame| frame.verb)), Ok(Some(Verb::Bye)));
        assert_eq!(input, b"LST 0000\nPNG 00");
        assert_eq!(deframer.next(&mut input).map(|frame| frame.map(|frame| frame.verb)), Ok(Some(Verb::Lst)));
        assert_eq!(deframer.next(&mut input), Ok(None));
        assert_eq!(input, b"");
    }

    #[test]
    fn an_unfinished_frame_reports_its_announced_and_arrived_bytes() {
        let mut deframer = Deframer::new(9_999);
        let mut seen = Vec::new();
        for piece in [&b"\r\n"[..], b"@7 P", b"NG 000", b"6", b" hel", b"lo", b"\n"] {
            let mut input = piece;
            while deframer.next(&mut input).unwrap().is_some() {
                assert_eq!(deframer.partial(), None, "the frame was handed out");
            }
            seen.push(deframer.partial().map(|partial| (partial.announced, partial.buffered)));
        }
        assert_eq!(seen, [None, Some((0, 4)), Some((0, 10)), Some((6, 11)), Some((6, 15)), None, None]);
    }

    #[test]
    fn an_announced_length_alone_reserves_no_memory() {
        let mut deframer = Deframer::new(1 << 30);
        assert_eq!(deframer.next(&mut &b"SND +009 999999999 "[..]), Ok(None));
        assert!(capacity(&deframer) <= 2 * MAX_HEAD);
        let piece = [b'x'; 1_000];
        for pieces in 1..100 {
            assert_eq!(deframer.next(&mut &piece[..]), Ok(None));
            assert!(capacity(&deframer) <= 2 * (pieces * piece.len() + MAX_HEAD));
        }
    }

    #[test]
    fn the_buffer_never_exceeds_its_frame_and_is_gone_when_idle() {
        let mut bytes = Vec::new();
        crate::wire::encode_args(None, Verb::Snd, &[b"a", &[b'x'; 100_000]], &mut bytes);
        let mut deframer = Deframer::new(100_003);
        for piece in bytes.chunks(997) {
            let mut input = piece;
            let done = deframer.next(&mut input).unwrap().is_some();
            assert_eq!(done, deframer.partial().is_none());
            assert!(capacity(&deframer) <= bytes.len());
        }
        assert_eq!(deframer.next(&mut &b""[..]), Ok(None));
        assert_eq!(capacity(&deframer), 0);
    }

    #[test]
    fn a_broken_stream_stays_broken_for_the_same_reason() {
        let mut deframer = Deframer::new(9_999);
        assert_eq!(deframer.next(&mut &b"REG 00"[..]), Ok(None));
        for later in [&b"x"[..], b"", b"BYE 0000"] {
            assert_eq!(deframer.next(&mut &later[..]), Err(Malformed::Length));
        }
        assert_eq!(deframer.partial(), None);
    }

    #[test]
    fn a_payload_without_its_space_is_refused_once_its_first_byte_arrives() {
        let mut deframer = Deframer::new(9_999);
        assert_eq!(deframer.next(&mut &b"REG 0005"[..]), Ok(None));
        assert_eq!(deframer.next(&mut &b"X"[..]), Err(Malformed::Space));
    }

    #[test]
    fn debug_does_not_show_what_is_buffered() {
        let mut deframer = Deframer::new(9_999);
        let unbuffered = format!("{deframer:?}");
        assert_eq!(unbuffered, "Deframer { partial: None, broken: None, max_payload: 9999, .. }");
        assert_eq!(deframer.next(&mut &b"REG 0030 TEST01 "[..]), Ok(None));
        let partial = format!("Partial {{ announced: 30, buffered: 16, allocated: {MAX_HEAD} }}");
        let buffered = format!("Deframer {{ partial: Some({partial})");
        assert!(format!("{deframer:?}").starts_with(&buffered));
    }
}
