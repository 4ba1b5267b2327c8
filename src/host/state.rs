//! The state of a host besides its handler: connections, queues, memory and timers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Instant;

use super::conn::{Conn, Stage};
use super::dials::Dials;
use super::flow::SendError;
use super::memory::Memory;
use super::memory_fairness::Starvation;
use super::settings::Settings;
use crate::conn_map::ConnMap;
use crate::listener::{Framing, Listener};
use crate::names::ClashKey;
use crate::service::{Arrival, CloseReason, ConnId, Transmit};
use crate::timers::Timers;
use crate::units::later;

/// Bytes of input that may be passed to the handler before the lock is released.
const EVENT_BUDGET: usize = 1 << 20;

/// The most datagrams that may be queued.
const MOST_DATAGRAMS: usize = 4_096;

/// The owner of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerOwner {
    /// A connection whose handshake is not complete.
    Greeting(ConnId),
    /// The one connection that is read while memory is full.
    Leader,
}

/// The state of a host, without its handler.
#[derive(Debug)]
pub(super) struct HostState {
    pub(super) settings: Settings,
    pub(super) listeners: Vec<Listener>,
    pub(super) conns: ConnMap<Conn>,
    pub(super) names: HashMap<ClashKey, ConnId>,
    pub(super) memory: Memory,
    pub(super) timers: Timers<TimerOwner>,
    /// The time of the latest event.
    pub(super) now: Option<Instant>,
    /// Shutting down: no new connections, and finished when none are left.
    pub(super) is_stopping: bool,
    pub(super) dials: Dials,
    pub(super) woken: VecDeque<ConnId>,
    /// Connections that may pass input to the handler, each once.
    pub(super) ready: VecDeque<ConnId>,
    /// Connections whose input waits for room for answers, each once.
    pub(super) held_back: VecDeque<ConnId>,
    /// Connections with an empty queue whose send found no room, each once.
    pub(super) awaiting_room: VecDeque<ConnId>,
    pub(super) starvation: Starvation,
    /// The connection whose end the handler is told of.
    pub(super) gone: Option<(ConnId, Conn)>,
    /// The number of connections with a complete piece.
    pub(super) unread: usize,
    /// The connection whose input is being passed to the handler.
    pub(super) handing_over: Option<ConnId>,
    /// Bytes that may still be handled in this event.
    pub(super) budget: usize,
    transmits: VecDeque<Transmit>,
}

impl HostState {
    pub(super) fn new(settings: Settings, listeners: Vec<Listener>) -> Self {
        Self {
            memory: Memory::new(settings.max_memory_in, settings.max_memory_out),
            settings,
            listeners,
            conns: ConnMap::default(),
            names: HashMap::new(),
            timers: Timers::default(),
            now: None,
            is_stopping: false,
            dials: Dials::default(),
            woken: VecDeque::new(),
            ready: VecDeque::new(),
            held_back: VecDeque::new(),
            awaiting_room: VecDeque::new(),
            starvation: Starvation::default(),
            gone: None,
            unread: 0,
            handing_over: None,
            budget: EVENT_BUDGET,
            transmits: VecDeque::new(),
        }
    }

    /// Begins to handle an event, with a full budget.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = Some(now);
        self.budget = EVENT_BUDGET;
    }
}

/// Opening and closing.
impl HostState {
    pub(super) fn open(&mut self, now: Instant, id: ConnId, arrival: Arrival) {
        let framing = match arrival {
            Arrival::Accepted(origin) => {
                self.listeners.get(origin.listener).map(|listener| listener.speaks.framing())
            }
            Arrival::Dialed(dial, _) => self.dials.connected(dial),
        };
        self.conns.insert(id, Conn::new(arrival, framing.unwrap_or(Framing::Bytes)));
        if self.is_stopping {
            if let Arrival::Dialed(dial, _) = arrival {
                self.dials.failed(dial, io::Error::new(io::ErrorKind::ConnectionAborted, "we are ending"));
            }
            self.refuse(id, CloseReason::Ended);
        } else if self.conns.get(id).is_some_and(|conn| conn.stage == Stage::Handshake) {
            self.timers.set(TimerOwner::Greeting(id), Some(later(now, self.settings.handshake_timeout)));
            self.greet_first(id);
        }
        self.wake(id);
    }

    /// Removes a closed connection.
    pub(super) fn close_over(&mut self, id: ConnId) -> Option<Conn> {
        self.drop_held(id);
        let conn = self.conns.remove(id)?;
        self.memory.give_out(conn.pending());
        self.memory.count_answers(conn.caused, 0);
        self.timers.set(TimerOwner::Greeting(id), None);
        if let Some(name) = &conn.name {
            for key in name.clash_keys().iter() {
                if self.names.get(key) == Some(&id) {
                    self.names.remove(key);
                }
            }
        }
        if self.starvation.is_leader(id) {
            self.lead_no_more();
        }
        Some(conn)
    }

    /// Closes a connection once everything is written.
    pub(super) fn close(&mut self, id: ConnId) {
        self.drop_held(id);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.closing = true;
            self.wake(id);
        }
    }

    /// Closes a connection now.
    pub(super) fn abort(&mut self, id: ConnId) {
        self.drop_held(id);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.aborted = true;
            let dropped = std::mem::take(&mut conn.out);
            self.memory.give_out(dropped.len());
            self.forget_answers(id);
            self.wake(id);
        }
    }

    /// Closes a connection for a reason that the engine cannot know.
    pub(super) fn reject(&mut self, id: ConnId, why: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.why = Some(why);
            log::debug!("{}: connection {}: {why}", conn.remote, id.0);
            self.abort(id);
        }
    }

    /// Closes a connection that the handler will not know of, once everything is written.
    pub(super) fn refuse(&mut self, id: ConnId, why: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.stage = Stage::Refused;
            conn.why = Some(why);
        }
        self.close(id);
    }

    fn drop_held(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            let held = std::mem::take(&mut conn.held);
            self.memory.give_in(held.len());
            self.set_unread(id, false);
        }
    }
}

/// Datagrams and shutdown.
impl HostState {
    pub(super) fn transmit(&mut self, transmit: Transmit) -> Result<(), SendError> {
        if self.transmits.len() >= MOST_DATAGRAMS {
            return Err(SendError::Full);
        }
        self.transmits.push_back(transmit);
        Ok(())
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Whether the shutdown is complete.
    pub(super) fn is_finished(&self) -> bool {
        self.is_stopping && self.conns.is_empty() && self.transmits.is_empty()
    }
}
