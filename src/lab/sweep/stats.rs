//! Statistics of measurements: proportions with their intervals, means with their errors, each with its formula.
//! Requests are independent here; dependent ones are in `ratio`.

/// The least variance of a count for which standard errors are meaningful.
const LEAST_VARIANCE: f64 = 3.0;

/// The two-sided 95 % quantile of the normal distribution.
pub(super) const Z95: f64 = 1.959_963_984_540_054;

/// The 95 % Wilson score interval of a proportion: `(low, high)`, both from 0 to 1; `None` without trials.
///
/// With z = 1.96, n trials and p = successes/n, its middle is (p + z²/2n) / (1 + z²/n). Its half width is z
/// sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n) (Wilson, 1927). Unlike the normal interval it is not empty where all or none
/// succeeded.
#[must_use]
pub(crate) fn wilson(successes: u64, trials: u64) -> Option<(f64, f64)> {
    if trials == 0 {
        return None;
    }
    Some(wilson_with(successes as f64 / trials as f64, trials as f64, Z95))
}

/// The Wilson interval for a proportion `p` of `n` trials, which need not be whole, with `z` as the quantile.
pub(super) fn wilson_with(p: f64, n: f64, z: f64) -> (f64, f64) {
    let spread = z * z / n;
    let middle = (p + spread / 2.0) / (1.0 + spread);
    let half = (spread * (p * (1.0 - p) + spread / 4.0)).sqrt() / (1.0 + spread);
    // At the ends only a rounding error would remain.
    let low = if p <= 0.0 { 0.0 } else { middle - half };
    let high = if p >= 1.0 { 1.0 } else { middle + half };
    (low, high)
}

/// Returns the difference between a measured and an expected proportion, in standard errors sqrt(p(1-p)/n) of the
/// expected one.
///
/// `None` in three cases: without trials; where something impossible was measured or something certain was not; with an
/// expected variance n p (1-p) below 3, where the distribution is far from normal.
#[must_use]
pub(crate) fn proportion_z(successes: u64, trials: u64, expected: f64) -> Option<f64> {
    if trials == 0 {
        return None;
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let variance = n * expected * (1.0 - expected);
    if variance > 0.0 && variance < LEAST_VARIANCE {
        return None;
    }
    in_errors(p, expected, (expected * (1.0 - expected) / n).sqrt())
}

/// Count, sum and sum of squares, from which mean and standard error follow. Whole numbers, so the order of additions
/// does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moments {
    count: u64,
    sum: u128,
    squares: u128,
}

impl Moments {
    /// Adds one value.
    pub(crate) fn add(&mut self, value: u64) {
        self.count += 1;
        self.sum += u128::from(value);
        self.squares = self.squares.saturating_add(u128::from(value) * u128::from(value));
    }

    /// Adds the values of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares = self.squares.saturating_add(other.squares);
    }

    /// Returns the sum of the values.
    #[must_use]
    pub(crate) fn sum(&self) -> u128 {
        self.sum
    }

    /// Returns the mean; `None` without values.
    #[must_use]
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// Returns the difference between the mean and `expected`, in standard errors s/sqrt(n) of the sample. `None`
    /// without values, and where all values are equal but not as expected.
    #[must_use]
    pub(crate) fn z(&self, expected: f64) -> Option<f64> {
        let mean = self.mean()?;
        let n = self.count as f64;
        let variance = (self.squares as f64 / n - mean * mean).max(0.0) * n / (n - 1.0).max(1.0);
        self.z_with(expected, variance.sqrt())
    }

    /// The same with a known standard deviation of a value.
    #[must_use]
    pub(crate) fn z_with(&self, expected: f64, deviation: f64) -> Option<f64> {
        in_errors(self.mean()?, expected, deviation / (self.count as f64).sqrt())
    }
}

/// Returns a difference in standard errors. Values that differ by a rounding error are equal.
pub(super) fn in_errors(measured: f64, expected: f64, error: f64) -> Option<f64> {
    let (difference, rounding) = (measured - expected, 1e-9 * expected.abs().max(1e-3));
    if error > 0.0 { Some(difference / error) } else { (difference.abs() <= rounding).then_some(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_intervals_are_those_of_the_textbook() {
        // Newcombe, 1998, Statistics in Medicine 17: 857-872, table I, method 3.
        for (successes, trials, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0000, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let interval = wilson(successes, trials).unwrap();
            assert!((interval.0 - low).abs() < 5e-5, "{interval:?}");
            assert!((interval.1 - high).abs() < 5e-5, "{interval:?}");
        }
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(7, 7).unwrap().1, 1.0);
    }

    #[test]
    fn a_proportion_is_compared_in_standard_errors() {
        assert_eq!(proportion_z(60, 100, 0.5), Some(0.09999999999999998 / 0.05));
        assert_eq!(proportion_z(100, 100, 1.0), Some(0.0));
        assert_eq!(proportion_z(99, 100, 1.0), None, "it cannot be");
        assert_eq!(proportion_z(0, 0, 0.5), None);
        assert_eq!(proportion_z(1_997, 2_000, 0.99975), None, "half a failure was expected");
    }

    #[test]
    fn moments_do_not_depend_on_the_order_of_their_parts() {
        let (mut whole, mut left, mut right) = (Moments::default(), Moments::default(), Moments::default());
        for value in [3, 1, 4, 1, 5, 9, 2, 6] {
            whole.add(value);
            if value % 2 == 0 { left.add(value) } else { right.add(value) }
        }
        right.merge(&left);
        assert_eq!(right, whole);
        assert_eq!(whole.mean(), Some(31.0 / 8.0));
        // Sample standard deviation 2.7484, error 0.97170.
        assert!((whole.z(2.875).unwrap() - 1.0 / 0.971_70).abs() < 1e-4);
        assert_eq!(Moments::default().mean(), None);
        assert_eq!(Moments::default().z(1.0), None);
    }

    #[test]
    fn values_that_never_vary_are_as_expected_or_incomparable() {
        let mut ones = Moments::default();
        (0..5).for_each(|_| ones.add(1));
        assert_eq!(ones.z(1.0), Some(0.0));
        assert_eq!(ones.z(1.5), None);
    }
}
