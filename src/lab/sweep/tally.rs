//! Counts over the trials at one point, which add up in any order. Intervals and errors are in `stats` and `ratio`.

use super::ratio::Ratio;
use super::stats::Moments;
use super::times::Times;
use crate::link::LinkStats;
use crate::reliable::Outcome;

/// Sums over trials. The size does not depend on their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests answered with an ACK.
    pub(crate) acked: u64,
    /// Requests answered with an ERR.
    pub(crate) rejected: u64,
    /// Requests whose outcome is unknown.
    pub(crate) unknown: u64,
    /// Sends per request.
    pub(crate) sends: Moments,
    /// Executions per request at the server: one or none, if it keeps its promise.
    pub(crate) executions: Moments,
    /// The most executions of one request.
    pub(crate) executions_max: u64,
    /// Executions per request at a server that does not recognise duplicates: the copies of it that arrived.
    pub(crate) arrivals: Moments,
    /// Time from the first send to the ACK.
    pub(crate) times: Times,
    /// Answers to a request that was already answered or given up. Copies that the network made count as well.
    pub(crate) spurious: u64,
    /// To the server.
    pub(crate) up: Traffic,
    /// From the server.
    pub(crate) down: Traffic,
    /// Duration of all sessions together, in nanoseconds.
    pub(crate) elapsed: u128,
    /// Sums by session.
    pub(crate) sessions: Sessions,
}

/// Sums by session: correlations between the requests of a session show in the differences between sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// Acked requests per request.
    pub(crate) success: Ratio,
    /// Sends per request.
    pub(crate) sends: Ratio,
    /// Nanoseconds to the ACK per acked request.
    pub(crate) times: Ratio,
    /// Lost datagrams per datagram to the server.
    pub(crate) loss_up: Ratio,
    /// Lost datagrams per datagram from the server.
    pub(crate) loss_down: Ratio,
}

impl Sessions {
    fn merge(&mut self, other: &Self) {
        self.success.merge(&other.success);
        self.sends.merge(&other.sends);
        self.times.merge(&other.times);
        self.loss_up.merge(&other.loss_up);
        self.loss_down.merge(&other.loss_down);
    }
}

/// The datagrams of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Datagrams sent, lost ones included.
    pub(crate) datagrams: u64,
    /// Their bytes, without the headers of IP and UDP.
    pub(crate) bytes: u64,
    /// Datagrams that the loss model dropped.
    pub(crate) lost: u64,
    /// Datagrams larger than the MTU.
    pub(crate) too_large: u64,
    /// Datagrams that found the queue full, copies included.
    pub(crate) queue_full: u64,
}

impl Traffic {
    /// Adds the counters of a link, and the bytes that it was handed.
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

    /// Returns the share that was lost; `None` without datagrams.
    #[must_use]
    pub(crate) fn realised_loss(&self) -> Option<f64> {
        (self.datagrams > 0).then(|| self.lost as f64 / self.datagrams as f64)
    }
}

impl Tally {
    /// Returns the number of trials.
    #[must_use]
    pub(crate) fn trials(&self) -> u64 {
        self.acked + self.rejected + self.unknown
    }

    /// Counts the outcome of a request.
    pub(super) fn count_outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Acked(_) => self.acked += 1,
            Outcome::Rejected(..) => self.rejected += 1,
            Outcome::Unknown | Outcome::NeverSent => self.unknown += 1,
        }
    }

    /// Counts the executions and arrivals of one request at the server.
    pub(super) fn count_server(&mut self, executed: u64, arrived: u64) {
        self.executions.add(executed);
        self.executions_max = self.executions_max.max(executed);
        self.arrivals.add(arrived);
    }

    /// Records everything counted so far as the sums of one session.
    pub(super) fn end_session(&mut self) {
        let trials = u128::from(self.trials());
        let one = |y: u128, x: u128| {
            let mut ratio = Ratio::default();
            ratio.add(y, x);
            ratio
        };
        let lost = |traffic: &Traffic| one(u128::from(traffic.lost), u128::from(traffic.datagrams));
        self.sessions = Sessions {
            success: one(u128::from(self.acked), trials),
            sends: one(self.sends.sum(), trials),
            times: one(self.times.sum_nanos(), u128::from(self.acked)),
            loss_up: lost(&self.up),
            loss_down: lost(&self.down),
        };
    }

    /// Adds the counts of another tally.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.sessions.merge(&other.sessions);
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
