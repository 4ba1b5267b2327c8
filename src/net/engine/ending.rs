//! The closing of connections: the side that closed first, what remains to be written or read, and the deadlines.
//!
//! The part of [`Shared`] that handles the end of a connection; `shared` has the rest. Deadlines are set here and
//! checked in `Shared::tick`.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::connection::{Mode, Port};
use super::pending_io::PendingIo;
use super::shared::Shared;
use crate::service::{CloseReason, ConnId, Service};

/// Time limit of each remaining write once either side has closed.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of the service for the last input of a connection whose peer has closed its side. A line
/// listener has read 1 KiB at most: 512 lines, at one a second.
const LAST_INPUT_TIMEOUT: Duration = Duration::from_secs(600);

/// Longest time without progress on that input.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Time during which input is read and discarded after the final output: closing with unread input sends a reset,
/// which may overtake that output.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// The progress of our side in closing a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseState {
    /// Open.
    Open,
    /// The service has produced its final output, which may not be written yet.
    Closing,
    /// The final output is written, and our direction is shut down.
    Shut,
}

impl<S: Service, P: Port> Shared<S, P> {
    /// Reading has ended. A peer that has only closed its own side still gets its output.
    pub(in crate::net) fn read_ended(
        &mut self,
        now: Instant,
        conn: ConnId,
        is_lost: bool,
        pending: &mut PendingIo<P>,
    ) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.ended = true;
        if is_lost {
            return self.end(now, conn, CloseReason::Lost, pending);
        }
        if entry.close_state == CloseState::Open {
            self.deadlines.set(conn, Some(now + DRAIN_TIMEOUT));
        }
        self.service.ended(now, conn);
        self.claim(now, conn, pending);
    }

    /// Begins to close: the service has produced its final output, which has [`DRAIN_TIMEOUT`] to be written.
    pub(super) fn begin_close(&mut self, now: Instant, conn: ConnId, pending: &mut PendingIo<P>) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.close_state == CloseState::Open {
            entry.close_state = CloseState::Closing;
            if entry.connection.set_mode(Mode::Discarding) {
                pending.resumed.push(entry.connection.clone());
            }
            self.deadlines.set(conn, Some(now + DRAIN_TIMEOUT));
        }
    }

    /// Takes the next step of a close, once everything is written.
    pub(super) fn continue_close(&mut self, now: Instant, conn: ConnId, pending: &mut PendingIo<P>) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.ended && entry.busy {
            let until = *self.last_inputs.entry(conn).or_insert_with(|| now + LAST_INPUT_TIMEOUT);
            self.deadlines.set(conn, Some(until.min(now + STALL_TIMEOUT)));
        } else if entry.ended || entry.refused && entry.close_state == CloseState::Closing {
            // A refused connection must not occupy a slot.
            self.end(now, conn, CloseReason::Peer, pending);
        } else if entry.close_state == CloseState::Closing {
            entry.close_state = CloseState::Shut;
            pending.shuts.push((entry.connection.clone(), Shutdown::Write));
            self.deadlines.set(conn, Some(now + DISCARD_TIME));
        }
    }

    /// Removes a connection. Its socket is closed once no task uses it.
    pub(super) fn end(&mut self, now: Instant, conn: ConnId, why: CloseReason, pending: &mut PendingIo<P>) {
        let Some(entry) = self.conns.remove(conn) else { return };
        let why = match (entry.close_state, why) {
            // A peer that received our final bytes has not timed out.
            (CloseState::Shut, _) | (CloseState::Closing, CloseReason::Peer | CloseReason::Lost) => {
                CloseReason::Asked
            }
            _ => why,
        };
        if conn.serial() < u64::from(u32::MAX) {
            self.free_ids.push(conn);
        }
        self.deadlines.set(conn, None);
        if entry.ended {
            self.last_inputs.remove(&conn);
        }
        self.service.closed(now, conn, why);
        if entry.connection.set_mode(Mode::Gone) {
            pending.resumed.push(entry.connection.clone());
        }
        if !entry.ended || entry.writing || P::OUTLIVES_READING {
            // Wakes readers and writers that wait for the socket.
            pending.shuts.push((entry.connection, Shutdown::Both));
        }
    }

    /// Ends all connections, including those opened later.
    pub(super) fn give_up(&mut self, now: Instant, pending: &mut PendingIo<P>) {
        self.is_over = true;
        let left: Vec<ConnId> = self.conns.iter().map(|(conn, _)| conn).collect();
        for conn in left {
            self.end(now, conn, CloseReason::Ended, pending);
        }
    }
}
