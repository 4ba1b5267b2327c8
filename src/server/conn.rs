//! What the server knows of one stream connection, and whether it is read. What is done with it is in `stream` (what comes in)
//! and `fill` (what goes out).

use std::collections::VecDeque;
use std::time::Instant;

use super::admission::Seat;
use super::held::Waiting;
use super::host_rates::HostTokens;
use super::intake::Batch;
use super::lines::LineConn;
use super::patience::Patience;
use crate::hub::SessionKey;
use crate::lazy_box::{IsEmpty, LazyBox};
use crate::rates::{Bucket, Rate};
use crate::remote::{PackedOrigin, PackedRemote};
use crate::service::{DoorId, Origin};
use crate::wire::Partial;

/// A stream whose own answers wait for more than this is not read until they are written.
const ANSWERS_ENOUGH: usize = 64 << 10;

/// The same without a session.
const UNREGISTERED_ANSWERS: usize = 1 << 10;

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
    /// None for a connection that came while the server ended.
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
    pub(super) backlog: LazyBox<VecDeque<Batch<'static>>>,
    /// Why nothing more is executed for now.
    pub(super) held: Option<Held>,
    /// Where it stands among those who wait for slow readers.
    pub(super) waiting: LazyBox<Waiting>,
    /// How much its peer may say.
    pub(super) limits: LazyBox<Limits>,
    /// Where answers may be lost.
    pub(super) losing: Option<Box<Losing>>,
    /// When it was opened.
    pub(super) opened: Instant,
    /// When the last PNG came, or it was opened.
    pub(super) heard: Instant,
    /// The frame, or line, that has begun and is not whole.
    pub(super) unfinished: LazyBox<Unfinished>,
}

/// What a connection's frames cost.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// Its own bucket.
    pub(super) bucket: Bucket,
    /// What it owes the bucket of its host.
    pub(super) host_tokens: HostTokens,
}

impl IsEmpty for Limits {
    const EMPTY: &'static Self =
        &Self { bucket: Bucket::new(Rate::UNLIMITED), host_tokens: HostTokens::Unlimited };

    fn is_empty(&self) -> bool {
        self.bucket.is_unlimited() && self.host_tokens == HostTokens::Unlimited
    }
}

/// What the simulated loss counts on a connection.
#[derive(Debug)]
pub(super) struct Losing {
    pub(super) flow: u64,
    pub(super) answers_sent: u64,
}

/// How far a connection is closed that has to give its memory to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Eviction {
    /// It is not.
    #[default]
    None,
    /// It is about to be told why.
    Condemned,
    /// It was told, or takes nothing, and is not waited for.
    Told,
}

/// A frame, or a line, that has begun and is not whole, and what else a connection makes the server keep for a while.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// How long it may still take.
    pub(super) patience: Patience,
    /// How much of it there is.
    pub(super) partial: Option<Partial>,
    /// The bytes held of it and of what is behind it.
    pub(super) buffered: usize,
    pub(super) eviction: Eviction,
    /// What its answers that are not read count for; none while they are few.
    pub(super) answers: usize,
    /// The bytes of those that its writer has; none while they are few.
    pub(super) given: usize,
    /// Memory is scarce: few answers wait for it.
    pub(super) frugal: bool,
}

impl IsEmpty for Unfinished {
    const EMPTY: &'static Self = &Self {
        patience: Patience::Idle,
        partial: None,
        buffered: 0,
        eviction: Eviction::None,
        answers: 0,
        given: 0,
        frugal: false,
    };

    fn is_empty(&self) -> bool {
        matches!(self.patience, Patience::Idle)
            && self.partial.is_none()
            && (self.buffered, self.answers, self.given) == (0, 0, 0)
            && self.eviction == Eviction::None
            && !self.frugal
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
            backlog: LazyBox::default(),
            held: None,
            waiting: LazyBox::default(),
            limits: limits.into(),
            losing: None,
            opened: now,
            heard: now,
            unfinished: LazyBox::default(),
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

    /// It has executed something.
    pub(super) fn has_gone_on(&mut self) {
        if let Some(waiting) = self.waiting.get_mut() {
            waiting.has_gone_on();
            self.waiting.free_if_empty();
        }
    }

    /// Whether what comes in costs tokens.
    pub(super) fn is_limited(&self) -> bool {
        !self.limits.get().is_empty()
    }

    /// Whether what comes in is executed.
    pub(super) fn is_reading(&self) -> bool {
        !self.closing && self.has_room() && self.held.is_none()
    }

    pub(super) fn has_room(&self) -> bool {
        let enough = if self.session.is_some() { ANSWERS_ENOUGH } else { UNREGISTERED_ANSWERS };
        self.answers.len() <= enough && !self.is_overdrawn()
    }
}
