//! Times to ack: counts by rounded duration, in memory that does not grow with the number of times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stats::Moments;

/// Significant decimal digits of a stored time. Most times are multiples of a timeout, which have fewer digits, so
/// they are stored exactly; the buckets of a binary histogram would round them.
const DIGITS: u32 = 4;

/// Bound on the steps of a CDF.
const STEPS: u64 = 100;

/// Times, rounded to four significant digits. There are at most a few ten thousand different ones between a
/// microsecond and ten years.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Number of times, by rounded nanoseconds.
    counts: BTreeMap<u64, u64>,
    total: u64,
    /// In nanoseconds.
    moments: Moments,
    /// The longest time, unrounded.
    longest: Duration,
}

impl Times {
    /// Adds one time.
    pub(crate) fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        *self.counts.entry(rounded(nanos)).or_default() += 1;
        self.total += 1;
        self.moments.add(nanos);
        self.longest = self.longest.max(time);
    }

    /// Adds the times of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (nanos, count) in &other.counts {
            *self.counts.entry(*nanos).or_default() += count;
        }
        self.total += other.total;
        self.moments.merge(&other.moments);
        self.longest = self.longest.max(other.longest);
    }

    /// Returns the quantile `part` in seconds by nearest rank: the least time that at least this share of all times
    /// does not exceed. `None` without times.
    #[must_use]
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let mut below = 0;
        let within = |(nanos, count): (&u64, &u64)| {
            below += count;
            (below as f64 >= part * self.total as f64).then(|| self.seconds(*nanos))
        };
        self.counts.iter().find_map(within)
    }

    /// Returns the longest time, unrounded, in seconds.
    #[must_use]
    pub(crate) fn longest(&self) -> Option<f64> {
        (self.total > 0).then_some(self.longest.as_secs_f64())
    }

    /// Returns the sum, in nanoseconds.
    #[must_use]
    pub(crate) fn sum_nanos(&self) -> u128 {
        self.moments.sum()
    }

    /// Returns the mean, in seconds.
    #[must_use]
    pub(crate) fn mean(&self) -> Option<f64> {
        Some(self.moments.mean()? / 1e9)
    }

    /// Returns the difference between the mean and `expected`, in standard errors; both are in seconds. Uses the
    /// expected standard deviation where it is known: a sample with such long tails seldom shows its own.
    #[must_use]
    pub(crate) fn z(&self, expected: f64, deviation: Option<f64>) -> Option<f64> {
        match deviation {
            Some(deviation) => self.moments.z_with(expected * 1e9, deviation * 1e9),
            None => self.moments.z(expected * 1e9),
        }
    }

    /// Rounding must not make a time longer than the longest.
    fn seconds(&self, nanos: u64) -> f64 {
        Duration::from_nanos(nanos).min(self.longest).as_secs_f64()
    }

    /// Returns the cumulative distribution, ascending: seconds, and the share of `trials` that took no longer. It has
    /// 100 steps at most, each a time that occurred; the last is the longest.
    #[must_use]
    pub(crate) fn cdf(&self, trials: u64) -> Vec<(f64, f64)> {
        let (mut below, mut told, mut steps) = (0, 0, Vec::new());
        for (nanos, count) in &self.counts {
            below += count;
            if self.counts.len() as u64 <= STEPS
                || below - told >= self.total.div_ceil(STEPS)
                || below == self.total
            {
                told = below;
                steps.push((self.seconds(*nanos), below as f64 / trials as f64));
            }
        }
        steps
    }
}

/// Rounds to the nearest number with [`DIGITS`] significant digits.
fn rounded(nanos: u64) -> u64 {
    let digits = nanos.checked_ilog10().map_or(1, |log| log + 1);
    let unit = 10_u64.pow(digits.saturating_sub(DIGITS));
    nanos.saturating_add(unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: impl IntoIterator<Item = u64>) -> Times {
        let mut times = Times::default();
        millis.into_iter().for_each(|ms| times.add(Duration::from_millis(ms)));
        times
    }

    #[test]
    fn sums_of_timeouts_are_kept_exactly() {
        for nanos in [0, 1, 100_000_000, 700_000_000, 12_700_000_000, 25_500_000_000, 123_000_000_000] {
            assert_eq!(rounded(nanos), nanos);
        }
        assert_eq!(rounded(1_234_549_999), 1_235_000_000);
        assert_eq!(rounded(99_996), 100_000);
        assert_eq!(rounded(u64::MAX) % 1_000_000_000_000_000, 0);
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let times = times(1..=100);
        assert_eq!(times.quantile(0.5), Some(0.05));
        assert_eq!(times.quantile(0.9), Some(0.09));
        assert_eq!(times.quantile(0.99), Some(0.099));
        assert_eq!(times.quantile(1.0), Some(0.1));
        assert_eq!((times.longest(), times.mean()), (Some(0.1), Some(0.0505)));
        assert_eq!(Times::default().quantile(0.5), None);
        assert_eq!(Times::default().longest(), None);
    }

    #[test]
    fn a_cdf_ends_at_the_part_of_the_trials_that_were_answered() {
        let short = times([100, 100, 300]);
        assert_eq!(short.cdf(4), [(0.1, 0.5), (0.3, 0.75)]);
        let long = times(1..=1_000).cdf(2_000);
        assert_eq!(long.len(), 100);
        assert_eq!(long.first(), Some(&(0.01, 0.005)));
        assert_eq!(long.last(), Some(&(1.0, 0.5)));
        assert!(long.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        assert_eq!(Times::default().cdf(5), []);
    }

    #[test]
    fn no_quantile_is_longer_than_the_longest() {
        let mut times = Times::default();
        times.add(Duration::from_nanos(123_456_789));
        assert_eq!((times.quantile(0.5), times.longest()), (Some(0.123_456_789), Some(0.123_456_789)));
        assert_eq!(times.cdf(1), [(0.123_456_789, 1.0)]);
        assert_eq!((times.z(0.123_456_789, None), times.z(0.1, Some(0.023_456_789))), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn memory_is_bounded_whatever_the_times() {
        let mut times = Times::default();
        let mut nanos = 1_u64;
        for step in 0..300_000_u64 {
            nanos = nanos.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            times.add(Duration::from_nanos(nanos % 100_000_000_000));
        }
        assert!(times.counts.len() < 40_000, "{}", times.counts.len());
    }

    #[test]
    fn parts_add_up_in_any_order() {
        let mut one = times(1..=50);
        one.merge(&times(51..=100));
        let mut other = times(51..=100);
        other.merge(&times(1..=50));
        assert_eq!(one, other);
        assert_eq!(one, times(1..=100));
    }
}
