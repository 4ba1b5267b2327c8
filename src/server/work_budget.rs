//! The work budget: bounds what one hold of the lock may cost, in [work units](crate::hub::work).
//!
//! Units are counted where entries are walked: a peer can ask for thousands of times as much work as its request has
//! bytes. Once a hold has reached the bound, the rest waits for another hold. A connection's input waits behind earlier
//! waits, and deadlines stay pending. The rest of a datagram is dropped, as its sender retransmits it. Work over all
//! sessions continues in another hold, too (`sweep`). A single step is never cut: a message to one room, or the end of
//! one session with its queue.

use std::time::{Duration, Instant};

use super::{Owner, Server};
use crate::hub::work::{WorkMeter, cost};
use crate::units::later;

/// The most work units of one hold, about two milliseconds if its last step is short. A lower bound would make each
/// member's share of a large room too small to be worth a write.
pub const HOLD_BOUND: u64 = 32_768;

/// The most work units that requests of one connection other than SND may cost before other connections are served. It
/// is about as long as a wakeup, so that thousands of requests in one read do not delay others. Messages are bounded by
/// [`HOLD_BOUND`] alone: large writes carry them at half the processor time.
const QUANTUM: u64 = 1_024;

/// The delay of deferred work: just enough to put it behind work that was deferred before.
const NEXT: Duration = Duration::from_nanos(1);

/// The cost of the present hold of the lock.
#[derive(Debug, Default)]
pub(super) struct WorkBudget {
    /// The units counted before the hold.
    before: u64,
    /// The units of the longest hold so far.
    longest: u64,
    /// The part of the [`QUANTUM`] that the present connection has used.
    used_of_quantum: u64,
    /// The driver says where holds begin. Otherwise each call of the service is one.
    has_driver_holds: bool,
}

impl WorkBudget {
    fn begin(&mut self, units: u64) {
        self.longest = self.longest_at(units);
        self.before = units;
    }

    fn used(&self, units: u64) -> u64 {
        units - self.before
    }

    fn longest_at(&self, units: u64) -> u64 {
        self.longest.max(self.used(units))
    }
}

impl Server {
    /// Returns the one meter in which units are counted.
    pub(super) fn work(&self) -> &WorkMeter {
        self.hub.work()
    }

    /// Begins a hold of the lock, as the driver says.
    pub(super) fn begin_driver_hold(&mut self) {
        self.budget.has_driver_holds = true;
        self.budget.begin(self.work().units());
    }

    /// Begins a hold, unless the driver says where holds begin.
    pub(super) fn begin_call(&mut self) {
        if !self.budget.has_driver_holds {
            self.budget.begin(self.work().units());
        }
    }

    /// Whether the hold has reached the bound.
    pub(super) fn is_hold_spent(&self) -> bool {
        self.budget.used(self.work().units()) >= HOLD_BOUND
    }

    /// Returns the most units of one hold.
    pub(super) fn longest_hold(&self) -> u64 {
        self.budget.longest_at(self.work().units())
    }

    /// Returns the units of the present hold, or of the last one.
    #[doc(hidden)]
    pub fn hold_units(&self) -> u64 {
        self.budget.used(self.work().units())
    }

    /// Counts the rules that are tried for a name.
    pub(super) fn count_rules(&self, name: &str) {
        self.work().add(self.config.rules.tried(), cost::RULE);
        self.work().add_name(name.as_bytes(), 3);
    }

    /// Gives a connection, whose input is executed next, a whole quantum.
    pub(super) fn begin_quantum(&mut self) {
        self.budget.used_of_quantum = 0;
    }

    /// Charges a request other than SND, which began when the meter stood at `before`, to the connection's quantum.
    pub(super) fn charge_quantum(&mut self, before: u64) {
        self.budget.used_of_quantum += self.work().units() - before;
    }

    /// Returns when a connection's next input may be executed, if the budget of this hold or its own quantum is spent.
    pub(super) fn budget_returns_at(&self, now: Instant) -> Option<Instant> {
        let is_spent = self.is_hold_spent() || self.budget.used_of_quantum >= QUANTUM;
        is_spent.then(|| later(now, NEXT))
    }

    /// Schedules a sweep in another hold, for work that has no deadline of its own.
    pub(super) fn defer_sweep(&mut self, now: Instant) {
        self.timers.set(Owner::Sweep, Some(later(now, NEXT)));
    }
}
