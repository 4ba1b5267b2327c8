//! Limits repeated log lines to one a second, so that a peer cannot fill a disk with them.

use std::time::{Duration, Instant};

/// The shortest time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(1);

/// Decides when to log an event, and counts the events that were not logged.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    last: Option<Instant>,
    unlogged: u64,
}

impl LogLimiter {
    /// Counts an event. Returns the number of events since the last line, this one included, if a line is due.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn the_first_event_is_logged_at_once_and_later_ones_once_a_second_with_their_count() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut limiter = LogLimiter::default();
        assert_eq!(limiter.count(at(0)), Some(1));
        assert_eq!(limiter.count(at(10)), None);
        assert_eq!(limiter.count(at(999)), None);
        assert_eq!(limiter.count(at(1_000)), Some(3));
        assert_eq!(limiter.count(at(2_000)), Some(1));
    }
}
