//! Streams, without the lock: bytes to batches.
//!
//! [`StreamIntake`] is the half of the server that belongs to one connection: it cuts frames out of the stream and
//! plays the simulated loss, which on a stream hits tagged requests only. At a door for people it passes on what comes: an
//! unfinished line may become a finished one by the clock, which is the server's affair.

use std::ops::Range;
use std::time::Instant;

use super::lines::Said;
use crate::link::Verdicts;
use crate::service::Intake;
use crate::wire::{Deframer, Frame, Id, Malformed, Partial, Verb};

/// What is read at once at a door for people, in bytes: they may say so little in a second that most of more would only
/// wait here, and not with who sent it.
const PEOPLES_APPETITE: usize = 1 << 10;

/// The same before the registration, and where there is a rate: what is read of somebody who may not be executed waits
/// here.
const SMALL_APPETITE: usize = 4 << 10;

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

/// What a piece of a stream became: whole frames, and what is left of one.
#[derive(Debug, Default)]
pub struct Batch {
    /// At a door for people: all that came.
    pub(super) said: Said,
    bytes: Vec<u8>,
    frames: Vec<Span>,
    /// How many of the frames have been taken.
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

impl Intake for StreamIntake {
    type Batch<'a> = Batch;

    fn appetite(&self) -> usize {
        self.appetite
    }

    fn received<'a>(&'a mut self, now: Instant, mut bytes: &'a [u8]) -> Batch {
        let mut batch = Batch::default();
        let Some(deframer) = &mut self.deframer else {
            batch.said = Said::new(bytes);
            return batch;
        };
        loop {
            let frame = match deframer.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(frame)) => frame,
                Err(malformed) => {
                    batch.broken = Some(malformed);
                    break;
                }
            };
            batch.pinged |= frame.verb == Verb::Png;
            if frame.verb == Verb::Reg {
                self.appetite = self.appetite_after_reg;
            }
            if frame.id.is_none() || !frame.verb.is_request() {
                batch.push(&frame);
                continue;
            }
            batch.seen += 1;
            let lost = self.losing.as_mut().is_some_and(|losing| losing.loses_next(now));
            if lost { batch.dropped += 1 } else { batch.push(&frame) }
        }
        batch.partial = deframer.partial();
        batch
    }
}

/// A finished line that waits for its turn.
impl From<Said> for Batch {
    fn from(said: Said) -> Self {
        Self { said, ..Self::default() }
    }
}

impl Batch {
    /// Whether at least one whole frame came, lost or not.
    pub(super) fn has_frames(&self) -> bool {
        self.seen > 0 || !self.frames.is_empty()
    }

    fn push(&mut self, frame: &Frame<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame.payload);
        self.frames.push(Span { id: frame.id, verb: frame.verb, payload: start..self.bytes.len() });
    }

    /// The next frame, which stays where it is.
    pub(super) fn peek_frame(&self) -> Option<Frame<'_>> {
        self.frames.get(self.taken).map(|span| self.frame(span))
    }

    fn frame(&self, span: &Span) -> Frame<'_> {
        let payload = self.bytes.get(span.payload.clone()).unwrap_or_default();
        Frame { id: span.id, verb: span.verb, payload }
    }

    /// About how many bytes of memory it holds.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.said.size() + self.bytes.len() + self.frames.len() * size_of::<Span>()
    }

    /// The frames that were not taken.
    pub(super) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.get(self.taken..).unwrap_or_default().iter().map(|span| self.frame(span))
    }

    /// Whether nothing of it is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.said.is_used_up() && self.taken == self.frames.len() && self.broken.is_none()
    }

    /// The next frame is done with.
    pub(super) fn take_frame(&mut self) {
        self.taken += 1;
    }
}
