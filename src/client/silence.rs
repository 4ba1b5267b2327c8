//! Detection of a silent server over datagrams: after a change of the host's address, a socket receives nothing any
//! more.
//!
//! This file decides when the path is checked. The driver checks it, on [`Event::CheckPath`].

use std::time::{Duration, Instant};

use super::Event;
use crate::units::later;

/// Longest silence of a server after a request before the path is checked, and again after each check. Mosh changes
/// its port after the same time.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// The check that asks for a new socket even if the host's address is the same, because a NAT's mapping may be stale.
const REPLACING_CHECK: u32 = 4;

/// The fewest unanswered sends for such a check.
const LEAST_SENDS: u32 = 3;

/// The silence of a server, and the number of checks that it caused.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// Time of the first unanswered request, or of the last check of the path.
    since: Option<Instant>,
    /// Unanswered sends.
    sends: u32,
    checks: u32,
}

impl Silence {
    /// Counts the send of a request.
    pub(super) fn asked(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.sends = self.sends.saturating_add(1);
    }

    /// Resets after input from the server.
    pub(super) fn ended(&mut self) {
        *self = Self::default();
    }

    /// The time to check the path; `None` means never.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| later(since, MAX_SILENCE))
    }

    /// The check due at `now`, if any. `may_replace` allows a new socket even if the host's address is the same.
    pub(super) fn check(&mut self, now: Instant, may_replace: bool) -> Option<Event> {
        self.due().filter(|due| *due <= now)?;
        self.since = Some(now);
        self.checks += 1;
        let replace = may_replace && self.checks >= REPLACING_CHECK && self.sends >= LEAST_SENDS;
        if replace {
            self.checks = 0;
        }
        Some(Event::CheckPath { replace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn the_path_is_checked_every_10_s_of_silence_and_the_socket_replaced_after_40_s() {
        let start = Instant::now();
        let mut silence = Silence::default();
        assert_eq!(silence.due(), None, "nothing was sent");
        (0..3).for_each(|n| silence.asked(start + Duration::from_secs(n)));
        let mut checks = Vec::new();
        while let Some(due) = silence.due().filter(|due| *due <= start + Duration::from_secs(50)) {
            assert_eq!(silence.check(due - Duration::from_millis(1), true), None);
            checks.push(((due - start).as_secs(), silence.check(due, true)));
        }
        let check = |replace| Some(Event::CheckPath { replace });
        let expected = [(10, false), (20, false), (30, false), (40, true), (50, false)];
        assert_eq!(checks, expected.map(|(secs, replace)| (secs, check(replace))));
        silence.ended();
        assert_eq!(silence.due(), None);
    }
}
