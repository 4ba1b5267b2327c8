//! The line protocol: the state of a line client's connection, and how its bytes become lines that are executed.
//!
//! Names are given in `naming`, lines are executed in `commands`, and HTTP clients are recognised in
//! `http_guard`. All of it is under the lock, because silence may finish a line, and silence is a timer.
//!
//! Every line of the server's own begins with `* `, and no name begins with `*`: no client can forge one.

use std::mem;
use std::time::Instant;

use super::Server;
use super::intake::Batch;
use super::read_gate::Decision;
use crate::hub::push::line;
use crate::hub::work::cost;
use crate::listener::{Greet, LineListener, Speaks};
use crate::output::Output;
use crate::service::{ConnId, ListenerId};
use crate::units::later;
use crate::wire::{Found, Lines, NO_TIMING_MARK};

mod commands;
mod http_guard;
mod naming;

use commands::Command;

/// Most bytes of earlier messages that are put before an answer.
const CAUGHT_UP: usize = 64 << 10;

/// The longest line of a client without a name, in bytes.
const MAX_UNNAMED: usize = 1 << 10;

/// The line protocol state of a connection.
#[derive(Debug)]
pub(super) struct LineConn {
    lines: Lines,
    /// The time at which the unfinished line counts as finished.
    flush_at: Option<Instant>,
    /// The input has ended: what is unfinished is the last line.
    ended: bool,
    /// The last output is a question, without a line feed after it.
    prompted: bool,
    /// A line with more than white space has come.
    has_spoken: bool,
    /// The front of the present line was refused, and with it the rest of its pieces.
    refuses_rest: bool,
    /// The number of refused names.
    bad_names: u8,
}

/// Bytes on a line listener that are not cut into lines yet, or a line, or a piece of one, that has to wait.
#[derive(Debug, Default)]
pub(super) struct LineInput {
    line: Option<Found>,
    bytes: Vec<u8>,
    /// Length of the part of `bytes` that has been cut.
    used: usize,
}

impl LineInput {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { line: None, bytes: bytes.to_vec(), used: 0 }
    }

    fn of_line(line: Found) -> Self {
        Self { line: Some(line), ..Self::default() }
    }

    /// Returns the bytes that it holds.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.line.as_ref().map_or(0, |line| line.text().len())
    }

    /// Whether all of it has been cut.
    pub(super) fn is_used_up(&self) -> bool {
        self.line.is_none() && self.used == self.bytes.len()
    }

    fn next(&mut self, lines: &mut Lines) -> Option<Found> {
        if let Some(line) = self.line.take() {
            return Some(line);
        }
        let mut rest = self.bytes.get(self.used..).unwrap_or_default();
        let found = lines.next(&mut rest);
        self.used = self.bytes.len() - rest.len();
        found
    }
}

impl LineConn {
    pub(super) fn new() -> Self {
        Self {
            lines: Lines::with_limit(MAX_UNNAMED),
            flush_at: None,
            ended: false,
            prompted: false,
            has_spoken: false,
            refuses_rest: false,
            bad_names: 0,
        }
    }

    /// Whether this is a piece of a refused line.
    fn has_refused(&self, line: &Found) -> bool {
        self.refuses_rest && matches!(line, Found::Rest(_))
    }

    /// Appends a line of the server's own, after ending the line of a question.
    pub(super) fn append_line(&mut self, text: &str, out: &mut Vec<u8>) {
        if mem::take(&mut self.prompted) {
            out.push(b'\n');
        }
        out.extend_from_slice(line(text).as_bytes());
    }

    fn append_question(&mut self, question: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(question.as_bytes());
        self.prompted = true;
    }

    /// Returns the unterminated last line, once the input has ended.
    pub(super) fn take_last_line(&mut self) -> Option<LineInput> {
        if self.ended { self.lines.flush().map(LineInput::of_line) } else { None }
    }

    /// Returns when silence finishes the line.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }
}

/// Whether a line is refused for its length, with all its pieces. Only a message to the room may come in pieces, each
/// of which is a message of its own.
fn is_refused(line: &Found, is_registered: bool) -> bool {
    matches!(line, Found::Front(front) if !is_registered || Command::is_command(front))
}

impl Server {
    /// Whether a listener speaks the line protocol.
    pub(super) fn is_line_listener(&self, listener: ListenerId) -> bool {
        self.listener(listener).is_some_and(|listener| matches!(listener.speaks, Speaks::Lines(_)))
    }

    /// Returns the line settings of a connection's listener, if it has any.
    fn line_listener(&self, conn: ConnId) -> Option<&LineListener> {
        match &self.listener(self.streams.get(conn)?.listener())?.speaks {
            Speaks::Lines(listener) => Some(listener),
            Speaks::Frames | Speaks::Messages | Speaks::Bytes => None,
        }
    }

    /// Starts the dialogue on a new connection to a line listener, if it was admitted.
    pub(super) fn start_dialogue(&mut self, now: Instant, conn: ConnId) {
        let may_stay = self.streams.get(conn).is_some_and(|state| !state.is_closing());
        match self.line_listener(conn).filter(|_| may_stay).map(|listener| listener.greet) {
            Some(Greet::Name) => self.send_greeting(conn),
            Some(Greet::None) => self.open_unasked(now, conn),
            None => return,
        }
        self.streams.wake(conn);
    }

    /// Executes the lines in `input` until they have to wait.
    pub(super) fn execute_lines(&mut self, now: Instant, conn: ConnId, input: &mut LineInput) {
        while self.is_reading_stream(conn)
            && let Some(line) = self.next_line(conn, input)
        {
            let size = line.text().len() + "\n".len();
            if !matches!(self.decide_line(now, conn, &line, size), Decision::Run { .. }) {
                input.line = Some(line);
                return;
            }
            self.take_line(now, conn, &line);
            self.charge(now, conn, size);
        }
    }

    fn next_line(&mut self, conn: ConnId, input: &mut LineInput) -> Option<Found> {
        let state = self.streams.get_mut(conn)?;
        let lines = state.lines.as_mut()?;
        loop {
            match input.next(&mut lines.lines)? {
                Found::TimingMark => state.answers.extend(NO_TIMING_MARK),
                line => return Some(line),
            }
        }
    }

    fn take_line(&mut self, now: Instant, conn: ConnId, line: &Found) {
        self.work().add(1, cost::FRAME);
        let Some(state) = self.streams.get_mut(conn) else { return };
        state.gate.note_progress();
        let (session, mut is_unknown) = (state.session(), false);
        if let Some(lines) = &mut state.lines {
            if lines.has_refused(line) {
                return;
            }
            lines.prompted = false;
            is_unknown = session.is_none() || !lines.has_spoken;
            lines.has_spoken |= !line.text().trim_ascii().is_empty();
            lines.refuses_rest = is_refused(line, session.is_some());
        }
        match session {
            _ if is_unknown && http_guard::is_request_line(line.text()) => {
                self.break_stream(now, conn, http_guard::NO_WEB);
            }
            None => self.take_name(now, conn, line),
            // Ignore lines after the server's BYE.
            Some(key) if self.hub.get(key).is_some_and(|session| session.has_said_bye()) => {}
            Some(key) => self.execute_line(now, conn, key, line),
        }
    }

    /// Answers a line client with a line of the server's own, after the messages that came before it.
    fn answer_line(&mut self, now: Instant, conn: ConnId, text: &str) {
        self.catch_up(now, conn);
        let Some(state) = self.streams.get_mut(conn) else { return };
        if let Some(lines) = &mut state.lines {
            lines.append_line(text, &mut state.answers);
        }
    }

    fn catch_up(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        if let Some(key) = state.session() {
            let mut out = Output::default();
            out.append(mem::take(&mut state.answers));
            self.hub.fill_stream(now, key, &mut out, CAUGHT_UP);
            state.answers = out.into_vec();
        }
    }
}

/// Lines that a timer or the end of the input finishes.
impl Server {
    /// Updates the deadlines of the unfinished line.
    pub(super) fn watch_lines(&mut self, now: Instant, conn: ConnId) {
        let Some(flush) = self.line_listener(conn).map(|listener| listener.flush) else { return };
        let Some(state) = self.streams.get_mut(conn) else { return };
        let Some(lines) = &mut state.lines else { return };
        let unfinished = lines.lines.unfinished();
        let (begun, heard) = (lines.lines.take_begun(), lines.lines.take_heard());
        lines.flush_at = match flush {
            // More input waits for execution, so the line is not silent.
            _ if unfinished == 0 || !state.backlog.get().is_empty() => None,
            Some(silence) if heard || lines.flush_at.is_none() => Some(later(now, silence)),
            _ => lines.flush_at,
        };
        self.bound_input(now, conn, unfinished);
        self.watch_line(now, conn, unfinished > 0 && flush.is_none(), begun);
    }

    /// Finishes the unfinished line if it has been silent for long enough.
    pub(super) fn flush_line(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.streams.get_mut(conn) else { return };
        let Some(lines) = state.lines.as_mut().filter(|lines| lines.flush_at.is_some_and(|at| at <= now))
        else {
            return;
        };
        lines.flush_at = None;
        if let Some(line) = lines.lines.flush() {
            state.backlog.get_or_default().push_back(Batch::from(LineInput::of_line(line)));
            self.resume_input(now, conn);
        }
    }

    /// Handles the end of a connection's input: an unfinished line is its last line. An unfinished frame is dropped.
    pub(super) fn end_input(&mut self, now: Instant, conn: ConnId) {
        let Some(lines) = self.streams.get_mut(conn).and_then(|state| state.lines.as_mut()) else { return };
        lines.ended = true;
        self.resume_input(now, conn);
    }
}
