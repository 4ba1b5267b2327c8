//! The shutdown of a server: its progress, its begin and its end.
//!
//! All sessions and connections are told in a sweep (`sweep`); BYEs over datagrams are sent in rounds (`bye_rounds`).

use std::time::{Duration, Instant};

use super::admission::HostCounts;
use super::bye_rounds::ByeRounds;
use super::guests::Guests;
use super::lookup::{Lookup, Spent};
use super::session_end::EndReason;
use super::{Owner, Server};
use crate::hub::Path;

/// Time limit of [`Service::shutdown`](crate::service::Service::shutdown) for queues to empty and BYEs to be
/// acknowledged.
pub const DRAIN_TIME: Duration = Duration::from_secs(8);

/// The shutdown of a server.
#[derive(Debug, Default)]
pub(super) struct Drain {
    stage: Stage,
    _unused: Option<Box<Unused>>,
}

/// The progress of the shutdown.
#[derive(Debug, Default)]
enum Stage {
    /// The server is not shutting down.
    #[default]
    NotBegun,
    /// Sessions and connections are told, and may finish.
    Underway(ByeRounds),
    /// The time is over: the remaining sessions end.
    Ending,
    /// All sessions have ended.
    Over,
}

/// Tables that are not needed once the time to drain is over. They are freed with the server, outside the lock:
/// removing a million entries one by one takes long.
#[derive(Debug)]
pub(super) struct Unused {
    _lookup: Lookup,
    _spent: Spent,
    _guests: Guests,
    _hosts: HostCounts,
}

impl Drain {
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.stage, Stage::NotBegun)
    }

    /// Whether the time is over and sessions remain.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending)
    }

    /// Returns the BYEs over datagrams while they are sent.
    pub(super) fn bye_rounds(&mut self) -> Option<&mut ByeRounds> {
        match &mut self.stage {
            Stage::Underway(bye_rounds) => Some(bye_rounds),
            Stage::NotBegun | Stage::Ending | Stage::Over => None,
        }
    }

    /// Begins a round of BYEs over datagrams.
    pub(super) fn begin_round(&mut self, bye_rounds: ByeRounds) {
        self.stage = Stage::Underway(bye_rounds);
    }
}

impl Server {
    pub(super) fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Begins the shutdown, once.
    pub(super) fn begin_drain(&mut self, now: Instant) {
        if self.is_draining() {
            return;
        }
        self.begin_call();
        self.begin_round(now, 0);
        self.timers.set(Owner::Drain, Some(now + DRAIN_TIME));
        self.hub.close();
        self.begin_drain_sweep();
        self.sweep(now);
        self.finish_call(now);
    }

    /// Begins to end all sessions: the time to drain is over, and no session opens any more.
    pub(super) fn end_drain(&mut self, now: Instant) {
        let unused = Unused {
            _lookup: std::mem::take(&mut self.lookup),
            _spent: std::mem::take(&mut self.spent),
            _guests: std::mem::take(&mut self.guests),
            _hosts: self.admission.release_all(),
        };
        self.drain = Drain { stage: Stage::Ending, _unused: Some(Box::new(unused)) };
        self.sweep(now);
    }

    /// Ends the remaining sessions, as far as this hold's budget allows.
    pub(super) fn end_all(&mut self, now: Instant) {
        while !self.is_hold_spent() {
            let Some((key, session)) = self.hub.next_from(0).and_then(|key| Some((key, self.hub.end(key)?)))
            else {
                self.drop_logs.flush(now);
                self.drain.stage = Stage::Over;
                return;
            };
            self.report_end(now, key, &session, EndReason::Draining);
            if let Path::Stream(Some(conn)) = session.path() {
                self.detach(conn, session.has_said_bye());
            }
        }
    }

    /// Whether the shutdown is complete.
    pub(super) fn is_drained(&self) -> bool {
        match self.drain.stage {
            Stage::NotBegun | Stage::Ending => false,
            Stage::Underway(_) => {
                self.hub.is_empty() && self.streams.is_empty() && self.links.is_quiet_outward()
            }
            Stage::Over => true,
        }
    }
}
