//! What a server has done since it began, as one line.

use std::fmt;

use crate::hub::HubStats;
use crate::link::Verdicts;
use crate::units::Probability;

/// The counters of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sessions, messages and gaps.
    pub hub: HubStats,
    /// Datagrams that came in, the lost ones included.
    pub datagrams_in: u64,
    /// Datagrams that went out, the lost ones not included.
    pub datagrams_out: u64,
    /// Simulated loss of what came in.
    pub loss_in: Loss,
    /// Simulated loss of what went out.
    pub loss_out: Loss,
    /// Requests that were repeats: answered again, not executed again.
    pub repeats: u64,
    /// Datagrams dropped and streams broken because they were malformed.
    pub malformed: u64,
    /// Datagrams that belonged to no session.
    pub stray: u64,
    /// Answers to datagrams that found no room; their repeats ask again.
    pub answers_dropped: u64,
    /// Messages queued, or sent and not acknowledged, right now.
    pub waiting: usize,
    /// The bytes of these.
    pub pending_bytes: usize,
}

/// Simulated loss, as requested and as it turned out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The rate asked for, 0 to 1.
    pub requested: f64,
    /// Datagrams, or droppable frames of streams, that were judged.
    pub seen: u64,
    /// How many of them were dropped.
    pub dropped: u64,
}

impl Loss {
    pub(super) fn of(verdicts: &Verdicts) -> Self {
        Self {
            requested: verdicts.model().rate().map_or(0.0, Probability::get),
            seen: verdicts.seen_count(),
            dropped: verdicts.lost_count(),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} (requested {:.1} %", self.dropped, self.seen, self.requested * 100.0)?;
        if self.seen > 0 {
            let realised = self.dropped as f64 * 100.0 / self.seen as f64;
            write!(f, ", realised {realised:.1} %")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hub, datagrams_in, datagrams_out, loss_in, loss_out, repeats, malformed, stray, .. } =
            self;
        write!(
            f,
            "sessions {}, messages {}, datagrams in {datagrams_in}, out {datagrams_out}, dropped in {loss_in}, \
             out {loss_out}, repeats answered from the window {repeats}, malformed {malformed}, stray {stray}, \
             missed by slow readers {}, waiting {}, undelivered {}",
            hub.sessions, hub.messages, hub.gaps, self.waiting, hub.undelivered,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_are_one_line_and_a_rate_that_was_not_measured_is_not_shown() {
        let loss_in = Loss { requested: 0.5, seen: 14, dropped: 6 };
        let totals = Totals { datagrams_in: 14, datagrams_out: 8, loss_in, repeats: 2, ..Totals::default() };
        assert_eq!(
            totals.to_string(),
            "sessions 0, messages 0, datagrams in 14, out 8, dropped in 6 of 14 (requested 50.0 %, realised 42.9 %), \
             out 0 of 0 (requested 0.0 %), repeats answered from the window 2, malformed 0, stray 0, \
             missed by slow readers 0, waiting 0, undelivered 0"
        );
    }
}
