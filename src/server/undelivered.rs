//! Says in the log what sessions that end leave behind: a line a second at most, which counts what it stands for.

use std::time::{Duration, Instant};

use crate::hub::name::Name;

/// How often a line is written at most: who opens and ends sessions all the time must not fill a disk.
const PAUSE: Duration = Duration::from_secs(1);

/// What was left behind and is not logged yet.
#[derive(Debug, Default)]
pub(super) struct Undelivered {
    next_line: Option<Instant>,
    sessions: u64,
    messages: u64,
}

impl Undelivered {
    /// A session has ended with so many messages undelivered.
    pub(super) fn report(&mut self, now: Instant, name: &Name, messages: usize) {
        if messages == 0 {
            return;
        }
        if self.next_line.is_some_and(|at| now < at) {
            self.sessions += 1;
            self.messages += messages as u64;
            return;
        }
        log::warn!("{name} is gone, {messages} messages for it undelivered{}", self.before());
        *self = Self { next_line: Some(now + PAUSE), ..Self::default() };
    }

    /// What was not worth a line of its own.
    fn before(&self) -> String {
        match self.sessions {
            0 => String::new(),
            sessions => format!("; before it, {sessions} other sessions left {} behind", self.messages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn what_comes_within_a_second_is_counted_in_the_next_line() {
        let (now, name) = (Instant::now(), Name::parse(b"ada").unwrap());
        let mut undelivered = Undelivered::default();
        undelivered.report(now, &name, 0);
        assert_eq!(undelivered.next_line, None);
        for _ in 0..4 {
            undelivered.report(now, &name, 2);
        }
        assert_eq!(undelivered.before(), "; before it, 3 other sessions left 6 behind");
        undelivered.report(now + PAUSE, &name, 1);
        assert_eq!(undelivered.before(), "");
    }
}
