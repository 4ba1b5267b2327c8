//! One connection: who it is, what was read of it and is not taken, and what is to be written to it.

use bytes::BytesMut;

use super::framing::{Front, Span, front};
use crate::door::Framing;
use crate::names::Name;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, DialId, DoorId, Remote};

/// While something is there to be taken, so much is read ahead of it, in bytes.
const READ_AHEAD: usize = 256 << 10;

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its name is awaited; the handler does not know of it.
    Handshake,
    /// The handler has been told of it.
    Open,
    /// The handler never will be.
    Refused,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) remote: Remote,
    pub(super) door: Option<DoorId>,
    pub(super) dial: Option<DialId>,
    pub(super) name: Option<Name>,
    pub(super) expected: bool,
    pub(super) stage: Stage,
    pub(super) framing: Framing,
    /// What was read and is not taken.
    pub(super) held: BytesMut,
    /// How much of it was looked at, where that need not be done again.
    seen: usize,
    /// What is to be written.
    pub(super) out: Output,
    /// What is being written, in bytes.
    pub(super) writing: usize,
    /// How much of what is not written was sent while its own input was handed over, and while any was.
    pub(super) answers: usize,
    pub(super) caused: usize,
    /// The handler has sent something that is not written yet.
    pub(super) owes: bool,
    /// The handler wants nothing more for now.
    pub(super) paused: bool,
    /// A whole piece is there and has not been taken.
    pub(super) unread: bool,
    /// No more of it may come, and the handler does not use what is there.
    pub(super) stuck: bool,
    /// Handing over was put off until fewer answers wait.
    pub(super) deferred: bool,
    /// It is among those whose turn comes.
    pub(super) is_ready: bool,
    /// It is among those that wait for room for answers.
    pub(super) held_back: bool,
    /// It is among those for whose output there was no room.
    pub(super) crowded: bool,
    /// It is closed once everything is written.
    pub(super) closing: bool,
    /// It is closed now.
    pub(super) aborted: bool,
    /// The peer has closed its side.
    pub(super) ended: bool,
    /// The handler knows that.
    pub(super) told_end: bool,
    /// The engine was told to read no more.
    pub(super) stopped: bool,
    /// It is among those that wait for memory.
    pub(super) starved: bool,
    /// It is among those that have something to be written or whose flow has changed.
    pub(super) woken: bool,
    /// Why it is closed, where that is not what the engine sees of it.
    pub(super) why: Option<CloseReason>,
}

impl Conn {
    pub(super) fn new(arrival: Arrival, framing: Framing) -> Self {
        let (remote, door, dial) = match arrival {
            Arrival::Accepted(origin) => (origin.from, Some(origin.door), None),
            Arrival::Dialed(dial, remote) => (remote, None, Some(dial)),
        };
        let stage = if framing == Framing::Messages { Stage::Handshake } else { Stage::Open };
        Self {
            remote,
            door,
            dial,
            name: None,
            // Whom we have called we expect.
            expected: dial.is_some(),
            stage,
            framing,
            held: BytesMut::new(),
            seen: 0,
            out: Output::default(),
            writing: 0,
            answers: 0,
            caused: 0,
            owes: false,
            paused: false,
            unread: false,
            stuck: false,
            deferred: false,
            is_ready: false,
            held_back: false,
            crowded: false,
            closing: false,
            aborted: false,
            ended: false,
            told_end: false,
            stopped: false,
            starved: false,
            woken: false,
            why: None,
        }
    }

    /// What waits to be written and what is being written, in bytes.
    pub(super) fn pending(&self) -> usize {
        self.out.len() + self.writing
    }

    /// Whether the handler can still do something with it.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open) && !self.closing && !self.aborted
    }

    /// Whether its time is limited: nothing new follows what is being written, or that was all.
    pub(super) fn is_closing(&self) -> bool {
        self.closing && (self.out.is_empty() || self.writing > 0)
    }

    /// Looks for the first piece of what is held.
    pub(super) fn look(&mut self, max: usize) -> Front {
        let found = front(self.framing, &self.held, self.seen, max);
        self.seen = if let Front::Unfinished { seen } = found { seen } else { 0 };
        found
    }

    /// Looks for a greeting, which is a message however the rest is going to be cut.
    pub(super) fn look_for_greeting(&self, max: usize) -> Front {
        front(Framing::Messages, &self.held, 0, max)
    }

    /// Drops what is between frames, so that it is neither kept nor looked at again. Returns how many bytes those were.
    pub(super) fn skip_blank(&mut self) -> usize {
        if self.framing != Framing::Frames {
            return 0;
        }
        let blank = self.held.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank == self.held.len() {
            self.held = BytesMut::new();
        } else {
            let _ = self.held.split_to(blank);
        }
        blank
    }

    /// Takes a piece out.
    pub(super) fn cut(&mut self, span: Span) -> bytes::Bytes {
        let mut piece = self.held.split_to(span.before + span.len + span.after);
        let _ = piece.split_to(span.before);
        piece.truncate(span.len);
        if self.held.is_empty() {
            // Who is silent holds no buffer.
            self.held = BytesMut::new();
        }
        piece.freeze()
    }

    /// Whether there is room for more of it, as far as it alone is concerned.
    pub(super) fn has_room(&self, max_message: usize) -> bool {
        let most = if self.unread { READ_AHEAD } else { max_message.saturating_add(crate::wire::MAX_HEAD) };
        !self.stuck && self.held.len() < most
    }

    /// Looks at what is held anew: it is cut in another way from now on.
    pub(super) fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
        self.seen = 0;
    }
}
