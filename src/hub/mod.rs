//! The chat: names, direct messages, rooms, and bounded queues. It knows sessions, not bytes, sockets or the time of
//! day; who a request comes from, whether it is a repeat, and what its answer looks like is decided before and after.
//!
//! Everything that puts something into a session's queue marks the session as woken; whoever drives the hub asks
//! [`Hub::poll_woken`] and then takes the output session by session.

use std::collections::VecDeque;

use crate::error::Refusal;
use crate::handle_index::CachedHashIndex;
use crate::reliable::PushTimeouts;
use crate::service::Origin;
use crate::wire::Token;

#[cfg(test)]
mod accounting;
mod arena;
mod bodies;
mod burst;
mod delivery;
pub mod memory;
mod message;
pub mod queue;
mod requests;
pub mod rooms;
pub mod session;
mod slot_set;
mod slow;
mod spares;
mod targets;
pub mod work;

use crate::names::{ClashKeys, FoldKey, Name, NameError};
use crate::rates::Rate;
use arena::Arena;
use memory::{MemoryLedger, MemoryUse};
pub use message::Body;
use rooms::Rooms;
pub use session::{DatagramPath, Form, Path, Session, SessionKey};
use slow::Slow;
pub use slow::SlowPolicy;
use spares::Spares;
use targets::Targets;
use work::{WorkMeter, cost};

/// Most rooms a session may be in.
pub const MAX_ROOMS: usize = 64;

/// The bounds of a hub.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// Most bytes queued, given to a connection and not written, or sent and not acknowledged, for one session. An empty
    /// queue takes any one message.
    pub max_pending: usize,
    /// Most messages of which the same is true; at least 1. Default 65,536.
    pub max_pending_messages: usize,
    /// What happens when a message to a room finds no room in a member's queue. Default [`SlowPolicy::DropNew`].
    pub slow: SlowPolicy,
    /// Most bytes that all sessions and connections together make the server keep. Default 1 GiB. Counted are: queues (each
    /// message with [`queue::FRAME_OVERHEAD`]; a body of 4 KiB or more that many wait for counts once here, but for each of
    /// them in `max_pending`), rooms and memberships ([`rooms::ROOM_COST`], [`rooms::MEMBER_COST`]), dedup windows beyond
    /// their least width, answers on streams that are not read, and unfinished frames and lines. What needs more is refused
    /// with 503; a dedup window stays narrow, a connection whose answers are not read is not read either, and of unfinished
    /// frames those give way that stand still, or whose host has most.
    ///
    /// Not counted: what every session and connection costs, which `max_sessions` and
    /// [`max_connections`](crate::config::ServerConfig::max_connections) bound.
    pub max_memory: usize,
    /// Most sessions at once. Default 1,048,576; each costs at most 2 KiB beside what counts in `max_memory`, 300 bytes as
    /// long as it does nothing. A peer needs no connection for a session on datagrams: `ServerConfig::max_per_host` bounds
    /// those of one host. One more is refused (503).
    pub max_sessions: usize,
    /// Retransmission of pushes over datagrams.
    pub push_timeouts: PushTimeouts,
    /// Parts switched off to prove that the tests notice.
    #[doc(hidden)]
    pub sabotage: Sabotage,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            max_pending: 16 << 20,
            max_pending_messages: 1 << 16,
            slow: SlowPolicy::default(),
            max_memory: 1 << 30,
            max_sessions: 1 << 20,
            push_timeouts: PushTimeouts::default(),
            sabotage: Sabotage::default(),
        }
    }
}

/// Parts of the delivery promise that a test of the tests switches off, one at a time.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// The dedup window remembers nothing.
    pub no_dedup: bool,
    /// Pushes are sent once only.
    pub no_push_repeat: bool,
}

/// What the hub has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubStats {
    /// Sessions opened.
    pub sessions: u64,
    /// Messages accepted from senders.
    pub messages: u64,
    /// Messages queued for receivers: a message to a room counts once per member.
    pub queued: u64,
    /// Messages that became part of a gap.
    pub gaps: u64,
    /// Acknowledged messages that sessions left behind when they ended.
    pub undelivered: u64,
    /// Messages in gaps that sessions were not known to have been told of when they ended.
    pub untold: u64,
    /// Sessions that ended because they read too slowly.
    pub cut_off: u64,
}

impl HubStats {
    /// A session ends, and leaves this behind.
    fn leave(&mut self, session: &Session) {
        self.undelivered += session.undelivered() as u64;
        self.untold += session.untold();
    }
}

/// What [`Hub::open`] needs to know of a new session.
#[derive(Debug)]
pub struct Opening {
    /// The name it wants.
    pub name: Name,
    /// How it is spoken to.
    pub form: Form,
    /// Its token, drawn for it alone.
    pub token: Token,
    /// The nonce of its REG.
    pub nonce: Option<Token>,
    /// Where it is.
    pub path: Path,
    /// Where it came from: on datagrams, where they go.
    pub origin: Origin,
    /// How much it may say.
    pub rate: Rate,
}

/// All sessions and rooms.
#[derive(Debug, Default)]
pub struct Hub {
    config: HubConfig,
    sessions: Arena,
    /// Slots by the fold of their names, ..
    by_fold: CachedHashIndex,
    /// .. and by what these look like.
    by_clash: CachedHashIndex,
    /// Names are looked for no more.
    is_closed: bool,
    rooms: Rooms,
    memory: MemoryLedger,
    woken: VecDeque<SessionKey>,
    slow: Slow,
    stats: HubStats,
    /// The messages that wait to be sent or acknowledged.
    waiting: usize,
    work: WorkMeter,
    /// Whom messages were for.
    targets: Targets,
    /// For messages on their way.
    buffer: Vec<u8>,
    spares: Spares,
}

impl Hub {
    /// An empty hub.
    pub fn new(config: HubConfig) -> Self {
        Self { memory: MemoryLedger::new(config.max_memory), config, ..Self::default() }
    }

    /// The counters so far.
    pub fn stats(&self) -> HubStats {
        self.stats
    }

    /// How many sessions live.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether no session lives.
    pub fn is_empty(&self) -> bool {
        self.sessions.len() == 0
    }

    /// The messages that wait to be sent or acknowledged, of all sessions.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The bytes that all queues together hold. A body that several wait for counts once, until the last of them has it and
    /// whoever writes it to a connection lets go of it.
    pub fn memory(&self) -> usize {
        self.memory.pending()
    }

    /// What is kept for peers, and the bound of that.
    pub fn ledger(&self) -> &MemoryLedger {
        &self.memory
    }

    /// The same, to count what connections hold.
    pub(crate) fn ledger_mut(&mut self) -> &mut MemoryLedger {
        &mut self.memory
    }

    /// What has been walked through so far.
    pub fn work(&self) -> &WorkMeter {
        &self.work
    }

    /// The first living session whose slot is not before this one: whoever goes through all of them counts each as work.
    pub fn next_from(&self, slot: u32) -> Option<SessionKey> {
        self.work.add(1, cost::PASSED);
        self.sessions.next_from(slot).map(|(key, _)| key)
    }

    /// A living session.
    pub fn get(&self, key: SessionKey) -> Option<&Session> {
        self.sessions.get(key)
    }

    /// A living session, to change.
    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        self.sessions.get_mut(key)
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] when a living session has a name that is, or looks, the same; [`Refusal::ServerFull`] when
    /// there are as many sessions as may be; [`Refusal::Draining`] behind [`Hub::close`].
    pub fn open(&mut self, opening: Opening) -> Result<SessionKey, Refusal> {
        self.work.add(1, cost::OPENED);
        // Its own key, that of a session which may have it already, and what it is found by.
        self.work.add_name(opening.name.as_str().as_bytes(), 8);
        if self.is_closed {
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

    /// Whether a living session has a name that is, or looks, the same.
    pub fn is_taken(&self, name: &Name) -> bool {
        // Who has the same name has one that looks the same.
        self.work.add_name(name.as_str().as_bytes(), 6);
        self.has_like(&name.clash_keys(), None)
    }

    /// The living session that has a name that is, or looks, the same.
    pub fn owner_of(&self, name: &Name) -> Option<SessionKey> {
        let clash = name.clash_keys();
        let holds =
            |slot, key: &_| self.at(slot).is_some_and(|(_, session)| session.name.clash_keys().holds(key));
        let slot = clash.iter().find_map(|key| self.by_clash.find(key, |slot| holds(slot, key)))?;
        self.at(slot).map(|(key, _)| key)
    }

    /// Gives a session another name; nothing else of it changes. A name that is too like its present one is no clash.
    ///
    /// # Errors
    ///
    /// [`Refusal::NameTaken`] when another session has a name that is, or looks, the same.
    pub fn rename(&mut self, key: SessionKey, name: Name) -> Result<(), Refusal> {
        let old = self.get(key).ok_or(Refusal::RegisterFirst)?.name.clone();
        self.work.add(1, cost::OPENED);
        self.work.add_name(name.as_str().as_bytes(), 8);
        let clash = name.clash_keys();
        if self.has_like(&clash, Some(key.slot)) {
            return Err(Refusal::NameTaken);
        }
        self.targets.forget();
        self.unlist_name(key, &old);
        if let Some(session) = self.get_mut(key) {
            session.name = name;
        }
        self.list_name(key, &clash);
        Ok(())
    }

    /// The session of that name.
    pub fn find(&self, name: &[u8]) -> Option<SessionKey> {
        self.work.add_name(name, 1);
        let slot = self.with_fold(name, |key| {
            let is =
                |slot| self.at(slot).is_some_and(|(_, session)| session.name.with_fold(|fold| fold == key));
            self.by_fold.find(key, is)
        });
        self.at(slot.flatten()?).map(|(key, _)| key)
    }

    /// Reads a name from what a peer sent, and counts the work.
    ///
    /// # Errors
    ///
    /// As [`Name::parse`].
    pub fn read_name(&self, bytes: &[u8]) -> Result<Name, NameError> {
        self.work.add_name(bytes, 1);
        Name::parse(bytes)
    }

    /// Makes a name of what a person wrote, and counts the work.
    ///
    /// # Errors
    ///
    /// As [`Name::nearest`].
    pub fn read_nearest(&self, bytes: &[u8]) -> Result<Name, NameError> {
        // Once to find what may stand in a name, once to read what has become of it.
        self.work.add_name(bytes, 2);
        Name::nearest(bytes)
    }

    /// The key of a target that a peer sent, with its work counted; `None` if it is no name.
    pub fn fold_of(&self, target: &[u8]) -> Option<FoldKey> {
        self.work.add_name(target, 2);
        FoldKey::of(target)
    }

    /// [`FoldKey::with`], and counts the work.
    pub(crate) fn with_fold<R>(&self, target: &[u8], look_up: impl FnOnce(&str) -> R) -> Option<R> {
        self.work.add_name(target, 2);
        FoldKey::with(target, look_up)
    }

    /// Who has a slot.
    pub fn at(&self, slot: u32) -> Option<(SessionKey, &Session)> {
        self.sessions.at(slot)
    }

    /// Whether a session, in another slot than this, has a name that looks like one with these keys.
    fn has_like(&self, clash: &ClashKeys, except: Option<u32>) -> bool {
        clash.iter().any(|key| {
            let is = |slot| {
                Some(slot) != except
                    && self.at(slot).is_some_and(|(_, session)| session.name.clash_keys().holds(key))
            };
            self.by_clash.find(key, is).is_some()
        })
    }

    /// Lets a session be found by its name.
    fn list_name(&mut self, key: SessionKey, clash: &ClashKeys) {
        let Some(name) = self.get(key).map(|session| session.name.clone()) else { return };
        self.by_fold.insert(name.fold().as_str(), key.slot);
        clash.iter().for_each(|clash| self.by_clash.insert(clash, key.slot));
    }

    /// Lets nobody in any more, and nobody be found by name: to free each name when its session ends is most of the work of
    /// that, and would be for nothing.
    pub fn close(&mut self) {
        self.is_closed = true;
        (self.by_fold, self.by_clash) = Default::default();
        self.targets.forget();
    }

    /// Frees a name.
    fn unlist_name(&mut self, key: SessionKey, name: &Name) {
        if self.is_closed {
            return;
        }
        self.work.add_name(name.as_str().as_bytes(), 4);
        name.with_fold(|fold| self.by_fold.remove(fold, key.slot));
        name.clash_keys().iter().for_each(|clash| self.by_clash.remove(clash, key.slot));
    }

    /// Ends a session: its name is free, its rooms are left, and what was on its way to it is counted as undelivered.
    pub fn end(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.sessions.remove(key)?;
        self.work.add(1, cost::ENDED);
        self.unlist_name(key, &session.name);
        for room in self.work.walk(cost::ROOM, session.rooms()) {
            // Whoever leaves last frees what looks like its name.
            self.work.add_name(room.as_str().as_bytes(), 3);
            self.rooms.leave(room, key, &mut self.memory);
        }
        self.work.add(session.undelivered(), cost::PASSED);
        self.waiting -= session.undelivered();
        self.stats.leave(&session);
        self.memory.release(MemoryUse::Windows, session.replies().cost());
        self.memory.release(MemoryUse::Queues, session.load().own());
        debug_assert!(!self.is_empty() || self.memory.used(MemoryUse::Queues) == 0, "{:?}", self.memory);
        self.relieve_of(key, &session);
        Some(session)
    }
}
