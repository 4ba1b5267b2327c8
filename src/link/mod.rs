//! One direction of a network that loses, delays, duplicates, damages and so reorders datagrams.
//!
//! Whatever happens to a datagram is a function of (seed, direction, flow, index): flow is the ordinal in which its peer
//! first appeared ([`Flows`]), index its n-th datagram. Only a blackhole and a rate limit look at the time as well. Who
//! only drops, like a server that simulates loss on streams, needs [`Verdicts`] alone; [`Link`] carries datagrams through
//! time as well.
//!
//! What a link does is a [`LinkConfig`], plain data with a text form (`spec`). The models: `loss`, `bursts` and `drops`
//! with `markov` below them, `delay`, `rate`; [`Profile`]s are links with a name, a [`Script`] is what a link did before.

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

pub use bursts::{FourState, Gilbert};
pub use config::LinkConfig;
pub use decision::{Decision, Fate, Passage, Payload};
pub use delay::Delay;
pub use drops::DropList;
pub use error::LinkError;
pub use flows::{Flows, MAX_FLOWS, Place};
pub use loss::LossModel;
pub use profile::Profile;
pub(crate) use rate::rescale;
pub use rate::{DEFAULT_QUEUE, Rate};
pub use rng::{Direction, Drawn, Draws};
pub use script::Script;
pub use spec::split_list;
pub use verdicts::Verdicts;

use crate::units::{Probability, later};
use rate::Bottleneck;
use recent::Recent;

/// How many datagrams are under way on a [`Link`] at once; beyond that they are dropped, as by a full router, and
/// counted apart from simulated losses.
pub const MAX_UNDER_WAY: usize = 65_536;

/// How many bytes are under way on a [`Link`] at once: as many datagrams of 1,200 bytes, or 2,000 of the largest.
pub const MAX_BYTES_UNDER_WAY: usize = 128 << 20;

/// What a [`Link`] has done so far, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Handed to the link; a copy that the link made does not count.
    pub sent: u64,
    /// Lost by the loss model.
    pub lost: u64,
    /// Larger than the MTU, and dropped.
    pub too_large: u64,
    /// Passed with a flipped bit.
    pub corrupted: u64,
    /// Passed with less than they were sent with.
    pub truncated: u64,
    /// Made to arrive twice.
    pub duplicated: u64,
    /// Datagrams and copies dropped because a queue was full: that of the rate limit, or the link itself with
    /// [`MAX_UNDER_WAY`] or [`MAX_BYTES_UNDER_WAY`].
    pub overflowed: u64,
}

/// One direction of a simulated network. Time is handed in: [`Link::send`], then [`Link::recv`] whenever
/// [`Link::poll_timeout`] is due, until it has nothing more; calls at any other time are harmless.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    direction: Direction,
    verdicts: Verdicts,
    /// What to go by instead of chance.
    script: Option<Script>,
    flows: Recent<u64, FlowState>,
    /// The index of the first datagram of each flow.
    first_index: u64,
    bottleneck: Bottleneck,
    /// By the instant they are due, then by the order in which they were put here.
    under_way: BTreeMap<(Instant, u64), T>,
    bytes_under_way: usize,
    /// The ordinal of the next datagram put under way.
    ordinal: u64,
    stats: LinkStats,
}

/// Where in the life of its loss model a [`Link`] begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// The index of the first datagram of each flow.
    pub(crate) index: u64,
    /// How much of its cycle a blackhole has behind it when the first datagram comes.
    pub(crate) phase: Duration,
}

/// What is remembered of a flow.
#[derive(Clone, Copy, Debug, Default)]
struct FlowState {
    /// The index of its next datagram.
    next: u64,
    /// When the last of its datagrams arrives; kept only where none may overtake another.
    last_due: Option<Instant>,
}

/// Input.
impl<T: Payload> Link<T> {
    /// An empty link in `direction` whose chance is `seed`.
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

    /// An empty link that does to each datagram what `script` says, delays, copies and damage to the nanosecond, bit and
    /// byte. A datagram that the script does not know passes at once.
    #[must_use]
    pub fn with_script(script: Script, direction: Direction) -> Self {
        Self { script: Some(script), ..Self::new(LinkConfig::perfect(), 0, direction) }
    }

    /// The same link at another point in the life of its loss model.
    #[must_use]
    pub(crate) fn starting_at(mut self, start: Start) -> Self {
        self.first_index = start.index;
        self.verdicts.set_phase(start.phase);
        self
    }

    /// A datagram of `flow` enters the link at `now`; returns what becomes of it.
    ///
    /// Its index is the number of datagrams of that flow that entered before it. A flow that has been forgotten, since
    /// [`MAX_FLOWS`] others were used after it, begins at 0 again.
    pub fn send(&mut self, now: Instant, flow: u64, item: T) -> Decision {
        let place = Place { flow, index: self.take_index(flow) };
        self.send_at(now, place, item)
    }

    /// [`Link::send`] for who counts the datagrams of each flow: this is the one of that place.
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

    /// What the models make of a datagram of `size` bytes.
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

    /// How long a datagram takes that has waited so long, and its copy, if there is one.
    fn delays(&self, drawn: Option<Drawn>, waited: Duration) -> (Duration, Option<Duration>) {
        let takes = |draw| waited.saturating_add(self.config.delay.at(draw));
        let is_doubled = |drawn: &Drawn| self.config.duplicate.happens(drawn.duplicate);
        let copy = drawn.filter(is_doubled).map(|drawn| takes(drawn.duplicate_delay));
        (takes(drawn.map_or(0, |drawn| drawn.delay)), copy)
    }

    /// Lets it wait for what went before it in its flow.
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

    /// Does what was decided, as far as there is room, and counts it.
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

    /// Puts a datagram under way; returns whether there was room.
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
    /// The next datagram that is due at `now`, if any: the earliest due, and of those the first sent.
    pub fn recv(&mut self, now: Instant) -> Option<T> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now)?;
        let mut item = first.remove();
        self.bytes_under_way = self.bytes_under_way.saturating_sub(item.bytes().len());
        Some(item)
    }

    /// When the next datagram is due; `None` when none is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }

    /// What the link has done so far.
    #[must_use]
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// The part of the datagrams sent that the loss model lost, to stand beside [`LossModel::rate`]; `None` when nothing
    /// was sent.
    #[must_use]
    pub fn realised_loss(&self) -> Option<f64> {
        (self.stats.sent > 0).then(|| self.stats.lost as f64 / self.stats.sent as f64)
    }

    /// What it does to datagrams; of a link with a script, what it would do without.
    #[must_use]
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Does something else to datagrams from now on. What is under way stays under way, and counters and indices go on; a
    /// loss model that is another than before judges as if it had been in force from each flow's beginning, and a
    /// blackhole counts from the next datagram on. What the queue of a rate limit holds counts, at the next rate, against
    /// what comes after it. A script goes on being followed.
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

/// One of `choices` numbers from 0 on, if something of probability `p` happens.
fn chosen(draw: u64, p: Probability, choices: usize) -> Option<usize> {
    let choice = p.happens(draw).then(|| rng::choice(draw, p.get(), choices as u64))?;
    usize::try_from(choice?).ok()
}

/// Cuts and flips what a passage says, as far as it is there.
fn damage(bytes: &mut Vec<u8>, passage: &Passage) {
    if let Some(left) = passage.truncated {
        bytes.truncate(left);
        // What is under way is bounded by what it holds, not by what it held.
        bytes.shrink_to_fit();
    }
    let Some(bit) = passage.corrupted else { return };
    if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| bytes.get_mut(at)) {
        *byte ^= 0x80 >> (bit % 8);
    }
}
