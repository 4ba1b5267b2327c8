//! Turns the bytes of a stream into batches, without the lock.
//!
//! [`StreamIntake`] is the half of the server that belongs to one connection. It cuts the stream into frames and
//! applies the simulated loss, which on a stream drops tagged requests only. On a line listener it passes the bytes
//! on: a timer may finish a line, and timers need the lock. Batches are executed in `stream`.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::lines::LineInput;
use crate::link::Verdicts;
use crate::service::Decoder;
use crate::wire::{Cut, Deframer, Frame, Id, Joined, Malformed, Partial, Verb};

/// Bytes per read on a line listener. Line clients may say so little per second that more would only wait here instead
/// of in the sender's socket.
const LINE_MAX_READ: usize = 1 << 10;

/// Bytes per read before registration, and with a rate limit: what is read too early waits in memory here.
const SMALL_MAX_READ: usize = 4 << 10;

/// The bytes of a frame without payload: verb, space, four digits.
const MIN_FRAME: usize = 8;

/// The half of the server that belongs to one stream connection.
#[derive(Debug)]
pub struct StreamIntake {
    /// `None` on a line listener.
    deframer: Option<Deframer>,
    /// Bytes per read now, and after a whole REG has come.
    max_read: usize,
    max_read_after_reg: usize,
    /// The simulated loss, where there is one.
    losing: Option<Box<Losing>>,
}

/// The simulated loss on a connection.
#[derive(Debug)]
struct Losing {
    verdicts: Verdicts,
    flow: u64,
    /// The number of the next request.
    index: u64,
}

impl Losing {
    fn loses_next(&mut self, now: Instant) -> bool {
        let index = self.index;
        self.index += 1;
        self.verdicts.lost(now, self.flow, index)
    }
}

/// One read of a stream, cut up: whole frames, and what is known of an unfinished one. It borrows the bytes; only what
/// has to wait is copied.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// On a line listener: all bytes of the read.
    pub(super) line_input: LineInput,
    /// The first frame, if it began in an earlier read.
    joined: Option<Joined>,
    /// The bytes of the other frames.
    bytes: Cow<'a, [u8]>,
    frames: Vec<Span>,
    /// Number of executed `frames`.
    taken: usize,
    /// Whether it was searched for acknowledgements before its execution.
    pub(super) scanned: bool,
    pub(super) broken: Option<Malformed>,
    pub(super) seen: u64,
    pub(super) dropped: u64,
    /// Whether it had a PNG, dropped or not.
    pub(super) pinged: bool,
    /// The unfinished frame; `None` between frames.
    pub(super) partial: Option<Partial>,
}

#[derive(Debug)]
struct Span {
    id: Option<Id>,
    verb: Verb,
    payload: Range<usize>,
}

impl StreamIntake {
    /// Creates the half of a connection to a frame listener. `is_limited` says that the listener has a rate limit;
    /// `loss` is the simulated loss and the flow's number.
    pub(super) fn new(max_message: usize, is_limited: bool, loss: Option<(Verdicts, u64)>) -> Self {
        let max_read_after_reg = if is_limited { SMALL_MAX_READ } else { usize::MAX };
        let (deframer, max_read) = (Some(Deframer::new(max_message)), SMALL_MAX_READ);
        let losing = loss.map(|(verdicts, flow)| Box::new(Losing { verdicts, flow, index: 0 }));
        Self { deframer, max_read, max_read_after_reg, losing }
    }

    /// Creates the half of a connection to a line listener.
    pub(super) fn of_lines() -> Self {
        let max_read = LINE_MAX_READ;
        Self { deframer: None, max_read, max_read_after_reg: max_read, losing: None }
    }
}

#[doc(hidden)]
impl Decoder for StreamIntake {
    type Batch<'a> = Batch<'a>;

    fn max_read(&self) -> usize {
        self.max_read
    }

    fn received<'a>(&'a mut self, now: Instant, bytes: &'a [u8]) -> Batch<'a> {
        let mut batch = Batch::default();
        let Some(deframer) = &mut self.deframer else {
            batch.line_input = LineInput::new(bytes);
            return batch;
        };
        let mut rest = bytes;
        loop {
            while let Some(frame) = deframer.cut_usual(&mut rest) {
                if frame.verb == Verb::Reg {
                    self.max_read = self.max_read_after_reg;
                }
                batch.push_usual(&frame, bytes.len(), rest.len());
            }
            let cut = match deframer.cut(&mut rest) {
                Ok(None) => break,
                Ok(Some(cut)) => cut,
                Err(malformed) => {
                    batch.broken = Some(malformed);
                    break;
                }
            };
            let (id, verb) = cut.head();
            batch.pinged |= verb == Verb::Png;
            if verb == Verb::Reg {
                self.max_read = self.max_read_after_reg;
            }
            if id.is_some() && verb.is_request() {
                batch.seen += 1;
                if self.losing.as_mut().is_some_and(|losing| losing.loses_next(now)) {
                    batch.dropped += 1;
                    continue;
                }
            }
            batch.push(cut, bytes.len() - rest.len());
        }
        batch.partial = deframer.partial();
        batch.bytes = Cow::Borrowed(bytes);
        batch
    }

    fn abandon(&mut self) {
        if let Some(deframer) = &mut self.deframer {
            *deframer = Deframer::new(0);
        }
    }
}

/// Makes a batch of a finished line that waits.
impl From<LineInput> for Batch<'_> {
    fn from(line_input: LineInput) -> Self {
        Self { line_input, ..Self::default() }
    }
}

impl Batch<'_> {
    /// Whether at least one whole frame came, dropped or not.
    pub(super) fn has_frames(&self) -> bool {
        self.seen > 0 || self.joined.is_some() || !self.frames.is_empty()
    }

    /// Adds an untagged frame of a read of `length` bytes, of which `left` bytes follow it.
    fn push_usual(&mut self, frame: &Frame<'_>, length: usize, left: usize) {
        self.pinged |= frame.verb == Verb::Png;
        if self.frames.is_empty() {
            // The frames after it are likely to have its size.
            self.frames.reserve(1 + left / (MIN_FRAME + frame.payload.len()));
        }
        let end = length - left;
        self.frames.push(Span { id: None, verb: frame.verb, payload: end - frame.payload.len()..end });
    }

    /// Adds a frame that ends at byte `end` of the read.
    fn push(&mut self, cut: Cut<'_>, end: usize) {
        match cut {
            Cut::Whole(Frame { id, verb, payload }) => {
                self.frames.push(Span { id, verb, payload: end - payload.len()..end });
            }
            Cut::Joined(joined) => self.joined = Some(joined),
        }
    }

    /// Returns the next frame without taking it.
    pub(super) fn peek_frame(&self) -> Option<Frame<'_>> {
        self.joined.as_ref().map(Joined::frame).or_else(|| Some(self.frame(self.frames.get(self.taken)?)))
    }

    /// Returns the payload of the next frame in shared form, if it has one.
    pub(super) fn peek_payload(&self) -> Option<&Bytes> {
        self.joined.as_ref().map(|joined| &joined.payload)
    }

    fn frame(&self, span: &Span) -> Frame<'_> {
        let payload = self.bytes.get(span.payload.clone()).unwrap_or_default();
        Frame { id: span.id, verb: span.verb, payload }
    }

    /// Returns about how many bytes of memory it takes.
    pub(super) fn size(&self) -> usize {
        let joined = self.joined.as_ref().map_or(0, |joined| joined.payload.len());
        size_of::<Self>()
            + self.line_input.size()
            + joined
            + self.bytes.len()
            + self.frames.len() * size_of::<Span>()
    }

    /// Returns the frames that were not taken.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let rest = self.frames.get(self.taken..).unwrap_or_default();
        self.joined.iter().map(Joined::frame).chain(rest.iter().map(|span| self.frame(span)))
    }

    /// Whether nothing is left to execute.
    pub(super) fn is_done(&self) -> bool {
        self.line_input.is_used_up()
            && self.joined.is_none()
            && self.taken == self.frames.len()
            && self.broken.is_none()
    }

    /// Returns the payloads, without the leading space, of the untagged SNDs that come next.
    pub(super) fn next_messages(&self) -> impl Iterator<Item = &[u8]> {
        let spans = self.frames.get(self.taken..).filter(|_| self.joined.is_none()).unwrap_or_default();
        let messages = spans.iter().take_while(|span| span.id.is_none() && span.verb == Verb::Snd);
        messages.map(|span| {
            self.bytes.get(span.payload.clone()).and_then(|payload| payload.get(1..)).unwrap_or_default()
        })
    }

    /// Takes the next `count` of those messages.
    pub(super) fn take_messages(&mut self, count: usize) {
        self.taken += count;
    }

    /// Takes the next frame.
    pub(super) fn take_frame(&mut self) {
        if self.joined.take().is_none() {
            self.taken += 1;
        }
    }

    /// Copies the rest, to be kept beyond the read.
    pub(super) fn into_owned(mut self) -> Batch<'static> {
        self.frames.drain(..self.taken.min(self.frames.len()));
        let ends = self.frames.first().zip(self.frames.last());
        let left = ends.map_or(0..0, |(first, last)| first.payload.start..last.payload.end);
        for span in &mut self.frames {
            span.payload = span.payload.start - left.start..span.payload.end - left.start;
        }
        self.frames.shrink_to_fit();
        let bytes = Cow::Owned(self.bytes.get(left).unwrap_or_default().to_vec());
        let Batch { line_input, joined, frames, scanned, broken, seen, dropped, pinged, partial, .. } = self;
        Batch { line_input, joined, bytes, frames, taken: 0, scanned, broken, seen, dropped, pinged, partial }
    }
}
