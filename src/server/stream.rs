//! Streams, with the lock: batches to answers. What is written to a connection is in `fill`.
//!
//! How bytes become batches is in `intake`, how long an unfinished frame may take in `patience`.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::Server;
use super::admission::Seat;
use super::held::Waiting;
use super::intake::{Batch, StreamIntake};
use super::lines::LineConn;
use super::patience::Patience;
use super::requests::{Answer, DONE, encode_answer, pong};
use crate::error::Refusal;
use crate::hub::rate::{Bucket, Rate};
use crate::hub::{Path, SessionKey};
use crate::rare::{Rare, Vacant};
use crate::remote::{PackedOrigin, PackedRemote};
use crate::service::{ConnId, DoorId, Origin};
use crate::wire::{Frame, Partial, Verb};

/// A stream whose own answers wait for more than this is not read until they are written.
const ANSWERS_ENOUGH: usize = 64 << 10;

/// The same without a session.
const UNREGISTERED_ANSWERS: usize = 1 << 10;

/// An unfinished frame of which no more than this has come is kept whatever else is.
const SHORT_INPUT: usize = 64 << 10;

/// The longest payload of a frame, in bytes, that a connection without a session may send or announce.
const MAX_UNREGISTERED: usize = 1 << 10;

const TOO_LONG_UNREGISTERED: &str = "register before you send more than 1024 bytes at once";

/// Why the server takes nothing more from a connection for now: its peer's own system blocks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It has said as much as it may until then, or others have their turn before.
    Until(Instant),
    /// Somebody it talks to reads too slowly.
    ByReaders,
}

/// What the server knows of a stream connection. Most of very many sit and wait: what only some have is kept elsewhere.
#[derive(Debug)]
pub(super) struct StreamConn {
    from: PackedRemote,
    door: u32,
    /// None for a connection that was refused.
    pub(super) seat: Option<Seat>,
    pub(super) session: Option<SessionKey>,
    /// What it has besides where lines are spoken.
    pub(super) lines: Option<Box<LineConn>>,
    pub(super) answers: Vec<u8>,
    pub(super) closing: bool,
    pub(super) woken: bool,
    /// It may have a deadline.
    pub(super) armed: bool,
    /// What came in and is not executed yet, because the answers to what came before it wait, or because of `held`.
    pub(super) backlog: Rare<VecDeque<Batch<'static>>>,
    /// Why nothing more is executed for now.
    pub(super) held: Option<Held>,
    /// Where it stands among those who wait for slow readers.
    pub(super) waiting: Rare<Waiting>,
    /// How much its peer may say.
    pub(super) bucket: Rare<Bucket>,
    /// Where answers may be lost.
    losing: Option<Box<Losing>>,
    /// When it was opened.
    pub(super) opened: Instant,
    /// When the last PNG came, or it was opened.
    pub(super) heard: Instant,
    /// The frame, or line, that has begun and is not whole.
    pub(super) unfinished: Rare<Unfinished>,
}

/// What the simulated loss counts on a connection.
#[derive(Debug)]
struct Losing {
    flow: u64,
    answers_sent: u64,
}

/// A frame, or a line, that has begun and is not whole.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// How long it may still take.
    pub(super) patience: Patience,
    /// How much of it there is.
    pub(super) partial: Option<Partial>,
    /// The bytes held of it and of what is behind it.
    pub(super) buffered: usize,
}

impl Vacant for Unfinished {
    const VACANT: &'static Self = &Self { patience: Patience::Idle, partial: None, buffered: 0 };

    fn is_vacant(&self) -> bool {
        matches!(self.patience, Patience::Idle) && self.partial.is_none() && self.buffered == 0
    }
}

impl Vacant for VecDeque<Batch<'static>> {
    const VACANT: &'static Self = &Self::new();

    fn is_vacant(&self) -> bool {
        self.is_empty()
    }
}

impl StreamConn {
    fn new(now: Instant, origin: Origin, rate: Rate) -> Self {
        let PackedOrigin { from, door } = origin.into();
        Self {
            from,
            door,
            seat: None,
            session: None,
            lines: None,
            answers: Vec::new(),
            closing: false,
            woken: false,
            armed: false,
            backlog: Rare::default(),
            held: None,
            waiting: Rare::default(),
            bucket: Bucket::new(rate).into(),
            losing: None,
            opened: now,
            heard: now,
            unfinished: Rare::default(),
        }
    }

    /// Where it comes from.
    pub(super) fn origin(&self) -> Origin {
        Origin { door: self.door(), from: self.from.unpack() }
    }

    /// The door that it knocked on.
    pub(super) fn door(&self) -> DoorId {
        self.door as usize
    }

    /// How long what is unfinished may still take.
    pub(super) fn patience(&self) -> Patience {
        self.unfinished.get().patience
    }

    pub(super) fn set_patience(&mut self, patience: Patience) {
        if !matches!((self.patience(), patience), (Patience::Idle, Patience::Idle)) {
            self.unfinished.update(|unfinished| unfinished.patience = patience);
        }
    }

    fn set_partial(&mut self, partial: Option<Partial>) {
        if self.unfinished.get().partial != partial {
            self.unfinished.update(|unfinished| unfinished.partial = partial);
        }
    }

    fn set_buffered(&mut self, buffered: usize) {
        if self.unfinished.get().buffered != buffered {
            self.unfinished.update(|unfinished| unfinished.buffered = buffered);
        }
    }

    /// It has executed something.
    pub(super) fn has_gone_on(&mut self) {
        if let Some(waiting) = self.waiting.get_mut() {
            waiting.has_gone_on();
            self.waiting.tidy();
        }
    }

    /// Whether what comes in is executed.
    pub(super) fn is_reading(&self) -> bool {
        !self.closing && self.has_room() && self.held.is_none()
    }

    fn has_room(&self) -> bool {
        let enough = if self.session.is_some() { ANSWERS_ENOUGH } else { UNREGISTERED_ANSWERS };
        self.answers.len() <= enough
    }
}

/// Input.
impl Server {
    pub(super) fn open_stream(&mut self, now: Instant, conn: ConnId, origin: Origin) -> StreamIntake {
        let flow = self.simulates().then(|| self.flow_of(conn));
        // Every connection's half counts from one beginning.
        self.incoming.verdicts.begin(now);
        let rate = self.rate_of(origin.door);
        let is_for_people = self.is_for_people(origin.door);
        let lines = is_for_people.then(|| Box::new(LineConn::new()));
        let losing = flow.map(|flow| Box::new(Losing { flow, answers_sent: 0 }));
        self.conns.insert(conn, StreamConn { lines, losing, ..StreamConn::new(now, origin, rate) });
        if self.is_draining() {
            self.part(conn);
        } else {
            self.seat(now, conn, origin);
            self.greet(now, conn);
        }
        self.arm_conn(conn);
        if is_for_people {
            return StreamIntake::of_lines();
        }
        let loss = flow.map(|flow| (self.incoming.verdicts.sibling(), flow));
        StreamIntake::new(self.config.max_message, rate != Rate::UNLIMITED, loss)
    }

    /// Gives a new connection its seat, or says that there is none.
    fn seat(&mut self, now: Instant, conn: ConnId, origin: Origin) {
        match self.admission.enter(&self.config, origin.from) {
            Ok(seat) => {
                if let Some(state) = self.conns.get_mut(conn) {
                    state.seat = Some(seat);
                }
            }
            Err(why) => {
                self.totals.refused_connections += 1;
                self.admission.log_refused(now, origin.from, why);
                self.break_stream(conn, why);
            }
        }
    }

    pub(super) fn handle_batch(&mut self, now: Instant, conn: ConnId, batch: Batch<'_>) {
        self.incoming.verdicts.count(batch.seen, batch.dropped);
        let (any_whole, partial) = (batch.has_frames(), batch.partial);
        if let Some(state) = self.conns.get_mut(conn) {
            if batch.pinged {
                state.heard = now;
            }
            state.set_partial(partial);
        }
        self.take_in(now, conn, batch);
        self.work_off(now, conn);
        self.scan_backlog(now, conn);
        if self.conns.get(conn).is_some_and(|state| state.lines.is_none()) {
            self.bound_frames(conn);
            self.watch_frame(now, conn, any_whole, partial);
        }
        self.note_hearing(conn);
        self.arm_conn(conn);
        self.wake_conn(conn);
    }

    /// Counts what a connection holds of frames: of the unfinished one, and of those that wait for their turn.
    fn bound_frames(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get(conn) else { return };
        let unfinished = state.unfinished.get().partial.map_or(0, |partial| partial.buffered);
        let waiting: usize = state.backlog.get().iter().map(|batch| batch.size()).sum();
        self.bound_input(conn, unfinished + waiting);
    }

    /// Counts what connections hold of input against `max_memory`: who would go beyond it with a long frame is cut off.
    /// Short ones are bounded by the number of connections.
    pub(super) fn bound_input(&mut self, conn: ConnId, buffered: usize) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        self.buffered = self.buffered - state.unfinished.get().buffered + buffered;
        state.set_buffered(buffered);
        let is_long = buffered > SHORT_INPUT && !state.closing;
        if is_long && self.buffered + self.hub.memory() > self.config.hub.max_memory {
            self.break_stream(conn, "no memory for a message of this length now");
        }
    }

    /// Executes what has come in while there is room for the answers. A short request may have a long one: what a single
    /// batch asks for could be a thousand times its size.
    pub(super) fn work_off(&mut self, now: Instant, conn: ConnId) {
        self.execute_backlog(now, conn);
        self.watch_lines(now, conn);
    }

    /// Executes a batch from where it was read, if none waits before it. What has to wait is kept.
    fn take_in(&mut self, now: Instant, conn: ConnId, batch: Batch<'_>) {
        let waits = self.conns.get(conn).is_some_and(|state| !state.backlog.get().is_empty());
        let rest = if waits { Some(batch) } else { self.execute_batch(now, conn, batch) };
        if let Some((rest, state)) = rest.zip(self.conns.get_mut(conn)) {
            state.backlog.fill().push_back(rest.into_owned());
        }
    }

    fn execute_backlog(&mut self, now: Instant, conn: ConnId) {
        while let Some(batch) = self.next_batch(conn) {
            if let Some((rest, state)) = self.execute_batch(now, conn, batch).zip(self.conns.get_mut(conn)) {
                state.backlog.fill().push_front(rest);
                return self.scan_backlog(now, conn);
            }
        }
        self.bound_unregistered(conn);
    }

    /// Executes what it may of a batch, and returns the rest if that has to wait.
    fn execute_batch<'a>(&mut self, now: Instant, conn: ConnId, mut batch: Batch<'a>) -> Option<Batch<'a>> {
        self.execute_lines(now, conn, &mut batch.said);
        self.execute_burst(conn, &mut batch);
        while self.is_reading_stream(conn)
            && let Some(frame) = batch.peek_frame()
            && !self.puts_off(now, conn)
            && let is_charged = self.is_charged(conn, &frame)
            && (!is_charged || self.affords_bytes(now, conn, frame.encoded_len()))
            && !self.holds_frame(conn, &frame)
        {
            self.handle_stream_frame(now, conn, &frame, batch.peek_payload());
            if is_charged {
                self.charge(now, conn, frame.encoded_len());
            }
            batch.take_frame();
            self.execute_burst(conn, &mut batch);
        }
        let state = self.conns.get_mut(conn)?;
        if state.closing {
            // What comes behind a goodbye is nobody's business, be it well-formed or not.
            state.backlog = Rare::default();
            return None;
        }
        // Whether more may be executed is of no concern to what is done: a connection is busy with what it has left to say.
        if batch.is_done() {
            return None;
        }
        if !state.is_reading() {
            return Some(batch);
        }
        if let Some(malformed) = batch.broken {
            self.totals.malformed += 1;
            self.break_stream(conn, &malformed.to_string());
        }
        None
    }

    /// Executes the messages that come next in a batch as far as they are a burst: most of what comes under load is one.
    fn execute_burst(&mut self, conn: ConnId, batch: &mut Batch<'_>) {
        if self.is_draining() || self.hub.holds_senders() {
            return;
        }
        let Some(state) = self.conns.get_mut(conn) else { return };
        let Some(key) = state.session.filter(|_| state.is_reading() && state.bucket.get().is_unlimited())
        else {
            return;
        };
        let count = self.hub.send_burst(key, batch.next_messages());
        if count > 0 {
            state.has_gone_on();
            batch.take_messages(count);
        }
    }

    fn next_batch(&mut self, conn: ConnId) -> Option<Batch<'static>> {
        let state = self.conns.get_mut(conn)?;
        let next = state.backlog.get_mut().and_then(VecDeque::pop_front);
        state.backlog.tidy();
        next.or_else(|| state.lines.as_mut()?.last_words().map(Batch::from))
    }

    /// Who has no session cannot make the server keep more than a little. It is cut off for what it announces, so that it
    /// makes no difference in which pieces that comes.
    fn bound_unregistered(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get(conn) else { return };
        let too_long =
            state.unfinished.get().partial.is_some_and(|partial| partial.announced > MAX_UNREGISTERED);
        // A REG may be among what waits.
        let too_long = too_long && state.backlog.get().is_empty();
        if too_long && state.session.is_none() && !state.closing {
            self.break_stream(conn, TOO_LONG_UNREGISTERED);
        }
    }

    /// Goes on with what a connection has sent, now that what held it is gone.
    pub(super) fn go_on(&mut self, now: Instant, conn: ConnId) {
        self.work_off(now, conn);
        if self.conns.get(conn).is_some_and(|state| state.lines.is_none()) {
            self.bound_frames(conn);
        }
        self.note_hearing(conn);
        self.drained_stream(now, conn);
        self.arm_conn(conn);
        self.wake_conn(conn);
    }

    fn handle_stream_frame(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>, kept: Option<&Bytes>) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        state.has_gone_on();
        let session = state.session;
        if session.is_none() && frame.payload.len() > MAX_UNREGISTERED {
            return self.break_stream(conn, TOO_LONG_UNREGISTERED);
        }
        let answer = match session {
            Some(key) if frame.verb == Verb::Reg && self.is_guest(key) => {
                Some(self.register_stream(now, conn, frame))
            }
            Some(key) => self.execute(now, key, frame, kept),
            None => self.execute_unregistered(now, conn, frame),
        };
        if let Some(answer) = answer {
            self.answer_stream(now, conn, frame, &answer);
        }
        if frame.verb == Verb::Bye
            && let Some(state) = self.conns.get_mut(conn)
        {
            state.session = None;
            state.closing = true;
        }
    }

    /// A frame of a connection that carries no session.
    fn execute_unregistered<'a>(
        &mut self,
        now: Instant,
        conn: ConnId,
        frame: &Frame<'a>,
    ) -> Option<Answer<'a>> {
        match frame.verb {
            Verb::Reg => Some(self.register_stream(now, conn, frame)),
            Verb::Png => Some(pong(frame)),
            Verb::Bye => Some(DONE),
            Verb::Snd => match self.open_stream_guest(now, conn) {
                Ok(guest) => self.execute(now, guest, frame, None),
                Err(refusal) => Some(Err(refusal)),
            },
            Verb::Jon | Verb::Lev | Verb::Lst => Some(Err(Refusal::RegisterFirst)),
            Verb::Other(_) => Some(Err(Refusal::UnknownVerb)),
            Verb::Ack | Verb::Err | Verb::Rcv | Verb::Gap => None,
        }
    }

    fn register_stream(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>) -> Answer<'static> {
        let Some(origin) = self.conns.get(conn).map(StreamConn::origin) else {
            return Err(Refusal::RegisterFirst);
        };
        let guest = self.guest_on(conn);
        let (key, moved) = self.register_over(now, guest, frame, Path::Stream(Some(conn)), origin)?;
        if moved && let Some(state) = self.conns.get_mut(conn) {
            state.session = Some(key);
        }
        Ok(self.token_of(key).into())
    }

    fn open_stream_guest(&mut self, now: Instant, conn: ConnId) -> Result<SessionKey, Refusal> {
        let origin = self.conns.get(conn).map(StreamConn::origin).ok_or(Refusal::RegisterFirst)?;
        let guest = self.open_guest(now, Path::Stream(Some(conn)), origin)?;
        if let Some(state) = self.conns.get_mut(conn) {
            state.session = Some(guest);
        }
        Ok(guest)
    }

    /// Appends an answer, unless the simulated loss takes it: on a stream only answers to tagged requests are lost.
    fn answer_stream(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>, answer: &Answer<'_>) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        if frame.id.is_some() && frame.verb.is_request() {
            let (mut flow, mut index) = (0, 0);
            if let Some(losing) = &mut state.losing {
                (flow, index) = (losing.flow, losing.answers_sent);
                losing.answers_sent += 1;
            }
            if self.outward.verdicts.lost(now, flow, index) {
                return;
            }
        }
        encode_answer(frame.id, frame.verb, answer, &mut state.answers);
    }
}
