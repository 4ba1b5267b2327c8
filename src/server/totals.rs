//! What a server has done since it began, as one line.

use std::fmt;

use crate::hub::HubStats;
use crate::link::Verdicts;

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
    /// Bytes queued, or sent and not acknowledged, right now.
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
            requested: verdicts.model().rate().get(),
            seen: verdicts.seen_count(),
            dropped: verdicts.lost_count(),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dropped (requested {:.1} %", self.dropped, self.requested * 100.0)?;
        if self.seen > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a rate for people, of counts far below 2^53")]
            let realised = self.dropped as f64 * 100.0 / self.seen as f64;
            write!(f, ", realised {realised:.1} % of {}", self.seen)?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hub, datagrams_in, datagrams_out, loss_in, loss_out, .. } = self;
        write!(
            f,
            "{} sessions, {} messages, datagrams {datagrams_in} in {datagrams_out} out, in: {loss_in}, out: {loss_out}, \
             {} repeats answered from the window, {} malformed, {} stray, {} missed for slow readers, {} undelivered",
            hub.sessions, hub.messages, self.repeats, self.malformed, self.stray, hub.gaps, hub.undelivered,
        )
    }
}
