//! The schedule of messages: as fast as possible, or at a rate that does not depend on the server (an open loop). The
//! clock is read elsewhere.

use std::time::{Duration, Instant};

use crate::units::later;

/// The due times of the messages of several senders.
///
/// With a rate, the latency of a message counts from its due time, not from its send. A wait behind a slow answer is
/// part of it. Without that, the measurement suffers from coordinated omission (Gil Tene).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    begun: Instant,
    /// Time between two messages of one sender; `None` means as fast as possible.
    interval: Option<Duration>,
    /// Number of senders; they alternate.
    senders: u32,
}

impl Schedule {
    /// Creates the schedule of `rate` messages per second of all `senders` together, from `begun` on.
    #[must_use]
    pub(crate) fn new(begun: Instant, rate: Option<f64>, senders: usize) -> Self {
        let senders = u32::try_from(senders.max(1)).unwrap_or(u32::MAX);
        let seconds = rate.map(|rate| f64::from(senders) / rate);
        let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self { begun, interval: interval.map(|interval| interval.max(Duration::from_nanos(1))), senders }
    }

    /// Whether there is a rate.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.interval.is_some()
    }

    /// Returns the number of the last due message of a sender; without a rate all are due.
    #[must_use]
    pub(crate) fn due(&self, sender: usize, now: Instant) -> u64 {
        let Some(interval) = self.interval else { return u64::MAX };
        match now.checked_duration_since(later(self.begun, self.offset(sender, interval))) {
            Some(since) => u64::try_from(since.as_nanos() / interval.as_nanos()).unwrap_or(u64::MAX - 1) + 1,
            None => 0,
        }
    }

    /// Returns when a sender's message with this number, from 1, is due; `None` without a rate.
    #[must_use]
    pub(crate) fn when(&self, sender: usize, number: u64) -> Option<Instant> {
        let interval = self.interval?;
        let nanos = interval.as_nanos().saturating_mul(u128::from(number.saturating_sub(1)));
        let since = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Some(later(self.begun, since.saturating_add(self.offset(sender, interval))))
    }

    /// Senders start at staggered times, so that they do not all send at once.
    fn offset(&self, sender: usize, interval: Duration) -> Duration {
        let place = u32::try_from(sender).unwrap_or(u32::MAX) % self.senders;
        interval / self.senders * place
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant to count from")]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns_at_the_rate() {
        let begun = Instant::now();
        let schedule = Schedule::new(begun, Some(100.0), 2);
        let at = |millis| begun + Duration::from_millis(millis);
        assert_eq!([0, 9, 19, 20, 45].map(|millis| schedule.due(0, at(millis))), [1, 1, 1, 2, 3]);
        assert_eq!([0, 9, 10, 29, 30].map(|millis| schedule.due(1, at(millis))), [0, 0, 1, 1, 2]);
        assert_eq!(schedule.when(0, 3), Some(at(40)));
        assert_eq!(schedule.when(1, 1), Some(at(10)));
    }

    #[test]
    fn a_message_is_due_exactly_from_its_due_time_on() {
        let begun = Instant::now();
        let schedule = Schedule::new(begun, Some(3.0), 7);
        for number in 1..1_000 {
            let when = schedule.when(3, number).unwrap();
            assert_eq!(schedule.due(3, when), number);
            assert_eq!(schedule.due(3, when - Duration::from_nanos(1)), number - 1);
        }
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        let schedule = Schedule::new(Instant::now(), None, 2);
        assert_eq!((schedule.due(1, Instant::now()), schedule.when(1, 1)), (u64::MAX, None));
    }
}
