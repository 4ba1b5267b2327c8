//! A datagram proxy without its sockets: clients, rules, and a link in each direction.
//!
//! The driver's contract: for each datagram, [`Relay::find`] or [`Relay::open`] its flow and call [`Relay::handle`];
//! send the datagram on if the result says so. Then send what [`Relay::poll_transmit`] returns in each direction, and
//! close what [`Relay::expire`] returns. Repeat this once [`Relay::poll_timeout`] is due; a spurious call is harmless.

use std::time::{Duration, Instant};

use crate::lab::proxy::clients::Clients;
use crate::lab::proxy::datagram_path::{DatagramPath, FlowDatagram, Step};
use crate::lab::proxy::record::{Note, RecordedFate};
use crate::lab::proxy::totals::Kind;
use crate::link::{Direction, Fate, LinkConfig};
use crate::service::Peer;
use crate::units::later;

/// A datagram proxy. `H` is the driver's handle of a flow.
#[derive(Debug)]
pub(crate) struct Relay<H> {
    clients: Clients<H>,
    up: DatagramPath,
    down: DatagramPath,
    evicted: u64,
    gone: u64,
}

impl<H> Relay<H> {
    /// Creates a proxy for at most `max_flows` clients at once. A flow expires when it has been silent in both
    /// directions for `idle`, and no datagram of it was in flight for that time.
    #[must_use]
    pub(crate) fn new(max_flows: usize, idle: Duration, up: DatagramPath, down: DatagramPath) -> Self {
        Self { clients: Clients::new(max_flows, idle), up, down, evicted: 0, gone: 0 }
    }

    /// Returns the flow of a known client.
    #[must_use]
    pub(crate) fn find(&self, peer: &Peer) -> Option<u64> {
        self.clients.find(peer)
    }

    /// Returns the ordinal of the next new flow.
    #[must_use]
    pub(crate) const fn next_flow(&self) -> u64 {
        self.clients.opened()
    }

    /// Opens a flow. Returns its ordinal, and the handle of the flow that was evicted for it.
    pub(crate) fn open(&mut self, now: Instant, peer: Peer, handle: H) -> (u64, Option<H>) {
        let (flow, evicted) = self.clients.open(now, peer, handle);
        self.evicted += u64::from(evicted.is_some());
        (flow, evicted)
    }

    /// Evicts the least recently used flow. Returns its handle.
    pub(crate) fn evict(&mut self) -> Option<H> {
        let evicted = self.clients.evict();
        self.evicted += u64::from(evicted.is_some());
        evicted
    }

    /// Returns the peer of a flow and its handle; `None` for a flow that is gone.
    #[must_use]
    pub(crate) fn get(&self, flow: u64) -> Option<(Peer, &H)> {
        self.clients.get(flow)
    }

    /// Handles a received datagram of a flow. Returns what the driver does with it, and the decision if there was one.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        flow: u64,
        direction: Direction,
        bytes: &[u8],
    ) -> (Step, Option<Note>) {
        if !self.clients.touch(now, flow) {
            self.gone += 1;
            return (Step::Taken, None);
        }
        let path = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        if !path.matches(bytes) {
            path.pass(bytes);
            return (Step::Forward, None);
        }
        let Some(place) = self.clients.take_place(flow, direction) else { return (Step::Taken, None) };
        let (step, fate) = path.send(now, place, bytes);
        if let Fate::Passed(passage) = fate {
            // The flow must live at least until the datagram has arrived.
            let longest = passage.duplicate.map_or(passage.delay, |copy| copy.max(passage.delay));
            self.clients.touch(later(now, longest), flow);
        }
        (step, Some(Note { direction, size: bytes.len(), place, outcome: RecordedFate::Fate(fate) }))
    }

    /// Returns the next datagram that has arrived in one direction and is to be sent on. Datagrams of a flow that is
    /// gone are dropped and counted.
    pub(crate) fn poll_transmit(&mut self, now: Instant, direction: Direction) -> Option<FlowDatagram> {
        loop {
            let datagram = self.path_mut(direction).recv(now)?;
            if self.clients.get(datagram.flow).is_some() {
                return Some(datagram);
            }
            self.gone += 1;
        }
    }

    /// Removes one flow that has been idle for too long. Returns its handle.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<H> {
        self.clients.expire(now)
    }

    /// Removes all flows. Returns their handles.
    pub(crate) fn close_all(&mut self) -> Vec<H> {
        self.clients.clear()
    }

    /// Returns when a datagram is to be sent or a flow expires; `None` means never.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.up.poll_timeout(), self.down.poll_timeout(), self.clients.poll_timeout()];
        deadlines.into_iter().flatten().min()
    }

    /// Changes the link of one direction.
    pub(crate) fn set_config(&mut self, now: Instant, direction: Direction, config: LinkConfig) {
        self.path_mut(direction).set_config(now, config);
    }

    /// Returns the counters; `unsent` is the number of datagrams that the driver could not send.
    #[must_use]
    pub(crate) fn totals(&self, unsent: u64) -> Kind {
        Kind::Datagrams {
            flows: self.clients.opened(),
            open: self.clients.len(),
            evicted: self.evicted,
            unsent,
            gone: self.gone,
            up: self.up.totals(),
            down: self.down.totals(),
        }
    }

    fn path_mut(&mut self, direction: Direction) -> &mut DatagramPath {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::proxy::record::{RecordedFate, Replay};
    use crate::lab::proxy::rule::Rule;
    use crate::link::{Fate, Link, Script};

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn peer(port: u16) -> Peer {
        Peer::new(0, ([127, 0, 0, 1], port).into())
    }

    fn link(text: &str) -> LinkConfig {
        text.parse().unwrap()
    }

    fn relay(up: &str, rules: &[&str]) -> Relay<()> {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let path = |direction, text| DatagramPath::new(direction, rules.clone(), link(text), 9);
        Relay::new(10, Duration::from_secs(60), path(Direction::Up, up), path(Direction::Down, "none"))
    }

    /// Sends 0 to `n` - 1 upwards. Returns what arrives within ten seconds, in order, and the decisions.
    fn carry(relay: &mut Relay<()>, flow: u64, n: u8) -> (Vec<u8>, Vec<Note>) {
        let (now, mut arrived, mut notes) = (origin(), Vec::new(), Vec::new());
        for byte in 0..n {
            let (step, note) = relay.handle(now, flow, Direction::Up, &[byte]);
            notes.extend(note);
            if step == Step::Forward {
                arrived.push(byte);
            }
        }
        let end = now + Duration::from_secs(10);
        while let Some(datagram) = relay.poll_transmit(end, Direction::Up) {
            assert_eq!(datagram.flow, flow);
            arrived.extend(datagram.bytes);
        }
        (arrived, notes)
    }

    #[test]
    fn a_perfect_link_forwards_at_once() {
        let mut relay = relay("none", &[]);
        let (flow, _) = relay.open(origin(), peer(1), ());
        assert_eq!(carry(&mut relay, flow, 100).0, (0..100).collect::<Vec<u8>>());
        assert_eq!(relay.poll_transmit(origin() + Duration::from_secs(1), Direction::Up), None);
    }

    #[test]
    fn verdicts_are_those_of_a_link_alone_for_each_flow() {
        let text = "gilbert:.4,3";
        let mut alone = Link::new(link(text), 9, Direction::Up);
        let mut relay = relay(text, &[]);
        for flow in 0..5 {
            relay.open(origin(), peer(flow), ());
            let (arrived, _) = carry(&mut relay, u64::from(flow), 200);
            let passed = |byte: &u8| alone.send(origin(), u64::from(flow), vec![*byte]).fate.is_passed();
            assert_eq!(arrived, (0..200).filter(passed).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn a_datagram_without_a_matching_rule_passes_unchanged_and_has_no_index() {
        let mut relay = relay("list:1,2", &["up:first=05"]);
        let (flow, _) = relay.open(origin(), peer(1), ());
        for round in 0..3 {
            let (arrived, notes) = carry(&mut relay, flow, 10);
            assert_eq!(arrived.contains(&5), round == 2, "{round}");
            assert_eq!((arrived.len(), notes.len()), (9 + usize::from(round == 2), 1));
            assert_eq!(notes[0].place.index, round);
        }
        let Kind::Datagrams { up, .. } = relay.totals(0) else { panic!() };
        assert_eq!((up.datagrams, up.matched, up.lost), (30, 3, 2));
    }

    #[test]
    fn after_a_change_to_a_perfect_link_nothing_overtakes_datagrams_in_flight() {
        let mut relay = relay("delay:1s", &[]);
        let (flow, _) = relay.open(origin(), peer(1), ());
        let now = origin();
        relay.handle(now, flow, Direction::Up, b"a");
        relay.set_config(now, Direction::Up, LinkConfig::perfect());
        assert_eq!(relay.handle(now, flow, Direction::Up, b"b").0, Step::Taken);
        assert_eq!(relay.poll_timeout(), Some(now));
        let second = now + Duration::from_secs(1);
        let mut next = || relay.poll_transmit(second, Direction::Up).map(|datagram| datagram.bytes);
        assert_eq!([next(), next()], [Some(b"b".to_vec()), Some(b"a".to_vec())]);
        assert_eq!(relay.handle(second, flow, Direction::Up, b"c").0, Step::Forward);
    }

    #[test]
    fn a_replay_repeats_the_recorded_decisions() {
        let mut first = relay("iid:.5+delay:10ms,9ms+duplicate:.2+corrupt:.2", &[]);
        let (flow, _) = first.open(origin(), peer(1), ());
        let (arrived, notes) = carry(&mut first, flow, 200);
        let replay: Replay = notes.iter().copied().collect();
        let path = |direction| DatagramPath::with_script(direction, Vec::new(), replay.script.clone());
        let (up, down) = (path(Direction::Up), path(Direction::Down));
        let mut second = Relay::new(10, Duration::from_secs(60), up, down);
        second.open(origin(), peer(2), ());
        assert_eq!(carry(&mut second, flow, 200), (arrived, notes.clone()));
        assert!(notes.iter().any(|note| note.outcome == RecordedFate::Fate(Fate::Lost)));
        assert_eq!(Script::default().len(), 0);
    }

    #[test]
    fn a_datagram_of_a_flow_that_is_gone_is_dropped() {
        let mut relay = relay("none", &[]);
        assert_eq!(relay.handle(origin(), 7, Direction::Down, b"a"), (Step::Taken, None));
        assert!(matches!(relay.totals(0), Kind::Datagrams { gone: 1, .. }));
    }

    #[test]
    fn a_client_stays_until_its_last_datagram_has_arrived_and_later_datagrams_are_counted() {
        let (now, mut relay) = (origin(), relay("delay:90s", &[]));
        let (flow, _) = relay.open(now, peer(1), ());
        relay.handle(now, flow, Direction::Up, b"a");
        let due = now + Duration::from_secs(90);
        assert_eq!(relay.expire(due), None);
        assert_eq!(relay.poll_transmit(due, Direction::Up).map(|datagram| datagram.flow), Some(flow));
        relay.handle(due, flow, Direction::Up, b"b");
        assert_eq!(relay.evict(), Some(()));
        let due = due + Duration::from_secs(90);
        assert_eq!(relay.poll_transmit(due, Direction::Up), None);
        assert!(matches!(relay.totals(0), Kind::Datagrams { gone: 1, evicted: 1, .. }));
        let (flow, _) = relay.open(due, peer(1), ());
        relay.handle(due, flow, Direction::Up, b"c");
        assert_eq!(relay.expire(due + Duration::from_secs(149)), None);
        assert_eq!(relay.expire(due + Duration::from_secs(150)), Some(()));
    }
}
