//! How much is done in one turn: what one peer may ask for at once can be thousands of times as much work as it has bytes.
//!
//! A turn begins with what comes in, or with a deadline, and is over when enough was done: what a connection has sent
//! then waits for another turn, behind those that wait already. What is left of a datagram is dropped: it will be repeated.

use std::time::{Duration, Instant};

use super::Server;
use super::conn::Held;
use crate::service::ConnId;
use crate::units::later;

/// So much is enough for one turn, about two milliseconds: members of rooms whom a message was queued for, or who missed
/// it, and rules that were tried for a name. Less would make each member's share of a turn too small to be worth a write.
const ENOUGH: u64 = 32_768;

/// As many members cost what one rule does.
const MEMBERS_PER_RULE: u64 = 4;

/// What is put off comes behind what was put off before it.
const NEXT: Duration = Duration::from_nanos(1);

/// What the present turn has cost.
#[derive(Debug, Default)]
pub(super) struct Effort {
    /// What the hub had done before it.
    before: u64,
    /// The rules that were tried, in members.
    rules: u64,
}

impl Server {
    pub(super) fn begin_turn(&mut self) {
        self.effort = Effort { before: self.hub.offered(), rules: 0 };
    }

    pub(super) fn has_done_enough(&self) -> bool {
        self.hub.offered() - self.effort.before + self.effort.rules >= ENOUGH
    }

    /// The rules were tried for a name.
    pub(super) fn count_rules(&mut self) {
        self.effort.rules += MEMBERS_PER_RULE * self.config.rules.tried() as u64;
    }

    /// Whether what a connection says next waits for another turn.
    pub(super) fn puts_off(&mut self, now: Instant, conn: ConnId) -> bool {
        let enough = self.has_done_enough();
        if let Some(state) = self.conns.get_mut(conn).filter(|_| enough) {
            state.held = Some(Held::Until(later(now, NEXT)));
        }
        enough
    }
}
