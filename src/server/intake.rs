//! Streams, without the lock: bytes to batches.
//!
//! [`StreamIntake`] is the half of the server that belongs to one connection: it cuts frames out of the stream and
//! plays the simulated loss, which on a stream hits tagged requests only.

use std::ops::Range;
use std::time::Instant;

use crate::link::Verdicts;
use crate::service::Intake;
use crate::wire::{Deframer, Frame, Id, Malformed, Partial, Verb};

/// The half of the server that belongs to one stream connection.
#[derive(Debug)]
pub struct StreamIntake {
    deframer: Deframer,
    loss: Verdicts,
    flow: u64,
    index: u64,
}

/// What a piece of a stream became: whole frames, and what is left of one.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Span>,
    /// How many of the frames have been taken.
    taken: usize,
    pub(super) broken: Option<Malformed>,
    pub(super) seen: u64,
    pub(super) dropped: u64,
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
    pub(super) fn new(max_message: usize, loss: Verdicts, flow: u64) -> Self {
        Self { deframer: Deframer::new(max_message), loss, flow, index: 0 }
    }
}

impl Intake for StreamIntake {
    type Batch = Batch;

    fn received(&mut self, now: Instant, mut bytes: &[u8]) -> Batch {
        let mut batch = Batch::new();
        loop {
            match self.deframer.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(frame)) if frame.id.is_some() && frame.verb.is_request() => {
                    batch.seen += 1;
                    let lost = self.loss.lost(now, self.flow, self.index);
                    self.index += 1;
                    if lost { batch.dropped += 1 } else { batch.push(&frame) }
                }
                Ok(Some(frame)) => batch.push(&frame),
                Err(malformed) => {
                    batch.broken = Some(malformed);
                    break;
                }
            }
        }
        batch.partial = self.deframer.partial();
        batch
    }
}

impl Batch {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            frames: Vec::new(),
            taken: 0,
            broken: None,
            seen: 0,
            dropped: 0,
            partial: None,
        }
    }

    /// Whether at least one whole frame came, lost or not.
    pub(super) fn has_frames(&self) -> bool {
        self.seen > 0 || !self.frames.is_empty()
    }

    fn push(&mut self, frame: &Frame<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame.payload);
        self.frames.push(Span { id: frame.id, verb: frame.verb, payload: start..self.bytes.len() });
    }

    /// The next frame, left where it is.
    pub(super) fn peek_frame(&self) -> Option<Frame<'_>> {
        self.frames.get(self.taken).map(|span| self.frame(span))
    }

    /// Takes the next frame.
    pub(super) fn next_frame(&mut self) -> Option<Frame<'_>> {
        let span = self.frames.get(self.taken)?;
        self.taken += 1;
        Some(self.frame(span))
    }

    fn frame(&self, span: &Span) -> Frame<'_> {
        let payload = self.bytes.get(span.payload.clone()).unwrap_or_default();
        Frame { id: span.id, verb: span.verb, payload }
    }

    /// About how many bytes of memory it holds.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.frames.len() * size_of::<Span>()
    }

    /// The frames that were not taken.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.get(self.taken..).unwrap_or_default().iter().map(|span| self.frame(span))
    }
}
