//! The counters of a server since its start, and their one-line form.

use std::fmt;

use super::links::Simulated;
use super::session_end::{EndReason, SessionEnds};
use crate::hub::HubStats;
use crate::link::{LinkConfig, LossModel};

/// The counters of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Sessions, messages and gaps.
    pub hub: HubStats,
    /// Datagrams that came in, dropped ones included.
    pub datagrams_in: u64,
    /// Datagrams that went out, dropped ones not included.
    pub datagrams_out: u64,
    /// Simulated loss of what came in.
    pub loss_in: Loss,
    /// Simulated loss of what went out.
    pub loss_out: Loss,
    /// Duplicate requests: answered again, not executed again.
    pub repeats: u64,
    /// Datagrams dropped and streams broken because they were malformed.
    pub malformed: u64,
    /// Datagrams that belonged to no session.
    pub stray: u64,
    /// Sessions refused because there were too many, in total or from one host.
    pub refused_sessions: u64,
    /// Connections refused because there were too many, in total or from one host.
    pub refused_connections: u64,
    /// Connections closed because memory was short and they held much of it for a message that had stalled.
    pub evicted: u64,
    /// Connections closed for broken input, a missed deadline, or too much unregistered input.
    pub cut_off_connections: u64,
    /// Connections whose peers vanished with data in flight to them.
    pub unreachable_peers: u64,
    /// Why sessions ended.
    pub ends: SessionEnds,
    /// Answers dropped: no room in the queue, too many for one datagram, no work budget, or a duplicate request beyond
    /// the rate limit. The retransmitted request asks again.
    pub answers_dropped: u64,
    /// Messages queued, or sent and not acknowledged, now.
    pub waiting: usize,
    /// Their bytes.
    pub pending_bytes: usize,
    /// The bytes that count in [`HubConfig::max_memory`](crate::hub::HubConfig::max_memory) now, these included.
    pub memory: usize,
    /// The most [work units](crate::hub::work) of one hold of the lock so far; see [`HOLD_BOUND`](super::HOLD_BOUND).
    pub longest_hold: u64,
}

/// Simulated loss, requested and realised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loss {
    /// The requested model.
    pub requested: LossModel,
    /// Datagrams, or droppable stream frames, that passed the simulated link.
    pub seen: u64,
    /// The dropped ones among them.
    pub dropped: u64,
    /// Datagrams larger than the simulated link takes; `None` where it takes any size.
    pub too_large: Option<u64>,
    /// Datagrams dropped at a full queue; `None` where nothing is queued.
    pub queue_full: Option<u64>,
}

impl Loss {
    pub(super) fn of(simulated: &Simulated) -> Self {
        let verdicts = simulated.verdicts();
        let stats = simulated.link().map(|link| (link.config(), link.stats()));
        let (sent, lost) = stats.map_or((0, 0), |(_, stats)| (stats.sent, stats.lost));
        let limits_size = |config: &LinkConfig| config.mtu.is_some();
        Self {
            requested: verdicts.model().clone(),
            seen: verdicts.seen_count() + sent,
            dropped: verdicts.lost_count() + lost,
            too_large: stats.filter(|(config, _)| limits_size(config)).map(|(_, stats)| stats.too_large),
            queue_full: stats.filter(|(config, _)| config.queues()).map(|(_, stats)| stats.overflowed),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} (requested {}", self.dropped, self.seen, self.requested.requested())?;
        if self.seen > 0 {
            let realised = self.dropped as f64 * 100.0 / self.seen as f64;
            write!(f, ", realised {realised:.1} %")?;
        }
        for (what, count) in [("too large", self.too_large), ("queue full", self.queue_full)] {
            if let Some(count) = count {
                write!(f, ", {what} {count}")?;
            }
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
             out {loss_out}, duplicate requests {repeats}, malformed {malformed}, stray {stray}, \
             dropped for slow consumers {}",
            hub.sessions, hub.messages, hub.gaps,
        )?;
        if hub.cut_off > 0 {
            write!(f, ", slow consumers cut off {}", hub.cut_off)?;
        }
        if self.refused_sessions > 0 {
            write!(f, ", refused sessions {}", self.refused_sessions)?;
        }
        if self.evicted > 0 {
            write!(f, ", closed for want of memory {}", self.evicted)?;
        }
        let (waiting, refused) = (self.waiting, self.refused_connections);
        write!(f, ", waiting {waiting}, undelivered {}, refused connections {refused}", hub.undelivered)?;
        if self.cut_off_connections > 0 {
            write!(f, ", cut off connections {}", self.cut_off_connections)?;
        }
        if self.unreachable_peers > 0 {
            write!(f, ", unreachable peers {}", self.unreachable_peers)?;
        }
        let ends = EndReason::ALL.map(|reason| (reason.text(), self.ends.of(reason)));
        let mut ends = ends.iter().filter(|(_, count)| *count > 0);
        if let Some((text, count)) = ends.next() {
            write!(f, ", ended sessions: {text} {count}")?;
        }
        ends.try_for_each(|(text, count)| write!(f, ", {text} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(spec: &str) -> Loss {
        Loss { requested: spec.parse::<LinkConfig>().unwrap().loss, ..Loss::default() }
    }

    #[test]
    fn a_model_without_a_rate_is_named_and_other_drops_are_shown_where_they_can_happen() {
        let list = Loss { seen: 4, dropped: 2, ..requested("list:1,3") };
        assert_eq!(list.to_string(), "2 of 4 (requested list:1,3, realised 50.0 %)");
        let limited = Loss { seen: 4, too_large: Some(1), queue_full: Some(0), ..requested("gilbert:.25,2") };
        assert_eq!(
            limited.to_string(),
            "0 of 4 (requested 25.0 %, realised 0.0 %, too large 1, queue full 0)"
        );
    }

    #[test]
    fn the_totals_are_one_line_and_a_rate_that_was_not_measured_is_not_shown() {
        let loss_in = Loss { seen: 14, dropped: 6, ..requested("iid:.5") };
        let totals = Totals { datagrams_in: 14, datagrams_out: 8, loss_in, repeats: 2, ..Totals::default() };
        assert_eq!(
            totals.to_string(),
            "sessions 0, messages 0, datagrams in 14, out 8, dropped in 6 of 14 (requested 50.0 %, realised 42.9 %), \
             out 0 of 0 (requested 0.0 %), duplicate requests 2, malformed 0, stray 0, \
             dropped for slow consumers 0, waiting 0, undelivered 0, refused connections 0"
        );
        let hub = HubStats { gaps: 2, cut_off: 3, undelivered: 4, ..HubStats::default() };
        let slow = Totals { hub, waiting: 1, refused_sessions: 5, ..Totals::default() }.to_string();
        let end = ", dropped for slow consumers 2, slow consumers cut off 3, refused sessions 5, waiting 1, undelivered 4, refused connections 0";
        assert!(slow.ends_with(end), "{slow}");
    }
}
