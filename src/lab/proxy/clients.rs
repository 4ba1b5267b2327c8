//! The table of a datagram proxy's clients: each is a flow, numbered in the order of first appearance, with its time
//! of last use. Datagrams are not handled here.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::link::{Direction, Place};
use crate::service::Peer;
use crate::units::later;

/// The clients of a datagram proxy, each with the driver's handle.
///
/// Their number is bounded: a new client evicts the least recently used one. An idle client expires. A client that
/// comes back is a new flow with a new ordinal.
#[derive(Debug)]
pub(crate) struct Clients<H> {
    by_peer: HashMap<Peer, u64>,
    flows: HashMap<u64, Client<H>>,
    /// Least recently used first.
    by_use: BTreeSet<(Instant, u64)>,
    limit: usize,
    idle: Duration,
    opened: u64,
}

/// One client.
#[derive(Debug)]
struct Client<H> {
    peer: Peer,
    handle: H,
    used: Instant,
    /// The next datagram's index in each direction.
    up: u64,
    down: u64,
}

impl<H> Clients<H> {
    /// Creates a table of up to `limit` clients, at least one; each expires `idle` after its last use.
    #[must_use]
    pub(crate) fn new(limit: usize, idle: Duration) -> Self {
        Self {
            by_peer: HashMap::new(),
            flows: HashMap::new(),
            by_use: BTreeSet::new(),
            limit: limit.max(1),
            idle,
            opened: 0,
        }
    }

    /// Returns the flow of a known client.
    #[must_use]
    pub(crate) fn find(&self, peer: &Peer) -> Option<u64> {
        self.by_peer.get(peer).copied()
    }

    /// Adds a client, used now. Returns its flow, and the handle of the client that was evicted for it.
    pub(crate) fn open(&mut self, now: Instant, peer: Peer, handle: H) -> (u64, Option<H>) {
        let evicted = if self.flows.len() >= self.limit { self.evict() } else { None };
        let flow = self.opened;
        self.opened += 1;
        self.by_peer.insert(peer, flow);
        self.flows.insert(flow, Client { peer, handle, used: now, up: 0, down: 0 });
        self.by_use.insert((now, flow));
        (flow, evicted)
    }

    /// Removes the least recently used flow. Returns its handle.
    pub(crate) fn evict(&mut self) -> Option<H> {
        let (_, oldest) = self.by_use.first().copied()?;
        self.close(oldest)
    }

    /// Removes a flow. Returns its handle.
    pub(crate) fn close(&mut self, flow: u64) -> Option<H> {
        let client = self.flows.remove(&flow)?;
        self.by_peer.remove(&client.peer);
        self.by_use.remove(&(client.used, flow));
        Some(client.handle)
    }

    /// Removes one flow that has been idle for too long. Returns its handle.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<H> {
        let (used, flow) = *self.by_use.first()?;
        if later(used, self.idle) > now {
            return None;
        }
        self.close(flow)
    }

    /// Returns when the next flow expires.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.by_use.first().map(|(used, _)| later(*used, self.idle))
    }

    /// Marks a flow as used at `at`, which may be in the future. Returns whether the flow exists.
    pub(crate) fn touch(&mut self, at: Instant, flow: u64) -> bool {
        let Some(client) = self.flows.get_mut(&flow) else { return false };
        if client.used < at {
            self.by_use.remove(&(client.used, flow));
            client.used = at;
            self.by_use.insert((at, flow));
        }
        true
    }

    /// Takes the next index of a flow in one direction; `None` for a flow that is gone.
    pub(crate) fn take_place(&mut self, flow: u64, direction: Direction) -> Option<Place> {
        let client = self.flows.get_mut(&flow)?;
        let next = match direction {
            Direction::Up => &mut client.up,
            Direction::Down => &mut client.down,
        };
        let index = *next;
        *next += 1;
        Some(Place { flow, index })
    }

    /// Returns the peer of a flow and its handle.
    #[must_use]
    pub(crate) fn get(&self, flow: u64) -> Option<(Peer, &H)> {
        self.flows.get(&flow).map(|client| (client.peer, &client.handle))
    }

    /// Removes all flows. Returns their handles.
    pub(crate) fn clear(&mut self) -> Vec<H> {
        let flows: Vec<u64> = self.by_use.iter().map(|(_, flow)| *flow).collect();
        flows.into_iter().filter_map(|flow| self.close(flow)).collect()
    }

    /// Returns the number of flows.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns the number of flows that were ever opened.
    #[must_use]
    pub(crate) const fn opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn peer(port: u16) -> Peer {
        Peer::new(0, ([127, 0, 0, 1], port).into())
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_least_recently_used_client_is_evicted_and_returns_as_a_new_flow() {
        let (now, mut clients) = (origin(), Clients::new(2, seconds(60)));
        assert_eq!(clients.open(now, peer(1), 'a'), (0, None));
        assert_eq!(clients.open(now + seconds(1), peer(2), 'b'), (1, None));
        clients.touch(now + seconds(2), 0);
        assert_eq!(clients.open(now + seconds(3), peer(3), 'c'), (2, Some('b')));
        assert_eq!((clients.find(&peer(1)), clients.find(&peer(2))), (Some(0), None));
        assert_eq!(clients.open(now + seconds(3), peer(2), 'd'), (3, Some('a')));
        assert_eq!((clients.len(), clients.opened()), (2, 4));
    }

    #[test]
    fn an_idle_client_expires_and_a_busy_one_stays() {
        let (now, mut clients) = (origin(), Clients::new(8, seconds(60)));
        assert_eq!(clients.poll_timeout(), None);
        clients.open(now, peer(1), 'a');
        clients.open(now, peer(2), 'b');
        clients.touch(now + seconds(30), 0);
        assert_eq!(clients.poll_timeout(), Some(now + seconds(60)));
        assert_eq!(clients.expire(now + seconds(59)), None);
        assert_eq!(clients.expire(now + seconds(60)), Some('b'));
        assert_eq!(clients.expire(now + seconds(60)), None);
        assert_eq!(clients.poll_timeout(), Some(now + seconds(90)));
    }

    #[test]
    fn datagrams_are_counted_by_flow_and_direction() {
        let (now, mut clients) = (origin(), Clients::new(8, seconds(60)));
        clients.open(now, peer(1), ());
        clients.open(now, peer(2), ());
        let mut index = |flow, direction| clients.take_place(flow, direction).map(|place| place.index);
        assert_eq!((index(0, Direction::Up), index(0, Direction::Up)), (Some(0), Some(1)));
        assert_eq!((index(0, Direction::Down), index(1, Direction::Up)), (Some(0), Some(0)));
        assert_eq!(index(2, Direction::Up), None);
    }

    #[test]
    fn a_million_spoofed_clients_take_no_more_than_the_bound() {
        let (now, mut clients) = (origin(), Clients::new(10, seconds(60)));
        for n in 0..1_000_000_u32 {
            let addr = std::net::SocketAddr::new(std::net::Ipv4Addr::from_bits(n).into(), 1);
            clients.open(now, Peer::new(0, addr), ());
        }
        assert_eq!((clients.by_peer.len(), clients.flows.len(), clients.by_use.len()), (10, 10, 10));
        assert_eq!(clients.clear().len(), 10);
        assert!(clients.len() == 0 && clients.by_use.is_empty());
    }
}
