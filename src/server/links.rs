//! The simulated links of the server: full impairment for datagrams, loss alone for streams.
//!
//! The link models are in [`crate::link`]; loss on streams is applied in `intake` (requests) and `stream` (answers).

use std::time::Instant;

use super::Server;
use crate::config::ServerConfig;
use crate::hub::work::cost;
use crate::link::{Direction, Flows, Link, LinkConfig, Payload, Place, Verdicts};
use crate::service::{ConnId, Peer, Transmit};

#[doc(hidden)]
impl Payload for Transmit {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// One direction of the simulated link.
#[derive(Debug)]
pub(super) struct Simulated {
    /// Drops requests and answers on streams, and datagrams if loss is the only impairment.
    verdicts: Verdicts,
    /// Applies further impairments to datagrams; only then are datagrams copied and kept.
    link: Option<Box<Link<Transmit>>>,
}

impl Simulated {
    pub(super) fn new(config: &LinkConfig, seed: u64, direction: Direction) -> Self {
        let link = (!config.only_loses()).then(|| Box::new(Link::new(config.clone(), seed, direction)));
        Self { verdicts: Verdicts::new(config.loss.clone(), seed, direction), link }
    }

    /// Whether it passes everything unchanged.
    fn is_perfect(&self) -> bool {
        self.link.is_none() && self.verdicts.model().is_none()
    }

    /// Puts a datagram in. Returns one that comes out at once; later ones are [received](Simulated::receive).
    fn send(&mut self, now: Instant, place: Place, transmit: Transmit) -> Option<Transmit> {
        match &mut self.link {
            None => (!self.verdicts.lost(now, place.flow, place.index)).then_some(transmit),
            Some(link) => {
                link.send_at(now, place, transmit);
                link.recv(now)
            }
        }
    }

    fn receive(&mut self, now: Instant) -> Option<Transmit> {
        self.link.as_mut()?.recv(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.link.as_ref()?.poll_timeout()
    }

    pub(super) fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    pub(super) fn link(&self) -> Option<&Link<Transmit>> {
        self.link.as_deref()
    }
}

/// The flow whose datagrams, or droppable frames, a simulated link counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum FlowKey {
    Conn(ConnId),
    Peer(Peer),
}

/// Both directions of the simulated link, and the flows on them.
#[derive(Debug)]
pub(super) struct Links {
    flows: Flows<FlowKey>,
    /// For datagrams and requests that come in.
    incoming: Simulated,
    /// For datagrams and answers that go out.
    outward: Simulated,
}

impl Links {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            flows: Flows::new(),
            incoming: Simulated::new(&config.link_in, config.seed, Direction::Up),
            outward: Simulated::new(&config.link_out, config.seed, Direction::Down),
        }
    }

    pub(super) fn incoming(&self) -> &Simulated {
        &self.incoming
    }

    pub(super) fn outward(&self) -> &Simulated {
        &self.outward
    }

    /// The number of flows.
    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Returns when the next delayed datagram is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.incoming.poll_timeout(), self.outward.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether no datagram is under way to a peer.
    pub(super) fn is_quiet_outward(&self) -> bool {
        self.outward.poll_timeout().is_none()
    }

    /// Whether anything is simulated. If nothing is, no flows are kept.
    fn simulates(&self) -> bool {
        !self.incoming.is_perfect() || !self.outward.is_perfect()
    }

    /// Returns the place of a peer's next datagram in its flow; `None` if nothing is simulated.
    fn place(&mut self, peer: Peer, direction: Direction) -> Option<Place> {
        self.simulates().then(|| self.flows.next(&FlowKey::Peer(peer), direction))
    }

    /// Returns the verdicts on a new connection's requests, and its flow; `None` if nothing is simulated.
    pub(super) fn open_conn(&mut self, now: Instant, conn: ConnId) -> Option<(Verdicts, u64)> {
        // The link's clock starts with the first connection; each connection's half counts from there.
        self.incoming.verdicts.begin(now);
        let flow = self.simulates().then(|| self.flows.next(&FlowKey::Conn(conn), Direction::Up).flow)?;
        Some((self.incoming.verdicts.sibling(), flow))
    }

    /// Counts the requests on streams that were subject to loss, and those that were dropped.
    pub(super) fn count_requests(&mut self, seen: u64, dropped: u64) {
        self.incoming.verdicts.count(seen, dropped);
    }

    /// Whether an answer on a stream is lost.
    pub(super) fn loses_answer(&mut self, now: Instant, flow: u64, index: u64) -> bool {
        self.outward.verdicts.lost(now, flow, index)
    }
}

/// Datagrams on the simulated links.
impl Server {
    /// Handles a datagram from the network.
    pub(super) fn enter(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        self.totals.datagrams_in += 1;
        let Some(place) = self.links.place(peer, Direction::Up) else {
            return self.handle_datagram(now, peer, bytes);
        };
        let incoming = &mut self.links.incoming;
        if incoming.link.is_none() {
            if !incoming.verdicts.lost(now, place.flow, place.index) {
                self.handle_datagram(now, peer, bytes);
            }
            return;
        }
        let arrived = incoming.send(now, place, Transmit { peer, bytes: bytes.to_vec() });
        if let Some(Transmit { peer, bytes }) = arrived {
            self.handle_datagram(now, peer, &bytes);
        }
        self.arrive(now);
    }

    /// Handles the datagrams whose delay is over.
    pub(super) fn arrive(&mut self, now: Instant) {
        while !self.is_hold_spent()
            && let Some(Transmit { peer, bytes }) = self.links.incoming.receive(now)
        {
            self.work().add(1, cost::DATAGRAM);
            self.handle_datagram(now, peer, &bytes);
        }
    }

    /// Returns the next datagram for the network.
    pub(super) fn next_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let transmit = loop {
            if let Some(due) = self.links.outward.receive(now) {
                break due;
            }
            let next = self.next_datagram(now)?;
            let Some(place) = self.links.place(next.peer, Direction::Down) else { break next };
            if let Some(passed) = self.links.outward.send(now, place, next) {
                break passed;
            }
        };
        self.totals.datagrams_out += 1;
        Some(transmit)
    }
}
