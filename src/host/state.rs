//! All that a host knows besides its handler: who is there, what is held and what waits, whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Instant;

use super::conn::{Conn, Stage};
use super::flow::SendError;
use super::memory::Memory;
use super::settings::Settings;
use crate::conn_map::ConnMap;
use crate::door::{Door, Framing};
use crate::names::ClashKey;
use crate::service::{Arrival, CloseReason, ConnId, Dial, DialId, Target, Transmit};
use crate::timers::Timers;
use crate::units::later;

/// How many bytes of pieces are handed over before others get the lock.
const TURN: usize = 1 << 20;

/// Most datagrams that wait to be sent.
const MOST_DATAGRAMS: usize = 4_096;

/// Whose deadline it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    /// A connection that has not said its name.
    Greeting(ConnId),
    /// Who goes on alone at the bound of memory.
    Leader,
}

/// All but the handler.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) doors: Vec<Door>,
    pub(super) conns: ConnMap<Conn>,
    pub(super) names: HashMap<ClashKey, ConnId>,
    pub(super) memory: Memory,
    pub(super) timers: Timers<Owner>,
    /// What time it is, as far as is known here.
    pub(super) now: Option<Instant>,
    /// Nothing new is taken, and the end has come once nobody is left.
    pub(super) is_stopping: bool,
    /// Attempts to connect that came to nothing, for the handler.
    pub(super) failures: VecDeque<(DialId, io::Error)>,
    pub(super) woken: VecDeque<ConnId>,
    /// Those whose turn has come to have something handed over, each once.
    pub(super) ready: VecDeque<ConnId>,
    /// Those whose turn comes once there is room for answers, each once.
    pub(super) held_back: VecDeque<ConnId>,
    /// Those that had nothing to be written, and for whose output all others left no room.
    pub(super) crowded: VecDeque<ConnId>,
    /// Those that are not read because of what all hold, each once.
    pub(super) starved: VecDeque<ConnId>,
    /// One has come to these, and nobody has looked yet whether one of them is to go on.
    pub(super) has_starved: bool,
    /// Who goes on alone at the bound, and how much had come of it when that was last looked at.
    pub(super) leader: Option<(ConnId, usize)>,
    /// How many have something to be taken.
    pub(super) unread: usize,
    /// Whose input is being handed over.
    pub(super) handing_over: Option<ConnId>,
    /// What is left of this turn.
    pub(super) turn: usize,
    dials: VecDeque<Dial>,
    /// How the connections will be cut that are being made.
    dialing: HashMap<DialId, Framing>,
    next_dial: u64,
    transmits: VecDeque<Transmit>,
}

impl State {
    pub(super) fn new(settings: Settings, doors: Vec<Door>) -> Self {
        Self {
            memory: Memory::new(settings.max_memory_in, settings.max_memory_out),
            settings,
            doors,
            conns: ConnMap::default(),
            names: HashMap::new(),
            timers: Timers::default(),
            now: None,
            is_stopping: false,
            failures: VecDeque::new(),
            woken: VecDeque::new(),
            ready: VecDeque::new(),
            held_back: VecDeque::new(),
            crowded: VecDeque::new(),
            starved: VecDeque::new(),
            has_starved: false,
            leader: None,
            unread: 0,
            handing_over: None,
            turn: TURN,
            dials: VecDeque::new(),
            dialing: HashMap::new(),
            next_dial: 0,
            transmits: VecDeque::new(),
        }
    }

    /// Something is handed in: a turn begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.now = Some(now);
        self.turn = TURN;
    }
}

/// Beginnings and ends.
impl State {
    pub(super) fn open(&mut self, now: Instant, id: ConnId, arrival: Arrival) {
        let framing = match arrival {
            Arrival::Accepted(origin) => self.doors.get(origin.door).map(|door| door.speaks.framing()),
            Arrival::Dialed(dial, _) => self.dialing.remove(&dial),
        };
        self.conns.insert(id, Conn::new(arrival, framing.unwrap_or(Framing::Bytes)));
        if self.is_stopping {
            if let Arrival::Dialed(dial, _) = arrival {
                self.dial_failed(dial, io::Error::new(io::ErrorKind::ConnectionAborted, "we are ending"));
            }
            self.refuse(id, CloseReason::Ended);
        } else if self.conns.get(id).is_some_and(|conn| conn.stage == Stage::Handshake) {
            self.timers.set(Owner::Greeting(id), Some(later(now, self.settings.greeting_time)));
            self.greet_first(id);
        }
        self.wake(id);
    }

    /// Forgets a connection.
    pub(super) fn close_over(&mut self, id: ConnId) -> Option<Conn> {
        self.drop_held(id);
        let conn = self.conns.remove(id)?;
        self.memory.give_out(conn.pending());
        self.memory.count_answers(conn.caused, 0);
        self.timers.set(Owner::Greeting(id), None);
        if let Some(name) = &conn.name {
            for key in name.clash_keys().iter() {
                if self.names.get(key) == Some(&id) {
                    self.names.remove(key);
                }
            }
        }
        if self.leader.is_some_and(|(leader, _)| leader == id) {
            self.lead_no_more();
        }
        Some(conn)
    }

    /// Closes a connection once everything is written to it.
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

    /// Closes a connection for a reason that the engine does not see.
    pub(super) fn reject(&mut self, id: ConnId, why: CloseReason) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.why = Some(why);
            log::debug!("{}: connection {}: {why}", conn.remote, id.0);
            self.abort(id);
        }
    }

    /// Closes a connection of which the handler never hears, once everything is written.
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

/// Attempts to connect, datagrams and the end.
impl State {
    /// Asks for a connection.
    pub(super) fn dial(&mut self, to: Target, framing: Framing) -> DialId {
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        self.dialing.insert(id, framing);
        self.dials.push_back(Dial { id, to });
        id
    }

    pub(super) fn poll_dial(&mut self) -> Option<Dial> {
        self.dials.pop_front()
    }

    /// An attempt has come to nothing.
    pub(super) fn dial_failed(&mut self, id: DialId, error: io::Error) {
        self.dialing.remove(&id);
        self.failures.push_back((id, error));
    }

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

    /// Whether nothing is left to be done after the end was asked for.
    pub(super) fn is_finished(&self) -> bool {
        self.is_stopping && self.conns.is_empty() && self.transmits.is_empty()
    }
}
