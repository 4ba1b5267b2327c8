//! A stream of bytes cut into frames, resumable at any byte.

use std::fmt;

use super::{Frame, Head, MAX_HEAD, Malformed, parse_head, skip_newlines};

/// Bytes of buffer that may stay allocated between frames; anything more is given back, since most connections idle.
const KEEP_CAPACITY: usize = 64;

/// How many times what has arrived the buffer may hold. Announcing a length costs a peer nothing, so it alone must
/// not cost memory here; from the half on, the rest of the frame is allocated exactly.
const GROWTH: usize = 2;

/// Cuts one direction of one stream into [`Frame`]s.
///
/// A frame that lies whole in what was read is borrowed from there. Only the front of an unfinished one is kept: at
/// most [`MAX_HEAD`] and `max_payload` bytes. Between frames an idle stream holds an allocation of 64 bytes at most.
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
    /// The front of the unfinished frame, or the whole one that the last call handed out.
    buf: Vec<u8>,
    /// The head at the front of `buf`, once it is complete.
    head: Option<Head>,
    /// Whether `buf` has been handed out, and so is to be cleared.
    handed_out: bool,
    /// What broke the stream.
    broken: Option<Malformed>,
    max_payload: usize,
}

/// How much of an unfinished frame there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Bytes in its payload, once the head is complete; 0 before.
    pub announced: usize,
    /// Bytes of it that have arrived, its head included.
    pub buffered: usize,
}

impl Deframer {
    /// A deframer at the start of a stream, taking payloads of at most `max_payload` bytes.
    #[must_use]
    pub fn new(max_payload: usize) -> Self {
        Self { buf: Vec::new(), head: None, handed_out: false, broken: None, max_payload }
    }

    /// The next frame of the stream, which goes on with `input`; what is used of `input` is cut off its front.
    ///
    /// `Ok(None)` means that all of `input` is used and the next frame is not complete. Call it until then for each
    /// piece read: that call also frees what the last frame was kept in.
    ///
    /// # Errors
    ///
    /// The first wrong byte breaks the stream, even within an unfinished frame; every later call says the same.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'s>>, Malformed> {
        self.free_handed_out();
        if let Some(why) = self.broken {
            return Err(why);
        }
        if self.buf.is_empty() {
            return self.start(input).map_err(|why| self.broken_by(why));
        }
        match self.resume(input) {
            Ok(()) => Ok(self.hand_out()),
            Err(why) => Err(self.broken_by(why)),
        }
    }

    /// The unfinished frame, if there is one, so that a caller can bound how long it may take to arrive.
    #[must_use]
    pub fn partial(&self) -> Option<Partial> {
        let announced = self.head.map_or(0, |head| head.length);
        let unfinished = !self.handed_out && !self.buf.is_empty();
        unfinished.then_some(Partial { announced, buffered: self.buf.len() })
    }

    /// Between frames: takes a whole frame out of `input`, or keeps the front of one.
    fn start<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'i>>, Malformed> {
        *input = skip_newlines(input);
        let head = parse_head(input, self.max_payload)?;
        if let Some((frame, rest)) = head.and_then(|head| head.split_frame(input)) {
            *input = rest;
            return Ok(Some(frame));
        }
        self.head = head;
        self.take(input, head.map_or(MAX_HEAD, |head| head.frame_len()));
        Ok(None)
    }

    /// Within a frame: takes what it still lacks, or all there is.
    fn resume(&mut self, input: &mut &[u8]) -> Result<(), Malformed> {
        if self.head.is_none() {
            self.head = self.finish_head(input)?;
        }
        if let Some(head) = self.head {
            self.take(input, head.frame_len());
            head.check_space(&self.buf)?;
        }
        Ok(())
    }

    /// Looks for the end of a head that began in the buffer. Only the head's own bytes are taken then, all otherwise.
    fn finish_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Malformed> {
        let before = self.buf.len();
        let all = *input;
        self.take(input, MAX_HEAD);
        let head = parse_head(&self.buf, self.max_payload)?;
        if let Some(head) = head {
            self.buf.truncate(head.head_len);
            *input = all.get(head.head_len.saturating_sub(before)..).unwrap_or_default();
        }
        Ok(head)
    }

    /// Moves bytes from `input` until the buffer holds `total` or there are no more.
    fn take(&mut self, input: &mut &[u8], total: usize) {
        let lacking = total.saturating_sub(self.buf.len());
        let (taken, rest) = input.split_at(lacking.min(input.len()));
        let arrived = self.buf.len() + taken.len();
        if arrived > self.buf.capacity() {
            let room = arrived.saturating_mul(GROWTH).min(total);
            self.buf.reserve_exact(room - self.buf.len());
        }
        self.buf.extend_from_slice(taken);
        *input = rest;
    }

    /// The frame in the buffer, if it is complete.
    fn hand_out(&mut self) -> Option<Frame<'_>> {
        let (frame, _) = self.head?.split_frame(&self.buf)?;
        self.handed_out = true;
        Some(frame)
    }

    fn free_handed_out(&mut self) {
        if self.handed_out {
            self.handed_out = false;
            self.clear();
        }
    }

    fn broken_by(&mut self, why: Malformed) -> Malformed {
        self.clear();
        self.broken = Some(why);
        why
    }

    fn clear(&mut self) {
        self.head = None;
        self.buf.clear();
        if self.buf.capacity() > KEEP_CAPACITY {
            self.buf = Vec::new();
        }
    }
}

/// Without the buffered bytes, which may hold a token.
impl fmt::Debug for Deframer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deframer")
            .field("partial", &self.partial())
            .field("broken", &self.broken)
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
        assert_eq!(deframer.buf.capacity(), 0);
        assert_eq!(deframer.partial(), None);
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
    fn an_unfinished_frame_says_how_much_is_announced_and_here() {
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
        assert!(deframer.buf.capacity() <= 2 * MAX_HEAD);
        let piece = [b'x'; 1_000];
        for pieces in 1..100 {
            assert_eq!(deframer.next(&mut &piece[..]), Ok(None));
            assert!(deframer.buf.capacity() <= GROWTH * (pieces * piece.len() + MAX_HEAD));
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
            assert_eq!(done, deframer.buf.len() == bytes.len());
            assert!(deframer.buf.capacity() <= bytes.len());
        }
        assert_eq!(deframer.next(&mut &b""[..]), Ok(None));
        assert_eq!(deframer.buf.capacity(), 0);
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
    fn a_payload_without_its_space_is_refused_once_its_first_byte_is_here() {
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
        let buffered = "Deframer { partial: Some(Partial { announced: 30, buffered: 16 })";
        assert!(format!("{deframer:?}").starts_with(buffered));
    }
}
