//! Sweeps: work over all sessions or connections, done in as many holds of the lock as it takes.
//!
//! Each sweep keeps a cursor, does what the hold's [work budget](super::work_budget) allows, and continues when the
//! deadline of `Owner::Sweep` fires. That is at once, but behind deadlines that were due before. A step is in `access`
//! or `session_end`.

use std::time::Instant;

use super::Server;
use super::session_end::EndReason;
use crate::hub::work::cost;
use crate::hub::{Path, Session, SessionKey};
use crate::units::counted;

/// The sweeps under way.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    rules: Option<RulesSweep>,
    drain: Option<DrainSweep>,
}

/// Applies new access rules to the sessions opened under the old ones, then to the connections without a session.
#[derive(Clone, Copy, Debug)]
struct RulesSweep {
    /// The slot from which the next session is taken; `None` after the last.
    session: Option<u32>,
    /// The slot of the next connection.
    conn: usize,
    /// Number of sessions ended.
    ended: usize,
    /// Number of closed connections without a session.
    closed: u64,
}

/// Drains the server: all sessions, then all connections without one, then all paused senders.
#[derive(Clone, Copy, Debug, Default)]
struct DrainSweep {
    /// The slot from which the next session is taken; `None` after the last.
    session: Option<u32>,
    /// The slot of the next connection.
    conn: usize,
}

impl Server {
    /// Continues the sweeps, as far as this hold's budget allows.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.sweep_rules(now);
        self.sweep_drain(now);
        if self.drain.is_ending() {
            self.end_all(now);
        }
        if self.sweeps.rules.is_some() || self.sweeps.drain.is_some() || self.drain.is_ending() {
            self.defer_sweep(now);
        }
    }

    /// Begins to apply new rules. A sweep for older rules is dropped.
    pub(super) fn begin_rules_sweep(&mut self) {
        self.sweeps.rules = Some(RulesSweep { session: Some(0), conn: 0, ended: 0, closed: 0 });
    }

    fn sweep_rules(&mut self, now: Instant) {
        while let Some(mut sweep) = self.sweeps.rules
            && !self.is_hold_spent()
        {
            if let Some(slot) = sweep.session {
                let key = self.hub.next_from(slot);
                sweep.ended += usize::from(key.is_some_and(|key| self.apply_rules(now, key)));
                sweep.session = key.and_then(|key| key.slot().checked_add(1));
            } else if sweep.conn < self.streams.slots() {
                sweep.closed += u64::from(self.apply_rules_to_place(sweep.conn));
                sweep.conn += 1;
            } else {
                self.sweeps.rules = None;
                return self.log_rules(sweep.ended, sweep.closed);
            }
            self.sweeps.rules = Some(sweep);
        }
    }

    /// Logs that all sessions and connections conform to the new rules.
    fn log_rules(&self, ended: usize, closed: u64) {
        let rules = counted(self.config.rules.len() as u64, "rule");
        match ended {
            1 => log::info!("reloaded {rules}; 1 session is not allowed any more and has ended"),
            ended => log::info!("reloaded {rules}; {ended} sessions are not allowed any more and have ended"),
        }
        if closed > 0 {
            log::info!(
                "closed {}: not registered, and not allowed to register",
                counted(closed, "connection")
            );
        }
    }

    /// Begins to tell every session and connection that the server drains.
    pub(super) fn begin_drain_sweep(&mut self) {
        self.sweeps.drain = Some(DrainSweep { session: Some(0), conn: 0 });
    }

    fn sweep_drain(&mut self, now: Instant) {
        while let Some(DrainSweep { session, conn }) = self.sweeps.drain
            && !self.is_hold_spent()
        {
            let next = match session {
                Some(slot) => self.drain_next_session(now, slot, conn),
                None if conn < self.streams.slots() => self.drain_next_conn(conn),
                None if self.resume_next_sender(now) => DrainSweep { session, conn },
                None => {
                    self.sweeps.drain = None;
                    return;
                }
            };
            self.sweeps.drain = Some(next);
        }
    }

    fn drain_next_session(&mut self, now: Instant, slot: u32, conn: usize) -> DrainSweep {
        let key = self.hub.next_from(slot);
        if let Some(key) = key {
            self.drain_session(now, key);
        }
        DrainSweep { session: key.and_then(|key| key.slot().checked_add(1)), conn }
    }

    fn drain_session(&mut self, now: Instant, key: SessionKey) {
        match self.hub.get(key).map(Session::path) {
            Some(Path::Stream(None)) => self.end_session(now, key, EndReason::Draining),
            // `bye_rounds` sends the BYE to sessions with nothing in flight.
            Some(Path::Datagram(_)) if self.hub.get(key).is_some_and(Session::is_settled) => {}
            _ => {
                self.work().add(1, cost::CONNECTION);
                self.hub.say_bye(key, self.draining_bye());
            }
        }
    }

    fn drain_next_conn(&mut self, place: usize) -> DrainSweep {
        self.work().add(1, cost::PASSED);
        let unregistered = self.streams.unregistered_at(place);
        if let Some((conn, _)) = unregistered {
            self.work().add(1, cost::CONNECTION);
            self.close_with_bye(conn);
        }
        DrainSweep { session: None, conn: place + 1 }
    }
}
