//! Doors for people: lines of text in, lines of text out.
//!
//! Here is what a connection there has beside the others, and how what comes in becomes lines that get their turn. How a
//! person gets a name is in `naming`, what lines mean in `commands`, who is no person at all in `strangers`. All of it is
//! under the lock, because silence may finish a line, and silence is a timer's affair.
//!
//! Everything that the server says itself begins with `* `, and no name begins with `*`: nobody can forge it.

use std::mem;
use std::time::Instant;

use super::Server;
use super::intake::Batch;
use crate::door::{Greet, LineDoor, Speaks};
use crate::hub::queue::line;
use crate::hub::work::cost;
use crate::output::Output;
use crate::service::{ConnId, DoorId};
use crate::units::later;
use crate::wire::{Found, Lines, NO_TIMING_MARK};

mod commands;
mod naming;
mod strangers;

use commands::Command;

/// An answer is put behind as much of what others said before it, in bytes.
const CAUGHT_UP: usize = 64 << 10;

/// The longest line of somebody without a name, in bytes.
const MAX_UNNAMED: usize = 1 << 10;

/// What a connection has besides where lines are spoken.
#[derive(Debug)]
pub(super) struct LineConn {
    lines: Lines,
    /// When the unfinished line counts as finished.
    flush_at: Option<Instant>,
    /// Nothing more comes: what is unfinished is the last line.
    ended: bool,
    /// The last that was written is a question, on a line that the person's answer ends.
    prompted: bool,
    /// Something was said: more than white space.
    has_spoken: bool,
    /// The line whose pieces come was refused, and the rest of it with it.
    refuses_rest: bool,
    /// The names that were refused.
    bad_names: u8,
}

/// What came in at a door for people and is not a line yet, or is one, or a piece of one, that has to wait.
#[derive(Debug, Default)]
pub(super) struct Said {
    line: Option<Found>,
    bytes: Vec<u8>,
    /// How much of `bytes` has been looked at.
    used: usize,
}

impl Said {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { line: None, bytes: bytes.to_vec(), used: 0 }
    }

    fn of_line(line: Found) -> Self {
        Self { line: Some(line), ..Self::default() }
    }

    /// The bytes that it holds.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.line.as_ref().map_or(0, |line| line.text().len())
    }

    /// Whether all of it has been looked at.
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

    /// Whether this is a piece of a line that was refused.
    fn has_refused(&self, line: &Found) -> bool {
        self.refuses_rest && matches!(line, Found::Rest(_))
    }

    /// Appends a line of the server's own, which begins on a line of its own.
    pub(super) fn say(&mut self, text: &str, out: &mut Vec<u8>) {
        if mem::take(&mut self.prompted) {
            out.push(b'\n');
        }
        out.extend_from_slice(line(text).as_bytes());
    }

    fn ask(&mut self, question: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(question.as_bytes());
        self.prompted = true;
    }

    /// At the end of the stream, the line that nothing ended.
    pub(super) fn last_words(&mut self) -> Option<Said> {
        if self.ended { self.lines.flush().map(Said::of_line) } else { None }
    }

    /// When silence will have finished the line.
    pub(super) fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }
}

/// Whether a line is too long for what it asks for, so that the pieces behind it go with it. Only a message to the room may
/// come in pieces: each of them is one, whatever it looks like.
fn is_refused(line: &Found, is_registered: bool) -> bool {
    matches!(line, Found::Front(front) if !is_registered || Command::is_command(front))
}

impl Server {
    /// Whether lines are spoken at a door.
    pub(super) fn is_for_people(&self, door: DoorId) -> bool {
        self.door(door).is_some_and(|door| matches!(door.speaks, Speaks::Lines(_)))
    }

    /// What is set for the door that a connection knocked on, if lines are spoken there.
    fn line_door(&self, conn: ConnId) -> Option<&LineDoor> {
        match &self.door(self.conns.get(conn)?.door())?.speaks {
            Speaks::Lines(door) => Some(door),
            Speaks::Frames | Speaks::Messages | Speaks::Bytes => None,
        }
    }

    /// Begins a conversation, if lines are spoken at the door of a new connection that may stay.
    pub(super) fn greet(&mut self, now: Instant, conn: ConnId) {
        let may_stay = self.conns.get(conn).is_some_and(|state| !state.closing);
        match self.line_door(conn).filter(|_| may_stay).map(|door| door.greet) {
            Some(Greet::Name) => self.welcome(conn),
            Some(Greet::None) => self.admit_unasked(now, conn),
            None => return,
        }
        self.wake_conn(conn);
    }

    /// Does what the lines in `said` ask for, until they have to wait.
    pub(super) fn execute_lines(&mut self, now: Instant, conn: ConnId, said: &mut Said) {
        while self.is_reading_stream(conn)
            && let Some(line) = self.next_line(conn, said)
        {
            let size = line.text().len() + "\n".len();
            if !self.affords_bytes(now, conn, size) || self.waits_for_readers(conn, &line) {
                said.line = Some(line);
                return;
            }
            self.take_line(now, conn, &line);
            self.charge(now, conn, size);
        }
    }

    fn next_line(&mut self, conn: ConnId, said: &mut Said) -> Option<Found> {
        let state = self.conns.get_mut(conn)?;
        let lines = state.lines.as_mut()?;
        loop {
            match said.next(&mut lines.lines)? {
                Found::TimingMark => state.answers.extend(NO_TIMING_MARK),
                line => return Some(line),
            }
        }
    }

    fn take_line(&mut self, now: Instant, conn: ConnId, line: &Found) {
        self.work().add(1, cost::FRAME);
        let Some(state) = self.conns.get_mut(conn) else { return };
        state.has_gone_on();
        let mut is_unknown = false;
        if let Some(lines) = &mut state.lines {
            if lines.has_refused(line) {
                return;
            }
            lines.prompted = false;
            is_unknown = state.session.is_none() || !lines.has_spoken;
            lines.has_spoken |= !line.text().trim_ascii().is_empty();
            lines.refuses_rest = is_refused(line, state.session.is_some());
        }
        match state.session {
            _ if is_unknown && strangers::is_request_line(line.text()) => {
                self.break_stream(now, conn, strangers::NO_WEB);
            }
            None => self.take_name(now, conn, line),
            // Behind the server's goodbye nothing is answered.
            Some(key) if self.hub.get(key).is_some_and(|session| session.has_said_bye()) => {}
            Some(key) => self.obey(now, conn, key, line),
        }
    }

    /// Answers a person with a line of the server's own, behind what others said before.
    fn tell(&mut self, now: Instant, conn: ConnId, text: &str) {
        self.catch_up(now, conn);
        let Some(state) = self.conns.get_mut(conn) else { return };
        if let Some(lines) = &mut state.lines {
            lines.say(text, &mut state.answers);
        }
    }

    fn catch_up(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        if let Some(key) = state.session {
            let mut out = Output::default();
            out.append(mem::take(&mut state.answers));
            self.hub.fill_stream(now, key, &mut out, CAUGHT_UP);
            state.answers = out.into_vec();
        }
    }
}

/// Lines that end by themselves.
impl Server {
    /// Looks at what has become of the unfinished line, and sets its clocks.
    pub(super) fn watch_lines(&mut self, now: Instant, conn: ConnId) {
        let Some(flush) = self.line_door(conn).map(|door| door.flush) else { return };
        let Some(state) = self.conns.get_mut(conn) else { return };
        let Some(lines) = &mut state.lines else { return };
        let unfinished = lines.lines.unfinished();
        let (begun, heard) = (lines.lines.take_begun(), lines.lines.take_heard());
        lines.flush_at = match flush {
            // It is not silent while more of what came waits for its turn.
            _ if unfinished == 0 || !state.backlog.get().is_empty() => None,
            Some(silence) if heard || lines.flush_at.is_none() => Some(later(now, silence)),
            _ => lines.flush_at,
        };
        self.bound_input(now, conn, unfinished);
        self.watch_line(now, conn, unfinished > 0 && flush.is_none(), begun);
    }

    /// Takes the unfinished line for finished, if it has been silent for long enough.
    pub(super) fn flush_line(&mut self, now: Instant, conn: ConnId) {
        let Some(state) = self.conns.get_mut(conn) else { return };
        let Some(lines) = state.lines.as_mut().filter(|lines| lines.flush_at.is_some_and(|at| at <= now))
        else {
            return;
        };
        lines.flush_at = None;
        if let Some(line) = lines.lines.flush() {
            state.backlog.get_or_default().push_back(Batch::from(Said::of_line(line)));
            self.go_on(now, conn);
        }
    }

    /// Nothing more comes from a connection: what is unfinished is its last line. An unfinished frame is none.
    pub(super) fn end_input(&mut self, now: Instant, conn: ConnId) {
        let Some(lines) = self.conns.get_mut(conn).and_then(|state| state.lines.as_mut()) else { return };
        lines.ended = true;
        self.go_on(now, conn);
    }
}
