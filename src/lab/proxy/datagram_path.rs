//! One direction of a datagram proxy: which datagrams are impaired, the link that impairs them, and what came of it.

use std::time::Instant;

use crate::lab::proxy::rule::Rule;
use crate::lab::proxy::totals::DatagramTotals;
use crate::link::{Direction, Fate, Link, LinkConfig, Passage, Payload, Place, Script};

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowDatagram {
    /// Whose it is.
    pub flow: u64,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Payload for FlowDatagram {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// What is to be done with a datagram that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send it on, as it is and at once.
    Forward,
    /// Nothing: it is under way, or lost.
    Taken,
}

/// One direction.
#[derive(Debug)]
pub struct DatagramPath {
    direction: Direction,
    rules: Vec<Rule>,
    config: LinkConfig,
    /// Nothing that enters now can fare otherwise than well: it need not even be copied.
    is_perfect: bool,
    is_scripted: bool,
    link: Link<FlowDatagram>,
    totals: DatagramTotals,
}

impl DatagramPath {
    /// A direction whose chance is `seed`.
    #[must_use]
    pub fn new(direction: Direction, rules: Vec<Rule>, config: LinkConfig, seed: u64) -> Self {
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

    /// A direction that does to each datagram what `script` says.
    #[must_use]
    pub fn with_script(direction: Direction, rules: Vec<Rule>, script: Script) -> Self {
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

    /// Carries what is under way on, and everything after that over another link. A script goes on being followed.
    pub fn set_config(&mut self, now: Instant, config: LinkConfig) {
        self.is_perfect = !self.is_scripted && config == LinkConfig::perfect();
        self.link.set_config(now, config.clone());
        self.config = config;
    }

    /// What is done to datagrams.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Whether a datagram is to be impaired; every other passes untouched, and has no index.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.rules.iter().all(|rule| rule.holds(self.direction, bytes))
    }

    /// Counts a datagram that is not to be impaired.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.totals.datagrams += 1;
        self.totals.bytes += bytes.len() as u64;
    }

    /// A datagram that is to be impaired enters. Returns what to do with it, and what becomes of it.
    pub fn send(&mut self, now: Instant, place: Place, bytes: &[u8]) -> (Step, Fate) {
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

    /// The next datagram that has arrived.
    pub fn recv(&mut self, now: Instant) -> Option<FlowDatagram> {
        self.link.recv(now)
    }

    /// When the next datagram arrives; `None` when none is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.link.poll_timeout()
    }

    /// What came of everything so far.
    #[must_use]
    pub fn totals(&self) -> DatagramTotals {
        let requested = (!self.is_scripted).then(|| self.config.loss.clone());
        DatagramTotals { requested, ..self.totals.clone() }
    }
}
