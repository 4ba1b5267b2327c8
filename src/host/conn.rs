//! The state of one connection: its peer, held input and pending output.

use bytes::BytesMut;

use super::framing::{Front, Span, front};
use crate::listener::Framing;
use crate::names::Name;
use crate::output::Output;
use crate::service::{Arrival, CloseReason, DialId, ListenerId, Remote};

/// Bytes to read ahead while a piece waits for the handler.
const READ_AHEAD: usize = 256 << 10;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handshake is not complete; the handler does not know of the connection.
    Handshake,
    /// The handler knows of the connection.
    Open,
    /// The connection was refused; the handler will not know of it.
    Refused,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) remote: Remote,
    pub(super) listener: Option<ListenerId>,
    pub(super) dial: Option<DialId>,
    pub(super) name: Option<Name>,
    pub(super) expected: bool,
    pub(super) stage: Stage,
    pub(super) framing: Framing,
    /// Input that was not taken.
    pub(super) held: BytesMut,
    /// Bytes of it that need not be searched again.
    seen: usize,
    /// Output that is queued.
    pub(super) out: Output,
    /// Bytes of output that are being written.
    pub(super) writing: usize,
    /// Bytes of pending output that were sent during a callback for this connection's input, and for any connection's
    /// input.
    pub(super) answers: usize,
    pub(super) caused: usize,
    /// The handler has sent something that is not written yet.
    pub(super) owes: bool,
    /// The handler has paused the connection.
    pub(super) paused: bool,
    /// A complete piece is waiting.
    pub(super) unread: bool,
    /// The buffer is full, and the handler does not use the bytes in it.
    pub(super) stuck: bool,
    /// Input waits until fewer answers are pending.
    pub(super) deferred: bool,
    /// It is in the queue `ready`.
    pub(super) is_ready: bool,
    /// It is in the queue `held_back`.
    pub(super) held_back: bool,
    /// Whether it is in the queue of the same name.
    pub(super) awaiting_room: bool,
    /// It is closed once everything is written.
    pub(super) closing: bool,
    /// It is closed now.
    pub(super) aborted: bool,
    /// The peer has closed its side.
    pub(super) ended: bool,
    /// The handler knows that the peer has closed its side.
    pub(super) told_end: bool,
    /// The number of answers that the handler still owes.
    pub(super) holds: u32,
    /// The engine was told to pause reading.
    pub(super) stopped: bool,
    /// It is in the queue `starved`.
    pub(super) starved: bool,
    /// It is in the queue `woken`.
    pub(super) woken: bool,
    /// The close reason, if the engine cannot know it.
    pub(super) why: Option<CloseReason>,
}

impl Conn {
    pub(super) fn new(arrival: Arrival, framing: Framing) -> Self {
        let (remote, listener, dial) = match arrival {
            Arrival::Accepted(origin) => (origin.from, Some(origin.listener), None),
            Arrival::Dialed(dial, remote) => (remote, None, Some(dial)),
        };
        let stage = if framing == Framing::Messages { Stage::Handshake } else { Stage::Open };
        Self {
            remote,
            listener,
            dial,
            name: None,
            // A peer that we connected to is expected.
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
            awaiting_room: false,
            closing: false,
            aborted: false,
            ended: false,
            told_end: false,
            holds: 0,
            stopped: false,
            starved: false,
            woken: false,
            why: None,
        }
    }

    /// Bytes of output that are queued or being written.
    pub(super) fn pending(&self) -> usize {
        self.out.len() + self.writing
    }

    /// Whether the handler can still use the connection.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open) && !self.closing && !self.aborted
    }

    /// Whether the engine limits its remaining time: it is writing the last output, or there is none.
    pub(super) fn is_closing(&self) -> bool {
        self.closing && (self.out.is_empty() || self.writing > 0)
    }

    /// Searches the held input for its first piece.
    pub(super) fn look(&mut self, max: usize) -> Front {
        let found = front(self.framing, &self.held, self.seen, max);
        self.seen = if let Front::Unfinished { seen } = found { seen } else { 0 };
        found
    }

    /// Searches for a greeting, which is a message whatever the framing.
    pub(super) fn look_for_greeting(&self, max: usize) -> Front {
        front(Framing::Messages, &self.held, 0, max)
    }

    /// Drops the separators between frames. Returns their length in bytes.
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

    /// Takes a piece out of the held input.
    pub(super) fn cut(&mut self, span: Span) -> bytes::Bytes {
        let mut piece = self.held.split_to(span.before + span.len + span.after);
        let _ = piece.split_to(span.before);
        piece.truncate(span.len);
        if self.held.is_empty() {
            // An idle connection keeps no buffer.
            self.held = BytesMut::new();
        }
        piece.freeze()
    }

    /// Whether the connection's own limit allows another read.
    pub(super) fn has_room(&self, max_message: usize) -> bool {
        let most = if self.unread { READ_AHEAD } else { max_message.saturating_add(crate::wire::MAX_HEAD) };
        !self.stuck && self.held.len() < most
    }

    /// Changes the framing, and searches the held input again.
    pub(super) fn set_framing(&mut self, framing: Framing) {
        self.framing = framing;
        self.seen = 0;
    }
}
