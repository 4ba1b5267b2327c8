//! Round-trip times and the retransmission timeout that follows from them: RFC 6298.

use std::time::Duration;

use crate::units::Seconds;

/// Estimates the round-trip time of one peer from samples, and the retransmission timeout (RTO), as in RFC 6298 section
/// 2.
///
/// The caller applies Karn's rule (section 3): a sample must come from a request that was sent once, or whose answer
/// names the send. The answer to a repeated request may belong to any of its sends. The caller also doubles on a
/// timeout (section 5.5): see [`Backoff`](super::Backoff).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RttEstimator {
    floor: Duration,
    ceiling: Duration,
    estimate: Option<Estimate>,
}

/// SRTT and RTTVAR, which exist from the first sample on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Estimate {
    srtt: Duration,
    rttvar: Duration,
}

impl RttEstimator {
    /// G of RFC 6298 section 2, the granularity of the clock: 1 ms, as kGranularity in RFC 9002 section 6.1.2.
    pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);
    /// K of RFC 6298 section 2.2: the factor of the variation.
    pub(crate) const K: u32 = 4;

    /// Creates an estimator without a sample, with a floor of 1 s (RFC 6298 section 2.4) and a ceiling of 60 s (section
    /// 2.5).
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { floor: Duration::from_secs(1), ceiling: Duration::from_secs(60), estimate: None }
    }

    /// Sets the minimum of [`RttEstimator::rto`].
    #[must_use]
    pub(crate) const fn with_floor(mut self, floor: Duration) -> Self {
        self.floor = floor;
        self
    }

    /// Sets the maximum of [`RttEstimator::rto`]; it takes precedence over the minimum.
    #[must_use]
    pub(crate) const fn with_ceiling(mut self, ceiling: Duration) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// Adds a measured round-trip time, clamped to [`Seconds::MAX`].
    pub(crate) fn sample(&mut self, rtt: Duration) {
        let rtt = rtt.min(Seconds::MAX.as_duration());
        self.estimate = Some(self.estimate.map_or_else(|| Estimate::first(rtt), |e| e.next(rtt)));
    }

    /// SRTT, the smoothed round-trip time; `None` before the first sample.
    #[must_use]
    pub fn srtt(&self) -> Option<Duration> {
        self.estimate.map(|e| e.srtt)
    }

    /// RTTVAR, the variation of round-trip times; `None` before the first sample.
    #[must_use]
    pub fn rttvar(&self) -> Option<Duration> {
        self.estimate.map(|e| e.rttvar)
    }

    /// The retransmission timeout, SRTT + max(G, K RTTVAR), within floor and ceiling; `None` before the first sample.
    #[must_use]
    pub fn rto(&self) -> Option<Duration> {
        self.estimate.map(|e| e.rto().max(self.floor).min(self.ceiling))
    }
}

impl Default for RttEstimator {
    fn default() -> Self {
        Self::new()
    }
}

impl Estimate {
    /// RFC 6298 section 2.2.
    fn first(rtt: Duration) -> Self {
        Self { srtt: rtt, rttvar: rtt / 2 }
    }

    /// RFC 6298 section 2.3, with alpha 1/8 and beta 1/4. RTTVAR is computed from the old SRTT.
    fn next(self, rtt: Duration) -> Self {
        let rttvar = (self.rttvar * 3 + self.srtt.abs_diff(rtt)) / 4;
        let srtt = (self.srtt * 7 + rtt) / 8;
        Self { srtt, rttvar }
    }

    fn rto(self) -> Duration {
        self.srtt + RttEstimator::GRANULARITY.max(self.rttvar * RttEstimator::K)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn unbounded() -> RttEstimator {
        RttEstimator::new().with_floor(Duration::ZERO).with_ceiling(Duration::MAX)
    }

    #[test]
    fn there_is_no_estimate_before_the_first_sample() {
        let estimator = RttEstimator::default();
        assert_eq!((estimator.srtt(), estimator.rttvar(), estimator.rto()), (None, None, None));
    }

    #[test]
    fn the_first_sample_gives_itself_and_its_half() {
        let mut estimator = unbounded();
        estimator.sample(ms(100));
        assert_eq!(estimator.srtt(), Some(ms(100)));
        assert_eq!(estimator.rttvar(), Some(ms(50)));
        assert_eq!(estimator.rto(), Some(ms(300)));
    }

    #[test]
    fn known_answers_of_section_2_3() {
        let mut estimator = unbounded();
        // RTTVAR uses the old SRTT: with the new one, the second would be 50 ms * 3/4 + 87.5 ms / 4 = 59.375 ms.
        for (sample, srtt, rttvar, rto) in [
            (ms(100), us(100_000), us(50_000), us(300_000)),
            (ms(200), us(112_500), us(62_500), us(362_500)),
            (
                ms(100),
                us(110_937) + Duration::from_nanos(500),
                us(50_000),
                us(310_937) + Duration::from_nanos(500),
            ),
        ] {
            estimator.sample(sample);
            assert_eq!(estimator.srtt(), Some(srtt));
            assert_eq!(estimator.rttvar(), Some(rttvar));
            assert_eq!(estimator.rto(), Some(rto));
        }
    }

    #[test]
    fn a_steady_round_trip_leaves_the_granularity_as_margin() {
        let mut estimator = unbounded();
        (0..200).for_each(|_| estimator.sample(ms(80)));
        assert_eq!(estimator.srtt(), Some(ms(80)));
        assert_eq!(estimator.rto(), Some(ms(81)));
    }

    #[test]
    fn floor_and_ceiling_bound_the_timeout_and_not_the_estimate() {
        let mut estimator = RttEstimator::new();
        estimator.sample(ms(10));
        assert_eq!((estimator.srtt(), estimator.rto()), (Some(ms(10)), Some(ms(1000))));
        let mut slow = RttEstimator::new().with_ceiling(ms(70_000));
        slow.sample(ms(50_000));
        assert_eq!((slow.srtt(), slow.rto()), (Some(ms(50_000)), Some(ms(70_000))));
        let mut crossed = RttEstimator::new().with_floor(ms(2000)).with_ceiling(ms(500));
        crossed.sample(ms(10));
        assert_eq!(crossed.rto(), Some(ms(500)));
    }

    #[test]
    fn no_sample_overflows() {
        let mut estimator = unbounded();
        for sample in [Duration::MAX, Duration::ZERO, Duration::MAX, Duration::MAX] {
            estimator.sample(sample);
            assert!(estimator.rto().is_some());
        }
    }
}
