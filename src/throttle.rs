//! Complaints about the same thing, once a second: who gives cause for them all the time must not fill a disk.

use std::time::{Duration, Instant};

/// How often the same complaint is worth a line.
const INTERVAL: Duration = Duration::from_secs(1);

/// Says when a complaint is due, and how many were kept back since the last.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    last: Option<Instant>,
    kept_back: u64,
}

impl Throttle {
    /// Whether to complain now: `Some` of how many such events there were, this one included.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.kept_back += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn a_complaint_is_made_at_once_and_then_once_a_second_with_all_that_were_kept_back() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut throttle = Throttle::default();
        assert_eq!(throttle.count(at(0)), Some(1));
        assert_eq!(throttle.count(at(10)), None);
        assert_eq!(throttle.count(at(999)), None);
        assert_eq!(throttle.count(at(1_000)), Some(3));
        assert_eq!(throttle.count(at(2_000)), Some(1));
    }
}
