//! Which datagrams are lost, and how many were.

use crate::link::rng::{Direction, Draws};
use crate::units::Probability;

/// Decides which datagrams are lost.
///
/// A verdict is a function of the datagram's place alone. A model that remembers (bursts) looks back at the draws of
/// earlier indices of the same flow.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum LossModel {
    /// None is lost; nothing is drawn.
    None,
    /// Each is lost with this probability, independently of all others.
    Bernoulli(Probability),
}

impl LossModel {
    /// Whether datagram `index` of `flow` is lost.
    #[must_use]
    pub fn lost(&self, draws: &Draws, flow: u64, index: u64) -> bool {
        match self {
            Self::None => false,
            Self::Bernoulli(p) => p.happens(draws.at(flow, index).loss),
        }
    }

    /// The part of datagrams that is lost in the long run, by the model's formula.
    #[must_use]
    pub fn rate(&self) -> Probability {
        match self {
            Self::None => Probability::ZERO,
            Self::Bernoulli(p) => *p,
        }
    }
}

impl From<Probability> for LossModel {
    /// Independent losses at this rate; at 0, no model at all.
    fn from(rate: Probability) -> Self {
        if rate == Probability::ZERO { Self::None } else { Self::Bernoulli(rate) }
    }
}

/// A loss model at work in one direction: who drops datagrams asks this, and finds here how many were dropped.
///
/// It keeps two counters and nothing per flow: flow and index are handed in, from [`Flows`](super::Flows) for instance.
#[derive(Clone, Debug)]
pub struct Verdicts {
    draws: Draws,
    model: LossModel,
    seen: u64,
    lost: u64,
}

impl Verdicts {
    /// The verdicts of `model` in one direction under `seed`.
    #[must_use]
    pub fn new(model: LossModel, seed: u64, direction: Direction) -> Self {
        Self { draws: Draws::new(seed, direction), model, seen: 0, lost: 0 }
    }

    /// Whether datagram `index` of `flow` is lost; counts it.
    pub fn lost(&mut self, flow: u64, index: u64) -> bool {
        let lost = self.model.lost(&self.draws, flow, index);
        self.seen += 1;
        self.lost += u64::from(lost);
        lost
    }

    /// The same model and draws with counters of its own, for whoever judges elsewhere and reports with
    /// [`Verdicts::count`].
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { seen: 0, lost: 0, ..self.clone() }
    }

    /// Adds what a [`sibling`](Verdicts::sibling) has judged.
    pub fn count(&mut self, seen: u64, lost: u64) {
        self.seen += seen;
        self.lost += lost;
    }

    /// The model that decides.
    #[must_use]
    pub fn model(&self) -> &LossModel {
        &self.model
    }

    /// What it decides from.
    #[must_use]
    pub fn draws(&self) -> &Draws {
        &self.draws
    }

    /// How many datagrams were asked about.
    #[must_use]
    pub fn seen_count(&self) -> u64 {
        self.seen
    }

    /// How many of them were lost.
    #[must_use]
    pub fn lost_count(&self) -> u64 {
        self.lost
    }

    /// The part that was lost, to stand beside [`LossModel::rate`]; `None` when there were no datagrams.
    #[must_use]
    pub fn realised_loss(&self) -> Option<f64> {
        (self.seen > 0).then(|| self.lost as f64 / self.seen as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bernoulli(p: f64) -> LossModel {
        LossModel::Bernoulli(Probability::new(p).unwrap())
    }

    /// Verdicts over `n` datagrams of four flows.
    fn over(model: LossModel, seed: u64, n: u64) -> Verdicts {
        let mut verdicts = Verdicts::new(model, seed, Direction::Up);
        for i in 0..n {
            verdicts.lost(i % 4, i / 4);
        }
        verdicts
    }

    #[test]
    fn the_realised_rate_of_a_million_is_within_three_standard_errors() {
        for p in [0.0001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.999] {
            let verdicts = over(bernoulli(p), 20_240_607, 1_000_000);
            let realised = verdicts.realised_loss().unwrap();
            let error = (p * (1.0 - p) / 1e6_f64).sqrt();
            assert!((realised - p).abs() < 3.0 * error, "asked {p}, realised {realised}");
            assert_eq!(verdicts.model().rate().get(), p);
        }
    }

    #[test]
    fn at_0_none_is_lost_and_at_1_all_are() {
        assert_eq!(over(bernoulli(0.0), 1, 100_000).lost_count(), 0);
        assert_eq!(over(bernoulli(1.0), 1, 100_000).lost_count(), 100_000);
        assert_eq!(over(bernoulli(1.0 - f64::EPSILON / 2.0), 1, 100_000).lost_count(), 100_000);
        assert_eq!(over(LossModel::None, 1, 100_000).lost_count(), 0);
    }

    #[test]
    fn a_rate_that_was_never_measured_is_missing_and_not_0() {
        let mut verdicts = Verdicts::new(LossModel::None, 1, Direction::Up);
        assert_eq!(verdicts.realised_loss(), None);
        assert!(!verdicts.lost(0, 0));
        assert_eq!(verdicts.realised_loss(), Some(0.0));
    }

    #[test]
    fn verdicts_do_not_depend_on_how_flows_interleave() {
        let places: Vec<(u64, u64)> =
            (0..50).flat_map(|flow| (0..50).map(move |index| (flow, index))).collect();
        let judge = |places: &[(u64, u64)]| {
            let mut verdicts = Verdicts::new(bernoulli(0.3), 9, Direction::Down);
            let mut lost: Vec<_> = places.iter().copied().filter(|(f, i)| verdicts.lost(*f, *i)).collect();
            lost.sort_unstable();
            lost
        };
        let mut transposed = places.clone();
        transposed.sort_unstable_by_key(|(flow, index)| (*index, std::cmp::Reverse(*flow)));
        assert_eq!(judge(&places), judge(&transposed));
    }

    #[test]
    fn seeds_directions_and_flows_are_lost_independently() {
        let pattern = |seed, direction, flow| -> Vec<bool> {
            let mut verdicts = Verdicts::new(bernoulli(0.5), seed, direction);
            (0..10_000).map(|index| verdicts.lost(flow, index)).collect()
        };
        let base = pattern(1, Direction::Up, 0);
        for other in
            [pattern(2, Direction::Up, 0), pattern(1, Direction::Down, 0), pattern(1, Direction::Up, 1)]
        {
            let agreeing = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!((4_850..=5_150).contains(&agreeing), "{agreeing} of 10000 agree");
        }
    }

    #[test]
    fn a_lower_rate_loses_a_subset_of_what_a_higher_one_loses() {
        let mut low = Verdicts::new(bernoulli(0.1), 3, Direction::Up);
        let mut high = Verdicts::new(bernoulli(0.2), 3, Direction::Up);
        assert!((0..10_000).all(|index| !low.lost(0, index) | high.lost(0, index)));
    }

    #[test]
    fn a_rate_of_0_is_no_model_at_all() {
        assert_eq!(LossModel::from(Probability::ZERO), LossModel::None);
        assert_eq!(LossModel::from(Probability::ONE), bernoulli(1.0));
    }
}
