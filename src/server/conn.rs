//! The state of one stream connection.
//!
//! Not here: the execution of its input (`stream`), its output (`fill`), and whether it is read (`read_gate`).

use std::collections::VecDeque;
use std::time::Instant;

use super::admission::AdmissionClass;
use super::host_rates::HostTokens;
use super::intake::Batch;
use super::lines::LineConn;
use super::read_deadlines::ReadDeadline;
use super::read_gate::ReadGate;
use crate::hub::SessionKey;
use crate::lazy_box::{IsEmpty, LazyBox};
use crate::rates::{Bucket, Rate};
use crate::remote::{PackedOrigin, PackedRemote};
use crate::service::{ListenerId, Origin};
use crate::wire::Partial;

/// The most bytes of answers that wait while a connection is still read.
const ANSWERS_ENOUGH: usize = 64 << 10;

/// The same without a session.
const UNREGISTERED_ANSWERS: usize = 1 << 10;

/// The state of one stream connection. Most connections are idle: state that few of them have is boxed.
#[derive(Debug)]
pub(super) struct StreamConn {
    from: PackedRemote,
    listener: u32,
    /// `None` for a connection that was opened while the server drained.
    pub(super) admission_class: Option<AdmissionClass>,
    session: Option<SessionKey>,
    /// Its line protocol state, on a line listener.
    pub(super) lines: Option<Box<LineConn>>,
    pub(super) answers: Vec<u8>,
    closing: bool,
    woken: bool,
    /// It may have a deadline.
    pub(super) armed: bool,
    /// Input that is not executed yet: answers to earlier input wait, or reading is paused.
    pub(super) backlog: LazyBox<VecDeque<Batch<'static>>>,
    /// Whether nothing more is executed for now, and why.
    pub(super) gate: ReadGate,
    /// Its rate limits.
    pub(super) limits: LazyBox<Limits>,
    /// The simulated loss of its answers.
    pub(super) losing: Option<Box<Losing>>,
    /// Time of its opening.
    pub(super) opened: Instant,
    /// Time of its last PNG, or of its opening.
    pub(super) heard: Instant,
    /// The frame, or line, that has begun and is not whole, and other temporary state.
    pub(super) unfinished: LazyBox<Unfinished>,
}

/// The rate limits of a connection.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Its own bucket.
    pub(super) bucket: Bucket,
    /// Its debt to its host's bucket.
    pub(super) host_tokens: HostTokens,
}

impl IsEmpty for Limits {
    const EMPTY: &'static Self =
        &Self { bucket: Bucket::new(Rate::UNLIMITED), host_tokens: HostTokens::Unlimited };

    fn is_empty(&self) -> bool {
        self.bucket.is_unlimited() && self.host_tokens == HostTokens::Unlimited
    }
}

/// The counts of simulated loss on a connection.
#[derive(Debug)]
pub(super) struct Losing {
    pub(super) flow: u64,
    pub(super) answers_sent: u64,
}

/// The progress of closing a connection that is evicted for its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Eviction {
    /// It is not evicted.
    #[default]
    None,
    /// Its last frames, which say why, are not written yet.
    Closing,
    /// Its last frames are written, or it does not read: it is closed without waiting.
    Done,
}

/// A frame, or line, that has begun and is not whole, and the memory that a connection holds for a while.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Deadline for its end.
    pub(super) read_deadline: ReadDeadline,
    /// Its announced length and what is allocated for it.
    pub(super) partial: Option<Partial>,
    /// The bytes held for it and for the input that waits.
    pub(super) buffered: usize,
    pub(super) eviction: Eviction,
    /// Bytes of its unread answers in the ledger; 0 while they are few.
    pub(super) answers: usize,
    /// The bytes of answers that its writer holds; 0 while they are few.
    pub(super) given: usize,
    /// Memory is scarce: few answers may wait.
    pub(super) scarce: bool,
}

impl IsEmpty for Unfinished {
    const EMPTY: &'static Self = &Self {
        read_deadline: ReadDeadline::Idle,
        partial: None,
        buffered: 0,
        eviction: Eviction::None,
        answers: 0,
        given: 0,
        scarce: false,
    };

    fn is_empty(&self) -> bool {
        matches!(self.read_deadline, ReadDeadline::Idle)
            && self.partial.is_none()
            && (self.buffered, self.answers, self.given) == (0, 0, 0)
            && self.eviction == Eviction::None
            && !self.scarce
    }
}

impl IsEmpty for VecDeque<Batch<'static>> {
    const EMPTY: &'static Self = &Self::new();

    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl StreamConn {
    pub(super) fn new(now: Instant, origin: Origin, limits: Limits) -> Self {
        let PackedOrigin { from, listener } = origin.into();
        Self {
            from,
            listener,
            admission_class: None,
            session: None,
            lines: None,
            answers: Vec::new(),
            closing: false,
            woken: false,
            armed: false,
            backlog: LazyBox::default(),
            gate: ReadGate::default(),
            limits: limits.into(),
            losing: None,
            opened: now,
            heard: now,
            unfinished: LazyBox::default(),
        }
    }

    /// Returns the peer's address and the listener.
    pub(super) fn origin(&self) -> Origin {
        Origin { listener: self.listener(), from: self.from.unpack() }
    }

    /// Returns the listener that accepted it.
    pub(super) fn listener(&self) -> ListenerId {
        self.listener as usize
    }

    /// Returns the session that it carries.
    pub(super) fn session(&self) -> Option<SessionKey> {
        self.session
    }

    /// Lets it carry a session.
    pub(super) fn carry(&mut self, key: SessionKey) {
        self.session = Some(key);
    }

    /// Takes its session from it.
    pub(super) fn release_session(&mut self) {
        self.session = None;
    }

    /// Whether it is closed as soon as its output is written, and its input ignored.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Closes it as soon as its output is written.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Marks it as listed among those with output. Returns whether it was not.
    pub(super) fn mark_woken(&mut self) -> bool {
        !std::mem::replace(&mut self.woken, true)
    }

    pub(super) fn unmark_woken(&mut self) {
        self.woken = false;
    }

    /// Returns the deadline of the unfinished frame or line.
    pub(super) fn read_deadline(&self) -> ReadDeadline {
        self.unfinished.get().read_deadline
    }

    pub(super) fn set_read_deadline(&mut self, read_deadline: ReadDeadline) {
        if !matches!((self.read_deadline(), read_deadline), (ReadDeadline::Idle, ReadDeadline::Idle)) {
            self.unfinished.update(|unfinished| unfinished.read_deadline = read_deadline);
        }
    }

    pub(super) fn set_partial(&mut self, partial: Option<Partial>) {
        if self.unfinished.get().partial != partial {
            self.unfinished.update(|unfinished| unfinished.partial = partial);
        }
    }

    pub(super) fn set_buffered(&mut self, buffered: usize) {
        if self.unfinished.get().buffered != buffered {
            self.unfinished.update(|unfinished| unfinished.buffered = buffered);
        }
    }

    /// Whether its input costs tokens.
    pub(super) fn is_limited(&self) -> bool {
        !self.limits.get().is_empty()
    }

    /// Whether few enough of its answers wait to be written.
    pub(super) fn has_room(&self) -> bool {
        let enough = if self.session.is_some() { ANSWERS_ENOUGH } else { UNREGISTERED_ANSWERS };
        self.answers.len() <= enough && !self.is_overdrawn()
    }
}
