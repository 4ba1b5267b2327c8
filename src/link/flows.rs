//! Flow numbering: which flow a peer is, and the index of each of its datagrams.

use crate::link::recent::Recent;
use crate::link::rng::Direction;

/// The number of flows that are remembered. Addresses can be forged, so memory must not grow with them: the least
/// recently used flow is forgotten for a new one. 65,536 flows take about 10 MiB.
pub(crate) const MAX_FLOWS: usize = 65_536;

/// The position of a datagram: with seed and direction, the input of its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The ordinal in which its peer first appeared, from 0.
    #[doc(hidden)]
    pub flow: u64,
    /// The number of earlier datagrams of that flow in its direction.
    #[doc(hidden)]
    pub index: u64,
}

/// Numbers peers by first appearance, and the datagrams of each by direction.
///
/// A forgotten peer that returns is a new flow with an unused ordinal, so old verdicts do not repeat. The result
/// depends on the calls alone.
#[derive(Clone, Debug)]
pub struct Flows<K> {
    flows: Recent<K, FlowCounters>,
    /// The ordinal of the next new flow.
    opened: u64,
}

#[derive(Clone, Debug)]
struct FlowCounters {
    ordinal: u64,
    up: u64,
    down: u64,
}

impl FlowCounters {
    /// The index of the next datagram in `direction`; advances it.
    fn take(&mut self, direction: Direction) -> u64 {
        let next = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        let index = *next;
        *next += 1;
        index
    }
}

impl<K: Ord + Clone> Flows<K> {
    /// Remembers `MAX_FLOWS` flows.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(MAX_FLOWS)
    }

    /// Remembers `limit` flows, at least one.
    #[must_use]
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self { flows: Recent::with_limit(limit), opened: 0 }
    }

    /// Counts a datagram exchanged with the peer `key`, and returns its position.
    pub fn next(&mut self, key: &K, direction: Direction) -> Place {
        let opened = &mut self.opened;
        let flow = self.flows.touch(key, || {
            let ordinal = *opened;
            *opened += 1;
            FlowCounters { ordinal, up: 0, down: 0 }
        });
        Place { flow: flow.ordinal, index: flow.take(direction) }
    }

    /// The number of remembered flows.
    #[doc(hidden)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is remembered.
    #[doc(hidden)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flows.len() == 0
    }
}

impl<K: Ord + Clone> Default for Flows<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Down, Up};

    fn place(flow: u64, index: u64) -> Place {
        Place { flow, index }
    }

    #[test]
    fn flows_are_numbered_by_first_appearance_and_datagrams_by_direction() {
        let mut flows = Flows::new();
        assert!(flows.is_empty());
        assert_eq!(flows.next(&"b", Up), place(0, 0));
        assert_eq!(flows.next(&"a", Up), place(1, 0));
        assert_eq!(flows.next(&"b", Up), place(0, 1));
        assert_eq!(flows.next(&"b", Down), place(0, 0));
        assert_eq!(flows.next(&"b", Up), place(0, 2));
        assert_eq!(flows.next(&"a", Down), place(1, 0));
        assert_eq!(flows.len(), 2);
    }

    #[test]
    fn the_least_recently_used_flow_is_forgotten_and_returns_as_a_new_one() {
        let mut flows = Flows::with_limit(2);
        flows.next(&"a", Up);
        flows.next(&"b", Up);
        flows.next(&"a", Down);
        assert_eq!(flows.next(&"c", Up), place(2, 0));
        assert_eq!(flows.next(&"a", Up), place(0, 1));
        assert_eq!(flows.next(&"b", Up), place(3, 0));
        assert_eq!(flows.next(&"c", Up), place(4, 0));
    }

    #[test]
    fn a_million_forged_peers_stay_within_the_limit() {
        let mut flows = Flows::new();
        for peer in 0..1_000_000_u64 {
            assert_eq!(flows.next(&peer, Up), place(peer, 0));
        }
        assert_eq!(flows.len(), MAX_FLOWS);
    }

    #[test]
    fn a_limit_of_zero_counts_as_one() {
        let mut flows = Flows::with_limit(0);
        assert_eq!(flows.next(&1, Up), place(0, 0));
        assert_eq!(flows.next(&1, Up), place(0, 1));
        assert_eq!(flows.next(&2, Up), place(1, 0));
        assert_eq!(flows.len(), 1);
    }
}
