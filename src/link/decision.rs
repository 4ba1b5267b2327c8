//! What a link decides about one datagram, as plain data: to act on, to show, to record and to replay.

use std::time::Duration;

use crate::link::Place;

/// What was decided about one datagram, and which one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its flow, and its index there.
    pub place: Place,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The loss model takes it.
    Lost,
    /// It is larger than the link's MTU and dropped.
    TooLarge,
    /// The queue before a rate limit, or the link itself, is full, and drops it.
    QueueFull,
    /// It arrives.
    Passed(Passage),
}

/// How a datagram arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// After how long, waiting in queues included.
    pub delay: Duration,
    /// After how long it arrives a second time, if it does.
    pub duplicate: Option<Duration>,
    /// Which of its bits is flipped, counted from the first byte's most significant one.
    pub corrupted: Option<u64>,
    /// How many bytes are left of it, if it is cut.
    pub truncated: Option<usize>,
}

impl Fate {
    /// Whether it arrives at all.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }
}

/// What a link carries: anything with bytes that can be counted, flipped and cut.
pub trait Payload: Clone {
    /// The datagram's bytes.
    fn bytes(&mut self) -> &mut Vec<u8>;
}

impl Payload for Vec<u8> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        self
    }
}

/// A datagram and whatever stands beside it, such as its peer's address.
impl<A: Clone> Payload for (A, Vec<u8>) {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.1
    }
}
