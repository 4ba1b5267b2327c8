//! A session: a name, a token, rooms, the dedup window, and what is on its way to it.
//!
//! A session is not a connection: a stream session outlives its connection by the linger time, a datagram session
//! outlives a change of address. What one session may do to another is in the hub; this file knows only one.

use std::time::Instant;

use super::name::{FoldKey, Name};
use super::queue::{Load, Push, SendQueue};
use super::rate::Bucket;
use crate::reliable::{Pushes, Replies};
use crate::service::{ConnId, Origin, Peer};
use crate::wire::{PREFIX_LEN, SHORT_LENGTH_MAX, Token, encode_prefix};

/// Names a session for as long as the hub lives; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

#[cfg(test)]
impl SessionKey {
    /// A key for tests that open no session.
    pub(crate) fn nth(slot: usize) -> Self {
        Self { slot, serial: 0 }
    }
}

/// How a session is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its REG was tagged: numbered, acknowledged pushes.
    Tagged,
    /// Its REG was not: asio_chatserver's protocol, each push once.
    Untagged,
    /// In lines of text, each push once.
    Lines,
}

/// The way to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A stream: its connection, or none while the session lingers.
    Stream(Option<ConnId>),
    /// Datagrams.
    Datagram(DatagramPath),
}

/// The way to a session over datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramPath {
    /// The proven address.
    pub peer: Peer,
    /// The largest datagram that may be sent there, in bytes.
    pub limit: usize,
    /// When the last datagram with the session's token came.
    pub heard: Instant,
}

/// The longest tag: `@`, 19 digits and a space. A push is numbered when it is sent, so room is kept for any number.
const TAG_MAX: usize = 21;
/// The longest head of an untagged frame over datagrams, `RCV 9999`.
pub(super) const SHORT_HEAD: usize = 8;

/// One session.
#[derive(Debug)]
pub struct Session {
    /// The name it is found by.
    pub name: Name,
    /// How it is spoken to.
    pub form: Form,
    /// What proves that a datagram or a resume is of this session.
    pub token: Token,
    /// The nonce that opened it.
    pub nonce: Option<Token>,
    /// The id of the newest REG that was executed; 0 for none.
    pub newest_reg: u64,
    /// Where it is.
    pub path: Path,
    /// Where it came from, when it registered or was last taken up.
    pub origin: Origin,
    /// The rooms it is in, in the order joined.
    pub rooms: Vec<FoldKey>,
    /// The room of its door, whose messages are shown to it without the room's name; frames have none.
    pub home: Option<FoldKey>,
    /// Whether it is shown what it says itself.
    pub echo: bool,
    /// Which requests were executed.
    pub replies: Replies,
    /// How much it may say. On a stream it is the connection that has one, and this stays full.
    pub bucket: Bucket,
    pub(super) queue: SendQueue,
    pub(super) pushes: Pushes<Push>,
    /// What was encoded for the connection's writer, of pushes that nobody acknowledges, ..
    pub(super) encoded: Load,
    /// .. and what the writer was given of that and has not written yet.
    pub(super) writing: Load,
    pub(super) woken: bool,
    /// The server's BYE is queued: nothing comes behind it.
    pub(super) said_bye: bool,
    /// It read too slowly, and ends: nothing is queued for it any more.
    pub(super) cut_off: bool,
    /// Messages that it missed and nobody has asked for yet, for the log.
    pub(super) unlogged: u64,
    /// A sender waits until it has room.
    pub(super) awaited: bool,
    /// Its connection is not read while it waits for others, so its acknowledgements do not arrive.
    pub(super) deaf: bool,
}

impl Session {
    /// What is counted against its bounds: what is queued, sent and not acknowledged, or still to be written.
    pub fn load(&self) -> Load {
        let mut load = self.queue.load();
        load += self.encoded;
        load += self.writing;
        load += Load { bytes: self.pushes.cost(), messages: self.pushes.charged() };
        load
    }

    /// Whether the server's goodbye is queued or sent: nothing comes behind it.
    pub fn has_said_bye(&self) -> bool {
        self.said_bye
    }

    /// The messages that it missed since [`Hub::poll_missed`](super::Hub::poll_missed) last named it.
    pub fn unlogged(&self) -> u64 {
        self.unlogged
    }

    /// Whether nothing waits to be sent or to be acknowledged.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.pushes.is_empty()
    }

    /// The messages that were promised and are not known to have arrived. What a connection's writer was given once and
    /// for all is not among them.
    pub fn undelivered(&self) -> usize {
        self.queue.load().messages + self.pushes.charged()
    }

    /// The missed messages that it is not known to have been told of.
    pub fn untold(&self) -> u64 {
        let sent = self.pushes.unacknowledged().filter_map(|push| match push {
            Push::Gap(count) => Some(count),
            Push::Message { .. } | Push::Bye => None,
        });
        self.queue.missed() + sent.sum::<u64>()
    }

    /// Whether nothing may be queued for it any more: what comes now is what a session that ends leaves behind.
    pub(super) fn is_over(&self) -> bool {
        self.said_bye || self.cut_off
    }

    /// Whether an RCV of `frame_len` bytes with a payload of `payload_len` can ever be sent to this session.
    pub(super) fn fits(&self, frame_len: usize, payload_len: usize) -> bool {
        if self.form != Form::Tagged && payload_len > SHORT_LENGTH_MAX {
            return false;
        }
        match self.path {
            Path::Stream(_) => true,
            Path::Datagram(DatagramPath { limit, .. }) if self.form == Form::Tagged => {
                PREFIX_LEN + TAG_MAX + frame_len <= limit
            }
            Path::Datagram(DatagramPath { limit, .. }) => frame_len <= limit,
        }
    }

    /// How long a single answer's payload may be on the way to this session.
    pub fn answer_limit(&self) -> usize {
        match self.path {
            Path::Stream(_) => SHORT_LENGTH_MAX,
            Path::Datagram(DatagramPath { limit, .. }) => {
                limit.saturating_sub(PREFIX_LEN + TAG_MAX + SHORT_HEAD).min(SHORT_LENGTH_MAX)
            }
        }
    }
}

/// What goes out next. Each returns the bytes of the bound that this freed.
impl Session {
    /// Appends the next push for the connection that carries this session; `None` when nothing waits.
    pub(super) fn next_on_stream(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        if let Some((id, push)) = self.pushes.poll_resend() {
            push.encode(self.form, Some(id), out);
            return Some(0);
        }
        if self.holds_gap_back() {
            return None;
        }
        self.send_queued(now, out)
    }

    /// Appends the next push to a datagram, which may hold something already; `None` when nothing waits, when it does not
    /// fit into what the datagram has left, or when the window is full. Whatever its length, a push may have a datagram for
    /// itself: it was queued when it fitted.
    pub(super) fn next_in_datagram(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let Path::Datagram(DatagramPath { limit, .. }) = self.path else { return None };
        let is_tagged = self.form == Form::Tagged;
        let repeat = self.pushes.next_repeat(now);
        let push = match repeat {
            Some(push) => push,
            None if is_tagged && !self.pushes.has_room() => return None,
            None => self.queue.first()?,
        };
        let start = out.len();
        if start > 0 && start + TAG_MAX + push.max_len() > limit {
            return None;
        }
        let is_repeat = repeat.is_some();
        if start == 0 && is_tagged {
            encode_prefix(self.token, out);
        }
        let freed = if is_repeat { self.repeat(now, out) } else { self.send_queued(now, out) };
        if freed.is_none() {
            out.truncate(start);
        }
        freed
    }

    fn repeat(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let (id, push) = self.pushes.poll_repeat(now)?;
        push.encode(self.form, Some(id), out);
        Some(0)
    }

    fn send_queued(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<usize> {
        let push = self.queue.pop()?;
        let load = push.load();
        if self.form != Form::Tagged {
            push.encode(self.form, None, out);
            if matches!(self.path, Path::Datagram(_)) {
                return Some(load.bytes);
            }
            self.encoded += load;
            return Some(0);
        }
        let (id, push) = self.pushes.send(now, push, load.bytes)?;
        push.encode(self.form, Some(id), out);
        Some(0)
    }

    /// Whether [`Session::next_on_stream`] has something to say.
    pub(super) fn has_stream_output(&self) -> bool {
        self.pushes.has_resend() || !(self.queue.is_empty() || self.holds_gap_back())
    }

    /// A gap behind a gap that is not acknowledged waits and goes on counting until that is, or a message follows. Gaps
    /// take no room: of a peer that acknowledges nothing, there would be one to keep for every message it misses.
    fn holds_gap_back(&self) -> bool {
        self.queue.is_only_a_gap() && matches!(self.pushes.newest(), Some(Push::Gap(_)))
    }
}
