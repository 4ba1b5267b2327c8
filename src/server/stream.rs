//! Streams: bytes to batches without the lock, batches to answers with it.
//!
//! [`StreamIntake`] is the half of the server that belongs to one connection: it cuts frames out of the stream and
//! plays the simulated loss, which on a stream hits tagged requests only. The other half is here too: what a connection
//! is in the middle of, when its patience ends, and what is written to it.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::requests::{Answer, encode_answer, encode_refusal};
use super::{Owner, Server};
use crate::error::Refusal;
use crate::hub::{Path, SessionKey};
use crate::link::Verdicts;
use crate::service::{ConnId, Flow, Intake};
use crate::wire::{Deframer, Frame, Id, Malformed, Verb, encode_args};

/// `fill` stops here: enough for one write, little enough that one connection does not hold up the others.
const FILL_ENOUGH: usize = 64 << 10;

/// A stream whose own answers wait for more than this is not read until they are written.
const ANSWERS_ENOUGH: usize = 64 << 10;

/// What an announced frame has time for beyond `frame_timeout`: one second per so many bytes.
const FRAME_BYTES_PER_SECOND: usize = 64 << 10;

/// The half of the server that belongs to one stream connection.
#[derive(Debug)]
pub struct StreamIntake {
    deframer: Deframer,
    loss: Verdicts,
    flow: u64,
    index: u64,
}

/// What a piece of a stream became: whole frames, and what is left of one.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Span>,
    broken: Option<Malformed>,
    seen: u64,
    dropped: u64,
    /// Bytes announced by the frame that has begun and is not whole; `None` between frames.
    partial: Option<usize>,
}

#[derive(Debug)]
struct Span {
    id: Option<Id>,
    verb: Verb,
    payload: Range<usize>,
}

impl StreamIntake {
    pub(super) fn new(max_message: usize, loss: Verdicts, flow: u64) -> Self {
        Self { deframer: Deframer::new(max_message), loss, flow, index: 0 }
    }
}

impl Intake for StreamIntake {
    type Batch = Batch;

    fn received(&mut self, _now: Instant, mut bytes: &[u8]) -> Batch {
        let mut batch = Batch::new();
        loop {
            match self.deframer.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(frame)) if frame.id.is_some() && frame.verb.is_request() => {
                    batch.seen += 1;
                    let lost = self.loss.lost(self.flow, self.index);
                    self.index += 1;
                    if lost { batch.dropped += 1 } else { batch.push(&frame) }
                }
                Ok(Some(frame)) => batch.push(&frame),
                Err(malformed) => {
                    batch.broken = Some(malformed);
                    break;
                }
            }
        }
        batch.partial = self.deframer.partial().map(|partial| partial.announced);
        batch
    }
}

impl Batch {
    fn new() -> Self {
        Self { bytes: Vec::new(), frames: Vec::new(), broken: None, seen: 0, dropped: 0, partial: None }
    }

    fn push(&mut self, frame: &Frame<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(frame.payload);
        self.frames.push(Span { id: frame.id, verb: frame.verb, payload: start..self.bytes.len() });
    }

    fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|span| Frame {
            id: span.id,
            verb: span.verb,
            payload: self.bytes.get(span.payload.clone()).unwrap_or_default(),
        })
    }
}

/// What the server knows of a stream connection.
#[derive(Debug)]
pub(super) struct StreamConn {
    pub(super) addr: SocketAddr,
    session: Option<SessionKey>,
    answers: Vec<u8>,
    closing: bool,
    woken: bool,
    flow: u64,
    answers_sent: u64,
    /// When the last whole frame came.
    heard: Instant,
    patience: Patience,
}

/// How long an unfinished frame may still take.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// No frame has begun.
    Idle,
    /// The frame has to be whole by then.
    Until { deadline: Instant, announced: usize },
    /// The server itself is not reading: the clock stands with so much time left.
    Stopped { left: Duration, announced: usize },
}

impl StreamConn {
    fn new(now: Instant, addr: SocketAddr, flow: u64) -> Self {
        Self {
            addr,
            session: None,
            answers: Vec::new(),
            closing: false,
            woken: false,
            flow,
            answers_sent: 0,
            heard: now,
            patience: Patience::Idle,
        }
    }

    fn is_reading(&self) -> bool {
        !self.closing && self.answers.len() <= ANSWERS_ENOUGH
    }
}

/// Input.
impl Server {
    pub(super) fn open_stream(&mut self, now: Instant, conn: ConnId, addr: SocketAddr) -> StreamIntake {
        let flow = self.flow_of(conn);
        let state = StreamConn::new(now, addr, flow);
        self.conns.insert(conn, state);
        self.arm_conn(conn);
        if self.is_draining() {
            self.part(conn);
        }
        StreamIntake::new(self.config.max_message, self.loss_in.sibling(), flow)
    }

    pub(super) fn handle_batch(&mut self, now: Instant, conn: ConnId, batch: &Batch) {
        self.loss_in.count(batch.seen, batch.dropped);
        for frame in batch.frames() {
            if self.is_closing(conn) {
                break;
            }
            self.handle_stream_frame(now, conn, &frame);
        }
        // What comes behind a goodbye is nobody's business, be it well-formed or not.
        if let Some(malformed) = batch.broken.as_ref().filter(|_| !self.is_closing(conn)) {
            self.totals.malformed += 1;
            self.break_stream(conn, malformed);
        }
        self.watch_frame(now, conn, batch);
        self.wake_conn(conn);
    }

    fn is_closing(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_none_or(|state| state.closing)
    }

    fn handle_stream_frame(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>) {
        let session = self.conns.get(&conn).and_then(|state| state.session);
        let answer = match session {
            Some(key) => self.execute(now, key, frame),
            None => self.execute_unregistered(now, conn, frame),
        };
        if let Some(answer) = answer {
            self.answer_stream(conn, frame, &answer);
        }
        if frame.verb == Verb::Bye
            && let Some(state) = self.conns.get_mut(&conn)
        {
            state.session = None;
            state.closing = true;
        }
    }

    /// A frame of a connection that carries no session.
    fn execute_unregistered(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>) -> Option<Answer> {
        match frame.verb {
            Verb::Reg => Some(self.register_stream(now, conn, frame)),
            Verb::Png => Some(Ok(frame.payload.to_vec())),
            Verb::Bye => Some(Ok(Vec::new())),
            Verb::Snd | Verb::Jon | Verb::Lev | Verb::Lst => Some(Err(Refusal::RegisterFirst)),
            Verb::Other(_) => Some(Err(Refusal::UnknownVerb)),
            Verb::Ack | Verb::Err | Verb::Rcv | Verb::Gap => None,
        }
    }

    fn register_stream(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>) -> Answer {
        let (key, moved) = self.register(now, frame, Path::Stream(Some(conn)))?;
        if moved && let Some(state) = self.conns.get_mut(&conn) {
            state.session = Some(key);
        }
        Ok(self.granted(key))
    }

    /// Appends an answer, unless the simulated loss takes it: on a stream only answers to tagged requests are lost.
    fn answer_stream(&mut self, conn: ConnId, frame: &Frame<'_>, answer: &Answer) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if frame.id.is_some() && frame.verb.is_request() {
            let index = state.answers_sent;
            state.answers_sent += 1;
            if self.loss_out.lost(state.flow, index) {
                return;
            }
        }
        encode_answer(frame.id, frame.verb, answer, &mut state.answers);
    }

    /// Says what was wrong, then goodbye, then closes.
    fn break_stream(&mut self, conn: ConnId, malformed: &Malformed) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        log::info!("{}: broken stream: {malformed}", state.addr);
        encode_args(None, Verb::Err, &[malformed.to_string().as_bytes()], &mut state.answers);
        self.part(conn);
    }

    /// Says goodbye to a connection and closes it; a tagged session lingers.
    fn part(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        encode_args(None, Verb::Bye, &[], &mut state.answers);
        state.closing = true;
        self.wake_conn(conn);
    }

    /// Tells the older connection of a session that another carries it now.
    pub(super) fn cut_off(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        encode_refusal(None, Refusal::TakenUp, &mut state.answers);
        state.session = None;
        state.closing = true;
        self.wake_conn(conn);
    }

    /// The session of a connection has ended by itself.
    pub(super) fn detach(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn) {
            state.session = None;
        }
    }

    pub(super) fn close_stream(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.remove(&conn) else { return };
        self.timers.set(Owner::Conn(conn), None);
        let Some(key) = state.session else { return };
        let Some(session) = self.hub.get_mut(key) else { return };
        if !session.tagged || session.has_said_bye() || self.draining.is_some() {
            self.end_session(now, key);
            return;
        }
        log::debug!("{}: {} lingers", state.addr, session.name);
        session.path = Path::Stream(None);
        self.timers.set(Owner::Session(key), Some(now + self.config.linger));
    }
}

/// Patience.
impl Server {
    /// Starts, moves or stops the clock of an unfinished frame.
    fn watch_frame(&mut self, now: Instant, conn: ConnId, batch: &Batch) {
        let limit = self.config.frame_timeout;
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if batch.seen > 0 || !batch.frames.is_empty() {
            state.heard = now;
            state.patience = Patience::Idle;
        }
        state.patience = match (batch.partial, state.patience) {
            (None, _) => Patience::Idle,
            (Some(announced), Patience::Idle) => {
                Patience::Until { deadline: now + limit + allowance(announced), announced }
            }
            // The head is known now: what it announces has its time on top.
            (Some(announced), Patience::Until { deadline, announced: 0 }) => {
                Patience::Until { deadline: deadline + allowance(announced), announced }
            }
            (Some(_), standing) => standing,
        };
        if !state.is_reading() {
            state.patience = state.patience.stop(now);
        }
        self.arm_conn(conn);
    }

    pub(super) fn drained_stream(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        if state.is_reading() {
            state.patience = state.patience.resume(now);
            self.arm_conn(conn);
        }
    }

    fn arm_conn(&mut self, conn: ConnId) {
        let Some(state) = self.conns.get(&conn) else { return };
        let register = state.session.is_none().then(|| state.heard + self.config.register_timeout);
        let frame = match state.patience {
            Patience::Until { deadline, .. } => Some(deadline),
            Patience::Idle | Patience::Stopped { .. } => None,
        };
        let deadline = if state.closing { None } else { [register, frame].into_iter().flatten().min() };
        self.timers.set(Owner::Conn(conn), deadline);
    }

    pub(super) fn conn_timeout(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.get_mut(&conn) else { return };
        let frame_late = matches!(state.patience, Patience::Until { deadline, .. } if deadline <= now);
        let silent = state.session.is_none() && state.heard + self.config.register_timeout <= now;
        if !frame_late && !silent {
            return self.arm_conn(conn);
        }
        let why = if frame_late { "frame not finished in time" } else { "not registered in time" };
        log::info!("{}: {why}", state.addr);
        encode_args(None, Verb::Err, &[why.as_bytes()], &mut state.answers);
        self.part(conn);
    }
}

/// The time that a frame of so many announced bytes has beyond the frame timeout.
fn allowance(announced: usize) -> Duration {
    Duration::from_secs((announced / FRAME_BYTES_PER_SECOND) as u64)
}

impl Patience {
    fn stop(self, now: Instant) -> Self {
        match self {
            Self::Until { deadline, announced } => {
                Self::Stopped { left: deadline.saturating_duration_since(now), announced }
            }
            standing => standing,
        }
    }

    fn resume(self, now: Instant) -> Self {
        match self {
            Self::Stopped { left, announced } => Self::Until { deadline: now + left, announced },
            standing => standing,
        }
    }
}

/// Output.
impl Server {
    pub(super) fn wake_conn(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.get_mut(&conn).filter(|state| !state.woken) {
            state.woken = true;
            self.woken.push_back(conn);
        }
    }

    pub(super) fn pop_woken(&mut self) -> Option<ConnId> {
        let conn = self.woken.pop_front()?;
        if let Some(state) = self.conns.get_mut(&conn) {
            state.woken = false;
        }
        Some(conn)
    }

    pub(super) fn fill_stream(&mut self, now: Instant, conn: ConnId, out: &mut Vec<u8>) -> Flow {
        let Some(state) = self.conns.get_mut(&conn) else {
            return Flow { more: false, reading: false, closing: true };
        };
        if out.is_empty() {
            std::mem::swap(out, &mut state.answers);
        } else {
            out.append(&mut state.answers);
        }
        let (session, closing) = (state.session, state.closing);
        let mut more = false;
        if let Some(key) = session.filter(|_| !closing) {
            more = self.hub.fill_stream(now, key, out, FILL_ENOUGH);
            if !more {
                self.finish_bye(now, conn, key);
            }
        }
        let state = self.conns.get(&conn);
        Flow {
            more,
            reading: state.is_some_and(StreamConn::is_reading),
            closing: state.is_none_or(|state| state.closing),
        }
    }

    pub(super) fn is_reading_stream(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(StreamConn::is_reading)
    }

    /// The server's BYE is out: an untagged session is over, a tagged one as soon as it has acknowledged it.
    fn finish_bye(&mut self, now: Instant, conn: ConnId, key: SessionKey) {
        let over = self.hub.get(key).is_some_and(|s| s.has_said_bye() && (!s.tagged || s.is_settled()));
        if over {
            self.end_session(now, key);
            if let Some(state) = self.conns.get_mut(&conn) {
                state.closing = true;
            }
        }
    }

    /// Says goodbye to every connection: through its session's queue if it has one.
    pub(super) fn drain_streams(&mut self) {
        let mut unregistered: Vec<ConnId> =
            self.conns.iter().filter(|(_, state)| state.session.is_none()).map(|(conn, _)| *conn).collect();
        unregistered.sort_unstable();
        for conn in unregistered {
            if self.conns.get(&conn).is_some_and(|state| !state.closing) {
                self.part(conn);
            }
        }
    }
}
