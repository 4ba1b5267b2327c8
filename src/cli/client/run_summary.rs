//! The closing line of a run: counts of outcomes and the times to ack.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::client::ClientStats;
use crate::config::Transport;
use crate::reliable::{Ended, Outcome};

/// Counts of the outcomes of the user's requests, and the times of their answers.
#[derive(Clone, Debug, Default)]
pub(super) struct RunSummary {
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) rejected: u64,
    pub(super) unknown: u64,
    pub(super) never_sent: u64,
    /// Times to ack, from the first send.
    acks: TimeStats,
    /// From when a request was due to its answer, so including the wait behind others; only of requests with a due
    /// time.
    dues: TimeStats,
}

impl RunSummary {
    /// Counts an outcome; `since_due` is the time since the request was due, if known.
    pub(super) fn count(&mut self, ended: &Ended, since_due: Option<Duration>) {
        self.sent += u64::from(ended.sends > 0);
        match ended.outcome {
            Outcome::Acked(_) => self.acked += 1,
            Outcome::Rejected(..) => self.rejected += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::NeverSent => self.never_sent += 1,
        }
        let answered = matches!(ended.outcome, Outcome::Acked(_) | Outcome::Rejected(..));
        if let Some(elapsed) = ended.elapsed.filter(|_| answered) {
            self.acks.add(elapsed);
            since_due.iter().for_each(|time| self.dues.add(*time));
        }
    }

    /// Counts a request that was too long to send.
    pub(super) fn count_too_long(&mut self) {
        self.rejected += 1;
    }

    /// The closing line of a run.
    pub(super) fn line(&self, stats: &ClientStats, transport: Transport) -> String {
        let unit = match transport {
            Transport::Stream => "frame",
            Transport::Datagram => "datagram",
        };
        let mut line = format!("{} sent, {} acked, {} unknown", self.sent, self.acked, self.unknown);
        for (count, what) in [(self.rejected, "rejected"), (self.never_sent, "never sent")] {
            if count > 0 {
                line += &format!(", {count} {what}");
            }
        }
        line += &format!(", {}", counted(stats.transmits, unit, "s"));
        line += &format!(
            ", {}",
            if stats.retries == 1 { "1 retry".to_owned() } else { format!("{} retries", stats.retries) }
        );
        line += &format!(", {}", counted(stats.repeated_answers, "repeated answer", "s"));
        for (what, times) in [("time to ack", &self.acks), ("from when due", &self.dues)] {
            if let Some(times) = times.shown() {
                line += &format!(" · {what} min/avg/p95/max = {times} ms");
            }
        }
        line
    }
}

fn counted(count: u64, what: &str, plural: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}

/// The longest time that the histogram resolves, ten years, which is the longest deadline.
const MAX_MICROS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000_000;

/// A time in milliseconds with one decimal.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// Statistics over times, in constant memory.
#[derive(Clone, Debug, Default)]
struct TimeStats {
    /// In microseconds, to three significant digits; allocated with the first time.
    histogram: Option<Histogram<u64>>,
    min: Duration,
    max: Duration,
    sum: Duration,
    count: u32,
}

impl TimeStats {
    fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if self.histogram.is_none() {
            self.histogram = Histogram::new_with_bounds(1, MAX_MICROS, 3).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(micros);
        }
        self.min = if self.count == 0 { time } else { self.min.min(time) };
        self.max = self.max.max(time);
        self.sum = self.sum.saturating_add(time);
        self.count = self.count.saturating_add(1);
    }

    /// Minimum, mean, 95th percentile and maximum in milliseconds; `None` without any time.
    fn shown(&self) -> Option<String> {
        let p95 = Duration::from_micros(self.histogram.as_ref()?.value_at_quantile(0.95));
        let mean = self.sum / self.count.max(1);
        let [min, mean, p95, max] = [self.min, mean, p95.clamp(self.min, self.max), self.max].map(millis);
        Some(format!("{min}/{mean}/{p95}/{max}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliable::Ticket;
    use crate::wire::Verb;

    fn ended(outcome: Outcome, millis: Option<u64>) -> Ended {
        let sends = u32::from(millis.is_some());
        Ended {
            ticket: Ticket(1),
            verb: Verb::Snd,
            outcome,
            sends,
            elapsed: millis.map(Duration::from_millis),
        }
    }

    #[test]
    fn the_95th_percentile_is_within_a_thousandth_and_the_others_are_exact() {
        let mut times = TimeStats::default();
        assert_eq!(times.shown(), None);
        times.add(Duration::from_micros(1234));
        assert_eq!(times.shown().as_deref(), Some("1.2/1.2/1.2/1.2"));
        let mut times = TimeStats::default();
        (1..=100).rev().for_each(|ms| times.add(Duration::from_millis(ms)));
        assert_eq!(times.shown().as_deref(), Some("1.0/50.5/95.0/100.0"));
        times.add(Duration::MAX);
        assert_eq!(times.count, 101);
    }

    #[test]
    fn the_closing_line_has_singulars_and_plurals_and_omits_counts_of_zero() {
        let mut run_summary = RunSummary::default();
        let none = ClientStats::default();
        assert_eq!(
            run_summary.line(&none, Transport::Stream),
            "0 sent, 0 acked, 0 unknown, 0 frames, 0 retries, 0 repeated answers"
        );
        run_summary.count(&ended(Outcome::Acked(Vec::new()), Some(2)), None);
        let one = ClientStats { transmits: 1, retries: 1, repeated_answers: 1, ..none };
        assert_eq!(
            run_summary.line(&one, Transport::Datagram),
            "1 sent, 1 acked, 0 unknown, 1 datagram, 1 retry, 1 repeated answer \
             · time to ack min/avg/p95/max = 2.0/2.0/2.0/2.0 ms"
        );
        run_summary.count(&ended(Outcome::Unknown, Some(500)), None);
        run_summary.count(&ended(Outcome::NeverSent, None), None);
        run_summary.count(&ended(Outcome::NeverSent, None), None);
        run_summary
            .count(&ended(Outcome::Rejected(404, Vec::new()), Some(4)), Some(Duration::from_millis(1_500)));
        let many = ClientStats { transmits: 14, retries: 4, repeated_answers: 2, ..none };
        assert_eq!(
            run_summary.line(&many, Transport::Stream),
            "3 sent, 1 acked, 1 unknown, 1 rejected, 2 never sent, 14 frames, 4 retries, 2 repeated answers \
             · time to ack min/avg/p95/max = 2.0/3.0/4.0/4.0 ms \
             · from when due min/avg/p95/max = 1500.0/1500.0/1500.0/1500.0 ms"
        );
    }
}
