//! Input on streams that is not complete or not executed yet: what all of it counts for in `max_memory`, and which
//! connection has to give its memory to others when that is short.
//!
//! All of it together may take three quarters of `max_memory`, as far as nothing else has taken that: frames that never end
//! must not keep messages from being queued. Beyond that a connection is closed that holds a long one. The first of these is
//! the answer: (1) of the host with several long ones and most bytes in them, the one that has stood still for longest; (2)
//! the one that has stood still for longest, if it has for [`STILL`]; (3) the one that has just grown. So one host cannot
//! keep others out, and whoever wants to hold memory from many hosts has to go on sending.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Server;
use super::conn::{Eviction, Held};
use super::hosts::Host;
use crate::hub::Session;
use crate::hub::memory::MemoryUse;
use crate::lazy_box::LazyBox;
use crate::service::ConnId;

/// Input of no more than this is kept whatever else is, in bytes: the number of connections bounds it.
const SHORT_INPUT: usize = 64 << 10;

/// Long input that has not grown by [`STEP`] for so long stands still.
const STILL: Duration = Duration::from_secs(2);

/// Growth that counts, in bytes.
const STEP: usize = 64 << 10;

/// As many connections are closed for one that grows, at most.
const MOST_EVICTED: usize = 8;

const NO_MEMORY: &str = "no memory for a message of this length now";
const EVICTED: &str = "memory is short, and your message does not go on";

/// A connection with long input.
#[derive(Debug)]
struct Holder {
    host: Option<Host>,
    bytes: usize,
    /// It had so many bytes ..
    mark: usize,
    /// .. when it last had grown by [`STEP`].
    since: Instant,
}

/// The connections with long input: as many as the bound of all input has place for.
#[derive(Debug, Default)]
pub(super) struct InputHolders(BTreeMap<ConnId, Holder>);

impl InputHolders {
    /// A connection has so much long input now.
    fn note(&mut self, now: Instant, conn: ConnId, host: Option<Host>, bytes: usize) {
        let holder = self.0.entry(conn).or_insert(Holder { host, bytes: 0, mark: 0, since: now });
        holder.bytes = bytes;
        if bytes < holder.mark || bytes >= holder.mark + STEP {
            (holder.mark, holder.since) = (bytes, now);
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }

    /// Of the hosts with several long ones, that with the most bytes in them.
    fn heaviest(&self) -> Option<Host> {
        let mut hosts: BTreeMap<Host, (usize, usize)> = BTreeMap::new();
        for holder in self.0.values() {
            if let Some(host) = holder.host {
                let (count, bytes) = hosts.entry(host).or_default();
                (*count, *bytes) = (*count + 1, *bytes + holder.bytes);
            }
        }
        let several = hosts.into_iter().filter(|(_, (count, _))| *count > 1);
        several.max_by_key(|(_, (_, bytes))| *bytes).map(|(host, _)| host)
    }

    /// The one that has to go first. Those that `waits` for the server itself do not stand still.
    fn first_to_go(&self, now: Instant, waits: impl Fn(ConnId) -> bool) -> Option<ConnId> {
        let heaviest = self.heaviest();
        let of_heaviest = |holder: &Holder| heaviest.is_some() && holder.host == heaviest;
        let stands_still = |conn, holder: &Holder| holder.since + STILL <= now && !waits(conn);
        let candidates = self.0.iter().filter(|(conn, holder)| {
            if heaviest.is_some() { of_heaviest(holder) } else { stands_still(**conn, holder) }
        });
        candidates.min_by_key(|(_, holder)| holder.since).map(|(conn, _)| *conn)
    }
}

impl Server {
    /// Counts what a connection holds of frames: of the unfinished one, and of those that wait for their turn.
    pub(super) fn bound_frames(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.get(conn) else { return };
        let unfinished = state.unfinished.get().partial.map_or(0, |partial| partial.allocated);
        let waiting: usize = state.backlog.get().iter().map(|batch| batch.size()).sum();
        self.bound_input(now, conn, unfinished + waiting);
    }

    /// The same where frames are spoken, and some that waited had their turn.
    pub(super) fn recount_frames(&mut self, now: Instant, conn: ConnId) {
        if self.conns.get(conn).is_some_and(|state| state.lines.is_none()) {
            self.bound_frames(now, conn);
        }
    }

    /// Counts what a connection holds of input, and closes whichever has to give way if that is too much.
    pub(super) fn bound_input(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        if state.closing {
            return;
        }
        let before = state.unfinished.get().buffered;
        state.set_buffered(bytes);
        self.hub.ledger_mut().recharge(MemoryUse::Input, before, bytes);
        if bytes > SHORT_INPUT {
            let host = Host::of(state.origin().from);
            self.input.note(now, conn, host, bytes);
            self.make_room_for_input(now, conn);
        } else if before > SHORT_INPUT {
            self.input.forget(conn);
        }
    }

    /// Whether there is more input than may be.
    fn has_too_much_input(&self) -> bool {
        let ledger = self.hub.ledger();
        ledger.total() > ledger.bound() || ledger.used(MemoryUse::Input) > ledger.bound() / 4 * 3
    }

    fn make_room_for_input(&mut self, now: Instant, grown: ConnId) {
        for _ in 0..MOST_EVICTED {
            if !self.has_too_much_input() {
                return;
            }
            let waits = |conn| {
                let held = self.conns.get(conn).and_then(|state| state.held);
                matches!(held, Some(Held::Until(_) | Held::ByReaders))
            };
            match self.input.first_to_go(now, waits).filter(|conn| *conn != grown) {
                Some(conn) => self.evict(now, conn),
                None => break,
            }
        }
        if self.has_too_much_input() {
            self.refuse_input(now, grown);
        }
    }

    /// Closes a connection for want of memory, and executes nothing that waits for its turn. It is about to send more, which
    /// lets its intake go.
    fn refuse_input(&mut self, now: Instant, conn: ConnId) {
        self.drop_input(conn);
        self.break_stream(now, conn, NO_MEMORY);
    }

    fn drop_input(&mut self, conn: ConnId) {
        self.forget_input(conn);
        if let Some(state) = self.conns.get_mut(conn) {
            state.backlog = LazyBox::default();
        }
    }

    /// Closes a connection for the memory that it holds. It is told why, if it reads, and not waited for: nothing else would
    /// free what its intake keeps.
    fn evict(&mut self, now: Instant, conn: ConnId) {
        self.drop_input(conn);
        let session = self.conns.get(conn).and_then(|state| state.session);
        let is_behind = session.and_then(|key| self.hub.get(key)).is_some_and(Session::is_being_written);
        if let Some(state) = self.conns.get_mut(conn) {
            let unfinished = state.unfinished.get_or_default();
            let cannot_hear = is_behind || unfinished.given > 0;
            unfinished.eviction = if cannot_hear { Eviction::Told } else { Eviction::Condemned };
        }
        self.totals.evicted += 1;
        self.break_stream(now, conn, EVICTED);
    }

    /// A connection holds no input any more.
    pub(super) fn forget_input(&mut self, conn: ConnId) {
        self.input.forget(conn);
        let Some(state) = self.conns.get_mut(conn) else { return };
        let before = state.unfinished.get().buffered;
        state.set_buffered(0);
        self.hub.ledger_mut().release(MemoryUse::Input, before);
    }
}
