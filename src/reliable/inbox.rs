//! The receiver of pushes: delivers each once and in order, and acknowledges every copy.

use std::collections::BTreeMap;

use crate::wire::Id;

/// Largest distance of a buffered push from the expected one: twice the sender's largest window. A bound, so that a peer
/// with wrong numbers cannot make a client buffer everything.
pub(super) const MAX_HELD: u64 = 64;

/// The result of receiving a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// The first copy: it will be delivered.
    Fresh,
    /// A duplicate: only its acknowledgement is repeated.
    Copy,
    /// Too far ahead to be buffered. It is not acknowledged, so it will be repeated.
    TooFar,
}

/// Puts pushes into order and drops copies.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    next: u64,
    held: BTreeMap<u64, T>,
    unordered: bool,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { next: 1, held: BTreeMap::new(), unordered: false }
    }
}

impl<T> Inbox<T> {
    /// Expects push 1.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Delivers pushes in order of arrival; a fault to test the tests with.
    #[doc(hidden)]
    pub(crate) fn unordered() -> Self {
        Self { unordered: true, ..Self::default() }
    }

    /// Receives a push.
    pub(crate) fn receive(&mut self, id: Id, item: T) -> Receipt {
        let id = id.get();
        if id < self.next || self.held.contains_key(&id) {
            return Receipt::Copy;
        }
        if id - self.next >= MAX_HELD {
            return Receipt::TooFar;
        }
        self.held.insert(id, item);
        Receipt::Fresh
    }

    /// The next push in order, if it has arrived.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.unordered {
            return self.held.pop_last().map(|(id, item)| {
                self.next = self.next.max(id + 1);
                item
            });
        }
        let item = self.held.remove(&self.next)?;
        self.next += 1;
        Some(item)
    }

    /// Whether nothing has been received.
    pub(crate) fn is_unused(&self) -> bool {
        self.next == 1 && self.held.is_empty()
    }

    /// The ids of all received pushes as ranges, lowest first, for an acknowledgement.
    ///
    /// Each acknowledgement names all, so the next one makes up for a lost one.
    pub(crate) fn received(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        if self.next > 1 {
            ranges.push((1, self.next - 1));
        }
        for &id in self.held.keys() {
            match ranges.last_mut() {
                Some((_, high)) if *high + 1 == id => *high = id,
                _ => ranges.push((id, id)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Id {
        Id::new(n).unwrap()
    }

    #[test]
    fn pushes_are_delivered_once_and_in_order_for_any_order_of_arrival() {
        let mut inbox = Inbox::new();
        for n in [3, 1, 3, 1, 4] {
            inbox.receive(id(n), n);
        }
        assert_eq!(inbox.pop(), Some(1));
        assert_eq!(inbox.pop(), None);
        assert_eq!(inbox.received(), [(1, 1), (3, 4)]);
        assert_eq!(inbox.receive(id(2), 2), Receipt::Fresh);
        assert_eq!(std::iter::from_fn(|| inbox.pop()).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(inbox.receive(id(2), 2), Receipt::Copy);
        assert_eq!(inbox.received(), [(1, 4)]);
    }

    #[test]
    fn a_push_far_ahead_is_not_held() {
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(id(1 + MAX_HELD), ()), Receipt::TooFar);
        assert_eq!(inbox.receive(id(MAX_HELD), ()), Receipt::Fresh);
        assert_eq!(inbox.received(), [(MAX_HELD, MAX_HELD)]);
    }
}
