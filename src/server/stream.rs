//! Executes batches of stream input under the lock, and queues the answers.
//!
//! Not here: the decoding of bytes into batches (`intake`), the state of a connection (`conn`), its output (`fill`),
//! and the time limit of a frame (`read_deadlines`).

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::Server;
use super::admission::AdmissionClass;
use super::conn::{Limits, Losing, StreamConn};
use super::intake::{Batch, StreamIntake};
use super::lines::LineConn;
use super::read_gate::Decision;
use super::requests::{Answer, DONE, encode_answer};
use crate::error::Refusal;
use crate::hub::work::cost;
use crate::hub::{Path, SessionKey};
use crate::lazy_box::LazyBox;
use crate::rates::Bucket;
use crate::service::{ConnId, Origin};
use crate::wire::{ByeArgs, Frame, Verb};

/// The longest payload of a frame, in bytes, that a connection without a session may send or announce.
const MAX_UNREGISTERED: usize = 1 << 10;

const TOO_LONG_UNREGISTERED: &str = "register before you send more than 1024 bytes at once";

/// Input.
impl Server {
    pub(super) fn open_stream(&mut self, now: Instant, conn: ConnId, origin: Origin) -> StreamIntake {
        let loss = self.links.open_conn(now, conn);
        let rate = self.rate_of(origin.listener);
        let is_line_listener = self.is_line_listener(origin.listener);
        let lines = is_line_listener.then(|| Box::new(LineConn::new()));
        let losing = loss.as_ref().map(|&(_, flow)| Box::new(Losing { flow, answers_sent: 0 }));
        let limits = Limits { bucket: Bucket::new(rate), host_tokens: self.host_tokens(&origin) };
        let mut state = StreamConn::new(now, origin, limits);
        (state.lines, state.losing) = (lines, losing);
        let is_limited = state.is_limited();
        self.streams.insert(conn, state);
        if self.is_draining() {
            self.close_with_bye(conn);
        } else {
            self.admit_conn(now, conn, origin);
            self.start_dialogue(now, conn);
        }
        self.arm_conn(conn);
        if is_line_listener {
            return StreamIntake::of_lines();
        }
        StreamIntake::new(self.config.max_message, is_limited, loss)
    }

    /// Admits a new connection, or refuses it and says why.
    fn admit_conn(&mut self, now: Instant, conn: ConnId, origin: Origin) {
        let entered = self.admission.enter(&self.config, origin.from);
        let class = entered.unwrap_or_else(|_| self.admission.refuse());
        if let Some(state) = self.streams.get_mut(conn) {
            state.admission_class = Some(class);
        }
        if let Err(why) = entered {
            self.totals.refused_connections += 1;
            self.admission.log_refused(now, "connection", origin.from, why);
            self.close_with(conn, why, ByeArgs::Ended);
        }
    }

    /// Whether a connection is refused and closed at once, without an ERR.
    pub(super) fn is_refused_at_once(&self, conn: ConnId) -> bool {
        self.streams
            .get(conn)
            .is_some_and(|state| state.admission_class == Some(AdmissionClass::RefusedAtOnce))
    }

    pub(super) fn handle_batch(&mut self, now: Instant, conn: ConnId, batch: Batch<'_>) {
        self.links.count_requests(batch.seen, batch.dropped);
        let (any_whole, partial) = (batch.has_frames(), batch.partial);
        if let Some(state) = self.streams.get_mut(conn) {
            if batch.pinged {
                state.heard = now;
            }
            state.set_partial(partial);
        }
        self.note_scarcity(conn);
        self.begin_quantum();
        self.take_in(now, conn, batch);
        self.work_off(now, conn);
        self.scan_backlog(now, conn);
        if self.streams.get(conn).is_some_and(|state| state.lines.is_none()) {
            self.bound_frames(now, conn);
            self.watch_frame(now, conn, any_whole, partial);
        }
        self.count_answers(conn);
        self.note_ack_reading(conn);
        self.arm_conn(conn);
        self.streams.wake(conn);
    }

    /// Executes queued input while there is room for the answers. A short request may have a long answer: one batch
    /// could ask for a thousand times its size.
    pub(super) fn work_off(&mut self, now: Instant, conn: ConnId) {
        self.execute_backlog(now, conn);
        self.watch_lines(now, conn);
    }

    /// Executes a batch in place if no other waits before it. Keeps what has to wait.
    fn take_in(&mut self, now: Instant, conn: ConnId, batch: Batch<'_>) {
        let waits = self.streams.get(conn).is_some_and(|state| !state.backlog.get().is_empty());
        let rest = if waits { Some(batch) } else { self.execute_batch(now, conn, batch) };
        if let Some((rest, state)) = rest.zip(self.streams.get_mut(conn)) {
            state.backlog.get_or_default().push_back(rest.into_owned());
        }
    }

    fn execute_backlog(&mut self, now: Instant, conn: ConnId) {
        while let Some(batch) = self.next_batch(conn) {
            if let Some((rest, state)) = self.execute_batch(now, conn, batch).zip(self.streams.get_mut(conn))
            {
                state.backlog.get_or_default().push_front(rest);
                return self.scan_backlog(now, conn);
            }
        }
        self.bound_unregistered(now, conn);
    }

    /// Executes as much of a batch as it may, and returns the rest if that has to wait.
    fn execute_batch<'a>(&mut self, now: Instant, conn: ConnId, mut batch: Batch<'a>) -> Option<Batch<'a>> {
        self.execute_lines(now, conn, &mut batch.line_input);
        self.execute_send_batch(conn, &mut batch);
        while let Some(frame) = batch.peek_frame()
            && let Decision::Run { is_charged } = self.decide_frame(now, conn, &frame)
        {
            self.handle_stream_frame(now, conn, &frame, batch.peek_payload());
            if is_charged {
                self.charge(now, conn, frame.encoded_len());
            }
            batch.take_frame();
            self.execute_send_batch(conn, &mut batch);
        }
        let state = self.streams.get_mut(conn)?;
        if state.is_closing() {
            // Ignore input after BYE, well-formed or not.
            state.backlog = LazyBox::default();
            return None;
        }
        // A batch that is done does not make its connection busy, even if reading is paused.
        if batch.is_done() {
            return None;
        }
        if !state.is_reading() {
            return Some(batch);
        }
        if let Some(malformed) = batch.broken {
            self.totals.malformed += 1;
            self.break_stream(now, conn, &malformed.to_string());
        }
        None
    }

    /// Executes the untagged messages at the front of a batch in one step: under load they are most of the input.
    fn execute_send_batch(&mut self, conn: ConnId, batch: &mut Batch<'_>) {
        if self.is_draining() || self.hub.holds_senders() {
            return;
        }
        let Some(state) = self.streams.get_mut(conn) else { return };
        let Some(key) = state.session().filter(|_| state.is_reading() && !state.is_limited()) else {
            return;
        };
        let count = self.hub.send_burst(key, batch.next_messages());
        if count > 0 {
            state.gate.note_progress();
            batch.take_messages(count);
        }
    }

    fn next_batch(&mut self, conn: ConnId) -> Option<Batch<'static>> {
        let state = self.streams.get_mut(conn)?;
        let next = state.backlog.get_mut().and_then(VecDeque::pop_front);
        state.backlog.free_if_empty();
        next.or_else(|| state.lines.as_mut()?.take_last_line().map(Batch::from))
    }

    /// Closes a connection without a session that announces more than [`MAX_UNREGISTERED`] bytes. The announced length
    /// counts, so the outcome does not depend on how the bytes are split.
    fn bound_unregistered(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get(conn) else { return };
        let too_long =
            state.unfinished.get().partial.is_some_and(|partial| partial.announced > MAX_UNREGISTERED);
        // A REG may be among the queued frames.
        let too_long = too_long && state.backlog.get().is_empty();
        if too_long && state.session().is_none() && !state.is_closing() {
            self.break_stream(now, conn, TOO_LONG_UNREGISTERED);
        }
    }

    /// Resumes the execution of a connection's input after its pause has ended.
    pub(super) fn resume_input(&mut self, now: Instant, conn: ConnId) {
        self.note_scarcity(conn);
        self.begin_quantum();
        self.work_off(now, conn);
        self.recount_frames(now, conn);
        self.count_answers(conn);
        self.note_ack_reading(conn);
        self.drained_stream(now, conn);
        self.arm_conn(conn);
        self.streams.wake(conn);
    }

    fn handle_stream_frame(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>, kept: Option<&Bytes>) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        state.gate.note_progress();
        let session = state.session();
        if session.is_none() && frame.payload.len() > MAX_UNREGISTERED {
            return self.break_stream(now, conn, TOO_LONG_UNREGISTERED);
        }
        let before = self.work().units();
        let answer = match session {
            Some(key) if frame.verb == Verb::Reg && self.is_guest(key) => {
                Some(self.register_stream(now, conn, frame))
            }
            Some(key) => self.execute(now, key, frame, kept),
            None => self.execute_unregistered(now, conn, frame),
        };
        if frame.verb != Verb::Snd {
            self.charge_quantum(before);
        }
        if let Some(answer) = answer {
            self.answer_stream(now, conn, frame, &answer);
        }
        if frame.verb == Verb::Bye
            && let Some(state) = self.streams.get_mut(conn)
        {
            state.release_session();
            state.close();
        }
    }

    /// Executes a frame of a connection without a session.
    fn execute_unregistered<'a>(
        &mut self,
        now: Instant,
        conn: ConnId,
        frame: &Frame<'a>,
    ) -> Option<Answer<'a>> {
        self.work().add(1, cost::FRAME);
        match frame.verb {
            Verb::Reg => Some(self.register_stream(now, conn, frame)),
            Verb::Png => Some(self.pong(frame, frame.id.is_some())),
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
        let Some(origin) = self.streams.origin(conn) else {
            return Err(Refusal::RegisterFirst);
        };
        let guest = self.guest_on(conn);
        let (key, moved) = self.register_over(now, guest, frame, Path::Stream(Some(conn)), origin)?;
        if moved && let Some(state) = self.streams.get_mut(conn) {
            state.carry(key);
        }
        Ok(self.token_of(key).into())
    }

    fn open_stream_guest(&mut self, now: Instant, conn: ConnId) -> Result<SessionKey, Refusal> {
        let origin = self.streams.origin(conn).ok_or(Refusal::RegisterFirst)?;
        let guest = self.open_guest(now, Path::Stream(Some(conn)), origin)?;
        if let Some(state) = self.streams.get_mut(conn) {
            state.carry(guest);
        }
        Ok(guest)
    }

    /// Appends an answer, unless the simulated loss drops it: on a stream only answers to tagged requests are lost.
    fn answer_stream(&mut self, now: Instant, conn: ConnId, frame: &Frame<'_>, answer: &Answer<'_>) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if frame.id.is_some() && frame.verb.is_request() {
            let (mut flow, mut index) = (0, 0);
            if let Some(losing) = &mut state.losing {
                (flow, index) = (losing.flow, losing.answers_sent);
                losing.answers_sent += 1;
            }
            if self.links.loses_answer(now, flow, index) {
                return;
            }
        }
        encode_answer(frame.id, frame.verb, answer, &mut state.answers);
    }
}
