//! Streams, without the lock: bytes to batches.
//!
//! [`StreamIntake`] is the half of the server that belongs to one connection: it cuts frames out of the stream and
//! plays the simulated loss, which on a stream hits tagged requests only. At a door for people it passes on what comes: an
//! unfinished line may become a finished one by the clock, which is the server's affair.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::lines::Said;
use crate::link::Verdicts;
use crate::service::Decoder;
use crate::wire::{Cut, Deframer, Frame, Id, Joined, Malformed, Partial, Verb};

/// What is read at once at a door for people, in bytes: they may say so little in a second that most of more would only
/// wait here, and not with who sent it.
const PEOPLES_APPETITE: usize = 1 << 10;

/// The same before the registration, and where there is a rate: what is read of somebody who may not be executed waits
/// here.
const SMALL_APPETITE: usize = 4 << 10;

/// The bytes of a frame without payload: verb, space, four digits.
const MIN_FRAME: usize = 8;

/// The half of the server that belongs to one stream connection.
#[derive(Debug)]
pub struct StreamIntake {
    /// None at a door for people.
    deframer: Option<Deframer>,
    /// What is read at once, and what will be once a whole REG has come.
    appetite: usize,
    appetite_after_reg: usize,
    /// Where requests may be lost.
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

/// What a piece of a stream became: whole frames, and what is left of one. It borrows the piece: only what has to wait is
/// copied.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// At a door for people: all that came.
    pub(super) said: Said,
    /// The first frame, if it began in an earlier piece.
    joined: Option<Joined>,
    /// What the others lie in.
    bytes: Cow<'a, [u8]>,
    frames: Vec<Span>,
    /// How many of `frames` have been taken.
    taken: usize,
    /// Whether it was looked through for acknowledgements before its turn.
    pub(super) scanned: bool,
    pub(super) broken: Option<Malformed>,
    pub(super) seen: u64,
    pub(super) dropped: u64,
    /// Whether a PNG came, lost or not.
    pub(super) pinged: bool,
    /// The frame that has begun and is not whole; `None` between frames.
    pub(super) partial: Option<Partial>,
}

#[derive(Debug)]
struct Span {
    id: Option<Id>,
    verb: Verb,
    payload: Range<usize>,
}

impl StreamIntake {
    /// At a door for frames; `is_limited` if it has a rate. `loss` is what is simulated, and the flow that it is.
    pub(super) fn new(max_message: usize, is_limited: bool, loss: Option<(Verdicts, u64)>) -> Self {
        let appetite_after_reg = if is_limited { SMALL_APPETITE } else { usize::MAX };
        let (deframer, appetite) = (Some(Deframer::new(max_message)), SMALL_APPETITE);
        let losing = loss.map(|(verdicts, flow)| Box::new(Losing { verdicts, flow, index: 0 }));
        Self { deframer, appetite, appetite_after_reg, losing }
    }

    /// At a door for people.
    pub(super) fn of_lines() -> Self {
        let appetite = PEOPLES_APPETITE;
        Self { deframer: None, appetite, appetite_after_reg: appetite, losing: None }
    }
}

impl Decoder for StreamIntake {
    type Batch<'a> = Batch<'a>;

    fn max_read(&self) -> usize {
        self.appetite
    }

    fn received<'a>(&'a mut self, now: Instant, bytes: &'a [u8]) -> Batch<'a> {
        let mut batch = Batch::default();
        let Some(deframer) = &mut self.deframer else {
            batch.said = Said::new(bytes);
            return batch;
        };
        let mut rest = bytes;
        loop {
            while let Some(frame) = deframer.cut_usual(&mut rest) {
                if frame.verb == Verb::Reg {
                    self.appetite = self.appetite_after_reg;
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
                self.appetite = self.appetite_after_reg;
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

/// A finished line that waits for its turn.
impl From<Said> for Batch<'_> {
    fn from(said: Said) -> Self {
        Self { said, ..Self::default() }
    }
}

impl Batch<'_> {
    /// Whether at least one whole frame came, lost or not.
    pub(super) fn has_frames(&self) -> bool {
        self.seen > 0 || self.joined.is_some() || !self.frames.is_empty()
    }

    /// Adds an untagged frame. Behind it, so much is left of a piece of that length.
    fn push_usual(&mut self, frame: &Frame<'_>, length: usize, left: usize) {
        self.pinged |= frame.verb == Verb::Png;
        if self.frames.is_empty() {
            // Those behind it are likely to be like it.
            self.frames.reserve(1 + left / (MIN_FRAME + frame.payload.len()));
        }
        let end = length - left;
        self.frames.push(Span { id: None, verb: frame.verb, payload: end - frame.payload.len()..end });
    }

    /// Adds a frame that ends at this place of the piece.
    fn push(&mut self, cut: Cut<'_>, end: usize) {
        match cut {
            Cut::Whole(Frame { id, verb, payload }) => {
                self.frames.push(Span { id, verb, payload: end - payload.len()..end });
            }
            Cut::Joined(joined) => self.joined = Some(joined),
        }
    }

    /// The next frame, which stays where it is.
    pub(super) fn peek_frame(&self) -> Option<Frame<'_>> {
        self.joined.as_ref().map(Joined::frame).or_else(|| Some(self.frame(self.frames.get(self.taken)?)))
    }

    /// The payload of the next frame, if it need not be copied to be kept.
    pub(super) fn peek_payload(&self) -> Option<&Bytes> {
        self.joined.as_ref().map(|joined| &joined.payload)
    }

    fn frame(&self, span: &Span) -> Frame<'_> {
        let payload = self.bytes.get(span.payload.clone()).unwrap_or_default();
        Frame { id: span.id, verb: span.verb, payload }
    }

    /// About how many bytes of memory it holds.
    pub(super) fn size(&self) -> usize {
        let joined = self.joined.as_ref().map_or(0, |joined| joined.payload.len());
        size_of::<Self>()
            + self.said.size()
            + joined
            + self.bytes.len()
            + self.frames.len() * size_of::<Span>()
    }

    /// The frames that were not taken.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let rest = self.frames.get(self.taken..).unwrap_or_default();
        self.joined.iter().map(Joined::frame).chain(rest.iter().map(|span| self.frame(span)))
    }

    /// Whether nothing of it is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.said.is_used_up()
            && self.joined.is_none()
            && self.taken == self.frames.len()
            && self.broken.is_none()
    }

    /// What follows SND and its space in the untagged messages that come next.
    pub(super) fn next_messages(&self) -> impl Iterator<Item = &[u8]> {
        let spans = self.frames.get(self.taken..).filter(|_| self.joined.is_none()).unwrap_or_default();
        let messages = spans.iter().take_while(|span| span.id.is_none() && span.verb == Verb::Snd);
        messages.map(|span| {
            self.bytes.get(span.payload.clone()).and_then(|payload| payload.get(1..)).unwrap_or_default()
        })
    }

    /// So many of those are done with.
    pub(super) fn take_messages(&mut self, count: usize) {
        self.taken += count;
    }

    /// The next frame is done with.
    pub(super) fn take_frame(&mut self) {
        if self.joined.take().is_none() {
            self.taken += 1;
        }
    }

    /// What is left of it, to be kept for longer than what was read.
    pub(super) fn into_owned(mut self) -> Batch<'static> {
        self.frames.drain(..self.taken.min(self.frames.len()));
        let ends = self.frames.first().zip(self.frames.last());
        let left = ends.map_or(0..0, |(first, last)| first.payload.start..last.payload.end);
        for span in &mut self.frames {
            span.payload = span.payload.start - left.start..span.payload.end - left.start;
        }
        self.frames.shrink_to_fit();
        let bytes = Cow::Owned(self.bytes.get(left).unwrap_or_default().to_vec());
        let Batch { said, joined, frames, scanned, broken, seen, dropped, pinged, partial, .. } = self;
        Batch { said, joined, bytes, frames, taken: 0, scanned, broken, seen, dropped, pinged, partial }
    }
}
