//! What a run comes to: how requests ended, and how long the answers took.

use std::time::Duration;

use crate::client::ClientStats;
use crate::config::Transport;
use crate::reliable::{Ended, Outcome};

/// How the user's requests ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) rejected: u64,
    pub(super) unknown: u64,
    pub(super) never_sent: u64,
    rtts: Rtts,
}

impl Tally {
    pub(super) fn count(&mut self, ended: &Ended) {
        self.sent += u64::from(ended.sends > 0);
        match ended.outcome {
            Outcome::Acked(_) => self.acked += 1,
            Outcome::Rejected(..) => self.rejected += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::NeverSent => self.never_sent += 1,
        }
        let answered = matches!(ended.outcome, Outcome::Acked(_) | Outcome::Rejected(..));
        if let Some(elapsed) = ended.elapsed.filter(|_| answered) {
            self.rtts.add(elapsed);
        }
    }

    /// One request was refused without being asked: it is too long.
    pub(super) fn count_refused(&mut self) {
        self.rejected += 1;
    }

    /// The line that closes a run.
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
        line + &self
            .rtts
            .shown()
            .map(|rtts| format!(" · rtt min/avg/p95/max = {rtts} ms"))
            .unwrap_or_default()
    }
}

fn counted(count: u64, what: &str, plural: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}

/// A time in milliseconds with one decimal.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// Buckets per doubling, which bounds the error of a quantile to 1 in 64.
const STEPS: u64 = 64;

/// How long answers took, in constant memory: a histogram whose buckets grow with what they hold.
#[derive(Clone, Debug, Default)]
struct Rtts {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
    min: Duration,
    max: Duration,
}

impl Rtts {
    fn add(&mut self, time: Duration) {
        let at = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket += 1;
        }
        self.min = if self.count == 0 { time } else { self.min.min(time) };
        self.max = self.max.max(time);
        self.count += 1;
        self.sum += time.as_secs_f64();
    }

    /// Minimum, mean, 95th percentile (nearest rank) and maximum; `None` without any.
    fn shown(&self) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let mean = Duration::try_from_secs_f64(self.sum / self.count as f64).unwrap_or(self.max);
        let [min, mean, p95, max] = [self.min, mean, self.p95(), self.max].map(millis);
        Some(format!("{min}/{mean}/{p95}/{max}"))
    }

    fn p95(&self) -> Duration {
        let rank = (self.count * 95).div_ceil(100);
        let mut below = 0;
        let at = self.buckets.iter().position(|count| {
            below += count;
            below >= rank
        });
        Duration::from_nanos(at.map_or(0, top)).clamp(self.min, self.max)
    }
}

/// The bucket of a number of nanoseconds: itself up to twice [`STEPS`], then [`STEPS`] of them for each doubling.
fn bucket(nanos: u64) -> usize {
    let shift = u64::from((nanos / STEPS).checked_ilog2().unwrap_or(0));
    usize::try_from(shift * STEPS + (nanos >> shift)).unwrap_or(usize::MAX)
}

/// The highest number in a bucket.
fn top(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    // At most 127 << 57, and what is filled up below it.
    ((bucket - shift * STEPS) << shift) | ((1 << shift) - 1)
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
    fn buckets_are_in_order_and_hold_their_tops() {
        let numbers = (0..300)
            .chain((0..57).flat_map(|n| [(63 << n) - 1, 64 << n, 65 << n, 127 << n]))
            .chain([u64::MAX]);
        for nanos in numbers {
            let at = bucket(nanos);
            assert!(top(at) >= nanos && top(at) - nanos <= nanos / STEPS, "{nanos} {at} {}", top(at));
            assert_eq!(bucket(top(at)), at, "{nanos}");
            assert!(at == 0 || top(at - 1) < nanos, "{nanos}");
        }
        assert!(bucket(u64::MAX) < 4_096);
    }

    #[test]
    fn the_95th_percentile_is_that_of_the_nearest_rank() {
        let mut rtts = Rtts::default();
        assert_eq!(rtts.shown(), None);
        rtts.add(Duration::from_micros(1234));
        assert_eq!(rtts.shown().unwrap(), "1.2/1.2/1.2/1.2");
        let mut rtts = Rtts::default();
        (1..=100).rev().for_each(|ms| rtts.add(Duration::from_millis(ms)));
        let p95 = rtts.p95().as_secs_f64();
        assert!((0.095..0.0966).contains(&p95), "{p95}");
        assert!(rtts.shown().unwrap().starts_with("1.0/50.5/"));
        rtts.add(Duration::MAX);
        assert_eq!(rtts.count, 101);
    }

    #[test]
    fn the_closing_line_counts_in_singular_and_plural_and_leaves_out_what_is_rare() {
        let mut tally = Tally::default();
        let none = ClientStats::default();
        assert_eq!(
            tally.line(&none, Transport::Stream),
            "0 sent, 0 acked, 0 unknown, 0 frames, 0 retries, 0 repeated answers"
        );
        tally.count(&ended(Outcome::Acked(Vec::new()), Some(2)));
        let one = ClientStats { transmits: 1, retries: 1, repeated_answers: 1, ..none };
        assert_eq!(
            tally.line(&one, Transport::Datagram),
            "1 sent, 1 acked, 0 unknown, 1 datagram, 1 retry, 1 repeated answer \
             · rtt min/avg/p95/max = 2.0/2.0/2.0/2.0 ms"
        );
        tally.count(&ended(Outcome::Unknown, Some(500)));
        tally.count(&ended(Outcome::NeverSent, None));
        tally.count(&ended(Outcome::NeverSent, None));
        tally.count(&ended(Outcome::Rejected(404, Vec::new()), Some(4)));
        let many = ClientStats { transmits: 14, retries: 4, repeated_answers: 2, ..none };
        assert_eq!(
            tally.line(&many, Transport::Stream),
            "3 sent, 1 acked, 1 unknown, 1 rejected, 2 never sent, 14 frames, 4 retries, 2 repeated answers \
             · rtt min/avg/p95/max = 2.0/3.0/4.0/4.0 ms"
        );
    }
}
