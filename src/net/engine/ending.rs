//! How connections end: who has closed first, what is still to be written or read then, and how long that may take.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::connection::{Mode, Port};
use super::pending_io::PendingIo;
use super::shared::Shared;
use crate::service::{CloseReason, ConnId, Service};

/// How long a connection that is to be closed, or whose peer has closed its side, has for each piece of what is still
/// to be written.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long the service may take for the last input of a connection whose peer has closed its side. A door for people has
/// read 1 KiB at most: 512 lines, at one a second.
const LAST_INPUT: Duration = Duration::from_secs(600);

/// How long it may do nothing of it meanwhile.
const LAST_WAIT: Duration = Duration::from_secs(60);

/// How long input is read and discarded behind the last words: a close with unread input is a reset, which may
/// overtake them.
const DISCARDING: Duration = Duration::from_secs(2);

/// How far the end of a connection has come, on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// Not begun.
    Not,
    /// The service has said its last words; they may not be written yet.
    Closing,
    /// They are written, and the peer was told that nothing follows.
    Shut,
}

/// How connections end.
impl<S: Service, P: Port> Shared<S, P> {
    /// Nothing more is read from a connection. If its peer has only closed its own side, it still gets what is due to
    /// it.
    pub(in crate::net) fn read_ended(
        &mut self,
        now: Instant,
        conn: ConnId,
        is_lost: bool,
        work: &mut PendingIo<P>,
    ) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        entry.ended = true;
        if is_lost {
            return self.end(now, conn, CloseReason::Lost, work);
        }
        if entry.parting == Parting::Not {
            self.deadlines.set(conn, Some(now + LAST_WORDS));
        }
        self.service.ended(now, conn);
        self.claim(now, conn, work);
    }

    /// The service has nothing more to say: what it has said may take so long to be written.
    pub(super) fn part(&mut self, now: Instant, conn: ConnId, work: &mut PendingIo<P>) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.parting == Parting::Not {
            entry.parting = Parting::Closing;
            if entry.link.set_mode(Mode::Discarding) {
                work.resumed.push(entry.link.clone());
            }
            self.deadlines.set(conn, Some(now + LAST_WORDS));
        }
    }

    /// Everything is written: what was to come after that comes now.
    pub(super) fn rest(&mut self, now: Instant, conn: ConnId, work: &mut PendingIo<P>) {
        let Some(entry) = self.conns.get_mut(conn) else { return };
        if entry.ended && entry.busy {
            let until = *self.last_inputs.entry(conn).or_insert_with(|| now + LAST_INPUT);
            self.deadlines.set(conn, Some(until.min(now + LAST_WAIT)));
        } else if entry.ended || entry.refused && entry.parting == Parting::Closing {
            // Whom there is no room for must not take up any.
            self.end(now, conn, CloseReason::Peer, work);
        } else if entry.parting == Parting::Closing {
            entry.parting = Parting::Shut;
            work.shuts.push((entry.link.clone(), Shutdown::Write));
            self.deadlines.set(conn, Some(now + DISCARDING));
        }
    }

    /// Forgets a connection. Its socket is closed once the tasks that use it have let go of it.
    pub(super) fn end(&mut self, now: Instant, conn: ConnId, why: CloseReason, work: &mut PendingIo<P>) {
        let Some(entry) = self.conns.remove(conn) else { return };
        let why = match (entry.parting, why) {
            // Who has our last words and does not close is not late with anything.
            (Parting::Shut, _) | (Parting::Closing, CloseReason::Peer | CloseReason::Lost) => {
                CloseReason::Asked
            }
            _ => why,
        };
        if conn.serial() < u64::from(u32::MAX) {
            self.vacant.push(conn);
        }
        self.deadlines.set(conn, None);
        if entry.ended {
            self.last_inputs.remove(&conn);
        }
        self.service.closed(now, conn, why);
        if entry.link.set_mode(Mode::Gone) {
            work.resumed.push(entry.link.clone());
        }
        if !entry.ended || entry.writing || P::OUTLIVES_READING {
            // Wakes who waits to read or to write.
            work.shuts.push((entry.link, Shutdown::Both));
        }
    }

    /// Ends all connections, and from now on also those that come in too late to be counted among them.
    pub(super) fn give_up(&mut self, now: Instant, work: &mut PendingIo<P>) {
        self.is_over = true;
        let left: Vec<ConnId> = self.conns.iter().map(|(conn, _)| conn).collect();
        for conn in left {
            self.end(now, conn, CloseReason::Ended, work);
        }
    }
}
