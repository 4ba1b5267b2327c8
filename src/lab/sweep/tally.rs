//! What the trials at one point came to: counts that add up in any order.

use super::stats::Moments;
use super::times::Times;
use crate::link::LinkStats;
use crate::reliable::Outcome;

/// The sums over trials. Its size does not depend on their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered with an ACK.
    pub acked: u64,
    /// Requests that were refused.
    pub rejected: u64,
    /// Requests of which nobody knows.
    pub unknown: u64,
    /// Sends per request.
    pub sends: Moments,
    /// How often the server executed a request: once or not at all, if it keeps its promise.
    pub executions: Moments,
    /// The most that any request was executed.
    pub executions_max: u64,
    /// How often a request would have been executed by a server that does not recognise repeats: the copies of it that
    /// arrived.
    pub arrivals: Moments,
    /// From the first send to the ACK.
    pub times: Times,
    /// Answers that came when nobody waited for them any more, because the request had been answered or given up; copies
    /// that the network made count as well.
    pub spurious: u64,
    /// To the server.
    pub up: Traffic,
    /// From the server.
    pub down: Traffic,
    /// How long the sessions took together, in nanoseconds.
    pub elapsed: u128,
}

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams sent, lost ones included.
    pub datagrams: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub bytes: u64,
    /// How many of them the loss model took.
    pub lost: u64,
    /// How many were larger than the MTU.
    pub too_large: u64,
    /// How many found a queue full, copies included.
    pub queue_full: u64,
}

impl Traffic {
    /// Takes over what a link has counted, and the bytes that it was handed.
    pub(super) fn count(&mut self, stats: LinkStats, bytes: u64) {
        self.bytes += bytes;
        self.datagrams += stats.sent;
        self.lost += stats.lost;
        self.too_large += stats.too_large;
        self.queue_full += stats.overflowed;
    }

    fn merge(&mut self, other: &Self) {
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.too_large += other.too_large;
        self.queue_full += other.queue_full;
    }

    /// The part that was lost; `None` without datagrams.
    #[must_use]
    pub fn realised_loss(&self) -> Option<f64> {
        (self.datagrams > 0).then(|| self.lost as f64 / self.datagrams as f64)
    }
}

impl Tally {
    /// How many trials there were.
    #[must_use]
    pub fn trials(&self) -> u64 {
        self.acked + self.rejected + self.unknown
    }

    /// Counts how a request ended.
    pub(super) fn count_outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Acked(_) => self.acked += 1,
            Outcome::Rejected(..) => self.rejected += 1,
            Outcome::Unknown | Outcome::NeverSent => self.unknown += 1,
        }
    }

    /// Counts what reached the server of one request.
    pub(super) fn count_server(&mut self, executed: u64, arrived: u64) {
        self.executions.add(executed);
        self.executions_max = self.executions_max.max(executed);
        self.arrivals.add(arrived);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.acked += other.acked;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.sends.merge(&other.sends);
        self.executions.merge(&other.executions);
        self.executions_max = self.executions_max.max(other.executions_max);
        self.arrivals.merge(&other.arrivals);
        self.times.merge(&other.times);
        self.spurious += other.spurious;
        self.up.merge(&other.up);
        self.down.merge(&other.down);
        self.elapsed += other.elapsed;
    }
}
