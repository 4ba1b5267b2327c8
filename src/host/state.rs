//! All that a host knows besides its handler: who is there, what is held and what waits, whose turn it is.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::conn::{Conn, Stage};
use super::context::{Piece, SendError};
use super::framing::{self, Front};
use super::memory::Memory;
use super::settings::Settings;
use crate::door::{Door, Framing};
use crate::hub::name::ClashKey;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, ConnId, Dial, DialId, Flow, Target, Transmit};
use crate::table::Table;
use crate::timers::Timers;

/// How many bytes of pieces are handed over before others get the lock, and what each piece counts beside its bytes.
const TURN: usize = 1 << 20;
const PIECE_COST: usize = 64;

/// How much is given to be written at once, in bytes: a connection that is closed has so long for each of these.
const WRITE_SIZE: usize = 256 << 10;

/// How much whoever goes on alone at the bound of memory has to bring each time its patience ends.
const PROGRESS: usize = 64 << 10;

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
    pub(super) conns: Table<Conn>,
    pub(super) names: HashMap<ClashKey, ConnId>,
    pub(super) memory: Memory,
    pub(super) timers: Timers<Owner>,
    /// What time it is, as far as is known here.
    pub(super) now: Option<Instant>,
    /// Nothing new is taken, and the end has come once nobody is left.
    pub(super) is_stopping: bool,
    /// Attempts to connect that came to nothing, for the handler.
    pub(super) failures: VecDeque<(DialId, io::Error)>,
    woken: VecDeque<ConnId>,
    /// Those whose turn has come to have something handed over.
    ready: VecDeque<ConnId>,
    /// Those that are not read because of what all hold.
    starved: VecDeque<ConnId>,
    /// Who goes on alone at the bound, and how much had come of it when that was last looked at.
    leader: Option<(ConnId, usize)>,
    /// How many have something to be taken.
    unread: usize,
    /// What is left of this turn.
    turn: usize,
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
            conns: Table::default(),
            names: HashMap::new(),
            timers: Timers::default(),
            now: None,
            is_stopping: false,
            failures: VecDeque::new(),
            woken: VecDeque::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            leader: None,
            unread: 0,
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
            self.refuse(id, CloseReason::Ended);
        } else if self.conns.get(id).is_some_and(|conn| conn.stage == Stage::Greeting) {
            self.timers.set(Owner::Greeting(id), Some(now + self.settings.greeting_time));
            self.greet_first(id);
        }
        self.wake(id);
    }

    /// Forgets a connection.
    pub(super) fn close_over(&mut self, id: ConnId) -> Option<Conn> {
        self.drop_held(id);
        let conn = self.conns.remove(id)?;
        self.memory.give_out(conn.pending());
        self.timers.set(Owner::Greeting(id), None);
        if let Some(name) = &conn.name {
            let key = name.clash_key();
            if self.names.get(&key) == Some(&id) {
                self.names.remove(&key);
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

/// Input.
impl State {
    /// Bytes have come.
    pub(super) fn append(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.closing && !conn.aborted) else { return };
        conn.held.extend_from_slice(bytes);
        self.memory.take_in(bytes.len());
        self.look(id);
    }

    /// Looks whether there is something to be taken.
    pub(super) fn look(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.stage != Stage::Open {
            return;
        }
        conn.stuck = false;
        match conn.look(self.settings.max_message) {
            Front::Unfinished { .. } => self.set_unread(id, false),
            Front::Whole(_) => self.set_unread(id, true),
            Front::Broken => self.reject(id, CloseReason::Broken),
        }
    }

    fn set_unread(&mut self, id: ConnId, unread: bool) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if std::mem::replace(&mut conn.unread, unread) != unread {
            self.unread = if unread { self.unread + 1 } else { self.unread - 1 };
        }
    }

    /// Whether something is to be handed over: if so but not now, it is put off.
    pub(super) fn is_deliverable(&mut self, id: ConnId) -> bool {
        let (most, is_turn_over) = (self.settings.pause_above, self.turn == 0);
        let has_no_room = self.memory.is_full_out();
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if !conn.is_open() || conn.paused || !conn.unread {
            return false;
        }
        let is_put_off = conn.pending() > most || has_no_room || is_turn_over;
        conn.deferred |= is_put_off;
        if is_turn_over && is_put_off {
            self.ready.push_back(id);
        }
        !is_put_off
    }

    /// Takes what is to be handed over next. Bytes that are not cut count as held until they come [back](Self::give_back).
    pub(super) fn next(&mut self, id: ConnId) -> Option<Piece> {
        if !self.is_deliverable(id) {
            return None;
        }
        let conn = self.conns.get_mut(id)?;
        if conn.framing == Framing::Bytes {
            return Some(Piece::Bytes(std::mem::take(&mut conn.held)));
        }
        self.cut(id).map(Piece::Message)
    }

    fn cut(&mut self, id: ConnId) -> Option<Bytes> {
        let conn = self.conns.get_mut(id)?;
        let Front::Whole(span) = conn.look(self.settings.max_message) else { return None };
        let piece = conn.cut(span);
        self.turn = self.turn.saturating_sub(PIECE_COST + piece.len());
        self.memory.give_in(span.before + span.len + span.after);
        self.look(id);
        self.taken(id);
        Some(piece)
    }

    /// Puts back what was not used of bytes. Returns whether there is more to be handed over.
    pub(super) fn give_back(&mut self, id: ConnId, mut bytes: BytesMut, used: usize) -> bool {
        let used = used.min(bytes.len());
        let Some(conn) = self.conns.get_mut(id).filter(|conn| !conn.closing && !conn.aborted) else {
            self.memory.give_in(bytes.len());
            return false;
        };
        self.turn = self.turn.saturating_sub(PIECE_COST + used);
        self.memory.give_in(used);
        let is_used_up = used == bytes.len();
        if !is_used_up {
            conn.held = if used == 0 { bytes } else { bytes.split_off(used) };
        }
        self.look(id);
        if used == 0 {
            self.want_more(id);
            self.review(id);
        } else {
            self.taken(id);
        }
        used > 0 && !is_used_up
    }

    /// The handler has used nothing of what is there. Where no more may come, that goes on waiting to be taken.
    fn want_more(&mut self, id: ConnId) {
        let most = self.settings.max_message;
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.framing == Framing::Bytes) {
            conn.stuck = conn.held.len() >= most;
            let is_stuck = conn.stuck;
            self.set_unread(id, is_stuck);
        }
    }

    /// Takes the first piece, or all bytes that are not cut.
    pub(super) fn recv(&mut self, id: ConnId) -> Option<Bytes> {
        let conn = self.conns.get(id).filter(|conn| conn.is_open() && conn.unread)?;
        if conn.ended {
            // Behind the last piece the handler is told of the end.
            self.ready.push_back(id);
        }
        self.cut(id)
    }

    /// Stops handing anything over.
    pub(super) fn pause(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.paused = true;
        }
        self.wake(id);
    }

    /// Goes on handing over, what was not used before included.
    pub(super) fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.paused = false;
            self.look(id);
            self.ready.push_back(id);
        }
        self.review(id);
    }

    pub(super) fn set_framing(&mut self, id: ConnId, framing: Framing) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.set_framing(framing);
            self.look(id);
            self.ready.push_back(id);
        }
    }

    /// Who comes next to have something handed over, while the turn lasts.
    pub(super) fn pop_ready(&mut self) -> Option<ConnId> {
        if self.turn == 0 {
            return None;
        }
        let id = self.ready.pop_front()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.deferred = false;
        }
        Some(id)
    }

    /// When something is to be done: at once, if somebody's turn was put off.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let at_once = self.now.filter(|_| !self.ready.is_empty() || !self.failures.is_empty());
        [at_once, self.timers.next()].into_iter().flatten().min()
    }
}

/// Who is read.
impl State {
    /// Whether to read from a connection.
    pub(super) fn reads(&self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else { return false };
        let wants = !conn.paused && !conn.closing && !conn.aborted && !conn.ended;
        let may = conn.has_room(self.settings.max_message) && conn.pending() <= self.settings.pause_above;
        wants && may && !self.is_short_for(id)
    }

    fn is_short_for(&self, id: ConnId) -> bool {
        let leads = self.leader.is_some_and(|(leader, _)| leader == id);
        self.memory.is_full_out() || self.memory.is_full_in() && !leads
    }

    /// Notes whether a connection is read, as the engine is told.
    pub(super) fn note_reading(&mut self, id: ConnId) -> bool {
        let (reading, is_short) = (self.reads(id), self.is_short_for(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.stopped = !reading;
            if is_short && !reading && !std::mem::replace(&mut conn.starved, true) {
                self.starved.push_back(id);
            }
        }
        reading
    }

    /// Tells the engine to read again from a connection that it was told not to, if it may.
    pub(super) fn review(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.stopped) && self.note_reading(id) {
            self.wake(id);
        }
    }

    /// What all hold has changed: lets those go on who waited for that, or one of them where nothing else would.
    pub(super) fn share_memory(&mut self, now: Instant) {
        if self.memory.has_room_again() {
            self.lead_no_more();
            for _ in 0..self.starved.len() {
                let Some(id) = self.pop_starved() else { return };
                self.review(id);
            }
        } else if self.starved.is_empty() || self.memory.is_full_out() {
            // Nobody waits for input's memory, or whoever goes on might want to be answered.
        } else {
            if self.leader.is_some_and(|(leader, _)| !self.reads(leader)) {
                self.lead_no_more();
            }
            if self.leader.is_none() && self.unread == 0 {
                self.choose_leader(now);
            }
        }
    }

    fn pop_starved(&mut self) -> Option<ConnId> {
        let id = self.starved.pop_front()?;
        if let Some(conn) = self.conns.get_mut(id) {
            conn.starved = false;
            if conn.deferred {
                self.ready.push_back(id);
            }
        }
        Some(id)
    }

    /// Lets one go on that has begun with something and needs more before that can be taken.
    fn choose_leader(&mut self, now: Instant) {
        for _ in 0..self.starved.len() {
            let Some(id) = self.pop_starved() else { return };
            let held = self.conns.get(id).map_or(0, |conn| conn.held.len());
            if held == 0 {
                // It holds nothing up, and may be silent.
                self.note_reading(id);
                continue;
            }
            self.leader = Some((id, held));
            if self.reads(id) {
                self.timers.set(Owner::Leader, Some(now + self.settings.patience));
                return self.wake(id);
            }
            // What it waits for besides is looked at again when that changes.
            self.leader = None;
        }
    }

    /// Something of a connection was taken: if it went on alone, it was for that.
    fn taken(&mut self, id: ConnId) {
        if self.leader.is_some_and(|(leader, _)| leader == id) {
            self.lead_no_more();
        }
        self.review(id);
    }

    fn lead_no_more(&mut self) {
        self.timers.set(Owner::Leader, None);
        if let Some((id, _)) = self.leader.take() {
            // Behind all others, if it has to wait again.
            self.wake(id);
        }
    }

    /// The patience with who goes on alone has ended.
    pub(super) fn check_leader(&mut self, now: Instant) {
        let Some((id, before)) = self.leader else { return };
        let held = self.conns.get(id).map_or(0, |conn| conn.held.len());
        if held >= before + PROGRESS {
            self.leader = Some((id, held));
            self.timers.set(Owner::Leader, Some(now + self.settings.patience));
        } else {
            self.reject(id, CloseReason::TimedOut);
            self.lead_no_more();
        }
    }
}

/// Output.
impl State {
    /// Queues a piece, if there is room for it: `put` appends it.
    pub(super) fn send(
        &mut self,
        id: ConnId,
        piece: &[u8],
        put: impl FnOnce(Framing, &mut Output),
    ) -> Result<(), SendError> {
        let most = self.settings.max_pending;
        let conn = self.conns.get_mut(id).filter(|conn| conn.is_open()).ok_or(SendError::Gone)?;
        if !framing::is_piece(conn.framing, piece) {
            return Err(SendError::NotAPiece);
        }
        let bytes = piece.len() + framing::overhead(conn.framing);
        let fits = conn.pending() == 0 || conn.pending().saturating_add(bytes) <= most;
        if !fits || !self.memory.takes_out(bytes) {
            return Err(SendError::Full);
        }
        put(conn.framing, &mut conn.out);
        self.queued(id, bytes);
        Ok(())
    }

    /// Queues pieces while there is room for another.
    pub(super) fn send_many<T: AsRef<[u8]>>(
        &mut self,
        id: ConnId,
        pieces: &mut dyn Iterator<Item = T>,
    ) -> Result<usize, SendError> {
        let (most, mut count, mut queued) = (self.settings.max_pending, 0, 0);
        let conn = self.conns.get_mut(id).filter(|conn| conn.is_open()).ok_or(SendError::Gone)?;
        let mut result = Ok(());
        while conn.pending() < most
            && self.memory.takes_out(queued)
            && let Some(piece) = pieces.next()
        {
            let piece = piece.as_ref();
            if !framing::is_piece(conn.framing, piece) {
                result = Err(SendError::NotAPiece);
                break;
            }
            queued += piece.len() + framing::overhead(conn.framing);
            framing::put(conn.framing, piece, &mut conn.out);
            conn.out.close_long_tail(WRITE_SIZE);
            count += 1;
        }
        self.queued(id, queued);
        result.map(|()| count)
    }

    fn queued(&mut self, id: ConnId, bytes: usize) {
        self.memory.take_out(bytes);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.owes |= bytes > 0;
        }
        self.wake(id);
    }

    /// A connection has output, or its flow has changed.
    pub(super) fn wake(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !std::mem::replace(&mut conn.woken, true)
        {
            self.woken.push_back(id);
        }
    }

    pub(super) fn pop_woken(&mut self) -> Option<ConnId> {
        loop {
            let id = self.woken.pop_front()?;
            if let Some(conn) = self.conns.get_mut(id) {
                conn.woken = false;
                self.note_reading(id);
                return Some(id);
            }
        }
    }

    /// Gives what is to be written next.
    pub(super) fn fill(&mut self, id: ConnId, out: &mut Output) -> Flow {
        let reading = self.note_reading(id);
        let Some(conn) = self.conns.get_mut(id) else {
            return Flow { more: false, reading: false, closing: true, busy: false };
        };
        *out = conn.out.take(WRITE_SIZE);
        conn.writing += out.len();
        let more = !conn.out.is_empty();
        Flow { more, reading, closing: conn.closing && !more, busy: conn.ended && !conn.told_end }
    }

    /// What was given is written. Returns whether that was all that the handler has sent.
    pub(super) fn drained(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        self.memory.give_out(std::mem::take(&mut conn.writing));
        let is_all = conn.out.is_empty() && conn.is_open() && std::mem::take(&mut conn.owes);
        if conn.deferred && conn.pending() <= self.settings.pause_above {
            self.ready.push_back(id);
        }
        self.review(id);
        is_all
    }

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
