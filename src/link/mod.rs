//! One direction of a simulated network: loses, delays, duplicates, damages and reorders datagrams.
//!
//! Datagrams pass it first after the socket on input, and last before the socket on output. The fate of a datagram is a
//! function of (seed, direction, flow, index). Flow is the ordinal in which its peer first appeared ([`Flows`]), index
//! counts the datagrams of the flow. Only a blackhole and a rate limit depend on the time as well. Code that only
//! drops, like a server that simulates loss on streams, uses [`Verdicts`]; [`Link`] delays and delivers datagrams as
//! well.
//!
//! A link is configured by a [`LinkConfig`], plain data with a text form (`spec`). The models are in `loss`, `bursts`
//! and `drops`, on chains from `markov`, and in `delay` and `rate`. A [`Profile`] is a link with a name; a `Script`
//! replays recorded decisions.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use sayagain::link::{Direction, Link};
//!
//! let mut link = Link::new("delay:50ms".parse()?, 1, Direction::Up);
//! let now = Instant::now();
//! link.send(now, 0, b"PNG 0000".to_vec());
//! assert_eq!(link.poll_timeout(), Some(now + Duration::from_millis(50)));
//! # Ok::<(), sayagain::link::LinkError>(())
//! ```

mod bursts;
mod config;
mod decision;
mod delay;
mod drops;
mod error;
mod flows;
mod loss;
mod markov;
mod profile;
mod rate;
mod recent;
mod rng;
mod script;
mod spec;
mod verdicts;

#[cfg(test)]
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use config::LinkConfig;
pub use decision::{Decision, Fate, Passage, Payload};
pub use error::LinkError;
pub(crate) use flows::MAX_FLOWS;
pub use flows::{Flows, Place};
pub(crate) use rate::rescale;
pub use rng::Direction;
pub(crate) use rng::Drawn;
pub(crate) use script::Script;

// Hidden: not part of the public API, without a promise of stability; for the tests and benches of this project.
#[doc(hidden)]
pub use {
    bursts::{FourState, Gilbert},
    delay::Delay,
    drops::DropList,
    loss::LossModel,
    profile::Profile,
    rate::RateLimit,
    spec::split_list,
    verdicts::Verdicts,
};

use crate::units::{Probability, later};
use rate::Bottleneck;
use recent::Recent;

/// The most datagrams in transit on a [`Link`]. Further ones are dropped, as by a full router, and counted apart from
/// simulated losses.
pub(crate) const MAX_UNDER_WAY: usize = 65_536;

/// The most bytes in transit on a [`Link`]: as many datagrams of 1,200 bytes, or 2,000 of the largest.
pub(crate) const MAX_BYTES_UNDER_WAY: usize = 128 << 20;

/// The counters of a [`Link`], in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Passed to the link, without the copies that it made.
    pub sent: u64,
    /// Lost by the loss model.
    pub lost: u64,
    /// Dropped, because they exceed the MTU.
    pub too_large: u64,
    /// Delivered with a flipped bit.
    pub corrupted: u64,
    /// Delivered truncated.
    pub truncated: u64,
    /// Duplicated.
    pub duplicated: u64,
    /// Datagrams and copies dropped because a queue was full: that of the rate limit, or the link's own of
    /// `MAX_UNDER_WAY` or `MAX_BYTES_UNDER_WAY`.
    pub overflowed: u64,
}

/// One direction of a simulated network. The caller passes the time: [`Link::send`], then [`Link::recv`] at each
/// [`Link::poll_timeout`] until it returns nothing. Calls at other times are harmless.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    direction: Direction,
    verdicts: Verdicts,
    /// Recorded decisions that replace random ones.
    script: Option<Script>,
    flows: Recent<u64, FlowState>,
    /// The index of the first datagram of each flow.
    first_index: u64,
    bottleneck: Bottleneck,
    /// Ordered by due time, then by insertion.
    under_way: BTreeMap<(Instant, u64), T>,
    bytes_under_way: usize,
    /// The ordinal of the next insertion.
    ordinal: u64,
    stats: LinkStats,
}

/// The position in the life of its loss model at which a [`Link`] begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The index of the first datagram of each flow.
    pub(crate) index: u64,
    /// The elapsed part of a blackhole's cycle at the first datagram.
    pub(crate) phase: Duration,
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, Default)]
struct FlowState {
    /// The index of its next datagram.
    next: u64,
    /// The arrival of its last datagram; kept only if datagrams may not overtake each other.
    last_due: Option<Instant>,
}

/// Input.
impl<T: Payload> Link<T> {
    /// Creates an empty link in `direction` with `seed`.
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64, direction: Direction) -> Self {
        Self {
            verdicts: Verdicts::new(config.loss.clone(), seed, direction),
            config,
            direction,
            script: None,
            flows: Recent::with_limit(MAX_FLOWS),
            first_index: 0,
            bottleneck: Bottleneck::default(),
            under_way: BTreeMap::new(),
            bytes_under_way: 0,
            ordinal: 0,
            stats: LinkStats::default(),
        }
    }

    /// Creates an empty link that repeats the decisions of `script`, with delays, copies and damage to the nanosecond,
    /// bit and byte. A datagram that is not in the script passes at once.
    #[must_use]
    pub(crate) fn with_script(script: Script, direction: Direction) -> Self {
        Self { script: Some(script), ..Self::new(LinkConfig::perfect(), 0, direction) }
    }

    /// The same link at another position in the life of its loss model.
    #[must_use]
    pub(crate) fn starting_at(mut self, start: Start) -> Self {
        self.first_index = start.index;
        self.verdicts.set_phase(start.phase);
        self
    }

    /// Sends a datagram of `flow` at `now`, and returns its fate.
    ///
    /// Its index is the number of earlier datagrams of that flow. A flow that was forgotten, because `MAX_FLOWS`
    /// others were used since, begins at 0 again.
    pub fn send(&mut self, now: Instant, flow: u64, item: T) -> Decision {
        let place = Place { flow, index: self.take_index(flow) };
        self.send_at(now, place, item)
    }

    /// [`Link::send`] for callers that count the datagrams of each flow: sends the datagram at `place`.
    pub fn send_at(&mut self, now: Instant, place: Place, mut item: T) -> Decision {
        let fate = match &self.script {
            Some(script) => script.fate(self.direction, place),
            None => self.decide(now, place, item.bytes().len()),
        };
        Decision { place, fate: self.carry_out(now, fate, item) }
    }

    fn take_index(&mut self, flow: u64) -> u64 {
        let first = FlowState { next: self.first_index, last_due: None };
        let state = self.flows.touch(&flow, || first);
        let index = state.next;
        state.next += 1;
        index
    }

    /// The models' decision about a datagram of `size` bytes.
    fn decide(&mut self, now: Instant, place: Place, size: usize) -> Fate {
        let drawn = self.config.draws().then(|| self.verdicts.draw(place.flow, place.index));
        if self.verdicts.judge(now, place.flow, place.index, drawn) {
            return Fate::Lost;
        }
        if self.config.mtu.is_some_and(|mtu| size > mtu) {
            return Fate::TooLarge;
        }
        let truncated = drawn.and_then(|drawn| chosen(drawn.truncate, self.config.truncate, size));
        let left = truncated.unwrap_or(size);
        let bit = |drawn: Drawn| chosen(drawn.corrupt, self.config.corrupt, left.saturating_mul(8));
        let corrupted = drawn.and_then(bit).map(|bit| bit as u64);
        let waited = match &self.config.rate {
            None => Some(Duration::ZERO),
            Some(rate) => self.bottleneck.pass(now, rate, left),
        };
        let Some(waited) = waited else { return Fate::QueueFull };
        let (delay, duplicate) = self.delays(drawn, waited);
        let passage = Passage { delay, duplicate, corrupted, truncated };
        Fate::Passed(if self.config.reorder { passage } else { self.queue_up(now, place.flow, passage) })
    }

    /// The delay of a datagram after its time in the queue, and of its copy, if there is one.
    fn delays(&self, drawn: Option<Drawn>, waited: Duration) -> (Duration, Option<Duration>) {
        let takes = |draw| waited.saturating_add(self.config.delay.at(draw));
        let is_doubled = |drawn: &Drawn| self.config.duplicate.happens(drawn.duplicate);
        let copy = drawn.filter(is_doubled).map(|drawn| takes(drawn.duplicate_delay));
        (takes(drawn.map_or(0, |drawn| drawn.delay)), copy)
    }

    /// Delays a datagram until the earlier ones of its flow have arrived.
    fn queue_up(&mut self, now: Instant, flow: u64, passage: Passage) -> Passage {
        let state = self.flows.touch(&flow, FlowState::default);
        let mut wait_for = |delay: Duration| {
            let alone = later(now, delay);
            let due = state.last_due.map_or(alone, |last| last.max(alone));
            state.last_due = Some(due);
            due.saturating_duration_since(now)
        };
        let delay = wait_for(passage.delay);
        Passage { delay, duplicate: passage.duplicate.map(wait_for), ..passage }
    }

    /// Applies a decision, as far as there is room, and counts it.
    fn carry_out(&mut self, now: Instant, fate: Fate, mut item: T) -> Fate {
        self.stats.sent += 1;
        let passage = match fate {
            Fate::Passed(passage) => passage,
            Fate::Lost => {
                self.stats.lost += 1;
                return fate;
            }
            Fate::TooLarge => {
                self.stats.too_large += 1;
                return fate;
            }
            Fate::QueueFull => {
                self.stats.overflowed += 1;
                return fate;
            }
        };
        damage(item.bytes(), &passage);
        let copy = passage.duplicate.map(|after| (after, item.clone()));
        if !self.put(now, passage.delay, item) {
            self.stats.overflowed += 1 + u64::from(copy.is_some());
            return Fate::QueueFull;
        }
        self.stats.corrupted += u64::from(passage.corrupted.is_some());
        self.stats.truncated += u64::from(passage.truncated.is_some());
        if let Some((after, copy)) = copy {
            self.stats.duplicated += 1;
            self.stats.overflowed += u64::from(!self.put(now, after, copy));
        }
        fate
    }

    /// Inserts a datagram in transit; returns whether there was room.
    fn put(&mut self, now: Instant, delay: Duration, mut item: T) -> bool {
        let bytes = self.bytes_under_way + item.bytes().len();
        if self.under_way.len() >= MAX_UNDER_WAY || bytes > MAX_BYTES_UNDER_WAY {
            return false;
        }
        self.bytes_under_way = bytes;
        self.under_way.insert((later(now, delay), self.ordinal), item);
        self.ordinal += 1;
        true
    }
}

/// Output.
impl<T: Payload> Link<T> {
    /// The next datagram that is due at `now`: the earliest, and among equals the first sent.
    pub fn recv(&mut self, now: Instant) -> Option<T> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        let mut item = first.remove();
        self.bytes_under_way = self.bytes_under_way.saturating_sub(item.bytes().len());
        Some(item)
    }

    /// The next due time; `None` if nothing is in transit.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }

    /// The counters so far.
    #[must_use]
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// The realised loss: the fraction of datagrams sent that the loss model lost, to show beside [`LossModel::rate`].
    /// `None` if nothing was sent.
    #[doc(hidden)]
    #[must_use]
    pub fn realised_loss(&self) -> Option<f64> {
        (self.stats.sent > 0).then(|| self.stats.lost as f64 / self.stats.sent as f64)
    }

    /// The configuration. A link with a script ignores it.
    #[doc(hidden)]
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Changes the configuration. Datagrams in transit, counters and indices stay. A new loss model judges as if it had
    /// been in force from the beginning of each flow. A blackhole counts from the next datagram on. The backlog of a
    /// rate limit is kept at the new rate. A script stays in force.
    pub fn set_config(&mut self, now: Instant, config: LinkConfig) {
        if config.loss != self.config.loss {
            self.verdicts.set_model(config.loss.clone());
        }
        if config.rate != self.config.rate {
            self.bottleneck.change(now, self.config.rate, config.rate);
        }
        self.config = config;
    }
}

/// One of `choices` numbers from 0 on, if an event of probability `p` happens.
fn chosen(draw: u64, p: Probability, choices: usize) -> Option<usize> {
    let choice = p.happens(draw).then(|| rng::choice(draw, p.get(), choices as u64))?;
    usize::try_from(choice?).ok()
}

/// Applies truncation and a flipped bit, as far as the bytes allow.
fn damage(bytes: &mut Vec<u8>, passage: &Passage) {
    if let Some(left) = passage.truncated {
        bytes.truncate(left);
        // The limit on bytes in transit counts lengths, not capacities.
        bytes.shrink_to_fit();
    }
    let Some(bit) = passage.corrupted else { return };
    if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 0x80 >> (bit % 8);
    }
}
