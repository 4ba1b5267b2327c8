//! A bottleneck: a rate in bits per second, behind a queue in bytes that drops the excess.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::units::{ByteSize, later};

/// The default queue of a rate limit, in bytes.
pub(crate) const DEFAULT_QUEUE: usize = 64 << 10;

/// Suffixes of a rate, in bits per second, decimal as in tc.
pub(super) const BIT_UNITS: [(&str, u64); 4] =
    [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

/// A rate limit. Only a datagram's own bytes count, not the lower headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Bits per second.
    pub bits_per_second: NonZeroU64,
    /// The queue in bytes, including the datagram that is being sent. An idle link takes one datagram of any size.
    pub queue: usize,
}

impl RateLimit {
    /// The time to send `bytes`, rounded up to nanoseconds.
    #[must_use]
    pub fn time(&self, bytes: usize) -> Duration {
        let nanos = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(self.bits_per_second.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits_per_second.get();
        match BIT_UNITS.iter().find(|(_, unit)| bits.is_multiple_of(*unit)) {
            Some((suffix, unit)) => write!(f, "rate:{}{suffix}", bits / unit)?,
            None => write!(f, "rate:{bits}")?,
        }
        if self.queue == DEFAULT_QUEUE { Ok(()) } else { write!(f, ",{}", ByteSize::new(self.queue)) }
    }
}

/// The queue of a rate limit. Its whole state is the time at which it will be empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bottleneck {
    free: Option<Instant>,
}

/// The time at which a queue will be empty if its rate changes at `now`: the backlog scales with the inverse rate.
pub(crate) fn rescale(
    free: Instant,
    now: Instant,
    old: Option<RateLimit>,
    new: Option<RateLimit>,
) -> Option<Instant> {
    let (old, new) = (old?.bits_per_second.get(), new?.bits_per_second.get());
    let left = free.saturating_duration_since(now).as_nanos();
    let left = left.saturating_mul(u128::from(old)).div_ceil(u128::from(new));
    Some(later(now, Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))))
}

impl Bottleneck {
    /// Changes the rate at `now`.
    pub(super) fn change(&mut self, now: Instant, old: Option<RateLimit>, new: Option<RateLimit>) {
        self.free = self.free.and_then(|free| rescale(free, now, old, new));
    }

    /// Queues a datagram at `now`; returns the time until its last byte is sent, or `None` if it does not fit.
    pub(super) fn pass(&mut self, now: Instant, rate: &RateLimit, bytes: usize) -> Option<Duration> {
        let waiting = self.free.map_or(Duration::ZERO, |free| free.saturating_duration_since(now));
        let through = waiting.saturating_add(rate.time(bytes));
        if !waiting.is_zero() && through > rate.time(rate.queue) {
            return None;
        }
        self.free = Some(later(now, through));
        Some(through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn rate(bits: u64, queue: usize) -> RateLimit {
        RateLimit { bits_per_second: NonZeroU64::new(bits).unwrap(), queue }
    }

    #[test]
    fn an_overloaded_link_passes_exactly_its_rate_and_holds_no_more_than_its_queue() {
        // Input of 1,000 bytes per millisecond, on a link of 250 bytes per millisecond.
        let (rate, start) = (rate(2_000_000, 10_000), origin());
        let mut bottleneck = Bottleneck::default();
        let mut arrivals = Vec::new();
        for n in 0..1_000 {
            let now = start + Duration::from_millis(n);
            if let Some(wait) = bottleneck.pass(now, &rate, 1_000) {
                assert!(wait <= rate.time(10_000), "{wait:?}");
                arrivals.push(now + wait);
            }
        }
        assert!(arrivals.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(4)));
        // 250 in the second, and the backlog at its end.
        assert_eq!(arrivals.len(), 250 + 9);
    }

    #[test]
    fn an_idle_link_takes_a_datagram_that_no_queue_would_and_an_unloaded_one_delays_by_the_serialisation() {
        let (rate, start) = (rate(8_000, 100), origin());
        let mut bottleneck = Bottleneck::default();
        assert_eq!(bottleneck.pass(start, &rate, 1_500), Some(Duration::from_millis(1_500)));
        assert_eq!(bottleneck.pass(start, &rate, 1), None);
        let later = start + Duration::from_millis(1_450);
        assert_eq!(bottleneck.pass(later, &rate, 50), Some(Duration::from_millis(100)));
        assert_eq!(bottleneck.pass(later, &rate, 1), None);
        let idle = start + Duration::from_secs(9);
        assert_eq!(bottleneck.pass(idle, &rate, 10), Some(Duration::from_millis(10)));
    }

    #[test]
    fn the_backlog_scales_with_a_new_rate_and_takes_no_time_without_one() {
        let (slow, fast, start) = (rate(1_000, 99_999), rate(1_000_000, 99_999), origin());
        let mut bottleneck = Bottleneck::default();
        assert_eq!(bottleneck.pass(start, &slow, 1_000), Some(Duration::from_secs(8)));
        bottleneck.change(start, Some(slow), Some(fast));
        assert_eq!(bottleneck.pass(start, &fast, 1_000), Some(Duration::from_millis(16)));
        bottleneck.change(start, Some(fast), Some(slow));
        assert_eq!(bottleneck.pass(start, &slow, 1_000), Some(Duration::from_secs(24)));
        bottleneck.change(start, Some(slow), None);
        bottleneck.change(start, None, Some(slow));
        assert_eq!(bottleneck.pass(start, &slow, 1_000), Some(Duration::from_secs(8)));
    }

    #[test]
    fn a_rate_beyond_measure_neither_overflows_nor_stalls() {
        let mut bottleneck = Bottleneck::default();
        assert_eq!(rate(1, usize::MAX).time(usize::MAX), Duration::from_nanos(u64::MAX));
        assert!(bottleneck.pass(origin(), &rate(1, usize::MAX), usize::MAX).is_some());
        assert_eq!(rate(u64::MAX, 0).time(1_000), Duration::from_nanos(1));
    }
}
