//! Quotients of sums over sessions, with the error estimated from the differences between sessions.
//!
//! Requests of a session share its losses, so a thousand of them carry less information than a thousand sessions of
//! one request. Sessions are independent of each other. Let y and x be the sums of session j: acked requests and
//! requests, or lost datagrams and datagrams. The quotient p = sum y / sum x has the variance J/(J-1) sum (y_j - p
//! x_j)^2 / (sum x)^2 with J-1 degrees of freedom. This is the ratio estimator of cluster samples (Cochran, Sampling
//! Techniques, 1977, section 6.4).

use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::stats::{Z95, wilson_with};

/// Sums over sessions. Whole numbers, so the order of additions does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ratio {
    sessions: u64,
    y: u128,
    x: u128,
    yy: u128,
    xx: u128,
    xy: u128,
}

impl Ratio {
    /// Adds a session with these sums.
    pub(crate) fn add(&mut self, y: u128, x: u128) {
        let one = Self {
            sessions: 1,
            y,
            x,
            yy: y.saturating_mul(y),
            xx: x.saturating_mul(x),
            xy: x.saturating_mul(y),
        };
        self.merge(&one);
    }

    /// Adds the sessions of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.y = self.y.saturating_add(other.y);
        self.x = self.x.saturating_add(other.x);
        self.yy = self.yy.saturating_add(other.yy);
        self.xx = self.xx.saturating_add(other.xx);
        self.xy = self.xy.saturating_add(other.xy);
    }

    /// Returns the number of sessions.
    #[must_use]
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Returns the quotient; `None` if the denominator is 0.
    #[must_use]
    pub(crate) fn value(&self) -> Option<f64> {
        (self.x > 0).then(|| self.y as f64 / self.x as f64)
    }

    /// Returns the standard error: 0 where all sessions have the same quotient, `None` with fewer than two sessions.
    #[must_use]
    pub(crate) fn error(&self) -> Option<f64> {
        let (p, n) = (self.value()?, self.sessions as f64);
        let [yy, xx, xy] = [self.yy, self.xx, self.xy].map(|sum| sum as f64);
        let squares = yy - 2.0 * p * xy + p * p * xx;
        // Equal quotients leave a rounding error.
        let squares = if squares > 1e-12 * yy { squares } else { 0.0 };
        (self.sessions > 1).then(|| (squares * n / (n - 1.0)).sqrt() / self.x as f64)
    }

    /// Returns the difference between the quotient and `expected`, in standard errors. `None` without an error, unless
    /// they agree.
    #[must_use]
    pub(crate) fn z(&self, expected: f64) -> Option<f64> {
        super::stats::in_errors(self.value()?, expected, self.error()?)
    }

    /// Returns the 95 % interval `(low, high)` of a quotient that is a proportion. `None` with fewer than two
    /// sessions, unless each has one request at most.
    ///
    /// If every session is one request, this is the Wilson interval. Otherwise it is that of the number of independent
    /// requests with the same error. Student's t then replaces the normal quantile (Dean and Pagano, 2015, Journal of
    /// Survey Statistics and Methodology 3: 484-503). Where all or none succeeded, the sessions show no error, and each
    /// counts as one request.
    #[must_use]
    pub(crate) fn interval(&self) -> Option<(f64, f64)> {
        let (p, n) = (self.value()?, self.x as f64);
        if self.xx == self.x {
            return Some(wilson_with(p, n, Z95));
        }
        let error = self.error()?;
        let t = student(self.sessions)?;
        match p * (1.0 - p) {
            0.0 => Some(wilson_with(p, self.sessions as f64, t)),
            _ if error == 0.0 => Some((p, p)),
            spread => Some(wilson_with(p, spread / (error * error), t)),
        }
    }
}

/// Returns the two-sided 95 % quantile of Student's distribution for so many sessions.
fn student(sessions: u64) -> Option<f64> {
    let degrees = sessions.checked_sub(1)? as f64;
    StudentsT::new(0.0, 1.0, degrees).ok().map(|student| student.inverse_cdf(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::sweep::stats::wilson;

    fn ratio(sessions: &[(u128, u128)]) -> Ratio {
        let mut ratio = Ratio::default();
        sessions.iter().for_each(|(y, x)| ratio.add(*y, *x));
        ratio
    }

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (sessions, t) in [(2, 12.706), (3, 4.303), (11, 2.228), (31, 2.042), (101, 1.984)] {
            assert!((student(sessions).unwrap() - t).abs() < 5e-4, "{sessions}");
        }
        assert_eq!((student(0), student(1)), (None, None));
    }

    #[test]
    fn the_error_is_that_of_the_textbook() {
        // By hand: p = 15/30; residuals 1, -1, 2, -2; variance 4/3 * 10 / 900.
        let four = ratio(&[(5, 8), (3, 8), (6, 8), (1, 6)]);
        assert_eq!(four.value(), Some(0.5));
        assert!((four.error().unwrap() - (4.0_f64 / 3.0 * 10.0 / 900.0).sqrt()).abs() < 1e-12);
        assert!((four.z(0.4).unwrap() - 0.1 / four.error().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn sessions_of_one_request_have_the_interval_of_wilson() {
        let ones: Vec<_> = (0..200_u128).map(|n| (u128::from(n % 4 != 0), 1)).collect();
        assert_eq!(ratio(&ones).interval(), wilson(150, 200));
    }

    #[test]
    fn equal_sessions_count_as_one_request_each_and_one_session_has_no_interval() {
        assert_eq!(ratio(&[(3, 10), (3, 10)]).interval(), Some((0.3, 0.3)));
        assert_eq!((ratio(&[(3, 10)]).interval(), ratio(&[]).interval()), (None, None));
        let (low, high) = ratio(&[(10, 10); 40]).interval().unwrap();
        // The interval of 40 of 40 requests, not of 400 of 400.
        assert!((0.90..0.92).contains(&low) && high == 1.0, "{low}");
    }

    #[test]
    fn two_sessions_that_differ_have_a_very_wide_interval() {
        let (low, high) = ratio(&[(9, 10), (4, 10)]).interval().unwrap();
        assert!(low < 0.1 && high > 0.9, "{low} {high}");
    }

    #[test]
    fn parts_add_up_in_any_order_and_nothing_overflows() {
        let mut one = ratio(&[(5, 8), (3, 8)]);
        one.merge(&ratio(&[(6, 8)]));
        assert_eq!(one, ratio(&[(6, 8), (3, 8), (5, 8)]));
        let huge = ratio(&[(u128::MAX, u128::MAX); 3]);
        assert!(huge.value().is_some() && huge.error().is_some());
    }
}
