//! A datagram proxy without its sockets: clients, rules, and a link in each direction.
//!
//! The contract for whoever drives it: for each datagram, [`Relay::find`] or [`Relay::open`] its flow and call
//! [`Relay::handle`]; send it on if that says so. Then send what [`Relay::poll_transmit`] gives in each direction, and close
//! what [`Relay::expire`] gives. Do so again once [`Relay::poll_timeout`] is due; a spurious call is harmless.

use std::time::{Duration, Instant};

use crate::lab::proxy::clients::Clients;
use crate::lab::proxy::record::{Note, Outcome};
use crate::lab::proxy::totals::Kind;
use crate::lab::proxy::way::{Parcel, Step, Way};
use crate::link::{Direction, LinkConfig};
use crate::service::Peer;

/// A datagram proxy. What the driver keeps for each flow is an `H`.
#[derive(Debug)]
pub struct Relay<H> {
    clients: Clients<H>,
    up: Way,
    down: Way,
    evicted: u64,
}

impl<H> Relay<H> {
    /// Relays for at most `max_flows` clients at once, each until it has been silent for `idle` in both directions.
    #[must_use]
    pub fn new(max_flows: usize, idle: Duration, up: Way, down: Way) -> Self {
        Self { clients: Clients::new(max_flows, idle), up, down, evicted: 0 }
    }

    /// The flow of a client that is known.
    #[must_use]
    pub fn find(&self, peer: &Peer) -> Option<u64> {
        self.clients.find(peer)
    }

    /// The ordinal that the next new flow gets.
    #[must_use]
    pub const fn next_flow(&self) -> u64 {
        self.clients.opened()
    }

    /// Begins a flow. Returns its ordinal, and what was kept for the flow that had to make room.
    pub fn open(&mut self, now: Instant, peer: Peer, handle: H) -> (u64, Option<H>) {
        let (flow, evicted) = self.clients.open(now, peer, handle);
        self.evicted += u64::from(evicted.is_some());
        (flow, evicted)
    }

    /// Who a flow belongs to, and what is kept for it; `None` for one that is gone.
    #[must_use]
    pub fn get(&self, flow: u64) -> Option<(Peer, &H)> {
        self.clients.get(flow)
    }

    /// A datagram of a flow came in. Returns what to do with it, and what was decided if anything was.
    pub fn handle(
        &mut self,
        now: Instant,
        flow: u64,
        direction: Direction,
        bytes: &[u8],
    ) -> (Step, Option<Note>) {
        self.clients.touch(now, flow);
        let way = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        if !way.matches(bytes) {
            way.pass(bytes);
            return (Step::Forward, None);
        }
        let Some(place) = self.clients.take_place(flow, direction) else { return (Step::Taken, None) };
        let (step, fate) = way.send(now, place, bytes);
        (step, Some(Note { direction, size: bytes.len(), place, outcome: Outcome::Fate(fate) }))
    }

    /// The next datagram that has arrived in that direction and is to be sent on.
    pub fn poll_transmit(&mut self, now: Instant, direction: Direction) -> Option<Parcel> {
        self.way_mut(direction).recv(now)
    }

    /// Ends a flow that has been idle for too long, if there is one. Returns what was kept for it.
    pub fn expire(&mut self, now: Instant) -> Option<H> {
        self.clients.expire(now)
    }

    /// Ends all flows. Returns what was kept for them.
    pub fn close_all(&mut self) -> Vec<H> {
        self.clients.clear()
    }

    /// When something is to be sent or closed; `None` means never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.up.poll_timeout(), self.down.poll_timeout(), self.clients.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    /// Carries on over another link in one direction.
    pub fn set_config(&mut self, direction: Direction, config: LinkConfig) {
        self.way_mut(direction).set_config(config);
    }

    /// What has been done so far; `unsent` is what the driver could not send.
    #[must_use]
    pub fn totals(&self, unsent: u64) -> Kind {
        Kind::Datagrams {
            flows: self.clients.opened(),
            open: self.clients.len(),
            evicted: self.evicted,
            unsent,
            up: self.up.totals(),
            down: self.down.totals(),
        }
    }

    fn way_mut(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}
