//! The chat: names, direct messages, rooms, and bounded queues, for sessions.
//!
//! This module is hidden: it is not part of the public API, and there is no promise of stability.
//!
//! The hub knows no bytes, sockets or clocks. Which session a request belongs to, whether it is a duplicate, and how
//! its answer looks is decided in [`crate::server`]. This file holds the [`Hub`], its limits and its names; what
//! sessions ask for is in `requests`, queues and output in `delivery`.
//!
//! Everything that queues something for a session marks it as woken. The driver of the hub asks [`Hub::poll_woken`]
//! and then takes the output session by session.

use std::collections::VecDeque;

use crate::error::Refusal;
use crate::service::Origin;
use crate::wire::Token;

mod arena;
mod batch_send;
mod buffer_pool;
mod delivery;
#[cfg(test)]
mod ledger_balance;
pub mod memory;
mod message;
mod name_cache;
mod name_index;
pub mod push;
pub mod queue;
mod requests;
pub mod rooms;
pub mod session;
mod shared_bodies;
mod slot_set;
mod slow_consumer;
pub mod work;

pub use crate::hub_config::{HubConfig, Sabotage, SlowPolicy};
use crate::names::{ClashKeys, FoldKey, Name, NameError};
use crate::rates::Rate;
use arena::Arena;
use buffer_pool::BufferPool;
use memory::{MemoryLedger, MemoryUse};
pub use message::Body;
use name_cache::NameCache;
use name_index::NameIndex;
use rooms::Rooms;
pub use session::{DatagramPath, Form, Path, Session, SessionKey};
use slow_consumer::SlowConsumers;
use work::{WorkMeter, cost};

/// The most rooms that a session may be in.
pub const MAX_ROOMS: usize = 64;

/// The counters of a hub since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Sessions opened.
    pub sessions: u64,
    /// Messages accepted from senders.
    pub messages: u64,
    /// Messages queued for receivers: a message to a room counts once per member.
    pub queued: u64,
    /// Messages dropped into a gap.
    pub gaps: u64,
    /// Accepted messages that were still queued or unacknowledged when their session ended.
    pub undelivered: u64,
    /// Messages in gaps that were not known to be reported when their session ended.
    pub untold: u64,
    /// Sessions that ended as slow consumers.
    pub cut_off: u64,
}

impl HubStats {
    /// Adds the counts of a session that ends.
    fn leave(&mut self, session: &Session) {
        self.undelivered += session.undelivered() as u64;
        self.untold += session.untold();
    }
}

/// The properties of a new session, for [`Hub::open`].
#[derive(Debug)]
pub struct Opening {
    /// Its name.
    pub name: Name,
    /// Its protocol.
    pub form: Form,
    /// Its token, drawn for it alone.
    pub token: Token,
    /// The nonce of its REG.
    pub nonce: Option<Token>,
    /// The path that carries it.
    pub path: Path,
    /// Its origin: on datagrams, the address they go to.
    pub origin: Origin,
    /// Its rate limit.
    pub rate: Rate,
}

/// All sessions and rooms.
#[derive(Debug, Default)]
pub struct Hub {
    config: HubConfig,
    sessions: Arena,
    names: NameIndex,
    rooms: Rooms,
    memory: MemoryLedger,
    woken: VecDeque<SessionKey>,
    slow: SlowConsumers,
    stats: HubStats,
    /// The number of messages that wait to be sent or acknowledged.
    waiting: usize,
    work: WorkMeter,
    /// The sessions that recent messages were for.
    name_cache: NameCache,
    /// The buffer in which messages are encoded.
    buffer: Vec<u8>,
    buffer_pool: BufferPool,
}

impl Hub {
    /// Creates an empty hub.
    pub fn new(config: HubConfig) -> Self {
        Self { memory: MemoryLedger::new(config.max_memory), config, ..Self::default() }
    }

    /// Returns the counters so far.
    pub fn stats(&self) -> HubStats {
        self.stats
    }

    /// Returns the number of open sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session lives.
    pub fn is_empty(&self) -> bool {
        self.sessions.len() == 0
    }

    /// Returns how many messages wait to be sent or acknowledged, over all sessions.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the bytes that all queues together hold. A body in several queues counts once, until the last of them
    /// and its writer have released it.
    pub fn memory(&self) -> usize {
        self.memory.pending()
    }

    /// Returns the memory that is kept for peers, and its limit.
    pub fn ledger(&self) -> &MemoryLedger {
        &self.memory
    }

    /// Returns the ledger, to count what connections hold.
    pub(crate) fn ledger_mut(&mut self) -> &mut MemoryLedger {
        &mut self.memory
    }

    /// Returns the meter of the work done so far.
    pub fn work(&self) -> &WorkMeter {
        &self.work
    }

    /// Returns the first open session in this slot or a later one. Counts each step of a walk as work.
    pub fn next_from(&self, slot: u32) -> Option<SessionKey> {
        self.work.add(1, cost::PASSED);
        self.sessions.next_from(slot).map(|(key, _)| key)
    }

    /// Returns an open session.
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key)
    }

    /// Returns an open session, to be changed.
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key)
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] when an open session has the same name or a look-alike; [`Refusal::ServerFull`] at the
    /// limit of sessions; [`Refusal::Draining`] after [`Hub::close`].
    pub fn open(&mut self, opening: Opening) -> Result<SessionKey, Refusal> {
        self.work.add(1, cost::OPENED);
        // The keys of the name, those of a session that may have it, and those of the lookup.
        self.work.add_name(opening.name.as_str().as_bytes(), 8);
        if self.names.is_closed() {
            return Err(Refusal::Draining);
        }
        let clash = opening.name.clash_keys();
        if self.has_like(&clash, None) {
            return Err(Refusal::NameTaken);
        }
        if self.sessions.len() >= self.config.max_sessions {
            return Err(Refusal::ServerFull);
        }
        let session = Session::new(opening, self.config.sabotage.no_dedup);
        let key = self.sessions.insert(session).ok_or(Refusal::ServerFull)?;
        self.list_name(key, &clash);
        self.stats.sessions += 1;
        Ok(key)
    }

    /// Whether an open session has the same name or a look-alike.
    pub fn is_taken(&self, name: &Name) -> bool {
        // The same name is also a look-alike, so one check is enough.
        self.work.add_name(name.as_str().as_bytes(), 6);
        self.has_like(&name.clash_keys(), None)
    }

    /// Returns the open session that has the same name or a look-alike.
    pub fn owner_of(&self, name: &Name) -> Option<SessionKey> {
        let clash = name.clash_keys();
        let slot = self.names.find_like(&self.sessions, &clash, None)?;
        self.at(slot).map(|(key, _)| key)
    }

    /// Gives a session another name and changes nothing else. A look-alike of its own present name is not a clash.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] when another session has the same name or a look-alike.
    pub fn rename(&mut self, key: SessionKey, name: Name) -> Result<(), Refusal> {
        let old = self.get(key).ok_or(Refusal::RegisterFirst)?.name.clone();
        self.work.add(1, cost::OPENED);
        self.work.add_name(name.as_str().as_bytes(), 8);
        let clash = name.clash_keys();
        if self.has_like(&clash, Some(key.slot)) {
            return Err(Refusal::NameTaken);
        }
        self.name_cache.forget();
        self.unlist_name(key, &old);
        if let Some(session) = self.get_mut(key) {
            session.name = name;
        }
        self.list_name(key, &clash);
        Ok(())
    }

    /// Returns the session of that name.
    pub fn find(&self, name: &[u8]) -> Option<SessionKey> {
        self.work.add_name(name, 1);
        let slot = self.with_fold(name, |fold| self.names.find(&self.sessions, fold));
        self.at(slot.flatten()?).map(|(key, _)| key)
    }

    /// Parses a name that a peer sent, and counts the work.
    ///
    /// # Errors
    ///
    /// As [`Name::parse`].
    pub fn read_name(&self, bytes: &[u8]) -> Result<Name, NameError> {
        self.work.add_name(bytes, 1);
        Name::parse(bytes)
    }

    /// Makes a name of what a line client wrote, and counts the work.
    ///
    /// # Errors
    ///
    /// As [`Name::nearest`].
    pub fn read_nearest(&self, bytes: &[u8]) -> Result<Name, NameError> {
        // Once to find the characters that may stand in a name, once to parse the result.
        self.work.add_name(bytes, 2);
        Name::nearest(bytes)
    }

    /// Returns the key of a target that a peer sent, and counts the work; `None` if it is not a name.
    pub fn fold_of(&self, target: &[u8]) -> Option<FoldKey> {
        self.work.add_name(target, 2);
        FoldKey::of(target)
    }

    /// Calls [`FoldKey::with`] and counts the work.
    pub(crate) fn with_fold<R>(&self, target: &[u8], look_up: impl FnOnce(&str) -> R) -> Option<R> {
        self.work.add_name(target, 2);
        FoldKey::with(target, look_up)
    }

    /// Returns the session in a slot.
    pub fn at(&self, slot: u32) -> Option<(SessionKey, &Session)> {
        self.sessions.at(slot)
    }

    /// Whether a session in another slot has a look-alike of the name with these keys.
    fn has_like(&self, clash: &ClashKeys, except: Option<u32>) -> bool {
        self.names.find_like(&self.sessions, clash, except).is_some()
    }

    /// Enters a session under its name.
    fn list_name(&mut self, key: SessionKey, clash: &ClashKeys) {
        let Some(name) = self.get(key).map(|session| session.name.clone()) else { return };
        self.names.insert(key.slot, &name, clash);
    }

    /// Ends the opening of sessions and the lookup by name.
    pub fn close(&mut self) {
        self.names.close();
        self.name_cache.forget();
    }

    /// Frees a name.
    fn unlist_name(&mut self, key: SessionKey, name: &Name) {
        if self.names.is_closed() {
            return;
        }
        self.work.add_name(name.as_str().as_bytes(), 4);
        self.names.remove(key.slot, name);
    }

    /// Ends a session: frees its name, leaves its rooms, and counts its queued messages as undelivered.
    pub fn end(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        self.work.add(1, cost::ENDED);
        self.unlist_name(key, &session.name);
        for room in self.work.walk(cost::ROOM, session.rooms()) {
            // The last member frees the look-alike keys of the room's name.
            self.work.add_name(room.as_str().as_bytes(), 3);
            self.rooms.leave(room, key, &mut self.memory);
        }
        self.work.add(session.undelivered(), cost::PASSED);
        self.waiting -= session.undelivered();
        self.stats.leave(&session);
        self.memory.release(MemoryUse::Windows, session.replies().cost());
        self.memory.release(MemoryUse::Queues, session.load().own());
        debug_assert!(!self.is_empty() || self.memory.used(MemoryUse::Queues) == 0, "{:?}", self.memory);
        self.mark_resumable_at_end(key, &session);
        Some(session)
    }
}
