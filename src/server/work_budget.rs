//! The work budget: what one hold of the lock may cost, in the [work units](crate::hub::work) that are counted where
//! entries are walked. A peer can ask for thousands of times as much work as its request has bytes.
//!
//! A hold that has reached the bound does nothing more: what a connection has sent waits for another hold, behind what
//! waits already; deadlines that have passed stay due; what is left of a datagram is dropped, as its sender repeats it.
//! What has to be done for all sessions goes on in another hold, too (`sweep`). A single step is never cut: a message to
//! one room, or the end of one session with all that waits for it, is done whole.

use std::time::{Duration, Instant};

use super::conn::ReadPause;
use super::{Owner, Server};
use crate::hub::work::{WorkMeter, cost};
use crate::service::ConnId;
use crate::units::later;

/// The most work units of one hold, about two milliseconds, if its last step is short. Less would make each member's
/// share of a large room too small to be worth a write.
pub const HOLD_BOUND: u64 = 32_768;

/// What is put off comes behind what was put off before it.
const NEXT: Duration = Duration::from_nanos(1);

/// What the present hold of the lock has cost.
#[derive(Debug, Default)]
pub(super) struct WorkBudget {
    /// The units that were counted before the hold.
    before: u64,
    /// The units of the longest hold so far.
    longest: u64,
    /// The driver says where holds begin. Otherwise each call of the service is one.
    is_told: bool,
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
    /// The one place where units are counted.
    pub(super) fn work(&self) -> &WorkMeter {
        self.hub.work()
    }

    /// A hold of the lock begins, says the driver.
    pub(super) fn begin_told_hold(&mut self) {
        self.budget.is_told = true;
        self.budget.begin(self.work().units());
    }

    /// The service is called: that is a hold, unless the driver says where holds begin.
    pub(super) fn begin_call(&mut self) {
        if !self.budget.is_told {
            self.budget.begin(self.work().units());
        }
    }

    /// Whether the hold has reached the bound.
    pub(super) fn is_hold_spent(&self) -> bool {
        self.budget.used(self.work().units()) >= HOLD_BOUND
    }

    /// The most units that any hold has taken.
    pub(super) fn longest_hold(&self) -> u64 {
        self.budget.longest_at(self.work().units())
    }

    /// The units that the present hold, or the last one, has taken.
    #[doc(hidden)]
    pub fn hold_units(&self) -> u64 {
        self.budget.used(self.work().units())
    }

    /// The rules are tried for a name.
    pub(super) fn count_rules(&self, name: &str) {
        self.work().add(self.config.rules.tried(), cost::RULE);
        self.work().add_name(name.as_bytes(), 3);
    }

    /// Whether what a connection says next waits for another hold.
    pub(super) fn puts_off(&mut self, now: Instant, conn: ConnId) -> bool {
        let is_spent = self.is_hold_spent();
        if let Some(state) = self.conns.get_mut(conn).filter(|_| is_spent) {
            state.held = Some(ReadPause::Until(later(now, NEXT)));
        }
        is_spent
    }

    /// There is work left that no deadline stands for: it goes on in another hold.
    pub(super) fn put_off_sweep(&mut self, now: Instant) {
        self.timers.set(Owner::Sweep, Some(later(now, NEXT)));
    }
}
