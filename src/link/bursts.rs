//! Loss models with bursts: the three models with memory, their formulas and their Markov chains.

use std::fmt;

use crate::link::error::LinkError;
use crate::link::markov::Chain;
use crate::units::Probability;

/// Tolerance for rounding when a quotient of typed numbers is compared with a bound.
const ROUNDING: f64 = 1e-9;

/// The Gilbert model, parametrised by its results: the loss rate and the mean length of a run of losses.
///
/// Everything is lost in the bad state. With rate L and burst B, the model leaves the bad state with probability 1/B
/// and enters it with L / ((1 - L) B).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gilbert {
    rate: Probability,
    burst: f64,
}

impl Gilbert {
    /// Losses at `rate` in runs of `burst` datagrams on average, at least 1.
    ///
    /// # Errors
    ///
    /// `burst` is not a number of at least 1; or it is below `rate / (1 - rate)` with a rate below 1. Then less than
    /// one datagram would separate the runs.
    pub fn new(rate: Probability, burst: f64) -> Result<Self, LinkError> {
        if !(burst >= 1.0 && burst.is_finite()) {
            return Err(LinkError::Burst { burst });
        }
        let least = rate.get() / (1.0 - rate.get());
        if rate < Probability::ONE && least > burst * (1.0 + ROUNDING) {
            return Err(LinkError::ShortBurst { rate, burst, least });
        }
        Ok(Self { rate, burst })
    }

    /// The fraction of datagrams that is lost.
    #[must_use]
    pub const fn rate(&self) -> Probability {
        self.rate
    }

    /// The mean length of a run of losses, in datagrams.
    #[must_use]
    pub const fn burst(&self) -> f64 {
        self.burst
    }

    pub(super) fn mean_burst(&self) -> Option<f64> {
        (self.rate > Probability::ZERO && self.rate < Probability::ONE).then_some(self.burst)
    }

    pub(super) fn chain(&self) -> Chain {
        let rate = self.rate.get();
        let leave = if self.rate == Probability::ONE { 0.0 } else { 1.0 / self.burst };
        let enter = (rate / (1.0 - rate) / self.burst).min(1.0);
        Chain::two(enter, leave, rate, Probability::ONE, Probability::ZERO)
    }
}

impl fmt::Display for Gilbert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gilbert:{},{}", self.rate, self.burst)
    }
}

/// The parameters of [`LossModel::GilbertElliott`](super::LossModel::GilbertElliott), for its formulas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elliott {
    /// From the good state to the bad one.
    pub(super) p: Probability,
    /// From the bad state to the good one.
    pub(super) r: Probability,
    /// The loss in the good state.
    pub(super) good: Probability,
    /// The loss in the bad state.
    pub(super) bad: Probability,
}

impl Elliott {
    /// The fraction of time in the bad state. A chain that never moves stays in the good state, where it begins.
    fn bad_share(&self) -> f64 {
        let (p, r) = (self.p.get(), self.r.get());
        if p == 0.0 { 0.0 } else { p / (p + r) }
    }

    pub(super) fn rate(&self) -> f64 {
        let bad = self.bad_share();
        bad * self.bad.get() + (1.0 - bad) * self.good.get()
    }

    /// Losses per end of a run: the rate over the probability that a loss is followed by none.
    pub(super) fn mean_burst(&self) -> Option<f64> {
        let (p, r, share) = (self.p.get(), self.r.get(), self.bad_share());
        let (kept_good, kept_bad) = (self.good.complement().get(), self.bad.complement().get());
        let from_bad = share * self.bad.get() * (r * kept_good + (1.0 - r) * kept_bad);
        let from_good = (1.0 - share) * self.good.get() * (p * kept_bad + (1.0 - p) * kept_good);
        ratio(self.rate(), from_bad + from_good)
    }

    pub(super) fn chain(&self) -> Chain {
        Chain::two(self.p.get(), self.r.get(), self.bad_share(), self.bad, self.good)
    }
}

/// The four states of tc-netem's `loss state`: 1 good, 2 good within a burst, 3 lost within a burst, 4 an isolated
/// loss, which is always followed by 1. `p13` is the transition probability from 1 to 3, and so on.
///
/// The stationary shares of the states are proportional to `p31 p23`, `p13 p32`, `p13 p23` and `p14 p31 p23`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FourState {
    p13: Probability,
    p31: Probability,
    p32: Probability,
    p23: Probability,
    p14: Probability,
}

impl FourState {
    /// Creates the model with these transitions, in tc-netem's order.
    ///
    /// # Errors
    ///
    /// `p13 + p14` or `p31 + p32` exceeds 1.
    pub fn new(
        p13: Probability,
        p31: Probability,
        p32: Probability,
        p23: Probability,
        p14: Probability,
    ) -> Result<Self, LinkError> {
        for (names, one, other) in [("p13 + p14", p13, p14), ("p31 + p32", p31, p32)] {
            let sum = one.get() + other.get();
            if sum > 1.0 + ROUNDING {
                return Err(LinkError::Leaves { names, sum });
            }
        }
        Ok(Self { p13, p31, p32, p23, p14 })
    }

    /// The five transitions in tc-netem's order: p13, p31, p32, p23, p14.
    #[must_use]
    pub const fn transitions(&self) -> [Probability; 5] {
        [self.p13, self.p31, self.p32, self.p23, self.p14]
    }

    /// The stationary shares of the states 1 to 4. The chain begins in state 1, which selects the closed class if there
    /// are several.
    fn shares(&self) -> [f64; 4] {
        let [p13, p31, p32, p23, p14] = self.transitions().map(Probability::get);
        // Scaled, so that no product of tiny probabilities underflows.
        let (burst, inner) = (p13.max(p31), p23.max(p32));
        let (to_burst, from_burst) = if burst > 0.0 { (p13 / burst, p31 / burst) } else { (0.0, 1.0) };
        let (back, inside) = if inner > 0.0 { (p23 / inner, p32 / inner) } else { (1.0, 0.0) };
        let weights = if p13 == 0.0 {
            [1.0, 0.0, 0.0, p14]
        } else {
            [from_burst * back, to_burst * inside, to_burst * back, p14 * from_burst * back]
        };
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }

    pub(super) fn rate(&self) -> f64 {
        let [_, _, burst, isolated] = self.shares();
        burst + isolated
    }

    /// Losses per end of a run: those in a burst end with `p31 + p32`, isolated ones at once.
    pub(super) fn mean_burst(&self) -> Option<f64> {
        let [_, _, burst, isolated] = self.shares();
        ratio(burst + isolated, burst * (self.p31.get() + self.p32.get()).min(1.0) + isolated)
    }

    /// Its chain, with the states in the order 3, 4, 2, 1: those with losses first.
    pub(super) fn chain(&self) -> Chain {
        let [p13, p31, p32, p23, p14] = self.transitions().map(Probability::get);
        let [good, inside, burst, isolated] = self.shares();
        let stay = (1.0 - p31 - p32).max(0.0);
        let next = [
            [stay, stay, 1.0 - p31, 1.0],
            [0.0, 0.0, 0.0, 1.0],
            [p23, p23, 1.0, 1.0],
            [p13, p13 + p14, p13 + p14, 1.0],
        ];
        let lossy = burst + isolated;
        let first = [burst, lossy, if good > 0.0 { lossy + inside } else { 1.0 }, 1.0];
        Chain::four(next, first, [true, true, false, false])
    }
}

impl fmt::Display for FourState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state4:{},{},{},{},{}", self.p13, self.p31, self.p32, self.p23, self.p14)
    }
}

/// Losses over ends of runs; `None` if no run ever ends or begins.
fn ratio(rate: f64, ends: f64) -> Option<f64> {
    (rate > 0.0 && ends > 0.0).then(|| rate / ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(value: f64) -> Probability {
        Probability::new(value).unwrap()
    }

    #[test]
    fn an_impossible_burst_is_refused_with_the_least_possible_one() {
        for (rate, least) in [(0.75, "3"), (0.9, "9")] {
            let error = Gilbert::new(p(rate), 2.0).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("no chain loses {rate} of all datagrams in bursts of 2: the least burst is {least}")
            );
        }
        for burst in [0.0, 0.999, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Gilbert::new(p(0.1), burst).is_err(), "{burst}");
        }
        for (rate, burst) in [(0.9, 9.0), (0.5, 1.0), (0.0, 1.0), (1.0, 1.0), (0.99, 99.0)] {
            assert!(Gilbert::new(p(rate), burst).is_ok(), "{rate} {burst}");
        }
    }

    #[test]
    fn probabilities_out_of_a_state_sum_to_at_most_1() {
        let of = |p13, p31, p32, p14| FourState::new(p(p13), p(p31), p(p32), p(0.5), p(p14));
        assert_eq!(
            of(0.6, 0.5, 0.0, 0.5).unwrap_err().to_string(),
            "p13 + p14 is 1.1: more than 1 cannot leave a state"
        );
        assert!(of(0.6, 0.5, 0.6, 0.1).unwrap_err().to_string().starts_with("p31 + p32 is 1.1"));
        assert!(of(0.9, 0.7, 0.3, 0.1).is_ok());
    }

    #[test]
    fn the_shares_of_four_states_are_stationary_also_for_a_reducible_chain() {
        for t in [
            [0.1, 0.4, 0.2, 0.3, 0.05],
            [0.0, 0.4, 0.2, 0.3, 0.5],
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.2, 0.0, 0.0, 0.0, 0.1],
            [0.2, 0.3, 0.0, 0.0, 0.1],
            [0.2, 0.3, 0.4, 0.0, 0.1],
            [0.2, 0.0, 0.4, 0.5, 0.1],
            [1e-200, 1e-200, 1e-200, 1e-200, 0.0],
            [1.0, 0.0, 1.0, 1.0, 0.0],
        ] {
            let [p13, p31, p32, p23, p14] = t.map(p);
            let [one, two, three, four] = FourState::new(p13, p31, p32, p23, p14).unwrap().shares();
            let [p13, p31, p32, p23, p14] = t;
            let next = [
                one * (1.0 - p13 - p14) + three * p31 + four,
                two * (1.0 - p23) + three * p32,
                one * p13 + two * p23 + three * (1.0 - p31 - p32),
                one * p14,
            ];
            for (share, next) in [one, two, three, four].into_iter().zip(next) {
                assert!((share - next).abs() < 1e-12, "{t:?}");
            }
            assert!((one + two + three + four - 1.0).abs() < 1e-12, "{t:?}");
        }
    }
}
