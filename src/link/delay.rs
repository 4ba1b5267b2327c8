//! The delay of a datagram: four distributions, each sampled by its inverse distribution function with one draw per
//! datagram.

use std::fmt;
use std::time::Duration;

use statrs::function::erf::erfc_inv;

use crate::units::{Seconds, scale, uniform};

/// The distribution of the delay, sampled for each datagram. Negative samples count as 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delay {
    /// Constant.
    Constant(Seconds),
    /// Uniform from `mean - jitter` to `mean + jitter`, both included, to the nanosecond.
    Uniform {
        /// The middle.
        mean: Seconds,
        /// The largest deviation.
        jitter: Seconds,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: Seconds,
        /// The standard deviation.
        deviation: Seconds,
    },
    /// Heavy-tailed, as tc-netem's `pareto` table: `mean + jitter * min(4, 4/3 * (u^(-1/3) - 3/2))` with `u` uniform
    /// from 0 to 1. At least `mean - 2/3 jitter`. One datagram in 91 has `mean + 4 jitter`, where netem's table ends as
    /// well. Because of that cap, the mean is `mean - 8/243 jitter` and the standard deviation 0.8209 jitter.
    Pareto {
        /// The base that the jitter is added to.
        mean: Seconds,
        /// The scale.
        jitter: Seconds,
    },
}

impl Delay {
    /// No delay.
    pub const ZERO: Self = Self::Constant(Seconds::ZERO);

    /// Whether the delay varies between datagrams.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.jitter() != Seconds::ZERO
    }

    /// The delay of a datagram with this draw.
    #[must_use]
    pub fn at(&self, draw: u64) -> Duration {
        match *self {
            Self::Constant(mean) => mean.as_duration(),
            Self::Uniform { mean, jitter } => {
                let (mean, jitter) = (mean.as_duration(), jitter.as_duration());
                // Twice the jitter as one length, shifted down afterwards, since a length cannot be negative.
                (mean + uniform(Duration::ZERO, jitter * 2, draw)).saturating_sub(jitter)
            }
            Self::Normal { mean, deviation } => offset(mean, deviation, normal(draw)),
            Self::Pareto { mean, jitter } => offset(mean, jitter, pareto(draw)),
        }
    }

    /// The centre of the distribution.
    #[must_use]
    pub const fn mean(&self) -> Seconds {
        match *self {
            Self::Constant(mean)
            | Self::Uniform { mean, .. }
            | Self::Normal { mean, .. }
            | Self::Pareto { mean, .. } => mean,
        }
    }

    /// The jitter or standard deviation.
    #[must_use]
    pub const fn jitter(&self) -> Seconds {
        match *self {
            Self::Constant(_) => Seconds::ZERO,
            Self::Uniform { jitter, .. } | Self::Pareto { jitter, .. } => jitter,
            Self::Normal { deviation, .. } => deviation,
        }
    }

    /// The same with another jitter; a constant delay becomes uniform.
    #[must_use]
    pub const fn with_jitter(&self, jitter: Seconds) -> Self {
        match *self {
            Self::Constant(mean) | Self::Uniform { mean, .. } => Self::Uniform { mean, jitter },
            Self::Normal { mean, .. } => Self::Normal { mean, deviation: jitter },
            Self::Pareto { mean, .. } => Self::Pareto { mean, jitter },
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self {
            Self::Constant(mean) => return write!(f, "delay:{mean}"),
            Self::Uniform { .. } => "",
            Self::Normal { .. } => "normal,",
            Self::Pareto { .. } => "pareto,",
        };
        write!(f, "delay:{shape}{},{}", self.mean(), self.jitter())
    }
}

/// `mean + by * spread`, at least 0.
fn offset(mean: Seconds, spread: Seconds, by: f64) -> Duration {
    let (mean, spread) = (mean.as_duration(), spread.as_duration());
    let off = scale(spread, by.abs());
    if by < 0.0 { mean.saturating_sub(off) } else { mean + off }
}

/// The midpoint of the draw's interval among 2^52 in (0, 1): never 0 or 1. With 2^53, the last would round to 1.
fn inner(draw: u64) -> f64 {
    ((draw >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// The quantile of the standard normal distribution.
fn normal(draw: u64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * inner(draw))
}

/// netem's table: a Pareto distribution of shape 3, less its mean, times 4/3, capped at 4.
fn pareto(draw: u64) -> f64 {
    ((inner(draw).cbrt().recip() - 1.5) * 4.0 / 3.0).min(4.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::rng::{Direction, Draws};

    fn s(text: &str) -> Seconds {
        text.parse().unwrap()
    }

    /// Mean, standard deviation and fourth central moment of 200,000 delays, in units of the jitter of 10 ms.
    fn moments(delay: Delay) -> (f64, f64, f64) {
        let draws = Draws::new(12, Direction::Up);
        let n = 200_000;
        let values: Vec<f64> =
            (0..n).map(|index| delay.at(draws.at(0, index).delay).as_secs_f64() / 0.01).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let central =
            |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / n as f64;
        (mean, central(2), central(4))
    }

    /// Asserts mean and variance (in jitters) within 3 standard errors: of the mean sqrt(var / n), of the variance
    /// sqrt((m4 - var^2) / n).
    fn assert_moments(delay: Delay, mean: f64, variance: f64) {
        let (measured, spread, fourth) = moments(delay);
        let n = 200_000_f64;
        let off = (measured - mean) / (variance / n).sqrt();
        assert!(off.abs() < 3.0, "{delay}: mean {measured} instead of {mean}, {off} standard errors");
        let off = (spread - variance) / ((fourth - variance * variance) / n).sqrt();
        assert!(off.abs() < 3.0, "{delay}: variance {spread} instead of {variance}, {off} standard errors");
    }

    #[test]
    fn every_distribution_has_the_mean_and_the_spread_of_its_formula() {
        let (mean, jitter) = (s("50ms"), s("10ms"));
        assert_moments(Delay::Uniform { mean, jitter }, 5.0, 1.0 / 3.0);
        assert_moments(Delay::Normal { mean, deviation: jitter }, 5.0, 1.0);
        // X of a Pareto distribution of shape 3 capped at 9/2: E X = 1 + (1 - 4/81) / 2, E X^2 = 3 - 4/9.
        let first = 1.0 + (1.0 - 4.0 / 81.0) / 2.0;
        let variance = (3.0 - 4.0 / 9.0 - first * first) * 16.0 / 9.0;
        assert_moments(Delay::Pareto { mean, jitter }, 5.0 - 8.0 / 243.0, variance);
        assert!((variance.sqrt() - 0.8209).abs() < 5e-5);
    }

    #[test]
    fn a_negative_sample_counts_as_zero() {
        // Half a uniform jitter is cut: the mean is j/4, and E X^2 = j^2/6.
        assert_moments(
            Delay::Uniform { mean: Seconds::ZERO, jitter: s("10ms") },
            0.25,
            1.0 / 6.0 - 1.0 / 16.0,
        );
        // A half-normal with half its mass at 0: mean 1/sqrt(2 pi), E X^2 = 1/2.
        let mean = (2.0 * std::f64::consts::PI).sqrt().recip();
        assert_moments(Delay::Normal { mean: Seconds::ZERO, deviation: s("10ms") }, mean, 0.5 - mean * mean);
    }

    #[test]
    fn the_ends_of_the_draw_are_the_ends_of_the_delay() {
        let (mean, jitter) = (s("50ms"), s("10ms"));
        let ends = |delay: Delay| [delay.at(0), delay.at(u64::MAX)].map(|length| length.as_secs_f64());
        assert_eq!(ends(Delay::Constant(mean)), [0.05, 0.05]);
        assert_eq!(ends(Delay::Uniform { mean, jitter }), [0.04, 0.06]);
        let [high, low] = ends(Delay::Pareto { mean, jitter });
        assert!((high - 0.09).abs() < 1e-9 && (low - (0.05 - 0.02 / 3.0)).abs() < 1e-9, "{high} {low}");
        let [low, high] = ends(Delay::Normal { mean, deviation: jitter });
        assert!(low == 0.0 && (0.05 + 0.08..0.05 + 0.085).contains(&high), "{low} {high}");
    }

    #[test]
    fn no_delay_exceeds_a_hundred_years() {
        let most = Seconds::MAX;
        for delay in [
            Delay::Uniform { mean: most, jitter: most },
            Delay::Normal { mean: most, deviation: most },
            Delay::Pareto { mean: most, jitter: most },
        ] {
            for draw in [0, u64::MAX / 2, u64::MAX] {
                assert!(delay.at(draw) <= most.as_duration() * 10);
            }
        }
    }
}
