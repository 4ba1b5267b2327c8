//! One direction of a datagram proxy: the rules that select datagrams, the link that impairs them, and the counters.
//! The clients are in `clients`, both directions in `datagrams`.

use std::time::Instant;

use crate::lab::proxy::rule::Rule;
use crate::lab::proxy::totals::DatagramTotals;
use crate::link::{Direction, Fate, Link, LinkConfig, Passage, Payload, Place, Script};

/// A datagram in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FlowDatagram {
    /// The flow that it belongs to.
    pub(crate) flow: u64,
    /// The payload.
    pub(crate) bytes: Vec<u8>,
}

impl Payload for FlowDatagram {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// The action of the driver on a received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send it on, unchanged and at once.
    Forward,
    /// Nothing: it is in flight, or lost.
    Taken,
}

/// One direction of a datagram proxy.
#[derive(Debug)]
pub(crate) struct DatagramPath {
    direction: Direction,
    rules: Vec<Rule>,
    config: LinkConfig,
    /// No datagram that enters now can be impaired, so none is copied.
    is_perfect: bool,
    is_scripted: bool,
    link: Link<FlowDatagram>,
    totals: DatagramTotals,
}

impl DatagramPath {
    /// Creates a direction whose random draws follow from `seed`.
    #[must_use]
    pub(crate) fn new(direction: Direction, rules: Vec<Rule>, config: LinkConfig, seed: u64) -> Self {
        let (link, is_perfect) =
            (Link::new(config.clone(), seed, direction), config == LinkConfig::perfect());
        Self {
            direction,
            rules,
            config,
            is_perfect,
            is_scripted: false,
            link,
            totals: DatagramTotals::default(),
        }
    }

    /// Creates a direction in which `script` decides the fate of each datagram.
    #[must_use]
    pub(crate) fn with_script(direction: Direction, rules: Vec<Rule>, script: Script) -> Self {
        let (link, config) = (Link::with_script(script, direction), LinkConfig::perfect());
        Self {
            direction,
            rules,
            config,
            is_perfect: false,
            is_scripted: true,
            link,
            totals: DatagramTotals::default(),
        }
    }

    /// Changes the link for later datagrams; those in flight arrive as decided. A script stays in force.
    pub(crate) fn set_config(&mut self, now: Instant, config: LinkConfig) {
        self.is_perfect = !self.is_scripted && config == LinkConfig::perfect();
        self.link.set_config(now, config.clone());
        self.config = config;
    }

    /// Whether a datagram is to be impaired. Every other one passes unchanged and has no index.
    #[must_use]
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        self.rules.iter().all(|rule| rule.holds(self.direction, bytes))
    }

    /// Counts a datagram that passes unchanged.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        self.totals.datagrams += 1;
        self.totals.bytes += bytes.len() as u64;
    }

    /// Sends a datagram over the link. Returns what the driver does with it, and its fate.
    pub(crate) fn send(&mut self, now: Instant, place: Place, bytes: &[u8]) -> (Step, Fate) {
        self.pass(bytes);
        let (step, fate) = if self.is_perfect && self.link.poll_timeout().is_none() {
            (Step::Forward, Fate::Passed(Passage::default()))
        } else {
            let datagram = FlowDatagram { flow: place.flow, bytes: bytes.to_vec() };
            (Step::Taken, self.link.send_at(now, place, datagram).fate)
        };
        self.totals.count(&fate);
        (step, fate)
    }

    /// Returns the next datagram that has arrived.
    pub(crate) fn recv(&mut self, now: Instant) -> Option<FlowDatagram> {
        self.link.recv(now)
    }

    /// Returns when the next datagram arrives; `None` if none is in flight.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    /// Returns the counters so far.
    #[must_use]
    pub(crate) fn totals(&self) -> DatagramTotals {
        let requested = (!self.is_scripted).then(|| self.config.loss.clone());
        DatagramTotals { requested, ..self.totals.clone() }
    }
}
