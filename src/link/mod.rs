//! One direction of a network that loses, delays, duplicates and so reorders datagrams.
//!
//! Whatever happens to a datagram is a function of (seed, direction, flow, index): flow is the ordinal in which its peer
//! first appeared ([`Flows`]), index its n-th datagram. Who only drops, like a server that simulates loss, needs
//! [`Verdicts`] alone; [`Link`] carries datagrams through time as well.

mod decision;
mod flows;
mod loss;
mod rng;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub use decision::{Decision, Fate, Passage, Payload};
pub use flows::{Flows, MAX_FLOWS, Place};
pub use loss::{LossModel, Verdicts};
pub use rng::{Direction, Drawn, Draws};

use crate::units::{Probability, later, uniform};

/// How many datagrams are under way on a [`Link`] at once; beyond that they are dropped, as by a full router, and
/// counted apart from simulated losses. At 1,200 bytes each that is 75 MiB.
pub const MAX_UNDER_WAY: usize = 65_536;

/// What a [`Link`] does to datagrams.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Which datagrams are lost.
    pub loss: LossModel,
    /// How long a datagram takes: evenly distributed between the two, both included, drawn for each on its own, which is
    /// what reorders them. Either may be the smaller; equal ones keep the order.
    pub delay: (Duration, Duration),
    /// How likely it is that a datagram that is not lost arrives twice, each copy after its own delay.
    pub duplicate: Probability,
}

impl LinkConfig {
    /// Delivers everything once, at once and in order.
    #[must_use]
    pub fn perfect() -> Self {
        Self { loss: LossModel::None, delay: (Duration::ZERO, Duration::ZERO), duplicate: Probability::ZERO }
    }

    /// Whether chance decides anything here.
    fn draws(&self) -> bool {
        self.loss != LossModel::None || self.moves()
    }

    /// Whether chance decides anything about datagrams that are not lost.
    fn moves(&self) -> bool {
        self.delay.0 != self.delay.1 || self.duplicate != Probability::ZERO
    }
}

/// What a [`Link`] has done so far, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Handed to the link; a copy that the link made does not count.
    pub sent: u64,
    /// Lost by the loss model.
    pub lost: u64,
    /// Made to arrive twice.
    pub duplicated: u64,
    /// Datagrams and copies dropped because [`MAX_UNDER_WAY`] were under way.
    pub overflowed: u64,
}

/// One direction of a simulated network. Time is handed in: [`Link::send`], then [`Link::recv`] whenever
/// [`Link::poll_timeout`] is due, until it has nothing more; calls at any other time are harmless.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    direction: Direction,
    verdicts: Verdicts,
    /// Counts the datagrams of each flow; what it numbers flows itself is not used.
    counts: Flows<u64>,
    /// By the instant they are due, then by the order in which they were put here.
    under_way: BTreeMap<(Instant, u64), T>,
    /// The ordinal of the next datagram put under way.
    ordinal: u64,
    duplicated: u64,
    overflowed: u64,
}

impl<T: Clone> Link<T> {
    /// An empty link in `direction` whose chance is `seed`.
    #[must_use]
    pub fn new(config: LinkConfig, seed: u64, direction: Direction) -> Self {
        Self {
            verdicts: Verdicts::new(config.loss.clone(), seed, direction),
            config,
            direction,
            counts: Flows::new(),
            under_way: BTreeMap::new(),
            ordinal: 0,
            duplicated: 0,
            overflowed: 0,
        }
    }

    /// A datagram of `flow` enters the link at `now`; returns what becomes of it.
    ///
    /// Its index is the number of datagrams of that flow that entered before it. A flow that has been forgotten, since
    /// [`MAX_FLOWS`] others were used after it, begins at 0 again.
    pub fn send(&mut self, now: Instant, flow: u64, item: T) -> Decision {
        let place = Place { flow, index: self.index(flow) };
        Decision { place, fate: self.judge(now, place, item) }
    }

    fn judge(&mut self, now: Instant, place: Place, item: T) -> Fate {
        if self.verdicts.lost(place.flow, place.index) {
            return Fate::Lost;
        }
        let draws = self.config.moves().then(|| self.verdicts.draws().at(place.flow, place.index));
        let (one, other) = self.config.delay;
        let delay = uniform(one, other, draws.map_or(0, |drawn| drawn.delay));
        let is_doubled = |drawn: &Drawn| self.config.duplicate.happens(drawn.duplicate);
        let duplicate = draws.filter(is_doubled).map(|drawn| uniform(one, other, drawn.duplicate_delay));
        if let Some(second) = duplicate {
            self.duplicated += 1;
            self.put(now, second, item.clone());
        }
        match self.put(now, delay, item) {
            true => Fate::Passed(Passage { delay, duplicate, ..Passage::default() }),
            false => Fate::QueueFull,
        }
    }

    /// The next datagram that is due at `now`, if any: the earliest due, and of those the first sent.
    pub fn recv(&mut self, now: Instant) -> Option<T> {
        let first = self.under_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the next datagram is due; `None` when none is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((due, _), _)| *due)
    }

    /// What the link has done so far.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        LinkStats {
            sent: self.verdicts.seen_count(),
            lost: self.verdicts.lost_count(),
            duplicated: self.duplicated,
            overflowed: self.overflowed,
        }
    }

    /// The part of the datagrams sent that the loss model lost, to stand beside [`LossModel::rate`]; `None` when nothing
    /// was sent.
    #[must_use]
    pub fn realised_loss(&self) -> Option<f64> {
        self.verdicts.realised_loss()
    }

    /// The index of this datagram in its flow; where nothing is drawn there is nothing to remember.
    fn index(&mut self, flow: u64) -> u64 {
        if self.config.draws() { self.counts.next(&flow, self.direction).index } else { 0 }
    }

    /// Puts a datagram under way; returns whether there was room.
    fn put(&mut self, now: Instant, delay: Duration, item: T) -> bool {
        if self.under_way.len() >= MAX_UNDER_WAY {
            self.overflowed += 1;
            return false;
        }
        self.under_way.insert((later(now, delay), self.ordinal), item);
        self.ordinal += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn p(value: f64) -> Probability {
        Probability::new(value).unwrap()
    }

    /// Sends 0 to `n` - 1 in flow 0, all at once, and returns what arrives with the time it took.
    fn carry(link: &mut Link<u64>, n: u64) -> Vec<(u64, Duration)> {
        let start = origin();
        for item in 0..n {
            link.send(start, 0, item);
        }
        let mut arrived = Vec::new();
        while let Some(due) = link.poll_timeout() {
            assert!(due == start || link.recv(due - Duration::from_nanos(1)).is_none());
            while let Some(item) = link.recv(due) {
                arrived.push((item, due - start));
            }
        }
        arrived
    }

    #[test]
    fn a_perfect_link_delivers_everything_at_once_and_in_order() {
        let mut link = Link::new(LinkConfig::perfect(), 1, Direction::Up);
        let arrived = carry(&mut link, 100);
        assert!(arrived.iter().map(|(item, _)| *item).eq(0..100));
        assert!(arrived.iter().all(|(_, took)| took.is_zero()));
        assert!(link.counts.is_empty());
        assert_eq!(link.stats(), LinkStats { sent: 100, ..LinkStats::default() });
    }

    #[test]
    fn nothing_arrives_before_it_is_due() {
        let mut link =
            Link::new(LinkConfig { delay: (ms(20), ms(20)), ..LinkConfig::perfect() }, 1, Direction::Up);
        let now = origin();
        assert_eq!((link.recv(now), link.poll_timeout()), (None, None));
        link.send(now, 0, 'a');
        link.send(now + ms(5), 0, 'b');
        assert_eq!(link.poll_timeout(), Some(now + ms(20)));
        assert_eq!(link.recv(now + ms(19)), None);
        assert_eq!(link.recv(now + ms(20)), Some('a'));
        assert_eq!(link.recv(now + ms(20)), None);
        assert_eq!(link.recv(now + ms(60)), Some('b'));
        assert_eq!(link.poll_timeout(), None);
    }

    #[test]
    fn a_delay_that_varies_reorders_and_arrivals_are_in_order_of_time() {
        let config = LinkConfig { delay: (ms(5), ms(50)), ..LinkConfig::perfect() };
        let arrived = carry(&mut Link::new(config.clone(), 1, Direction::Up), 1000);
        assert_eq!(arrived.len(), 1000);
        assert!(arrived.is_sorted_by_key(|(_, took)| *took));
        assert!(!arrived.is_sorted_by_key(|(item, _)| *item));
        assert!(arrived.iter().all(|(_, took)| (ms(5)..=ms(50)).contains(took)));
        let mean = arrived.iter().map(|(_, took)| took.as_secs_f64()).sum::<f64>() / 1000.0;
        assert!((mean - 0.0275).abs() < 3.0 * 0.045 / 12_f64.sqrt() / 1000_f64.sqrt(), "{mean}");
        let swapped = LinkConfig { delay: (ms(50), ms(5)), ..config };
        assert_eq!(carry(&mut Link::new(swapped, 1, Direction::Up), 1000), arrived);
    }

    #[test]
    fn datagrams_due_at_one_instant_arrive_in_the_order_they_were_sent() {
        let config = LinkConfig { delay: (ms(7), ms(7)), ..LinkConfig::perfect() };
        let arrived = carry(&mut Link::new(config, 1, Direction::Up), 1000);
        assert!(arrived.iter().map(|(item, _)| *item).eq(0..1000));
    }

    #[test]
    fn duplicates_come_at_their_rate_each_after_its_own_delay() {
        let config = LinkConfig { delay: (ms(5), ms(50)), duplicate: p(0.2), ..LinkConfig::perfect() };
        let mut link = Link::new(config, 3, Direction::Down);
        let arrived = carry(&mut link, 20_000);
        let duplicated = link.stats().duplicated;
        let error = (0.2 * 0.8 * 20_000_f64).sqrt();
        assert!((duplicated as f64 - 4_000.0).abs() < 3.0 * error, "{duplicated}");
        assert_eq!(arrived.len() as u64, 20_000 + duplicated);
        let mut times: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
        arrived.iter().for_each(|(item, took)| times.entry(*item).or_default().push(*took));
        assert!(times.values().filter(|t| t.len() == 2).all(|t| t[0] != t[1]));
    }

    #[test]
    fn a_duplicate_probability_of_1_doubles_everything() {
        let config = LinkConfig { duplicate: Probability::ONE, ..LinkConfig::perfect() };
        let arrived = carry(&mut Link::new(config, 3, Direction::Down), 3);
        assert!(arrived.iter().map(|(item, _)| *item).eq([0, 0, 1, 1, 2, 2]));
    }

    #[test]
    fn the_realised_loss_is_what_did_not_arrive() {
        let config = LinkConfig { loss: LossModel::Bernoulli(p(0.3)), ..LinkConfig::perfect() };
        let mut link = Link::new(config, 5, Direction::Up);
        assert_eq!(link.realised_loss(), None);
        let arrived = carry(&mut link, 50_000);
        let stats = link.stats();
        assert_eq!(arrived.len() as u64, stats.sent - stats.lost);
        assert_eq!(link.realised_loss(), Some(stats.lost as f64 / 50_000.0));
        assert!((link.realised_loss().unwrap() - 0.3).abs() < 3.0 * (0.3 * 0.7 / 50_000_f64).sqrt());
    }

    #[test]
    fn delay_and_duplication_do_not_change_what_is_lost() {
        let loss = LossModel::Bernoulli(p(0.3));
        let plain = LinkConfig { loss, ..LinkConfig::perfect() };
        let busy = LinkConfig { delay: (ms(1), ms(9)), duplicate: p(0.5), ..plain.clone() };
        let arrivals = |config| {
            let mut items: Vec<u64> = carry(&mut Link::new(config, 8, Direction::Up), 2000)
                .into_iter()
                .map(|(item, _)| item)
                .collect();
            items.sort_unstable();
            items.dedup();
            items
        };
        assert_eq!(arrivals(plain), arrivals(busy));
    }

    #[test]
    fn a_link_loses_what_verdicts_alone_would_lose() {
        let loss = LossModel::Bernoulli(p(0.4));
        let mut verdicts = Verdicts::new(loss.clone(), 11, Direction::Down);
        let survivors: Vec<u64> = (0..1000).filter(|index| !verdicts.lost(0, *index)).collect();
        let mut link = Link::new(LinkConfig { loss, ..LinkConfig::perfect() }, 11, Direction::Down);
        assert!(carry(&mut link, 1000).into_iter().map(|(item, _)| item).eq(survivors));
    }

    #[test]
    fn a_flow_fares_the_same_whatever_other_flows_send() {
        let config = LinkConfig { loss: LossModel::Bernoulli(p(0.4)), ..LinkConfig::perfect() };
        let now = origin();
        let arrivals = |others: u64| {
            let mut link = Link::new(config.clone(), 2, Direction::Up);
            for item in 0..500 {
                for other in 0..others {
                    link.send(now, other + 1, u64::MAX);
                }
                link.send(now, 0, item);
            }
            std::iter::from_fn(|| link.recv(now)).filter(|item| *item != u64::MAX).collect::<Vec<_>>()
        };
        assert_eq!(arrivals(0), arrivals(7));
    }

    #[test]
    fn no_state_grows_beyond_its_bound() {
        let config =
            LinkConfig { delay: (ms(5), ms(50)), duplicate: Probability::ONE, ..LinkConfig::perfect() };
        let mut link = Link::new(config, 1, Direction::Up);
        let now = origin();
        for flow in 0..200_000 {
            link.send(now, flow, ());
        }
        assert_eq!(link.counts.len(), MAX_FLOWS);
        assert_eq!(link.under_way.len(), MAX_UNDER_WAY);
        assert_eq!(link.stats().overflowed, 400_000 - MAX_UNDER_WAY as u64);
        assert_eq!(link.stats().lost, 0);
    }

    #[test]
    fn a_delay_beyond_any_clock_counts_as_ten_years() {
        let config = LinkConfig { delay: (Duration::MAX, Duration::MAX), ..LinkConfig::perfect() };
        let mut link = Link::new(config, 1, Direction::Up);
        let now = origin();
        link.send(now, 0, ());
        assert_eq!(link.poll_timeout(), Some(now + ms(10 * 365 * 24 * 60 * 60 * 1000)));
    }
}
