//! Bounds the stream input that is incomplete or not executed yet, and evicts connections that hold too much of it.
//!
//! All such input may take three quarters of `max_memory`, less if other uses take it. Frames that never end must not
//! keep messages from being queued. Beyond that a connection with a long input is closed: the first of these that
//! exists.
//!
//! 1. of the host with several long inputs and the most bytes in them, the one that has stalled longest;
//! 2. the one that has stalled longest, if for at least [`STILL`];
//! 3. the one that has just grown.
//!
//! So one host cannot keep others out, and holding memory from many hosts takes continuous sending. Unread answers are
//! in `unread`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Server;
use super::conn::Eviction;
use super::hosts::Host;
use crate::hub::Session;
use crate::hub::memory::MemoryUse;
use crate::lazy_box::LazyBox;
use crate::service::ConnId;

/// Input up to this length in bytes is always kept: the number of connections bounds it.
const SHORT_INPUT: usize = 64 << 10;

/// Long input that has not grown by [`STEP`] for this long has stalled.
const STILL: Duration = Duration::from_secs(2);

/// The growth that counts as progress, in bytes.
const STEP: usize = 64 << 10;

/// The most connections that are closed for one that grows.
const MOST_EVICTED: usize = 8;

const NO_MEMORY: &str = "no memory for a message of this length now";
const EVICTED: &str = "memory is short, and your message does not go on";

/// A connection with long input.
#[derive(Debug)]
struct Holder {
    host: Option<Host>,
    bytes: usize,
    /// Its bytes at the last progress ..
    mark: usize,
    /// .. and the time of it.
    since: Instant,
}

/// The connections with long input; the bound of all input bounds their number.
#[derive(Debug, Default)]
pub(super) struct InputHolders(BTreeMap<ConnId, Holder>);

impl InputHolders {
    /// Records how much long input a connection has now.
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

    /// Returns the host with the most bytes, of those with several long inputs.
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

    /// Returns the connection to evict first. A connection for which `waits` is true waits for the server and has not
    /// stalled.
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
    /// Counts the frames that a connection holds: the unfinished one and those that wait for execution.
    pub(super) fn bound_frames(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get(conn) else { return };
        let unfinished = state.unfinished.get().partial.map_or(0, |partial| partial.allocated);
        let waiting: usize = state.backlog.get().iter().map(|batch| batch.size()).sum();
        self.bound_input(now, conn, unfinished + waiting);
    }

    /// Does the same on a frame listener, after some waiting frames were executed.
    pub(super) fn recount_frames(&mut self, now: Instant, conn: ConnId) {
        if self.streams.get(conn).is_some_and(|state| state.lines.is_none()) {
            self.bound_frames(now, conn);
        }
    }

    /// Counts the input that a connection holds, and evicts connections if the total is too much.
    pub(super) fn bound_input(&mut self, now: Instant, conn: ConnId, bytes: usize) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if state.is_closing() {
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

    /// Whether there is too much input.
    fn has_too_much_input(&self) -> bool {
        let ledger = self.hub.ledger();
        ledger.total() > ledger.bound() || ledger.used(MemoryUse::Input) > ledger.bound() / 4 * 3
    }

    fn make_room_for_input(&mut self, now: Instant, grown: ConnId) {
        for _ in 0..MOST_EVICTED {
            if !self.has_too_much_input() {
                return;
            }
            let waits = |conn| self.streams.get(conn).is_some_and(|state| !state.gate.is_open());
            match self.input.first_to_go(now, waits).filter(|conn| *conn != grown) {
                Some(conn) => self.evict(now, conn),
                None => break,
            }
        }
        if self.has_too_much_input() {
            self.refuse_input(now, grown);
        }
    }

    /// Closes a connection that grew beyond the memory limit, and drops its waiting input. Its next read frees what
    /// its intake holds.
    fn refuse_input(&mut self, now: Instant, conn: ConnId) {
        self.drop_input(conn);
        self.break_stream(now, conn, NO_MEMORY);
    }

    fn drop_input(&mut self, conn: ConnId) {
        self.forget_input(conn);
        if let Some(state) = self.streams.get_mut(conn) {
            state.backlog = LazyBox::default();
        }
    }

    /// Closes a connection to free its memory. It gets an ERR if it reads, but the close does not wait for that:
    /// nothing else would free what its intake holds.
    fn evict(&mut self, now: Instant, conn: ConnId) {
        self.drop_input(conn);
        let session = self.streams.session(conn);
        let is_behind = session.and_then(|key| self.hub.get(key)).is_some_and(Session::is_being_written);
        if let Some(state) = self.streams.get_mut(conn) {
            let unfinished = state.unfinished.get_or_default();
            let cannot_hear = is_behind || unfinished.given > 0;
            unfinished.eviction = if cannot_hear { Eviction::Done } else { Eviction::Closing };
        }
        self.totals.evicted += 1;
        self.break_stream(now, conn, EVICTED);
    }

    /// Uncounts the input of a connection.
    pub(super) fn forget_input(&mut self, conn: ConnId) {
        self.input.forget(conn);
        let Some(state) = self.streams.get_mut(conn) else { return };
        let before = state.unfinished.get().buffered;
        state.set_buffered(0);
        self.hub.ledger_mut().release(MemoryUse::Input, before);
    }
}
