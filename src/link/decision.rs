//! The decision of a link about one datagram, as plain data: to apply, show, record and replay.

use std::time::Duration;

use crate::link::Place;

/// A decision, and the datagram that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The datagram's flow, and its index there.
    #[doc(hidden)]
    pub place: Place,
    /// The fate of the datagram.
    #[doc(hidden)]
    pub fate: Fate,
}

/// The fate of a datagram.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Lost by the loss model.
    Lost,
    /// Dropped, because it exceeds the link's MTU.
    TooLarge,
    /// Dropped, because the queue of the rate limit, or the link itself, is full.
    QueueFull,
    /// Delivered.
    Passed(Passage),
}

/// The impairments of a delivered datagram.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// The delay, including the time in queues.
    pub delay: Duration,
    /// The delay of the second copy, if there is one.
    pub duplicate: Option<Duration>,
    /// The flipped bit, counted from the most significant one of the first byte.
    pub corrupted: Option<u64>,
    /// The length in bytes after truncation.
    pub truncated: Option<usize>,
}

impl Fate {
    /// Whether the datagram arrives at all.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }
}

impl Decision {
    /// Whether the datagram arrives at all.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        self.fate.is_passed()
    }
}

/// The payload of a link: anything with bytes that can be counted, flipped and truncated.
pub trait Payload: Clone {
    /// The datagram's bytes.
    fn bytes(&mut self) -> &mut Vec<u8>;
}

impl Payload for Vec<u8> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        self
    }
}

/// A datagram with data beside it, such as its peer's address.
impl<A: Clone> Payload for (A, Vec<u8>) {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.1
    }
}
