//! Latencies in constant memory: a histogram and its quantiles. Nothing here reads a clock.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that the histogram distinguishes.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Latencies to three digits, from a nanosecond to an hour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    /// In nanoseconds; allocated with the first value.
    histogram: Option<Histogram<u64>>,
    max: Duration,
}

impl Latencies {
    /// Adds a latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        if self.histogram.is_none() {
            self.histogram = Histogram::new_with_bounds(1, nanos(LONGEST), 3).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(nanos(latency));
        }
        self.max = self.max.max(latency);
    }

    /// Returns the latency in seconds that this share of them, 0 to 1, does not exceed; 1 is the longest. `None` if
    /// there are none.
    #[must_use]
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let histogram = self.histogram.as_ref()?;
        let value = Duration::from_nanos(histogram.value_at_quantile(share)).min(self.max);
        Some(if share >= 1.0 { self.max } else { value }.as_secs_f64())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth_and_the_longest_is_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=1_000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let median = latencies.quantile(0.5).unwrap();
        assert!((median - 500e-6).abs() < 1e-6, "{median}");
        assert_eq!(latencies.quantile(1.0), Some(1_000e-6));
    }
}
